"""IMAP literals: ``{n}``, ``{n+}`` and ``~{n}`` at the end of a line (RFC 9051 4.3, 7888, 3516)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LITERAL = re.compile(rb"(~?)\{(\d+)(\+?)\}\Z")
#: Digits of a size that can be meant.  More are a size beyond any bound.
_MAX_DIGITS = 18


@dataclass(slots=True)
class Literal:
    """What the end of a line announces.

    before: the line up to the literal's first character.
    size: octets.  synchronising: the sender waits for a continuation.  binary: literal8.
    """

    before: bytes
    size: int
    synchronising: bool
    binary: bool


def literal_at_end(line: bytes) -> Literal | None:
    """Return the literal that a line (without its end) announces; None if it announces none."""
    if line[-1:] != b"}":
        return None
    found = _LITERAL.search(line, max(0, len(line) - 64))
    if found is None:
        return None
    digits = found.group(2).lstrip(b"0") or b"0"
    size = int(digits) if len(digits) <= _MAX_DIGITS else 1 << 63
    return Literal(line[: found.start()], size, not found.group(3), bool(found.group(1)))


def in_quotes(line: bytes) -> bool:
    """Tell whether a line ends within a quoted string: then what looks like a literal is none."""
    quoted, index = False, line.find(b'"')
    if index < 0:
        return False
    while index < len(line):
        octet = line[index]
        if quoted and octet == 0x5C:
            index += 2
            continue
        if octet == 0x22:
            quoted = not quoted
            if not quoted:
                index = line.find(b'"', index + 1)
                if index < 0:
                    return False
                continue
        index += 1
    return quoted


def quote(text: bytes) -> bytes | None:
    """Write octets as a quoted string; None if it can't hold them."""
    if any(octet in text for octet in (b"\r", b"\n", b"\0")):
        return None
    return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
