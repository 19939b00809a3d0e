"""Files that stand encoded in a text: found in any text, decoded leniently, in linear time."""

from __future__ import annotations

import base64
import binascii
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.inspection.edits import Edits
from gateway.inspection.embedded import EmbeddedKind, find_embedded
from gateway.inspection.parts import parse

from .test_edits import text_message
from .test_structure_edits import outside_is_kept


def uuencoded(content: bytes, name: str = "a.exe", eol: str = "\r\n") -> bytes:
    lines = [f"begin 644 {name}"]
    lines += [
        binascii.b2a_uu(content[at : at + 45], backtick=True).decode().rstrip("\n")
        for at in range(0, len(content), 45)
    ]
    return eol.join([*lines, "`", "end", ""]).encode()


def yencoded(content: bytes, name: str = "a.exe", eol: bytes = b"\r\n") -> bytes:
    body = bytearray()
    for octet in content:
        coded = (octet + 42) & 255
        if coded in b"\0\r\n=":
            body += b"=" + bytes(((coded + 64) & 255,))
        else:
            body.append(coded)
    lines = [bytes(body)[at : at + 128] for at in range(0, len(body), 128)]
    for index, line in enumerate(lines[:-1]):
        if line.endswith(b"=") and not line.endswith(b"=="):
            lines[index], lines[index + 1] = line[:-1], b"=" + lines[index + 1]
    head = f"=ybegin line=128 size={len(content)} name={name}".encode()
    return eol.join([head, *lines, f"=yend size={len(content)}".encode(), b""])


contents = st.binary(min_size=1, max_size=300)


@given(contents, st.sampled_from(["\r\n", "\n"]), st.sampled_from(["", "text before\r\n", "ü\n"]))
@settings(max_examples=200, deadline=None)
def test_a_uuencoded_file_is_found(content: bytes, eol: str, before: str):
    text = before.encode() + uuencoded(content, "böse.exe", eol) + b"text behind\r\n"
    (found,) = find_embedded(text, "utf-8")
    assert (found.kind, found.name, found.content()) == (EmbeddedKind.UUENCODE, "böse.exe", content)
    assert text.decode()[: found.start] == before and text.decode()[found.end :] == "text behind\r\n"


@given(contents, st.sampled_from([b"\r\n", b"\n"]))
@settings(max_examples=200, deadline=None)
def test_a_yencoded_file_is_found(content: bytes, eol: bytes):
    text = b"before\r\n" + yencoded(content, "my file.bin", eol) + b"behind\r\n"
    (found,) = find_embedded(text, "iso-8859-1")
    assert (found.kind, found.name, found.content()) == (EmbeddedKind.YENC, "my file.bin", content)
    shown = text.decode("cp1252", "replace")
    assert shown[: found.start] == "before\r\n" and shown[found.end :] == "behind\r\n"


@pytest.mark.parametrize("encoding", ["7bit", "quoted-printable", "base64"])
@pytest.mark.parametrize("charset", ["us-ascii", "utf-16le"])
def test_in_any_transfer_encoding_and_can_be_taken_out(encoding: str, charset: str):
    if charset == "utf-16le" and encoding != "base64":
        return
    text = b"before\r\n" + uuencoded(b"MZ" * 200) + b"behind\r\n"
    octets = text.decode().encode(charset)
    body = {
        "7bit": octets,
        "quoted-printable": octets.replace(b"=", b"=3D"),
        "base64": base64.encodebytes(octets),
    }[encoding]
    message = text_message(f"text/plain; charset={charset}", encoding, body)
    root = parse(message)
    (found,) = root.embedded()
    assert found.content() == b"MZ" * 200
    edits = Edits(root)
    assert edits.replace_spans(root, [(found.start, found.end, "[taken away]\r\n")])
    assert parse(outside_is_kept(message, edits)).text() == "before\r\n[taken away]\r\nbehind\r\n"


