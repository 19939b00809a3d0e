"""HTML as offsets: where tags, attributes, their values, comments and raw texts stand.

A text is never parsed into a tree and never written anew: a plugin asks where something
stands, and replaces that piece (:meth:`Edits.replace_spans`), so all else stays the same.
The rules are those of the tokenizer that every browser has (WHATWG HTML, 13.2.5), on any
text, with three differences that make it see more rather than less:

- An element of raw text (``<style>``, ``<title>``) or a comment that is never closed hides
  nothing: what follows it is read as tags, where a browser takes all the rest for its text.
- ``<noscript>`` and ``<plaintext>`` are elements as any other.
- ``<![CDATA[`` is a piece of its own, and what follows it is read as tags.

What depends on the tree (``<style>`` within ``<svg>`` or ``<select>``) can't be known here;
:func:`tags` therefore looks into raw texts and conditional comments, too.

All work is linear in the length of the text: each regular expression gives nothing back that
it has taken (possessive), and what was searched for in vain is not searched for again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from functools import cached_property, lru_cache
from html.entities import html5

#: A replacement: from offset, to offset, by this text.
Span = tuple[int, int, str]

#: Elements whose content is text, whatever stands in it, up to their own end tag.
RAW_TEXT = frozenset({"script", "style", "title", "textarea", "xmp", "iframe", "noembed", "noframes"})

_BLANK = r"\t\n\f\r "
_VALUE = rf"""(?:"[^"]*+(?:"|\Z)|'[^']*+(?:'|\Z)|[^{_BLANK}>"'][^{_BLANK}>]*+)"""
_ATTRIBUTE = rf"[^{_BLANK}/>][^{_BLANK}/>=]*+(?:[{_BLANK}]*+=[{_BLANK}]*+{_VALUE}?+)?+"
_INNER = rf"(?:[{_BLANK}/]++|{_ATTRIBUTE})*+"
_NAME = rf"[A-Za-z][^{_BLANK}/>]*+"

_TAG = re.compile(rf"<(/?)({_NAME}){_INNER}(>?)")
_ATTRIBUTES = re.compile(
    rf"([^{_BLANK}/>][^{_BLANK}/>=]*+)(?:[{_BLANK}]*+=[{_BLANK}]*+"
    rf"""(?:"([^"]*+)(?:"|\Z)|'([^']*+)(?:'|\Z)|([^{_BLANK}>"'][^{_BLANK}>]*+))?+)?+"""
)
_TEXT = r"[^<]++|<(?![A-Za-z/!?])"
_CONDITION = re.compile(rf"[{_BLANK}]*+\[if\b[^\]>]{{0,1000}}\]?>?", re.IGNORECASE)
_COMMENT_END = re.compile("--!?>")
_CDATA = "<![CDATA["


class Kind(StrEnum):
    """What a piece of HTML is."""

    START = "start tag"
    END = "end tag"
    RAW = "raw text"  # all between the tags of an element of RAW_TEXT
    COMMENT = "comment"
    CONDITIONAL = "conditional comment"  # <!--[if mso]> ... <![endif]-->
    DECLARATION = "declaration"  # <!DOCTYPE>, <!...>, <?...>, and </ before what is no name
    CDATA = "CDATA"  # the opening only


class Attribute:
    """One attribute of a tag.

    name: lower-case.  start, end: offsets, its quotes included.  value_start, value_end:
    offsets within its quotes; both are ``end`` if it has no value.  quote: ``"``, ``'`` or "".
    raw: the value as it stands.
    """

    __slots__ = ("end", "name", "quote", "raw", "start", "value_end", "value_start")

    def __init__(self, found: re.Match[str]) -> None:
        self.name = found[1].lower()
        self.start, self.end = found.span()
        group = found.lastindex or 1
        if group == 1:
            self.value_start = self.value_end = self.end
            self.quote = self.raw = ""
        else:
            self.value_start, self.value_end = found.span(group)
            self.quote = ("", "", '"', "'", "")[group]
            self.raw = found[group]

    def __repr__(self) -> str:
        return f"Attribute({self.name}, {self.raw!r})"

    @property
    def value(self) -> str:
        """The value with its character references decoded."""
        return decode_references(self.raw) if "&" in self.raw else self.raw

    def replaced(self, value: str) -> Span:
        """Return the replacement that gives the attribute this value, in the quotes it has."""
        value = value.replace("&", "&amp;")
        if self.quote:
            value = value.replace(self.quote, "&quot;" if self.quote == '"' else "&#39;")
            return self.value_start, self.value_end, value
        value = value.replace('"', "&quot;")
        if self.value_start == self.value_end:
            return self.end, self.end, f'="{value}"'
        return self.value_start, self.value_end, f'"{value}"'


class Token:
    """One piece of HTML that is not text.

    name: of the tag, or of the element that a raw text is of; lower-case; else "".
    start, end: offsets.  content_start, content_end: of what stands within a comment.
    closed: whether its end was found; else the text was over.
    """

    __slots__ = ("__dict__", "closed", "content_end", "content_start", "end", "kind", "name", "start", "text")

    def __init__(
        self,
        text: str,
        kind: Kind,
        start: int,
        end: int,
        name: str = "",
        closed: bool = True,
        content: tuple[int, int] = (0, 0),
    ) -> None:
        self.text = text
        self.kind = kind
        self.start = start
        self.end = end
        self.name = name
        self.closed = closed
        self.content_start, self.content_end = content

    def __repr__(self) -> str:
        return f"Token({self.kind}, {self.start}, {self.end}, {self.name!r})"

    @cached_property
    def attributes(self) -> list[Attribute]:
        """The attributes of a start tag, first to last, doubles too; none of anything else."""
        if self.kind is not Kind.START:
            return []
        stop = self.end - 1 if self.closed else self.end
        begin = self.start + 1 + len(self.name)
        return [Attribute(found) for found in _ATTRIBUTES.finditer(self.text, begin, stop)]

    def get(self, name: str) -> Attribute | None:
        """Return the first attribute of that name (lower-case), as a browser does, or None."""
        return next((one for one in self.attributes if one.name == name), None)


@lru_cache(64)
def _skip(names: frozenset[str] | None, quiet: str) -> re.Pattern[str]:
    """Return the expression for all that need not be looked at: text, and tags of other names."""
    if names is None:
        return re.compile(f"(?:{_TEXT}|{quiet})*+" if quiet else f"(?:{_TEXT})*+")
    wanted = "|".join(map(re.escape, sorted(names | RAW_TEXT)))
    other = rf"</?(?!(?i:{wanted})(?:[{_BLANK}/>]|\Z)){_NAME}{_INNER}>"
    return re.compile(f"(?:{_TEXT}|{other})*+")


@lru_cache(len(RAW_TEXT))
def _end_tag(name: str) -> re.Pattern[str]:
    return re.compile(rf"</{name}(?=[{_BLANK}/>])", re.IGNORECASE)


#: Attributes that do nothing by themselves, whatever their value.
_QUIET = (
    "class|id|align|valign|width|height|border|cellpadding|cellspacing|bgcolor|color|dir|lang|title|alt"
    "|name|target|rel|role|face|size|colspan|rowspan|nowrap|summary|hspace|vspace"
)
_QUIET_ELEMENTS = (
    "a|b|i|u|p|s|br|hr|td|tr|th|table|tbody|thead|tfoot|div|span|img|font|center|strong|em|small|big|sup|sub"
    "|h[1-6]|ul|ol|li|dl|dt|dd|blockquote|pre|code|o:p"
)


def quiet_tags(*attributes: str) -> str:
    """Return an expression for tags of plain formatting that :func:`tokens` is to pass over.

    attributes: expressions for others that may stand in them, with their values in quotes.
    """
    value = rf"""[{_BLANK}]*+=[{_BLANK}]*+(?:"[^"]*+"|'[^']*+'|[A-Za-z0-9#%_.\-]++)"""
    known = "|".join([rf"(?:{_QUIET})(?:{value})?+", *attributes])
    return rf"<(?i:(?:{_QUIET_ELEMENTS})(?:[{_BLANK}]++(?:{known}))*+[{_BLANK}]*+/?|/(?:{_QUIET_ELEMENTS}))>"


def tokens(
    text: str,
    start: int = 0,
    end: int | None = None,
    names: frozenset[str] | None = None,
    quiet: str = "",
) -> Iterator[Token]:
    """Give the pieces of a text, or of what stands between two offsets of it, in order.

    What stands between two of them is text.  With ``names``, only tags of these names are
    given, and comments, declarations and raw texts; with ``quiet``, an expression of
    :func:`quiet_tags`, all but these.  The others cost next to nothing, but then not all
    between two pieces is text.
    """
    end = len(text) if end is None else end
    skip = _skip(names, quiet).match
    tag = _TAG.match
    missing: set[str] = set()
    place = start
    while True:
        skipped = skip(text, place, end)
        place = skipped.end() if skipped is not None else place
        if place >= end:
            return
        found = tag(text, place, end)
        if found is None:
            token = _other(text, place, end, missing)
            if token is None:
                return
            yield token
            place = token.end
            continue
        name = found[2].lower()
        if len(name) != len(found[2]):  # lower-casing lengthens a few rare letters
            name = found[2]
        place = found.end()
        kind = Kind.END if found[1] else Kind.START
        if names is None or name in names or name in RAW_TEXT:
            yield Token(text, kind, found.start(), place, name, bool(found[3]))
        if kind is Kind.START and name in RAW_TEXT and name not in missing:
            closing = _end_tag(name).search(text, place, end)
            if closing is None:
                missing.add(name)
            else:
                at = closing.start()
                yield Token(text, Kind.RAW, place, at, name, True, (place, at))
                place = at


def _other(text: str, place: int, end: int, missing: set[str]) -> Token | None:
    """Return the comment or declaration that begins here; None if it is text to the end."""
    if text.startswith("<!--", place, end):
        return _comment(text, place, end, missing)
    if text.startswith(_CDATA, place, end):
        return Token(text, Kind.CDATA, place, place + len(_CDATA))
    if place + 2 > end or (text.startswith("</", place) and place + 2 == end):
        return None
    close = text.find(">", place, end)
    stop = close + 1 if close >= 0 else end
    return Token(
        text, Kind.DECLARATION, place, stop, "", close >= 0, (place + 2, close if close >= 0 else end)
    )


def _comment(text: str, place: int, end: int, missing: set[str]) -> Token:
    inner = place + 4
    for short in (">", "->"):
        if text.startswith(short, inner, end):
            return Token(text, Kind.COMMENT, place, inner + len(short), "", True, (inner, inner))
    closing = _COMMENT_END.search(text, inner, end) if "--" not in missing else None
    content_end, stop = closing.span() if closing is not None else (end, end)
    kind = Kind.COMMENT
    condition = _CONDITION.match(text, inner, content_end)
    if condition is not None:
        kind = Kind.CONDITIONAL
        inner = condition.end()
    if closing is None:
        missing.add("--")
        return Token(text, kind, place, inner, "", False, (inner, inner))
    return Token(text, kind, place, stop, "", True, (inner, content_end))


def tags(text: str, names: frozenset[str] | None = None, quiet: str = "") -> Iterator[Token]:
    """Give the start tags and raw texts, in order, also those that only some programs see.

    These are the ones within conditional comments (Outlook's), and within raw texts but
    scripts, whose elements may stand where they are ones of markup.
    """
    waiting = [tokens(text, names=names, quiet=quiet)]
    while waiting:
        token = next(waiting[-1], None)
        if token is None:
            waiting.pop()
            continue
        if token.kind is Kind.START or token.kind is Kind.RAW:
            yield token
        hidden = token.kind is Kind.CONDITIONAL or (token.kind is Kind.RAW and token.name != "script")
        if hidden and text.find("<", token.content_start, token.content_end) >= 0:
            # No deeper than there are kinds: what is in one holds no end of it, so no other such.
            waiting.append(tokens(text, token.content_start, token.content_end, names, quiet))


# -- character references ------------------------------------------------------

_REFERENCE = re.compile(r"&(?:#([0-9]++)|#[xX]([0-9A-Fa-f]++)|([A-Za-z][A-Za-z0-9]*+))(;?)")


def decode_references(raw: str) -> str:
    """Return an attribute's value with its character references decoded (WHATWG HTML, 13.2.5.72)."""
    return _REFERENCE.sub(_decoded, raw)


def decode_with_offsets(raw: str) -> tuple[str, Sequence[int]]:
    """Return the decoded value, and for each character of it, and its end, the offset in ``raw``."""
    if "&" not in raw:
        return raw, range(len(raw) + 1)
    pieces: list[str] = []
    offsets: list[int] = []
    place = 0
    for found in _REFERENCE.finditer(raw):
        pieces.append(raw[place : found.start()])
        offsets.extend(range(place, found.start()))
        character = _decoded(found)
        pieces.append(character)
        if character == found[0]:
            offsets.extend(range(found.start(), found.end()))
        else:
            offsets.extend([found.start()] * len(character))
        place = found.end()
    pieces.append(raw[place:])
    offsets.extend(range(place, len(raw) + 1))
    return "".join(pieces), offsets


def _decoded(found: re.Match[str]) -> str:
    decimal, hexadecimal, name, semicolon = found.groups()
    if name is not None:
        if semicolon:
            # A name that is none with its semicolon may begin with one that needs none, but
            # not in an attribute, where a letter or digit follows it.
            return html5.get(f"{name};") or (html5.get(name, name) + ";" if name in html5 else found[0])
        if found.string[found.end() : found.end() + 1] == "=":
            return found[0]
        return html5.get(name, found[0])
    digits = (decimal if decimal is not None else hexadecimal).lstrip("0") or "0"
    code = int(digits, 10 if decimal is not None else 16) if len(digits) <= 7 else 0
    if 0x80 <= code <= 0x9F:
        return bytes([code]).decode("cp1252", "replace")
    return chr(code) if 0 < code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF else "\ufffd"


def lay_in(text: str, spans: Iterable[Span]) -> str:
    """Return a text with replacements laid in; they are in order and apart."""
    pieces: list[str] = []
    place = 0
    for start, end, new in spans:
        pieces += (text[place:start], new)
        place = end
    pieces.append(text[place:])
    return "".join(pieces)
