"""Messages on their way through a session: measured, and where they are held, judged."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..core.facts import MessageSeen, QuarantineFailed
from ..core.outcome import Action, Outcome
from ..core.record import SessionRecord
from ..core.steps import UPSTREAM, BodyStart
from ..core.text import shown
from ..core.view import ViewKey
from ..inspection.edits import Edit, render
from ..inspection.message import Content
from ..inspection.quarantine import Entry, QuarantineError
from ..inspection.verdicts import Remembered, verdict_key
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

    __slots__ = ("_hash", "key", "message_id", "new_size", "quarantine", "settled", "size", "spool", "start")

    def __init__(self, start: BodyStart, settings: SessionSettings) -> None:
        self.start = start
        self.size = 0
        self.new_size = 0
        self.key: ViewKey | None = None
        self.quarantine = ""  # under which id it was kept
        self.message_id = ""
        self.settled = False  # what became of it has been told
        watched = not start.held and start.stage in settings.watch and not start.partial and not start.section
        self.spool = Spool(settings.spool) if start.held or watched else None
        kept = start.held and start.source is UPSTREAM  # its verdict is remembered by digest
        self._hash = hashlib.sha256() if (settings.digest or kept) and not start.partial else None

    def add(self, data: bytes) -> None:
        """Take some content."""
        self.size += len(data)
        if self._hash is not None:
            self._hash.update(data)
        if self.spool is not None:
            self.spool.write(data)

    def digest(self) -> bytes:
        """Return the SHA-256 of the content; b"" if nobody wanted it."""
        return self._hash.digest() if self._hash is not None else b""

    def take_spool(self) -> Spool | None:
        """Give the content away: whoever takes it closes it."""
        spool, self.spool = self.spool, None
        return spool

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
            quarantine=self.quarantine,
        )


async def decide(
    body: Body,
    settings: SessionSettings,
    record: SessionRecord,
    publish: Callable[[Any], None],
    pause: Callable[[], Awaitable[None]],
) -> Outcome:
    """Have a held message judged; afterwards ``body.spool`` holds what is to be sent.

    A message towards a client that was judged before gets the same verdict again.
    pause: awaited between large pieces, so that other sessions go on.
    """
    spool, start = body.spool, body.start
    assert spool is not None
    if spool.problem:
        return Outcome(Action.DEFER, reason=f"Insufficient system storage ({spool.problem})")
    pipeline = settings.pipeline
    store = settings.verdicts if start.source is UPSTREAM and not start.partial else None
    key = b""
    scope: tuple[str, ...] = ()
    if store is not None:
        scope = record.upstream, record.user, pipeline.names(record.listener, start.stage)
        key = verdict_key(body.digest(), *scope)
        known = await pipeline.in_thread(store.get, key)
        if known is not None:
            outcome = Outcome(known.action, reason=known.reason)
            return await _apply(body, outcome, known.edits, settings, pause)
    judgement = await pipeline.judge(spool.view(), start, record)
    if judgement.ambiguous is not None:
        publish(judgement.ambiguous)
    for run in judgement.runs:
        publish(run)
    body.message_id = judgement.message_id
    outcome, edits = judgement.outcome, judgement.edits
    if outcome.action is Action.QUARANTINE:
        said_by = judgement.runs[-1].plugin if judgement.runs and not judgement.ambiguous else "gateway"
        outcome = await _quarantine(body, outcome, said_by, settings, record, publish, scope)
    if start.source is UPSTREAM and outcome.action not in (Action.PASS, Action.MODIFY, Action.DEFER):
        edits = [Edit(0, spool.size, _notice(outcome))]
    if store is not None and outcome.action is not Action.DEFER:
        await pipeline.in_thread(store.put, key, Remembered(outcome.action, outcome.reason, edits))
    return await _apply(body, outcome, edits, settings, pause)


async def _quarantine(
    body: Body,
    outcome: Outcome,
    plugin: str,
    settings: SessionSettings,
    record: SessionRecord,
    publish: Callable[[Any], None],
    scope: tuple[str, ...],
) -> Outcome:
    """Keep a message; where that can't be, it stays with its sender, or on the server."""
    quarantine, spool, start = settings.quarantine, body.spool, body.start
    assert spool is not None
    if quarantine is None:
        return Outcome(Action.DEFER, reason="Message is to be quarantined, and there is no quarantine")
    envelope = start.envelope
    header = Content(spool.view()).root
    entry = Entry(
        id="",
        at=time.time(),
        reason=outcome.reason,
        plugin=plugin,
        stage=str(start.stage),
        protocol=record.protocol,
        listener=record.listener,
        upstream=record.upstream,
        session=record.id,
        user=record.user,
        client_address=record.client_address,
        size=spool.size,
        digest=body.digest().hex() or hashlib.sha256(spool.view()).hexdigest(),
        reverse_path=envelope.reverse_path if envelope is not None else "",
        recipients=tuple(envelope.recipients) if envelope is not None else (),
        mailbox=start.mailbox,
        ident=start.ident,
        subject=shown(field.value if (field := header.get("subject")) is not None else "", 200),
        message_id=body.message_id,
        scope=scope,
    )
    try:
        kept = await settings.pipeline.in_thread(quarantine.store, spool.pieces(), entry)
    except QuarantineError as error:
        publish(QuarantineFailed(plugin, str(error)))
        return Outcome(Action.DEFER, reason="Message is to be quarantined, and that is not possible now")
    body.quarantine = kept.id
    return outcome


async def _apply(
    body: Body,
    outcome: Outcome,
    edits: Sequence[Edit],
    settings: SessionSettings,
    pause: Callable[[], Awaitable[None]],
) -> Outcome:
    """Make of the spool what the outcome says."""
    spool = body.spool
    assert spool is not None
    if edits:
        outcome = await _rewrite(body, render(spool.view(), edits), settings, outcome, pause)
        outcome.notice = outcome.action not in (Action.PASS, Action.MODIFY, Action.DEFER)
    elif outcome.action is Action.PASS:
        outcome.size = spool.size
        outcome.ends_with_newline = spool.tail(2) == b"\r\n"
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


def top(pieces: Iterable[bytes], lines: int) -> Iterator[bytes]:
    """Give the header, the blank line and so many lines of the body (RFC 1939 7, TOP)."""
    tail = b"\n"  # what was before, so that a blank line is seen across pieces; an empty header too
    within_header = True
    for piece in pieces:
        place = 0
        if within_header:
            found = _BLANK_LINE.search(tail + piece)
            if found is None:
                tail = (tail + piece)[-2:]
                yield piece
                continue
            place = found.end() - len(tail)
            within_header = False
        while lines > 0 and (newline := piece.find(b"\n", place)) >= 0:
            place, lines = newline + 1, lines - 1
        if lines == 0:
            if place:
                yield piece[:place]
            return
        yield piece


_BLANK_LINE = re.compile(rb"\n\r?\n")


def _notice(outcome: Outcome) -> bytes:
    """Write the short message that a client gets in place of one that was stopped."""
    reason = "".join(c if 31 < ord(c) < 127 else "?" for c in outcome.reason[:200])
    return (
        "From: mailgate <postmaster@localhost>\r\n"
        "Subject: A message was withheld\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"
        f"A message was withheld by the mail gateway.\r\n\r\nReason: {reason}\r\n"
    ).encode()
