"""POP3 logins: USER and PASS, APOP, AUTH; and STLS before them."""

from __future__ import annotations

import re

from ...core.exchange import Entry
from ...core.gate import Need, Ruling
from ...core.secret import MASK
from ...core.steps import CLIENT, CommandSeen, Refused
from ...core.text import shown
from ...core.trouble import CloseReason, FaultKind
from ...wire import sasl
from .conversation import Handler
from .prologue import Prologue

#: RFC 1939 7: of MD5.
_DIGEST = re.compile(rb"[0-9A-Fa-f]{32}\Z")
_WORDS: dict[Need, str] = {
    Need.TLS: "[AUTH] Must issue STLS first",
    Need.TLS_VERSION: "[SYS/PERM] A newer version of TLS is required",
    Need.CERTIFICATE: "[SYS/PERM] A client certificate is required",
    Need.MECHANISM: "[SYS/PERM] This way of logging in is too weak",
    Need.SYNTAX: "Cannot decode response",
    Need.PATIENCE: "[SYS/TEMP] Too many failed logins, try again later",
    Need.AUDIT: "[SYS/TEMP] Logins are not possible now, try again later",
}


def _words(ruling: Ruling) -> str:
    """Return the text of a refusal, with its response code (RFC 3206)."""
    text = _WORDS[ruling.need]
    return f"{text}. {ruling.text}" if ruling.text else text


class Logins(Prologue):
    """The part of the engine that relays logins, and knows what in them is secret."""

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
        reader = sasl.SaslReader("USER")
        reader.user = shown(rest, 512)
        self._user = rest  # of one who is refused, too: a PASS that comes all the same exposes a password
        if self._refuses_login(command, reader):
            return
        self._holds_user, self._stale_user = True, False
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
        name, _, digest = rest.partition(b" ")
        command = self._command("APOP", f"APOP {shown(name)} {MASK}")
        reader = sasl.SaslReader("APOP")
        reader.user = shown(name, 512)
        if not _DIGEST.match(digest):
            self._error(command, "Syntax: APOP name digest")
            return
        if not self.rules.apop:
            self._refuse_login(command, reader, "APOP is not offered", "mechanism")
            return
        if self.gate.active and self._refuses_login(command, reader):
            return
        self._sync = True
        self._login = reader
        self._relay(command, b"APOP " + rest, self._r_login)

    def _refuses_login(self, command: CommandSeen, reader: sasl.SaslReader) -> bool:
        ruling = self._rule(reader)
        if not ruling.refused:
            return False
        self._refuse_login(command, reader, _words(ruling), ruling.reason)
        return True

    def _refuse_login(self, command: CommandSeen, reader: sasl.SaslReader, text: str, reason: str) -> None:
        self._error(command, text, reason)
        self._login_seen(reader, "policy", f"-ERR {text}")

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
        if sasl.says_nothing(name, initial):
            initial = b""
        if initial:
            reader.client(initial, initial=True)
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
        login, command, answer = self._login, self._login_command, self._client_answer()
        if answer is None:
            return
        assert login is not None and command is not None
        self._sync = True
        if answer == b"*":
            self._relay(command, b"*", self._r_cancel)
            return
        login.client(answer)
        if self._rule(login).refused:
            self._relay(command, b"*", self._r_overruled)
        else:
            self._relay(command, answer, self._r_auth)

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
            self._login_seen(login, "aborted")
        self._pass(entry, line)

    def _r_overruled(self, entry: Entry[Handler], line: bytes) -> None:
        """The upstream has dropped an exchange that the client may not go on with."""
        if not line.startswith(b"-ERR"):
            self._broken(FaultKind.UNEXPECTED_REPLY, line)
            return
        login, ruling, self._login, self._login_command = self._login, self._ruling, None, None
        reply = f"-ERR {_words(ruling)}"
        if login is not None:
            self._login_seen(login, "policy", reply)
        self._send(CLIENT, reply.encode() + b"\r\n")
        if entry.command is not None:
            self._emit(Refused(entry.command.verb, ruling.reason))
            self._reply(entry.command, "refused", reply)

    def _r_login(self, entry: Entry[Handler], line: bytes) -> None:
        login, self._login = self._login, None
        why = ""
        if line.startswith(b"+OK"):
            why = self._forbids_login(login.user, login.mechanism) if login is not None else ""
            outcome = "policy" if why else "ok"
            self._authenticated = not why
        elif b"[SYS/TEMP]" in line or b"[IN-USE]" in line or b"[LOGIN-DELAY]" in line:
            outcome = "error"
        else:  # of a second login the password is not looked at
            outcome = "aborted" if self._authenticated else "failed"
        if outcome == "ok" and self._ruling.warning:
            line = f"+OK Logged in. {self._ruling.warning}\r\n".encode()
        if login is not None:
            self._login_seen(login, outcome, shown(line, 100))
        if not why:
            self._pass(entry, line)
            return
        reply = f"-ERR [AUTH] {why}"
        self._send(CLIENT, reply.encode() + b"\r\n")
        if entry.command is not None:
            self._emit(Refused(entry.command.verb, "plugin"))
            self._reply(entry.command, "refused", reply)
        self._finish(CloseReason.POLICY, why)
