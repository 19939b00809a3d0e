"""Logins, one by one, with what they come to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .report import Column, Figure, Report, Section, Series
from .selection import Selection
from .tally import over_time

if TYPE_CHECKING:
    from ..audit.sql import SqlStore

COLUMNS = (
    Column("time", "time", "time"),
    Column("user", "user"),
    Column("protocol", "protocol"),
    Column("listener", "listener", detail=True),
    Column("address", "address"),
    Column("mechanism", "mechanism"),
    Column("protection", "protection"),
    Column("tls_version", "TLS"),
    Column("exposed", "exposed"),
    Column("outcome", "outcome"),
    Column("code", "code"),
    Column("program", "program"),
    Column("judgement", "policy said"),
    Column("session", "session", detail=True),
)
#: One login, in the order of COLUMNS, behind its id.
ONE = """SELECT id, time, "user", protocol, listener, address, mechanism, protection, tls_version,
 CASE WHEN exposed = 1 THEN 'exposed' ELSE '' END, outcome, code,
 CASE WHEN client_program = '' THEN client_name ELSE client_program END, judgement, session
 FROM logins WHERE {condition}"""
LATEST = ONE + " ORDER BY time DESC, id DESC"
#: In one pass: to group a million rows takes SQLite twice as long.
COUNTS = "count(*), " + ", ".join(
    f"sum(CASE WHEN {what} THEN 1 ELSE 0 END)"
    for what in (*(f"outcome = '{one}'" for one in ("ok", "failed", "policy", "locked")), "exposed = 1")
)
OUTCOMES: Series = (
    ("ok", "ok", "good"),
    ("failed", "failed", "bad"),
    ("policy", "refused by a policy", ""),
    ("locked", "locked out", ""),
    ("*", "other", ""),
)


def logins(store: SqlStore, selection: Selection, made: int, limit: int = 0) -> Report:
    """Return the latest logins, at most ``limit`` of them, the newest last; 0 is no limit.

    made: now, in microseconds since the epoch.  Raises StoreError.
    """
    condition, parameters = selection.condition(store)
    ((total, *sums),) = store.ask(f"SELECT {COUNTS} FROM logins WHERE {condition}", parameters)
    ok, failed, refused, locked, exposed = (int(count or 0) for count in sums)
    chart = over_time(
        store, selection, name="outcomes", title="logins by outcome", key="outcome", series=OUTCOMES
    )
    rows = latest(store, selection, limit)
    return Report(
        "logins",
        "Logins",
        made,
        selection.since,
        selection.until,
        selection.words(),
        [
            Figure("logins", "logins", total),
            Figure("ok", "succeeded", ok),
            Figure("failed", "failed", failed),
            Figure("refused", "refused by a policy", refused),
            Figure("locked", "refused for a lock", locked),
            Figure("exposed", "exposed a password", exposed, tone="bad" if exposed else "good"),
        ],
        [chart] if chart is not None else [],
        [Section("logins", "the latest", COLUMNS, rows, total)],
    )


def latest(store: SqlStore, selection: Selection, limit: int) -> list[tuple[Any, ...]]:
    """Return rows of COLUMNS, the newest last.  Raises StoreError."""
    # Not by an index's order where that would look at each record of the table one by one.
    condition, parameters = selection.condition(store)
    sql = LATEST.format(condition=condition) + (" LIMIT ?" if limit else "")
    rows = [row[1:] for row in store.query(sql, [*parameters, *([limit] if limit else [])])]
    rows.reverse()
    return rows


def newer(store: SqlStore, selection: Selection, after: int) -> Iterator[tuple[Any, ...]]:
    """Give an id and a row of COLUMNS for each login recorded behind an id.  Raises StoreError."""
    condition, parameters = selection.condition(store)
    sql = ONE.format(condition=f"id > ? AND {condition}") + " ORDER BY id"
    for row in store.query(sql, [after, *parameters]):
        yield row[0], row[1:]


def last_id(store: SqlStore) -> int:
    """Return the newest record's id; 0 of none.  Raises StoreError."""
    ((newest,),) = store.ask("SELECT coalesce(max(id), 0) FROM logins")
    return int(newest)
