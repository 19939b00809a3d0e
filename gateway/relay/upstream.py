"""Upstreams: several addresses with failover, a memory for dead ones, and the way to connect."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet import threads

from ..core.engine import Route
from ..core.facts import UpstreamConnected, UpstreamFailed
from ..core.record import SessionRecord
from ..core.steps import UPSTREAM, Side, TlsInfo
from ..core.trouble import Trouble
from ..wire.proxy_header import build_v1, build_v2
from .link import SocketLink
from .tls import ClientTls

#: How long an answer of the resolver is kept, in seconds.
RESOLVED_TIME = 30.0


@dataclass(frozen=True, slots=True)
class Address:
    """One address of an upstream, as configured: a host (name or number) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Upstream:
    """One upstream server, known by its name, at one or more addresses.

    tls: "none", "opportunistic", "starttls", "implicit".
    connect_timeout: seconds for one address, its implicit TLS handshake included.
    retry_after: seconds for which an address that failed is tried only when all others fail.
    """

    def __init__(
        self,
        name: str,
        addresses: list[Address],
        *,
        tls: str = "none",
        client_tls: ClientTls | None = None,
        server_name: str = "",
        connect_timeout: float = 10.0,
        retry_after: float = 30.0,
        proxy_protocol: str = "none",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.addresses = addresses
        self.tls = tls
        self.client_tls = client_tls
        self.server_name = server_name
        self.connect_timeout = connect_timeout
        self.retry_after = retry_after
        self.proxy_protocol = proxy_protocol
        self.clock = clock
        self._dead_until: dict[Address, float] = {}
        self._resolved: dict[Address, tuple[float, list[tuple[int, Any]]]] = {}

    def candidates(self) -> list[Address]:
        """Return the addresses to try, in order: those not known dead first."""
        now = self.clock()
        alive = [a for a in self.addresses if self._dead_until.get(a, 0) <= now]
        return alive + [a for a in self.addresses if a not in alive]

    def failed(self, address: Address) -> None:
        """Remember that an address could not be used."""
        self._dead_until[address] = self.clock() + self.retry_after

    def succeeded(self, address: Address) -> None:
        if self._dead_until:
            self._dead_until.pop(address, None)

    def is_up(self) -> bool:
        """Tell whether some address is not known dead."""
        now = self.clock()
        return any(self._dead_until.get(a, 0) <= now for a in self.addresses)

    def host_name(self, address: Address) -> str:
        """Return the name that the certificate must have."""
        return self.server_name or address.host

    def resolve(self, address: Address, done: Callable[[list[tuple[int, Any]] | str], None]) -> None:
        """Call ``done`` with the socket addresses, now if they are known, or with a problem."""
        known = self._resolved.get(address)
        if known is not None and (known[0] > self.clock()):
            done(known[1])
            return
        try:
            done(self._keep(address, _numeric(address), float("inf")))
            return
        except OSError:
            pass

        def resolved(infos: list[tuple[int, Any]]) -> None:
            done(self._keep(address, infos, RESOLVED_TIME))

        def unresolved(failure: Any) -> None:
            # A resolver that fails for a moment does not unmake what is known.
            done(
                known[1]
                if known is not None
                else f"can't resolve {address.host}: {failure.getErrorMessage()}"
            )

        threads.deferToThread(_look_up, address).addCallbacks(resolved, unresolved)

    def _keep(self, address: Address, infos: list[tuple[int, Any]], seconds: float) -> list[tuple[int, Any]]:
        self._resolved[address] = (self.clock() + seconds, infos)
        return infos


def _numeric(address: Address) -> list[tuple[int, Any]]:
    flags = socket.AI_NUMERICHOST
    infos = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=flags)
    return [(info[0], info[4]) for info in infos]


def _look_up(address: Address) -> list[tuple[int, Any]]:
    infos = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    return [(info[0], info[4]) for info in infos]


