"""Every path that a message takes, with plugins asked on each: what none of them changes is the same octets.

In by LMTP and IMAP APPEND, stored in Dovecot, out by POP3 and IMAP.
"""

from __future__ import annotations

import imaplib
import poplib
import re
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.dovecot import Dovecot
from tests.support.gateway import RunningGateway
from tests.support.processes import free_port, wait_until
from tests.support.samples import MESSAGES

pytestmark = pytest.mark.live

PLUGIN = '''
from typing import ClassVar

from gateway.plugin import Modify, Pass, Plugin, PluginOptions, Quarantine, Reject


class Judge(Plugin):
    """Does what the subject says."""

    def inspect(self, message, session):
        message.note("parts", str(sum(1 for _ in message.root.walk())))
        if "change" in message.subject:
            edits = message.edits()
            edits.add_header("X-Judged", str(message.stage))
            return Modify(edits)
        if "refuse" in message.subject:
            return Reject("not for you")
        if "break" in message.subject:
            raise RuntimeError("no verdict")
        return Pass()


class Watcher(Plugin):
    """Only looks."""

    observes: ClassVar[bool] = True

    def inspect(self, message, session):
        message.note("seen", str(message.size))
        return Reject("nobody hears this")
'''
CORPUS = Path(__file__).parent.parent / "inspection" / "corpus"


class Site:
    """A gateway before Dovecot on LMTP, POP3 and IMAP."""

    def __init__(self, directory: Path, dovecot: Dovecot, plugins: str) -> None:
        self.dovecot = dovecot
        (directory / "judge.py").write_text(PLUGIN)
        self.ports = {name: free_port() for name in ("lmtp", "pop3", "imap")}
        toml = f'hostname = "gate.rig.test"\n{plugins.replace("DIR", str(directory))}'
        for name, port in self.ports.items():
            toml += f"""
[[upstreams]]
name = "{name}"
addresses = ["127.0.0.1:{dovecot.ports[name]}"]
tls = "none"
[[listeners]]
name = "{name}"
protocol = "{name}"
address = "127.0.0.1:{port}"
upstream = "{name}"
"""
            if name == "pop3" and "verdicts" in plugins:
                toml += "[listeners.pop3]\nexact_sizes = true\n"
        self.gateway = RunningGateway(toml, directory)

    def deliver(self, message: bytes) -> None:
        with smtplib.LMTP("127.0.0.1", self.ports["lmtp"]) as client:
            client.sendmail("sender@example.org", ["alice@rig.test"], message)

    def pop(self) -> poplib.POP3:
        client = poplib.POP3("127.0.0.1", self.ports["pop3"], timeout=20)
        client.user("alice")
        client.pass_(self.dovecot.users["alice"])
        return client

    def imap(self) -> imaplib.IMAP4:
        client = imaplib.IMAP4("127.0.0.1", self.ports["imap"], timeout=20)
        client.login("alice", self.dovecot.users["alice"])
        return client


JUDGE = """
[[plugins]]
name = "judge"
use = "DIR/judge.py:Judge"
stages = ["data", "append", "retr", "fetch"]
"""
WATCH = """
[[plugins]]
name = "watcher"
use = "DIR/judge.py:Watcher"
stages = ["data", "append", "retr", "fetch"]
"""


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path: Path, dovecot: Dovecot) -> Iterator[Site]:
    dovecot.empty("alice")
    stage = Site(tmp_path, dovecot, getattr(request, "param", JUDGE))
    yield stage
    assert stage.gateway.stop() == 0


def retrieved(client: poplib.POP3, number: int) -> bytes:
    return b"".join(line + b"\r\n" for line in client.retr(number)[1])


def corpus() -> list[bytes]:
    """Real and broken messages, with the line ends of the wire, as a server can take them."""
    files = sorted(path for path in CORPUS.rglob("*") if path.suffix in (".eml", ".msg"))
    found = [re.sub(rb"\r?\n|\r", b"\r\n", path.read_bytes()) for path in files]
    return [one for one in found if b"\0" not in one and one.strip()]


