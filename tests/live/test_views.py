"""Rewritten messages by IMAP: whatever a client fetches, it sees one message.

Dovecot is the oracle: what clients see of a whole message through the gateway is put into a
second mailbox, and every way of fetching pieces must give through the gateway what Dovecot
itself answers on that one.
"""

from __future__ import annotations

import imaplib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from imapclient import IMAPClient

from tests.conftest import need
from tests.support.dovecot import Dovecot
from tests.support.gateway import RunningGateway
from tests.support.processes import free_port
from tests.support.samples import ENCLOSED, HEADER_ONLY, MESSAGES, MIXED, NO_BLANK_LINE

pytestmark = pytest.mark.live

PLUGIN = '''
from gateway.plugin import Modify, Pass, Plugin, Reject


class Rewrite(Plugin):
    """Tags the subject and adds to the text; leaves alone what says so."""

    def inspect(self, message, session):
        if "keep" in message.subject:
            return Pass()
        if "refuse" in message.subject:
            return Reject("not for you")
        if "break" in message.subject:
            raise RuntimeError("no verdict")
        edits = message.edits()
        edits.set_header("Subject", "[ext] " + message.subject)
        edits.add_header("X-Seen", session.user + " by mailgate")
        for part in message.root.walk():
            if part.content_type == "text/plain" and message.may_edit(part) and not part.is_attachment:
                edits.append_text(part, "\\nThis text is ours: \\u00e4\\u00f6\\u00fc.\\n")
                break
        return Modify(edits)
'''
#: Every form in which clients were seen to fetch.
FORMS: list[list[str]] = [
    ["RFC822.SIZE"],
    ["ENVELOPE"],
    ["BODY"],
    ["BODYSTRUCTURE"],
    ["FLAGS", "RFC822.SIZE", "ENVELOPE", "BODYSTRUCTURE"],
    ["RFC822.HEADER"],
    ["BODY.PEEK[HEADER]"],
    ["BODY.PEEK[HEADER.FIELDS (SUBJECT FROM TO DATE X-SEEN)]"],
    ["BODY.PEEK[HEADER.FIELDS.NOT (SUBJECT RECEIVED)]"],
    ["BODY.PEEK[TEXT]"],
    ["BODY.PEEK[1]"],
    ["BODY.PEEK[1.MIME]"],
    ["BODY.PEEK[2]"],
    ["BODY.PEEK[2.MIME]"],
    ["BODY.PEEK[2.HEADER]"],
    ["BODY.PEEK[2.TEXT]"],
    ["BODY.PEEK[1.1]"],
    ["BODY.PEEK[1.2]"],
    ["BODY.PEEK[2.1]"],
    ["BODY.PEEK[3]"],
    ["BODY.PEEK[9]"],
    ["BODY.PEEK[]<0.100>"],
    ["BODY.PEEK[]<100.100>"],
    ["BODY.PEEK[]<100000.100>"],
    ["BODY.PEEK[TEXT]<3.10>"],
    ["BODY.PEEK[1]<0.5>"],
    ["BODY.PEEK[]", "RFC822.SIZE"],
    ["BODY.PEEK[]", "BODYSTRUCTURE", "ENVELOPE"],
    ["BODY.PEEK[]", "BODY.PEEK[HEADER.FIELDS (SUBJECT)]"],
    ["RFC822.SIZE", "BODY.PEEK[HEADER]", "BODY.PEEK[TEXT]"],
    ["RFC822"],
    ["RFC822.TEXT"],
    ["BODY[]"],
    ["BODY[1]", "BODY[]"],
    # Thunderbird
    [
        "UID",
        "RFC822.SIZE",
        "FLAGS",
        "BODY.PEEK[HEADER.FIELDS (From To Cc Bcc Subject Date Message-ID Priority X-Priority "
        "References Newsgroups In-Reply-To Content-Type Reply-To)]",
    ],
    ["UID", "RFC822.SIZE", "BODY.PEEK[]"],
    ["BODY.PEEK[HEADER]", "BODY.PEEK[1.MIME]", "BODY.PEEK[1]"],
    # Apple Mail
    [
        "INTERNALDATE",
        "UID",
        "RFC822.SIZE",
        "FLAGS",
        "BODY.PEEK[HEADER.FIELDS (date subject from to cc message-id in-reply-to references)]",
    ],
    ["BODYSTRUCTURE", "BODY.PEEK[HEADER]"],
    ["BODY.PEEK[]<0.131072>"],
    # Outlook
    ["UID", "FLAGS", "RFC822.SIZE", "RFC822.HEADER", "INTERNALDATE"],
    # K-9 Mail
    ["UID", "BODYSTRUCTURE"],
    ["UID", "BODY.PEEK[TEXT]<0.32768>"],
    # Jakarta Mail, and libraries of Node
    ["ENVELOPE", "INTERNALDATE", "RFC822.SIZE", "FLAGS", "BODYSTRUCTURE", "UID"],
    ["UID", "RFC822.SIZE", "BODY.PEEK[1.MIME]", "BODY.PEEK[1]<0.4096>"],
    ["UID", "FLAGS", "BODYSTRUCTURE", "ENVELOPE", "RFC822.SIZE", "BODY.PEEK[]"],
]


