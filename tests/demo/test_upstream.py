"""The embedded upstream as a process and as an object on the reactor."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.demo.conftest import Upstream
from tests.demo.test_smtp_server import MESSAGE, accepted, converse

IN_PROCESS = """
import socket
from twisted.internet import reactor
from gateway.demo.upstream import EmbeddedUpstream

upstream = EmbeddedUpstream(users={"zoe": "zebra"})
ports = upstream.start()
assert sorted(ports) == ["imap", "lmtp", "pop3", "smtp"], ports
client = socket.create_connection(("127.0.0.1", ports["smtp"]))

def stop():
    upstream.stop().addCallback(lambda _: reactor.stop())

reactor.callLater(0.1, stop)
reactor.run()
assert upstream.site.connections == set()
try:
    socket.create_connection(("127.0.0.1", ports["smtp"]))
except ConnectionRefusedError:
    print("closed")
"""


@pytest.mark.parametrize("connected", [False, True])
def test_sigterm_ends_it_cleanly_and_removes_its_keys(connected: bool) -> None:
    running = Upstream()
    client = socket.create_connection(("127.0.0.1", running.ports["imaps"])) if connected else None
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(20) == 0
    assert not Path(running.ca).parent.exists()
    running.close()
    if client is not None:
        client.close()


def test_without_a_context_there_is_no_tls_and_stop_closes_everything() -> None:
    done = subprocess.run([sys.executable, "-c", IN_PROCESS], capture_output=True, timeout=60)
    assert (done.stdout, done.stderr) == (b"closed\n", b"")


def test_bad_quirks_are_refused_with_one_line() -> None:
    command = [sys.executable, "-m", "gateway.demo.upstream", "--quirks", '{"frob": 1}']
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert done.returncode == 2 and b"unknown quirk 'frob'" in done.stderr and b"Traceback" not in done.stderr


def test_a_big_message_in_small_pieces(upstream: Upstream) -> None:
    body = MESSAGE + b"0123456789" * 500_000 + b"\r\n"
    stuffed = body.replace(b"\r\n.", b"\r\n..")
    sent = b"HELO me\r\nMAIL FROM:<>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n" + stuffed + b".\r\nQUIT\r\n"
    assert b"\r\n250 2.0.0 delivered\r\n221" in converse(upstream.ports["smtp"], sent)
    assert accepted(upstream) == [body]
