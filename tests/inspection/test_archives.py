"""What is in archives, and that hostile ones are bounded and named."""

from __future__ import annotations

import base64
import binascii
import bz2
import gzip
import io
import lzma
import struct
import subprocess
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.inspection import archives
from gateway.inspection.archives import CONDITIONS, Trouble, UnpackedFile, Unpacker, UnpackLimits
from tests.conftest import need
from tests.inspection.files import (
    OLE,
    PE,
    PNG,
    encrypted_zip,
    mapi,
    open_xml,
    overlapping_zip,
    tarred,
    tnef,
    utf16,
    zipped,
)
from tests.inspection.samples import crlf


def unpack(name: str, content: bytes, **limits: float) -> list[UnpackedFile]:
    return list(Unpacker(UnpackLimits(**limits)).files((name,), content))  # type: ignore[arg-type]


def paths(name: str, content: bytes, **limits: float) -> dict[str, UnpackedFile]:
    return {"/".join(file.path): file for file in unpack(name, content, **limits)}


# -- what is read --------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_a_zip_by_every_method(method: int):
    found = paths("a.zip", zipped({"x.exe": PE, "d/big.txt": b"text " * 90_000}, method))
    assert found["a.zip/x.exe"].types == ("pe",) and found["a.zip/x.exe"].content == PE
    assert found["a.zip/d/big.txt"].content == b"text " * 90_000
    assert not any(file.troubles for file in found.values())


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_a_tar_of_every_kind(kind: int):
    long_name = "d" * 90 + "/" + "f" * 60 + ".exe"
    found = paths("a.tar", tarred({"x.exe": PE, long_name: b"y"}, kind=kind))
    assert found["a.tar/x.exe"].content == PE
    assert found[f"a.tar/{long_name}"].content == b"y"


@pytest.mark.parametrize("packer", [gzip.compress, bz2.compress, lzma.compress])
def test_streams_and_streams_behind_them(packer):
    once = packer(tarred({"x.exe": PE}))
    assert paths("a.tar.z", once)["a.tar.z/a.tar/x.exe"].types == ("pe",)
    twice = packer(b"one") + packer(b"two")
    assert paths("a.z", twice)["a.z/a"].content == b"onetwo"


def test_what_stands_behind_an_image_or_a_program():
    assert "a.png/x.exe" in paths("a.png", PNG + zipped({"x.exe": PE}))
    assert "a.exe/x.js" in paths("a.exe", PE + zipped({"x.js": b"a"}))


def test_archives_within_archives():
    inner = zipped({"c.tgz": tarred({"x.exe": PE}, "w:gz")})
    found = paths("a.zip", zipped({"b.zip": inner}))
    assert found["a.zip/b.zip/c.tgz/c.tar/x.exe"].depth == 4


def test_mail_and_winmail_dat():
    mail = crlf(
        "Content-Type: multipart/mixed; boundary=b\n\n--b\n\ntext\n--b\n"
        'Content-Type: application/octet-stream; name="x.exe"\nContent-Transfer-Encoding: base64\n\n'
        "TVo=\n--b--\n"
    )
    assert paths("a.eml", mail)["a.eml/x.exe"].content == b"MZ"
    assert paths("winmail.dat", tnef("x.exe", PE))["winmail.dat/x.exe"].content == PE


LONG_NAME = (0x1F, 0x3707, "x.js\0".encode("utf-16-le"))
NAMED = b"\0" * 16 + struct.pack("<II", 1, 6) + "ab\0".encode("utf-16-le") + bytes(2)  # a name of six octets


@pytest.mark.parametrize(
    ("content", "properties", "names", "inner"),
    [
        (b"MZ", mapi(LONG_NAME), ("X.TXT", "x.js"), b"MZ"),
        (b"MZ", mapi((0x1E, 0x3704, b"x.js\0")), ("X.TXT", "x.js"), b"MZ"),
        (None, mapi((0x102, 0x3701, b"MZ"), LONG_NAME), ("X.TXT", "x.js"), b"MZ"),
        (None, mapi((0x0D, 0x3701, bytes(16) + b"MZ")), ("X.TXT",), b"MZ"),
        (b"MZ", mapi((0x102, 0x3701, b"PK")), ("X.TXT",), b"PK"),
        (
            b"MZ",
            mapi(
                *((kind, 0x3700, bytes(4)) for kind in (0x02, 0x03, 0x04, 0x0A, 0x0B)),
                *((kind, 0x3700, bytes(8)) for kind in (0x05, 0x06, 0x07, 0x14, 0x40)),
                (0x48, 0x3700, bytes(16)),
                (0x1003, 0x3700, struct.pack("<III", 2, 0, 0)),
                (0x1002, 0x3700, struct.pack("<IHHH", 3, 0, 0, 0)),
                (0x101E, 0x3700, struct.pack("<II2sxxI1sxxx", 2, 2, b"a", 1, b"")),
                (0x03, 0x8001, bytes(16) + struct.pack("<III", 0, 7, 0)),
                (0x03, 0x8001, NAMED + bytes(4)),
                LONG_NAME,
            ),
            ("X.TXT", "x.js"),
            b"MZ",
        ),
    ],
)
def test_properties_of_an_attachment_in_winmail_dat(content, properties, names, inner):
    *members, outer = unpack("winmail.dat", tnef("X.TXT", content, properties))
    assert {(file.names, file.content) for file in members} >= {(names, inner)}
    assert outer.troubles == set()
    for cut in range(1, len(properties), 3):
        unpack("winmail.dat", tnef("X.TXT", content, properties[:cut]))


