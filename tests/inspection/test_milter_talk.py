"""The talk with a milter: what it is told and when, what it may answer, and how it can fail."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.inspection.milter_protocol import (
    AddField,
    Command,
    EnvelopeChange,
    MilterActions,
    MilterError,
    MilterWord,
    frame,
)
from gateway.inspection.milter_talk import (
    MilterAnswer,
    MilterLimits,
    MilterMail,
    MilterRecipient,
    ask_milter,
    body_pieces,
)
from gateway.inspection.parts import parse
from tests.inspection.samples import crlf
from tests.support.milters import CLOSE, HANG, FakeMilter
from tests.support.processes import free_port

MESSAGE = crlf("From: alice@example.org\nSubject: hello\n\tyou\n\nHello.\n")
MAIL = MilterMail(
    "unknown",
    "192.0.2.7",
    1024,
    "client.example.org",
    ["<alice@example.org>", "SIZE=9"],
    [
        MilterRecipient(["<bob@example.org>"], {"{rcpt_addr}": "bob@example.org"}),
        MilterRecipient(["<eve@example.org>"], {"{rcpt_addr}": "eve@example.org"}),
    ],
    {"j": "gate.example.org", "i": "abc", "{auth_type}": "PLAIN", "{tls_version}": "TLSv1.3"},
)
ALL_ACTIONS = MilterActions(0x1FF)
GENEROUS = MilterLimits(5, 20, 20, 30)
HASTY = MilterLimits(5, 0.2, 0.2, 20)

Start = Callable[..., FakeMilter]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start milters that do what the test says."""
    running: list[FakeMilter] = []

    def started(answers: Any = None, **more: Any) -> FakeMilter:
        running.append(FakeMilter(answers, **more))
        return running[-1]

    yield started
    for one in running:
        one.stop()


def ask(
    *milters: FakeMilter,
    message: bytes = MESSAGE,
    limits: MilterLimits = GENEROUS,
    actions: MilterActions = ALL_ACTIONS,
    mail: MilterMail = MAIL,
) -> MilterAnswer:
    return ask_milter([one.address for one in milters], parse(message), mail, actions, limits)


def string(*values: bytes) -> bytes:
    return b"".join(value + b"\0" for value in values)


# -- what is told --------------------------------------------------------------------


def test_a_whole_talk(start: Start):
    milter = start()
    answer = ask(milter)
    assert answer.word is MilterWord.ACCEPT and answer.at is Command.END_OF_BODY
    assert milter.commands() == "OCHMRRTLLNBEQ"
    assert milter.data(b"C") == [b"unknown\x004\x04\x00192.0.2.7\0"]
    assert milter.data(b"H") == [b"client.example.org\0"]
    assert milter.data(b"M") == [b"<alice@example.org>\0SIZE=9\0"]
    assert milter.data(b"R") == [b"<bob@example.org>\0", b"<eve@example.org>\0"]
    assert milter.data(b"L") == [b"From\0alice@example.org\0", b"Subject\0hello\n\tyou\0"]
    assert milter.data(b"B") == [b"Hello.\r\n"]


def test_macros_go_before_their_commands(start: Start):
    milter = start()
    ask(milter)
    told = [(kind, data[:1]) if kind == b"D" else (kind, b"") for kind, data in milter.told]
    for command in (b"C", b"H", b"M", b"R", b"T", b"N", b"E"):
        place = told.index((command, b""))
        assert told[place - 1] == (b"D", command)
    assert milter.macros(b"C") == {"j": "gate.example.org"}
    assert milter.macros(b"H") == {"{tls_version}": "TLSv1.3"}
    assert milter.macros(b"M") == {"i": "abc", "{auth_type}": "PLAIN"}
    assert milter.macros(b"R") == {"i": "abc", "{rcpt_addr}": "eve@example.org"}
    assert milter.macros(b"E") == {"i": "abc"}


def test_a_milter_may_choose_its_macros(start: Start):
    chosen = struct.pack("!I", 2) + b"{auth_type} j auth_type nosuch\0" + struct.pack("!I", 0) + b"\0"
    milter = start(actions=0x100, macros=chosen)
    ask(milter)
    assert milter.macros(b"M") == {"{auth_type}": "PLAIN", "j": "gate.example.org", "auth_type": "PLAIN"}
    assert milter.macros(b"C") == {}
    assert milter.macros(b"E") == {"i": "abc"}


