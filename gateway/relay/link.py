"""A link: one connection of a session, with TLS where it is ordered, and backpressure.

`Link` is TLS, outbox and bookkeeping over some way to move octets; `SocketLink` moves them
over a socket on the reactor, and a test may move them over a pipe in memory.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections import deque
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT
from typing import Any, Protocol

from OpenSSL import SSL

from ..core.steps import Side, TlsInfo
from ..wire.clienthello import HelloReader
from .tls import describe, handshake_problem

#: Above this many octets in an outbox the other side is no longer read; below half, again.
HIGH_WATER = 512 * 1024
LOW_WATER = HIGH_WATER // 2
#: How much one read takes; more while a body passes.
READ_SIZE = 256 * 1024
BODY_READ_SIZE = 1024 * 1024
#: How much goes through OpenSSL's memory at a time: its buffers grow to that and never shrink.
TLS_SLICE = 64 * 1024
#: How long a closed link may take to flush, and then to wait for its peer's end, in seconds.
FLUSH_TIME = 30.0
LINGER_TIME = 2.0

# One buffer for all reads of the process: an idle connection costs none, and no read is
# sized by guessing.  What was read is copied out at once.
_BUFFER = bytearray(BODY_READ_SIZE)
_VIEW = memoryview(_BUFFER)


class LinkOwner(Protocol):
    """Who hears what a link hears: a session, or a dialer while it connects."""

    def heard(self, side: Side, data: bytes) -> None: ...
    def link_ended(self, side: Side, clean: bool) -> None: ...
    def link_lost(self, side: Side, detail: str) -> None: ...
    def link_moved(self, side: Side) -> None: ...
    def link_secured(self, side: Side, tls: TlsInfo) -> None: ...
    def link_not_secured(self, side: Side, reason: str, detail: str) -> None: ...


class Link(ABC):
    """One connection.  ``outbox`` is the number of octets that wait to be sent."""

    __slots__ = (
        "_closing",
        "_lingering",
        "_owed",
        "_pieces",
        "_tls",
        "bytes_in",
        "bytes_out",
        "closed",
        "ended",
        "handshaking",
        "hello",
        "large_reads",
        "outbox",
        "owner",
        "reading",
        "side",
        "tls_info",
    )

    def __init__(self, side: Side, owner: LinkOwner) -> None:
        self.side = side
        self.owner = owner
        self.outbox = 0
        self.reading = False
        self.handshaking = False
        self.ended = False  # the peer sends no more
        self.closed = False
        self.large_reads = False
        self.bytes_in = 0  # plaintext octets, as the engine hears and says them
        self.bytes_out = 0
        self.tls_info: TlsInfo | None = None
        self.hello: HelloReader | None = None  # where the client's offer is to be read too
        self._tls: SSL.Connection | None = None
        self._pieces: deque[memoryview | bytes] = deque()
        self._closing = False
        self._lingering = False
        self._owed = 0  # octets of a TLS record still to come; -1: unknown

    # -- what a way to move octets provides --------------------------------

    @abstractmethod
    def _transmit(self, data: bytes | memoryview) -> int:
        """Send what can be sent at once; return how much.  Raises OSError."""

    @abstractmethod
    def _watch(self, reading: bool, writing: bool) -> None:
        """Have (or no longer have) reads and writes announced."""

    @abstractmethod
    def _shut(self) -> None:
        """Close at once."""

    @abstractmethod
    def _half_close(self) -> None:
        """End our direction."""

    @abstractmethod
    def _later(self, seconds: float) -> None:
        """Call abort() after this time, unless closed by then."""

    @property
    def tls_connection(self) -> SSL.Connection:
        """The TLS connection.  Raises AssertionError where there is none."""
        assert self._tls is not None
        return self._tls

    # -- orders ------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Send octets, now as far as the kernel takes them, the rest as it can."""
        if self.closed or self._closing:
            return
        self.bytes_out += len(data)
        if self._tls is not None:
            try:
                data = self._encrypt(data)
            except SSL.Error:
                # The peer ended TLS or broke it; its reading side will say so.
                return
        self._send_raw(data)

    def _encrypt(self, data: bytes) -> bytes:
        tls = self._tls
        assert tls is not None
        if len(data) <= TLS_SLICE:
            tls.sendall(data)
            return self._drain(len(data))
        view = memoryview(data)
        sealed = []
        for start in range(0, len(view), TLS_SLICE):
            piece = view[start : start + TLS_SLICE]
            tls.sendall(piece)
            sealed.append(self._drain(len(piece)))
        return b"".join(sealed)

    def _send_raw(self, data: bytes) -> None:
        if not data:
            return
        if self._pieces:
            self._pieces.append(data)
            self.outbox += len(data)
            return
        try:
            sent = self._transmit(data)
        except OSError as error:
            self._fail(error)
            return
        if sent < len(data):
            self._pieces.append(memoryview(data)[sent:])
            self.outbox = len(data) - sent
            self._watch(self.reading, True)

    def set_reading(self, wanted: bool) -> None:
        """Open or shut the read gate.

        A gate that is shut stays announced until octets do come: most are open again by then,
        and each change would be a system call.
        """
        if wanted != self.reading and not self.ended and not self.closed and not self._lingering:
            self.reading = wanted
            if wanted:
                self._watch(True, bool(self._pieces))

    def start_tls(self, connection: SSL.Connection, early: bytes = b"") -> None:
        """Begin TLS; the connection knows whether it accepts or connects.

        early: octets of the handshake that were read already (behind a PROXY header).
        """
        self._tls = connection
        self.handshaking = True
        if early:
            if self.hello is not None:
                self.hello.feed(early)
            self._walk(early)
            connection.bio_write(early)
        self._shake()
        if not self.closed:
            self.set_reading(True)

    def close(self, linger: bool = False) -> None:
        """Close when everything is sent.

        linger: throw away what the peer still sends until it ends, so that the last reply is
        not lost to a reset.
        """
        if self.closed or self._closing:
            return
        if self._tls is not None and not self.handshaking:
            try:
                self._tls.shutdown()
                self._send_raw(self._drain(64))
            except SSL.Error:
                pass
        self._closing = True
        self._lingering = linger and not self.ended
        if self._pieces:
            self._later(FLUSH_TIME)
            self._watch(False, True)
        else:
            self._flushed()

    def abort(self) -> None:
        """Close at once, whatever is unsent."""
        if not self.closed:
            self.closed = True
            self.reading = False
            self._pieces.clear()
            self.outbox = 0
            self._tls = None
            self._shut()

    # -- what happens ------------------------------------------------------

    def _flushed(self) -> None:
        if self._lingering and not self.closed:
            try:
                self._half_close()
            except OSError:
                self.abort()
                return
            self._later(LINGER_TIME)
            self._watch(True, False)
        else:
            self.abort()

    def _arrived(self, data: bytes | memoryview) -> None:
        """Octets came from the peer."""
        if self._lingering:
            return
        if self._tls is None:
            data = bytes(data)
            self.bytes_in += len(data)
            self.owner.heard(self.side, data)
            return
        if self.handshaking:
            if self.hello is not None:
                self.hello.feed(data)
            self._walk(data)
            self._tls.bio_write(data)
            self._shake()
            data = b""
        if self.tls_info is not None and not self.closed:  # else: not there yet, or failed
            self._decrypt(data)

    def _walk(self, data: bytes | memoryview) -> int:
        """Follow the records (RFC 8446 5.1); return how many end in ``data``, -1 if unknown."""
        size = len(data)
        at = self._owed
        if at < 0:
            return -1
        ended = 1 if 0 < at <= size else 0
        while at < size:
            if size - at < 5:
                at = size - 1  # a header in two pieces: the count is lost
                break
            at += 5 + (data[at + 3] << 8 | data[at + 4])
            if at <= size:
                ended += 1
        self._owed = at - size
        return ended

    def _decrypt(self, sealed: bytes | memoryview) -> None:
        """Take what arrived; empty: only what lies there already, behind a handshake."""
        tls = self._tls
        assert tls is not None
        pieces: list[bytes] = []
        ended = False
        failure = ""
        # Asking for a record that isn't whole raises, which costs more than a record.
        records = self._walk(sealed) if sealed else -1
        try:
            for start in range(TLS_SLICE, len(sealed), TLS_SLICE):
                tls.bio_write(sealed[start - TLS_SLICE : start])
                try:
                    while True:
                        pieces.append(tls.recv(16384))
                        records -= 1
                except SSL.WantReadError:
                    pass
            if sealed:
                tls.bio_write(sealed[(len(sealed) - 1) // TLS_SLICE * TLS_SLICE :])
            while records:
                pieces.append(tls.recv(16384))
                records -= 1
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            ended = True
        except SSL.Error as error:
            failure = handshake_problem(error)[1]
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if data:
            self.bytes_in += len(data)
            self.owner.heard(self.side, data)
        if failure and not self.closed:
            self._lost(f"TLS: {failure}")
        elif ended and not self.closed and not self.ended:
            self._ended(True)

    def _shake(self) -> None:
        tls = self._tls
        assert tls is not None
        try:
            tls.do_handshake()
        except SSL.WantReadError:
            self._send_raw(self._drain(16384))
            return
        except Exception as error:  # noqa: BLE001 - the callbacks' own errors come out here too
            self._send_raw(self._drain(16384))  # the alert
            self.handshaking = False
            reason, detail = handshake_problem(error, tls)
            if not self.closed:
                self.owner.link_not_secured(self.side, reason, detail)
            return
        self._send_raw(self._drain(16384))
        if self.closed:
            return
        self.handshaking = False
        self.tls_info = describe(tls)
        if self.hello is not None:
            self.tls_info.ja4 = self.hello.ja4
            self.hello = None
        self.owner.link_secured(self.side, self.tls_info)

    def _drain(self, plain: int) -> bytes:
        """Take what TLS wants to send.  ``plain``: octets just given to it."""
        tls = self._tls
        if tls is None:
            return b""
        # A record adds at most some 30 octets; tickets and alerts fit in the slack.
        size = plain + 64 * (plain // 16384 + 1) + 2048
        pieces = []
        try:
            while True:
                piece = tls.bio_read(size)
                pieces.append(piece)
                if len(piece) < size:
                    break
        except SSL.WantReadError:
            pass
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _writable(self) -> None:
        """The kernel takes more."""
        pieces = self._pieces
        try:
            while pieces:
                if len(pieces) > 1 and len(pieces[0]) < 65536:
                    joined = b"".join(pieces)
                    pieces.clear()
                    pieces.append(joined)
                piece = pieces[0]
                sent = self._transmit(piece)
                self.outbox -= sent
                if sent < len(piece):
                    pieces[0] = memoryview(piece)[sent:]
                    break
                pieces.popleft()
        except OSError as error:
            self._fail(error)
            return
        if not pieces:
            self.outbox = 0
            if self._closing:
                self._flushed()
                return
            self._watch(self.reading, False)
        if not self._closing:
            self.owner.link_moved(self.side)

    def _ended(self, clean: bool) -> None:
        """The peer sends no more."""
        self.ended = True
        self.reading = False
        if self._closing:
            if not self._pieces:
                self.abort()
            return
        self._watch(False, bool(self._pieces))
        if self.handshaking:
            self.handshaking = False
            self.owner.link_not_secured(self.side, "closed", "closed within the handshake")
        else:
            self.owner.link_ended(self.side, clean)

    def _fail(self, error: OSError) -> None:
        self._lost(error.strerror or type(error).__name__)

    def _lost(self, detail: str) -> None:
        """The connection is gone."""
        if self.closed:
            return
        handshaking = self.handshaking
        closing = self._closing
        self.handshaking = False
        self.abort()
        if closing:
            return
        if handshaking:
            self.owner.link_not_secured(self.side, "closed", detail)
        else:
            self.owner.link_lost(self.side, detail)


class SocketLink(Link):
    """A link over a non-blocking TCP socket, on the epoll reactor."""

    __slots__ = ("_fd", "_reactor", "_reads", "_socket", "_writes")

    #: The reactor of :mod:`.reactor` calls :meth:`event` itself.
    direct = True

    def __init__(self, side: Side, owner: LinkOwner, sock: socket.socket, reactor: Any) -> None:
        super().__init__(side, owner)
        self._socket = sock
        self._fd = sock.fileno()
        self._reactor = reactor
        self._reads = False
        self._writes = False

    def fileno(self) -> int:
        return self._fd

    def logPrefix(self) -> str:
        return f"link {self.side}"

    def _transmit(self, data: bytes | memoryview) -> int:
        try:
            return self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            return 0

    def _watch(self, reading: bool, writing: bool) -> None:
        if self.closed:
            return
        if reading != self._reads:
            self._reads = reading
            (self._reactor.addReader if reading else self._reactor.removeReader)(self)
        if writing != self._writes:
            self._writes = writing
            (self._reactor.addWriter if writing else self._reactor.removeWriter)(self)

    def _half_close(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def _later(self, seconds: float) -> None:
        self._reactor.callLater(seconds, self.abort)

    def _shut(self) -> None:
        if self._reads:
            self._reads = False
            self._reactor.removeReader(self)
        if self._writes:
            self._writes = False
            self._reactor.removeWriter(self)
        self._fd = -1
        self._socket.close()

    def event(self, flags: int) -> None:
        """What epoll says."""
        if flags & EPOLLIN and self._reads:
            if self.reading or self._lingering:
                self.doRead()
                if self.closed:
                    return
            else:
                # The gate is shut: what is there is read, up to the end, when it opens.
                self._watch(False, self._writes)
                flags &= EPOLLOUT
        if flags & EPOLLOUT and self._writes:
            self._writable()
        elif flags & (EPOLLHUP | EPOLLERR) and not (flags & EPOLLIN and self._reads):
            error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._fail(OSError(error, "connection reset" if error else "connection closed"))

    def doRead(self) -> None:
        """Read once, and hand on what came."""
        try:
            count = self._socket.recv_into(_BUFFER, BODY_READ_SIZE if self.large_reads else READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._fail(error)
            return
        if count:
            self._arrived(_VIEW[:count])
        else:
            # Without a close_notify the end of TLS is a cut (RFC 8446 6.1).
            self._ended(self._tls is None)

    def doWrite(self) -> None:
        self._writable()

    def connectionLost(self, _reason: object) -> None:
        """The reactor found the descriptor broken, or a callback raised."""
        self._lost("connection lost")

    def readConnectionLost(self, reason: object) -> None:
        self.connectionLost(reason)

    def writeConnectionLost(self, reason: object) -> None:
        self.connectionLost(reason)
