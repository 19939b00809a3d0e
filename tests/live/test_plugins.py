"""Plugins of the running command: reloads, hangs, processes that die, and stops."""

from __future__ import annotations

import os
import signal
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.plugin import in_share
from tests.demo.conftest import Upstream
from tests.support.gateway import RunningGateway
from tests.support.processes import free_port, wait_until

pytestmark = pytest.mark.live

PLUGIN = """
from __future__ import annotations
import os, time
from pathlib import Path
from gateway.plugin import *

class Doing(Plugin):
    class Options(PluginOptions):
        log: str
        mark: str

    def _note(self, text: str) -> None:
        with Path(self.options.log).open("a") as file:
            file.write(f"{text} {self.options.mark} {os.getpid()}\\n")

    def start(self, services: Services) -> None:
        self._note("start")

    def stop(self) -> None:
        self._note("stop")

    def inspect(self, message: Message, session: SessionRecord) -> Verdict:
        if message.subject == "hang":
            self._note("hang")
            time.sleep(600)
        edits = message.edits()
        edits.add_header("X-Mark", self.options.mark)
        return Modify(edits)
"""


class Scene:
    """A gateway with one SMTP listener and one plugin."""

    def __init__(self, directory: Path, upstream: Upstream) -> None:
        self.directory = directory
        self.upstream = upstream
        self.port = free_port()
        self.log = directory / "plugin.log"
        (directory / "doing.py").write_text(PLUGIN)
        self.gateway: RunningGateway | None = None

    def toml(self, mark: str, table: str = "", limits: str = "") -> str:
        return f"""
[limits]
{limits}
[[upstreams]]
name = "up"
addresses = ["127.0.0.1:{self.upstream.ports["smtp"]}"]
[[listeners]]
name = "mx"
protocol = "smtp"
address = "127.0.0.1:{self.port}"
upstream = "up"
[[plugins]]
name = "doing"
use = "doing.py"
{table}
options = {{ log = "{self.log}", mark = "{mark}" }}
"""

    def start(self, mark: str, table: str = "", limits: str = "") -> RunningGateway:
        self.gateway = RunningGateway(self.toml(mark, table, limits), self.directory)
        return self.gateway

    def reload(self, mark: str, table: str = "", limits: str = "") -> None:
        assert self.gateway is not None
        count = sum(line.get("event") == "reloaded" for line in self.gateway.log_lines())
        tail = self.gateway.configuration.read_text().partition("\n[log]")[2]
        self.gateway.configuration.write_text(self.toml(mark, table, limits) + "\n[log]" + tail)
        self.gateway.reload()
        wait_until(
            lambda: sum(line.get("event") == "reloaded" for line in self.gateway.log_lines()) > count,
            15,
            "the reload",
        )

    def client(self) -> smtplib.SMTP:
        return smtplib.SMTP("127.0.0.1", self.port, timeout=20)

    def notes(self, what: str) -> list[tuple[str, int]]:
        """Return the marks and processes of what the plugin has written down."""
        lines = self.log.read_text().split("\n")[:-1] if self.log.exists() else []
        found = [line.split() for line in lines]
        return [(mark, int(pid)) for kind, mark, pid in found if kind == what]


@pytest.fixture
def scene(tmp_path: Path, upstream: Upstream) -> Iterator[Scene]:
    made = Scene(tmp_path, upstream)
    yield made
    if made.gateway is not None:
        made.gateway.process.stop()


def send(client: smtplib.SMTP, subject: str) -> tuple[int, bytes]:
    """Send a message in a session; return the reply to it."""
    client.ehlo_or_helo_if_needed()
    client.mail("a@example.org")
    client.rcpt("alice@example.org")
    return client.data(f"Subject: {subject}\r\n\r\nHello.\r\n")


def marks(scene: Scene) -> dict[str, str]:
    """Return which mark each delivered message has, by subject."""
    found = {}
    for delivery in scene.upstream.ask("accepted"):
        header = delivery["content"].partition("\r\n\r\n")[0]
        lines = dict(line.split(": ", 1) for line in header.split("\r\n"))
        found[lines["Subject"]] = lines.get("X-Mark", "")
    return found


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_reload_leaves_old_sessions_their_plugins(scene: Scene, isolation: str):
    table = f'isolation = "{isolation}"'
    scene.start("one", table)
    old = scene.client()
    assert send(old, "first")[0] == 250
    scene.reload("two", table)
    new = scene.client()
    assert send(new, "second")[0] == 250
    assert scene.notes("stop") == []
    assert send(old, "third")[0] == 250
    assert marks(scene) == {"first": "one", "second": "two", "third": "one"}
    old.quit()
    wait_until(lambda: [mark for mark, _ in scene.notes("stop")] == ["one"], 15, "the stop")
    assert send(new, "fourth")[0] == 250
    new.quit()
    assert scene.gateway is not None and scene.gateway.stop() == 0
    wait_until(lambda: [mark for mark, _ in scene.notes("stop")] == ["one", "two"], 15, "the stop")


