"""The configuration's model: every table and field there is, with its default."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..core.rules import DEFAULT_MECHANISMS
from ..core.steps import Stage
from ..inspection.loader import PluginSpec
from .kinds import Address, Duration, FilePath, ListenAddress, Network, PluginUse, Share, Size

Protocol = Literal["smtp", "lmtp", "pop3", "imap"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]


class Table(BaseModel):
    """What all tables have in common: nothing unknown, and nothing changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class Log(Table):
    format: Literal["auto", "console", "json"] = Field(
        default="auto", description="auto: console on a terminal"
    )
    output: str = Field(default="stderr", description="stderr, stdout, or a file's path")
    level: Literal["debug", "info", "warning", "error"] = "info"
    commands: bool = Field(default=True, description="a line for each command and its reply")


class Admin(Table):
    address: ListenAddress | None = Field(
        default=None, description="where /metrics, /healthz and /readyz are"
    )


class Spool(Table):
    directory: FilePath | None = Field(default=None, description="where large held messages lie, unlinked")
    memory: Size = Field(default=1024 * 1024, description="messages up to this size stay in memory")


class GlobalLimits(Table):
    connections: int = Field(default=20_000, ge=0, description="client connections in all; 0 is no limit")
    drain: Duration = Field(default=30.0, description="how long messages in flight may take at a stop")


class Upstream(Table):
    name: Name
    addresses: tuple[Address, ...] = Field(min_length=1, description="tried in order")
    tls: Literal["none", "opportunistic", "starttls", "implicit"] | None = Field(
        default=None, description="none is the default only where every address is loopback"
    )
    verify: bool = Field(default=True, description="verify the server's certificate and its name")
    ca: FilePath | None = Field(default=None, description="trusted authorities; the system's if absent")
    server_name: str = Field(default="", description="the name the certificate must have; the host if absent")
    certificate: FilePath | None = Field(default=None, description="a client certificate to show")
    key: FilePath | None = None
    connect_timeout: Duration = 10.0
    retry_after: Duration = Field(default=30.0, description="how long a dead address is left alone")
    proxy_protocol: Literal["none", "v1", "v2"] = "none"
    forward_client: Literal["none", "xclient", "id"] = "none"


class Certificate(Table):
    certificate: FilePath
    key: FilePath


class ListenerTls(Table):
    mode: Literal["none", "starttls", "implicit"] = "none"
    certificates: tuple[Certificate, ...] = Field(
        default=(), description="the first is the default, others by SNI"
    )
    profile: Literal["modern", "intermediate", "old"] = "intermediate"
    client_ca: FilePath | None = None
    client_certificate: Literal["none", "request", "require"] = "none"
    key_log: FilePath | None = Field(
        default=None, description="OpenSSL's key log: whoever reads it reads everything"
    )


class ListenerLimits(Table):
    connections: int = Field(default=0, ge=0)
    connections_per_address: int = Field(default=0, ge=0)
    message_size: Size = 100 * 1024 * 1024
    recipients: int = Field(default=1000, ge=1)
    unknown_commands: int = Field(default=10, ge=0)
    errors: int = Field(default=20, ge=1)


class ListenerTimeouts(Table):
    handshake: Duration = 30.0
    prologue: Duration = 60.0
    login: Duration = 180.0
    command: Duration | None = Field(default=None, description="SMTP, LMTP 5m; POP3 10m; IMAP 31m")
    reply: Duration = 600.0
    body: Duration = 600.0
    idle: Duration = 1860.0


class Smtp(Table):
    bare_newlines: Literal["auto", "reject", "normalise", "pass"] = Field(
        default="auto", description="auto: normalise from clients that have logged in, else reject"
    )
    vrfy: Literal["allow", "deny"] = "deny"
    expn: Literal["allow", "deny"] = "deny"
    obsolete_commands: bool = False
    banner: str = ""
    quarantine_reply: Literal["accept", "reject"] = "accept"


class Listener(Table):
    name: Name
    protocol: Protocol
    address: ListenAddress
    upstream: str
    digest: bool = True
    cleartext_login: Literal["allow", "refuse"] = "allow"
    mechanisms: tuple[str, ...] = tuple(sorted(DEFAULT_MECHANISMS))
    pass_extensions: tuple[str, ...] = ()
    strike_extensions: tuple[str, ...] = ()
    apop: bool = True
    proxy_protocol_from: tuple[Network, ...] = ()
    trusted_networks: tuple[Network, ...] = ()
    tls: ListenerTls = ListenerTls()
    limits: ListenerLimits = ListenerLimits()
    timeouts: ListenerTimeouts = ListenerTimeouts()
    smtp: Smtp = Smtp()


class PluginTable(Table):
    name: Name
    use: PluginUse = Field(description="a plugin's name, or a path to a .py file")
    stages: tuple[Literal["data", "append"], ...] = Field(
        default=("data", "append"), description="where messages are held for it: SMTP and LMTP; IMAP APPEND"
    )
    listeners: tuple[str, ...] = ()
    time_limit: Duration = 5.0
    on_error: Literal["defer", "pass", "reject"] = "defer"
    options: dict[str, Any] = {}


class TranscriptTable(Table):
    directory: FilePath
    listeners: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    addresses: tuple[Network, ...] = ()
    share: Share = 1.0
    content: bool = False


class Configuration(Table):
    hostname: str = Field(default="localhost", pattern=r"^[A-Za-z0-9.-]{1,255}$")
    user: str = ""
    log: Log = Log()
    admin: Admin = Admin()
    spool: Spool = Spool()
    limits: GlobalLimits = GlobalLimits()
    upstreams: tuple[Upstream, ...] = Field(min_length=1)
    listeners: tuple[Listener, ...] = Field(min_length=1)
    plugins: tuple[PluginTable, ...] = ()
    transcripts: tuple[TranscriptTable, ...] = ()

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
                options=table.options,
            )
            for table in self.plugins
        ]
