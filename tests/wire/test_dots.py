"""Dot-terminated bodies: any cutting equals the reference, and nothing looks like an end that is none."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire.dots import DotDecoder, DotEncoder, bare_newlines

PIECES = st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"a", b"\r\n.", b"\0", b"..", b"\r\n.\r\n"])
RAW = st.lists(PIECES, max_size=14).map(b"".join)
CUTS = st.lists(st.integers(1, 5), max_size=8)
MANY = settings(max_examples=500, deadline=None)


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    pieces, position = [], 0
    for size in cuts:
        pieces.append(data[position : position + size])
        position += size
    return [*pieces, data[position:]]


def reference(raw: bytes) -> tuple[bytes, bytes] | None:
    """Decode a whole body the plain way (RFC 5321 4.5.2): content and what is behind the end."""
    virtual = b"\r\n" + raw
    end = virtual.find(b"\r\n.\r\n")
    if end < 0:
        return None
    return virtual[: end + 2].replace(b"\r\n.", b"\r\n")[2:], virtual[end + 5 :]


@MANY
@given(RAW, CUTS)
def test_any_cutting_decodes_as_the_reference(raw, cuts):
    decoder, content, rest = DotDecoder(), b"", b""
    for piece in cut(raw, cuts):
        if decoder.finished:
            rest += piece
        else:
            content += decoder.feed(piece)
    expected = reference(raw)
    assert decoder.finished == (expected is not None)
    if expected is not None:
        assert (content, decoder.rest + rest) == expected


@MANY
@given(RAW, CUTS, st.booleans())
def test_what_is_encoded_decodes_to_the_same(content, cuts, normalise):
    encoder = DotEncoder(normalise)
    wire = b"".join(encoder.feed(piece) for piece in cut(content, cuts)) + encoder.end()
    decoder = DotDecoder()
    decoded = decoder.feed(wire)
    assert decoder.finished and decoder.rest == b""
    if normalise:
        assert not (decoder.bare_cr or decoder.bare_lf or decoder.lookalike)
        content = re.sub(rb"(?:(?<=\n)|\A)\0+", b"", re.sub(rb"\r\n|\r|\n", b"\r\n", content))
    if content and not content.endswith(b"\r\n"):
        content += b"\r\n"
    assert decoded == content


@MANY
@given(RAW)
def test_nothing_normalised_can_be_taken_for_an_end(content):
    """However lenient the reader: CR, LF or NUL around a lone dot stand only at the true end."""
    encoder = DotEncoder(normalise=True)
    wire = encoder.feed(content) + encoder.end()
    looks = re.compile(rb"(?:^|[\r\n])\0*\.\0*[\r\n]")
    found = [match.end() for match in looks.finditer(wire)]
    assert len(found) == 1 and found[0] >= len(wire) - 1


@MANY
@given(st.lists(st.sampled_from([b"\r\n", b"\n", b"\r", b"ab", b"c"]), max_size=12).map(b"".join))
def test_bare_newlines_are_found(data):
    data = data.removesuffix(b"\r")
    assert bare_newlines(data) == (
        re.search(rb"\r(?!\n)", data) is not None,
        re.search(rb"(?<!\r)\n", data) is not None,
    )


def test_even_lines_are_no_cover_for_a_bare_newline():
    """The short way for base64 looks where line ends must be: nothing may hide beside them."""
    even = b"x" * 76 + b"\r\n"
    assert bare_newlines(even * 100) == (False, False)
    for place in (0, 5, 76, 77, 78 * 50 + 3, 78 * 99 + 75):
        for octet in (b"\r", b"\n"):
            data = bytearray(even * 100)
            data[place : place + 1] = octet
            plain = bytes(data)
            expected = (
                re.search(rb"\r(?!\n)", plain) is not None,
                re.search(rb"(?<!\r)\n", plain) is not None,
            )
            assert bare_newlines(plain) == expected, (place, octet)


def test_an_empty_body():
    decoder = DotDecoder()
    assert decoder.feed(b".\r\nQUIT\r\n") == b"" and decoder.finished and decoder.rest == b"QUIT\r\n"
    assert DotEncoder().end() == b".\r\n"
