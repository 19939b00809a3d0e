"""How loud each fact is: one table for every log there is."""

from __future__ import annotations

from ..core.facts import (
    ConnectionRefused,
    MessageAmbiguous,
    MessageSeen,
    PluginAnswered,
    PluginRan,
    QuarantineFailed,
    SecurityEvent,
    SessionClosed,
    SessionOpened,
    TlsFailed,
    UpstreamConnected,
    UpstreamFailed,
)
from ..core.record import SessionRecord
from ..core.steps import (
    ClientNamed,
    ExtensionStruck,
    Fault,
    LoginSeen,
    Refused,
    ReplySeen,
    TlsStarted,
)
from ..core.trouble import CloseReason, FaultKind

DEBUG, INFO, WARNING, ERROR = 10, 20, 30, 40
LEVELS = {"debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR}
NAMES = {value: name for name, value in LEVELS.items()}

#: The lowest level a fact of each type can have: what lies below is not even watched.
FLOOR: dict[type, int] = {
    ReplySeen: INFO,
    LoginSeen: INFO,
    SessionOpened: DEBUG,
    SessionClosed: INFO,
    ConnectionRefused: WARNING,
    ClientNamed: DEBUG,
    TlsStarted: DEBUG,
    TlsFailed: WARNING,
    UpstreamConnected: DEBUG,
    UpstreamFailed: ERROR,
    Fault: WARNING,
    Refused: INFO,
    ExtensionStruck: DEBUG,
    PluginRan: INFO,
    MessageAmbiguous: WARNING,
    PluginAnswered: INFO,
    QuarantineFailed: ERROR,
    SecurityEvent: INFO,
    MessageSeen: INFO,
}
#: The highest level each can have, where it differs from the lowest.
CEILING: dict[type, int] = {
    LoginSeen: WARNING,
    SessionClosed: ERROR,
    Fault: ERROR,
    ExtensionStruck: INFO,
    PluginRan: WARNING,
    PluginAnswered: WARNING,
    SecurityEvent: ERROR,
}


def password_exposed(record: SessionRecord, login: LoginSeen) -> bool:
    """Tell whether a password or token itself crossed the wire with nothing to protect it."""
    return login.reveals and login.sent and record.protection == "none"


def loudness(record: SessionRecord, fact: object) -> int:
    """Return the level of one fact, as a number."""
    match fact:
        case LoginSeen():
            return WARNING if password_exposed(record, fact) else INFO
        case SessionClosed(reason=CloseReason.INTERNAL):
            return ERROR
        case Fault(kind=FaultKind.INTERNAL):
            return ERROR
        case PluginRan(result="timeout" | "error") | PluginAnswered(result="refuse" | "error"):
            return WARNING
        case SecurityEvent(severity=severity):
            return {"warning": WARNING, "alert": ERROR}.get(severity, INFO)
    return FLOOR[type(fact)]


class Once:
    """Remembers what was told already, up to a bound: then it forgets all and begins anew."""

    def __init__(self, bound: int = 4096) -> None:
        self._bound = bound
        self._seen: set[tuple[str, ...]] = set()

    def first(self, *key: str) -> bool:
        """Tell whether this is the first time."""
        if key in self._seen:
            return False
        if len(self._seen) >= self._bound:
            self._seen.clear()
        self._seen.add(key)
        return True


class Thinner:
    """Lets one of a kind through each second, and counts what it keeps back."""

    def __init__(self, seconds: float = 1.0, bound: int = 1024) -> None:
        self._seconds = seconds
        self._bound = bound
        self._last: dict[tuple[str, ...], tuple[float, int]] = {}

    def count(self, now: float, *key: str) -> int | None:
        """Return how many were kept back since the last one let through; None to keep this."""
        last, kept = self._last.get(key, (None, 0))
        if last is not None and 0 <= now - last < self._seconds:
            self._last[key] = (last, kept + 1)
            return None
        if len(self._last) >= self._bound:
            self._last.clear()
        self._last[key] = (now, 0)
        return kept
