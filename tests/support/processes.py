"""Processes of a test: started in their own group, waited for by condition, always ended."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")


#: Below the ports that the kernel gives to connections (Linux: from 32768), so that nobody's
#: connection takes one between its choice and its use.
_PORTS = range(10240, 32000)
#: Each process walks through them from a place of its own: two workers hardly ever meet.
_next_port = itertools.cycle([*_PORTS[(start := os.getpid() * 997 % len(_PORTS)) :], *_PORTS[:start]])


def free_port() -> int:
    """Return a loopback port that nobody listens on, another one each time."""
    for port in _next_port:
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


def wait_until(condition: Callable[[], Result], timeout: float, what: str) -> Result:
    """Ask until the answer is true, and return it.  Raises AssertionError after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"waited {timeout:g} s for {what}"
        time.sleep(0.02)


def accepts(port: int) -> bool:
    """Tell whether something takes connections on a loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


class Process:
    """A program that runs for a test; its output goes to a file."""

    def __init__(
        self,
        command: Sequence[str],
        output: Path,
        environment: dict[str, str] | None = None,
        user: str | None = None,
    ) -> None:
        self.output = output
        with output.open("ab") as file:
            self.popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=user,
                env={**os.environ, **(environment or {})},
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    def wait_for_port(self, port: int, timeout: float = 20) -> None:
        """Wait until the program listens.  Raises AssertionError with its output if it ends."""

        def listening() -> bool:
            assert self.popen.poll() is None, f"{self.popen.args} ended:\n{self.tail()}"
            return accepts(port)

        wait_until(listening, timeout, f"{self.popen.args} to listen on {port}")

    def tail(self) -> str:
        return self.output.read_text(errors="replace")[-4000:]

    def stop(self, timeout: float = 20) -> int:
        """Ask the program to end, wait, and kill its group if it does not; return its status."""
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(timeout)
            except subprocess.TimeoutExpired:
                os.killpg(self.popen.pid, signal.SIGKILL)
        status = self.popen.wait()
        try:  # what it left behind in its group
            os.killpg(self.popen.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        return status
