"""clamav, rspamd and spamassassin, asked for real, and by servers that misbehave."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gateway.plugins.clamav import ClamAv
from gateway.plugins.rspamd import Rspamd
from gateway.plugins.spamassassin import SpamAssassin
from pydantic import ValidationError

from gateway.core.facts import PluginRan
from gateway.core.steps import Envelope, Stage
from gateway.inspection.edits import render
from gateway.plugin import Message, Modify, ServiceDown, SessionRecord
from tests.conftest import need
from tests.inspection.samples import MIXED, PLAIN, crlf
from tests.inspection.support import RECORD, judge, loaded
from tests.support.scanners import GTUBE, MALWARE, Clamd, Directed, RspamdServer, Spamd, saying, silent

ENVELOPE = Envelope("alice@example.org", ["bob@example.org", "eve@example.org"])


@pytest.fixture(scope="module")
def home(rig_directory: Path) -> Path:
    directory = rig_directory / "scanners"
    directory.mkdir()
    return directory


@pytest.fixture(scope="module")
def clamd(home: Path) -> Iterator[Clamd]:
    need("clamd")
    server = Clamd(home)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def rspamd(home: Path) -> Iterator[RspamdServer]:
    need("rspamd")
    server = RspamdServer(home)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def spamd(home: Path) -> Iterator[Spamd]:
    need("spamd")
    server = Spamd(home)
    yield server
    server.stop()


def ask(plugin: Any, octets: bytes, stage: Stage = Stage.DATA, **spec: Any) -> tuple[PluginRan, bytes]:
    """Return what came of a message, and what it was when that was done."""
    judgement = judge(octets, loaded(plugin, stages=frozenset({stage}), **spec), stage=stage)
    (ran,) = judgement.runs
    return ran, b"".join(render(octets, judgement.edits))


def verdict(plugin: Any, octets: bytes, session: SessionRecord = RECORD, stage: Stage = Stage.DATA) -> Any:
    message = Message.of(octets, stage, ENVELOPE if stage is Stage.DATA else None)
    answer = plugin.inspect(message, session)
    return answer, message


def rendered(answer: Any) -> bytes:
    assert isinstance(answer, Modify), answer
    return bytes(answer.edits.apply())


def infected(marker: bytes = MALWARE) -> bytes:
    return PLAIN + b"\r\n" + marker + b"\r\n"


# ------------------------------------------------------------------- clamav


def clamav(address: object, **options: Any) -> ClamAv:
    return ClamAv(ClamAv.Options(address=address, seconds=20, **options))


@pytest.mark.parametrize("way", ["address", "tcp"])
def test_clamd_finds_what_is_in_a_message(clamd: Clamd, way: str) -> None:
    plugin = clamav(getattr(clamd, way))
    assert type(verdict(plugin, PLAIN)[0]).__name__ == "Pass"
    answer, message = verdict(plugin, infected())
    assert (type(answer).__name__, answer.reason) == ("Reject", f"Malware found: {clamd.signature}")
    assert message.facts["signature"] == clamd.signature


def test_clamd_finds_what_is_encoded_and_attached(clamd: Clamd) -> None:
    message = Message.of(MIXED)
    edits = message.edits()
    assert edits.insert_part(
        MALWARE + b"\xff" * 30, "application/octet-stream", filename="x.bin", inline=False
    )
    octets = bytes(edits.apply())
    assert MALWARE not in octets
    assert type(verdict(clamav(clamd.address), octets)[0]).__name__ == "Reject"


@pytest.mark.parametrize("action", ["quarantine", "discard", "reject"])
def test_what_becomes_of_malware(clamd: Clamd, action: str) -> None:
    answer, _ = verdict(clamav(clamd.address, infected=action, reason="no: {signature}"), infected())
    assert type(answer).__name__.lower() == action
    assert answer.reason == f"no: {clamd.signature}"


def test_malware_is_marked_and_a_stranger_s_mark_removed(clamd: Clamd) -> None:
    plugin = clamav(clamd.address, infected="tag")
    forged = b"X-Virus-Found: no, all is well\r\n"
    assert f"X-Virus-Found: {clamd.signature}\r\n".encode() in rendered(
        verdict(plugin, forged + infected())[0]
    )
    assert rendered(verdict(plugin, forged + PLAIN)[0]) == PLAIN


def test_heuristics_may_count_for_less(clamd: Clamd) -> None:
    plugin = clamav(clamd.address, heuristics="tag")
    odd = infected(b"looks-odd-to-me")
    assert b"X-Virus-Found: Heuristics.Marker" in rendered(verdict(plugin, odd)[0])
    assert type(verdict(clamav(clamd.address), odd)[0]).__name__ == "Reject"
    assert type(verdict(plugin, infected())[0]).__name__ == "Reject"


@pytest.mark.parametrize(
    ("larger", "name"), [("pass", "Pass"), ("reject", "Reject"), ("quarantine", "Quarantine")]
)
def test_messages_that_are_too_large(clamd: Clamd, larger: str, name: str) -> None:
    answer, message = verdict(clamav(clamd.address, max_size=10, larger=larger), PLAIN)
    assert type(answer).__name__ == name and message.facts["not_scanned"]


def test_messages_that_are_too_large_are_an_error(clamd: Clamd) -> None:
    ran, _ = ask(clamav(clamd.address, max_size=10), PLAIN)
    assert (ran.result, ran.applied) == ("error", "defer") and "max_size is 10" in ran.detail


def test_a_limit_of_clamd_is_told(clamd: Clamd) -> None:
    """Its StreamMaxLength is 1 MiB here."""
    ran, _ = ask(clamav(clamd.address), PLAIN + b"x" * (4 << 20))
    assert ran.result == "error"
    assert "size limit exceeded" in ran.detail or "StreamMaxLength" in ran.detail


# ------------------------------------------------------------- spamassassin


def spamassassin(address: object, **options: Any) -> SpamAssassin:
    return SpamAssassin(SpamAssassin.Options(address=address, seconds=30, **options))


def test_spamd_marks_messages(spamd: Spamd) -> None:
    plugin = spamassassin(spamd.address)
    forged = b"X-Spam-Status: No, never\r\nX-Spam-Flag: NO\r\n"
    good = rendered(verdict(plugin, forged + PLAIN)[0])
    assert good.startswith(b"X-Spam-Status: No, score=") and good.endswith(PLAIN)
    assert b"never" not in good and b"X-Spam-Flag" not in good
    answer, message = verdict(plugin, PLAIN + GTUBE + b"\r\n")
    bad = rendered(answer)
    assert b"X-Spam-Flag: YES\r\n" in bad and b"X-Spam-Status: Yes, score=" in bad
    assert "GTUBE" in message.facts["tests"] and float(message.facts["score"]) > 900


def test_spamd_s_scores_stop_messages(spamd: Spamd) -> None:
    spam = PLAIN + GTUBE + b"\r\n"
    answer, _ = verdict(spamassassin(spamd.address, reject_at=100, quarantine_at=10), spam)
    assert type(answer).__name__ == "Reject" and answer.reason.startswith("Message looks like spam (")
    assert type(verdict(spamassassin(spamd.address, quarantine_at=10), spam)[0]).__name__ == "Quarantine"
    assert type(verdict(spamassassin(spamd.address, mark=False), spam)[0]).__name__ == "Pass"
    answer, message = verdict(spamassassin(spamd.address, max_size=10), spam)
    assert type(answer).__name__ == "Pass" and message.facts["not_judged"]


# ------------------------------------------------------------------- rspamd


def rspamd_plugin(address: object, **options: Any) -> Rspamd:
    return Rspamd(Rspamd.Options(address=address, seconds=20, **options))


def scored(score: float, more: bytes = b"") -> bytes:
    return b"X-Wanted-Score: %g\r\n" % score + more + PLAIN


def test_rspamd_hears_of_the_envelope_and_the_client(rspamd: RspamdServer) -> None:
    answer, message = verdict(rspamd_plugin(rspamd.address), scored(0, b"X-Remove: me\r\n"))
    octets = rendered(answer)
    told = "192.0.2.7 client.example.org alice alice@example.org 2"
    assert octets.startswith(f"X-Told: {told}\r\n".encode())
    assert b"X-Remove" not in octets and b"X-Spam" not in octets
    assert message.facts["action"] == "no action"


def test_rspamd_hears_less_of_mail_that_is_read(rspamd: RspamdServer) -> None:
    """It was sent from elsewhere: the client's address and login say nothing of its sender."""
    octets = rendered(verdict(rspamd_plugin(rspamd.address), scored(0), stage=Stage.RETR)[0])
    assert b"192.0.2.7" not in octets and b"client.example.org" not in octets


