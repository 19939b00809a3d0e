"""APPEND that is held: the gateway takes the message itself, and sends it on after the verdict.

The command goes upstream only then, with the literal size of what is sent.  MULTIAPPEND and
REPLACE stand or fall as a whole on the server, which one spool can't promise: where messages
are held they are struck, and refused with their framing kept.
"""

from __future__ import annotations

from ...core.outcome import Action, Outcome
from ...core.steps import CLIENT, UPSTREAM, BodyStart, CommandSeen, Framing, SendBody, Stage
from ...core.text import shown
from ...core.trouble import FaultKind
from ...wire.literals import Literal, quote
from .conversation import Conversation, Flight, Incoming
from .grammar import first_string


class Appending(Conversation):
    """The part of the engine that holds messages on their way to a mailbox."""

    def _relay(self, tag: bytes, flight: Flight, text: bytes, literal: Literal | None) -> None:
        raise NotImplementedError

    def _refuse(
        self, tag: bytes, command: CommandSeen, text: str, literal: Literal | None, reason: str = ""
    ) -> None:
        raise NotImplementedError

    def _c_append(
        self, tag: bytes, command: CommandSeen, text: bytes, args: bytes, literal: Literal | None
    ) -> None:
        if Stage.APPEND not in self.rules.hold or literal is None:
            self._relay(tag, Flight("APPEND", command), text, literal)
            return
        if args[: len(args) - (len(text) - len(literal.before))].strip():
            self._hold(Incoming(tag, "APPEND", command, "hold"), literal)
            return
        # The mailbox's name comes as a literal.
        incoming = Incoming(tag, "APPEND", command, "mailbox", prefix=literal.before)
        if literal.size > 4096:
            self._refuse(tag, command, "NO [TOOBIG] Mailbox name too long", literal)
            return
        self._incoming = incoming
        self._literal_left = literal.size
        if literal.synchronising:
            self._tell(b"+ OK\r\n")

    def _c_replace(
        self, tag: bytes, command: CommandSeen, text: bytes, args: bytes, literal: Literal | None
    ) -> None:
        if Stage.APPEND in self.rules.hold:
            self._fault(CLIENT, FaultKind.STRUCK_EXTENSION_USED, "REPLACE")
            self._refuse(tag, command, "BAD REPLACE is not available", literal, "struck")
        else:
            self._relay(tag, Flight("REPLACE", command), text, literal)

    def _mailbox_given(self, incoming: Incoming, text: bytes, literal: Literal | None) -> None:
        """The line behind a mailbox name that came as a literal."""
        name = quote(incoming.collected)
        self._incoming = None
        if name is None or literal is None:
            self._refuse(incoming.tag, incoming.command, "BAD Invalid APPEND", literal)
            return
        if literal.size > self.rules.max_message_size:
            self._fault(CLIENT, FaultKind.LITERAL_TOO_LARGE, str(literal.size))
            self._refuse(incoming.tag, incoming.command, "NO [TOOBIG] Literal too large", literal)
            return
        line = incoming.prefix + name + literal.before
        literal.before = line
        incoming.mode = "hold"
        self._hold(incoming, literal)

    def _hold(self, incoming: Incoming, literal: Literal) -> None:
        """Take the message's literal ourselves."""
        incoming.prefix, incoming.binary = literal.before, literal.binary
        self._incoming = incoming
        arguments = literal.before.split(b" ", 2)[-1]
        mailbox = first_string(arguments) or b""
        self._begin_body(
            BodyStart(
                CLIENT,
                Stage.APPEND,
                held=True,
                size=literal.size,
                mailbox=shown(mailbox, 200),
                special_use=self._uses_of(shown(mailbox, 200)),
            )
        )
        if literal.synchronising:
            self._tell(b"+ OK\r\n")
        self._literal_left = literal.size

    def _continue_append(self, incoming: Incoming, text: bytes, literal: Literal | None) -> None:
        """The line behind the message: the end of the command, or of its UTF8 form (RFC 9755)."""
        if literal is not None:
            self._abort_body(CLIENT)
            self._incoming = None
            self._fault(CLIENT, FaultKind.STRUCK_EXTENSION_USED, "MULTIAPPEND")
            self._refuse(
                incoming.tag, incoming.command, "NO [CANNOT] One message at a time", literal, "struck"
            )
            return
        self._incoming = None
        if text not in (b"", b")"):
            self._abort_body(CLIENT)
            self._fault(CLIENT, FaultKind.BAD_COMMAND, "behind the literal of APPEND")
            self._error(incoming.tag, incoming.command, "BAD Invalid APPEND")
            return
        incoming.tail = text
        self._held_append = incoming
        self._deciding = True
        self._end_body(CLIENT)

    def _unfinished(self) -> list[Incoming]:
        held, self._held_append = self._held_append, None
        return [*super()._unfinished(), *([held] if held is not None else [])]

    def _append_decided(self, outcome: Outcome) -> None:
        incoming = self._held_append
        assert incoming is not None
        self._deciding = False
        if outcome.action in (Action.PASS, Action.MODIFY):
            self._send_append(incoming, outcome.size)
            return
        self._held_append = None
        reason = shown(outcome.reason, 200) or "Message refused"
        if outcome.action is Action.DEFER:
            text = f"NO [UNAVAILABLE] {reason}"
        elif outcome.action in (Action.REJECT, Action.QUARANTINE) or not outcome.accept:
            text = f"NO [CANNOT] {reason}"
        else:
            text = "OK APPEND completed"
        self._tell_tagged(incoming.tag, incoming.command, text)

    def _send_append(self, incoming: Incoming, size: int) -> None:
        self._flight[incoming.tag] = Flight("APPEND", incoming.command)
        self._sending = True
        mark = b"~{%d" if incoming.binary else b"{%d"
        push = self._may_push(size)
        end = b"+}\r\n" if push else b"}\r\n"
        self._send(UPSTREAM, incoming.prefix + mark % size + end)
        if push:
            self._emit(SendBody(UPSTREAM, Framing.RAW))
        else:
            self._await_plus(incoming.tag, lambda _line: self._emit(SendBody(UPSTREAM, Framing.RAW)))

    def _append_sent(self) -> None:
        incoming, self._held_append = self._held_append, None
        self._sending = False
        if incoming is not None:
            self._send(UPSTREAM, incoming.tail + b"\r\n")
