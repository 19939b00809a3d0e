"""What the connections of all protocols share: lines, TLS, SASL, the transcript and the quirks."""

from __future__ import annotations

import base64
import binascii
import hmac
import time
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, ClassVar

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.demo.quirks import Quirks
from gateway.demo.store import Store, User

MAX_LINE = 65536
_TICK = 0.05
_numbers = count(1)
SaslExchange = Generator[bytes, bytes, User | None]


@dataclass
class Site:
    """What all connections of one embedded upstream share."""

    store: Store
    hostname: str
    quirks: Quirks
    tls: SSL.Context | None
    transcript: list[tuple[str, str]] = field(default_factory=list)
    """Every command line heard, as (protocol, line), oldest first; passwords are in it."""
    connections: set[Conversation] = field(default_factory=set)


@implementer(IOpenSSLServerConnectionCreator)
class _ServerCreator:
    def __init__(self, context: SSL.Context) -> None:
        self._context = context

    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        return SSL.Connection(self._context, None)


class Conversation(Protocol):
    """One connection. A protocol fills in ``greet``, ``line`` and the three answers of SASL.

    Input is taken by ``consume``, one unit (a line, a message, a literal) at a time, so that pipelined
    commands are answered in order.
    """

    protocol: ClassVar[str] = ""

    def __init__(self, site: Site, *, implicit_tls: bool = False) -> None:
        self.site = site
        self.buffer = bytearray()
        self.secure = False
        self.deaf = False
        self.user: User | None = None
        self._implicit_tls = implicit_tls
        self._sasl: SaslExchange | None = None
        self._outbox: deque[bytes] = deque()
        self._body_sent = 0
        self._closing = False
        self._timer: Any = None

    # What a protocol fills in.

    def greet(self) -> None:
        """Says the first line."""
        raise NotImplementedError

    def line(self, line: bytes) -> None:
        """Answers one command line, given without its line end."""
        raise NotImplementedError

    def sasl_challenge(self, text: bytes) -> None:
        """Sends a SASL challenge, given as base64 (RFC 4954, RFC 5034, RFC 3501 section 6.2.2)."""
        raise NotImplementedError

    def sasl_done(self, user: User | None) -> None:
        """Says how the SASL exchange ended."""
        raise NotImplementedError

    def sasl_broken(self) -> None:
        """Refuses a response that was cancelled or is no base64."""
        raise NotImplementedError

    # Input.

    def connectionMade(self) -> None:
        self.site.connections.add(self)
        if self._implicit_tls:
            self._handshake()
        if self.site.quirks.greeting is not None:
            self.send(self.site.quirks.greeting)
        else:
            self.greet()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.deaf = True
        self.site.connections.discard(self)
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def dataReceived(self, data: bytes) -> None:
        if self.deaf:
            return
        self.buffer += data
        while not self.deaf and self.consume():
            pass

    def consume(self) -> bool:
        """Takes one unit from the buffer and answers it; False when the unit is not whole yet."""
        line = self.take_line()
        if line is None:
            return False
        self.record(line)
        if self._sasl is not None:
            self.sasl_response(line)
        else:
            self.line(line)
        return True

    def take_line(self) -> bytes | None:
        """The next line without its end, or None; an endless line ends the connection."""
        end = self.buffer.find(b"\n")
        if end < 0:
            if len(self.buffer) > MAX_LINE:
                self.close()
            return None
        line = bytes(self.buffer[:end]).removesuffix(b"\r")
        del self.buffer[: end + 1]
        return line

    def take(self, size: int) -> bytes:
        """Exactly ``size`` bytes, which the caller knows to be there."""
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data

    def record(self, line: bytes) -> None:
        """Writes a line into the transcript."""
        self.site.transcript.append((self.protocol, line.decode("utf-8", "surrogateescape")))

    def misbehaved(self, *verbs: str) -> bool:
        """Hangs or closes if the quirks want that after one of these verbs; True if so."""
        if self.site.quirks.wants_hang(*verbs):
            self.deaf = True
        elif self.site.quirks.wants_close(*verbs):
            self.close()
        return self.deaf

    # Output.

    def send(self, data: bytes) -> None:
        """Sends bytes behind everything that is still to be sent."""
        if self._closing:
            return
        if self._outbox:
            self._outbox.append(data)
        else:
            self._write(data)

    def send_body(self, data: bytes) -> None:
        """Sends message text, as slowly or as incompletely as the quirks want it."""
        quirks = self.site.quirks
        if quirks.cut_body is not None and self._body_sent + len(data) > quirks.cut_body:
            self._send_slowly(data[: quirks.cut_body - self._body_sent])
            self.close()
            return
        self._body_sent += len(data)
        self._send_slowly(data)

    def close(self) -> None:
        """Closes once everything has been sent; nothing is heard any more."""
        self.deaf = True
        self._closing = True
        if not self._outbox:
            self._lose()

    def _send_slowly(self, data: bytes) -> None:
        rate = self.site.quirks.slow_body
        if not rate:
            self.send(data)
            return
        step = max(1, int(rate * _TICK))
        self._outbox.extend(data[start : start + step] for start in range(0, len(data), step))
        if self._timer is None or not self._timer.active():
            self._pump()

    def _pump(self) -> None:
        from twisted.internet import reactor

        if self._outbox:
            self._write(self._outbox.popleft())
        if self._outbox:
            self._timer = reactor.callLater(_TICK, self._pump)
        elif self._closing:
            self._lose()

    def _write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    def _lose(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()

    # TLS.

    @property
    def offers_tls(self) -> bool:
        """Whether STARTTLS or STLS would work now."""
        return self.site.tls is not None and not self.secure and not self.site.quirks.strip_starttls

    def start_tls(self, reply: bytes) -> None:
        """Sends ``reply`` and starts TLS; what the client sent behind its command is thrown away."""
        self.send(reply + self.site.quirks.inject_after_starttls)
        self.buffer.clear()
        self._handshake()

    def _handshake(self) -> None:
        if self.site.tls is None or self.transport is None:
            self.close()
            return
        self.secure = True
        self.transport.startTLS(_ServerCreator(self.site.tls))  # type: ignore[attr-defined]

    # SASL.

    def login(self, name: str, password: str) -> User | None:
        """The user with this name and password, unless the quirks refuse everyone."""
        if self.site.quirks.refuse_login:
            return None
        return self.site.store.login(name, password)

    def begin_sasl(self, mechanism: str, initial: bytes | None) -> bool:
        """Starts a SASL exchange; False for an unknown mechanism. ``initial`` is base64, ``=`` is empty."""
        makers = {"PLAIN": self._plain, "LOGIN": self._login, "CRAM-MD5": self._cram_md5}
        if mechanism not in makers:
            return False
        self._sasl = makers[mechanism]()
        challenge = next(self._sasl)
        if initial is None:
            self.sasl_challenge(base64.b64encode(challenge))
        else:
            self.sasl_response(b"" if initial == b"=" else initial)
        return True

    def sasl_response(self, line: bytes) -> None:
        """Takes the client's next response in base64."""
        exchange = self._sasl
        if exchange is None:
            return
        try:
            if line == b"*":
                raise ValueError("cancelled")
            response = base64.b64decode(line, validate=True)
            challenge = exchange.send(response)
        except StopIteration as end:
            self._sasl = None
            self.sasl_done(end.value)
        except (ValueError, binascii.Error):
            self._sasl = None
            self.sasl_broken()
        else:
            self.sasl_challenge(base64.b64encode(challenge))

    def _plain(self) -> SaslExchange:
        # RFC 4616: authorization identity NUL authentication identity NUL password.
        parts = (yield b"").decode("utf-8").split("\0")
        if len(parts) != 3:
            raise ValueError("not three parts")
        return self.login(parts[1], parts[2])

    def _login(self) -> SaslExchange:
        name = (yield b"Username:").decode("utf-8")
        password = (yield b"Password:").decode("utf-8")
        return self.login(name, password)

    def _cram_md5(self) -> SaslExchange:
        # RFC 2195: the client answers with its name and the keyed digest of our challenge.
        challenge = self.unique_timestamp()
        name, _, digest = (yield challenge).decode("utf-8").rpartition(" ")
        user = self.site.store.user(name)
        if user is None or self.site.quirks.refuse_login:
            return None
        wanted = hmac.new(user.password.encode(), challenge, "md5").hexdigest()
        return user if hmac.compare_digest(wanted.encode(), digest.encode()) else None

    def unique_timestamp(self) -> bytes:
        """A message-id-like text that is never given twice (RFC 1939 section 7, RFC 2195 section 2)."""
        return f"<{next(_numbers)}.{time.time_ns()}@{self.site.hostname}>".encode()
