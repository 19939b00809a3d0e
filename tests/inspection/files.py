"""Small files of many types, and archives of them, made by the standard library's own writers."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
import zlib
from itertools import pairwise

PE = b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0" + bytes(100)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504)


def utf16(name: str) -> bytes:
    return name.encode("utf-16-le")


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def encrypted_zip(name: str = "secret.exe", content: bytes = PE) -> bytes:
    """Return a zip whose member is marked as encrypted, as it is in one that is."""
    made = bytearray(zipped({name: content}))
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        made[made.find(signature) + place] |= 1
    return bytes(made)


def tarred(members: dict[str, bytes], mode: str = "w", kind: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode, format=kind) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def open_xml(folder: str, **members: bytes) -> bytes:
    parts = {"[Content_Types].xml": b"<Types/>", f"{folder}/document.xml": b"<w:document/>"}
    return zipped(parts | {name.replace("__", "/").replace("_bin", ".bin"): c for name, c in members.items()})


def mapi(*properties: tuple[int, int, bytes]) -> bytes:
    """Return MAPI properties as TNEF has them: type, id and value of each."""
    octets = struct.pack("<I", len(properties))
    for kind, identity, value in properties:
        octets += struct.pack("<HH", kind, identity)
        if kind in (0x0D, 0x1E, 0x1F, 0x102):
            octets += struct.pack("<II", 1, len(value))
        octets += value + bytes(-len(value) % 4)
    return octets


def tnef(name: str, content: bytes | None, properties: bytes = b"") -> bytes:
    """Return a winmail.dat with one attachment.  content: None for no attAttachData."""

    def attribute(level: int, kind: int, data: bytes) -> bytes:
        return struct.pack("<BII", level, kind, len(data)) + data + struct.pack("<H", sum(data) & 0xFFFF)

    return (
        struct.pack("<IH", 0x223E9F78, 1)
        + attribute(1, 0x00089006, bytes(4))
        + attribute(2, 0x00069002, bytes(14))
        + attribute(2, 0x00018010, name.encode() + b"\0")
        + (attribute(2, 0x0006800F, content) if content is not None else b"")
        + (attribute(2, 0x00069005, properties) if properties else b"")
    )


def overlapping_zip(count: int = 50) -> bytes:
    """Return a zip whose members all are the same octets (the "better zip bomb" of Fifield)."""
    name = b"a"
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = packer.compress(bytes(100_000)) + packer.flush()
    local = struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, 0, 8, 0, 0, 0, len(body), 100_000, 1, 0) + name + body
    entry = struct.pack(
        "<IHHHHHHIIIHHHHHII", 0x02014B50, 20, 20, 0, 8, 0, 0, 0, len(body), 100_000, 1, 0, 0, 0, 0, 0, 0
    )
    directory = (entry + name) * count
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, count, count, len(directory), len(local), 0)
    return local + directory + end


def ole_file(streams: dict[str, bytes]) -> bytes:
    """Return an OLE file ([MS-CFB]) of version 3; streams by path, each padded to 4096 octets."""
    nodes: list[list[object]] = [["Root Entry", 5, [], b""]]  # name, kind, children, content
    for path, content in streams.items():
        at = 0
        *folders, name = path.split("/")
        for folder in folders:
            children: list[int] = nodes[at][2]  # type: ignore[assignment]
            found = next((child for child in children if nodes[child][0] == folder), None)
            if found is None:
                nodes.append([folder, 1, [], b""])
                children.append(len(nodes) - 1)
                found = len(nodes) - 1
            at = found
        nodes.append([name, 2, [], content.ljust(4096, b"\0")])
        nodes[at][2].append(len(nodes) - 1)  # type: ignore[attr-defined]
    end, free, none = 0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFFF
    table = [0xFFFFFFFD]  # sector 0 is the table itself

    def chain(count: int) -> int:
        first = len(table)
        table.extend(range(first + 1, first + count))
        table.append(end)
        return first

    directory = chain((len(nodes) + 3) // 4)
    right = {a: b for node in nodes for a, b in pairwise(node[2])}  # type: ignore[call-overload]
    entries, data = b"", b""
    for index, (name, kind, children, content) in enumerate(nodes):
        octets = utf16(str(name)) + b"\0\0"
        start = chain(len(content) // 512 + bool(len(content) % 512)) if content else 0  # type: ignore[arg-type]
        data += content.ljust((len(content) + 511) // 512 * 512, b"\0")  # type: ignore[attr-defined,arg-type]
        child = children[0] if children else none  # type: ignore[index]
        entries += octets.ljust(64, b"\0") + struct.pack("<HBB", len(octets), kind, 1)
        entries += struct.pack("<III", none, right.get(index, none), child) + bytes(36)
        entries += struct.pack("<IQ", start if content else end, len(content))  # type: ignore[arg-type]
    entries = entries.ljust((len(nodes) + 3) // 4 * 512, b"\0")
    assert len(table) <= 128
    header = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(16) + struct.pack("<HHHHH", 0x3E, 3, 0xFFFE, 9, 6)
    header += bytes(6) + struct.pack("<IIIIIIIIII", 0, 1, directory, 0, 4096, end, 0, end, 0, 0)
    header = header.ljust(512, b"\xff")
    fat = b"".join(struct.pack("<I", one) for one in table).ljust(512, struct.pack("<I", free)[:1])
    return header + fat + entries + data
