"""The sink of the login audit: makes records of logins and security events, and hands them on.

It runs on the event loop, so it only puts together what is known; what costs is cached, and all
else (the privacy modes, the store) is done where the records are written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from ..audit.privacy import network_of
from ..audit.record import AuditRecord, EventRecord, LoginRecord, ProgramRecord
from ..core.facts import SecurityEvent
from ..core.record import SessionRecord
from ..core.steps import ClientNamed, LoginSeen, TlsInfo
from ..core.text import shown
from ..core.users import normalised
from .hub import Sink, Watch
from .levels import Once, password_exposed

#: Characters that are kept of a user, and of other names that peers give.
USER_LIMIT, NAME_LIMIT = 256, 256
#: The networks by which reports group addresses.
PREFIXES = (24, 64)

#: RFC 5321 4.2 with RFC 3463; RFC 1939 3 with RFC 2449 8; RFC 3501 7.1.
_CODES = {
    "smtp": re.compile(r"\d{3}(?:[ -]\d\.\d{1,3}\.\d{1,3})?"),
    "pop3": re.compile(r"(?:\+OK|-ERR)(?: \[[A-Z0-9/-]{1,32}\])?", re.IGNORECASE),
    "imap": re.compile(r"(?:OK|NO|BAD)(?: \[[A-Z0-9-]{1,32}(?=[] ]))?", re.IGNORECASE),
}
_CODES["lmtp"] = _CODES["smtp"]
_NO_TLS = TlsInfo("", "")
_network = lru_cache(4096)(network_of)


@lru_cache(4096)
def normal_user(given: str) -> str:
    """Return the form of a user's name that reports group by: as policies have it, fit to be shown."""
    return shown(normalised(given), USER_LIMIT)


@lru_cache(1024)
def reply_code(protocol: str, reply: str) -> str:
    """Return the code in a reply: "535 5.7.8", "-ERR [AUTH]", "NO [AUTHENTICATIONFAILED]"; "" of none."""
    pattern = _CODES.get(protocol)
    found = pattern.match(reply) if pattern is not None else None
    if found is None:
        return ""
    code = found.group()
    if protocol not in ("pop3", "imap"):
        return code.replace("-", " ")
    code = code.upper().removesuffix(" [CAPABILITY")
    return code + "]" if "[" in code and not code.endswith("]") else code


def login_record(record: SessionRecord, login: LoginSeen, now: float) -> LoginRecord:
    """Return what is kept of a login attempt.  now: seconds since the epoch."""
    tls = record.client_tls or _NO_TLS
    address = record.client_address
    return LoginRecord(
        int(now * 1e6),
        record.id,
        record.protocol,
        record.listener,
        address,
        _network(address, *PREFIXES),
        shown(login.user, USER_LIMIT),
        normal_user(login.user),
        login.mechanism[:64],
        record.protection,
        tls.version,
        tls.cipher,
        tls.group,
        shown(tls.sni, NAME_LIMIT),
        shown(tls.peer, NAME_LIMIT),
        tls.ja4,
        password_exposed(record, login),
        login.outcome,
        reply_code(record.protocol, login.reply),
        shown(record.client_name, NAME_LIMIT),
        shown(record.client_program, NAME_LIMIT),
        record.upstream,
        login.policy,
        login.judgement,
    )


def event_record(record: SessionRecord, event: SecurityEvent, now: float) -> EventRecord:
    """Return what is kept of a security event.  now: seconds since the epoch."""
    return EventRecord(
        int(now * 1e6),
        str(event.kind),
        event.severity,
        record.id,
        record.protocol,
        record.listener,
        event.address or record.client_address,
        normal_user(event.user),
        event.count,
        shown(event.detail, 500),
        event.data,
    )


class AuditSink(Sink):
    """Makes records of facts, and hands each to all takers, which must not block."""

    def __init__(self, takers: Sequence[Callable[[AuditRecord], None]]) -> None:
        self._takers = tuple(takers)
        self._named = Once()

    def watches(self) -> dict[type, Watch]:
        return {LoginSeen: self._login, SecurityEvent: self._event, ClientNamed: self._client}

    def _login(self, record: SessionRecord, login: LoginSeen, now: float) -> None:
        made = login_record(record, login, now)
        for take in self._takers:
            take(made)

    def _event(self, record: SessionRecord, event: SecurityEvent, now: float) -> None:
        made = event_record(record, event, now)
        for take in self._takers:
            take(made)

    def _client(self, record: SessionRecord, fact: ClientNamed, now: float) -> None:
        """Keep what a client calls itself behind its login: before it, the login has it."""
        if fact.how == "id" and record.mechanism and self._named.first(record.id):
            program, user = shown(fact.name, NAME_LIMIT), normal_user(record.user)
            made = ProgramRecord(user, record.client_address, program, int(now * 1e6))
            for take in self._takers:
                take(made)
