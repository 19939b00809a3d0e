"""The running command verifies and signs, before Postfix and Dovecot; others verify what arrived."""

from __future__ import annotations

import imaplib
import smtplib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dkim
import pytest

from gateway.inspection.parts import parse
from tests.conftest import need
from tests.inspection.samples import ALTERNATIVE
from tests.inspection.test_mailauth import ED_KEY, RSA_KEY, pem, record
from tests.support.dns import NameServer
from tests.support.dovecot import Dovecot
from tests.support.gateway import RunningGateway
from tests.support.postfix import Postfix
from tests.support.processes import free_port, wait_until

pytestmark = pytest.mark.live

PLUGINS = """
[[plugins]]
name = "verify"
use = "mail_auth"
listeners = ["mx"]
options = { dmarc_reject = "reject", resolvers = ["DNS"] }

[[plugins]]
name = "disclaimer"
use = "footer"
listeners = ["submission"]
options = { text = "-- \\nRig Ltd" }

[[plugins]]
name = "sign"
use = "mail_auth"
listeners = ["submission"]
[plugins.options]
verify = false
[[plugins.options.keys]]
domain = "rig.test"
selector = "r1"
file = "DIRECTORY/rsa.pem"
users = ["alice"]
[[plugins.options.keys]]
domain = "rig.test"
selector = "e1"
file = "DIRECTORY/ed25519.pem"
users = ["alice"]
"""
KEYS = {"r1": ("rsa", RSA_KEY), "e1": ("ed25519", ED_KEY)}


@dataclass
class Site:
    """A gateway before Postfix, which delivers to Dovecot."""

    directory: Path
    ports: dict[str, int]
    dovecot: Dovecot
    gateway: RunningGateway

    def send(self, listener: str, message: bytes, sender: str, user: str = "") -> None:
        with smtplib.SMTP("127.0.0.1", self.ports[listener], timeout=30) as client:
            if user:
                client.login(user, self.dovecot.users[user])
            assert client.sendmail(sender, ["bob@rig.test"], message, ["BODY=8BITMIME"]) == {}

    def received(self, identifier: str) -> bytes:
        """Wait for a message of Bob's, and return it as Dovecot has it."""
        client = imaplib.IMAP4("127.0.0.1", self.dovecot.ports["imap"])
        client.login("bob", self.dovecot.users["bob"])

        def found() -> bytes:
            client.select("INBOX", readonly=True)
            _, (numbers, *_) = client.search(None, "HEADER", "Message-ID", identifier)
            if not numbers:
                return b""
            _, ((_, octets), *_) = client.fetch(numbers.decode().split()[-1], "(BODY.PEEK[])")  # type: ignore[misc]
            return bytes(octets)

        try:
            return wait_until(found, 30, "a message")
        finally:
            client.logout()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, dovecot: Dovecot, postfix: Postfix) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("gateway")
    for name, key in KEYS.values():
        (directory / f"{name}.pem").write_bytes(pem(key))
        (directory / f"{name}.pem").chmod(0o600)
    ports = {"submission": free_port(), "mx": free_port()}
    with NameServer() as server:
        server.txt("bank.example", "v=spf1 -all")
        server.txt("_dmarc.bank.example", "v=DMARC1; p=reject")
        server.txt("friend.example", "v=spf1 ip4:127.0.0.0/8 -all")
        server.txt("_dmarc.friend.example", "v=DMARC1; p=reject")
        toml = 'hostname = "gate.rig.test"\n'
        toml += PLUGINS.replace("DIRECTORY", str(directory)).replace("DNS", server.address)
        toml += (
            f'[[upstreams]]\nname = "up"\naddresses = ["127.0.0.1:{postfix.ports["smtp"]}"]\ntls = "none"\n'
        )
        for name, port in ports.items():
            trusted = '["127.0.0.1/32"]' if name == "submission" else "[]"
            toml += f"""
[[listeners]]
name = "{name}"
protocol = "smtp"
address = "127.0.0.1:{port}"
upstream = "up"
trusted_networks = {trusted}
tls = {{ mode = "none" }}
"""
        gateway = RunningGateway(toml, directory)
        yield Site(directory, ports, dovecot, gateway)
        assert gateway.stop() == 0


def mail(author: str, identifier: str) -> bytes:
    fields = f"Message-ID: <{identifier}>\r\nDate: Mon, 23 Nov 2026 08:00:00 +0000\r\n".encode()
    return fields + ALTERNATIVE.replace(b"alice@example.org", author.encode())


def test_submitted_mail_arrives_signed_behind_the_footer(site: Site):
    site.send("submission", mail("alice@rig.test", "signed@rig.test"), "alice@rig.test", "alice")
    arrived = site.received("signed@rig.test")
    assert "Rig Ltd" in parse(arrived).children[0].text()
    assert len(parse(arrived).get_all("dkim-signature")) == 2

    def ask(name: bytes, timeout: float = 5) -> bytes:
        return record(KEYS[name.partition(b".")[0].decode()][1]).encode()

    assert [dkim.DKIM(arrived).verify(index, dnsfunc=ask) for index in range(2)] == [True, True]
    assert not dkim.verify(arrived.replace(b"Rig Ltd", b"Rag Ltd"), dnsfunc=ask)
    line = site.gateway.wait_for_log(lambda line: line.get("plugin") == "sign")
    assert line["result"] == "modify" and "r1._domainkey.rig.test" in str(line)


def test_opendkim_verifies_what_arrived(site: Site):
    need("opendkim")
    site.send("submission", mail("alice@rig.test", "second@rig.test"), "alice@rig.test", "alice")
    arrived = site.directory / "arrived.eml"
    arrived.write_bytes(site.received("second@rig.test"))
    data = site.directory / "dns"
    data.write_text("".join(f"{name}._domainkey.rig.test {record(key)}\n" for name, (_, key) in KEYS.items()))
    configuration = site.directory / "opendkim.conf"
    configuration.write_text(f"Mode v\nTestDNSData {data}\nSyslog no\n")
    verified = subprocess.run(
        ["/usr/sbin/opendkim", "-x", str(configuration), "-vv", "-t", str(arrived)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    told = verified.stdout + verified.stderr
    assert told.count("dkim=pass") == 2 and "2048-bit key) succeeded" in told, told


def test_a_user_without_a_key_sends_unsigned(site: Site):
    site.send("submission", mail("alice@rig.test", "unsigned@rig.test"), "bob@rig.test", "bob")
    assert parse(site.received("unsigned@rig.test")).get("dkim-signature") is None


def test_forged_mail_is_refused(site: Site):
    with pytest.raises(smtplib.SMTPDataError) as caught:
        site.send("mx", mail("ceo@bank.example", "forged@bank.example"), "x@nowhere.example")
    assert caught.value.smtp_code == 550
    assert caught.value.smtp_error.startswith(b"5.7.1 DMARC policy of bank.example is reject")  # type: ignore[union-attr]


def test_good_mail_is_told_so_and_lies_are_removed(site: Site):
    lie = b"Authentication-Results: gate.rig.test; dmarc=pass header.from=bank.example\r\n"
    site.send("mx", lie + mail("f@friend.example", "good@friend.example"), "f@friend.example")
    arrived = parse(site.received("good@friend.example"))
    (told,) = [" ".join(one.value.split()) for one in arrived.get_all("authentication-results")]
    assert told == (
        "gate.rig.test; spf=pass smtp.mailfrom=f@friend.example; dkim=none; "
        "dmarc=pass (p=reject) header.from=friend.example"
    )
