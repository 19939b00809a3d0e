"""The session: an engine between two links.  It performs the steps and publishes the facts."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet import defer
from twisted.internet.task import deferLater

from ..core.engine import Route
from ..core.facts import ConnectionRefused, SessionClosed, SessionOpened, TlsFailed
from ..core.outcome import Action, Outcome
from ..core.policy import plain_address
from ..core.record import SessionRecord
from ..core.steps import (
    CLIENT,
    UPSTREAM,
    BodyAbort,
    BodyData,
    BodyEnd,
    BodyStart,
    ClientNamed,
    Close,
    CommandSeen,
    Connect,
    Fault,
    Framing,
    LoginSeen,
    Send,
    SendBody,
    Side,
    StartTls,
    Step,
    TlsInfo,
    TlsStarted,
)
from ..core.trouble import CloseReason, FaultKind, Trouble
from ..core.view import Slice, ViewKey
from ..inspection.guard import SessionGuard
from ..observe.hub import Hub
from ..wire.clienthello import HelloReader
from ..wire.dots import DotEncoder
from ..wire.proxy_header import ProxyHeader, ProxyHeaderError, ProxyHeaderParser
from .body import ACTIONS, Body, decide, top
from .gate import SessionGate
from .link import HIGH_WATER, LOW_WATER, Link, SocketLink
from .settings import SessionSettings, within
from .spool import PIECE
from .upstream import Dialer
from .views import Rewritten, SessionSizes, SessionViews
from .watchman import Watchman

if TYPE_CHECKING:
    from ..observe.transcript import Recorder


#: Messages of one session that plugins look at while it goes on.
MOST_WATCHED = 4


class Keeper(Protocol):
    """Who keeps the sessions: counts them, ticks them, forgets them."""

    watchman: Watchman | None

    def session_over(self, session: Session) -> None: ...


class Session:
    """One client's connection and the upstream's, with the engine between them.

    Inputs reach the engine one at a time: what arrives while steps are performed is queued.
    """

    __slots__ = (
        "_active",
        "_bodies",
        "_busy",
        "_close",
        "_delay",
        "_dialer",
        "_engine",
        "_guard",
        "_has_rates",
        "_heard_again",
        "_hub",
        "_keeper",
        "_kept",
        "_lost_by",
        "_now",
        "_proxy",
        "_queue",
        "_reactor",
        "_recorder",
        "_sender",
        "_shaking_since",
        "_tls_names",
        "_views",
        "_watching",
        "_watchman",
        "links",
        "over",
        "record",
        "refusal",
        "settings",
    )

    def __init__(
        self,
        settings: SessionSettings,
        record: SessionRecord,
        hub: Hub,
        keeper: Keeper,
        reactor: Any,
        recorder: Recorder | None = None,
    ) -> None:
        self.settings = settings
        self.record = record
        self.over = False
        self.refusal = ""
        self.links: list[Link | None] = [None, None]
        self._engine = settings.engine(settings.rules, record)
        self._watching = 0
        self._guard: SessionGuard | None = None
        if settings.guards:
            self._guard = self._engine.guard = SessionGuard(settings.guards, record, self._publish)
        self._views: SessionViews | None = None
        if settings.views is not None:
            self._views = SessionViews(settings.views, record, settings.pipeline_version)
            self._engine.views = self._views
        if settings.rules.exact_sizes and settings.verdicts is not None:
            self._engine.sizes = SessionSizes(settings.verdicts, record, settings.pipeline)
        self._hub = hub
        self._keeper = keeper
        self._reactor = reactor
        self._recorder = recorder
        self._busy = False
        self._queue: deque[tuple[Callable[..., list[Step]], tuple[Any, ...]]] = deque()
        self._bodies: list[Body | None] = [None, None]
        self._sender: list[Iterator[bytes] | None] = [None, None]
        self._dialer: Dialer | None = None
        self._proxy: ProxyHeaderParser | None = None
        self._close: Close | None = None
        self._delay: Any = None  # the call that greets a client that has to wait for it
        self._lost_by = ""
        self._active = self._kept = self._shaking_since = time.monotonic()
        self._now = 0.0
        self._tls_names = ["", ""]
        self._watchman = keeper.watchman
        self._has_rates = keeper.watchman is not None and bool(keeper.watchman.rates)
        self._heard_again = 0.0  # until then the client is not heard (monotonic); 0: it is

    # -- birth -------------------------------------------------------------

    def begin(self, link: Link, refusal: str = "") -> None:
        """Take the client's link.

        refusal: the limit that is reached: the client is told so and no upstream is asked.
        """
        self.links[CLIENT] = link
        link.owner = self
        self.refusal = refusal
        if within(self.record.peer_address or self.record.client_address, self.settings.proxy_from):
            self._proxy = ProxyHeaderParser()
            link.set_reading(True)
        else:
            self._begin_protocol(b"")

    def _begin_protocol(self, early: bytes) -> None:
        """The client is known: TLS if it is implicit, then the engine."""
        record, settings = self.record, self.settings
        record.trusted_network = within(record.client_address, settings.trusted)
        link = self.links[CLIENT]
        assert link is not None
        if self.refusal:
            self._publish(ConnectionRefused(self.refusal))
            if settings.tls_mode == "implicit":
                self._over(CloseReason.POLICY, self.refusal)
            else:
                self._input(self._engine.fail, Trouble.TOO_MANY)
            return
        if self._watchman is not None and self._watchman.turns_away(record, record.started):
            self._publish(ConnectionRefused("denied"))
            if settings.tls_mode == "implicit":
                self._over(CloseReason.POLICY, "denied")
            else:
                self._input(self._engine.fail, Trouble.REFUSED)
            return
        self._publish(SessionOpened())
        if settings.policies.policies or settings.barrier is not None:
            self._engine.gate = SessionGate(
                settings.policies, record, record.started, self._publish, settings.barrier
            )
        if self._guard is not None and (why := self._guard.connect()):
            self._publish(ConnectionRefused("plugin"))
            if settings.tls_mode == "implicit":
                self._over(CloseReason.POLICY, why)
            else:
                self._input(self._engine.fail, Trouble.REFUSED)
            return
        if settings.tls_mode == "implicit":
            self._begin_tls(CLIENT, early)
            return
        self._open(early)

    def _open(self, early: bytes = b"") -> None:
        """Have the engine begin; with a greeting delay, only when the client has kept quiet."""
        if self.settings.greeting_delay and not early:
            self._delay = self._reactor.callLater(self.settings.greeting_delay, self._waited)
            self._regulate()
            return
        self._input(self._engine.opened)
        if early:
            self.heard(CLIENT, early)

    def _waited(self) -> None:
        self._delay = None
        self._input(self._engine.opened)

    def _begin_tls(self, side: Side, early: bytes = b"") -> None:
        link = self.links[side]
        assert link is not None
        self._shaking_since = time.monotonic()
        if side is CLIENT:
            assert self.settings.server_tls is not None
            connection = self.settings.server_tls.connection()
            if self.settings.server_tls.ja4:
                link.hello = HelloReader()
        else:
            client_tls = self.settings.upstream.client_tls
            assert client_tls is not None
            connection = client_tls.connection(self._upstream_name())
        link.start_tls(connection, early)

    def _upstream_name(self) -> str:
        host = self.record.upstream_address.rpartition(":")[0].strip("[]")
        return self.settings.upstream.server_name or self._tls_names[UPSTREAM] or host

    # -- the links' words --------------------------------------------------

    def heard(self, side: Side, data: bytes) -> None:
        """Octets came from a side."""
        if self._proxy is not None:
            self._hear_proxy_header(data)
        elif self._delay is not None:
            # RFC 5321 4.3.1: a client waits for the greeting.
            self._publish(Fault(CLIENT, FaultKind.EARLY_TALKER, "before the greeting, within its delay"))
            self._input(self._engine.fail, Trouble.PROTOCOL)
        else:
            self._input(self._engine.receive, side, data)

    def link_moved(self, side: Side) -> None:
        """An outbox has got shorter."""
        self._active = time.monotonic()
        if self._sender[side] is not None:
            self._send_body(side)
        self._regulate()

    def link_ended(self, side: Side, clean: bool) -> None:
        """A side sends no more."""
        if self._proxy is not None:
            self._over(CloseReason.CLIENT_EOF, "closed before its PROXY header")
            return
        if self._delay is not None:
            self._over(CloseReason.CLIENT_EOF, "left before the greeting")
            return
        self._lost_by = self._lost_by or str(side)
        if not clean and self._engine.in_body[side]:
            self._publish(
                Fault(side, FaultKind.TRUNCATED_TLS, "closed without close_notify within a message")
            )
        self._input(self._engine.closed, side)

    def link_lost(self, side: Side, detail: str) -> None:
        """A connection is gone altogether."""
        self._lost_by = self._lost_by or str(side)
        if side is CLIENT:
            body = self._bodies[CLIENT]
            held = body is not None and body.start.held
            self._over(CloseReason.CLIENT_EOF, f"{detail}; a message was in flight" if held else detail)
        else:
            self._input(self._engine.closed, side)

    def link_secured(self, side: Side, tls: TlsInfo) -> None:
        """A handshake is done."""
        if side is UPSTREAM:
            client_tls, link = self.settings.upstream.client_tls, self.links[UPSTREAM]
            assert client_tls is not None and link is not None
            problem = client_tls.problem_with_name(link.tls_connection, self._upstream_name())
            if problem:
                self.link_not_secured(side, "certificate", problem)
                return
            tls.verified = client_tls.verify
            self.record.upstream_tls = tls
            self._input(self._engine.handshaken, side, tls)
            return
        tls.verified = bool(tls.peer)  # one that the authorities don't vouch for ends the handshake
        self.record.client_tls = tls
        if self.settings.tls_mode == "implicit":
            self._publish(TlsStarted(CLIENT, "implicit", tls))
            self._open()
        else:
            self._input(self._engine.handshaken, side, tls)

    def link_not_secured(self, side: Side, reason: str, detail: str) -> None:
        """A handshake failed: never a way back to plaintext."""
        mode = "implicit" if side is CLIENT and self.settings.tls_mode == "implicit" else "starttls"
        self._lost_by = self._lost_by or str(side)
        self._publish(TlsFailed(side, mode, reason, detail))
        if side is CLIENT:
            if reason == "plaintext" and mode == "implicit":
                detail = "client speaks plaintext on an implicit-TLS port"
                self._publish(Fault(CLIENT, FaultKind.PLAINTEXT_ON_TLS_PORT, detail))
            elif reason != "closed":
                self._publish(Fault(CLIENT, FaultKind.TLS_HANDSHAKE, detail))
            self._over(CloseReason.TLS_ERROR, detail)
        else:
            kind = FaultKind.CERTIFICATE if reason == "certificate" else FaultKind.TLS_HANDSHAKE
            self._publish(Fault(UPSTREAM, kind, detail))
            self._input(self._engine.fail, Trouble.UPSTREAM_TLS)

    def _hear_proxy_header(self, data: bytes) -> None:
        """Who connects is a load balancer: the client is whom its header names."""
        parser = self._proxy
        assert parser is not None
        try:
            header = parser.feed(data)
        except ProxyHeaderError as error:
            self._publish(Fault(CLIENT, FaultKind.PROXY_HEADER, str(error)))
            self._publish(ConnectionRefused("proxy_header"))
            self._over(CloseReason.PROTOCOL_ERROR, f"PROXY header: {error}")
            return
        if header is None:
            return
        self._proxy = None
        self._introduce(header)
        self._begin_protocol(parser.rest)

    def _introduce(self, header: ProxyHeader) -> None:
        record = self.record
        if header.local or not header.source_address:
            return
        record.peer_address = record.peer_address or record.client_address
        record.client_address, record.client_port = plain_address(header.source_address), header.source_port
        record.server_address = plain_address(header.destination_address)
        record.server_port = header.destination_port
        record.tls_in_front = header.tls

    # -- the dialer's words ------------------------------------------------

    def _connected(self, link: SocketLink, route: Route) -> None:
        self._dialer = None
        record = self.record
        record.upstream, record.upstream_address = route.upstream, route.address
        record.upstream_tls = route.tls
        if self.over:
            link.abort()
            return
        link.owner = self
        self.links[UPSTREAM] = link
        if route.tls is not None:
            self._publish(TlsStarted(UPSTREAM, "implicit", route.tls))
        self._input(self._engine.routed, route)

    def _unreachable(self, trouble: Trouble) -> None:
        self._dialer = None
        self._input(self._engine.unreachable, trouble)

    # -- performing --------------------------------------------------------

    def _input(self, method: Callable[..., list[Step]], *arguments: Any) -> None:
        """Give the engine one input, and perform what it answers; then what was queued."""
        if self._busy:
            self._queue.append((method, arguments))
            return
        if self.over:
            return
        self._busy = True
        self._active = time.monotonic()
        try:
            if self._recorder is not None:
                method = partial(self._recorded, method)
            self._perform(method(*arguments))
            while self._queue and not self.over:
                method, arguments = self._queue.popleft()
                if self._recorder is not None:
                    method = partial(self._recorded, method)
                self._perform(method(*arguments))
        finally:
            self._busy = False
        if self._close is not None and not self.over:
            self._over(self._close.reason, self._close.detail)
        elif not self.over:
            self._regulate()

    def _perform(self, steps: list[Step]) -> None:
        """Perform steps in order; adjacent sends to one side leave as one."""
        if not steps:
            return
        now = self._now = time.time()
        record, hub = self.record, self._hub
        pending: list[list[bytes]] = [[], []]
        for step in steps:
            kind = type(step)
            if kind is Send:
                pending[step.side].append(step.data)  # type: ignore[union-attr]
            elif kind is CommandSeen:
                step.at = now  # type: ignore[union-attr]
                record.commands += 1
                hub.publish(record, step, now)  # type: ignore[arg-type]
                if self._has_rates:
                    self._spend("commands", 1)
            elif kind in _ORDERS:
                if kind is not BodyData:
                    self._flush(pending)
                _ORDERS[kind](self, step)
            else:
                self._note(step)
                hub.publish(record, step, now)  # type: ignore[arg-type]
                if kind in _WATCHED and self._watchman is not None:
                    self._watched(step, now)
        self._flush(pending)

    def _recorded(self, method: Callable[..., list[Step]], *arguments: Any) -> list[Step]:
        """Give the engine one input, and write down what was said and what came of it."""
        recorder, engine = self._recorder, self._engine
        assert recorder is not None
        if method == engine.receive:
            recorder.heard(*arguments)
        else:
            recorder.news(_NEWS[method.__name__](*arguments))
        steps = method(*arguments)
        recorder.steps(steps, (len(engine.heard[CLIENT]), len(engine.heard[UPSTREAM])))
        return steps

    def _flush(self, pending: list[list[bytes]]) -> None:
        for side in (CLIENT, UPSTREAM):
            pieces = pending[side]
            if pieces:
                link = self.links[side]
                if link is not None:
                    link.send(pieces[0] if len(pieces) == 1 else b"".join(pieces))
                pieces.clear()

    def _note(self, fact: Step) -> None:
        """Keep the record current before a fact is published."""
        kind = type(fact)
        record = self.record
        if kind is LoginSeen:
            if fact.outcome == "ok":  # type: ignore[union-attr]
                record.user, record.mechanism = fact.user, fact.mechanism  # type: ignore[union-attr]
        elif kind is ClientNamed:
            if fact.how == "id":  # type: ignore[union-attr]
                record.client_program = fact.name  # type: ignore[union-attr]
            else:
                record.client_name = fact.name  # type: ignore[union-attr]

    def _watched(self, fact: Step, now: float) -> None:
        """Show the watchman what concerns it; the client may have to wait for that."""
        watchman = self._watchman
        assert watchman is not None
        if type(fact) is LoginSeen:
            self._wait(watchman.login(self.record, fact, now))
        elif type(fact) is Fault:
            watchman.fault(self.record, fact, now)

    def _wait(self, seconds: float) -> None:
        """Hear nothing of the client for a while: what it sends stays in the kernel's buffers."""
        if seconds > 0:
            self._heard_again = max(self._heard_again, time.monotonic() + seconds)

    def _publish(self, fact: Any) -> None:
        self._hub.publish(self.record, fact, time.time())

    # -- orders ------------------------------------------------------------

    def _do_start_tls(self, step: StartTls) -> None:
        if step.side is CLIENT and self.settings.server_tls is None:
            self._input(self._engine.fail, Trouble.INTERNAL)
            return
        self._begin_tls(step.side)

    def _do_connect(self, _step: Connect) -> None:
        self._dialer = Dialer(
            self.settings.upstream,
            self.record,
            self._reactor,
            self._publish,
            self._connected,
            self._unreachable,
        )
        self._dialer.start()

    def _do_body_start(self, step: BodyStart) -> None:
        self._bodies[step.source] = Body(step, self.settings)
        link = self.links[step.source]
        if link is not None:
            link.large_reads = True

        if self._has_rates and step.source is CLIENT:
            self._spend("messages", 1)
            if step.envelope is not None:
                self._spend("recipients", len(step.envelope.recipients))

    def _spend(self, kind: str, amount: float) -> None:
        """Count against the rates."""
        assert self._watchman is not None
        self._wait(self._watchman.spend(kind, self.record, amount, time.time()))

    def _do_body_data(self, step: BodyData) -> None:
        body = self._bodies[step.source]
        if body is not None:
            body.add(step.data)

    def _do_body_end(self, step: BodyEnd) -> None:
        link = self.links[step.source]
        if link is not None:
            link.large_reads = False
        body = self._bodies[step.source]
        if body is None:
            return
        body.key = step.key
        self.record.messages += 1
        if self._has_rates:
            self._spend("bytes", body.size)
        if body.start.held:
            waiting = defer.ensureDeferred(self._judge(body))
            waiting.addErrback(self._judge_failed, body)
            return
        self._bodies[step.source] = None
        self._publish(body.seen("passed"))
        if body.spool is not None:
            defer.ensureDeferred(self._watch(body)).addErrback(self._watch_failed, body)

    async def _watch(self, body: Body) -> None:
        """Show plugins that only observe a message that has gone on already."""
        spool = body.spool
        assert spool is not None
        try:
            if self._watching >= MOST_WATCHED or spool.problem:
                why = spool.problem or "too many messages are being watched"
                self._publish(Fault(body.start.source, FaultKind.UNWATCHED, why))
                return
            self._watching += 1
            try:
                judgement = await self.settings.pipeline.judge(spool.view(), body.start, self.record)
            finally:
                self._watching -= 1
            for run in judgement.runs:
                self._publish(run)
        finally:
            body.close()

    def _watch_failed(self, failure: Any, body: Body) -> None:
        reason = f"inspection failed: {failure.type.__name__}"
        self._publish(Fault(body.start.source, FaultKind.INTERNAL, reason))

    def _do_body_abort(self, step: BodyAbort) -> None:
        link = self.links[step.source]
        if link is not None:
            link.large_reads = False
        body, self._bodies[step.source] = self._bodies[step.source], None
        if body is not None:
            body.close()
            if not body.settled:
                self._publish(body.seen("aborted"))

    async def _judge(self, body: Body) -> None:
        outcome = await decide(body, self.settings, self.record, self._publish, self._pause)
        self._settle(body, outcome)

    def _judge_failed(self, failure: Any, body: Body) -> None:
        """A bug in the pipeline itself is a temporary failure, as a plugin's would be."""
        reason = f"inspection failed: {failure.type.__name__}"
        self._publish(Fault(body.start.source, FaultKind.INTERNAL, reason))
        self._settle(body, Outcome(Action.DEFER, reason="Message can't be inspected now"))

    async def _pause(self) -> None:
        await deferLater(self._reactor, 0)

    def _settle(self, body: Body, outcome: Outcome) -> None:
        if self.over:
            body.close()
            return
        body.settled = True
        self._publish(body.seen(ACTIONS[outcome.action], outcome.reason))
        source = body.start.source
        if outcome.action not in (Action.PASS, Action.MODIFY) and not outcome.notice:
            body.close()
            self._bodies[source] = None
        elif body.key is not None and self._views is not None:
            self._keep(body.key, body, outcome)
        self._input(self._engine.decided, source, outcome)

    def _keep(self, key: ViewKey, body: Body, outcome: Outcome) -> None:
        """Keep what a client sees of a message, for when it asks for pieces."""
        assert self._views is not None
        if outcome.action is Action.PASS:
            self._views.keep_unchanged(key)
            return
        spool = body.take_spool()
        if spool is not None:
            self._views.keep(key, Rewritten(spool))

    def _do_send_body(self, step: SendBody) -> None:
        """Begin to send the decided message; the rest follows as the link takes it."""
        if step.piece is not None:
            self._sender[step.side] = _sliced(step.piece)
            self._send_body(step.side)
            return
        body = self._bodies[step.side.other]
        spool = body.spool if body is not None else None
        if spool is None:
            self._input(self._engine.fail, Trouble.INTERNAL)
            return
        if step.framing is Framing.DOTS:
            pieces = spool.pieces() if step.lines is None else top(spool.pieces(), step.lines)
            self._sender[step.side] = _dotted(pieces, step.normalise)
        else:
            self._sender[step.side] = spool.pieces()
        self._send_body(step.side)

    def _send_body(self, side: Side) -> None:
        link, sender = self.links[side], self._sender[side]
        if link is None or sender is None:
            return
        try:
            while link.outbox < HIGH_WATER and not link.closed:
                piece = next(sender, None)
                if piece is None:
                    self._sender[side] = None
                    body, self._bodies[side.other] = self._bodies[side.other], None
                    if body is not None:
                        body.close()
                    self._input(self._engine.body_sent, side)
                    return
                link.send(piece)
        except OSError:
            # What was sent can't be taken back: only a cut connection keeps the half message
            # from being taken for a whole one.
            self._sender[side] = None
            link.abort()
            self.link_lost(side, "spool: can't be read")

    def _do_close(self, step: Close) -> None:
        self._close = step

    # -- flow --------------------------------------------------------------

    def _regulate(self) -> None:
        """Open and shut the read gates: the engine's wish, and room in the outboxes."""
        engine = self._engine
        client, upstream = self.links
        if client is not None:
            wanted = engine.reading[CLIENT] and not self._heard_again
            if wanted:
                mark = HIGH_WATER if client.reading else LOW_WATER
                wanted = (upstream is None or upstream.outbox < mark) and (
                    client.outbox < mark or engine.in_body[CLIENT]
                )
            if client.handshaking:
                wanted = True
            if wanted is not client.reading:
                client.set_reading(wanted)
        if upstream is not None:
            wanted = engine.reading[UPSTREAM]
            if wanted and client is not None:
                wanted = client.outbox < (HIGH_WATER if upstream.reading else LOW_WATER)
            if upstream.handshaking:
                wanted = True
            if wanted is not upstream.reading:
                upstream.set_reading(wanted)

    def tick(self, now: float) -> None:
        """Look at the time.  ``now``: seconds, monotonic."""
        if self.over:
            return
        timeouts = self.settings.timeouts
        if self._dialer is not None:
            self._dialer.tick(now)
            return
        client, upstream = self.links
        shaking = next((link for link in (client, upstream) if link is not None and link.handshaking), None)
        if shaking is not None or self._proxy is not None:
            if now - self._shaking_since > timeouts.handshake:
                if shaking is None or shaking.side is CLIENT:
                    self._over(CloseReason.TIMEOUT, "handshake not finished in time")
                else:
                    self._input(self._engine.fail, Trouble.UPSTREAM_TLS)
            return
        engine = self._engine
        if self._heard_again:
            self._active = now  # it can't be blamed for its silence
            if now >= self._heard_again:
                self._heard_again = 0.0
                self._regulate()
        silent = now - self._active
        phase = engine.phase
        if phase in ("body", "verdict") and engine.held[CLIENT] and now - self._kept > timeouts.keep_upstream:
            self._kept = now
            active = self._active
            self._input(engine.keep_upstream)
            self._active = active
        if silent > timeouts.of(phase):
            awaited = UPSTREAM if phase in ("reply", "prologue") else CLIENT
            self._lost_by = self._lost_by or str(awaited)
            self._input(engine.fail, Trouble.UPSTREAM_TIMEOUT if awaited is UPSTREAM else Trouble.IDLE)

    # -- ends --------------------------------------------------------------

    def stop_when_quiet(self) -> None:
        """Say goodbye as soon as no message is in flight."""
        if not self.over:
            self._lost_by = self._lost_by or "gateway"
            if self._proxy is not None or (self.links[CLIENT] is not None and self._shaking):
                self._over(CloseReason.SHUTDOWN, "")
            else:
                self._input(self._engine.stop_when_quiet)

    @property
    def _shaking(self) -> bool:
        link = self.links[CLIENT]
        return link is not None and link.handshaking

    def stop_now(self) -> None:
        """The time for goodbyes is over."""
        if not self.over:
            self._lost_by = self._lost_by or "gateway"
            self._over(CloseReason.SHUTDOWN, "cut")

    def _over(self, reason: CloseReason, detail: str) -> None:
        """Close both links, settle everything, tell the summary."""
        if self.over:
            return
        finish = self._engine.finished
        self._perform(finish() if self._recorder is None else self._recorded(finish))
        self.over = True
        if self._dialer is not None:
            self._dialer.stop()
            self._dialer = None
        if self._delay is not None:
            if self._delay.active():
                self._delay.cancel()
            self._delay = None
        for body in self._bodies:
            if body is not None:
                body.close()
        self._bodies = [None, None]
        self._sender = [None, None]
        record = self.record
        client, upstream = self.links
        # A refused client may still be sending: it is heard out, so that our last words
        # are not lost to a reset.  An upstream that has half a message must not take an
        # ordinary end for its end.
        orderly = reason in (CloseReason.QUIT, CloseReason.CLIENT_EOF)
        if client is not None:
            record.bytes_from_client, record.bytes_to_client = client.bytes_in, client.bytes_out
            client.close(linger=not orderly)
        if upstream is not None:
            record.bytes_from_upstream, record.bytes_to_upstream = upstream.bytes_in, upstream.bytes_out
            upstream.close()
        if not record.ended_by:
            by_us = reason in (CloseReason.POLICY, CloseReason.SHUTDOWN, CloseReason.INTERNAL)
            record.ended_by = (
                "client" if reason is CloseReason.QUIT else "gateway" if by_us else self._lost_by or "gateway"
            )
        now = time.time()
        self._hub.publish(record, SessionClosed(reason, detail, now - record.started), now)
        if self._recorder is not None:
            self._recorder.close()
            self._recorder = None
        self._keeper.session_over(self)


