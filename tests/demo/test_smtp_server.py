"""SMTP and LMTP of the embedded upstream, with smtplib and bare sockets."""

from __future__ import annotations

import smtplib
import socket

import pytest

from tests.demo.conftest import Upstream

MESSAGE = b"Subject: dots\r\n\r\n.one\r\n..two\r\nGr\xc3\xbc\xc3\x9fe\r\n"


def converse(port: int, sent: bytes, *, close_input: bool = False) -> bytes:
    """Sends everything in one piece and reads until the server closes."""
    with socket.create_connection(("127.0.0.1", port), 20) as client:
        client.sendall(sent)
        if close_input:
            client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65536), b""))


def codes(answer: bytes) -> list[int]:
    """The codes of the last lines of replies."""
    return [int(line[:3]) for line in answer.splitlines() if line[3:4] == b" "]


def accepted(upstream: Upstream) -> list[bytes]:
    return [each["content"].encode("latin-1") for each in upstream.ask("accepted")]


@pytest.mark.parametrize("mode", ["plain", "starttls", "implicit"])
def test_a_message_arrives_byte_for_byte(upstream: Upstream, mode: str) -> None:
    client: smtplib.SMTP
    if mode == "implicit":
        client = smtplib.SMTP_SSL("localhost", upstream.ports["smtps"], timeout=20, context=upstream.tls())
    else:
        client = smtplib.SMTP("localhost", upstream.ports["smtp"], timeout=20)
    with client:
        if mode == "starttls":
            client.starttls(context=upstream.tls())
        client.ehlo()
        assert client.has_extn("chunking") and client.esmtp_features["size"] == "104857600"
        assert client.has_extn("starttls") == (mode == "plain")
        assert client.sendmail("dave@example.net", ["alice@example.org", "bob@example.org"], MESSAGE) == {}
    (delivery,) = upstream.ask("accepted")
    assert delivery["content"].encode("latin-1") == MESSAGE
    assert delivery["recipients"] == ["alice@example.org", "bob@example.org"]
    assert delivery["reverse_path"] == "dave@example.net"


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_every_mechanism_logs_in_and_allows_relaying(upstream: Upstream, mechanism: str) -> None:
    with smtplib.SMTP("localhost", upstream.ports["smtp"], timeout=20) as client:
        client.ehlo()
        assert client.docmd("RCPT", "TO:<x@example.net>")[0] == 503
        client.user, client.password = "alice", upstream.users["alice"]
        method = getattr(client, "auth_" + mechanism.lower().replace("-", "_"))
        assert client.auth(mechanism, method)[0] == 235
        assert client.sendmail("alice@example.org", ["dave@example.net"], MESSAGE) == {}
    assert upstream.ask("accepted")[0]["login"] == "alice"


def test_wrong_password_unknown_recipient_and_relaying_are_refused(upstream: Upstream) -> None:
    with smtplib.SMTP("localhost", upstream.ports["smtp"], timeout=20) as client:
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login("alice", "wrong")
        client.docmd("MAIL", "FROM:<>")
        assert client.docmd("RCPT", "TO:<nobody@example.org>") == (
            550,
            b"5.1.1 <nobody@example.org> no such user",
        )
        assert client.docmd("RCPT", "TO:<dave@example.net>")[0] == 550
        assert client.docmd("DATA")[0] == 503


def test_pipelined_commands_data_and_chunks_are_answered_in_order(upstream: Upstream) -> None:
    answer = converse(
        upstream.ports["smtp"],
        b"EHLO me\r\nMAIL FROM:<a@example.net> SIZE=10\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n"
        b"..\r\nx\r\n.\r\nMAIL FROM:<b@example.net>\r\nRCPT TO:<bob@example.org>\r\n"
        b"BDAT 5\r\nQUIT\nBDAT 3 LAST\r\n.\r\nBDAT 4 LAST\r\nRSETVRFY x\r\nHELP\r\nRSET\r\nNOOP\r\nQUIT\r\n",
    )
    assert codes(answer) == [220, 250, 250, 250, 354, 250, 250, 250, 250, 250, 503, 252, 214, 250, 250, 221]
    assert accepted(upstream) == [b".\r\nx\r\n", b"QUIT\n.\r\n"]


def test_an_empty_message_ends_with_its_first_dot(upstream: Upstream) -> None:
    answer = converse(
        upstream.ports["smtp"],
        b"HELO me\r\nMAIL FROM:<>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n.\r\nQUIT\r\n",
    )
    assert codes(answer) == [220, 250, 250, 250, 354, 250, 221]
    assert accepted(upstream) == [b""]


def test_bare_line_ends_around_a_dot_do_not_end_a_message(upstream: Upstream) -> None:
    answer = converse(
        upstream.ports["smtp"],
        b"HELO me\r\nMAIL FROM:<>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\na\n.\nb\n.\r\nc\r\n.\r\nQUIT\r\n",
    )
    assert codes(answer) == [220, 250, 250, 250, 354, 250, 221]
    assert accepted(upstream) == [b"a\n.\nb\n.\r\nc\r\n"]


def test_a_declared_size_beyond_the_limit_is_refused(upstream: Upstream) -> None:
    answer = converse(upstream.ports["smtp"], b"EHLO me\r\nMAIL FROM:<> SIZE=104857601\r\nQUIT\r\n")
    assert codes(answer) == [220, 250, 552, 221]


def test_lmtp_answers_once_per_recipient(upstream: Upstream) -> None:
    answer = converse(
        upstream.ports["lmtp"],
        b"EHLO me\r\nLHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\nRCPT TO:<no@example.org>\r\n"
        b"RCPT TO:<bob@example.org>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n",
    )
    assert codes(answer) == [220, 500, 250, 250, 250, 550, 250, 354, 250, 250, 221]


def test_what_follows_starttls_in_the_same_packet_is_thrown_away(upstream: Upstream) -> None:
    with socket.create_connection(("127.0.0.1", upstream.ports["smtp"]), 20) as client:
        client.recv(1000)
        client.sendall(b"STARTTLS\r\nMAIL FROM:<injected@example.net>\r\n")
        assert client.recv(1000).startswith(b"220 ")
        with upstream.tls().wrap_socket(client, server_hostname="localhost") as protected:
            protected.sendall(b"NOOP\r\n")
            assert protected.recv(1000) == b"250 2.0.0 ok\r\n"
    assert upstream.lines("smtp") == ["STARTTLS", "NOOP"]
