"""Files are known by their content."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.inspection.filetypes import FAMILY_OF, TYPE_NAMES, contradicts, file_types
from tests.inspection.files import OLE, PE, PNG, open_xml, tarred, tnef, utf16, zipped

SAMPLES: dict[str, tuple[bytes, str]] = {
    "a program": (PE, "pe"),
    "a DOS program": (b"MZ" + bytes(100), "dos"),
    "ELF": (b"\x7fELF\x02\x01\x01" + bytes(20), "elf"),
    "Mach-O": (b"\xcf\xfa\xed\xfe" + bytes(20), "macho"),
    "fat Mach-O": (b"\xca\xfe\xba\xbe\0\0\0\x02" + bytes(40), "macho"),
    "Java class": (b"\xca\xfe\xba\xbe\0\0\0\x41" + bytes(40), "class"),
    "OLE": (OLE, "ole"),
    "Word": (OLE + utf16("WordDocument"), "doc"),
    "Excel": (OLE + utf16("Workbook"), "xls"),
    "PowerPoint": (OLE + utf16("PowerPoint Document"), "ppt"),
    "Outlook": (OLE + utf16("__properties_version1.0"), "msg"),
    "MSI": (OLE + bytes.fromhex("84100c0000000000c000000000000046"), "msi"),
    "zip": (zipped({"a.txt": b"a"}), "zip"),
    "empty zip": (zipped({}), "zip"),
    "docx": (open_xml("word"), "docx"),
    "xlsx": (open_xml("xl"), "xlsx"),
    "pptx": (open_xml("ppt"), "ppt-x"),
    "jar": (zipped({"META-INF/MANIFEST.MF": b"", "A.class": b""}), "jar"),
    "apk": (zipped({"AndroidManifest.xml": b"", "META-INF/MANIFEST.MF": b""}), "apk"),
    "odt": (zipped({"mimetype": b"application/vnd.oasis.opendocument.text"}, 0), "odf"),
    "epub": (zipped({"mimetype": b"application/epub+zip"}, 0), "epub"),
    "tar": (tarred({"a": b"a"}), "tar"),
    "tgz": (tarred({"a": b"a"}, "w:gz"), "gzip"),
    "rar": (b"Rar!\x1a\x07\x01\0" + bytes(20), "rar"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(20), "7z"),
    "cab": (b"MSCF\0\0\0\0" + bytes(20), "cab"),
    "ISO": (bytes(0x8001) + b"CD001" + bytes(3000), "iso"),
    "VHD": (bytes(2048) + b"conectix" + bytes(504), "vhd"),
    "winmail.dat": (tnef("a", b"a"), "tnef"),
    "shortcut": (b"L\0\0\0\x01\x14\x02\0\0\0\0\0\xc0\0\0\0\0\0\0F" + bytes(60), "lnk"),
    "CHM": (b"ITSF\x03\0\0\0" + bytes(60), "chm"),
    "OneNote": (bytes.fromhex("e4525c7b8cd8a74daeb15378d02996d3") + bytes(60), "onenote"),
    "PDF": (b"%PDF-1.7\n", "pdf"),
    "PDF behind junk": (b"\n\n\n%PDF-1.7\n", "pdf"),
    "RTF": (b"{\\rtf1 x}", "rtf"),
    "a broken RTF that Word opens": (b"{\\rt x}", "rtf"),
    "shell script": (b"#!/bin/sh\necho\n", "shebang"),
    "batch file": (b"@echo off\r\ndel x\r\n", "batch"),
    "registry": ("\ufeffWindows Registry Editor Version 5.00\r\n".encode("utf-16-le"), "reg"),
    "internet shortcut": (b"[InternetShortcut]\r\nURL=file://x\r\n", "url"),
    "HTML": (b"<!DOCTYPE html><p>x", "html"),
    "HTML behind a comment": (b"\xef\xbb\xbf <!-- c --><html><body>x", "html"),
    "HTML in UTF-16": ("\ufeff<html><script>x</script>".encode("utf-16-le"), "html"),
    "HTA": (b"<html><head><hta:application id=x></head>", "hta"),
    "SVG": (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "svg"),
    "WSF": (b"<job><script language=JScript>x</script></job>", "scriptlet"),
    "XML": (b'<?xml version="1.0"?><a/>', "xml"),
    "JScript": (b'var s = new ActiveXObject("WScript.Shell");', "javascript"),
    "VBScript": (b'Set s = CreateObject("WScript.Shell")', "vbscript"),
    "PowerShell": (b"IEX x\nInvoke-WebRequest http://x\n", "powershell"),
    "encoded script": (b"#@~^AAAA==xxx", "encoded-script"),
    "PNG": (PNG, "png"),
    "JPEG": (b"\xff\xd8\xff\xe0" + bytes(20), "jpeg"),
    "WebP": (b"RIFF\0\0\0\0WEBPVP8 ", "webp"),
    "text": (b"Hello.\r\n", "text"),
    "text in UTF-8": ("Grüße".encode(), "text"),
    "octets": (b"\x01\x02\x03\x04" * 20, "data"),
    "nothing": (b"", "empty"),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_samples(name: str):
    content, expected = SAMPLES[name]
    assert file_types(content)[0] == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (PNG + zipped({"a.exe": PE}), ("png", "zip")),
        (PNG + b"Rar!\x1a\x07\0" + bytes(9), ("png", "rar")),
        (PE + zipped({"a.txt": b"a"}), ("pe", "zip")),
        (b"GIF89a" + bytes(20) + b"%PDF-1.4", ("gif", "pdf")),
        (b"%PDF-1.4\n" + zipped({"META-INF/MANIFEST.MF": b""}), ("pdf", "jar")),
    ],
)
def test_what_is_several_types_at_once_is_named_so(content: bytes, expected: tuple[str, ...]):
    assert file_types(content) == expected


def test_every_type_has_a_family():
    assert set(FAMILY_OF) == TYPE_NAMES and {kind for _, kind in SAMPLES.values()} <= TYPE_NAMES
    assert len(TYPE_NAMES) >= 60


@given(st.binary(max_size=3000))
def test_any_octets_have_a_type(content: bytes):
    assert set(file_types(content)) <= TYPE_NAMES


@given(st.sampled_from(sorted(SAMPLES)), st.integers(0, 600), st.binary(max_size=8))
def test_a_cut_and_mended_file_has_one_too(name: str, place: int, octets: bytes):
    content = SAMPLES[name][0]
    assert set(file_types(content[:place] + octets + content[place:])) <= TYPE_NAMES
    assert set(file_types(content[:place])) <= TYPE_NAMES


@pytest.mark.parametrize("unit", [b"<", b" ", b"PK\x05\x06", b"<!doctype ", b"function ", b"\n\n{"])
def test_a_large_file_takes_no_time(unit: bytes):
    content = unit * (4_000_000 // len(unit))
    file_types(content)


@pytest.mark.parametrize(
    ("extension", "content", "expected"),
    [
        ("pdf", PE, True),
        ("jpg", PNG, False),
        ("jpg", b"<html><script>", True),
        ("doc", b"{\\rtf1", False),
        ("docx", OLE, False),
        ("txt", PE, True),
        ("txt", b"text", False),
        ("exe", PE, False),
        ("unknown", PE, False),
        ("pdf", b"", False),
    ],
)
def test_an_extension_may_contradict(extension: str, content: bytes, expected: bool):
    assert contradicts(extension, file_types(content)) is expected
