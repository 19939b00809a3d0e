"""Listeners: accepting connections, and keeping the sessions that come of them."""

from __future__ import annotations

import errno
import os
import secrets
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..core.facts import ConnectionRefused
from ..core.policy import plain_address
from ..core.record import SessionRecord
from ..core.steps import CLIENT
from ..observe.hub import Hub
from .limits import ConnectionLimits
from .link import SocketLink
from .session import Session
from .settings import SessionSettings, within
from .watchman import Watchman

if TYPE_CHECKING:
    from ..observe.transcript import Transcripts

#: How many connections one event may accept, so that one busy port does not starve the others.
ACCEPT_BATCH = 64
BACKLOG = 2048
#: How long accepting rests when the process has no file descriptors left, in seconds.
REST_TIME = 1.0
#: How often sessions are looked at for time-outs, in seconds.
TICK = 1.0

_IDS = "0123456789abcdefghijkmnpqrstuvwx"


def _session_id() -> str:
    """Return 12 characters, 60 bits, that no two sessions share in practice."""
    value = secrets.randbits(60)
    return "".join(_IDS[(value >> shift) & 31] for shift in range(0, 60, 5))


class Sessions:
    """Every session of the process, their limits, and the one clock that ticks them all."""

    def __init__(
        self, hub: Hub, limits: ConnectionLimits, reactor: Any, chooser: Transcripts | None = None
    ) -> None:
        self.hub = hub
        self.limits = limits
        self.reactor = reactor
        self.chooser = chooser
        #: Who is asked about connections, and shown logins and faults; None where nobody is.
        self.watchman: Watchman | None = None
        self.stopping = False
        self._sessions: set[Session] = set()
        self._when_empty: Callable[[], None] | None = None
        self._ticking: Any = None
        self.slowest_tick = 0.0
        self._due = 0.0

    def __len__(self) -> int:
        return len(self._sessions)

    def start(self) -> None:
        """Begin to tick."""
        self._due = time.monotonic() + TICK
        self._ticking = self.reactor.callLater(TICK, self._tick)

    def _tick(self) -> None:
        now = time.monotonic()
        self.slowest_tick = max(0.0, now - self._due)
        self._due = now + TICK
        self._ticking = self.reactor.callLater(TICK, self._tick)
        for session in list(self._sessions):
            session.tick(now)

    def open(self, settings: SessionSettings, sock: socket.socket, address: tuple[Any, ...]) -> None:
        """Make a session of an accepted connection."""
        server = sock.getsockname()
        record = SessionRecord(
            _session_id(),
            settings.protocol,
            settings.name,
            plain_address(address[0]),
            address[1],
            plain_address(server[0]),
            server[1],
            time.time(),
        )
        refusal = self.limits.refuses(
            settings.name, record.client_address, settings.max_connections, settings.max_per_address
        )
        if (
            settings.rate_per_address
            and not refusal
            and not within(record.client_address, settings.proxy_from)  # a balancer's is everybody's
            and self.limits.too_fast(
                settings.name, record.client_address, settings.rate_per_address, time.monotonic()
            )
        ):
            refusal = "rate_address"
        if self.stopping:
            refusal = "shutdown"
        if refusal and len(self._sessions) > 2 * max(self.limits.total, 1000):
            # Even saying no has its bound.
            self.hub.publish(record, ConnectionRefused(refusal), record.started)
            sock.close()
            return
        self.limits.add(settings.name, record.client_address)
        recorder = self.chooser.choose(record) if self.chooser is not None else None
        session = Session(settings, record, self.hub, self, self.reactor, recorder)
        self._sessions.add(session)
        settings.pipeline.enter()
        # The limit counts whom the kernel names, also behind a PROXY header that names another.
        record.peer_address = record.client_address
        session.begin(SocketLink(CLIENT, session, sock, self.reactor), refusal)

    def session_over(self, session: Session) -> None:
        """Forget a session."""
        self._sessions.discard(session)
        session.settings.pipeline.leave()
        self.limits.remove(session.settings.name, session.record.peer_address)
        if not self._sessions and self._when_empty is not None:
            done, self._when_empty = self._when_empty, None
            done()

    def stop(self, done: Callable[[], None]) -> None:
        """Have every session say goodbye when it is quiet; call ``done`` when none is left."""
        self.stopping = True
        self._when_empty = done
        for session in list(self._sessions):
            session.stop_when_quiet()
        if not self._sessions and self._when_empty is not None:
            self._when_empty = None
            done()

    def cut(self) -> None:
        """End every session now, and tick no more."""
        for session in list(self._sessions):
            session.stop_now()
        if self._ticking is not None and self._ticking.active():
            self._ticking.cancel()


class Listener:
    """One listening socket.  ``settings`` may be exchanged; sessions keep what they were born with."""

    direct = True

    def __init__(self, settings: SessionSettings, host: str, port: int, sessions: Sessions, log: Any) -> None:
        self.settings = settings
        self.host = host
        self.port = port
        self._sessions = sessions
        self._log = log
        self._socket: socket.socket | None = None
        self._accepting = False

    def bind(self) -> None:
        """Bind and listen; nothing is accepted yet.  Raises OSError."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if self.host == "::" else 1)
            # Accepted sockets inherit it: no system call for each.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.bind((self.host, self.port))
            sock.listen(BACKLOG)
        except OSError:
            sock.close()
            raise
        self._socket = sock
        self.port = sock.getsockname()[1]

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_listening(self) -> bool:
        return self._socket is not None

    def start(self) -> None:
        """Begin to accept."""
        self._accepting = True
        self._sessions.reactor.addReader(self)

    def stop(self) -> None:
        """Accept no more, and give the port back."""
        if self._socket is not None:
            if self._accepting:
                self._accepting = False
                self._sessions.reactor.removeReader(self)
            self._socket.close()
            self._socket = None

    def fileno(self) -> int:
        return self._socket.fileno() if self._socket is not None else -1

    def logPrefix(self) -> str:
        return f"listener {self.settings.name}"

    def event(self, _flags: int) -> None:
        self.doRead()

    def doRead(self) -> None:
        """Accept what waits."""
        sock = self._socket
        if sock is None:
            return
        for _ in range(ACCEPT_BATCH):
            try:
                client, address = sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._rest(error)
                    return
                continue  # the client left before it was accepted
            client.setblocking(False)
            self._sessions.open(self.settings, client, address)
            if self._socket is None:
                return

    def _rest(self, error: OSError) -> None:
        """No descriptors: accepting would only spin."""
        self._log.error("accepting paused", listener=self.settings.name, why=os.strerror(error.errno or 0))
        self._accepting = False
        self._sessions.reactor.removeReader(self)
        self._sessions.reactor.callLater(REST_TIME, self._resume)

    def _resume(self) -> None:
        if self._socket is not None and not self._accepting:
            self._accepting = True
            self._sessions.reactor.addReader(self)

    def connectionLost(self, _reason: object) -> None:
        """The reactor is being stopped."""
        self.stop()