def test_old_sessions_don_t_keep_their_plugins_for_ever(scene: Scene):
    scene.start("one")
    old = scene.client()
    assert send(old, "first")[0] == 250
    scene.reload("two", limits='old_plugins = "100ms"')
    wait_until(lambda: [mark for mark, _ in scene.notes("stop")] == ["one"], 15, "the stop")
    assert send(old, "second")[0] == 250
    assert marks(scene) == {"first": "one", "second": "two"}
    old.quit()


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_plugin_that_hangs_fails_its_own_messages_and_no_stop(scene: Scene, isolation: str):
    table = f'time_limit = "3s"\nisolation = "{isolation}"\nprocesses = 1'
    gateway = scene.start("one", table)
    with scene.client() as first, scene.client() as second:
        assert send(first, "warm")[0] == 250
        for _ in range(2):
            assert send(first, "hang")[0] == 451
        assert send(second, "good")[0] == 250
    line = gateway.wait_for_log(lambda line: line.get("event") == "plugin" and line["result"] == "timeout")
    assert (line["applied"], line["detail"]) == ("defer", "no verdict within 3 s")
    assert gateway.stop() == 0
    assert scene.notes("hang")


def test_a_plugin_in_shadow_tells_what_it_would_have_changed(scene: Scene):
    gateway = scene.start("one", "shadow = true")
    with scene.client() as client:
        assert send(client, "hello")[0] == 250
    line = gateway.wait_for_log(lambda line: line.get("event") == "plugin")
    assert (line["result"], line["applied"]) == ("modify", "shadow")
    assert line["diff"] == ["@@ header", "+X-Mark: one"]
    assert marks(scene) == {"hello": ""}


def test_a_share_is_of_the_same_people_each_time(scene: Scene):
    """Half of the senders, the same after a restart, and all of these in three quarters."""
    people = [f"user{number}@example.org" for number in range(12)]
    chosen = {}
    for share in ("50%", "75%"):
        gateway = scene.start("one", f'share = "{share}"')
        with scene.client() as client:
            client.ehlo()
            for person in people:
                client.mail(person)
                client.rcpt("alice@example.org")
                assert client.data(f"Subject: {share} {person}\r\n\r\nHello.\r\n")[0] == 250
        assert gateway.stop() == 0
        chosen[share] = {one for one in people if marks(scene)[f"{share} {one}"]}
    assert chosen["50%"] == {one for one in people if in_share(one, 0.5, "doing")}
    assert chosen["50%"] < chosen["75%"] == {one for one in people if in_share(one, 0.75, "doing")}


def test_workers_die_with_a_gateway_that_is_killed(scene: Scene):
    gateway = scene.start("one", 'isolation = "process"\nprocesses = 1\ntime_limit = "300s"')
    with scene.client() as client:
        assert send(client, "good")[0] == 250
    other = scene.client()
    other.ehlo()
    other.mail("a@example.org")
    other.rcpt("alice@example.org")
    other.putcmd("data")
    other.getreply()
    other.send(b"Subject: hang\r\n\r\nHello.\r\n.\r\n")
    wait_until(lambda: scene.notes("hang"), 15, "the message in the plugin")
    ((_, pid),) = scene.notes("hang")
    assert pid != gateway.pid
    os.kill(gateway.pid, signal.SIGKILL)
    wait_until(lambda: not _runs(pid), 15, "the worker's end")
    other.close()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_ambiguous_messages_are_quarantined_where_that_is_configured(scene: Scene):
    (scene.directory / "kept").mkdir()
    limits = '[inspection]\ndefects = "quarantine"\n[quarantine]\ndirectory = "kept"'
    gateway = scene.start("one", limits=limits)
    with scene.client() as client:
        client.ehlo()
        client.mail("a@example.org")
        client.rcpt("alice@example.org")
        odd = "Subject: odd\r\nContent-Type: text/plain\r\nContent-Type: text/html\r\n\r\nHello.\r\n"
        assert client.data(odd)[0] == 250
    line = gateway.wait_for_log(lambda line: line.get("event") == "message_ambiguous")
    assert line["applied"] == "quarantine"
    line = gateway.wait_for_log(lambda line: line.get("event") == "message")
    assert line["action"] == "quarantined" and line["quarantine"]
    assert marks(scene) == {} and any((scene.directory / "kept").rglob("*"))


def test_ambiguous_messages_are_refused_where_that_is_configured(scene: Scene):
    """Programs that read two content types differently show parts that no plugin saw."""
    gateway = scene.start("one", limits='[inspection]\ndefects = "reject"')
    with scene.client() as client:
        client.ehlo()
        client.mail("a@example.org")
        client.rcpt("alice@example.org")
        code, words = client.data(
            "Subject: odd\r\nContent-Type: text/plain\r\nContent-Type: text/html\r\n\r\nHello.\r\n"
        )
        assert code == 550 and b"duplicate content type" in words
        assert send(client, "good")[0] == 250
    line = gateway.wait_for_log(lambda line: line.get("event") == "message_ambiguous")
    assert (line["applied"], line["defects"]) == ("reject", ["duplicate_content_type"])
    assert marks(scene) == {"good": "one"}
