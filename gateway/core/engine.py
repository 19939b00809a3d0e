"""The engine's contract: what every protocol keeps, and the machinery they share.

Inputs are the public methods; each returns the list of steps, in order.  The promises,
checked in every play:

1. Steps are performed in order, and an engine is never re-entered meanwhile.
2. Any cutting of the input gives the same steps, adjacent Sends and BodyDatas merged.
3. While ``reading[side]`` is false the session does not read that side.  What was read
   already stays in the engine's own buffer, which one read bounds.
4. One message in flight per source, so at most two spools a session.
5. Each CommandSeen gets exactly one ReplySeen.
6. After StartTls(side) no Send to that side before ``handshaken(side)``; any byte heard
   behind the command that starts TLS is an attack.  What was learnt before TLS is forgotten.
7. No step but an order's own bytes holds a secret.
8. No exception leaves an input: a bug becomes a Fault and an end of the session.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from ..wire.lines import LineBuffer
from ..wire.sasl import OWN_LOGINS, SaslReader
from .gate import ALLOWED, EVERY, OPEN_GATE, Gate, Need, Ruling
from .guard import NO_GUARD, Guard
from .masking import LOGIN_VERBS, Masking, status, unknown
from .outcome import Outcome
from .record import SessionRecord
from .rules import Rules
from .steps import (
    CLIENT,
    UPSTREAM,
    BodyAbort,
    BodyData,
    BodyEnd,
    BodyStart,
    Close,
    CommandSeen,
    Fault,
    LoginSeen,
    ReplySeen,
    Send,
    Side,
    StartTls,
    Step,
    TlsInfo,
    TlsStarted,
)
from .text import shown
from .trouble import CloseReason, FaultKind, Trouble
from .view import NoSizes, NoViews, Sizes, ViewKey, Views


@dataclass(slots=True)
class Route:
    """Where the session was connected to."""

    upstream: str  # its name in the configuration
    address: str  # "192.0.2.1:143"
    tls: TlsInfo | None = None  # of implicit TLS, done before ``routed``


class Engine(ABC):
    """One conversation, both ends of it.

    Public attributes that the session reads between inputs:

    reading: whether the engine wants to hear from each side, indexed by Side.
    phase: what is awaited, for the time-outs: "connect", "prologue", "login", "command",
        "reply", "body", "idle", "verdict".
    in_body: whether a body is passing from each side (reads may then be larger).
    """

    protocol: ClassVar[str]
    #: The closed set of verbs, the label values of metrics; "other" besides.
    verbs: ClassVar[frozenset[str]]

    def __init__(self, rules: Rules, record: SessionRecord) -> None:
        self.rules = rules
        self.record = record
        self.reading = [True, False]  # the upstream is read once it is there
        self.in_body = [False, False]
        self.phase = "connect"
        self.ended = False
        self.secure = [rules.client_tls == "implicit", False]
        self.handshaking = [False, False]
        self.gone = [False, False]  # the side has closed its sending direction
        self.heard = (LineBuffer(), LineBuffer())
        self.held = [False, False]  # the body from this side is held for a verdict
        self.gate: Gate = OPEN_GATE  # asked about logins before they go anywhere
        self.guard: Guard = NO_GUARD  # asked about commands and logins
        self.sizes: Sizes = NoSizes()  # of what was judged, for the protocol that lists them
        self.views: Views = NoViews()  # what was judged, for the protocol that shows pieces of it
        self._steps: list[Step] = []
        self._serial = 0
        self._spoken = False  # the client has said something
        self._masking = Masking()  # what was secret once, for texts that quote it
        self._said: bytearray | None = None  # sent upstream since a login began
        self._said_by: CommandSeen | None = None  # the command that began it
        self._ruling = ALLOWED  # on the login that is under way

    # -- inputs ------------------------------------------------------------

    def opened(self) -> list[Step]:
        """The client is there, its implicit TLS and PROXY header done."""
        return self._guard(self._opened)

    def receive(self, side: Side, data: bytes) -> list[Step]:
        """Bytes came from a side."""
        return self._guard(self._receive, side, data)

    def handshaken(self, side: Side, tls: TlsInfo) -> list[Step]:
        """The handshake that StartTls ordered is finished."""
        return self._guard(self._on_handshaken, side, tls)

    def routed(self, route: Route) -> list[Step]:
        """The upstream is connected, its implicit TLS done."""
        return self._guard(self._on_routed, route)

    def unreachable(self, trouble: Trouble) -> list[Step]:
        """No upstream could be connected, or its handshake failed."""
        return self._guard(self._fail, trouble)

    def decided(self, source: Side, outcome: Outcome) -> list[Step]:
        """The pipeline has come to an outcome on the held body from ``source``."""
        return self._guard(self._on_decided, source, outcome)

    def body_sent(self, side: Side) -> list[Step]:
        """SendBody(side) is done: all its octets are handed to the link."""
        return self._guard(self._on_body_sent, side)

    def closed(self, side: Side) -> list[Step]:
        """A side has ended its sending direction; what it sent before was heard."""
        return self._guard(self._on_closed, side)

    def fail(self, trouble: Trouble) -> list[Step]:
        """Something outside the conversation ends it: a time-out, the shutdown, a full disk."""
        return self._guard(self._fail, trouble)

    def keep_upstream(self) -> list[Step]:
        """The upstream has been idle while a message is held: keep it from timing out."""
        return self._guard(self._keep_upstream)

    def stop_when_quiet(self) -> list[Step]:
        """The gateway is to stop: end now if no message is in flight, else soon."""
        return self._guard(self._stop_when_quiet)

    def finished(self) -> list[Step]:
        """The session is over, for whatever reason: settle every command."""
        self.ended = True
        return self._guard_always(self._settle_all)

    # -- machinery ---------------------------------------------------------

    def _guard(self, method, *arguments) -> list[Step]:  # type: ignore[no-untyped-def]
        if self.ended:
            return []
        return self._guard_always(method, *arguments)

    def _guard_always(self, method, *arguments) -> list[Step]:  # type: ignore[no-untyped-def]
        steps: list[Step] = []
        self._steps = steps
        try:
            method(*arguments)
        except Exception as error:  # noqa: BLE001 - promise 8
            # The exception's text may quote input: only its type and place are told.
            place = error.__traceback__
            while place is not None and place.tb_next is not None:
                place = place.tb_next
            where = f"{place.tb_frame.f_code.co_name}:{place.tb_lineno}" if place else "?"
            steps.append(Fault(CLIENT, FaultKind.INTERNAL, f"{type(error).__name__} in {where}"))
            self._finish(CloseReason.INTERNAL, "internal error")
        return steps

    def _receive(self, side: Side, data: bytes) -> None:
        if self.handshaking[side]:
            # The session hears no bytes during a handshake; plaintext here is a bug of ours.
            return
        if side is CLIENT and not self._spoken:
            self._spoken = True
            if data[:1] == b"\x16" and not self.secure[CLIENT]:
                # The first octet of a TLS record (RFC 8446 5.1) begins no command.
                self._fault(CLIENT, FaultKind.TLS_ON_PLAINTEXT_PORT, "client speaks TLS on a plaintext port")
                self._finish(CloseReason.TLS_ERROR, "client speaks TLS on a plaintext port")
                return
        self.heard[side].feed(data)
        self._pump()

    def _pump(self) -> None:
        """Understand what was heard, as far as the gates allow."""
        from_client, from_upstream = self.heard
        self._regulate()
        progress = True
        while progress and not self.ended:
            progress = False
            while (left := from_upstream.left) and self.reading[1] and not self.ended:
                self._understand(UPSTREAM)
                if from_upstream.left == left:
                    break
                progress = True
            if progress and not self.ended:
                self._regulate()
            while (left := from_client.left) and self.reading[0] and not self.ended:
                self._understand(CLIENT)
                if not self.ended:
                    self._regulate()
                if from_client.left == left:
                    break
                progress = True
            if not (from_client.left or from_upstream.left):
                break
        if True in self.gone and not self.ended:
            for side in (UPSTREAM, CLIENT):
                if self.gone[side] and self.reading[side] and not self.ended:
                    self._at_end(side)

    def _on_handshaken(self, side: Side, tls: TlsInfo) -> None:
        self.handshaking[side] = False
        self.secure[side] = True
        self._emit(TlsStarted(side, "starttls", tls))
        self._secured(side)
        self._pump()

    def _on_routed(self, route: Route) -> None:
        if route.tls is not None:
            self.secure[UPSTREAM] = True
        self.reading[UPSTREAM] = True
        self.phase = "prologue"
        self._routed(route)
        self._pump()

    def _on_decided(self, source: Side, outcome: Outcome) -> None:
        self.held[source] = False
        self._decided(source, outcome)
        self._pump()

    def _on_body_sent(self, side: Side) -> None:
        self._body_sent(side)
        self._pump()

    def _on_closed(self, side: Side) -> None:
        self.gone[side] = True
        self._pump()

    # -- what engines use --------------------------------------------------

    def _emit(self, step: Step) -> None:
        if type(step) is LoginSeen:
            self._learn()
            self._masking.forgive(step.user)
            step.reply = self._masking.text(step.reply)
        self._steps.append(step)

    def _send(self, side: Side, data: bytes) -> None:
        if self._said is not None and side is UPSTREAM:
            self._said += data[:4096]
        self._steps.append(Send(side, data))

    def _fault(self, side: Side, kind: FaultKind, detail: bytes | str = "") -> None:
        """Emit a fault.  ``detail``: str in our words; bytes as the side said them."""
        if isinstance(detail, bytes) and side is CLIENT:
            text = unknown(detail)
        else:
            text = self._masking.text(shown(detail))
        self._steps.append(Fault(side, kind, text))

    def _command(self, verb: str, text: str) -> CommandSeen:
        """Make and emit the fact of a command; ``text`` is as it may be shown.

        Of a command of verb "other" only its first word is shown: it may be a password.
        """
        self._serial += 1
        if verb == "other":
            text = unknown(text)
        command = CommandSeen(self._serial, verb, text)
        if verb in LOGIN_VERBS:
            self._learn()
            self._said, self._said_by = bytearray(), command
        elif self._said is not None:
            self._learn()
        self._steps.append(command)
        return command

    # -- logins ------------------------------------------------------------

    @property
    def _protected(self) -> bool:
        """Whether the client's leg has TLS, or a trusted load balancer's has."""
        return self.secure[CLIENT] or self.record.tls_in_front

    def _hidden(self) -> frozenset[str]:
        """Return the mechanisms that nobody may log in with as things are; EVERY for all."""
        if self.rules.cleartext_login == "refuse" and not self._protected:
            return EVERY
        if not self.gate.active:
            return frozenset()
        return frozenset(name for name in (*self.rules.mechanisms, *OWN_LOGINS) if self.gate.hides(name))

    def _rule(self, reader: SaslReader) -> Ruling:
        """Rule on the login that a client attempts; the fact of it will say so."""
        if self.rules.cleartext_login == "refuse" and not self._protected:
            self._ruling = Ruling("cleartext_login", "refused", Need.TLS)
        elif reader.malformed:
            self._ruling = Ruling("", "refused", Need.SYNTAX)
        elif self.gate.active:
            self._ruling = self.gate.attempt(reader.user, reader.mechanism, reader.hides)
        if self._ruling.refused and self._ruling.need is Need.TLS:
            self._fault(CLIENT, FaultKind.CLEARTEXT_LOGIN, reader.mechanism)
        return self._ruling

    def _login_seen(self, reader: SaslReader, outcome: str, reply: str = "", *, sent: bool = False) -> None:
        """Emit the fact of a login that has come to its end.

        sent: the password crosses the wire though the reader has not seen it.
        """
        ruling, self._ruling = self._ruling, ALLOWED
        if outcome == "policy" and ruling.refused:
            outcome = ruling.outcome
        login = LoginSeen(reader.mechanism, reader.user, outcome, reader.reveals, reader.sent or sent, reply)
        if ruling.policy:
            login.policy, login.judgement = ruling.policy, ruling.judgement
        self._emit(login)

    def _login_unread(self, mechanism: str, user: str, reply: str) -> None:
        """Emit the fact of a login in a form that is refused unread; it may have held a password."""
        reader = SaslReader(mechanism)
        reader.user = user
        self._login_seen(reader, "aborted", reply, sent=True)

    def _needs_tls_first(self) -> bool:
        """Tell whether a command is refused because it comes before TLS."""
        return self.gate.guards_commands and not self._protected and self.gate.demands_tls()

    def _forbids(self, verb: str, rest: bytes) -> str:
        """Say why plugins refuse a command; "" where they don't, or there are none.

        Of a login they hear the verb only; of a command of verb "other", its first word.
        """
        if not self.guard.asks_commands:
            return ""
        if verb == "other":
            return self.guard.command(verb, unknown(rest))
        secret = verb in LOGIN_VERBS or not rest
        return self.guard.command(verb, verb if secret else self._masking.text(f"{verb} {shown(rest)}"))

    def _forbids_login(self, user: str, mechanism: str) -> str:
        """Say why plugins refuse a login that the upstream has accepted; "" where they don't."""
        return self.guard.login(user, mechanism) if self.guard.asks_logins else ""

    def _reply(self, command: CommandSeen, result: str, text: bytes | str) -> None:
        if command is self._said_by:
            self._learn()
        if self._masking:
            masked = self._masking.octets(text) if isinstance(text, bytes) else text
            seen = self._masking.text(shown(masked))
        else:
            seen = shown(text)
        if command.verb == "other" and result != "refused":
            seen = status(seen)
        self._steps.append(ReplySeen(command, result, seen))

    def _learn(self) -> None:
        """A login is over: what was sent upstream in it is masked in every text from now on."""
        said, command = self._said, self._said_by
        self._said = self._said_by = None
        if said and command is not None:
            standing = command.shown.encode().split()
            for number, line in enumerate(bytes(said).splitlines()):
                # The first word is the verb, or the tag before it.
                first = line.split(None, 1)[:1] if number == 0 else []
                self._masking.learn(line, [*standing, *first])

    def _start_tls(self, side: Side) -> None:
        """Order TLS on a side.  The caller has checked that nothing is heard behind it."""
        self.handshaking[side] = True
        self.heard[side].clear()
        self._steps.append(StartTls(side))

    def _begin_body(self, start: BodyStart) -> None:
        self.in_body[start.source] = True
        self.held[start.source] = start.held
        self._steps.append(start)

    def _body_data(self, source: Side, data: bytes) -> None:
        if data:
            self._steps.append(BodyData(source, data))

    def _end_body(self, source: Side, key: ViewKey | None = None) -> None:
        self.in_body[source] = False
        self._steps.append(BodyEnd(source, key))

    def _abort_body(self, source: Side) -> None:
        self.in_body[source] = self.held[source] = False
        self._steps.append(BodyAbort(source))

    def _finish(self, reason: CloseReason, detail: str = "") -> None:
        """End the session."""
        if self.ended:
            return
        for side in (CLIENT, UPSTREAM):
            if self.in_body[side]:
                self._abort_body(side)
        self.ended = True
        self.reading = [False, False]
        self._settle_all()
        self._steps.append(Close(reason, detail))

    # -- what a protocol says ----------------------------------------------

    @abstractmethod
    def _opened(self) -> None: ...

    @abstractmethod
    def _routed(self, route: Route) -> None: ...

    @abstractmethod
    def _understand(self, side: Side) -> None:
        """Take one frame from ``heard[side]``, or nothing if none is whole."""

    @abstractmethod
    def _regulate(self) -> None:
        """Set ``reading`` and ``phase`` by the state.

        Called before anything is heard, behind what the upstream said, and behind each frame
        of the client; an engine that must stop the upstream within that calls it itself.
        """

    @abstractmethod
    def _secured(self, side: Side) -> None:
        """TLS has begun on a side: forget what was learnt before it."""

    @abstractmethod
    def _decided(self, source: Side, outcome: Outcome) -> None: ...

    @abstractmethod
    def _body_sent(self, side: Side) -> None: ...

    @abstractmethod
    def _at_end(self, side: Side) -> None:
        """A side has closed, and all that could be understood of it was: drain or finish."""

    @abstractmethod
    def _fail(self, trouble: Trouble) -> None:
        """Tell the client in the protocol's words, as far as its state allows, and finish."""

    @abstractmethod
    def _settle_all(self) -> None:
        """Emit ReplySeen(..., "unanswered") for each command without a reply, and
        LoginSeen(outcome="unfinished") for a login half done.  Must be idempotent."""

    def _keep_upstream(self) -> None:
        """By default nothing: the protocol has no harmless command in this state."""
        return

    @abstractmethod
    def _stop_when_quiet(self) -> None:
        """Say goodbye (421, -ERR, BYE) and finish if no message is in flight; otherwise
        remember to do so when it is done."""
