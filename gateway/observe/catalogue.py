"""Which metric families there are, their closed sets of labels, and which series begin at zero."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from ..core.facts import EventKind
from ..core.rules import DEFAULT_MECHANISMS
from ..core.steps import OUTCOMES, Stage
from ..core.trouble import CloseReason, FaultKind
from .families import OTHER, Bounded, Counts, Levels, Spread

RESULTS = ("ok", "no", "bad", "temp", "perm", "refused", "unanswered")
PROTECTIONS = ("tls", "tls-in-front", "trusted-network", "none")
REFUSALS = (
    "limit_total",
    "limit_listener",
    "limit_address",
    "rate_address",
    "proxy_header",
    "shutdown",
    "plugin",
)
UPSTREAM_REASONS = ("refused", "timeout", "dns", "tls", "certificate", "unreachable")
ACTIONS = ("passed", "rewritten", "rejected", "quarantined", "discarded", "deferred", "aborted")
AUDIT_KINDS = ("login", "event", "program")
VERDICTS = ("pass", "modify", "reject", "quarantine", "discard")
LEGS = ("client", "upstream")
TLS_VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
TLS_FAILURES = (
    *("plaintext", "no_shared_version", "no_shared_cipher", "certificate", "alpn", "timeout", "closed"),
)
TLS13_CIPHERS = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
#: In which of the protocol's stages messages pass.
STAGES: dict[str, tuple[str, ...]] = {
    "smtp": (Stage.DATA,),
    "lmtp": (Stage.DATA,),
    "pop3": (Stage.RETR, Stage.TOP),
    "imap": (Stage.APPEND, Stage.FETCH),
}
#: Logins that are no SASL mechanism.
OWN_LOGINS: dict[str, tuple[str, ...]] = {"pop3": ("USER", "APOP"), "imap": ("LOGIN",)}
REVEALING = ("PLAIN", "LOGIN", "USER", "XOAUTH2", "OAUTHBEARER")
MECHANISMS = frozenset(
    {*DEFAULT_MECHANISMS, "USER", "APOP", "DIGEST-MD5", "GSSAPI", "NTLM", "EXTERNAL", "ANONYMOUS", OTHER}
)

COMMAND_SECONDS = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0)
CONNECT_SECONDS = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0)
PLUGIN_SECONDS = (0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 30.0)
LAG_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0)
MESSAGE_BYTES = (4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0, 67108864.0)


def within(name: str, known: Collection[str]) -> str:
    """Return the label value, or ``other`` if it is not of the closed set."""
    return name if name in known else OTHER


class Verb:
    """The counts of one verb: results by name, and the histogram's row."""

    __slots__ = ("results", "row")

    def __init__(self, row: list[float]) -> None:
        self.results = dict.fromkeys(RESULTS, 0)
        self.row = row


