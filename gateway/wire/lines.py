"""Cutting a stream into lines and counted runs of octets, with a bound on each."""

from __future__ import annotations

from enum import Enum


class LineTooLong(Exception):
    """A line passed its bound before its end was seen."""


class LineEnd(Enum):
    """How the line that was taken last ended."""

    CRLF = "crlf"
    BARE_LF = "bare_lf"


CRLF = LineEnd.CRLF
BARE_LF = LineEnd.BARE_LF


class LineBuffer:
    """Bytes that were heard and not yet understood.

    A line ends in CRLF; a bare LF is taken as an end too, and told by :attr:`ended`, so that
    a rule above can refuse or mend it.  The buffer itself never interprets anything.
    """

    __slots__ = ("_data", "_position", "_scanned", "ended", "left")

    def __init__(self) -> None:
        self._data = b""
        self._position = 0
        self._scanned = 0  # no LF between position and here: a slow line is scanned once
        self.left = 0  # octets not yet taken: read on the hot path, where len() would be a call
        self.ended = LineEnd.CRLF

    def __len__(self) -> int:
        return self.left

    def feed(self, data: bytes) -> None:
        """Add what was heard."""
        if not self.left:
            self._data = data
            self._position = self._scanned = 0
            self.left = len(data)
        else:
            self.left += len(data)
            held = self._data[self._position :]
            self._scanned -= self._position
            self._position = 0
            self._data = held + data

    def line(self, limit: int) -> bytes | None:
        """Take one line, with its end; None if there is no whole line yet.

        limit: octets, the end included.  Raises LineTooLong as soon as the line can't fit;
        the octets stay in the buffer (see :meth:`skip_line`).
        """
        data = self._data
        position = self._position
        end = data.find(b"\n", self._scanned) + 1
        if not end:
            self._scanned = len(data)
            if self.left >= limit:
                raise LineTooLong(self.left)
            return None
        size = end - position
        if size > limit:
            raise LineTooLong(size)
        self.left -= size
        if self.left:
            self._position = self._scanned = end
            line = data[position:end]
        else:
            # Whatever came with the line is let go: a session may now idle for hours.
            line = data[position:] if position else data
            self._data = b""
            self._position = self._scanned = 0
        self.ended = CRLF if line.endswith(b"\r\n") else BARE_LF
        return line

    def skip_line(self) -> bool:
        """Throw away octets up to the next line end; tell whether it was reached."""
        end = self._data.find(b"\n", self._position)
        if end < 0:
            self.clear()
            return False
        self._position = self._scanned = end + 1
        self.left = len(self._data) - self._position
        return True

    def take(self, count: int) -> bytes:
        """Take at most ``count`` octets."""
        end = min(self._position + count, len(self._data))
        self.left = len(self._data) - end
        if not self.left:
            data = self._data[self._position :] if self._position else self._data
            self._data = b""
            self._position = self._scanned = 0
            return data
        data = self._data[self._position : end]
        self._position = end
        self._scanned = max(self._scanned, end)
        return data

    def take_all(self) -> bytes:
        """Take everything."""
        return self.take(len(self))

    def push_back(self, data: bytes) -> None:
        """Put octets back in front of what is left."""
        self._data = data + self._data[self._position :]
        self._position = self._scanned = 0
        self.left = len(self._data)

    def peek(self, count: int) -> bytes:
        """Return at most ``count`` octets without taking them."""
        return self._data[self._position : self._position + count]

    def clear(self) -> None:
        """Forget everything."""
        self._data = b""
        self._position = self._scanned = self.left = 0
