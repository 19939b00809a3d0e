"""Which TLS is spoken, and which clients hold old versions back."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from .report import Column, Figure, Report, Section, Series, section, some
from .selection import Selection
from .tally import Device, Sums, devices, over_time, program

if TYPE_CHECKING:
    from ..audit.sql import SqlStore

#: What RFC 8996 deprecates.
OLD = ("TLSv1", "TLSv1.1")

_COUNTS = (
    Column("logins", "logins", "count"),
    Column("share", "share", "share"),
    Column("users", "users", "count"),
    Column("last", "last seen", "time"),
)
_HOLDING = (
    Column("user", "user"),
    Column("version", "version"),
    Column("program", "program"),
    Column("addresses", "from"),
    Column("protocols", "protocols"),
    Column("logins", "logins", "count"),
    Column("last", "last seen", "time"),
)
_VERSIONS: Series = (
    ("TLSv1.3", "TLSv1.3", "good"),
    ("TLSv1.2", "TLSv1.2", ""),
    ("TLSv1.1", "TLSv1.1", "bad"),
    ("TLSv1", "TLSv1", "bad"),
)


def tls(store: SqlStore, selection: Selection, made: int, limit: int = 0) -> Report:
    """Return the report.  made: now, in microseconds since the epoch.  Raises StoreError.

    Logins that failed are left out unless the selection asks for outcomes.
    """
    chosen = replace(selection, outcomes=selection.outcomes or ("ok",))
    every = devices(store, chosen)
    found = [device for device in every if device.protection == "tls"]
    total, protected = (sum(device.logins for device in some) for some in (every, found))
    old = [device for device in found if device.tls_version in OLD]
    figures = [
        Figure("logins", "logins over TLS", protected),
        Figure("share", "of all logins", protected / total if total else 0.0, "share"),
        Figure(
            "old",
            "of them by TLS 1.0 or 1.1",
            sum(device.logins for device in old),
            tone="bad" if old else "good",
        ),
        Figure("old_users", "users who hold these back", len({device.user for device in old})),
    ]
    chart = over_time(
        store,
        replace(chosen, protections=("tls",)),
        name="versions",
        title="logins by version",
        key="tls_version",
        series=_VERSIONS,
    )
    return Report(
        "tls",
        "TLS of logins",
        made,
        selection.since,
        selection.until,
        selection.words(),
        figures,
        [chart] if chart is not None else [],
        [
            _holding(old, limit),
            _by("versions", "versions", "tls_version", found, limit),
            _by("ciphers", "cipher suites", "tls_cipher", found, limit),
            _by("groups", "groups of the key exchange", "tls_group", found, limit),
            _by("protections", "protection of all logins", "protection", every, limit),
        ],
    )


def _by(name: str, title: str, attribute: str, found: list[Device], limit: int) -> Section:
    sums: dict[str, Sums] = defaultdict(Sums)
    total = 0
    for device in found:
        sums[getattr(device, attribute) or "unknown"].add(device, user=device.user)
        total += device.logins
    rows = [(key, one.logins, one.logins / total, one.count("user"), one.last) for key, one in sums.items()]
    rows.sort(key=lambda row: -row[1])
    return section(name, title, (Column(attribute, attribute.replace("_", " ")), *_COUNTS), rows, limit)


def _holding(old: list[Device], limit: int) -> Section:
    sums: dict[tuple[str, str, str], Sums] = defaultdict(Sums)
    for device in old:
        key = (device.user, device.tls_version, program(device))
        sums[key].add(device, address=device.address, protocol=device.protocol)
    rows = [
        (*key, some(one.most("address")), some(one.most("protocol")), one.logins, one.last)
        for key, one in sums.items()
    ]
    rows.sort(key=lambda row: (-row[5], row[0]))
    return section("holding_back", "who holds back TLS 1.0 and 1.1", _HOLDING, rows, limit)
