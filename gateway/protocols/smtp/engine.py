"""The SMTP engine: a proxy's view of one SMTP session, from both ends.

States, by what is awaited:

    prologue   the upstream's greeting, and where TLS or XCLIENT ask for it our own EHLO,
               STARTTLS, TLS, EHLO, XCLIENT; the client is greeted behind that
    command    the client's next command; commands are relayed, their replies kept in order
    login      within AUTH: challenges go one way, answers the other
    body       DATA or BDAT octets of the client
    verdict    a held message is judged; the client is not read
    reply      the upstream's answer to something that no other command may overtake

Replies leave in the order of the commands whatever the client pipelines (RFC 2920): each
command has its entry in the exchange, and a reply of our own waits there for its turn.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar

from ...core.engine import Route
from ...core.exchange import Entry
from ...core.sasl_exchange import AUTH_LIMIT
from ...core.steps import (
    CLIENT,
    UPSTREAM,
    ClientNamed,
    CommandSeen,
    Connect,
    Envelope,
    ExtensionStruck,
    Side,
)
from ...core.text import shown
from ...core.trouble import REASONS, CloseReason, FaultKind, Trouble
from ...wire.lines import LineEnd, LineTooLong
from ...wire.sasl import mechanism_name
from ...wire.verbs import has_controls, is_verb
from .body import Bodies
from .capabilities import Offer, advertise, read
from .conversation import MAX_IN_FLIGHT, Handler, Reply
from .grammar import (
    BEFORE_TLS,
    COMMAND_LIMIT,
    PARAMETER_EXTENSION,
    REPLY_LIMIT,
    REPLY_LINE_LIMIT,
    VERBS,
    is_code,
    split_path,
    text_of,
)
from .login import Logins


class SmtpEngine(Logins, Bodies):
    """SMTP and message submission (RFC 5321, RFC 6409)."""

    protocol: ClassVar[str] = "smtp"
    verbs: ClassVar[frozenset[str]] = VERBS

    _skipping = False  # within a line that was too long
    _prologue_keywords: dict[str, list[str]] | None = None

    # -- the prologue ------------------------------------------------------

    def _opened(self) -> None:
        self._emit(Connect())

    def _routed(self, route: Route) -> None:
        self._exchange.expect(Entry(self._r_greeting, None))

    def _r_greeting(self, _entry: Entry[Handler], reply: Reply | None) -> None:
        assert reply is not None
        if reply.code != 220:
            self._fault(UPSTREAM, FaultKind.BAD_REPLY, reply.lines[0])
            self._fail(Trouble.UPSTREAM_DOWN)
            return
        wants_tls = self.rules.upstream_tls in ("starttls", "opportunistic") and not self.secure[UPSTREAM]
        if wants_tls or self.rules.forward_client == "xclient":
            self._hello_upstream()
        else:
            self._greet()

    def _hello_upstream(self) -> None:
        line = f"{self.hello} {self.rules.hostname}\r\n".encode()
        self._relay(None, line, self._r_own_hello)

    def _r_own_hello(self, _entry: Entry[Handler], reply: Reply | None) -> None:
        assert reply is not None
        required = self.rules.upstream_tls == "starttls"
        keywords = read([line[4:].rstrip(b"\r\n") for line in reply.lines[1:]]) if reply.code == 250 else {}
        self._prologue_keywords = keywords
        if self.rules.upstream_tls in ("starttls", "opportunistic") and not self.secure[UPSTREAM]:
            if "STARTTLS" in keywords:
                self._relay(None, b"STARTTLS\r\n", self._r_starttls)
                return
            if required:
                self._fault(UPSTREAM, FaultKind.STARTTLS_MISSING, "the upstream offers no STARTTLS")
                self._fail(Trouble.UPSTREAM_TLS)
                return
        self._introduce_client()

    def _r_starttls(self, _entry: Entry[Handler], reply: Reply | None) -> None:
        assert reply is not None
        if reply.code != 220:
            self._fault(UPSTREAM, FaultKind.STARTTLS_REFUSED, reply.lines[0])
            if self.rules.upstream_tls == "starttls":
                self._fail(Trouble.UPSTREAM_TLS)
            else:
                self._introduce_client()
            return
        if len(self.heard[UPSTREAM]):
            self._fault(UPSTREAM, FaultKind.INJECTED_BEFORE_TLS, self.heard[UPSTREAM].peek(60))
            self._fail(Trouble.UPSTREAM_TLS)
            return
        self._start_tls(UPSTREAM)

    def _introduce_client(self) -> None:
        """Tell the upstream who the client is, if it takes XCLIENT; then greet the client."""
        offered = (self._prologue_keywords or {}).get("XCLIENT")
        if self.rules.forward_client != "xclient" or offered is None:
            self._greet()
            return
        address = self.record.client_address
        values = {
            "NAME": "[UNAVAILABLE]",
            "ADDR": f"IPV6:{address}" if ":" in address else address,
            "PORT": str(self.record.client_port),
            "PROTO": "ESMTP",
        }
        words = [f"{name}={value}" for name, value in values.items() if name in offered]
        self._relay(None, f"XCLIENT {' '.join(words)}\r\n".encode(), self._r_xclient)

    def _r_xclient(self, _entry: Entry[Handler], reply: Reply | None) -> None:
        assert reply is not None
        if reply.code != 220:
            # The upstream would log and judge the gateway in the client's place.
            self._fault(UPSTREAM, FaultKind.UNEXPECTED_REPLY, reply.lines[0])
            self._fail(Trouble.UPSTREAM_FAULT)
            return
        self._greet()

    def _greet(self) -> None:
        text = self.rules.banner or ("LMTP" if self.hello == "LHLO" else "ESMTP")
        self._send(CLIENT, f"220 {self.rules.hostname} {text}\r\n".encode())
        self._greeted = True

    def _secured(self, side: Side) -> None:
        if side is UPSTREAM:
            if self.rules.forward_client == "xclient":
                self._hello_upstream()
            else:
                self._greet()
            return
        # RFC 3207 4.2: nothing that the client said before TLS counts.
        self._offer = None
        self._forget_login("aborted")
        if self._envelope is not None:
            self._rset_upstream()
        self._reset_transaction()

    # -- hearing -----------------------------------------------------------

    def _understand(self, side: Side) -> None:
        if side is UPSTREAM:
            self._hear_upstream()
        elif self._chunk_left > 0:
            self._take_chunk()
        elif self._decoder is not None:
            self._take_data()
        elif self._login_turn:
            self._auth_answer()
        elif not self._greeted:
            if not self._early:
                self._early = True
                self._fault(CLIENT, FaultKind.EARLY_TALKER)
        else:
            self._hear_command()

    def _hear_upstream(self) -> None:
        heard = self.heard[UPSTREAM]
        try:
            line = heard.line(REPLY_LINE_LIMIT)
        except LineTooLong:
            self._broken(FaultKind.REPLY_TOO_LONG, heard.peek(60))
            return
        if line is None:
            return
        if not is_code(line):
            self._broken(FaultKind.BAD_REPLY, line)
            return
        if heard.ended is LineEnd.BARE_LF:
            line = line[:-1] + b"\r\n"
        lines = self._reply_lines
        if lines:
            if line[:3] != lines[0][:3]:
                self._broken(FaultKind.BAD_REPLY, line)
                return
            self._reply_size += len(line)
            if self._reply_size > REPLY_LIMIT:
                self._broken(FaultKind.REPLY_TOO_LONG, lines[0])
                return
            lines.append(line)
        else:
            self._reply_lines = lines = [line]
            self._reply_size = len(line)
        if line[3:4] == b"-":
            return
        self._reply_lines = []
        reply = Reply(int(line[:3]), lines)
        if not self._exchange:
            self._unasked(reply)
            return
        entry = self._exchange.settle()
        self._current = entry.command
        entry.kind(entry, reply)
        self._current = None
        if not self.ended:
            self._turn()
        if self._stopping and not self.ended:
            self._stop_when_quiet()

    def _unasked(self, reply: Reply) -> None:
        """The upstream speaks without being asked: 421 announces its end, all else is a fault."""
        if reply.code == 421 and self._greeted and not self.in_body[CLIENT]:
            self._send(CLIENT, reply.raw)
            self._said_goodbye = True
            self._finish(CloseReason.UPSTREAM_EOF, shown(reply.lines[0]))
        elif reply.code == 421:
            self._fail(Trouble.UPSTREAM_FAULT)
        else:
            self._broken(FaultKind.UNEXPECTED_REPLY, reply.lines[0])

    def _hear_command(self) -> None:
        heard = self.heard[CLIENT]
        if self._skipping:
            if heard.skip_line():
                self._skipping = False
                command = self._command("other", "(line too long)")
                self._error(command, 500, "5.5.2", "Line too long")
            return
        try:
            line = heard.line(AUTH_LIMIT)
        except LineTooLong:
            self._fault(CLIENT, FaultKind.LINE_TOO_LONG, heard.peek(20))
            self._skipping = not heard.skip_line()
            if not self._skipping:
                command = self._command("other", "(line too long)")
                self._error(command, 500, "5.5.2", "Line too long")
            return
        if line is None:
            return
        bare = heard.ended is LineEnd.BARE_LF
        text = line[:-1] if bare else line[:-2]
        if bare:
            self._fault(CLIENT, FaultKind.BARE_LF, "ends a command")
            line = text + b"\r\n"
        word, _, rest = text.partition(b" ")
        handler = self._handlers.get(word.upper())
        if handler is None:
            self._c_unknown(text, line)
        elif len(line) > COMMAND_LIMIT and word.upper() != b"AUTH":
            command = self._command(word.upper().decode(), shown(text, 60))
            self._fault(CLIENT, FaultKind.LINE_TOO_LONG, text[:20])
            self._error(command, 500, "5.5.2", "Line too long")
        elif has_controls(rest):
            verb = word.upper().decode()
            command = self._command(verb, verb if verb == "AUTH" else shown(text))
            self._fault(CLIENT, FaultKind.CONTROL_IN_ARGUMENT, verb)
            self._error(command, 501, "5.5.2", "Control character in argument")
            if verb == "AUTH":
                self._login_unread(mechanism_name(rest.partition(b" ")[0]) or "", "", "501 5.5.2")
        elif why := self._forbids(word.upper().decode(), rest):
            command = self._command(word.upper().decode(), word.upper().decode())
            self._error(command, 550, "5.7.1", why, "plugin")
        elif word.upper() not in BEFORE_TLS and self._needs_tls_first():
            command = self._command(word.upper().decode(), word.upper().decode())
            # RFC 3207 4
            self._error(command, 530, "5.7.0", "Must issue a STARTTLS command first", "tls_first")
        else:
            handler(self, rest)

    def _regulate(self) -> None:
        """Set the client's gate, and name what is awaited."""
        waiting = len(self._exchange)
        if not self._greeted:
            self.reading[CLIENT] = not self._early
            self.phase = "prologue"
            return
        closed = self._deciding or self._sending
        if waiting and not closed:
            closed = self._sync or self._one_at_a_time or waiting >= MAX_IN_FLIGHT
        self.reading[CLIENT] = not closed
        if self._deciding:
            self.phase = "verdict"
        elif self.in_body[CLIENT] or self._sending:
            self.phase = "body"
        elif waiting:
            self.phase = "reply"
        else:
            self.phase = "command"

    # -- commands ----------------------------------------------------------

    def _plain(self, rest: bytes, verb: str) -> None:
        """A command that is relayed as it is."""
        text = f"{verb} {shown(rest)}" if rest else verb
        command = self._command(verb, text)
        if self._is_too_much(command):
            return
        line = verb.encode() + (b" " + rest if rest else b"") + b"\r\n"
        self._relay(command, line, self._r_reset if verb == "RSET" else self._pass)

    def _is_too_much(self, command: CommandSeen) -> bool:
        """Count a command that moves no mail; end the session when they never end."""
        self._junk += 1
        if self._junk <= self.rules.max_junk_commands:
            return False
        self._fault(CLIENT, FaultKind.TOO_MANY_COMMANDS, "no message among them")
        self._reply(command, "refused", "421")
        self._fail(Trouble.TOO_MANY_ERRORS)
        return True

    def _r_reset(self, entry: Entry[Handler], reply: Reply | None) -> None:
        assert reply is not None
        if reply.code == 250:
            self._drop_message()
        self._pass(entry, reply)

    def _c_noop(self, rest: bytes) -> None:
        self._plain(rest, "NOOP")

    def _c_rset(self, rest: bytes) -> None:
        self._plain(rest, "RSET")

    def _c_help(self, rest: bytes) -> None:
        self._plain(rest, "HELP")

    def _c_vrfy(self, rest: bytes) -> None:
        if self.rules.vrfy == "allow":
            self._plain(rest, "VRFY")
        else:
            command = self._command("VRFY", f"VRFY {shown(rest)}")
            self._answer(command, 252, "2.5.2", "Cannot VRFY user, but will accept message", "vrfy")

    def _c_expn(self, rest: bytes) -> None:
        if self.rules.expn == "allow":
            self._plain(rest, "EXPN")
        else:
            self._struck("EXPN", rest, "expn")

    def _c_obsolete(self, rest: bytes, verb: str) -> None:
        """SEND, SOML, SAML (RFC 821): MAIL by another name."""
        if self.rules.obsolete_commands:
            self._mail(rest, verb)
        else:
            self._struck(verb, rest, "obsolete")

    def _struck(self, verb: str, rest: bytes, reason: str) -> None:
        command = self._command(verb, f"{verb} {shown(rest)}" if rest else verb)
        if reason == "struck":
            self._fault(CLIENT, FaultKind.STRUCK_EXTENSION_USED, verb)
        self._error(command, 502, "5.5.1", "Command not implemented", reason)

    def _c_struck(self, rest: bytes, verb: str) -> None:
        self._struck(verb, rest, "struck")

    def _c_unknown(self, text: bytes, line: bytes) -> None:
        """Unknown verbs are relayed a few times, then refused, then the session ends."""
        command = self._command("other", shown(text))
        if has_controls(text):
            self._fault(CLIENT, FaultKind.CONTROL_IN_ARGUMENT, text[:20])
            self._error(command, 500, "5.5.2", "Control character in command")
            return
        self._unknown += 1
        # What is no verb is not relayed: an upstream may skip the blank before it, or end it at a tab.
        if self._unknown > self.rules.max_unknown_commands or not is_verb(text.partition(b" ")[0]):
            self._fault(CLIENT, FaultKind.BAD_COMMAND, text[:20])
            self._error(command, 500, "5.5.2", "Command unrecognized", "unknown_command")
        elif why := self._forbids("other", text):
            self._error(command, 550, "5.7.1", why, "plugin")
        elif self._needs_tls_first():
            self._error(command, 530, "5.7.0", "Must issue a STARTTLS command first", "tls_first")
        elif len(line) > COMMAND_LIMIT:
            self._fault(CLIENT, FaultKind.LINE_TOO_LONG, text[:20])
            self._error(command, 500, "5.5.2", "Line too long")
        else:
            # Without this gate a verb that asks for more than a line could move the framing.
            self._sync = True
            self._relay(command, line, self._pass)

    def _c_quit(self, rest: bytes) -> None:
        command = self._command("QUIT", "QUIT")
        self._sync = True
        self._relay(command, b"QUIT\r\n", self._r_quit)

    def _r_quit(self, entry: Entry[Handler], reply: Reply | None) -> None:
        self._pass(entry, reply)
        self._said_goodbye = True
        self._finish(CloseReason.QUIT)

    # -- HELO, EHLO, LHLO --------------------------------------------------

    def _c_ehlo(self, rest: bytes) -> None:
        self._hello(rest, "EHLO")

    def _c_helo(self, rest: bytes) -> None:
        self._hello(rest, "HELO")

    def _c_lhlo(self, rest: bytes) -> None:
        self._hello(rest, "LHLO")

    def _hello(self, rest: bytes, verb: str) -> None:
        name = rest.strip()
        command = self._command(verb, f"{verb} {shown(name)}")
        if verb not in self._hello_verbs:
            self._error(command, 500, "5.5.1", "Command unrecognized")
        elif not name or not name.isascii():
            self._error(command, 501, "5.5.4", f"Syntax: {verb} hostname")
        elif not self._is_too_much(command):
            self._emit(ClientNamed("ehlo", shown(name, 255)))
            self._sync = True
            handler = self._r_helo if verb == "HELO" else self._r_ehlo
            self._relay(command, verb.encode() + b" " + name + b"\r\n", handler)

    _hello_verbs: ClassVar[tuple[str, ...]] = ("HELO", "EHLO")

    def _r_helo(self, entry: Entry[Handler], reply: Reply | None) -> None:
        assert reply is not None
        if reply.code == 250:
            self._offer = Offer(size=self.rules.max_message_size)
            self._one_at_a_time = True
            self._drop_message()
            reply = Reply(250, [f"250 {self.rules.hostname}\r\n".encode()])
        self._pass(entry, reply)

    def _r_ehlo(self, entry: Entry[Handler], reply: Reply | None) -> None:
        assert reply is not None
        if reply.code == 250:
            secure, hidden, upstream_secure = self.secure[CLIENT], self._hidden(), self.secure[UPSTREAM]
            lines = reply.lines
            self._offer = offer = self.rules.remembered(
                (reply.raw, secure, hidden, upstream_secure),
                lambda: advertise(
                    read([line[4:].rstrip(b"\r\n") for line in lines[1:]]),
                    self.rules,
                    secure=secure,
                    hidden=hidden,
                    upstream_secure=upstream_secure,
                ),
            )
            self._one_at_a_time = "PIPELINING" not in offer.keywords
            self._drop_message()
            for name, reason in offer.struck:
                if name not in self._struck_told:
                    self._struck_told.add(name)
                    self._emit(ExtensionStruck(name, reason))
            reply = Reply(250, offer.reply(self.rules.hostname))
        self._pass(entry, reply)

    # -- STARTTLS ----------------------------------------------------------

    def _c_starttls(self, rest: bytes) -> None:
        command = self._command("STARTTLS", "STARTTLS")
        if rest.strip():
            self._error(command, 501, "5.5.4", "No parameters allowed")
        elif self.secure[CLIENT]:
            self._error(command, 503, "5.5.1", "TLS is already active")
        elif self.rules.client_tls != "starttls":
            self._error(command, 502, "5.5.1", "STARTTLS is not offered")
        elif self._authenticated:
            self._error(command, 503, "5.5.1", "STARTTLS behind AUTH")
        else:
            self._wait_turn(command, self._starttls_turn)

    def _starttls_turn(self, entry: Entry[Handler], _reply: Reply | None) -> None:
        command = entry.command
        assert command is not None
        if len(self.heard[CLIENT]):
            # CVE-2011-0411: commands put behind STARTTLS by somebody who can't read TLS.
            self._fault(CLIENT, FaultKind.PIPELINED_BEFORE_TLS)
            self._send(CLIENT, b"554 5.5.1 Commands behind STARTTLS\r\n")
            self._reply(command, "refused", "554 5.5.1 Commands behind STARTTLS")
            self._finish(CloseReason.PROTOCOL_ERROR, "commands behind STARTTLS")
            return
        self._send(CLIENT, b"220 2.0.0 Ready to start TLS\r\n")
        self._reply(command, "ok", "220 2.0.0 Ready to start TLS")
        self._start_tls(CLIENT)

    # -- MAIL, RCPT --------------------------------------------------------

    def _c_mail(self, rest: bytes) -> None:
        self._mail(rest, "MAIL")

    def _mail(self, rest: bytes, verb: str) -> None:
        command = self._command(verb, f"{verb} {shown(rest)}")
        split = split_path(rest, b"FROM:")
        if split is None:
            self._error(command, 501, "5.1.7", f"Syntax: {verb} FROM:<address>")
            return
        path, words = split
        parameters = self._parameters(command, words)
        if parameters is None:
            return
        if not path.isascii() and "SMTPUTF8" not in parameters:
            self._error(command, 553, "5.6.7", "SMTPUTF8 is required for this address")
            return
        size = parameters.get("SIZE", "")
        limit = self._limit
        if size.isdigit() and limit and (len(size) > 15 or int(size) > limit):
            self._fault(CLIENT, FaultKind.MESSAGE_TOO_LARGE, f"SIZE={size[:20]}")
            self._answer(command, 552, "5.3.4", "Message size exceeds fixed limit", "message_too_large")
            return
        kept = [word for word in words if self._keeps(word)]
        line = verb.encode() + b" FROM:<" + path + b">" + b"".join(b" " + word for word in kept) + b"\r\n"
        envelope = Envelope(text_of(path), [], parameters)
        self._relay(command, line, partial(self._r_mail, envelope))

    def _parameters(self, command: CommandSeen, words: list[bytes]) -> dict[str, str] | None:
        """Read ESMTP parameters; None if one was refused, and answered."""
        parameters: dict[str, str] = {}
        struck = self._offer.struck_names if self._offer is not None else set()
        for word in words:
            name, _, value = word.partition(b"=")
            key = text_of(name).upper()
            extension = PARAMETER_EXTENSION.get(key, "")
            if extension and extension in struck and extension != "AUTH":
                self._fault(CLIENT, FaultKind.STRUCK_EXTENSION_USED, extension)
                self._error(command, 555, "5.5.4", f"Unsupported parameter {key}", "struck")
                return None
            if key in parameters:
                self._error(command, 501, "5.5.4", "Duplicate parameter")
                return None
            parameters[key] = text_of(value)
        return parameters

    def _keeps(self, word: bytes) -> bool:
        """Tell whether a parameter of MAIL goes upstream."""
        name = word.partition(b"=")[0].upper()
        if name == b"SIZE":
            # What is held may be rewritten, and then has another size; SIZE is the gateway's own
            # offer, so that the upstream need not know it.
            return self._streaming and self._offer is not None and "SIZE" in self._offer.keywords
        if name == b"AUTH":  # RFC 4954 5: to be believed only of a trusted client
            return self.record.trusted_network
        return True

    def _r_mail(self, envelope: Envelope, entry: Entry[Handler], reply: Reply | None) -> None:
        assert reply is not None
        if reply.code == 250:
            self._envelope = envelope
            self._offered_recipients = 0
        self._pass(entry, reply)

    def _c_rcpt(self, rest: bytes) -> None:
        command = self._command("RCPT", f"RCPT {shown(rest)}")
        split = split_path(rest, b"TO:")
        if split is None or not split[0]:
            self._error(command, 501, "5.1.3", "Syntax: RCPT TO:<address>")
            return
        path, words = split
        if self._parameters(command, words) is None:
            return
        self._offered_recipients += 1
        if self._offered_recipients > self.rules.max_recipients:
            if self._offered_recipients == self.rules.max_recipients + 1:
                self._fault(CLIENT, FaultKind.TOO_MANY_RECIPIENTS, str(self.rules.max_recipients))
            if self._offered_recipients > 10 * self.rules.max_recipients:
                self._reply(command, "refused", "421")
                self._fail(Trouble.TOO_MANY_ERRORS)
                return
            self._answer(command, 452, "4.5.3", "Too many recipients", "too_many_recipients")
            return
        line = b"RCPT TO:<" + path + b">" + b"".join(b" " + word for word in words) + b"\r\n"
        self._relay(command, line, partial(self._r_rcpt, text_of(path)))

    def _r_rcpt(self, recipient: str, entry: Entry[Handler], reply: Reply | None) -> None:
        assert reply is not None
        if 250 <= reply.code < 260 and self._envelope is not None:
            self._envelope.recipients.append(recipient)
        self._pass(entry, reply)

    # -- ends --------------------------------------------------------------

    def _at_end(self, side: Side) -> None:
        if side is UPSTREAM:
            if self._exchange and any(entry.kind == self._r_quit for entry in self._exchange):
                self._finish(CloseReason.QUIT, "the upstream closed without an answer to QUIT")
            else:
                self._fail(Trouble.UPSTREAM_FAULT)
        elif self.in_body[CLIENT] or not self._exchange:
            if self.in_body[CLIENT]:
                self._fault(CLIENT, FaultKind.TRUNCATED_BODY, "the client left within a message")
            self._finish(CloseReason.CLIENT_EOF)

    def _fail(self, trouble: Trouble) -> None:
        reason = REASONS.get(trouble, CloseReason.INTERNAL)
        if not self.handshaking[CLIENT] and not self._said_goodbye:
            if self._final_left and trouble in _LOST:
                # RFC 1047: the message may or may not have been taken; a repeated one is the
                # smaller evil.
                words = b"451 4.4.2 Lost the mail server before its answer, try again later\r\n"
                self._send(CLIENT, words * self._final_left)
            else:
                self._send(CLIENT, self._words(trouble))
        self._finish(reason, str(trouble))

    def _settle_all(self) -> None:
        self._forget_login("unfinished")
        unanswered = [self._current, *(entry.command for entry in self._exchange.drain()), self._data_command]
        self._data_command = None
        settled = set()
        for command in unanswered:
            if command is not None and command.serial not in settled:
                settled.add(command.serial)
                self._reply(command, "unanswered", "")

    def _keep_upstream(self) -> None:
        if (self.in_body[CLIENT] or self._deciding) and not self._streaming and not self._exchange:
            self._relay(None, b"NOOP\r\n", self._swallow)

    def _stop_when_quiet(self) -> None:
        busy = self._exchange or self.in_body[CLIENT] or self._deciding or self._sending or self._login
        if busy:
            self._stopping = True
        else:
            self._fail(Trouble.SHUTDOWN)

    _handlers: ClassVar[dict[bytes, Callable[[SmtpEngine, bytes], None]]] = {
        b"HELO": _c_helo,
        b"EHLO": _c_ehlo,
        b"LHLO": _c_lhlo,
        b"STARTTLS": _c_starttls,
        b"AUTH": Logins._c_auth,
        b"MAIL": _c_mail,
        b"RCPT": _c_rcpt,
        b"DATA": Bodies._c_data,
        b"BDAT": Bodies._c_bdat,
        b"RSET": _c_rset,
        b"NOOP": _c_noop,
        b"HELP": _c_help,
        b"VRFY": _c_vrfy,
        b"EXPN": _c_expn,
        b"QUIT": _c_quit,
        b"SEND": partial(_c_obsolete, verb="SEND"),
        b"SOML": partial(_c_obsolete, verb="SOML"),
        b"SAML": partial(_c_obsolete, verb="SAML"),
        b"TURN": partial(_c_struck, verb="TURN"),
        b"ETRN": partial(_c_struck, verb="ETRN"),
        b"ATRN": partial(_c_struck, verb="ATRN"),
        b"BURL": partial(_c_struck, verb="BURL"),
        b"XCLIENT": partial(_c_struck, verb="XCLIENT"),
        b"XFORWARD": partial(_c_struck, verb="XFORWARD"),
    }


_LOST = (Trouble.UPSTREAM_FAULT, Trouble.UPSTREAM_TIMEOUT)


class LmtpEngine(SmtpEngine):
    """LMTP (RFC 2033): LHLO, and behind the final dot one reply for each accepted recipient."""

    protocol: ClassVar[str] = "lmtp"
    hello = "LHLO"
    _hello_verbs: ClassVar[tuple[str, ...]] = ("LHLO",)

    @property
    def _final_count(self) -> int:
        return len(self._envelope.recipients) if self._envelope is not None else 1
