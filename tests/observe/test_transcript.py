"""Transcripts: no secret in any form, whatever the protocol, the mechanism and the cutting."""

from __future__ import annotations

import base64
import ipaddress
import os
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.core.record import SessionRecord
from gateway.core.rules import Rules
from gateway.core.steps import CLIENT, UPSTREAM, CommandSeen, LoginSeen, ReplySeen, Send
from gateway.observe.notation import spell, unspell
from gateway.observe.replay import ReplayError, protocol_of, replay
from gateway.observe.transcript import Choice, Recorder, Transcripts
from gateway.protocols.registry import ENGINES

from .talk import MAIL, Talk

SECRET = b"Tr0ub4dor&3 zwo"
CLEAR = SECRET.split()  # where a protocol can't hold a blank, its parts are sent


def b64(octets: bytes) -> bytes:
    return base64.b64encode(octets)


PLAIN = b64(b"\0alice\0" + SECRET)
SEND = b"DATA\r\n", MAIL.replace(b"\r\n.", b"\r\n..") + b".\r\n"

TALKS: dict[str, tuple[str, list[bytes]]] = {
    "smtp AUTH PLAIN": (
        "smtp",
        [b"EHLO me\r\n", b"AUTH PLAIN " + PLAIN + b"\r\n", b"AUTH PLAIN " + PLAIN + b"\r\n"],
    ),
    "smtp AUTH PLAIN by challenge": ("smtp", [b"EHLO me\r\n", b"auth plain\r\n", PLAIN + b"\r\n"]),
    "smtp AUTH LOGIN": (
        "smtp",
        [b"EHLO me\r\n", b"AUTH LOGIN\r\n", b64(b"alice") + b"\r\n", b64(SECRET) + b"\r\n", b"NOOP\r\n"],
    ),
    "smtp said again behind a login that failed": (
        "smtp",
        [
            b"EHLO me\r\n",
            b"AUTH LOGIN\r\n",
            b64(b"alice") + b"\r\n",
            b64(SECRET) + b"\r\n",
            b64(SECRET) + b"\r\n",
        ],
    ),
    "smtp unknown mechanism, answers all the same": (
        "smtp",
        [b"EHLO me\r\n", b"AUTH X-NEW\r\n", b64(b"alice") + b"\r\n", b64(SECRET) + b"\r\n"],
    ),
    "smtp mail": (
        "smtp",
        [b"EHLO me\r\n", b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\n", *SEND, b"QUIT\r\n"],
    ),
    "pop3 USER PASS": (
        "pop3",
        [
            b"USER alice\r\n",
            b"PASS " + SECRET + b"\r\n",
            b"USER alice\r\n",
            b"PASS " + SECRET + b"\r\n",
            b"STAT\r\n",
        ],
    ),
    "pop3 AUTH PLAIN": ("pop3", [b"AUTH PLAIN\r\n", PLAIN + b"\r\n", b"AUTH PLAIN " + PLAIN + b"\r\n"]),
    "pop3 AUTH LOGIN": ("pop3", [b"AUTH LOGIN\r\n", b64(b"alice") + b"\r\n", b64(SECRET) + b"\r\n"]),
    "pop3 mail": (
        "pop3",
        [
            *(b"USER alice\r\n", b"PASS wrong\r\n", b"USER alice\r\n", b"PASS " + SECRET + b"\r\n"),
            *(b"LIST\r\n", b"RETR 1\r\n", b"TOP 1 5\r\n", b"QUIT\r\n"),
        ],
    ),
    "imap LOGIN": (
        "imap",
        [b'a1 LOGIN alice "' + SECRET + b'"\r\n', b'a2 login "alice" "' + SECRET + b'"\r\n', b"a3 NOOP\r\n"],
    ),
    "imap LOGIN by literals": (
        "imap",
        [
            b"a1 LOGIN {5}\r\n",
            b"alice {15}\r\n",
            SECRET + b"\r\n",
            b"a2 LOGIN {5+}\r\nalice {15+}\r\n" + SECRET + b"\r\n",
        ],
    ),
    "imap LOGIN, one literal": ("imap", [b"a1 LOGIN alice {15+}\r\n" + SECRET + b"\r\n", b"a2 NOOP\r\n"]),
    "imap AUTHENTICATE PLAIN": (
        "imap",
        [b"a1 AUTHENTICATE PLAIN\r\n", PLAIN + b"\r\n", b"a2 AUTHENTICATE PLAIN " + PLAIN + b"\r\n"],
    ),
    "imap AUTHENTICATE LOGIN": (
        "imap",
        [b"a1 AUTHENTICATE LOGIN\r\n", b64(b"alice") + b"\r\n", b64(SECRET) + b"\r\n"],
    ),
    "imap mail": (
        "imap",
        [
            *(b"a1 LOGIN alice wrong\r\n", b'a2 LOGIN alice "' + SECRET + b'"\r\n', b"a3 SELECT INBOX\r\n"),
            b"a4 FETCH 1 (ENVELOPE BODY[])\r\n",
            b"a5 APPEND INBOX {%d+}\r\n" % len(MAIL) + MAIL + b"\r\n",
            *(b"a6 NOOP\r\n", b"a7 LOGOUT\r\n"),
        ],
    ),
}
CUTTINGS = (1 << 20, 1, 2, 3, 5, 7, 11, 13)


def record(protocol: str = "smtp", **more: Any) -> SessionRecord:
    made = SessionRecord("0123456789ab", protocol, "front", "192.0.2.7", 4711, started=1_790_000_000.0)
    for name, thing in more.items():
        setattr(made, name, thing)
    return made


def written(folder: Path) -> str:
    [path] = folder.iterdir()
    return path.read_text()


def perform(folder: Path, name: str, piece: int = 1 << 20, **choice: Any) -> tuple[str, Talk]:
    protocol, said = TALKS[name]
    chooser = Transcripts([Choice(folder, **choice)])
    talk = Talk(ENGINES[protocol], chooser, record(protocol), piece)
    for octets in said:
        talk.say(octets)
    talk.end()
    return written(folder), talk


def forms(octets: bytes) -> set[str]:
    """What a secret may look like: clear, base64 at each alignment, hexadecimal."""
    found = {octets.decode(), octets.hex(), octets.hex().upper(), PLAIN.decode(), PLAIN.decode()[12:-4]}
    for before in (b"", b"\0", b"\0\0"):
        text = base64.b64encode(before + octets).decode().rstrip("=")
        found.add(text[4:-2] if before else text[:-2])
    return found


@pytest.mark.parametrize("piece", CUTTINGS)
@pytest.mark.parametrize("name", TALKS)
def test_no_transcript_holds_a_secret(tmp_path: Path, name: str, piece: int) -> None:
    text, _ = perform(tmp_path, name, piece)
    for secret in (SECRET, *CLEAR):
        for form in forms(secret):
            if len(form) > 3:
                assert form not in text, form
    assert "zwo" not in text


@pytest.mark.parametrize("piece", CUTTINGS)
@pytest.mark.parametrize("name", [name for name in TALKS if name.endswith("mail")])
def test_no_word_of_a_message_stands_but_its_form_does(tmp_path: Path, name: str, piece: int) -> None:
    text, talk = perform(tmp_path, name, piece)
    for word in ("Gehaltsliste", "Unter", "90210", "Flaschen", "Subject"):
        assert word not in text
    if piece > 100:
        assert "xxxxxxx: xxxxxxxxxxxx" in text
    if name.startswith("smtp"):
        assert b"250 2.0.0 queued" in talk.told
    else:
        assert b"Gehaltsliste" in talk.told


@pytest.mark.parametrize("name", [name for name in TALKS if name.endswith("mail")])
def test_content_stands_where_it_is_asked_for(tmp_path: Path, name: str) -> None:
    text, _ = perform(tmp_path, name, content=True)
    assert "Subject: Gehaltsliste" in text
    for secret in (SECRET, *CLEAR):
        assert all(form not in text for form in forms(secret) if len(form) > 3)


def test_commands_and_replies_stand_as_they_were(tmp_path: Path) -> None:
    text, _ = perform(tmp_path, "smtp mail")
    lines = text.splitlines()
    for line in (
        "# protocol: smtp",
        "U>  220 mx.example ESMTP",
        ">C  220 gate.example ESMTP",
        "C>  EHLO me",
        ">U  EHLO me",
        "C>  MAIL FROM:<a@example.org>",
        "!   CommandSeen(MAIL, MAIL FROM:<a@example.org>)",
        ">U  MAIL FROM:<a@example.org>",
        "!   BodyStart(client, data, passing)",
        "C>  .",
        ">C  250 2.0.0 queued",
        "!   Close(quit)",
    ):
        assert line in lines, line


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("smtp AUTH PLAIN", "C>  AUTH PLAIN xxxx"),
        ("smtp AUTH PLAIN", ">U  AUTH PLAIN xxxx"),
        ("smtp AUTH LOGIN", "U>  334 xxxx"),
        ("smtp AUTH LOGIN", "C>  xxxx"),
        ("pop3 USER PASS", "C>  PASS xxxx"),
        ("pop3 USER PASS", ">U  PASS xxxx"),
        ("pop3 USER PASS", "C>  USER alice"),
        ("imap LOGIN", "C>  a3 NOOP"),
    ],
)
def test_a_login_can_still_be_followed(tmp_path: Path, name: str, line: str) -> None:
    text, _ = perform(tmp_path, name)
    assert line in text.splitlines()


