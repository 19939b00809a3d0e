"""Where the body of an HTML document begins and ends, read as a browser reads it."""

from __future__ import annotations

import re

from .html import Kind, tokens

_WS = r" \t\n\f\r"
_BLANK = re.compile(f"[{_WS}]*+")
#: A value that has a beginning and no end makes the whole no tag.
_VALUE = rf"""(?:[{_WS}]*+=[{_WS}]*+(?:"[^"]*+"|'[^']*+'|(?!["'])[^{_WS}>]*+)|(?![{_WS}]*+=))"""
_TAG = re.compile(
    rf"<(/?)([a-z][^{_WS}/>]*+)(?:[{_WS}/]++|[^{_WS}/>][^{_WS}/>=]*+{_VALUE})*+>", re.ASCII | re.IGNORECASE
)
_COMMENT_END = re.compile("--!?>")
#: Tags that stand before the body and show nothing.
_UNSEEN = ("html", "head", "meta", "link", "base", "basefont", "bgsound")
_RAW = {
    name: re.compile(rf"</{name}(?=[{_WS}/>])", re.ASCII | re.IGNORECASE)
    for name in ("title", "style", "script")
}
_MOST_STEPS = 5000


def body_begins(text: str) -> int:
    """Return where the body begins: behind its tag, or before the first that implies it.

    A <body> in a comment, a title or an attribute is none (WHATWG HTML 13.2.6.4.1 to 6).
    Where something has no end it is before that.  Linear in the text's length.
    """
    place = int(text.startswith("\ufeff"))
    for _ in range(_MOST_STEPS):
        blank = _BLANK.match(text, place)
        place = blank.end() if blank else place
        end, is_body = _step(text, place)
        if is_body:
            return end
        if end <= place:
            break
        place = end
    return place


def _step(text: str, place: int) -> tuple[int, bool]:
    """Return the end of what is not shown, or 0 for what is, and whether it is a <body>."""
    if text.startswith(("<!-->", "<!--->"), place):
        return text.index(">", place) + 1, False
    if text.startswith("<!--", place):
        comment = _COMMENT_END.search(text, place + 4)
        return comment.end() if comment else 0, False
    if text.startswith(("<!", "<?"), place):
        return text.find(">", place) + 1, False
    tag = _TAG.match(text, place)
    if tag is None:
        return 0, False
    closing, name = tag[1], tag[2].lower()
    if closing:
        return 0 if name in ("body", "html", "br") else tag.end(), False
    if name == "body":
        return tag.end(), True
    if name in _UNSEEN:
        return tag.end(), False
    end = _RAW[name].search(text, tag.end()) if name in _RAW else None
    if end is None or (name == "script" and "<!--" in text[tag.end() : end.start()]):
        return 0, False
    return end.start(), False  # its end tag is the next step


# -- the end -------------------------------------------------------------------

_END = "</body"
#: What stands from there on in nearly all documents: nothing that ends a script or a comment.
_PLAIN_END = re.compile(rf"(?:</body[{_WS}]*+>[{_WS}]*+(?:</html[{_WS}]*+>[{_WS}]*+)?+)?+\Z", re.IGNORECASE)
#: Where it nearly always stands: that much at the end.
_TAIL = 1000


def body_ends(text: str) -> int:
    """Return where the body ends: before its last end tag, or before a tag or comment without end.

    A </body> in a comment, a script or an attribute is none.  Linear in the text's length.
    """
    tail = max(0, len(text) - _TAIL)
    hit = text[tail:].lower().rfind(_END)
    if hit < 0:
        tail, hit = 0, text.lower().rfind(_END)
    place = tail + hit if hit >= 0 else len(text)
    if _PLAIN_END.match(text, place) and _is_in_text(text, place):
        return place
    return _end_by_tokens(text)


def _is_in_text(text: str, place: int) -> bool:
    """Tell whether a place is surely in no tag and no comment; much faster than reading them all."""
    between = text[text.rfind(">", 0, place) + 1 : place]
    if "<" in between or '"' in between or "'" in between:
        return False
    for quote in "\"'":
        # Within a value the last quote is the one that opens it: "=" and blanks stand before it.
        last = text.rfind(quote, 0, place)
        if last >= 0 and text[last - 1] in "= \t\n\f\r":
            return False
    opened = text.rfind("<!--", 0, place)
    return opened < 0 or text.rfind("-->", opened, place) >= 0


def _end_by_tokens(text: str) -> int:
    found, shown = -1, 0
    for token in tokens(text):
        if not token.closed:
            return found if found >= 0 else token.start
        if token.kind is Kind.CDATA and token.end > shown:  # a comment to browsers
            shown = text.find(">", token.end) + 1 or len(text)
        elif token.kind is Kind.END and token.name == "body" and token.start >= shown:
            found = token.start
    return found if found >= 0 else len(text)
