"""Edits of a message as splices of its buffer: what none of them covers stays the same octets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from . import enclosing_edits, structure_edits
from .field_edits import begins_line, change_fields, closing_line, eol_of, replace_field
from .header_text import format_field
from .part import Part
from .rendering import Edit, EditError, Rank, Splice, in_order, render
from .scan import find
from .span_edits import replace_spans
from .text_edits import TextChange, insert_text, replace_text

__all__ = ["Edit", "EditError", "Edits", "render"]

#: Fields that hosts put on top of what was there; a new field goes behind them (RFC 5322 3.6.7).
TRACE = frozenset({"received", "return-path", "delivered-to", "x-original-to"})


class Edits:
    """The edits of one message, laid in at once when the plugin has answered ``Modify``.

    All offsets are of the message as it came, whatever was edited before.  Edits of a part that
    another edit takes away, whichever came first, are left out.
    """

    def __init__(self, root: Part) -> None:
        self._root = root
        self._edits: list[Edit] = []
        self._group = 0
        self._removed: dict[tuple[int, int, int], set[int]] = {}
        self._made: set[tuple[int, int, int]] = set()

    def __iter__(self) -> Iterator[Edit]:
        return iter(self._edits)

    def __len__(self) -> int:
        return len(self._edits)

    # -- octets ------------------------------------------------------------

    def splice(self, start: int, end: int, data: bytes) -> None:
        """Replace the octets from ``start`` to ``end`` with others; an insertion if they are one.

        Raises EditError outside of the message, and for what are no octets.
        """
        if not isinstance(data, bytes):
            raise EditError(f"splice wants bytes, not {type(data).__name__}")
        self._group += 1
        self._add(Splice(start, end, data))

    def _add(self, splice: Splice) -> None:
        self._check_place(splice.start, splice.end)
        place = splice._replace(data=b"")
        self._edits.append(Edit(splice.start, splice.end, splice.data, self._group, place))

    def _check_place(self, start: int, end: int) -> None:
        size = len(self._root.buffer)
        if not 0 <= start <= end <= size:
            raise EditError(f"edit at {start}-{end} of a message of {size} octets")

    def put(self, edit: Edit) -> None:
        """Add an edit that was made elsewhere, with its group.  Raises EditError as :meth:`splice`."""
        self._check_place(edit.start, edit.end)
        self._edits.append(edit)
        self._group = max(self._group, edit.group)

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
            self._add(replace_field(self._root, field.start, field.end, data, eol_of(self._root)))
            data = b""

    def remove_header(self, name: str) -> int:
        """Remove every field of that name; return how many there are."""
        found = self._root.get_all(name)
        self._group += 1
        for field in found:
            self._add(Splice(field.start, field.end, b"", Rank.FIELD))
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
        lead = tail = b""
        if not root.fields and root.header_end == root.body_start:
            tail = eol  # there is no blank line that would end the header
        elif not begins_line(root, place):
            lead = eol
        self._add(Splice(place, place, data, Rank.FIELD, 0, lead, tail))

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

    def replace_spans(self, part: Part, spans: Sequence[tuple[int, int, str]]) -> bool:
        """Replace pieces of a text part's decoded text: (start, end, new text), in any order.

        The offsets are into ``part.text()``; an insertion if start and end are one.  The part's
        charset and transfer encoding are kept as by :meth:`append_text`, and only the octets
        or the encoded lines that the pieces stand in are written anew (in base64 the lines from
        the first of them on).  Returns whether the part can be edited, as
        :meth:`append_text`.  Raises EditError for spans outside of the text or over each other.
        """
        self._check(part)
        try:
            changes = replace_spans(part, spans, eol_of(self._root))
        except ValueError as error:
            raise EditError(str(error)) from None
        if changes is None:
            return False
        return self._change(part, *changes) if changes else True

    def _change(self, part: Part, *changes: TextChange | None) -> bool:
        self._check(part)
        fields: dict[str, bytes] = {}
        splices: list[Splice] = []
        for change in changes:
            if change is None:
                return False
            fields.update(change.fields)
            splices.append(Splice(change.start, change.end, change.data, depth=part.depth))
        if fields and part is self._root and part.get("mime-version") is None:
            fields["mime-version"] = b"MIME-Version: 1.0"
        # The first line of the body may become what looks like a field.
        newline = find(part.buffer, b"\n", part.body_start, part.end)
        first = newline if newline >= 0 else part.end
        body = part.body_start == part.end or any(one.start <= first for one in splices)
        header = change_fields(part, fields, eol_of(self._root), body=body)
        return self._lay(header + splices + closing_line(part, eol_of(self._root)))

    # -- parts -------------------------------------------------------------

    def replace_content(
        self, part: Part, content: bytes, content_type: str | None = None, filename: str | None = None
    ) -> bool:
        """Put other content in place of a part's body.

        Its transfer encoding is kept if it can hold the content, else it becomes base64.
        content_type: "type/subtype", with parameters if there are any; None leaves it.
        filename: None leaves it, "" takes it away.
        Returns False for a part that holds others, and for a header too long to be read.
        """
        self._check(part)
        return self._lay(structure_edits.replace_content(part, content, content_type, filename))

    def remove_part(self, part: Part) -> bool:
        """Take a part of a multipart away, with its delimiter; the last one left becomes empty text.

        Returns False for the message itself and for the one in a message/rfc822: remove that.
        """
        self._check(part)
        if part.parent is None:
            return False
        removed = self._removed.setdefault(_place_of(part.parent), set())
        if part.start in removed:
            return True
        if not self._lay(
            structure_edits.remove_part(part, last=len(removed) + 1 >= len(part.parent.children))
        ):
            return False
        removed.add(part.start)
        return True

    def replace_by_notice(self, part: Part, text: str, filename: str = "") -> bool:
        """Put a text in place of a part and of all that is in it.

        The part becomes text/plain in UTF-8, and an attachment if there is a filename.  Of a
        part of a multipart the whole header goes, of a message what begins with "Content-".
        Returns False for a header too long to be read.
        """
        self._check(part)
        return self._lay(structure_edits.replace_by_notice(part, text, filename))

    def insert_part(
        self,
        content: bytes,
        content_type: str,
        *,
        filename: str = "",
        inline: bool = True,
        first: bool = True,
        beside: Part | None = None,
    ) -> bool:
        """Put a new part before all others, or with ``first=False`` behind them.

        It goes into the message's multipart/mixed; where there is none, one is made around
        the body.  Where one has to be made, that can be done once.
        content_type: "type/subtype", with parameters if there are any.
        beside: the part before or behind which it goes, inside of the multipart/mixed that
        this stands in, or of one made around it.
        Returns False for a header too long to be read, and where a multipart was made before.
        Raises ValueError for a content type that can't stand in a header.
        """
        self._check(beside or self._root)
        splices = structure_edits.insert_part(
            self._root, content, content_type, filename, inline, first, beside
        )
        if splices is not None and len(splices) > 1:  # a multipart is made
            place = _place_of(beside or self._root)
            if place in self._made:
                return False
            self._made.add(place)
        return self._lay(splices)

    def wrap(self, text: str, subject: str | None = None, fields: Sequence[tuple[str, str]] = ()) -> bool:
        """Enclose the whole message, octet for octet, as an attachment under a text.

        The new message has the trace, address, date, identification and subject fields of
        the old one, or ``subject`` for the last, and the fields given besides.  Signatures in
        the old one stay good, so it counts as no edit of them.  Returns False if it is enclosed already.
        """
        if any(edit.around for edit in self._edits):
            return False
        return self._lay(enclosing_edits.wrap(self._root, text, subject, fields))

    def _lay(self, splices: list[Splice] | None) -> bool:
        if splices is None:
            return False
        self._group += 1
        for splice in splices:
            self._add(splice)
        return True

    def _check(self, part: Part) -> None:
        if part.buffer is not self._root.buffer:
            raise EditError("the part is of another message, or of one decoded from this one")

    # -- laying in ---------------------------------------------------------

    def without(self, groups: frozenset[int]) -> Edits:
        """Return the edits that are of none of the groups."""
        kept = Edits(self._root)
        kept._edits = [edit for edit in self._edits if edit.group not in groups]
        kept._group = self._group
        return kept

    def in_order(self) -> list[Edit]:
        """Return the edits as they are laid in, by offset.

        Raises EditError if two of them overlap, or give one part the same field.
        """
        return in_order(self._edits)

    def new_size(self) -> int:
        """Return the size of the message with the edits laid in, in octets."""
        return len(self._root.buffer) + sum(len(e.data) - (e.end - e.start) for e in self.in_order())

    def apply(self) -> bytes:
        """Return the message with the edits laid in, as a plugin's own tests want it.

        Raises EditError if two of them overlap.
        """
        return b"".join(render(self._root.buffer, self.in_order()))


def _place_of(part: Part) -> tuple[int, int, int]:
    return part.start, part.end, part.depth
