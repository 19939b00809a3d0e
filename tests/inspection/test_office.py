"""Macros and files in Office documents."""

from __future__ import annotations

import struct
import sys

import pytest

from gateway.inspection import office
from gateway.inspection.archives import Trouble, Unpacker
from gateway.inspection.filetypes import file_types
from tests.inspection.files import OLE, PE, ole_file, open_xml, utf16, zipped


def workbook(kind: int) -> bytes:
    """Return an Excel file with one sheet of a kind: 0 a sheet, 1 a macro sheet."""
    sheet = struct.pack("<IBB", 0, 0, kind) + b"\x05\0Sheet"
    records = struct.pack("<HH", 0x0809, 16) + bytes(16)
    records += struct.pack("<HH", 0x85, len(sheet)) + sheet + struct.pack("<HH", 0x0A, 0)
    return ole_file({"Workbook": records})


def native(name: str, content: bytes) -> bytes:
    """Return the stream of a packed object ([MS-OLEDS] 2.3.6)."""
    path = f"C:\\{name}".encode() + b"\0"
    body = b"\x02\0" + name.encode() + b"\0" + path + struct.pack("<II", 0x30000, len(path)) + path
    body += struct.pack("<I", len(content)) + content
    return struct.pack("<I", len(body)) + body


def test_the_samples_are_what_they_say():
    pytest.importorskip("olefile")
    assert file_types(workbook(0)) == ("xls",)
    assert len(list(office._streams(workbook(0), lambda path: True))) == 1


def test_macros_of_excel_4():
    pytest.importorskip("olefile")
    assert office.has_macros(workbook(1), ("xls",))
    assert not office.has_macros(workbook(0), ("xls",))


def test_vba_needs_no_library(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "olefile", None)
    document = ole_file({"WordDocument": b"x", "Macros/VBA/_VBA_PROJECT": b"y"})
    assert file_types(document) == ("doc",)
    assert office.has_macros(document, ("doc",))
    assert not office.has_macros(workbook(1), ("xls",))
    assert not office.reads_ole()
    assert list(office.embedded(document)) == []


def test_macros_in_open_xml_and_others():
    assert office.has_macros(open_xml("word", word__vbaProject_bin=OLE), ("docx",))
    assert office.has_macros(zipped({"xl/macrosheets/sheet1.xml": b""}), ("xlsx",))
    assert office.has_macros(b'<w:wordDocument w:macrosPresent="yes">', ("word-xml",))
    assert office.has_macros(b"ActiveMime", ("activemime",))
    assert not office.has_macros(utf16("_VBA_PROJECT"), ("text",))


def test_files_in_outlook_messages_and_packed_objects():
    pytest.importorskip("olefile")
    message = ole_file(
        {
            "__properties_version1.0": b"x",
            "__attach_version1.0_#00000000/__substg1.0_37010102": PE,
            "__attach_version1.0_#00000000/__substg1.0_3707001F": utf16("invoice.exe"),
            "__attach_version1.0_#00000000/__substg1.0_3704001F": utf16("INVOIC~1.EXE"),
        }
    )
    found = list(Unpacker().files(("a.msg",), message))
    assert found[0].path == ("a.msg", "invoice.exe") and found[0].types == ("pe",)
    document = ole_file({"WordDocument": b"x", "ObjectPool/_1/\x01Ole10Native": native("x.exe", PE)})
    found = list(Unpacker().files(("a.doc",), document))
    assert found[0].path == ("a.doc", "x.exe") and found[0].content == PE


def test_broken_ones_are_unreadable():
    pytest.importorskip("olefile")
    whole = ole_file({"WordDocument": b"x", "\x01Ole10Native": native("x.exe", PE)})
    broken = whole.replace(struct.pack("<Q", 4096), struct.pack("<Q", 1 << 31))
    (found,) = Unpacker().files(("a.doc",), broken)
    assert found.troubles == {Trouble.UNREADABLE}
    for size in range(0, len(whole), 97):
        list(Unpacker().files(("a.doc",), whole[:size]))
