"""The facts that the session adds to the engine's own (see :mod:`gateway.core.steps`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from .steps import (
    ClientNamed,
    CommandSeen,
    ExtensionStruck,
    Fault,
    LoginSeen,
    Refused,
    ReplySeen,
    Side,
    Stage,
    TlsStarted,
)
from .trouble import CloseReason, Trouble


@dataclass(slots=True)
class SessionOpened:
    """A connection was accepted and passed the limits."""


@dataclass(slots=True)
class SessionClosed:
    """The session is over; its record holds the totals."""

    reason: CloseReason
    detail: str
    seconds: float


@dataclass(slots=True)
class ConnectionRefused:
    """A connection was turned away before it became a session."""

    #: "limit_total", "limit_listener", "limit_address", "rate_address", "proxy_header", "shutdown",
    #: "plugin".
    reason: str


@dataclass(slots=True)
class UpstreamConnected:
    """An address of the upstream took the connection (and the implicit TLS, if any)."""

    upstream: str
    address: str
    seconds: float


@dataclass(slots=True)
class UpstreamFailed:
    """An address of the upstream could not be used."""

    upstream: str
    address: str
    trouble: Trouble
    reason: str  # closed set: "refused", "timeout", "dns", "tls", "certificate", "unreachable"
    detail: str


@dataclass(slots=True)
class TlsFailed:
    """A handshake failed."""

    side: Side
    mode: str
    reason: str  # closed set: "plaintext", "no_shared_version", "no_shared_cipher", "certificate", ...
    detail: str


@dataclass(slots=True)
class PluginRan:
    """One plugin judged one message."""

    plugin: str
    stage: Stage
    result: str  # "pass", "modify", "reject", "quarantine", "discard", "timeout", "error"
    #: What it came to: as result, or the on_error policy "pass", "defer", "reject"; or "shadow".
    applied: str
    seconds: float
    detail: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    #: What a plugin in shadow would have changed, in lines that may be shown.
    diff: tuple[str, ...] = ()


@dataclass(slots=True)
class MessageAmbiguous:
    """A message was stopped because programs may read it differently, or it is beyond a limit."""

    stage: Stage
    defects: tuple[str, ...]
    applied: str  # "reject", "quarantine", "defer"


@dataclass(slots=True)
class QuarantineFailed:
    """A message was to be quarantined and could not be kept: it was deferred."""

    plugin: str
    detail: str


@dataclass(slots=True)
class PluginAnswered:
    """A plugin answered at a hook, and not simply with Allow."""

    plugin: str
    hook: str  # "connect", "command", "login"
    result: str  # "refuse", "tag", "error"
    applied: str  # "refuse", "allow", "shadow"
    detail: str = ""


@dataclass(slots=True)
class MessageSeen:
    """A message, or a piece of one, has passed or was stopped."""

    stage: Stage
    source: Side
    action: str  # "passed", "rewritten", "rejected", "quarantined", "discarded", "deferred", "aborted"
    held: bool
    size: int  # octets that arrived
    new_size: int  # octets that go on; as `size` unless rewritten
    digest: str  # SHA-256 of what arrived, hexadecimal; "" where switched off
    section: str = ""
    partial: bool = False
    mailbox: str = ""
    ident: str = ""
    reverse_path: str = ""
    recipients: int = 0
    message_id: str = ""
    reason: str = ""
    quarantine: str = ""  # under which id it was kept


class EventKind(StrEnum):
    """What the security team is told of."""

    PASSWORD_EXPOSED = "password_exposed"  # a user's password crossed the wire unprotected
    POLICY_WOULD_REFUSE = "policy_would_refuse"  # a policy that monitors
    POLICY_WARNED = "policy_warned"
    POLICY_REFUSED = "policy_refused"
    STALE_PASSWORD = "stale_password"  # one user, one address, the same wrong password: a forgotten phone
    BRUTE_FORCE = "brute_force"  # one address tries many passwords of one user
    SPRAYING = "spraying"  # one address tries many users
    GUESSING = "guessing"  # many addresses try one user
    LOCKOUT = "lockout"
    DENIED = "denied"  # an address of a deny list
    RATE = "rate"  # more than is allowed of connections, commands, messages, recipients, octets
    ATTACK = "attack"  # a fault that no honest peer commits: STARTTLS injection and its kin
    CERTIFICATE = "certificate"  # expires soon, or could not be loaded again
    KEY_LOG = "key_log"  # the keys of connections are written to a file
    AUDIT_LOST = "audit_lost"  # records that the store did not take


@dataclass(slots=True)
class SecurityEvent:
    """Something that the security team is told of: the first of a kind, later ones as a count."""

    kind: EventKind
    severity: str  # "info", "warning", "alert"
    detail: str  # one line, safe to show
    address: str = ""  # or a network, as CIDR
    user: str = ""
    count: int = 1  # how many offences this stands for
    data: dict[str, str] = field(default_factory=dict)


Fact = (
    CommandSeen
    | ReplySeen
    | LoginSeen
    | ClientNamed
    | TlsStarted
    | Fault
    | Refused
    | ExtensionStruck
    | SessionOpened
    | SessionClosed
    | ConnectionRefused
    | UpstreamConnected
    | UpstreamFailed
    | TlsFailed
    | PluginRan
    | MessageAmbiguous
    | PluginAnswered
    | QuarantineFailed
    | SecurityEvent
    | MessageSeen
)
