"""Quarantined messages through the running command: kept, looked at, released, deleted."""

from __future__ import annotations

import imaplib
import json
import poplib
import shutil
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.demo.conftest import Upstream
from tests.support.gateway import RunningGateway
from tests.support.processes import free_port, wait_until

pytestmark = pytest.mark.live

PLUGIN = """
from gateway.plugin import Pass, Plugin, Quarantine


class Keeper(Plugin):
    def inspect(self, message, session):
        return Quarantine("looks bad \\x1b[31m") if "bad" in message.subject else Pass()
"""
BAD = b"From: a@example.org\r\nSubject: bad news\r\n\r\nThe forbidden text.\r\n"


class Scene:
    def __init__(self, directory: Path, upstream: Upstream, reply: str) -> None:
        self.upstream = upstream
        self.directory = directory
        self.folder = directory / "quarantine"
        self.folder.mkdir()
        (directory / "keeper.py").write_text(PLUGIN)
        self.ports = {name: free_port() for name in ("smtp", "lmtp", "pop3", "imap")}
        self.admin = free_port()
        toml = f"""
hostname = "gate.example.org"
[admin]
address = "127.0.0.1:{self.admin}"
[quarantine]
directory = "{self.folder}"
[views]
verdicts = "{directory / "verdicts.db"}"
[[plugins]]
name = "keeper"
use = "{directory / "keeper.py"}"
stages = ["data", "append", "retr", "fetch"]
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
smtp = {{ quarantine_reply = "{reply}" }}
"""
        self.gateway = RunningGateway(toml, directory)

    def command(self, *arguments: str, status: int = 0) -> str:
        command = [sys.executable, "-m", "gateway", "quarantine", *arguments]
        command += ["-c", str(self.gateway.configuration)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == status, done.stdout + done.stderr
        assert "\x1b" not in done.stdout and "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def entries(self) -> list[dict[str, Any]]:
        lines = self.command("list", "--json").splitlines()
        return [json.loads(line) for line in lines]

    def submit(self, name: str = "smtp") -> int:
        kind = smtplib.LMTP if name == "lmtp" else smtplib.SMTP
        with kind("127.0.0.1", self.ports[name], timeout=10) as client:
            client.ehlo_or_helo_if_needed()
            client.mail("a@example.org")
            client.rcpt("bob@example.org")
            return int(client.data(BAD)[0])

    def kept(self, **changes: Any) -> dict[str, Any]:
        """Have a message kept whose entry is then another."""
        (entry,) = self.entries()
        path = self.folder / f"{entry['id']}.json"
        path.write_text(json.dumps(entry | changes))
        return entry | changes

    def imap(self, user: str = "bob") -> imaplib.IMAP4:
        client = imaplib.IMAP4("127.0.0.1", self.ports["imap"], timeout=10)
        client.login(user, self.upstream.users[user])
        return client


@pytest.fixture
def scene(request: pytest.FixtureRequest, tmp_path: Path, upstream: Upstream) -> Iterator[Scene]:
    stage = Scene(tmp_path, upstream, getattr(request, "param", "accept"))
    yield stage
    assert stage.gateway.stop() == 0


@pytest.mark.parametrize("name", ["smtp", "lmtp"])
def test_a_submitted_message_is_kept_and_released(scene: Scene, name: str) -> None:
    before = len(scene.upstream.ask("accepted"))
    assert scene.submit(name) == 250
    assert len(scene.upstream.ask("accepted")) == before
    (entry,) = scene.entries()
    assert entry["reverse_path"] == "a@example.org" and entry["recipients"] == ["bob@example.org"]
    assert entry["plugin"] == "keeper" and entry["stage"] == "data"
    assert "bad news" in scene.command("list") and "\\x1b" in scene.command("show", entry["id"])
    assert scene.command("show", entry["id"], "--raw").encode() in (BAD, BAD.replace(b"\r\n", b"\n"))
    assert scene.gateway.metric("mailgate_quarantine_messages") == 1
    line = scene.gateway.wait_for_log(lambda line: line.get("quarantine") == entry["id"])
    assert line["action"] == "quarantined"
    scene.command("release", entry["id"])
    accepted = scene.upstream.ask("accepted")
    assert len(accepted) == before + 1 and "forbidden" in accepted[-1]["content"]
    assert scene.entries() == [] and list(scene.folder.iterdir()) == []


@pytest.mark.parametrize("scene", ["reject"], indirect=True)
def test_the_client_may_be_told(scene: Scene) -> None:
    assert scene.submit() == 550
    (entry,) = scene.entries()
    scene.command("delete", entry["id"])
    assert "no message" in scene.command("delete", entry["id"], status=1)


def test_an_appended_message(scene: Scene) -> None:
    with scene.imap() as client:
        status, _ = client.append("INBOX", None, None, BAD)
        assert status == "NO"
    (entry,) = scene.entries()
    assert entry["mailbox"] == "INBOX" and entry["user"] == "bob"
    assert "--user" in scene.command("release", entry["id"], status=1)
    secret = scene.directory / "password"
    secret.write_text(scene.upstream.users["bob"] + "\n")
    scene.command("release", entry["id"], "--user", "bob", "--password-file", str(secret))
    assert scene.entries() == []


def test_a_mailbox_that_was_named_in_utf8(scene: Scene) -> None:
    with scene.imap() as client:
        client.create('"Entw&APw-rfe &- mehr"')
        assert client.append("INBOX", None, None, BAD)[0] == "NO"
    entry = scene.kept(mailbox="Entw\u00fcrfe & mehr")
    secret = scene.directory / "password"
    secret.write_text(scene.upstream.users["bob"] + "\n")
    scene.command("release", entry["id"], "--user", "bob", "--password-file", str(secret))
    with scene.imap() as client:
        assert client.select('"Entw&APw-rfe &- mehr"')[1] == [b"1"]


@pytest.mark.parametrize("name", ["smtp", "lmtp"])
def test_who_has_a_message_does_not_get_it_again(scene: Scene, name: str) -> None:
    assert scene.submit(name) == 250
    before = len(scene.upstream.ask("accepted"))
    entry = scene.kept(recipients=["bob@example.org", "nobody@example.org", "alice@example.org"])
    told = scene.command("release", entry["id"], status=1)
    assert "some have it, but not nobody@example.org (550 5.1.1" in told
    assert [one["recipients"] for one in scene.upstream.ask("accepted")[before:]] == [
        ["bob@example.org", "alice@example.org"]
    ]
    assert scene.entries()[0]["recipients"] == ["nobody@example.org"]
    assert "not released: nobody@example.org (550" in scene.command("release", entry["id"], status=1)
    scene.kept(recipients=["bob@example.org", "alice@example.org"])
    assert "released to bob@example.org, alice@example.org" in scene.command("release", entry["id"])
    assert len(scene.upstream.ask("accepted")) == before + 2 and scene.entries() == []


@pytest.mark.parametrize("offered", [True, False])
def test_addresses_that_are_not_ascii(scene: Scene, offered: bool) -> None:
    assert scene.submit() == 250
    entry = scene.kept(reverse_path="b\u00f8b@example.org")
    if offered:
        scene.command("release", entry["id"])
        assert scene.upstream.ask("accepted")[-1]["reverse_path"] == "b\u00f8b@example.org"
    else:
        scene.upstream.quirks(no_capabilities=["SMTPUTF8"])
        assert "SMTPUTF8" in scene.command("release", entry["id"], status=1)


def test_two_that_release_the_same_message(scene: Scene) -> None:
    assert scene.submit() == 250
    before = len(scene.upstream.ask("accepted"))
    (entry,) = scene.entries()
    scene.upstream.quirks(hang_after="RCPT")
    command = [sys.executable, "-m", "gateway", "quarantine", "release", entry["id"]]
    first = subprocess.Popen([*command, "-c", str(scene.gateway.configuration)], stderr=subprocess.PIPE)
    try:
        wait_until(lambda: "RCPT" in str(scene.upstream.lines("smtp")[-1:]).upper(), 20, "the first release")
        assert "being released by another" in scene.command("release", entry["id"], status=1)
    finally:
        first.kill()
        first.communicate()
    scene.upstream.quirks()
    scene.command("release", entry["id"])
    assert len(scene.upstream.ask("accepted")) == before + 1 and scene.entries() == []


def test_a_message_on_its_way_to_a_client(scene: Scene) -> None:
    """Kept once, however often it is fetched; a notice in its place until it is released."""
    direct = imaplib.IMAP4("127.0.0.1", scene.upstream.ports["imap"], timeout=10)
    direct.login("bob", scene.upstream.users["bob"])
    direct.append("INBOX", None, None, BAD)
    number = direct.select("INBOX")[1][0].decode()
    direct.logout()
    with scene.imap() as client:
        client.select("INBOX")
        for items in ("(BODY.PEEK[])", "(BODY.PEEK[TEXT])"):
            text = client.fetch(number, items)[1][0][1]
            assert b"forbidden" not in text and b"withheld" in text
    pop = poplib.POP3("127.0.0.1", scene.ports["pop3"], timeout=10)
    pop.user("bob")
    pop.pass_(scene.upstream.users["bob"])
    assert b"forbidden" not in b"".join(pop.retr(int(number))[1])
    pop.quit()
    entries = scene.entries()
    assert {entry["stage"] for entry in entries} == {"fetch", "retr"} and len(entries) == 2
    for entry in entries:
        assert "passes" in scene.command("release", entry["id"])
    pop = poplib.POP3("127.0.0.1", scene.ports["pop3"], timeout=10)
    pop.user("bob")
    pop.pass_(scene.upstream.users["bob"])
    assert b"forbidden" in b"".join(pop.retr(int(number))[1])
    pop.quit()


def test_a_quarantine_that_fails_loses_nothing(scene: Scene) -> None:
    shutil.rmtree(scene.folder)
    assert scene.submit() == 451
    scene.gateway.wait_for_log(lambda line: line.get("event") == "quarantine_failed")
    assert scene.gateway.metric("mailgate_quarantine_failures_total") == 1
    scene.folder.mkdir()
    assert scene.submit() == 250


def test_release_says_why_it_can_not(scene: Scene) -> None:
    assert scene.submit() == 250
    (entry,) = scene.entries()
    scene.upstream.quirks(close_after="RCPT")
    assert "not released" in scene.command("release", entry["id"], status=1)
    assert len(scene.entries()) == 1