def _sliced(piece: Slice) -> Iterator[bytes]:
    """Give some of a judged message in pieces."""
    for start in range(piece.start, piece.end, PIECE):
        yield piece.judged.octets(start, min(start + PIECE, piece.end))


def _dotted(pieces: Iterator[bytes], normalise: bool) -> Iterator[bytes]:
    """Give a message as a dot-terminated body (RFC 5321 4.5.2)."""
    encoder = DotEncoder(normalise)
    for piece in pieces:
        wire = encoder.feed(piece)
        if wire:
            yield wire
    yield encoder.end()


#: How an input that is no octets is written in a transcript, by its method of the engine.
_NEWS: dict[str, Callable[..., str]] = {
    "opened": lambda: "open",
    "routed": lambda route: "routed tls" if route.tls is not None else "routed",
    "unreachable": lambda trouble: f"unreachable {trouble}",
    "handshaken": lambda side, _tls: f"tls {side}",
    "decided": lambda _source, outcome: _outcome_news(outcome),
    "body_sent": lambda _side: "sent",
    "closed": lambda side: f"closed {side}",
    "fail": lambda trouble: f"fail {trouble}",
    "stop_when_quiet": lambda: "stop",
    "keep_upstream": lambda: "keep",
    "finished": lambda: "finished",
}


def _outcome_news(outcome: Outcome) -> str:
    if outcome.action is Action.PASS:
        return "pass"
    if outcome.action is Action.MODIFY:
        return f"modify {outcome.size}"
    return f"{outcome.action} {outcome.reason}{' accept' if outcome.accept else ''}"


_WATCHED = frozenset({LoginSeen, Fault})
_ORDERS: dict[type, Callable[[Session, Any], None]] = {
    StartTls: Session._do_start_tls,
    Connect: Session._do_connect,
    BodyStart: Session._do_body_start,
    BodyData: Session._do_body_data,
    BodyEnd: Session._do_body_end,
    BodyAbort: Session._do_body_abort,
    SendBody: Session._do_send_body,
    Close: Session._do_close,
}
