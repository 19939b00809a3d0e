"""What a program could be made to run by HTML, and the cuts that leave nothing of it.

The HTML is not written anew: pieces are cut, all else stays as it is.  That can be trusted
only if every program then reads what is left as this one does, so pieces that programs read
in different ways go as well: markup in a text that some take for markup, comments that end
twice, names with quotes in them.  And as cuts bring together what stood apart, what is left
is looked at again until there is nothing to cut.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from html import escape

from .css import plain_css
from .html import Attribute, Kind, Span, Token, decode_references, lay_in, quiet_tags, tokens

#: Schemes that can never be let through.
RUNNING_SCHEMES = frozenset({"javascript", "vbscript", "livescript", "jscript", "mocha", "data"})
_ALWAYS = frozenset({"script", "noscript", "base", "plaintext", "xmp", "noembed", "noframes", "comment"})
_ALWAYS |= {"isindex", "portal", "fencedframe", "bgsound", "layer", "ilayer", "xml", "handler", "listener"}
_ALWAYS |= {"animate", "animatecolor", "animatemotion", "animatetransform", "set", "import"}
#: Groups that an admin may let stay.
FRAMES = frozenset({"iframe", "frame", "frameset"})
OBJECTS = frozenset({"object", "embed", "applet", "param"})
FORMS = frozenset(
    {"form", "input", "button", "select", "option", "optgroup", "textarea", "datalist", "keygen"}
)
#: Removed with what is in them; of others the content stays, as text if it was that.
_WITH_CONTENT = frozenset({"script", "iframe", "noembed", "noframes"})
_LOADING_LINKS = frozenset({"import", "manifest", "preload", "modulepreload", "prefetch", "prerender"})
_URLS = frozenset({"href", "src", "action", "formaction", "background", "poster", "cite", "longdesc"})
_URLS |= {"lowsrc", "dynsrc", "data", "codebase", "classid", "code", "archive", "profile", "usemap"}
_URLS |= {"manifest", "icon", "ping", "srcset", "imagesrcset", "from", "to", "by", "values"}
_ATTRIBUTES = frozenset({"srcdoc", "datasrc", "dataformatas", "datafld", "attributename"})
_LINKS = frozenset({"a", "area", "form", "button", "iframe", "frame", "embed", "object", "link", "use"})
_DATA = re.compile(r"data:image/(?:png|gif|jpe?g|webp|bmp|avif|apng|x-icon|vnd\.microsoft\.icon)[;,]")
_NAME = re.compile(r"[a-z0-9:._\-\u0080-\U0010ffff]+")
_ODD_VALUE = re.compile("[\"'<`]")
_INVISIBLE = re.compile("[\x00-\x20\x7f-\xa0\xad\u2028\u2029\u200b-\u200f\u2060\ufeff\ufffd]")
_SCHEME = re.compile(r"[^:/?#\\]*+:")
_NO_SCHEME = re.compile(r"[^a-z0-9+.\-]")
_RUNNING_CSS = re.compile(
    r"expression(?=\s*\()|-moz-binding|-o-link|(?:java|vb|live)script\s{0,9}:"
    r"|(?<![\w\-])(?:-ms-)?behavior(?!\s*:\s*url\(#default#\w+\))(?=\s*:)",
    re.IGNORECASE,
)
#: Charsets in which plain letters may spell a tag that nobody sees.
_ODD_CHARSET = re.compile(r"utf-?7|utf-?16|utf-?32|iso-?2022|hz-gb|scsu|bocu|ebcdic|cp037|ibm", re.IGNORECASE)
_MOST_PASSES = 5


#: A style that can run nothing, whoever reads it.
_QUIET_STYLE = (
    r"""style="(?![^"]*?(?:expression|binding|behavio|script|link))[A-Za-z0-9 :;#%.,!\-'()\r\n\t]*+\""""
)