@pytest.mark.parametrize(
    ("steps", "commands"),
    [
        (0x01, "OHMRRTLLNBEQ"),
        (0x02, "OCMRRTLLNBEQ"),
        (0x04, "OCHRRTLLNBEQ"),
        (0x08, "OCHMTLLNBEQ"),
        (0x10, "OCHMRRTLLNEQ"),
        (0x20, "OCHMRRTNBEQ"),
        (0x40, "OCHMRRTLLBEQ"),
        (0x200, "OCHMRRLLNBEQ"),
        (0x27F, "OEQ"),
        (0xFF080, "OCHMRRTLLNBEQ"),
    ],
)
def test_steps_that_a_milter_leaves_out_or_does_not_answer(start: Start, steps: int, commands: str):
    milter = start(steps=steps)
    assert ask(milter).word is MilterWord.ACCEPT
    assert milter.commands() == commands


def test_older_versions_hear_nothing_of_data(start: Start):
    milter = start(version=3)
    ask(milter)
    assert "T" not in milter.commands()


def test_the_leading_space(start: Start):
    milter = start(steps=0x100000)
    assert ask(milter, message=b"A:  b\r\nC:d\r\n\r\n").leading_space
    assert milter.data(b"L") == [b"A\0  b\0", b"C\0d\0"]


def test_a_large_body_in_pieces(start: Start):
    milter = start()
    body = b"line\r\n" * 50_000
    ask(milter, message=b"A: b\r\n\r\n" + body)
    pieces = milter.data(b"B")
    assert b"".join(pieces) == body
    assert max(map(len, pieces)) <= 65535 and len(pieces) < 7


def test_a_milter_that_has_seen_enough_of_the_body(start: Start):
    milter = start({b"B": frame(b"s")}, steps=0x400)
    assert ask(milter, message=b"A: b\r\n\r\n" + b"x" * 300_000).word is MilterWord.ACCEPT
    assert len(milter.data(b"B")) == 1 and milter.commands().endswith("BEQ")


def test_mail_without_recipients_and_names(start: Start):
    milter = start()
    ask(milter, mail=MilterMail("unknown", "", 0, "", ["<>"]))
    assert milter.commands() == "OCMTLLNBEQ"
    assert milter.data(b"C") == [b"unknown\0U"] and milter.data(b"M") == [b"<>\0"]


def test_nul_and_odd_texts_do_not_cut_what_is_told(start: Start):
    milter = start()
    mail = MilterMail("unknown", "::1", 25, "a\0b\udcff\ud800", ["<\u00fc@example.org>"])
    ask(milter, mail=mail, message=b"A: b\0c\r\n\r\nx\0y")
    assert milter.data(b"H") == [b"a b??\0"] and milter.data(b"M") == ["<\u00fc@example.org>\0".encode()]
    assert milter.data(b"L") == [b"A\0b c\0"] and milter.data(b"B") == [b"x\0y"]


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b"b" * 40_000]), max_size=12).map(b"".join))
def test_every_line_of_a_body_ends_with_crlf(body: bytes):
    root = parse(b"A: b\r\n\r\n" + body)
    pieces = list(body_pieces(root))
    lone = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert b"".join(pieces) == lone.replace(b"\n", b"\r\n")


# -- what it says --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "word", "text"),
    [
        (frame(b"a"), MilterWord.ACCEPT, ""),
        (frame(b"r"), MilterWord.REJECT, ""),
        (frame(b"t"), MilterWord.TEMPFAIL, ""),
        (frame(b"d"), MilterWord.DISCARD, ""),
        (frame(b"4"), MilterWord.TEMPFAIL, "the service is shutting down"),
        (frame(b"y", b"550 5.7.1 Spam\0"), MilterWord.REJECT, "Spam"),
        (frame(b"y", b"451 4.7.1 Later\0"), MilterWord.TEMPFAIL, "Later"),
    ],
)
@pytest.mark.parametrize("at", "CHMRTLNBE")
def test_words_at_every_step(start: Start, at: str, answer: bytes, word: MilterWord, text: str):
    milter = start({at.encode(): answer})
    found = ask(milter)
    assert (found.word, found.text, found.at.value) == (word, text, at.encode())
    ends = {"C": "CQ", "E": "EQ"}.get(at, f"{at}AQ")
    assert milter.commands().endswith(ends)


