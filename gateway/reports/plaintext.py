"""Who still sends a password in the clear, from what, and is it getting better?"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .report import Column, Figure, Report, Series, section, some
from .selection import Selection
from .tally import Sums, devices, over_time, program, users_over_time

if TYPE_CHECKING:
    from ..audit.sql import SqlStore


_USERS = (
    Column("user", "user"),
    Column("logins", "logins", "count"),
    Column("since", "since", "time"),
    Column("last", "last seen", "time"),
    Column("protocols", "by"),
    Column("programs", "programs"),
    Column("addresses", "from"),
)
_DEVICES = (
    Column("user", "user"),
    Column("program", "program"),
    Column("address", "address"),
    Column("protocol", "protocol"),
    Column("listener", "listener"),
    Column("mechanism", "mechanism"),
    Column("logins", "logins", "count"),
    Column("first", "first in the period", "time"),
    Column("last", "last seen", "time"),
)
_STOPPED = (Column("user", "user"), Column("since", "since", "time"), Column("last", "last seen", "time"))

_PROTOCOLS: Series = (("imap", "imap", ""), ("pop3", "pop3", ""), ("smtp", "smtp", ""), ("*", "other", ""))


def plaintext(store: SqlStore, selection: Selection, made: int, limit: int = 0) -> Report:
    """Return the report.  made: now, in microseconds since the epoch.  Raises StoreError.

    Logins that failed are left out unless the selection asks for outcomes: strangers' guesses expose nobody.
    """
    outcomes = selection.outcomes or ("ok",)
    bare = replace(selection, exposed=True, outcomes=outcomes)
    every = replace(selection, exposed=False, outcomes=outcomes)
    found = devices(store, bare)
    by_user: dict[str, Sums] = defaultdict(Sums)
    by_device: dict[tuple[str, ...], Sums] = defaultdict(Sums)
    for device in found:
        how = f"{device.protocol} {device.mechanism}"
        by_user[device.user].add(device, how=how, program=program(device), address=device.address)
        same = (device.user, program(device), device.address)
        by_device[(*same, device.protocol, device.listener, device.mechanism)].add(device)
    since = _since(store, bare)
    rows = [
        (
            user,
            sums.logins,
            since.get(user, (sums.first, 0))[0],
            sums.last,
            some(sums.most("how")),
            some(sums.most("program")),
            some(sums.most("address")),
        )
        for user, sums in by_user.items()
    ]
    rows.sort(key=lambda row: (-row[1], row[0]))
    of_devices: list[tuple[Any, ...]] = [
        (*same, sums.logins, sums.first, sums.last) for same, sums in by_device.items()
    ]
    of_devices.sort(key=lambda row: (-row[6], row[0]))
    stopped = [(user, *times) for user, times in since.items() if user not in by_user]
    stopped.sort(key=lambda row: -row[2])
    condition, parameters = every.condition(store)
    ((total,),) = store.ask(f"SELECT count(*) FROM logins WHERE {condition}", parameters)
    exposing = sum(sums.logins for sums in by_user.values())
    figures = [
        Figure("users", "users who expose their password", len(rows), tone="bad" if rows else "good"),
        Figure("logins", "logins that exposed it", exposing),
        Figure("share", "of all logins", exposing / total if total else 0.0, "share"),
        Figure("devices", "devices", len(by_device)),
        Figure("stopped", "users who no longer do", len(stopped), tone="good" if stopped else ""),
    ]
    charts = [
        users_over_time(store, bare, name="users", title="users exposing their password", tone="bad"),
        over_time(
            store, bare, name="logins", title="logins exposing a password", key="protocol", series=_PROTOCOLS
        ),
    ]
    note = "since: the first record of it that is kept, in the period or before"
    return Report(
        "plaintext",
        "Passwords in the clear",
        made,
        selection.since,
        selection.until,
        selection.words(),
        figures,
        [chart for chart in charts if chart is not None],
        [
            section("users", "who", _USERS, rows, limit, note),
            section("devices", "devices", _DEVICES, of_devices, limit),
            section("stopped", "exposed it before, not in this period", _STOPPED, stopped, limit),
        ],
    )


def _since(store: SqlStore, selection: Selection) -> dict[str, tuple[int, int]]:
    """Return when each user exposed a password for the first and the last time, in all that is kept."""
    condition, parameters = replace(selection, since=None).condition(store)
    sql = f'SELECT "user", min(time), max(time) FROM logins WHERE {condition} GROUP BY "user"'
    return {user: (first, last) for user, first, last in store.ask(sql, parameters)}
