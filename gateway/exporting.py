"""Events out, of a running gateway: from the tables [[events]] to outlets, each with a writer of its own."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .audit.record import AuditRecord
from .audit.writer import AuditWriter, Report, Wording
from .auditing import privacy_of
from .config.errors import StartError
from .config.model import Audit as AuditTable
from .config.model import EventsTable
from .core.facts import EventKind, SecurityEvent
from .core.record import SessionRecord
from .export.file import FileOutlet
from .export.outlet import Outlet, private, wanted
from .export.syslog import SyslogOutlet
from .export.webhook import WebhookOutlet, read_secret
from .observe.audit import AuditSink
from .observe.hub import Hub


@dataclass
class _Output:
    """One table in use."""

    made_of: tuple[object, ...]  # all that it was made of: if that is the same, it stays
    writer: AuditWriter
    takes: Callable[[AuditRecord], bool]

    def put(self, record: AuditRecord) -> None:
        """Take a record that is wanted."""
        if self.takes(record):
            self.writer.put(record)


class Exporting:
    """All outputs, through reloads.  Counts what each has sent and lost.

    run: calls a function on the event loop, from any thread.
    """

    def __init__(self, run: Callable[..., None]) -> None:
        self._run = run
        self._hub: Hub | None = None
        self._sink: AuditSink | None = None
        self._outputs: dict[str, _Output] = {}
        self._lock = threading.Lock()  # of the counts of writers that are no more
        self._past: dict[str, tuple[int, int]] = {}
        self._retiring: dict[AuditWriter, threading.Thread] = {}

    def prepare(self, tables: Sequence[EventsTable], audit: AuditTable, hostname: str) -> Callable[[], None]:
        """Read what tables name; return what takes them into use.  Raises StartError."""
        made: dict[str, tuple[EventsTable, tuple[object, ...], Outlet]] = {}
        for table in tables:
            try:
                outlet = outlet_of(table, hostname)
                if table.privacy:
                    privacy_of(audit)
            except (ValueError, OSError) as error:
                raise StartError(f"events {table.name!r}: {error}") from None
            made[table.name] = (table, (table, audit, hostname, _ages(table)), outlet)
        return lambda: self._use(made, audit)

    def _use(
        self, made: dict[str, tuple[EventsTable, tuple[object, ...], Outlet]], audit: AuditTable
    ) -> None:
        old = self._outputs
        self._outputs = {
            name: old[name]
            if name in old and old[name].made_of == made_of
            else self._output(table, made_of, outlet, audit)
            for name, (table, made_of, outlet) in made.items()
        }
        for name, output in old.items():
            if self._outputs.get(name) is not output:
                # It may take a while, and the event loop can't wait.
                thread = threading.Thread(target=self._retire, args=(name, output.writer))
                self._retiring[output.writer] = thread
                thread.start()
        takers = [output.put for output in self._outputs.values()]
        sink, self._sink = self._sink, AuditSink(takers) if takers else None
        if self._hub is not None and (sink or self._sink):
            self._hub.exchange(sink, self._sink)

    def _output(
        self, table: EventsTable, made_of: tuple[object, ...], outlet: Outlet, audit: AuditTable
    ) -> _Output:
        privacy = privacy_of(audit) if table.privacy else None
        writer = AuditWriter(
            outlet,
            bound=table.queue,
            prepare=private(privacy) if privacy is not None else None,
            tell=lambda report: self._run(self._publish, table.name, report),
            wording=Wording("events", "output", f"the output {table.name}", {"output": table.name}),
        )
        return _Output(made_of, writer, wanted(frozenset(table.what), table.min_severity))

    def _retire(self, name: str, writer: AuditWriter) -> None:
        writer.close()
        with self._lock:  # so that no count ever falls
            sent, lost = self._past.get(name, (0, 0))
            self._past[name] = (sent + sum(writer.written.values()), lost + writer.lost)
            self._retiring.pop(writer, None)

    def attach(self, hub: Hub) -> None:
        """Have the hub show facts to the outputs, from now on."""
        self._hub = hub
        if self._sink is not None:
            hub.exchange(None, self._sink)

    def figures(self) -> dict[str, tuple[int, int, int]]:
        """Return what the metrics show of each output: records sent, lost, waiting."""
        with self._lock:
            found = {}
            for name, output in self._outputs.items():
                sent, lost = self._past.get(name, (0, 0))
                writer = output.writer
                found[name] = (sent + sum(writer.written.values()), lost + writer.lost, writer.waiting)
        return found

    def _publish(self, name: str, report: Report) -> None:
        """Tell the others, and the audit, that an output fails."""
        if self._hub is None or (report.state == "recovered" and not report.lost):
            return
        data = {"output": name, "lost": str(report.lost)}
        event = SecurityEvent(
            EventKind.AUDIT_LOST, "warning", report.detail, count=max(1, report.lost), data=data
        )
        self._hub.publish(SessionRecord("", "", "", "", 0), event, time.time())

    def close(self) -> None:
        """Send what waits, all outputs at once, within a bound."""
        threads = [
            threading.Thread(target=self._retire, args=(name, output.writer))
            for name, output in self._outputs.items()
        ]
        for thread in threads:
            thread.start()
        for thread in (*threads, *list(self._retiring.values())):
            thread.join(6.0)
        self._outputs = {}


def _ages(table: EventsTable) -> tuple[int, ...]:
    """Return when the files that a table names were changed: with another key it is another output."""
    named = [
        path
        for one in (table.syslog, table.webhook)
        if one is not None
        for path in dict(one).values()
        if isinstance(path, Path)
    ]
    return tuple(path.stat().st_mtime_ns for path in named)


def outlet_of(table: EventsTable, hostname: str) -> Outlet:
    """Return the outlet of a table, not open yet.  Raises ValueError, OSError."""
    if (file := table.file) is not None:
        return FileOutlet(file.path, hostname, file.max_size, file.keep, file.compress)
    if (syslog := table.syslog) is not None:
        return SyslogOutlet(
            syslog.address.host,
            syslog.address.port,
            hostname,
            facility=syslog.facility,
            tls=_context(syslog.ca, syslog.certificate, syslog.key) if syslog.tls else None,
            server_name=syslog.server_name,
            timeout=syslog.timeout,
        )
    webhook = table.webhook
    assert webhook is not None  # the configuration's checks have seen to it
    headers = dict(webhook.headers)
    if webhook.token is not None:
        token = webhook.token.read_text(encoding="ascii").strip()
        headers["Authorization"] = f"Bearer {token}"
    return WebhookOutlet(
        webhook.url,
        hostname,
        lines=webhook.body == "lines",
        secret=read_secret(webhook.secret) if webhook.secret is not None else None,
        headers=headers,
        tls=_context(webhook.ca) if webhook.url.startswith("https:") else None,
        timeout=webhook.timeout,
    )


def _context(ca: Path | None, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """Return a context that verifies the server.  Raises OSError, ValueError."""
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context
