"""clamd in the running command: malware is refused, withheld from readers, and deferred without clamd."""

from __future__ import annotations

import imaplib
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import need
from tests.support.dovecot import Dovecot
from tests.support.gateway import RunningGateway
from tests.support.processes import free_port
from tests.support.scanners import MALWARE, Clamd

pytestmark = pytest.mark.live

GOOD = b"Subject: good\r\n\r\nhello\r\n"
BAD = b"Subject: bad\r\n\r\n" + MALWARE + b"\r\n"


@pytest.fixture
def clamd(rig_directory: Path, tmp_path: Path) -> Iterator[Clamd]:
    need("clamd")
    server = Clamd(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def gateway(tmp_path: Path, dovecot: Dovecot, clamd: Clamd) -> Iterator[RunningGateway]:
    toml = f"""
[[plugins]]
name = "scan"
use = "clamav"
stages = ["data", "append", "fetch"]
options = {{ address = "{clamd.address}" }}
"""
    for name in ("lmtp", "imap"):
        toml += f"""
[[upstreams]]
name = "{name}"
addresses = ["127.0.0.1:{dovecot.ports[name]}"]
tls = "none"
[[listeners]]
name = "{name}"
protocol = "{name}"
address = "127.0.0.1:{free_port()}"
upstream = "{name}"
"""
    running = RunningGateway(toml, tmp_path)
    yield running
    assert running.stop() == 0


def deliver(port: int, message: bytes) -> None:
    with smtplib.LMTP("127.0.0.1", port, timeout=20) as client:
        client.sendmail("eve@outside.example", ["bob@rig.test"], message)


def test_malware_on_every_path(gateway: RunningGateway, dovecot: Dovecot, clamd: Clamd) -> None:
    dovecot.empty("bob")
    deliver(gateway.ports["lmtp"], GOOD)
    with pytest.raises(smtplib.SMTPDataError) as refused:
        deliver(gateway.ports["lmtp"], BAD)
    assert refused.value.smtp_code == 550
    assert refused.value.smtp_error == f"5.7.1 Malware found: {clamd.signature}".encode()
    deliver(dovecot.ports["lmtp"], BAD)  # past the gateway: it lies in the mailbox
    line = gateway.wait_for_log(lambda line: line["event"] == "plugin" and line["result"] == "reject")
    assert line["facts"]["signature"] == clamd.signature
    with imaplib.IMAP4("127.0.0.1", gateway.ports["imap"], timeout=20) as client:
        client.login("bob", dovecot.users["bob"])
        client.select()
        seen = [client.fetch(str(number), "(BODY.PEEK[])")[1][0][1] for number in (1, 2)]
        assert b"hello" in seen[0]
        assert MALWARE not in seen[1] and b"Malware found" in seen[1]
        status, text = client.append("INBOX", "", None, BAD)
        assert status == "NO" and b"Malware found" in text[0]
    clamd.stop()
    with pytest.raises(smtplib.SMTPDataError) as deferred:
        deliver(gateway.ports["lmtp"], GOOD)
    assert deferred.value.smtp_code == 451
    line = gateway.wait_for_log(lambda line: line["event"] == "plugin" and line["result"] == "error")
    assert clamd.address in line["detail"]
