"""What is in a file that holds others: archives, disk images, enclosed mail; within limits.

All of it comes from strangers.  Nothing is written to disk, no decompressor is asked for more
octets than are left, and what can't be read has a name: a :class:`Trouble` of the file that it
concerns.  Zip, tar, gzip, bzip2, xz and TNEF are read here; the others by libarchive, where
that is installed (the extra ``archives``).
"""

from __future__ import annotations

import bz2
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from time import perf_counter
from typing import Any, Protocol

from . import office, tnef
from .charsets import codec_of, is_ascii_superset
from .defects import LIMIT_DEFECTS, Defect
from .embedded import find_embedded
from .filenames import NameTrick, extension_of, file_names, is_body, name_tricks, saved_names
from .filetypes import contradicts, file_types, zip_directory
from .parts import IDENTITY_ENCODINGS, parse
from .readings import find_readings
from .words import as_text


class Trouble(StrEnum):
    """What kept a file from being looked into, or is wrong with how it is packed."""

    ENCRYPTED = "encrypted"
    UNREADABLE = "unreadable"  # broken, or of a kind that nothing installed can read
    BOMB = "bomb"  # expands beyond the ratio, or its members lie over each other
    TOO_DEEP = "too_deep"
    TOO_MANY = "too_many"
    TOO_LARGE = "too_large"
    TOO_SLOW = "too_slow"
    HIDDEN = "hidden"  # members that its directory does not list, or lists otherwise
    PATH = "path"  # a member that would be unpacked elsewhere


#: The troubles that are a limit reached.
LIMIT_TROUBLES = frozenset(
    {Trouble.BOMB, Trouble.TOO_DEEP, Trouble.TOO_MANY, Trouble.TOO_LARGE, Trouble.TOO_SLOW}
)


CONDITIONS = frozenset(
    {*map(str, Trouble), *map(str, NameTrick), "trick", "limit", "macros", "polyglot", "mismatch"}
)


@dataclass(frozen=True, slots=True)
class UnpackLimits:
    """How far files are unpacked; all but ``depth`` and ``member_size`` for one message in all.

    depth: archives within archives.  members: files.  member_size, total_size: octets
    unpacked.  ratio: octets unpacked for one packed.  seconds: of the clock.
    """

    depth: int = 5
    members: int = 3000
    member_size: int = 64 << 20
    total_size: int = 256 << 20
    ratio: int = 200
    seconds: float = 4.0


@dataclass(slots=True)
class UnpackedFile:
    """One file, by itself or out of an archive.

    path: names from the outermost archive to the file itself.
    names: every name that it has; programs differ in which one they take.
    content: b"" where it could not be unpacked.  types: see :func:`file_types`.
    macros: whether it is an Office document with macros.
    is_body: whether it is a text that a mail shows, in UTF-8.
    saved: what it is called once it is saved; see :func:`saved_names`.
    """

    path: tuple[str, ...]
    names: tuple[str, ...]
    content: bytes
    types: tuple[str, ...]
    troubles: set[Trouble] = field(default_factory=set)
    macros: bool = False
    is_body: bool = False
    saved: tuple[str, ...] = field(init=False)

    @property
    def depth(self) -> int:
        """How many archives it is in."""
        return len(self.path) - 1

    def __post_init__(self) -> None:
        self.saved = tuple(dict.fromkeys(one for name in self.names for one in saved_names(name)))

    def conditions(self) -> frozenset[str]:
        """Return what is to be said of it, each one of CONDITIONS.

        "trick" stands for any trick of a name, "limit" for any limit reached, "polyglot" for
        several types at once, "mismatch" for an extension of another family than the content.
        """
        tricks = [str(trick) for name in self.names for trick in name_tricks(name)]
        found = {*map(str, self.troubles), *tricks}
        for holds, name in (
            (tricks, "trick"),
            (self.troubles & LIMIT_TROUBLES, "limit"),
            (self.macros, "macros"),
            (len(self.types) > 1, "polyglot"),
            (any(contradicts(extension_of(name), self.types) for name in self.saved), "mismatch"),
        ):
            if holds:
                found.add(name)
        return frozenset(found)


