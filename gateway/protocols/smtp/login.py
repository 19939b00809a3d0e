"""AUTH: relayed and read (RFC 4954).  Mechanism, identity and outcome; never the password."""

from __future__ import annotations

from ...core.exchange import Entry
from ...core.gate import Need, Ruling
from ...core.secret import MASK
from ...core.steps import CLIENT, CommandSeen, Refused
from ...core.text import shown
from ...core.trouble import CloseReason, FaultKind
from ...wire import sasl
from .conversation import Conversation, Handler, Reply

_WORDS: dict[Need, tuple[int, str, str]] = {
    Need.TLS: (538, "5.7.11", "Encryption required for authentication"),
    Need.TLS_VERSION: (538, "5.7.11", "A newer version of TLS is required"),
    Need.CERTIFICATE: (538, "5.7.11", "A client certificate is required"),
    Need.MECHANISM: (534, "5.7.9", "Authentication mechanism is too weak"),
    Need.SYNTAX: (501, "5.5.2", "Cannot decode response"),
    Need.PATIENCE: (454, "4.7.0", "Too many failed logins, try again later"),
    Need.AUDIT: (454, "4.7.0", "Temporary authentication failure"),
}


def _words(ruling: Ruling) -> tuple[int, str, str]:
    """Return code, enhanced code and text of a refusal (RFC 4954 6)."""
    code, enhanced, text = _WORDS[ruling.need]
    return code, enhanced, f"{text}. {ruling.text}" if ruling.text else text


class Logins(Conversation):
    """The part of the engine that follows an authentication exchange."""

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
        if sasl.says_nothing(name, initial):
            initial = b""
        if initial:
            reader.client(initial, initial=True)
        if len(self.heard[CLIENT]):
            # RFC 4954 4: AUTH ends a pipelined group; what stands behind it was not meant for it.
            self._fault(CLIENT, FaultKind.PIPELINED_BEHIND_AUTH)
            self._refuse_login(command, reader, 503, "5.5.1", "Commands behind AUTH", "pipelined_behind_auth")
            self._finish(CloseReason.PROTOCOL_ERROR, "commands behind AUTH")
            return
        if self._authenticated:
            self._refuse_login(command, reader, 503, "5.5.1", "Already authenticated", "bad_sequence")
            return
        ruling = self._rule(reader)
        if ruling.refused:
            self._refuse_login(command, reader, *_words(ruling), ruling.reason)
            return
        if self._offer is None or name not in self._offer.mechanisms:
            self._refuse_login(command, reader, 504, "5.5.4", "Unrecognized authentication type", "mechanism")
            return
        self._login, self._login_command = reader, command
        line = b"AUTH " + name.encode() + (b" " + initial if initial else b"") + b"\r\n"
        self._sync = True
        self._relay(command, line, self._r_auth)

    def _refuse_login(
        self, command: CommandSeen, reader: sasl.SaslReader, code: int, enhanced: str, text: str, reason: str
    ) -> None:
        self._error(command, code, enhanced, text, reason)
        self._login_seen(reader, "policy", f"{code} {enhanced}")

    def _auth_answer(self) -> None:
        login, command, answer = self._login, self._login_command, self._client_answer()
        if answer is None:
            return
        assert login is not None and command is not None
        self._sync = True
        if answer == b"*":
            self._relay(command, b"*\r\n", self._r_cancel)
            return
        login.client(answer)
        if self._rule(login).refused:
            self._relay(command, b"*\r\n", self._r_overruled)
        else:
            self._relay(command, answer + b"\r\n", self._r_auth)

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

    def _r_overruled(self, entry: Entry[Handler], reply: Reply | None) -> None:
        """The upstream has dropped an exchange that the client may not go on with."""
        assert reply is not None and entry.command is not None
        if reply.code in (235, 334):
            self._broken(FaultKind.UNEXPECTED_REPLY, reply.lines[0])
            return
        login, ruling = self._login, self._ruling
        self._login = self._login_command = None
        code, enhanced, text = _words(ruling)
        if login is not None:
            self._login_seen(login, "policy", f"{code} {enhanced}")
        self._send(CLIENT, f"{code} {enhanced} {text}\r\n".encode())
        self._emit(Refused(entry.command.verb, ruling.reason))
        self._reply(entry.command, "refused", f"{code} {enhanced} {text}")

    def _login_over(self, entry: Entry[Handler], reply: Reply, outcome: str) -> None:
        login = self._login
        self._login = self._login_command = None
        self._login_turn = False
        why = (
            self._forbids_login(login.user, login.mechanism) if login is not None and outcome == "ok" else ""
        )
        if why:
            outcome, self._authenticated = "policy", False
        warning = self._ruling.warning if outcome == "ok" else ""
        if login is not None:
            self._login_seen(login, outcome, shown(reply.lines[0], 100))
        if warning:
            reply = Reply(235, [f"235 2.7.0 Authentication successful. {warning}\r\n".encode()])
        if not why:
            self._pass(entry, reply)
            return
        refusal = f"535 5.7.8 {why}"
        self._send(CLIENT, refusal.encode() + b"\r\n")
        if entry.command is not None:
            self._emit(Refused(entry.command.verb, "plugin"))
            self._reply(entry.command, "refused", refusal)
        self._finish(CloseReason.POLICY, why)

    def _refuse_verb(self, command: CommandSeen, reason: str) -> None:
        """Refuse a command that was struck from the upstream's list."""
        self._emit(Refused(command.verb, reason))
        self._error(command, 502, "5.5.1", "Command not implemented")
