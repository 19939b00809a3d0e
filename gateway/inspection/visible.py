"""The text that a reader sees of HTML or XML, and where in the source each piece of it stands."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import unescape

_BLOCKS = """
    address article aside blockquote body br button caption center col colgroup dd details dialog dir div dl
    dt fieldset figcaption figure footer form frame frameset h1 h2 h3 h4 h5 h6 head header hgroup hr html
    iframe input legend li listing main menu nav ol optgroup option p plaintext pre search section select
    summary table tbody td textarea tfoot th thead tr ul xmp
"""
_INLINE = """
    a abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd label mark o:p q s samp small
    span strike strong sub sup time tt u var wbr
    w:r w:t w:rpr w:b w:i w:u w:rfonts w:color w:sz w:szcs w:lang w:prooferr a:r a:t a:rpr text:span t r
"""
#: Tags of HTML that end a line or a cell.  A browser shows any other within the line.
_BREAKING = frozenset(sign + name for name in _BLOCKS.split() for sign in ("", "/"))
#: Tags of XML within a line: what stands before and after one is read as one word.
_WITHIN_LINE = frozenset(sign + name for name in _INLINE.split() for sign in ("", "/"))
#: Elements whose content is not shown.
_HIDDEN = ("script", "style", "title", "template")
#: Tags of elements whose line ends are shown as they stand.
_KEEPS_LINES = ("pre", "/pre", "textarea", "/textarea", "xmp", "/xmp", "listing", "/listing", "plaintext")
#: Stands for a line end that is shown, until the others are blanks.
_BREAK = "\v"
#: What is shown as one blank though it is not written so.
_BLANKS = re.compile(r"[ \t\r\n\f]{2,}+|[\t\r\n\f]")
_NAME = r"<(/?[A-Za-z][^\t\n\f\r />]{0,40}+)"
#: As browsers read them (WHATWG HTML 13.2.5.32 to 39): a ">" in a quoted value ends no tag.
_ATTRIBUTES = (
    r"(?:[\t\n\f\r /]++|(?:=[^\t\n\f\r />=]*+|[^\t\n\f\r />=]++)"
    r"(?:[\t\n\f\r ]*+=[\t\n\f\r ]*+(?:\"[^\"]*+\"|'[^']*+'|[^\t\n\f\r >\"'][^\t\n\f\r >]*+)?+)?+)*+>"
)
_REFERENCE = r"&(?:#[0-9]{1,7}+|#[xX][0-9A-Fa-f]{1,6}+|[A-Za-z][A-Za-z0-9]{1,31}+);?"
_MARKED = r"<(?=[!?])"
#: First of all what most tags have, which is as the former but faster.
_TAG = rf"{_NAME}((?: [A-Za-z:-]++=\"[^\"]*+\")*+(?:>|{_ATTRIBUTES}))?+"
_TOKEN = re.compile(f"{_TAG}|{_REFERENCE}|{_MARKED}")
#: Behind a tag that a quote leaves open to the end.
_LENIENT_TOKEN = re.compile(f"{_NAME}([^>]*+>)?+|{_REFERENCE}|{_MARKED}")
#: For a source with no further ">".
_LAST_TOKEN = re.compile(f"{_NAME}|{_REFERENCE}|{_MARKED}")


@dataclass(slots=True)
class VisibleText:
    """What is seen of a source.

    A segment is a place in the source, one behind it, and whether what stands there is seen
    as it is written: a reference like ``&amp;`` is not.
    """

    text: str = ""
    _at: list[int] = field(default_factory=list)
    _segments: list[tuple[int, int, bool]] = field(default_factory=list)
    _unsqueezed: str = ""  # the text that the segments are of, if it is another
    _runs: tuple[list[int], list[int]] | None = None

    def in_source(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Give the pieces of the source that a piece of the text is made of: start, end, characters."""
        if self._unsqueezed and end > start:
            start, end = self._before_squeezing(start), self._before_squeezing(end - 1) + 1
        size = len(self._unsqueezed or self.text)
        index = bisect_right(self._at, start) - 1
        while start < end and index < len(self._at):
            at = self._at[index]
            behind = self._at[index + 1] if index + 1 < len(self._at) else size
            stop = min(end, behind)
            place, place_end, same = self._segments[index]
            if same and stop > start:
                yield place + start - at, place + stop - at, stop - start
            elif place_end > place:
                yield place, place_end, stop - start
            start = stop
            index += 1

    def _before_squeezing(self, place: int) -> int:
        """Return where a character of the text stood before runs of blanks became one."""
        if self._runs is None:
            behind, lost = [0], [0]
            for match in _BLANKS.finditer(self._unsqueezed):
                behind.append(match.start() + 1 - lost[-1])
                lost.append(lost[-1] + match.end() - match.start() - 1)
            self._runs = behind, lost
        behind, lost = self._runs
        return place + lost[bisect_right(behind, place) - 1]


