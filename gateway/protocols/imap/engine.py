"""The IMAP engine: a proxy's view of one IMAP session, from both ends.

Commands are matched to their answers by tag; many may be in flight.  What a ``+`` of the
upstream is for, and what the client's next octets are, is known by state alone:

    a literal under way    the octets announced are taken, whatever they look like
    a command begun        the line behind a literal ends it or announces another
    a challenge out        the next line is an answer to it, and secret
    IDLE on                the next line is DONE
    otherwise              the next line begins a command

Our own responses go in only between two whole ones of the upstream's.
"""

from __future__ import annotations

from typing import ClassVar

from ...core.engine import Route
from ...core.outcome import Outcome
from ...core.steps import CLIENT, UPSTREAM, Connect, Side
from ...core.trouble import CloseReason, FaultKind, Trouble
from .commands import Commands
from .conversation import MAX_IN_FLIGHT
from .grammar import VERBS
from .responses import Responses


class ImapEngine(Commands, Responses):
    """IMAP4rev1 and IMAP4rev2."""

    protocol: ClassVar[str] = "imap"
    verbs: ClassVar[frozenset[str]] = VERBS

    def _opened(self) -> None:
        self._emit(Connect())

    def _routed(self, route: Route) -> None:
        """The upstream speaks first."""

    def _understand(self, side: Side) -> None:
        if side is UPSTREAM:
            self._hear_upstream()
        else:
            self._hear_client()

    def _regulate(self) -> None:
        """Set the client's gate, and name what is awaited."""
        if not self._greeted:
            self.phase = "prologue"
            return
        idling = bool(self._idle_tag) and self._plus is None
        waiting = bool(self._waits_for) and not self._login_turn and self._incoming is None
        shut = self._deciding or self._sending or waiting or len(self._flight) >= MAX_IN_FLIGHT
        shut = shut or self._viewing is not None or self._learning
        if self._plus is not None:  # a literal, a challenge, IDLE: the upstream is to speak
            shut = True
        self.reading[CLIENT] = not shut
        self._gate_upstream()
        if idling:
            self.phase = "idle"
        elif self._deciding or self._response is not None:
            self.phase = "verdict"
        elif self.in_body[CLIENT] or self._sending or self._response_left:
            self.phase = "body"
        elif self._flight and not self._login_turn:
            self.phase = "reply"
        else:
            self.phase = "command" if self._logged_in else "login"

    def _decided(self, source: Side, outcome: Outcome) -> None:
        if source is CLIENT:
            self._append_decided(outcome)
        else:
            self._fetch_decided(outcome)

    def _body_sent(self, side: Side) -> None:
        if side is UPSTREAM:
            self._append_sent()
        else:
            self._view_sent()

    def _secured(self, side: Side) -> None:
        if side is UPSTREAM:
            self._upstream_secured()
            return
        # RFC 9051 6.2.1: nothing that was said before TLS counts; the client asks again.
        self._forget_login("aborted")
        self._filter(" ".join(sorted(self._offer.offered)).encode())

    def _at_end(self, side: Side) -> None:
        if side is UPSTREAM:
            if self._said_goodbye and not self._mid_response:
                self._finish(CloseReason.UPSTREAM_EOF, "the upstream said goodbye")
            else:
                self._fail(Trouble.UPSTREAM_FAULT)
        elif self._incoming is not None or not self._flight or self._idle_tag or self._login_turn:
            # What the upstream was promised, the rest of a command, will not come.
            if self.in_body[CLIENT]:
                self._fault(CLIENT, FaultKind.TRUNCATED_BODY, "the client left within a message")
            self._finish(CloseReason.CLIENT_EOF)

    def _keep_upstream(self) -> None:
        held = self._held_append or self._incoming
        if held is not None and held.begun:
            return  # the upstream is in the middle of a command
        if (self.held[CLIENT] or self._deciding) and not self._sending and self._plus is None:
            self._ask(b"NOOP", "NOOP", lambda _rest: None)

    def _stop_when_quiet(self) -> None:
        busy = (
            (self._flight and not self._idle_tag) or self.in_body[CLIENT] or self._deciding or self._sending
        )
        if busy or self._viewing is not None or self._mid_response or self._incoming is not None:
            self._stopping = True
        else:
            self._fail(Trouble.SHUTDOWN)
