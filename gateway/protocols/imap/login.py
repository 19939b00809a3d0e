"""LOGIN and AUTHENTICATE: relayed and read (RFC 9051 6.2.2, 6.2.3).  Never the password."""

from __future__ import annotations

from ...core.gate import Need, Ruling
from ...core.secret import MASK
from ...core.steps import CLIENT, UPSTREAM, CommandSeen
from ...core.text import shown
from ...core.trouble import CloseReason, Trouble
from ...wire import sasl
from ...wire.literals import Literal
from ...wire.verbs import has_controls
from .conversation import Conversation, Flight, Incoming
from .grammar import first_string

_WORDS: dict[Need, str] = {
    Need.TLS: "NO [PRIVACYREQUIRED] Must issue STARTTLS first",
    Need.TLS_VERSION: "NO [PRIVACYREQUIRED] A newer version of TLS is required",
    Need.CERTIFICATE: "NO [PRIVACYREQUIRED] A client certificate is required",
    Need.MECHANISM: "NO [CANNOT] This way of logging in is too weak",
    Need.SYNTAX: "BAD Cannot decode response",
    Need.PATIENCE: "NO [UNAVAILABLE] Too many failed logins, try again later",
    Need.AUDIT: "NO [UNAVAILABLE] Logins are not possible now, try again later",
}


def _words(ruling: Ruling) -> str:
    """Return a refusal, with its response code (RFC 5530 3)."""
    text = _WORDS[ruling.need]
    return f"{text}. {ruling.text}" if ruling.text else text