class _Stop(Exception):
    """No more of a file is to be read."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble)
        self.trouble = trouble


@dataclass(slots=True)
class Member:
    """What a reader has found in an archive: its names, its content, and what is wrong with it."""

    names: tuple[str, ...]
    content: bytes = b""
    troubles: set[Trouble] = field(default_factory=set)
    is_body: bool = False


Reader = Callable[[bytes, UnpackedFile, "Unpacker"], Iterator[Member]]

_PIECE = 256 * 1024
#: Octets that a decoder gets at once: what it has left over is copied at the end of each stream.
_FED = 16 * 1024
#: So much may come out of a small file whatever its ratio: a text of blanks is no bomb.
_ALWAYS = 1 << 20


class Unpacker:
    """Unpacks the files of one message; what is left of the limits."""

    def __init__(self, limits: UnpackLimits | None = None) -> None:
        self.limits = limits or UnpackLimits()
        self.members = self.limits.members
        self._octets = self.limits.total_size
        self._until = perf_counter() + self.limits.seconds

    def files(
        self, names: tuple[str, ...], content: bytes, inside: tuple[str, ...] = ()
    ) -> Iterator[UnpackedFile]:
        """Give every file within a file, innermost first, and the file itself at last.

        names: of the file, the first one is shown.
        """
        found = UnpackedFile((*inside, names[0] if names else ""), names, content, file_types(content))
        try:
            found.macros = office.has_macros(content, found.types)
        except Exception:  # noqa: BLE001 - parsers of hostile octets raise what they like
            found.troubles.add(Trouble.UNREADABLE)
        try:
            for reader in _readers(found):
                yield from self._within(reader, found)
        except _Stop as stop:
            found.troubles.add(stop.trouble)
        yield found

    def _within(self, reader: Reader, outer: UnpackedFile) -> Iterator[UnpackedFile]:
        if outer.depth >= self.limits.depth:
            raise _Stop(Trouble.TOO_DEEP)
        members = reader(outer.content, outer, self)
        while True:
            try:
                member = next(members, None)
            except _Stop:
                raise
            except Exception:  # noqa: BLE001 - parsers of hostile octets raise what they like
                outer.troubles.add(Trouble.UNREADABLE)
                return
            if member is None:
                return
            self.members -= 1
            if self.members < 0:
                raise _Stop(Trouble.TOO_MANY)
            self._in_time()
            if any(_leaves(name) for name in member.names):
                member.troubles.add(Trouble.PATH)
            for found in self.files(member.names, member.content, inside=outer.path):
                if found.depth == outer.depth + 1:
                    found.troubles |= member.troubles
                    found.is_body = member.is_body
                yield found

    def _in_time(self) -> None:
        if perf_counter() > self._until:
            raise _Stop(Trouble.TOO_SLOW)

    def gather(self, pieces: Iterable[bytes], packed: int) -> tuple[bytes, set[Trouble]]:
        """Join what a decompressor gives, as far as it goes and the limits go.

        packed: octets that it is made of.
        """
        most = max(_ALWAYS, packed * self.limits.ratio)
        taken = bytearray()
        try:
            for piece in pieces:
                taken += piece
                self._octets -= len(piece)
                self._in_time()
                if self._octets < 0:
                    raise _Stop(Trouble.TOO_LARGE)
                if len(taken) > most:
                    return bytes(taken), {Trouble.BOMB}
                if len(taken) > self.limits.member_size:
                    return bytes(taken), {Trouble.TOO_LARGE}
        except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError):
            return bytes(taken), {Trouble.UNREADABLE}
        return bytes(taken), set()


def _leaves(name: str) -> bool:
    """Tell whether a name leads out of the directory that it is unpacked into."""
    plain = name.replace("\\", "/")
    if not plain.strip("/"):
        return False  # the tables of an ar file are called so
    return plain.startswith("/") or plain[1:2] == ":" or ".." in plain.split("/")


def _links_out(name: str, target: str) -> bool:
    """Tell whether a link of that name leads out of the directory that it is unpacked into."""
    if target.startswith("/"):
        return True
    level = name.strip("/").count("/") - name.split("/").count(".")
    for step in target.split("/"):
        level += 0 if step in ("", ".") else -1 if step == ".." else 1
        if level < 0:
            return True
    return False


def _readers(file: UnpackedFile) -> Iterator[Reader]:
    """Give what reads the file, for each of the types that it has."""
    if any(name.lower().endswith((".eml", ".mht", ".mhtml")) for name in file.names):
        yield _mail_members
    for name in file.types:
        if name in _READERS:
            yield _READERS[name]


_MAIL_NAMES = (".eml", ".mht", ".mhtml")


# -- zip ---------------------------------------------------------------------------


def _zip_members(content: bytes, outer: UnpackedFile, unpacker: Unpacker) -> Iterator[Member]:
    """Read the directory by zipfile, and the members without it: it bounds no bzip2 and no lzma."""
    place = zip_directory(content)
    if place is None:
        raise _Stop(Trouble.UNREADABLE)
    if content.count(b"PK\x01\x02", place[0]) > unpacker.members:
        raise _Stop(Trouble.TOO_MANY)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
    reached = 0 if content.startswith(b"PK\x03\x04") else min([e.header_offset for e in entries], default=0)
    for entry in entries:
        start = entry.header_offset
        if start < reached:
            raise _Stop(Trouble.BOMB)
        if content.find(b"PK\x03\x04", reached, start) >= 0:
            outer.troubles.add(Trouble.HIDDEN)
        if content[start : start + 4] != b"PK\x03\x04":
            raise _Stop(Trouble.UNREADABLE)
        name_size, extra_size = struct.unpack_from("<HH", content, start + 26)
        local = content[start + 30 : start + 30 + name_size]
        data = start + 30 + name_size + extra_size
        reached = data + entry.compress_size
        names = _zip_names(entry, local)
        if len(names) > 1:
            outer.troubles.add(Trouble.HIDDEN)
        if entry.is_dir() and not entry.compress_size:
            continue
        if entry.flag_bits & 0x41:
            yield Member(names, troubles={Trouble.ENCRYPTED})
            continue
        pieces = _inflated(content, data, entry)
        if pieces is None:
            yield Member(names, troubles={Trouble.UNREADABLE})
            continue
        yield Member(names, *unpacker.gather(pieces, entry.compress_size))
    if content.find(b"PK\x03\x04", reached, place[0]) >= 0:
        outer.troubles.add(Trouble.HIDDEN)


def _zip_names(entry: zipfile.ZipInfo, local: bytes) -> tuple[str, ...]:
    """Return the names of a member: of the directory, of its own header, of the extra field."""
    octets = entry.orig_filename.encode("utf-8" if entry.flag_bits & 0x800 else "cp437", "replace")
    names = [entry.orig_filename]
    if local != octets:
        names.append(as_text(local))
    extra = entry.extra
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        if kind == 0x7075 and size > 5:  # Info-ZIP Unicode Path
            name = as_text(extra[9 : 4 + size])
            if local == octets and octets.isascii() and name != entry.orig_filename:
                names.append(name)
            elif not octets.isascii():
                names[0] = name
        extra = extra[4 + size :]
    return tuple(dict.fromkeys(names))


def _inflated(content: bytes, start: int, entry: zipfile.ZipInfo) -> Iterator[bytes] | None:
    """Give a zip member's octets in pieces, or None for a method that is not known here."""
    end, method = start + entry.compress_size, entry.compress_type
    if method == zipfile.ZIP_STORED:
        return (content[place : min(place + _PIECE, end)] for place in range(start, end, _PIECE))
    packed = content[start:end]
    if method == zipfile.ZIP_DEFLATED:
        return _decoded(lambda: _Inflate(-15), packed)
    if method == zipfile.ZIP_BZIP2:
        return _decoded(bz2.BZ2Decompressor, packed)
    if method == zipfile.ZIP_LZMA and len(packed) > 9:
        # APPNOTE 5.8.8: two octets of version, two of size, the properties.  With a size before
        # the data it is the format of .lzma; the flag tells whether an end mark stands instead.
        size = b"\xff" * 8 if entry.flag_bits & 2 else struct.pack("<Q", entry.file_size)
        alone = packed[4:9] + size + packed[9:]
        return _decoded(lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, _MEMORY), alone)
    return None


