"""What IMAP tells about a message: envelope, body structure, sections (RFC 3501 sections 6.4.5, 7.4.2)."""

from __future__ import annotations

import email.message
import email.utils
import re
from dataclasses import dataclass, field
from typing import Any

from gateway.demo.imap_grammar import ImapSyntaxError, nstring

_HEADER_END = re.compile(rb"(?:\A|\r?\n)\r?\n")
_FIELD = re.compile(rb"(?P<name>[^\s:]+)[ \t]*:(?P<value>.*(?:\r?\n[ \t].*)*)(?:\r?\n|\Z)")
_SECTION = re.compile(r"((?:[1-9]\d{0,3}\.)*[1-9]\d{0,3})?\.?([A-Z][A-Z.]*)?(?: \((.*)\))?", re.DOTALL)
_MAX_DEPTH = 20


@dataclass
class Part:
    """A message or a MIME part: exact bytes, never rendered anew."""

    header: bytes
    """Up to and including the empty line."""
    body: bytes
    default_type: str = "text/plain"
    children: list[Part] = field(default_factory=list)
    """The parts of a multipart, or the one message in a message/rfc822."""
    fields: list[tuple[str, bytes, bytes]] = field(default_factory=list)
    """Each header field: name in lower case, unfolded value, and the raw bytes."""

    def value(self, name: str) -> bytes | None:
        """The unfolded value of the first field of that name."""
        return next((value for key, value, _ in self.fields if key == name), None)

    @property
    def content_type(self) -> str:
        """type/subtype in lower case, by default what the container says."""
        if self.value("content-type") is None:
            return self.default_type
        return self.typed("content-type").get_content_type()

    def typed(self, name: str) -> email.message.Message:
        """A field that has parameters, readable by ``get_params`` and its kin."""
        holder = email.message.Message()
        holder[name] = (self.value(name) or b"").decode("latin-1")
        return holder


def parse_message(content: bytes, default_type: str = "text/plain", depth: int = 0) -> Part:
    """Reads the MIME tree (RFC 2046) of a message; odd input becomes a plain part, never an error."""
    found = _HEADER_END.search(content)
    end = found.end() if found else len(content)
    part = Part(content[:end], content[end:], default_type)
    for each in _FIELD.finditer(part.header):
        value = re.sub(rb"\r?\n", b"", each["value"]).strip()
        part.fields.append((each["name"].decode("latin-1").lower(), value, each[0]))
    if depth >= _MAX_DEPTH:
        return part
    if part.content_type == "message/rfc822":
        part.children = [parse_message(part.body, depth=depth + 1)]
    elif part.content_type.startswith("multipart/"):
        boundary = part.typed("content-type").get_boundary()
        inner = "message/rfc822" if part.content_type == "multipart/digest" else "text/plain"
        for raw in _split(part.body, boundary.encode("latin-1", "replace")) if boundary else []:
            part.children.append(parse_message(raw, inner, depth + 1))
    return part


def _split(body: bytes, boundary: bytes) -> list[bytes]:
    line = re.compile(rb"(?:\A|\r?\n)--" + re.escape(boundary) + rb"(--)?[ \t]*(?=\r?\n|\Z)")
    pieces: list[bytes] = []
    start = -1
    for found in line.finditer(body):
        if start >= 0:
            pieces.append(body[start : max(start, found.start())])
        if found[1]:
            return pieces
        start = body.find(b"\n", found.end()) + 1 or len(body)
    if start >= 0:
        pieces.append(body[start:])
    return pieces


def envelope(part: Part) -> bytes:
    """The ENVELOPE; Sender and Reply-To default to From."""
    senders = _addresses(part, "from")
    fields = [nstring(part.value("date")), nstring(part.value("subject")), senders]
    fields += [_addresses(part, name) if part.value(name) else senders for name in ("sender", "reply-to")]
    fields += [_addresses(part, name) for name in ("to", "cc", "bcc")]
    fields += [nstring(part.value("in-reply-to")), nstring(part.value("message-id"))]
    return b"(" + b" ".join(fields) + b")"