def test_rspamd_s_actions(rspamd: RspamdServer) -> None:
    plugin = rspamd_plugin(rspamd.address)
    answer, message = verdict(plugin, scored(7, b"X-Spam: No\r\n"))
    assert b"X-Spam: Yes (7)\r\n" in rendered(answer) and b"X-Spam: No" not in rendered(answer)
    assert "MARKED" in message.facts["symbols"]
    octets = rendered(verdict(plugin, scored(25))[0])
    subject = Message.of(PLAIN).subject
    assert Message.of(octets).subject == f"*** SPAM *** {subject}"
    kept = rendered(verdict(rspamd_plugin(rspamd.address, rewrite_subject=False), scored(25))[0])
    assert Message.of(kept).subject == subject
    assert type(verdict(plugin, scored(200))[0]).__name__ == "Reject"
    keeping = rspamd_plugin(rspamd.address, reject="quarantine")
    assert type(verdict(keeping, scored(200))[0]).__name__ == "Quarantine"
    marking = rspamd_plugin(rspamd.address, reject="tag")
    assert b"X-Spam: Yes (200)\r\n" in rendered(verdict(marking, scored(200))[0])


def test_rspamd_leaves_the_subject_of_signed_mail(rspamd: RspamdServer) -> None:
    signed = scored(
        25, b"DKIM-Signature: v=1; a=rsa-sha256; d=example.org; s=x; h=from:subject; bh=x; b=x\r\n"
    )
    answer, message = verdict(rspamd_plugin(rspamd.address), signed)
    assert Message.of(rendered(answer)).subject == Message.of(PLAIN).subject
    assert message.facts["subject"] == "kept: the message is signed"


