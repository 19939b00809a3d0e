"""Where the body of an HTML document begins, read as a browser reads it."""

from __future__ import annotations

import re

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
