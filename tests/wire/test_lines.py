"""Lines out of a stream, whatever the cutting."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire.lines import LineBuffer, LineEnd, LineTooLong
from tests.wire.cutting import cut

STREAMS = st.lists(st.sampled_from([b"a", b"bc", b"\r", b"\n", b"\r\n", b"\0", b" "]), max_size=40).map(
    b"".join
)


def reference(data: bytes) -> tuple[list[tuple[bytes, LineEnd]], bytes]:
    """Cut at each LF, the plain way."""
    pieces = data.split(b"\n")
    lines = [piece + b"\n" for piece in pieces[:-1]]
    return [(one, LineEnd.CRLF if one[-2:] == b"\r\n" else LineEnd.BARE_LF) for one in lines], pieces[-1]


@given(STREAMS, st.lists(st.integers(1, 9), min_size=1))
def test_any_cutting_gives_the_same_lines(data: bytes, sizes: list[int]) -> None:
    buffer, found = LineBuffer(), []
    for piece in cut(data, sizes):
        buffer.feed(piece)
        while (line := buffer.line(1000)) is not None:
            found.append((line, buffer.ended))
    lines, rest = reference(data)
    assert found == lines
    assert len(buffer) == buffer.left == len(rest)
    assert buffer.take_all() == rest


class Model:
    """The same buffer as one run of octets: what each method takes is its head."""

    def __init__(self) -> None:
        self.data = b""

    def take(self, count: int) -> bytes:
        taken, self.data = self.data[:count], self.data[count:]
        return taken


@settings(max_examples=200)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("feed"), STREAMS),
            st.tuples(st.just("line"), st.integers(1, 12)),
            st.tuples(st.just("take"), st.integers(0, 12)),
            st.tuples(st.just("peek"), st.integers(0, 12)),
            st.tuples(st.just("push"), st.binary(max_size=5)),
            st.tuples(st.just("skip"), st.none()),
            st.tuples(st.just("clear"), st.none()),
        ),
        max_size=30,
    )
)
def test_every_mixture_of_methods_keeps_the_octets_in_order(calls: list) -> None:
    buffer, model = LineBuffer(), Model()
    for name, value in calls:
        end = model.data.find(b"\n") + 1
        match name:
            case "feed":
                buffer.feed(value)
                model.data += value
            case "line" if end > value or (not end and len(model.data) >= value):
                with pytest.raises(LineTooLong):
                    buffer.line(value)
            case "line":
                assert buffer.line(value) == (model.take(end) if end else None)
            case "take":
                assert buffer.take(value) == model.take(value)
            case "peek":
                assert buffer.peek(value) == model.data[:value]
            case "push":
                buffer.push_back(value)
                model.data = value + model.data
            case "skip":
                assert buffer.skip_line() is bool(end)
                model.take(end or len(model.data))
            case _:
                buffer.clear()
                model.data = b""
        assert buffer.left == len(buffer) == len(model.data)
    assert buffer.take_all() == model.data


def test_the_bound_counts_the_end() -> None:
    buffer = LineBuffer()
    buffer.feed(b"abcd\r\n")
    assert buffer.line(6) == b"abcd\r\n"
    buffer.feed(b"abcde\r\n")
    with pytest.raises(LineTooLong):
        buffer.line(6)


def test_a_line_without_end_is_refused_at_its_bound() -> None:
    buffer = LineBuffer()
    buffer.feed(b"abcde")
    assert buffer.line(6) is None
    buffer.feed(b"f")
    with pytest.raises(LineTooLong):
        buffer.line(6)
    assert buffer.peek(10) == b"abcdef", "the octets stay"


def test_a_line_too_long_can_be_skipped() -> None:
    buffer = LineBuffer()
    buffer.feed(b"x" * 100)
    with pytest.raises(LineTooLong):
        buffer.line(10)
    assert not buffer.skip_line()
    buffer.feed(b"xx\r\nnext\r\n")
    assert buffer.skip_line()
    assert buffer.line(10) == b"next\r\n"


def test_what_was_heard_at_once_is_taken_without_a_copy() -> None:
    buffer, data = LineBuffer(), b"x" * 100_000
    buffer.feed(data)
    assert buffer.take_all() is data
