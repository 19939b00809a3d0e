"""The MIME structure of a message as offsets into its buffer (RFC 2045, 2046).

Nothing is copied and nothing is written back: a part is a place in the buffer, so what no
edit covers stays the same octets.  Delimiters are found in C; Python looks at headers and at
delimiter lines only.  There is no recursion, and :class:`Limits` bounds all work.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from . import charsets
from .defects import Defect, Limits
from .embedded import Embedded, find_embedded
from .fields import Budget, Field, split_header
from .parameters import Structured, parse_structured
from .scan import Buffer, find
from .words import decode_base64

#: A delimiter line is no longer than this behind its boundary.
_LONGEST_TAIL = 1000
MESSAGE_TYPES = ("message/rfc822", "message/global", "message/news")
TNEF_TYPES = ("application/ms-tnef", "application/vnd.ms-tnef")
_TNEF_MAGIC = b"\x78\x9f\x3e\x22"
IDENTITY_ENCODINGS = ("7bit", "8bit", "binary")


class Part:
    """One entity: the message itself, a part of a multipart, or an enclosed message.

    start: offset of its header.  header_end: behind its last field.  body_start: behind the
    blank line.  end: behind its last octet; the line end before a delimiter is not its own.
    fields: its header, first to last.  defects: what is wrong with this part itself.
    """

    def __init__(
        self, buffer: Buffer, start: int, end: int, parent: Part | None, budget: Budget, limits: Limits
    ) -> None:
        header = split_header(buffer, start, end, budget)
        self.buffer = buffer
        self.start = start
        self.header_end = header.end
        self.body_start = header.body
        self.end = end
        self.parent = parent
        self.depth: int = parent.depth + 1 if parent is not None else 0
        self.fields: list[Field] = header.fields
        self.children: list[Part] = []
        self.defects: list[Defect] = header.defects
        self._codec = "utf-8"
        self.content_type, self.parameters = self._read_type(limits)
        self.transfer_encoding = self._read_encoding()

    def __repr__(self) -> str:
        return f"Part({self.content_type}, {self.start}, {self.body_start}, {self.end})"

    # -- header ------------------------------------------------------------

    def get_all(self, name: str) -> list[Field]:
        """Return every field of that name (any case), first to last."""
        name = name.lower()
        return [one for one in self.fields if one.name == name]

    def get(self, name: str) -> Field | None:
        """Return the first field of that name, or None."""
        name = name.lower()
        return next((one for one in self.fields if one.name == name), None)

    def _read_type(self, limits: Limits) -> tuple[str, dict[str, str]]:
        found = self.get_all("content-type")
        if len(found) > 1:
            self.defects.append(Defect.DUPLICATE_CONTENT_TYPE)
        if not found:
            in_digest = self.parent is not None and self.parent.content_type == "multipart/digest"
            return ("message/rfc822" if in_digest else "text/plain"), {}  # RFC 2046 5.1.5
        parsed = parse_structured(found[0].raw_value, limits.parameters)
        self.defects += parsed.defects
        self._codec = parsed.codec
        major, slash, minor = parsed.value.partition("/")
        if not (major and slash and minor) or "/" in minor:
            self.defects.append(Defect.BAD_CONTENT_TYPE)
            return "text/plain", parsed.parameters  # RFC 2045 5.2
        return parsed.value, parsed.parameters

    def _read_encoding(self) -> str:
        found = self.get_all("content-transfer-encoding")
        if not found:
            return "7bit"
        if len(found) > 1:
            self.defects.append(Defect.DUPLICATE_ENCODING)
        value = parse_structured(found[0].raw_value, 0).value
        if value not in (*IDENTITY_ENCODINGS, "base64", "quoted-printable"):
            self.defects.append(Defect.UNKNOWN_ENCODING)
        return value

    @cached_property
    def _disposition(self) -> Structured:
        found = self.get("content-disposition")
        return parse_structured(found.raw_value) if found is not None else Structured()

    @property
    def disposition(self) -> str:
        """ "attachment", "inline", another word, or "" (RFC 2183), lower-case."""
        return self._disposition.value

    @property
    def filename(self) -> str:
        """The name for the file, decoded, from either field; "" if there is none.  Don't trust it."""
        return self._disposition.parameters.get("filename") or self.parameters.get("name", "")

    @property
    def charset(self) -> str:
        """The declared charset, lower-case; "" if there is none."""
        return self.parameters.get("charset", "").strip().lower()

    @property
    def boundary(self) -> bytes:
        """The boundary of a multipart; b"" if it has none."""
        return self.parameters.get("boundary", "").rstrip().encode(self._codec, "replace")

    # -- kind --------------------------------------------------------------

    @property
    def is_multipart(self) -> bool:
        return self.content_type.startswith("multipart/")

    @property
    def is_message(self) -> bool:
        """A whole message within this one."""
        return self.content_type in MESSAGE_TYPES

    @property
    def is_text(self) -> bool:
        return self.content_type.startswith("text/")

    @property
    def is_tnef(self) -> bool:
        """Outlook's own container of attachments, by its type, name or first octets (MS-OXTNEF)."""
        if self.content_type in TNEF_TYPES or self.filename.lower() == "winmail.dat":
            return True
        first = self.buffer[self.body_start : min(self.end, self.body_start + 64)]
        if self.transfer_encoding == "base64":
            first = decode_base64(first)
        return first.startswith(_TNEF_MAGIC)

    @property
    def is_attachment(self) -> bool:
        """Meant to be kept as a file rather than shown: by its disposition or its name."""
        return self.disposition == "attachment" or bool(self.filename)

    def walk(self) -> Iterator[Part]:
        """Give this part and all below it, in the order of the message."""
        stack = [self]
        while stack:
            part = stack.pop()
            yield part
            stack.extend(reversed(part.children))

    # -- body --------------------------------------------------------------

    @property
    def raw_body(self) -> bytes:
        """The body's octets as they stand: a copy."""
        return self.buffer[self.body_start : self.end]

    def content(self) -> bytes:
        """Return the body with its transfer encoding undone, leniently: a copy."""
        if self.transfer_encoding == "base64":
            return decode_base64(self.raw_body)
        if self.transfer_encoding == "quoted-printable":
            return binascii.a2b_qp(self.raw_body)
        return self.raw_body

    def embedded(self) -> list[Embedded]:
        """Return the files that stand encoded in a text part's own text; [] for other parts."""
        return find_embedded(self.content(), self.charset) if self.is_text else []

    def text(self) -> str:
        """Return the body as text in its declared charset; what can't be decoded is U+FFFD."""
        return charsets.decode(self.content(), self.charset)


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
            self.open.extend(reversed(part.children))
        return root

    def _message(self, part: Part) -> None:
        if part.transfer_encoding not in IDENTITY_ENCODINGS:
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
        if not boundary:
            part.defects.append(Defect.MISSING_BOUNDARY)
            return
        self.scans -= part.end - part.body_start
        if part.depth >= self.limits.depth or self.scans < 0:
            part.defects.append(Defect.TOO_DEEP)
            return
        outer = part.parent
        while outer is not None:
            if outer.is_multipart and outer.boundary and _clash(outer.boundary, boundary):
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
            tail = buffer[behind : min(next_line, behind + _LONGEST_TAIL)]
            kind = tail.strip(b" \t\r\n")
            closes = kind == b"--" and tail.startswith(b"--")
            if next_line - behind > _LONGEST_TAIL or (kind and not closes):
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
        if final:
            return
        if begun < 0:
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


def _clash(one: bytes, other: bytes) -> bool:
    return one.startswith(other) or other.startswith(one)


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
