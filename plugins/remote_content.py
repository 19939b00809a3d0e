"""Take out what tells a sender that, when and where a message was read.

    [[plugins]]
    name = "remote"
    use = "remote_content"
    options = { pixels = true, images = false, allow = ["example.com"] }

``pixels`` are images from elsewhere that nobody is to see: of one pixel or none, or hidden by
their style.  ``images`` is everything that a program would load from elsewhere when it shows
the message: images in every form, backgrounds, style sheets and ``@import``, fonts, video,
frames.  Their URLs become that of an empty image; all else stays as it is, and so do images
within the message (``cid:``, ``data:``).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, field_validator

from gateway.plugin import (
    EMPTY_URL,
    HTML_TYPES,
    Attribute,
    HostList,
    Kind,
    Message,
    Modify,
    Pass,
    Plugin,
    PluginOptions,
    SessionRecord,
    Span,
    Token,
    Verdict,
    clean_url,
    decode_references,
    decode_with_offsets,
    domain_name,
    editable_texts,
    every_absolute,
    is_web,
    lay_in,
    plain_css,
    quiet_tags,
    scheme_of,
    shown_host,
    tags,
    tokens,
    unreachable_texts,
    url_spans,
    web_host,
    worst_bases,
)

#: One transparent pixel.
TRANSPARENT = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
_PICTURES = frozenset({"img", "image", "amp-img", "amp-pixel", "amp-anim"})
#: Attributes that are loaded from, of whatever tag.
_LOADED = {"src", "background", "poster", "lowsrc", "dynsrc", "icon", "manifest", "codebase", "o:href"}
_LISTS = frozenset({"srcset", "imagesrcset"})
_HREF = ("link", "image", "use", "feimage")
_LOADED_OF = {"href": _HREF, "xlink:href": _HREF, "data": ("object",)}
_ANIMATED = frozenset({"from", "to", "by", "values"})
#: Without one of these a tag loads nothing.
_MAY_LOAD = re.compile(
    r"src|href|url|ground|poster|data|fest|icon|codebase|content|<set|<anim|[(&\\]|//", re.I
)
#: Formatting that loads nothing.
_QUIET = quiet_tags(
    r"""style="(?![^"]*?(?:url|image-set|https?:|ftp:|file:))[A-Za-z0-9 :;#%.,!\-'()\r\n\t]*+\"""",
    r"""href="[^"]*+\"""",
)
_CANDIDATE = re.compile(r"[^\s,;]++")
_IN_MARKUP = re.compile(r"""(?:https?:)?//[^\s"'<>]{1,1000}""")
#: What stands before the URL of a refresh.
_DELAY = "0123456789.,; \t\r\n\f"
_SIZE = re.compile(r"\s*\+?(\d{0,9}(?:\.\d{0,9})?)\s*(px|pt|pc|in|cm|mm|q|em|%|)")
_CALC = re.compile(r"\s*calc\(([^()+*/-]*+)\)")
#: Of a size, by its unit.
_PIXELS = {
    "": 1.0,
    "px": 1.0,
    "pt": 4 / 3,
    "pc": 16.0,
    "in": 96.0,
    "cm": 96 / 2.54,
    "mm": 96 / 25.4,
    "q": 24 / 25.4,
}
_MARKUP = re.compile("<[^<>]*+>")
_FUNCTION = re.compile(r"url\s{0,9}\(|\\", re.IGNORECASE)
_NOTHING = re.compile(r"0{0,9}\.?0{1,9}%?")
_HIDDEN = (("display", "none"), ("visibility", "hidden"), ("mso-hide", "all"))
_MOST_HOSTS = 10


