"""Edits: what none covers stays the same octets."""

from __future__ import annotations

import base64
import email
import quopri

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.inspection.edits import Edit, EditError, Edits, render
from gateway.inspection.message import Message
from gateway.inspection.parts import parse

from .samples import ALTERNATIVE, DKIM, MIXED, PLAIN, WELL_FORMED, crlf
from .test_parts import soups


def edited(message: bytes, edits: Edits) -> bytes:
    result = b"".join(render(message, edits.in_order()))
    assert len(result) == edits.new_size()
    return result


@given(soups)
@settings(max_examples=200, deadline=None)
def test_without_edits_the_same_octets_come_out(message: bytes):
    parsed = Message.of(message)
    assert list(parsed.root.walk()) and b"".join(render(message, [])) == message


@given(
    st.binary(max_size=50), st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.binary(max_size=5)))
)
@settings(max_examples=200, deadline=None)
def test_splices_change_their_own_octets_only(message: bytes, wanted: list[tuple[int, int, bytes]]):
    edits = Edits(parse(message))
    model: list[tuple[int, int, bytes]] = []
    last = 0
    for start, length, data in sorted(wanted, key=lambda one: one[0]):
        start, end = max(start, last), start + length
        if not start < end <= len(message):
            continue
        edits.splice(start, end, data)
        model.append((start, end, data))
        last = end
    expected, place = b"", 0
    for start, end, data in model:
        expected += message[place:start] + data
        place = end
    assert edited(message, edits) == expected + message[place:]


def test_chunks_are_bounded():
    chunks = list(render(b"x" * 1_000_000, [Edit(500_000, 500_001, b"y")]))
    assert max(map(len, chunks)) <= 256 * 1024
    assert b"".join(chunks) == b"x" * 500_000 + b"y" + b"x" * 499_999


def test_edits_that_overlap_are_refused():
    edits = Edits(parse(b"0123456789"))
    edits.splice(2, 5, b"")
    edits.splice(4, 6, b"")
    with pytest.raises(EditError, match="overlap at offset 4"):
        edits.in_order()
    with pytest.raises(EditError, match="of a message of 10 octets"):
        edits.splice(5, 11, b"")


def test_a_new_field_goes_behind_the_trace_fields():
    edits = Edits(parse(PLAIN))
    edits.add_header("X-One", "1")
    edits.add_header("X-Two", "2")
    edits.add_header("X-Top", "0", top=True)
    result = edited(PLAIN, edits)
    assert [line.partition(b":")[0] for line in result.split(b"\r\n\r\n")[0].split(b"\r\n")] == [
        b"X-Top",
        b"Received",
        b"Received",
        b"X-One",
        b"X-Two",
        b"From",
        b"Subject",
    ]


def test_set_replaces_the_first_and_removes_the_others():
    message = crlf("A: 1\nX: one\n folded\nB: 2\nx: two\n\nbody\n")
    edits = Edits(parse(message))
    edits.set_header("X", "new")
    assert edited(message, edits) == crlf("A: 1\nX: new\nB: 2\n\nbody\n")
    edits = Edits(parse(message))
    assert edits.remove_header("x") == 2
    assert edited(message, edits) == crlf("A: 1\nB: 2\n\nbody\n")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"", b"X: y\r\n\r\n"),
        (b"\r\nbody", b"X: y\r\n\r\nbody"),
        (b"no header\r\n", b"X: y\r\n\r\nno header\r\n"),
        (b"A: b", b"X: y\r\nA: b"),
        (b"Received: b", b"Received: b\r\nX: y"),
        (b"Received: a\r\n\r\nbody", b"Received: a\r\nX: y\r\n\r\nbody"),
        (b"A: b\n\nbody\n", b"X: y\nA: b\n\nbody\n"),
        (b"From x\r\nA: b\r\n\r\n", b"From x\r\nX: y\r\nA: b\r\n\r\n"),
    ],
)
def test_a_field_added_to_odd_headers(message: bytes, expected: bytes):
    edits = Edits(parse(message))
    edits.add_header("X", "y")
    assert edited(message, edits) == expected
    assert parse(expected).get("x") is not None


@given(soups, st.sampled_from(["add", "set", "top"]))
@settings(max_examples=200, deadline=None)
def test_a_field_added_to_anything_is_found_and_moves_nothing(message: bytes, how: str):
    root = parse(message)
    edits = Edits(root)
    if how == "set":
        edits.set_header("X-New", "value")
    else:
        edits.add_header("X-New", "value", top=how == "top")
    (edit,) = edits.in_order()
    result = edited(message, edits)
    assert result == message[: edit.start] + edit.data + message[edit.start :]
    found = parse(result)
    assert found.get("x-new") is not None
    assert result[found.body_start :] == message[root.body_start :]


# -- text --------------------------------------------------------------------------

FOOTER = "-- \nfoot\n"


def text_message(kind: str, encoding: str, body: bytes) -> bytes:
    head = f"MIME-Version: 1.0\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return head.encode() + body


