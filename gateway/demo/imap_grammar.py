"""The arguments of an IMAP command, and sets of numbers (RFC 3501 section 9)."""

from __future__ import annotations

import re
from datetime import UTC, datetime

LITERAL = re.compile(rb"\{(\d{1,10})(\+?)\}\Z")
_ATOM = re.compile(rb'(?:\[[^\]]*\]|[^\s()"{])+')
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_DATE = re.compile(r"\s?(\d{1,2})-([A-Za-z]{3})-(\d{4})(?: (\d\d):(\d\d):(\d\d) ([+-]\d{4}))?")


class ImapSyntaxError(ValueError):
    """A command that can't be read; the text says what is wrong and is fit for a BAD response."""


class Atom(bytes):
    """A word that was neither quoted nor sent as a literal."""


class Group(list["bytes | Group"]):
    """A parenthesised list."""


def parse_arguments(text: bytes) -> Group:
    """Reads atoms, quoted strings, literals (with their bytes in place) and lists.

    Square brackets belong to the atom they stand in, so ``BODY[HEADER.FIELDS (A B)]<0.9>`` is one atom.
    Raises ImapSyntaxError.
    """
    stack = [Group()]
    position = 0
    while position < len(text):
        char = text[position : position + 1]
        if char == b" ":
            position += 1
        elif char == b"(":
            stack.append(Group())
            position += 1
            if len(stack) > 50:
                raise ImapSyntaxError("too deeply nested")
        elif char == b")":
            if len(stack) == 1:
                raise ImapSyntaxError("unbalanced parenthesis")
            done = stack.pop()
            stack[-1].append(done)
            position += 1
        elif char == b'"':
            value, position = _quoted(text, position + 1)
            stack[-1].append(value)
        elif char == b"{":
            end = text.find(b"\r\n", position)
            found = LITERAL.match(text[position:end]) if end >= 0 else None
            if found is None:
                raise ImapSyntaxError("bad literal")
            position = end + 2 + int(found[1])
            stack[-1].append(text[end + 2 : position])
        else:
            found = _ATOM.match(text, position)
            if found is None:
                raise ImapSyntaxError("bad character")
            stack[-1].append(Atom(found[0]))
            position = found.end()
    if len(stack) > 1:
        raise ImapSyntaxError("unbalanced parenthesis")
    return stack[0]


def _quoted(text: bytes, position: int) -> tuple[bytes, int]:
    value = bytearray()
    while position < len(text):
        char = text[position : position + 1]
        if char == b'"':
            return bytes(value), position + 1
        if char == b"\\":
            position += 1
            char = text[position : position + 1]
        value += char
        position += 1
    raise ImapSyntaxError("unfinished quoted string")


def parse_set(text: bytes, largest: int) -> list[range]:
    """Reads ``1:4,7,9:*`` where ``*`` is ``largest``. Raises ImapSyntaxError."""
    ranges = []
    for part in text.split(b","):
        ends = []
        for end in part.split(b":"):
            if end != b"*" and not (end.isdigit() and len(end) <= 10 and int(end) > 0):
                raise ImapSyntaxError("bad set of numbers")
            ends.append(largest if end == b"*" else int(end))
        if len(ends) > 2:
            raise ImapSyntaxError("bad set of numbers")
        ranges.append(range(min(ends), max(ends) + 1))
    return ranges


def show_set(numbers: list[int]) -> str:
    """The shortest way to write ascending numbers, as in COPYUID (RFC 4315)."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][1] + 1 == number:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(low) if low == high else f"{low}:{high}" for low, high in parts)


def parse_date(text: bytes) -> datetime:
    """Reads a date (``1-Mar-2024``) or a date-time with zone. Raises ImapSyntaxError."""
    found = _DATE.fullmatch(text.decode("ascii", "replace"))
    if found is None or found[2].title() not in _MONTHS:
        raise ImapSyntaxError("bad date")
    day, month, year = int(found[1]), _MONTHS.index(found[2].title()) + 1, int(found[3])
    try:
        if found[4] is None:
            return datetime(year, month, day, tzinfo=UTC)
        zone = datetime.strptime(found[7], "%z").tzinfo
        return datetime(year, month, day, int(found[4]), int(found[5]), int(found[6]), tzinfo=zone)
    except ValueError:
        raise ImapSyntaxError("bad date") from None


def show_date(moment: datetime) -> str:
    """INTERNALDATE without its quotes."""
    month = _MONTHS[moment.month - 1]
    return f"{moment.day:2}-{month}-{moment.year:04} {moment:%H:%M:%S %z}"


def quote(text: str) -> str:
    """A quoted string (for text without line ends)."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def nstring(value: bytes | None) -> bytes:
    """NIL, a quoted string, or a literal where a quoted string can't hold the value."""
    if value is None:
        return b"NIL"
    if len(value) > 500 or any(byte < 32 or byte > 126 for byte in value):
        return b"{%d}\r\n" % len(value) + value
    return b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
