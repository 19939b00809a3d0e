"""FETCH, both ways: what a client asks for, and the items of a response (RFC 9051 6.4.5, 7.5.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum

_MACROS = {
    b"ALL": (b"FLAGS", b"INTERNALDATE", b"RFC822.SIZE", b"ENVELOPE"),
    b"FAST": (b"FLAGS", b"INTERNALDATE", b"RFC822.SIZE"),
    b"FULL": (b"FLAGS", b"INTERNALDATE", b"RFC822.SIZE", b"ENVELOPE", b"BODY"),
}
_ITEM = re.compile(
    rb'([A-Za-z0-9.\-]+)(?:\[((?:[^\]"]|"(?:[^"\\]|\\.)*")*)\])?(?:<(\d{1,18})(?:\.(\d{1,18}))?>)?'
)
_SET = re.compile(rb"[0-9*:,$]{1,8192}\Z")
_PART = re.compile(rb"(\d{1,5}(?:\.\d{1,5}){0,49})?\.?(.*)\Z", re.DOTALL)


class Kind(Enum):
    """What an item tells of a message."""

    OTHER = "other"  # nothing that a rewritten message changes: FLAGS, UID, INTERNALDATE, ...
    LISTING = "listing"  # what clients list mailboxes by: size, structure, envelope, header
    PIECE = "piece"  # text of it, in part
    WHOLE = "whole"  # all of it
    LEAK = "leak"  # text of the original that can't be made anew: PREVIEW


@dataclass(slots=True)
class Item:
    """One item of a FETCH command.

    name: upper case, ``BODY[`` for one with a section.  section: what stands in the brackets,
    as the client wrote it.  origin, count: of ``<origin.count>``.
    """

    raw: bytes
    name: bytes
    section: bytes = b""
    origin: int | None = None
    count: int | None = None
    kind: Kind = Kind.OTHER

    @property
    def path(self) -> tuple[int, ...]:
        """The part's number: (1, 2) of ``1.2.MIME``."""
        found = _PART.match(self.section)
        digits = found.group(1) if found else None
        return tuple(int(one) for one in digits.split(b".")) if digits else ()

    @property
    def text(self) -> bytes:
        """What of the part: b"", ``HEADER``, ``TEXT``, ``MIME``, ``HEADER.FIELDS (...)``."""
        found = _PART.match(self.section)
        return found.group(2) if found else b""


@dataclass(slots=True)
class Fetch:
    """A FETCH command: which messages, which items, and the modifiers behind them."""

    numbers: bytes
    items: list[Item] = field(default_factory=list)
    modifiers: bytes = b""

    def has(self, kind: Kind) -> bool:
        """Tell whether it asks for an item of that kind."""
        return any(item.kind is kind for item in self.items)


def parse_fetch(arguments: bytes) -> Fetch | None:
    """Read the arguments of FETCH; None where they are not what RFC 9051 says."""
    numbers, _, rest = arguments.partition(b" ")
    rest = rest.lstrip(b" ")
    if not _SET.match(numbers) or not rest:
        return None
    fetch = Fetch(numbers)
    if rest[:1] != b"(":
        found = _ITEM.match(rest)
        if found is None:
            return None
        macro = _MACROS.get(found.group(0).upper())
        words = [_ITEM.match(word) for word in macro] if macro else [found]
        fetch.items = [_item(word) for word in words if word is not None]
        position = found.end()
    else:
        position = 1
        while rest[position : position + 1] != b")":
            found = _ITEM.match(rest, position)
            if found is None:
                return None
            fetch.items.append(_item(found))
            position = found.end()
            blank = rest[position : position + 1]
            if blank == b" ":
                position += 1
            elif blank != b")":
                return None
        position += 1
    fetch.modifiers = rest[position:].strip(b" ")
    if fetch.modifiers and fetch.modifiers[:1] != b"(":
        return None
    return fetch if fetch.items else None


def _item(found: re.Match[bytes]) -> Item:
    name, section, origin, count = found.groups()
    word = name.upper()
    item = Item(found.group(0), word if section is None else word + b"[")
    item.section = section or b""
    item.origin = int(origin) if origin is not None else None
    item.count = int(count) if count is not None else None
    item.kind = _kind(item)
    return item


def _kind(item: Item) -> Kind:
    name = item.name
    if name in (b"RFC822.SIZE", b"ENVELOPE", b"BODY", b"BODYSTRUCTURE", b"RFC822.HEADER"):
        return Kind.LISTING
    if name in (b"BODY[", b"BODY.PEEK["):
        if item.origin is not None:
            return Kind.PIECE
        if not item.section:
            return Kind.WHOLE
        return Kind.LISTING if item.section[:6].upper() == b"HEADER" else Kind.PIECE
    if name == b"RFC822":
        return Kind.WHOLE
    if name == b"RFC822.TEXT" or name.startswith(b"BINARY"):
        return Kind.PIECE
    return Kind.LEAK if name in (b"PREVIEW", b"SNIPPET") else Kind.OTHER


def count_of(numbers: bytes, most: int) -> int:
    """Return how many messages a set names, at most ``most + 1``; that too where nobody can tell."""
    total = 0
    for piece in numbers.split(b","):
        first, colon, last = piece.partition(b":")
        if colon and first.isdigit() and last.isdigit():
            total += abs(int(last) - int(first)) + 1
        elif not colon and (first.isdigit() or first == b"*"):
            total += 1
        else:
            return most + 1
        if total > most:
            return most + 1
    return total


# -- responses -----------------------------------------------------------------

#: Stands in a response's text for a literal: NUL can't stand there (RFC 9051 9).
MARK = b"\0%d\0"
_HEAD = re.compile(rb"\* (\d+) FETCH \(", re.IGNORECASE)
_NAME = re.compile(rb'([A-Za-z0-9.\-]+(?:\[(?:[^\]"]|"(?:[^"\\]|\\.)*")*\])?(?:<\d+>)?) ')
_ATOM_END = re.compile(rb"[ )]")
_STRUCTURE = re.compile(rb'["()\0]')
_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)


