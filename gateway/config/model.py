"""The configuration's model: every table and field there is, with its default."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..core.rules import DEFAULT_MECHANISMS
from ..core.steps import Stage
from ..inspection.defects import Limits
from ..inspection.loader import PluginSpec
from ..inspection.quarantine_places import Folder, Objects, Place
from .kinds import (
    Address,
    AuditStore,
    Duration,
    FilePath,
    GreetingText,
    ListenAddress,
    LogOutput,
    Moment,
    Network,
    OwnName,
    PluginUse,
    PositiveDuration,
    RateLimit,
    Retention,
    ServerName,
    Share,
    Size,
)

Protocol = Literal["smtp", "lmtp", "pop3", "imap"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
#: Numbers and switches are taken as they are written: true is no number, "5" is none either.
Count = Annotated[int, Field(strict=True, ge=0, lt=1 << 31)]
#: Of failed logins: as many as are remembered of one address or user (relay/counters.py).
Failures = Annotated[int, Field(strict=True, ge=0, le=1000)]
Switch = Annotated[bool, Field(strict=True)]


class Table(BaseModel):
    """What all tables have in common: nothing unknown, and nothing changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class Log(Table):
    """``[log]``: the program's log, which is also the sessions' log."""

    format: Literal["auto", "console", "json"] = "auto"
    """auto: console on a terminal, JSON otherwise"""
    output: LogOutput = "stderr"
    """stderr, stdout, or a file's path"""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """the least that is logged"""
    commands: Switch = True
    """a line for each command and its reply"""


class Admin(Table):
    """``[admin]``: the HTTP server for Prometheus and for probes of health."""

    address: ListenAddress | None = None
    """where /metrics, /healthz and /readyz are; none is served if absent"""
    control: FilePath | None = None
    """a UNIX socket for commands to the running gateway, open to its own user; none if absent"""


class Spool(Table):
    """``[spool]``: where held messages lie."""

    directory: FilePath | None = None
    """where large held messages lie, unlinked; the system's temporary folder if absent"""
    memory: Size = 1024 * 1024
    """messages up to this size, in octets, stay in memory"""


class Views(Table):
    """``[views]``: what clients see of messages that were rewritten on the way to them."""

    cache: Size = 64 * 1024 * 1024
    """rewritten messages kept for clients that fetch pieces of them, octets in all"""
    verdicts: FilePath | None = None
    """an SQLite file that remembers verdicts by digest; without one they are forgotten at a restart"""


class Inspection(Table):
    """``[inspection]``: how messages are taken apart for plugins."""

    defects: Literal["pass", "reject", "quarantine"] = "pass"
    """what becomes of submitted messages that mail programs may read differently, or beyond a limit"""
    depth: Annotated[Count, Field(ge=1, le=200)] = 50
    """levels of parts within parts"""
    parts: Annotated[Count, Field(ge=1, le=100_000)] = 10_000
    """parts of a message, in all"""
    header_bytes: Annotated[Size, Field(ge=1024, lt=1 << 30)] = 512 * 1024
    """octets of one part's header; four times as many in all"""
    fields: Annotated[Count, Field(ge=1, le=1_000_000)] = 50_000
    """header fields, in all"""
    parameters: Annotated[Count, Field(ge=1, le=10_000)] = 200
    """parameters of one header field"""


class Quarantine(Table):
    """``[quarantine]``: where messages are kept that a plugin has quarantined."""

    directory: FilePath | None = None
    """a folder of its own; without one and without a url, a quarantined message is a temporary failure"""
    url: str = ""
    """in place of it a bucket of S3, or a prefix in one: ``s3://bucket/prefix``"""
    endpoint: str = ""
    """of another store that speaks S3: ``https://host:port``"""
    region: str = "us-east-1"
    """of the bucket"""
    timeout: PositiveDuration = 30.0
    """how long the bucket may take for a request, in seconds"""
    retention: PositiveDuration = 30 * 86400.0
    """how long messages are kept, in seconds"""
    max_size: Size = 10 * 1024 * 1024 * 1024
    """octets of all messages; 0 is no bound; what is too much is a temporary failure"""


