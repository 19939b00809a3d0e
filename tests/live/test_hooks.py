"""Plugins that answer when clients connect, command and log in, and that watch facts."""

from __future__ import annotations

import imaplib
import poplib
import smtplib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.demo.conftest import Upstream
from tests.support.gateway import RunningGateway
from tests.support.processes import free_port, wait_until

pytestmark = pytest.mark.live

PLUGIN = '''
from pathlib import Path

from gateway.plugin import Allow, Plugin, PluginOptions, Refuse, Tag


class Doorman(Plugin):
    """Answers by what its options say."""

    class Options(PluginOptions):
        closed: str = ""
        seen: str = ""

    def on_connect(self, session):
        if session.protocol == self.options.closed:
            return Refuse("closed")
        return Tag("door", session.protocol)

    def on_command(self, command, session):
        assert "wonderland" not in command.text, "a password"
        if command.verb in ("HELP", "LAST", "CHECK"):
            return Refuse("not here")
        if command.verb == "NOOP":
            raise RuntimeError("broken")
        return Allow()

    def on_login(self, login, session):
        assert session.user == "" and session.tags["door"] == session.protocol
        return Refuse("alice stays out") if login.user == "alice" else None

    def on_fact(self, fact, session):
        with Path(self.options.seen).open("a") as file:
            file.write(type(fact).__name__ + "\\n")
'''


class Scene:
    def __init__(self, directory: Path, upstream: Upstream, closed: str) -> None:
        self.upstream = upstream
        self.ports = {name: free_port() for name in ("smtp", "pop3", "imap")}
        self.seen = directory / "seen"
        (directory / "door.py").write_text(PLUGIN)
        toml = f"""
hostname = "gate.example.org"
[[plugins]]
name = "doorman"
use = "{directory / "door.py"}"
options = {{ closed = "{closed}", seen = "{self.seen}" }}
"""
        for name, port in self.ports.items():
            toml += f"""
[[upstreams]]
name = "{name}"
addresses = ["127.0.0.1:{upstream.ports[name]}"]
tls = "none"
[[listeners]]
name = "{name}"
protocol = "{name}"
address = "127.0.0.1:{port}"
upstream = "{name}"
"""
        self.gateway = RunningGateway(toml, directory)


@pytest.fixture
def scene(request: pytest.FixtureRequest, tmp_path: Path, upstream: Upstream) -> Iterator[Scene]:
    stage = Scene(tmp_path, upstream, getattr(request, "param", ""))
    yield stage
    assert stage.gateway.stop() == 0


def _logins(scene: Scene) -> set[tuple[str, str, str]]:
    lines = [line for line in scene.gateway.log_lines() if line.get("event") == "login"]
    return {(line["protocol"], line["user"], line["outcome"]) for line in lines}


def test_logins_are_refused_in_each_protocols_words(scene: Scene) -> None:
    password = scene.upstream.users["alice"]
    with smtplib.SMTP("127.0.0.1", scene.ports["smtp"], timeout=10) as smtp:
        smtp.ehlo()
        with pytest.raises(smtplib.SMTPAuthenticationError, match="alice stays out"):
            smtp.user, smtp.password = "alice", password
            smtp.auth("PLAIN", smtp.auth_plain)
    pop = poplib.POP3("127.0.0.1", scene.ports["pop3"], timeout=10)
    pop.user("alice")
    with pytest.raises(poplib.error_proto, match=r"\[AUTH\] alice stays out"):
        pop.pass_(password)
    pop.close()
    imap = imaplib.IMAP4("127.0.0.1", scene.ports["imap"], timeout=10)
    with pytest.raises(imaplib.IMAP4.error, match=r"AUTHORIZATIONFAILED\] alice stays out"):
        imap.login("alice", password)
    imap.shutdown()
    with imaplib.IMAP4("127.0.0.1", scene.ports["imap"], timeout=10) as imap:
        assert imap.login("bob", scene.upstream.users["bob"])[0] == "OK"
    wanted = {(name, "alice", "policy") for name in scene.ports} | {("imap", "bob", "ok")}
    wait_until(lambda: wanted <= _logins(scene), 10, "the logins in the log")
    assert "LoginSeen" in scene.seen.read_text() and "SessionOpened" in scene.seen.read_text()


def test_commands_are_refused_and_the_server_does_not_hear_of_them(scene: Scene) -> None:
    with smtplib.SMTP("127.0.0.1", scene.ports["smtp"], timeout=10) as smtp:
        smtp.ehlo()
        assert smtp.docmd("HELP") == (550, b"5.7.1 not here")
        assert smtp.docmd("NOOP")[0] == 550, "a plugin that fails refuses"
    pop = poplib.POP3("127.0.0.1", scene.ports["pop3"], timeout=10)
    with pytest.raises(poplib.error_proto, match=r"\[SYS/PERM\] not here"):
        pop._shortcmd("LAST")
    pop.close()
    with imaplib.IMAP4("127.0.0.1", scene.ports["imap"], timeout=10) as imap:
        imap.login("bob", scene.upstream.users["bob"])
        imap.select("INBOX")
        assert imap.check() == ("NO", [b"[NOPERM] not here"])
    for protocol in scene.ports:
        assert not any(
            "HELP" in line or "LAST" in line or "CHECK" in line for line in scene.upstream.lines(protocol)
        )
    line = scene.gateway.wait_for_log(
        lambda line: line.get("event") == "plugin_answer" and line["result"] == "error"
    )
    assert line["hook"] == "command" and line["applied"] == "refuse" and "broken" in line["detail"]


@pytest.mark.parametrize("scene", ["smtp", "pop3", "imap"], indirect=True)
def test_a_client_that_is_turned_away(scene: Scene, request: pytest.FixtureRequest) -> None:
    protocol = request.node.callspec.params["scene"]
    with socket.create_connection(("127.0.0.1", scene.ports[protocol]), timeout=10) as sock:
        said = sock.makefile("rb").read()
    assert said.startswith({"smtp": b"554 ", "pop3": b"-ERR [SYS/PERM]", "imap": b"* BYE"}[protocol])
    line = scene.gateway.wait_for_log(lambda line: line.get("reason") == "plugin")
    assert line["event"] == "connection_refused"