#: Dovecot gives a multipart (or message) within another the line end of the delimiter behind it,
#: which RFC 2046 5.1.1 gives to the delimiter: sizes differ by two.
KEEPS_LINE_END = (MIXED, ENCLOSED)


def _tells_parts(form: list[str]) -> bool:
    return any(item.startswith("BODY") and "[]" not in item and "HEADER" not in item for item in form)


class Scene:
    """A gateway that rewrites what clients fetch, before Dovecot."""

    def __init__(self, directory: Path, dovecot: Dovecot, extra: str = "", port: int = 0) -> None:
        """port: of the upstream; Dovecot's if absent."""
        self.dovecot = dovecot
        self.directory = directory
        self.port = free_port()
        (directory / "rewrite.py").write_text(PLUGIN)
        self.toml = f"""
hostname = "gate.rig.test"
[views]
verdicts = "{directory / "verdicts.db"}"
[[upstreams]]
name = "store"
addresses = ["127.0.0.1:{port or dovecot.ports["imap"]}"]
tls = "none"
[[listeners]]
name = "imap"
protocol = "imap"
address = "127.0.0.1:{self.port}"
upstream = "store"
[listeners.imap]
judge_listings = 30
[[plugins]]
name = "rewrite"
use = "{directory / "rewrite.py"}"
stages = ["fetch"]
{extra}
"""
        self.gateway = RunningGateway(self.toml, directory)

    def restart(self) -> None:
        self.gateway.stop()
        self.gateway = RunningGateway(self.toml, self.directory)

    def through(self, mailbox: str = "Originals", user: str = "alice") -> IMAPClient:
        return self._open(self.port, mailbox, user)

    def direct(self, mailbox: str, user: str = "alice") -> IMAPClient:
        return self._open(self.dovecot.ports["imap"], mailbox, user)

    def _open(self, port: int, mailbox: str, user: str) -> IMAPClient:
        client = IMAPClient("127.0.0.1", port, ssl=False, timeout=20)
        client.login(user, self.dovecot.users[user])
        if not client.folder_exists(mailbox):
            client.create_folder(mailbox)
        client.select_folder(mailbox)
        return client

    def fill(self, mailbox: str, messages: list[bytes]) -> None:
        with self.direct(mailbox) as client:
            for message in messages:
                client.append(mailbox, message)


@pytest.fixture(scope="module")
def filled(dovecot: Dovecot) -> Iterator[Dovecot]:
    yield dovecot


@pytest.fixture
def scene(tmp_path: Path, dovecot: Dovecot) -> Iterator[Scene]:
    dovecot.empty("alice")
    stage = Scene(tmp_path, dovecot)
    yield stage
    assert stage.gateway.stop() == 0


def plain(answer: dict[int, dict[bytes, Any]]) -> list[dict[bytes, Any]]:
    """Return what was told of each message, in order, without what two mailboxes never share."""
    ignored = (b"SEQ", b"UID", b"INTERNALDATE", b"FLAGS")
    # A part that is not there is NIL, or an empty string.
    return [{k: v or b"" for k, v in answer[uid].items() if k not in ignored} for uid in sorted(answer)]


