"""Ambiguous parts: named, classified, and shown as every other program may read them."""

from __future__ import annotations

import base64
import quopri
from pathlib import Path

import pytest
from hypothesis import given, settings

from gateway.inspection.defects import LIMIT_DEFECTS, Defect, DefectKind, Limits
from gateway.inspection.edits import EditError, Edits
from gateway.inspection.message import Content, Message
from gateway.inspection.parts import parse

from .samples import ALTERNATIVE, MIXED, PLAIN, WELL_FORMED, crlf
from .test_edits import text_message
from .test_parts import BROKEN, soups

EXE = (
    "Subject: inner\nContent-Type: multipart/mixed; boundary=i\n\n--i\n"
    "Content-Type: application/x-msdownload; name=a.exe\n\nMZ\n--i--\n"
)


def types(message: bytes) -> list[str]:
    return [part.content_type for part in Message.of(message).walk()]


def encoded(kind: str, encoding: str, body: bytes) -> bytes:
    octets = base64.encodebytes(body) if encoding == "base64" else quopri.encodestring(body)
    head = crlf(f"Content-Type: {kind}\nContent-Transfer-Encoding: {encoding}\n\n")
    return head + octets.replace(b"\r", b"").replace(b"\n", b"\r\n")


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable"])
@pytest.mark.parametrize("kind", ["message/rfc822", "message/global"])
def test_an_encoded_message_is_shown(kind: str, encoding: str):
    message = Message.of(encoded(kind, encoding, crlf(EXE)))
    names = [part.filename for part in message.walk() if part.filename]
    assert names == ["a.exe"]
    assert message.ambiguity == ((Defect.ENCODED_MESSAGE,) if kind == "message/rfc822" else ())


def test_parts_of_a_reading_are_for_looking_at():
    message = Message.of(encoded("message/rfc822", "base64", crlf(EXE)))
    *_, inner = message.walk()
    assert inner.filename == "a.exe" and inner.origin is message.root
    assert not message.may_edit(inner) and message.may_edit(inner.origin)
    for edit in (message.edits().remove_part, lambda part: message.edits().replace_by_notice(part, "x")):
        with pytest.raises(EditError, match="decoded from this one"):
            edit(inner)
    edits = message.edits()
    assert edits.replace_by_notice(inner.origin, "taken away")


def test_a_reading_is_covered_as_its_origin_is():
    message = Message.of(b"DKIM-Signature: h=from\r\n" + encoded("message/rfc822", "base64", crlf(EXE)))
    *_, inner = message.walk()
    assert message.cover_of(inner) == message.cover_of(message.root) is not None


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable"])
def test_an_encoded_multipart_is_shown_decoded(encoding: str):
    body = crlf("--b\nContent-Type: application/x-msdownload; name=a.exe\n\nMZ\n--b--\n")
    message = Message.of(encoded("multipart/mixed; boundary=b", encoding, body))
    assert "a.exe" in [part.filename for part in message.walk()]
    assert Defect.ENCODED_MULTIPART in message.ambiguity


@pytest.mark.parametrize(
    ("fields", "body", "expected"),
    [
        (
            "Content-Type: text/plain\nContent-Type: multipart/mixed; boundary=b",
            "--b\nContent-Type: image/png\n\nx\n--b--\n",
            "image/png",
        ),
        (
            "Content-Type: multipart/mixed; boundary=a; boundary=b",
            "--b\nContent-Type: image/png\n\nx\n--b--\n",
            "image/png",
        ),
        (
            'Content-Type: multipart/mixed; boundary="=?utf-8?q?b?="',
            "--b\nContent-Type: image/png\n\nx\n--b--\n",
            "image/png",
        ),
        (
            "Content-Type: multipart/mixed; boundary=b",
            "--b\n\nx\n--b trailing\nContent-Type: image/png\n\nx\n--b--\n",
            "image/png",
        ),
        (
            "Content-Type: multipart/mixed; boundary=b",
            "--b\n\nx\n--b--\n--b\nContent-Type: image/png\n\nx\n--b--\n",
            "image/png",
        ),
        (
            "Content-Type: multipart/mixed; boundary=b",
            "--b\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed;"
            " boundary=b.c\n\n--b.c\n--b--\n--b.c\nContent-Type: image/png\n\nx\n--b--\n",
            "image/png",
        ),
        *(
            (
                f"Content-Type: multipart/mixed; boundary={boundary}",
                f"{before}--b\nContent-Type: image/png\n\nx\n--b--\n",
                "image/png",
            )
            for boundary in ("b x", '"b"x', '"b" x', "b/x", "b, x", "b=x", "b@x", "b<x", "b\n x")
            for before in ("", "--b x\n\nx\n--b x--\n", "--b/x\n\nx\n--b/x--\n")
        ),
        ("Content-Type: multipart/mixed; boundary=b", "preamble\n--b--\n", "text/plain"),
        ("Content-Type: multipart/mixed", "seen as text by some\n", "text/plain"),
        ("Content-Type: multipart/mixed; boundary=b", "seen as text by some\n", "text/plain"),
    ],
)
def test_what_another_program_would_take_is_shown(fields: str, body: str, expected: str):
    message = Message.of(crlf(f"{fields}\n\n{body}"))
    assert expected not in [part.content_type for part in message.root.walk()]
    assert expected in [part.content_type for part in message.walk()]
    assert message.ambiguity


