"""The certificates of a running gateway: read again when their files change, and told of before they end."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import structlog

from .config.errors import StartError
from .config.model import Configuration, Listener, Upstream
from .config.revocation import revocation_lists
from .core.facts import EventKind, SecurityEvent
from .core.record import SessionRecord
from .observe.hub import Hub
from .relay.keylog import KeyLog
from .relay.tls import ClientTls, KeyPair, ServerTls, TlsError
from .relay.validity import DAY, SEVERITY, Stage, Validity, in_words, of_certificate, of_lists

#: How soon files that have changed are looked at again, in seconds: they must be at rest.
SETTLE = 1.0
#: How often validities are looked at, in seconds.
HOURLY = 3600.0
#: How long the keys are used that seal session tickets (RFC 5077 5.5), in seconds.
TICKET_KEYS_TIME = 12 * 3600.0

AnyTls = TypeVar("AnyTls", ServerTls, ClientTls)
Print = tuple[tuple[int, int, int, int] | None, ...]


@dataclass
class Source:
    """One side's TLS, the files that it is made of, and how it is made again.

    user: "listener imap", "upstream dovecot".
    """

    user: str
    tls: ServerTls | ClientTls
    make: Callable[[], ServerTls | ClientTls]
    validities: Callable[[], list[Validity]]
    files: tuple[Path, ...]
    used: Print = ()  # the files' prints when they were taken into use, or refused
    seen: Print = ()
    made: float = 0.0
    known: list[Validity] = field(default_factory=list)
    problem: str = ""
    told: float = 0.0  # when the problem was told last

    def prints(self) -> Print:
        """Return what changes when a file does."""
        return tuple(_print(path) for path in self.files)

    def renew(self) -> str:
        """Make all anew from the files; return why that can't be.  Sessions keep what they have."""
        self.used = self.seen
        try:
            fresh = self.make()
            self.known = self.validities()
        except (TlsError, ValueError, OSError) as error:
            return _reason(error)
        self.tls.adopt(fresh)  # type: ignore[arg-type]
        return ""


