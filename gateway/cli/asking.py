"""Asking a mail server what it offers, in each state: plain sockets, and TLS of the standard library."""

from __future__ import annotations

import base64
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

#: Bounds of what a strange server may make us read: octets of a line, lines of an answer, seconds.
LINE_BOUND, LINES_BOUND, WAIT = 65536, 2000, 10.0
#: The headers of the PROXY protocol that say "a connection of the proxy's own".
PROXY_HEADERS = {"v1": b"PROXY UNKNOWN\r\n", "v2": b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"}


class ProbeError(Exception):
    """The probe could not go on; the text says why."""


@dataclass
class Stage:
    """What was offered in one state."""

    name: str  # "before TLS", "after TLS", "after login"
    secure: bool
    offered: list[str]
    rows: list[tuple[str, str, str]] = field(default_factory=list)  # what mailgate makes of it


@dataclass(frozen=True)
class Target:
    """A server, and how to reach it.

    addresses: tried in order.  tls: "none", "starttls", "implicit".
    name: the certificate's; the host's if "".  proxy_protocol: "none", "v1", "v2".
    """

    addresses: Sequence[tuple[str, int]]
    protocol: str
    tls: str
    context: ssl.SSLContext
    name: str = ""
    proxy_protocol: str = "none"
    hello: str = "localhost"


class Connection:
    """A line-based connection.  Every method raises ProbeError."""

    def __init__(self, target: Target) -> None:
        self._context = target.context
        self._heard = b""
        self._has_spoken = False
        self.secure = False
        self.tls = ""
        self.sock = self._connect(target.addresses)
        self._name = target.name or self.host
        if target.proxy_protocol != "none":
            self._write(PROXY_HEADERS[target.proxy_protocol])
        if target.tls == "implicit":
            self.start_tls()

    def _connect(self, addresses: Sequence[tuple[str, int]]) -> socket.socket:
        problems: list[str] = []
        for host, port in addresses:
            try:
                connected = socket.create_connection((host, port), timeout=WAIT)
            except (OSError, UnicodeError, OverflowError) as error:
                why = getattr(error, "strerror", None) or error
                problems.append(f"can't connect to {host}:{port}: {why}")
            else:
                self.host = host
                return connected
        raise ProbeError("; ".join(problems))

    def start_tls(self) -> None:
        if self._heard:
            raise ProbeError(
                "the server sends octets behind its answer to STARTTLS, which TLS must not follow"
            )
        try:
            secured = self._context.wrap_socket(self.sock, server_hostname=self._name)
        except ssl.SSLCertVerificationError as error:
            raise ProbeError(f"the certificate is not to be trusted: {error.verify_message}") from None
        except (OSError, ValueError) as error:
            raise ProbeError(f"the TLS handshake failed: {getattr(error, 'reason', None) or error}") from None
        self.sock, self.secure = secured, True
        cipher = secured.cipher()
        self.tls = f"{secured.version()} {cipher[0] if cipher else ''}"

    def send(self, line: str) -> None:
        if any(character in line for character in "\r\n\0"):
            raise ProbeError("a name or password with a line end can't be sent")
        self._write(line.encode() + b"\r\n")

    def _write(self, data: bytes) -> None:
        try:
            self.sock.sendall(data)
        except OSError as error:
            raise ProbeError(f"the server does not listen: {error.strerror or error}") from None

    def line(self) -> str:
        """Return one line, without its end."""
        end = time.monotonic() + WAIT
        while b"\n" not in self._heard:
            if len(self._heard) > LINE_BOUND:
                raise ProbeError(f"the server sends a line of more than {LINE_BOUND} octets")
            try:
                data = self.sock.recv(65536)
            except TimeoutError:
                data = None
            except OSError as error:
                raise ProbeError(f"the connection broke: {error.strerror or error}") from None
            if data is None or time.monotonic() > end:
                silent = "" if self._has_spoken or self.secure else "; it may want TLS from the first octet"
                raise ProbeError(f"the server does not answer within {WAIT:g} s{silent}")
            if not data:
                raise ProbeError("the server closed the connection")
            self._heard += data
            self._has_spoken = True
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode("utf-8", "replace").rstrip("\r")

    def greeted(self, *begins: str) -> str:
        """Return the greeting, which begins in one of these ways; another one is told."""
        line = self.line()
        if not line.upper().startswith(begins):
            raise ProbeError(f"the server speaks another protocol, it greets with: {line[:100]}")
        return line

    def close(self) -> None:
        self.sock.close()


def _bounded(lines: list[str]) -> None:
    if len(lines) > LINES_BOUND:
        raise ProbeError(f"the server's answer has more than {LINES_BOUND} lines")


class Asking(Protocol):
    """How one protocol is asked."""

    def greeting(self, connection: Connection) -> str:
        """Return the greeting's first line."""

    def offered(self, connection: Connection, hello: str) -> list[str]:
        """Return what the server offers."""

    def starttls(self, connection: Connection, offered: list[str]) -> str:
        """Ask for TLS; return what stands against it, or ""."""

    def login(self, connection: Connection, user: str, password: str) -> str:
        """Log in; return what stands against it, or ""."""


class Smtp:
    """How SMTP and LMTP are asked."""

    def __init__(self, verb: str = "EHLO") -> None:
        self._verb = verb

    def _reply(self, connection: Connection, first: str = "") -> list[str]:
        lines = [first or connection.line()]
        while lines[-1][3:4] == "-":
            lines.append(connection.line())
            _bounded(lines)
        return lines

    def greeting(self, connection: Connection) -> str:
        return self._reply(connection, connection.greeted(*"2345"))[0]

    def offered(self, connection: Connection, hello: str) -> list[str]:
        connection.send(f"{self._verb} {hello}")
        lines = self._reply(connection)
        if not lines[0].startswith("250"):
            raise ProbeError(f"{self._verb} was refused: {lines[0]}")
        return [line[4:] for line in lines[1:] if line[4:].strip()]

    def starttls(self, connection: Connection, offered: list[str]) -> str:
        if not any(line.upper() == "STARTTLS" for line in offered):
            return "the server offers no STARTTLS"
        connection.send("STARTTLS")
        reply = self._reply(connection)[0]
        return "" if reply.startswith("220") else f"STARTTLS was refused: {reply}"

    def login(self, connection: Connection, user: str, password: str) -> str:
        secret = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
        connection.send(f"AUTH PLAIN {secret}")
        reply = self._reply(connection)[0]
        return "" if reply.startswith("235") else reply


class Pop3:
    """How POP3 is asked."""

    def greeting(self, connection: Connection) -> str:
        return connection.greeted("+OK", "-ERR")

    def offered(self, connection: Connection, hello: str) -> list[str]:
        connection.send("CAPA")
        if not connection.line().startswith("+OK"):
            return []
        lines: list[str] = []
        while (line := connection.line()) != ".":
            lines.append(line)
            _bounded(lines)
        return lines

    def starttls(self, connection: Connection, offered: list[str]) -> str:
        # Asked even where CAPA lacks it: there are servers without CAPA.
        connection.send("STLS")
        reply = connection.line()
        return "" if reply.startswith("+OK") else f"STLS was refused: {reply}"

    def login(self, connection: Connection, user: str, password: str) -> str:
        for command in (f"USER {user}", f"PASS {password}"):
            connection.send(command)
            reply = connection.line()
            if not reply.startswith("+OK"):
                return reply
        return ""


class Imap:
    """How IMAP is asked."""

    def greeting(self, connection: Connection) -> str:
        return connection.greeted("* OK", "* PREAUTH", "* BYE")

    def _tagged(self, connection: Connection, command: str) -> tuple[str, list[str]]:
        connection.send(f"probe {command}")
        lines: list[str] = []
        while not (line := connection.line()).startswith("probe "):
            lines.append(line)
            _bounded(lines)
        return line[6:], lines

    def offered(self, connection: Connection, hello: str) -> list[str]:
        _, lines = self._tagged(connection, "CAPABILITY")
        found = [line for line in lines if line.upper().startswith("* CAPABILITY ")]
        return found[-1].split()[2:] if found else []

    def starttls(self, connection: Connection, offered: list[str]) -> str:
        if "STARTTLS" not in (name.upper() for name in offered):
            return "the server offers no STARTTLS"
        status = self._tagged(connection, "STARTTLS")[0]
        return "" if status.upper().startswith("OK") else f"STARTTLS was refused: {status}"

    def login(self, connection: Connection, user: str, password: str) -> str:
        def quoted(text: str) -> str:
            return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

        status, _ = self._tagged(connection, f"LOGIN {quoted(user)} {quoted(password)}")
        return "" if status.upper().startswith("OK") else status


ASKING: dict[str, Asking] = {"smtp": Smtp(), "lmtp": Smtp("LHLO"), "pop3": Pop3(), "imap": Imap()}


@dataclass
class Answer:
    """What a server said.  note: what could not be done, or ""."""

    greeting: str
    address: str
    tls: str
    stages: list[Stage]
    note: str


def ask(target: Target, user: str = "", password: str = "") -> Answer:
    """Ask a server in each state; log in if a user is given.  Raises ProbeError.

    A password is sent in clear only where the target says "none" for TLS: never because a
    server (or somebody between) lacks STARTTLS.
    """
    asking = ASKING[target.protocol]
    connection = Connection(target)
    try:
        greeting = asking.greeting(connection)
        name = "after TLS" if connection.secure else "before TLS"
        stages = [Stage(name, connection.secure, asking.offered(connection, target.hello))]
        note = ""
        if target.tls == "starttls":
            note = asking.starttls(connection, stages[0].offered)
            if not note:
                connection.start_tls()
                stages.append(Stage("after TLS", True, asking.offered(connection, target.hello)))
        if user and note:
            note += ": the password was not sent; --tls none sends it in clear"
        elif user:
            note = asking.login(connection, user, password)
            if note:
                note = f"the login was refused: {note}"
            else:
                stages.append(
                    Stage("after login", connection.secure, asking.offered(connection, target.hello))
                )
        return Answer(greeting, connection.host, connection.tls, stages, note)
    finally:
        connection.close()
