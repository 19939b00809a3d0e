"""Put a footer under the text of each message.

    [[plugins]]
    name = "disclaimer"
    use = "footer"
    [plugins.options]
    text = "-- \\nExample Ltd, registered in Exampleshire"
    skip_special_use = ["\\\\Drafts"]

The footer goes under the text that a reader sees, in the plain and in the HTML version, never
into attachments and enclosed messages, and never into delivery reports.  Only the part that
gets it changes, in its own charset and transfer encoding.  A text in which the footer stands
already does not get it twice: at its end, or in the midst of it, as in a draft that was edited
and saved again; not in what it quotes.  A signed or encrypted message is left alone, or is
enclosed in one that has the footer (``signed = "wrap"``).
"""

from __future__ import annotations

import hashlib
import html
import re
from itertools import accumulate

from pydantic import BaseModel, Field, field_validator

from gateway.plugin import (
    Edits,
    Message,
    Modify,
    Part,
    Pass,
    Plugin,
    SessionRecord,
    SignedOptions,
    Verdict,
    bodies,
    body_ends,
    for_part,
    squeezed,
)

_END_OF_BODY = "</body"
#: What may stand behind a footer that still is the last of an HTML text.
_CLOSING = re.compile(r"(?:\s|</[a-z0-9]{1,20}\s{0,20}>|<br\s{0,20}/?>|&nbsp;)*+", re.IGNORECASE)
#: What mail programs put before or around the message that is answered to or sent on.
_QUOTATION = re.compile(
    r"<blockquote\b|gmail_quote|moz-cite-prefix|moz-forward-container|yahoo_quoted|protonmail_quote"
    r"|divRplyFwdMsg|appendonsend|OLK_SRC_BODY_SECTION|mail-editor-reference-message-container"
    r"|border:none;border-top:solid #[0-9a-f]{6} 1\.0pt",
    re.IGNORECASE,
)
_END_OF_QUOTATION = re.compile("</blockquote", re.IGNORECASE)
#: "-----Original Message-----" in any language.
_ORIGINAL = re.compile(r"-{4,20} ?[^\W\d_][^\n-]{2,60}-{4,20}")
_UNDERSCORES = re.compile(r"_{20,100}")