@pytest.mark.parametrize("first", ["whole", "pieces"])
def test_every_piece_is_of_one_message(scene: Scene, first: str) -> None:
    scene.fill("Originals", MESSAGES)
    if first == "pieces":
        with scene.through() as client:
            early = {str(form): plain(client.fetch(client.search(), form)) for form in FORMS}
    with scene.through() as client:
        whole = client.fetch(client.search(), ["BODY.PEEK[]"])
    rewritten = [whole[uid][b"BODY[]"] for uid in sorted(whole)]
    assert len(rewritten) == len(MESSAGES)
    assert sum(b"[ext]" in message for message in rewritten) > len(MESSAGES) // 2
    scene.fill("Rewritten", rewritten)
    differences = []
    with scene.through() as client, scene.direct("Rewritten") as oracle:
        for form in FORMS:
            wanted = plain(oracle.fetch(oracle.search(), form))
            got = plain(client.fetch(client.search(), form))
            for message, one, other in zip(MESSAGES, got, wanted, strict=True):
                if one != other and not (message in KEEPS_LINE_END and _tells_parts(form)):
                    differences.append(f"{form} of {message[:60]!r}:\n  {one}\n  {other}")
            if first == "pieces":
                assert early[str(form)] == got, f"{form}, before any whole one was fetched"
    assert not differences, "\n".join(differences)


def raw(client: imaplib.IMAP4, command: str, *arguments: str) -> tuple[str, list[Any]]:
    """Give a command and return its status, and what came for FETCH."""
    status, _ = client._simple_command(command, *arguments)
    return status, client.untagged_responses.pop("FETCH", [])


@pytest.fixture
def client(scene: Scene) -> Iterator[imaplib.IMAP4]:
    with imaplib.IMAP4("127.0.0.1", scene.port, timeout=20) as connection:
        connection.login("alice", scene.dovecot.users["alice"])
        yield connection


