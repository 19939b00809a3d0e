"""Cyrus behind the gateway: a third server's IMAP and POP3, conversation by conversation."""

from __future__ import annotations

import imaplib
import itertools
import poplib
import re
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.demo.certificates import Authority
from tests.support.cyrus import Cyrus
from tests.support.gateway import RunningGateway
from tests.support.processes import free_port

pytestmark = pytest.mark.live

MODES = ("none", "starttls", "implicit")
MESSAGE = b"From: a@example.org\r\nSubject: hello\r\n\r\nA line.\r\n.\r\n..\r\n"


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, cyrus: Cyrus, authority: Authority
) -> Iterator[RunningGateway]:
    directory = tmp_path_factory.mktemp("gateway")
    pair = authority.issue("gateway-cyrus")
    toml = ""
    for name, tls in (
        ("imap", "starttls"),
        ("imaps", "implicit"),
        ("pop3", "starttls"),
        ("pop3s", "implicit"),
    ):
        toml += f"""
[[upstreams]]
name = "{name}"
addresses = ["127.0.0.1:{cyrus.ports[name]}"]
tls = "{tls}"
ca = "{authority.certificate}"
[[listeners]]
name = "{name}"
protocol = "{name.removesuffix("s")}"
address = "127.0.0.1:{free_port()}"
upstream = "{name}"
tls = {{ mode = "{tls}", certificates = [{{ certificate = "{pair.certificate}", key = "{pair.key}" }}] }}
"""
    running = RunningGateway(toml, directory)
    yield running
    assert running.stop() == 0


def unstamped(value: Any) -> str:
    """Write an answer without what differs between two equal conversations."""
    stamps = (
        r"SESSIONID=<[^>]*>",
        r"\d+\.\d+ sec",
        r"(UIDVALIDITY|COPYUID|APPENDUID|HIGHESTMODSEQ|MODSEQ|UIDNEXT) ?[\d :(]+",
        r"<[\d.]+@[^>]*>",
        r"MAILBOXID \([^)]*\)",
        r"box\d+",
    )
    return re.sub("|".join(stamps), "…", repr(value))


#: Cyrus remembers a deleted mailbox by its name: each conversation has one of its own.
BOXES = (f"box{number}" for number in itertools.count())


@pytest.mark.parametrize("mode", MODES)
def test_imap(cyrus: Cyrus, gateway: RunningGateway, authority: Authority, mode: str):
    context = ssl.create_default_context(cafile=str(authority.certificate))

    def converse(ports: dict[str, int]) -> list[str]:
        client: imaplib.IMAP4
        if mode == "implicit":
            client = imaplib.IMAP4_SSL("localhost", ports["imaps"], ssl_context=context, timeout=20)
        else:
            client = imaplib.IMAP4("localhost", ports["imap"], timeout=20)
            if mode == "starttls":
                client.starttls(context)
        seen: list[Any] = [client.login("alice", cyrus.users["alice"])[0]]
        box = next(BOXES)
        for name, arguments in (
            ("create", (box,)), ("append", (box, "(\\Seen)", '"02-Jan-2026 00:00:00 +0000"', MESSAGE)),
            ("select", (box,)), ("fetch", ("1", "(UID FLAGS RFC822.SIZE BODY[])")),
            ("fetch", ("1", "(ENVELOPE BODYSTRUCTURE)")), ("search", (None, "SUBJECT", "hello")),
            ("store", ("1", "+FLAGS", "(\\Deleted)")), ("expunge", ()), ("close", ()), ("delete", (box,)),
            ("logout", ()),
        ):  # fmt: skip
            seen.append((name, getattr(client, name)(*arguments)))
        return [unstamped(one) for one in seen]

    assert converse(gateway.ports) == converse(cyrus.ports)


@pytest.mark.parametrize("mode", MODES)
def test_pop3(cyrus: Cyrus, gateway: RunningGateway, authority: Authority, mode: str):
    context = ssl.create_default_context(cafile=str(authority.certificate))
    fill = imaplib.IMAP4("localhost", cyrus.ports["imap"])
    fill.login("alice", cyrus.users["alice"])
    fill.create("INBOX")
    fill.append("INBOX", "", '"02-Jan-2026 00:00:00 +0000"', MESSAGE)
    fill.logout()

    def converse(ports: dict[str, int]) -> list[str]:
        client: poplib.POP3
        if mode == "implicit":
            client = poplib.POP3_SSL("localhost", ports["pop3s"], context=context, timeout=20)
        else:
            client = poplib.POP3("localhost", ports["pop3"], timeout=20)
            if mode == "starttls":
                client.stls(context)
        seen: list[Any] = [client.user("alice"), client.pass_(cyrus.users["alice"])]
        seen += [client.stat(), client.list(), client.uidl(), client.retr(1), client.top(1, 1), client.quit()]
        return [unstamped(one) for one in seen]

    assert converse(gateway.ports) == converse(cyrus.ports)