class Catalogue:
    """The families, and what is counted in them.

    verbs: protocol -> its engine's closed set.
    """

    def __init__(self, verbs: Mapping[str, Iterable[str]]) -> None:
        self._verbs = {protocol: frozenset(names) for protocol, names in verbs.items()}
        self.commands: dict[str, dict[str, Verb]] = {}
        self.cipher_label = Bounded(64, TLS13_CIPHERS)
        self.capability_label: dict[str, Bounded] = {}
        place = ("protocol", "listener")
        self.connections = Counts("connections", "Client connections that became sessions.", place)
        self.active = Levels("connections_active", "Sessions that are open.", place)
        self.refused = Counts("connections_refused", "Connections turned away.", (*place, "reason"))
        self.closed = Counts("sessions_closed", "Sessions that ended, by reason.", ("protocol", "reason"))
        self.handshakes = Counts(
            "tls_handshakes",
            "TLS handshakes; a failed one has version none and the kind of failure as its result.",
            ("leg", "protocol", "mode", "version", "result"),
        )
        self.resumed = Counts("tls_resumed", "TLS handshakes that went on with an earlier session.", ("leg",))
        self.ciphers = Counts("tls_cipher", "TLS handshakes by the cipher agreed on.", ("leg", "cipher"))
        self.expiry = Levels(
            "tls_certificate_expiry_timestamp_seconds",
            "When a certificate of the gateway, or a revocation list, ends, seconds since the epoch.",
            ("name",),
        )
        self.logins = Counts(
            "auth_attempts", "Authentication attempts by mechanism.", ("protocol", "mechanism", "result")
        )
        self.protected = Counts(
            "auth_protection",
            "Authentication attempts by what protected the client's leg.",
            ("protocol", "protection", "result"),
        )
        self.exposed = Counts(
            "cleartext_credentials",
            "Passwords or tokens that crossed the client's leg unprotected.",
            ("protocol", "mechanism", "outcome"),
        )
        self.durations = Spread(
            "command_duration_seconds",
            "From a command to its reply.",
            ("protocol", "command"),
            COMMAND_SECONDS,
        )
        self.connects = Spread(
            "upstream_connect_duration_seconds",
            "Time to connect to an upstream, implicit TLS included.",
            ("upstream",),
            CONNECT_SECONDS,
        )
        self.up = Levels(
            "upstream_up",
            "Whether the last connection to the upstream came about (1 before any).",
            ("upstream",),
        )
        self.upstream_errors = Counts(
            "upstream_errors", "Connections to an upstream that failed.", ("upstream", "reason")
        )
        self.bytes = Counts(
            "bytes",
            "Octets passed inside TLS, counted when a session ends; direction as the gateway sees it.",
            ("protocol", "leg", "direction"),
        )
        self.messages = Counts("messages", "Messages and pieces of them.", ("protocol", "stage", "action"))
        self.sizes = Spread(
            "message_size_bytes", "Size of messages as they came.", ("protocol", "stage"), MESSAGE_BYTES
        )
        self.ambiguous = Counts(
            "ambiguous_messages",
            "Messages stopped because programs may read them differently, or they are beyond a limit.",
            ("protocol", "stage", "policy_applied"),
        )
        self.plugin_runs = Counts(
            "plugin_runs",
            "Messages judged by a plugin; policy_applied is what came of it.",
            ("plugin", "stage", "result", "policy_applied"),
        )
        self.plugin_answers = Counts(
            "plugin_answers",
            "Answers of plugins to connections, commands and logins, but for plain consent.",
            ("plugin", "hook", "result"),
        )
        self.security = Counts(
            "security_events",
            "What the security team is told of, offences of one event counted.",
            ("kind", "severity"),
        )
        self.security.start(tuple(EventKind), ("info", "warning", "alert"))
        self.plugin_seconds = Spread(
            "plugin_duration_seconds", "Time a plugin took for one message.", ("plugin",), PLUGIN_SECONDS
        )
        self.struck = Counts(
            "capability_stripped",
            "Capabilities that an upstream offered and clients were not told of, once a session.",
            ("protocol", "capability"),
        )
        self.anomalies = Counts(
            "protocol_anomalies", "What peers did against the protocol.", ("protocol", "kind")
        )
        self.lag = Spread("reactor_lag_seconds", "How late the reactor's timers are called.", (), LAG_SECONDS)

    def expect(
        self,
        listeners: Mapping[str, str],
        upstreams: Iterable[str] = (),
        plugins: Mapping[str, Iterable[str]] | None = None,
        shadows: Collection[str] = (),
    ) -> None:
        """Make the series of a configuration exist, at zero where they are new.

        plugins: name -> stages.  shadows: those that may run in shadow.
        Called again after a reload; what was counted stays, and an upstream that is no more
        is neither up nor down.
        """
        protocols = sorted(set(listeners.values()))
        for listener, protocol in listeners.items():
            self.connections.start([protocol], [listener])
            self.active.start([protocol], [listener])
            self.refused.start([protocol], [listener], REFUSALS)
        self.closed.start(protocols, CloseReason)
        self._expect_tls(protocols)
        for protocol in protocols:
            self._expect_protocol(protocol)
        self.protected.start(protocols, PROTECTIONS, OUTCOMES)
        self.bytes.start(protocols, LEGS, ("received", "sent"))
        self.anomalies.start(protocols, FaultKind)
        self.lag.row()
        was = self.up.values
        self.up.values = {(upstream,): was.get((upstream,), 1) for upstream in upstreams}
        for upstream in upstreams:
            self.connects.start([upstream])
            self.upstream_errors.start([upstream], UPSTREAM_REASONS)
        for plugin, stages in (plugins or {}).items():
            stages = tuple(stages)
            for verdict in VERDICTS:
                self.plugin_runs.start([plugin], stages, [verdict], [verdict])
            self.plugin_runs.start([plugin], stages, ("timeout", "error"), ("pass", "defer", "reject"))
            if plugin in shadows:
                self.plugin_runs.start([plugin], stages, (*VERDICTS, "timeout", "error"), ["shadow"])
            self.plugin_seconds.start([plugin])
            self.plugin_answers.start([plugin], ("connect", "command", "login"), ("refuse", "tag", "error"))

    def _expect_tls(self, protocols: list[str]) -> None:
        for mode in ("implicit", "starttls"):
            self.handshakes.start(LEGS, protocols, [mode], TLS_VERSIONS, ["ok"])
            self.handshakes.start(LEGS, protocols, [mode], ["none"], (*TLS_FAILURES, OTHER))
        self.resumed.start(LEGS)
        self.ciphers.start(LEGS, TLS13_CIPHERS)

    def _expect_protocol(self, protocol: str) -> None:
        mechanisms = sorted(DEFAULT_MECHANISMS | set(OWN_LOGINS.get(protocol, ())))
        self.logins.start([protocol], mechanisms, OUTCOMES)
        self.exposed.start([protocol], [m for m in mechanisms if m in REVEALING], ("accepted", "refused"))
        self.messages.start([protocol], STAGES.get(protocol, ()), ACTIONS)
        towards_server = [stage for stage in STAGES.get(protocol, ()) if stage in (Stage.DATA, Stage.APPEND)]
        self.ambiguous.start([protocol], towards_server, ("reject", "quarantine", "defer"))
        self.sizes.start([protocol], STAGES.get(protocol, ()))
        self.capability_label.setdefault(protocol, Bounded(64))
        verbs = self.commands.setdefault(protocol, {})
        for verb in sorted({*self._verbs.get(protocol, ()), OTHER}):
            if verb not in verbs:
                verbs[verb] = Verb(self.durations.row(protocol, verb))

    def families(self) -> list[Counts | Spread]:
        """Return every family but the commands' counts, in the order of a scrape."""
        return [thing for thing in vars(self).values() if isinstance(thing, (Counts, Spread))]
