"""Laying edits into a message: its own octets, with others spliced in, in chunks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from itertools import groupby, pairwise
from typing import NamedTuple

from .scan import Buffer

#: How much one chunk of a rendered message holds at most, in octets.
CHUNK = 256 * 1024


class EditError(ValueError):
    """Edits that can't be laid in: outside of the message, or over each other."""


class Rank(IntEnum):
    """What an insertion is, where several stand at one offset: in this order."""

    FIELD = 0  # of a header
    OPENING = 1  # of a multipart around a body
    BODY = 2
    CLOSING = 3  # of such a multipart


class Splice(NamedTuple):
    """What to replace and with what.

    depth: of the part that it belongs to: outer parts open first and close last.
    lead, tail: for fields, what must stand once before and behind all that are inserted at
    this offset: the line end that the header lacks, and its blank line.
    """

    start: int
    end: int
    data: bytes
    rank: Rank = Rank.BODY
    depth: int = 0
    lead: bytes = b""
    tail: bytes = b""


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace ``buffer[start:end]`` with ``data``.

    group: edits of one group make sense together only, and are dropped together.
    around: it encloses the whole message, and so breaks no signature in it.
    order: among the edits of one offset.  lead, tail: see :class:`Splice`.
    """

    start: int
    end: int
    data: bytes
    group: int = 0
    around: bool = False
    order: tuple[bool, int, int] = (True, 0, Rank.BODY)
    lead: bytes = b""
    tail: bytes = b""


def edit_of(splice: Splice, group: int) -> Edit:
    """Return the edit that makes a splice."""
    closes = splice.rank >= Rank.BODY
    order = (closes, -splice.depth if closes else splice.depth, int(splice.rank))
    around = splice.depth < 0
    return Edit(splice.start, splice.end, splice.data, group, around, order, splice.lead, splice.tail)


def in_order(edits: Iterable[Edit]) -> list[Edit]:
    """Return edits by offset, the fields that are put in at one offset as one edit.

    Raises EditError if two edits overlap, or give one part the same field.
    """
    ordered: list[Edit] = []
    by_offset = sorted(edits, key=lambda edit: (edit.start, edit.end, edit.order))
    for key, run in groupby(by_offset, key=lambda edit: (edit.start, edit.end, edit.order)):
        if key[0] == key[1] and key[2][2] == Rank.FIELD and not key[2][0]:
            ordered.append(_joined(list(run)))
        else:
            ordered += run
    for one, following in pairwise(ordered):
        if following.start < one.end:
            raise EditError(f"edits overlap at offset {following.start}")
    return ordered


def _joined(run: list[Edit]) -> Edit:
    data = b"".join(edit.data for edit in run)
    names = [line.partition(b":")[0].lower() for line in data.split(b"\n") if line[:1] not in (b" ", b"\t")]
    mime = [name for name in names if name.startswith((b"content-", b"mime-version"))]
    if len(mime) != len(set(mime)):
        raise EditError("two edits give one part the same field")
    lead = next((edit.lead for edit in run if edit.lead), b"")
    tail = next((edit.tail for edit in run if edit.tail), b"")
    if lead and not tail:
        data = data.removesuffix(lead)  # the header is cut off in mid-line, and stays so
    return Edit(run[0].start, run[0].end, lead + data + tail, run[0].group, run[0].around, run[0].order)


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
