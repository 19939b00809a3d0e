"""The sink that counts: every ``mailgate_`` family, for Prometheus.

Base units, closed sets of label values; no user, address or message ever is a label.  What a
peer could choose freely is counted as ``other``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..core.facts import (
    ConnectionRefused,
    MessageSeen,
    PluginRan,
    SessionClosed,
    SessionOpened,
    TlsFailed,
    UpstreamConnected,
    UpstreamFailed,
)
from ..core.record import SessionRecord
from ..core.rules import DEFAULT_MECHANISMS
from ..core.steps import ExtensionStruck, Fault, LoginSeen, ReplySeen, Stage, TlsStarted
from ..core.trouble import CloseReason, FaultKind
from .families import OTHER, Bounded, Counts, Levels, Spread
from .hub import Hub, Sink, Watch
from .levels import password_exposed

RESULTS = ("ok", "no", "bad", "temp", "perm", "refused", "unanswered")
OUTCOMES = ("ok", "failed", "error", "aborted", "policy", "unfinished")
PROTECTIONS = ("tls", "tls-in-front", "trusted-network", "none")
REFUSALS = ("limit_total", "limit_listener", "limit_address", "proxy_header", "shutdown")
UPSTREAM_REASONS = ("refused", "timeout", "dns", "tls", "certificate", "unreachable")
ACTIONS = ("passed", "rewritten", "rejected", "quarantined", "discarded", "deferred", "aborted")
VERDICTS = ("pass", "modify", "reject", "quarantine", "discard")
TLS_VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
TLS_FAILURES = ("plaintext", "no_shared_version", "no_shared_cipher", "certificate", "timeout", "closed")
TLS13_CIPHERS = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
#: In which of the protocol's stages messages pass.
STAGES: dict[str, tuple[str, ...]] = {
    "smtp": (Stage.DATA,),
    "lmtp": (Stage.DATA,),
    "pop3": (Stage.RETR, Stage.TOP),
    "imap": (Stage.APPEND, Stage.FETCH),
}
#: Logins that are no SASL mechanism.
OWN_LOGINS: dict[str, tuple[str, ...]] = {"pop3": ("USER", "APOP"), "imap": ("LOGIN",)}
REVEALING = ("PLAIN", "LOGIN", "USER", "XOAUTH2", "OAUTHBEARER")
MECHANISMS = frozenset(
    {*DEFAULT_MECHANISMS, "USER", "APOP", "DIGEST-MD5", "GSSAPI", "NTLM", "EXTERNAL", "ANONYMOUS", OTHER}
)

COMMAND_SECONDS = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0)
CONNECT_SECONDS = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0)
PLUGIN_SECONDS = (0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 30.0)
LAG_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0)
MESSAGE_BYTES = (4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0, 67108864.0)


def within(name: str, known: Collection[str]) -> str:
    """Return the label value, or ``other`` if it is not of the closed set."""
    return name if name in known else OTHER


class _Command:
    """The counts of one verb: results by name, and the histogram's row."""

    __slots__ = ("results", "row")

    def __init__(self, row: list[float]) -> None:
        self.results = dict.fromkeys(RESULTS, 0)
        self.row = row