class Footer(Plugin):
    """Adds a footer to the text and HTML bodies."""

    class Options(SignedOptions):
        """text: of the footer.  html: of the footer in HTML; made of the text if left out.

        skip_special_use: IMAP mailboxes that get none, by their SPECIAL-USE attributes
            (RFC 6154 2).
        """

        text: str = Field(min_length=1, max_length=20_000)
        html: str | None = Field(default=None, min_length=1, max_length=100_000)
        skip_special_use: frozenset[str] = frozenset()

        @field_validator("text")
        @classmethod
        def _check_text(cls, text: str) -> str:
            if not text.strip():
                raise ValueError("must have something to be seen")
            return text

        @field_validator("signed", "dkim")
        @classmethod
        def _check_choice(cls, choice: str | None) -> str | None:
            if choice == "subject_only":
                raise ValueError('a footer does nothing to a subject: "skip", "wrap" or "modify"')
            return choice

        @field_validator("skip_special_use")
        @classmethod
        def _check_attributes(cls, attributes: frozenset[str]) -> frozenset[str]:
            wrong = sorted(one for one in attributes if not re.fullmatch(r"\\[A-Za-z]{1,30}", one))
            if wrong:
                raise ValueError(rf'"{wrong[0][:40]}" is no attribute such as "\Drafts" or "\Sent"')
            return frozenset(one.lower() for one in attributes)

    options: Options

    def __init__(self, options: BaseModel) -> None:
        super().__init__(options)
        self._text = "\n".join(self.options.text.strip("\r\n").splitlines())
        self._squeezed = squeezed(self._text)
        words = [word for word in self._text.split() if word.isascii()]
        self._longest = max(words, key=len, default="")
        inner = self.options.html or html.escape(self._text).replace("\n", "<br>\n")
        #: By this a footer of ours is known in HTML: mail programs keep a class.
        self._mark = "mailgate-footer-" + hashlib.sha256(inner.encode("utf-8", "replace")).hexdigest()[:12]
        self._html = f'<div class="{self._mark}">{inner}</div>\n'

    def inspect(self, message: Message, session: SessionRecord) -> Verdict:
        """Modify messages that have a text, and may be modified."""
        if not {one.lower() for one in message.special_use}.isdisjoint(self.options.skip_special_use):
            message.note("skipped_mailbox", message.mailbox)
            return Pass()
        edits = message.edits()
        for part in bodies(message.root):
            choice = self.options.on_signed(message, part)
            if choice == "wrap":
                wrapped = message.edits()
                wrapped.wrap(self._text + "\n")
                return Modify(wrapped)
            if choice == "skip":
                continue
            if part.content_type == "text/html":
                self._put_html(message, part, edits)
            elif part.content_type == "text/plain":
                self._put_text(message, part, edits)
        return Modify(edits) if len(edits) else Pass()

    def _put_text(self, message: Message, part: Part, edits: Edits) -> None:
        text = part.text()
        if self._stands_in_text(text):
            message.note("already_there", part.content_type)
            return
        ended = not text or text.endswith(("\n", "\r"))
        footer = ("" if ended else "\n") + for_part(part, self._text) + ("\n" if ended else "")
        if not edits.append_text(part, footer):
            message.note("skipped_part", part.charset or part.transfer_encoding)

    def _stands_in_text(self, text: str) -> bool:
        if self._longest not in text:
            return False
        if squeezed(text[-4 * len(self._text) - 1000 :]).endswith(self._squeezed):
            return True
        return _stands_in(self._squeezed, _own_lines(text))

    def _put_html(self, message: Message, part: Part, edits: Edits) -> None:
        text = part.text()
        if _stands_in_html(text, self._mark):
            message.note("already_there", part.content_type)
            return
        place = body_ends(text)
        before = _END_OF_BODY if place < len(text) else ""
        if text[place:].lower().rfind(before) == 0:
            put = edits.append_text(part, self._html, before)
        else:
            put = edits.replace_spans(part, [(place, place, self._html)])
        if not put:
            message.note("skipped_part", part.charset or part.transfer_encoding)


def _own_lines(text: str) -> list[str]:
    """Return the lines that the author wrote, squeezed: no quoted and no empty ones."""
    lines: list[str] = []
    ruled = False  # the line before this one was a rule of Outlook's
    for line in text.splitlines():
        line = squeezed(line)
        if _ORIGINAL.fullmatch(line) or (ruled and ":" in line[:40]):
            break
        ruled = _UNDERSCORES.fullmatch(line) is not None or (ruled and not line)
        if line and not line.startswith(">"):
            lines.append(line)
    return lines


def _stands_in(wanted: str, lines: list[str]) -> bool:
    """Tell whether some whole lines, however they are broken, are the text that is wanted."""
    joined = " ".join(lines)
    lengths = list(accumulate(len(line) + 1 for line in lines))
    begins, ends = {0, *lengths}, {one - 1 for one in lengths}
    place = joined.find(wanted)
    while place >= 0:
        if place in begins and place + len(wanted) in ends:
            return True
        place = joined.find(wanted, place + len(wanted))
    return False


def _stands_in_html(text: str, mark: str) -> bool:
    """Tell whether the mark stands somewhere outside of a quotation."""
    last = text.rfind(mark)
    if last < 0:
        return False
    quoted = _QUOTATION.search(text)
    if quoted is None or text.find(mark) < quoted.start():
        return True
    ends = [hit.end() for hit in _END_OF_QUOTATION.finditer(text)]
    if ends and len(ends) >= text.lower().count("<blockquote"):
        return last > ends[-1]
    # The quotation has no end that is known, so only the end of the text tells.
    end = text.find("</div>", last)
    return end >= 0 and _CLOSING.fullmatch(text, end + 6) is not None
