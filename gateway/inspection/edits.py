"""Edits of a message as splices of its buffer: what none of them covers stays the same octets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from .header_text import format_field
from .parts import Part
from .scan import Buffer, find
from .text_edits import TextChange, insert_text, replace_text

#: How much one chunk of a rendered message holds at most, in octets.
CHUNK = 256 * 1024

#: Fields that hosts put on top of what was there; a new field goes behind them (RFC 5322 3.6.7).
TRACE = frozenset({"received", "return-path", "delivered-to", "x-original-to"})


class EditError(ValueError):
    """Edits that can't be laid in: outside of the message, or over each other."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace ``buffer[start:end]`` with ``data``.

    group: edits of one group make sense together only, and are dropped together.
    """

    start: int
    end: int
    data: bytes
    group: int = 0


class Edits:
    """The edits of one message, laid in at once when the plugin has answered ``Modify``.

    All offsets are of the message as it came, whatever was edited before.
    """

    def __init__(self, root: Part) -> None:
        self._root = root
        self._edits: list[Edit] = []
        self._group = 0

    def __iter__(self) -> Iterator[Edit]:
        return iter(self._edits)

    def __len__(self) -> int:
        return len(self._edits)

    # -- octets ------------------------------------------------------------

    def splice(self, start: int, end: int, data: bytes) -> None:
        """Replace the octets from ``start`` to ``end`` with others; an insertion if they are one.

        Raises EditError outside of the message.
        """
        self._group += 1
        self._add(start, end, data)

    def _add(self, start: int, end: int, data: bytes) -> None:
        if not 0 <= start <= end <= len(self._root.buffer):
            raise EditError(f"edit at {start}-{end} of a message of {len(self._root.buffer)} octets")
        self._edits.append(Edit(start, end, data, self._group))

    def put(self, edit: Edit) -> None:
        """Add an edit that was made elsewhere, with its group.  Raises EditError as :meth:`splice`."""
        self._group = max(self._group, edit.group)
        own, self._group = self._group, edit.group
        try:
            self._add(edit.start, edit.end, edit.data)
        finally:
            self._group = own

    # -- header ------------------------------------------------------------

    def add_header(self, name: str, value: str, top: bool = False) -> None:
        """Add a header field, behind the leading trace fields, or with ``top`` before all.

        The value is unstructured text: controls become blanks, what is not ASCII becomes
        encoded words.  Raises ValueError for a name that is none.
        """
        self._group += 1
        self._insert_field(self._place(top), format_field(name, value, eol_of(self._root)))

    def set_header(self, name: str, value: str) -> None:
        """Put the field in place of the first of that name, and remove the others; else add it."""
        found = self._root.get_all(name)
        if not found:
            self.add_header(name, value)
            return
        self._group += 1
        data = format_field(name, value, eol_of(self._root))
        for field in found:
            self._replace_field(self._root, field.start, field.end, data)
            data = b""

    def remove_header(self, name: str) -> int:
        """Remove every field of that name; return how many there are."""
        found = self._root.get_all(name)
        self._group += 1
        for field in found:
            self._add(field.start, field.end, b"")
        return len(found)

    def _place(self, top: bool) -> int:
        root = self._root
        if top or not root.fields:
            return root.fields[0].start if root.fields else root.header_end
        place = root.fields[0].start
        for field in root.fields:
            if field.name not in TRACE:
                break
            place = field.end
        return place

    def _insert_field(self, place: int, data: bytes) -> None:
        root, eol = self._root, eol_of(self._root)
        if not root.fields and root.header_end == root.body_start:
            data += eol  # there is no blank line that would end the header
        elif not _begins_line(root, place):
            data = eol + data[: -len(eol)]  # the header is cut off in mid-line, and stays so
        self._add(place, place, data)

    def _replace_field(self, part: Part, start: int, end: int, data: bytes) -> None:
        if data and part.buffer[end - 1 : end] != b"\n":
            data = data[: -len(eol_of(self._root))]
        self._add(start, end, data)

    # -- text --------------------------------------------------------------

    def append_text(self, part: Part, text: str, before: str = "") -> bool:
        """Add text to the end of a text part, or with ``before`` in front of its last occurrence.

        The part's own charset and transfer encoding are kept where they can express the text,
        and only as much of the body as must be is encoded anew.  In HTML, characters that the
        charset lacks become character references.  A plain part in US-ASCII becomes UTF-8, one
        in another charset is re-encoded to UTF-8 as a whole if it can be decoded without loss,
        and otherwise gets "?" for them.  A 7bit part that gets 8-bit text or a line that is
        too long becomes quoted-printable.

        before: ASCII, any case, "</body" for instance; where it does not occur, the end.
        Returns whether the part can be edited: False for an unknown charset or transfer
        encoding, and for a body of more than 8 MiB that would have to be encoded anew.
        """
        return self._change(part, insert_text(part, text, before.encode("ascii"), eol_of(self._root)))

    def replace_text(self, part: Part, text: str) -> bool:
        """Put text in place of a text part's body, in its own charset and transfer encoding.

        Becomes UTF-8 and quoted-printable where they can't express it.  Returns whether the
        part can be edited, as :meth:`append_text`.
        """
        return self._change(part, replace_text(part, text, eol_of(self._root)))

    def _change(self, part: Part, change: TextChange | None) -> bool:
        if change is None:
            return False
        self._group += 1
        eol = eol_of(self._root)
        added = b""
        for name, field in change.fields.items():
            found = part.get(name)
            if found is not None:
                self._replace_field(part, found.start, found.end, field + eol)
            else:
                added += field + eol
        if change.fields and part is self._root and part.get("mime-version") is None:
            added += b"MIME-Version: 1.0" + eol
        if part.header_end == part.body_start and (added or part.body_start == part.end):
            # There is no blank line between the header and what is to come.
            added += eol
            if not _begins_line(part, part.header_end):
                added = eol + added
        if added:
            self._add(part.header_end, part.header_end, added)
        self._add(change.start, change.end, change.data)
        return True

    # -- laying in ---------------------------------------------------------

    def without(self, groups: frozenset[int]) -> Edits:
        """Return the edits that are of none of the groups."""
        kept = Edits(self._root)
        kept._edits = [edit for edit in self._edits if edit.group not in groups]
        kept._group = self._group
        return kept

    def in_order(self) -> list[Edit]:
        """Return the edits by offset.  Raises EditError if two of them overlap."""
        ordered = sorted(self._edits, key=lambda edit: (edit.start, edit.end))
        for one, following in pairwise(ordered):
            if following.start < one.end:
                raise EditError(f"edits overlap at offset {following.start}")
        return ordered

    def new_size(self) -> int:
        """Return the size of the message with the edits laid in, in octets."""
        return len(self._root.buffer) + sum(len(e.data) - (e.end - e.start) for e in self._edits)

    def apply(self) -> bytes:
        """Return the message with the edits laid in, as a plugin's own tests want it.

        Raises EditError if two of them overlap.
        """
        return b"".join(render(self._root.buffer, self.in_order()))


def _begins_line(part: Part, place: int) -> bool:
    return place <= part.start or part.buffer[place - 1 : place] == b"\n"


def eol_of(part: Part) -> bytes:
    """Return the line end that the message uses: of its first line, CRLF if it has none."""
    newline = find(part.buffer, b"\n", part.start, part.end)
    lone = newline >= 0 and part.buffer[max(0, newline - 1) : newline] != b"\r"
    return b"\n" if lone else b"\r\n"


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
