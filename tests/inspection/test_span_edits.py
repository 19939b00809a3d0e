"""Pieces of a text replaced in any charset and transfer encoding; all else is the same octets."""

from __future__ import annotations

import base64
import html
import quopri

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.inspection import charsets
from gateway.inspection.edits import EditError, Edits
from gateway.inspection.parts import parse

from .samples import ALTERNATIVE, crlf
from .test_edits import text_message
from .test_parts import soups
from .test_structure_edits import outside_is_kept

CHARSETS = [
    "us-ascii",
    "utf-8",
    "iso-8859-1",
    "windows-1252",
    "koi8-r",
    "utf-16",
    "utf-16be",
    "utf-32",
    "utf-7",
    "iso-2022-jp",
    "hz-gb-2312",
    "shift_jis",
    "gb2312",
    "big5",
    "euc-kr",
]
ENCODINGS = ["7bit", "8bit", "binary", "quoted-printable", "base64"]


def spans_replaced(message: bytes, spans: list[tuple[int, int, str]]) -> bytes | None:
    root = parse(message)
    edits = Edits(root)
    return outside_is_kept(message, edits) if edits.replace_spans(root, spans) else None


def in_encoding(octets: bytes, encoding: str) -> bytes:
    if encoding == "base64":
        return base64.encodebytes(octets).replace(b"\n", b"\r\n")
    if encoding == "quoted-printable":
        return quopri.encodestring(octets.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")
    return octets


def cuts(text: str, places: list[int], news: list[str]) -> list[tuple[int, int, str]]:
    ends = sorted(place % (len(text) + 1) for place in places)
    return [(start, end, new) for start, end, new in zip(ends[::2], ends[1::2], news, strict=False)]


def laid_in(text: str, spans: list[tuple[int, int, str]]) -> str:
    for start, end, new in reversed(spans):
        text = text[:start] + new + text[end:]
    return text


def plain_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


TEXT = (
    "first line https://example.org/a?b=c\r\nsecond = line \u00e9\u20ac\r\n\r\n\u65e5\u672c\u8a9e = x\r\n"
    + "long " * 40
    + "\r\nend"
)
places = st.lists(st.integers(0, 400), max_size=8)
news = st.lists(
    st.sampled_from(
        ["", "x", "https://gate.example.org/" + "y" * 60, "\u00fc", "\u20ac\u65e5", "two\nlines"]
    ),
    min_size=4,
    max_size=4,
)


@given(
    st.sampled_from(CHARSETS), st.sampled_from(ENCODINGS), st.sampled_from(["plain", "html"]), places, news
)
@settings(max_examples=1200, deadline=None)
def test_spans_read_back_in_every_charset_and_encoding(
    charset: str, encoding: str, kind: str, places: list[int], news: list[str]
):
    octets = TEXT.encode(charset, "ignore")
    if encoding != "base64" and not charsets.is_ascii_superset(charsets.codec_of(charset) or ""):
        encoding = "base64" if charset.startswith("utf-") else encoding
    message = text_message(f"text/{kind}; charset={charset}", encoding, in_encoding(octets, encoding))
    text = parse(message).text()
    spans = cuts(text, places, news)
    result = spans_replaced(message, spans)
    assert result is not None
    part = parse(result)
    wanted = plain_ends(laid_in(text, spans))
    got = plain_ends(part.text())
    if kind == "html":
        got, wanted = html.unescape(got), html.unescape(wanted)
    assert got == wanted
    assert not part.defects
    if part.transfer_encoding in ("quoted-printable", "base64"):
        assert result[part.body_start :].isascii()


@given(
    st.binary(max_size=80),
    st.sampled_from([*CHARSETS, "", "nosuch"]),
    st.sampled_from(ENCODINGS),
    places,
    news,
)
@settings(max_examples=1200, deadline=None)
def test_octets_that_are_not_of_the_charset(
    body: bytes, charset: str, encoding: str, places: list[int], news: list[str]
):
    message = text_message(f"text/plain; charset={charset}" if charset else "text/plain", encoding, body)
    before = parse(message)
    text = before.text()
    spans = cuts(text, places, [new if new.isascii() else "?" for new in news])
    result = spans_replaced(message, spans)
    if result is None:
        assert charset == "nosuch" or "\ufffd" in text or not body.isascii()
        return
    assert plain_ends(parse(result).text()) == plain_ends(laid_in(text, spans))


@given(soups, places, news)
@settings(max_examples=300, deadline=None)
def test_spans_of_any_part_of_anything(message: bytes, places: list[int], news: list[str]):
    root = parse(message)
    for part in root.walk():
        edits = Edits(root)
        if not part.children and edits.replace_spans(part, cuts(part.text(), places, news)):
            outside_is_kept(message, edits)
            for edit in edits:
                assert part.start <= edit.start <= edit.end <= part.end


def test_only_the_lines_are_written_anew_in_quoted_printable():
    lines = [b"line %d =3D and=20more" % number for number in range(100)]
    message = text_message("text/plain; charset=utf-8", "quoted-printable", b"\r\n".join(lines) + b"\r\n")
    text = parse(message).text()
    spans = [
        (text.index(f"line {number} "), text.index(f"line {number} ") + 4, "L\u00edne") for number in (3, 60)
    ]
    root = parse(message)
    edits = Edits(root)
    assert edits.replace_spans(root, spans)
    assert [edit.data for edit in edits] == [
        b"L=C3=ADne 3 =3D and more\r\n",
        b"L=C3=ADne 60 =3D and more\r\n",
    ]
    assert parse(outside_is_kept(message, edits)).text() == text.replace("line 3 ", "L\u00edne 3 ").replace(
        "line 60 ", "L\u00edne 60 "
    )


def test_only_the_characters_change_in_8bit():
    message = text_message("text/plain; charset=utf-8", "8bit", "a \u65e5 b\r\n".encode())
    root = parse(message)
    edits = Edits(root)
    assert edits.replace_spans(root, [(2, 3, "\u672c")])
    assert [(edit.end - edit.start, edit.data) for edit in edits] == [(3, "\u672c".encode())]


def test_base64_is_written_anew_from_the_line_on():
    body = base64.encodebytes(b"0123456789" * 100).replace(b"\n", b"\r\n")
    message = text_message("text/plain", "base64", body)
    root = parse(message)
    edits = Edits(root)
    assert edits.replace_spans(root, [(500, 510, "x")])
    (edit,) = edits
    assert edit.start == root.body_start + 500 // 57 * 78
    assert parse(outside_is_kept(message, edits)).text() == root.text()[:500] + "x" + root.text()[510:]


@pytest.mark.parametrize("encoding", ["7bit", "quoted-printable", "base64"])
def test_no_text_becomes_a_delimiter(encoding: str):
    body = in_encoding(b"one\r\n-two\r\n", encoding)
    message = crlf("Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Transfer-Encoding: ")
    message += encoding.encode() + b"\r\n\r\n" + body + b"\r\n--b--\r\n"
    for spans in (
        [(5, 6, "--b")],
        [(5, 6, "--b--")],
        [(5, 9, "--b\n")],
        [(5, 5, "-"), (6, 9, "b")],
    ):
        root = parse(message)
        edits = Edits(root)
        part = root.children[0]
        text = part.text()
        assert edits.replace_spans(part, spans)
        after = parse(outside_is_kept(message, edits))
        assert len(after.children) == 1
        assert plain_ends(after.children[0].text()) == plain_ends(laid_in(text, spans))
    root = parse(message)
    edits = Edits(root)
    assert edits.append_text(root.children[0], "--b--\n")
    after = parse(outside_is_kept(message, edits))
    assert len(after.children) == 1 and "--b--" in after.children[0].text()
    edits = Edits(root)
    assert edits.replace_text(root.children[0], "x\n--b--\n")
    assert "--b--" in parse(outside_is_kept(message, edits)).children[0].text()


def test_a_line_that_gets_too_long_becomes_quoted_printable():
    message = text_message("text/plain", "7bit", b"x" * 900 + b"\r\n")
    result = spans_replaced(message, [(0, 1, "y" * 200)])
    assert result is not None and parse(result).transfer_encoding == "quoted-printable"
    assert max(map(len, result.split(b"\r\n"))) <= 998


def test_spans_that_are_none_are_refused():
    root = parse(ALTERNATIVE)
    edits = Edits(root)
    for spans in ([(0, 99, "")], [(-1, 0, "")], [(3, 2, "")], [(0, 3, ""), (2, 4, "")]):
        with pytest.raises(EditError, match="span"):
            edits.replace_spans(root.children[0], spans)
    assert edits.replace_spans(root.children[0], []) and not len(edits)


def test_more_than_eight_mebibytes_are_not_encoded_anew():
    lines = "\u00fc0123456789abcdef" * 4 + "\r\n"
    octets = (lines * 150_000).encode()
    for encoding in ("base64", "quoted-printable"):
        body = (
            base64.encodebytes(octets).replace(b"\n", b"\r\n")
            if encoding == "base64"
            else (lines.replace("\u00fc", "=C3=BC") * 150_000).encode()
        )
        message = text_message("text/plain; charset=utf-8", encoding, body)
        root = parse(message)
        edits = Edits(root)
        if encoding == "base64":
            assert not edits.replace_spans(root, [(0, 1, "x")])
        else:
            assert edits.replace_spans(root, [(0, 1, "x"), (9_000_000, 9_000_001, "y")])
        assert edits.replace_spans(root, [(len(lines) * 150_000 - 3, len(lines) * 150_000 - 2, "x")])
    wide = text_message("text/plain; charset=utf-16", "8bit", b"x\0" * 5_000_000)
    assert spans_replaced(wide, [(0, 1, "y")]) is None


def test_the_first_line_of_a_body_without_a_blank_line_does_not_become_a_field():
    message = b"no field\nSubject: x\n\nbody\n"
    root = parse(message)
    edits = Edits(root)
    assert root.body_start == 0 and edits.replace_spans(root, [(1, 9, "")])
    after = parse(outside_is_kept(message, edits))
    assert (after.fields, after.text()) == ([], "nSubject: x\n\nbody\n")


@pytest.mark.parametrize("encoding", ["8bit", "quoted-printable", "base64"])
def test_very_many_spans_of_one_long_line(encoding: str):
    octets = b"<a href=x>" * 30_000
    root = parse(text_message("text/html; charset=utf-8", encoding, in_encoding(octets, encoding)))
    spans = [(place + 8, place + 9, "y") for place in range(0, len(octets), 10)]
    edits = Edits(root)
    assert edits.replace_spans(root, spans)
    after = parse(outside_is_kept(bytes(root.buffer[:]), edits))
    assert plain_ends(after.text()).rstrip("\n") == "<a href=y>" * 30_000
    assert len(edits) <= len(spans)