# -- streams -----------------------------------------------------------------------

#: Octets that an xz decoder may take for itself; its dictionary is up to 4 GiB.
_MEMORY = 80 << 20


class _Decoder(Protocol):
    """What bz2 and lzma have, and zlib with :class:`_Inflate`."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Inflate:
    """zlib's decompressor with the interface of the others."""

    def __init__(self, window: int) -> None:
        self._decoder = zlib.decompressobj(window)

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def needs_input(self) -> bool:
        return not self._decoder.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        return self._decoder.decompress(self._decoder.unconsumed_tail + data, max_length)


def _decoded(make: Callable[[], _Decoder], packed: bytes, magic: bytes = b"") -> Iterator[bytes]:
    """Give what comes out of a stream, and out of those behind it, as ``cat a.gz b.gz`` makes them.

    Empty pieces are given too, so that who takes them can look at the clock.
    magic: what the next stream begins with; b"" where there is one only.
    """
    place = 0
    while True:
        decoder = make()
        while not decoder.eof:
            fed = b""
            if decoder.needs_input:
                fed = packed[place : place + _FED]
                place += len(fed)
            piece = decoder.decompress(fed, _PIECE)
            if not (piece or fed or decoder.eof):
                raise EOFError
            yield piece
        place -= len(decoder.unused_data)
        if not magic or packed[place : place + len(magic)] != magic:
            return