@pytest.mark.parametrize(
    "properties",
    [
        mapi(LONG_NAME)[:-4],
        struct.pack("<I", 1),
        struct.pack("<IHHI", 1, 0x101E, 0x3700, 0xFFFFFFFF),
        struct.pack("<IHHII", 1, 0x1F, 0x3707, 1, 0xFFFFFFFF),
        struct.pack("<IHH", 0xFFFFFFFF, 0x01, 0x3700) * 20,
        mapi((0x77, 0x3700, bytes(4))),
    ],
)
def test_properties_that_are_broken_are_a_trouble(properties: bytes):
    assert unpack("winmail.dat", tnef("X.TXT", b"MZ", properties))[-1].troubles == {Trouble.UNREADABLE}


def test_an_attachment_in_winmail_dat_without_data_is_a_trouble():
    inner, _ = unpack("winmail.dat", tnef("X.TXT", None, mapi(LONG_NAME)))
    assert inner.names == ("X.TXT", "x.js") and inner.troubles == {Trouble.UNREADABLE}


def test_a_winmail_dat_that_is_cut_shows_what_is_whole():
    inner, *_, outer = unpack("winmail.dat", tnef("x.exe", PE) + b"\2\x0f\x80\6\0\xff\0\0\0")
    assert inner.content == PE and outer.troubles == {Trouble.UNREADABLE}


def base64_part(fields: str, content: bytes) -> bytes:
    body = base64.encodebytes(content).decode()
    return crlf(f"{fields}\nContent-Transfer-Encoding: base64\n\n{body}")


UUENCODED = b"begin 644 x.exe\n" + binascii.b2a_uu(b"MZ") + b"`\nend\n"


@pytest.mark.parametrize(
    ("mail", "name"),
    [
        (base64_part("Content-Type: application/octet-stream", b"MZ"), ""),
        (base64_part("Content-Type: text/plain", b"MZ"), ""),
        (
            base64_part("Content-Type: a/b; name=x.exe\nContent-Disposition: inline; filename=a.txt", b"MZ"),
            "x.exe",
        ),
        (
            base64_part("Content-Disposition: inline\nContent-Disposition: inline; filename=x.exe", b"MZ"),
            "x.exe",
        ),
        (crlf("Subject: x\n\nSee:\n") + UUENCODED, "x.exe"),
        (base64_part("Content-Type: text/plain", UUENCODED), "x.exe"),
        (
            base64_part("Content-Type: message/rfc822", base64_part("Content-Type: a/b; name=x.exe", b"MZ")),
            "x.exe",
        ),
        (
            crlf(
                "Content-Type: multipart/mixed; boundary=b x\n\n"
                "--b\nContent-Type: a/b; name=x.exe\n\nMZ\n--b--"
            ),
            "x.exe",
        ),
    ],
)
def test_every_file_of_a_mail(mail: bytes, name: str):
    found = unpack("a.eml", mail)
    assert any(name in file.names and file.content[:2] == b"MZ" for file in found if file.depth) or (
        not name and any(file.content == b"MZ" for file in found if file.depth)
    )
    assert any(file.content == b"MZ" for file in unpack("a.zip", zipped({"a.eml": mail})))


def test_the_text_of_a_mail_is_shown_where_it_is_encoded():
    assert [file.depth for file in unpack("a.eml", crlf("Content-Type: text/html\n\n<p>x\n"))] == [0]
    for kind, encoded in (("utf-8", "\u00fc".encode()), ("utf-16", "\u00fc".encode("utf-16"))):
        found = unpack("a.eml", base64_part(f"Content-Type: text/plain; charset={kind}", encoded))
        assert [file.content for file in found if file.is_body] == ["\u00fc".encode()]


def test_a_mail_beyond_a_limit():
    deep = b"Content-Type: message/rfc822\r\n\r\n" * 60 + b"x"
    assert unpack("a.eml", deep)[-1].troubles == {Trouble.TOO_DEEP}
    assert unpack("a.eml", b"a: b\r\n" * 60_000 + b"\r\nx")[-1].troubles == {Trouble.TOO_MANY}