class Audit(Table):
    """``[audit]``: every login attempt and security event, kept for reports."""

    store: AuditStore | None = None
    """an SQLite file, or a URL of PostgreSQL; without one there is no audit"""
    required: Switch = False
    """refuse new logins, as a temporary failure, while the store can't be written"""
    retention: Retention = 400 * 86400.0
    """how long records are kept, in seconds; 0 keeps them for ever"""
    queue: Annotated[Count, Field(ge=100, le=10_000_000)] = 20_000
    """records that wait while the store can't be written; what comes then is lost and counted"""
    chain: Switch = False
    """chain the records by hashes, so that tampering shows: `mailgate audit verify`"""
    chain_key: FilePath | None = None
    """a file with the chain's key (HMAC); without one, who can write to the store can chain anew"""
    chain_head: FilePath | None = None
    """a file, away from the store, with the chain's end: shows a tail that was cut off"""
    addresses: Literal["full", "prefix"] = "full"
    """prefix: keep the networks of clients only"""
    prefix_ipv4: Annotated[Count, Field(ge=8, le=32)] = 24
    """the length of what is kept of an IPv4 address"""
    prefix_ipv6: Annotated[Count, Field(ge=16, le=128)] = 48
    """the length of what is kept of an IPv6 address"""
    users: Literal["full", "pseudonym"] = "full"
    """pseudonym: keep users as pseudonyms, which the key resolves: `mailgate audit resolve`"""
    pseudonym_key: FilePath | None = None
    """a file with the pseudonyms' key"""


class GlobalLimits(Table):
    """``[limits]``: bounds of the whole process."""

    connections: Count = 20_000
    """client connections in all; 0 is no limit"""
    drain: Duration = 30.0
    """seconds that messages in flight may take at a stop"""
    old_plugins: Duration = 3600.0
    """seconds after a reload that old sessions keep their plugins; then the new ones judge for them"""


class Tls(Table):
    """``[tls]``: what concerns the certificates of all listeners and upstreams."""

    watch: Duration = 15.0
    """how often their files are looked at, and used if they have changed, in seconds; 0: on SIGHUP only"""


class Upstream(Table):
    """``[[upstreams]]``: a mail server."""

    name: Name
    """by which listeners, logs and metrics call it"""
    addresses: tuple[Address, ...] = Field(min_length=1)
    """host:port, tried in order"""
    tls: Literal["none", "opportunistic", "starttls", "implicit"] | None = None
    """none is the default only where every address is loopback"""
    verify: Switch = True
    """verify the server's certificate and its name"""
    ca: FilePath | None = None
    """trusted authorities, PEM; the system's if absent"""
    crl: FilePath | None = None
    """revocation lists of the authorities, PEM; a certificate that they do not cover is refused"""
    server_name: ServerName = ""
    """the name the certificate must have; the host if absent"""
    certificate: FilePath | None = None
    """a client certificate to show, PEM"""
    key: FilePath | None = None
    """the client certificate's key, PEM"""
    connect_timeout: PositiveDuration = 10.0
    """seconds for one address, implicit TLS included"""
    retry_after: Duration = 30.0
    """seconds that a dead address is left alone"""
    proxy_protocol: Literal["none", "v1", "v2"] = "none"
    """tell the server the client's address by a PROXY header"""
    forward_client: Literal["none", "xclient", "id"] = "none"
    """tell the server the client's address within the protocol: XCLIENT (SMTP, POP3), ID (IMAP)"""


class Certificate(Table):
    """A certificate with its chain, and its key."""

    certificate: FilePath
    """the certificate and what leads to its authority, PEM"""
    key: FilePath
    """the private key, PEM, not encrypted"""


class ListenerTls(Table):
    """``[listeners.tls]``: TLS with clients."""

    mode: Literal["none", "starttls", "implicit"] = "none"
    """starttls: offered; implicit: from the first octet"""
    certificates: tuple[Certificate, ...] = ()
    """the first is the default, others by SNI"""
    profile: Literal["modern", "intermediate", "old"] = "intermediate"
    """Mozilla's: which versions and ciphers are taken"""
    client_ca: FilePath | None = None
    """authorities of client certificates, PEM"""
    client_crl: FilePath | None = None
    """their revocation lists, PEM; a certificate that they do not cover is refused"""
    client_certificate: Literal["none", "request", "require"] = "none"
    """whether clients are asked for a certificate"""
    key_log: FilePath | None = None
    """OpenSSL's key log: whoever reads it reads everything"""
    ja4: Switch = False
    """take JA4 fingerprints of clients, for the log and the audit"""