def appended(message: bytes, text: str, before: str = "") -> bytes:
    edits = Edits(parse(message))
    assert edits.append_text(parse(message), text, before)
    return edited(message, edits)


TEXTS: dict[str, tuple[bytes, str, bytes]] = {
    "ascii": (b"hello\r\n", "foot\n", text_message("text/plain", "7bit", b"hello\r\nfoot\r\n")),
    "ascii gets utf-8": (
        b"hello\r\n",
        "fööt\n",
        b"MIME-Version: 1.0\r\nContent-Type: text/plain;\r\n\tcharset=utf-8\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\nhello\r\nf=C3=B6=C3=B6t\r\n",
    ),
}


@pytest.mark.parametrize("name", TEXTS)
def test_append_to_ascii(name: str):
    body, text, expected = TEXTS[name]
    assert appended(text_message("text/plain", "7bit", body), text) == expected


@pytest.mark.parametrize(
    "charset",
    ["utf-8", "iso-8859-1", "windows-1252", "iso-8859-15", "utf-16", "utf-7", "gb2312", "iso-2022-jp"],
)
@pytest.mark.parametrize("encoding", ["8bit", "7bit", "quoted-printable", "base64", "binary"])
@pytest.mark.parametrize("text", ["foot\n", "f\u00f6\u00f6t \u20ac\n", "\u65e5\u672c\n", "x" * 2000 + "\n"])
def test_append_reads_back_in_every_charset_and_encoding(charset: str, encoding: str, text: str):
    original = "first line\r\nsecond = line\r\n"
    octets = original.encode(charset)
    if encoding == "base64":
        body = base64.encodebytes(octets).replace(b"\n", b"\r\n")
    elif encoding == "quoted-printable":
        body = (
            quopri.encodestring(octets) if charset not in ("utf-16",) else quopri.encodestring(octets, True)
        )
    else:
        body = octets
    message = text_message(f"text/plain; charset={charset}", encoding, body)
    result = appended(message, text)
    part = parse(result)
    assert part.text().replace("\r\n", "\n") == original.replace("\r\n", "\n") + text
    assert not part.defects
    if part.transfer_encoding in ("7bit", "quoted-printable", "base64"):
        assert result[part.body_start :].isascii()
        assert max(map(len, result.split(b"\r\n"))) <= 998
    other = email.message_from_bytes(result)
    payload = other.get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert payload.decode(other.get_content_charset() or "ascii").endswith(
        text.strip("\n") + payload_end(payload, part.charset)
    )


def payload_end(payload: bytes, charset: str) -> str:
    """Return the line end that a decoded payload has."""
    decoded = payload.decode(charset or "ascii")
    return "\r\n" if decoded.endswith("\r\n") else "\n" if decoded.endswith("\n") else ""


def test_base64_is_encoded_anew_from_its_last_line_only():
    lines = base64.encodebytes(b"0123456789" * 100).replace(b"\n", b"\r\n")
    message = text_message("text/plain; charset=utf-8", "base64", lines)
    result = appended(message, "foot\n")
    kept = message.rstrip().rpartition(b"\r\n")[0]
    assert result.startswith(kept + b"\r\n")
    assert parse(result).content() == b"0123456789" * 100 + b"foot\r\n"


def test_html_goes_before_the_last_end_of_the_body():
    html = b"<p>a</BODY>b</Body ></html>\r\n"
    for encoding in ("7bit", "8bit", "quoted-printable"):
        message = text_message("text/html", encoding, html)
        assert appended(message, "<i>\u20ac</i>", "</body") == message.replace(
            b"</Body",
            b"<i>&#8364;</i></Body",
        )


def test_no_reference_stands_for_what_html_reads_as_another_character():
    message = text_message("text/html", "7bit", b"<p>a</p>")
    assert appended(message, "\x91\xe9").endswith(b"<p>a</p>&#65533;&#233;")


@given(st.integers(0, 120), st.integers(0, 120))
@settings(max_examples=60, deadline=None)
def test_html_in_quoted_printable_and_base64_with_the_end_anywhere(before: int, behind: int):
    html = b"<p>\xc3\xa4=" + b"x" * before + b"</body>" + b"y" * behind + b"\n"
    expected = html.replace(b"</body", b"<b>=f\xc3\xb6</b></body")
    for encoding, body in (
        ("quoted-printable", quopri.encodestring(html)),
        ("base64", base64.encodebytes(html)),
    ):
        message = text_message("text/html; charset=utf-8", encoding, body.replace(b"\n", b"\r\n"))
        part = parse(appended(message, "<b>=f\u00f6</b>", "</body"))
        assert part.content().replace(b"\r\n", b"\n") == expected
        assert max(map(len, part.raw_body.split(b"\r\n"))) <= 80