def test_two_transfer_encodings_are_both_undone():
    message = Message.of(crlf("Content-Transfer-Encoding: 7bit\nContent-Transfer-Encoding: base64\n\nTVo=\n"))
    assert [part.content() for part in message.walk()] == [b"TVo=\r\n", b"MZ"]


def test_names_that_another_program_would_show_are_all_there():
    part = parse(
        crlf(
            "Content-Type: application/pdf; name=a.exe\n"
            "Content-Disposition: attachment; filename=b.pdf; filename=c.js; filename*=utf-8''d.pdf\n"
            "Content-Disposition: inline; filename=e.com\n\n"
        )
    )
    assert part.filename == "d.pdf"
    assert set(part.filenames) == {"a.exe", "b.pdf", "c.js", "d.pdf", "e.com"}
    assert Defect.DIFFERENT_NAMES in part.defects


def test_an_encoded_name_is_one_name():
    part = parse(crlf('Content-Disposition: attachment; filename="=?utf-8?q?a=2Epdf?="\n\n'))
    assert part.filenames == ("a.pdf", "=?utf-8?q?a=2Epdf?=")
    assert part.defects == [Defect.ENCODED_WORD_NAME]


# -- classes -------------------------------------------------------------------------


def test_each_defect_has_a_kind():
    assert {defect for defect in Defect if defect.kind is DefectKind.LIMIT} == LIMIT_DEFECTS
    assert Defect.BOUNDARY_CLASH.kind is DefectKind.AMBIGUOUS
    assert Defect.MBOX_LINE.kind is DefectKind.HARMLESS


@pytest.mark.parametrize("name", BROKEN)
def test_ambiguity_is_what_is_not_harmless(name: str):
    message, defect, _ = BROKEN[name]
    assert (defect in Content(message).ambiguity) is (defect.kind is not DefectKind.HARMLESS)


@pytest.mark.parametrize("name", [name for name in WELL_FORMED if name != "mixed"])
@pytest.mark.parametrize("lone", [False, True])
def test_well_formed_messages_are_not_ambiguous(name: str, lone: bool):
    message = WELL_FORMED[name].replace(b"\r\n", b"\n") if lone else WELL_FORMED[name]
    assert Content(message).ambiguity == () and Content(message).readings == ()


def test_a_limit_counts():
    assert Content(MIXED, Limits(parts=2)).ambiguity.count(Defect.TOO_MANY_PARTS) == 1


# -- content -------------------------------------------------------------------------

CONTENT: dict[str, tuple[str, str, bytes, tuple[Defect, ...]]] = {
    "good base64": ("text/plain", "base64", b"YWJj\r\nZA==\r\n", ()),
    "garbage": ("text/plain", "base64", b"YW!Jj\r\n", (Defect.BASE64_GARBAGE,)),
    "behind the padding": ("text/plain", "base64", b"ZA==\r\nYWJj\r\n", (Defect.BASE64_AFTER_PADDING,)),
    "no padding": ("text/plain", "base64", b"ZA", (Defect.BASE64_LENGTH,)),
    "too much padding": ("text/plain", "base64", b"YWJj====", (Defect.BASE64_LENGTH,)),
    "good quoted-printable": ("text/plain", "quoted-printable", b"a=\r\nb=3D=20 \r\n=", ()),
    "no digits": ("text/plain", "quoted-printable", b"a=zz", (Defect.BAD_QUOTED_PRINTABLE,)),
    "blanks behind": ("text/plain", "quoted-printable", b"a= \t\r\nb", ()),
    "lone cr": (
        "text/plain",
        "quoted-printable",
        b"a=\rhidden\r\n",
        (Defect.QUOTED_LONE_CR, Defect.BAD_QUOTED_PRINTABLE),
    ),
    "8bit without charset": ("text/plain", "8bit", b"\xff", (Defect.BAD_CHARSET,)),
    "not utf-8": ("text/plain; charset=utf-8", "8bit", b"\xc0\xaf", (Defect.BAD_CHARSET,)),
    "unknown": ("text/plain; charset=nosuch", "8bit", b"x", (Defect.BAD_CHARSET,)),
    "utf-7": ("text/html; charset=utf-7", "7bit", b"+ADw-script+AD4-", (Defect.ODD_CHARSET,)),
    "utf-16 without an order": ("text/plain; charset=utf-16", "binary", b"a\0", (Defect.ODD_CHARSET,)),
    "utf-16 with one": ("text/plain; charset=utf-16", "binary", b"\xff\xfea\0", ()),
    **{
        name: (f"text/html; charset={name}", "binary", b"a\0", (Defect.ODD_CHARSET,))
        for name in ("unicode", "unicodefffe", "ucs-2", "iso-10646-ucs-2", "unicode-2-0-utf-7")
    },
    "latin": ("text/plain; charset=iso-8859-1", "8bit", b"\xfc", ()),
    "no text": ("image/png", "8bit", b"\xff", ()),
}


