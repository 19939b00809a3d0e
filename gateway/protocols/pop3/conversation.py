"""What the parts of the POP3 engine share: replies in command order, our own among them, listings, ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...core.exchange import Entry, Exchange
from ...core.record import SessionRecord
from ...core.rules import Rules
from ...core.sasl_exchange import SaslExchange
from ...core.steps import CLIENT, UPSTREAM, CommandSeen, Refused, Side
from ...core.text import shown
from ...core.trouble import REASONS, CloseReason, FaultKind, Trouble
from ...wire.dots import DotDecoder
from ...wire.lines import LineEnd, LineTooLong
from .capabilities import Offer
from .grammar import REPLY_LIMIT

#: Octets of a CAPA or AUTH listing that are kept to be rewritten.
LISTING_LIMIT = 65536

WORDS: dict[Trouble, str] = {
    Trouble.UPSTREAM_DOWN: "[SYS/TEMP] Service not available, try again later",
    Trouble.UPSTREAM_TLS: "[SYS/TEMP] No secure connection to the mail server, try again later",
    Trouble.UPSTREAM_FAULT: "[SYS/TEMP] Connection to the mail server lost, try again later",
    Trouble.UPSTREAM_TIMEOUT: "[SYS/TEMP] The mail server does not answer, try again later",
    Trouble.TLS_REQUIRED: "[SYS/PERM] Must issue STLS first",
    Trouble.TOO_MANY: "[SYS/TEMP] Too many connections, try again later",
    Trouble.TOO_MANY_ERRORS: "[SYS/PERM] Too many errors",
    Trouble.REFUSED: "[SYS/PERM] Access denied",
    Trouble.IDLE: "[SYS/TEMP] Disconnected for inactivity",
    Trouble.SHUTDOWN: "[SYS/TEMP] Service shutting down, try again later",
    Trouble.PROTOCOL: "[SYS/PERM] Protocol error",
}

#: Called with the upstream's reply line, or None for our own turn.
Handler = Callable[[Entry[Any], bytes], None]


class Conversation(SaslExchange):
    """The state of a POP3 session."""

    def __init__(self, rules: Rules, record: SessionRecord) -> None:
        super().__init__(rules, record)
        self.reading = [False, False]  # who speaks before the greeting waits for it
        self._exchange: Exchange[Handler] = Exchange()
        self._current: CommandSeen | None = None
        self._greeting = b""
        self._greeted = False
        self._said_goodbye = False
        self._leaving = False  # the upstream has QUIT
        self._stopping = False
        self._sync = False
        self._one_at_a_time = True
        self._deciding = False
        self._sending = False
        self._authenticated = False
        self._offer: Offer | None = None
        self._offered: dict[str, list[str]] | None = None  # the upstream's, as asked in the prologue
        self._told: set[str] = set()
        self._user = b""
        self._holds_user = False  # whether the upstream has heard it
        self._decoder: DotDecoder | None = None  # of the multi-line reply that is coming
        self._take: Callable[[bytes, bytes, bool], None] | None = None
        self._listing: list[bytes] = []
        self._body: Entry[Handler] | None = None
        self._body_line = b""
        self._body_number = b""
        self._body_lines: int | None = None  # of TOP: how many of the body
        self._body_newlines: DotDecoder | None = None  # tells of bare newlines in the held message
        self._unique: dict[bytes, bytes] | None = None  # unique-ids by number, once asked
        self._sizes: dict[bytes, int] = {}  # of messages as clients get them, by number; 0: not known
        self._judging = b""  # the number of a message that is judged for its size only
        self._undelivered: set[bytes] = set()  # numbers of messages that RETR could not give
        self._stale_user = False  # the upstream holds a USER that was said before TLS
        self._unknown = 0
        self._errors = 0
        self._skipping = False

    # -- hearing the upstream ----------------------------------------------

    def _hear_reply(self) -> None:
        heard = self.heard[UPSTREAM]
        try:
            line = heard.line(REPLY_LIMIT)
        except LineTooLong:
            self._broken(FaultKind.REPLY_TOO_LONG, heard.peek(60))
            return
        if line is None:
            return
        if heard.ended is LineEnd.BARE_LF:
            line = line[:-1] + b"\r\n"
        if not line.startswith((b"+", b"-ERR")):
            self._broken(FaultKind.BAD_REPLY, line)
            return
        if not self._exchange:
            if line.startswith(b"-ERR"):  # servers say so before they hang up
                if not self.handshaking[CLIENT]:
                    self._send(CLIENT, line)
                self._said_goodbye = True
                self._finish(CloseReason.UPSTREAM_EOF, shown(line))
            else:
                self._broken(FaultKind.UNEXPECTED_REPLY, line)
            return
        entry = self._exchange.settle()
        self._current = entry.command
        entry.kind(entry, line)
        self._current = None

    def _reply(self, command: CommandSeen, result: str, text: bytes | str) -> None:
        if command is self._current:
            self._current = None
        super()._reply(command, result, text)

    def _turn(self) -> None:
        """Let our own replies go that no reply of the upstream stands before."""
        while not self.ended and self._decoder is None and not self._deciding and not self._sending:
            entry = self._exchange.ready()
            if entry is None:
                break
            entry.kind(entry, entry.own or b"")
        if not self._exchange:
            self._sync = False
        if self._stopping and not self.ended:
            self._stop_when_quiet()

    # -- asking and answering ----------------------------------------------

    def _ask(self, line: bytes, handler: Handler) -> None:
        """Send a command of the gateway's own."""
        self._send(UPSTREAM, line + b"\r\n")
        self._exchange.expect(Entry(handler, None))

    def _relay(self, command: CommandSeen | None, line: bytes, handler: Handler) -> None:
        self._send(UPSTREAM, line + b"\r\n")
        self._exchange.expect(Entry(handler, command))

    def _answer(self, command: CommandSeen, text: str, reason: str = "") -> None:
        """Answer a command ourselves, in its turn."""
        if reason:
            self._emit(Refused(command.verb, reason))
        self._exchange.expect(Entry(self._own_reply, command, f"{text}\r\n".encode()))
        self._turn()

    def _error(self, command: CommandSeen, text: str, reason: str = "") -> None:
        self._answer(command, f"-ERR {text}", reason)
        self._errors += 1
        if self._errors > self.rules.max_errors and not self.ended:
            self._fault(CLIENT, FaultKind.TOO_MANY_COMMANDS, "too many errors")
            self._fail(Trouble.TOO_MANY_ERRORS)

    def _own_reply(self, entry: Entry[Handler], line: bytes) -> None:
        self._send(CLIENT, line)
        if entry.command is not None:
            self._reply(entry.command, "ok" if line.startswith(b"+OK") else "refused", line)

    def _pass(self, entry: Entry[Handler], line: bytes) -> None:
        """Pass a one-line reply."""
        if not line.startswith((b"+OK", b"-ERR")):
            self._broken(FaultKind.UNEXPECTED_CONTINUATION, line)
            return
        self._send(CLIENT, line)
        if entry.command is not None:
            self._reply(entry.command, "ok" if line.startswith(b"+OK") else "no", line)

    # -- multi-line replies ------------------------------------------------

    def _hear_lines(self) -> None:
        """Take octets of the multi-line reply that is coming."""
        decoder, take = self._decoder, self._take
        assert decoder is not None and take is not None
        wire = self.heard[UPSTREAM].take_all()
        content = decoder.feed(wire)
        if decoder.finished:
            if decoder.rest:
                wire = wire[: len(wire) - len(decoder.rest)]
                self.heard[UPSTREAM].push_back(decoder.rest)
            self._decoder = self._take = None
        take(wire, content, decoder.finished)

    def _begin_lines(self, take: Callable[[bytes, bytes, bool], None], watch_newlines: bool = False) -> None:
        self._decoder = DotDecoder(watch_newlines)
        self._take = take

    def _r_lines(self, entry: Entry[Handler], line: bytes) -> None:
        """Stream a listing through."""
        self._pass(entry, line)
        if line.startswith(b"+OK"):
            self._begin_lines(lambda wire, _content, _finished: self._send(CLIENT, wire))

    def _gather(self, done: Callable[[list[bytes]], None], limit: int = LISTING_LIMIT) -> None:
        """Keep a listing, bounded, and hand on its lines."""
        self._listing = []
        size = 0

        def take(_wire: bytes, content: bytes, finished: bool) -> None:
            nonlocal size
            size += len(content)
            if size > limit:
                self._decoder = self._decoder or DotDecoder()  # the client is within the listing
                self._broken(FaultKind.REPLY_TOO_LONG, "listing")
                return
            self._listing.append(content)
            if finished:
                text, self._listing = b"".join(self._listing), []
                done([one.rstrip(b"\r") for one in text.split(b"\n") if one.strip()])

        self._begin_lines(take)

    # -- ends --------------------------------------------------------------

    def _broken(self, kind: FaultKind, detail: bytes | str) -> None:
        self._fault(UPSTREAM, kind, detail)
        self._fail(Trouble.UPSTREAM_FAULT)

    def _at_end(self, side: Side) -> None:
        if side is UPSTREAM:
            if self._leaving:
                self._finish(CloseReason.UPSTREAM_EOF, "closed without an answer to QUIT")
            else:
                self._fail(Trouble.UPSTREAM_FAULT)
        elif not self._exchange and self._decoder is None and not self._deciding:
            self._finish(CloseReason.CLIENT_EOF)

    def _fail(self, trouble: Trouble) -> None:
        reason = REASONS.get(trouble, CloseReason.INTERNAL)
        within = self._decoder is not None and self._greeted
        if within:
            self._fault(UPSTREAM, FaultKind.TRUNCATED_BODY, str(trouble))
        if within and self._body is None:
            # A line of ours would be read as part of the listing or message; a closed
            # connection without the final dot can't be taken for a whole one.
            pass
        elif not self.handshaking[CLIENT] and not self._said_goodbye and not self._sending:
            self._send(CLIENT, f"-ERR {WORDS.get(trouble, '[SYS/TEMP] Try again later')}\r\n".encode())
        self._finish(reason, str(trouble))

    def _settle_all(self) -> None:
        self._forget_login("unfinished")
        body = self._body.command if self._body is not None else None
        self._body = None
        unanswered = [self._current, body, *(entry.command for entry in self._exchange.drain())]
        settled: set[int] = set()
        for command in unanswered:
            if command is not None and command.serial not in settled:
                settled.add(command.serial)
                self._reply(command, "unanswered", "")

    def _stop_when_quiet(self) -> None:
        if self._exchange or self._decoder is not None or self._deciding or self._sending or self._login:
            self._stopping = True
        else:
            self._fail(Trouble.SHUTDOWN)