def test_by_sequence_number_and_without_a_uid_that_nobody_asked_for(
    scene: Scene, client: imaplib.IMAP4
) -> None:
    scene.fill("INBOX", MESSAGES[:3])
    client.select("INBOX")
    _, data = client.fetch("2", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
    assert data[0] == (
        b"2 (BODY[HEADER.FIELDS (SUBJECT)] {18}",
        b"Subject: [ext]\r\n\r\n",
    )
    assert b"UID" not in data[1]
    _, data = client.fetch("1", "RFC822.SIZE")
    size = int(data[0].split()[-1].rstrip(b")"))
    _, data = client.fetch("1", "RFC822")
    assert len(data[0][1]) == size and b"UID" not in data[0][0] + data[1]


def test_a_gateway_before_a_gateway(scene: Scene, tmp_path: Path) -> None:
    """Both ask the next one in the same way."""
    scene.fill("Originals", MESSAGES)
    (tmp_path / "before").mkdir()
    before = Scene(tmp_path / "before", scene.dovecot, port=scene.port)
    try:
        with scene.through() as one, before.through() as other:
            for form in ["BODY.PEEK[TEXT]<0.10>"], ["ENVELOPE", "RFC822.SIZE"], ["BODY.PEEK[]"]:
                once, twice = plain(one.fetch(one.search(), form)), plain(other.fetch(other.search(), form))
                assert len(once) == len(twice) == len(MESSAGES)
            marks = [str(messages).count("X-Seen: ") for messages in (once, twice)]
            assert marks[1] == 2 * marks[0] > 0
    finally:
        assert before.gateway.stop() == 0


def test_partials_put_together(scene: Scene, client: imaplib.IMAP4) -> None:
    """Chunks as large clients fetch them, to the end and past it, are the whole."""
    scene.fill("INBOX", MESSAGES)
    client.select("INBOX")
    number = MESSAGES.index(next(m for m in MESSAGES if b"Subject: large" in m)) + 1
    whole, step = b"", 30_000
    while True:
        _, data = client.fetch(str(number), f"(BODY.PEEK[]<{len(whole)}.{step}>)")
        piece = data[0][1] if isinstance(data[0], tuple) else b""
        whole += piece
        if len(piece) < step:
            break
    _, data = client.fetch(str(number), "(BODY.PEEK[] RFC822.SIZE)")
    assert data[0][1] == whole and whole.count(b"This text is ours") == 1


def test_seen_is_set_when_the_clients_own_fetch_would(scene: Scene, client: imaplib.IMAP4) -> None:
    scene.fill("INBOX", MESSAGES[:4])
    client.select("INBOX")

    def seen() -> list[bool]:
        _, data = client.fetch("1:4", "FLAGS")
        return [b"Seen" in line for line in data]

    client.fetch("1", "(RFC822.SIZE BODYSTRUCTURE)")
    client.fetch("2", "(BODY.PEEK[1])")
    assert seen() == [False] * 4
    client.fetch("2", "(BODY[1])")
    client.fetch("3", "(RFC822)")
    client.fetch("4", "(BODY[TEXT]<0.1>)")
    assert seen() == [False, True, True, True]


def test_a_refused_message_is_a_notice_everywhere(scene: Scene, client: imaplib.IMAP4) -> None:
    scene.fill("INBOX", [b"Subject: refuse me\r\n\r\nThe forbidden word.\r\n", MESSAGES[0]])
    client.select("INBOX")
    for items in ("(BODY.PEEK[])", "(BODY.PEEK[TEXT])", "(BODY.PEEK[HEADER])", "(ENVELOPE)", "(RFC822)"):
        _, data = client.fetch("1", items)
        assert b"forbidden" not in repr(data).encode() and b"refuse me" not in repr(data).encode()
    _, data = client.fetch("1", "(BODY.PEEK[] RFC822.SIZE)")
    assert b"Reason: not for you" in data[0][1]
    assert f"RFC822.SIZE {len(data[0][1])}".encode() in data[0][0] + data[1]


def test_what_can_not_be_judged_is_left_out(scene: Scene, client: imaplib.IMAP4) -> None:
    """A notice would stay in the client's cache for ever; the others are delivered all the same."""
    scene.fill("INBOX", [MESSAGES[0], b"Subject: break me\r\n\r\nx\r\n", MESSAGES[7]])
    client.select("INBOX")
    for items in ("(BODY.PEEK[])", "(BODY.PEEK[TEXT])", "(RFC822.SIZE)"):
        status, data = raw(client, "FETCH", "1:3", items)
        numbers = [int((one[0] if isinstance(one, tuple) else one).split()[0]) for one in data if one != b")"]
        assert status == "NO" and numbers == [1, 3], items
    _, data = client.fetch("1", "(BODY.PEEK[])")
    assert b"[ext]" in data[0][1]


def test_one_uid_one_content_for_ever(scene: Scene) -> None:
    """Neither a restart nor a new version of the plugin changes what was seen once."""
    scene.fill("Originals", MESSAGES)
    with scene.through() as client:
        before = client.fetch(client.search(), ["BODY.PEEK[]"])
    code = scene.directory / "rewrite.py"
    code.write_text(code.read_text().replace("This text is ours", "Another text"))
    scene.restart()
    scene.fill("Originals", [MESSAGES[0].replace(b"hello", b"new")])
    with scene.through() as client:
        after = client.fetch(client.search(), ["BODY.PEEK[TEXT]"])
        for uid, answer in before.items():
            assert answer[b"BODY[]"].endswith(after[uid][b"BODY[TEXT]"])
        assert b"Another text" in after[max(after)][b"BODY[TEXT]"]


def test_a_long_listing_does_not_fetch_the_mailbox(scene: Scene, client: imaplib.IMAP4) -> None:
    large = next(message for message in MESSAGES if b"Subject: large" in message)
    scene.fill("INBOX", [large] * 31)
    client.select("INBOX")
    _, data = client.fetch("1:*", "(RFC822.SIZE)")
    assert len(data) == 31
    sizes = {int(line.split()[-1].rstrip(b")")) for line in data}
    assert sizes == {len(large)}, "the server's own: nobody has judged them"
    client.fetch("5", "(BODY.PEEK[])")
    _, data = client.fetch("1:*", "(RFC822.SIZE)")
    sizes = [int(line.split()[-1].rstrip(b")")) for line in data]
    assert sizes[4] > len(large) and set(sizes[:4] + sizes[5:]) == {len(large)}
    client.logout()
    line = scene.gateway.wait_for_log(lambda line: line.get("event") == "session")
    assert line["bytes_from_upstream"] < 3 * len(large)


def read_to(sock: Any, end: bytes, lines: list[bytes]) -> None:
    """Read lines and literals up to a tagged line."""
    while not lines or not lines[-1].startswith(end):
        lines.append(sock.readline())
        while lines[-1].rstrip().endswith(b"}"):
            size = int(lines[-1].rstrip()[lines[-1].rstrip().rindex(b"{") + 1 : -1])
            lines.append(sock.read(size))
            lines.append(sock.readline())


def test_pipelined_fetches_and_an_expunge_in_between(scene: Scene) -> None:
    scene.fill("INBOX", MESSAGES[:6])
    with scene.through("INBOX") as client, scene.direct("INBOX") as other:
        sock = client._imap
        for tag, command in (
            ("p1", "FETCH 1:3 (BODY.PEEK[1])"),
            ("p2", "UID FETCH 4:6 (UID RFC822.SIZE)"),
            ("p3", "FETCH 2 (BODY.PEEK[])"),
            ("p4", "NOOP"),
        ):
            sock.send(f"{tag} {command}\r\n".encode())
        lines: list[bytes] = []
        read_to(sock, b"p1 ", lines)
        # Now, and not before: of what is gone while it is fetched Dovecot says NO.
        other.delete_messages([other.search()[0]])
        other.expunge()
        read_to(sock, b"p4 ", lines)
        tagged = [line for line in lines if line[:1] == b"p" and line[2:3] == b" "]
        assert [line.split()[1] for line in tagged] == [b"OK"] * 4
        assert sum(b"FETCH" in line and b"BODY[1]" in line for line in lines) == 3
        assert sum(b"FETCH" in line and b"RFC822.SIZE" in line for line in lines) == 3


def rewritten(scene: Scene, mailbox: str) -> list[bytes]:
    with scene.through(mailbox) as client:
        whole = client.fetch(client.search(), ["BODY.PEEK[]"])
        return [whole[uid][b"BODY[]"] for uid in sorted(whole)]


def unixed(messages: list[bytes]) -> list[bytes]:
    """Return messages as programs keep them in files."""
    return sorted(message.replace(b"\r\n", b"\n") for message in messages)


def test_curl(scene: Scene) -> None:
    need("curl")
    scene.fill("INBOX", MESSAGES)
    user = f"alice:{scene.dovecot.users['alice']}"
    base = f"imap://127.0.0.1:{scene.port}/INBOX"
    for number, message in enumerate(rewritten(scene, "INBOX"), 1):
        whole = run("curl", "-s", "-u", user, f"{base};MAILINDEX={number}")
        text = run("curl", "-s", "-u", user, f"{base};MAILINDEX={number};SECTION=TEXT")
        assert whole == message and message.endswith(text) and message[: -len(text) or None].endswith(b"\n")


def test_mbsync(scene: Scene, tmp_path: Path) -> None:
    """It pipelines its fetches."""
    need("mbsync")
    scene.fill("INBOX", MESSAGES)
    (tmp_path / "local").mkdir()
    (tmp_path / "rc").write_text(
        f"IMAPAccount a\nHost 127.0.0.1\nPort {scene.port}\nUser alice\nSSLType None\n"
        f"Pass {scene.dovecot.users['alice']}\n\nIMAPStore far\nAccount a\n\n"
        f"MaildirStore near\nPath {tmp_path}/local/\nInbox {tmp_path}/local/INBOX\n\n"
        "Channel c\nFar :far:\nNear :near:\nPatterns INBOX\nCreate Near\nSync Pull\nSyncState *\n"
    )
    run("mbsync", "-c", str(tmp_path / "rc"), "c")
    got = [path.read_bytes() for path in (tmp_path / "local" / "INBOX" / "new").iterdir()]
    # It puts a field of its own into the header.
    got = [re.sub(rb"(?m)^X-TUID: .*\n", b"", message, count=1) for message in got]
    assert sorted(got) == unixed(rewritten(scene, "INBOX"))


def test_offlineimap(scene: Scene, tmp_path: Path) -> None:
    need("offlineimap")
    scene.fill("INBOX", [one for one in MESSAGES if one not in (HEADER_ONLY, NO_BLANK_LINE)])
    (tmp_path / "rc").write_text(
        f"[general]\nmetadata = {tmp_path}/meta\naccounts = a\n[Account a]\nlocalrepository = near\n"
        f"remoterepository = far\n[Repository near]\ntype = Maildir\nlocalfolders = {tmp_path}/local\n"
        f"[Repository far]\ntype = IMAP\nremotehost = 127.0.0.1\nremoteport = {scene.port}\nssl = no\n"
        f"starttls = no\nremoteuser = alice\nremotepass = {scene.dovecot.users['alice']}\nreadonly = True\n"
        "folderfilter = lambda name: name == 'INBOX'\n"
    )
    run("offlineimap", "-o", "-u", "quiet", "-c", str(tmp_path / "rc"))
    got = [path.read_bytes() for path in (tmp_path / "local").rglob("new/*")]
    wanted = unixed(rewritten(scene, "INBOX"))
    assert len(got) == len(wanted)
    for one, other in zip(sorted(got), wanted, strict=True):
        # It writes what it has parsed, so that header fields may be folded anew.
        assert one.partition(b"\n\n")[2].split() == other.partition(b"\n\n")[2].split()
        assert (b"[ext]" in one) is (b"[ext]" in other)


def run(*command: str) -> bytes:
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
