"""Transcripts: chosen sessions, written down as plays, fit to be sent with a bug report.

A transcript holds what both sides said, what the gateway did, and no secret: see
:mod:`gateway.observe.redact` for what stands and what is masked.  :mod:`gateway.observe.replay`
performs one again.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path

import structlog

from ..core.record import SessionRecord
from ..core.steps import (
    CLIENT,
    UPSTREAM,
    BodyAbort,
    BodyData,
    BodyEnd,
    BodyStart,
    CommandSeen,
    LoginSeen,
    ReplySeen,
    Send,
    Side,
    Step,
)
from ..core.text import shown
from .notation import render, spell
from .redact import Redactor, lines_of

#: Characters of one transcript.
SIZE_BOUND = 4 * 1024 * 1024
#: Characters kept in memory until a login tells whether the session is wanted.
WAITING_BOUND = 256 * 1024


@dataclass(frozen=True, slots=True)
class Choice:
    """Which sessions are written where.  An empty condition is met by every session.

    directory: made with mode 0700 if it is not there.
    share: of the sessions that meet the rest, from 0.0 to 1.0.
    content: whether messages are written as they are; otherwise letters and digits are masked.
    """

    directory: Path
    listeners: Collection[str] = ()
    users: Collection[str] = ()
    addresses: Collection[IPv4Network | IPv6Network] = ()
    share: float = 1.0
    content: bool = False
    size: int = SIZE_BOUND

    def wants(self, record: SessionRecord) -> bool:
        """Tell whether a session meets the conditions that are known at its begin."""
        if self.listeners and record.listener not in self.listeners:
            return False
        if self.addresses:
            try:
                address = ip_address(record.client_address.partition("%")[0])
            except ValueError:
                return False
            if not any(address in network for network in self.addresses):
                return False
        return _share_of(record.id) < self.share


def _share_of(name: str) -> float:
    """Return a number from 0 to 1 that is the same for a session wherever it is asked."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=6).digest()) / 2**48


class Transcripts:
    """Chooses the sessions to be written down."""

    def __init__(self, choices: Iterable[Choice]) -> None:
        self._choices = tuple(choices)

    def choose(self, record: SessionRecord) -> Recorder | None:
        """Return a recorder for a session that begins, by the first choice that wants it."""
        for choice in self._choices:
            if choice.wants(record):
                return Recorder(choice, record)
        return None


