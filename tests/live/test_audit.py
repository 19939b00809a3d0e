"""The audit through the running command: every login in every protocol, outages, pruning, the chain."""

from __future__ import annotations

import contextlib
import imaplib
import json
import os
import poplib
import smtplib
import sqlite3
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.demo.certificates import Authority
from tests.cli.support import mailgate
from tests.demo.conftest import Upstream
from tests.support.dovecot import Dovecot
from tests.support.gateway import RunningGateway
from tests.support.leaks import leaks, remember
from tests.support.postfix import Postfix
from tests.support.postgres import Postgres
from tests.support.processes import free_port, wait_until

pytestmark = pytest.mark.live

WRONG = "Wr0ng-hunter2-pässword"
remember([WRONG])
MAIL = b"From: a@example.org\r\nTo: bob@example.org\r\nSubject: hello\r\n\r\nHello.\r\n"


class Scene:
    def __init__(self, directory: Path, upstream: Upstream, authority: Authority, audit: str) -> None:
        self.directory, self.upstream, self.authority = directory, upstream, authority
        self.store = directory / "audit.db"
        for name in ("chain", "pseudonym"):
            key = directory / f"{name}.key"
            key.write_text(os.urandom(32).hex() + "\n")
            key.chmod(0o600)
        pair = authority.issue("audit", ["localhost", "127.0.0.1"])
        self.ports = {name: free_port() for name in ("smtp", "pop3", "imap")}
        self.admin = free_port()
        self.before = f'hostname = "gate.example.org"\n[admin]\naddress = "127.0.0.1:{self.admin}"\n'
        self.tables = ""
        for name, port in self.ports.items():
            self.tables += f"""
[[upstreams]]
name = "{name}"
addresses = ["127.0.0.1:{upstream.ports[name]}"]
tls = "none"
[[listeners]]
name = "{name}"
protocol = "{name}"
address = "127.0.0.1:{port}"
upstream = "{name}"
[listeners.tls]
mode = "starttls"
certificates = [{{ certificate = "{pair.certificate}", key = "{pair.key}" }}]
"""
        self.gateway = RunningGateway(self.toml(audit), directory)

    def toml(self, audit: str) -> str:
        store = "" if "store" in audit else f'store = "{self.store}"'
        return self.before + f"[audit]\n{store}\n{audit}\n" + self.tables

    def reconfigure(self, audit: str) -> None:
        log = self.gateway.configuration.read_text().rpartition("[log]")[2]
        self.gateway.configuration.write_text(self.toml(audit) + "[log]" + log)
        seen = len([line for line in self.gateway.log_lines() if line["event"] == "reloaded"])
        self.gateway.reload()
        wait_until(
            lambda: len([line for line in self.gateway.log_lines() if line["event"] == "reloaded"]) > seen,
            10,
            "the reload",
        )

    def rows(self, sql: str) -> list[Any]:
        connection = sqlite3.connect(f"file:{self.store}?mode=ro", uri=True)
        try:
            return connection.execute(sql).fetchall()
        except sqlite3.OperationalError:  # not made yet
            return []
        finally:
            connection.close()

    def logins(self, count: int) -> list[Any]:
        """Wait for so many logins, and return what is kept of them."""
        sql = (
            "SELECT protocol, mechanism, \"user\", outcome, code, protection, exposed, tls_version != '' "
            "FROM logins ORDER BY id"
        )
        wait_until(lambda: len(self.rows(sql)) >= count, 10, f"{count} records")
        rows = self.rows(sql)
        assert len(rows) == count, rows
        return rows

    def command(self, *arguments: str, status: int = 0) -> str:
        done = mailgate("audit", *arguments, "-c", self.gateway.configuration)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep the store locked, until the gateway has told of it."""
        other = sqlite3.connect(self.store, isolation_level=None)
        try:
            other.execute("BEGIN EXCLUSIVE")
            self.pop3("bob")
            self.gateway.wait_for_log(lambda line: line["event"] == "audit store failed")
            yield
            other.execute("COMMIT")
        finally:
            other.close()

    # -- clients: each logs in once, and returns what the server said -------

    def smtp(self, user: str, mechanism: str, password: str = "", tls: bool = False) -> tuple[int, bytes]:
        with smtplib.SMTP("127.0.0.1", self.ports["smtp"], timeout=10) as client:
            client.ehlo("pc-of-bob.example.org")
            if tls:
                client.starttls(context=self.trusting())
                client.ehlo("pc-of-bob.example.org")
            client.user, client.password = user, password or self.upstream.users[user]
            method = getattr(client, f"auth_{mechanism.lower().replace('-', '_')}")
            try:
                return client.auth(mechanism, method)
            except smtplib.SMTPAuthenticationError as error:
                return error.smtp_code, error.smtp_error

    def pop3(self, user: str, password: str = "", apop: bool = False) -> str:
        client = poplib.POP3("127.0.0.1", self.ports["pop3"], timeout=10)
        try:
            if apop:
                return client.apop(user, password or self.upstream.users[user]).decode()
            client.user(user)
            return client.pass_(password or self.upstream.users[user]).decode()
        except poplib.error_proto as error:
            return error.args[0].decode()
        finally:
            client.close()

    def imap(self, user: str, password: str = "", sasl: bool = False, tls: bool = False) -> str:
        client = imaplib.IMAP4("127.0.0.1", self.ports["imap"], timeout=10)
        try:
            if tls:
                client.starttls(self.trusting())
            secret = password or self.upstream.users[user]
            if sasl:
                client.authenticate("PLAIN", lambda _: f"\0{user}\0{secret}".encode())
            else:
                client._encoding = "utf-8"
                client.login(user, secret)
            client.xatom("ID", '("name" "K-9 Mail")')
            client.logout()
            return "OK"
        except imaplib.IMAP4.error as error:
            return str(error)
        finally:
            with contextlib.suppress(OSError):  # it has logged out
                client.shutdown()

    def trusting(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.authority.certificate)


Maker = Callable[[str], Scene]


@pytest.fixture
def scene_of(tmp_path: Path, upstream: Upstream, authority: Authority) -> Iterator[Maker]:
    made: list[Scene] = []

    def make(audit: str) -> Scene:
        made.append(Scene(tmp_path, upstream, authority, audit.replace("FOLDER", str(tmp_path))))
        return made[0]

    yield make
    for one in made:
        assert one.gateway.stop() == 0


CHAINED = 'chain = true\nchain_key = "FOLDER/chain.key"\nchain_head = "FOLDER/audit.head"'


def test_every_login_is_kept_and_no_password_anywhere(scene_of: Maker) -> None:
    scene = scene_of(CHAINED)
    for mechanism in ("PLAIN", "LOGIN", "CRAM-MD5"):
        assert scene.smtp("alice", mechanism)[0] == 235
    assert scene.smtp("alice", "PLAIN", "wrong-" + "hunter2")[0] == 535
    assert scene.smtp("bob", "PLAIN", tls=True)[0] == 235
    assert scene.pop3("bob").startswith("+OK")
    assert scene.pop3("bob", WRONG).startswith("-ERR")
    assert scene.pop3("bob", apop=True).startswith("+OK")
    assert scene.imap("carol") == "OK"
    assert "AUTHENTICATIONFAILED" in scene.imap("carol", WRONG)
    assert scene.imap("carol", sasl=True, tls=True) == "OK"
    found = scene.logins(11)
    assert [row[:4] for row in found] == [
        ("smtp", "PLAIN", "alice", "ok"),
        ("smtp", "LOGIN", "alice", "ok"),
        ("smtp", "CRAM-MD5", "alice", "ok"),
        ("smtp", "PLAIN", "alice", "failed"),
        ("smtp", "PLAIN", "bob", "ok"),
        ("pop3", "USER", "bob", "ok"),
        ("pop3", "USER", "bob", "failed"),
        ("pop3", "APOP", "bob", "ok"),
        ("imap", "LOGIN", "carol", "ok"),
        ("imap", "LOGIN", "carol", "failed"),
        ("imap", "PLAIN", "carol", "ok"),
    ]
    codes = [row[4] for row in found]
    assert codes[0].startswith("235") and codes[3].startswith("535") and codes[5] == "+OK"
    assert codes[6] == "-ERR [AUTH]" and codes[8:] == ["OK", "NO [AUTHENTICATIONFAILED]", "OK"]
    exposed = [bool(row[6]) for row in found]
    assert exposed == [True, True, False, True, False, True, True, False, True, True, False]
    assert [row[5] for row in found] == ["tls" if number in (4, 10) else "none" for number in range(11)]
    assert [bool(row[7]) for row in found] == [number in (4, 10) for number in range(11)]
    names = {row[0] for row in scene.rows("SELECT client_name FROM logins WHERE protocol = 'smtp'")}
    assert names == {"pc-of-bob.example.org"}
    wait_until(lambda: len(scene.rows("SELECT * FROM programs")) == 1, 5, "the program")
    assert "K-9 Mail" in scene.rows("SELECT program FROM programs")[0][0]
    assert scene.gateway.metric("mailgate_audit_records_total", kind="login") == 11
    assert scene.gateway.metric("mailgate_audit_lost_total") == 0
    assert "whole" in scene.command("verify")
    told = json.loads(scene.command("status", "--json"))
    assert told["logins"] == told["chain_logins"]["count"] == 11
    assert scene.gateway.stop() == 0
    assert "whole" in scene.command("verify")
    passwords = [*scene.upstream.users.values(), WRONG, "wrong-hunter2"]
    _no_secrets(scene.directory, passwords)
    connection = sqlite3.connect(scene.store)
    connection.execute("UPDATE logins SET outcome = 'ok' WHERE id = 4")
    connection.commit()
    connection.close()
    assert "logins: record 4: was changed" in scene.command("verify", status=1)


def _no_secrets(folder: Path, passwords: list[str]) -> None:
    """Look for passwords in all files."""
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix not in (".key", ".toml"):
            found = leaks(path.read_bytes(), passwords)
            assert not found, f"{found} in {path}"


class RealServers:
    """Dovecot and Postfix, where a scene has the embedded upstream."""

    def __init__(self, dovecot: Dovecot, postfix: Postfix) -> None:
        self.users = dovecot.users
        self.ports = {**dovecot.ports, "smtp": postfix.ports["smtp"]}


def test_real_servers(tmp_path: Path, dovecot: Dovecot, postfix: Postfix, authority: Authority) -> None:
    servers = RealServers(dovecot, postfix)
    scene = Scene(tmp_path, servers, authority, "required = true")  # type: ignore[arg-type]
    assert scene.smtp("alice", "PLAIN")[0] == 235
    assert scene.smtp("alice", "CRAM-MD5", tls=True)[0] == 235
    assert scene.smtp("alice", "LOGIN", "wrong-hunter2")[0] == 535
    assert scene.pop3("bob").startswith("+OK")
    assert scene.pop3("bob", WRONG).startswith("-ERR")
    assert scene.imap("dave") == "OK"
    assert "AUTHENTICATIONFAILED" in scene.imap("dave", WRONG)
    assert scene.imap("alice", sasl=True, tls=True) == "OK"
    assert [row[:5] for row in scene.logins(8)] == [
        ("smtp", "PLAIN", "alice", "ok", "235 2.7.0"),
        ("smtp", "CRAM-MD5", "alice", "ok", "235 2.7.0"),
        ("smtp", "LOGIN", "alice", "failed", "535 5.7.8"),
        ("pop3", "USER", "bob", "ok", "+OK"),
        ("pop3", "USER", "bob", "failed", "-ERR [AUTH]"),
        ("imap", "LOGIN", "dave", "ok", "OK"),
        ("imap", "LOGIN", "dave", "failed", "NO [AUTHENTICATIONFAILED]"),
        ("imap", "PLAIN", "alice", "ok", "OK"),
    ]
    assert scene.gateway.stop() == 0
    _no_secrets(scene.directory, [*servers.users.values(), WRONG, "wrong-hunter2"])


def test_mail_goes_on_while_the_store_fails(scene_of: Maker) -> None:
    scene = scene_of("queue = 100")
    assert scene.pop3("bob").startswith("+OK")
    scene.logins(1)
    with scene.locked():
        for _ in range(5):
            assert scene.imap("carol") == "OK"
        alarm = scene.gateway.wait_for_log(lambda line: line.get("kind") == "audit_lost")
        assert alarm["level"] == "error" and "locked" in alarm["detail"]
        assert scene.gateway.metric("mailgate_security_events_total", kind="audit_lost") == 1
        assert scene.gateway.metric("mailgate_audit_queue") >= 5
        with smtplib.SMTP("127.0.0.1", scene.ports["smtp"], timeout=10) as client:
            client.sendmail("a@example.org", ["bob@example.org"], MAIL)
    scene.logins(7)
    lost = "SELECT count FROM events WHERE kind = 'audit_lost'"
    wait_until(lambda: len(scene.rows(lost)) == 1, 10, "the event")
    assert scene.gateway.metric("mailgate_audit_lost_total") == 0


def test_a_store_that_is_no_database_loses_and_counts(scene_of: Maker) -> None:
    scene = scene_of("queue = 100")
    assert scene.pop3("bob").startswith("+OK")
    scene.logins(1)
    for path in scene.directory.glob("audit.db*"):
        path.unlink()
    scene.store.write_bytes(b"garbage" * 1000)
    for _ in range(150):
        assert scene.imap("carol") == "OK"  # a login and a program each
    assert scene.gateway.metric("mailgate_audit_lost_total") > 0
    line = scene.gateway.wait_for_log(lambda line: line["event"] == "audit store failed")
    assert "another file stands in its place" in line["why"]
    failures = [line for line in scene.gateway.log_lines() if line["event"] == "audit store failed"]
    assert len(failures) == 1
    assert "not a database" in scene.command("status", status=1)
    scene.store.unlink()
    wait_until(scene.store.exists, 20, "the new file")
    wait_until(lambda: scene.gateway.metric("mailgate_audit_queue") == 0, 20, "the records")


def test_a_required_audit_keeps_logins_out_until_it_is_back(scene_of: Maker) -> None:
    scene = scene_of("required = true")
    assert scene.imap("carol") == "OK"
    heard = len(scene.upstream.ask("transcript"))
    with scene.locked():
        for mechanism in ("PLAIN", "LOGIN", "CRAM-MD5"):
            code, text = scene.smtp("alice", mechanism)
            assert code == 454 and text.startswith(b"4.7.0"), (code, text)
        assert scene.pop3("bob").startswith("-ERR [SYS/TEMP]")
        assert scene.pop3("bob", apop=True).startswith("-ERR [SYS/TEMP]")
        assert "[UNAVAILABLE]" in scene.imap("carol")
        assert "[UNAVAILABLE]" in scene.imap("carol", sasl=True)
        # Mail without a login comes in all the same.
        with smtplib.SMTP("127.0.0.1", scene.ports["smtp"], timeout=10) as client:
            client.sendmail("a@example.org", ["bob@example.org"], MAIL)
    lines = [line for _, line in scene.upstream.ask("transcript")[heard:]]
    verbs = {word.upper() for line in lines for word in line.split()[:2]}
    # One login of Bob's was let through, before the outage was known.
    assert not verbs & {"AUTH", "APOP", "LOGIN", "AUTHENTICATE"}, lines
    wait_until(lambda: scene.imap("carol") == "OK", 20, "the recovery")
    assert scene.smtp("alice", "PLAIN")[0] == 235
    codes = "SELECT protocol, code FROM logins WHERE outcome = 'error' ORDER BY id"
    wait_until(lambda: len(scene.rows(codes)) >= 7, 10, "the records")
    assert scene.rows(codes)[:7] == [
        *([("smtp", "454 4.7.0")] * 3),
        *([("pop3", "-ERR [SYS/TEMP]")] * 2),  # of USER and of APOP
        *([("imap", "NO [UNAVAILABLE]")] * 2),
    ]


def test_privacy_and_a_reload(scene_of: Maker) -> None:
    scene = scene_of('users = "pseudonym"\npseudonym_key = "FOLDER/pseudonym.key"\naddresses = "prefix"')
    assert scene.imap("carol") == "OK"
    assert scene.smtp("alice", "PLAIN", WRONG.replace("ä", "a"))[0] == 535
    scene.logins(2)
    rows = scene.rows('SELECT "user", user_given, address, network FROM logins ORDER BY id')
    pseudonym = rows[0][0]
    assert pseudonym.startswith("u-") and rows[0][1:] == (pseudonym, "127.0.0.0/24", "127.0.0.0/24")
    assert "carol" in scene.command("resolve", pseudonym)
    assert "unknown, or pruned" in scene.command("resolve", "u-none", status=1)
    stores = b"".join(path.read_bytes() for path in scene.directory.glob("audit.db*"))
    assert b"carol" not in stores and b"127.0.0.1" not in stores
    other = scene.directory / "other.db"
    scene.reconfigure(f'store = "{other}"')
    assert scene.imap("bob") == "OK"
    scene.store = other
    assert [row[2] for row in scene.logins(1)] == ["bob"]
    assert scene.gateway.metric("mailgate_audit_records_total", kind="login") == 3
    assert "not a duration" in scene.command("prune", "--older-than", "x", status=2)
    assert "0 deleted" in scene.command("prune")
    scene.command("prune", "--older-than", "1ms")
    assert scene.rows("SELECT * FROM logins") == []


def test_postgresql(scene_of: Maker, postgres: Postgres) -> None:
    url = postgres.url()
    scene = scene_of(f'store = "{url}"\nrequired = true\n' + CHAINED)
    assert scene.imap("carol") == "OK"
    assert scene.pop3("bob", WRONG).startswith("-ERR")
    wait_until(lambda: json.loads(scene.command("status", "--json"))["logins"] == 2, 10, "the records")
    assert "whole" in scene.command("verify")
    log = scene.gateway.log_path.read_text()
    assert postgres.password not in log
