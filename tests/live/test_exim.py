"""Exim behind the gateway: a third server's SMTP, with CHUNKING, PIPECONNECT and PRDR among its offers."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator

import pytest

from gateway.demo.certificates import Authority
from tests.support.exim import Exim
from tests.support.gateway import RunningGateway
from tests.support.processes import free_port, wait_until

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, exim: Exim, authority: Authority
) -> Iterator[RunningGateway]:
    directory = tmp_path_factory.mktemp("gateway")
    pair = authority.issue("gateway-exim")
    toml = (
        '[[plugins]]\nname = "mark"\nuse = "add_header"\noptions = { name = "X-Gateway", value = "seen" }\n'
    )
    for mode, port, tls in (
        ("starttls", exim.ports["smtp"], "starttls"),
        ("implicit", exim.ports["smtps"], "implicit"),
    ):
        toml += f"""
[[upstreams]]
name = "{mode}"
addresses = ["127.0.0.1:{port}"]
tls = "{tls}"
ca = "{authority.certificate}"
[[listeners]]
name = "{mode}"
protocol = "smtp"
address = "127.0.0.1:{free_port()}"
upstream = "{mode}"
tls = {{ mode = "{mode}", certificates = [{{ certificate = "{pair.certificate}", key = "{pair.key}" }}] }}
"""
    running = RunningGateway(toml, directory)
    yield running
    assert running.stop() == 0


@pytest.mark.parametrize("mode", ["none", "starttls", "implicit"])
def test_a_conversation_is_the_same(exim: Exim, gateway: RunningGateway, authority: Authority, mode: str):
    context = ssl.create_default_context(cafile=str(authority.certificate))

    def converse(ports: dict[str, int]) -> list[object]:
        if mode == "implicit":
            client = smtplib.SMTP_SSL("localhost", ports["implicit"], timeout=20, context=context)
        else:
            client = smtplib.SMTP("localhost", ports["starttls"], timeout=20)
            if mode == "starttls":
                client.starttls(context=context)
        client.ehlo()
        seen: list[object] = [client.login("alice", exim.users["alice"])]
        seen += [client.mail("alice@rig.test"), client.rcpt("nobody@rig.test"), client.rcpt("bob@rig.test")]
        seen += [client.data(b"Subject: hello\r\n\r\nA line.\r\n.\r\n")[0], client.noop(), client.quit()]
        return seen

    direct = {"starttls": exim.ports["smtp"], "implicit": exim.ports["smtps"]}
    before = len(exim.messages())
    assert converse(gateway.ports) == converse(direct)
    wait_until(lambda: len(exim.messages()) == before + 2, 20, "both messages")
    # Exim delivers them side by side: which came first says nothing.
    straight, through = sorted(exim.messages()[-2:], key=lambda text: b"X-Gateway: seen" in text)
    assert b"X-Gateway: seen" in through and b"X-Gateway" not in straight
    assert through.partition(b"\n\n")[2] == straight.partition(b"\n\n")[2]


def test_what_early_talk_and_per_recipient_replies_would_break_is_struck(gateway: RunningGateway):
    client = smtplib.SMTP("localhost", gateway.ports["starttls"], timeout=20)
    client.ehlo()
    assert client.has_extn("chunking") and client.has_extn("pipelining")
    assert not client.has_extn("prdr") and not client.has_extn("pipe_connect")
    client.quit()
