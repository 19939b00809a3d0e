"""Configuration to services: the one file that knows all parts."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import pwd
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import structlog
from prometheus_client import CollectorRegistry
from twisted.internet import defer, threads

from . import __version__
from .admin.control import ControlSocket
from .admin.lag import LagMeter
from .admin.server import AdminServer
from .auditing import Audit, on_loop
from .certifying import Certificates
from .config.errors import ConfigurationError, StartError
from .config.model import Configuration
from .config.model import Listener as ListenerTable
from .config.model import Upstream as UpstreamTable
from .config.reading import read
from .config.rules import COMMAND_TIME, rules_for
from .core.facts import Fact
from .core.gate import Need
from .core.policy import PolicyBook
from .core.record import SessionRecord
from .core.steps import Stage
from .exporting import Exporting
from .guarding import Guarding
from .inspection.guard import HOOKS, FactWatchers, overrides
from .inspection.loader import LoadedPlugin, PluginConfigErrors, load_plugins
from .inspection.pipeline import Pipeline
from .inspection.quarantine import Quarantine
from .inspection.threads import PluginThreads
from .inspection.verdicts import VerdictStore
from .observe import log_setup
from .observe.console import Palette
from .observe.hub import Hub, Sink, Watch
from .observe.metrics import Metrics
from .observe.transcript import Choice, Transcripts
from .observe.writer import Writer
from .policies import policy_of
from .protocols.registry import ENGINES
from .relay.limits import ConnectionLimits
from .relay.listener import Listener, Sessions
from .relay.memory import settle_memory
from .relay.occupant import occupant
from .relay.settings import SessionSettings, Timeouts
from .relay.spool import SpoolSettings
from .relay.tls import ClientTls
from .relay.upstream import Address, Upstream
from .relay.views import ViewCache

Result = TypeVar("Result")

#: Threads for plugins that are plain functions; and as many for resolving names and large messages.
THREADS = 16

#: How often messages are looked for that were quarantined too long ago, in seconds.
PURGE_EVERY = 3600.0


class TwistedRunner:
    """Runs plugins for the pipeline: in threads, and with a limit of time."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        #: Of all pipelines, so that reloads don't add to the plugins that hang.
        self.plugin_threads = PluginThreads(THREADS)

    async def in_thread(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call a function in a thread of the reactor's pool."""
        result: Result = await threads.deferToThreadPool(
            self._reactor, self._reactor.getThreadPool(), function, *arguments
        )
        return result

    async def result_of(self, future: Future[Result]) -> Result:
        """Await what another thread comes to."""
        waiting: defer.Deferred[Any] = defer.Deferred(lambda _: void(future.cancel()))

        def settle() -> None:
            if not waiting.called:
                error = future.exception()
                if error is not None:
                    waiting.errback(error)
                else:
                    waiting.callback(future.result())

        future.add_done_callback(lambda _: self._reactor.callFromThread(settle))
        result: Result = await waiting
        return result

    async def with_limit(self, awaitable: Awaitable[Result], seconds: float) -> Result:
        """Await for at most so many seconds.  Raises TimeoutError."""
        waiting: defer.Deferred[Any] = defer.ensureDeferred(awaitable)  # type: ignore[arg-type]
        waiting.addTimeout(seconds, self._reactor)
        try:
            result: Result = await waiting
        except defer.TimeoutError:  # what addTimeout fails with
            raise TimeoutError(f"no verdict within {seconds:g} s") from None
        return result


class PluginFacts(Sink):
    """Shows facts to the plugins that have ``on_fact``."""

    def __init__(self, watchers: FactWatchers) -> None:
        self._watchers = watchers

    def watches(self) -> dict[type, Watch]:
        return dict.fromkeys(get_args(Fact), self._show) if self._watchers else {}

    def _show(self, record: SessionRecord, fact: object, now: float) -> None:
        self._watchers(record, fact)


class Kept:
    """What outlives a reload: how messages were judged on their way to clients."""

    def __init__(self, configuration: Configuration) -> None:
        """Open the store.  Raises StartError."""
        self.views = ViewCache(configuration.views.cache)
        try:
            self.verdicts = VerdictStore(configuration.views.verdicts)
        except OSError as error:
            raise StartError(f"views.verdicts: {error}") from None

    def figures(self) -> tuple[float, float, float, float]:
        """Return what the metrics show: hits, misses, octets, failures."""
        views = self.views
        return views.hits, views.misses, views.octets, self.verdicts.failures


@dataclass(frozen=True)
class Services:
    """What goes on through reloads, each with tables of its own."""

    audit: Audit
    guarding: Guarding
    exporting: Exporting
    certificates: Certificates


class Parts:
    """What one reading of the configuration gives: everything that a reload exchanges."""

    def __init__(
        self,
        configuration: Configuration,
        runner: TwistedRunner,
        spool: SpoolSettings,
        kept: Kept,
        services: Services,
    ) -> None:
        """Build everything.  Raises StartError, and changes nothing outside itself."""
        self.configuration = configuration
        self._kept = kept
        self._services = services
        self.use_guarding = services.guarding.prepare(configuration.abuse)
        self.policies = PolicyBook([policy_of(table) for table in configuration.policies])
        self.use_audit = services.audit.prepare(configuration.audit)
        self.use_exporting = services.exporting.prepare(
            configuration.events, configuration.audit, configuration.hostname
        )
        self.tls = services.certificates.prepare(configuration)
        try:
            kept_in = configuration.quarantine_place()
            self.quarantine = (
                Quarantine(kept_in, configuration.quarantine.max_size) if kept_in is not None else None
            )
            self.plugins: list[LoadedPlugin] = load_plugins(configuration.plugin_specs())
            self.upstreams = {
                table.name: _upstream(table, self.tls.clients.get(table.name))
                for table in configuration.upstreams
            }
            self.pipeline = Pipeline(
                self.plugins,
                runner,
                hostname=configuration.hostname,
                on_exception=_plugin_failed,
                threads=runner.plugin_threads,
                limits=configuration.parse_limits(),
                defects=configuration.inspection.defects,
            )
            self.settings = {table.name: self._settings(table, spool) for table in configuration.listeners}
        except (PluginConfigErrors, ValueError, OSError) as error:
            self.tls.close()
            raise StartError(str(error)) from None

    def _settings(self, table: ListenerTable, spool: SpoolSettings) -> SessionSettings:
        upstream = next(u for u in self.configuration.upstreams if u.name == table.upstream)
        hold = self.pipeline.subscribes(table.name, table.protocol)
        limits, timeouts, tls = table.limits, table.timeouts, table.tls
        towards_client = hold & {Stage.RETR, Stage.FETCH}
        return SessionSettings(
            name=table.name,
            protocol=table.protocol,
            engine=ENGINES[table.protocol],
            rules=rules_for(self.configuration, table, upstream, hold),
            upstream=self.upstreams[table.upstream],
            pipeline=self.pipeline,
            spool=spool,
            tls_mode=tls.mode,
            server_tls=self.tls.servers.get(table.name),
            timeouts=Timeouts(
                handshake=timeouts.handshake,
                prologue=timeouts.prologue,
                login=timeouts.login,
                command=timeouts.command if timeouts.command is not None else COMMAND_TIME[table.protocol],
                reply=timeouts.reply,
                body=timeouts.body,
                idle=timeouts.idle,
            ),
            digest=table.digest,
            watch=self.pipeline.observes(table.name, table.protocol),
            views=self._kept.views if Stage.FETCH in hold else None,
            verdicts=self._kept.verdicts if towards_client else None,
            pipeline_version=self.pipeline.version,
            quarantine=self.quarantine,
            policies=self.policies,
            guards=tuple(
                plugin
                for plugin in self.plugins
                if plugin.watches(table.name) and any(overrides(plugin, f"on_{hook}") for hook in HOOKS)
            ),
            barrier=self._barrier if self._has_barrier else None,
            proxy_from=tuple(table.proxy_protocol_from),
            trusted=tuple(table.trusted_networks),
            max_connections=limits.connections,
            max_per_address=limits.connections_per_address,
            rate_per_address=limits.connection_rate,
            greeting_delay=table.smtp.greeting_delay if table.protocol in ("smtp", "lmtp") else 0.0,
        )

    @property
    def _has_barrier(self) -> bool:
        return self.configuration.audit.required or self.configuration.abuse.mode == "enforce"

    def _barrier(self, address: str, user: str) -> Need | None:
        """Say what a login lacks whatever the policies are."""
        if self._services.audit.closed:
            return Need.AUDIT
        return self._services.guarding.lacks(address, user)


def _upstream(table: UpstreamTable, client_tls: ClientTls | None) -> Upstream:
    return Upstream(
        table.name,
        [Address(address.host, address.port) for address in table.addresses],
        tls=table.tls or "none",
        client_tls=client_tls,
        server_name=table.server_name,
        connect_timeout=table.connect_timeout,
        retry_after=table.retry_after,
        proxy_protocol=table.proxy_protocol,
    )


def void(_value: object) -> None:
    """Take a value and give none."""


def _transcripts(configuration: Configuration) -> Transcripts | None:
    """Return what chooses sessions to be written down; None where none is to be."""
    choices = [
        Choice(
            directory=table.directory,
            listeners=table.listeners,
            users=table.users,
            addresses=table.addresses,
            share=table.share,
            content=table.content,
        )
        for table in configuration.transcripts
    ]
    return Transcripts(choices) if choices else None


def _plugin_failed(plugin: str, error: BaseException) -> None:
    structlog.get_logger().error("plugin failed", plugin=plugin, exc_info=error)


class Gateway:
    """The running gateway: listeners, sessions, sinks, admin server.

    extra_sinks: more watchers of facts, as the demonstration has.
    """

    def __init__(
        self,
        configuration: Configuration,
        reactor: Any,
        *,
        log: Writer | None = None,
        extra_sinks: Sequence[Sink] = (),
    ) -> None:
        """Prepare everything but the sockets.  Raises StartError."""
        self._reactor = reactor
        self._runner = TwistedRunner(reactor)
        self._spool = SpoolSettings(configuration.spool.directory, configuration.spool.memory)
        self._kept = Kept(configuration)
        self.audit = Audit(on_loop(reactor))
        self.guarding = Guarding(reactor)
        self.exporting = Exporting(on_loop(reactor))
        self.certificates = Certificates(reactor)
        self._parts = self._read(configuration)
        self._log = structlog.get_logger()
        self.registry = CollectorRegistry()
        self.metrics = self._make_metrics()
        self._plugin_facts = PluginFacts(FactWatchers(self._parts.plugins, _plugin_failed))
        sinks: list[Sink] = [*extra_sinks, self.metrics, self._plugin_facts]
        self.hub = Hub(sinks)
        self.metrics.watch_hub(self.hub)
        self.metrics.watch_spool(lambda: self._spool.in_use)
        self.metrics.watch_threads(lambda: self._runner.plugin_threads.hanging)
        self.metrics.watch_views(self._kept.figures)
        self.metrics.watch_quarantine(self._quarantine_figures)
        self.metrics.watch_audit(self.audit.figures)
        self.metrics.watch_events(self.exporting.figures)
        self.metrics.watch_guarding(self.guarding.figures)
        self.certificates.changed = self.metrics.certificates
        if log is not None:
            self.metrics.watch_log(lambda: log.dropped)
        self.sessions = Sessions(
            self.hub,
            ConnectionLimits(configuration.limits.connections),
            reactor,
            _transcripts(configuration),
        )
        self.sessions.watchman = self.guarding.watchman
        self.listeners: dict[str, Listener] = {}
        self._control: ControlSocket | None = None
        self._admin: AdminServer | None = None
        self._lag = LagMeter(reactor, self.metrics.reactor_lag)
        self._stopping = False
        self._purging: Any = None
        self._retired: dict[Pipeline, Any] = {}  # to the call that ends its time

    def _read(self, configuration: Configuration) -> Parts:
        services = Services(self.audit, self.guarding, self.exporting, self.certificates)
        return Parts(configuration, self._runner, self._spool, self._kept, services)

    @property
    def configuration(self) -> Configuration:
        return self._parts.configuration

    def _make_metrics(self) -> Metrics:
        configuration = self._parts.configuration
        return Metrics(
            self.registry,
            listeners={table.name: table.protocol for table in configuration.listeners},
            upstreams=[table.name for table in configuration.upstreams],
            plugins={plugin.name: plugin.stages for plugin in self._parts.plugins},
            shadows=[plugin.name for plugin in self._parts.plugins if plugin.may_shadow],
            verbs={name: engine.verbs for name, engine in ENGINES.items()},
            build=build_info(),
        )

    # -- start -------------------------------------------------------------

    def bind(self) -> None:
        """Bind every listener and the admin server.  Raises StartError, and then binds none."""
        try:
            for table in self.configuration.listeners:
                self.listeners[table.name] = self._bound(table)
            admin = self.configuration.admin.address
            if admin is not None:
                self._admin = AdminServer(admin.host, admin.port, self.registry, self.readiness)
                try:
                    self._admin.start()
                except Exception as error:  # noqa: BLE001 - Twisted wraps the OSError
                    cause = getattr(error, "socketError", None) or OSError(0, str(error))
                    raise StartError(_bind_problem("admin", str(admin), cause)) from None
        except StartError:
            for listener in self.listeners.values():
                listener.stop()
            raise

    def _bound(self, table: ListenerTable) -> Listener:
        address = table.address
        listener = Listener(
            self._parts.settings[table.name], address.host, address.port, self.sessions, self._log
        )
        try:
            listener.bind()
        except OSError as error:
            raise StartError(_bind_problem(f"listener {table.name!r}", str(address), error)) from None
        return listener

    def start(self) -> None:
        """Begin to accept."""
        self._reactor.suggestThreadPoolSize(THREADS)
        self._parts.pipeline.start()
        self._parts.use_audit()  # when the user is whom it will stay
        self.audit.attach(self.hub)
        self._parts.use_exporting()
        self.exporting.attach(self.hub)
        self._parts.use_guarding()
        self.guarding.attach(self.hub)
        self.certificates.use(self._parts.tls)
        self.metrics.certificates(self.certificates.expiries())
        self.certificates.attach(self.hub)
        self._listen_for_commands()
        self.sessions.start()
        self._lag.start()
        self._purge()
        for listener in self.listeners.values():
            listener.start()
            settings = listener.settings
            self._log.info(
                "listening",
                listener=settings.name,
                protocol=settings.protocol,
                address=listener.address,
                tls=settings.tls_mode,
                upstream=settings.upstream.name,
            )
        if self._admin is not None:
            self._log.info("admin", address=f"http://{self.configuration.admin.address}")

    def _listen_for_commands(self) -> None:
        path = self.configuration.admin.control
        if path is None:
            return
        control = ControlSocket(path, self.guarding.commands(), self._reactor)
        try:
            control.start()
        except OSError as error:  # mail passes without it
            self._log.error("no control socket", path=str(path), why=error.strerror or str(error))
        else:
            self._control = control

    def _quarantine_figures(self) -> tuple[float, float, float]:
        """Return messages, octets, failures."""
        quarantine = self._parts.quarantine
        return (*quarantine.figures(), quarantine.failures) if quarantine is not None else (0, 0, 0)

    def _purge(self) -> None:
        """Forget what was quarantined too long ago; and again in a while."""
        self._purging = self._reactor.callLater(PURGE_EVERY, self._purge)
        quarantine = self._parts.quarantine
        if quarantine is not None:
            retention = self.configuration.quarantine.retention
            done = threads.deferToThreadPool(
                self._reactor, self._reactor.getThreadPool(), quarantine.purge, retention
            )
            done.addCallbacks(self._purged, self._not_purged)

    def _purged(self, count: int) -> None:
        if count:
            self._log.info("quarantine purged", messages=count)

    def _not_purged(self, failure: Any) -> None:
        self._log.error("quarantine not purged", why=str(failure.value))

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        """Say whether mail can pass: listeners up, and an upstream of each not known dead."""
        listeners = {name: listener.is_listening for name, listener in self.listeners.items()}
        upstreams = {name: upstream.is_up() for name, upstream in self._parts.upstreams.items()}
        ready = not self._stopping and all(listeners.values()) and all(upstreams.values())
        return ready, {
            "listeners": listeners,
            "upstreams": upstreams,
            "sessions": len(self.sessions),
            "stopping": self._stopping,
        }

    # -- reload ------------------------------------------------------------

    def reload(self, configuration: Configuration) -> None:
        """Build new, swap, let old sessions end.  Raises StartError, and then nothing has changed."""
        parts = self._read(configuration)
        fresh: dict[str, Listener] = {}
        kept: dict[str, Listener] = {}
        by_address = {(one.host, one.port): one for one in self.listeners.values()}
        old_parts, self._parts = self._parts, parts
        try:
            for table in configuration.listeners:
                there = by_address.get((table.address.host, table.address.port))
                if there is not None:
                    kept[table.name] = there
                else:
                    fresh[table.name] = self._bound(table)
        except StartError:
            for listener in fresh.values():
                listener.stop()
            self._parts = old_parts
            parts.tls.close()
            raise
        parts.use_audit()
        parts.use_exporting()
        parts.use_guarding()
        for name, listener in kept.items():
            listener.settings = parts.settings[name]
        for listener in self.listeners.values():
            if listener not in kept.values():
                listener.stop()
        parts.pipeline.start()
        for listener in fresh.values():
            listener.start()
        self.listeners = {**kept, **fresh}
        self.sessions.limits.total = configuration.limits.connections
        self.sessions.chooser = _transcripts(configuration)
        plugin_facts = PluginFacts(FactWatchers(parts.plugins, _plugin_failed))
        self.hub.exchange(self._plugin_facts, plugin_facts)
        self._plugin_facts = plugin_facts
        self._kept.views.most_octets = configuration.views.cache
        self.certificates.use(parts.tls)
        self.metrics.certificates(self.certificates.expiries())
        self.metrics.expect(
            listeners={table.name: table.protocol for table in configuration.listeners},
            upstreams=[table.name for table in configuration.upstreams],
            plugins={plugin.name: plugin.stages for plugin in parts.plugins},
            shadows=[plugin.name for plugin in parts.plugins if plugin.may_shadow],
        )
        self._retire(old_parts.pipeline, parts.pipeline)
        self._log.info("reloaded", listeners=len(self.listeners))

    def _retire(self, old: Pipeline, new: Pipeline) -> None:
        """Let old sessions keep their plugins, but not for ever."""
        old.retire(new)
        self._retired = {one: bound for one, bound in self._retired.items() if not one.is_stopped}
        if not old.is_stopped:
            self._retired[old] = self._reactor.callLater(self.configuration.limits.old_plugins, old.expire)

    # -- stop --------------------------------------------------------------

    def stop(self) -> defer.Deferred[None]:
        """Accept no more, let messages in flight finish, say goodbye; then leave, within a bound."""
        self._stopping = True
        for listener in self.listeners.values():
            listener.stop()
        self._log.info("stopping", sessions=len(self.sessions))
        done: defer.Deferred[None] = defer.Deferred()
        bound = self._reactor.callLater(self.configuration.limits.drain, self.sessions.cut)

        def finished() -> None:
            if bound.active():
                bound.cancel()
            self.sessions.cut()
            self._lag.stop()
            self.guarding.stop()
            self.certificates.stop()
            if self._control is not None:
                self._control.stop()
            if self._purging is not None and self._purging.active():
                self._purging.cancel()
            for old, expiry in self._retired.items():
                if expiry.active():
                    expiry.cancel()
                old.stop()
            self._parts.pipeline.stop()
            waiting = self._admin.stop() if self._admin is not None else defer.succeed(None)
            waiting.addBoth(lambda _: done.callback(None))

        self.sessions.stop(finished)
        return done

    def close(self) -> None:
        """Close the audit, the outputs of events and the sinks: call it when the reactor has stopped."""
        self.audit.close()
        self.exporting.close()
        self.hub.close()


def build_info() -> dict[str, str]:
    """Return the labels of ``mailgate_build_info``."""
    import twisted
    from OpenSSL import SSL

    return {
        "version": __version__,
        "revision": os.environ.get("MAILGATE_REVISION", ""),
        "python": platform.python_version(),
        "twisted": twisted.__version__,
        "openssl": SSL.SSLeay_version(SSL.SSLEAY_VERSION).decode().split()[1],
    }


def _bind_problem(what: str, address: str, error: OSError) -> str:
    """Say why an address can't be listened on, and what helps."""
    if error.errno == errno.EADDRINUSE:
        holder = occupant(int(address.rpartition(":")[2])) or "another program (see `ss -ltnp`)"
        return f"{what}: {address} is in use by {holder}"
    if error.errno == errno.EACCES:
        return (
            f"{what}: no permission to listen on {address}; a port below 1024 needs root (with `user` set) "
            "or the capability CAP_NET_BIND_SERVICE"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{what}: {address} is no address of this machine"
    return f"{what}: can't listen on {address}: {error.strerror or error}"


def drop_privileges(user: str) -> None:
    """Become another user, for good.  Raises StartError."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise StartError(f"user: there is no user {user!r}") from None
    try:
        os.initgroups(user, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    except OSError as error:
        raise StartError(f"user: can't become {user!r}: {error.strerror}") from None


def notify(state: str) -> None:
    """Tell systemd, if it asked to be told (sd_notify(3))."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect("\0" + path[1:] if path.startswith("@") else path)
        sock.send(state.encode())


def open_log(configuration: Configuration) -> tuple[Writer, Sink]:
    """Set the program's own log up, and return its writer and the sessions' sink.

    Raises StartError where the log can't be opened.
    """
    log = configuration.log
    stream = {"stderr": sys.stderr, "stdout": sys.stdout}.get(str(log.output))
    target: Path | int = stream.fileno() if stream is not None else Path(log.output)
    terminal = stream is not None and stream.isatty()
    json = log.format == "json" or (log.format == "auto" and not terminal)
    palette = Palette.of(stream) if stream is not None else Palette()
    try:
        writer = Writer(target, dropped_line=log_setup.dropped_line(json, palette))
    except OSError as error:
        raise StartError(f"log.output: can't write {log.output}: {error.strerror}") from None
    log_setup.set_up(writer, json=json, level=log.level, palette=palette)
    sink = log_setup.session_log(writer, json=json, level=log.level, commands=log.commands, palette=palette)
    return writer, sink


def run(configuration: Configuration, path: Path) -> int:
    """Run until SIGTERM or SIGINT; return the exit status.  Raises StartError before that.

    SIGHUP reads the configuration at ``path`` again; SIGUSR1 opens the log's file anew.
    """
    from .relay.reactor import install

    install()
    from twisted.internet import reactor as installed

    reactor: Any = installed
    writer, session_log = open_log(configuration)
    unwatch = log_setup.watch_twisted()
    log = structlog.get_logger()
    try:
        gateway = Gateway(configuration, reactor, log=writer, extra_sinks=[session_log])
        gateway.bind()
        if configuration.user:
            drop_privileges(configuration.user)
    except StartError:
        writer.close()
        raise
    status = 0

    def started() -> None:
        gateway.start()
        notify("READY=1")

    def reload() -> None:
        notify("RELOADING=1")
        try:
            gateway.reload(read(path))
            writer.reopen()
        except ConfigurationError as error:
            for problem in error.problems:
                log.error("reload refused", problem=str(problem))
        except StartError as error:
            log.error("reload refused", problem=str(error))
        notify("READY=1")

    def stop() -> None:
        if not gateway._stopping:
            notify("STOPPING=1")
            gateway.stop().addBoth(lambda _: reactor.stop())

    def on_signal(what: Callable[[], None]) -> Callable[[int, object], None]:
        return lambda _number, _frame: reactor.callFromThread(what)

    reactor.callWhenRunning(started)
    signal.signal(signal.SIGHUP, on_signal(reload))
    signal.signal(signal.SIGUSR1, on_signal(writer.reopen))
    signal.signal(signal.SIGTERM, on_signal(stop))
    signal.signal(signal.SIGINT, on_signal(stop))
    settle_memory()
    reactor.run(installSignalHandlers=False)
    gateway.close()
    log.info("stopped")
    unwatch()
    writer.close()
    return status
