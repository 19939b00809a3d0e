"""Laying edits into a message: its own octets, with others spliced in, in chunks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .scan import Buffer

#: How much one chunk of a rendered message holds at most, in octets.
CHUNK = 256 * 1024


class EditError(ValueError):
    """Edits that can't be laid in: outside of the message, or over each other."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace ``buffer[start:end]`` with ``data``.

    group: edits of one group make sense together only, and are dropped together.
    around: it encloses the whole message, and so breaks no signature in it.
    """

    start: int
    end: int
    data: bytes
    group: int = 0
    around: bool = False


def render(buffer: Buffer, edits: Iterable[Edit]) -> Iterator[bytes]:
    """Give the message with the edits laid in, in chunks; the edits are in order."""
    position = 0
    for edit in edits:
        yield from _slices(buffer, position, edit.start)
        if edit.data:
            yield edit.data
        position = edit.end
    yield from _slices(buffer, position, len(buffer))


def _slices(buffer: Buffer, start: int, end: int) -> Iterator[bytes]:
    for place in range(start, end, CHUNK):
        yield buffer[place : min(place + CHUNK, end)]
