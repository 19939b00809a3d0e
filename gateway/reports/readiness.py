"""What would break if a policy were enforced today: the gateway's own rules, asked about recorded logins."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..core.gate import Need, Ruling
from ..core.policy import Policy, PolicyBook, network_of, parsed, rule
from ..core.record import SessionRecord
from ..core.steps import TlsInfo
from .report import Column, Figure, Report, Section, Series, section, some
from .selection import Selection
from .tally import Device, Sums, devices, over_time, program

if TYPE_CHECKING:
    from ..audit.sql import SqlStore

_WHY = {
    Need.TLS: "no TLS",
    Need.TLS_VERSION: "TLS too old",
    Need.MECHANISM: "mechanism",
    Need.CERTIFICATE: "no client certificate",
}
_USERS = (
    Column("user", "user"),
    Column("refused", "would be refused", "count"),
    Column("share", "of the user's logins", "share"),
    Column("why", "why"),
    Column("policy", "policy"),
    Column("programs", "programs"),
    Column("addresses", "from"),
    Column("protocols", "by"),
    Column("last", "last seen", "time"),
)
_COUNTS = (
    Column("refused", "would be refused", "count"),
    Column("users", "users", "count"),
    Column("last", "last seen", "time"),
)
_PROTECTIONS: Series = (
    ("tls", "tls", "good"),
    ("tls-in-front", "tls in front", "good"),
    ("trusted-network", "trusted network", ""),
    ("none", "none", "bad"),
)


@dataclass
class _User:
    """What is known of one user.  cut: logins that would be refused."""

    logins: int = 0
    cut: Sums = field(default_factory=Sums)


class _Judge:
    """Rules on recorded logins as the gateway would."""

    def __init__(self, policies: Sequence[Policy], now: float) -> None:
        self._book = PolicyBook(policies)
        self._now = now
        self._concerning: dict[tuple[str, str, str], tuple[Policy, ...]] = {}
        self._rulings: dict[tuple[object, ...], Ruling] = {}

    def rule(self, device: Device) -> Ruling:
        # A login is ruled on by what is in this key, and by nothing else.
        key = (*device[:10], device.user)
        found = self._rulings.get(key)
        if found is None:
            found = self._rulings[key] = self._anew(device)
        return found

    def _anew(self, device: Device) -> Ruling:
        # What privacy made a network of is judged by its first address.
        address = device.address.partition("/")[0]
        record = SessionRecord("", device.protocol, device.listener, address, 0)
        if device.protection == "tls":
            subject = device.tls_client
            record.client_tls = TlsInfo(
                device.tls_version, device.tls_cipher, peer=subject, verified=bool(subject)
            )
        record.tls_in_front = device.protection == "tls-in-front"
        record.trusted_network = device.protection == "trusted-network"
        where = (device.protocol, device.listener, address)
        policies = self._concerning.get(where)
        if policies is None:
            policies = self._concerning[where] = self._book.concerning(record)
        # Who had no name when all was over had hidden it.
        return rule(policies, record, device.user, device.mechanism, self._now, not device.user)


def enforced(policy: Policy, share: float = 1.0) -> Policy:
    """Return a policy as it would be if it were enforced today, for a share of those it applies to."""
    return replace(policy, mode="enforce", enforce_from=0.0, share=share)


def readiness(
    store: SqlStore,
    selection: Selection,
    policies: Sequence[Policy],
    made: int,
    limit: int = 0,
) -> Report:
    """Return the report.  policies: as they would be.  made: now, in microseconds since the epoch.

    Only logins that succeeded count: what fails today breaks nothing.  Raises StoreError.
    """
    chosen = replace(selection, outcomes=("ok",))
    judge = _Judge(policies, made / 1e6)
    users: dict[str, _User] = defaultdict(_User)
    reasons, networks, programs = (defaultdict[str, Sums](Sums) for _ in range(3))
    total = refused = 0
    for device in devices(store, chosen):
        one = users[device.user]
        one.logins += device.logins
        total += device.logins
        ruling = judge.rule(device)
        if not ruling.refused:
            continue
        refused += device.logins
        why = _why(ruling, device)
        name = program(device)
        how = f"{device.protocol} {device.mechanism}"
        one.cut.add(device, why=why, program=name, address=device.address, how=how, policy=ruling.policy)
        found = parsed(device.address)
        reasons[why].add(device, user=device.user)
        networks[network_of(found) if found is not None else device.address].add(device, user=device.user)
        programs[name or "unknown"].add(device, user=device.user)
    hit = {name: one for name, one in users.items() if one.cut.logins}
    off = sum(one.cut.logins == one.logins for one in hit.values())
    figures = [
        Figure("users", "users who would be refused at times", len(hit), tone="bad" if hit else "good"),
        Figure("cut_off", "of them could not log in at all", off, tone="bad" if off else "good"),
        Figure("logins", "logins that would be refused", refused),
        Figure("share", "of all logins", refused / total if total else 0.0, "share"),
        Figure("all_users", "users in all", len(users)),
        Figure("networks", "networks concerned", len(networks)),
    ]
    chart = over_time(
        store, chosen, name="protections", title="logins by protection", key="protection", series=_PROTECTIONS
    )
    return Report(
        "readiness",
        "Ready to enforce?",
        made,
        selection.since,
        selection.until,
        selection.words(),
        figures,
        [chart] if chart is not None else [],
        [
            _users(hit, limit),
            _by("reasons", "why", "why", reasons, limit),
            _by("programs", "programs", "program", programs, limit),
            _by("networks", "networks", "network", networks, limit),
        ],
        [f"judged by: {_described(policy)}" for policy in policies],
    )


def _why(ruling: Ruling, device: Device) -> str:
    detail = {Need.TLS_VERSION: device.tls_version, Need.MECHANISM: device.mechanism}.get(ruling.need, "")
    return f"{_WHY[ruling.need]} ({detail})" if detail else _WHY[ruling.need]


def _users(hit: dict[str, _User], limit: int) -> Section:
    rows = [
        (
            name,
            one.cut.logins,
            one.cut.logins / one.logins,
            some(one.cut.most("why")),
            some(one.cut.most("policy")),
            some(one.cut.most("program")),
            some(one.cut.most("address")),
            some(one.cut.most("how")),
            one.cut.last,
        )
        for name, one in hit.items()
    ]
    rows.sort(key=lambda row: (-row[2], -row[1], row[0]))
    return section("users", "who would be refused", _USERS, rows, limit, "100 % is cut off")


def _by(name: str, title: str, column: str, sums: dict[str, Sums], limit: int) -> Section:
    rows = [(key, one.logins, one.count("user"), one.last) for key, one in sums.items()]
    rows.sort(key=lambda row: (-row[2], -row[1], row[0]))
    return section(name, title, (Column(column, title), *_COUNTS), rows, limit)


def _described(policy: Policy) -> str:
    """Return a policy in words."""
    asks = [
        f"login = {policy.login}" if policy.login != "none" else "",
        f"session = {policy.session}" if policy.session != "none" else "",
        f"at least {policy.min_version}" if policy.min_version else "",
        "ciphers of a profile" if policy.ciphers else "",
        f"mechanisms {', '.join(sorted(policy.mechanisms))}" if policy.mechanisms else "",
    ]
    how = {"enforce": "", "warn": " (warns only)", "monitor": " (monitors only)"}[policy.mode]
    part = f", for {policy.share:.0%} by {policy.share_by}" if policy.share < 1 else ""
    return f"{policy.name}: {'; '.join(ask for ask in asks if ask) or 'nothing'}{how}{part}"
