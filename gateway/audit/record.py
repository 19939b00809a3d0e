"""What is kept of a login attempt and of a security event.  Never a password, nor what is made of one."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LoginRecord:
    """One authentication attempt, in the order of the columns of the table ``logins``."""

    time: int  # microseconds since the epoch
    session: str
    protocol: str  # "smtp", "lmtp", "pop3", "imap"
    listener: str
    address: str  # of the client, the true one behind PROXY; cut to a prefix by a privacy mode
    network: str  # its network: IPv4 /24, IPv6 /64, or wider, as CIDR
    user_given: str  # as the client gave it; "" where it gave none; a pseudonym by a privacy mode
    user: str  # normalised: what reports group by
    mechanism: str  # "PLAIN", "LOGIN", "SCRAM-SHA-256", "USER", "APOP", "EXTERNAL", "preauth"...
    protection: str  # "tls", "tls-in-front", "trusted-network", "none"
    tls_version: str  # "TLSv1.3"; "" without TLS
    tls_cipher: str
    tls_group: str  # of the key exchange
    tls_sni: str
    tls_client: str  # subject of the client's certificate
    ja4: str  # fingerprint of the ClientHello, where it is taken
    exposed: bool  # the password itself crossed the wire unprotected
    outcome: str  # "ok", "failed", "error", "aborted", "policy", "locked", "unfinished"
    code: str  # the upstream's code: "535 5.7.8", "NO [AUTHENTICATIONFAILED]", "-ERR [AUTH]"
    client_name: str  # EHLO name
    client_program: str  # IMAP ID, as far as it was known at the login
    upstream: str
    policy: str  # name of the policy that applied; "" if none
    judgement: str  # of the policy: "", "would-refuse" (monitor), "warned", "refused"


@dataclass(frozen=True, slots=True)
class EventRecord:
    """One security event, in the order of the columns of the table ``events``."""

    time: int  # microseconds since the epoch
    kind: str  # closed set: see gateway.core.facts.SecurityEvent
    severity: str  # "info", "warning", "alert"
    session: str  # "" where it is of none
    protocol: str
    listener: str
    address: str
    user: str
    count: int  # how many offences this stands for
    detail: str  # one line of text
    data: dict[str, str] = field(default_factory=dict)  # kept as JSON


@dataclass(frozen=True, slots=True)
class ProgramRecord:
    """The program that a client named behind its login (IMAP ID); table ``programs``, the latest of each."""

    user: str  # normalised, as in the record of the login
    address: str
    program: str
    time: int  # microseconds since the epoch


@dataclass(frozen=True, slots=True)
class PseudonymRecord:
    """Whom a pseudonym stands for, readable with the key only; table ``pseudonyms``."""

    pseudonym: str  # "u-3f9c..."
    time: int
    sealed: str  # the normalised user, encrypted, as base64


AuditRecord = LoginRecord | EventRecord | ProgramRecord
#: What a store takes: what is audited, and what a privacy mode adds.
StoredRecord = LoginRecord | EventRecord | ProgramRecord | PseudonymRecord