class Dialer:
    """Connects one session to its upstream: address by address, PROXY header, implicit TLS.

    While it dials it owns the link; then the link's owner is the session.  No timer of its
    own: the session's tick calls :meth:`tick`.
    """

    direct = True

    def __init__(
        self,
        upstream: Upstream,
        record: SessionRecord,
        reactor: Any,
        publish: Callable[[Any], None],
        connected: Callable[[SocketLink, Route], None],
        unreachable: Callable[[Trouble], None],
    ) -> None:
        self._upstream = upstream
        self._record = record
        self._reactor = reactor
        self._publish = publish
        self._connected = connected
        self._unreachable = unreachable
        self._addresses = upstream.candidates()
        self._sockets: list[tuple[int, Any]] = []
        self._address: Address | None = None
        self._socket: socket.socket | None = None
        self._link: SocketLink | None = None
        self._watching = False
        self._began = 0.0
        self._over = False
        self._trouble = Trouble.UPSTREAM_DOWN

    def start(self) -> None:
        """Try the first address."""
        self._next_address()

    def stop(self) -> None:
        """Give up: the session has ended."""
        self._over = True
        self._drop()

    def tick(self, now: float) -> None:
        """Give this address up if its time is over.  ``now``: of the upstream's clock."""
        if (
            not self._over
            and self._address is not None
            and now - self._began > self._upstream.connect_timeout
        ):
            self._give_up("timeout", f"no connection within {self._upstream.connect_timeout:g} s")

    # -- one address after the other ---------------------------------------

    def _next_address(self) -> None:
        if self._over:
            return
        if not self._addresses:
            self._over = True
            self._unreachable(self._trouble)
            return
        self._address = self._addresses.pop(0)
        self._began = self._upstream.clock()
        self._upstream.resolve(self._address, self._resolved)

    def _resolved(self, answer: list[tuple[int, Any]] | str) -> None:
        if self._over:
            return
        if isinstance(answer, str):
            self._give_up("dns", answer)
            return
        self._sockets = list(answer)
        self._next_socket("unreachable", "no address")

    def _next_socket(self, reason: str, detail: str) -> None:
        """Try the next of the addresses that a name resolved to."""
        if not self._sockets:
            self._give_up(reason, detail)
            return
        family, where = self._sockets.pop(0)
        try:
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            self._give_up("unreachable", error.strerror or str(error))
            return
        self._socket = sock
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = sock.connect_ex(where)
        if code in (0, errno.EINPROGRESS):
            try:
                sock.getpeername()  # on this machine a connection is often there at once
            except OSError:
                self._watching = True
                self._reactor.addWriter(self)
            else:
                self._established()
        else:
            sock.close()
            self._socket = None
            self._next_socket("refused" if code == errno.ECONNREFUSED else "unreachable", os.strerror(code))

    def _established(self) -> None:
        sock, address = self._socket, self._address
        assert sock is not None and address is not None
        self._socket = None
        link = SocketLink(UPSTREAM, self, sock, self._reactor)
        self._link = link
        upstream = self._upstream
        if upstream.proxy_protocol != "none":
            link.send(_proxy_header(upstream.proxy_protocol, self._record))
            link.bytes_out = 0
        if upstream.tls == "implicit":
            assert upstream.client_tls is not None
            link.start_tls(upstream.client_tls.connection(upstream.host_name(address)))
        else:
            self._arrived(None)

    def _arrived(self, tls: TlsInfo | None) -> None:
        link, address = self._link, self._address
        assert link is not None and address is not None
        self._over = True
        self._upstream.succeeded(address)
        seconds = self._upstream.clock() - self._began
        self._publish(UpstreamConnected(self._upstream.name, str(address), seconds))
        self._connected(link, Route(self._upstream.name, str(address), tls))

    def _give_up(self, reason: str, detail: str) -> None:
        address = self._address
        assert address is not None
        self._drop()
        trouble = Trouble.UPSTREAM_TLS if reason in ("tls", "certificate") else Trouble.UPSTREAM_DOWN
        self._trouble = trouble
        self._upstream.failed(address)
        self._publish(UpstreamFailed(self._upstream.name, str(address), trouble, reason, detail))
        self._next_address()

    def _drop(self) -> None:
        if self._socket is not None:
            if self._watching:
                self._watching = False
                self._reactor.removeWriter(self)
            self._socket.close()
            self._socket = None
        if self._link is not None and not (self._over and self._link.owner is not self):
            self._link.abort()
            self._link = None

    # -- the reactor's words while a connection is on its way --------------

    def fileno(self) -> int:
        return self._socket.fileno() if self._socket is not None else -1

    def logPrefix(self) -> str:
        return "dialer"

    def event(self, _flags: int) -> None:
        self.doWrite()

    def doWrite(self) -> None:
        sock = self._socket
        if sock is None:
            return
        self._watching = False
        self._reactor.removeWriter(self)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            sock.close()
            self._socket = None
            self._next_socket("refused" if code == errno.ECONNREFUSED else "unreachable", os.strerror(code))
        else:
            self._established()

    def connectionLost(self, _reason: object) -> None:
        if not self._over:
            self._give_up("unreachable", "connection lost")

    # -- the link's words while implicit TLS is on its way -----------------

    def heard(self, side: Side, data: bytes) -> None:
        raise AssertionError("a link speaks before it is handed over")

    def link_moved(self, side: Side) -> None:
        return

    def link_ended(self, side: Side, clean: bool) -> None:
        self.link_lost(side, "closed by the upstream")

    def link_lost(self, side: Side, detail: str) -> None:
        if not self._over:
            self._give_up("unreachable", detail)

    def link_secured(self, side: Side, tls: TlsInfo) -> None:
        address, client_tls, link = self._address, self._upstream.client_tls, self._link
        assert address is not None and client_tls is not None
        if link is None:  # the handshake was over within start_tls, before it returned: can't be
            return
        problem = client_tls.problem_with_name(link.tls_connection, self._upstream.host_name(address))
        if problem:
            self._give_up("certificate", problem)
            return
        tls.verified = client_tls.verify
        self._arrived(tls)

    def link_not_secured(self, side: Side, reason: str, detail: str) -> None:
        if not self._over:
            self._give_up("certificate" if reason == "certificate" else "tls", detail)


def _proxy_header(version: str, record: SessionRecord) -> bytes:
    """Introduce the client to the upstream (HAProxy's PROXY protocol)."""
    if version == "v1":
        return build_v1(record.client_address, record.client_port, record.server_address, record.server_port)
    tls = record.client_tls
    return build_v2(
        record.client_address,
        record.client_port,
        record.server_address,
        record.server_port,
        tls=tls is not None,
        tls_version=tls.version if tls is not None else "",
        cipher=tls.cipher if tls is not None else "",
        authority=tls.sni if tls is not None else "",
        alpn=tls.alpn if tls is not None else "",
    )
