"""The plugin that asks milters: its verdicts, and real milters that sign, verify and refuse."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dkim
import pytest
from gateway.plugins.milter import Milter
from pydantic import ValidationError

from gateway.core.outcome import Action
from gateway.core.record import SessionRecord
from gateway.core.steps import Envelope, Stage, TlsInfo
from gateway.inspection.base import Services
from gateway.inspection.loader import PluginSpec, check_plugins
from gateway.inspection.message import Message
from gateway.inspection.milter_protocol import MilterError, frame
from gateway.inspection.parts import parse
from gateway.inspection.pipeline import Judgement
from gateway.inspection.verdict import Discard, Modify, Pass, Quarantine, Reject, Verdict
from tests.conftest import need
from tests.inspection.samples import ALTERNATIVE, DKIM, MIXED, PLAIN, SIGNED, WELL_FORMED, crlf
from tests.inspection.support import RECORD, judge, loaded
from tests.plugins.pages import check_page
from tests.support.milters import (
    CLOSE,
    ClamavMilter,
    FakeMilter,
    Key,
    OpenDkim,
    OpenDmarc,
    has_networks_of_its_own,
)

Start = Callable[..., FakeMilter]
STRANGER = SessionRecord("abcdefghijkl", "smtp", "mx", "192.0.2.7", 1024, client_name="client.example.org")


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


def plugin(address: str, **options: Any) -> Milter:
    generous = {"connect_timeout": 10, "command_timeout": 30, "message_timeout": 30, "seconds": 60}
    made = Milter(Milter.Options(**{"address": address, **generous, **options}))
    made.start(Services("gate.example.org", "milter"))
    return made


def asked(
    address: str, message: bytes | Message = PLAIN, session: SessionRecord = RECORD, **options: Any
) -> Verdict:
    if isinstance(message, bytes):
        message = Message.of(message, envelope=Envelope("alice@example.org", ["bob@example.org"]))
    return plugin(address, **options).inspect(message, session)


def judged(message: bytes, milter: FakeMilter, **options: Any) -> Judgement:
    return judge(message, loaded(plugin(milter.address, **options), time_limit=60))


def changed(address: str, message: bytes, session: SessionRecord = RECORD, **options: Any) -> bytes:
    verdict = asked(address, message, session, **options)
    assert isinstance(verdict, Modify), verdict
    return verdict.edits.apply()


def at_end(*frames: bytes) -> dict[bytes, bytes]:
    return {b"E": b"".join(frames) + frame(b"a")}


ADDED = frame(b"h", b"X-Seen\0yes\0")


# -- verdicts ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (frame(b"a"), Pass()),
        (frame(b"c"), Pass()),
        (frame(b"r"), Reject("Message refused by a filter")),
        (frame(b"y", b"554 5.7.1 No thanks\0"), Reject("No thanks")),
        (frame(b"y", b"554 \0"), Reject("Message refused by a filter")),
        (frame(b"d"), Discard("discarded by a milter")),
        (frame(b"q", b"looks odd\0") + frame(b"a"), Quarantine("looks odd")),
        (ADDED + frame(b"q", b"\0") + frame(b"a"), Quarantine("Message refused by a filter")),
        (frame(b"q", b"looks odd\0") + frame(b"r"), Reject("Message refused by a filter")),
        (ADDED + frame(b"d"), Discard("discarded by a milter")),
    ],
)
def test_verdicts(start: Start, answer: bytes, verdict: Verdict):
    assert asked(start({b"E": answer}).address) == verdict


@pytest.mark.parametrize("command", [b"C", b"H", b"M", b"R", b"N"])
def test_a_milter_may_decide_early(start: Start, command: bytes):
    milter = start({command: frame(b"a")})
    assert asked(milter.address) == Pass() and "B" not in milter.commands()
    assert asked(start({command: frame(b"r")}).address) == Reject("Message refused by a filter")


@pytest.mark.parametrize("answer", [frame(b"t"), frame(b"y", b"451 4.7.1 Busy\0"), frame(b"4")])
def test_what_is_to_come_again_later(start: Start, answer: bytes):
    milter = start({b"M": answer})
    with pytest.raises(MilterError, match="wants to see the message later"):
        asked(milter.address)
    assert isinstance(asked(milter.address, tempfail="reject"), Reject)
    assert isinstance(asked(milter.address, tempfail="quarantine"), Quarantine)
    judgement = judged(PLAIN, milter)
    assert judgement.outcome.action is Action.DEFER


def test_a_milter_that_fails_is_settled_by_on_error(start: Start):
    milter = start({b"E": CLOSE})
    judgement = judged(PLAIN, milter)
    assert judgement.outcome.action is Action.DEFER
    assert "hung up in place of an answer to END OF BODY" in judgement.runs[0].detail


def test_what_the_client_is_told_is_safe_to_show(start: Start):
    milter = start({b"E": frame(b"y", b"550 5.7.1 a\x1b[31m\r\n550 5.7.1 b\xff" + b"x" * 2000 + b"\0")})
    reason = judged(PLAIN, milter).outcome.reason
    assert reason.startswith("a\\x1b[31m b\\xffxxx") and len(reason) < 220


# -- what is changed -----------------------------------------------------------------


def test_a_field_is_added_and_the_log_tells(start: Start):
    milter = start(at_end(ADDED, ADDED, frame(b"m", struct.pack("!I", 1) + b"subject\0new\0")))
    judgement = judged(crlf("Subject: old\n\nHello.\n"), milter)
    assert judgement.chunks is not None
    assert b"".join(judgement.chunks) == crlf("subject: new\nX-Seen: yes\nX-Seen: yes\n\nHello.\n")
    assert judgement.runs[0].facts == {"answer": "accept at end_of_body", "changes": "add 2, change 1"}


def test_a_new_body_has_its_size_and_kind(start: Start):
    milter = start(at_end(frame(b"b", b"Gr\xc3\xbc"), frame(b"b", b"\xc3\x9fe\r\n")))
    judgement = judged(crlf("Subject: old\n\nHello.\n"), milter)
    assert judgement.chunks is not None
    new = b"".join(judgement.chunks)
    assert new == crlf("Subject: old\n\nGr\u00fc\u00dfe\n")
    assert judgement.outcome.size == len(new) and judgement.outcome.eight_bit


def test_what_changes_nothing_is_a_pass(start: Start):
    milter = start(at_end(frame(b"m", struct.pack("!I", 1) + b"X-None\0\0")))
    assert judged(PLAIN, milter).outcome.action is Action.PASS


@pytest.mark.parametrize("message", [SIGNED, DKIM])
def test_signed_bodies_stay_with_all_that_goes_with_them(start: Start, message: bytes):
    milter = start(at_end(ADDED, frame(b"b", b"new\r\n")))
    judgement = judged(message, milter)
    assert judgement.outcome.action is Action.PASS
    assert judgement.runs[0].facts["skipped_signed"]
    judgement = judged(message, milter, edit_signed=True)
    assert judgement.chunks is not None
    new = b"".join(judgement.chunks)
    assert new.endswith(b"X-Seen: yes\r\n\r\nnew\r\n")
    assert judged(message, start(at_end(ADDED))).outcome.action is Action.MODIFY


# -- what is told --------------------------------------------------------------------


def test_what_is_known_of_client_and_envelope(start: Start):
    milter = start()
    session = SessionRecord(
        "abcdefghijkl",
        "smtp",
        "submission",
        "2001:db8::7",
        1024,
        server_address="192.0.2.1",
        server_port=587,
        user="alice",
        mechanism="PLAIN",
        client_name="laptop",
        client_tls=TlsInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384", peer="CN=alice"),
    )
    envelope = Envelope("alice@a.example", ["bob@b.example"], {"SIZE": "9", "SMTPUTF8": ""})
    options = {"macros": {"{daemon_name}": "ORIGINATING", "v": "1"}}
    asked(milter.address, Message.of(PLAIN, envelope=envelope), session, **options)
    assert milter.commands().startswith("OCHMRT")
    assert milter.data(b"C") == [b"unknown\x006\x04\x002001:db8::7\0"]
    assert milter.data(b"H") == [b"laptop\0"]
    assert milter.data(b"M") == [b"<alice@a.example>\0SIZE=9\0SMTPUTF8\0"]
    assert milter.data(b"R") == [b"<bob@b.example>\0"]
    assert milter.macros(b"C") == {
        "j": "gate.example.org",
        "v": "1",
        "_": "laptop [2001:db8::7]",
        "{daemon_name}": "ORIGINATING",
        "{daemon_addr}": "192.0.2.1",
        "{client_addr}": "2001:db8::7",
        "{client_name}": "unknown",
        "{client_port}": "1024",
    }
    assert milter.macros(b"H") == {
        "{tls_version}": "TLSv1.3",
        "{cipher}": "TLS_AES_256_GCM_SHA384",
        "{cert_subject}": "CN=alice",
    }
    assert milter.macros(b"M") == {
        "i": "abcdefghijkl",
        "{auth_type}": "PLAIN",
        "{auth_authen}": "alice",
        "{mail_addr}": "alice@a.example",
        "{mail_host}": "a.example",
    }
    assert milter.macros(b"R") == {
        "i": "abcdefghijkl",
        "{rcpt_addr}": "bob@b.example",
        "{rcpt_host}": "b.example",
    }


@pytest.mark.parametrize(
    ("field", "sender"),
    [
        ("", b"<>"),
        ("Return-Path: <eve@example.org>\n", b"<eve@example.org>"),
        ("Return-Path: <>\n", b"<>"),
        ("Return-Path: eve@example.org\n", b"<>"),
        ("Return-Path: <a b>\n", b"<>"),
    ],
)
def test_mail_without_an_envelope(start: Start, field: str, sender: bytes):
    """Who reads mail has not sent it: no login is told."""
    milter = start()
    message = crlf(f"{field}Subject: x\n\nHello.\n")
    asked(milter.address, Message.of(message, Stage.FETCH))
    assert "MR" in milter.commands() and milter.data(b"M") == [sender + b"\0"]
    assert milter.data(b"R") == [b"<>\0"]
    assert "{auth_authen}" not in milter.macros(b"M")
    asked(milter.address, Message.of(message, Stage.APPEND))
    assert milter.macros(b"M")["{auth_authen}"] == "alice"


@pytest.mark.parametrize(
    ("user", "recipient"),
    [("bob@example.org", b"<bob@example.org>"), ("bob", b"<>"), ("a b@c", b"<>"), ("a@b>", b"<>")],
)
def test_who_reads_mail_is_its_recipient(start: Start, user: str, recipient: bytes):
    milter = start()
    session = SessionRecord("abcdefghijkl", "imap", "imap", "192.0.2.7", 1024, user=user)
    asked(milter.address, Message.of(PLAIN, Stage.FETCH), session)
    assert milter.commands().startswith("OCMRTL") and milter.data(b"R") == [recipient + b"\0"]


# -- senders and recipients ----------------------------------------------------------


def test_changes_of_the_envelope(start: Start):
    """The client has been told who gets the message, so that nobody can be added or left out."""
    wanting = start(at_end(ADDED, frame(b"+", b"<spy@example.org>\0")), actions=0x1FF)
    with pytest.raises(MilterError, match=r"wants to add recipients, .*which is not offered"):
        asked(wanting.address)
    with pytest.raises(MilterError, match=r"can't be done: add_recipients <spy@example.org>"):
        asked(wanting.address, envelope_changes="error")
    message = Message.of(PLAIN)
    assert isinstance(asked(wanting.address, message, envelope_changes="ignore"), Modify)
    assert message.facts["ignored"] == "add_recipients <spy@example.org>"


# -- options -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "taken"),
    [
        ("unix:/run/x.sock", ("unix:/run/x.sock",)),
        ("localhost:8891", ("localhost:8891",)),
        ("inet:localhost:8891", ("localhost:8891",)),
        (["[::1]:8891", "unix:/x"], ("[::1]:8891", "unix:/x")),
    ],
)
def test_addresses(address: Any, taken: tuple[str, ...]):
    assert Milter.Options(address=address).address == taken


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "Field required"),
        ({"address": ()}, "at least 1 item"),
        ({"address": "unix:run/x"}, "an absolute path"),
        ({"address": "unix:/" + "x" * 200}, "at most 107 characters"),
        ({"address": "localhost"}, 'must be "unix:/path"'),
        ({"address": "localhost:"}, '"" is no port'),
        ({"address": "localhost:70000"}, '"70000" is no port'),
        ({"address": "::1:25"}, "must be"),
        ({"address": "a:1", "seconds": 0}, "greater than 0"),
        ({"address": "a:1", "macros": {"auth type": "x"}}, '"auth type" is no macro'),
        ({"address": "a:1", "macros": {"j": "x\0"}}, "can't be printed"),
        ({"address": "a:1", "tempfail": "pass"}, "'error', 'reject' or 'quarantine'"),
    ],
)
def test_options_that_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(ValidationError, match=message):
        Milter.Options(**options)


def test_ipv6():
    with pytest.raises(OSError, match=r"^\[::1\]:1: "):
        asked("[::1]:1")


def test_it_is_configured_by_name(start: Start):
    options = {"address": start().address}
    assert check_plugins([PluginSpec("dkim", "milter", options=options)]) == []


def test_the_page():
    check_page("milter", Milter.Options)


# -- OpenDKIM ------------------------------------------------------------------------

ODD = b"From: alice@example.org\r\nSubject:  two  blanks \r\n\t\tand a fold\r\nX-Empty:\r\n\r\n"
MESSAGES = {
    "plain": PLAIN,
    "alternative": ALTERNATIVE,
    "mixed": MIXED,
    "odd header": ODD + b".\r\n..\r\n trailing \t \r\n\r\n\r\n",
    "empty body": ODD,
    "eight bit": ODD + "Gr\u00fc\u00dfe\r\n".encode(),
    "large": ODD + b"0123456789 abcdef\r\n" * 100_000,
    "signed": SIGNED,
}


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return Key(tmp_path_factory.mktemp("key"))


@pytest.fixture(scope="module")
def signer(key: Key, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenDkim]:
    """Signs what comes from who has logged in, and removes older signatures."""
    need("opendkim")
    macros = ["InternalHosts 127.0.0.2", "MacroList auth_type|PLAIN"]
    running = OpenDkim(tmp_path_factory.mktemp("signer"), key, "s", *macros)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def verifier(key: Key, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenDkim]:
    need("opendkim")
    lines = ["RemoveARFrom gate.example.org", "RemoveARAll yes", "On-BadSignature reject"]
    running = OpenDkim(tmp_path_factory.mktemp("verifier"), key, "v", *lines, tcp=True)
    yield running
    running.stop()


AUTHOR = SessionRecord(
    "abcdefghijkl", "smtp", "submission", "192.0.2.7", 1024, user="alice", mechanism="PLAIN"
)


def of_ours(message: bytes) -> bytes:
    return message.replace(b"eve@outside.example", b"alice@example.org")


@pytest.mark.parametrize("name", MESSAGES)
def test_a_signature_is_good(signer: OpenDkim, verifier: OpenDkim, key: Key, name: str):
    """By two verifiers: dkimpy, and OpenDKIM itself through the plugin."""
    message = of_ours(MESSAGES[name])
    signed = changed(signer.address, message, AUTHOR)
    assert signed.endswith(message.partition(b"\r\n")[2])
    assert dkim.verify(signed, dnsfunc=key.lookup)
    verified = changed(verifier.address, signed, STRANGER)
    (result, *_) = parse(verified).get_all("authentication-results")
    assert result.value.startswith("gate.example.org;") and "dkim=pass" in result.value


@pytest.mark.parametrize("canonicalization", ["simple/simple", "relaxed/relaxed", "relaxed/simple"])
def test_canonicalizations(tmp_path: Path, key: Key, canonicalization: str):
    need("opendkim")
    lines = [f"Canonicalization {canonicalization}", "InternalHosts 192.0.2.0/24", "OversignHeaders From"]
    running = OpenDkim(tmp_path, key, "s", *lines)
    try:
        signed = changed(running.address, MESSAGES["odd header"], AUTHOR)
    finally:
        running.stop()
    assert f"c={canonicalization};".encode() in signed
    assert dkim.verify(signed, dnsfunc=key.lookup)
    assert not dkim.verify(signed.replace(b"two  blanks", b"two blank"), dnsfunc=key.lookup)


def test_what_is_signed_is_signed_once_more(signer: OpenDkim, key: Key):
    """A new field breaks no signature, also where its folded lines begin like covered fields."""
    signed = changed(signer.address, ALTERNATIVE, AUTHOR)
    again = judge(signed, loaded(plugin(signer.address, macros={"{auth_type}": "PLAIN"}), time_limit=60))
    assert again.chunks is not None and "skipped_signed" not in again.runs[0].facts
    twice = b"".join(again.chunks)
    assert twice.count(b"DKIM-Signature:") == 2
    assert all(dkim.DKIM(twice).verify(index, dnsfunc=key.lookup) for index in (0, 1))


def test_only_who_has_logged_in_is_signed(signer: OpenDkim):
    assert asked(signer.address, MESSAGES["plain"], STRANGER) == Pass()


@pytest.mark.parametrize("stage", [Stage.FETCH, Stage.RETR, Stage.APPEND])
def test_mail_without_an_envelope_is_verified(signer: OpenDkim, verifier: OpenDkim, stage: Stage):
    signed = changed(signer.address, MESSAGES["plain"], AUTHOR)
    verdict = asked(verifier.address, Message.of(signed, stage), STRANGER)
    assert isinstance(verdict, Modify) and b"dkim=pass" in verdict.edits.apply()


def test_a_broken_signature_is_refused(signer: OpenDkim, verifier: OpenDkim):
    signed = changed(signer.address, MESSAGES["plain"], AUTHOR)
    verdict = asked(verifier.address, signed.replace(b"Hello, Bob", b"Hello, Eve"), STRANGER)
    assert isinstance(verdict, Reject) and "signature" in verdict.reason.lower()


def test_forged_results_are_removed(verifier: OpenDkim):
    """Of several fields the right ones, by the indices that OpenDKIM gives."""
    hosts = ["gate.example.org", "other.example", "gate.example.org", "last.example", "gate.example.org"]
    forged = "".join(f"Authentication-Results: {host}; dkim=pass\n" for host in hosts)
    verified = changed(verifier.address, crlf(forged) + PLAIN, STRANGER)
    found = [one.value for one in parse(verified).get_all("authentication-results")]
    assert found[0].startswith("gate.example.org; dkim=none")
    assert [one.partition(";")[0] for one in found[1:]] == ["other.example", "last.example"]


@pytest.mark.parametrize("name", WELL_FORMED)
def test_well_formed_messages_gain_a_field_and_nothing_else(verifier: OpenDkim, name: str):
    message = WELL_FORMED[name]
    verdict = asked(verifier.address, message, STRANGER)
    if isinstance(verdict, Modify):
        before, after = parse(message), parse(verdict.edits.apply())
        added = [one.raw for one in after.fields if one.name == "authentication-results"]
        kept = [one.raw for one in after.fields if one.raw not in added]
        assert added and kept == [one.raw for one in before.fields]
        assert after.raw_body == before.raw_body


# -- OpenDMARC -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def dmarc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenDmarc]:
    need("opendmarc", "unshare")
    if not has_networks_of_its_own():
        pytest.skip("OpenDMARC would ask DNS, and can't be cut off from the network here")
    running = OpenDmarc(tmp_path_factory.mktemp("dmarc"))
    yield running
    running.stop()


DATED = crlf("From: alice@example.org\nDate: Mon, 23 Nov 2026 13:00:00 +0000\nSubject: x\n\nHello.\n")


def test_opendmarc_tells_its_result(dmarc: OpenDmarc):
    found = changed(dmarc.address, DATED, STRANGER)
    assert found.endswith(DATED)
    root = parse(found)
    result, software = root.get("authentication-results"), root.get("dmarc-filter")
    assert result is not None and result.value.startswith("gate.example.org; dmarc=")
    assert software is not None and software.value.endswith("abcdefghijkl")


def test_opendmarc_passes_over_who_has_logged_in(dmarc: OpenDmarc):
    message = Message.of(DATED, envelope=Envelope("alice@example.org", ["bob@example.org"]))
    assert asked(dmarc.address, message, AUTHOR) == Pass()
    assert message.facts == {"answer": "accept at mail"}


def test_opendmarc_refuses_two_authors(dmarc: OpenDmarc):
    verdict = asked(dmarc.address, b"From: eve@example.org\r\n" + DATED, STRANGER)
    assert verdict == Reject("Message refused by a filter")


# -- clamav-milter -------------------------------------------------------------------


@pytest.fixture(scope="module")
def clamav(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClamavMilter]:
    need("clamd", "clamav-milter")
    running = ClamavMilter(tmp_path_factory.mktemp("clamav"))
    yield running
    running.stop()


def test_clamav_marks_what_is_clean(clamav: ClamavMilter):
    """A status that somebody else has put there is replaced."""
    found = parse(changed(clamav.address, b"X-Virus-Status: Splendid\r\n" + ALTERNATIVE, STRANGER))
    assert [one.value for one in found.get_all("x-virus-status")] == ["Clean"]
    assert found.raw_body == parse(ALTERNATIVE).raw_body


def test_clamav_refuses_what_is_infected(clamav: ClamavMilter):
    encoded = base64.encodebytes(clamav.MARKER).replace(b"\n", b"\r\n")
    head = b"From: a@example.org\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    verdict = asked(clamav.address, head + encoded, STRANGER)
    assert verdict == Reject("Infected with Test.Marker.UNOFFICIAL")