def test_rspamd_takes_odd_names_for_what_they_are(rspamd: RspamdServer) -> None:
    """What a client says of itself can't become another field of the request."""
    session = SessionRecord("s", "smtp", "mx", "192.0.2.7", 1, user="a\r\nIP: 10.0.0.1", client_name="ü" * 9)
    octets = rendered(verdict(rspamd_plugin(rspamd.address), scored(0), session)[0])
    assert octets.startswith(b"X-Told: 192.0.2.7 ????????? a??IP: 10.0.0.1 alice@example.org 2\r\n")


def test_what_rspamd_wants_to_see_later() -> None:
    answer = json.dumps(
        {"action": "soft reject", "score": 3, "messages": {"smtp_message": "try again"}}
    ).encode()
    http = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer
    server = Directed(saying(http))
    ran, _ = ask(rspamd_plugin(server.address), PLAIN)
    assert (ran.result, ran.applied) == ("error", "defer") and "later: try again" in ran.detail
    assert type(verdict(rspamd_plugin(server.address, soft_reject="reject"), PLAIN)[0]).__name__ == "Reject"
    server.close()


def test_a_password_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="password_file: can't read"):
        rspamd_plugin("127.0.0.1:1", password_file=tmp_path / "none")


# ------------------------------------------------------- servers that misbehave

PLUGINS = {"clamav": clamav, "spamassassin": spamassassin, "rspamd": rspamd_plugin}
NONSENSE = [
    b"",
    b"\0",
    b"hello\r\n",
    b"stream: \0",
    b"stream: UNKNOWN COMMAND\0",
    b"x" * 100_000,
    b"SPAMD/1.1 0 EX_OK\r\n\r\n",
    b"SPAMD/1.1 75 EX_TEMPFAIL\r\n\r\n",
    b"SPAMD/1.1 0 EX_OK\r\nSpam: True ; 1.2.3 / 5\r\n\r\n",
    b"HTTP/1.1 500 no\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\nnot json",
    b'HTTP/1.1 200 OK\r\n\r\n{"action": "reject"}',
    b'HTTP/1.1 200 OK\r\n\r\n{"action": "fly", "score": 1}',
    b'HTTP/1.1 200 OK\r\n\r\n{"action": "reject", "score": "1"}',
    b'HTTP/1.1 200 OK\r\n\r\n{"action": "reject", "score": 1, "symbols": 7}',
    b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000,
    b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}",
]


