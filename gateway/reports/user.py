"""One user: devices, failures, events, latest logins."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .logins import COLUMNS, OUTCOMES, latest
from .report import Column, Figure, Report, Section, section
from .selection import Selection
from .tally import Sums, devices, over_time, program

if TYPE_CHECKING:
    from ..audit.sql import SqlStore

_DEVICES = (
    Column("program", "program"),
    Column("address", "address"),
    Column("protocol", "protocol"),
    Column("mechanism", "mechanism"),
    Column("protection", "protection"),
    Column("tls_version", "TLS"),
    Column("exposed", "exposed"),
    Column("logins", "logins", "count"),
    Column("first", "first seen", "time"),
    Column("last", "last seen", "time"),
)
_FAILURES = (
    Column("address", "address"),
    Column("outcome", "outcome"),
    Column("protocol", "protocol"),
    Column("mechanism", "mechanism"),
    Column("logins", "attempts", "count"),
    Column("first", "first", "time"),
    Column("last", "last", "time"),
)
_EVENTS = (
    Column("time", "time", "time"),
    Column("kind", "event"),
    Column("severity", "severity"),
    Column("count", "times", "count"),
    Column("detail", "what"),
)
EVENTS = """SELECT time, kind, severity, count, detail FROM events
 WHERE "user" = ? AND time >= ? AND time < ? ORDER BY time DESC LIMIT ?"""
_FAR = 1 << 62


def user(store: SqlStore, name: str, selection: Selection, made: int, limit: int = 0) -> Report:
    """Return the report on one user, whose name is normalised.

    made: now, in microseconds since the epoch.  Raises StoreError.
    """
    chosen = replace(selection, users=(name,))
    good: dict[tuple[str, ...], Sums] = defaultdict(Sums)
    bad: dict[tuple[str, ...], Sums] = defaultdict(Sums)
    logged_in, failed, exposing, last = 0, 0, 0, 0
    for device in devices(store, chosen):
        exposed = "exposed" if device.exposed else ""
        exposing += device.logins if device.exposed else 0
        if device.outcome == "ok":
            how = (device.protocol, device.mechanism, device.protection, device.tls_version, exposed)
            good[(program(device), device.address, *how)].add(device)
            logged_in, last = logged_in + device.logins, max(last, device.last)
        else:
            failed += device.logins
            bad[(device.address, device.outcome, device.protocol, device.mechanism)].add(device)
    events = store.query(EVENTS, (name, selection.since or 0, selection.until or _FAR, limit or _FAR))
    chart = over_time(
        store, chosen, name="outcomes", title="logins by outcome", key="outcome", series=OUTCOMES
    )
    rows, failures = _latest_first(good), _latest_first(bad)
    latest_ones = latest(store, chosen, limit or 50)
    return Report(
        "user",
        f"User {name}",
        made,
        selection.since,
        selection.until,
        selection.words(),
        [
            Figure("logins", "logins", logged_in),
            Figure("failed", "attempts that failed", failed),
            Figure("exposed", "exposed the password", exposing, tone="bad" if exposing else "good"),
            Figure("devices", "devices", len({row[:2] for row in rows})),
            Figure("last", "last login", last, "time"),
        ],
        [chart] if chart is not None else [],
        [
            section("devices", "devices", _DEVICES, rows, limit),
            section("failures", "what failed", _FAILURES, failures, limit),
            section("events", "security events", _EVENTS, list(events), limit),
            Section("logins", "the latest", COLUMNS, latest_ones, logged_in + failed),
        ],
    )


def _latest_first(sums: dict[tuple[str, ...], Sums]) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = [(*key, one.logins, one.first, one.last) for key, one in sums.items()]
    return sorted(rows, key=lambda row: -row[-1])
