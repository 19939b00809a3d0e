"""POP3 of the embedded upstream, with poplib, curl and bare sockets."""

from __future__ import annotations

import poplib
import shutil
import subprocess

import pytest

from gateway.demo.samples import sample_messages
from tests.demo.conftest import Upstream
from tests.demo.test_smtp_server import converse


def connect(upstream: Upstream, mode: str = "plain") -> poplib.POP3:
    if mode == "implicit":
        return poplib.POP3_SSL("localhost", upstream.ports["pop3s"], timeout=20, context=upstream.tls())
    client = poplib.POP3("localhost", upstream.ports["pop3"], timeout=20)
    if mode == "starttls":
        client.stls(context=upstream.tls())
    return client


@pytest.mark.parametrize("mode", ["plain", "starttls", "implicit"])
def test_every_sample_is_read_byte_for_byte(upstream: Upstream, mode: str) -> None:
    client = connect(upstream, mode)
    assert ("STLS" in client.capa()) == (mode == "plain")
    client.user("alice")
    client.pass_(upstream.users["alice"])
    samples = sample_messages()
    assert client.stat() == (len(samples), sum(map(len, samples)))
    for number, sample in enumerate(samples, 1):
        assert b"\r\n".join(client.retr(number)[1]) + b"\r\n" == sample
    assert client.list()[1] == [b"%d %d" % (n, len(each)) for n, each in enumerate(samples, 1)]
    head = samples[0].partition(b"\r\n\r\n")[0]
    assert b"\r\n".join(client.top(1, 1)[1]) == head + b"\r\n\r\nDear Alice,"
    client.quit()


def test_apop_logs_in_and_deletion_waits_for_quit(upstream: Upstream) -> None:
    first = connect(upstream)
    first.apop("alice", upstream.users["alice"])
    ids = first.uidl()[1]
    first.dele(1)
    with pytest.raises(poplib.error_proto):
        first.retr(1)
    first.rset()
    first.dele(2)
    first.quit()
    second = connect(upstream)
    second.apop("alice", upstream.users["alice"])
    assert [line.split()[1] for line in second.uidl()[1]] == [
        line.split()[1] for number, line in enumerate(ids, 1) if number != 2
    ]
    second.quit()


def test_commands_are_pipelined_and_states_are_kept(upstream: Upstream) -> None:
    password = upstream.users["bob"].encode()
    answer = converse(
        upstream.ports["pop3"],
        b"STAT\r\nAUTH PLAIN AGJvYgB3cm9uZw==\r\nAUTH PLAIN\r\n*\r\nUSER bob\r\nPASS " + password + b"\r\n"
        b"USER bob\r\nRETR 1\r\nRETR 99\r\nNOOP\r\nQUIT\r\n",
    )
    body = sample_messages()[0]
    stuffed = body.replace(b"\r\n.", b"\r\n..")
    head, _, rest = answer.partition(stuffed + b".\r\n")
    assert [line[:4] for line in head.splitlines()[1:]] == [
        *(b"-ERR", b"-ERR", b"+ ", b"-ERR", b"+OK ", b"+OK ", b"-ERR", b"+OK ")
    ]
    assert b"-ERR [AUTH]" in head
    assert [line[:4] for line in rest.splitlines()] == [b"-ERR", b"+OK", b"+OK "]


@pytest.mark.parametrize("option", ["AUTH=PLAIN", "AUTH=CRAM-MD5", "AUTH=+APOP"])
def test_curl_reads_a_message_over_tls(upstream: Upstream, option: str) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    done = subprocess.run(
        [
            *(curl, "--silent", "--show-error", "--cacert", upstream.ca, "--ssl-reqd"),
            *("--login-options", option, "--user", f"alice:{upstream.users['alice']}"),
            f"pop3://localhost:{upstream.ports['pop3']}/3",
        ],
        capture_output=True,
        timeout=60,
    )
    assert done.stderr == b""
    assert done.stdout == sample_messages()[2]
