"""Small files of many types, and archives of them, made by the standard library's own writers."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
import zlib

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


def tnef(name: str, content: bytes) -> bytes:
    """Return a winmail.dat with one attachment."""

    def attribute(level: int, kind: int, data: bytes) -> bytes:
        return struct.pack("<BII", level, kind, len(data)) + data + struct.pack("<H", sum(data) & 0xFFFF)

    return (
        struct.pack("<IH", 0x223E9F78, 1)
        + attribute(1, 0x00089006, bytes(4))
        + attribute(2, 0x00069002, bytes(14))
        + attribute(2, 0x00018010, name.encode() + b"\0")
        + attribute(2, 0x0006800F, content)
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
