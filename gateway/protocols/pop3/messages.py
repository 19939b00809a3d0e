"""Messages on their way to the client: streamed and measured, or held for a verdict."""

from __future__ import annotations

import re
from functools import partial

from ...core.exchange import Entry
from ...core.outcome import Action, Outcome
from ...core.steps import CLIENT, UPSTREAM, BodyStart, Framing, SendBody, Side, Stage
from ...core.text import shown
from .conversation import Conversation, Handler
from .grammar import number

_OCTETS = re.compile(rb"\+OK +(\d{1,15}) +octets", re.IGNORECASE)


class Messages(Conversation):
    """The part of the engine that gives messages, and lets none be deleted that was not given."""

    # -- commands ----------------------------------------------------------

    def _c_retr(self, rest: bytes, verb: str = "RETR") -> None:
        self._sync = self._sync or Stage[verb] in self.rules.hold
        command = self._command(verb, f"{verb} {shown(rest)}" if rest else verb)
        line = verb.encode() + (b" " + rest if rest else b"")
        self._relay(command, line, partial(self._r_message, verb, rest))

    def _c_top(self, rest: bytes) -> None:
        """TOP shows a message in part, or with enough lines whole: where RETR is judged, TOP is too."""
        if Stage.RETR not in self.rules.hold or not self.rules.judge_top:
            self._c_retr(rest, "TOP")
            return
        command = self._command("TOP", f"TOP {shown(rest)}")
        words = rest.split()
        if len(words) != 2 or not all(word.isdigit() and len(word) < 10 for word in words):
            self._error(command, "TOP takes a message and a number of lines")
            return
        self._sync = True
        handler: Handler = partial(self._r_message, "RETR", words[0], lines=int(words[1]))
        self._relay(command, b"RETR " + words[0], handler)

    def _c_dele(self, rest: bytes) -> None:
        if number(rest) not in self._undelivered:
            self._plain(rest, "DELE")
            return
        command = self._command("DELE", f"DELE {shown(rest)}")
        # No error of the client's: it can't have known.
        self._answer(command, "-ERR [SYS/TEMP] The message was not delivered, so it is kept", "undelivered")

    def _plain(self, rest: bytes, verb: str) -> None:
        raise NotImplementedError

    # -- replies -----------------------------------------------------------

    def _r_message(
        self, verb: str, rest: bytes, entry: Entry[Handler], line: bytes, lines: int | None = None
    ) -> None:
        if not line.startswith(b"+OK"):
            self._pass(entry, line)
            return
        stage = Stage[verb]
        held = stage in self.rules.hold
        octets = _OCTETS.match(line)
        shown_number = shown(rest.split(b" ")[0], 20)
        start = BodyStart(
            UPSTREAM,
            stage,
            held,
            partial=stage is Stage.TOP,
            size=int(octets.group(1)) if octets and stage is Stage.RETR else None,
            ident=f"message {shown_number}",
        )
        if held:
            self._body, self._body_line = entry, line if lines is None else b"+OK top of message follows\r\n"
            self._body_lines = lines
            self._body_number = number(rest)
            self._begin_body(start)
            self._begin_lines(self._take_held, watch_newlines=True)
            self._body_newlines = self._decoder
        else:
            self._pass(entry, line)
            self._begin_body(start)
            self._begin_lines(self._take_streamed)

    def _take_streamed(self, wire: bytes, content: bytes, finished: bool) -> None:
        self._body_data(UPSTREAM, content)
        self._send(CLIENT, wire)
        if finished:
            self._end_body(UPSTREAM)

    def _take_held(self, _wire: bytes, content: bytes, finished: bool) -> None:
        self._body_data(UPSTREAM, content)
        if finished:
            self._deciding = True
            self._end_body(UPSTREAM)

    def _decided(self, source: Side, outcome: Outcome) -> None:
        entry, line = self._body, self._body_line
        watched, self._body_newlines = self._body_newlines, None
        assert entry is not None and entry.command is not None and watched is not None
        self._deciding = False
        self._body = None
        passed = outcome.action in (Action.PASS, Action.MODIFY)
        lines = self._body_lines
        if outcome.action is Action.DEFER or not (passed or outcome.notice):
            if lines is None:
                self._undelivered.add(self._body_number)
            code = "[SYS/TEMP]" if outcome.action is Action.DEFER else "[SYS/PERM]"
            reason = shown(outcome.reason, 200) or "The message can't be delivered"
            reply = f"-ERR {code} {reason}\r\n".encode()
            self._send(CLIENT, reply)
            self._reply(entry.command, "refused", reply)
            self._turn()
            return
        if lines is None:
            self._undelivered.discard(self._body_number)
        self._body_newlines = watched
        self._note_size(self._body_number, outcome)
        if outcome.action is Action.MODIFY and (watched.bare_cr or watched.bare_lf or watched.nul):
            # Mending the newlines will change the size: better no count than a wrong one.
            line = _OCTETS.sub(b"+OK message follows", line, count=1)
        elif outcome.action is not Action.PASS:
            size = outcome.size + (0 if outcome.ends_with_newline else 2)
            line = _OCTETS.sub(b"+OK %d octets" % size, line, count=1)
        self._send(CLIENT, line)
        self._reply(entry.command, "ok", line)
        self._sending = True
        normalise = outcome.action is not Action.PASS
        self._emit(SendBody(CLIENT, Framing.DOTS, normalise=normalise, lines=lines))

    def _note_size(self, one: bytes, outcome: Outcome) -> None:
        """Remember how many octets the client gets of a message."""
        watched, self._body_newlines = self._body_newlines, None
        assert watched is not None
        mended = watched.bare_cr or watched.bare_lf or watched.nul
        if not self.rules.exact_sizes or outcome.action is Action.DEFER:
            return
        if (outcome.action is Action.MODIFY and mended) or not outcome.size:
            self._sizes[one] = 0  # nobody can tell before it is sent: the upstream's size has to do
            return
        size = self._sizes[one] = outcome.size + (0 if outcome.ends_with_newline else 2)
        if self._unique and one in self._unique:
            self.sizes.keep(self._unique[one], size)

    def _body_sent(self, side: Side) -> None:
        self._sending = False
        self._turn()