class ListenerLimits(Table):
    """``[listeners.limits]``: bounds of one listener and its sessions."""

    connections: Count = 0
    """client connections of this listener; 0 is no limit"""
    connections_per_address: Count = 0
    """of one IPv4 address or IPv6 /64; 0 is no limit"""
    connection_rate: Count = 0
    """new connections in a minute from one IPv4 address or IPv6 /64; 0 is no limit"""
    message_size: Annotated[Size, Field(ge=1)] = 100 * 1024 * 1024
    """octets of a message that is submitted or appended"""
    recipients: Annotated[Count, Field(ge=1)] = 1000
    """SMTP, LMTP: of one message"""
    unknown_commands: Count = 10
    """relayed; then refused"""
    errors: Annotated[Count, Field(ge=1)] = 20
    """of a client; then the session ends"""


class ListenerTimeouts(Table):
    """``[listeners.timeouts]``: seconds of silence, by what is awaited."""

    handshake: PositiveDuration = 30.0
    """TLS, and a PROXY header"""
    prologue: PositiveDuration = 60.0
    """the upstream's greeting, TLS and capabilities"""
    login: PositiveDuration = 180.0
    """until a client has logged in (POP3, IMAP)"""
    command: PositiveDuration | None = None
    """between commands; if absent SMTP, LMTP 5m; POP3 10m; IMAP 31m"""
    reply: PositiveDuration = 600.0
    """the upstream's answer"""
    body: PositiveDuration = 600.0
    """within a message"""
    idle: PositiveDuration = 1860.0
    """within IMAP IDLE"""


class Smtp(Table):
    """``[listeners.smtp]``: what concerns SMTP and LMTP only."""

    greeting_delay: Annotated[Duration, Field(le=60.0)] = 0.0
    """seconds until a client is greeted; who talks before is refused; 0 greets at once"""
    bare_newlines: Literal["auto", "reject", "normalise", "pass"] = "auto"
    """bare CR or LF in messages; auto: normalise from clients that have logged in, else reject"""
    vrfy: Literal["allow", "deny"] = "deny"
    """whether VRFY is relayed"""
    expn: Literal["allow", "deny"] = "deny"
    """whether EXPN is relayed"""
    obsolete_commands: Switch = False
    """whether SEND, SOML and SAML are relayed"""
    banner: GreetingText = ""
    """the greeting's text; the upstream's if absent"""
    quarantine_reply: Literal["accept", "reject"] = "accept"
    """what a client hears of a quarantined message: 250 or 550"""


class Pop3(Table):
    """``[listeners.pop3]``: what concerns POP3 only."""

    judge_top: Switch = True
    """where RETR is judged: answer TOP from the whole message as judged; else it shows the original"""
    exact_sizes: Switch = False
    """where RETR is judged: LIST and STAT tell the sizes of messages as judged, not the server's"""
    judge_listings: Count = 100
    """messages that a LIST or STAT may have judged first, with ``exact_sizes``"""


class Imap(Table):
    """``[listeners.imap]``: what concerns IMAP only."""

    judge_listings: Count = 100
    """messages that a FETCH of sizes, structures and headers may have judged first"""


class Listener(Table):
    """``[[listeners]]``: an address that clients connect to."""

    name: Name
    """by which plugins, logs and metrics call it"""
    protocol: Protocol
    """which is spoken there"""
    address: ListenAddress
    """address:port; 0.0.0.0 or [::] is everywhere"""
    upstream: str
    """the name of the upstream that clients are led to"""
    digest: Switch = True
    """SHA-256 of each message, as a fact in the log"""
    cleartext_login: Literal["allow", "refuse"] = "allow"
    """refuse: no login before TLS"""
    mechanisms: tuple[str, ...] = tuple(sorted(DEFAULT_MECHANISMS))
    """SASL mechanisms that pass, if the upstream offers them"""
    pass_extensions: tuple[str, ...] = ()
    """capabilities passed although the table strikes them"""
    strike_extensions: tuple[str, ...] = ()
    """capabilities struck although the table passes them"""
    apop: Switch = True
    """POP3: whether the greeting's timestamp is passed"""
    proxy_protocol_from: tuple[Network, ...] = ()
    """networks whose connections must begin with a PROXY header"""
    trusted_networks: tuple[Network, ...] = ()
    """networks whose unprotected logins are no alarm"""
    tls: ListenerTls = ListenerTls()
    """TLS with clients"""
    limits: ListenerLimits = ListenerLimits()
    """bounds of this listener and its sessions"""
    timeouts: ListenerTimeouts = ListenerTimeouts()
    """seconds of silence, by what is awaited"""
    smtp: Smtp = Smtp()
    """what concerns SMTP and LMTP only"""
    pop3: Pop3 = Pop3()
    """what concerns POP3 only"""
    imap: Imap = Imap()
    """what concerns IMAP only"""


