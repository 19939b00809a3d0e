"""Laying edits into a message: its own octets, with others spliced in, in chunks."""

from __future__ import annotations

from bisect import bisect_right
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
    swallows: it replaces a part and all that is in it, so edits of those are void.
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
    swallows: bool = False


_PLAIN = Splice(0, 0, b"")


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace ``buffer[start:end]`` with ``data``.

    group: edits of one group make sense together only, and are dropped together.
    splice: what it was made of, without its octets.
    """

    start: int
    end: int
    data: bytes
    group: int = 0
    splice: Splice = _PLAIN

    @property
    def around(self) -> bool:
        """Whether it encloses the whole message, and so breaks no signature in it."""
        return self.splice.depth < 0

    @property
    def key(self) -> tuple[int, int, bool, int, Rank]:
        """By which edits are ordered."""
        closes, depth = self.splice.rank >= Rank.BODY, self.splice.depth
        return self.start, self.end, closes, -depth if closes else depth, self.splice.rank


def in_order(edits: Iterable[Edit]) -> list[Edit]:
    """Return edits by offset, the fields that are put in at one offset as one edit.

    Edits of what is taken away by another are left out.
    Raises EditError if two edits overlap, or give one part the same field.
    """
    ordered: list[Edit] = []
    by_offset = sorted(_not_void(list(edits)), key=lambda edit: edit.key)
    for key, run in groupby(by_offset, key=lambda edit: edit.key):
        if key[0] == key[1] and key[4] is Rank.FIELD:
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
    lead = next((edit.splice.lead for edit in run if edit.splice.lead), b"")
    tail = next((edit.splice.tail for edit in run if edit.splice.tail), b"")
    if lead and not tail:
        data = data.removesuffix(lead)  # the header is cut off in mid-line, and stays so
    first = run[0]
    return Edit(first.start, first.end, lead + data + tail, first.group, first.splice)


def _not_void(edits: list[Edit]) -> list[Edit]:
    """Return the edits that are not within a part that another edit replaces."""
    regions: list[Edit] = []
    for edit in sorted((e for e in edits if e.splice.swallows), key=lambda e: (e.start, -e.end, e.group)):
        if not regions or edit.end > regions[-1].end:
            regions.append(edit)
    if not regions:
        return edits
    starts = [region.start for region in regions]
    kept: list[Edit] = []
    for edit in edits:
        index = bisect_right(starts, edit.start) - 1
        if index < 0 or edit is regions[index] or not _is_void(edit, regions[index]):
            kept.append(edit)
    return kept


def _is_void(edit: Edit, region: Edit) -> bool:
    if not (region.start <= edit.start and edit.end <= region.end):
        return False
    inside = region.start < edit.start and edit.end < region.end
    return inside or edit.splice.depth >= region.splice.depth


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
