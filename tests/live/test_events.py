"""Events out of the running command: to a file, a real syslog server by TCP and TLS, and a webhook."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import http.server
import imaplib
import json
import os
import poplib
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.demo.certificates import Authority
from tests.cli.support import mailgate
from tests.conftest import need
from tests.demo.conftest import Upstream
from tests.support.gateway import RunningGateway
from tests.support.leaks import leaks, remember
from tests.support.processes import free_port, wait_until
from tests.support.syslog import Rsyslog

pytestmark = pytest.mark.live

WRONG = "Wr0ng-hunter2-password"
remember([WRONG])


class Hook:
    """An HTTPS receiver that fails twice, then takes batches whose signature is right."""

    def __init__(self, authority: Authority, secret: bytes) -> None:
        hook = self
        self.failures = 2
        self.taken: list[Any] = []
        self.tokens: set[str] = set()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + body
                right = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
                hook.tokens.add(self.headers["Authorization"])
                if hook.failures:
                    hook.failures -= 1
                    self.send_response(503)
                elif self.headers["webhook-signature"] != f"v1,{right}":
                    self.send_response(401)
                else:
                    hook.taken += json.loads(body)
                    self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *arguments: object) -> None: ...

        pair = authority.issue("hook", ["127.0.0.1"])
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(pair.certificate, pair.key)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


class Scene:
    def __init__(self, directory: Path, upstream: Upstream, authority: Authority) -> None:
        need("rsyslogd")
        self.directory, self.upstream = directory, upstream
        secret = directory / "hook.key"
        secret.write_text(os.urandom(32).hex())
        secret.chmod(0o600)
        (directory / "hook.token").write_text("t0ken-of-the-hook\n")
        self.hook = Hook(authority, secret.read_bytes())
        self.syslog = Rsyslog(directory, authority)
        self.events = directory / "events.json"
        self.ports = {name: free_port() for name in ("imap", "pop3")}
        self.before = f"""
hostname = "gate.example.org"
[admin]
address = "127.0.0.1:{free_port()}"
"""
        self.outputs = f"""
