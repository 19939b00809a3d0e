"""Messages: DATA (RFC 5321 4.1.1.4) and BDAT (RFC 3030), held for a verdict or streamed through.

Held: the gateway answers 354 (or 250 to a chunk) itself, once a recipient was accepted; the
upstream hears of the message only after the verdict, so that a reject is clean, and the
client's final reply is the upstream's own.  Streamed: the upstream's 354 is awaited, and the
body is decoded and laid on the wire anew, so that no look-alike of the end can pass.
"""

from __future__ import annotations

from ...core.exchange import Entry
from ...core.outcome import Action, Outcome
from ...core.steps import (
    CLIENT,
    UPSTREAM,
    BodyStart,
    CommandSeen,
    Framing,
    Refused,
    SendBody,
    Stage,
)
from ...core.text import shown
from ...core.trouble import CloseReason, FaultKind, Trouble
from ...wire.dots import DotDecoder, DotEncoder, bare_newlines
from .conversation import Conversation, Handler, Reply

#: A chunk of more octets can't be meant: the framing is lost.
MAX_CHUNK_DIGITS = 19


class Bodies(Conversation):
    """The part of the engine that takes messages in and sends them on."""

    _data_command: CommandSeen | None = None  # the DATA or BDAT that awaits its final reply
    _decoder: DotDecoder | None = None
    _encoder: DotEncoder | None = None  # streaming DATA: lays the body on the wire anew
    _chunk_left = -1  # octets of the BDAT chunk still to come; -1 outside of one
    _chunk_last = False
    _chunk_size = 0
    _chunk_refused = ""  # the reply that a chunk being thrown away will get
    _chunk_streamed = False
    _by_chunks = False  # the message in hand came by BDAT
    _dirty = False  # it holds a bare newline
    _size = 0
    _refusal: tuple[int, str, str, str] | None = None  # of a body that is read to its end only
    _final_left = 0  # LMTP: replies still to come
    _final_results: list[str]

    # -- DATA --------------------------------------------------------------

    def _c_data(self, rest: bytes) -> None:
        command = self._command("DATA", "DATA")
        if rest.strip():
            self._error(command, 501, "5.5.4", "Syntax: DATA")
            return
        if self._by_chunks:
            self._error(command, 503, "5.5.1", "DATA behind BDAT")  # RFC 3030 2
            return
        self._wait_turn(command, self._data_turn)

    def _data_turn(self, entry: Entry[Handler], _reply: Reply | None) -> None:
        """Every RCPT before the DATA is answered: take the message, or refuse it."""
        command = entry.command
        assert command is not None
        if self._envelope is None:
            self._error(command, 503, "5.5.1", "Need MAIL command")
        elif not self._envelope.recipients:
            self._error(command, 554, "5.5.1", "No valid recipients")
        elif Stage.DATA in self.rules.hold:
            self._data_command = command
            self._send(CLIENT, b"354 End data with <CR><LF>.<CR><LF>\r\n")
            self._start_body(DotDecoder(), held=True)
        else:
            self._data_command = command
            self._sync = True
            self._relay(command, b"DATA\r\n", self._r_data_streamed)

    def _r_data_streamed(self, entry: Entry[Handler], reply: Reply | None) -> None:
        assert reply is not None
        if reply.code != 354:
            self._data_command = None
            self._pass_final(entry, reply)
            return
        self._send(CLIENT, reply.raw)
        self._encoder = DotEncoder(normalise=self._newlines == "normalise")
        self._start_body(DotDecoder(), held=False)

    def _start_body(self, decoder: DotDecoder | None, held: bool) -> None:
        self._decoder = decoder
        self._size = 0
        self._dirty = False
        self._refusal = None
        self._begin_body(BodyStart(CLIENT, Stage.DATA, held, envelope=self._envelope))

    def _take_data(self) -> None:
        """Take octets of a DATA body."""
        decoder = self._decoder
        assert decoder is not None
        content = decoder.feed(self.heard[CLIENT].take_all())
        if content:
            self._check_newlines(decoder)
            self._take_content(content)
        if self.ended:
            return
        if decoder.finished:
            self._check_newlines(decoder)
            if decoder.rest:
                self.heard[CLIENT].push_back(decoder.rest)
            self._decoder = None
            self._body_complete()

    def _take_content(self, content: bytes) -> None:
        self._size += len(content)
        if self._refusal is not None:
            return
        limit = self._limit
        if limit and self._size > limit:
            self._fault(CLIENT, FaultKind.MESSAGE_TOO_LARGE, f"more than {limit} octets")
            self._refuse_body(552, "5.3.4", "Message size exceeds fixed limit", "message_too_large")
            return
        self._body_data(CLIENT, content)
        if self._encoder is not None:
            wire = self._encoder.feed(content)
            if wire:
                self._send(UPSTREAM, wire)
        elif self._chunk_streamed:
            self._send(UPSTREAM, content)

    @property
    def _newlines(self) -> str:
        """What is done about bare newlines in this session: "reject", "normalise", "pass"."""
        mode = self.rules.bare_newlines
        if mode != "auto":
            return mode
        return "normalise" if self._authenticated or self.record.trusted_network else "reject"

    @property
    def _limit(self) -> int:
        return self._offer.size if self._offer is not None else self.rules.max_message_size

    def _check_newlines(self, decoder: DotDecoder) -> None:
        """Refuse or note bare newlines and whatever looks like an end and is none."""
        if not (decoder.bare_cr or decoder.bare_lf or decoder.lookalike):
            return
        mode = self._newlines
        first = not self._dirty
        self._dirty = True
        if first:
            if decoder.bare_lf:
                self._fault(CLIENT, FaultKind.BARE_LF, "in a message")
            if decoder.bare_cr:
                self._fault(CLIENT, FaultKind.BARE_CR, "in a message")
        if self._refusal is not None:
            return
        if decoder.lookalike and mode != "normalise":
            self._fault(CLIENT, FaultKind.END_OF_DATA_LOOKALIKE)
            self._refuse_body(550, "5.6.11", "Line ends that are not CRLF around a lone dot", "bare_newlines")
        elif mode == "reject" and (decoder.bare_cr or decoder.bare_lf):
            self._refuse_body(550, "5.6.11", "Bare <CR> or <LF> in message", "bare_newlines")

    def _refuse_body(self, code: int, enhanced: str, text: str, reason: str) -> None:
        """Refuse the message: its octets are read to the true end, and thrown away."""
        self._refusal = (code, enhanced, text, reason)
        self._abort_body(CLIENT)
        self.in_body[CLIENT] = True  # its rest is still to come
        self._encoder = None

    # -- BDAT --------------------------------------------------------------

    def _c_bdat(self, rest: bytes) -> None:
        command = self._command("BDAT", "BDAT " + shown(rest, 40))
        words = rest.split()
        count = words[0] if words else b""
        last = len(words) == 2 and words[1].upper() == b"LAST"
        if not count.isdigit() or len(words) > 2 or (len(words) == 2 and not last):
            # Where the chunk would end nobody knows: what follows is read as commands, and the
            # limit of errors ends it soon.
            self._fault(CLIENT, FaultKind.BAD_CHUNK, rest)
            self._error(command, 501, "5.5.4", "Syntax: BDAT size [LAST]")
            return
        if len(count) > MAX_CHUNK_DIGITS:
            self._fault(CLIENT, FaultKind.BAD_CHUNK, rest)
            self._error(command, 552, "5.3.4", "Chunk too large")
            if not self.ended:
                self._finish(CloseReason.PROTOCOL_ERROR, "chunk size beyond measure")
            return
        self._chunk_size = int(count)
        self._chunk_last = last
        self._wait_turn(command, self._bdat_turn)

    def _bdat_turn(self, entry: Entry[Handler], _reply: Reply | None) -> None:
        command = entry.command
        assert command is not None
        self._data_command = command
        self._chunk_left = self._chunk_size
        self._chunk_refused = ""
        offer = self._offer
        if offer is None or not any(line == "CHUNKING" for line in offer.lines):
            self._fault(CLIENT, FaultKind.STRUCK_EXTENSION_USED, "BDAT")
            self._emit(Refused("BDAT", "not_offered"))
            self._chunk_refused = "502 5.5.1 Command not implemented\r\n"
        elif self._envelope is None:
            self._chunk_refused = "503 5.5.1 Need MAIL command\r\n"
        elif not self._envelope.recipients:
            self._chunk_refused = "554 5.5.1 No valid recipients\r\n"
        elif not self._by_chunks:
            self._by_chunks = True
            held = Stage.DATA in self.rules.hold
            self._chunk_streamed = not held
            self._start_body(None, held)
        self.in_body[CLIENT] = True
        if self._chunk_streamed and not self._chunk_refused and self._refusal is None:
            last = b" LAST\r\n" if self._chunk_last else b"\r\n"
            self._send(UPSTREAM, b"BDAT %d%s" % (self._chunk_size, last))
        if self._chunk_left == 0:
            self._chunk_complete()

    def _take_chunk(self) -> None:
        """Take octets of a BDAT chunk; those of a refused one are thrown away."""
        content = self.heard[CLIENT].take(self._chunk_left)
        self._chunk_left -= len(content)
        if not self._chunk_refused:
            # A CR at the chunk's end is judged with the octet behind it only by the upstream:
            # chunks are rarely cut there, and a wrong "bare" would refuse good mail.
            if not self._dirty and self._refusal is None and self._envelope is not None:
                binary = self._envelope.parameters.get("BODY", "").upper() == "BINARYMIME"
                if not binary and self._chunk_has_bare_newline(content):
                    self._dirty = True
                    self._fault(CLIENT, FaultKind.BARE_LF, "in a BDAT chunk")
                    if self._newlines == "reject":
                        self._refuse_body(550, "5.6.11", "Bare <CR> or <LF> in message", "bare_newlines")
            self._take_content(content)
        if self._chunk_left == 0 and not self.ended:
            self._chunk_complete()

    _chunk_tail = b""

    def _chunk_has_bare_newline(self, content: bytes) -> bool:
        data = self._chunk_tail + content
        self._chunk_tail = b"\r" if data[-1:] == b"\r" else b""
        return any(bare_newlines(data[:-1] if self._chunk_tail else data))

    def _chunk_complete(self) -> None:
        """A chunk is whole: answer it, or, if it is the last one, decide."""
        command = self._data_command
        assert command is not None
        self._chunk_left = -1
        if self._chunk_refused:
            self.in_body[CLIENT] = False
            self._data_command = None
            if self._chunk_last:
                self._drop_message()
            reply = self._chunk_refused
            self._chunk_refused = ""
            self._errors += 1
            self._send(CLIENT, reply.encode())
            self._reply(command, "refused", reply)
            if self._errors > self.rules.max_errors:
                self._fail(Trouble.TOO_MANY_ERRORS)
            return
        if self._chunk_last:
            self._chunk_tail = b""
            self._body_complete()
            return
        self.in_body[CLIENT] = False
        if self._refusal is not None or not self._chunk_streamed:
            self._data_command = None
            if self._refusal is not None:
                code, enhanced, text, _ = self._refusal
                reply = f"{code} {enhanced} {text}\r\n"
            else:
                reply = f"250 2.0.0 {self._chunk_size} octets received\r\n"
            self._send(CLIENT, reply.encode())
            self._reply(command, "ok" if self._refusal is None else "refused", reply)
        else:
            self._data_command = None
            self._sync = True
            self._exchange.expect(Entry(self._r_chunk, command))

    def _r_chunk(self, entry: Entry[Handler], reply: Reply | None) -> None:
        """The upstream's answer to a chunk that was streamed, not the last."""
        assert reply is not None
        if reply.code >= 400:
            # RFC 3030 2: the message is lost; what follows until RSET is refused.
            self._refusal = (503, "5.5.1", "Message already refused", "chunk_refused")
        self._pass(entry, reply)

    # -- the end of a body -------------------------------------------------

    def _body_complete(self) -> None:
        """The last octet of the message is here."""
        command = self._data_command
        assert command is not None
        self.in_body[CLIENT] = False
        if self._refusal is not None:
            code, enhanced, text, reason = self._refusal
            streamed = self._streaming
            self._data_command = None
            self._emit(Refused(command.verb, reason))
            self._final_reply(command, f"{code} {enhanced} {text}\r\n", "refused")
            self._drop_message()
            if streamed:
                # The upstream has a part of it: only its end without a final dot undoes that.
                self._finish(CloseReason.POLICY, text)
            else:
                self._rset_upstream()
            return
        if self._streaming:
            if self._encoder is not None:
                self._send(UPSTREAM, self._encoder.end())
                self._encoder = None
            self._end_body(CLIENT)
            self._expect_final(command)
            return
        self._deciding = True
        self._end_body(CLIENT)

    @property
    def _streaming(self) -> bool:
        return Stage.DATA not in self.rules.hold

    def _decided(self, source: object, outcome: Outcome) -> None:
        command = self._data_command
        assert command is not None
        self._deciding = False
        if outcome.action in (Action.PASS, Action.MODIFY):
            self._send_on(command, outcome)
            return
        self._data_command = None
        reason = shown(outcome.reason, 200) or "Message refused"
        if outcome.action is Action.DEFER:
            reply, result = f"451 4.7.1 {reason}\r\n", "temp"
        elif outcome.action is Action.REJECT or not self._takes(outcome):
            reply, result = f"550 5.7.1 {reason}\r\n", "refused"
        else:
            reply, result = "250 2.0.0 Ok\r\n", "ok"
        self._final_reply(command, reply, result)
        self._drop_message()
        self._rset_upstream()

    def _takes(self, outcome: Outcome) -> bool:
        """Tell whether the client is told that a message was taken that goes no further."""
        if outcome.action is Action.QUARANTINE and self.rules.quarantine_reply != "accept":
            return False
        return outcome.accept

    def _send_on(self, command: CommandSeen, outcome: Outcome) -> None:
        """Send the decided message upstream: by BDAT if it takes that, by DATA otherwise."""
        mend = self._dirty and self._newlines == "normalise"
        chunking = self._offer is not None and self._offer.has("CHUNKING")
        self._sending = True
        if chunking and outcome.size and not mend:
            self._send(UPSTREAM, b"BDAT %d LAST\r\n" % outcome.size)
            self._emit(SendBody(UPSTREAM, Framing.RAW))
            self._expect_final(command)
        else:
            self._mend = mend or outcome.action is Action.MODIFY or self._by_chunks
            self._relay(command, b"DATA\r\n", self._r_data_held)

    _mend = False

    def _r_data_held(self, entry: Entry[Handler], reply: Reply | None) -> None:
        assert reply is not None
        if reply.code == 354:
            self._emit(SendBody(UPSTREAM, Framing.DOTS, normalise=self._mend))
            assert entry.command is not None
            self._expect_final(entry.command)
            return
        self._sending = False
        if reply.code < 400:
            self._broken(FaultKind.UNEXPECTED_REPLY, reply.lines[0])
            return
        self._data_command = None
        self._abort_body(CLIENT)
        self._pass_final(entry, reply)

    def _body_sent(self, side: object) -> None:
        self._sending = False

    # -- the final reply ---------------------------------------------------

    def _expect_final(self, command: CommandSeen) -> None:
        self._sync = True
        self._final_left = self._final_count
        self._final_results = []
        for _ in range(self._final_left):
            self._exchange.expect(Entry(self._r_final, command))

    @property
    def _final_count(self) -> int:
        """How many replies follow the final dot: one, in LMTP one for each recipient."""
        return 1

    def _r_final(self, entry: Entry[Handler], reply: Reply | None) -> None:
        assert reply is not None and entry.command is not None
        if 300 <= reply.code < 400:
            self._broken(FaultKind.UNEXPECTED_REPLY, reply.lines[0])
            return
        self._send(CLIENT, reply.raw)
        self._final_results.append(reply.result)
        self._final_left -= 1
        if self._final_left == 0:
            self._data_command = None
            self._junk = 0
            worst = max(self._final_results, key=("ok", "temp", "perm").index)
            self._reply(entry.command, worst, reply.lines[0])
            self._drop_message()

    def _pass_final(self, entry: Entry[Handler], reply: Reply) -> None:
        """The upstream refused DATA: its words are the client's final reply."""
        assert entry.command is not None
        if reply.code < 400:
            self._broken(FaultKind.UNEXPECTED_REPLY, reply.lines[0])
            return
        self._final_reply(entry.command, reply.raw.decode("latin-1"), reply.result)
        self._drop_message()
        self._rset_upstream()

    def _final_reply(self, command: CommandSeen, reply: str, result: str) -> None:
        self._send(CLIENT, reply.encode("latin-1", "replace") * self._final_count)
        self._reply(command, result, reply)

    def _drop_message(self) -> None:
        """The transaction is over, one way or the other."""
        self._refusal = None
        self._encoder = None
        self._by_chunks = self._chunk_streamed = False
        self._dirty = False
        self._reset_transaction()

    def _rset_upstream(self) -> None:
        """The upstream still has the envelope of a message that it will not get."""
        self._relay(None, b"RSET\r\n", self._swallow)
