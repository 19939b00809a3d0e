"""APPEND and REPLACE that are held: the gateway takes each message itself, and sends it on after the verdict.

The command goes upstream only then, with the literal size of what is sent.  The messages of one
MULTIAPPEND (RFC 3502) are judged and sent on one by one, and nothing is appended before the line
end behind the last of them: if a later one is refused, the gateway cancels the command, which
the server then undoes as a whole.
"""

from __future__ import annotations

import re

from ...core.outcome import Action, Outcome
from ...core.steps import CLIENT, UPSTREAM, BodyStart, CommandSeen, Framing, SendBody, Stage
from ...core.text import shown
from ...core.trouble import FaultKind
from ...wire.literals import Literal, quote
from .conversation import Conversation, Flight, Incoming
from .grammar import first_string

#: The command with its mailbox, which may be quoted.
_HEAD = re.compile(rb"[^ ]+ (?:APPEND|(?:UID )?REPLACE [^ ]+) +(\"(?:[^\"\\]|\\.)*\"|[^ ]+)", re.IGNORECASE)


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
        verb = command.verb
        if Stage.APPEND not in self.rules.hold or literal is None:
            self._relay(tag, Flight(verb, command), text, literal)
            return
        given = args[: len(args) - (len(text) - len(literal.before))].split()
        # REPLACE names the message that goes before the mailbox (RFC 8508 3.1).
        if len(given) > (verb == "REPLACE"):
            self._hold(Incoming(tag, verb, command, "hold"), literal)
            return
        # The mailbox's name comes as a literal.
        incoming = Incoming(tag, verb, command, "mailbox", prefix=literal.before)
        if literal.size > 4096:
            self._refuse(tag, command, "NO [TOOBIG] Mailbox name too long", literal)
            return
        self._incoming = incoming
        self._literal_left = literal.size
        if literal.synchronising:
            self._tell(b"+ OK\r\n")

    _c_replace = _c_append

    def _mailbox_given(self, incoming: Incoming, text: bytes, literal: Literal | None) -> None:
        """The line behind a mailbox name that came as a literal."""
        name = quote(incoming.collected)
        self._incoming = None
        if name is None or literal is None:
            self._refuse(incoming.tag, incoming.command, f"BAD Invalid {incoming.verb}", literal)
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
        """Take a message's literal ourselves."""
        incoming.prefix, incoming.binary, incoming.following = literal.before, literal.binary, None
        if not incoming.mailbox:
            found = _HEAD.match(literal.before)
            incoming.head = found.group() if found is not None else b""
            incoming.mailbox = shown(first_string(found.group(1)) or b"" if found is not None else b"", 200)
        self._incoming = incoming
        self._begin_body(
            BodyStart(
                CLIENT,
                Stage.APPEND,
                held=True,
                size=literal.size,
                mailbox=incoming.mailbox,
                special_use=self._uses_of(incoming.mailbox),
            )
        )
        if literal.synchronising:
            self._tell(b"+ OK\r\n")
        self._literal_left = literal.size

    def _continue_append(self, incoming: Incoming, text: bytes, literal: Literal | None) -> None:
        """The line behind a message: the end of the command, or a further one.

        In the UTF8 form a parenthesis closes the message (RFC 9755 4).
        """
        self._incoming = None
        problem = self._unfit(incoming, text, literal)
        if problem:
            self._abort_body(CLIENT)
            self._stop_append(incoming, problem, literal)
            return
        incoming.tail, incoming.following = text, literal
        self._held_append = incoming
        self._deciding = True
        self._end_body(CLIENT)

    def _unfit(self, incoming: Incoming, text: bytes, literal: Literal | None) -> str:
        """Say why what stands behind a message can't be taken; "" if it can."""
        if literal is None:
            if text in (b"", b")"):
                return ""
            self._fault(CLIENT, FaultKind.BAD_COMMAND, f"behind the literal of {incoming.verb}")
            return f"BAD Invalid {incoming.verb}"
        incoming.literals += 1
        if incoming.verb != "APPEND" or not literal.before.startswith((b" ", b") ")) or b"\0" in text:
            self._fault(CLIENT, FaultKind.BAD_COMMAND, f"behind the literal of {incoming.verb}")
            return f"BAD Invalid {incoming.verb}"
        if "MULTIAPPEND" not in self._offer.offered or "MULTIAPPEND" in self.rules.strike_extensions:
            self._fault(CLIENT, FaultKind.STRUCK_EXTENSION_USED, "MULTIAPPEND")
            return "NO [CANNOT] One message at a time"
        if literal.size > self.rules.max_message_size or incoming.literals > self.rules.max_command_literals:
            self._fault(CLIENT, FaultKind.LITERAL_TOO_LARGE, f"{incoming.literals} literals, {literal.size}")
            return "NO [TOOBIG] Literal too large"
        # RFC 3502: so a client calls it all off.
        return "" if literal.size else "NO APPEND cancelled"

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
            self._stop_append(incoming, f"NO [UNAVAILABLE] {reason}", incoming.following)
        elif outcome.action in (Action.REJECT, Action.QUARANTINE) or not outcome.accept:
            self._stop_append(incoming, f"NO [CANNOT] {reason}", incoming.following)
        else:
            self._leave_out(incoming)

    # -- what goes upstream ------------------------------------------------

    def _send_append(self, incoming: Incoming, size: int) -> None:
        if not incoming.begun:
            incoming.begun = True
            self._flight[incoming.tag] = Flight(incoming.verb, incoming.command)
        self._sending = True
        mark = b"~{%d" if incoming.binary else b"{%d"
        self._send(UPSTREAM, incoming.prefix + mark % size + b"}\r\n")
        self._await_plus(incoming.tag, lambda _line: self._emit(SendBody(UPSTREAM, Framing.RAW)))

    def _append_sent(self) -> None:
        incoming, self._held_append = self._held_append, None
        self._sending = False
        if incoming is None:
            return
        if incoming.following is not None:
            self._hold(incoming, incoming.following)
        else:
            self._send(UPSTREAM, incoming.tail + b"\r\n")

    def _leave_out(self, incoming: Incoming) -> None:
        """Go on without a message that is discarded as if it were appended."""
        if incoming.following is not None:
            literal = incoming.following
            before = literal.before.removeprefix(b")")
            literal.before = (incoming.closing if incoming.begun else incoming.head) + before
            self._hold(incoming, literal)
        elif incoming.begun:
            self._send(UPSTREAM, incoming.closing + b"\r\n")
        else:
            self._tell_tagged(incoming.tag, incoming.command, f"OK {incoming.verb} completed")

    def _stop_append(self, incoming: Incoming, text: str, literal: Literal | None) -> None:
        """Refuse all of it; what of further messages comes all the same is thrown away.

        literal: the one that the client has announced last.
        """
        if not incoming.begun:
            self._refuse_append(incoming, text, literal)
            return
        tag = incoming.tag
        self._held_append, self._sending = incoming, True

        def called_off(rest: bytes) -> None:
            self._held_append, self._sending, self._plus = None, False, None
            if rest[:2].upper() == b"OK":
                self._fault(UPSTREAM, FaultKind.BAD_REPLY, "messages appended that were called off")
            self._refuse_append(incoming, text, literal)

        self._flight[tag] = Flight(incoming.verb, None, called_off)
        self._send(UPSTREAM, incoming.closing + b" {0}\r\n")
        self._await_plus(tag, lambda _line: self._send(UPSTREAM, b"\r\n"))

    def _refuse_append(self, incoming: Incoming, text: str, literal: Literal | None) -> None:
        mistake = text.startswith("BAD")
        if mistake or (literal is not None and not literal.synchronising):
            self._refuse(incoming.tag, incoming.command, text, literal)
            if self._incoming is not None:
                self._incoming.mistake = mistake
        else:
            self._tell_tagged(incoming.tag, incoming.command, text)

    def _throw_away_following(self, incoming: Incoming) -> None:
        """Read what the client still sends of a command that the upstream has refused."""
        literal = incoming.following
        if literal is not None and not literal.synchronising:
            self._incoming = Incoming(incoming.tag, incoming.verb, incoming.command, "discard", answered=True)
            self._literal_left = literal.size
