"""Counts of logins, by what a report needs to tell apart.

Whatever a report shows of devices comes from one pass over an index that holds all it needs, in its
order; whatever it shows over time from one more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from .report import Chart, Series, Tone, some
from .selection import Selection

if TYPE_CHECKING:
    from ..audit.sql import SqlStore

HOUR = 3600 * 1_000_000
DAY = 24 * HOUR
WEEK = 7 * DAY
#: Spans of a chart, at most.
_SPANS = 100


class Device(NamedTuple):
    """Logins that were alike: the same user at the same address with the same program, in the same way.

    The names are those of the columns of the table ``logins``; first, last: microseconds since the epoch.
    """

    user: str
    address: str
    protocol: str
    listener: str
    mechanism: str
    protection: str
    tls_version: str
    tls_cipher: str
    tls_group: str
    tls_client: str
    exposed: int
    outcome: str
    client_name: str
    client_program: str
    logins: int
    first: int
    last: int


_KEYS = ", ".join(f'"{name}"' if name == "user" else name for name in Device._fields[:-3])
#: With its own words, so that the order is the index's and nothing needs sorting.
DEVICES = f"SELECT {_KEYS}, count(*), min(time), max(time) FROM logins WHERE {{}} GROUP BY {_KEYS}"


def devices(store: SqlStore, selection: Selection) -> list[Device]:
    """Return the devices of a selection, of each user together.  Raises StoreError."""
    condition, parameters = selection.condition(store, in_order=True)
    late = _late_programs(store)
    found = []
    for device in map(Device._make, store.ask(DEVICES.format(condition), parameters)):
        if not device.client_program and (program := late.get((device.user, device.address))):
            device = device._replace(client_program=program)
        found.append(device)
    return found


#: Programs named behind the login, so that the login itself does not have them; the latest first.
LATE_PROGRAMS = 'SELECT "user", address, program FROM programs ORDER BY time DESC'


def _late_programs(store: SqlStore) -> dict[tuple[str, str], str]:
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for user, address, program in store.ask(LATE_PROGRAMS):
        found[user, address].append(program)
    return {where: some(programs) for where, programs in found.items()}


def program(device: Device) -> str:
    """Return what a device calls itself: its IMAP ID, or EHLO name; "" of one that says nothing."""
    return device.client_program or device.client_name


#: How many logins in each span of time, of each series.  One number tells both: SQLite sorts it faster.
SPANS = """SELECT time / ? * ? + CASE {key} {cases} ELSE ? END AS place, count(*)
 FROM logins WHERE {condition} GROUP BY place"""


def over_time(
    store: SqlStore,
    selection: Selection,
    *,
    name: str,
    title: str,
    key: str,
    series: Series,
) -> Chart | None:
    """Return a chart of a selection's logins; None where there is no login.  Raises StoreError.

    key: a column.
    """
    condition, parameters = selection.condition(store)
    width = _width(store, selection)
    numbers = {value: number for number, (value, _, _) in enumerate(series)}
    others = numbers.pop("*", len(series))
    cases = " ".join(f"WHEN '{value}' THEN {number}" for value, number in numbers.items())
    counted: list[dict[int, int]] = [{} for _ in range(len(series) + 1)]
    several = len(counted)
    sql = SPANS.format(key=key, cases=cases, condition=condition)
    for place, count in store.ask(sql, [width, several, others, *parameters]):
        counted[place % several][place // several] = count
    return chart_of(
        name, title, width, [(label, tone, counted[n]) for n, (_, label, tone) in enumerate(series)]
    )


#: Who logged in, in each span of time.
SPANS_OF_USERS = 'SELECT time / ? AS span, "user" FROM logins WHERE {} GROUP BY span, "user"'


def users_over_time(
    store: SqlStore, selection: Selection, *, name: str, title: str, tone: Tone
) -> Chart | None:
    """Return a chart of how many users logged in at all, in each span of time.  Raises StoreError."""
    condition, parameters = selection.condition(store)
    width = _width(store, selection)
    counted: dict[int, int] = defaultdict(int)
    for span, _ in store.ask(SPANS_OF_USERS.format(condition), [width, *parameters]):
        counted[span] += 1
    return chart_of(name, title, width, [("users", tone, counted)])


def _width(store: SqlStore, selection: Selection) -> int:
    first, last = store.kept()
    since = max(selection.since or first or 0, first or 0)
    until = min(selection.until or last or 0, last or 0)
    for width in (HOUR, DAY, WEEK):
        if (until - since) / width <= _SPANS:
            return width
    return 4 * WEEK


def chart_of(
    name: str, title: str, width: int, series: Sequence[tuple[str, Tone, dict[int, int]]]
) -> Chart | None:
    """Return a chart of counts by span; None of no count."""
    spans = [span for _, _, counts in series for span in counts]
    if not spans:
        return None
    every = range(min(spans), max(spans) + 1)
    return Chart(
        name,
        title,
        [span * width for span in every],
        width,
        [(label, tone, [counts.get(span, 0) for span in every]) for label, tone, counts in series],
    )


class Sums:
    """Logins of several devices, summed up.  first, last: microseconds since the epoch."""

    def __init__(self) -> None:
        self.logins = 0
        self.first = 0
        self.last = 0
        self._seen: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))

    def add(self, device: Device, **names: str) -> None:
        """Add a device; names: what is to be told of it, by the word under which :meth:`most` finds it."""
        self.first = min(self.first or device.first, device.first)
        self.last = max(self.last, device.last)
        self.logins += device.logins
        for name, value in names.items():
            if value:
                self._seen[name][value] += device.logins

    def most(self, name: str) -> list[str]:
        """Return what was told, the most frequent first."""
        return sorted(self._seen[name], key=lambda value: -self._seen[name][value])

    def count(self, name: str) -> int:
        """Return how many different ones were told."""
        return len(self._seen[name])
