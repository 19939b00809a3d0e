"""Records as JSON in the words of the Elastic Common Schema, version 8.

What ECS has a field for stands there (https://www.elastic.co/docs/reference/ecs); the rest is in
``mailgate``.  Fields that are empty are left out.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import json
from typing import Any

from ..audit.record import EventRecord, LoginRecord

#: The version of the schema whose names these are.
ECS_VERSION = "8.11.0"
#: ``event.severity``: as syslog counts (RFC 5424 6.2.1), lower is worse.
ALERT, WARNING, NOTICE, INFO = 1, 4, 5, 6
_SEVERITY = {"alert": ALERT, "warning": WARNING, "info": INFO}
_OUTCOME = {
    "ok": "success",
    "failed": "failure",
    "policy": "failure",
    "locked": "failure",
    "error": "failure",
}
_DENIED = ("policy", "locked")
#: ``event.category`` by kind; what is not here is about the gateway's own state.
_CATEGORY = {
    **dict.fromkeys(
        ("attack", "brute_force", "spraying", "guessing", "denied", "lockout"), "intrusion_detection"
    ),
    **dict.fromkeys(("password_exposed", "stale_password"), "authentication"),
    **dict.fromkeys(("policy_would_refuse", "policy_warned", "policy_refused"), "authentication"),
    "rate": "network",
}


def document(record: LoginRecord | EventRecord, hostname: str) -> dict[str, Any]:
    """Return a record as nested fields.  hostname: the gateway's."""
    made = _login(record) if isinstance(record, LoginRecord) else _event(record)
    made["@timestamp"] = _stamp(record.time)
    made["ecs"] = {"version": ECS_VERSION}
    made["event"]["dataset"] = "mailgate.login" if isinstance(record, LoginRecord) else "mailgate.security"
    made["event"]["module"] = "mailgate"
    made["event"]["id"] = _ident(record)
    made["observer"] = {"name": hostname, "product": "mailgate", "vendor": "mailgate", "type": "proxy"}
    if record.protocol:
        made["network"] = {"protocol": record.protocol, "transport": "tcp"}
    kept: dict[str, Any] = _full(made)
    return kept


def line(record: LoginRecord | EventRecord, hostname: str) -> bytes:
    """Return a record as one line of JSON, ASCII only, without its end."""
    return json.dumps(document(record, hostname), separators=(",", ":")).encode()


def severity(record: LoginRecord | EventRecord) -> int:
    """Return how bad it is, as syslog counts: 1 alert, 4 warning, 5 notice, 6 info."""
    if isinstance(record, EventRecord):
        return _SEVERITY.get(record.severity, INFO)
    if record.exposed or record.outcome in _DENIED:
        return WARNING
    return INFO if record.outcome == "ok" else NOTICE


def _login(record: LoginRecord) -> dict[str, Any]:
    version = record.tls_version.removeprefix("TLSv")
    return {
        "event": {
            "kind": "event",
            "category": ["authentication"],
            "type": ["denied"] if record.outcome in _DENIED else ["start"],
            "action": "login",
            "outcome": _OUTCOME.get(record.outcome, "unknown"),
            "code": record.code,
            "severity": severity(record),
        },
        "message": _told(record),
        "source": _source(record.address),
        "user": {"name": record.user},
        "tls": {
            "established": bool(version) or None,
            "version": f"{version}.0" if version == "1" else version,
            "version_protocol": "tls" if version else "",
            "cipher": record.tls_cipher,
            "curve": record.tls_group,
            "client": {"server_name": record.tls_sni, "subject": record.tls_client},
        },
        "rule": {"name": record.policy},
        "mailgate": {
            "session": record.session,
            "listener": record.listener,
            "upstream": record.upstream,
            "mechanism": record.mechanism,
            "protection": record.protection,
            "password_exposed": record.exposed,
            "outcome": record.outcome,
            "judgement": record.judgement,
            "user_given": record.user_given,
            "client": {"name": record.client_name, "program": record.client_program, "ja4": record.ja4},
            "network": record.network,
        },
    }


def _told(record: LoginRecord) -> str:
    how = f"{record.mechanism} over {record.tls_version}" if record.tls_version else record.mechanism
    exposed = ", password exposed" if record.exposed else ""
    who = record.user or "somebody"
    return f"{record.protocol} login of {who} from {record.address} by {how}: {record.outcome}{exposed}"


def _event(record: EventRecord) -> dict[str, Any]:
    return {
        "event": {
            "kind": "alert" if record.severity == "alert" else "event",
            "category": [_CATEGORY.get(record.kind, "configuration")],
            "type": ["info"],
            "action": record.kind,
            "severity": severity(record),
            "reason": record.detail,
        },
        "message": record.detail,
        "source": _source(record.address),
        "user": {"name": record.user},
        "mailgate": {
            "session": record.session,
            "listener": record.listener,
            "severity": record.severity,
            "count": record.count,
            "data": record.data,
        },
    }


def _source(address: str) -> dict[str, str]:
    """Return where a client is: ``ip`` holds addresses only, ``address`` networks and names, too."""
    try:
        return {"address": address, "ip": str(ipaddress.ip_address(address))}
    except ValueError:
        return {"address": address}


def _stamp(at: int) -> str:
    time = datetime.datetime.fromtimestamp(at // 1_000_000, datetime.UTC)
    return f"{time:%Y-%m-%dT%H:%M:%S}.{at % 1_000_000:06d}Z"


def _ident(record: LoginRecord | EventRecord) -> str:
    """Return what tells a record from all others, and is the same whenever it is sent again."""
    return hashlib.blake2b(repr(record).encode("utf-8", "backslashreplace"), digest_size=12).hexdigest()


def _full(value: Any) -> Any:
    """Leave out what is empty."""
    if not isinstance(value, dict):
        return value
    filled = {name: _full(one) for name, one in value.items()}
    return {name: one for name, one in filled.items() if one not in ("", None, {}, [""])}
