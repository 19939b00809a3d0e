"""Send the links of a message through a redirector, or take the life out of them.

    [[plugins]]
    name = "links"
    use = "link_rewrite"
    [plugins.options]
    template = "https://click.example.com/?u={url}&m={id}&s={signature}"
    key_file = "/etc/mailgate/link.key"
    allow = ["example.com"]

Rewritten are the http and https links of HTML (``href`` of a and area, ``action`` of forms,
what Outlook alone sees, relative ones where ``<base>`` says to what) and the URLs in plain
text.  All else stays as it is, and a link that leads to the redirector already does, too.
``mode = "defang"`` writes ``hxxps://example[.]com`` instead.  A redirector checks a link by
:func:`verify`; what is signed is told in docs/plugins/link_rewrite.md.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from string import Formatter
from typing import Literal
from urllib.parse import quote, unquote

from pydantic import BaseModel, Field, field_validator, model_validator

from gateway.plugin import (
    HTML_TYPES,
    PLAIN_TYPES,
    HostList,
    Kind,
    Message,
    Modify,
    Part,
    Pass,
    Plugin,
    PluginOptions,
    SessionRecord,
    Span,
    Verdict,
    clean_url,
    decode_references,
    defanged,
    domain_name,
    editable_texts,
    every_absolute,
    find_urls,
    is_web,
    shown_host,
    tags,
    tokens,
    unreachable_texts,
    web_host,
    worst_bases,
)

_NAMES = frozenset({"a", "area", "form", "base", "button", "input"})
_NAMES |= frozenset({"v:shape", "v:rect", "v:roundrect", "v:oval", "v:line", "v:image"})
_NAMES |= frozenset({"v:group", "v:polyline", "v:curve", "v:arc"})
_LINKS = frozenset({"href", "xlink:href", "action", "formaction"})
_FIELDS = ("url", "id", "signature")
_TEMPLATE = re.compile(r"https?://[a-z0-9.\-]+(?::\d+)?/")
_SHORTEST_KEY = 32
_MOST_HOSTS = 10


class LinkRewrite(Plugin):
    """Rewrites links in HTML and plain text."""

    class Options(PluginOptions):
        """template: the redirector's URL, with {url}, {signature} and {id} in it.

        key_file: of the keys, one in a line; the first signs.  allow: domains whose links stay,
        with all below them.  visible: URLs in the text of HTML, too.  attachments: parts that
        are attachments, too.  max_links: with more, the message counts as not inspected.
        """

        mode: Literal["redirect", "defang"] = "redirect"
        template: str = ""
        key_file: Path | None = None
        allow: tuple[str, ...] = ()
        visible: bool = False
        attachments: bool = False
        max_links: int = Field(default=10_000, ge=1, le=1_000_000)

        @field_validator("allow")
        @classmethod
        def _check_allow(cls, allow: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(map(domain_name, allow))

        @model_validator(mode="after")
        def _check_template(self) -> LinkRewrite.Options:
            if self.mode == "defang":
                if self.template or self.key_file:
                    raise ValueError('"template" and "key_file" are of mode = "redirect"')
                return self
            fields = _fields(self.template)
            if "url" not in fields or any(fields.count(one) > 1 or one not in _FIELDS for one in fields):
                raise ValueError('"template" must have {url}, and may have {signature} and {id}, each once')
            if not _TEMPLATE.match(self.template):
                raise ValueError('"template" must begin with http:// or https://, a host, and a "/"')
            if ("signature" in fields) != (self.key_file is not None):
                raise ValueError("{signature} in the template and key_file go together")
            return self

    options: Options

    def __init__(self, options: BaseModel) -> None:
        super().__init__(options)
        self._allowed = HostList(self.options.allow)
        self._keys = read_keys(self.options.key_file) if self.options.key_file is not None else []
        self._own = self.options.template.partition("{")[0].lower()
        self._signs_id = "id" in _fields(self.options.template)

    def inspect(self, message: Message, session: SessionRecord) -> Verdict:
        """Modify messages that have links to rewrite.  Raises ValueError beyond ``max_links``."""
        edits = message.edits()
        found = _Found(message)
        for part in editable_texts(message, HTML_TYPES | PLAIN_TYPES, self.options.attachments):
            html = part.content_type in HTML_TYPES
            spans = self.html_spans(part.text(), found) if html else self._plain_spans(part, found)
            if spans and not edits.replace_spans(part, spans):
                message.note("skipped_part", part.charset or part.transfer_encoding)
                found.rewritten -= len(spans)
        for part in unreachable_texts(message, HTML_TYPES | PLAIN_TYPES, self.options.attachments):
            message.note("unreachable", part.origin.content_type)
        if found.hosts:
            message.note("links", str(found.links))
            message.note("rewritten", str(found.rewritten))
            message.note("hosts", " ".join(host for host, _ in found.hosts.most_common(_MOST_HOSTS)))
        return Modify(edits) if len(edits) else Pass()

    # -- where links stand -------------------------------------------------

    def html_spans(self, text: str, found: _Found) -> list[Span]:
        """Return the replacements for the links of a text of HTML."""
        pieces = [one for one in tags(text, _NAMES) if one.kind is Kind.START and one.name in _NAMES]
        bases = [one.get("href") for one in pieces if one.name == "base"]
        known = worst_bases((one.value for one in bases if one is not None), self._is_rewritten)
        spans: dict[int, Span] = {}
        links = (each for one in pieces if one.name != "base" for each in one.attributes)
        for attribute in links:
            url = clean_url(attribute.value) if attribute.name in _LINKS else ""
            if url and not url.startswith("#"):
                new = self._rewritten(self._worst(url, known) if known else url, found)
                if new is not None:
                    spans[attribute.start] = attribute.replaced(new)
        if self.options.visible:
            for start, end in _visible(text):
                spans.update((one[0], one) for one in self._text_spans(text, start, end, found, html=True))
        return sorted(spans.values())

    def _plain_spans(self, part: Part, found: _Found) -> list[Span]:
        text = part.text()
        flowed, delsp = (part.parameters.get(name, "").lower() for name in ("format", "delsp"))
        return list(self._text_spans(text, 0, len(text), found, flowed == "flowed" and delsp == "yes"))

    def _text_spans(
        self, text: str, start: int, end: int, found: _Found, delsp: bool = False, html: bool = False
    ) -> Iterator[Span]:
        for begin, stop, written in find_urls(text, start, end, delsp):
            new = self._rewritten(decode_references(written) if html else written, found)
            if new is not None:
                yield begin, stop, escape(new) if html else new

    # -- what they become --------------------------------------------------

    def _worst(self, url: str, bases: list[str]) -> str:
        """Return where a link leads by the base that some program takes: where it may not, if any does."""
        urls = every_absolute(url, bases)
        return next(filter(self._is_rewritten, urls), urls[0])

    def _is_rewritten(self, url: str) -> bool:
        return is_web(url) and not self._stays(url)

    def _stays(self, url: str) -> bool:
        return web_host(url) in self._allowed or bool(self._own and url.lower().startswith(self._own))

    def _rewritten(self, url: str, found: _Found) -> str | None:
        """Return what a link becomes; None if it stays."""
        if not is_web(url):
            return None
        found.count(url, self.options.max_links)
        if self._stays(url):
            return None
        found.rewritten += 1
        if self.options.mode == "defang":
            return defanged(url)
        if url.startswith(("/", "\\")):
            url = f"https:{url}"
        identifier = found.identifier if self._signs_id else ""
        signature = sign(url, self._keys[0], identifier) if self._keys else ""
        return self.options.template.format(
            url=quote(url, safe="", errors="replace"), id=identifier, signature=signature
        )


class _Found:
    """What was found in one message."""

    def __init__(self, message: Message) -> None:
        self.links = self.rewritten = 0
        self.hosts: Counter[str] = Counter()
        root = message.root
        named = message.message_id.encode("utf-8", "replace") or root.buffer[root.start : root.body_start]
        self.identifier = hashlib.sha256(named).hexdigest()[:16]

    def count(self, url: str, most: int) -> None:
        self.links += 1
        if self.links > most:
            raise ValueError(f"more than {most} links (max_links)")
        self.hosts[shown_host(url)] += 1


def _visible(text: str) -> Iterator[tuple[int, int]]:
    """Give the offsets of the text that HTML shows."""
    place = 0
    for piece in tokens(text):
        if piece.start > place:
            yield place, piece.start
        place = piece.end
    yield place, len(text)


# -- signatures ----------------------------------------------------------------


def read_keys(path: Path) -> list[bytes]:
    """Return the keys of a file, the one that signs first.  Raises ValueError with the reason."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as problem:
        raise ValueError(f"key_file: can't read {path}: {problem.strerror}") from None
    keys = [line.strip() for line in lines if line.strip() and not line.startswith(b"#")]
    if not keys or min(map(len, keys)) < _SHORTEST_KEY:
        raise ValueError(f"key_file: {path} must hold keys of {_SHORTEST_KEY} characters or more, one a line")
    return keys


