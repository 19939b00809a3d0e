"""`mailgate probe`: what a server offers, what becomes of it, and what a probe never does."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.support import mailgate
from tests.demo.conftest import Upstream
from tests.support.processes import free_port


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
    assert result.returncode == status and message in result.stderr


def test_probe_of_a_certificate_that_is_not_trusted(upstream: Upstream):
    result = mailgate(
        "probe", f"localhost:{upstream.ports['imaps']}", "--protocol", "imap", "--tls", "implicit"
    )
    assert result.returncode == 1 and "not to be trusted" in result.stderr


CONFIGURED = """
hostname = "gate.example"
[[upstreams]]
name = "store"
addresses = ["127.0.0.1:{dead}", "localhost:{port}"]
tls = "{tls}"
{more}
[[listeners]]
name = "one"
protocol = "imap"
address = "127.0.0.1:{free}"
upstream = "store"
strike_extensions = ["SASL-IR"]
[[listeners]]
name = "two"
protocol = "imap"
address = "127.0.0.1:{other}"
upstream = "store"
"""


def configured(directory: Path, upstream: Upstream, more: str = "", tls: str = "starttls") -> Path:
    path = directory / "x.toml"
    ports = {"dead": free_port(), "free": free_port(), "other": free_port()}
    path.write_text(CONFIGURED.format(port=upstream.ports["imap"], more=more, tls=tls, **ports))
    return path


def actions(output: str, stage: int) -> dict[str, str]:
    rows = json.loads(output)["stages"][stage]["mailgate"]
    return {row["capability"]: row["action"] for row in rows}


def test_probe_by_the_configuration(tmp_path, upstream: Upstream):
    """A dead address is passed over; each listener has its own rules."""
    path = configured(tmp_path, upstream, f'ca = "{upstream.ca}"')
    for listener, action in (("one", "strike"), ("two", "pass")):
        result = mailgate("probe", "store", "-c", path, "--listener", listener, "--json")
        assert result.returncode == 0, result.stderr
        assert actions(result.stdout, 1)["SASL-IR"] == action
    wrong = mailgate("probe", "stor", "-c", path)
    assert wrong.returncode == 2 and 'no upstream "stor"' in wrong.stderr
    assert 'did you mean "store"?' in wrong.stderr
    nobody = mailgate("probe", "store", "-c", path, "--listener", "three")
    assert nobody.returncode == 2 and "no listener 'three'" in nobody.stderr
    other = mailgate(
        "probe", f"localhost:{upstream.ports['pop3']}", "-c", path, "--protocol", "pop3", "--tls", "none"
    )
    assert other.returncode == 0 and "UIDL" in other.stdout


def test_options_overrule_the_configuration(tmp_path, upstream: Upstream):
    path = configured(tmp_path, upstream)
    assert "not to be trusted" in mailgate("probe", "store", "-c", path).stderr
    assert mailgate("probe", "store", "-c", path, "--ca", upstream.ca).returncode == 0
    assert mailgate("probe", "store", "-c", path, "--insecure").returncode == 0
    assert mailgate("probe", "store", "-c", path, "--tls", "none").returncode == 0
    unverified = configured(tmp_path, upstream, "verify = false")
    assert mailgate("probe", "store", "-c", unverified).returncode == 0


@pytest.mark.parametrize("protocol", ["smtp", "pop3", "imap"])
def test_a_password_is_not_sent_because_tls_is_missing(upstream: Upstream, protocol):
    """Whoever strips STARTTLS gets no password; only who asks for "none" sends it in clear."""
    upstream.quirks(strip_starttls=True)
    where = (f"localhost:{upstream.ports[protocol]}", "--protocol", protocol, "--ca", upstream.ca, "--json")
    password = upstream.users["alice"]
    result = mailgate("probe", *where, "--user", "alice", MAILGATE_PROBE_PASSWORD=password)
    assert result.returncode == 0 and "the password was not sent" in json.loads(result.stdout)["note"]
    assert not [
        line for line in upstream.lines(protocol) if line.upper().startswith(("AUTH", "USER", "PROBE LOGIN"))
    ]
    clear = mailgate("probe", *where, "--tls", "none", "--user", "alice", MAILGATE_PROBE_PASSWORD=password)
    assert [stage["state"] for stage in json.loads(clear.stdout)["stages"]] == ["before TLS", "after login"]


def test_octets_behind_starttls_are_an_attack(upstream: Upstream):
    upstream.quirks(inject_after_starttls="* CAPABILITY IMAP4rev1 EVIL\r\n")
    result = mailgate(
        "probe", f"localhost:{upstream.ports['imap']}", "--protocol", "imap", "--ca", upstream.ca
    )
    assert result.returncode == 1 and "EVIL" not in result.stdout


def test_a_login_that_is_refused(upstream: Upstream, tmp_path):
    secret = tmp_path / "password"
    secret.write_text("wrong-wrong\n")
    where = (
        f"localhost:{upstream.ports['imap']}",
        "--protocol",
        "imap",
        "--ca",
        upstream.ca,
        "--user",
        "alice",
    )
    result = mailgate("probe", *where, "--password-file", secret)
    assert result.returncode == 0 and "the login was refused: NO" in result.stdout
    none = mailgate("probe", *where, MAILGATE_PROBE_PASSWORD="")
    assert none.returncode == 2 and "MAILGATE_PROBE_PASSWORD" in none.stderr
    secret.write_text("a\r\nprobe DELETE INBOX\n")
    two = mailgate("probe", *where, "--password-file", secret)
    assert two.returncode == 1 and "line end" in two.stderr


def test_a_ca_file_that_is_none(tmp_path):
    (tmp_path / "junk.pem").write_text("junk")
    result = mailgate("probe", "localhost:1", "--protocol", "imap", "--ca", tmp_path / "junk.pem")
    assert result.returncode == 2 and "no certificates in PEM form" in result.stderr


@contextmanager
def saying(data: bytes) -> Iterator[int]:
    """A server that says one thing to one client, whatever it is asked; its port."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def serve() -> None:
            client, _ = listening.accept()
            with client:
                try:
                    client.sendall(data)
                    client.shutdown(socket.SHUT_WR)
                    while client.recv(65536):
                        pass
                except OSError:  # the probe has heard enough
                    pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(30)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    ("protocol", "data", "message"),
    [
        ("smtp", b"220 mx\r\n554 go away\r\n", "EHLO was refused: 554 go away"),
        ("smtp", b"", "the server closed the connection"),
        ("smtp", b"220-x\r\n" * 5000, "more than 2000 lines"),
        ("imap", b"x" * 200_000, "a line of more than 65536 octets"),
        ("imap", b"* OK hi\r\n" + b"* OK x\r\n" * 5000, "more than 2000 lines"),
        ("pop3", b"+OK hi\r\n+OK\r\n" + b"X\r\n" * 5000, "more than 2000 lines"),
        ("pop3", b"+OK hi\r\n+OK\r\nTOP\r\n", "the server closed the connection"),
    ],
)
def test_servers_that_talk_nonsense(protocol, data, message):
    with saying(data) as port:
        result = mailgate("probe", f"127.0.0.1:{port}", "--protocol", protocol, "--tls", "none")
    assert result.returncode == 1 and message in result.stderr


def test_what_a_server_says_can_not_paint_the_terminal():
    """Control characters are escaped, wherever they are shown."""
    greeting = b"* OK \x1b]0;owned\x07hi\r\n* CAPABILITY IMAP4rev1 X\x1b[31mRED\r\nprobe OK done\r\n"
    with saying(greeting) as port:
        result = mailgate("probe", f"127.0.0.1:{port}", "--protocol", "imap", "--tls", "none")
    assert result.returncode == 0 and "\x1b" not in result.stdout and "\x07" not in result.stdout