def _gzip_members(content: bytes, outer: UnpackedFile, unpacker: Unpacker) -> Iterator[Member]:
    names = [_without(outer.path[-1])]
    if len(content) > 10 and content[3] & 0x08 and not content[3] & 0x04:
        stored = as_text(content[10 : content.find(b"\0", 10, 10 + 1000)])
        names = list(dict.fromkeys([stored, *names]))
    yield Member(
        tuple(names), *unpacker.gather(_decoded(lambda: _Inflate(31), content, b"\x1f\x8b"), len(content))
    )


def _bzip2_members(content: bytes, outer: UnpackedFile, unpacker: Unpacker) -> Iterator[Member]:
    pieces = _decoded(bz2.BZ2Decompressor, content, b"BZh")
    yield Member((_without(outer.path[-1]),), *unpacker.gather(pieces, len(content)))


def _xz_members(content: bytes, outer: UnpackedFile, unpacker: Unpacker) -> Iterator[Member]:
    pieces = _decoded(lambda: lzma.LZMADecompressor(memlimit=_MEMORY), content, b"\xfd7zXZ")
    yield Member((_without(outer.path[-1]),), *unpacker.gather(pieces, len(content)))


def _without(name: str) -> str:
    """Return the name that a stream unpacks to."""
    stem, dot, extension = name.rpartition(".")
    if not dot:
        return name
    return stem + (".tar" if extension.lower() in ("tgz", "tbz", "tbz2", "txz") else "")


# -- tar ---------------------------------------------------------------------------


def _tar_members(content: bytes, outer: UnpackedFile, unpacker: Unpacker) -> Iterator[Member]:
    """Read the blocks of a tar (POSIX.1 ustar, pax and GNU long names)."""
    place, long_name = 0, ""
    while place + 512 <= len(content):
        head = content[place : place + 512]
        if not head.strip(b"\0"):
            return
        size = _tar_number(head[124:136])
        data = place + 512
        if size < 0:
            raise _Stop(Trouble.UNREADABLE)
        body = content[data : data + size]
        place = data + (size + 511) // 512 * 512
        if len(body) < size:
            outer.troubles.add(Trouble.UNREADABLE)
        kind = head[156:157]
        if kind == b"L":
            long_name = as_text(body.rstrip(b"\0"))
            continue
        if kind in b"xg":
            long_name = _pax_path(body) or long_name
            continue
        short = as_text(head[:100].partition(b"\0")[0])
        if head[257:262] == b"ustar" and head[263:265] == b"00":
            prefix = as_text(head[345:500].partition(b"\0")[0])
            short = f"{prefix}/{short}" if prefix else short
        name, long_name = long_name or short, ""
        if kind in (b"0", b"\0", b"7"):
            yield Member((name,), *unpacker.gather([body], len(body)))
        elif kind in b"12" and _links_out(name, as_text(head[157:257].partition(b"\0")[0])):
            yield Member((name,), troubles={Trouble.PATH})


def _tar_number(octets: bytes) -> int:
    if octets[0] & 0x80:
        return int.from_bytes(octets[1:], "big") if octets[0] == 0x80 else -1
    digits = octets.strip(b" \0")
    return int(digits, 8) if digits else 0


def _pax_path(body: bytes) -> str:
    place = body.find(b" path=")
    size = body[body.rfind(b"\n", 0, place) + 1 : place] if place >= 0 else b""
    if not size.isdigit() or len(size) > 9:
        return ""
    start = place - len(size)
    return as_text(body[place + 6 : start + int(size) - 1])


# -- what mail encloses ------------------------------------------------------------


def _tnef_members(content: bytes, outer: UnpackedFile, unpacker: Unpacker) -> Iterator[Member]:
    for one in tnef.attachments(content):
        if one.broken:
            outer.troubles.add(Trouble.UNREADABLE)
        if not one.contents:
            yield Member(tuple(one.names), troubles={Trouble.UNREADABLE})
        for body in one.contents:
            yield Member(tuple(one.names), *unpacker.gather([body], len(body)))