def visible_text(source: str, *, html: bool = True) -> VisibleText:
    """Return what is seen of HTML or XML: no tags, comments, scripts; references decoded.

    Blocks are set apart by a line break, and blanks are one.  Never fails, and takes time in
    proportion.
    """
    seen = VisibleText()
    put_at, put_segment = seen._at.append, seen._segments.append
    pieces: list[str] = []
    put = pieces.append
    size = place = 0
    closed: set[str] = set()  # ends that do not come any more
    token = _TOKEN
    last = source.rfind(">")
    bang = source.find("--!>")
    broken = kept = False  # whether a line end is the last that is shown, and whether line ends stay
    while True:
        if place > last:
            token = _LAST_TOKEN
        match = token.search(source, place)
        stop = match.start() if match is not None else len(source)
        if stop > place:
            piece = source[place:stop]
            if not (broken and piece.isspace()):
                put_at(size)
                put_segment((place, stop, True))
                put(piece.replace("\n", _BREAK) if kept else piece)
                size += stop - place
                broken = False
        if match is None:
            break
        place = match.end()
        name = match.group(1)
        if name is not None:
            name = name.lower()
            if token is _TOKEN and match.group(2) is None:
                token = _LENIENT_TOKEN
                place = max(place, source.find(">", place) + 1)
            if name in _HIDDEN and source[place - 2] != "/":  # within SVG a slash closes it
                place = _behind_element(source, name, place, closed)
            if (name not in _BREAKING) if html else (name in _WITHIN_LINE):
                continue
            if name in _KEEPS_LINES:
                kept = name[0] != "/"
            if broken:
                continue
            broken = True
            put_at(size)
            put_segment((place, place, False))
            put(_BREAK)
            size += 1
        elif source[stop] == "&":
            shown = unescape(source[stop:place])
            put_at(size)
            put_segment((stop, place, False))
            put(shown)
            size += len(shown)
            broken = False
        elif source.startswith("<!--", stop):
            # "<!-->" is a whole comment, and "--!>" ends one.
            place = _behind(source, "-->", stop + 2, closed)
            if 0 <= bang < stop + 4:
                bang = source.find("--!>", stop + 4)
            if 0 <= bang < place:
                place = bang + 4
        else:
            place = _behind(source, ">", stop + 2, closed)
    text = "".join(pieces)
    squeezed = text.replace("\r\n", " ").replace("\n", " ")
    if "  " in squeezed or "\t" in squeezed or "\r" in squeezed or "\f" in squeezed:
        squeezed = _BLANKS.sub(" ", squeezed)
    seen.text = squeezed.replace(_BREAK, "\n")
    if squeezed != text:
        seen._unsqueezed = text
    return seen


def flowed_text(source: str, *, without_blank: bool) -> VisibleText:
    """Return format=flowed text with the lines joined that a reader sees as one (RFC 3676 4.2).

    without_blank: the parameter DelSp.
    """
    seen = VisibleText()
    place = size = 0
    pieces: list[str] = []
    for match in _SOFT_BREAK.finditer(source):
        stop = match.start() + (not without_blank)
        seen._at.append(size)
        seen._segments.append((place, stop, True))
        pieces.append(source[place:stop])
        size += stop - place
        place = match.end()
    seen._at.append(size)
    seen._segments.append((place, len(source), True))
    seen.text = "".join([*pieces, source[place:]])
    return seen


#: With the quote marks of the next line, or the blank that is put before some lines.
_SOFT_BREAK = re.compile(r" \r?\n>{0,100}+ ?")


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
