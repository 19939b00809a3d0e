"""FETCH items of a rewritten message, answered from it (RFC 9051 7.5.2).

Whoever fetches a message in pieces sees the same one as who fetches it whole: size,
structure, envelope, sections, partials and decoded parts all come from the same octets.
Text is answered as slices of them, so that a large part is never copied.
"""

from __future__ import annotations

import re
from typing import Any

from ...core.view import Judged, Piece, Slice, length
from .envelope import addresses, parameters, string, unfolded
from .fetch_items import Item

_FIELD_NAMES = re.compile(rb'"((?:[^"\\]|\\.)*)"|([^ ()"]+)')
_IDENTITY = ("7bit", "8bit", "binary")


def answer(judged: Judged, item: Item) -> list[Piece]:
    """Return an item of a response, its name included."""
    name = item.name
    if name == b"RFC822.SIZE":
        return [b"RFC822.SIZE %d" % judged.size]
    if name == b"ENVELOPE":
        return [b"ENVELOPE " + envelope(judged.root)]
    if name in (b"BODY", b"BODYSTRUCTURE"):
        return [name + b" " + structure(judged.root, extended=name == b"BODYSTRUCTURE")]
    if name.startswith(b"BINARY"):
        return _binary(judged, item)
    pieces = _text(judged, item)
    shown = {b"RFC822": b"RFC822", b"RFC822.HEADER": b"RFC822.HEADER", b"RFC822.TEXT": b"RFC822.TEXT"}
    head = shown.get(name) or b"BODY[" + item.section + b"]"
    if item.origin is not None:
        head += b"<%d>" % item.origin
    if pieces is None:
        return [head + b" NIL"]
    if item.origin is not None:
        pieces = cut(pieces, item.origin, item.count)
    return [head + b" {%d}\r\n" % length(pieces), *pieces]


def cut(pieces: list[Piece], origin: int, count: int | None) -> list[Piece]:
    """Return ``count`` octets from ``origin`` on; none behind the end (RFC 9051 6.4.5)."""
    end = length(pieces) if count is None else origin + count
    kept: list[Piece] = []
    place = 0
    for piece in pieces:
        start, stop = max(origin - place, 0), min(end - place, len(piece))
        if start < stop:
            if isinstance(piece, Slice):
                kept.append(Slice(piece.judged, piece.start + start, piece.start + stop))
            else:
                kept.append(piece[start:stop])
        place += len(piece)
    return kept


# -- sections ------------------------------------------------------------------


def find_part(root: Any, path: tuple[int, ...]) -> Any | None:
    """Return the part of that number (RFC 9051 6.4.5.1); None if there is none.

    The parts of a multipart are numbered; what is none has one, itself; the numbers of a
    message/rfc822 go on in the message that it encloses.
    """
    current = root
    itself = False  # its only part was named already: there is none below
    for place, number in enumerate(path):
        if place and current.is_message and current.children:
            current, itself = current.children[0], False
        if current.is_multipart and current.children:
            if not 0 < number <= len(current.children):
                return None
            current, itself = current.children[number - 1], False
        elif number != 1 or itself:
            return None
        else:
            itself = True
    return current


def _message_at(root: Any, path: tuple[int, ...]) -> Any | None:
    """Return the message whose HEADER and TEXT a section names."""
    if not path:
        return root
    part = find_part(root, path)
    return part.children[0] if part is not None and part.is_message and part.children else None


def _text(judged: Judged, item: Item) -> list[Piece] | None:
    """Return what a section names; None if it names nothing."""
    root, name, path, text = judged.root, item.name, item.path, item.text.upper()
    if name == b"RFC822.HEADER":
        text = b"HEADER"
    elif name == b"RFC822.TEXT":
        text = b"TEXT"
    if not text:
        if not path:
            return [Slice(judged, 0, judged.size)]
        part = find_part(root, path)
        return [Slice(judged, part.body_start, part.end)] if part is not None else None
    if text == b"MIME":
        part = find_part(root, path) if path else None
        return [Slice(judged, part.start, part.body_start)] if part is not None else None
    message = _message_at(root, path)
    if message is None:
        return None
    if text == b"TEXT":
        return [Slice(judged, message.body_start, message.end)]
    if text == b"HEADER":
        return [Slice(judged, message.start, message.body_start)]
    if text.startswith(b"HEADER.FIELDS"):
        return [_fields(message, text)]
    return None


def _fields(message: Any, text: bytes) -> bytes:
    """Return the chosen fields and the blank line (RFC 9051 6.4.5.1).

    Of a message that has no blank line servers leave it out where fields are excluded.
    """
    wanted = {
        (quoted or atom).decode("ascii", "replace").lower()
        for quoted, atom in _FIELD_NAMES.findall(text[text.find(b"(") :])
    }
    others = text.startswith(b"HEADER.FIELDS.NOT")
    kept = [field.raw for field in message.fields if (field.name in wanted) is not others]
    block = b"".join(kept)
    if others and message.header_end == message.body_start:
        return block
    return block + (b"" if block.endswith(b"\n") or not block else b"\r\n") + b"\r\n"


