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

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from ...core.exchange import Entry
from ...core.sasl_exchange import AUTH_LIMIT
from ...core.steps import CLIENT, UPSTREAM, Side
from ...core.text import shown
from ...core.trouble import CloseReason, FaultKind
from ...wire.lines import LineEnd, LineTooLong
from ...wire.sasl import mechanism_name
from ...wire.verbs import has_controls, is_verb
from .conversation import Handler
from .grammar import BEFORE_TLS, COMMAND_LIMIT, VERBS, is_multiline
from .login import Logins
from .messages import Messages
from .sizes import ExactSizes

MAX_IN_FLIGHT = 500


class Pop3Engine(Logins, ExactSizes):
    """POP3."""

    protocol: ClassVar[str] = "pop3"
    verbs: ClassVar[frozenset[str]] = VERBS

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
        shut = self._deciding or self._sending or self.held[UPSTREAM] or self._body is not None
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
        elif has_controls(rest):
            self._fault(CLIENT, FaultKind.CONTROL_IN_ARGUMENT, verb)
            self._error(self._command(verb.decode(), verb.decode()), "Control character in argument")
            if verb == b"PASS":
                self._login_unread("USER", shown(self._user, 512), "-ERR")
            elif verb == b"AUTH":
                self._login_unread(mechanism_name(rest.partition(b" ")[0]) or "", "", "-ERR")
        elif why := self._forbids(verb.decode(), rest):
            self._error(self._command(verb.decode(), verb.decode()), f"[SYS/PERM] {why}", "plugin")
        elif verb not in BEFORE_TLS and self._needs_tls_first():
            command = self._command(verb.decode(), verb.decode())
            self._error(command, "[SYS/PERM] Must issue STLS first", "tls_first")
        else:
            handler(self, rest)

    # -- commands ----------------------------------------------------------

    def _plain(self, rest: bytes, verb: str) -> None:
        """A command that is relayed as it is."""
        command = self._command(verb, f"{verb} {shown(rest)}" if rest else verb)
        line = verb.encode() + (b" " + rest if rest else b"")
        handler: Handler = self._pass
        if verb == "CAPA":
            handler = self._r_capa
        elif is_multiline(verb, rest):
            handler = self._r_lines
        self._relay(command, line, handler)

    def _c_unknown(self, text: bytes) -> None:
        command = self._command("other", shown(text))
        if has_controls(text):
            self._fault(CLIENT, FaultKind.CONTROL_IN_ARGUMENT, text[:20])
            self._error(command, "Control character in command")
            return
        self._unknown += 1
        # What is no verb is not relayed: an upstream may ignore it, or take it for another one.
        if (
            self._unknown > self.rules.max_unknown_commands
            or len(text) > COMMAND_LIMIT
            or not is_verb(text.partition(b" ")[0])
        ):
            self._fault(CLIENT, FaultKind.BAD_COMMAND, text[:20])
            self._error(command, "Unknown command", "unknown_command")
        elif why := self._forbids("other", text):
            self._error(command, f"[SYS/PERM] {why}", "plugin")
        elif self._needs_tls_first():
            self._error(command, "[SYS/PERM] Must issue STLS first", "tls_first")
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
        self._leaving = True
        self._relay(entry.command, b"QUIT", self._r_quit)

    def _r_quit(self, entry: Entry[Handler], line: bytes) -> None:
        self._pass(entry, line)
        self._said_goodbye = True
        self._finish(CloseReason.QUIT)

    _handlers: ClassVar[dict[bytes, Callable[[Any, bytes], None]]] = {
        b"USER": Logins._c_user,
        b"PASS": Logins._c_pass,
        b"APOP": Logins._c_apop,
        b"AUTH": Logins._c_auth,
        b"STLS": Logins._c_stls,
        b"QUIT": _c_quit,
        b"XCLIENT": _c_xclient,
        b"XTND": _c_xtnd,
        b"CAPA": partial(_plain, verb="CAPA"),
        b"STAT": partial(ExactSizes._c_listing, verb="STAT"),
        b"LIST": partial(ExactSizes._c_listing, verb="LIST"),
        b"UIDL": partial(_plain, verb="UIDL"),
        b"RETR": Messages._c_retr,
        b"TOP": Messages._c_top,
        b"DELE": Messages._c_dele,
        b"NOOP": partial(_plain, verb="NOOP"),
        b"RSET": partial(_plain, verb="RSET"),
        b"LAST": partial(_plain, verb="LAST"),
        b"UTF8": partial(_plain, verb="UTF8"),
        b"LANG": partial(_plain, verb="LANG"),
    }