def _print(path: Path) -> tuple[int, int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


class Certificates:
    """TLS of all listeners and upstreams, through reloads.

    changed: is called when validities have changed.
    """

    def __init__(self, reactor: Any, clock: Callable[[], float] = time.time) -> None:
        self._reactor = reactor
        self._clock = clock
        self._hub: Hub | None = None
        self._again: Any = None
        self._interval = 0.0
        self._sources: list[Source] = []
        self._key_logs: dict[Path, KeyLog] = {}
        self._told: dict[tuple[Path, float], tuple[Stage, float]] = {}
        self._checked = 0.0
        self.changed: Callable[[dict[str, float]], None] = lambda _: None

    # -- making --------------------------------------------------------------

    def prepare(self, configuration: Configuration) -> Prepared:
        """Load everything of a configuration.  Raises StartError."""
        prepared = Prepared(configuration, self._key_logs)
        try:
            for listener in configuration.listeners:
                if listener.tls.mode != "none":
                    prepared.add_listener(listener)
            for upstream in configuration.upstreams:
                if upstream.tls not in (None, "none"):
                    prepared.add_upstream(upstream)
        except (TlsError, ValueError, OSError) as error:
            prepared.close()
            raise StartError(_reason(error)) from None
        return prepared

    def use(self, prepared: Prepared) -> None:
        """Take what was prepared into use."""
        now = self._clock()
        for path, log in self._key_logs.items():
            if path not in prepared.key_logs:
                # Sessions that are open may still have keys to write: they go nowhere.
                log.close()
        self._key_logs = prepared.key_logs
        self._sources = list(prepared.sources)
        self._interval = prepared.interval
        for source in self._sources:
            source.made = now
        if self._hub is not None:
            self._begin()

    # -- watching ------------------------------------------------------------

    def attach(self, hub: Hub) -> None:
        """Publish events there, and look at the files from now on."""
        self._hub = hub
        self._begin()

    def stop(self) -> None:
        """Look at nothing any more."""
        if self._again is not None and self._again.active():
            self._again.cancel()
        for log in self._key_logs.values():
            log.close()

    def expiries(self) -> dict[str, float]:
        """Return when each certificate and revocation list ends: by name, in seconds since the epoch."""
        return {known.name: known.end for source in self._sources for known in source.known}

    def _begin(self) -> None:
        for path in self._key_logs:
            self._publish(
                EventKind.KEY_LOG,
                "alert",
                f"key log is on: whoever reads {path} can decrypt every connection",
                {"file": str(path)},
            )
        self._tell_validities()
        self._next(self._interval or HOURLY)

    def _next(self, seconds: float) -> None:
        if self._again is not None and self._again.active():
            self._again.cancel()
        self._again = self._reactor.callLater(seconds, self.look)

    def look(self) -> None:
        """Look whether files have changed, and at rest are; then use them."""
        now = self._clock()
        restless = renewed = False
        for source in self._sources:
            if self._interval:
                found = source.prints()
                moving, source.seen = found != source.seen, found
                if found != source.used and moving:
                    restless = True
                elif found != source.used or now - source.made > TICKET_KEYS_TIME:
                    renewed |= self._renew(source, now)
            if source.problem and now - source.told >= DAY:
                self._tell_problem(source, now)
        if renewed:
            self.changed(self.expiries())
        if renewed or now - self._checked >= HOURLY:
            self._tell_validities()
        self._next(min(SETTLE, self._interval) if restless else self._interval or HOURLY)

    def _renew(self, source: Source, now: float) -> bool:
        different = source.seen != source.used
        problem = source.renew()
        source.made = now
        if not different:  # only the keys of tickets are renewed
            return False
        if problem:
            source.problem = problem
            self._tell_problem(source, now)
            return False
        source.problem = ""
        structlog.get_logger().info("certificates renewed", tls_of=source.user)
        return True

    def _tell_problem(self, source: Source, now: float) -> None:
        source.told = now
        detail = f"{source.user}: the new files can't be used, the old ones stay: {source.problem}"
        self._publish(EventKind.CERTIFICATE, "alert", detail, {"user": source.user})

    def _tell_validities(self) -> None:
        """Tell what ends soon: each stage once, then daily."""
        now = self._checked = self._clock()
        found: defaultdict[tuple[Path, float], list[tuple[Source, Validity]]] = defaultdict(list)
        for source in self._sources:
            for known in source.known:
                found[known.path, known.end].append((source, known))
        for key, uses in found.items():
            known = uses[0][1]
            stage = known.stage(now)
            before, when = self._told.get(key, (Stage.GOOD, 0.0))
            if stage is Stage.GOOD or (stage == before and now - when < DAY):
                continue
            self._told[key] = (stage, now)
            users = ", ".join(source.user for source, _ in uses)
            data = {"file": str(known.path), "ends": str(int(known.end))}
            self._publish(EventKind.CERTIFICATE, SEVERITY[stage], in_words(known, users, now), data)
        self._told = {key: told for key, told in self._told.items() if key in found}

    def _publish(self, kind: EventKind, severity: str, detail: str, data: dict[str, str]) -> None:
        if self._hub is not None:
            event = SecurityEvent(kind, severity, detail, data=data)
            self._hub.publish(SessionRecord("", "", "", "", 0), event, time.time())


class Prepared:
    """TLS of one configuration, loaded and not yet in use."""

    def __init__(self, configuration: Configuration, key_logs: dict[Path, KeyLog]) -> None:
        self.interval = configuration.tls.watch
        self.sources: list[Source] = []
        self.key_logs: dict[Path, KeyLog] = {}
        self._open = key_logs
        self.servers: dict[str, ServerTls] = {}
        self.clients: dict[str, ClientTls] = {}

    def close(self) -> None:
        """Give up what was opened for it alone."""
        for path, log in self.key_logs.items():
            if path not in self._open:
                log.close()

    def _key_log(self, path: Path | None) -> Callable[[bytes], None] | None:
        if path is None:
            return None
        if path not in self.key_logs:
            self.key_logs[path] = self._open.get(path) or KeyLog(path, _key_log_failed)
        return self.key_logs[path].write

    def add_listener(self, table: Listener) -> None:
        """Load a listener's.  Raises TlsError, ValueError, OSError."""
        tls = table.tls
        key_log = self._key_log(tls.key_log)

        def make() -> ServerTls:
            return ServerTls(
                [KeyPair(pair.certificate, pair.key) for pair in tls.certificates],
                protocol=table.protocol,
                profile=tls.profile,
                client_ca=tls.client_ca,
                client_crl=revocation_lists(tls.client_crl),
                client_certificate=tls.client_certificate,
                key_log=key_log,
                ja4=tls.ja4,
            )

        def validities() -> list[Validity]:
            found = [
                of_certificate(f"{table.name}/{pair.certificate.name}", "certificate", pair.certificate)
                for pair in tls.certificates
            ]
            return found + _of_list(table.name, tls.client_crl)

        files = [path for pair in tls.certificates for path in (pair.certificate, pair.key)]
        files += [path for path in (tls.client_ca, tls.client_crl) if path is not None]
        self.servers[table.name] = self._add(f"listener {table.name}", make, validities, files)

    def add_upstream(self, table: Upstream) -> None:
        """Load an upstream's.  Raises TlsError, ValueError, OSError."""

        def make() -> ClientTls:
            pair = KeyPair(table.certificate, table.key) if table.certificate and table.key else None
            return ClientTls(verify=table.verify, ca=table.ca, crl=revocation_lists(table.crl), pair=pair)

        def validities() -> list[Validity]:
            name = f"upstream {table.name}"
            shown = table.certificate
            found = [of_certificate(f"{name}/{shown.name}", "client certificate", shown)] if shown else []
            return found + _of_list(name, table.crl)

        files = [path for path in (table.ca, table.crl, table.certificate, table.key) if path is not None]
        self.clients[table.name] = self._add(f"upstream {table.name}", make, validities, files)

    def _add(
        self,
        user: str,
        make: Callable[[], AnyTls],
        validities: Callable[[], list[Validity]],
        files: Sequence[Path],
    ) -> AnyTls:
        prints = tuple(_print(path) for path in files)  # before they are read: what changes then is seen
        made = make()
        self.sources.append(Source(user, made, make, validities, tuple(files), prints, prints))
        self.sources[-1].known = validities()
        return made


def _of_list(name: str, path: Path | None) -> list[Validity]:
    if path is None:
        return []
    found = of_lists(f"{name}/{path.name}", path, revocation_lists(path))
    return [found] if found is not None else []


def _key_log_failed(path: Path, error: OSError) -> None:
    structlog.get_logger().error("key log not written", path=str(path), why=error.strerror or str(error))
