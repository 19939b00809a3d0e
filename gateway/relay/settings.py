"""What a listener gives its sessions.  A session keeps the settings it was born with."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field

from ..core.engine import Engine
from ..core.gate import Barrier
from ..core.policy import PolicyBook
from ..core.rules import Rules
from ..core.steps import Stage
from ..inspection.loader import LoadedPlugin
from ..inspection.pipeline import Pipeline
from ..inspection.quarantine import Quarantine
from ..inspection.verdicts import VerdictStore
from .spool import SpoolSettings
from .tls import ServerTls
from .upstream import Upstream
from .views import ViewCache

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds of silence allowed, by what is awaited."""

    handshake: float = 30.0  # TLS, and a PROXY header
    prologue: float = 60.0  # the upstream's greeting and what follows before the client's
    login: float = 180.0
    command: float = 300.0
    reply: float = 600.0
    body: float = 600.0
    idle: float = 1860.0  # within IMAP IDLE
    keep_upstream: float = 60.0  # how long the upstream is left alone while a message is held

    def of(self, phase: str) -> float:
        """Return the time of an engine's phase."""
        return _PHASES[phase](self)


_PHASES: dict[str, Callable[[Timeouts], float]] = {
    "connect": lambda t: float("inf"),  # the dialer has its own
    "prologue": lambda t: t.prologue,
    "login": lambda t: t.login,
    "command": lambda t: t.command,
    "reply": lambda t: t.reply,
    "body": lambda t: t.body,
    "idle": lambda t: t.idle,
    "verdict": lambda t: float("inf"),  # each plugin has its own
}


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """One listener's settings, ready to use."""

    name: str
    protocol: str
    engine: Callable[..., Engine]
    rules: Rules
    upstream: Upstream
    pipeline: Pipeline
    spool: SpoolSettings
    tls_mode: str = "none"  # "none", "starttls", "implicit"
    server_tls: ServerTls | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)
    digest: bool = True
    watch: frozenset[Stage] = frozenset()  # stages whose messages stream, and are shown to plugins
    views: ViewCache | None = None  # where FETCH is held
    verdicts: VerdictStore | None = None  # where messages towards clients are held
    pipeline_version: str = ""
    quarantine: Quarantine | None = None
    policies: PolicyBook = field(default_factory=lambda: PolicyBook(()))
    guards: tuple[LoadedPlugin, ...] = ()  # plugins that answer when clients connect, command, log in
    barrier: Barrier | None = None  # asked at each login, before the policies
    proxy_from: tuple[Network, ...] = ()
    trusted: tuple[Network, ...] = ()
    max_connections: int = 0
    max_per_address: int = 0
    rate_per_address: int = 0  # new connections in a minute
    greeting_delay: float = 0.0  # seconds; SMTP: who talks before it is over is refused


def within(address: str, networks: tuple[Network, ...]) -> bool:
    """Tell whether an address lies in one of the networks; IPv4 in IPv6 counts as IPv4."""
    if not networks:
        return False
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in networks)
