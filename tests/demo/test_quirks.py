"""The embedded upstream misbehaves exactly as it is told to."""

from __future__ import annotations

import select
import socket
import time

import pytest

from gateway.demo.quirks import Quirks
from gateway.demo.samples import sample_messages
from tests.demo.conftest import Upstream
from tests.demo.test_smtp_server import converse

MAIL = b"EHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<bob@example.org>\r\n"


def test_starttls_is_stripped_everywhere(upstream: Upstream) -> None:
    upstream.quirks(strip_starttls=True)
    assert b"STARTTLS" not in converse(upstream.ports["smtp"], b"EHLO me\r\nQUIT\r\n")
    assert b"\r\n502 " in converse(upstream.ports["smtp"], b"STARTTLS\r\nQUIT\r\n")
    assert b"STLS" not in converse(upstream.ports["pop3"], b"CAPA\r\nQUIT\r\n")
    assert b"a BAD" in converse(upstream.ports["imap"], b"a STARTTLS\r\nb LOGOUT\r\n")


def test_capabilities_are_added_and_taken_away(upstream: Upstream) -> None:
    upstream.quirks(extra_capabilities=["XFROB"], no_capabilities=["SIZE", "IDLE", "SASL-IR", "UIDL"])
    smtp = converse(upstream.ports["smtp"], b"EHLO me\r\nQUIT\r\n")
    assert b"250 XFROB\r\n" in smtp and b"SIZE" not in smtp and b"CHUNKING" in smtp
    imap = converse(upstream.ports["imap"], b"a LOGOUT\r\n")
    assert b" XFROB]" in imap and b"SASL-IR" not in imap
    assert b"UIDL" not in converse(upstream.ports["pop3"], b"CAPA\r\nQUIT\r\n")


def test_preauth_and_own_greeting(upstream: Upstream) -> None:
    upstream.quirks(greeting_preauth=True)
    answer = converse(upstream.ports["imap"], b"a SELECT INBOX\r\nb LOGOUT\r\n")
    assert answer.startswith(b"* PREAUTH [") and b"a OK [READ-WRITE]" in answer
    upstream.quirks(greeting="554 no\r\n")
    assert converse(upstream.ports["smtp"], b"QUIT\r\n").startswith(b"554 no\r\n221")


def test_plain_bytes_are_injected_behind_the_reply_to_starttls(upstream: Upstream) -> None:
    upstream.quirks(inject_after_starttls="* CAPABILITY evil\r\n")
    with socket.create_connection(("127.0.0.1", upstream.ports["imap"]), 20) as client:
        client.recv(1000)
        client.sendall(b"a STARTTLS\r\n")
        answer = b""
        while not answer.endswith(b"evil\r\n"):
            answer += client.recv(1000)
    assert answer == b"a OK begin TLS\r\n* CAPABILITY evil\r\n"


def test_logins_are_refused(upstream: Upstream) -> None:
    upstream.quirks(refuse_login=True)
    password = upstream.users["bob"].encode()
    assert b"\r\na NO [AUTH" in converse(
        upstream.ports["imap"], b"a LOGIN bob " + password + b"\r\nb LOGOUT\r\n"
    )
    assert b"-ERR [AUTH]" in converse(
        upstream.ports["pop3"], b"USER bob\r\nPASS " + password + b"\r\nQUIT\r\n"
    )


@pytest.mark.parametrize("verb", ["RCPT", "data"])
def test_the_upstream_closes_without_a_reply(upstream: Upstream, verb: str) -> None:
    upstream.quirks(close_after=verb)
    answer = converse(upstream.ports["smtp"], MAIL + b"DATA\r\nx\r\n.\r\nQUIT\r\n")
    assert answer.splitlines()[-1][:4] == (b"250 " if verb == "RCPT" else b"354 ")
    assert upstream.ask("accepted") == []


def test_the_upstream_closes_after_an_imap_command(upstream: Upstream) -> None:
    upstream.quirks(close_after="FETCH")
    login = (
        b"a LOGIN bob " + upstream.users["bob"].encode() + b"\r\nb SELECT INBOX\r\nc UID FETCH 1 FLAGS\r\n"
    )
    assert converse(upstream.ports["imap"], login).splitlines()[-1].startswith(b"b OK")


def test_the_upstream_falls_silent(upstream: Upstream) -> None:
    upstream.quirks(hang_after="NOOP")
    with socket.create_connection(("127.0.0.1", upstream.ports["smtp"]), 20) as client:
        client.recv(1000)
        client.sendall(b"NOOP\r\nRSET\r\n")
        while "NOOP" not in upstream.lines("smtp"):
            time.sleep(0.01)
        assert not select.select([client], [], [], 0.2)[0]
    assert upstream.lines("smtp") == ["NOOP"]


def test_the_final_reply_is_replaced(upstream: Upstream) -> None:
    upstream.quirks(final_dot_reply="451 4.3.0 later\r\n")
    answer = converse(upstream.ports["smtp"], MAIL + b"DATA\r\nx\r\n.\r\nQUIT\r\n")
    assert b"451 4.3.0 later\r\n221" in answer and upstream.ask("accepted") == []


def test_a_body_is_sent_slowly_and_whole(upstream: Upstream) -> None:
    size = len(sample_messages()[0])
    upstream.quirks(slow_body=size * 2)
    login = b"USER bob\r\nPASS " + upstream.users["bob"].encode() + b"\r\nRETR 1\r\nNOOP\r\nQUIT\r\n"
    begin = time.monotonic()
    answer = converse(upstream.ports["pop3"], login)
    assert time.monotonic() - begin > 0.3
    assert answer.endswith(b"\r\n.\r\n+OK\r\n+OK bye\r\n")


def test_a_body_is_cut(upstream: Upstream) -> None:
    upstream.quirks(cut_body=100)
    login = b"USER bob\r\nPASS " + upstream.users["bob"].encode() + b"\r\nRETR 1\r\nQUIT\r\n"
    assert converse(upstream.ports["pop3"], login).endswith(b"octets\r\n" + sample_messages()[0][:100])


def test_unknown_quirks_are_named() -> None:
    with pytest.raises(ValueError, match="unknown quirk 'hang'"):
        Quirks.from_json('{"hang": 1}')


def test_the_upstream_ends_when_its_standard_input_closes() -> None:
    running = Upstream()
    assert running.close() == 0
