"""One part of a message: its header, its kind and its body, as offsets into the buffer."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from . import charsets
from .content_defects import base64_defects, charset_defects, quoted_printable_defects
from .defects import Defect, Limits
from .embedded import Embedded, find_embedded
from .fields import Budget, Field, split_header
from .parameters import Structured, parse_structured
from .scan import Buffer
from .words import decode_base64, decode_quoted_printable, decode_words, unfold

MESSAGE_TYPES = ("message/rfc822", "message/global", "message/news")
_UU_ENCODINGS = ("x-uuencode", "x-uue", "uuencode", "x-yencode")
TNEF_TYPES = ("application/ms-tnef", "application/vnd.ms-tnef")
_TNEF_MAGIC = b"\x78\x9f\x3e\x22"
IDENTITY_ENCODINGS = ("7bit", "8bit", "binary")
_ENCODINGS = {name.encode(): name for name in (*IDENTITY_ENCODINGS, "base64", "quoted-printable")}
#: Of a field that is not there.  Nothing is ever put into it.
_NOTHING = Structured()


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
        #: Where this is the root of another reading: the part of the message that is so read.
        self.outer: Part | None = None
        self._codec = "utf-8"
        self._type = _NOTHING
        self.content_type, self.parameters = self._read_type(limits)
        self.transfer_encoding = self._read_encoding()
        self._disposition = self._read_disposition(limits)
        if (self._disposition is not _NOTHING or self._type.others) and _differ(self.filenames):
            self.defects.append(Defect.DIFFERENT_NAMES)

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
        if not found:
            in_digest = self.parent is not None and self.parent.content_type == "multipart/digest"
            return ("message/rfc822" if in_digest else "text/plain"), {}  # RFC 2046 5.1.5
        self._compare(found, Defect.DUPLICATE_CONTENT_TYPE)
        raw = found[0].raw_value
        parsed = self._type = parse_structured(raw, limits.parameters, slash=True)
        self.defects += parsed.defects
        self._codec = parsed.codec
        major, slash, minor = parsed.value.partition("/")
        if not (major and slash and minor) or "/" in minor:
            composite = major.startswith(("multipart", "message")) or "boundary" in parsed.parameters
            html = b"html" in raw.partition(b";")[0].lower()
            plain = Defect.BAD_HTML_TYPE if html else Defect.BAD_CONTENT_TYPE
            self.defects.append(Defect.BAD_MULTIPART_TYPE if composite else plain)
            return "text/plain", parsed.parameters  # RFC 2045 5.2
        return parsed.value, parsed.parameters

    def _compare(self, found: list[Field], differ: Defect) -> None:
        """Name what is wrong where a field stands more than once."""
        if len(found) > 1:
            values = {unfold(one.raw_value) for one in found}
            self.defects.append(differ if len(values) > 1 else Defect.REPEATED_FIELD)

    def _read_encoding(self) -> str:
        found = self.get_all("content-transfer-encoding")
        if not found:
            return "7bit"
        self._compare(found, Defect.DUPLICATE_ENCODING)
        plain = _ENCODINGS.get(found[0].raw_value.strip().lower())
        if plain is not None:
            return plain
        value = parse_structured(found[0].raw_value, 0).value or "7bit"
        if value not in _ENCODINGS.values():
            self.defects.append(Defect.UNKNOWN_ENCODING)
        return value

    def _read_disposition(self, limits: Limits) -> Structured:
        found = self.get_all("content-disposition")
        if not found:
            return _NOTHING
        self._compare(found, Defect.DUPLICATE_DISPOSITION)
        parsed = parse_structured(found[0].raw_value, limits.parameters)
        for other in found[1:4]:
            value = parse_structured(other.raw_value, limits.parameters).parameters.get("filename")
            if value:
                parsed.take_other("filename", value)
        self.defects += [one for one in parsed.defects if one not in self.defects]
        return parsed

    @property
    def disposition(self) -> str:
        """ "attachment", "inline", another word, or "" (RFC 2183), lower-case."""
        return self._disposition.value

    @property
    def filename(self) -> str:
        """The name for the file, decoded, from either field; "" if there is none.  Don't trust it."""
        return self._disposition.parameters.get("filename") or self.parameters.get("name", "")

    @property
    def filenames(self) -> tuple[str, ...]:
        """Every name that some program may give the file, ``filename`` first."""
        names = [self.filename, self.parameters.get("name", "")]
        names += self._disposition.others.get("filename", [])
        names += self._type.others.get("name", [])
        return tuple(dict.fromkeys(name for name in names if name))

    @property
    def charset(self) -> str:
        """The declared charset, lower-case; "" if there is none."""
        return self.parameters.get("charset", "").strip().lower()

    @property
    def boundary(self) -> bytes:
        """The boundary of a multipart; b"" if it has none."""
        return self.parameters.get("boundary", "").rstrip().encode(self._codec, "replace")

    @property
    def other_boundaries(self) -> list[bytes]:
        """The boundaries that another program may take instead, and cut the body otherwise by."""
        others = self._type.others.get("boundary")
        if not others:
            return []
        body, own = b"\n" + self.raw_body, self.boundary
        found = [one.rstrip().encode(self._codec, "replace") for one in others]
        return [
            one
            for one in found
            # A token at the beginning of our boundary finds the same lines, if there are no others.
            if not own.startswith(one) or body.count(b"\n--" + one) != body.count(b"\n--" + own)
        ]

    @property
    def origin(self) -> Part:
        """The part of the message itself that this is, or that this is another reading of."""
        part = self
        while True:
            root = part
            while root.parent is not None:
                root = root.parent
            if root.outer is None:
                return part
            part = root.outer

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
            return decode_quoted_printable(self.raw_body)
        if self.transfer_encoding in _UU_ENCODINGS:
            files = find_embedded(self.raw_body, "us-ascii")
            return files[0].content() if files else self.raw_body
        return self.raw_body

    @cached_property
    def content_defects(self) -> tuple[Defect, ...]:
        """What is wrong with the encoding of a leaf's body and its text; it is read for that."""
        if self.children or self.is_multipart:
            return ()
        found: list[Defect] = []
        if self.transfer_encoding == "base64":
            found += base64_defects(self.raw_body)
        elif self.transfer_encoding == "quoted-printable":
            found += quoted_printable_defects(self.raw_body)
        if self.is_text:
            found += charset_defects(self.content(), self.charset)
        return tuple(found)

    def embedded(self) -> list[Embedded]:
        """Return the files that stand encoded in a text part's own text; [] for other parts."""
        return find_embedded(self.content(), self.charset) if self.is_text else []

    def text(self) -> str:
        """Return the body as text in its declared charset; what can't be decoded is U+FFFD."""
        return charsets.decode(self.content(), self.charset)


def _differ(names: tuple[str, ...]) -> bool:
    """Tell whether names of one file end in different extensions."""
    if len(names) < 2:
        return False
    ends = {decode_words(name.encode("utf-8", "replace")).rstrip(" .").rpartition(".") for name in names}
    return len({end.lower() for _, dot, end in ends if dot}) > 1
