"""Have SpamAssassin's spamd judge messages.

    [[plugins]]
    name = "spam"
    use = "spamassassin"
    time_limit = 30.0
    options = { address = "127.0.0.1:783", seconds = 28.0, reject_at = 12.0 }

spamd is asked for score and tests (SYMBOLS).  What it calls spam is marked in the header; from
given scores on, messages are quarantined or refused.
"""

from __future__ import annotations

import re

from pydantic import BaseModel, Field

from gateway import plugin as api
from gateway.plugin import Message, SessionRecord, Verdict

_STATUS = re.compile(rb"SPAMD/\d+\.\d+ (\d+) (\S{1,40})")
_SPAM = re.compile(rb"spam:\s*(true|yes|false|no)\s*;\s*(-?[\d.]{1,12})\s*/\s*(-?[\d.]{1,12})", re.IGNORECASE)
_FIELDS = ("X-Spam-Flag", "X-Spam-Score", "X-Spam-Status", "X-Spam-Level", "X-Spam-Checker-Version")


class SpamAssassin(api.Plugin):
    """Asks spamd, and marks or stops spam."""

    class Options(api.PluginOptions):
        """Where spamd is, and from which scores on what becomes of messages."""

        address: api.ServiceAddresses
        """"unix:/path" or "host:port"; of several the first that answers is asked"""
        connect_timeout: api.ServiceSeconds = 1.0
        """seconds until a connection stands"""
        seconds: api.ServiceSeconds = 4.5
        """seconds for everything together: less than the table's time_limit"""
        user: str = Field(default="", pattern=r"^[A-Za-z0-9._@+-]{0,100}$")
        """whose preferences spamd uses"""
        max_size: int = Field(default=2 << 20, ge=1)
        """octets above which a message passes unjudged: spam is small, and spamd slow"""
        quarantine_at: float | None = None
        """the score from which on messages are quarantined"""
        reject_at: float | None = None
        """the score from which on messages are refused"""
        mark: bool = True
        """add X-Spam-Status to each message, X-Spam-Flag and X-Spam-Score to spam; those that a
        message came with are removed"""
        reason: str = "Message looks like spam ({score})"
        """what the client is told"""

    options: Options

    def __init__(self, options: BaseModel) -> None:
        super().__init__(options)
        own = self.options
        self._spamd = api.Service(own.address, connect_timeout=own.connect_timeout, seconds=own.seconds)

    def inspect(self, message: Message, session: SessionRecord) -> Verdict:
        """Ask spamd."""
        own = self.options
        if message.size > own.max_size:
            message.note("not_judged", f"{message.size} octets")
            return api.Pass()
        spam, score, needed, tests = self._spamd.ask(lambda talk: _judge(talk, message, own.user))
        message.note("score", f"{score:g}")
        message.note("tests", tests)
        reason = own.reason.replace("{score}", f"{score:g}")
        if own.reject_at is not None and score >= own.reject_at:
            return api.Reject(reason)
        if own.quarantine_at is not None and score >= own.quarantine_at:
            return api.Quarantine(reason)
        if not own.mark:
            return api.Pass()
        edits = message.edits()
        for name in _FIELDS:
            edits.remove_header(name)
        status = f"{'Yes' if spam else 'No'}, score={score:g} required={needed:g} tests={tests or 'none'}"
        if spam:
            edits.add_header("X-Spam-Flag", "YES", top=True)
            edits.add_header("X-Spam-Score", f"{score:g}", top=True)
        edits.add_header("X-Spam-Status", status, top=True)
        return api.Modify(edits)


def _judge(talk: api.Talk, message: Message, user: str) -> tuple[bool, float, float, str]:
    """Return whether it is spam, its score, the score that makes spam, and the tests that it hit."""
    name = f"User: {user}\r\n" if user else ""
    talk.send(f"SYMBOLS SPAMC/1.5\r\nContent-length: {message.size}\r\n{name}\r\n".encode())
    for piece in api.pieces(message.buffer):
        talk.send(piece)
    talk.end()
    head, _, body = talk.rest(256 * 1024).partition(b"\r\n\r\n")
    first, _, fields = head.partition(b"\r\n")
    status = _STATUS.match(first)
    if status is None:
        raise api.ServiceError(f"it answers {api.plain_text(first.decode('utf-8', 'replace'), 200)!r}")
    if int(status.group(1)):
        raise api.ServiceError(f"it answers {status.group(2).decode('ascii', 'replace')}")
    found = _SPAM.search(fields)
    if found is None:
        raise api.ServiceError("its answer has no score")
    tests = api.plain_text(body.decode("ascii", "replace").strip().replace("\r\n", ""), 2000)
    try:
        score, needed = float(found.group(2)), float(found.group(3))
    except ValueError:
        raise api.ServiceError("its answer has no score") from None
    return found.group(1).lower() in (b"true", b"yes"), score, needed, tests
