"""The reports as commands: choosing, formats, mistakes, following."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.audit.privacy import Privacy, Pseudonyms
from gateway.audit.record import StoredRecord
from gateway.audit.sqlite import SqliteStore
from tests.audit.samples import login
from tests.support.processes import wait_until

from .support import mailgate

KEY = "0123456789abcdef" * 4
CONFIGURATION = """
[audit]
store = "audit.db"
{audit}
[[upstreams]]
name = "imap"
addresses = ["127.0.0.1:1143"]
[[listeners]]
name = "imap"
protocol = "imap"
address = "127.0.0.1:2143"
upstream = "imap"
{policies}
"""
POLICIES = """
[[policies]]
name = "guests"
users = ["guest*"]
[[policies]]
name = "all"
login = "tls"
exceptions = [{ users = ["scanner"] }]
"""


class Scene:
    """A folder with an audit that was written a few minutes ago, and its configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = SqliteStore(folder / "audit.db")
        self.store.open()
        self.begin = int((time.time() - 600) * 1e6)
        self.configure("", POLICIES)

    def configure(self, audit: str, policies: str = "") -> None:
        text = CONFIGURATION.format(audit=audit, policies=policies)
        (self.folder / "mailgate.toml").write_text(text)

    def add(self, number: int, **more: object) -> None:
        """Record a login; the second since the begin is its number."""
        self.store.write([self.record(number, **more)])

    def record(self, number: int, **more: object) -> StoredRecord:
        return login(number, time=self.begin + number * 1_000_000, **more)

    def bare(self, number: int, user: str) -> None:
        self.add(number, user=user, protection="none", tls_version="", exposed=True, mechanism="LOGIN")

    def run(self, *arguments: str, status: int = 0, **environment: str) -> str:
        path = self.folder / "mailgate.toml"
        ended = mailgate(*arguments, "-c", path, **environment)
        assert ended.returncode == status, ended.stderr
        return ended.stdout if not status else ended.stderr


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    made.add(1)
    made.bare(2, "bob")
    made.bare(3, "scanner")
    made.add(4, user="bob", outcome="failed")
    yield made
    made.store.close()


def test_tables_are_for_people(scene: Scene) -> None:
    told = scene.run("plaintext")
    assert "Passwords in the clear" in told and "2  users who expose their password" in told
    assert "imap LOGIN" in told and "scanner" in told
    told = scene.run("logins", "--user", "bob", "--outcome", "failed")
    assert told.splitlines()[1].endswith("; user bob; outcome failed")
    assert "alice" not in told


def test_a_pipe_that_knows_ascii_only_gets_ascii(scene: Scene) -> None:
    told = scene.run("plaintext", PYTHONIOENCODING="ascii")
    assert told.isascii() and "bob" in told


def test_every_report_in_every_format(scene: Scene, tmp_path: Path) -> None:
    for report in (["logins"], ["plaintext"], ["readiness"], ["tls"], ["user", "bob"]):
        assert json.loads(scene.run(*report, "--format", "json"))["report"] == report[0]
        assert len(list(csv.reader(io.StringIO(scene.run(*report, "--format", "csv"))))) >= 1
        page = tmp_path / "report.html"
        scene.run(*report, "-o", str(page))
        assert page.read_text().startswith("<!doctype html>")
        plain = tmp_path / "report.txt"
        scene.run(*report, "-o", str(plain))
        assert "\x1b" not in plain.read_text()


def test_readiness_asks_the_configured_policies(scene: Scene) -> None:
    told = json.loads(scene.run("readiness", "--format", "json"))
    assert [row["user"] for row in told["users"]] == ["bob"]  # the scanner is an exception
    assert told["notes"][1] == "judged by: all: login = tls"
    told = json.loads(scene.run("readiness", "--format", "json", "--policy", "guests"))
    assert told["users"] == [] and told["notes"][1] == "judged by: all: login = tls (monitors only)"
    told = json.loads(scene.run("readiness", "--format", "json", "--require", "tls"))
    assert {row["user"] for row in told["users"]} == {"bob", "scanner"}
    told = json.loads(scene.run("readiness", "--format", "json", "--profile", "modern", "--share", "100%"))
    assert told["users"] == []
    told = json.loads(scene.run("readiness", "--format", "json", "--share", "0%"))
    assert told["users"] == []


