"""Dot-terminated bodies: exact in any cutting, and never an end that is none."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.wire.dots import DotDecoder, DotEncoder, bare_newlines, stuff
from tests.wire.cutting import cut

ALPHABET = [b".", b"\r\n", b"\r", b"\n", b"\0", b"a", b"..", b"\r\n.", b"\r\n..", b"bc"]
CONTENT = st.lists(st.sampled_from(ALPHABET), max_size=25).map(b"".join)
SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=10)
MANY = settings(max_examples=400)


def reference(wire: bytes) -> tuple[bytes, bytes] | None:
    """Read a body the plain way: content and rest; None if there is no end."""
    virtual = b"\r\n" + wire
    end = virtual.find(b"\r\n.\r\n")
    if end < 0:
        return None
    return virtual[: end + 2].replace(b"\r\n.", b"\r\n")[2:], virtual[end + 5 :]


@MANY
@given(CONTENT, SIZES)
@example(b"", [1])
@example(b".", [1])
@example(b"\r", [1])
@example(b"\r\n.\r", [2])
def test_decoding_in_any_cutting_is_the_reference(body: bytes, sizes: list[int]) -> None:
    wire = body + b"\r\n.\r\nNEXT"
    decoder = DotDecoder()
    content, rest = b"", b""
    for piece in cut(wire, sizes):
        if decoder.finished:
            rest += piece
            continue
        content += decoder.feed(piece)
        if decoder.finished:
            rest = decoder.rest
    assert (content, rest) == reference(wire)


@MANY
@given(CONTENT, SIZES)
def test_without_an_end_nothing_is_finished(body: bytes, sizes: list[int]) -> None:
    if reference(body) is not None:
        return
    decoder = DotDecoder()
    content = b"".join(decoder.feed(piece) for piece in cut(body, sizes))
    assert not decoder.finished
    # At most what may become the end is held back.
    whole = (b"\r\n" + body).replace(b"\r\n.", b"\r\n")[2:]
    assert whole.startswith(content)
    assert len(whole) - len(content) <= 4


@MANY
@given(CONTENT, SIZES, SIZES)
def test_what_is_encoded_decodes_to_the_same(body: bytes, write: list[int], read: list[int]) -> None:
    """Exact, for any octets at all; a missing last CRLF is the one thing that is added."""
    encoder, decoder = DotEncoder(normalise=False), DotDecoder()
    wire = b"".join(encoder.feed(piece) for piece in cut(body, write)) + encoder.end()
    content = b"".join(decoder.feed(piece) for piece in cut(wire, read) if not decoder.finished)
    assert decoder.finished and decoder.rest == b""
    assert content == (body if not body or body.endswith(b"\r\n") else body + b"\r\n")
    assert wire == stuff(body)


@MANY
@given(CONTENT, SIZES)
def test_the_encoders_octets_don_t_hang_on_the_cutting(body: bytes, sizes: list[int]) -> None:
    for normalise in (True, False):
        whole, pieces = DotEncoder(normalise), DotEncoder(normalise)
        expected = whole.feed(body) + whole.end()
        got = b"".join(pieces.feed(piece) for piece in cut(body, sizes)) + pieces.end()
        assert got == expected


#: What one reader or another takes for the end of data.
LOOKALIKE = re.compile(rb"(?:\r\n|\r|\n)\0*\.\0*(?:\r\n|\r|\n)")


@MANY
@given(CONTENT, SIZES)
def test_normalised_there_is_one_end_for_every_reader(body: bytes, sizes: list[int]) -> None:
    """SMTP smuggling needs two readers that see two ends."""
    encoder = DotEncoder(normalise=True)
    wire = b"".join(encoder.feed(piece) for piece in cut(body, sizes)) + encoder.end()
    found = [match.start() for match in LOOKALIKE.finditer(b"\r\n" + wire)]
    assert found == [len(wire) - 3]
    assert bare_newlines(wire) == (False, False)


@MANY
@given(CONTENT, SIZES)
def test_normalising_changes_newlines_and_leading_nuls_only(body: bytes, sizes: list[int]) -> None:
    encoder, decoder = DotEncoder(normalise=True), DotDecoder()
    content = decoder.feed(b"".join(encoder.feed(piece) for piece in cut(body, sizes)) + encoder.end())
    expected = re.sub(rb"(?:(?<=\n)|\A)\0+", b"", re.sub(rb"\r\n|\r|\n", b"\r\n", body))
    assert content == (expected if not expected or expected.endswith(b"\r\n") else expected + b"\r\n")
    assert not (decoder.bare_cr or decoder.bare_lf or decoder.lookalike)


@pytest.mark.parametrize("size", [1, 7, 64, 100_000])
@pytest.mark.parametrize("count", [1, 254, 255, 300, 5000])
@pytest.mark.parametrize("end", [b"\r\n%b.\r\n", b"\n.%b\n", b"\r%b.\r"])
def test_no_number_of_nuls_hides_a_lookalike(end: bytes, count: int, size: int) -> None:
    """A reader that drops NULs sees an end, however many there are and however they come."""
    decoder = DotDecoder()
    for piece in cut(b"hello" + end % (b"\0" * count) + b"MAIL\r\n.\r\n", [size]):
        if not decoder.finished:
            decoder.feed(piece)
    assert decoder.finished and decoder.lookalike


def test_an_empty_body() -> None:
    decoder = DotDecoder()
    assert decoder.feed(b".\r\nQUIT\r\n") == b"" and decoder.finished and decoder.rest == b"QUIT\r\n"
    assert DotEncoder().end() == b".\r\n"


@MANY
@given(CONTENT, SIZES)
def test_faults_are_found_in_any_cutting(body: bytes, sizes: list[int]) -> None:
    """A look-alike must be seen wherever a piece ends; CR and LF are bare only without the other."""
    wire = body + b"\r\n.\r\n"
    read = reference(wire)
    assert read is not None
    raw = (b"\r\n" + wire)[: len(wire) + 2 - len(read[1]) - 3]
    decoder = DotDecoder()
    for piece in cut(wire, sizes):
        if not decoder.finished:
            decoder.feed(piece)
    assert decoder.bare_cr == bool(re.search(rb"\r(?!\n)", raw))
    assert decoder.bare_lf == bool(re.search(rb"(?<!\r)\n", raw))
    assert decoder.nul == (b"\0" in raw)
    if re.search(rb"[\r\n]\0*\.\0*[\r\n]", raw):
        assert decoder.lookalike


@MANY
@given(CONTENT)
def test_bare_newlines_is_what_the_expressions_say(data: bytes) -> None:
    if data.endswith(b"\r"):
        data += b"\n"
    expected = bool(re.search(rb"\r(?!\n)", data)), bool(re.search(rb"(?<!\r)\n", data))
    assert bare_newlines(data) == expected


@given(st.integers(1, 80), st.integers(1, 50), st.integers(0, 5000), st.sampled_from([b"\r", b"\n", b"x"]))
def test_bare_newlines_among_even_lines(width: int, count: int, place: int, octet: bytes) -> None:
    """Lines of one length, as base64 has them, are looked at in another way: it may miss nothing."""
    data = bytearray((b"A" * width + b"\r\n") * count)
    data[place % len(data)] = octet[0]
    text = bytes(data) + (b"\n" if data.endswith(b"\r") else b"")
    expected = bool(re.search(rb"\r(?!\n)", text)), bool(re.search(rb"(?<!\r)\n", text))
    assert bare_newlines(text) == expected


@pytest.mark.parametrize("dots", [63, 64, 65, 200])
def test_many_dots_before_the_end(dots: int) -> None:
    """Few dots are looked at one by one, many by an expression: both find the end and the stuffing."""
    text = b"a.b " * dots + b"\r\n..stuffed\r\n"
    decoder = DotDecoder()
    assert decoder.feed(text + b".\r\nrest") == text.replace(b"..", b".")
    assert decoder.finished and decoder.rest == b"rest"


@pytest.mark.parametrize(
    "end",
    [
        b"\n.\n",
        b"\r.\r",
        b"\r\n.\n",
        b"\n.\r\n",
        b"\r\n.\r",
        b"\r.\r\n",
        b"\r\n\0.\r\n",
        b"\n.\0\r\n",
        b"\r\0.\n",
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_end_of_data_lookalikes(end: bytes, size: int) -> None:
    """None of them ends a body, and each is named."""
    wire = b"hello" + end + b"MAIL FROM:<evil>\r\n.\r\n"
    decoder = DotDecoder()
    content = b"".join(decoder.feed(piece) for piece in cut(wire, [size]) if not decoder.finished)
    assert decoder.finished and b"MAIL FROM:<evil>\r\n" in content
    assert decoder.lookalike


def test_unwatched_newlines_are_not_looked_for() -> None:
    decoder = DotDecoder(watch_newlines=False)
    decoder.feed(b"a\n.\nb\r\n.\r\n")
    assert decoder.finished and not (decoder.bare_lf or decoder.lookalike)


def test_a_piece_without_dots_is_passed_without_a_copy() -> None:
    decoder = DotDecoder(watch_newlines=False)
    decoder.feed(b"first")
    piece = b"x" * 100_000
    assert decoder.feed(piece) is piece