@pytest.mark.parametrize("answer", NONSENSE, ids=range(len(NONSENSE)))
@pytest.mark.parametrize("name", PLUGINS)
def test_nonsense_is_a_clear_failure(name: str, answer: bytes) -> None:
    server = Directed(saying(answer))
    ran, octets = ask(PLUGINS[name](server.address), PLAIN)
    assert (ran.result, ran.applied, octets) == ("error", "defer", PLAIN)
    assert ran.detail.startswith(f"ServiceDown: {server.address}: ") and len(ran.detail) < 400
    server.close()


@pytest.mark.parametrize("name", PLUGINS)
def test_a_server_that_is_silent_or_not_there(name: str) -> None:
    server = Directed(silent)
    plugin = type(PLUGINS[name]("unix:/x"))
    quiet = plugin(plugin.Options(address=server.address, seconds=0.3))
    assert "no answer in time" in ask(quiet, PLAIN)[0].detail
    server.close()
    gone = plugin(plugin.Options(address=server.address, seconds=5))
    assert "Connection refused" in ask(gone, PLAIN)[0].detail
    absent = plugin(plugin.Options(address="unix:/nowhere/socket", seconds=5))
    assert "unix:/nowhere/socket: No such file or directory" in ask(absent, PLAIN)[0].detail


@pytest.mark.parametrize("name", PLUGINS)
def test_the_second_address_is_asked_where_the_first_fails(name: str) -> None:
    answers = {
        "clamav": b"stream: OK\0",
        "spamassassin": b"SPAMD/1.1 0 EX_OK\r\nSpam: False ; 1.0 / 5.0\r\n\r\nA,B",
        "rspamd": b'HTTP/1.1 200 OK\r\n\r\n{"action": "no action", "score": 1}',
    }

    def act(client: socket.socket) -> None:
        """Hear all of it, and answer."""
        heard = b""
        while PLAIN[-20:] not in heard:
            heard += client.recv(65536)
        client.sendall(answers[name])

    bad, good = Directed(saying(b"nonsense")), Directed(act)
    plugin = PLUGINS[name]([bad.address, good.address])
    for _ in range(5):
        assert ask(plugin, PLAIN)[0].result in ("pass", "modify")
    assert bad.heard == 3, "it is left alone after three failures"
    assert good.heard == 5
    bad.close()
    good.close()


@pytest.mark.parametrize("name", PLUGINS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"address": "unix:relative"},
        {"address": "host"},
        {"address": "host:99999"},
        {"address": []},
        {"address": "h:1", "seconds": 0},
        {"address": "h:1", "header": "a b"},
        {"address": "h:1", "nonsense": 1},
    ],
)
def test_wrong_options(name: str, options: dict[str, Any]) -> None:
    plugin = type(PLUGINS[name]("unix:/x"))
    if name == "rspamd" and not options:
        return  # its usual port is the default
    with pytest.raises(ValidationError):
        plugin.Options(**options)


def test_what_a_client_hears_never_breaks_a_line() -> None:
    server = Directed(saying(b"stream: a\r\nb\x1b[31m FOUND\0"))
    answer = ask(clamav(server.address), PLAIN)[0]
    assert answer.result == "error"
    server.close()


def test_lengths_are_of_the_pieces() -> None:
    """INSTREAM: a length before each piece, and none at the end."""
    told: list[bytes] = []

    def act(client: socket.socket) -> None:
        heard = b""
        while not heard.endswith(struct.pack("!I", 0)):
            heard += client.recv(65536)
        told.append(heard)
        client.sendall(b"stream: OK\0")

    server = Directed(act)
    octets = crlf("Subject: x\n\n") + b"y" * 600_000
    assert type(verdict(clamav(server.address), octets)[0]).__name__ == "Pass"
    server.close()
    heard, place, pieces = told[0].removeprefix(b"zINSTREAM\0"), 0, b""
    while length := struct.unpack_from("!I", heard, place)[0]:
        pieces += heard[place + 4 : place + 4 + length]
        place += 4 + length
    assert pieces == octets and place + 4 == len(heard)
    with pytest.raises(ServiceDown):
        clamav(server.address).inspect(Message.of(octets), RECORD)
