"""The steps: what an engine answers with.

A step is an *order*, which the session performs, or a *fact*, which it publishes.  Steps
are plain values: a play compares them, a transcript prints them, and nothing in them does
I/O.  They are made on the hot path, so they are slotted and not frozen; treat them as
immutable all the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum, StrEnum

from .trouble import CloseReason, FaultKind
from .view import Slice, ViewKey


class Side(IntEnum):
    """One of the two ends of a session.  An int, so that it can index a two-item list."""

    CLIENT = 0
    UPSTREAM = 1

    @property
    def other(self) -> Side:
        return UPSTREAM if self is CLIENT else CLIENT

    def __str__(self) -> str:
        return "client" if self is CLIENT else "upstream"


CLIENT = Side.CLIENT
UPSTREAM = Side.UPSTREAM


class Stage(StrEnum):
    """Where in its protocol a message passes; a label of metrics and a plugin's selector."""

    DATA = "data"  # SMTP and LMTP, DATA or BDAT: client to upstream
    APPEND = "append"  # IMAP APPEND, MULTIAPPEND, REPLACE: client to upstream
    RETR = "retr"  # POP3 RETR: upstream to client
    TOP = "top"  # POP3 TOP: upstream to client, a part of a message
    FETCH = "fetch"  # IMAP FETCH: upstream to client


class Framing(Enum):
    """How a body is laid on the wire."""

    DOTS = "dots"  # dot-stuffed, ended by CRLF.CRLF (RFC 5321 4.5.2, RFC 1939 3)
    RAW = "raw"  # counted octets: an IMAP literal, a BDAT chunk


@dataclass(slots=True)
class TlsInfo:
    """What a finished TLS handshake agreed on."""

    version: str  # "TLSv1.3"
    cipher: str
    group: str = ""  # key-exchange group, "X25519MLKEM768"
    sni: str = ""
    alpn: str = ""
    resumed: bool = False
    peer: str = ""  # subject of the peer's certificate, if it showed one
    verified: bool = False
    ja4: str = ""  # fingerprint of the client's offer, where it is taken


@dataclass(slots=True)
class Envelope:
    """The SMTP envelope of one message (RFC 5321 2.3.1)."""

    reverse_path: str = ""
    recipients: list[str] = field(default_factory=list)  # accepted ones only
    parameters: dict[str, str] = field(default_factory=dict)  # of MAIL, upper-case keys


# ------------------------------------------------------------------ orders


@dataclass(slots=True)
class Send:
    """Send bytes to a side."""

    side: Side
    data: bytes


@dataclass(slots=True)
class StartTls:
    """Begin TLS on a side; no Send to it before ``handshaken``."""

    side: Side


@dataclass(slots=True)
class Connect:
    """Connect to the upstream; answered by ``routed`` or ``unreachable``."""


@dataclass(slots=True)
class BodyStart:
    """A message, or a piece of one, begins to arrive from ``source``.

    ``held``: its bytes are kept in the spool and ``decided`` is awaited behind its BodyEnd.
    Otherwise the engine forwards the bytes itself, and the session only measures them.
    """

    source: Side
    stage: Stage
    held: bool
    section: str = ""  # IMAP: "TEXT", "1.2", "HEADER"...; "" is the whole message
    partial: bool = False  # not the whole of what `section` names: TOP, BODY[]<0.65536>
    size: int | None = None  # octets, where the protocol announces them
    envelope: Envelope | None = None
    mailbox: str = ""  # IMAP: the selected or target mailbox, as given
    ident: str = ""  # "uid 7", "message 3": what the protocol calls it
    special_use: frozenset[str] = (
        frozenset()
    )  # IMAP: what the mailbox is for: "\\Drafts", "\\Sent" (RFC 6154)


@dataclass(slots=True)
class BodyData:
    """Some content of the body that began last from ``source`` (dots unstuffed)."""

    source: Side
    data: bytes


@dataclass(slots=True)
class BodyEnd:
    """The body from ``source`` is complete; where it is held, ``decided`` follows."""

    source: Side
    key: ViewKey | None = None  # IMAP FETCH: by which the judged message is found again


