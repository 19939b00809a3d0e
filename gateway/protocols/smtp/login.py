"""AUTH: relayed and read (RFC 4954).  Mechanism, identity and outcome; never the password."""

from __future__ import annotations

from ...core.exchange import Entry
from ...core.secret import MASK
from ...core.steps import CLIENT, CommandSeen, LoginSeen, Refused
from ...core.text import shown
from ...core.trouble import CloseReason, FaultKind, Trouble
from ...wire import sasl
from ...wire.lines import LineTooLong
from .conversation import Conversation, Handler, Reply
from .grammar import AUTH_LIMIT


class Logins(Conversation):
    """The part of the engine that follows an authentication exchange."""

    _login: sasl.SaslReader | None = None
    _login_command: CommandSeen | None = None
    _login_turn = False  # the client's answer to a 334 is awaited

    def _c_auth(self, rest: bytes) -> None:
        words = rest.split(None, 1)
        name = sasl.mechanism_name(words[0]) if words else None
        initial = words[1].strip() if len(words) > 1 else b""
        # What is no mechanism's name may be a credential that was sent without one.
        text = f"AUTH {sasl.shown_name(name) or MASK}" if words else "AUTH"
        command = self._command("AUTH", f"{text} {MASK}" if initial else text)
        if name is None:
            self._error(command, 501, "5.5.4", "Syntax: AUTH mechanism")
            return
        reader = sasl.SaslReader(name)
        if initial:
            reader.client(initial)
        if len(self.heard[CLIENT]):
            # RFC 4954 4: AUTH ends a pipelined group; what stands behind it was not meant for it.
            self._fault(CLIENT, FaultKind.PIPELINED_BEHIND_AUTH)
            self._refuse_login(command, reader, 503, "5.5.1", "Commands behind AUTH", "pipelined_behind_auth")
            self._finish(CloseReason.PROTOCOL_ERROR, "commands behind AUTH")
            return
        if self._authenticated:
            self._error(command, 503, "5.5.1", "Already authenticated")
            return
        if self.rules.cleartext_login == "refuse" and not self._protected:
            self._fault(CLIENT, FaultKind.CLEARTEXT_LOGIN, name)
            self._refuse_login(
                command, reader, 538, "5.7.11", "Encryption required for authentication", "cleartext_login"
            )
            return
        if why := self.guard.no_logins():
            self._refuse_login(command, reader, 454, "4.7.0", why, "closed")  # RFC 4954 6
            return
        if self._offer is None or name not in self._offer.mechanisms:
            self._refuse_login(command, reader, 504, "5.5.4", "Unrecognized authentication type", "mechanism")
            return
        self._login, self._login_command = reader, command
        line = b"AUTH " + name.encode() + (b" " + initial if initial else b"") + b"\r\n"
        self._sync = True
        self._relay(command, line, self._r_auth)

    @property
    def _protected(self) -> bool:
        return self.secure[CLIENT] or self.record.tls_in_front

    def _refuse_login(
        self, command: CommandSeen, reader: sasl.SaslReader, code: int, enhanced: str, text: str, reason: str
    ) -> None:
        self._error(command, code, enhanced, text, reason)
        reply = f"{code} {enhanced}"
        self._emit(LoginSeen(reader.mechanism, reader.user, "policy", reader.reveals, reader.sent, reply))

    def _auth_answer(self) -> None:
        """Take the client's answer to a challenge."""
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
        cancelled = answer == b"*"
        if not cancelled:
            login.client(answer)
        self._login_turn = False
        self._sync = True
        self._relay(command, answer + b"\r\n", self._r_cancel if cancelled else self._r_auth)

    def _r_auth(self, entry: Entry[Handler], reply: Reply | None) -> None:
        assert reply is not None
        if reply.code == 334:
            self._send(CLIENT, reply.raw)
            self._login_turn = True
            return
        if reply.code == 235:
            outcome = "ok"
            self._authenticated = True
        elif reply.code == 535:
            outcome = "failed"
        elif 400 <= reply.code < 500:
            outcome = "error"
        else:
            outcome = "failed"
        self._login_over(entry, reply, outcome)

    def _r_cancel(self, entry: Entry[Handler], reply: Reply | None) -> None:
        assert reply is not None
        if reply.code == 235:  # RFC 4954 4: a cancelled exchange must fail
            self._broken(FaultKind.UNEXPECTED_REPLY, reply.lines[0])
            return
        self._login_over(entry, reply, "aborted")

    def _login_over(self, entry: Entry[Handler], reply: Reply, outcome: str) -> None:
        login = self._login
        self._login = self._login_command = None
        self._login_turn = False
        why = (
            self._forbids_login(login.user, login.mechanism) if login is not None and outcome == "ok" else ""
        )
        if why:
            outcome, self._authenticated = "policy", False
        if login is not None:
            text = shown(reply.lines[0], 100)
            self._emit(LoginSeen(login.mechanism, login.user, outcome, login.reveals, login.sent, text))
        if not why:
            self._pass(entry, reply)
            return
        refusal = f"535 5.7.8 {why}"
        self._send(CLIENT, refusal.encode() + b"\r\n")
        if entry.command is not None:
            self._emit(Refused(entry.command.verb, "plugin"))
            self._reply(entry.command, "refused", refusal)
        self._finish(CloseReason.POLICY, why)

    def _forget_login(self, outcome: str) -> None:
        """A login that will not come to its end."""
        login, command = self._login, self._login_command
        waiting_for_client = self._login_turn
        self._login = self._login_command = None
        self._login_turn = False
        if login is not None:
            self._emit(LoginSeen(login.mechanism, login.user, outcome, login.reveals, login.sent))
        if waiting_for_client and command is not None:  # else its entry is in the exchange
            self._reply(command, "unanswered", "")

    def _refuse_verb(self, command: CommandSeen, reason: str) -> None:
        """Refuse a command that was struck from the upstream's list."""
        self._emit(Refused(command.verb, reason))
        self._error(command, 502, "5.5.1", "Command not implemented")