@pytest.mark.parametrize("name", TALKS)
def test_a_transcript_can_be_performed_again(tmp_path: Path, name: str) -> None:
    """What the engine does with the masked lines is what it did with the true ones."""
    text, _ = perform(tmp_path, name)
    protocol = protocol_of(text)
    assert protocol == TALKS[name][0]
    again = list(replay(text, ENGINES[protocol](Rules(hostname="gate.example"), record(protocol))))
    if "literal" in name:
        return  # they are written as one line or with other sizes

    def verbs(lines: list[str]) -> list[str]:
        return [line.partition(",")[0] for line in lines if line.startswith(("!   CommandSeen", "!   Close"))]

    assert verbs(again) == verbs(text.splitlines())


def test_what_cannot_be_replayed_is_named_by_its_line() -> None:
    engine = ENGINES["smtp"](Rules(), record())
    for text, message in (
        ("?   open\nhello\n", "line 2"),
        ("?   dance\n", "line 1: unknown news 'dance'"),
        ("?   fail dance\n", "line 1"),
    ):
        with pytest.raises(ReplayError, match=message):
            list(replay(text, engine))
    with pytest.raises(ReplayError, match="protocol"):
        protocol_of("C>  EHLO me\n")


@pytest.mark.parametrize(
    "octets",
    [
        b"EHLO me\r\n",
        b"\r\n",
        b" x\r\n",
        b"x",
        b"x\n",
        b"\x00\xff\\n\r\n",
        "é\r\n".encode(),
        b"a\rb\r\n",
        b"  |\r\n",
    ],
)
def test_what_is_spelled_reads_back_the_same(octets: bytes) -> None:
    line = spell("C>", octets)
    assert line.isprintable() and line.isascii()
    assert unspell(line[2:]) == octets


