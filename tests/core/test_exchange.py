"""Replies in command order, whoever gives them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Entry, Exchange


@given(st.lists(st.booleans(), max_size=30), st.data())
def test_replies_leave_in_the_order_of_their_commands(own: list[bool], data: st.DataObject) -> None:
    """Ours and the upstream's, however commands and replies interleave."""
    exchange: Exchange[int] = Exchange()
    left: list[int] = []
    waiting = list(enumerate(own))
    pending = 0  # of the upstream's
    while waiting or exchange:
        if waiting and (not pending or data.draw(st.booleans())):
            number, ours = waiting.pop(0)
            exchange.expect(Entry(number, None, b"own" if ours else None))
            pending += not ours
        elif pending:
            left.append(exchange.settle().kind)
            pending -= 1
        while (entry := exchange.ready()) is not None:
            left.append(entry.kind)
        head = exchange.head
        assert head is None or head.own is None
    assert left == list(range(len(own)))


def test_the_ends_of_the_queue() -> None:
    exchange: Exchange[str] = Exchange()
    assert exchange.head is exchange.last is exchange.ready() is None
    with pytest.raises(IndexError):
        exchange.settle()
    first, second = Entry("first", None), Entry("second", None, b"own")
    exchange.expect(first)
    exchange.expect(second)
    assert (exchange.head, exchange.last, len(exchange)) == (first, second, 2)
    assert list(exchange) == [first, second] == list(exchange.drain())
    assert len(exchange) == 0
