"""The command as an admin meets it: exit statuses, messages, and never a traceback."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import pytest

from tests.config.test_reading import GOOD
from tests.demo.conftest import Upstream
from tests.support.processes import free_port


def mailgate(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
        check=False,
    )


def test_init_then_check(tmp_path):
    path = str(tmp_path / "mailgate.toml")
    assert mailgate("init", "-o", path).returncode == 0
    again = mailgate("init", "-o", path)
    assert again.returncode == 1 and "--force" in again.stderr
    checked = mailgate("check", "-c", path)
    assert checked.returncode == 0 and "good: 3 listeners" in checked.stdout


def test_check_tells_all_and_exits_with_2(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text(GOOD.replace("upstream =", "upstrem =").replace("hostname", "hostnam"))
    for command in ("check", "run"):
        result = mailgate(command, "-c", str(path))
        assert result.returncode == 2
        assert f"{path}:2: error: hostnam: unknown key" in result.stderr
        assert 'did you mean "upstream"?' in result.stderr
        assert "Traceback" not in result.stderr
    as_json = mailgate("check", "--json", "-c", str(path))
    assert as_json.returncode == 2 and len(json.loads(as_json.stdout)) == 3


def test_a_port_in_use(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        path = tmp_path / "x.toml"
        path.write_text(GOOD.replace("2143", str(port)))
        result = mailgate("run", "-c", str(path))
    assert result.returncode == 1
    assert f"listener 'imap': 127.0.0.1:{port} is in use" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_admin_port_in_use(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        path = tmp_path / "x.toml"
        text = GOOD.replace("2143", str(free_port())) + f'\n[admin]\naddress = "127.0.0.1:{port}"\n'
        path.write_text(text)
        result = mailgate("run", "-c", str(path))
    assert result.returncode == 1 and "admin" in result.stderr and "Traceback" not in result.stderr


def test_an_address_of_another_machine(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text(GOOD.replace("127.0.0.1:2143", "192.0.2.1:2143"))
    result = mailgate("run", "-c", str(path))
    assert result.returncode == 1 and "no address of this machine" in result.stderr


def test_version_and_completion_and_typos():
    assert json.loads(mailgate("version", "--json").stdout)["mailgate"]
    for shell in ("bash", "zsh", "fish"):
        assert "mailgate" in mailgate("completion", shell).stdout
    typo = mailgate("chek")
    assert typo.returncode == 2 and 'Did you mean "check"?' in typo.stderr


def test_light_commands_load_no_reactor():
    """Import time is a feature: `check` and `version` wait for no Twisted."""
    code = (
        "import sys; sys.argv = ['mailgate', 'version']\n"
        "from gateway.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "assert 'twisted' not in sys.modules and 'pydantic' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


@pytest.mark.parametrize("protocol", ["smtp", "pop3", "imap"])
def test_probe(upstream: Upstream, protocol):
    """What is offered before TLS, after it, and after the login; and what becomes of it."""
    result = mailgate(
        "probe", f"localhost:{upstream.ports[protocol]}", "--protocol", protocol, "--ca", upstream.ca,
        "--user", "alice", "--json", MAILGATE_PROBE_PASSWORD=upstream.users["alice"],
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert [stage["state"] for stage in told["stages"]] == ["before TLS", "after TLS", "after login"]
    rows = {row["capability"].split()[0]: row for row in told["stages"][0]["mailgate"]}
    assert rows["STLS" if protocol == "pop3" else "STARTTLS"]["action"] == "own"
    assert upstream.users["alice"] not in result.stdout
    plain = mailgate(
        "probe", f"localhost:{upstream.ports[protocol]}", "--protocol", protocol, "--ca", upstream.ca
    )
    assert plain.returncode == 0 and "before TLS" in plain.stdout and "\x1b" not in plain.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("nonsense",), 2, "is not HOST:PORT"),
        (("localhost:1", "--protocol", "imap"), 1, "can't connect to localhost:1"),
        (("localhost:12345",), 2, "which protocol is spoken"),
    ],
)
def test_probe_says_what_is_wrong(arguments, status, message):
    result = mailgate("probe", *arguments)
    assert result.returncode == status and message in result.stderr and "Traceback" not in result.stderr


def test_probe_of_a_certificate_that_is_not_trusted(upstream: Upstream):
    result = mailgate(
        "probe", f"localhost:{upstream.ports['imaps']}", "--protocol", "imap", "--tls", "implicit"
    )
    assert result.returncode == 1 and "not to be trusted" in result.stderr


def test_replay(tmp_path):
    path = tmp_path / "one.play"
    path.write_text("# protocol: smtp\n?   open\n?   routed\nU>  220 mx\nC>  NOOP\nU>  250 ok\n")
    result = mailgate("replay", str(path))
    assert result.returncode == 0 and ">C  220 gate.example ESMTP" in result.stdout
    path.write_text("nonsense\n")
    wrong = mailgate("replay", str(path))
    assert wrong.returncode == 2 and "Traceback" not in wrong.stderr