class PluginTable(Table):
    """``[[plugins]]``: a plugin; they are asked in the order of the file."""

    name: Name
    """by which logs and metrics call it"""
    use: PluginUse
    """a plugin's name, or a path to a .py file"""
    stages: tuple[Literal["data", "append", "retr", "top", "fetch"], ...] = ("data", "append")
    """where it judges messages: data (SMTP, LMTP), append, fetch (IMAP), retr, top (POP3)"""
    listeners: tuple[str, ...] = ()
    """by name; none is all"""
    time_limit: PositiveDuration = 5.0
    """seconds for one message"""
    on_error: Literal["defer", "pass", "reject"] = "defer"
    """what becomes of a message that it fails on"""
    shadow: Switch = False
    """only tell in the log what it would have done"""
    share: Share = 1.0
    """of the messages that it is asked about, from 0 to 1; the same people's each time"""
    share_by: Literal["user", "sender", "recipient", "client"] | None = None
    """by what the share is drawn; by user, or by sender without a login, if absent"""
    outside_share: Literal["skip", "shadow"] = "skip"
    """what becomes of the messages outside of the share"""
    isolation: Literal["thread", "process"] | None = None
    """where it runs: in threads, or in processes of its own; as it says itself if absent"""
    processes: Annotated[Count, Field(ge=1)] = 2
    """how many, if it runs in processes"""
    memory_limit: Size | None = None
    """octets that each of its processes may take for itself; as it says itself if absent"""
    options: dict[str, Any] = {}
    """the plugin's own"""


class TranscriptTable(Table):
    """``[[transcripts]]``: which sessions are written down."""

    directory: FilePath
    """where a file for each session is put; made if absent"""
    listeners: tuple[str, ...] = ()
    """by name; none is all"""
    users: tuple[str, ...] = ()
    """who has logged in; none is all"""
    addresses: tuple[Network, ...] = ()
    """networks of clients; none is all"""
    share: Share = 1.0
    """of the sessions that meet the rest, from 0 to 1"""
    content: Switch = False
    """whether messages are written as they are"""


class RateTable(Table):
    """``[abuse.rates]``: how much a client (an address, IPv6 /64) and a user may do; who is over it waits."""

    commands: RateLimit | None = None
    """of a client; none is no limit"""
    messages: RateLimit | None = None
    """submitted, delivered or appended by a client"""
    recipients: RateLimit | None = None
    """of a client's messages (SMTP, LMTP)"""
    bytes: RateLimit | None = None
    """of messages, in either direction"""
    user_commands: RateLimit | None = None
    """the same of a user who has logged in, from wherever"""
    user_messages: RateLimit | None = None
    """submitted or appended by a user"""
    user_recipients: RateLimit | None = None
    """of a user's messages"""
    user_bytes: RateLimit | None = None
    """of a user's messages, in either direction"""


class AbuseTable(Table):
    """``[abuse]``: failed logins, and what follows; networks that are welcome or not; rates."""

    mode: Literal["off", "monitor", "enforce"] = "monitor"
    """``monitor`` tells of attacks, ``enforce`` delays and locks, too"""
    window: PositiveDuration = 600.0
    """how long a failure counts, in seconds"""
    address_failures: Failures = 30
    """of one address (IPv6: /64) until it is locked; 0 is no limit, here and below"""
    network_failures: Failures = 200
    """of one network (IPv4 /24, IPv6 /48)"""
    user_failures: Failures = 0
    """of one user; it lets strangers lock users out"""
    pair_failures: Failures = 10
    """of one user at one address, within 20 seconds of each other"""
    pair_a_day: Failures = 200
    """of one user at one address, further apart: a program with a stale password"""
    spraying_users: Failures = 10
    """users tried from one address, and more than twice as many as succeed from there"""
    guessing_networks: Failures = 10
    """networks from which one user is tried"""
    delay_after: Failures = 3
    """failures of an address before it has to wait: 1, 2, 4... seconds"""
    delay_max: Duration = 8.0
    """the longest wait, in seconds; 0 is none"""
    lockout: Duration = 900.0
    """how long the first lock lasts, in seconds; each further one twice as long; 0 is none"""
    lockout_max: PositiveDuration = 86400.0
    """the longest lock, in seconds"""
    allow: tuple[Network, ...] = ()
    """networks that nothing of this concerns"""
    deny: tuple[Network, ...] = ()
    """networks that are turned away"""
    allow_files: tuple[FilePath, ...] = ()
    """files of such networks, one a line; read again when they change"""
    deny_files: tuple[FilePath, ...] = ()
    """files of such networks, one a line; read again when they change"""
    rates: RateTable = RateTable()
    """how much clients and users may do"""

    def limits(self) -> dict[str, Any]:
        """Return the fields that say how much is too much."""
        return self.model_dump(exclude={"allow", "deny", "allow_files", "deny_files", "rates"})