# -- which sessions, and where ---------------------------------------------


def test_a_file_is_for_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    perform(folder, "smtp mail")
    [path] = folder.iterdir()
    assert path.name == "20260921T141320Z-front-0123456789ab.play"
    assert path.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("condition", "wanted"),
    [
        ({}, True),
        ({"listeners": ["front"]}, True),
        ({"listeners": ["back"]}, False),
        ({"addresses": [ipaddress.ip_network("192.0.2.0/24")]}, True),
        (
            {"addresses": [ipaddress.ip_network("198.51.100.0/24"), ipaddress.ip_network("2001:db8::/32")]},
            False,
        ),
        ({"listeners": ["front"], "addresses": [ipaddress.ip_network("198.51.100.0/24")]}, False),
        ({"share": 0.0}, False),
    ],
)
def test_the_conditions_of_a_choice(tmp_path: Path, condition: dict[str, Any], wanted: bool) -> None:
    chosen = Transcripts([Choice(tmp_path, **condition)]).choose(record())
    assert (chosen is not None) is wanted


def test_a_share_is_about_that_share_and_the_same_each_time(tmp_path: Path) -> None:
    choice = Choice(tmp_path, share=0.25)
    chosen = [choice.wants(record(id=f"session{number}")) for number in range(4000)]
    assert 900 < sum(chosen) < 1100
    assert chosen == [choice.wants(record(id=f"session{number}")) for number in range(4000)]