def test_changes_in_their_order(start: Start):
    milter = start(
        {
            b"E": frame(b"h", string(b"A", b"1"))
            + frame(b"b", b"new ")
            + frame(b"p")
            + frame(b"q", b"look at it\0")
            + frame(b"-", b"<bob@example.org>\0")
            + frame(b"b", b"body\r\n")
            + frame(b"c")
        },
        actions=0x1FF,
    )
    answer = ask(milter)
    assert answer.word is MilterWord.ACCEPT and answer.hold == "look at it"
    assert answer.fields == [AddField(b"A", b"1")] and answer.body == b"new body\r\n"
    assert answer.envelope == [EnvelopeChange(MilterActions.DELETE_RECIPIENTS, "<bob@example.org>")]


def test_an_empty_body_is_one(start: Start):
    assert ask(start({b"E": frame(b"b") + frame(b"a")})).body == b""
    assert ask(start()).body is None


def test_answers_octet_by_octet(start: Start):
    def dribble(connection: socket.socket) -> None:
        for octet in frame(b"h", string(b"A", b"1")) + frame(b"a"):
            connection.sendall(bytes([octet]))

    assert ask(start({b"E": dribble})).fields == [AddField(b"A", b"1")]


# -- how it fails --------------------------------------------------------------------

CHANGE = frame(b"h", string(b"A", b"1"))


@pytest.mark.parametrize(
    ("answers", "more", "message"),
    [
        ({b"O": CLOSE}, {}, "hung up in place of an answer to the negotiation"),
        ({b"O": b"220 mail.example.org ESMTP\r\n"}, {}, "announces 842149920 octets: 220 mail"),
        ({b"O": frame(b"c")}, {}, "negotiates with 'c'"),
        ({}, {"actions": 0x8000}, "wants to 0x8000, which is not offered"),
        ({}, {"version": 9}, "speaks version 9"),
        ({b"M": CLOSE}, {}, "hung up in place of an answer to MAIL"),
        ({b"M": b"\0\0\0\0"}, {}, "announces 0 octets"),
        ({b"M": frame(b"Z")}, {}, "answers 'Z', which is no reply"),
        ({b"M": CHANGE}, {}, "answers MAIL with AddField"),
        ({b"M": frame(b"s")}, {}, "answers MAIL with SKIP"),
        ({b"M": frame(b"f")}, {}, "its connection has failed"),
        ({b"B": frame(b"s")}, {}, "answers BODY with SKIP"),
        ({b"E": frame(b"s")}, {}, "answers END OF BODY with SKIP"),
        ({b"E": CLOSE}, {}, "hung up in place of an answer to END OF BODY"),
        ({b"E": CHANGE}, {"actions": 0x10}, "asks for AddField, which was not agreed"),
        ({b"E": frame(b"b", b"x" * 600) * 2}, {}, "body has more than 1000 octets"),
        ({b"E": CHANGE * 1001}, {}, "more changes than can be made"),
        ({b"E": frame(b"h", string(b"A", b"x" * 700_000)) * 2}, {}, "more changes than can be made"),
        ({b"E": struct.pack("!I", 2**31)}, {}, "announces 2147483648 octets"),
        ({b"E": frame(b"h", b"A")}, {}, "cut off"),
    ],
)
def test_milters_that_break_the_protocol(start: Start, answers: Any, more: Any, message: str):
    milter = start(answers, **more)
    with pytest.raises(MilterError, match=message) as caught:
        ask(milter, limits=MilterLimits(5, 20, 20, 30, body=1000))
    assert str(caught.value).startswith(f"{milter.address}: ")


replies = st.builds(
    frame,
    st.sampled_from(list(b"himbqy+2-eacdfprst4Z")).map(lambda code: bytes([code])),
    st.binary(max_size=40),
)