class Enforcement(Table):
    """``enforce`` of ``[[policies]]``: from when, and for whom first."""

    begin: Moment = Field(alias="from")
    """a date: from then on who is in the share is refused"""
    share: Share = 1.0
    """of users or networks, from 0 to 1; the same ones stay in while it grows"""
    share_by: Literal["user", "network"] = "user"
    """what the share is of"""


class PolicyException(Table):
    """``exceptions`` of ``[[policies]]``: who is left alone."""

    users: tuple[str, ...] = ()
    """names or patterns; none is all"""
    networks: tuple[Network, ...] = ()
    """of clients; none is all"""
    until: Moment | None = None
    """a date, from which on it counts no more"""
    reason: str = ""
    """for whoever reads this file"""


class PolicyTable(Table):
    """``[[policies]]``: what protection logins and sessions need; the first that applies counts."""

    name: Name
    """by which logs, the audit and events call it"""
    listeners: tuple[str, ...] = ()
    """by name; none is all"""
    protocols: tuple[Protocol, ...] = ()
    """none is all"""
    networks: tuple[Network, ...] = ()
    """of clients; none is all"""
    users: tuple[str, ...] = ()
    """names or patterns like ``*@example.org``; none is all"""
    login: Literal["none", "no-exposed-password", "tls", "tls-client-cert"] = "none"
    """what a login needs; ``no-exposed-password`` lets SCRAM, CRAM-MD5 and APOP pass without TLS"""
    session: Literal["none", "tls"] = "none"
    """``tls``: nothing before TLS but what leads to it"""
    min_tls: Literal["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"] | None = None
    """the lowest version of TLS that a login may use"""
    profile: Literal["modern", "intermediate", "old"] | None = None
    """the ciphers and versions that a login may use, by the name of a TLS profile"""
    mechanisms: tuple[str, ...] = ()
    """with which logins are allowed: SASL's, and USER, APOP; none is any"""
    mode: Literal["monitor", "warn", "enforce"] = "monitor"
    """what follows: it is recorded; the user is told; the login is refused"""
    enforce: Enforcement | None = None
    """from when on refused, and for whom first; ``mode`` counts before and for the others"""
    exceptions: tuple[PolicyException, ...] = ()
    """who is left alone, and until when"""
    text: GreetingText = ""
    """what users are told, with a link to help"""


class EventsFile(Table):
    """``[events.file]``: JSON objects line by line."""

    path: FilePath
    """the file; one that was moved away is made anew"""
    max_size: Size = 100 * 1024 * 1024
    """octets, then the file becomes ``.1``; 0 is no bound"""
    keep: Annotated[Count, Field(le=1000)] = 10
    """how many such files stay"""
    compress: Switch = False
    """pack those by gzip"""


class EventsSyslog(Table):
    """``[events.syslog]``: RFC 5424 over TLS or TCP, with octet counting."""

    address: Address
    """host:port of the server"""
    tls: Switch = True
    """false: plain TCP"""
    facility: Literal[
        "user", "mail", "daemon", "auth", "authpriv",
        "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
    ] = "authpriv"  # fmt: skip
    """as syslog sorts messages"""
    ca: FilePath | None = None
    """trusted authorities, PEM; the system's if absent"""
    server_name: ServerName = ""
    """the name the certificate must have; the host if absent"""
    certificate: FilePath | None = None
    """a client certificate to show, PEM"""
    key: FilePath | None = None
    """the client certificate's key, PEM"""
    timeout: PositiveDuration = 10.0
    """seconds for a connection, and for a batch"""


