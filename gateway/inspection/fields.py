"""A header block as fields that know their offsets (RFC 5322 2.2)."""

from __future__ import annotations

from dataclasses import dataclass

from .defects import Defect
from .scan import Buffer, find
from .words import decode_words, unfold


@dataclass(slots=True)
class Field:
    """One header field, folding included.

    name: lower-case.  start, end: offsets in the buffer, the last line end included.
    colon: offset of the colon.
    """

    buffer: Buffer
    name: str
    start: int
    colon: int
    end: int

    @property
    def raw(self) -> bytes:
        """The field's octets, name and line ends included."""
        return self.buffer[self.start : self.end]

    @property
    def raw_value(self) -> bytes:
        """The octets behind the colon, as they stand."""
        return self.buffer[self.colon + 1 : self.end]

    @property
    def value(self) -> str:
        """The value unfolded, encoded words decoded (RFC 2047).  It may hold controls."""
        return decode_words(unfold(self.raw_value))


@dataclass(slots=True)
class Budget:
    """What is left of the limits on headers, for a whole message."""

    one: int  # octets of one header
    octets: int  # of all headers
    fields: int


@dataclass(slots=True)
class Header:
    """A header block: its fields and where it ends.

    end: offset behind the last field.  body: offset behind the blank line, or as ``end``.
    """

    fields: list[Field]
    end: int
    body: int
    defects: list[Defect]


def split_header(buffer: Buffer, start: int, end: int, budget: Budget) -> Header:
    """Read the header that begins at ``start`` of what ends at ``end``.

    It ends with a blank line, or before the first line that is no field, or with ``end``.
    """
    fields: list[Field] = []
    defects: list[Defect] = []
    if buffer[start : start + 1] == b"\n" and start < end:
        return Header(fields, start, start + 1, defects)
    if buffer[start : start + 2] == b"\r\n" and start + 1 < end:
        return Header(fields, start, start + 2, defects)
    allowed = min(budget.one, budget.octets)
    blank, body = _blank_line(buffer, start, min(end, start + allowed + 3))
    cut = blank < 0 and start + allowed < end
    stop = blank if blank >= 0 else min(end, start + allowed)
    block = buffer[start:stop]
    budget.octets -= len(block)
    position = start
    lines = block.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    elif cut:
        lines.pop()  # the line that the limit has cut
    _look_for_odd_octets(block, buffer[stop:body] if blank >= 0 else b"", defects)
    last = len(lines) - 1
    for index, line in enumerate(lines):
        size = len(line) + (1 if index < last or block.endswith(b"\n") or cut else 0)
        if line[:1] in (b" ", b"\t") and fields:
            fields[-1].end += size
            if not line.strip() and Defect.BLANK_FOLD not in defects:
                defects.append(Defect.BLANK_FOLD)
        else:
            name, colon, _ = line.partition(b":")
            clean = name.rstrip(b" \t")
            if colon and _is_name(clean):
                if budget.fields <= 0:
                    defects.append(Defect.TOO_MANY_FIELDS)
                    cut = True
                    break
                budget.fields -= 1
                if clean != name and _is_mime(clean) and Defect.BLANK_BEFORE_COLON not in defects:
                    defects.append(Defect.BLANK_BEFORE_COLON)
                fields.append(
                    Field(
                        buffer, clean.decode("ascii").lower(), position, position + len(name), position + size
                    )
                )
            elif index == 0 and size > len(line) and line.startswith((b"From ", b">From ")):
                defects.append(Defect.MBOX_LINE)
            else:
                defects.append(Defect.MISSING_BLANK_LINE if index else Defect.MISSING_HEADER)
                return Header(fields, position, position, defects)
        position += size
    if not cut:
        return Header(fields, stop, body if blank >= 0 else stop, defects)
    if not defects or defects[-1] is not Defect.TOO_MANY_FIELDS:
        defects.append(Defect.HEADER_TOO_LONG)
    if blank < 0:
        blank, body = _blank_line(buffer, position - 1 if position > start else start, end)
    if blank < 0:
        return Header(fields, end, end, defects)
    return Header(fields, blank, body, defects)


def _look_for_odd_octets(block: bytes, blank: bytes, defects: list[Defect]) -> None:
    if b"\0" in block:
        defects.append(Defect.NUL_IN_HEADER)
    pairs = block.count(b"\r\n")
    if block.count(b"\r") != pairs:
        defects.append(Defect.CR_IN_HEADER)
    lone = block.count(b"\n") - pairs
    if (lone and blank == b"\r\n") or (pairs and blank == b"\n"):
        defects.append(Defect.MIXED_LINE_ENDS)


def _is_mime(name: bytes) -> bool:
    return name.lower().startswith((b"content-", b"mime-version"))


def _blank_line(buffer: Buffer, start: int, end: int) -> tuple[int, int]:
    """Return where the first blank line begins and ends, or -1."""
    wide = find(buffer, b"\n\r\n", start, end)
    narrow = find(buffer, b"\n\n", start, wide + 1 if wide >= 0 else end)
    if narrow >= 0:
        return narrow + 1, narrow + 2
    if wide >= 0:
        return wide + 1, wide + 3
    return -1, -1


_NAME = bytes(range(33, 127)).replace(b":", b"")


def _is_name(name: bytes) -> bool:
    """RFC 5322 3.6.8: printable ASCII without the colon."""
    return bool(name) and not name.translate(None, _NAME)