def whole_lines(message: bytes) -> bytes:
    return message if message.endswith(b"\r\n") else message + b"\r\n"


def test_octets_that_nobody_changes_are_the_same_on_every_path(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poplib, "_MAXLINE", 1 << 20)
    messages = [*MESSAGES, *corpus()]
    messages = [one for one in messages if b"change" not in one and b"refuse" not in one]
    assert len(messages) > 10
    for message in messages:
        site.deliver(message)
    with site.imap() as client:
        for message in messages:
            client.append("INBOX", None, None, message)
        client.select("INBOX")
        whole = [client.fetch(str(n), "(BODY.PEEK[])")[1][0][1] for n in range(1, 2 * len(messages) + 1)]
        halves = [
            b"".join(client.fetch(str(n), f"(BODY.PEEK[{part}])")[1][0][1] for part in ("HEADER", "TEXT"))
            for n in range(1, 2 * len(messages) + 1)
        ]
    assert halves == whole
    client = site.pop()
    try:
        popped = [retrieved(client, n) for n in range(1, 2 * len(messages) + 1)]
    finally:
        client.quit()
    for number, message in enumerate(messages):
        # Dovecot puts its trace fields before what LMTP gave it.
        assert whole[number].endswith(whole_lines(message))
        assert whole[len(messages) + number] == message
    assert popped == [whole_lines(message) for message in whole]


def test_every_verdict_on_every_path(site: Site) -> None:
    for word in ("change", "refuse", "break"):
        message = f"Subject: {word} it\r\n\r\nThe text of {word}.\r\n".encode()
        # Past the gateway, so that it is there to be fetched.
        with imaplib.IMAP4("127.0.0.1", site.dovecot.ports["imap"], timeout=20) as direct:
            direct.login("alice", site.dovecot.users["alice"])
            direct.append("INBOX", None, None, message)
        with site.imap() as client:
            status, answer = client.append("INBOX", None, None, message)
            assert (status, b"UNAVAILABLE" in answer[0]) == {
                "change": ("OK", False),
                "refuse": ("NO", False),
                "break": ("NO", True),
            }[word]
        with smtplib.LMTP("127.0.0.1", site.ports["lmtp"]) as lmtp:
            lmtp.ehlo_or_helo_if_needed()
            lmtp.mail("a@example.org")
            lmtp.rcpt("alice@rig.test")
            assert lmtp.data(message)[0] == {"change": 250, "refuse": 550, "break": 451}[word]
    # In the mailbox: changed by APPEND and by LMTP besides the three that went past.
    client = site.pop()
    texts = {}
    for number in range(1, client.stat()[0] + 1):
        try:
            texts[number] = retrieved(client, number)
        except poplib.error_proto as error:
            texts[number] = str(error).encode()
    seen = b"\n".join(texts.values())
    assert seen.count(b"X-Judged: retr") == 3 and b"X-Judged: append" in seen and b"X-Judged: data" in seen
    assert seen.count(b"Reason: not for you") == 1 and b"text of refuse" not in seen
    broken = next(number for number, text in texts.items() if b"SYS/TEMP" in text)
    with pytest.raises(poplib.error_proto, match="not delivered"):
        client.dele(broken)
    head = b"\r\n".join(client.top(1, 0)[1])
    assert b"X-Judged: retr" in head and b"The text" not in head
    refused = next(number for number, text in texts.items() if b"not for you" in text)
    assert b"text of refuse" not in b"\r\n".join(client.top(refused, 99)[1])
    client.quit()