class EventsWebhook(Table):
    """``[events.webhook]``: batches by POST."""

    url: str
    """http or https"""
    body: Literal["array", "lines"] = "array"
    """one JSON array, or JSON objects line by line"""
    secret: FilePath | None = None
    """a file with the secret that signs batches, as Standard Webhooks are; else they are not signed"""
    token: FilePath | None = None
    """a file with a token, sent as ``Authorization: Bearer``"""
    headers: dict[str, str] = {}
    """more fields of the request's header"""
    ca: FilePath | None = None
    """trusted authorities, PEM; the system's if absent"""
    timeout: PositiveDuration = 10.0
    """seconds for a connection, and for the answer"""


class EventsTable(Table):
    """``[[events]]``: where records of logins and security events go besides; one of the three below."""

    name: Name
    """by which logs and metrics call it"""
    what: tuple[Literal["logins", "events"], ...] = Field(("logins", "events"), min_length=1)
    """which records"""
    min_severity: Literal["info", "warning", "alert"] = "info"
    """of security events"""
    queue: Annotated[Count, Field(ge=100, le=10_000_000)] = 20_000
    """records that wait while it can't be reached; what comes then is lost and counted"""
    privacy: Switch = True
    """cut addresses and hide users as ``[audit]`` says"""
    file: EventsFile | None = None
    """a file"""
    syslog: EventsSyslog | None = None
    """a syslog server"""
    webhook: EventsWebhook | None = None
    """a webhook"""


class Configuration(Table):
    """The whole file."""

    hostname: OwnName = "localhost"
    """the gateway's name in greetings and EHLO"""
    user: str = ""
    """to become once the ports are bound; whoever started it if absent"""
    log: Log = Log()
    """the log"""
    admin: Admin = Admin()
    """the HTTP server for Prometheus and for probes of health"""
    spool: Spool = Spool()
    """where held messages lie"""
    views: Views = Views()
    """what clients see of messages that were rewritten on the way to them"""
    inspection: Inspection = Inspection()
    """how messages are taken apart for plugins"""
    quarantine: Quarantine = Quarantine()
    """where messages are kept that a plugin has quarantined"""
    audit: Audit = Audit()
    """every login attempt and security event, kept for reports"""
    events: tuple[EventsTable, ...] = ()
    """where records of logins and security events go besides"""
    limits: GlobalLimits = GlobalLimits()
    """bounds of the whole process"""
    tls: Tls = Tls()
    """what concerns the certificates of all listeners and upstreams"""
    upstreams: tuple[Upstream, ...] = Field(min_length=1)
    """the mail servers"""
    listeners: tuple[Listener, ...] = Field(min_length=1)
    """where clients connect to"""
    plugins: tuple[PluginTable, ...] = ()
    """what judges messages"""
    transcripts: tuple[TranscriptTable, ...] = ()
    """which sessions are written down"""

    abuse: AbuseTable = AbuseTable()
    """failed logins, unwanted networks, rates"""
    policies: tuple[PolicyTable, ...] = ()
    """what protection logins need"""

    def parse_limits(self) -> Limits:
        """Return how far messages are taken apart."""
        table = self.inspection
        return Limits(
            depth=table.depth,
            parts=table.parts,
            header_bytes=table.header_bytes,
            fields=table.fields,
            parameters=table.parameters,
        )

    def quarantine_place(self) -> Place | None:
        """Return where quarantined messages are kept; None if nowhere.  Raises ValueError."""
        table = self.quarantine
        if table.directory is not None:
            return Folder(table.directory)
        if not table.url:
            return None
        return Objects(table.url, endpoint=table.endpoint, region=table.region, timeout=table.timeout)

    def plugin_specs(self) -> list[PluginSpec]:
        """Return the plugins' tables as the loader wants them."""
        return [
            PluginSpec(
                name=table.name,
                use=table.use,
                stages=frozenset(Stage(stage) for stage in table.stages),
                listeners=frozenset(table.listeners),
                time_limit=table.time_limit,
                on_error=table.on_error,
                shadow=table.shadow,
                share=table.share,
                share_by=table.share_by or "",
                outside_share=table.outside_share,
                isolation=table.isolation or "",
                processes=table.processes,
                memory_limit=table.memory_limit,
                options=table.options,
            )
            for table in self.plugins
        ]