# -- Office --------------------------------------------------------------------------


def test_macros():
    with_vba = open_xml("word", word__vbaProject_bin=OLE)
    sheet = zipped({"[Content_Types].xml": b"", "xl/workbook.xml": b"", "xl/macrosheets/sheet1.xml": b""})
    for content in (
        with_vba,
        sheet,
        OLE + utf16("WordDocument") + utf16("_VBA_PROJECT"),
        b"ActiveMime" + bytes(99),
    ):
        assert unpack("a", content)[-1].macros
    renamed = unpack("a.docm", open_xml("word", word__other_bin=OLE + utf16("_VBA_PROJECT")))
    assert any(file.macros for file in renamed)
    for content in (open_xml("word"), OLE + utf16("WordDocument"), PE, b"_VBA_PROJECT"):
        assert not any(file.macros for file in unpack("a", content))


# -- hostile -------------------------------------------------------------------------


def test_an_encrypted_member_is_named_by_what_its_directory_says():
    found = paths("a.zip", encrypted_zip())
    assert found["a.zip/secret.exe"].troubles == {Trouble.ENCRYPTED}
    assert found["a.zip/secret.exe"].content == b""


@pytest.mark.parametrize(
    "bomb",
    [
        zipped({"a": bytes(60 << 20)}),
        zipped({"a": bytes(60 << 20)}, zipfile.ZIP_BZIP2),
        zipped({"a": bytes(60 << 20)}, zipfile.ZIP_LZMA),
        gzip.compress(bytes(60 << 20)),
        bz2.compress(bytes(200 << 20)),
        lzma.compress(bytes(200 << 20)),
        overlapping_zip(),
    ],
    ids=["zip", "zip bzip2", "zip lzma", "gzip", "bzip2", "xz", "overlapping"],
)
def test_bombs_are_named_and_take_neither_time_nor_memory(bomb: bytes):
    tracemalloc.start()
    found = unpack("a", bomb, ratio=100)
    assert tracemalloc.get_traced_memory()[1] < 100 << 20
    tracemalloc.stop()
    assert any(Trouble.BOMB in file.troubles for file in found)


def test_every_limit_has_its_name():
    deep = PE
    for _ in range(9):
        deep = zipped({"a.zip": deep})
    for content, limits, trouble in (
        (deep, {"depth": 4}, Trouble.TOO_DEEP),
        (zipped({str(n): b"" for n in range(30)}), {"members": 20}, Trouble.TOO_MANY),
        (tarred({str(n): b"" for n in range(30)}), {"members": 20}, Trouble.TOO_MANY),
        (zipped({"a": bytes(9000)}), {"member_size": 2000}, Trouble.TOO_LARGE),
        (zipped({str(n): bytes(900) for n in range(20)}), {"total_size": 2000}, Trouble.TOO_LARGE),
        (zipped({"a": b""}), {"seconds": -1}, Trouble.TOO_SLOW),
    ):
        assert any(trouble in file.troubles for file in unpack("a", content, **limits)), trouble
        assert any("limit" in file.conditions() for file in unpack("a", content, **limits))


def test_the_limits_are_of_a_message_and_not_of_a_file():
    unpacker = Unpacker(UnpackLimits(members=5))
    archive = zipped({str(n): b"" for n in range(4)})
    assert not any(file.troubles for file in unpacker.files(("a",), archive))
    assert any(file.troubles for file in unpacker.files(("b",), archive))


def test_members_that_its_directory_does_not_list():
    both = zipped({"x.exe": PE}) + zipped({"y.txt": b"a"})
    assert Trouble.HIDDEN in unpack("a.zip", both)[-1].troubles
    renamed = zipped({"aaaaa": PE}).replace(b"aaaaa", b"x.exe", 1)  # in its own header only
    found = unpack("a.zip", renamed)
    assert found[0].names == ("aaaaa", "x.exe") and Trouble.HIDDEN in found[-1].troubles


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "..\\x", "C:\\x", "\\\\host\\x"])
def test_names_that_lead_elsewhere(name: str):
    assert unpack("a.zip", zipped({name: b"a"}))[0].troubles == {Trouble.PATH}
    assert unpack("a.tar", tarred({name: b"a"}))[0].troubles == {Trouble.PATH}


def linked(name: str, target: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = tarfile.SYMTYPE, target
        archive.addfile(entry)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "target", "out"),
    [
        ("a", "/etc/passwd", True),
        ("a", "../b", True),
        ("./a", "../b", True),
        ("d/a", "../../b", True),
        ("d/a", "../b", False),
        ("./d/a", "../b", False),
        ("d/a", "./x/../b", False),
    ],
)
def test_links_that_lead_elsewhere(name: str, target: str, out: bool):
    found = unpack("a.tar", linked(name, target))
    assert any(Trouble.PATH in file.troubles for file in found) is out