@given(st.sampled_from([b"O", b"C", b"M", b"L", b"B", b"E"]), st.lists(replies | st.binary(max_size=9)))
@settings(max_examples=150, deadline=None)
def test_any_answers_are_understood_or_an_error(command: bytes, answers: list[bytes]):
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"".join(answers))
        connection.shutdown(socket.SHUT_WR)

    milter = FakeMilter({command: answer})
    try:
        assert ask(milter).word in (
            MilterWord.ACCEPT,
            MilterWord.REJECT,
            MilterWord.TEMPFAIL,
            MilterWord.DISCARD,
        )
    except (MilterError, ConnectionError):
        pass
    finally:
        milter.stop()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (b"O", "did not answer the negotiation within 0.2 s"),
        (b"C", "did not answer CONNECT within 0.2 s"),
        (b"L", "did not answer FIELD within 0.2 s"),
        (b"E", "did not answer END OF BODY within 0.2 s"),
    ],
)
def test_milters_that_hang(start: Start, command: bytes, message: str):
    with pytest.raises(TimeoutError, match=message):
        ask(start({command: HANG}), limits=HASTY)


def test_a_milter_that_reads_nothing_more(start: Start):
    milter = start({b"C": HANG}, steps=0xFF080)
    with pytest.raises(TimeoutError, match="did not take what it was sent"):
        ask(milter, limits=HASTY, message=b"A: b\r\n\r\n" + b"x" * 30_000_000)


def test_progress_renews_the_time(start: Start):
    def work(connection: socket.socket) -> None:
        for _ in range(6):
            time.sleep(0.1)
            connection.sendall(frame(b"p"))
        connection.sendall(frame(b"a"))

    assert ask(start({b"E": work}), limits=MilterLimits(5, 5, 0.4, 20)).word is MilterWord.ACCEPT


def test_progress_without_end(start: Start):
    def work(connection: socket.socket) -> None:
        while True:
            time.sleep(0.05)
            connection.sendall(frame(b"p"))

    with pytest.raises(TimeoutError, match=r"longer than 0.5 s in all"):
        ask(start({b"E": work}), limits=MilterLimits(5, 5, 5, 0.5))


def test_octets_that_drip_do_not_renew_it(start: Start):
    def drip(connection: socket.socket) -> None:
        for octet in frame(b"y", b"550 " + b"x" * 500):
            time.sleep(0.02)
            connection.sendall(bytes([octet]))

    with pytest.raises(TimeoutError, match=r"END OF BODY within 0.3 s"):
        ask(start({b"E": drip}), limits=MilterLimits(5, 5, 0.3, 20))


def test_nobody_is_there():
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(ConnectionRefusedError, match=f"{address}: Connection refused"):
        ask_milter([address], parse(MESSAGE), MAIL, MilterActions(0), GENEROUS)
    with pytest.raises(FileNotFoundError, match="unix:/nonexistent/socket: No such file"):
        ask_milter(["unix:/nonexistent/socket"], parse(MESSAGE), MAIL, MilterActions(0), GENEROUS)


def test_another_one_is_asked(start: Start):
    broken, dead, good, unused = start({b"O": CLOSE}), f"127.0.0.1:{free_port()}", start(), start()
    addresses = [dead, broken.address, good.address, unused.address]
    answer = ask_milter(addresses, parse(MESSAGE), MAIL, ALL_ACTIONS, GENEROUS)
    assert answer.word is MilterWord.ACCEPT and good.told and not unused.told
    with pytest.raises(ConnectionRefusedError, match=f"{dead}: Connection refused; {broken.address}: the m"):
        ask_milter([dead, broken.address], parse(MESSAGE), MAIL, ALL_ACTIONS, GENEROUS)


def test_a_message_is_told_to_one_milter_only(start: Start):
    """One that dies with it would take the others along."""
    broken, good = start({b"E": CLOSE}), start()
    with pytest.raises(MilterError, match="hung up"):
        ask(broken, good)
    assert not good.told


def test_headers_that_can_not_be_told_as_a_whole(start: Start):
    milter = start()
    with pytest.raises(MilterError, match="beyond a limit"):
        ask(milter, message=b"A: b\r\n" * 200_000 + b"\r\n")
    assert not milter.told
    with pytest.raises(MilterError, match="the field long has 70"):
        ask(milter, message=b"Long: " + b"x" * 70_000 + b"\r\n\r\n")