@dataclass(slots=True)
class BodyAbort:
    """The body from ``source`` will not be completed: forget what the spool holds."""

    source: Side


@dataclass(slots=True)
class SendBody:
    """Send the decided message to a side, or a slice of a judged one; ``body_sent`` follows.

    No Send to that side may follow this order before ``body_sent(side)``.
    """

    side: Side
    framing: Framing
    normalise: bool = True  # DOTS: turn bare CR and LF into CRLF
    piece: Slice | None = None  # in place of the decided message
    lines: int | None = None  # only the header and so many lines of the body (POP3 TOP)


@dataclass(slots=True)
class Close:
    """End the session: flush what is queued to both sides, then close both."""

    reason: CloseReason
    detail: str = ""


# ------------------------------------------------------------------- facts


@dataclass(slots=True)
class CommandSeen:
    """The client gave a command.  Exactly one ReplySeen follows for each.

    ``verb`` is of the protocol's closed set, or "other"; ``shown`` is the command as it may
    be logged: secrets masked, controls escaped, cut to a bound.
    """

    serial: int
    verb: str
    shown: str
    at: float = field(default=0.0, compare=False)  # stamped by the session: seconds, wall clock


@dataclass(slots=True)
class ReplySeen:
    """A command was answered, or will not be.

    ``result``: "ok", "no" (refused), "bad" (not understood), "temp" (4xx), "perm" (5xx),
    "refused" (by the gateway itself), "unanswered" (the session ended first).
    """

    command: CommandSeen
    result: str
    shown: str  # the reply's first line, as it may be logged


#: What an authentication attempt comes to, in the order in which it is told; see LoginSeen.
OUTCOMES = ("ok", "failed", "error", "aborted", "policy", "locked", "unfinished")


@dataclass(slots=True)
class LoginSeen:
    """An authentication attempt came to its end.

    ``outcome``: "ok", "failed" (wrong credentials), "error" (the upstream could not tell),
    "aborted" (cancelled), "policy" (refused by the gateway), "locked" (refused: too many failed
    before), "unfinished" (the session ended).
    ``reveals``: the mechanism sends the password (or token) itself, so that whoever reads the
    wire has it.  ``sent``: it did cross the wire in this attempt.
    """

    mechanism: str
    user: str
    outcome: str
    reveals: bool
    sent: bool
    reply: str = ""
    policy: str = ""  # the name of the login policy that applied
    judgement: str = ""  # what it said: "", "would-refuse" (it only monitors), "warned", "refused"


@dataclass(slots=True)
class ClientNamed:
    """The client named its host (HELO, EHLO, LHLO) or its program (IMAP ID)."""

    how: str  # "ehlo", "id"
    name: str


@dataclass(slots=True)
class TlsStarted:
    """A handshake that an engine ordered, or that the listener demands, is finished."""

    side: Side
    mode: str  # "implicit" or "starttls"
    tls: TlsInfo


@dataclass(slots=True)
class Fault:
    """A side broke the protocol, or tried an attack."""

    side: Side
    kind: FaultKind
    detail: str = ""


@dataclass(slots=True)
class Refused:
    """The gateway refused a command itself, by its own rules."""

    verb: str
    reason: str


@dataclass(slots=True)
class ExtensionStruck:
    """A capability that the upstream offers was not passed on."""

    name: str  # as offered, "COMPRESS=DEFLATE"
    reason: str


Order = Send | StartTls | Connect | BodyStart | BodyData | BodyEnd | BodyAbort | SendBody | Close
EngineFact = (
    CommandSeen | ReplySeen | LoginSeen | ClientNamed | TlsStarted | Fault | Refused | ExtensionStruck
)
Step = Order | EngineFact
ORDERS: tuple[type, ...] = (
    Send,
    StartTls,
    Connect,
    BodyStart,
    BodyData,
    BodyEnd,
    BodyAbort,
    SendBody,
    Close,
)
