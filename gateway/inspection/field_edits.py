"""Splices of a part's header: fields put in place of others, added and taken away."""

from __future__ import annotations

from .part import Part
from .rendering import Rank, Splice
from .scan import find


def eol_of(part: Part) -> bytes:
    """Return the line end that the message uses: of its first line, CRLF if it has none."""
    newline = find(part.buffer, b"\n", part.start, part.end)
    lone = newline >= 0 and part.buffer[max(0, newline - 1) : newline] != b"\r"
    return b"\n" if lone else b"\r\n"


def root_of(part: Part) -> Part:
    """Return the message that a part is in."""
    while part.parent is not None:
        part = part.parent
    return part


def begins_line(part: Part, place: int) -> bool:
    """Tell whether an offset stands at the beginning of a line."""
    return place <= 0 or part.buffer[place - 1 : place] == b"\n"


def replace_field(part: Part, start: int, end: int, data: bytes, eol: bytes) -> Splice:
    """Put a whole field, line end included, in place of one; a line end that is missing stays so."""
    if data and part.buffer[end - 1 : end] != b"\n":
        data = data[: -len(eol)]
    return Splice(start, end, data, Rank.FIELD, part.depth)


def change_fields(
    part: Part, fields: dict[str, bytes], eol: bytes, *, dropped: tuple[str, ...] = (), body: bool = False
) -> list[Splice]:
    """Return the splices that give a part these fields, and drop others of it.

    fields: by lower-case name, each whole and without the last line end.  A field takes the
    place of the first of its name, and further ones of the name go, since another program
    may read those.  dropped: names.
    body: something will stand behind the header, so it must have an end.
    """
    splices: list[Splice] = []
    wanted = dict(fields)
    for field in part.fields:
        if field.name in wanted:
            data = wanted.pop(field.name) + eol
            splices.append(replace_field(part, field.start, field.end, data, eol))
        elif field.name in fields or field.name in dropped:
            splices.append(Splice(field.start, field.end, b"", Rank.FIELD, part.depth))
    added = b"".join(data + eol for data in wanted.values())
    lead = tail = b""
    if part.header_end == part.body_start and (added or body):
        # There is no blank line between the header and what is to come.
        tail = eol
        if part.header_end == part.start and _joins_header(part):
            cut = part.buffer[part.start - 1 : part.start] != b"\n"
            lead = eol + eol if cut else eol
        elif not begins_line(part, _end_without(part, splices)):
            lead = eol
    if added or tail:
        place = part.header_end
        splices.append(Splice(place, place, added, Rank.FIELD, part.depth, lead, tail))
    return splices


def _joins_header(part: Part) -> bool:
    """Tell whether fields at the beginning of an enclosed message would belong to what encloses it."""
    parent = part.parent
    return parent is not None and parent.is_message and parent.header_end == parent.body_start


def _end_without(part: Part, splices: list[Splice]) -> int:
    """Return where the header ends once the last fields are taken away."""
    place = part.header_end
    for one in reversed(splices):
        if one.end != place or one.data:
            break
        place = one.start
    return place


def closing_line(part: Part, eol: bytes) -> list[Splice]:
    """Return the line end that a part of no octets lacks before the delimiter behind it."""
    parent = part.parent
    if parent is None or not parent.is_multipart or part.start != part.end:
        return []
    delimiter = b"--" + parent.boundary
    if part.buffer[part.end : part.end + len(delimiter)] != delimiter:
        return []
    return [Splice(part.end, part.end, eol, Rank.CLOSING, part.depth - 1)]