def _binary(judged: Judged, item: Item) -> list[Piece]:
    """Answer BINARY[n] and BINARY.SIZE[n]: with the transfer encoding undone (RFC 3516)."""
    part = find_part(judged.root, item.path)
    head = b"BINARY.SIZE[" if item.name == b"BINARY.SIZE[" else b"BINARY["
    head += item.section + b"]"
    content = b""
    if part is not None and not part.is_multipart:
        content = part.content()
    elif part is not None:
        content = judged.octets(part.body_start, part.end)
    if item.name == b"BINARY.SIZE[":
        return [head + b" %d" % len(content)]
    if item.origin is not None:
        head += b"<%d>" % item.origin
        end = len(content) if item.count is None else item.origin + item.count
        content = content[item.origin : end]
    mark = b"~{%d}\r\n" if b"\0" in content else b"{%d}\r\n"
    return [head + b" " + mark % len(content), content]


# -- structure -----------------------------------------------------------------


def envelope(message: Any) -> bytes:
    """Write the ENVELOPE of a message."""

    def value(name: str) -> bytes | None:
        found = message.get(name)
        return found.raw_value if found is not None else None

    def text(name: str) -> bytes:
        raw = value(name)
        return string(unfolded(raw) if raw is not None else None)

    sender = value("from")
    lists = [
        addresses(sender),
        addresses(value("sender") or sender),  # RFC 9051 7.5.2: From stands in for both
        addresses(value("reply-to") or sender),
        *(addresses(value(name)) for name in ("to", "cc", "bcc")),
    ]
    words = [text("date"), text("subject"), *lists, text("in-reply-to"), text("message-id")]
    return b"(" + b" ".join(words) + b")"


def structure(root: Any, extended: bool) -> bytes:
    """Write BODYSTRUCTURE, or without extension data BODY.  No recursion: nesting is a stranger's."""
    out: list[bytes] = []
    waiting: list[Any] = [root]
    while waiting:
        one = waiting.pop()
        if isinstance(one, bytes):
            out.append(one)
        elif one.is_multipart and one.children:
            waiting.append(_multipart_tail(one, extended))
            waiting.extend(reversed(one.children))
            out.append(b"(")
        elif one.is_message and one.children and one.transfer_encoding in _IDENTITY:
            enclosed = one.children[0]
            lines = b" %d" % _lines(one) + _extension(one, extended) + b")"
            out.append(b"(" + _basic(one) + b" " + envelope(enclosed) + b" ")
            waiting.append(lines)
            waiting.append(enclosed)
        else:
            lines = b" %d" % _lines(one) if one.is_text or one.is_multipart else b""
            out.append(b"(" + _basic(one) + lines + _extension(one, extended) + b")")
    return b"".join(out)


def _multipart_tail(part: Any, extended: bool) -> bytes:
    kind = string(part.content_type.partition("/")[2].encode())
    if not extended:
        return b" " + kind + b")"
    return b" " + kind + b" " + _parameters(part, "content-type") + _disposition(part) + b")"


def _basic(part: Any) -> bytes:
    """Write type, subtype, parameters, id, description, encoding, size."""
    # A multipart in which nothing is found is told as the text that it is.
    kind = "text/plain" if part.is_multipart else part.content_type
    if part.is_message and not part.children:
        kind = "application/octet-stream"
    major, _, minor = kind.encode("ascii", "replace").partition(b"/")
    encoding = (part.transfer_encoding or "7bit").encode("ascii", "replace")
    return b" ".join(
        (
            string(major),
            string(minor),
            _parameters(part, "content-type"),
            _plain(part, "content-id"),
            _plain(part, "content-description"),
            string(encoding),
            b"%d" % (part.end - part.body_start),
        )
    )


def _extension(part: Any, extended: bool) -> bytes:
    return b" " + _plain(part, "content-md5") + _disposition(part) if extended else b""


def _plain(part: Any, name: str) -> bytes:
    found = part.get(name)
    return string(unfolded(found.raw_value) if found is not None else None)


def _parameters(part: Any, field: str) -> bytes:
    found = part.get(field)
    pairs = parameters(found.raw_value) if found is not None else []
    if field == "content-type" and part.is_text and not any(key.lower() == b"charset" for key, _ in pairs):
        pairs.append((b"charset", b"us-ascii"))  # RFC 2045 5.2
    if not pairs:
        return b"NIL"
    return b"(" + b" ".join(string(key) + b" " + string(value) for key, value in pairs) + b")"


def _disposition(part: Any) -> bytes:
    """Write disposition, language and location."""
    found = part.get("content-disposition")
    disposition = b"NIL"
    if found is not None:
        word = unfolded(found.raw_value).partition(b";")[0].strip(b" \t")
        disposition = b"(" + string(word) + b" " + _parameters(part, "content-disposition") + b")"
    return b" " + disposition + b" " + _languages(part) + b" " + _plain(part, "content-location")


def _languages(part: Any) -> bytes:
    found = part.get("content-language")
    words = (
        [word.strip(b" \t") for word in unfolded(found.raw_value).split(b",")] if found is not None else []
    )
    words = [word for word in words if word]
    if not words:
        return b"NIL"
    return string(words[0]) if len(words) == 1 else b"(" + b" ".join(map(string, words)) + b")"


def _lines(part: Any) -> int:
    """Count the line ends of a body, as servers do."""
    body: bytes = part.raw_body
    return body.count(b"\n")