class Recorder:
    """Writes one session down.

    The session calls :meth:`heard` with what it read, then :meth:`steps` with what the engine
    answered; :meth:`news` before the steps of any other input.  None of them raises: a recorder
    that fails says so in the log and stops.  Once ``active`` is false it need not be called.
    """

    def __init__(self, choice: Choice, record: SessionRecord) -> None:
        self.active = True
        self._choice = choice
        self._record = record
        self._redactor = Redactor(record.protocol, choice.content)
        self._unread: list[bytes] = [b"", b""]
        self._body = [False, False]
        self._size = 0
        self._file = -1
        self._waiting: list[str] | None = [] if choice.users else None
        started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.started))
        self._lines = [
            f"# protocol: {record.protocol}",
            f"# session {shown(record.id)} of listener {shown(record.listener)}, {started}",
            f"# client {shown(record.client_address)}",
            "# xxxx stands for what is secret" + ("" if choice.content else "; letters of messages are x"),
        ]

    def heard(self, side: Side, data: bytes) -> None:
        """Take what was read from a side, before the engine has it."""
        if self.active:
            self._unread[side] += data

    def news(self, text: str) -> None:
        """Take an input that is no octets: ``open``, ``routed tls``, ``tls client``, ``sent``,
        ``pass``, ``reject reason``, ``closed upstream``, ``fail idle``, ``stop``, ``finished``."""
        if self.active:
            self._lines.append(f"?   {shown(text)}")

    def steps(self, steps: Sequence[Step], unread: tuple[int, int] = (0, 0)) -> None:
        """Take the engine's answer.

        unread: octets of each side that the engine has but has not looked at yet.
        """
        if not self.active:
            return
        try:
            self._take(steps, unread)
            self._flush()
        except Exception as error:  # noqa: BLE001 - a transcript must not break a session
            self._stop(error)

    def close(self) -> None:
        """The session is over."""
        if self.active and self._waiting is None:
            try:
                self._flush()
            except OSError as error:
                self._stop(error)
        self._end()

    # -- redacting ---------------------------------------------------------

    def _take(self, steps: Sequence[Step], unread: tuple[int, int]) -> None:
        content = [step.data for step in steps if isinstance(step, BodyData) and step.source is UPSTREAM]
        body: frozenset[bytes] | None = None
        if content or self._body[UPSTREAM] or any(_is_body(step) for step in steps):
            body = frozenset(line for piece in content for line in _stuffed(piece))
        self._write_upstream(self._consume(UPSTREAM, unread[UPSTREAM]), body)
        lines = lines_of(self._consume(CLIENT, unread[CLIENT]))
        # What is ahead decides where a client's line belongs: behind what came of the lines
        # before it, and behind the begin of the message that it is of.
        ahead = [step for step in steps if isinstance(step, CommandSeen) or _begins(step)]
        for step in steps:
            if ahead and step is ahead[0]:
                ahead.pop(0)
                if isinstance(step, CommandSeen):
                    lines = self._write_command(lines, step)
            elif not ahead:
                lines = self._write_strays(lines, None)
            elif isinstance(ahead[0], CommandSeen):
                lines = self._write_strays(lines, ahead[0])
            self._write_step(step, body)
        self._write_strays(lines, None)

    def _consume(self, side: Side, left: int) -> bytes:
        """Return what the engine has looked at by now, and keep the rest."""
        data = self._unread[side]
        cut = max(len(data) - left, 0)
        self._unread[side] = data[cut:]
        return data[:cut]

    def _write_command(self, lines: list[bytes], command: CommandSeen) -> list[bytes]:
        redactor = self._redactor
        found = next((i for i, line in enumerate(lines) if redactor.matches(line, command)), None)
        if found is None:
            # It ends here: what is left of it is its last literal, and behind that its line end.
            while lines and redactor.in_literal:
                self._say("C>", self._stray(lines.pop(0)))
            redactor.began(command)
            return lines
        for line in lines[:found]:
            self._say("C>", self._stray(line))
        redactor.began(command)
        self._say("C>", redactor.command(lines[found], command))
        return lines[found + 1 :]

    def _write_strays(self, lines: list[bytes], ahead: CommandSeen | None) -> list[bytes]:
        """Write the client's lines up to the one that the next command was made of."""
        end = len(lines)
        if ahead is not None:
            end = next((i for i, line in enumerate(lines) if self._redactor.matches(line, ahead)), 0)
        for line in lines[:end]:
            self._say("C>", self._stray(line))
        return lines[end:]

    def _stray(self, line: bytes) -> bytes:
        return self._redactor.client_content(line) if self._body[CLIENT] else self._redactor.stray(line)

    def _write_upstream(self, data: bytes, body: frozenset[bytes] | None) -> None:
        for index, line in enumerate(lines_of(data)):
            if self._body[UPSTREAM] and index == 0:
                # It may go on with a line whose begin was in an earlier piece.
                self._say("U>", self._redactor.content(line))
            else:
                self._say("U>", self._redactor.reply(line, body))

    def _write_step(self, step: Step, body: frozenset[bytes] | None) -> None:
        redactor = self._redactor
        match step:
            case Send(side, data) if side is CLIENT:
                for line in lines_of(data):
                    self._say(">C", redactor.reply(line, body))
                return
            case Send(data=data):
                for line in lines_of(data):
                    masked = redactor.content(line) if self._body[CLIENT] else redactor.to_upstream(line)
                    self._say(">U", masked)
                return
            case BodyData(source, data):
                self._lines.append(f"# body from {source}, {len(data)} octets")
                return
            case BodyStart(source=source):
                self._body[source] = True
            case BodyEnd(source) | BodyAbort(source):
                self._body[source] = False
            case ReplySeen():
                redactor.saw_reply(step)
            case LoginSeen(user=user, outcome=outcome):
                redactor.forgive(user)
                if outcome == "ok" and self._waiting is not None:
                    self._decide(user)
            case _:
                pass
        text = shown(f"!   {render(step)}", 1000).encode("utf-8", "backslashreplace")
        self._lines.append(redactor.scrub(text).decode("utf-8", "backslashreplace"))

    def _say(self, mark: str, data: bytes) -> None:
        if data:
            self._lines.append(spell(mark, self._redactor.scrub(data)))

    # -- writing -----------------------------------------------------------

    def _decide(self, user: str) -> None:
        waiting, self._waiting = self._waiting or [], None
        if user in self._choice.users:
            self._lines = waiting + self._lines
        else:
            self._lines = []
            self.active = False

    def _flush(self) -> None:
        lines, self._lines = self._lines, []
        if not lines or not self.active:
            return
        self._size += sum(map(len, lines)) + len(lines)
        if self._waiting is not None:
            self._waiting += lines
            if self._size > WAITING_BOUND:
                self._end()  # so much before a login: nobody's session
            return
        text = "\n".join(lines) + "\n"
        if self._size > self._choice.size:
            text += "# cut here: the bound of a transcript is reached\n"
        if self._file < 0:
            self._file = self._open()
        data = text.encode("utf-8", "backslashreplace")
        while data:
            data = data[os.write(self._file, data) :]
        if self._size > self._choice.size:
            self._end()

    def _open(self) -> int:
        record = self._record
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(record.started))
        name = re.sub(r"[^A-Za-z0-9_-]", "_", f"{stamp}-{record.listener}-{record.id}")
        self._choice.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return os.open(self._choice.directory / f"{name}.play", flags, 0o600)

    def _stop(self, error: Exception) -> None:
        self._end()
        # Of an exception's text only that of the system is sure to quote nobody.
        detail = error.strerror if isinstance(error, OSError) else type(error).__name__
        structlog.get_logger().warning("transcript_failed", session=self._record.id, reason=detail)

    def _end(self) -> None:
        self.active = False
        self._waiting = None
        self._lines = []
        self._unread = [b"", b""]
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _begins(step: Step) -> bool:
    return isinstance(step, BodyStart) and step.source is CLIENT


def _is_body(step: Step) -> bool:
    return isinstance(step, (BodyStart, BodyEnd, BodyAbort)) and step.source is UPSTREAM


def _stuffed(piece: bytes) -> list[bytes]:
    """Return the lines of a piece of a message, as they are and as dots are stuffed."""
    lines = lines_of(piece)
    return lines + [b"." + line for line in lines if line.startswith(b".")]
