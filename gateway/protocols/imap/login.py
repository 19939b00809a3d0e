"""LOGIN and AUTHENTICATE: relayed and read (RFC 9051 6.2.2, 6.2.3).  Never the password."""

from __future__ import annotations

from ...core.secret import MASK
from ...core.steps import CLIENT, UPSTREAM, CommandSeen, LoginSeen
from ...core.text import shown
from ...core.trouble import FaultKind, Trouble
from ...wire import sasl
from ...wire.literals import Literal
from .conversation import Conversation, Flight, Incoming
from .grammar import first_string


class Logins(Conversation):
    """The part of the engine that follows a login."""

    _login: sasl.SaslReader | None = None
    _login_arguments = 0  # LOGIN: literals seen so far

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
        # With the user as a literal the password is still to come.
        reader.sent = user is not None and literal is None
        if self._refuses_login(tag, command, reader, literal):
            return
        self._login = reader
        self._waits_for = tag
        self._relay(tag, Flight("LOGIN", command), text, literal)

    def _note_literal(self, incoming: Incoming, data: bytes) -> None:
        """A piece of a literal of LOGIN: the first is the user's name, unless the line had it."""
        login = self._login
        if incoming.verb != "LOGIN" or login is None:
            return
        if incoming.literals == 1 and not self._name_given(incoming):
            login.user = shown(login.user + data.decode("utf-8", "backslashreplace"), 512)
        else:
            login.sent = True

    def _name_given(self, incoming: Incoming) -> bool:
        return "{...}" not in incoming.command.shown

    def _refuses_login(
        self, tag: bytes, command: CommandSeen, reader: sasl.SaslReader, literal: Literal | None
    ) -> bool:
        if self.rules.cleartext_login == "refuse" and not self._protected:
            self._fault(CLIENT, FaultKind.CLEARTEXT_LOGIN, command.verb)
            text, reason = "NO [PRIVACYREQUIRED] Must issue STARTTLS first", "cleartext_login"
        elif why := self.guard.no_logins():
            text, reason = f"NO [UNAVAILABLE] {why}", "closed"  # RFC 5530 3
        else:
            return False
        # A literal that the client sends unasked crosses the wire all the same.
        sent = reader.sent or (literal is not None and not literal.synchronising)
        self._emit(LoginSeen(reader.mechanism, reader.user, "policy", reader.reveals, sent, text))
        self._refuse(tag, command, text, literal, reason)
        return True

    def _c_authenticate(
        self, tag: bytes, command: CommandSeen, text: bytes, args: bytes, literal: Literal | None
    ) -> None:
        words = args.split(b" ")
        name = sasl.mechanism_name(words[0])
        if name is None or len(words) > 2 or literal is not None:
            self._refuse(tag, command, "BAD Invalid AUTHENTICATE", literal)
            return
        reader = sasl.SaslReader(name)
        if len(words) == 2:
            reader.client(words[1])
        if self._refuses_login(tag, command, reader, None):
            return
        if name not in self._offer.mechanisms:
            reply = "NO [CANNOT] Unsupported authentication mechanism"
            self._emit(LoginSeen(name, reader.user, "policy", reader.reveals, reader.sent, reply))
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
        if text != b"*":
            login.client(text)
        self._cancelled = text == b"*"
        self._login_turn = False
        self._send(UPSTREAM, text + b"\r\n")
        self._await_plus(self._waits_for, self._challenge)

    _cancelled = False

    def _login_over(self, status: bytes, rest: bytes) -> None:
        login, self._login = self._login, None
        cancelled, self._cancelled = self._cancelled, False
        if status == b"OK":
            self._forbidden = self._forbids_login(login.user, login.mechanism) if login is not None else ""
            self._logged_in = not self._forbidden
            outcome = "policy" if self._forbidden else "ok"
        elif cancelled:
            outcome = "aborted"
        elif b"[UNAVAILABLE]" in rest.upper() or b"[INUSE]" in rest.upper():
            outcome = "error"
        else:
            outcome = "failed"
        if login is not None:
            reply = shown(rest, 100)
            self._emit(LoginSeen(login.mechanism, login.user, outcome, login.reveals, login.sent, reply))

    def _forget_login(self, outcome: str) -> None:
        login, self._login = self._login, None
        self._login_turn = False
        if login is not None:
            self._emit(LoginSeen(login.mechanism, login.user, outcome, login.reveals, login.sent))