def sign(url: str, key: bytes, identifier: str = "") -> str:
    """Return the signature of a link: 43 characters that need no encoding in a URL."""
    canonical = f"mailgate-link-1\n{identifier}\n{url}".encode("utf-8", "replace")
    return base64.urlsafe_b64encode(hmac.digest(key, canonical, "sha256")).rstrip(b"=").decode()


def verify(link: str, keys: Sequence[bytes], template: str) -> str | None:
    """Return the URL that a redirector's link leads to; None if none of the keys has signed it.

    link: as the redirector was asked for it, from ``https://`` on.  template: as configured.
    """
    pattern = "".join(
        re.escape(literal) + (f"(?P<{field}>[^/?&#;]*)" if field else "")
        for literal, field, _, _ in Formatter().parse(template)
    )
    found = re.fullmatch(pattern, link)
    if found is None:
        return None
    parts = found.groupdict()
    url = unquote(parts["url"])
    signature, identifier = parts.get("signature", ""), parts.get("id", "")
    good = (hmac.compare_digest(sign(url, key, identifier), signature) for key in keys)
    return url if any(list(good)) else None


def _fields(template: str) -> list[str]:
    try:
        pieces = [piece[1:] for piece in Formatter().parse(template) if piece[1] is not None]
    except ValueError:
        return []
    return ["".join(one or "" for one in piece) for piece in pieces]
