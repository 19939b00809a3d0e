"""The canonical forms of RFC 6376 3.4, of a message as a server sends it: lines end in CRLF."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator

from ..fields import Field
from ..part import Part
from ..scan import Buffer, find

_ALL_BLANKS = re.compile(rb"[ \t\r\n]+")
_PIECE = 1024 * 1024


def with_crlf(data: bytes) -> bytes:
    """Return octets with every bare CR and LF made CRLF: a server's own way of sending them."""
    pairs = data.count(b"\r\n")
    if pairs == data.count(b"\n") == data.count(b"\r"):
        return data
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")


def simple_field(raw: bytes) -> bytes:
    """Return a field in simple form, without its last line end."""
    return with_crlf(raw).removesuffix(b"\r\n")


def relaxed_field(raw: bytes) -> bytes:
    """Return a field in relaxed form, without its last line end."""
    name, _, value = raw.partition(b":")
    value = _ALL_BLANKS.sub(b" ", value).strip(b" ")
    return name.strip(b" \t").lower() + b":" + value


def canonical_field(raw: bytes, relaxed: bool) -> bytes:
    """Return a field in one of the forms, without its last line end."""
    return relaxed_field(raw) if relaxed else simple_field(raw)


def _single_blanks(data: bytes) -> bytes:
    """Return octets with each run of blanks and tabs made one blank.

    Replacing is many times as fast as an expression, and halves a run each time.
    """
    data = data.replace(b"\t", b" ")
    while b"  " in data:
        data = data.replace(b"  ", b" ")
    return data


class Bodies:
    """The digests of one message's body; each is made once, however many signatures ask.

    It reads the buffer in pieces, so that a large message is not copied as a whole.
    """

    def __init__(self, root: Part) -> None:
        self._buffer: Buffer = root.buffer
        self._start, self._end = root.body_start, root.end
        self._made: dict[bool, tuple[bytes, int]] = {}

    def digest(self, relaxed: bool) -> tuple[bytes, int]:
        """Return SHA-256 of the body in one of the forms, and that form's size in octets."""
        if relaxed not in self._made:
            self._made[relaxed] = self._digest(relaxed)
        return self._made[relaxed]

    def _digest(self, relaxed: bool) -> tuple[bytes, int]:
        hashed = hashlib.sha256()
        size = 0
        empty_lines = 0  # not hashed before it is seen that something stands behind them
        something = False
        for piece in self._pieces():
            data = with_crlf(piece)
            if not data.endswith(b"\r\n"):
                data += b"\r\n"
            if relaxed:
                data = _single_blanks(data).replace(b" \r\n", b"\r\n")
            kept = data.rstrip(b"\r\n")
            ends = (len(data) - len(kept)) // 2
            if not kept:
                empty_lines += ends
                continue
            while empty_lines:
                lines = min(empty_lines, _PIECE)
                hashed.update(b"\r\n" * lines)
                size += 2 * lines
                empty_lines -= lines
            hashed.update(kept)
            size += len(kept)
            empty_lines = ends
            something = True
        if something or not relaxed:
            hashed.update(b"\r\n")
            size += 2
        return hashed.digest(), size

    def _pieces(self) -> Iterator[bytes]:
        """Give the body in pieces of whole lines."""
        place = self._start
        while place < self._end:
            stop = min(self._end, place + _PIECE)
            if stop < self._end:
                newline = find(self._buffer, b"\n", stop, self._end)
                stop = newline + 1 if newline >= 0 else self._end
            yield self._buffer[place:stop]
            place = stop


class Fields:
    """The header fields of one message, as signatures name them."""

    def __init__(self, root: Part) -> None:
        self._fields: dict[str, list[Field]] = {}
        for field in root.fields:
            self._fields.setdefault(field.name, []).append(field)

    def count(self, name: str) -> int:
        """Return how many fields of a lower-case name there are."""
        return len(self._fields.get(name, ()))

    def select(self, names: Iterable[str], skipped: Field | None = None) -> Iterator[bytes]:
        """Give the fields that are named, the last of a name first (RFC 6376 5.4.2).

        A name that is there more often than fields of it selects nothing.
        skipped: a signature, which doesn't cover itself.
        """
        left: dict[str, list[Field]] = {}
        for name in names:
            if name not in left:
                left[name] = [one for one in self._fields.get(name, ()) if one is not skipped]
            if left[name]:
                yield left[name].pop().raw
