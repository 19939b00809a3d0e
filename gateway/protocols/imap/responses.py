"""The upstream's responses: framed with their literals, filtered where they must be, streamed.

A literal's octets are never looked at as responses.  Status responses (OK, NO, BAD, BYE,
PREAUTH) end in text and hold no literal, whatever their text looks like (RFC 9051 7.1).
"""

from __future__ import annotations

from ...core.steps import CLIENT, UPSTREAM, BodyStart, LoginSeen, Stage
from ...core.text import shown
from ...core.trouble import CloseReason, FaultKind, Trouble
from ...wire.lines import LineEnd, LineTooLong
from ...wire.literals import Literal, literal_at_end
from .conversation import Flight, Incoming
from .fetching import Fetching
from .grammar import (
    BODY_ITEM,
    CAPABILITY_CODE,
    FETCH,
    REFERRAL_CODE,
    RESPONSE_LIMIT,
    UID_ITEM,
    UIDVALIDITY_CODE,
)

_STATUS = frozenset({b"OK", b"NO", b"BAD", b"BYE", b"PREAUTH"})


class Responses(Fetching):
    """The part of the engine that hears the upstream."""

    _response_head = b""  # the first line of the response that is under way
    _in_message = False  # the literal that is coming is a message, or a piece of one

    def _hear_upstream(self) -> None:
        heard = self.heard[UPSTREAM]
        if self._response_left:
            data = heard.take(self._response_left)
            self._response_left -= len(data)
            if self._collected is not None:
                self._view_literal(data)
                return
            if self._in_message:
                self._body_data(UPSTREAM, data)
            self._send(CLIENT, data)
            if not self._response_left:
                self._literal_over()
            return
        try:
            line = heard.line(RESPONSE_LIMIT)
        except LineTooLong:
            self._broken(FaultKind.REPLY_TOO_LONG, heard.peek(60))
            return
        if line is None:
            return
        if heard.ended is LineEnd.BARE_LF:
            line = line[:-1] + b"\r\n"
        if not self._greeted:
            self._prologue_line(line)
        elif self._collected is not None:
            self._view_line(line, literal_at_end(line[:-2]))
        elif self._mid_response:
            self._continue_response(line)
        elif line[:2] == b"* ":
            self._untagged(line)
        elif line[:1] == b"+":
            self._continuation(line)
        else:
            self._tagged(line)

    # -- untagged ----------------------------------------------------------

    def _untagged(self, line: bytes) -> None:
        literal = literal_at_end(line[:-2]) if line[-3:-2] == b"}" else None
        if self._is_viewing and line[2:3].isdigit():
            if self._view_line(line, literal):
                return
            line = self._without_uid(line)
        if literal is not None:
            word = line[2:12].split(b" ", 1)[0].upper()
            if word not in _STATUS:
                self._response_head = line
                self._begin_literal(line, literal)
                return
        initial = line[2:3]
        if initial in b"LlXx" and self._hear_list(line):
            return
        if initial in b"CcOoNnBbPp":  # only these can be CAPABILITY, OK, NO, BAD, BYE, PREAUTH
            word = line[2:].split(b" ", 1)[0].strip().upper()
            if word == b"CAPABILITY":
                line = b"* CAPABILITY " + self._filter(line[13:-2]) + b"\r\n"
            elif word in _STATUS:
                line = self._status(word, line)
        self._send(CLIENT, line)

    def _status(self, word: bytes, line: bytes) -> bytes:
        if b"[" in line:
            line = self._filter_code(line)
            line = self._strip_referral(line)
            if (found := UIDVALIDITY_CODE.search(line)) is not None:
                self._validity = int(found.group(1))
        if word == b"BYE":
            self._said_goodbye = True
        return line

    def _strip_referral(self, line: bytes) -> bytes:
        stripped = REFERRAL_CODE.sub(b"", line)
        if stripped != line:
            self._fault(UPSTREAM, FaultKind.REFERRAL, line)
        return stripped

    # -- literals ----------------------------------------------------------

    def _begin_literal(self, line: bytes, literal: Literal) -> None:
        """A literal begins; what stands before it tells what it is."""
        if literal.size >= 1 << 62:
            self._broken(FaultKind.LITERAL_TOO_LARGE, line[-60:])
            return
        self._send(CLIENT, line)
        self._mid_response = True
        self._response_left = literal.size
        found = FETCH.match(self._response_head) if self._response_head[2:3].isdigit() else None
        item = BODY_ITEM.search(literal.before, max(0, len(literal.before) - 4200)) if found else None
        if found is not None and item is not None:
            section, partial, suffix = item.groups()
            name = (section or b"").decode("ascii", "replace").upper()
            if suffix:
                name = suffix[1:].decode().upper()
            uid = UID_ITEM.search(self._response_head) or UID_ITEM.search(line)
            ident = f"uid {uid.group(1).decode()}" if uid else f"message {found.group(1).decode()}"
            self._in_message = True
            self._begin_body(
                BodyStart(
                    UPSTREAM,
                    Stage.FETCH,
                    held=False,
                    section=shown(name, 80),
                    partial=partial is not None,
                    size=literal.size,
                    mailbox=self._mailbox,
                    ident=ident,
                )
            )
        if not literal.size:
            self._literal_over()

    def _literal_over(self) -> None:
        if self._in_message:
            self._in_message = False
            self._end_body(UPSTREAM)

    def _continue_response(self, line: bytes) -> None:
        """The line behind a literal: the end of the response, or another literal."""
        literal = literal_at_end(line[:-2]) if line[-3:-2] == b"}" else None
        if literal is not None:
            self._begin_literal(line, literal)
        else:
            self._send(CLIENT, line)
            self._response_over()

    # -- continuations -----------------------------------------------------

    def _continuation(self, line: bytes) -> None:
        """A continuation request: for a literal, a challenge, or IDLE, by state."""
        plus, self._plus = self._plus, None
        if plus is None:
            self._broken(FaultKind.UNEXPECTED_CONTINUATION, line)
        else:
            plus(line)

    # -- tagged ------------------------------------------------------------

    def _tagged(self, line: bytes) -> None:
        tag, _, rest = line.partition(b" ")
        flight = self._flight.pop(tag, None)
        if flight is None:
            self._broken(FaultKind.UNKNOWN_TAG, line)
            return
        if flight.done is not None:
            flight.done(rest)
            self._view_when_alone()
            return
        status = rest[:4].split(b" ", 1)[0].strip().upper()
        if status not in (b"OK", b"NO", b"BAD"):
            self._flight[tag] = flight  # to be settled as unanswered
            self._broken(FaultKind.BAD_REPLY, line)
            return
        if self._breaks_off(tag):
            self._flight[tag] = flight
            self._broken(FaultKind.BAD_REPLY, line)
            return
        self._command_over(tag, flight, status)
        self._tell_verb(flight, status, rest)
        if self._refusal:
            text, self._refusal = self._refusal, ""
            if flight.command is not None:
                self._error(tag, flight.command, text, self._refusal_reason)
            return
        if self._forbidden:
            text = f"NO [AUTHORIZATIONFAILED] {self._forbidden}"
            if flight.command is not None:
                self._tell_tagged(tag, flight.command, text, "plugin")
            self._finish(CloseReason.POLICY, self._forbidden)
            return
        viewed = self._viewing if flight.argument == "view" else None
        if viewed is not None:
            self._viewing = None
            rest = self._ended_with(viewed, rest)
            status = rest[:3].strip().upper()
        if b"[" in rest:
            rest = self._strip_referral(self._filter_code(rest))
        line = tag + b" " + rest
        self._send(CLIENT, line)
        if flight.command is not None:
            self._reply(flight.command, status.decode().lower(), rest)
        if flight.verb in ("LOGIN", "AUTHENTICATE") and status == b"OK":
            self._learn_uses()
        if flight.verb == "LOGOUT" and status == b"OK":
            self._said_goodbye = True
            self._finish(CloseReason.QUIT)
        elif self._stopping:
            self._stop_when_quiet()
        else:
            self._view_when_alone()

    def _breaks_off(self, tag: bytes) -> bool:
        """Tell whether an answer comes between two messages of an APPEND, where none can."""
        held = self._held_append or self._incoming
        if held is None or held.tag != tag or held.mode != "hold":
            return False
        return self._plus is None and (held.following is not None or self._held_append is None)

    def _command_over(self, tag: bytes, flight: Flight, status: bytes) -> None:
        """Undo what waited for this command."""
        if self._waits_for == tag:
            self._waits_for = b""
            self._login_turn = False
        if self._idle_tag == tag:
            self._idle_tag = b""
        incoming = self._incoming
        if incoming is not None and incoming.tag == tag:
            self._answered_early(incoming)
        elif self._plus is not None and self._plus_tag == tag:
            self._plus = None
            if self._sending:  # our own APPEND was refused before its literal
                self._sending = False
                held, self._held_append = self._held_append, None
                self._abort_body(CLIENT)
                if held is not None:
                    self._throw_away_following(held)
        elif self._held_append is not None and self._held_append.tag == tag:
            self._held_append.answered = True  # before its literal was sent: settled all the same

    def _answered_early(self, incoming: object) -> None:
        raise NotImplementedError

    def _throw_away_following(self, incoming: Incoming) -> None:
        raise NotImplementedError

    _refusal = ""
    _refusal_reason = ""

    def _tell_verb(self, flight: Flight, status: bytes, rest: bytes) -> None:
        """Follow what an answer changes: the login, the selected mailbox."""
        verb = flight.verb
        if verb in ("LOGIN", "AUTHENTICATE"):
            self._login_over(status, rest)
        elif verb in ("SELECT", "EXAMINE"):
            self._mailbox = flight.argument if status == b"OK" else ""
            self._selections += 1
        elif verb in ("CLOSE", "UNSELECT") and status == b"OK":
            self._mailbox = ""

    def _login_over(self, status: bytes, rest: bytes) -> None:
        raise NotImplementedError

    # -- the prologue ------------------------------------------------------

    _prologue_names: bytes | None = None

    def _prologue_line(self, line: bytes) -> None:
        """Hear the upstream before the client is greeted; nothing of it is passed on."""
        if self._mid_response or line[:1] == b"+":
            self._broken(FaultKind.UNEXPECTED_CONTINUATION, line)
            return
        if line[:2] != b"* ":
            tag, _, rest = line.partition(b" ")
            flight = self._flight.pop(tag, None)
            if flight is None or flight.done is None:
                self._broken(FaultKind.UNKNOWN_TAG, line)
            else:
                flight.done(rest)
            return
        word = line[2:].split(b" ", 1)[0].strip().upper()
        if word == b"CAPABILITY":
            self._prologue_names = line[13:-2]
        elif not self._greeting_seen:
            self._greeting(word, line)
        # Anything else before the greeting is over is not carried on.

    _greeting_seen = False

    def _preauth_refused(self) -> bool:
        """Tell whether a session that is logged in before it begins is no good here."""
        if self.rules.cleartext_login == "refuse" and not self._protected:
            return True
        return self.gate.active and self.gate.attempt("", "preauth", True).refused

    def _greeting(self, word: bytes, line: bytes) -> None:

        self._greeting_seen = True
        if word == b"BYE":
            self._fault(UPSTREAM, FaultKind.BAD_REPLY, line)
            self._fail(Trouble.UPSTREAM_DOWN)
            return
        if word not in (b"OK", b"PREAUTH"):
            self._broken(FaultKind.BAD_REPLY, line)
            return
        code = CAPABILITY_CODE.search(line)
        if code is not None:
            self._prologue_names = code.group(1)
        text = CAPABILITY_CODE.sub(b"", line[2 + len(word) :]).strip()
        self._greeting_text = text or b"ready"
        wants_tls = self.rules.upstream_tls in ("starttls", "opportunistic") and not self.secure[UPSTREAM]
        if word == b"PREAUTH":
            unprotected = self._preauth_refused()
            if (wants_tls and self.rules.upstream_tls == "starttls") or unprotected:
                self._fault(UPSTREAM, FaultKind.PREAUTH, line)
                self._fail(Trouble.UPSTREAM_TLS)
                return
            self._preauth = True
            wants_tls = False  # RFC 9051 6.2.1: not possible any more
        self._wants_tls = wants_tls
        if self._prologue_names is None:
            self._ask(b"CAPABILITY", "CAPABILITY", self._capabilities_known)
        else:
            self._capabilities_known(b"OK")

    _preauth = False
    _wants_tls = False

    def _capabilities_known(self, rest: bytes) -> None:
        names = self._prologue_names or b""
        if self._wants_tls:
            if b"STARTTLS" in names.upper().split():
                self._ask(b"STARTTLS", "STARTTLS", self._starttls_answered)
                return
            if self.rules.upstream_tls == "starttls":
                self._fault(UPSTREAM, FaultKind.STARTTLS_MISSING, "the upstream offers no STARTTLS")
                self._fail(Trouble.UPSTREAM_TLS)
                return
        self._introduce()

    def _starttls_answered(self, rest: bytes) -> None:
        if rest[:2].upper() != b"OK":
            self._fault(UPSTREAM, FaultKind.STARTTLS_REFUSED, rest)
            if self.rules.upstream_tls == "starttls":
                self._fail(Trouble.UPSTREAM_TLS)
            else:
                self._introduce()
        elif len(self.heard[UPSTREAM]):
            self._fault(UPSTREAM, FaultKind.INJECTED_BEFORE_TLS, self.heard[UPSTREAM].peek(60))
            self._fail(Trouble.UPSTREAM_TLS)
        else:
            self._prologue_names = None
            self._start_tls(UPSTREAM)

    def _upstream_secured(self) -> None:
        """RFC 9051 6.2.1: what was told before TLS is forgotten, and asked again."""
        self._wants_tls = False
        self._ask(b"CAPABILITY", "CAPABILITY", self._capabilities_known)

    def _introduce(self) -> None:
        """Tell the upstream who the client is, if so configured; then greet the client."""
        names = (self._prologue_names or b"").upper().split()
        if self.rules.forward_client != "id" or b"ID" not in names:
            self._greet()
            return
        record = self.record
        pairs = {
            "name": "mailgate",
            "x-originating-ip": record.client_address,
            "x-originating-port": str(record.client_port),
            "x-connected-ip": record.server_address,
            "x-connected-port": str(record.server_port),
            "x-session-ext-id": record.id,
        }
        text = " ".join(f'"{key}" "{value}"' for key, value in pairs.items() if value)
        self._ask(f"ID ({text})".encode(), "ID", lambda _rest: self._greet())

    def _greet(self) -> None:
        if self._preauth:
            self._logged_in = True
            self._emit(LoginSeen("preauth", "", "ok", False, False))
        word = b"PREAUTH" if self._preauth else b"OK"
        text = self._filter(self._prologue_names or b"")
        self._send(CLIENT, b"* " + word + b" [CAPABILITY " + text + b"] " + self._greeting_text + b"\r\n")
        self._greeted = True
