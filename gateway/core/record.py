"""What is known of a session: read by sinks and plugins, written by the session only."""

from __future__ import annotations

from dataclasses import dataclass, field

from .steps import TlsInfo


@dataclass(slots=True)
class SessionRecord:
    """One session's identity and totals.  Never a password, never a transport."""

    id: str  # 12 characters, unique within a process's life and practically beyond
    protocol: str  # "smtp", "lmtp", "pop3", "imap"
    listener: str
    client_address: str  # the true one, from the PROXY header where there is one
    client_port: int
    server_address: str = ""
    server_port: int = 0
    started: float = 0.0  # seconds, wall clock
    trusted_network: bool = False
    tls_in_front: bool = False  # a trusted load balancer said that the client spoke TLS to it
    peer_address: str = ""  # who connected to us, where a PROXY header named the client
    upstream: str = ""  # name of the upstream, once connected
    upstream_address: str = ""
    user: str = ""  # after a login that succeeded
    mechanism: str = ""
    client_name: str = ""  # EHLO name
    client_program: str = ""  # IMAP ID
    client_tls: TlsInfo | None = None
    upstream_tls: TlsInfo | None = None
    commands: int = 0
    messages: int = 0
    bytes_from_client: int = 0
    bytes_to_client: int = 0
    bytes_from_upstream: int = 0
    bytes_to_upstream: int = 0
    ended_by: str = ""  # "client", "upstream", "gateway"
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def protection(self) -> str:
        """How the client's leg is protected: "tls", "tls-in-front", "trusted-network", "none"."""
        if self.client_tls is not None:
            return "tls"
        if self.tls_in_front:
            return "tls-in-front"
        return "trusted-network" if self.trusted_network else "none"
