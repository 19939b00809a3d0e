"""Messages on their way through a session: measured, and where they are held, judged."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from ..core.facts import MessageSeen
from ..core.outcome import Action, Outcome
from ..core.record import SessionRecord
from ..core.steps import UPSTREAM, BodyStart
from .spool import Spool

if TYPE_CHECKING:
    from .settings import SessionSettings

#: What the log calls what became of a message.
ACTIONS = {
    Action.PASS: "passed",
    Action.MODIFY: "rewritten",
    Action.REJECT: "rejected",
    Action.QUARANTINE: "quarantined",
    Action.DISCARD: "discarded",
    Action.DEFER: "deferred",
}


class Body:
    """One message, or a piece of one, between its BodyStart and what became of it."""

    __slots__ = ("_hash", "message_id", "new_size", "settled", "size", "spool", "start")

    def __init__(self, start: BodyStart, settings: SessionSettings) -> None:
        self.start = start
        self.size = 0
        self.new_size = 0
        self.message_id = ""
        self.settled = False  # what became of it has been told
        self.spool = Spool(settings.spool) if start.held else None
        self._hash = hashlib.sha256() if settings.digest and not start.partial else None

    def add(self, data: bytes) -> None:
        """Take some content."""
        self.size += len(data)
        if self._hash is not None:
            self._hash.update(data)
        if self.spool is not None:
            self.spool.write(data)

    def close(self) -> None:
        """Forget the content."""
        if self.spool is not None:
            self.spool.close()
            self.spool = None

    def seen(self, action: str, reason: str = "") -> MessageSeen:
        """Return the fact of what became of it."""
        start = self.start
        envelope = start.envelope
        return MessageSeen(
            stage=start.stage,
            source=start.source,
            action=action,
            held=start.held,
            size=self.size,
            new_size=self.new_size if action == "rewritten" else self.size,
            digest=self._hash.hexdigest() if self._hash is not None and action != "aborted" else "",
            section=start.section,
            partial=start.partial,
            mailbox=start.mailbox,
            ident=start.ident,
            reverse_path=envelope.reverse_path if envelope is not None else "",
            recipients=len(envelope.recipients) if envelope is not None else 0,
            message_id=self.message_id,
            reason=reason,
        )


async def decide(
    body: Body,
    settings: SessionSettings,
    record: SessionRecord,
    publish: Callable[[Any], None],
    pause: Callable[[], Awaitable[None]],
) -> Outcome:
    """Have a held message judged; afterwards ``body.spool`` holds what is to be sent.

    pause: awaited between large pieces, so that other sessions go on.
    """
    spool = body.spool
    assert spool is not None
    if spool.problem:
        return Outcome(Action.DEFER, reason=f"Insufficient system storage ({spool.problem})")
    judgement = await settings.pipeline.judge(spool.view(), body.start, record)
    for run in judgement.runs:
        publish(run)
    body.message_id = judgement.message_id
    outcome = judgement.outcome
    if outcome.action is Action.PASS:
        outcome.size = spool.size
        outcome.ends_with_newline = spool.tail(2) == b"\r\n"
    elif judgement.chunks is not None:
        outcome = await _rewrite(body, judgement.chunks, settings, outcome, pause)
    if outcome.action in (Action.REJECT, Action.QUARANTINE, Action.DEFER) and body.start.source is UPSTREAM:
        outcome = await _rewrite(body, [_notice(outcome)], settings, outcome, pause)
        outcome.notice = True
    return outcome


async def _rewrite(
    body: Body,
    chunks: Iterable[bytes],
    settings: SessionSettings,
    outcome: Outcome,
    pause: Callable[[], Awaitable[None]],
) -> Outcome:
    """Lay the new message into a spool of its own, and drop the old one."""
    fresh = Spool(settings.spool)
    written = 0
    for chunk in chunks:
        fresh.write(bytes(chunk))
        written += len(chunk)
        if written > 4 * 1024 * 1024:
            written = 0
            await pause()
    if fresh.problem:
        return Outcome(Action.DEFER, reason=f"Insufficient system storage ({fresh.problem})")
    old, body.spool = body.spool, fresh
    if old is not None:
        old.close()
    body.new_size = outcome.size = fresh.size
    outcome.ends_with_newline = fresh.tail(2) == b"\r\n"
    return outcome


def _notice(outcome: Outcome) -> bytes:
    """Write the short message that a client gets in place of one that was stopped."""
    reason = "".join(c if 31 < ord(c) < 127 else "?" for c in outcome.reason[:200])
    return (
        "From: mailgate <postmaster@localhost>\r\n"
        "Subject: A message was withheld\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"
        f"A message was withheld by the mail gateway.\r\n\r\nReason: {reason}\r\n"
    ).encode()
