"""The audit of a running gateway: from the table [audit] to a store, its writer and the sink."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from .audit.chain import Chain, HeadFile, read_key
from .audit.opening import store_of
from .audit.privacy import Privacy, Pseudonyms
from .audit.sql import SqlStore
from .audit.writer import AuditWriter, Report
from .config.errors import StartError
from .config.model import Audit as AuditTable
from .core.facts import EventKind, SecurityEvent
from .core.record import SessionRecord
from .observe.audit import AuditSink
from .observe.hub import Hub

#: Seconds that a start, and a reload, wait for a store without which no login may be.
OPEN_TIME, REOPEN_TIME = 2.0, 0.25


def chain_of(table: AuditTable) -> Chain | None:
    """Return what chains the records; None where the chain is off.  Raises ValueError."""
    if not table.chain:
        return None
    return Chain(read_key(table.chain_key) if table.chain_key is not None else b"")


def store_for(table: AuditTable, *, read_only: bool = False) -> SqlStore:
    """Return the store of a table that names one, not open yet.  Raises ValueError."""
    assert table.store is not None
    head_file = HeadFile(table.chain_head) if table.chain and table.chain_head is not None else None
    return store_of(table.store, read_only=read_only, chain=chain_of(table), head_file=head_file)


def privacy_of(table: AuditTable) -> Privacy | None:
    """Return what the privacy modes make of records; None where none is on.  Raises ValueError."""
    prefixes = (table.prefix_ipv4, table.prefix_ipv6) if table.addresses == "prefix" else None
    pseudonyms = None
    if table.users == "pseudonym":
        if table.pseudonym_key is None:
            raise ValueError("pseudonyms need a pseudonym_key")
        pseudonyms = Pseudonyms(read_key(table.pseudonym_key))
    return Privacy(prefixes, pseudonyms) if prefixes or pseudonyms else None


class Audit:
    """The audit, through reloads.  Counts what all its writers wrote and lost.

    run: calls a function on the event loop, from any thread.
    """

    def __init__(self, run: Callable[..., None]) -> None:
        self._run = run
        self._table = AuditTable()
        self._hub: Hub | None = None
        self._writer: AuditWriter | None = None
        self._sink: AuditSink | None = None
        self._lock = threading.Lock()  # of the counts of writers that are no more
        self._past = {"login": 0, "event": 0, "program": 0}
        self._past_lost = 0
        self._retiring: dict[AuditWriter, threading.Thread] = {}

    def prepare(self, table: AuditTable) -> Callable[[], None]:
        """Read keys and the URL of a table; return what takes it into use.  Raises StartError."""
        try:
            store = store_for(table) if table.store is not None else None
            privacy = privacy_of(table) if store is not None else None
        except ValueError as error:
            raise StartError(f"audit: {error}") from None
        return lambda: self._use(table, store, privacy)

    def _use(self, table: AuditTable, store: SqlStore | None, privacy: Privacy | None) -> None:
        if table == self._table and self._writer is not None:
            return
        old_writer, old_sink = self._writer, self._sink
        self._table, self._writer, self._sink = table, None, None
        if store is not None:

            def tell(report: Report) -> None:
                if privacy is not None and report.state == "recovered":
                    privacy.forget()
                self._run(self._publish, report)

            self._writer = AuditWriter(
                store, bound=table.queue, prepare=privacy, tell=tell, retention=table.retention
            )
            self._sink = AuditSink([self._writer.put])
            if table.required:
                self._writer.wait_opened(OPEN_TIME if self._hub is None else REOPEN_TIME)
        if self._hub is not None and (old_sink or self._sink):
            self._hub.exchange(old_sink, self._sink)
        if old_writer is not None:
            # It may take a while, and the event loop can't wait.
            thread = threading.Thread(target=self._retire, args=(old_writer,), name="audit closing")
            self._retiring[old_writer] = thread
            thread.start()

    def _retire(self, writer: AuditWriter) -> None:
        writer.close()
        with self._lock:  # so that no count ever falls
            for kind, count in writer.written.items():
                self._past[kind] += count
            self._past_lost += writer.lost
            self._retiring.pop(writer, None)

    def attach(self, hub: Hub) -> None:
        """Have the hub show facts to the audit, from now on."""
        self._hub = hub
        if self._sink is not None:
            hub.exchange(None, self._sink)

    @property
    def closed(self) -> bool:
        """Whether no login may begin now: it could not be recorded, and must be."""
        return self._table.required and (self._writer is None or not self._writer.healthy)

    def figures(self) -> tuple[dict[str, int], int, int]:
        """Return what the metrics show: records written by kind, records lost, records that wait."""
        with self._lock:
            written, lost, waiting = dict(self._past), self._past_lost, 0
            for writer in (*self._retiring, *([self._writer] if self._writer is not None else ())):
                for kind, count in writer.written.items():
                    written[kind] += count
                lost += writer.lost
                waiting += writer.waiting
        return written, lost, waiting

    def _publish(self, report: Report) -> None:
        if self._hub is None or (report.state == "recovered" and not report.lost):
            return
        lost = report.lost
        data = {"lost": str(lost)}
        event = SecurityEvent(EventKind.AUDIT_LOST, "alert", report.detail, count=max(1, lost), data=data)
        self._hub.publish(SessionRecord("", "", "", "", 0), event, time.time())

    def close(self) -> None:
        """Write what waits, within a bound."""
        if self._writer is not None:
            self._retire(self._writer)
            self._writer = None
        for thread in list(self._retiring.values()):
            thread.join(5.0)


def on_loop(reactor: Any) -> Callable[..., None]:
    """Return what calls a function on the event loop."""
    call: Callable[..., None] = reactor.callFromThread
    return call
