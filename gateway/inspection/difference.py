"""What a reader would see changed: the difference of two messages, in lines.

The lines are those of a person, not of the wire: header fields and texts decoded, attachments
by name, size and digest.  They hold text of strangers, with its controls escaped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher

from ..core.text import shown
from .defects import Limits
from .parts import Part, parse
from .scan import Buffer

#: Octets of the text of one part, and of all, that are compared line by line.
_TEXT, _TEXTS = 256 * 1024, 1024 * 1024
#: Lines that are compared.
_LINES = 20_000
#: Parts that are compared.
_PARTS = 500
#: Lines on either side, what both have at their ends left out, that are aligned with each other.
_ALIGNED = 400
#: Characters of one line.
_WIDTH = 180


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of a message as a person reads it, and where it stands."""

    place: str
    text: str


def difference(old: Buffer, new: Buffer, limit: int = 2048, limits: Limits | None = None) -> tuple[str, ...]:
    """Return what differs: "@@ place", then lines with "-" and "+" before them.

    limit: characters in all; what is cut off is counted in the last line.
    """
    before = list(_lines(parse(old, limits)))
    after = list(_lines(parse(new, limits)))
    found: list[str] = []
    left = limit
    missing = 0
    for line in _changes(before, after):
        if missing or len(line) > left:
            missing += not line.startswith("@@")
            continue
        found.append(line)
        left -= len(line) + 1
    if missing:
        found.append(f"… {missing} more")
    if not found and old[:] != new[:]:
        found.append("@@ only octets that a reader does not see")
    return tuple(found)


def _changes(before: list[_Line], after: list[_Line]) -> Iterator[str]:
    head = 0
    most = min(len(before), len(after))
    while head < most and before[head] == after[head]:
        head += 1
    tail = 0
    while tail < most - head and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    before, after = before[head : len(before) - tail], after[head : len(after) - tail]
    place = ""
    if max(len(before), len(after)) > _ALIGNED:
        blocks = [(0, len(before), 0, len(after))]
    else:
        matcher = SequenceMatcher(None, before, after, autojunk=True)
        blocks = [(a, b, c, d) for what, a, b, c, d in matcher.get_opcodes() if what != "equal"]
    for start, end, new_start, new_end in blocks:
        by_place: dict[str, list[str]] = {}
        for sign, lines in (("-", before[start:end]), ("+", after[new_start:new_end])):
            for line in lines:
                by_place.setdefault(line.place, []).append(sign + line.text)
        for where, changed in by_place.items():
            if where != place:
                place = where
                yield f"@@ {place}"
            yield from changed


def _lines(root: Part) -> Iterator[_Line]:
    """Give a message as a person reads it: each part's header, then its text or its digest."""
    left, lines = _TEXTS, _LINES
    for count, (number, part) in enumerate(numbered(root)):
        if count >= _PARTS:
            yield _Line("more parts", f"{root.end - part.start} octets, {_digest(part)}")
            return
        place = f"{number} {shown(part.content_type, 60)}" if number else ""
        for field in part.fields:
            written = field.buffer[field.start : min(field.colon, field.start + 60)]
            text = f"{shown(written, 60)}: {shown(field.value, _WIDTH)}"
            yield _Line(f"{place} header".strip(), text)
        if part.children or part.is_multipart:
            continue
        size = part.end - part.body_start
        where = place or "body"
        if part.is_text and size <= min(_TEXT, left):
            left -= size
            texts = part.text().splitlines()
            for line in texts[:lines]:
                yield _Line(where, shown(line, _WIDTH))
            if len(texts) > lines:
                yield _Line(where, f"{len(texts) - lines} more lines, {_digest(part)}")
            lines = max(0, lines - len(texts))
        else:
            name = f" {shown(part.filename, 60)}" if part.filename else ""
            yield _Line(where, f"{size} octets{name}, {_digest(part)}")


def numbered(root: Part) -> Iterator[tuple[str, Part]]:
    """Give each part with its number: "" is the message itself, "2.1" the first part of its second."""
    stack = [("", root)]
    while stack:
        number, part = stack.pop()
        yield number, part
        inner = [
            (f"{number}.{place}" if number else str(place), child)
            for place, child in enumerate(part.children, 1)
        ]
        stack.extend(reversed(inner))


def _digest(part: Part) -> str:
    digest = hashlib.sha256()
    for start in range(part.body_start, part.end, 1 << 20):
        digest.update(part.buffer[start : min(part.end, start + (1 << 20))])
    return f"sha256 {digest.hexdigest()[:12]}"
