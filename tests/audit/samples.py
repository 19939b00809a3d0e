"""Records as a busy day gives them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gateway.audit.record import EventRecord, LoginRecord

NOW = 1_790_000_000_000_000  # 2026-09-21T14:13:20Z

_LOGIN = LoginRecord(
    time=NOW,
    session="0123456789ab",
    protocol="imap",
    listener="imaps",
    address="192.0.2.7",
    network="192.0.2.0/24",
    user_given="Alice@Example.org",
    user="alice@example.org",
    mechanism="PLAIN",
    protection="tls",
    tls_version="TLSv1.3",
    tls_cipher="TLS_AES_256_GCM_SHA384",
    tls_group="X25519",
    tls_sni="mail.example.org",
    tls_client="",
    ja4="",
    exposed=False,
    outcome="ok",
    code="OK",
    client_name="",
    client_program="Thunderbird 128",
    upstream="dovecot",
    policy="",
    judgement="",
)
_EVENT = EventRecord(
    NOW,
    "brute_force",
    "alert",
    "0123456789ab",
    "imap",
    "imaps",
    "192.0.2.7",
    "alice@example.org",
    12,
    "192.0.2.7 tried 12 passwords of alice@example.org",
    {"from": "192.0.2.7", "passwords": "12"},
)


def login(number: int = 0, **more: Any) -> LoginRecord:
    """Return a login, each a second after the one before."""
    fields = {"time": NOW + number * 1_000_000, "session": f"{number:012x}", **more}
    return replace(_LOGIN, **fields)


def event(number: int = 0, **more: Any) -> EventRecord:
    return replace(_EVENT, **{"time": NOW + number * 1_000_000, **more})