@pytest.mark.parametrize("site", [WATCH], indirect=True)
def test_watched_messages_stream_and_are_seen(site: Site) -> None:
    """What only looks holds nothing up and changes nothing; its word is in the log."""
    message = MESSAGES[0]
    site.deliver(message)
    with site.imap() as client:
        client.append("INBOX", None, None, message)
        client.select("INBOX")
        assert client.fetch("2", "(BODY.PEEK[])")[1][0][1] == message
    client = site.pop()
    assert retrieved(client, 2) == message
    client.quit()

    def runs() -> list[dict[str, object]]:
        return [line for line in site.gateway.log_lines() if line.get("event") == "plugin"]

    wait_until(lambda: len(runs()) >= 4, 10, "the plugin's runs")
    assert {(run["stage"], run["applied"]) for run in runs()} == {
        (stage, "shadow") for stage in ("data", "append", "fetch", "retr")
    }
    held = [line for line in site.gateway.log_lines() if line.get("event") == "message"]
    assert held and all(line["held"] is False for line in held)


def appended(client: imaplib.IMAP4, *subjects: str, mark: str = "+") -> str:
    """Append several messages with one command; return its status."""
    wire = client.sock.makefile("rwb")
    wire.write(b"multi APPEND INBOX (\\Seen)")
    for subject in subjects:
        message = f"Subject: {subject}\r\n\r\nbody of {subject}\r\n".encode()
        wire.write(b" {%d%s}\r\n" % (len(message), mark.encode()))
        if not mark:
            wire.flush()
            answer = wire.readline()
            if not answer.startswith(b"+"):
                assert answer.startswith(b"multi "), answer
                return answer.decode().split(" ", 1)[1]
        wire.write(message)
    wire.write(b"\r\n")
    wire.flush()
    while not (line := wire.readline()).startswith(b"multi "):
        assert line, "closed"
    return line.decode().split(" ", 1)[1]


@pytest.mark.parametrize("mark", ["+", ""], ids=["unasked", "asked"])
def test_messages_of_one_append_stand_or_fall_together(site: Site, mark: str) -> None:
    with site.imap() as client:
        assert "MULTIAPPEND" in client.capability()[1][0].decode()
        assert appended(client, "one", "please change two", "three", mark=mark).startswith("OK")
        assert client.select() == ("OK", [b"3"])
        assert client.fetch("1:3", "FLAGS")[1][0] == b"1 (FLAGS (\\Seen \\Recent))"
        assert b"X-Judged: append" in client.fetch("2", "BODY.PEEK[HEADER]")[1][0][1]
        told = appended(client, "four", "please refuse five", "six", "seven", mark=mark)
        assert told.startswith("NO [CANNOT] not for you")
        told = appended(client, "please refuse eight", "nine", mark=mark)
        assert told.startswith("NO [CANNOT] not for you")
        told = appended(client, "ten", "please break eleven", mark=mark)
        assert told.startswith("NO [UNAVAILABLE]")
        assert client.noop()[0] == "OK"
        assert client.select() == ("OK", [b"3"])


EXACT = """
[views]
verdicts = "DIR/verdicts.db"
""" + JUDGE.replace('"data", "append", "retr", "fetch"', '"retr"')


@pytest.mark.parametrize("site", [EXACT], indirect=True)
def test_pop3_lists_the_sizes_of_the_messages_that_it_gives(site: Site) -> None:
    for subject in ("one", "please change two", "please refuse three"):
        site.deliver(f"Subject: {subject}\r\n\r\nbody\r\n".encode())
    client = site.pop()
    count, total = client.stat()
    listed = dict(tuple(map(int, line.split())) for line in client.list()[1])
    sizes = {number: len(retrieved(client, number)) for number in listed}
    assert (count, listed, total) == (3, sizes, sum(sizes.values()))
    client.quit()

    def remembered() -> bool:
        """Ask again; tell whether that was answered without a message being judged."""

        def judged() -> int:
            return sum(line["event"] == "message" for line in site.gateway.log_lines())

        before = judged()
        again = site.pop()
        assert again.stat() == (count, total)
        again.quit()
        return judged() == before

    wait_until(remembered, 15, "sizes that are remembered")