class Logins(Conversation):
    """The part of the engine that follows a login."""

    _login: sasl.SaslReader | None = None
    _login_name = b""  # LOGIN: of the literal that names the user
    _login_named = False  # LOGIN: the line itself had the user's name

    def _relay(self, tag: bytes, flight: Flight, text: bytes, literal: Literal | None) -> None:
        raise NotImplementedError

    def _refuse(
        self, tag: bytes, command: CommandSeen, text: str, literal: Literal | None, reason: str = ""
    ) -> None:
        raise NotImplementedError

    def _client_line(self) -> bytes | None:
        raise NotImplementedError

    def _shown_login(self, verb: str, args: bytes) -> str:
        if verb == "AUTHENTICATE":
            words = args.split(b" ", 1)
            name = sasl.shown_name(sasl.mechanism_name(words[0])) or MASK
            return f"AUTHENTICATE {name} {MASK}" if len(words) > 1 else f"AUTHENTICATE {name}"
        user = first_string(args)
        return f"LOGIN {shown(user, 100) if user is not None else '{...}'} {MASK}"

    def _c_login(
        self, tag: bytes, command: CommandSeen, text: bytes, args: bytes, literal: Literal | None
    ) -> None:
        reader = sasl.SaslReader("LOGIN")
        user = first_string(args)
        if user is not None:
            reader.user = shown(user, 512)
        if user is None and (literal is None or len(literal.before.split()) > 2):
            self._login_unread("LOGIN", "", "BAD")
            self._refuse(tag, command, "BAD Invalid LOGIN", literal)
            return
        # With the user as a literal the password is still to come.
        reader.sent = user is not None and literal is None
        self._login_named, self._login_name = user is not None, b""
        if self._rule(reader).refused:
            self._refuse_login(tag, command, reader, literal)
            return
        self._login = reader
        self._waits_for = tag
        self._relay(tag, Flight("LOGIN", command), text, literal)

    def _note_literal(self, incoming: Incoming, data: bytes) -> None:
        """A piece of a literal of LOGIN: the first is the user's name, unless the line had it."""
        login = self._login
        if incoming.verb != "LOGIN" or login is None:
            return
        if incoming.literals == 1 and not self._login_named:
            self._login_name = (self._login_name + data)[:4096]
            login.user = shown(self._login_name, 512)
            login.malformed = login.malformed or has_controls(data)
        else:
            login.sent = True

    def _refuse_login(
        self, tag: bytes, command: CommandSeen, reader: sasl.SaslReader, literal: Literal | None
    ) -> None:
        text, reason = _words(self._ruling), self._ruling.reason
        # A literal that the client sends unasked crosses the wire all the same.
        self._login_seen(reader, "policy", text, sent=literal is not None and not literal.synchronising)
        self._refuse(tag, command, text, literal, reason)

    def _c_authenticate(
        self, tag: bytes, command: CommandSeen, text: bytes, args: bytes, literal: Literal | None
    ) -> None:
        words = args.split(b" ")
        name = sasl.mechanism_name(words[0])
        if name is None or len(words) > 2 or literal is not None:
            self._login_unread(name or "", "", "BAD")
            self._refuse(tag, command, "BAD Invalid AUTHENTICATE", literal)
            return
        reader = sasl.SaslReader(name)
        if len(words) == 2 and sasl.says_nothing(name, words[1]):
            text = text[: -1 - len(words[1])]
        elif len(words) == 2:
            reader.client(words[1], initial=True)
        if self._rule(reader).refused:
            self._refuse_login(tag, command, reader, None)
            return
        if name not in self._offer.mechanisms:
            reply = "NO [CANNOT] Unsupported authentication mechanism"
            self._login_seen(reader, "policy", reply)
            self._error(tag, command, reply, "mechanism")
            return
        self._login = reader
        self._waits_for = tag
        self._relay(tag, Flight("AUTHENTICATE", command), text, None)
        self._await_plus(tag, self._challenge)

    def _challenge(self, line: bytes) -> None:
        self._send(CLIENT, line)
        self._login_turn = True

    def _auth_answer(self) -> None:
        text = self._client_line()
        if text is None:
            return
        login = self._login
        if login is None:
            self._fail(Trouble.INTERNAL)
            return
        self._cancelled = text == b"*"
        self._login_turn = False
        if not self._cancelled:
            login.client(text)
            if self._rule(login).refused:
                self._overruled, text = True, b"*"
        self._send(UPSTREAM, text + b"\r\n")
        self._await_plus(self._waits_for, self._challenge)

    _cancelled = False
    _refusal = ""  # our own answer to the login, in place of the upstream's
    _refusal_reason = ""
    _overruled = False  # the exchange was cancelled because a policy refuses the login

    def _login_over(self, status: bytes, rest: bytes) -> None:
        login, self._login = self._login, None
        cancelled, self._cancelled = self._cancelled, False
        overruled, self._overruled = self._overruled, False
        if overruled and status != b"OK":
            self._refusal, reason = _words(self._ruling), self._ruling.reason
            self._refusal_reason = reason
            if login is not None:
                self._login_seen(login, "policy", self._refusal)
            return
        if status == b"OK":
            self._forbidden = self._forbids_login(login.user, login.mechanism) if login is not None else ""
            self._logged_in = not self._forbidden
            outcome = "policy" if self._forbidden else "ok"
        elif cancelled or self._logged_in:  # of a second login the password is not looked at
            outcome = "aborted"
        elif b"[UNAVAILABLE]" in rest.upper() or b"[INUSE]" in rest.upper():
            outcome = "error"
        else:
            outcome = "failed"
        if outcome == "ok" and self._ruling.warning:
            self._tell(f"* OK [ALERT] {self._ruling.warning}\r\n".encode())
        if login is not None:
            self._login_seen(login, outcome, shown(rest, 100))

    def _refuses_late(self, incoming: Incoming, literal: Literal | None) -> bool:
        """Rule on a LOGIN whose user came as a literal, before the password goes upstream.

        The upstream has the beginning of it: only the end of the session undoes that.
        """
        login = self._login
        if incoming.verb != "LOGIN" or login is None or incoming.literals != 1 or self._login_named:
            return False
        if not (self.gate.active or login.malformed) or not self._rule(login).refused:
            return False
        text, reason = _words(self._ruling), self._ruling.reason
        self._login = None
        self._login_seen(login, "policy", text, sent=literal is None or not literal.synchronising)
        self._flight.pop(incoming.tag, None)
        self._incoming = None
        self._tell_tagged(incoming.tag, incoming.command, text, reason)
        self._finish(CloseReason.POLICY, reason)
        return True

    def _forget_login(self, outcome: str) -> None:
        login, self._login = self._login, None
        self._login_turn = False
        if login is not None:
            self._login_seen(login, outcome)
