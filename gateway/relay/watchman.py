"""The watchman: one for the process, through reloads.  What sessions tell it becomes security events."""

from __future__ import annotations

from collections.abc import Callable

from ..core.facts import EventKind, SecurityEvent
from ..core.policy import network_of, parsed
from ..core.record import SessionRecord
from ..core.steps import Fault, LoginSeen
from ..core.trouble import FaultKind
from ..core.users import normalised
from .abuse import Abuse
from .offences import Offences
from .rates import Rates

#: Faults that no honest peer commits.
ATTACKS = frozenset(
    {
        FaultKind.PIPELINED_BEFORE_TLS,
        FaultKind.INJECTED_BEFORE_TLS,
        FaultKind.PIPELINED_BEHIND_AUTH,
        FaultKind.END_OF_DATA_LOOKALIKE,
        FaultKind.PREAUTH,
    }
)
_JUDGED = {
    "would-refuse": (EventKind.POLICY_WOULD_REFUSE, "info", "would be refused"),
    "warned": (EventKind.POLICY_WARNED, "info", "was warned"),
    "refused": (EventKind.POLICY_REFUSED, "warning", "was refused"),
}
#: Takes an event of a session.
Publish = Callable[[SessionRecord, SecurityEvent], None]


class Watchman:
    """Counts offences, and says how long a client has to wait."""

    def __init__(self, publish: Publish) -> None:
        self.abuse = Abuse()
        self.rates = Rates({}, {})
        self.throttled: dict[str, int] = {}
        self._publish = publish
        self._offences = Offences()

    def turns_away(self, record: SessionRecord, now: float) -> bool:
        """Tell whether a connection is not wanted."""
        if not self.abuse.denied or not self.abuse.turns_away(record.client_address):
            return False
        self._tell(record, now, EventKind.DENIED, "info", "connection from an address on the deny list")
        return True

    def login(self, record: SessionRecord, login: LoginSeen, now: float) -> float:
        """Look at a login that has come to its end; return how long the client waits, in seconds."""
        seen = self.abuse.login(record, login, now)
        for event in seen.events:
            self._publish(record, event)
        user = normalised(login.user)
        if login.judgement:
            kind, severity, what = _JUDGED[login.judgement]
            text = f"policy {login.policy}: {user or 'somebody'} by {login.mechanism} {what}"
            self._tell(record, now, kind, severity, text, user, login.policy)
        if login.reveals and login.sent and record.protection == "none":
            text = f"the password of {user or 'somebody'} crossed the wire unprotected ({record.protocol})"
            self._tell(record, now, EventKind.PASSWORD_EXPOSED, "info", text, user)
        return seen.delay

    def fault(self, record: SessionRecord, fault: Fault, now: float) -> None:
        """Look at a fault of a peer."""
        if fault.kind in ATTACKS:
            text = f"{fault.kind.replace('_', ' ')} ({record.protocol}, {fault.side})"
            self._tell(record, now, EventKind.ATTACK, "warning", text, more=fault.kind)

    def spend(self, kind: str, record: SessionRecord, amount: float, now: float) -> float:
        """Count against the rates; return how long the client waits, in seconds."""
        address = record.client_address
        known = parsed(address)
        client = network_of(known) if known is not None and known.version == 6 else address
        wait = self.rates.spend(kind, client, normalised(record.user), amount, now)
        if wait:
            self.throttled[kind] = self.throttled.get(kind, 0) + 1
            self._tell(record, now, EventKind.RATE, "info", f"more {kind} than allowed", record.user, kind)
        return wait

    def _tell(
        self,
        record: SessionRecord,
        now: float,
        kind: EventKind,
        severity: str,
        text: str,
        user: str = "",
        more: str = "",
    ) -> None:
        """Tell the first of an offence, and then their number once in a while."""
        known = parsed(record.client_address)
        where = network_of(known) if known is not None else record.client_address
        count = self._offences.count((kind, user or where, more), now)
        if count:
            data = {"policy": more} if kind in (one[0] for one in _JUDGED.values()) else {}
            event = SecurityEvent(kind, severity, text, record.client_address, user, count, data)
            self._publish(record, event)