def test_broken_archives_are_unreadable_and_give_what_they_can():
    whole = tarred({"x.exe": PE, "big": bytes(5000)})
    for content in (
        zipped({"a": PE})[:-10],
        gzip.compress(whole)[:-40],
        whole[:3000],
        b"Rar!\x1a\x07\x01\0" + bytes(20),
        b"7z\xbc\xaf\x27\x1c" + b"\xff" * 60,
        tnef("a", PE)[:-30],
    ):
        assert any(Trouble.UNREADABLE in file.troubles for file in unpack("a", content)), content[:8]
    assert any(file.content == PE for file in unpack("a", whole[:3000]))


@given(
    st.sampled_from(
        [
            zipped({"x.exe": PE, "d/y": b"text"}),
            tarred({"x.exe": PE}),
            tarred({"x.exe": PE}, "w:gz"),
            bz2.compress(PE),
            lzma.compress(PE),
            tnef("x", PE),
            open_xml("xl", xl__vbaProject_bin=OLE),
        ]
    ),
    st.lists(st.tuples(st.integers(0, 4000), st.binary(min_size=1, max_size=4)), max_size=6),
)
@settings(max_examples=300, deadline=None)
def test_any_damage_is_borne(content: bytes, damages: list[tuple[int, bytes]]):
    made = bytearray(content)
    for place, octets in damages:
        made[place % len(made) : place % len(made) + len(octets)] = octets
    for file in unpack("a", bytes(made)):
        assert file.conditions() <= CONDITIONS


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(b"") * 100_000,
        bz2.compress(b"") * 200_000,
        lzma.compress(b"") * 60_000,
        b"PK\x01\x02" * 900_000,
    ],
    ids=["gzip", "bzip2", "xz", "zip"],
)
def test_many_empty_streams_take_no_time(content: bytes):
    unpack("a", content)


# -- libarchive ----------------------------------------------------------------------


@pytest.fixture
def seven(tmp_path: Path):
    """Pack a program with 7-Zip itself."""
    need("7z")

    def pack(*options: str, kind: str = "7z") -> bytes:
        (tmp_path / "x.exe").write_bytes(PE)
        target = tmp_path / f"a.{kind}"
        command = ["7z", "a", "-bd", f"-t{kind}", *options, str(target), "x.exe"]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
        return target.read_bytes()

    return pack


def test_7z(seven):
    found = paths("a.7z", seven())
    assert found["a.7z/x.exe"].content == PE and not found["a.7z"].troubles


@pytest.mark.parametrize("options", [("-psecret",), ("-psecret", "-mhe=on")])
def test_an_encrypted_7z(seven, options: tuple[str, ...]):
    assert any(Trouble.ENCRYPTED in file.troubles for file in unpack("a.7z", seven(*options)))


@pytest.mark.parametrize("options", [("-psecret",), ("-psecret", "-mem=AES256")])
def test_an_encrypted_zip_of_7zip(seven, options: tuple[str, ...]):
    found = paths("a.zip", seven(*options, kind="zip"))
    assert found["a.zip/x.exe"].troubles == {Trouble.ENCRYPTED}


def test_without_libarchive_it_is_unreadable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(archives, "_libarchive", lambda: None)
    (found,) = unpack("a.7z", b"7z\xbc\xaf\x27\x1c" + bytes(60))
    assert found.troubles == {Trouble.UNREADABLE}


@pytest.mark.parametrize("kind", ["7zip", "iso9660", "cpio", "ar_bsd", "xar"])
def test_what_libarchive_writes(kind: str):
    libarchive = pytest.importorskip("libarchive")
    written = bytearray()

    def write(octets: bytes) -> int:
        written.extend(octets)
        return len(octets)

    with libarchive.custom_writer(write, kind) as archive:
        archive.add_file_from_memory("x.exe", len(PE), PE)
    found = unpack("a", bytes(written))
    assert found[0].content == PE and found[0].path == ("a", "x.exe")


# -- names ---------------------------------------------------------------------------


def test_conditions_of_a_name():
    for name, condition in (
        ("invoice.pdf.exe", "double_extension"),
        ("invoice\u202egnp.exe", "bidi"),
        ("a.exe. .", "trailing"),
        ("a.pdf" + " " * 80 + ".exe", "blanks"),
        ("a.txt\0.exe", "unseen"),
        ("a.exe::$DATA", "stream"),
    ):
        found = unpack(name, PE)[0].conditions()
        assert condition in found and "trick" in found, name
    assert unpack("report.pdf", PE)[0].conditions() == {"mismatch"}
    assert unpack("photo.2024.01.png", PNG)[0].conditions() == frozenset()
