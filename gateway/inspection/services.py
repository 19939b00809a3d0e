"""Programs that are asked about messages: where they are, and whether they are worth asking now.

A talk blocks, and so belongs in a thread.  Of several addresses the first that answers is
asked; one that has failed several times in a row is left alone for a while, so that not every
message waits for it, and then tried with a single message.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath
from time import monotonic
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field

from .scan import Buffer

Answer = TypeVar("Answer")
#: Octets of one read.
_READ = 64 * 1024


class ServiceError(Exception):
    """A service talks nonsense, or can't judge; the text says what was wrong."""


class ServiceDown(OSError):
    """No address answers, or none is asked now; the text says which and why."""


def _checked_address(text: str) -> str:
    text = text.removeprefix("inet:")
    if text.startswith("unix:"):
        if not PurePosixPath(text[5:]).is_absolute() or len(text) > 107 + 5:
            raise ValueError('must be "unix:" and an absolute path of at most 107 characters')
        return text
    host, _, port = text.rpartition(":")
    if not re.fullmatch(r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]{1,253}", host):
        raise ValueError('must be "unix:/path", "host:port" or "[address]:port"')
    if not port.isascii() or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f'"{port}" is no port')
    return text


#: "unix:/path", "host:port" or "[address]:port".
ServiceAddress = Annotated[str, AfterValidator(_checked_address)]
#: One address, or several in a list: the first that answers is asked.
ServiceAddresses = Annotated[
    tuple[ServiceAddress, ...],
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
    Field(min_length=1, max_length=16),
]
#: A time that a service may take.
ServiceSeconds = Annotated[float, Field(gt=0, le=3600)]


def connect(address: str, seconds: float) -> socket.socket:
    """Return a connection to a :data:`ServiceAddress`.  Raises OSError, TimeoutError."""
    if address.startswith("unix:"):
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(seconds)
            connection.connect(address[5:])
        except OSError:
            connection.close()
            raise
        return connection
    host, _, port = address.rpartition(":")
    connection = socket.create_connection((host.strip("[]"), int(port)), seconds)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


class Talk:
    """One connection, with a time by which everything on it must be over.

    Methods raise TimeoutError then, OSError, and ServiceError where the other end says too much
    or closes too early.
    """

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self.socket = connection
        self._deadline = deadline
        self._heard = b""

    def _left(self) -> None:
        left = self._deadline - monotonic()
        if left <= 0:
            raise TimeoutError("no answer in time")
        self.socket.settimeout(left)

    def send(self, data: bytes | memoryview) -> None:
        """Send octets, all of them."""
        self._left()
        self.socket.sendall(data)

    def end(self) -> None:
        """Say that no more will come."""
        self.socket.shutdown(socket.SHUT_WR)

    def line(self, end: bytes, limit: int) -> bytes:
        """Return what is said up to an end, without it."""
        while (found := self._heard.find(end)) < 0:
            if len(self._heard) > limit:
                raise ServiceError("it answers with too long a line")
            if not self._more():
                raise ServiceError("it closed the connection within its answer")
        line, self._heard = self._heard[:found], self._heard[found + len(end) :]
        return line

    def rest(self, limit: int) -> bytes:
        """Return all that is said up to the close."""
        while self._more():
            if len(self._heard) > limit:
                raise ServiceError("it answers with too much")
        rest, self._heard = self._heard, b""
        return rest

    def exactly(self, count: int) -> bytes:
        """Return so many octets."""
        while len(self._heard) < count:
            if not self._more():
                raise ServiceError("it closed the connection within its answer")
        data, self._heard = self._heard[:count], self._heard[count:]
        return data

    def some(self, most: int) -> bytes:
        """Return what has come, at most so much; b"" at the close."""
        if not self._heard:
            self._more()
        data, self._heard = self._heard[:most], self._heard[most:]
        return data

    def _more(self) -> bool:
        self._left()
        data = self.socket.recv(_READ)
        self._heard += data
        return bool(data)


class Breaker:
    """Opens after some failures in a row; then lets a single try through now and again.

    Safe to use from several threads.
    """

    def __init__(self, failures: int, rest: float, clock: Callable[[], float] = monotonic) -> None:
        """failures: in a row.  rest: seconds that nobody is asked.  clock: seconds."""
        self._most = failures
        self._rest = rest
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._again_at = 0.0

    def wait(self) -> float:
        """Return 0 if the service may be asked, which then counts as the try; else seconds to wait."""
        with self._lock:
            if self._failures < self._most:
                return 0.0
            left = self._again_at - self._clock()
            if left > 0:
                return left
            self._again_at = self._clock() + self._rest  # the others wait for this one's outcome
            return 0.0

    def settle(self, worked: bool) -> None:
        """Tell how it went."""
        with self._lock:
            if worked:
                self._failures = 0
                return
            self._failures += 1
            if self._failures >= self._most:
                self._again_at = self._clock() + self._rest


class Service:
    """A program at one address or several."""

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        connect_timeout: float,
        seconds: float,
        failures: int = 3,
        rest: float = 10.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """seconds: for a whole talk.  failures, rest: see :class:`Breaker`."""
        self._breakers = {address: Breaker(failures, rest, clock) for address in addresses}
        self._connect_timeout = connect_timeout
        self._seconds = seconds

    def ask(self, talk: Callable[[Talk], Answer]) -> Answer:
        """Return what a talk with the first address that answers comes to.

        Raises ServiceDown where none does.
        """
        deadline = monotonic() + self._seconds
        told: list[str] = []
        for address, breaker in self._breakers.items():
            wait = breaker.wait()
            if wait:
                told.append(f"{address}: has failed, not asked again for {wait:.0f} s")
                continue
            try:
                left = min(self._connect_timeout, deadline - monotonic())
                if left <= 0:
                    raise TimeoutError("no time left")
                with connect(address, left) as connection:
                    answer = talk(Talk(connection, deadline))
            except (OSError, ServiceError) as error:
                breaker.settle(False)
                told.append(f"{address}: {_why(error)}")
            except BaseException:
                breaker.settle(True)  # it has answered; what was made of that is another's fault
                raise
            else:
                breaker.settle(True)
                return answer
        raise ServiceDown("; ".join(told))


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def pieces(buffer: Buffer, size: int = 256 * 1024) -> Iterable[bytes]:
    """Give a message in pieces."""
    for start in range(0, len(buffer), size):
        yield buffer[start : start + size]


def plain_text(text: str, limit: int = 1000) -> str:
    """Return a text that is safe in a header or a line of a protocol: printable ASCII."""
    return "".join(one if " " <= one <= "~" else "?" for one in text[:limit])