[[events]]
name = "local"
file = {{ path = "{self.events}", max_size = "10 kB", keep = 50 }}
[[events]]
name = "plain"
syslog = {{ address = "127.0.0.1:{self.syslog.ports["tcp"]}", tls = false, facility = "local0" }}
[[events]]
name = "secure"
[events.syslog]
address = "127.0.0.1:{self.syslog.ports["tls"]}"
ca = "{authority.certificate}"
server_name = "siem.example.org"
facility = "local1"
[[events]]
name = "hook"
what = ["logins"]
[events.webhook]
url = "{self.hook.url}"
secret = "hook.key"
token = "hook.token"
ca = "{authority.certificate}"
"""
        self.after = ""
        for name, port in self.ports.items():
            self.after += f"""
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
        self.gateway = RunningGateway(self.before + self.outputs + self.after, directory)

    def close(self) -> None:
        self.gateway.stop()
        self.syslog.stop()
        self.hook.close()

    def reconfigure(self, outputs: str) -> None:
        log = self.gateway.configuration.read_text().rpartition("[log]")[2]
        self.gateway.configuration.write_text(self.before + outputs + self.after + "[log]" + log)
        self.gateway.reload()
        self.gateway.wait_for_log(lambda line: line["event"] == "reloaded")

    def imap(self, user: str = "alice", password: str = "") -> None:
        with (
            imaplib.IMAP4("127.0.0.1", self.ports["imap"], timeout=10) as client,
            contextlib.suppress(imaplib.IMAP4.error),
        ):
            client.login(user, password or self.upstream.users[user])

    def pop3(self) -> None:
        client = poplib.POP3("127.0.0.1", self.ports["pop3"], timeout=10)
        client.user("bob")
        client.pass_(self.upstream.users["bob"])
        client.quit()

    def in_files(self) -> list[Any]:
        """Return what the file, and those before it, hold; the oldest first."""
        old = sorted(self.directory.glob("events.json.*"), key=lambda path: -int(path.suffix[1:]))
        return [json.loads(line) for path in (*old, self.events) for line in path.read_text().splitlines()]

    def in_syslog(self, facility: int) -> list[Any]:
        return [told for priority, _, told in self.syslog.kept() if priority // 8 == facility]

    def idents(self, where: list[Any]) -> set[str]:
        return {one["event"]["id"] for one in where if one["event"]["action"] == "login"}


@pytest.fixture
def scene(tmp_path: Path, upstream: Upstream, authority: Authority) -> Iterator[Scene]:
    made = Scene(tmp_path, upstream, authority)
    yield made
    made.close()


def test_every_login_goes_everywhere(scene: Scene) -> None:
    for _ in range(10):
        scene.imap()
        scene.pop3()
    scene.imap(password=WRONG)
    wait_until(lambda: len(scene.idents(scene.in_files())) == 21, 15, "the files")
    logins = scene.idents(scene.in_files())
    for where in (lambda: scene.in_syslog(16), lambda: scene.in_syslog(17), lambda: scene.hook.taken):
        wait_until(lambda where=where: scene.idents(where()) == logins, 20, "the same elsewhere")
    # Exchanged at 10 kB, and nothing lost at the seams.
    assert len(list(scene.directory.glob("events.json*"))) > 1
    assert all(path.stat().st_size <= 10_000 for path in scene.directory.glob("events.json*"))
    failed = [one for one in scene.hook.taken if one["event"]["outcome"] == "failure"]
    assert [(one["user"]["name"], one["source"]["ip"]) for one in failed] == [("alice", "127.0.0.1")]
    # Security events go where they are wanted; what an outlet's trouble was is one of them.
    kinds = {ident for _, ident, _ in scene.syslog.kept()}
    assert {"login", "password_exposed", "audit_lost"} <= kinds
    assert {one["event"]["action"] for one in scene.hook.taken} == {"login"}
    assert scene.hook.tokens == {"Bearer t0ken-of-the-hook"}
    for output in ("local", "plain", "secure", "hook"):
        assert scene.gateway.metric("mailgate_events_sent_total", output=output) >= 21
        assert scene.gateway.metric("mailgate_events_lost_total", output=output) == 0
    everything = b"".join(path.read_bytes() for path in scene.directory.rglob("*") if path.is_file())
    everything += json.dumps(scene.hook.taken).encode() + scene.gateway.get("/metrics").encode()
    assert not leaks(everything)


def test_nothing_is_lost_while_a_server_is_away(scene: Scene) -> None:
    scene.imap()
    wait_until(lambda: len(scene.idents(scene.in_syslog(17))) == 1, 15, "the first login")
    scene.syslog.stop()
    for _ in range(5):
        scene.imap()
    for output in ("plain", "secure"):
        line = scene.gateway.wait_for_log(
            lambda line, output=output: line["event"] == "events output failed" and line["output"] == output
        )
        assert "Connection refused" in line["why"]
    assert scene.gateway.metric("mailgate_events_queue", output="plain") >= 1
    scene.syslog.start()
    for facility in (16, 17):
        wait_until(lambda f=facility: len(scene.idents(scene.in_syslog(f))) == 6, 60, "all of them")
    told = [line for line in scene.gateway.log_lines() if line["event"] == "events output failed"]
    assert len([line for line in told if line["output"] != "hook"]) == 2  # once each, however often tried


def test_a_reload_exchanges_outputs_and_keeps_those_that_are_the_same(scene: Scene) -> None:
    scene.imap()
    wait_until(lambda: len(scene.idents(scene.hook.taken)) == 1, 15, "the first login")
    kept, _, rest = scene.outputs.partition('[[events]]\nname = "plain"')
    assert rest
    scene.reconfigure(kept.replace('"10 kB"', '"1 MB"'))
    scene.imap()
    wait_until(lambda: len(scene.idents(scene.in_files())) == 2, 15, "the second login")
    assert len(scene.idents(scene.hook.taken)) == 1
    assert {
        dict(labels)["output"]
        for (name, labels) in scene.gateway.metrics()
        if name == "mailgate_events_queue"
    } == {"local"}
    assert scene.gateway.metric("mailgate_events_sent_total", output="local") >= 2


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    (tmp_path / "short.key").write_text("short")
    text = """
[[upstreams]]
name = "imap"
addresses = ["127.0.0.1:1143"]
[[listeners]]
name = "imap"
protocol = "imap"
address = "127.0.0.1:2143"
upstream = "imap"
"""
    for table, said in (
        ('name = "a"', "events[0]: needs one of file, syslog, webhook"),
        ('name = "a"\nfile = { path = "none/x" }', "events[0].file.path: no such folder"),
        ('name = "a"\nfile = { path = "x", size = 1 }', "events[0].file.size: unknown"),
        (
            'name = "a"\nsyslog = { address = "192.0.2.1:514", tls = false }',
            "syslog.tls: everybody",
        ),
        ('name = "a"\nsyslog = { address = "192.0.2.1" }', "events[0].syslog.address: no port"),
        ('name = "a"\nwebhook = { url = "http://192.0.2.1/" }', "events[0].webhook.url: everybody"),
        ('name = "a"\nwebhook = { url = "gopher://x/" }', "events[0].webhook.url: not the URL"),
        ('name = "a"\nwebhook = { url = "https://u:p@x/" }', "events[0].webhook.url: not the URL"),
        ('name = "a"\nwebhook = { url = "http://127.0.0.1/", secret = "short.key" }', "a key has 32 octets"),
        (
            'name = "a"\nwebhook = { url = "http://127.0.0.1/", headers = { "a b" = "" } }',
            "not a header field",
        ),
        ('name = "a"\nwhat = []\nfile = { path = "x" }', "events[0].what"),
    ):
        path = tmp_path / "mailgate.toml"
        path.write_text(text + "[[events]]\n" + table + "\n")
        assert said in mailgate("check", "-c", path).stderr, table
