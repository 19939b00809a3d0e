"""The bundled plugins in the running command, before Dovecot: what arrives, and what is kept."""

from __future__ import annotations

import imaplib
import json
import mailbox
import shutil
import smtplib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.demo.certificates import Authority
from gateway.inspection.parts import parse
from tests.inspection.samples import ALTERNATIVE, DKIM, SIGNED
from tests.support.dovecot import Dovecot
from tests.support.gateway import RunningGateway
from tests.support.processes import free_port, wait_until

pytestmark = pytest.mark.live

BANNER = "This comes from outside. \u26a0"
PLUGINS = f"""
[[plugins]]
name = "before"
use = "archive"
options = {{ path = "DIRECTORY/before" }}

[[plugins]]
name = "fields"
use = "header"
[[plugins.options.actions]]
do = "remove"
name = "X-Internal-*"
[[plugins.options.actions]]
do = "set"
name = "X-Gateway"
value = "{{hostname}} {{client_name}}"

[[plugins]]
name = "external"
use = "external_banner"
[plugins.options]
internal_domains = ["rig.test"]
trusted = ["login"]
text = "{BANNER}"
subject_tag = "[external]"
signed = "wrap"
dkim = "modify"

[[plugins]]
name = "disclaimer"
use = "footer"
stages = ["append"]
options = {{ text = "-- \\nRig Ltd", skip_special_use = ["\\\\Drafts"] }}

[[plugins]]
name = "after"
use = "archive"
options = {{ path = "DIRECTORY/after", layout = "dated", content = "header" }}
"""


@dataclass
class Site:
    """A gateway before Dovecot's LMTP and IMAP."""

    directory: Path
    lmtp: int
    imap: int
    dovecot: Dovecot
    gateway: RunningGateway

    def deliver(self, message: bytes, sender: str = "eve@outside.example") -> None:
        with smtplib.LMTP("127.0.0.1", self.lmtp, timeout=20) as client:
            assert client.sendmail(sender, ["bob@rig.test"], message, ["BODY=8BITMIME"]) == {}

    def last(self, folder: str = "INBOX") -> bytes:
        """Return the last message of Bob's, from Dovecot itself."""
        client = imaplib.IMAP4("127.0.0.1", self.dovecot.ports["imap"])
        client.login("bob", self.dovecot.users["bob"])
        _, (count, *_) = client.select(folder, readonly=True)
        _, ((_, octets), *_) = client.fetch((count or b"").decode(), "(BODY.PEEK[])")  # type: ignore[misc]
        client.logout()
        return bytes(octets)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, dovecot: Dovecot, authority: Authority) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("gateway")
    ports = {"lmtp": free_port(), "imap": free_port()}
    toml = 'hostname = "gate.rig.test"\n' + PLUGINS.replace("DIRECTORY", str(directory))
    for name, port in ports.items():
        toml += f"""
[[upstreams]]
name = "{name}"
addresses = ["127.0.0.1:{dovecot.ports[name]}"]
tls = "none"
[[listeners]]
name = "{name}"
protocol = "{name}"
address = "127.0.0.1:{port}"
upstream = "{name}"
trusted_networks = ["127.0.0.1/32"]
tls = {{ mode = "none" }}
"""
    gateway = RunningGateway(toml, directory)
    yield Site(directory, ports["lmtp"], ports["imap"], dovecot, gateway)
    assert gateway.stop() == 0


def test_mail_from_outside_is_marked_and_kept(site: Site):
    message = ALTERNATIVE.replace(
        b"From: alice@example.org", b"X-Internal-Level: 9\r\nFrom: eve@outside.example"
    )
    site.deliver(message)
    root = parse(site.last())
    plain, rich = root.children
    assert root.get("x-internal-level") is None
    assert root.get_all("x-gateway")[0].value.startswith("gate.rig.test ")
    assert root.get_all("subject")[0].value == "[external]"
    assert plain.text() == f"{BANNER}\r\n\r\nGr\u00fc\u00dfe"
    assert rich.text().startswith('<html><BODY><div class="mailgate-banner-') and "&#9888;" in rich.text()

    box = mailbox.Maildir(site.directory / "before", create=False)
    (key,) = [key for key in box.iterkeys() if b"X-Internal-Level" in box.get_bytes(key)]
    assert box.get_bytes(key) == message
    facts = json.loads((site.directory / "before" / "facts" / f"{key.partition(',')[0]}.json").read_text())
    assert facts["envelope"]["reverse_path"] == "eve@outside.example"
    assert facts["envelope"]["recipients"] == ["bob@rig.test"] and facts["session"]["protocol"] == "lmtp"
    kept = [path.read_bytes() for path in (site.directory / "after").rglob("*.eml")]
    assert any(b"X-Gateway" in one and b"Subject: [external]\r\n" in one for one in kept)
    assert all(one.endswith(b"\r\n\r\n") for one in kept)