def _addresses(part: Part, name: str) -> bytes:
    values = [value.decode("latin-1") for key, value, _ in part.fields if key == name]
    rendered = b""
    for display, address in email.utils.getaddresses(values):
        if not address:
            continue
        local, _, host = address.rpartition("@")
        words = [display or None, None, local or host, host if local else None]
        encoded = (None if word is None else word.encode("latin-1", "replace") for word in words)
        rendered += b"(" + b" ".join(nstring(word) for word in encoded) + b")"
    return b"(" + rendered + b")" if rendered else b"NIL"


def body_structure(part: Part, *, extended: bool) -> bytes:
    """BODYSTRUCTURE, or BODY when not ``extended``."""
    kind, _, subtype = part.content_type.upper().partition("/")
    if kind == "MULTIPART" and part.children:
        words = [b"".join(body_structure(child, extended=extended) for child in part.children)]
        words.append(nstring(subtype.encode()))
        if extended:
            words += [_parameters(part, "content-type"), _disposition(part), b"NIL", b"NIL"]
        return b"(" + b" ".join(words) + b")"
    if kind == "MULTIPART":
        kind, subtype = "TEXT", "PLAIN"
    encoding = (part.value("content-transfer-encoding") or b"7BIT").upper()
    words = [nstring(kind.encode()), nstring(subtype.encode()), _parameters(part, "content-type")]
    words += [
        nstring(part.value("content-id")),
        nstring(part.value("content-description")),
        nstring(encoding),
    ]
    words.append(b"%d" % len(part.body))
    if part.content_type == "message/rfc822" and part.children:
        words += [envelope(part.children[0]), body_structure(part.children[0], extended=extended)]
    if kind == "TEXT" or (part.content_type == "message/rfc822" and part.children):
        words.append(b"%d" % part.body.count(b"\n"))
    if extended:
        words += [nstring(part.value("content-md5")), _disposition(part), b"NIL", b"NIL"]
    return b"(" + b" ".join(words) + b")"


def _parameters(part: Part, name: str) -> bytes:
    pairs = []
    found: list[tuple[str, Any]] = part.typed(name).get_params(header=name) or []
    for key, value in found[1:]:
        # A value in the syntax of RFC 2231 comes as (charset, language, text).
        text = value[2] if isinstance(value, tuple) else value
        pairs += [
            nstring(key.upper().encode("latin-1", "replace")),
            nstring(text.encode("latin-1", "replace")),
        ]
    return b"(" + b" ".join(pairs) + b")" if pairs else b"NIL"


def _disposition(part: Part) -> bytes:
    kind = part.typed("content-disposition").get_content_disposition()
    if not kind:
        return b"NIL"
    return (
        b"("
        + nstring(kind.encode("latin-1", "replace"))
        + b" "
        + _parameters(part, "content-disposition")
        + b")"
    )


def section(root: Part, name: str) -> bytes | None:
    """The bytes of ``BODY[name]``; None where there is no such part. Raises ImapSyntaxError."""
    found = _SECTION.fullmatch(name.upper())
    if found is None:
        raise ImapSyntaxError("bad section")
    numbers, text, names = found[1], found[2] or "", found[3]
    part = root
    for number in [int(each) for each in numbers.split(".")] if numbers else []:
        if part.content_type == "message/rfc822" and part.children and part is not root:
            part = part.children[0]
        if part.content_type.startswith("multipart/") and part.children:
            if number > len(part.children):
                return None
            part = part.children[number - 1]
        elif number != 1:
            return None
    if text == "MIME" and numbers:
        return part.header
    if numbers and not text:
        return part.body
    if numbers:
        if part.content_type != "message/rfc822" or not part.children:
            return None
        part = part.children[0]
    if text in ("HEADER.FIELDS", "HEADER.FIELDS.NOT") and names is not None:
        wanted = {each.strip('"').lower() for each in names.split()}
        keep = text == "HEADER.FIELDS"
        return b"".join(raw for key, _, raw in part.fields if (key in wanted) == keep) + b"\r\n"
    plain = {"": part.header + part.body, "HEADER": part.header, "TEXT": part.body}
    if text not in plain:
        raise ImapSyntaxError("bad section")
    return plain[text]
