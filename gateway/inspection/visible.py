"""The text that a reader sees of HTML or XML, and where in the source each piece of it stands."""

from __future__ import annotations

import html
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

_INLINE = """
    a abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd label mark o:p q s samp small
    span strike strong sub sup time tt u var wbr
    w:r w:t w:rpr w:b w:i w:u w:rfonts w:color w:sz w:szcs w:lang w:prooferr a:r a:t a:rpr text:span t r
"""
#: Elements within a line: what stands before and after one is read as one word.
_WITHIN_LINE = frozenset(_INLINE.split())
#: Elements whose content is not shown.
_HIDDEN = ("script", "style", "title", "template")
_TAG = r"<(/?[A-Za-z][A-Za-z0-9:]{0,40}+)[^>]*+>"
_REFERENCE = r"&(?:#[0-9]{1,7}+|#[xX][0-9A-Fa-f]{1,6}+|[A-Za-z][A-Za-z0-9]{1,31}+);?"
_MARKED = r"<(?=[!?])"
_TOKEN = re.compile(f"{_TAG}|{_REFERENCE}|{_MARKED}")
#: For a source with no further ">".
_LAST_TOKEN = re.compile(f"<(/?[A-Za-z][A-Za-z0-9:]{{0,40}}+)|{_REFERENCE}|{_MARKED}")


@dataclass(slots=True)
class VisibleText:
    """What is seen of a source.

    A segment is a place in the source, one behind it, and whether what stands there is seen
    as it is written: a reference like ``&amp;`` is not.
    """

    text: str = ""
    _at: list[int] = field(default_factory=list)
    _segments: list[tuple[int, int, bool]] = field(default_factory=list)

    def in_source(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Give the pieces of the source that a piece of the text is made of: start, end, characters."""
        index = bisect_right(self._at, start) - 1
        while start < end and index < len(self._at):
            at = self._at[index]
            behind = self._at[index + 1] if index + 1 < len(self._at) else len(self.text)
            stop = min(end, behind)
            place, place_end, same = self._segments[index]
            if same and stop > start:
                yield place + start - at, place + stop - at, stop - start
            elif place_end > place:
                yield place, place_end, stop - start
            start = stop
            index += 1


def visible_text(source: str) -> VisibleText:
    """Return what is seen of HTML or XML: no tags, comments, scripts; references decoded.

    Blocks are set apart by a line break.  Never fails, and takes time in proportion.
    """
    seen = VisibleText()
    at, segments = seen._at, seen._segments
    pieces: list[str] = []
    size = place = 0
    closed: set[str] = set()  # ends that do not come any more
    token = _TOKEN
    last = source.rfind(">")
    while True:
        if place > last:
            token = _LAST_TOKEN
        match = token.search(source, place)
        stop = match.start() if match is not None else len(source)
        if stop > place:
            at.append(size)
            segments.append((place, stop, True))
            pieces.append(source[place:stop])
            size += stop - place
        if match is None:
            break
        place = match.end()
        name = match.group(1)
        if name is not None:
            name = name.lower()
            if name in _HIDDEN:
                place = _behind_element(source, name, place, closed)
            elif name in _WITHIN_LINE or (name[0] == "/" and name[1:] in _WITHIN_LINE):
                continue
            shown = "\n"
        elif source[stop] == "&":
            shown = html.unescape(source[stop:place])
        else:
            comment = source.startswith("<!--", stop)
            place = _behind(source, "-->" if comment else ">", stop + (4 if comment else 2), closed)
            continue
        at.append(size)
        segments.append((stop if shown != "\n" else place, place, False))
        pieces.append(shown)
        size += len(shown)
    seen.text = "".join(pieces)
    return seen


def _behind(source: str, mark: str, start: int, closed: set[str]) -> int:
    """Return the place behind the next mark; the end of all if there is none any more."""
    hit = -1 if mark in closed else source.find(mark, start)
    if hit < 0:
        closed.add(mark)
        return len(source)
    return hit + len(mark)


def _behind_element(source: str, name: str, start: int, closed: set[str]) -> int:
    pattern = _CLOSING[name]
    match = None if name in closed else pattern.search(source, start)
    if match is None:
        closed.add(name)
        return start  # an element that is never closed hides nothing for sure
    return match.end()


_CLOSING = {name: re.compile(f"</{name}[^>]{{0,200}}>", re.IGNORECASE) for name in _HIDDEN}