def test_times_are_understood(scene: Scene) -> None:
    for since, count in (("5m", 0), ("1h", 4), ("all", 4), ("2020-01-01", 4), ("2020-01-01T08:00+02:00", 4)):
        told = json.loads(scene.run("logins", "--since", since, "--format", "json"))
        assert told["figures"]["logins"] == count, since
    assert json.loads(scene.run("logins", "--until", "1h", "--format", "json"))["figures"]["logins"] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["logins", "--since", "soon"], "--since: 'soon' is no time"),
        (["logins", "--network", "192.0.2.1/24"], "--network: not a network"),
        (["logins", "--protocol", "imap,http"], "--protocol: 'http' is none of smtp, lmtp, pop3, imap"),
        (["plaintext", "--outcome", "bad"], "--outcome: 'bad' is none of ok, failed"),
        (["tls", "--outcome", "bad"], "--outcome: 'bad' is none of ok, failed"),
        (["logins", "--section", "x"], "--section is for --format csv"),
        (["plaintext", "--format", "csv", "--section", "x"], "there is none of that name: users, devices"),
        (["readiness", "--policy", "x"], "--policy: no policy 'x': guests, all"),
        (["readiness", "--policy", "all", "--require", "tls"], "either --policy"),
        (["readiness", "--share", "many"], "--share: not a share"),
        (["user", "b*"], "name one user"),
        (["logins", "-f", "--format", "html"], "--follow writes to the terminal"),
    ],
)
def test_mistakes_are_told(scene: Scene, arguments: list[str], said: str) -> None:
    assert said in scene.run(*arguments, status=2).replace("Invalid value for ", "")


def test_what_is_not_there_is_told(scene: Scene, tmp_path: Path) -> None:
    assert "no login of bo in that time; there is bob" in scene.run("user", "bo", status=1)
    assert "no such folder" not in scene.run("logins", "-o", str(tmp_path / "none/x.html"), status=1)
    ended = mailgate("logins")
    assert ended.returncode == 2 and "name the configuration (-c) or the store (--store)" in ended.stderr
    ended = mailgate("logins", "--store", tmp_path / "none.db")
    assert ended.returncode == 1 and "none.db: No such file" in ended.stderr


def test_a_user_is_found_by_name_where_pseudonyms_are_kept(scene: Scene) -> None:
    key = scene.folder / "pseudonym.key"
    key.write_text(KEY + "\n")
    key.chmod(0o600)
    privacy = Privacy(None, Pseudonyms(KEY.encode()))
    scene.store.write(list(privacy(scene.record(5, user="carol", user_given="Carol"))))
    scene.configure('users = "pseudonym"\npseudonym_key = "pseudonym.key"')
    assert json.loads(scene.run("user", "Carol", "--format", "json"))["figures"]["logins"] == 1
    assert "name the user whole" in scene.run("logins", "--user", "c*", status=2)
    key.unlink()
    assert "the audit keeps pseudonyms" in scene.run("user", "carol", status=2)


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_new_logins_are_followed(scene: Scene, tmp_path: Path, form: str) -> None:
    kept = tmp_path / "followed"
    with kept.open("wb") as file:
        command = [sys.executable, "-m", "gateway", "logins", "-f", "--format", form, "--user", "bob"]
        process = subprocess.Popen(
            [*command, "-c", str(tmp_path / "mailgate.toml")],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        try:
            wait_until(lambda: kept.read_text().count("bob") >= 2, 20, "what is there")
            scene.bare(50, "eve")
            scene.bare(51, "bob")
            wait_until(lambda: kept.read_text().count("bob") >= 3, 20, "the new login")
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
    text = kept.read_text()
    assert "eve" not in text and "Traceback" not in text
    if form == "json":
        rows = [json.loads(line) for line in text.splitlines()]
        assert rows[-1]["user"] == "bob" and rows[-1]["exposed"] == "exposed"
