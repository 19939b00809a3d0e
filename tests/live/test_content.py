"""Policies for content before a real server: what it gets, and what is logged."""

from __future__ import annotations

import base64
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.demo.certificates import Authority
from tests.inspection.files import PE, zipped
from tests.support.exim import Exim
from tests.support.gateway import RunningGateway
from tests.support.processes import free_port, wait_until

pytestmark = pytest.mark.live

PLUGINS = """
[[plugins]]
name = "attachments"
use = "attachment_policy"
time_limit = 30.0
[[plugins.options.rules]]
name = "programs"
types = ["@program"]
action = "strip"

[[plugins]]
name = "dlp"
use = "dlp"
time_limit = 30.0
[[plugins.options.rules]]
name = "cards"
find = ["card"]
action = "mask"
[[plugins.options.rules]]
name = "secrets"
find = ["secret"]
action = "reject"

[[plugins]]
name = "yara"
use = "yara"
time_limit = 30.0
options = {{ rules = ["{rules}"] }}
"""
CARD, SECRET = "4111 1111 1111 1111", "hX93kd02mfP1zQ8s"


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, exim: Exim, authority: Authority
) -> Iterator[RunningGateway]:
    pytest.importorskip("yara_x")
    directory = tmp_path_factory.mktemp("gateway")
    rules = directory / "mail.yar"
    rules.write_text('rule marker { strings: $a = "a-marker" condition: $a }')
    toml = f"""
[admin]
address = "127.0.0.1:{free_port()}"
[[upstreams]]
name = "store"
addresses = ["127.0.0.1:{exim.ports["smtp"]}"]
tls = "starttls"
ca = "{authority.certificate}"
[[listeners]]
name = "mx"
protocol = "smtp"
address = "127.0.0.1:{free_port()}"
upstream = "store"
tls = {{ mode = "none" }}
"""
    running = RunningGateway(toml + PLUGINS.format(rules=rules), directory)
    yield running
    assert running.stop() == 0


def send(gateway: RunningGateway, exim: Exim, message: bytes) -> tuple[int, bytes]:
    with smtplib.SMTP("127.0.0.1", gateway.ports["mx"], timeout=60) as client:
        client.ehlo()
        client.mail("alice@rig.test")
        client.rcpt("bob@rig.test")
        return client.data(message)


def test_what_arrives_and_what_is_logged(gateway: RunningGateway, exim: Exim):
    packed = base64.encodebytes(zipped({"x.exe": PE})).replace(b"\n", b"\r\n")
    message = (
        b"Subject: an order\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\npay "
        + CARD.encode()
        + b"\r\n--b\r\nContent-Type: application/zip; name=a.zip\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + packed
        + b"--b--\r\n"
    )
    before = len(exim.messages())
    code, _ = send(gateway, exim, message)
    assert code == 250
    wait_until(lambda: len(exim.messages()) > before, 20, "the message")
    arrived = next(text for text in exim.messages() if b"an order" in text)
    assert b"pay **** **** **** 1111" in arrived
    assert b'The attachment "a.zip/x.exe" was removed here: programs.' in arrived
    assert packed[:40] not in arrived and b"application/zip" not in arrived

    refused, reply = send(gateway, exim, b"Subject: x\r\n\r\npassword=" + SECRET.encode() + b"\r\n")
    assert (refused, b"may not be sent: secrets" in reply) == (550, True)
    refused, reply = send(gateway, exim, b"Subject: x\r\n\r\na-marker\r\n")
    assert (refused, b"mail:marker" in reply) == (550, True)

    gateway.wait_for_log(lambda line: line.get("plugin") == "yara" and line.get("result") == "reject")
    lines = [line for line in gateway.log_lines() if line.get("event") == "plugin"]
    assert {line["plugin"] for line in lines} == {"attachments", "dlp", "yara"}
    everything = gateway.log_path.read_text() + gateway.get("/metrics")
    everything += Path(gateway.directory / "mailgate.output").read_text()
    for secret in (CARD, CARD.replace(" ", ""), SECRET, SECRET[:8]):
        assert secret not in everything