class Metrics(Sink, Collector):
    """Counts facts.  Registers itself with the registry.

    listeners: name -> protocol.  upstreams: their names.  plugins: name -> stages.
    verbs: protocol -> its engine's closed set.  build: labels of ``mailgate_build_info``.
    process: whether the process's own figures (CPU, memory, descriptors, collections of
    garbage) are registered too.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        listeners: Mapping[str, str],
        upstreams: Iterable[str] = (),
        plugins: Mapping[str, Iterable[str]] | None = None,
        verbs: Mapping[str, Iterable[str]] | None = None,
        build: Mapping[str, str] | None = None,
        process: bool = True,
    ) -> None:
        self._build = dict(build or {})
        self._hub: Hub | None = None
        self._spool: Callable[[], float] = lambda: 0
        self._dropped: Callable[[], float] = lambda: 0
        protocols = sorted(set(listeners.values()))
        self._listeners = dict(listeners)
        self._upstreams = frozenset(upstreams)
        self._plugins = {name: tuple(stages) for name, stages in (plugins or {}).items()}
        self._make_families()
        self._start(protocols)
        self._commands: dict[str, dict[str, _Command]] = {}
        for protocol in protocols:
            names = {*(verbs or {}).get(protocol, ()), OTHER}
            self._commands[protocol] = {
                verb: _Command(self.durations.row(protocol, verb)) for verb in sorted(names)
            }
        registry.register(self)
        if process:
            ProcessCollector(registry=registry)
            GCCollector(registry=registry)

    def _make_families(self) -> None:
        place = ("protocol", "listener")
        self.connections = Counts("connections", "Client connections that became sessions.", place)
        self.active = Levels("connections_active", "Sessions that are open.", place)
        self.refused = Counts("connections_refused", "Connections turned away.", (*place, "reason"))
        self.closed = Counts("sessions_closed", "Sessions that ended, by reason.", ("protocol", "reason"))
        self.handshakes = Counts(
            "tls_handshakes",
            "TLS handshakes; a failed one has version none and the kind of failure as its result.",
            ("leg", "protocol", "mode", "version", "result"),
        )
        self.ciphers = Counts("tls_cipher", "TLS handshakes by the cipher agreed on.", ("leg", "cipher"))
        self.expiry = Levels(
            "tls_certificate_expiry_timestamp_seconds",
            "When a certificate that the gateway shows expires, seconds since the epoch.",
            ("name",),
        )
        self.logins = Counts(
            "auth_attempts", "Authentication attempts by mechanism.", ("protocol", "mechanism", "result")
        )
        self.protected = Counts(
            "auth_protection",
            "Authentication attempts by what protected the client's leg.",
            ("protocol", "protection", "result"),
        )
        self.exposed = Counts(
            "cleartext_credentials",
            "Passwords or tokens that crossed the client's leg unprotected.",
            ("protocol", "mechanism", "outcome"),
        )
        self.durations = Spread(
            "command_duration_seconds",
            "From a command to its reply.",
            ("protocol", "command"),
            COMMAND_SECONDS,
        )
        self.connects = Spread(
            "upstream_connect_duration_seconds",
            "Time to connect to an upstream, implicit TLS included.",
            ("upstream",),
            CONNECT_SECONDS,
        )
        self.up = Levels(
            "upstream_up",
            "Whether the last connection to the upstream came about (1 before any).",
            ("upstream",),
        )
        self.upstream_errors = Counts(
            "upstream_errors", "Connections to an upstream that failed.", ("upstream", "reason")
        )
        self.bytes = Counts(
            "bytes",
            "Octets passed inside TLS, counted when a session ends; direction as the gateway sees it.",
            ("protocol", "leg", "direction"),
        )
        self.messages = Counts("messages", "Messages and pieces of them.", ("protocol", "stage", "action"))
        self.sizes = Spread(
            "message_size_bytes", "Size of messages as they came.", ("protocol", "stage"), MESSAGE_BYTES
        )
        self.plugin_runs = Counts(
            "plugin_runs",
            "Messages judged by a plugin; policy_applied is what came of it.",
            ("plugin", "stage", "result", "policy_applied"),
        )
        self.plugin_seconds = Spread(
            "plugin_duration_seconds", "Time a plugin took for one message.", ("plugin",), PLUGIN_SECONDS
        )
        self.struck = Counts(
            "capability_stripped",
            "Capabilities that an upstream offered and clients were not told of, once a session.",
            ("protocol", "capability"),
        )
        self.anomalies = Counts(
            "protocol_anomalies", "What peers did against the protocol.", ("protocol", "kind")
        )
        self.lag = Spread("reactor_lag_seconds", "How late the reactor's timers are called.", (), LAG_SECONDS)

    def _start(self, protocols: list[str]) -> None:
        for listener, protocol in self._listeners.items():
            self.connections.start([protocol], [listener])
            self.active.start([protocol], [listener])
            self.refused.start([protocol], [listener], REFUSALS)
        legs = ("client", "upstream")
        self.closed.start(protocols, CloseReason)
        for mode in ("implicit", "starttls"):
            self.handshakes.start(legs, protocols, [mode], TLS_VERSIONS, ["ok"])
            self.handshakes.start(legs, protocols, [mode], ["none"], (*TLS_FAILURES, OTHER))
        self.ciphers.start(legs, TLS13_CIPHERS)
        self._cipher = Bounded(64, TLS13_CIPHERS)
        self._capability = {protocol: Bounded(64) for protocol in protocols}
        for protocol in protocols:
            mechanisms = sorted(DEFAULT_MECHANISMS | set(OWN_LOGINS.get(protocol, ())))
            self.logins.start([protocol], mechanisms, OUTCOMES)
            self.exposed.start([protocol], [m for m in mechanisms if m in REVEALING], ("accepted", "refused"))
            self.messages.start([protocol], STAGES.get(protocol, ()), ACTIONS)
            self.sizes.start([protocol], STAGES.get(protocol, ()))
        self.protected.start(protocols, PROTECTIONS, OUTCOMES)
        for upstream in self._upstreams:
            self.connects.start([upstream])
            self.up.set(upstream, to=1)
            self.upstream_errors.start([upstream], UPSTREAM_REASONS)
        self.bytes.start(protocols, legs, ("received", "sent"))
        for plugin, stages in self._plugins.items():
            for verdict in VERDICTS:
                self.plugin_runs.start([plugin], stages, [verdict], [verdict])
            self.plugin_runs.start([plugin], stages, ("timeout", "error"), ("pass", "defer", "reject"))
            self.plugin_seconds.start([plugin])
        self.anomalies.start(protocols, FaultKind)
        self.lag.row()

    # -- what others tell --------------------------------------------------

    def watch_hub(self, hub: Hub) -> None:
        """Show how often sinks failed."""
        self._hub = hub

    def watch_spool(self, octets: Callable[[], float]) -> None:
        """Show how much the spools hold; ``octets`` may be called from another thread."""
        self._spool = octets

    def watch_log(self, dropped: Callable[[], float]) -> None:
        """Show how many log lines were dropped; ``dropped`` may be called from another thread."""
        self._dropped = dropped

    def certificates(self, expiries: Mapping[str, float]) -> None:
        """Set what certificates there are: name -> expiry, seconds since the epoch."""
        self.expiry.values = {(name,): expiry for name, expiry in expiries.items()}

    def reactor_lag(self, seconds: float) -> None:
        """Count one measurement of how late a timer was."""
        self.lag.observe(seconds)

    # -- the hot path ------------------------------------------------------

    def watches(self) -> dict[type, Watch]:
        return {
            ReplySeen: self._reply,
            LoginSeen: self._login,
            SessionOpened: self._opened,
            SessionClosed: self._closed,
            ConnectionRefused: self._refused,
            TlsStarted: self._tls,
            TlsFailed: self._tls_failed,
            UpstreamConnected: self._connected,
            UpstreamFailed: self._failed,
            Fault: self._fault,
            ExtensionStruck: self._struck,
            PluginRan: self._plugin,
            MessageSeen: self._message,
        }

    def _reply(self, record: SessionRecord, reply: ReplySeen, now: float) -> None:
        command = reply.command
        verbs = self._commands.get(record.protocol) or self._unknown(record.protocol)
        counts = verbs.get(command.verb) or verbs[OTHER]
        result = reply.result
        counts.results[result if result in counts.results else "bad"] += 1
        at = command.at
        if 0 < at <= now:
            passed = now - at
            row = counts.row
            row[bisect_left(COMMAND_SECONDS, passed)] += 1
            row[-1] += passed

    def _unknown(self, protocol: str) -> dict[str, _Command]:
        """A protocol that no listener of the configuration has: a reload brought it."""
        verbs = {OTHER: _Command(self.durations.row(protocol, OTHER))}
        return self._commands.setdefault(protocol, verbs)

    # -- everything else ---------------------------------------------------

    def _login(self, record: SessionRecord, login: LoginSeen, now: float) -> None:
        mechanism = within(login.mechanism, MECHANISMS)
        result = within(login.outcome, OUTCOMES)
        self.logins.add(record.protocol, mechanism, result)
        self.protected.add(record.protocol, record.protection, result)
        if password_exposed(record, login):
            outcome = "accepted" if login.outcome == "ok" else "refused"
            self.exposed.add(record.protocol, mechanism, outcome)

    def _opened(self, record: SessionRecord, fact: SessionOpened, now: float) -> None:
        self.connections.add(record.protocol, record.listener)
        self.active.add(record.protocol, record.listener)

    def _closed(self, record: SessionRecord, fact: SessionClosed, now: float) -> None:
        protocol = record.protocol
        self.active.add(protocol, record.listener, by=-1)
        self.closed.add(protocol, fact.reason)
        self.bytes.add(protocol, "client", "received", by=record.bytes_from_client)
        self.bytes.add(protocol, "client", "sent", by=record.bytes_to_client)
        self.bytes.add(protocol, "upstream", "received", by=record.bytes_from_upstream)
        self.bytes.add(protocol, "upstream", "sent", by=record.bytes_to_upstream)

    def _refused(self, record: SessionRecord, fact: ConnectionRefused, now: float) -> None:
        self.refused.add(record.protocol, record.listener, within(fact.reason, REFUSALS))

    def _tls(self, record: SessionRecord, fact: TlsStarted, now: float) -> None:
        leg, version = str(fact.side), within(fact.tls.version, TLS_VERSIONS)
        self.handshakes.add(leg, record.protocol, fact.mode, version, "ok")
        self.ciphers.add(leg, self._cipher(fact.tls.cipher))

    def _tls_failed(self, record: SessionRecord, fact: TlsFailed, now: float) -> None:
        result = within(fact.reason, TLS_FAILURES)
        self.handshakes.add(str(fact.side), record.protocol, fact.mode, "none", result)

    def _connected(self, record: SessionRecord, fact: UpstreamConnected, now: float) -> None:
        self.connects.observe(fact.seconds, fact.upstream)
        self.up.set(fact.upstream, to=1)

    def _failed(self, record: SessionRecord, fact: UpstreamFailed, now: float) -> None:
        self.upstream_errors.add(fact.upstream, within(fact.reason, UPSTREAM_REASONS))
        self.up.set(fact.upstream, to=0)

    def _fault(self, record: SessionRecord, fact: Fault, now: float) -> None:
        self.anomalies.add(record.protocol, fact.kind)

    def _struck(self, record: SessionRecord, fact: ExtensionStruck, now: float) -> None:
        bounded = self._capability.setdefault(record.protocol, Bounded(64))
        self.struck.add(record.protocol, bounded(fact.name.upper()))

    def _plugin(self, record: SessionRecord, fact: PluginRan, now: float) -> None:
        self.plugin_runs.add(fact.plugin, fact.stage, fact.result, fact.applied)
        self.plugin_seconds.observe(fact.seconds, fact.plugin)

    def _message(self, record: SessionRecord, fact: MessageSeen, now: float) -> None:
        self.messages.add(record.protocol, fact.stage, within(fact.action, ACTIONS))
        self.sizes.observe(fact.size, record.protocol, fact.stage)

    # -- the scrape --------------------------------------------------------

    def describe(self) -> Iterable[Metric]:
        """Nothing is promised ahead: the registry need not collect to learn the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        build = GaugeMetricFamily("mailgate_build_info", "What is running.", labels=tuple(self._build))
        build.add_metric(tuple(self._build.values()), 1)
        yield build
        commands = CounterMetricFamily(
            "mailgate_commands", "Commands by result.", labels=("protocol", "command", "result")
        )
        for protocol, verbs in self._commands.copy().items():
            for verb, counts in verbs.items():
                for result, count in counts.results.items():
                    commands.add_metric((protocol, verb, result), count)
        yield commands
        for family in (
            self.durations,
            self.connections,
            self.active,
            self.refused,
            self.closed,
            self.handshakes,
            self.ciphers,
            self.expiry,
            self.logins,
            self.protected,
            self.exposed,
            self.connects,
            self.up,
            self.upstream_errors,
            self.bytes,
            self.messages,
            self.sizes,
            self.plugin_runs,
            self.plugin_seconds,
            self.struck,
            self.anomalies,
            self.lag,
        ):
            yield family.family()
        yield GaugeMetricFamily(
            "mailgate_spool_bytes", "Octets that held messages take in memory and on disk.", self._spool()
        )
        yield CounterMetricFamily(
            "mailgate_log_lines_dropped", "Log lines that could not be written.", self._dropped()
        )
        sinks = CounterMetricFamily("mailgate_sink_errors", "Facts that a sink failed on.", labels=("sink",))
        for name, count in (self._hub.failures.copy() if self._hub else {}).items():
            sinks.add_metric((name,), count)
        yield sinks