class RemoteContent(Plugin):
    """Removes tracking pixels, or all that is loaded from elsewhere."""

    class Options(PluginOptions):
        """pixels, images: what to take out.  allow: domains that may be loaded from.

        replacement: "transparent", an image of one transparent pixel, or "nothing": then
        pixels go with their tags, and images are empty.  attachments: HTML attachments, too.
        """

        pixels: bool = True
        images: bool = False
        replacement: Literal["transparent", "nothing"] = "transparent"
        allow: tuple[str, ...] = ()
        attachments: bool = False

        @field_validator("allow")
        @classmethod
        def _check_allow(cls, allow: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(map(domain_name, allow))

    options: Options

    def __init__(self, options: BaseModel) -> None:
        super().__init__(options)
        if not self.options.pixels and not self.options.images:
            raise ValueError("pixels and images are both false, so there is nothing to do")
        self._allowed = HostList(self.options.allow)

    def inspect(self, message: Message, session: SessionRecord) -> Verdict:
        """Modify messages that load something from elsewhere."""
        edits = message.edits()
        pixels, remote, hosts = 0, 0, Counter[str]()
        for part in editable_texts(message, HTML_TYPES, self.options.attachments):
            work = _Work(part.text(), self.options, self._allowed)
            spans = work.spans()
            if spans and not edits.replace_spans(part, spans):
                message.note("skipped_part", part.charset or part.transfer_encoding)
                continue
            pixels += work.pixels
            remote += work.remote
            hosts += work.hosts
        for part in unreachable_texts(message, HTML_TYPES, self.options.attachments):
            message.note("unreachable", part.origin.content_type)
        if pixels or remote:
            message.note("pixels", str(pixels))
            message.note("remote", str(remote))
            message.note("hosts", " ".join(host for host, _ in hosts.most_common(_MOST_HOSTS)))
        return Modify(edits) if len(edits) else Pass()


class _Work:
    """One text of HTML and what is found in it.  remote: URLs taken out that are of no pixel."""

    def __init__(self, text: str, options: RemoteContent.Options, allowed: HostList) -> None:
        self.text = text
        self.options = options
        self.allowed = allowed
        self.bases: list[str] = []
        self.pixels = self.remote = 0
        self.hosts: Counter[str] = Counter()

    def spans(self) -> list[Span]:
        """Return the replacements that leave the text without remote content."""
        names = None if self.options.images else _PICTURES | {"base", "input", "picture", "source"}
        pieces = list(tags(self.text, names, _QUIET))
        bases = (one.get("href") for one in pieces if one.name == "base")
        self.bases = worst_bases((one.value for one in bases if one is not None), self._is_remote)
        spans: list[Span] = []
        for piece in pieces:
            if piece.kind is Kind.RAW:
                if piece.name == "style" and self.options.images:
                    spans += self._of_style(piece.start, piece.end)
            elif self.bases or _MAY_LOAD.search(self.text, piece.start, piece.end):
                spans += self._of_tag(piece)
        if self.options.images:
            unclosed = [
                one
                for at, one in enumerate(pieces)
                if one.name == "style"
                and one.kind is Kind.START
                and [after.kind for after in pieces[at + 1 : at + 2]] != [Kind.RAW]
            ]
            spans += self._of_unclosed(unclosed) if unclosed else []
        elif any(one.name == "source" for one in pieces):
            spans += self._of_pictures(pieces)
        return _apart(spans)

    def _of_tag(self, tag: Token) -> list[Span]:
        found = [(one, urls) for one in tag.attributes if (urls := self._loads(tag, one))]
        if found and self.options.pixels and _is_picture(tag) and is_unseen(tag):
            self.pixels += 1
            self._count(urls[0] for _, urls in found)
            if self.options.replacement == "nothing":
                # A "<" before the tag must not make one of what is behind it.
                return [(tag.start, tag.end, " " if self.text[tag.start - 1 : tag.start] == "<" else "")]
        elif not self.options.images:
            return []
        else:
            self.remote += len(found)
            self._count(urls[0] for _, urls in found)
        spans = [one.replaced(self._empty(tag.name, one.name)) for one, _ in found]
        if self.options.images:
            taken = {one.start for one, _ in found}
            for one in tag.attributes:
                if one.start not in taken and (one.name == "style" or _FUNCTION.search(one.value)):
                    value, offsets = decode_with_offsets(one.raw)
                    begin = one.value_start
                    found_in = self._of_css(value)
                    spans += [(begin + offsets[at], begin + offsets[to], new) for at, to, new in found_in]
        return spans

    def _of_pictures(self, pieces: list[Token]) -> list[Span]:
        """Return the replacements for what <picture> shows in place of an image that is a pixel."""
        spans: list[Span] = []
        sources: list[Token] | None = None
        for piece in pieces:
            if piece.name == "picture":
                sources = []
            elif piece.name == "source" and sources is not None:
                sources.append(piece)
            elif piece.name in _PICTURES:
                if sources and is_unseen(piece):
                    spans += self._of_sources(piece, sources)
                sources = None
        return spans

    def _of_sources(self, image: Token, sources: list[Token]) -> list[Span]:
        found = [
            (one, urls)
            for source in sources
            for one in source.attributes
            if (urls := self._loads(source, one))
        ]
        counted = any(self._loads(image, one) for one in image.attributes)
        self.pixels += bool(found) and not counted
        self._count(urls[0] for _, urls in found)
        return [one.replaced(self._empty("source", one.name)) for one, _ in found]

    def _loads(self, tag: Token, attribute: Attribute) -> list[str]:
        """Return the remote URLs that an attribute makes a program load."""
        name, value = attribute.name, attribute.value
        if name in _LISTS or (name in _ANIMATED and tag.name.startswith(("animate", "set"))):
            urls = _CANDIDATE.findall(value)
        elif name in _LOADED or tag.name in _LOADED_OF.get(name, ()):
            urls = [value]
        elif name == "content" and tag.get("http-equiv") is not None:
            rest = value.lstrip(_DELAY)
            urls = [rest[3:].lstrip(" \t\r\n\f=\"'") if rest[:3].lower() == "url" else rest]
        elif name == "srcdoc":
            urls = _IN_MARKUP.findall(value)
        else:
            return []
        return [url for url in map(clean_url, urls) if self._unwanted(url)]

    def _unwanted(self, url: str) -> bool:
        return self._is_remote(url) if not self.bases else bool(self._remote_of(url))

    def _remote_of(self, url: str) -> str:
        """Return what a program may make of a URL that is not wanted; "" if nothing."""
        return next(filter(self._is_remote, every_absolute(url, self.bases)), "")

    def _is_remote(self, url: str) -> bool:
        return (is_web(url) and web_host(url) not in self.allowed) or scheme_of(url) in ("ftp", "file")

    def _of_css(self, css: str) -> list[Span]:
        """Return the replacements for a style, and count them."""
        spans = url_spans(css, self._unwanted)
        self.remote += len(spans)
        self._count(clean_url(css[start:end]) for start, end, _ in spans)
        return spans

    def _of_style(self, start: int, end: int) -> list[Span]:
        """Return the replacements for the text of a style, and count them."""
        css = self.text[start:end]
        spans = self._of_css(css)
        left = lay_in(css, spans)
        if "&" in left or "<" in left:
            # Within <svg> its references are decoded, and what tags divide is one.
            inner = decode_references(_MARKUP.sub("", left))
            found = url_spans(inner, self._unwanted)
            if found:
                self.remote += 1
                self._count(clean_url(inner[at:to]) for at, to, _ in found)
                return [(start, end, "")]
        return [(start + at, start + to, new) for at, to, new in spans]

    def _of_unclosed(self, styles: list[Token]) -> list[Span]:
        """Return the replacements for styles that nothing closes: to browsers, all the rest is theirs."""
        around = [
            (one.content_start, one.content_end)
            for one in tokens(self.text)
            if one.kind in (Kind.CONDITIONAL, Kind.RAW) and one.closed
        ]
        spans: list[Span] = []
        done = 0
        for style in styles:
            if style.end >= done:
                at = bisect_right(around, (style.start, len(self.text))) - 1
                inside = at >= 0 and style.start < around[at][1]
                done = around[at][1] if inside else len(self.text)
                spans += self._of_style(style.end, done)
        return spans

    def _count(self, urls: Iterable[str]) -> None:
        if self.bases:
            urls = [self._remote_of(url) or url for url in urls]
        self.hosts.update(host for url in urls if (host := shown_host(url)))

    def _empty(self, tag: str, attribute: str) -> str:
        if attribute in ("content", "srcdoc"):
            return ""
        seen = attribute in ("background", "poster") or tag in (*_PICTURES, "input", "source")
        return TRANSPARENT if seen and self.options.replacement == "transparent" else EMPTY_URL


def _is_picture(tag: Token) -> bool:
    if tag.name != "input":
        return tag.name in _PICTURES
    kind = tag.get("type")
    return kind is not None and kind.value.strip().lower() == "image"


def is_unseen(tag: Token) -> bool:
    """Tell whether an image is not to be seen: by its size, its style, or ``hidden``."""
    style = tag.get("style")
    # One that is declared twice counts twice: which one a program takes is not known.
    wanted: dict[str, list[str]] = {}
    for declaration in plain_css(style.value).split(";") if style is not None else ():
        name, _, value = declaration.partition(":")
        wanted.setdefault(name.strip(), []).append(value.replace("!important", "").strip())
    if tag.get("hidden") or any(value in wanted.get(name, ()) for name, value in _HIDDEN):
        return True
    if any(map(_NOTHING.fullmatch, wanted.get("opacity", ()))):
        return True
    sizes = []
    for name in ("width", "height"):
        attribute = tag.get(name)
        given = wanted.get(name) or [attribute.value if attribute is not None else ""]
        sizes.append(min(map(_size, [*given, *wanted.get(f"max-{name}", ())])))
    return min(sizes) == 0 or (min(sizes) <= 1 and not 1 < max(sizes) < _NO_SIZE)


_NO_SIZE = 1e9


def _size(value: str) -> float:
    value = value.lower()
    calculated = _CALC.match(value)
    found = _SIZE.match(calculated[1] if calculated is not None else value)
    if found is None or not found[1].strip("."):
        return _NO_SIZE
    size = float(found[1])
    if size and found[2] not in _PIXELS:
        return _NO_SIZE
    return size * _PIXELS.get(found[2], 0)


def _apart(spans: list[Span]) -> list[Span]:
    """Return the replacements in order, without those that stand within another."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda one: (one[0], -one[1])):
        if not kept or span[0] >= kept[-1][1]:
            kept.append(span)
    return kept
