"""The POP3 engine: a proxy's view of one POP3 session, from both ends.

The upstream answers in command order, so the exchange says what a line means: a reply, the
head of a multi-line reply, or a challenge.  Multi-line replies stream through; the messages
among them are measured on the way, or held for a verdict.

Nothing may be deleted that was not delivered.  Behind a RETR or TOP that is to be held the client
is not read until the message has gone out, so that a pipelined DELE waits for it; a message that
could not be delivered can't be deleted; and QUIT, which makes deletions true (RFC 1939 6), goes
upstream only when everything before it was answered.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from ...core.engine import Engine, Route
from ...core.exchange import Entry, Exchange
from ...core.outcome import Action, Outcome
from ...core.record import SessionRecord
from ...core.rules import Rules
from ...core.secret import MASK
from ...core.steps import (
    CLIENT,
    UPSTREAM,
    BodyStart,
    CommandSeen,
    Connect,
    ExtensionStruck,
    Framing,
    LoginSeen,
    Refused,
    SendBody,
    Side,
    Stage,
)
from ...core.text import shown
from ...core.trouble import REASONS, CloseReason, FaultKind, Trouble
from ...wire import sasl
from ...wire.dots import DotDecoder
from ...wire.lines import LineEnd, LineTooLong
from .capabilities import Offer, advertise, read
from .grammar import AUTH_LIMIT, COMMAND_LIMIT, REPLY_LIMIT, VERBS, is_multiline

MAX_IN_FLIGHT = 500
_CONTROLS = bytes(code for code in range(32) if code != 9) + b"\x7f"
_TIMESTAMP = re.compile(rb"\s*<[^<>\s]{1,200}@[^<>\s]{0,200}>")
_OCTETS = re.compile(rb"\+OK +(\d{1,15}) +octets", re.IGNORECASE)
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


def _number(argument: bytes) -> bytes:
    """Return a message-number in one form (RFC 1939 3)."""
    return (argument.split() or [b""])[0].lstrip(b"0")


class Pop3Engine(Engine):
    """POP3."""

    protocol: ClassVar[str] = "pop3"
    verbs: ClassVar[frozenset[str]] = VERBS

    def __init__(self, rules: Rules, record: SessionRecord) -> None:
        super().__init__(rules, record)
        self.reading = [False, False]  # who speaks before the greeting waits for it
        self._exchange: Exchange[Handler] = Exchange()
        self._current: CommandSeen | None = None
        self._greeting = b""
        self._greeted = False
        self._said_goodbye = False
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
        self._login: sasl.SaslReader | None = None
        self._login_command: CommandSeen | None = None
        self._login_turn = False
        self._decoder: DotDecoder | None = None  # of the multi-line reply that is coming
        self._take: Callable[[bytes, bytes, bool], None] | None = None
        self._listing: list[bytes] = []
        self._body: Entry[Handler] | None = None
        self._body_line = b""
        self._body_number = b""
        self._body_lines: int | None = None  # of TOP: how many of the body
        self._body_newlines: DotDecoder | None = None  # tells of bare newlines in the held message
        self._undelivered: set[bytes] = set()  # numbers of messages that RETR could not give
        self._stale_user = False  # the upstream holds a USER that was said before TLS
        self._unknown = 0
        self._errors = 0
        self._skipping = False

    # -- the prologue ------------------------------------------------------

    def _opened(self) -> None:
        self._emit(Connect())

    def _routed(self, route: Route) -> None:
        self._exchange.expect(Entry(self._r_greeting, None))

    def _r_greeting(self, _entry: Entry[Handler], line: bytes) -> None:
        if not line.startswith(b"+OK"):
            self._fault(UPSTREAM, FaultKind.BAD_REPLY, line)
            self._fail(Trouble.UPSTREAM_DOWN)
            return
        self._greeting = line
        if self.rules.upstream_tls in ("starttls", "opportunistic") and not self.secure[UPSTREAM]:
            self._ask(b"STLS", self._r_stls)
        else:
            self._ask_capabilities()

    def _ask(self, line: bytes, handler: Handler) -> None:
        """Send a command of the gateway's own."""
        self._send(UPSTREAM, line + b"\r\n")
        self._exchange.expect(Entry(handler, None))

    def _r_stls(self, _entry: Entry[Handler], line: bytes) -> None:
        if not line.startswith(b"+OK"):
            if self.rules.upstream_tls == "starttls":
                self._fault(UPSTREAM, FaultKind.STARTTLS_MISSING, line)
                self._fail(Trouble.UPSTREAM_TLS)
            else:
                self._ask_capabilities()
        elif len(self.heard[UPSTREAM]):
            self._fault(UPSTREAM, FaultKind.INJECTED_BEFORE_TLS, self.heard[UPSTREAM].peek(60))
            self._fail(Trouble.UPSTREAM_TLS)
        else:
            self._start_tls(UPSTREAM)

    def _ask_capabilities(self) -> None:
        """Ask CAPA upstream: it tells which mechanisms may pass, and whether it takes pipelining."""
        self._ask(b"CAPA", self._r_own_capa)

    def _r_own_capa(self, _entry: Entry[Handler], line: bytes) -> None:
        if line.startswith(b"+OK"):
            self._gather(self._own_capabilities)
        else:
            self._own_capabilities([])

    def _own_capabilities(self, lines: list[bytes]) -> None:
        self._offered = read(lines)
        self._one_at_a_time = "PIPELINING" not in self._offered
        self._offer = self._advertise(self._offered)
        if self._greeted:
            return
        if self.rules.forward_client == "xclient" and "XCLIENT" in self._offered:
            address = self.record.client_address
            self._ask(f"XCLIENT ADDR={address} PORT={self.record.client_port}".encode(), self._r_xclient)
        else:
            self._greet()

    def _r_xclient(self, _entry: Entry[Handler], line: bytes) -> None:
        if not line.startswith(b"+OK"):
            self._broken(FaultKind.UNEXPECTED_REPLY, line)
            return
        self._greet()

    def _greet(self) -> None:
        line = self._greeting
        if not self.rules.apop:
            line = _TIMESTAMP.sub(b"", line)
        self._send(CLIENT, line)
        self._greeted = True

    def _secured(self, side: Side) -> None:
        if side is UPSTREAM:
            self._ask_capabilities()
            return
        # RFC 2595 4: nothing of the plaintext phase counts.  The upstream may hold a USER of it.
        self._stale_user = self._stale_user or bool(self._user)
        self._user = b""
        self._forget_login("aborted")
        if self._offered is not None:
            self._offer = self._advertise(self._offered)

    def _advertise(self, keywords: dict[str, list[str]]) -> Offer:
        protected = self._protected
        stls = self.rules.client_tls == "starttls" and not self.secure[CLIENT] and not self._authenticated
        key = tuple((name, *arguments) for name, arguments in keywords.items())
        offer = self.rules.remembered(
            (key, stls, protected),
            lambda: advertise(keywords, self.rules, stls=stls, protected=protected),
        )
        for name, reason in offer.struck:
            if name not in self._told:
                self._told.add(name)
                self._emit(ExtensionStruck(name, reason))
        return offer

    @property
    def _protected(self) -> bool:
        return self.secure[CLIENT] or self.record.tls_in_front

    # -- hearing -----------------------------------------------------------

    def _understand(self, side: Side) -> None:
        if side is UPSTREAM:
            if self._decoder is not None:
                self._hear_lines()
            else:
                self._hear_reply()
            if not self.ended and self._decoder is None:
                self._turn()
        elif self._login_turn:
            self._auth_answer()
        else:
            self._hear_command()
        if not self.ended:
            self._regulate()

    def _regulate(self) -> None:
        """Set the gates, and name what is awaited."""
        waiting = len(self._exchange)
        self.reading[UPSTREAM] = not self._deciding and not self._sending
        if not self._greeted:
            self.phase = "prologue"
            return
        shut = self._deciding or self._sending or self.held[UPSTREAM]
        if waiting and not shut:
            shut = self._sync or self._one_at_a_time or self._stopping or waiting >= MAX_IN_FLIGHT
        self.reading[CLIENT] = not shut
        if self._deciding:
            self.phase = "verdict"
        elif self._decoder is not None or self._sending:
            self.phase = "body"
        elif waiting:
            self.phase = "reply"
        else:
            self.phase = "command" if self._authenticated else "login"

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

    def _hear_command(self) -> None:
        heard = self.heard[CLIENT]
        if self._skipping:
            if heard.skip_line():
                self._skipping = False
                self._error(self._command("other", "(line too long)"), "Line too long")
            return
        try:
            line = heard.line(AUTH_LIMIT)
        except LineTooLong:
            self._fault(CLIENT, FaultKind.LINE_TOO_LONG, heard.peek(10))
            self._skipping = not heard.skip_line()
            if not self._skipping:
                self._error(self._command("other", "(line too long)"), "Line too long")
            return
        if line is None:
            return
        bare = heard.ended is LineEnd.BARE_LF
        text = line[:-1] if bare else line[:-2]
        if bare:
            self._fault(CLIENT, FaultKind.BARE_LF, "ends a command")
        word, _, rest = text.partition(b" ")
        verb = word.upper()
        handler = self._handlers.get(verb)
        if handler is None:
            self._c_unknown(text)
        elif len(text) > COMMAND_LIMIT and verb != b"AUTH":
            self._fault(CLIENT, FaultKind.LINE_TOO_LONG, verb)
            self._error(self._command(verb.decode(), verb.decode()), "Line too long")
        elif len(rest.translate(None, _CONTROLS)) != len(rest):
            self._fault(CLIENT, FaultKind.CONTROL_IN_ARGUMENT, verb)
            self._error(self._command(verb.decode(), verb.decode()), "Control character in argument")
        elif why := self._forbids(verb.decode(), rest):
            self._error(self._command(verb.decode(), verb.decode()), f"[SYS/PERM] {why}", "plugin")
        else:
            handler(self, rest)

    # -- commands ----------------------------------------------------------

    def _relay(self, command: CommandSeen | None, line: bytes, handler: Handler) -> None:
        self._send(UPSTREAM, line + b"\r\n")
        self._exchange.expect(Entry(handler, command))

    def _c_top(self, rest: bytes) -> None:
        """TOP shows a message in part, or with enough lines whole: where RETR is judged, TOP is too."""
        if Stage.RETR not in self.rules.hold or not self.rules.judge_top:
            self._plain(rest, "TOP")
            return
        command = self._command("TOP", f"TOP {shown(rest)}")
        words = rest.split()
        if len(words) != 2 or not all(word.isdigit() and len(word) < 10 for word in words):
            self._error(command, "TOP takes a message and a number of lines")
            return
        self._sync = True
        handler: Handler = partial(self._r_message, "RETR", words[0], lines=int(words[1]))
        self._relay(command, b"RETR " + words[0], handler)

    def _plain(self, rest: bytes, verb: str) -> None:
        """A command that is relayed as it is."""
        command = self._command(verb, f"{verb} {shown(rest)}" if rest else verb)
        line = verb.encode() + (b" " + rest if rest else b"")
        handler: Handler = self._pass
        if verb in ("RETR", "TOP"):
            handler = partial(self._r_message, verb, rest)
            self._sync = self._sync or Stage[verb] in self.rules.hold
        elif verb == "CAPA":
            handler = self._r_capa
        elif is_multiline(verb, rest):
            handler = self._r_lines
        self._relay(command, line, handler)

    def _c_dele(self, rest: bytes) -> None:
        if _number(rest) not in self._undelivered:
            self._plain(rest, "DELE")
            return
        command = self._command("DELE", f"DELE {shown(rest)}")
        # No error of the client's: it can't have known.
        self._answer(command, "-ERR [SYS/TEMP] The message was not delivered, so it is kept", "undelivered")

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

    def _c_unknown(self, text: bytes) -> None:
        command = self._command("other", shown(text))
        if len(text.translate(None, _CONTROLS)) != len(text):
            self._fault(CLIENT, FaultKind.CONTROL_IN_ARGUMENT, text[:20])
            self._error(command, "Control character in command")
            return
        self._unknown += 1
        # What is no verb is not relayed: an upstream may ignore it, or take it for another one.
        if (
            self._unknown > self.rules.max_unknown_commands
            or len(text) > COMMAND_LIMIT
            or not text.partition(b" ")[0].isalnum()
        ):
            self._fault(CLIENT, FaultKind.BAD_COMMAND, text[:20])
            self._error(command, "Unknown command", "unknown_command")
        else:
            self._sync = True
            self._relay(command, text, self._pass)

    def _c_xclient(self, rest: bytes) -> None:
        command = self._command("XCLIENT", f"XCLIENT {shown(rest)}")
        self._fault(CLIENT, FaultKind.STRUCK_EXTENSION_USED, "XCLIENT")
        self._error(command, "Unknown command", "struck")

    def _c_xtnd(self, rest: bytes) -> None:
        command = self._command("XTND", f"XTND {shown(rest)}")
        self._fault(CLIENT, FaultKind.STRUCK_EXTENSION_USED, "XTND")
        self._error(command, "Unknown command", "struck")

    def _c_quit(self, rest: bytes) -> None:
        command = self._command("QUIT", "QUIT")
        self._sync = True
        self._exchange.expect(Entry(self._quit_turn, command, b""))
        self._turn()

    def _quit_turn(self, entry: Entry[Handler], _line: bytes) -> None:
        self._relay(entry.command, b"QUIT", self._r_quit)

    def _r_quit(self, entry: Entry[Handler], line: bytes) -> None:
        self._pass(entry, line)
        self._said_goodbye = True
        self._finish(CloseReason.QUIT)

    # -- STLS --------------------------------------------------------------

    def _c_stls(self, rest: bytes) -> None:
        command = self._command("STLS", "STLS")
        if self.secure[CLIENT]:
            self._error(command, "TLS is already active")
        elif self.rules.client_tls != "starttls":
            self._error(command, "STLS is not offered")
        elif self._authenticated or rest.strip():
            self._error(command, "STLS is not allowed here")  # RFC 2595 4: AUTHORIZATION only
        else:
            self._sync = True
            self._exchange.expect(Entry(self._stls_turn, command, b""))
            self._turn()

    def _stls_turn(self, entry: Entry[Handler], _line: bytes) -> None:
        command = entry.command
        assert command is not None
        if len(self.heard[CLIENT]):
            self._fault(CLIENT, FaultKind.PIPELINED_BEFORE_TLS)
            self._send(CLIENT, b"-ERR Commands behind STLS\r\n")
            self._reply(command, "refused", "-ERR Commands behind STLS")
            self._finish(CloseReason.PROTOCOL_ERROR, "commands behind STLS")
            return
        self._send(CLIENT, b"+OK Begin TLS negotiation\r\n")
        self._reply(command, "ok", "+OK Begin TLS negotiation")
        self._start_tls(CLIENT)

    # -- logins ------------------------------------------------------------

    def _c_user(self, rest: bytes) -> None:
        command = self._command("USER", f"USER {shown(rest)}")
        if self._refuses_login(command, sasl.SaslReader("USER")):
            return
        self._user = rest
        self._stale_user = False
        self._relay(command, b"USER " + rest, self._pass)

    def _c_pass(self, rest: bytes) -> None:
        command = self._command("PASS", f"PASS {MASK}")
        reader = sasl.SaslReader("USER")
        reader.user, reader.sent = shown(self._user, 512), True
        if self._refuses_login(command, reader):
            return
        if self._stale_user:
            # It may be an attacker's, said before TLS.
            self._fault(CLIENT, FaultKind.BAD_SEQUENCE, "PASS behind a USER from before TLS")
            self._refuse_login(command, reader, "USER first", "bad_sequence")
            return
        self._sync = True
        self._login = reader
        self._relay(command, b"PASS " + rest, self._r_login)

    def _c_apop(self, rest: bytes) -> None:
        name = rest.rpartition(b" ")[0]
        command = self._command("APOP", f"APOP {shown(name)} {MASK}")
        reader = sasl.SaslReader("APOP")
        reader.user = shown(name, 512)
        if not self.rules.apop:
            self._refuse_login(command, reader, "APOP is not offered", "mechanism")
            return
        if why := self.guard.no_logins():
            self._refuse_login(command, reader, f"[SYS/TEMP] {why}", "closed")
            return
        self._sync = True
        self._login = reader
        self._relay(command, b"APOP " + rest, self._r_login)

    def _refuses_login(self, command: CommandSeen, reader: sasl.SaslReader) -> bool:
        if self.rules.cleartext_login == "refuse" and not self._protected:
            self._fault(CLIENT, FaultKind.CLEARTEXT_LOGIN, command.verb)
            text, reason = "[AUTH] Must issue STLS first", "cleartext_login"
        elif why := self.guard.no_logins():
            text, reason = f"[SYS/TEMP] {why}", "closed"  # RFC 3206 4
        else:
            return False
        if command.verb == "USER":
            self._error(command, text, reason)
        else:
            self._refuse_login(command, reader, text, reason)
        return True

    def _refuse_login(self, command: CommandSeen, reader: sasl.SaslReader, text: str, reason: str) -> None:
        self._error(command, text, reason)
        reveals = reader.reveals or reader.mechanism == "USER"
        self._emit(LoginSeen(reader.mechanism, reader.user, "policy", reveals, reader.sent, f"-ERR {text}"))

    def _c_auth(self, rest: bytes) -> None:
        words = rest.split(None, 1)
        if not words:
            command = self._command("AUTH", "AUTH")
            self._sync = True
            self._relay(command, b"AUTH", self._r_mechanisms)
            return
        name = sasl.mechanism_name(words[0])
        initial = words[1].strip() if len(words) > 1 else b""
        text = f"AUTH {name if name in sasl.KNOWN or self._lists(name) else MASK}"
        command = self._command("AUTH", f"{text} {MASK}" if initial else text)
        if name is None:
            self._error(command, "Unknown mechanism")
            return
        # What nobody knows as a mechanism may be a password: it is not told.
        reader = sasl.SaslReader(name if name in sasl.KNOWN or self._lists(name) else "other")
        if initial:
            reader.client(initial)
        if len(self.heard[CLIENT]):
            self._fault(CLIENT, FaultKind.PIPELINED_BEHIND_AUTH)
            self._refuse_login(command, reader, "Commands behind AUTH", "pipelined_behind_auth")
            self._finish(CloseReason.PROTOCOL_ERROR, "commands behind AUTH")
            return
        if self._refuses_login(command, reader):
            return
        offered = self._offered.get("SASL") if self._offered else None
        allowed = self._offer is not None and name in self._offer.mechanisms
        if offered is None:  # a server without CAPA: the listener's list alone decides
            allowed = name in self.rules.mechanisms
        if not allowed:
            self._refuse_login(command, reader, "Unknown mechanism", "mechanism")
            return
        self._sync = True
        self._login, self._login_command = reader, command
        line = b"AUTH " + name.encode() + (b" " + initial if initial else b"")
        self._relay(command, line, self._r_auth)

    def _lists(self, name: str | None) -> bool:
        """Tell whether the upstream lists a mechanism."""
        offered = self._offered.get("SASL", []) if self._offered else []
        return name is not None and name in (one.upper() for one in offered)

    def _auth_answer(self) -> None:
        login, command = self._login, self._login_command
        assert login is not None and command is not None
        try:
            line = self.heard[CLIENT].line(AUTH_LIMIT)
        except LineTooLong:
            self._fault(CLIENT, FaultKind.LINE_TOO_LONG, "answer to a challenge")
            self._fail(Trouble.PROTOCOL)
            return
        if line is None:
            return
        if len(self.heard[CLIENT]):
            self._fault(CLIENT, FaultKind.PIPELINED_BEHIND_AUTH)
            self._fail(Trouble.PROTOCOL)
            return
        answer = line.rstrip(b"\r\n")
        if len(answer.translate(None, _CONTROLS)) != len(answer):
            self._fault(CLIENT, FaultKind.CONTROL_IN_ARGUMENT, "answer to a challenge")
            self._fail(Trouble.PROTOCOL)
            return
        cancelled = answer == b"*"
        if not cancelled:
            login.client(answer)
        self._login_turn = False
        self._sync = True
        self._relay(command, answer, self._r_cancel if cancelled else self._r_auth)

    def _r_auth(self, entry: Entry[Handler], line: bytes) -> None:
        if line.startswith((b"+OK", b"-ERR")):
            self._login_command = None
            self._r_login(entry, line)
            return
        if line[:2] not in (b"+ ", b"+\r"):
            self._broken(FaultKind.BAD_REPLY, line)
            return
        self._send(CLIENT, line)
        self._login_turn = True

    def _r_cancel(self, entry: Entry[Handler], line: bytes) -> None:
        login, self._login, self._login_command = self._login, None, None
        if login is not None:
            self._emit(LoginSeen(login.mechanism, login.user, "aborted", login.reveals, login.sent))
        self._pass(entry, line)

    def _r_login(self, entry: Entry[Handler], line: bytes) -> None:
        login, self._login = self._login, None
        why = ""
        if line.startswith(b"+OK"):
            why = self._forbids_login(login.user, login.mechanism) if login is not None else ""
            outcome = "policy" if why else "ok"
            self._authenticated = not why
        elif b"[SYS/TEMP]" in line or b"[IN-USE]" in line or b"[LOGIN-DELAY]" in line:
            outcome = "error"
        else:
            outcome = "failed"
        if login is not None:
            reveals = login.reveals or login.mechanism == "USER"
            self._emit(LoginSeen(login.mechanism, login.user, outcome, reveals, login.sent, shown(line, 100)))
        if not why:
            self._pass(entry, line)
            return
        reply = f"-ERR [AUTH] {why}"
        self._send(CLIENT, reply.encode() + b"\r\n")
        if entry.command is not None:
            self._emit(Refused(entry.command.verb, "plugin"))
            self._reply(entry.command, "refused", reply)
        self._finish(CloseReason.POLICY, why)

    def _forget_login(self, outcome: str) -> None:
        login, command = self._login, self._login_command
        waiting_for_client = self._login_turn
        self._login = self._login_command = None
        self._login_turn = False
        if login is not None:
            reveals = login.reveals or login.mechanism == "USER"
            self._emit(LoginSeen(login.mechanism, login.user, outcome, reveals, login.sent))
        if waiting_for_client and command is not None:
            self._reply(command, "unanswered", "")

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

    def _gather(self, done: Callable[[list[bytes]], None]) -> None:
        """Keep a listing, bounded, and hand on its lines."""
        self._listing = []
        size = 0

        def take(_wire: bytes, content: bytes, finished: bool) -> None:
            nonlocal size
            size += len(content)
            if size > LISTING_LIMIT:
                self._decoder = self._decoder or DotDecoder()  # the client is within the listing
                self._broken(FaultKind.REPLY_TOO_LONG, "capabilities")
                return
            self._listing.append(content)
            if finished:
                text, self._listing = b"".join(self._listing), []
                done([one.rstrip(b"\r") for one in text.split(b"\n") if one.strip()])

        self._begin_lines(take)

    def _r_capa(self, entry: Entry[Handler], line: bytes) -> None:
        self._pass(entry, line)
        if line.startswith(b"+OK"):
            self._gather(self._tell_capabilities)

    def _tell_capabilities(self, lines: list[bytes]) -> None:
        self._offered = read(lines)
        self._offer = self._advertise(self._offered)
        self._send(CLIENT, "".join(f"{one}\r\n" for one in self._offer.lines).encode() + b".\r\n")

    def _r_mechanisms(self, entry: Entry[Handler], line: bytes) -> None:
        self._pass(entry, line)
        if line.startswith(b"+OK"):
            self._gather(self._tell_mechanisms)

    def _tell_mechanisms(self, lines: list[bytes]) -> None:
        names = [one.decode("ascii", "replace").strip() for one in lines]
        hidden = self.rules.cleartext_login == "refuse" and not self._protected
        passed = (
            [] if hidden else advertise({"SASL": names}, self.rules, stls=False, protected=True).mechanisms
        )
        self._send(CLIENT, "".join(f"{one}\r\n" for one in passed).encode() + b".\r\n")

    # -- messages ----------------------------------------------------------

    def _r_message(
        self, verb: str, rest: bytes, entry: Entry[Handler], line: bytes, lines: int | None = None
    ) -> None:
        if not line.startswith(b"+OK"):
            self._pass(entry, line)
            return
        stage = Stage[verb]
        held = stage in self.rules.hold
        octets = _OCTETS.match(line)
        number = shown(rest.split(b" ")[0], 20)
        start = BodyStart(
            UPSTREAM,
            stage,
            held,
            partial=stage is Stage.TOP,
            size=int(octets.group(1)) if octets and stage is Stage.RETR else None,
            ident=f"message {number}",
        )
        if held:
            self._body, self._body_line = entry, line if lines is None else b"+OK top of message follows\r\n"
            self._body_lines = lines
            self._body_number = _number(rest)
            self._begin_body(start)
            self._begin_lines(self._take_held, watch_newlines=True)
            self._body_newlines = self._decoder
        else:
            self._pass(entry, line)
            self._begin_body(start)
            self._begin_lines(self._take_streamed)

    def _take_streamed(self, wire: bytes, content: bytes, finished: bool) -> None:
        self._body_data(UPSTREAM, content)
        self._send(CLIENT, wire)
        if finished:
            self._end_body(UPSTREAM)

    def _take_held(self, _wire: bytes, content: bytes, finished: bool) -> None:
        self._body_data(UPSTREAM, content)
        if finished:
            self._deciding = True
            self._end_body(UPSTREAM)

    def _decided(self, source: Side, outcome: Outcome) -> None:
        entry, line = self._body, self._body_line
        watched, self._body_newlines = self._body_newlines, None
        assert entry is not None and entry.command is not None and watched is not None
        self._deciding = False
        self._body = None
        passed = outcome.action in (Action.PASS, Action.MODIFY)
        lines = self._body_lines
        if outcome.action is Action.DEFER or not (passed or outcome.notice):
            if lines is None:
                self._undelivered.add(self._body_number)
            code = "[SYS/TEMP]" if outcome.action is Action.DEFER else "[SYS/PERM]"
            reason = shown(outcome.reason, 200) or "The message can't be delivered"
            reply = f"-ERR {code} {reason}\r\n".encode()
            self._send(CLIENT, reply)
            self._reply(entry.command, "refused", reply)
            self._turn()
            return
        if lines is None:
            self._undelivered.discard(self._body_number)
        if outcome.action is Action.MODIFY and (watched.bare_cr or watched.bare_lf or watched.nul):
            # Mending the newlines will change the size: better no count than a wrong one.
            line = _OCTETS.sub(b"+OK message follows", line, count=1)
        elif outcome.action is not Action.PASS:
            size = outcome.size + (0 if outcome.ends_with_newline else 2)
            line = _OCTETS.sub(b"+OK %d octets" % size, line, count=1)
        self._send(CLIENT, line)
        self._reply(entry.command, "ok", line)
        self._sending = True
        normalise = outcome.action is not Action.PASS
        self._emit(SendBody(CLIENT, Framing.DOTS, normalise=normalise, lines=lines))

    def _body_sent(self, side: Side) -> None:
        self._sending = False
        self._turn()

    # -- ends --------------------------------------------------------------

    def _broken(self, kind: FaultKind, detail: bytes | str) -> None:
        self._fault(UPSTREAM, kind, detail)
        self._fail(Trouble.UPSTREAM_FAULT)

    def _at_end(self, side: Side) -> None:
        if side is UPSTREAM:
            if self._exchange and any(entry.kind == self._r_quit for entry in self._exchange):
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

    _handlers: ClassVar[dict[bytes, Callable[[Any, bytes], None]]] = {
        b"USER": _c_user,
        b"PASS": _c_pass,
        b"APOP": _c_apop,
        b"AUTH": _c_auth,
        b"STLS": _c_stls,
        b"QUIT": _c_quit,
        b"XCLIENT": _c_xclient,
        b"XTND": _c_xtnd,
        b"CAPA": partial(_plain, verb="CAPA"),
        b"STAT": partial(_plain, verb="STAT"),
        b"LIST": partial(_plain, verb="LIST"),
        b"UIDL": partial(_plain, verb="UIDL"),
        b"RETR": partial(_plain, verb="RETR"),
        b"TOP": _c_top,
        b"DELE": _c_dele,
        b"NOOP": partial(_plain, verb="NOOP"),
        b"RSET": partial(_plain, verb="RSET"),
        b"LAST": partial(_plain, verb="LAST"),
        b"UTF8": partial(_plain, verb="UTF8"),
        b"LANG": partial(_plain, verb="LANG"),
    }
