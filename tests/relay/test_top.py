"""The header and some lines of a message, in any pieces (RFC 1939 7, TOP)."""

from __future__ import annotations

import pytest

from gateway.relay.body import top

MESSAGE = b"A: b\r\nC: d\r\n\r\none\r\n\r\nthree\r\nfour"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        (0, b"A: b\r\nC: d\r\n\r\n"),
        (1, b"A: b\r\nC: d\r\n\r\none\r\n"),
        (2, b"A: b\r\nC: d\r\n\r\none\r\n\r\n"),
        (3, b"A: b\r\nC: d\r\n\r\none\r\n\r\nthree\r\n"),
        (4, MESSAGE),
        (999, MESSAGE),
    ],
)
def test_any_pieces(size: int, lines: int, wanted: bytes) -> None:
    pieces = [MESSAGE[place : place + size] for place in range(0, len(MESSAGE), size)]
    assert b"".join(top(pieces, lines)) == wanted


@pytest.mark.parametrize("message", [b"", b"no blank line", b"\r\nbody only\r\nmore\r\n", b"\nlf\nmore\n"])
def test_odd_messages(message: bytes) -> None:
    got = b"".join(top([message] if message else [], 1))
    assert message.startswith(got)
    assert b"more" not in got