@dataclass(slots=True)
class Answered:
    """One item of a FETCH response: its name as it stands, and its value with literals as marks."""

    name: bytes
    value: bytes


@dataclass(slots=True)
class Response:
    """One FETCH response."""

    number: int
    items: list[Answered]

    def value(self, name: bytes) -> bytes | None:
        """Return the value of the item of that name (upper case); None if it is not there."""
        return next((item.value for item in self.items if item.name.upper() == name), None)

    @property
    def uid(self) -> int:
        """The UID it tells; 0 if none."""
        value = self.value(b"UID")
        return int(value) if value is not None and value.isdigit() and len(value) < 19 else 0


def parse_response(text: bytes) -> Response | None:
    """Read a FETCH response, its literals replaced by marks; None if it is none, or broken."""
    head = _HEAD.match(text)
    if head is None:
        return None
    position = head.end()
    items: list[Answered] = []
    while text[position : position + 1] != b")":
        found = _NAME.match(text, position)
        if found is None:
            return None
        end = _value_end(text, found.end())
        if end < 0:
            return None
        items.append(Answered(found.group(1), text[found.end() : end]))
        position = end + 1 if text[end : end + 1] == b" " else end
    return Response(int(head.group(1)[:18]), items)


def _value_end(text: bytes, start: int) -> int:
    """Return where the value that begins at ``start`` ends; -1 if it does not.  No recursion."""
    first = text[start : start + 1]
    if first == b'"':
        quoted = _QUOTED.match(text, start)
        return quoted.end() if quoted else -1
    if first == b"\0":
        end = text.find(b"\0", start + 1)
        return end + 1 if end >= 0 else -1
    if first != b"(":
        found = _ATOM_END.search(text, start)
        return found.start() if found and found.start() > start else -1
    depth, position = 0, start
    while True:
        found = _STRUCTURE.search(text, position)
        if found is None:
            return -1
        position = found.end()
        mark = found.group()
        if mark == b"(":
            depth += 1
        elif mark == b")":
            depth -= 1
            if not depth:
                return position
        elif mark == b'"':
            quoted = _QUOTED.match(text, found.start())
            if quoted is None:
                return -1
            position = quoted.end()
        else:
            position = text.find(b"\0", position) + 1
            if not position:
                return -1


def unquoted(value: bytes) -> bytes | None:
    """Return what a quoted string says; None if the value is none."""
    found = _QUOTED.match(value)
    if found is None or found.end() != len(value):
        return None
    return re.sub(rb"\\(.)", rb"\1", found.group(1), flags=re.DOTALL)
