"""Put a footer under the text of each message.

    [[plugins]]
    name = "disclaimer"
    use = "footer"
    options = { text = "-- \\nExample Ltd, registered in Exampleshire" }

The footer goes under the text that a reader sees, in the plain and in the HTML version, never
into attachments and enclosed messages, and never into delivery reports.  Only the part that
gets it changes, in its own charset and transfer encoding.  A signed or encrypted message is
left alone, and the log's line says so (``skipped_signed``).  A text that ends with the footer
already does not get it twice.
"""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Callable, Iterator

from pydantic import BaseModel, Field

from gateway.plugin import Message, Modify, Part, Pass, Plugin, PluginOptions, SessionRecord, Verdict

_END_OF_BODY = "</body"
#: What may stand behind a footer that still is the last of an HTML text.
_CLOSING = re.compile(r"(?:\s|</[a-z0-9]{1,20}\s{0,20}>|<br\s{0,20}/?>|&nbsp;)*", re.IGNORECASE)
_BODY_TYPES = ("text/plain", "text/html")
_Put = Callable[..., bool]  # Edits.append_text


class Footer(Plugin):
    """Adds a footer to the text and HTML bodies."""

    class Options(PluginOptions):
        """text: of the footer.  html: of the footer in HTML; made of the text if left out."""

        text: str = Field(min_length=1, max_length=20_000)
        html: str | None = Field(default=None, min_length=1, max_length=100_000)

    options: Options

    def __init__(self, options: BaseModel) -> None:
        super().__init__(options)
        self._text = "\n".join(self.options.text.strip("\r\n").splitlines())
        inner = self.options.html or html.escape(self._text).replace("\n", "<br>\n")
        #: By this a footer of ours is known in HTML: mail programs keep a class.
        self._mark = "mailgate-footer-" + hashlib.sha256(inner.encode("utf-8", "replace")).hexdigest()[:12]
        self._html = f'<div class="{self._mark}">{inner}</div>\n'

    def inspect(self, message: Message, session: SessionRecord) -> Verdict:
        """Modify messages that have a text, and may be modified."""
        edits = message.edits()
        for part in bodies(message.root):
            if not message.may_edit(part):
                cover = message.cover_of(part)
                message.note("skipped_signed", str(cover.kind) if cover is not None else "")
            elif part.content_type == "text/html":
                self._put_html(message, part, edits.append_text)
            elif part.content_type == "text/plain":
                self._put_text(message, part, edits.append_text)
        return Modify(edits) if len(edits) else Pass()

    def _put_text(self, message: Message, part: Part, put: _Put) -> None:
        text = part.text()
        if _squeezed(text[-4 * len(self._text) - 1000 :]).endswith(_squeezed(self._text)):
            message.note("already_there", part.content_type)
            return
        footer = self._text
        if part.parameters.get("format", "").lower() == "flowed":
            footer = "\n".join(_fixed(line) for line in footer.split("\n"))
        ended = not text or text.endswith(("\n", "\r"))
        if not put(part, ("" if ended else "\n") + footer + ("\n" if ended else "")):
            message.note("skipped_part", part.charset or part.transfer_encoding)

    def _put_html(self, message: Message, part: Part, put: _Put) -> None:
        text = part.text()
        place = text.rfind(self._mark)
        if place >= 0:
            end = text.find("</div>", place)
            rest = text[end + 6 :] if end >= 0 else ""
            if _CLOSING.fullmatch(rest):
                message.note("already_there", part.content_type)
                return
        if not put(part, self._html, _END_OF_BODY):
            message.note("skipped_part", part.charset or part.transfer_encoding)


def bodies(root: Part) -> Iterator[Part]:
    """Give the parts that a reader sees as the message's text, and what hides them if signed."""
    waiting = [root]
    while waiting:
        part = waiting.pop()
        if part.is_attachment and part.content_type in _BODY_TYPES:
            continue
        if part.content_type in _BODY_TYPES or part.content_type in _OPAQUE:
            yield part
        elif part.content_type == "multipart/alternative":
            waiting.extend(reversed(part.children))
        elif part.is_multipart and part.content_type not in _NOT_ENTERED:
            shown = next((child for child in part.children if _is_body(child)), None)
            if shown is not None:
                waiting.append(shown)


_OPAQUE = ("multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime")
_NOT_ENTERED = ("multipart/report", "multipart/digest")


def _is_body(part: Part) -> bool:
    if part.is_multipart or part.content_type in _OPAQUE:
        return True
    return part.content_type in _BODY_TYPES and not part.is_attachment


def _squeezed(text: str) -> str:
    """Return text as it survives other programs: blanks as one, what is not ASCII as "?"."""
    return " ".join(text.encode("ascii", "replace").decode().split())


def _fixed(line: str) -> str:
    """Return a line that format=flowed leaves as it is (RFC 3676 4.2, 4.4)."""
    if line != "-- ":
        line = line.rstrip(" ")
    return f" {line}" if line.startswith((" ", ">", "From ")) else line
