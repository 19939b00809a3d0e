"""What a style sheet of a message loads and runs, found without parsing it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from .html import Span, lay_in
from .urls import clean_url

_ESCAPE = re.compile(r"\\(?:([0-9A-Fa-f]{1,6})(?:\r\n|[ \t\r\n\f])?|(\r\n|[\r\n\f])|(.))", re.DOTALL)
#: Tab, LF and CR: URLs lose them.
_DROPPED = (9, 10, 13)
_NOT_SHOWN = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\u200b-\u200f\ufeff]")
#: A URL in its function, a string, or a URL that tells so itself, wherever it stands (image-set).
#: A string is only looked at, for what opens one here may be what closes one to others.
_URL = re.compile(
    r"""url\(\s*+(?!["'\s])([^\s"'()]*+)|(url\(\s*+)?+(?:"(?=([^"\r\n\f]*+))|'(?=([^'\r\n\f]*+)))"""
    r"""|((?:(?:https?|ftp|file):|(?<![:\w/*\\])[/\\](?=[/\\]++[\w\[%@:]))[^\s"'()<>;,]*+)""",
    re.IGNORECASE,
)
_TELLS = re.compile(r"(?:https?|ftp|file):|[/\\]{2}", re.IGNORECASE)
#: What nothing can be loaded from.
EMPTY_URL = "data:,"


def plain_css(css: str) -> str:
    """Return a style with its escapes resolved and its comments left out, in lower case.

    Letters of full width become plain ones, and what is not shown goes: what a lenient program
    might read in it.
    """
    if "\\" in css:
        css = _ESCAPE.sub(_resolved, css)
    return unicodedata.normalize("NFKC", _NOT_SHOWN.sub("", _without_comments(css))).lower()


def _without_comments(css: str) -> str:
    pieces: list[str] = []
    place = 0
    while (start := css.find("/*", place)) >= 0 and (end := css.find("*/", start + 2)) >= 0:
        pieces.append(css[place:start])
        place = end + 2
    return "".join(pieces) + css[place:]


def _resolved(found: re.Match[str]) -> str:
    if found[1] is not None:
        code = int(found[1], 16)
        if code in _DROPPED:
            return ""
        return chr(code) if 0 < code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF else "\ufffd"
    return found[3] or ""


def url_spans(css: str, unwanted: Callable[[str], bool]) -> list[Span]:
    """Return the replacements that leave a style without the URLs that are not wanted.

    They are also taken out of strings and comments.  A style that hides one of them by
    escapes or by comments is emptied as a whole.
    """
    spans = _plain_spans(css, unwanted)
    if "\\" in css or "*/" in css:
        left = lay_in(css, spans)
        for hidden in (_ESCAPE.sub(_resolved, left), _without_comments(left), plain_css(left)):
            if _plain_spans(hidden, unwanted):
                return [(0, len(css), "")]
    return spans


def _plain_spans(css: str, unwanted: Callable[[str], bool]) -> list[Span]:
    spans: list[Span] = []
    for found in _URL.finditer(css):
        group = found.lastindex or 1
        if spans and found.start(group) < spans[-1][1]:
            continue
        url = clean_url(found[group])
        if group in (3, 4) and not found[2] and ("\t" not in found[group] or not _TELLS.match(url)):
            continue
        if unwanted(url):
            spans.append((*found.span(group), EMPTY_URL))
    return spans
