"""The MIME structure of a message as offsets into its buffer (RFC 2045, 2046).

Nothing is copied and nothing is written back: a part is a place in the buffer, so what no
edit covers stays the same octets.  Delimiters are found in C; Python looks at headers and at
delimiter lines only.  There is no recursion, and :class:`Limits` bounds all work.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .defects import Defect, Limits
from .fields import Budget
from .part import IDENTITY_ENCODINGS, Part
from .scan import Buffer, find

__all__ = ["IDENTITY_ENCODINGS", "LONGEST_TAIL", "Part", "clash", "parse"]

#: A delimiter line is no longer than this behind its boundary.
LONGEST_TAIL = 1000


@dataclass(slots=True)
class _Parser:
    """One parse: what is left of the limits."""

    buffer: Buffer
    limits: Limits
    budget: Budget
    parts: int
    lookalikes: int
    scans: int  # octets that may yet be searched
    open: list[Part] = field(default_factory=list)

    def part(self, start: int, end: int, parent: Part | None) -> Part:
        made = Part(self.buffer, start, end, parent, self.budget, self.limits)
        self.parts -= 1
        if parent is not None:
            parent.children.append(made)
        return made

    def run(self) -> Part:
        root = self.part(0, len(self.buffer), None)
        self.open.append(root)
        while self.open:
            part = self.open.pop()
            if part.is_multipart:
                self._multipart(part)
            elif part.is_message:
                self._message(part)
            elif part.content_type == "message/partial":
                part.defects.append(Defect.PARTIAL_MESSAGE)
            self.open.extend(reversed(part.children))
        return root

    def _message(self, part: Part) -> None:
        if part.transfer_encoding not in IDENTITY_ENCODINGS:
            if part.content_type != "message/global":  # RFC 6532 3.5
                part.defects.append(Defect.ENCODED_MESSAGE)
        elif part.depth >= self.limits.depth:
            part.defects.append(Defect.TOO_DEEP)
        elif self.parts <= 0:
            part.defects.append(Defect.TOO_MANY_PARTS)
        else:
            self.part(part.body_start, part.end, part)

    def _multipart(self, part: Part) -> None:
        if part.transfer_encoding not in IDENTITY_ENCODINGS:
            part.defects.append(Defect.ENCODED_MULTIPART)
        boundary = part.boundary
        written = part.parameters.get("boundary", "")
        if not written.isascii() or written.endswith((" ", "\t")):
            part.defects.append(Defect.BAD_BOUNDARY)
        if len(written) > 70:
            part.defects.append(Defect.LONG_BOUNDARY)
        if not boundary:
            part.defects.append(Defect.MISSING_BOUNDARY)
            return
        self.scans -= part.end - part.body_start
        if part.depth >= self.limits.depth or self.scans < 0:
            part.defects.append(Defect.TOO_DEEP)
            return
        if part.other_boundaries and Defect.BAD_BOUNDARY not in part.defects:
            part.defects.append(Defect.BAD_BOUNDARY)
        outer = part.parent
        while outer is not None:
            if outer.is_multipart and clash(outer.boundary, boundary):
                part.defects.append(Defect.BOUNDARY_CLASH)
                break
            outer = outer.parent
        self._split(part, b"--" + boundary)

    def _split(self, part: Part, delimiter: bytes) -> None:
        """Make the parts between the delimiter lines (RFC 2046 5.1.1)."""
        buffer, end = self.buffer, part.end
        begun = -1  # where the part that is being read begins
        final = False
        line = self._next(part.body_start, end, delimiter, part.body_start)
        while line >= 0:
            behind = line + len(delimiter)
            newline = find(buffer, b"\n", behind, end)
            next_line = newline + 1 if newline >= 0 else end
            tail = buffer[behind : min(next_line, behind + LONGEST_TAIL)]
            kind = tail.strip(b" \t\r\n")
            closes = kind == b"--" and tail.startswith(b"--")
            if next_line - behind > LONGEST_TAIL or (kind and not closes):
                if Defect.BOUNDARY_PREFIX not in part.defects:
                    part.defects.append(Defect.BOUNDARY_PREFIX)
                self.lookalikes -= 1
                if self.lookalikes < 0:
                    part.defects.append(Defect.TOO_MANY_LOOKALIKES)
                    break
            elif final:
                part.defects.append(Defect.BOUNDARY_AFTER_FINAL)
                break
            else:
                if begun >= 0:
                    self.part(begun, max(begun, _before_line(buffer, line, begun)), part)
                begun = next_line
                final = closes
                if not final and self.parts <= 0:
                    part.defects.append(Defect.TOO_MANY_PARTS)
                    return
            line = self._next(next_line, end, delimiter, next_line)
        if final and part.children:
            return
        if final or begun < 0:
            part.defects.append(Defect.BOUNDARY_NOT_FOUND)
            return
        part.defects.append(Defect.MISSING_FINAL_BOUNDARY)
        self.part(begun, end, part)

    def _next(self, start: int, end: int, delimiter: bytes, line_start: int) -> int:
        """Return the offset of the next line that begins with the delimiter, or -1."""
        if self.buffer[line_start : min(end, line_start + len(delimiter))] == delimiter:
            return line_start
        hit = find(self.buffer, b"\n" + delimiter, start, end)
        return hit + 1 if hit >= 0 else -1


def _before_line(buffer: Buffer, line: int, floor: int) -> int:
    """Return the offset of the line end before ``line``: it belongs to the delimiter."""
    if line - 2 >= floor and buffer[line - 2 : line] == b"\r\n":
        return line - 2
    return line - 1


def clash(one: bytes, other: bytes) -> bool:
    """Tell whether one boundary's delimiter begins like the other's."""
    return bool(one and other) and (one.startswith(other) or other.startswith(one))


def parse(buffer: Buffer, limits: Limits | None = None) -> Part:
    """Return the message in ``buffer`` as a tree of parts.  Never fails, for any octets.

    What is wrong is in ``defects`` of the parts; what lies beyond a limit is left whole.
    """
    limits = limits or Limits()
    parser = _Parser(
        buffer,
        limits,
        Budget(limits.header_bytes, limits.header_bytes * 4, limits.fields),
        limits.parts,
        limits.lookalikes,
        len(buffer) * limits.scans,
    )
    return parser.run()
