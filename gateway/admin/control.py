"""The control socket: what a command asks of the running gateway.

A UNIX socket that only the gateway's user can open.  One request a connection: a line of JSON
with ``command``; the answer is a line of JSON with ``result``, or ``error``.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.internet import protocol
from twisted.internet.error import CannotListenError

#: Octets of a request, and seconds that one may take.
LIMIT = 65536
TIME = 10.0

#: By command: takes the request, gives the result.  Raises ValueError with a text for the caller.
Commands = Mapping[str, Callable[[dict[str, Any]], Any]]


class ControlError(Exception):
    """The gateway can't be asked, or says no; the text says why."""


class _Request(protocol.Protocol):
    def __init__(self, commands: Commands, reactor: Any) -> None:
        self._commands = commands
        self._heard = b""
        self._limit = reactor.callLater(TIME, self._give_up)

    def dataReceived(self, data: bytes) -> None:
        self._heard += data
        if b"\n" in self._heard:
            self._answer(self._heard.partition(b"\n")[0])
        elif len(self._heard) > LIMIT:
            self._give_up()

    def _answer(self, line: bytes) -> None:
        try:
            request = json.loads(line)
            command = self._commands[request["command"]]
            answer: dict[str, Any] = {"result": command(request)}
        except ValueError as error:
            answer = {"error": str(error)}
        except (KeyError, TypeError, RecursionError):
            answer = {"error": "no such command"}
        assert self.transport is not None
        self.transport.write(json.dumps(answer).encode() + b"\n")
        self.transport.loseConnection()

    def _give_up(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()

    def connectionLost(self, reason: Any = None) -> None:
        if self._limit.active():
            self._limit.cancel()


class _Requests(protocol.Factory):
    noisy = False

    def __init__(self, commands: Commands, reactor: Any) -> None:
        self._commands = commands
        self._reactor = reactor

    def buildProtocol(self, addr: Any) -> _Request:
        return _Request(self._commands, self._reactor)


class ControlSocket:
    """Listens for commands."""

    def __init__(self, path: Path, commands: Commands, reactor: Any) -> None:
        self.path = path
        self._commands = commands
        self._reactor = reactor
        self._port: Any = None

    def start(self) -> None:
        """Listen.  Raises OSError; of EADDRINUSE another gateway is there."""
        if self.path.is_socket():
            if _answers(self.path):
                raise OSError(98, "another gateway listens there", str(self.path))
            self.path.unlink()  # what a crash has left
        factory = _Requests(self._commands, self._reactor)
        old = os.umask(0o177)  # so that there is no moment in which others could open it
        try:
            self._port = self._reactor.listenUNIX(str(self.path), factory, backlog=16, mode=0o600)
        except CannotListenError as error:
            raise error.socketError from None
        finally:
            os.umask(old)

    def stop(self) -> None:
        """Listen no more, and take the file away."""
        if self._port is not None:
            self._port.stopListening()
            self._port = None
            with contextlib.suppress(OSError):
                self.path.unlink()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True


def ask(path: Path, command: str, **more: Any) -> Any:
    """Ask a running gateway; return its result.  Raises ControlError."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(TIME)
            client.connect(str(path))
            client.sendall(json.dumps({"command": command, **more}).encode() + b"\n")
            heard = b""
            while piece := client.recv(LIMIT):
                heard += piece
        answer = json.loads(heard)
    except FileNotFoundError:
        raise ControlError(f"{path}: no such socket: is the gateway running?") from None
    except ConnectionRefusedError:
        raise ControlError(f"{path}: nobody listens: the gateway is not running") from None
    except (OSError, ValueError) as error:
        raise ControlError(f"{path}: {getattr(error, 'strerror', None) or 'no answer'}") from None
    if "error" in answer:
        raise ControlError(answer["error"])
    return answer["result"]
