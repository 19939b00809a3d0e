"""Take out of HTML what a mail program could be made to run.

    [[plugins]]
    name = "sanitise"
    use = "html_sanitise"
    options = { forms = true, frames = true, objects = true }

Scripts, event handlers, URLs of other schemes than the usual (``javascript:``), frames,
objects, forms, refreshes, ``<base>``, what SVG and styles can run.  With ``mode = "cut"``
these pieces go and all else stays as it is.  What programs may read in different ways (a tag
within a style, a comment that ends twice) goes too, so that all of them see the same.  With
``mode = "strict"`` nh3 (``pip install mailgate[html]``) then writes the HTML anew, with
harmless tags and attributes only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, field_validator

from gateway.plugin import (
    FORMS,
    FRAMES,
    HTML_TYPES,
    OBJECTS,
    RUNNING_SCHEMES,
    Edits,
    Message,
    Modify,
    Pass,
    Plugin,
    PluginOptions,
    Sanitiser,
    SessionRecord,
    Span,
    Verdict,
    editable_texts,
    lay_in,
    unreachable_texts,
)

_SCHEME = re.compile(r"[a-z][a-z0-9+.\-]*")
_SCHEMES: tuple[str, ...] = (
    "http",
    "https",
    "ftp",
    "mailto",
    "tel",
    "sms",
    "callto",
    "cid",
    "mid",
    "news",
    "nntp",
    "geo",
)
_SCHEMES += ("sip", "sips", "xmpp", "webcal")


class HtmlSanitise(Plugin):
    """Removes active content from HTML."""

    class Options(PluginOptions):
        """mode: "cut" or "strict".  frames, objects, forms: whether these go, too.

        schemes: of the URLs that stay, besides relative ones.  attachments: HTML attachments, too.
        """

        mode: Literal["cut", "strict"] = "cut"
        frames: bool = True
        objects: bool = True
        forms: bool = True
        schemes: tuple[str, ...] = _SCHEMES
        attachments: bool = False

        @field_validator("schemes")
        @classmethod
        def _check_schemes(cls, schemes: tuple[str, ...]) -> tuple[str, ...]:
            schemes = tuple(scheme.lower().rstrip(":") for scheme in schemes)
            for scheme in schemes:
                if scheme in RUNNING_SCHEMES or not _SCHEME.fullmatch(scheme):
                    raise ValueError(f'"{scheme}" is no scheme that can be let through')
            return schemes

    options: Options

    def __init__(self, options: BaseModel) -> None:
        super().__init__(options)
        groups = {FRAMES: self.options.frames, OBJECTS: self.options.objects, FORMS: self.options.forms}
        wanted = [group for group, goes in groups.items() if goes]
        self._sanitiser = Sanitiser(wanted, self.options.schemes)
        self._strict = _strict(self.options) if self.options.mode == "strict" else None

    def inspect(self, message: Message, session: SessionRecord) -> Verdict:
        """Modify messages with HTML that holds anything active."""
        edits = message.edits()
        removed: Counter[str] = Counter()
        for part in editable_texts(message, HTML_TYPES, self.options.attachments):
            text = part.text()
            spans = self.spans(text, removed)
            if spans and not edits.replace_spans(part, spans):
                raise ValueError(f"can't edit a part in {part.charset or part.transfer_encoding}")
        self._check_readings(message, edits)
        if removed:
            message.note("removed", " ".join(f"{what}={count}" for what, count in removed.most_common(20)))
        return Modify(edits) if len(edits) else Pass()

    def _check_readings(self, message: Message, edits: Edits) -> None:
        """Raise ValueError if a program that reads the message otherwise finds anything active."""
        if next(unreachable_texts(message, HTML_TYPES, self.options.attachments), None) is None:
            return
        # What is cut may be what another reading shows, too.
        left = message.edited(edits) if len(edits) else message
        for part in unreachable_texts(left, HTML_TYPES, self.options.attachments):
            if self._sanitiser.spans(part.text(), Counter()):
                raise ValueError(f"can't edit what other programs may see in a {part.origin.content_type}")

    def spans(self, text: str, removed: Counter[str]) -> list[Span]:
        """Return the replacements that leave nothing active; count in ``removed`` what they take.

        Raises ValueError for a text that stays active however often it is cut.
        """
        spans = self._sanitiser.spans(text, removed)
        if self._strict is None:
            return spans
        strict = self._strict(lay_in(text, spans))  # nh3 leaves the values of styles alone
        return [(0, len(text), strict)] if strict != text else []


# -- strict --------------------------------------------------------------------


def _strict(options: HtmlSanitise.Options) -> Callable[[str], str]:
    try:
        import nh3
    except ImportError:
        raise ValueError('mode = "strict" needs nh3: pip install "mailgate[html]"') from None
    attributes = {tag: set(names) for tag, names in nh3.ALLOWED_ATTRIBUTES.items()}
    attributes["*"] = _ATTRIBUTES
    sides = {f"{name}-{side}" for name in ("margin", "padding", "border") for side in _SIDES}
    settings: dict[str, Any] = {
        "tags": {*nh3.ALLOWED_TAGS, "font"},
        "clean_content_tags": {"script", "style", "title", "iframe", "object", "noembed", "noframes"},
        "attributes": attributes,
        "filter_style_properties": _STYLES | sides,
        "url_schemes": set(options.schemes),
        "link_rel": None,
    }
    return lambda text: str(nh3.clean(text, **settings))


_ATTRIBUTES = {"style", "class", "dir", "lang", "title", "align", "valign", "width", "height", "border"}
_ATTRIBUTES |= {"bgcolor", "color", "face", "size", "cellpadding", "cellspacing", "colspan", "rowspan"}
_STYLES = {"color", "background-color", "font", "font-family", "font-size", "font-style", "font-weight"}
_STYLES |= {"line-height", "text-align", "text-decoration", "text-transform", "text-indent", "display"}
_STYLES |= {"vertical-align", "white-space", "width", "height", "max-width", "min-width", "margin", "padding"}
_STYLES |= {"border", "border-collapse", "border-radius"}
_SIDES = ("top", "right", "bottom", "left")