@pytest.mark.parametrize(("users", "kept"), [(["alice"], True), (["bob"], False)])
def test_a_choice_by_user_is_made_at_the_login(tmp_path: Path, users: list[str], kept: bool) -> None:
    protocol, said = TALKS["smtp AUTH PLAIN"]
    talk = Talk(ENGINES[protocol], Transcripts([Choice(tmp_path, users=users)]), record(protocol))
    talk.say(said[0])
    assert not list(tmp_path.iterdir())
    talk.say(said[1])
    assert not list(tmp_path.iterdir()), "the first login fails"
    talk.say(said[2])
    talk.say(b"NOOP\r\n")
    assert talk.recorder.active is kept
    talk.end()
    if kept:
        text = written(tmp_path)
        assert text.startswith("# protocol") and "C>  EHLO me\n" in text and "C>  NOOP\n" in text
    else:
        assert not list(tmp_path.iterdir())


def test_a_session_without_the_login_leaves_no_file(tmp_path: Path) -> None:
    talk = Talk(ENGINES["smtp"], Transcripts([Choice(tmp_path, users=["alice"])]), record())
    talk.say(b"EHLO me\r\nQUIT\r\n")
    talk.end()
    assert not list(tmp_path.iterdir())


def test_what_waits_for_a_login_is_bounded(tmp_path: Path) -> None:
    talk = Talk(ENGINES["smtp"], Transcripts([Choice(tmp_path, users=["alice"])]), record())
    talk.say(b"EHLO me\r\n")
    for _ in range(900):
        talk.say(b"NOOP " + b"x" * 300 + b"\r\n")
    assert not talk.recorder.active


def test_a_transcript_ends_at_its_bound(tmp_path: Path) -> None:
    talk = Talk(ENGINES["smtp"], Transcripts([Choice(tmp_path, size=5000)]), record())
    talk.say(b"EHLO me\r\n")
    for _ in range(200):
        talk.say(b"NOOP\r\n")
    text = written(tmp_path)
    assert len(text) < 6000
    assert text.endswith("# cut here: the bound of a transcript is reached\n")
    assert not talk.recorder.active


def test_a_folder_that_cannot_be_written_stops_the_recorder_and_nothing_else(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with capture_logs() as lines:
        talk = Talk(ENGINES["smtp"], Transcripts([Choice(blocked)]), record())
        talk.say(b"EHLO me\r\nQUIT\r\n")
        talk.end()
    assert b"221 bye" in talk.told
    assert [line["event"] for line in lines] == ["transcript_failed"]


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("precious")
    os.symlink(target, tmp_path / "20260921T141320Z-front-0123456789ab.play")
    with capture_logs() as lines:
        talk = Talk(ENGINES["smtp"], Transcripts([Choice(tmp_path)]), record())
        talk.end()
    assert target.read_text() == "precious"
    assert lines[0]["event"] == "transcript_failed"


def test_a_name_with_a_line_break_adds_no_line(tmp_path: Path) -> None:
    """A user's name comes from the client, and is shown as the client wrote it."""
    recorder = Recorder(Choice(tmp_path), record())
    recorder.steps([LoginSeen("PLAIN", "a\nC>  QUIT\n", "failed", True, True)])
    recorder.news("reject a\nC>  QUIT")
    recorder.close()
    assert "\nC>" not in written(tmp_path)


def test_steps_that_name_other_lines_than_were_heard_reveal_nothing(tmp_path: Path) -> None:
    """Even an engine that is out of step with what it heard can't make a secret stand."""
    recorder = Recorder(Choice(tmp_path), record("imap"))
    recorder.heard(CLIENT, b"a1 LOGIN alice " + SECRET + b"\r\n" + b64(SECRET) + b"\r\na2 NOOP\r\n")
    noop = CommandSeen(1, "NOOP", "NOOP")
    recorder.steps([Send(UPSTREAM, b"a1 LOGIN alice " + SECRET + b"\r\n"), noop])
    recorder.heard(UPSTREAM, b"a1 BAD not " + SECRET + b"\r\n")
    recorder.steps([ReplySeen(noop, "ok", "OK"), Send(CLIENT, b"a1 BAD not " + SECRET + b"\r\n")])
    recorder.close()
    text = written(tmp_path)
    assert "Tr0ub" not in text and "zwo" not in text
    assert b64(SECRET).decode() not in text
    assert "C>  a2 NOOP" in text