def _mail_members(content: bytes, outer: UnpackedFile, unpacker: Unpacker) -> Iterator[Member]:
    """Give each file of a mail in every reading, and a text that does not stand there as it is shown."""
    root = parse(content)
    for part in (part for tree in (root, *find_readings(root)) for part in tree.walk()):
        for defect in LIMIT_DEFECTS.intersection(part.defects):
            outer.troubles.add(Trouble.TOO_DEEP if defect is Defect.TOO_DEEP else Trouble.TOO_MANY)
        if part.children:
            continue
        for one in part.embedded():
            body = one.content()
            yield Member((one.name,), *unpacker.gather([body], len(body)))
        body = part.content()
        plain = is_body(part, body)
        if not plain:
            yield Member(file_names(part), *unpacker.gather([body], len(body)))
        wide = part.is_text and not is_ascii_superset(codec_of(part.charset) or "ascii")
        if wide or (plain and part.transfer_encoding not in IDENTITY_ENCODINGS):
            text = part.text().encode("utf-8", "replace")
            yield Member((), *unpacker.gather([text], len(body)), is_body=True)


def _uuencoded_members(content: bytes, outer: UnpackedFile, unpacker: Unpacker) -> Iterator[Member]:
    for one in find_embedded(content, "utf-8"):
        body = one.content()
        yield Member((one.name,), *unpacker.gather([body], len(body)))


def _office_members(content: bytes, outer: UnpackedFile, unpacker: Unpacker) -> Iterator[Member]:
    for name, body in office.embedded(content):
        yield Member((name,), *unpacker.gather([body], len(body)))


# -- the others --------------------------------------------------------------------


def _other_members(content: bytes, outer: UnpackedFile, unpacker: Unpacker) -> Iterator[Member]:
    """Read by libarchive.  Its reader must not be used outside of the ``with``."""
    libarchive = _libarchive()
    if libarchive is None:
        raise _Stop(Trouble.UNREADABLE)
    single = outer.types[0] in _SINGLE
    try:
        with libarchive.memory_reader(content, "raw" if single else "all") as archive:
            for entry in archive:
                name = entry.pathname
                if isinstance(name, bytes):
                    name = as_text(name)
                names = (_without(outer.path[-1]) if single else name or "",)
                if entry.isdir:
                    continue
                if libarchive.ffi.entry_is_encrypted(entry._entry_p):
                    yield Member(names, troubles={Trouble.ENCRYPTED})
                    continue
                if not entry.isfile and not single:
                    if _links_out(names[0], entry.linkname or ""):
                        yield Member(names, troubles={Trouble.PATH})
                    continue
                yield Member(names, *unpacker.gather(entry.get_blocks(_PIECE), len(content)))
    except libarchive.ArchiveError as error:
        encrypted = any(word in str(error).lower() for word in ("encrypt", "crypto", "passphrase"))
        raise _Stop(Trouble.ENCRYPTED if encrypted else Trouble.UNREADABLE) from None


def _libarchive() -> Any:
    """Return the module, or None where it or its library is not installed."""
    try:
        import libarchive
        import libarchive.ffi as functions
    except (ImportError, OSError, AttributeError, TypeError):
        return None
    functions.logger.setLevel("CRITICAL")  # its warnings quote the archive
    if not hasattr(functions, "entry_is_encrypted"):
        functions.ffi("entry_is_encrypted", [functions.c_archive_entry_p], functions.c_int)
    return libarchive


def reads_all_archives() -> bool:
    """Tell whether libarchive is there."""
    return _libarchive() is not None


_SINGLE = ("zstd", "lz4", "lzip", "compress")
_READERS: dict[str, Reader] = {
    **dict.fromkeys(("zip", "docx", "xlsx", "ppt-x", "visio", "ooxml", "odf", "appx", "xps"), _zip_members),
    "gzip": _gzip_members,
    "bzip2": _bzip2_members,
    "xz": _xz_members,
    "tar": _tar_members,
    "tnef": _tnef_members,
    "uuencode": _uuencoded_members,
    **dict.fromkeys(("ole", "doc", "xls", "ppt", "msg"), _office_members),
    **dict.fromkeys(
        ("rar", "7z", "cab", "iso", "udf", "lha", "cpio", "ar", "deb", "rpm", "xar", *_SINGLE), _other_members
    ),
    **dict.fromkeys(("arj", "ace", "alz", "egg", "vhd", "vhdx", "vmdk", "wim", "dmg"), _other_members),
}
