"""A SASL exchange on lines of their own, as SMTP and POP3 have it (RFC 4954 4, RFC 5034 4)."""

from __future__ import annotations

from ..wire.lines import LineTooLong
from ..wire.sasl import SaslReader
from ..wire.verbs import has_controls
from .engine import Engine
from .steps import CLIENT, CommandSeen
from .trouble import FaultKind, Trouble

#: Octets of a line with an answer, its end included (RFC 4954 4).
AUTH_LIMIT = 12288 + 2


class SaslExchange(Engine):
    """The part of an engine that knows of a login under way.

    _login: what was read of it.  _login_command: AUTH, while its exchange goes on.
    _login_turn: an answer of the client's to a challenge is awaited.
    """

    _login: SaslReader | None = None
    _login_command: CommandSeen | None = None
    _login_turn = False

    def _client_answer(self) -> bytes | None:
        """Take the client's answer to a challenge; None if it has yet to come, or may not be."""
        kind, detail = FaultKind.LINE_TOO_LONG, "answer to a challenge"
        try:
            line = self.heard[CLIENT].line(AUTH_LIMIT)
        except LineTooLong:
            pass
        else:
            if line is None:
                return None
            answer = line.rstrip(b"\r\n")
            if len(self.heard[CLIENT]):
                kind, detail = FaultKind.PIPELINED_BEHIND_AUTH, ""
            elif has_controls(answer):
                kind = FaultKind.CONTROL_IN_ARGUMENT
            else:
                self._login_turn = False
                return answer
        self._fault(CLIENT, kind, detail)
        self._fail(Trouble.PROTOCOL)
        return None

    def _forget_login(self, outcome: str) -> None:
        """A login that will not come to its end."""
        login, command = self._login, self._login_command
        waiting_for_client = self._login_turn
        self._login = self._login_command = None
        self._login_turn = False
        if login is not None:
            self._login_seen(login, outcome)
        if waiting_for_client and command is not None:  # else its entry is in the exchange
            self._reply(command, "unanswered", "")
