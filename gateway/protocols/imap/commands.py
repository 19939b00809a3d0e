"""The client's commands: framed with their literals, relayed as they came, a few answered here."""

from __future__ import annotations

from ...core.steps import CLIENT, UPSTREAM, BodyStart, ClientNamed, CommandSeen, Stage
from ...core.text import shown
from ...core.trouble import CloseReason, FaultKind, Trouble
from ...wire.lines import LineEnd, LineTooLong
from ...wire.literals import Literal, in_quotes, literal_at_end
from ...wire.verbs import is_verb
from .appending import Appending
from .capabilities import action_of, struck_when_held
from .conversation import Flight, Incoming
from .grammar import BEFORE_TLS, COMMAND_LIMIT, ID_LIST, ID_PAIR, STRUCK_VERBS, TAG, VERBS, first_string
from .login import Logins

_VERB_OF = {verb.encode(): verb for verb in VERBS}
#: What a client may not tell the upstream of itself: it is the gateway's to say.
_FORBIDDEN_ID = ("x-originating-", "x-connected-", "x-session-", "x-proxy-", "x-forward-")


class Commands(Appending, Logins):
    """The part of the engine that hears the client."""

    _skipping = False

    def _hear_client(self) -> None:
        if self._literal_left:
            self._take_literal()
        elif self._incoming is not None:
            self._continue_command()
        elif self._login_turn:
            self._auth_answer()
        elif self._idle_tag and self._plus is None:
            self._hear_done()
        else:
            self._first_line()

    def _client_line(self) -> bytes | None:
        """Take one line without its end; None if none is whole."""
        heard = self.heard[CLIENT]
        if self._skipping:
            if heard.skip_line():
                self._skipping = False
                self._tell(b"* BAD Line too long\r\n")
                self._count_error()
            return None
        try:
            line = heard.line(COMMAND_LIMIT)
        except LineTooLong:
            self._fault(CLIENT, FaultKind.LINE_TOO_LONG, heard.peek(20))
            if self._incoming is not None:
                self._fail(Trouble.PROTOCOL)  # the upstream has the beginning of the command
                return None
            self._skipping = not heard.skip_line()
            if not self._skipping:
                self._tell(b"* BAD Line too long\r\n")
                self._count_error()
            return None
        if line is None:
            return None
        if heard.ended is LineEnd.BARE_LF:
            self._fault(CLIENT, FaultKind.BARE_LF, "ends a command")
            return line[:-1]
        return line[:-2]

    def _first_line(self) -> None:
        text = self._client_line()
        if text is None:
            return
        tag, _, rest = text.partition(b" ")
        word, _, args = rest.partition(b" ")
        key = word.upper()
        prefix = ""
        if key == b"UID":
            word, _, args = args.partition(b" ")
            key, prefix = word.upper(), "UID "
        verb = _VERB_OF.get(key, "other")
        literal = literal_at_end(text)
        if not TAG.match(tag):
            self._fault(CLIENT, FaultKind.BAD_COMMAND, text[:20])
            self._tell(b"* BAD Invalid tag\r\n")
            self._count_error()
            return
        command = self._command(verb, self._shown(verb, prefix, rest, args))
        if literal is not None and b'"' in text and in_quotes(literal.before):
            self._fault(CLIENT, FaultKind.BAD_LITERAL, "within quotes")
            self._error(tag, command, "BAD Literal within quotes")
            return
        problem = self._problem(tag, text, literal, command)
        if not problem and (why := self._forbids(verb, args)):
            self._refuse(tag, command, f"NO [NOPERM] {why}", literal, "plugin")
            return
        if problem:
            self._refuse(tag, command, problem, literal)
            return
        if verb not in BEFORE_TLS and self._needs_tls_first():
            refusal = "NO [PRIVACYREQUIRED] Must issue STARTTLS first"
            self._refuse(tag, command, refusal, literal, "tls_first")
            return
        if not word:
            self._error(tag, command, "BAD Missing command")
            return
        handler = getattr(self, f"_c_{verb.lower()}", None) if verb in _OWN_HANDLING else None
        if handler is not None:
            handler(tag, command, text, args, literal)
        elif verb in STRUCK_VERBS or verb in struck_when_held(self.rules):
            self._fault(CLIENT, FaultKind.STRUCK_EXTENSION_USED, verb)
            self._refuse(tag, command, f"BAD {verb} is not available", literal, "struck")
        elif verb == "other" and (not is_verb(word) or not self._tolerates()):
            self._fault(CLIENT, FaultKind.BAD_COMMAND, word[:20])
            self._refuse(tag, command, "BAD Unknown command", literal, "unknown_command")
        else:
            self._relay(tag, Flight(verb, command), text, literal)

    def _tolerates(self) -> bool:
        """Count an unknown command; tell whether it is still relayed."""
        self._unknown += 1
        return self._unknown <= self.rules.max_unknown_commands

    def _shown(self, verb: str, prefix: str, rest: bytes, args: bytes) -> str:
        """Return a command as it may be logged, without its tag."""
        if verb in ("LOGIN", "AUTHENTICATE"):
            return self._shown_login(verb, args)
        return shown(rest)

    def _problem(self, tag: bytes, text: bytes, literal: Literal | None, command: CommandSeen) -> str:
        """Say why a command can't be taken at all; "" if it can."""
        while tag.startswith(self._own_tag):
            self._own_tag = b"x" + self._own_tag  # the client is a gateway, too
        if tag in self._flight:
            self._fault(CLIENT, FaultKind.TAG_REUSED, tag)
            return "BAD Tag is in use"
        if b"\0" in text or b"\r" in text:
            self._fault(CLIENT, FaultKind.CONTROL_IN_ARGUMENT, command.verb)
            return "BAD Control character in command"
        if literal is not None:
            limit = self.rules.max_literal
            if command.verb in ("APPEND", "REPLACE"):
                limit = max(limit, self.rules.max_message_size)
            if literal.size > limit:
                self._fault(CLIENT, FaultKind.LITERAL_TOO_LARGE, str(literal.size))
                return "NO [TOOBIG] Literal too large"
        return ""

    def _refuse(
        self, tag: bytes, command: CommandSeen, text: str, literal: Literal | None, reason: str = ""
    ) -> None:
        """Refuse a command; the octets of a literal that comes all the same are thrown away."""
        if literal is None or literal.synchronising:
            self._error(tag, command, text, reason)
            return
        if literal.size > 4 * max(self.rules.max_message_size, self.rules.max_literal):
            # RFC 7888 4: what can't be read to its end ends the connection.
            self._reply(command, "refused", text)
            self._fail(Trouble.PROTOCOL)
            return
        reply = tag + b" " + text.encode() + b"\r\n"
        self._incoming = Incoming(tag, command.verb, command, "discard", reply=reply)
        self._literal_left = literal.size

    # -- relaying ----------------------------------------------------------

    def _relay(self, tag: bytes, flight: Flight, text: bytes, literal: Literal | None) -> None:
        """Send a command upstream as it came."""
        self._flight[tag] = flight
        if literal is None:
            self._send(UPSTREAM, text + b"\r\n")
            return
        assert flight.command is not None
        self._incoming = Incoming(tag, flight.verb, flight.command, "relay")
        self._relay_literal(text, literal)

    def _relay_literal(self, text: bytes, literal: Literal) -> None:
        """Send a line that ends in a literal, and wait until the upstream asks for the literal.

        It is never pushed, though the client may have done so: an upstream that finds a mistake in
        what stands before it reads the octets as commands, which nobody has looked at.
        """
        incoming = self._incoming
        assert incoming is not None
        incoming.message = incoming.verb in ("APPEND", "REPLACE") and _is_message(incoming, literal.before)
        if literal.synchronising:
            self._send(UPSTREAM, text + b"\r\n")
            self._await_plus(incoming.tag, lambda line: self._literal_wanted(literal, line))
        else:
            mark = b"~{%d}\r\n" if literal.binary else b"{%d}\r\n"
            self._send(UPSTREAM, literal.before + mark % literal.size)
            self._pushed = literal.size
            self._await_plus(incoming.tag, lambda _line: self._literal_wanted(literal, b""))

    def _literal_wanted(self, literal: Literal, line: bytes) -> None:
        """The upstream waits for the literal.  ``line``: its request, where the client awaits one."""
        incoming = self._incoming
        assert incoming is not None
        self._pushed = None
        if line:
            self._send(CLIENT, line)
        self._literal_left = literal.size
        if incoming.message:
            self._begin_body(
                BodyStart(
                    CLIENT,
                    Stage.APPEND,
                    held=False,
                    size=literal.size,
                    mailbox=shown(first_string(literal.before.split(b" ", 2)[-1]) or b"", 200),
                )
            )
        if not literal.size:
            self._literal_taken()

    def _take_literal(self) -> None:
        """Take octets of the client's literal."""
        incoming = self._incoming
        assert incoming is not None
        data = self.heard[CLIENT].take(self._literal_left)
        self._literal_left -= len(data)
        if incoming.mode == "relay":
            if incoming.message:
                self._body_data(CLIENT, data)
            self._note_literal(incoming, data)
            self._send(UPSTREAM, data)
        elif incoming.mode == "hold":
            self._body_data(CLIENT, data)
        elif incoming.mode == "mailbox":
            incoming.collected += data
        if not self._literal_left:
            self._literal_taken()

    def _literal_taken(self) -> None:
        incoming = self._incoming
        assert incoming is not None
        if incoming.mode == "relay" and incoming.message:
            incoming.message = False
            self._end_body(CLIENT)
        # What is behind it is the next line's to say.

    def _continue_command(self) -> None:
        """The line behind a literal: the end of the command, or another literal."""
        incoming = self._incoming
        assert incoming is not None
        text = self._client_line()
        if text is None:
            return
        literal = literal_at_end(text)
        if self._refuses_late(incoming, literal):
            return
        if incoming.mode == "hold":
            self._continue_append(incoming, text, literal)
            return
        if incoming.mode == "mailbox":
            self._mailbox_given(incoming, text, literal)
            return
        if incoming.mode == "discard":
            if literal is not None and not literal.synchronising:
                self._literal_left = literal.size
                return
            self._incoming = None
            if incoming.reply:
                self._tell(incoming.reply)
                self._reply(incoming.command, "refused", incoming.reply.partition(b" ")[2])
                if incoming.mistake:
                    self._count_error()
            return
        if literal is None:
            self._incoming = None
            self._send(UPSTREAM, text + b"\r\n")
            return
        incoming.literals += 1
        limit = (
            self.rules.max_message_size if incoming.verb in ("APPEND", "REPLACE") else self.rules.max_literal
        )
        if incoming.literals > self.rules.max_command_literals or literal.size > limit:
            # The upstream has the beginning of this command: only the end of all undoes that.
            self._fault(CLIENT, FaultKind.LITERAL_TOO_LARGE, f"{incoming.literals} literals, {literal.size}")
            self._fail(Trouble.PROTOCOL)
            return
        self._relay_literal(text, literal)

    def _answered_early(self, incoming: object) -> None:
        """The upstream has answered a command that is not whole: it wants no literal of it."""
        assert isinstance(incoming, Incoming)
        waiting, pushed = self._plus is not None, self._pushed
        self._plus = self._pushed = None
        incoming.answered = True
        if waiting and pushed is None:
            self._incoming = None  # the client awaits its request, and will not send the literal
        elif waiting:
            assert pushed is not None
            incoming.mode = "discard"  # the client sends it unasked
            self._literal_left = pushed
        # Otherwise the upstream has asked for the literal, and reads all of it.

    #: The size of a literal that the client sends unasked while the upstream is asked; else None.
    _pushed: int | None = None

    # -- commands with a way of their own ----------------------------------

    def _c_select(
        self, tag: bytes, command: CommandSeen, text: bytes, args: bytes, literal: Literal | None
    ) -> None:
        name = first_string(args)
        flight = Flight(command.verb, command, argument=shown(name, 200) if name is not None else "")
        self._relay(tag, flight, text, literal)

    _c_examine = _c_select

    def _c_logout(
        self, tag: bytes, command: CommandSeen, text: bytes, args: bytes, literal: Literal | None
    ) -> None:
        self._waits_for = tag
        self._relay(tag, Flight("LOGOUT", command), text, literal)

    def _c_starttls(
        self, tag: bytes, command: CommandSeen, text: bytes, args: bytes, literal: Literal | None
    ) -> None:
        if self.secure[CLIENT]:
            self._error(tag, command, "BAD TLS is already active")
        elif self.rules.client_tls != "starttls":
            self._error(tag, command, "BAD STARTTLS is not offered")
        elif self._logged_in or self._flight or args:
            self._error(tag, command, "BAD STARTTLS is not possible now")
        elif len(self.heard[CLIENT]):
            # CVE-2011-0411: commands put behind STARTTLS by somebody who can't read TLS.
            self._fault(CLIENT, FaultKind.PIPELINED_BEFORE_TLS)
            self._tell_tagged(tag, command, "BAD Commands behind STARTTLS")
            self._finish(CloseReason.PROTOCOL_ERROR, "commands behind STARTTLS")
        else:
            self._tell_tagged(tag, command, "OK Begin TLS negotiation now")
            self._start_tls(CLIENT)

    def _c_idle(
        self, tag: bytes, command: CommandSeen, text: bytes, args: bytes, literal: Literal | None
    ) -> None:
        self._relay(tag, Flight("IDLE", command), text, literal)
        if literal is None:
            self._idle_tag = tag
            self._await_plus(tag, lambda line: self._send(CLIENT, line))

    def _hear_done(self) -> None:
        text = self._client_line()
        if text is None:
            return
        if text.strip().upper() == b"DONE":
            self._idle_tag = b""
            self._send(UPSTREAM, b"DONE\r\n")
            return
        # RFC 9051 6.3.13: nothing else may be said here.
        self._fault(CLIENT, FaultKind.BAD_SEQUENCE, text[:40])
        tag = text.partition(b" ")[0]
        self._tell((tag if TAG.match(tag) else b"*") + b" BAD Expected DONE\r\n")
        self._count_error()

    def _c_id(
        self, tag: bytes, command: CommandSeen, text: bytes, args: bytes, literal: Literal | None
    ) -> None:
        """RFC 2971: gold for the inventory; what only a proxy may say is not passed on."""
        if literal is not None:
            self._refuse(tag, command, "NO ID with literals is not available", literal)
            return
        if args.strip().upper() != b"NIL" and ID_LIST.match(args.strip(b" ")) is None:
            # What a server makes of it may be another list.
            self._error(tag, command, "BAD Invalid ID")
            return
        pairs = [
            (found.group(1).decode("ascii", "replace"), found.group(2)) for found in ID_PAIR.finditer(args)
        ]
        kept = [(key, value) for key, value in pairs if not key.lower().startswith(_FORBIDDEN_ID)]
        known = {key.lower(): value.decode("utf-8", "replace").strip('"') for key, value in kept}
        name = " ".join(known[key] for key in ("name", "version") if known.get(key, "NIL") != "NIL")
        if name:
            self._emit(ClientNamed("id", shown(name, 200)))
        if len(kept) != len(pairs):
            self._fault(CLIENT, FaultKind.STRUCK_EXTENSION_USED, "ID x-originating-ip or kin")
            joined = b" ".join(b'"' + key.encode() + b'" ' + value for key, value in kept)
            text = tag + b" ID " + (b"(" + joined + b")" if kept else b"NIL")
        self._relay(tag, Flight("ID", command), text, None)

    def _c_enable(
        self, tag: bytes, command: CommandSeen, text: bytes, args: bytes, literal: Literal | None
    ) -> None:
        """RFC 5161: only what the upstream offers and the table passes is asked for."""
        if literal is not None:
            self._refuse(tag, command, "BAD Literal in ENABLE", literal)
            return
        held = struck_when_held(self.rules)
        words = args.split()
        names = [(word, word.decode("ascii", "replace").upper()) for word in words]
        kept = [word for word, name in names if action_of(name)[0] == "pass" and name not in held]
        if len(kept) != len(words):
            self._fault(CLIENT, FaultKind.STRUCK_EXTENSION_USED, args[:60])
            if not kept:
                self._error(tag, command, "BAD Nothing to enable", "struck")
                return
            text = tag + b" ENABLE " + b" ".join(kept)
        self._relay(tag, Flight("ENABLE", command), text, None)


def _is_message(incoming: Incoming, before: bytes) -> bool:
    """Tell whether a literal of APPEND or REPLACE is a message, not the mailbox's name."""
    if incoming.literals > 1:
        return True
    # "tag APPEND " with nothing behind it: the name itself comes as the literal.
    return len(before.split()) > (2 if incoming.verb == "APPEND" else 3)


_OWN_HANDLING = frozenset(
    {
        "LOGIN",
        "AUTHENTICATE",
        "SELECT",
        "EXAMINE",
        "LOGOUT",
        "STARTTLS",
        "IDLE",
        "ID",
        "ENABLE",
        "APPEND",
        "REPLACE",
        "FETCH",
    }
)
