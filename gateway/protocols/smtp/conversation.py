"""What the parts of the SMTP engine share: the exchange, its turns, and the words of replies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...core.exchange import Entry, Exchange
from ...core.record import SessionRecord
from ...core.rules import Rules
from ...core.sasl_exchange import SaslExchange
from ...core.steps import CLIENT, UPSTREAM, CommandSeen, Envelope, Refused
from ...core.trouble import FaultKind, Trouble
from .capabilities import Offer

#: How many commands may await their replies before the client is no longer read.
MAX_IN_FLIGHT = 500


@dataclass(slots=True)
class Reply:
    """One whole reply, with its lines as they came, CRLF at each end."""

    code: int
    lines: list[bytes]

    @property
    def raw(self) -> bytes:
        return self.lines[0] if len(self.lines) == 1 else b"".join(self.lines)

    @property
    def result(self) -> str:
        return "ok" if self.code < 400 else "temp" if self.code < 500 else "perm"


#: What is called when an entry is settled: with the upstream's reply, or None for our own turn.
Handler = Callable[[Entry[Any], Reply | None], None]

#: Trouble in SMTP's words: code, enhanced code (RFC 3463), text.
WORDS: dict[Trouble, tuple[int, str, str]] = {
    Trouble.UPSTREAM_DOWN: (421, "4.3.2", "Service not available, try again later"),
    Trouble.UPSTREAM_TLS: (421, "4.7.0", "No secure connection to the mail server, try again later"),
    Trouble.UPSTREAM_FAULT: (421, "4.3.0", "Connection to the mail server lost, try again later"),
    Trouble.UPSTREAM_TIMEOUT: (421, "4.4.2", "The mail server does not answer, try again later"),
    Trouble.TLS_REQUIRED: (530, "5.7.0", "Must issue a STARTTLS command first"),
    Trouble.TOO_MANY: (421, "4.7.0", "Too many connections, try again later"),
    Trouble.TOO_MANY_ERRORS: (421, "4.7.0", "Too many errors"),
    Trouble.REFUSED: (554, "5.7.1", "Access denied"),
    Trouble.IDLE: (421, "4.4.2", "Timeout exceeded"),
    Trouble.SHUTDOWN: (421, "4.3.2", "Service shutting down, try again later"),
    Trouble.NO_SPACE: (421, "4.3.1", "Insufficient system storage"),
    Trouble.PLUGIN_FAILED: (421, "4.7.1", "Message can't be inspected now, try again later"),
    Trouble.PROTOCOL: (421, "4.5.0", "Protocol error"),
    Trouble.INTERNAL: (421, "4.3.0", "Internal error, try again later"),
}


class Conversation(SaslExchange):
    """The state of an SMTP session and the order of its replies."""

    #: The verb that opens an extended session, "EHLO" or "LHLO".
    hello = "EHLO"

    def __init__(self, rules: Rules, record: SessionRecord) -> None:
        super().__init__(rules, record)
        self._exchange: Exchange[Handler] = Exchange()
        self._reply_lines: list[bytes] = []
        self._reply_size = 0
        self._greeted = False
        self._early = False
        self._sync = False  # the command behind which the client is not read until it is answered
        self._one_at_a_time = True  # the upstream does not take pipelined commands
        self._sending = False  # SendBody(UPSTREAM) is under way
        self._deciding = False
        self._said_goodbye = False
        self._stopping = False
        self._authenticated = False
        self._offer: Offer | None = None
        self._struck_told: set[str] = set()
        self._envelope: Envelope | None = None  # the transaction, once MAIL was accepted
        self._offered_recipients = 0
        self._errors = 0
        self._unknown = 0
        self._junk = 0
        self._current: CommandSeen | None = None  # whose reply is being handled

    # -- replies in order --------------------------------------------------

    def _relay(self, command: CommandSeen | None, line: bytes, handler: Handler) -> None:
        """Send a command upstream; ``handler`` gets the reply."""
        self._send(UPSTREAM, line)
        self._exchange.expect(Entry(handler, command))

    def _wait_turn(self, command: CommandSeen, handler: Handler) -> None:
        """Call ``handler`` when every reply before it has gone to the client."""
        self._sync = True
        self._exchange.expect(Entry(handler, command, b""))
        self._turn()

    def _reply(self, command: CommandSeen, result: str, text: bytes | str) -> None:
        if command is self._current:
            self._current = None
        super()._reply(command, result, text)

    def _answer(self, command: CommandSeen, code: int, enhanced: str, text: str, reason: str = "") -> None:
        """Answer a command ourselves, in its turn.

        reason: says by which rule the gateway refused it; "" for a plain answer or error.
        """
        if reason:
            self._emit(Refused(command.verb, reason))
        reply = f"{code} {enhanced} {text}\r\n" if enhanced else f"{code} {text}\r\n"
        self._exchange.expect(Entry(self._own_reply, command, reply.encode()))
        self._turn()

    def _error(self, command: CommandSeen, code: int, enhanced: str, text: str, reason: str = "") -> None:
        """Answer a command that the client should not have given; too many end the session."""
        self._answer(command, code, enhanced, text, reason)
        self._errors += 1
        if self._errors > self.rules.max_errors and not self.ended:
            self._fault(CLIENT, FaultKind.TOO_MANY_COMMANDS, "too many errors")
            self._fail(Trouble.TOO_MANY_ERRORS)

    def _own_reply(self, entry: Entry[Handler], _reply: Reply | None) -> None:
        data = entry.own or b""
        self._send(CLIENT, data)
        if entry.command is not None:
            code = int(data[:3])
            result = "ok" if code < 400 else "temp" if code < 500 else "refused"
            self._reply(entry.command, result, data)

    def _turn(self) -> None:
        """Let our own replies go that no reply of the upstream stands before."""
        while not self.ended:
            entry = self._exchange.ready()
            if entry is None:
                break
            entry.kind(entry, None)
        if not self._exchange:
            self._sync = False

    def _pass(self, entry: Entry[Handler], reply: Reply | None) -> None:
        """Pass the upstream's reply to the client as it is."""
        assert reply is not None
        if 300 <= reply.code < 400:
            # The upstream waits for something that nobody will send.
            self._broken(FaultKind.UNEXPECTED_REPLY, reply.lines[0])
            return
        raw = reply.raw
        self._send(CLIENT, raw)
        if entry.command is not None:
            self._reply(entry.command, reply.result, reply.lines[0])

    def _swallow(self, _entry: Entry[Handler], _reply: Reply | None) -> None:
        """Take the reply to a command of the gateway's own."""

    def _broken(self, kind: FaultKind, detail: bytes | str) -> None:
        """The upstream broke the protocol: tell the client, and end."""
        self._fault(UPSTREAM, kind, detail)
        self._fail(Trouble.UPSTREAM_FAULT)

    # -- ends --------------------------------------------------------------

    def _words(self, trouble: Trouble) -> bytes:
        code, enhanced, text = WORDS[trouble]
        if not self._greeted:  # no enhanced code before the greeting (RFC 2034 3)
            return f"{code} {self.rules.hostname} {text}\r\n".encode()
        return f"{code} {enhanced} {text}\r\n".encode()

    def _reset_transaction(self) -> None:
        self._envelope = None
        self._offered_recipients = 0
