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
    MessageAmbiguous,
    MessageSeen,
    PluginAnswered,
    PluginRan,
    SecurityEvent,
    SessionClosed,
    SessionOpened,
    TlsFailed,
    UpstreamConnected,
    UpstreamFailed,
)
from ..core.record import SessionRecord
from ..core.steps import OUTCOMES, ExtensionStruck, Fault, LoginSeen, ReplySeen, TlsStarted
from .catalogue import (
    ACTIONS,
    AUDIT_KINDS,
    COMMAND_SECONDS,
    MECHANISMS,
    REFUSALS,
    TLS_FAILURES,
    TLS_VERSIONS,
    UPSTREAM_REASONS,
    Catalogue,
    Verb,
    within,
)
from .families import OTHER, Bounded
from .hub import Hub, Sink, Watch
from .levels import password_exposed


class Metrics(Catalogue, Sink, Collector):
    """Counts facts.  Registers itself with the registry.

    listeners: name -> protocol.  upstreams: their names.  plugins: name -> stages.
    shadows: plugins that may run in shadow.
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
        shadows: Collection[str] = (),
        verbs: Mapping[str, Iterable[str]] | None = None,
        build: Mapping[str, str] | None = None,
        process: bool = True,
    ) -> None:
        super().__init__(verbs or {})
        self._build = dict(build or {})
        self._hub: Hub | None = None
        self._open: set[str] = set()
        self._spool: Callable[[], float] = lambda: 0
        self._hanging: Callable[[], float] = lambda: 0
        self._dropped: Callable[[], float] = lambda: 0
        self._quarantine: Callable[[], tuple[float, float, float]] = lambda: (0, 0, 0)
        self._views: Callable[[], tuple[float, float, float, float]] = lambda: (0, 0, 0, 0)
        self._guarding: Callable[[], tuple[Mapping[str, float], float, Mapping[str, float]]] = lambda: (
            {},
            0,
            {},
        )
        self._audit: Callable[[], tuple[Mapping[str, float], float, float]] = lambda: (
            dict.fromkeys(AUDIT_KINDS, 0),
            0,
            0,
        )
        self._events: Callable[[], Mapping[str, tuple[float, float, float]]] = dict
        self.expect(listeners, upstreams, plugins, shadows)
        registry.register(self)
        if process:
            ProcessCollector(registry=registry)
            GCCollector(registry=registry)

    # -- what others tell --------------------------------------------------

    def watch_hub(self, hub: Hub) -> None:
        """Show how often sinks failed."""
        self._hub = hub

    def watch_spool(self, octets: Callable[[], float]) -> None:
        """Show how much the spools hold; ``octets`` may be called from another thread."""
        self._spool = octets

    def watch_threads(self, hanging: Callable[[], float]) -> None:
        """Show how many threads hang in plugins; ``hanging`` may be called from another thread."""
        self._hanging = hanging

    def watch_views(self, figures: Callable[[], tuple[float, float, float, float]]) -> None:
        """Show the cache of rewritten messages: hits, misses, octets, failures of the verdict store."""
        self._views = figures

    def watch_quarantine(self, figures: Callable[[], tuple[float, float, float]]) -> None:
        """Show the quarantine: messages, octets, failures to keep one."""
        self._quarantine = figures

    def watch_audit(self, figures: Callable[[], tuple[Mapping[str, float], float, float]]) -> None:
        """Show the audit: records written by kind, records lost, records that wait."""
        self._audit = figures

    def watch_events(self, figures: Callable[[], Mapping[str, tuple[float, float, float]]]) -> None:
        """Show the outputs of events by name: records sent, lost, waiting."""
        self._events = figures

    def watch_guarding(
        self, figures: Callable[[], tuple[Mapping[str, float], float, Mapping[str, float]]]
    ) -> None:
        """Show locks by kind, logins refused by them, and how often clients had to wait for a rate."""
        self._guarding = figures

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
            MessageAmbiguous: self._ambiguous,
            PluginAnswered: self._answer,
            SecurityEvent: self._security,
            MessageSeen: self._message,
        }

    def _reply(self, record: SessionRecord, reply: ReplySeen, now: float) -> None:
        command = reply.command
        verbs = self.commands.get(record.protocol) or self._unknown(record.protocol)
        counts = verbs.get(command.verb) or verbs[OTHER]
        result = reply.result
        counts.results[result if result in counts.results else "bad"] += 1
        at = command.at
        if 0 < at <= now:
            passed = now - at
            row = counts.row
            row[bisect_left(COMMAND_SECONDS, passed)] += 1
            row[-1] += passed

    def _unknown(self, protocol: str) -> dict[str, Verb]:
        """A protocol that no listener was expected to have."""
        self._expect_protocol(protocol)
        return self.commands[protocol]

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
        self._open.add(record.id)

    def _closed(self, record: SessionRecord, fact: SessionClosed, now: float) -> None:
        protocol = record.protocol
        if record.id in self._open:  # one that was refused at once never opened
            self._open.discard(record.id)
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
        self.ciphers.add(leg, self.cipher_label(fact.tls.cipher))
        if fact.tls.resumed:
            self.resumed.add(leg)

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
        bounded = self.capability_label.setdefault(record.protocol, Bounded(64))
        self.struck.add(record.protocol, bounded(fact.name.upper()))

    def _plugin(self, record: SessionRecord, fact: PluginRan, now: float) -> None:
        self.plugin_runs.add(fact.plugin, fact.stage, fact.result, fact.applied)
        self.plugin_seconds.observe(fact.seconds, fact.plugin)

    def _ambiguous(self, record: SessionRecord, fact: MessageAmbiguous, now: float) -> None:
        self.ambiguous.add(record.protocol, fact.stage, fact.applied)

    def _answer(self, record: SessionRecord, fact: PluginAnswered, now: float) -> None:
        self.plugin_answers.add(fact.plugin, fact.hook, fact.result)

    def _security(self, record: SessionRecord, fact: SecurityEvent, now: float) -> None:
        self.security.add(fact.kind, fact.severity, by=fact.count)

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
        for protocol, verbs in self.commands.copy().items():
            for verb, counts in verbs.copy().items():
                for result, count in counts.results.items():
                    commands.add_metric((protocol, verb, result), count)
        yield commands
        for family in self.families():
            yield family.family()
        yield GaugeMetricFamily(
            "mailgate_spool_bytes", "Octets that held messages take in memory and on disk.", self._spool()
        )
        yield GaugeMetricFamily(
            "mailgate_plugin_threads_hanging",
            "Threads in which a plugin is past its time limit and has not come back.",
            self._hanging(),
        )
        yield CounterMetricFamily(
            "mailgate_log_lines_dropped", "Log lines that could not be written.", self._dropped()
        )
        hits, misses, kept, failures = self._views()
        yield CounterMetricFamily(
            "mailgate_verdict_cache_hits", "Fetched messages of which the verdict was at hand.", hits
        )
        yield CounterMetricFamily(
            "mailgate_verdict_cache_misses", "Fetched messages of which it was not.", misses
        )
        yield GaugeMetricFamily(
            "mailgate_view_bytes", "Octets of rewritten messages kept for clients that fetch pieces.", kept
        )
        yield CounterMetricFamily(
            "mailgate_verdict_store_errors", "Verdicts that could not be read or remembered.", failures
        )
        messages, octets, failed = self._quarantine()
        yield GaugeMetricFamily("mailgate_quarantine_messages", "Messages in the quarantine.", messages)
        yield GaugeMetricFamily("mailgate_quarantine_bytes", "Octets of the messages there.", octets)
        yield CounterMetricFamily(
            "mailgate_quarantine_failures", "Messages that could not be quarantined.", failed
        )
        written, lost, waiting = self._audit()
        records = CounterMetricFamily(
            "mailgate_audit_records", "Records that the audit's store has taken.", labels=("kind",)
        )
        for kind, taken in written.items():
            records.add_metric((kind,), taken)
        yield records
        yield CounterMetricFamily("mailgate_audit_lost", "Records that the audit has lost.", lost)
        yield GaugeMetricFamily("mailgate_audit_queue", "Records that wait to be written.", waiting)
        sent = CounterMetricFamily("mailgate_events_sent", "Records that an output took.", labels=("output",))
        dropped = CounterMetricFamily(
            "mailgate_events_lost", "Records that an output has lost.", labels=("output",)
        )
        queued = GaugeMetricFamily(
            "mailgate_events_queue", "Records that wait for an output.", labels=("output",)
        )
        for name, (went, gone, wait) in self._events().items():
            sent.add_metric((name,), went)
            dropped.add_metric((name,), gone)
            queued.add_metric((name,), wait)
        yield from (sent, dropped, queued)
        locks, refused, throttled = self._guarding()
        active = GaugeMetricFamily("mailgate_lockouts", "Who is locked out now, by kind.", labels=("kind",))
        for kind, held in locks.items():
            active.add_metric((kind,), held)
        yield active
        yield CounterMetricFamily("mailgate_logins_locked", "Logins refused because of a lock.", refused)
        waits = CounterMetricFamily("mailgate_throttled", "Times that clients had to wait.", labels=("kind",))
        for kind, times in throttled.items():
            waits.add_metric((kind,), times)
        yield waits
        sinks = CounterMetricFamily("mailgate_sink_errors", "Facts that a sink failed on.", labels=("sink",))
        for name, count in (self._hub.failures.copy() if self._hub else {}).items():
            sinks.add_metric((name,), count)
        yield sinks
