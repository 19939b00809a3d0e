"""What is in an Office document besides its text: macros, and files.

An OLE file is searched for the names of its directory, which needs no library; Excel 4 macros
in it, and the files that it holds, are found where olefile is installed (the extra ``office``).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress

from .filetypes import zip_directory

#: Names in the directory of an OLE file that has VBA ([MS-OVBA] 2.2.1), in its own UTF-16.
_VBA = tuple(name.encode("utf-16-le") for name in ("_VBA_PROJECT", "_VBA_PROJECT_CUR"))
_OPEN_XML = ("docx", "xlsx", "ppt-x", "visio", "ooxml")
_OLE = ("ole", "doc", "xls", "ppt", "visio", "publisher", "msg")
#: In a zip's directory.  The names are those that Office writes; what is called otherwise is
#: found by its content, since members are judged too.
_MACRO_MEMBERS = (b"vbaProject.bin", b"xl/macrosheets/")
_BOUNDSHEET, _END_OF_RECORDS = 0x85, 0x0A
_MOST_STREAMS = 500
_MOST_RECORDS = 5000


def has_macros(content: bytes, types: tuple[str, ...]) -> bool:
    """Tell whether a document has VBA or Excel 4 macros.  types: see :func:`file_types`."""
    if any(name in _OPEN_XML for name in types):
        place = zip_directory(content)
        names = content[place[0] :] if place is not None else content
        return any(name in names for name in _MACRO_MEMBERS)
    if "word-xml" in types:
        return b'macrosPresent="yes"' in content or b"editdata.mso" in content
    if "activemime" in types:
        return True
    if not any(name in _OLE for name in types):
        return False
    return any(name in content for name in _VBA) or ("xls" in types and _has_macro_sheet(content))


def reads_ole() -> bool:
    """Tell whether olefile is there."""
    try:
        import olefile  # noqa: F401
    except ImportError:
        return False
    return True


def _has_macro_sheet(content: bytes) -> bool:
    """Look for a sheet of the kind "macro" ([MS-XLS] 2.4.28)."""
    for name, stream in _streams(content, lambda path: path[-1] in ("Workbook", "Book")):
        del name
        place = 0
        for _ in range(_MOST_RECORDS):
            if place + 4 > len(stream):
                break
            kind, size = struct.unpack_from("<HH", stream, place)
            if kind == _BOUNDSHEET and size >= 6 and stream[place + 9 : place + 10] == b"\x01":
                return True
            if kind == _END_OF_RECORDS:
                break
            place += 4 + size
    return False


def embedded(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Give the files within an OLE file: attachments of an Outlook message, packed objects."""
    for path, stream in _streams(content, _is_file):
        if path[-1] == "\x01Ole10Native":
            name, body = _native(stream)
        else:
            name, body = _attachment_name(content, path), stream
        yield name, body


def _is_file(path: list[str]) -> bool:
    return path[-1] == "\x01Ole10Native" or path[-1].startswith("__substg1.0_37010102")


def _streams(content: bytes, wanted: Callable[[list[str]], bool]) -> Iterator[tuple[list[str], bytes]]:
    """Give the streams of an OLE file, by path, that are wanted; nothing without olefile."""
    if not reads_ole():
        return
    import olefile

    with olefile.OleFileIO(io.BytesIO(content)) as ole:
        for path in [path for path in ole.listdir() if wanted(path)][:_MOST_STREAMS]:
            if ole.get_size(path) > len(content):
                raise ValueError("a stream larger than its file")
            with ole.openstream(path) as stream:
                yield path, stream.read()


def _attachment_name(content: bytes, path: list[str]) -> str:
    """Return the long name of an attachment ([MS-OXMSG] 2.2.2), or its short one."""
    names = {}
    for other, stream in _streams(
        content, lambda one: one[:-1] == path[:-1] and one[-1][12:16] in ("3707", "3704")
    ):
        with suppress(UnicodeDecodeError):
            names[other[-1][12:16]] = stream.decode("utf-16-le" if other[-1].endswith("1F") else "cp1252")
    return str(names.get("3707") or names.get("3704") or "").rstrip("\0")


def _native(stream: bytes) -> tuple[str, bytes]:
    """Read a package: its name and its content ([MS-OLEDS] 2.3.6)."""
    label, _, rest = stream[6:].partition(b"\0")
    path, _, rest = rest.partition(b"\0")
    (size,) = struct.unpack_from("<I", rest, 4)
    rest = rest[8 + size :]
    (size,) = struct.unpack_from("<I", rest)
    name = (label or path).decode("cp1252", "replace")
    return name, rest[4 : 4 + size]