@pytest.mark.parametrize(
    ("text", "name", "content"),
    [
        (b"begin 644 x\r\n#86)C\r\n", "x", b"abc"),  # no end
        (b"begin  0644  x\n#86)C\n\n#86)C\nend", "x", b"abcabc"),  # blanks, a blank line
        (b"begin 644 x\n#86)C!\nend\n", "x", b"abc"),  # with a check character
        (b"begin-base64 644 x\nYWJj\n====\n", "x", b"abc"),
        (b"=ybegin line=128 size=3 name=x\r\n\x8b\x8c\x8d", "x", b"abc"),
        (
            b"=ybegin part=1 line=128 size=3 name=x\n=ypart begin=1 end=3\n\x8b\x8c\x8d\r\n=yend size=3\r\n",
            "x",
            b"abc",
        ),
    ],
)
def test_what_other_programs_take_too(text: bytes, name: str, content: bytes):
    (found,) = find_embedded(text, "us-ascii")
    assert (found.name, found.content()) == (name, content)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"begin",
        b"begin 644 x",
        b"begin the day\nwell\n",
        b"say begin 644 x\n#86)C\n",
        b"begin 644 x\nno such line\n",
    ],
)
def test_what_is_none(text: bytes):
    assert find_embedded(text, "us-ascii") == []


@pytest.mark.parametrize("encoding", ["x-uuencode", "X-UUE", "uuencode"])
def test_a_transfer_encoding_of_old(encoding: str):
    part = parse(text_message("application/pdf", encoding, uuencoded(b"%PDF" * 30)))
    assert part.content() == b"%PDF" * 30
    edits = Edits(part)
    assert edits.replace_content(part, b"%PNG")
    after = parse(outside_is_kept(bytes(part.buffer[:]), edits))
    assert (after.content(), after.transfer_encoding) == (b"%PNG", "base64")


def test_many_and_nested_ones():
    text = (uuencoded(b"one", "1") + b"text\r\n" + yencoded(b"two", "2")) * 50
    found = find_embedded(text, "us-ascii")
    assert [one.name for one in found] == ["1", "2"] * 50
    assert [one.content() for one in found] == [b"one", b"two"] * 50
    assert all(one.end <= two.start for one, two in pairwise(found))


def test_more_than_the_limit_are_not_read():
    assert len(find_embedded(b"begin 644 x\n#86)C\nend\n" * 11_000, "us-ascii")) == 10_000
    assert find_embedded(b"begin 644 x\n" * 100_000, "us-ascii") == []


@given(
    st.lists(
        st.sampled_from(
            [
                b"begin 644 x",
                b"\n",
                b"\r\n",
                b"#86)C",
                b"`",
                b"end",
                b"=ybegin ",
                b" name=y",
                b"=yend",
                b"=",
                b"\xff",
                b"begin-base64 644 z",
                b"====",
            ]
        ),
        max_size=30,
    ).map(b"".join),
    st.sampled_from(["us-ascii", "utf-8", "utf-16", "shift_jis", "nosuch"]),
)
@settings(max_examples=500, deadline=None)
def test_anything_is_read_and_the_places_are_in_order(text: bytes, charset: str):
    root = parse(b"Content-Type: text/plain; charset=" + charset.encode() + b"\r\n\r\n" + text)
    last = 0
    for found in root.embedded():
        assert last <= found.start < found.end <= len(root.text())
        last = found.end
        found.content()


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Type: application/ms-tnef\r\n\r\n",
        b"Content-Type: application/octet-stream; name=WINMAIL.DAT\r\n\r\n",
        b"\r\n\x78\x9f\x3e\x22",
        b"Content-Transfer-Encoding: base64\r\n\r\neJ8+\r\nIgEB",
    ],
)
def test_tnef_is_known(head: bytes):
    assert parse(head).is_tnef and not parse(b"\r\nx" + head).is_tnef
