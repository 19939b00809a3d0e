"""The embedded upstream in a process of its own, for real clients to talk to."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.leaks import remember


class Upstream:
    """A running ``python -m gateway.demo.upstream`` and the words it understands on standard input."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway.demo.upstream", "--json"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        facts = self._read()
        self.host: str = facts["host"]
        self.ports: dict[str, int] = facts["ports"]
        self.users: dict[str, str] = facts["users"]
        remember(self.users.values())
        self.ca: str = facts["ca"]
        self.crl: str = facts["crl"]

    def _read(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def ask(self, word: str) -> Any:
        """Sends one line and reads the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(word.encode() + b"\n")
        self.process.stdin.flush()
        return self._read()

    def quirks(self, **values: Any) -> None:
        """Makes the upstream misbehave from now on."""
        assert self.ask(json.dumps(values)) == "ok"

    def lines(self, protocol: str) -> list[str]:
        """What the upstream heard in one protocol."""
        return [line for name, line in self.ask("transcript") if name == protocol]

    def tls(self) -> ssl.SSLContext:
        """A context that trusts the throw-away authority, and checks the host."""
        return ssl.create_default_context(cafile=self.ca)

    def close(self) -> int:
        """Closes standard input, which ends it; returns its exit code."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        code = self.process.wait(20)
        self.process.stdout.close()
        return code


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    running = Upstream()
    try:
        yield running
    finally:
        running.close()
