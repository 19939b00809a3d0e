"""The running command asks OpenDKIM: mail is signed on its way to Postfix, and verified when it is read."""

from __future__ import annotations

import imaplib
import smtplib
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import make_msgid

import dkim
import pytest

from gateway.inspection.parts import parse
from tests.conftest import need
from tests.inspection.samples import MIXED, crlf
from tests.support.dovecot import Dovecot
from tests.support.gateway import RunningGateway
from tests.support.milters import Key, OpenDkim
from tests.support.postfix import Postfix
from tests.support.processes import free_port, wait_until

pytestmark = pytest.mark.live

HEADER = "From: Alice <alice@example.org>\nTo: bob@rig.test\nDate: Mon, 23 Nov 2026 13:00:00 +0000\n"


@dataclass
class Site:
    """A gateway before Postfix's SMTP and Dovecot's IMAP, and the milters that it asks."""

    gateway: RunningGateway
    dovecot: Dovecot
    key: Key
    signer: OpenDkim

    def submit(self, message: bytes) -> None:
        with smtplib.SMTP("127.0.0.1", self.gateway.ports["submission"], timeout=30) as client:
            client.user, client.password = "alice", self.dovecot.users["alice"]
            client.ehlo()
            client.auth("PLAIN", client.auth_plain)
            assert client.sendmail("alice@rig.test", ["bob@rig.test"], message, ["BODY=8BITMIME"]) == {}

    def read(self, port: int, ident: str) -> bytes:
        """Wait for the message with this identifier in Bob's mailbox, and return it."""
        client = imaplib.IMAP4("127.0.0.1", port, timeout=30)
        client.login("bob", self.dovecot.users["bob"])

        def found() -> bytes:
            client.select("INBOX", readonly=True)
            return bytes(client.search(None, "HEADER", "Message-ID", f'"{ident}"')[1][0])

        number = wait_until(found, 30, "the message").decode()
        _, ((_, octets), *_) = client.fetch(number, "(BODY.PEEK[])")  # type: ignore[misc]
        client.logout()
        return bytes(octets)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, dovecot: Dovecot, postfix: Postfix) -> Iterator[Site]:
    need("opendkim")
    directory = tmp_path_factory.mktemp("gateway")
    key = Key(directory)
    signer = OpenDkim(directory, key, "s", "InternalHosts 127.0.0.2", "MacroList auth_type|PLAIN")
    verifier = OpenDkim(directory, key, "v", tcp=True)
    toml = f"""
hostname = "gate.rig.test"
[[plugins]]
name = "mark"
use = "footer"
options = {{ text = "-- \\nRig Ltd" }}
[[plugins]]
name = "sign"
use = "milter"
time_limit = 20.0
options = {{ address = "{signer.address}", command_timeout = 15, message_timeout = 15, seconds = 18 }}
[[plugins]]
name = "verify"
use = "milter"
stages = ["fetch"]
time_limit = 20.0
options = {{ address = "{verifier.address}", command_timeout = 15, message_timeout = 15, seconds = 18 }}
"""
    upstreams = {"submission": postfix.ports["smtp"], "imap": dovecot.ports["imap"]}
    for name, port in upstreams.items():
        toml += f"""
[[upstreams]]
name = "{name}"
addresses = ["127.0.0.1:{port}"]
tls = "none"
[[listeners]]
name = "{name}"
protocol = "{"smtp" if name == "submission" else name}"
address = "127.0.0.1:{free_port()}"
upstream = "{name}"
trusted_networks = ["127.0.0.1/32"]
tls = {{ mode = "none" }}
"""
    try:
        gateway = RunningGateway(toml, directory)
        yield Site(gateway, dovecot, key, signer)
        assert gateway.stop() == 0
    finally:
        signer.stop()
        verifier.stop()


@pytest.mark.parametrize(
    "message",
    [
        crlf("Subject:  two  blanks\n\n.\n..dots\nGr\u00fc\u00dfe \n\n\n"),
        MIXED.partition(b"\r\n")[2],
        crlf("Subject: large\n\n") + b"0123456789 abcdef\r\n" * 50_000,
    ],
    ids=["odd", "mixed", "large"],
)
def test_mail_is_signed_as_it_arrives_and_verified_as_it_is_read(site: Site, message: bytes):
    """The signature covers what the plugin before has made of the mail."""
    ident = make_msgid(domain="rig.test")
    site.submit(crlf(f"{HEADER}Message-ID: {ident}\n") + message)
    arrived = site.read(site.dovecot.ports["imap"], ident)
    assert b"Rig Ltd" in arrived and parse(arrived).get("authentication-results") is None
    assert dkim.verify(arrived, dnsfunc=site.key.lookup)
    assert not dkim.verify(arrived.replace(b"Rig Ltd", b"Rig Inc"), dnsfunc=site.key.lookup)
    result = parse(site.read(site.gateway.ports["imap"], ident)).get("authentication-results")
    assert result is not None and result.value.startswith("gate.rig.test;") and "dkim=pass" in result.value
    ran = site.gateway.wait_for_log(lambda line: line.get("plugin") == "sign")
    assert ran["result"] == "modify" and ran["facts"]["answer"] == "accept at end_of_body"


def test_without_its_milter_mail_stays_with_the_client(site: Site):
    """The last one here: the milter does not come back."""
    site.signer.stop()
    with pytest.raises(smtplib.SMTPDataError) as caught:
        site.submit(crlf(f"{HEADER}Subject: unsigned\n\nHello.\n"))
    assert caught.value.smtp_code == 451
    site.gateway.wait_for_log(lambda line: "Connection refused" in str(line.get("detail")))