class Sanitiser:
    """Finds what is active in HTML.

    groups: FRAMES, OBJECTS, FORMS: those that go, too.  schemes: of the URLs that stay,
    besides relative ones; lower-case.
    """

    def __init__(self, groups: Iterable[frozenset[str]], schemes: Iterable[str]) -> None:
        self.elements = _ALWAYS.union(*groups)
        self.schemes = frozenset(schemes)
        safe = "|".join(sorted(map(re.escape, self.schemes)))
        self.quiet = quiet_tags(_QUIET_STYLE, rf"""(?:href|src)="(?:{safe}):[^"]*+\"""")

    def spans(self, text: str, removed: Counter[str]) -> list[Span]:
        """Return the replacements that leave nothing active; count in ``removed`` what they take.

        Raises ValueError for a text that stays active however often it is cut.
        """
        first = _Pass(self, text, removed).spans()
        left = lay_in(text, first)
        for number in range(_MOST_PASSES):
            again = _Pass(self, left, Counter()).spans() if first else []
            if not again:
                return first if number == 0 else [(0, len(text), left)]
            left = lay_in(left, again)
        raise ValueError("the HTML can't be made safe: cut it, and it becomes active again")


class _Pass:
    """One pass over a text."""

    def __init__(self, rules: Sanitiser, text: str, removed: Counter[str]) -> None:
        self.text = text
        self.elements = rules.elements
        self.schemes = rules.schemes
        self.quiet = rules.quiet
        self.removed = removed
        self.found: list[Span] = []

    def spans(self) -> list[Span]:
        self._range(0, len(self.text))
        return sorted(self.found)

    def _range(self, start: int, end: int) -> None:
        opened: Token | None = None  # of raw text, as long as its text hasn't come
        for token in tokens(self.text, start, end, quiet=self.quiet):
            if opened is not None and token.kind is not Kind.RAW:
                self._cut_unclosed(opened)
            opened = None
            if token.kind is Kind.CONDITIONAL and token.closed and self._plain_end(token):
                self._range(token.content_start, token.content_end)
            elif token.kind is Kind.RAW:
                self._raw(token)
            elif token.kind is Kind.START:
                raw = self._start(token) and token.name in ("style", "title", "textarea", "iframe")
                opened = token if raw else None
            elif token.kind is Kind.END:
                self._end(token)
            elif not self._is_plain(token, start, end):
                self._cut(token.start, token.end, str(token.kind).partition(" ")[0])
        if opened is not None:
            self._cut_unclosed(opened)

    def _cut_unclosed(self, tag: Token) -> None:
        while self.found and self.found[-1][0] >= tag.start:
            self.found.pop()  # attributes of it
        self._cut(tag.start, tag.end, "unclosed")

    def _cut(self, start: int, end: int, what: str) -> None:
        # A "<" before it must not make a tag of what is behind it.
        self.found.append((start, end, " " if self.text[start - 1 : start] == "<" else ""))
        if what:
            self.removed[what] += 1

    def _is_removed(self, name: str) -> bool:
        return name.rpartition(":")[2] in self.elements or _NAME.fullmatch(name) is None

    # -- pieces ------------------------------------------------------------

    def _start(self, tag: Token) -> bool:
        """Cut a start tag or attributes of it; tell whether the tag stays."""
        ambiguous = tag.name in ("style", "title", "textarea") and self.text[tag.end - 2] == "/"
        if self._is_removed(tag.name) or ambiguous or not tag.closed or self._is_active(tag):
            self._cut(tag.start, tag.end, tag.name if tag.name in self.elements else "tag")
            return False
        for attribute in tag.attributes:
            what = self._wrong(tag.name, attribute)
            if what == "style" and attribute.quote:
                spans = _css_spans(attribute.raw, attribute.value)
                if spans is not None:
                    at = attribute.value_start
                    self.found += [(at + one[0], at + one[1], one[2]) for one in spans]
                    self.removed[what] += 1
                    continue
            if what:
                self.found.append((attribute.start, attribute.end, ""))
                self.removed[what] += 1
        return True

    def _is_active(self, tag: Token) -> bool:
        """Tell whether a tag is one of meta or link that does something by itself."""
        values = {one.name: one.value.strip().lower() for one in reversed(tag.attributes)}
        if tag.name == "meta":
            charset = values.get("charset", "") + values.get("content", "").partition("charset")[2]
            active = values.get("http-equiv") in ("refresh", "set-cookie", "link")
            return active or _ODD_CHARSET.search(charset) is not None
        return tag.name == "link" and not _LOADING_LINKS.isdisjoint(values.get("rel", "").split())

    def _wrong(self, tag: str, attribute: Attribute) -> str:
        """Return what is wrong with an attribute; "" if it may stay."""
        name = attribute.name.rpartition(":")[2]
        if name.startswith("on") and len(name) > 2:
            return "handler"
        if _NAME.fullmatch(attribute.name) is None or (
            not attribute.quote and attribute.raw and _ODD_VALUE.search(attribute.raw)
        ):
            return "ambiguous"
        if name in _ATTRIBUTES or (name == "formaction" and "form" in self.elements):
            return name
        if name == "style":
            return "style" if _RUNNING_CSS.search(plain_css(attribute.value)) else ""
        return "url" if name in _URLS and not self._may_lead(tag, name, attribute.value) else ""

    def _may_lead(self, tag: str, name: str, value: str) -> bool:
        several = name in ("srcset", "imagesrcset", "values", "archive", "ping")
        for url in re.split(r"[\s,]+|;(?!base64)", value) if several else [value]:
            url = _INVISIBLE.sub("", url).lower()
            found = _SCHEME.match(url)
            scheme = _NO_SCHEME.sub("", found[0]) if found is not None else ""
            if url.startswith("`") or (scheme and scheme not in self.schemes):
                picture = _DATA.match(url) or (tag == "img" and url.startswith("data:image/svg+xml"))
                if tag in _LINKS or not picture:
                    return False
        return True

    def _end(self, tag: Token) -> None:
        behind = tag.start + 2 + len(tag.name)
        if self._is_removed(tag.name) or not tag.closed:
            self._cut(tag.start, tag.end, "")
        elif self.text[behind : tag.end - 1].strip():
            self.found.append((behind, tag.end - 1, ""))
            self.removed["ambiguous"] += 1

    def _raw(self, raw: Token) -> None:
        content = self.text[raw.start : raw.end]
        if raw.name in _WITH_CONTENT and raw.name in self.elements:
            new = ""
        elif raw.name == "style":
            # Within <svg> the references of a style are decoded.
            markup = None if _is_commented(content) else _MARKUP_IN_CSS
            spans = _css_spans(content, decode_references(content), markup)
            if spans is not None:
                self.found += [(raw.start + one[0], raw.start + one[1], one[2]) for one in spans]
                self.removed["style"] += bool(spans)
                return
            new = ""
        elif raw.name in self.elements and raw.name != "textarea":
            new = escape(content, quote=False)
        else:
            new = content.replace("<", "&lt;")
        if new != content:
            self.found.append((raw.start, raw.end, new))
            if raw.name not in self.elements:
                self.removed[raw.name] += 1

    def _plain_end(self, comment: Token) -> bool:
        return self.text.startswith("-->", comment.content_end)

    def _is_plain(self, token: Token, start: int, end: int) -> bool:
        """Tell whether all programs see a comment or a declaration end in the same place."""
        piece = self.text[token.start : token.end]
        if token.kind is Kind.COMMENT:
            return token.closed and len(piece) > 6 and piece.endswith("-->") and "<!--" not in piece[1:]
        if token.kind is not Kind.DECLARATION:
            return False
        if not token.closed:  # what stands at the end of a conditional comment, or is all of one
            alone = piece == "<!" and not self.text[start : token.start].strip()
            return end < len(self.text) and (alone or piece == "<![endif]")
        odd = piece.count('"') % 2 or piece.count("'") % 2 or "<" in piece[1:]
        return not odd and not piece.startswith("</")


_MARKUP_IN_CSS = re.compile("<")


def _is_commented(css: str) -> bool:
    """Tell whether a style is all within one comment of HTML, as old mail has it."""
    inner = css.strip()
    if not (inner.startswith("<!--") and inner.endswith("-->") and len(inner) >= 7):
        return False
    inner = inner[4:-3]
    return "<" not in inner and "--" not in inner and not inner.startswith((">", "->"))


def _css_spans(raw: str, css: str, markup: re.Pattern[str] | None = None) -> list[Span] | None:
    """Return the replacements that leave a style that runs nothing; None if it must go as a whole."""
    spans: list[Span] = [(*hit.span(), "x-removed") for hit in _RUNNING_CSS.finditer(raw)]
    if markup is not None:
        spans += [(*hit.span(), " ") for hit in markup.finditer(raw)]
    left = lay_in(raw, sorted(spans))
    if _RUNNING_CSS.search(plain_css(left)) or (raw != css and _RUNNING_CSS.search(plain_css(css))):
        return None
    return sorted(spans)