def test_only_the_part_changes():
    part = parse(MIXED).children[0].children[0].children[0]
    edits = Edits(parse(MIXED))
    assert edits.append_text(part, "\nf\u00f6\u00f6t")
    result = edited(MIXED, edits)
    assert result.startswith(MIXED[: part.start]) and result.endswith(MIXED[part.end :])
    changed = parse(result).children[0].children[0].children[0]
    assert (changed.text(), changed.transfer_encoding, changed.charset) == (
        "text\r\nf\u00f6\u00f6t",
        "quoted-printable",
        "utf-8",
    )


def test_what_can_not_be_edited_says_so():
    for head in ("Content-Type: text/plain; charset=nosuch", "Content-Transfer-Encoding: x-foo"):
        root = parse(f"{head}\r\n\r\nx".encode())
        edits = Edits(root)
        assert not edits.append_text(root, "foot") and not len(edits)
    large = parse(b"\r\n" + b"x\r\n" * 3_000_000)
    assert not Edits(large).append_text(large, "f\u00f6\u00f6t")
    assert Edits(large).append_text(large, "foot")


def test_a_charset_that_can_not_be_kept_gets_question_marks_only_if_it_must():
    message = text_message("text/plain; charset=iso-8859-1", "8bit", b"\xfc\r\n")
    assert parse(appended(message, "\u65e5\n")).text() == "ü\r\n\u65e5\r\n"
    lying = text_message("text/plain; charset=us-ascii", "8bit", b"\xfc\r\n")
    assert appended(lying, "\u65e5\n").endswith(b"\xfc\r\n?\r\n")


def test_replace_text():
    root = parse(ALTERNATIVE)
    edits = Edits(root)
    assert edits.replace_text(root.children[0], "neu: ü\n") and edits.replace_text(
        root.children[1], "<p>\u65e5</p>"
    )
    changed = parse(edited(ALTERNATIVE, edits))
    assert changed.children[0].raw_body == b"neu: =C3=BC\r\n"
    assert changed.children[1].raw_body == b"<p>&#26085;</p>"


@given(st.sampled_from(sorted(WELL_FORMED)), st.text(max_size=40), st.integers(0, 9))
@settings(max_examples=200, deadline=None)
def test_text_into_any_part_leaves_all_other_octets(name: str, text: str, index: int):
    message = WELL_FORMED[name]
    parts = [part for part in parse(message).walk() if not part.children]
    part = parts[index % len(parts)]
    edits = Edits(parse(message))
    edits.append_text(part, text)
    for edit in edits:
        assert part.start <= edit.start <= edit.end <= part.end
    result = edited(message, edits)
    assert result.startswith(message[: part.start]) and result.endswith(message[part.end :])


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\r\n",
        b"Subject: x",
        b"Subject: x\r\n",
        b"Content-Type: text/plain",
        b"no header\r\n",
        b"A: b\r\nbody",
    ],
)
@pytest.mark.parametrize("text", ["foot\n", "f\u00f6\u00f6t\n"])
def test_text_added_where_header_or_body_is_missing(message: bytes, text: str):
    before, after = parse(message), parse(appended(message, text))
    assert after.text() == before.text() + text.replace("\n", "\r\n")
    assert {one.name for one in before.fields} <= {one.name for one in after.fields}


def test_text_added_to_an_empty_part():
    message = crlf(
        "Content-Type: multipart/mixed; boundary=b\n\n--b\n\n--b\nContent-Type: text/html\n--b--\n"
    )
    for text in ("foot", "f\u00f6\u00f6t"):
        for index in (0, 1):
            edits = Edits(parse(message))
            assert edits.append_text(parse(message).children[index], text)
            part = parse(edited(message, edits)).children[index]
            assert part.text().replace("&#246;", "\u00f6") == text and not part.defects


def test_groups_are_dropped_whole():
    part = parse(DKIM)
    edits = Edits(part)
    edits.add_header("X", "y")
    edits.append_text(part, "ü")
    groups = {edit.group for edit in edits}
    assert len(groups) == 2 and len(edits) == 3
    kept = edits.without(frozenset({max(groups)}))
    assert [edit.data for edit in kept] == [b"X: y\r\n"]


@pytest.mark.parametrize(
    "body",
    [
        b"ett8\n\0\0--//::=CCTTaaaabbbb=b\0",
        b"ett8\n\n\0\0\0\0\0\0--//::\0\0=CCTTaaaabbbbddddeeeeeeiiii6666nnnnnnoooo\0\0=\0b\0",
        b"YQ==\nYQ==\n",
        b"YWJj\nYQ",
        b"YWJj\n\n\nYWJj",
    ],
)
def test_text_added_to_odd_base64_stands_behind_all_of_it(body: bytes):
    message = b"Content-Type: text/plain; charset=latin1\nContent-Transfer-Encoding: base64\n\n" + body
    before = parse(message).content()
    assert parse(appended(message, "added")).content() == before + b"added"
    edits = Edits(parse(message))
    assert edits.replace_spans(parse(message), [(len(before), len(before), "added")])
    assert parse(edited(message, edits)).content() == before + b"added"
