"""Records to a syslog server: RFC 5424 over TCP (RFC 6587 3.4.1, octet counting) or TLS (RFC 5425).

The protocol knows no acknowledgement.  A connection that the server has closed is noticed before the next
batch, and the batch before is then sent once more, for it may not have arrived: ``event.id`` tells
what came twice.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import time
from collections.abc import Sequence

from ..audit.record import EventRecord, LoginRecord, StoredRecord
from ..audit.store import StoreError
from .ecs import line, severity
from .outlet import Outlet, sendable, words

#: RFC 5424 6.2.1.
FACILITIES = {
    "user": 1, "mail": 2, "daemon": 3, "auth": 4, "authpriv": 10,
    **{f"local{number}": 16 + number for number in range(8)},
}  # fmt: skip
#: Seconds for a connection, and for a batch.
TIMEOUT = 10.0
#: Seconds after which a batch counts as arrived, if the connection still stands.
_DOUBT = 60.0


class SyslogOutlet(Outlet):
    """Keeps one connection.

    tls: None is plain TCP.  server_name: that the certificate must have; the host's if "".
    """

    def __init__(
        self,
        host: str,
        port: int,
        hostname: str,
        *,
        facility: str = "authpriv",
        tls: ssl.SSLContext | None = None,
        server_name: str = "",
        timeout: float = TIMEOUT,
    ) -> None:
        self._where = (host, port)
        self._name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._hostname = hostname
        self._facility = FACILITIES[facility]
        self._tls = tls
        self._server_name = server_name or host
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._doubtful: list[bytes] = []  # the batch before, and when it was sent
        self._sent_at = 0.0

    def open(self) -> None:
        self.close()
        try:
            plain = socket.create_connection(self._where, self._timeout)
            try:
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                tls = self._tls
                self._socket = (
                    tls.wrap_socket(plain, server_hostname=self._server_name) if tls is not None else plain
                )
            except BaseException:
                plain.close()
                raise
        except OSError as error:
            raise StoreError(f"{self._name}: {words(error)}") from None

    def close(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None

    def write(self, records: Sequence[StoredRecord]) -> None:
        frames = [self._frame(one) for one in sendable(records)]
        now = time.monotonic()
        if now - self._sent_at > _DOUBT:
            self._doubtful = []
        try:
            if self._socket is None or self._is_over():
                self.open()
                self._send(self._doubtful)
            self._send(frames)
        except OSError as error:
            raise StoreError(f"{self._name}: {words(error)}") from None
        self._doubtful, self._sent_at = frames, now

    def _send(self, frames: Sequence[bytes]) -> None:
        assert self._socket is not None
        if frames:
            self._socket.sendall(b"".join(frames))

    def _is_over(self) -> bool:
        """Tell whether the server has closed the connection; what it says otherwise is of no interest."""
        connection = self._socket
        assert connection is not None
        # There may be octets to read and nothing said in them: TLS has messages of its own.
        connection.settimeout(0)
        try:
            while connection.recv(4096):
                pass
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError:
            return True
        finally:
            connection.settimeout(self._timeout)
        return True

    def _frame(self, record: LoginRecord | EventRecord) -> bytes:
        """Return a message with its length before it.

        Its text is ASCII, so it needs no byte order mark (RFC 5424 6.4).
        """
        priority = self._facility * 8 + severity(record)
        whole, part = divmod(record.time, 1_000_000)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
        kind = record.kind if isinstance(record, EventRecord) else "login"
        head = f"<{priority}>1 {stamp}.{part:06d}Z {self._hostname} mailgate {os.getpid()} {kind} - "
        message = head.encode("ascii") + line(record, self._hostname)
        return b"%d %s" % (len(message), message)