@pytest.mark.parametrize("name", CONTENT)
def test_defects_of_content(name: str):
    kind, encoding, body, expected = CONTENT[name]
    part = parse(text_message(kind, encoding, body))
    assert part.content_defects == expected
    ambiguity = Content(text_message(kind, encoding, body)).ambiguity
    assert ambiguity == tuple(one for one in expected if one.kind is DefectKind.AMBIGUOUS)


def test_what_a_soft_break_trick_hides_is_read():
    part = parse(text_message("text/plain", "quoted-printable", b"a=\rhidden\r\nshown\r\n"))
    assert part.content() == b"ahidden\r\nshown\r\n"


def test_utf7_is_read_as_such():
    part = parse(text_message("text/html; charset=utf-7", "7bit", b"+ADw-script+AD4-"))
    assert part.text() == "<script>"


# -- hostile -------------------------------------------------------------------------


def test_messages_encoded_within_messages_stop_at_the_limit():
    message = PLAIN
    for _ in range(20):
        message = encoded("message/rfc822", "quoted-printable", message)
    content = Content(message)
    assert 1 <= len(content.readings) <= 5
    assert content.ambiguity[-1] is Defect.TOO_MANY_READINGS


def test_many_ambiguous_parts_stop_at_the_limit():
    part = "--b\nContent-Type: text/plain\nContent-Type: text/html\n\nx\n"
    message = crlf("Content-Type: multipart/mixed; boundary=b\n\n" + part * 1000 + "--b--\n")
    content = Content(message)
    assert len(content.readings) == Limits().readings
    assert Defect.TOO_MANY_READINGS in content.ambiguity


def test_readings_together_are_no_larger_than_four_messages():
    kinds = "".join(f"Content-Type: text/x{number}\n" for number in range(100))
    message = crlf(kinds * 2 + "\n") + b"x" * 1_000_000
    content = Content(message)
    assert sum(len(one.buffer) for one in content.readings) <= 4 * len(message) + 4096


@given(soups)
@settings(max_examples=300, deadline=None)
def test_any_octets_have_readings(message: bytes):
    seen = Message.of(message)
    parts = list(seen.walk())
    assert parts[0] is seen.root and all(part.origin.buffer is message for part in parts)
    for defect in seen.ambiguity:
        assert defect.kind is not DefectKind.HARMLESS
    for part in parts:
        assert part.content_defects is not None and part.embedded() is not None
        assert part.is_tnef in (True, False)


def test_the_plain_case_costs_no_copy():
    assert Content(ALTERNATIVE).readings == () and types(ALTERNATIVE)[0] == "multipart/alternative"


# -- documentation -------------------------------------------------------------------


def test_the_documentation_names_every_defect_limit_and_edit():
    lines = (Path(__file__).parents[2] / "docs" / "mime.md").read_text().split("\n")
    for defect in Defect:
        (row,) = [line for line in lines if line.startswith("|") and f"`{defect}`" in line][:1]
        assert defect.kind is DefectKind.LIMIT or row.rstrip(" |").endswith(defect.kind)
    table = "\n".join(line for line in lines if line.startswith("|"))
    edits = {name for name in vars(Edits) if not name.startswith("_")}
    assert [
        name
        for name in edits - {"without", "in_order", "new_size", "put", "apply"}
        if f"`{name}" not in table
    ] == []
