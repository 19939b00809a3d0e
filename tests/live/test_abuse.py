"""Guessers at the running gateway are delayed and locked; networks are turned away; rates are kept."""

from __future__ import annotations

import imaplib
import json
import select
import smtplib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.demo.conftest import Upstream
from tests.support.gateway import RunningGateway
from tests.support.processes import free_port, wait_until

pytestmark = pytest.mark.live


class Scene:
    def __init__(self, directory: Path, upstream: Upstream, abuse: str) -> None:
        self.port, self.smtp = free_port(), free_port()
        self.directory = directory
        toml = f"""
[admin]
address = "127.0.0.1:{free_port()}"
control = "{directory}/control.sock"
[abuse]
{abuse}
"""
        for protocol, port in (("imap", self.port), ("smtp", self.smtp)):
            toml += f"""
[[upstreams]]
name = "{protocol}"
addresses = ["127.0.0.1:{upstream.ports[protocol]}"]
tls = "none"
[[listeners]]
name = "{protocol}"
protocol = "{protocol}"
address = "127.0.0.1:{port}"
upstream = "{protocol}"
"""
        self.gateway = RunningGateway(toml, directory)

    def log_in(self, user: str, password: str, source: str = "127.0.0.1") -> str:
        with socket.create_connection(("127.0.0.1", self.port), 20, (source, 0)) as client:
            wire = client.makefile("rwb")
            wire.readline()
            wire.write(f"a LOGIN {user} {password}\r\n".encode())
            wire.flush()
            while not (line := wire.readline()).startswith(b"a "):
                assert line
            return line.decode().strip()

    def command(self, *arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "gateway", "lockouts", *arguments]
        command += ["-c", str(self.gateway.configuration)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def scene(request: pytest.FixtureRequest, tmp_path: Path, upstream: Upstream) -> Iterator[Scene]:
    made = Scene(tmp_path, upstream, getattr(request, "param", 'mode = "enforce"\ndelay_max = "0s"'))
    yield made
    made.gateway.process.stop()


def test_a_guesser_is_locked_out_until_an_admin_says_otherwise(scene: Scene) -> None:
    assert scene.command("list") == (0, "Nobody is locked out.\n")
    answers = [scene.log_in("carol", f"wrong{number}") for number in range(11)]
    assert all("NO" in answer for answer in answers)
    assert answers[-1] == "a NO [UNAVAILABLE] Too many failed logins, try again later"
    assert scene.log_in("carol", "looking-glass-3").startswith("a NO [UNAVAILABLE]")
    assert scene.log_in("carol", "wrong", "127.0.0.2").startswith("a NO") and "UNAVAILABLE" not in answers[0]
    status, text = scene.command("list", "--json")
    (lock,) = [json.loads(line) for line in text.splitlines()]
    assert status == 0 and lock["key"] == "pair 127.0.0.1 carol"
    kinds = [line["kind"] for line in scene.gateway.log_lines() if line["event"] == "security"]
    assert kinds.count("brute_force") == kinds.count("lockout") == 1
    assert scene.gateway.metric("mailgate_lockouts", kind="pair") == 1
    assert scene.gateway.metric("mailgate_logins_locked_total") == 2
    told = [line["outcome"] for line in scene.gateway.log_lines() if line["event"] == "login"]
    assert told.count("locked") == 2 and "policy" not in told and "policy_refused" not in kinds
    assert scene.gateway.metric("mailgate_security_events_total", kind="lockout", severity="warning") == 1
    assert scene.command("clear", "nobody") == (1, "mailgate: no lock nobody\n")
    assert scene.command("clear", "carol") == (0, "pair 127.0.0.1 carol: cleared\n")
    assert "UNAVAILABLE" not in scene.log_in("carol", "wrong")
    for path in scene.directory.glob("*"):
        if path.is_file():
            assert b"wrong1" not in path.read_bytes(), path


@pytest.mark.parametrize("scene", ['mode = "enforce"\ndelay_after = 1'], indirect=True)
def test_a_guesser_has_to_wait_and_others_have_not(scene: Scene) -> None:
    with imaplib.IMAP4("127.0.0.1", scene.port, timeout=30) as slow:
        for _ in range(2):
            with pytest.raises(imaplib.IMAP4.error):
                slow.login("carol", "wrong")
        slow.send(b"later NOOP\r\n")
        with imaplib.IMAP4("127.0.0.1", scene.port, timeout=30) as other:
            other.noop()
        assert not select.select([slow.sock], [], [], 0)[0], "it is not heard yet"
        assert slow.readline().startswith(b"later OK")


def test_a_denied_network_is_turned_away(tmp_path: Path, upstream: Upstream) -> None:
    (tmp_path / "deny.txt").write_text("127.0.9.0/24\n")
    scene = Scene(tmp_path, upstream, 'deny_files = ["deny.txt"]')
    try:
        for port, word in ((scene.port, b"* BYE"), (scene.smtp, b"554")):
            with socket.create_connection(("127.0.0.1", port), 20, ("127.0.9.1", 0)) as client:
                assert client.makefile("rb").readline().startswith(word)
        with imaplib.IMAP4("127.0.0.1", scene.port, timeout=20) as client:
            assert client.noop()[0] == "OK"
        line = scene.gateway.wait_for_log(lambda line: line.get("kind") == "denied")
        assert line["address"] == "127.0.9.1"
    finally:
        scene.gateway.process.stop()


@pytest.mark.parametrize("scene", ['[abuse.rates]\nmessages = "2/2s"'], indirect=True)
def test_who_is_over_a_rate_waits_and_loses_nothing(scene: Scene) -> None:
    with smtplib.SMTP("127.0.0.1", scene.smtp, timeout=30) as client:
        for _ in range(4):
            assert client.sendmail("a@example.org", ["bob@example.org"], b"Subject: x\r\n\r\nx\r\n") == {}
    assert scene.gateway.metric("mailgate_throttled_total", kind="messages") >= 1
    events = [line for line in scene.gateway.log_lines() if line.get("kind") == "rate"]
    assert len(events) == 1 and "more messages than allowed" in events[0]["detail"]


def test_the_control_socket_is_the_owner_s_alone(scene: Scene) -> None:
    path = scene.directory / "control.sock"
    wait_until(path.exists, 10, "the socket")
    assert path.stat().st_mode & 0o777 == 0o600
    for said in (b"nonsense\n", b"[]\n", b'{"command": "shutdown"}\n', b"[" * 50_000 + b"\n", b"x" * 70_000):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(str(path))
            try:
                client.sendall(said)
                answer = client.recv(65536)
            except ConnectionError:
                answer = b""
            assert not answer or "error" in json.loads(answer)
    assert scene.command("list")[0] == 0
    assert scene.gateway.stop() == 0
    assert not path.exists()
    status, text = scene.command("list")
    assert status == 1 and "is the gateway running?" in text
    wait_until(lambda: not path.exists(), 5, "the socket's end")


def test_without_a_control_socket(tmp_path: Path) -> None:
    file = tmp_path / "mailgate.toml"
    file.write_text(
        '[[upstreams]]\nname = "x"\naddresses = ["127.0.0.1:1"]\ntls = "none"\n[[listeners]]\nname = "x"\n'
        'protocol = "imap"\naddress = "127.0.0.1:12143"\nupstream = "x"\n'
    )
    command = [sys.executable, "-m", "gateway", "lockouts", "list", "-c", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "[admin] names no control" in done.stderr