def test_signed_mail_is_enclosed_and_dkim_is_modified(site: Site):
    site.deliver(SIGNED.replace(b"alice@example.org", b"eve@outside.example"))
    notice, enclosed = parse(site.last()).children
    assert notice.text().strip() == BANNER
    assert enclosed.children[0].content_type == "multipart/signed"
    site.deliver(DKIM)
    assert f"{BANNER}\r\n\r\nHello.\r\n" in parse(site.last()).text()


def test_mail_from_inside_has_no_banner(site: Site):
    site.deliver(b"From: alice@rig.test\r\nSubject: hello\r\n\r\nHello.\r\n", "alice@rig.test")
    root = parse(site.last())
    assert root.get_all("subject")[0].value == "hello" and root.text() == "Hello.\r\n"


def test_a_text_that_is_edited_and_saved_again_has_one_footer(site: Site):
    client = imaplib.IMAP4("127.0.0.1", site.imap)
    client.login("bob", site.dovecot.users["bob"])
    client.create("Notes")
    text = b"From: bob@rig.test\r\nSubject: note\r\n\r\nHello.\r\n"
    assert client.append("Notes", None, None, text)[0] == "OK"  # type: ignore[arg-type]
    first = site.last("Notes")
    assert first.endswith(b"Hello.\r\n-- \r\nRig Ltd\r\n")
    edited = first + b"PS: below it.\r\n"
    assert client.append("Notes", None, None, edited)[0] == "OK"  # type: ignore[arg-type]
    assert site.last("Notes") == edited
    assert client.append("Drafts", None, None, text)[0] == "OK"  # type: ignore[arg-type]
    assert site.last("Drafts").endswith(b"\r\n\r\nHello.\r\n")
    client.delete("Notes")
    client.logout()


def test_an_archive_that_is_gone_defers_the_message(site: Site):
    before, aside = site.directory / "before", site.directory / "aside"
    before.rename(aside)
    before.write_text("in the way")
    try:
        with pytest.raises(smtplib.SMTPDataError) as caught:
            site.deliver(b"From: alice@rig.test\r\n\r\nx\r\n")
        assert caught.value.smtp_code == 451
    finally:
        before.unlink()
        aside.rename(before)
    site.gateway.wait_for_log(lambda line: "no copy was kept" in str(line.get("detail")))
    site.deliver(b"From: alice@rig.test\r\n\r\nx\r\n")


def test_dovecot_reads_the_maildir(site: Site):
    site.deliver(b"From: alice@rig.test\r\nSubject: for Dovecot\r\n\r\nx\r\n", "alice@rig.test")
    home = site.dovecot.mail / "dave" / "Maildir"
    box = mailbox.Maildir(site.directory / "before", create=False)
    (key,) = [key for key in box.iterkeys() if b"for Dovecot" in box.get_bytes(key)]
    client = imaplib.IMAP4("127.0.0.1", site.dovecot.ports["imap"])
    client.login("dave", site.dovecot.users["dave"])
    client.select("INBOX")
    wait_until(home.is_dir, 10, "a maildir of Dave's")
    shutil.copy(site.directory / "before" / "new" / key, home / "new" / key)
    shutil.chown(home / "new" / key, "mail", "mail")
    client.noop()
    status, found = client.search(None, "SUBJECT", '"for Dovecot"')
    assert status == "OK" and found != [b""]
    client.store(found[0].decode(), "+FLAGS", r"(\Deleted)")
    client.expunge()
    client.logout()
