"""What a client gets through the gateway is what it gets directly, conversation by conversation.

Save for what the tables name: the gateway's own name in greetings, the capabilities it owns or
strikes, and the header field that the plugin adds.
"""

from __future__ import annotations

import base64
import imaplib
import poplib
import re
import smtplib
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from imapclient import IMAPClient

from gateway.demo.certificates import Authority
from tests.conftest import need
from tests.grafana.check import Scrape, expressions
from tests.support.dovecot import Dovecot
from tests.support.gateway import RunningGateway
from tests.support.postfix import Postfix
from tests.support.processes import free_port, wait_until

pytestmark = pytest.mark.live

MODES = ("none", "starttls", "implicit")


@dataclass
class Door:
    """Where a client knocks: directly, or at the gateway."""

    host: str
    ports: dict[str, int]
    ca: Path

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca))


@dataclass
class Site:
    """Real servers, and the gateway before them."""

    direct: Door
    through: Door
    users: dict[str, str]
    gateway: RunningGateway
    dovecot: Dovecot


PLUGIN = """
[[plugins]]
name = "mark"
use = "add_header"
stages = ["data", "append"]
listeners = ["smtp-starttls", "smtp-implicit", "submission-starttls"]
options = { name = "X-Gateway", value = "{hostname}" }
"""


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, dovecot: Dovecot, postfix: Postfix, authority: Authority
) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("gateway")
    pair = authority.issue("gateway")
    upstreams = {
        "smtp": (postfix.ports["smtp"], "starttls"),
        "submission": (postfix.ports["submission"], "starttls"),
        "smtps": (postfix.ports["smtps"], "implicit"),
        "pop3": (dovecot.ports["pop3"], "starttls"),
        "pop3s": (dovecot.ports["pop3s"], "implicit"),
        "imap": (dovecot.ports["imap"], "starttls"),
        "imaps": (dovecot.ports["imaps"], "implicit"),
        "lmtp": (dovecot.ports["lmtp"], "none"),
    }
    toml = f'hostname = "gate.rig.test"\n[admin]\naddress = "127.0.0.1:{free_port()}"\n{PLUGIN}'
    for name, (port, tls) in upstreams.items():
        toml += f'[[upstreams]]\nname = "{name}"\naddresses = ["127.0.0.1:{port}"]\ntls = "{tls}"\n'
        toml += f'ca = "{authority.certificate}"\n'
    ports: dict[str, int] = {}
    for protocol, mode, upstream in (
        ("smtp", "starttls", "smtp"),
        ("submission", "starttls", "submission"),
        ("smtp", "implicit", "smtps"),
        ("pop3", "starttls", "pop3"),
        ("pop3", "implicit", "pop3s"),
        ("imap", "starttls", "imap"),
        ("imap", "implicit", "imaps"),
        ("lmtp", "none", "lmtp"),
    ):
        name = f"{protocol}-{mode}"
        ports[name] = free_port()
        toml += f'[[listeners]]\nname = "{name}"\nprotocol = "{protocol.replace("submission", "smtp")}"\n'
        toml += f'address = "127.0.0.1:{ports[name]}"\nupstream = "{upstream}"\n'
        if mode != "none":
            toml += f'[listeners.tls]\nmode = "{mode}"\n'
            toml += f'certificates = [{{ certificate = "{pair.certificate}", key = "{pair.key}" }}]\n'
    direct = {
        "smtp-starttls": postfix.ports["smtp"],
        "submission-starttls": postfix.ports["submission"],
        "smtp-implicit": postfix.ports["smtps"],
        "pop3-starttls": dovecot.ports["pop3"],
        "pop3-implicit": dovecot.ports["pop3s"],
        "imap-starttls": dovecot.ports["imap"],
        "imap-implicit": dovecot.ports["imaps"],
        "lmtp-none": dovecot.ports["lmtp"],
    }
    gateway = RunningGateway(toml, directory)
    ca = Path(authority.certificate)
    yield Site(Door("localhost", direct, ca), Door("localhost", ports, ca), dovecot.users, gateway, dovecot)
    assert gateway.stop() == 0


# ----------------------------------------------------------------------- clients


def open_smtp(door: Door, mode: str, name: str = "smtp") -> smtplib.SMTP:
    if mode == "implicit":
        return smtplib.SMTP_SSL(door.host, door.ports["smtp-implicit"], timeout=20, context=door.tls())
    client = smtplib.SMTP(door.host, door.ports[f"{name}-starttls"], timeout=20)
    if mode == "starttls":
        client.starttls(context=door.tls())
    return client


def open_imap(door: Door, mode: str) -> imaplib.IMAP4:
    if mode == "implicit":
        return imaplib.IMAP4_SSL(door.host, door.ports["imap-implicit"], ssl_context=door.tls(), timeout=20)
    client = imaplib.IMAP4(door.host, door.ports["imap-starttls"], timeout=20)
    if mode == "starttls":
        client.starttls(door.tls())
    return client


def open_pop3(door: Door, mode: str) -> poplib.POP3:
    if mode == "implicit":
        return poplib.POP3_SSL(door.host, door.ports["pop3-implicit"], context=door.tls(), timeout=20)
    client = poplib.POP3(door.host, door.ports["pop3-starttls"], timeout=20)
    if mode == "starttls":
        client.stls(door.tls())
    return client


def message(subject: str) -> bytes:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "alice@rig.test", "bob@rig.test", subject
    mail.set_content("A line.\n.\n.. and dots\nGrüße\n", cte="8bit")
    mail.add_attachment(bytes(range(256)) * 40, "application", "octet-stream", filename="x.bin")
    mail.set_boundary("=_one_boundary_for_all")
    return mail.as_bytes().replace(b"\n", b"\r\n")


def fill(site: Site, user: str, count: int = 3) -> None:
    """Put known messages into a user's INBOX, directly."""
    site.dovecot.empty(user)
    client = imaplib.IMAP4("localhost", site.direct.ports["imap-starttls"])
    client.login(user, site.users[user])
    for number in range(count):
        client.append("INBOX", "", '"01-Jan-2026 00:00:00 +0000"', message(f"number {number}"))
    client.logout()


def unstamped(value: Any) -> str:
    """Write an answer without what differs between two equal conversations: times, queue ids."""
    text = repr(value)
    for pattern in _STAMPS:
        text = re.sub(pattern, "…", text)
    return text


#: What differs between two equal conversations.
_STAMPS = (
    r"(\d+ bytes )?queued as \w+",
    r"COPYUID \d+|UIDVALIDITY \d+|APPENDUID \d+ \d+|UIDNEXT \d+|HIGHESTMODSEQ \d+",
    r"(\d+\.\d+ \+ )*\d+\.\d+ secs",
    r"<[^<>]*@[^<>]*>",
    r"\b[0-9a-f]{16,}\b",
)


# ---------------------------------------------------------------- conversations


@pytest.mark.parametrize("mode", MODES)
def test_imap_conversation(site: Site, mode: str):
    """imaplib: every command of a mail reader, answer by answer."""

    def converse(door: Door) -> list[str]:
        fill(site, "bob")
        seen: list[Any] = []
        client = open_imap(door, mode)
        seen.append(client.login("bob", site.users["bob"])[0])
        for name, arguments in (
            ("select", ()), ("list", ()), ("lsub", ()), ("namespace", ()),
            ("search", (None, "SUBJECT", "number")), ("fetch", ("1:*", "(UID FLAGS RFC822.SIZE)")),
            ("fetch", ("1", "(BODY.PEEK[])")), ("fetch", ("2", "(BODY[HEADER] BODY[TEXT])")),
            ("fetch", ("1:3", "(ENVELOPE BODYSTRUCTURE)")), ("fetch", ("1", "(BODY[]<10.20>)")),
            ("fetch", ("3", "(RFC822)")), ("store", ("1", "+FLAGS", "(\\Flagged)")),
            ("create", ("box",)), ("copy", ("1:2", "box")), ("status", ("box", "(MESSAGES)")),
            ("append", ("box", "(\\Seen)", '"02-Jan-2026 00:00:00 +0000"', message("appended"))),
            ("uid", ("FETCH", "1:*", "(FLAGS)")), ("uid", ("SEARCH", "ALL")),
            ("sort", ("(REVERSE DATE)", "UTF-8", "ALL")), ("thread", ("REFERENCES", "UTF-8", "ALL")),
            ("getquotaroot", ("INBOX",)), ("rename", ("box", "bix")), ("subscribe", ("bix",)),
            ("unsubscribe", ("bix",)), ("delete", ("bix",)), ("store", ("3", "+FLAGS", "(\\Deleted)")),
            ("expunge", ()), ("noop", ()), ("check", ()), ("close", ()), ("select", ("nowhere",)),
            ("logout", ()),
        ):  # fmt: skip
            seen.append((name, getattr(client, name)(*arguments)))
        return [unstamped(one) for one in seen]

    assert converse(site.through) == converse(site.direct)


@pytest.mark.parametrize("mode", MODES)
def test_imap_login_forms(site: Site, mode: str):
    """Passwords as quoted strings, by AUTHENTICATE, by challenge; and wrong ones."""

    def attempt(door: Door, login: Callable[[imaplib.IMAP4], Any]) -> str:
        client = open_imap(door, mode)
        try:
            return unstamped(login(client)[0])
        except imaplib.IMAP4.error as error:
            return unstamped(error)
        finally:
            client.shutdown()

    dave = site.users["dave"]
    for login in (
        lambda client: client.login("dave", dave),
        lambda client: client.login("dave", "wrong"),
        lambda client: client.authenticate("PLAIN", lambda _: b"\0dave\0" + dave.encode()),
        lambda client: client.authenticate("PLAIN", lambda _: b"\0dave\0wrong"),
        lambda client: client.authenticate("PLAIN", lambda _: None),
        lambda client: client.login_cram_md5("dave", dave),
    ):
        assert attempt(site.through, login) == attempt(site.direct, login)


@pytest.mark.parametrize("mode", MODES)
def test_pop3_conversation(site: Site, mode: str):
    def converse(door: Door) -> list[str]:
        fill(site, "bob")
        client = open_pop3(door, mode)
        seen: list[Any] = [client.user("bob"), client.pass_(site.users["bob"])]
        seen += [client.stat(), client.list(), client.uidl()[0], client.list(2), client.top(1, 3)]
        seen += [client.retr(number) for number in (1, 2, 3)]
        seen += [client.noop(), client.dele(2), client.rset(), client.dele(1)]
        try:
            client.retr(99)
        except poplib.error_proto as error:
            seen.append(error)
        seen.append(client.quit())
        again = open_pop3(door, mode)
        again.user("bob")
        again.pass_(site.users["bob"])
        seen.append(again.stat())
        again.quit()
        return [unstamped(one) for one in seen]

    assert converse(site.through) == converse(site.direct)


@pytest.mark.parametrize("mode", MODES)
def test_smtp_conversation(site: Site, mode: str):
    """smtplib: replies, and the message that arrives, the plugin's field aside."""

    def converse(door: Door) -> tuple[list[str], bytes]:
        site.dovecot.empty("bob")
        client = open_smtp(door, mode)
        seen: list[Any] = [client.ehlo()[0], client.noop(), client.login("alice", site.users["alice"])]
        seen += [client.mail("alice@rig.test"), client.rcpt("nobody@rig.test"), client.rset()]
        text = message(f"smtp {mode}")
        seen += [
            client.mail("alice@rig.test", ["BODY=8BITMIME"]),
            client.rcpt("bob@rig.test"),
            client.data(text),
        ]
        seen += [client.docmd("MAIL FROM:<a@b> SIZE=999999999"), client.quit()]
        return [unstamped(one) for one in seen], delivered(site, "bob")

    through, through_body = converse(site.through)
    direct, direct_body = converse(site.direct)
    assert through[:-2] == direct[:-2]
    assert through[-1] == direct[-1]
    assert through_body.count(b"X-Gateway: gate.rig.test\r\n") == 1
    assert b"X-Gateway" not in direct_body
    bodies = {text.partition(b"\r\n\r\n")[2] for text in (through_body, direct_body, message(f"smtp {mode}"))}
    assert len(bodies) == 1, "the body is the same, octet for octet"


def delivered(site: Site, user: str) -> bytes:
    """Return the newest message of a user, once it is there."""

    def newest() -> bytes | None:
        client = imaplib.IMAP4("localhost", site.direct.ports["imap-starttls"])
        client.login(user, site.users[user])
        count = int(client.select(readonly=True)[1][0] or b"0")
        found = client.fetch(str(count), "(BODY.PEEK[])")[1][0][1] if count else None
        client.logout()
        return found

    found = wait_until(newest, 20, "the message to be delivered")
    assert found is not None
    return found


def test_smtp_challenge_logins(site: Site):
    for method in ("auth_cram_md5", "auth_plain", "auth_login"):
        client = open_smtp(site.through, "starttls")
        client.ehlo()
        client.user, client.password = "alice", site.users["alice"]
        mechanism = method.removeprefix("auth_").upper().replace("_", "-")
        assert client.auth(mechanism, getattr(client, method))[0] == 235
        client.quit()


def test_lmtp_answers_for_each_recipient(site: Site):
    def converse(door: Door) -> list[str]:
        client = smtplib.LMTP(door.host, door.ports["lmtp-none"])
        seen: list[Any] = [client.ehlo()[0], client.mail("a@rig.test")]
        seen += [client.rcpt(f"{user}@rig.test")[0] for user in ("alice", "bob")]
        seen += [client.data(message("lmtp"))[0], client.getreply()[0], client.quit()[0]]
        return [unstamped(one) for one in seen]

    assert converse(site.through) == converse(site.direct)


def test_capabilities_are_the_upstreams_less_what_is_struck(site: Site):
    """IMAP after the login: COMPRESS goes, all that the table passes stays."""

    def capabilities(door: Door) -> set[str]:
        client = open_imap(door, "implicit")
        client.login("bob", site.users["bob"])
        found = set(client.capability()[1][0].decode().split())
        client.logout()
        return found

    direct, through = capabilities(site.direct), capabilities(site.through)
    assert through - direct == set()
    struck = direct - through
    assert "COMPRESS=DEFLATE" not in through
    may_be_struck = (
        "COMPRESS=DEFLATE URLAUTH URL-PARTIAL LOGIN-REFERRALS CATENATE MULTIAPPEND REPLACE PREVIEW=FUZZY"
    )
    assert struck <= set(may_be_struck.split())


# -------------------------------------------------------------- other clients


def run(*command: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)


CURL_TLS = {"none": (), "starttls": ("--ssl-reqd",), "implicit": ()}


@pytest.mark.parametrize("mode", MODES)
def test_curl(site: Site, mode: str):
    """curl reads by IMAP and POP3 what is there, and submits by SMTP."""
    need("curl")

    def url(door: Door, protocol: str, path: str) -> str:
        scheme, name = (protocol + "s", "implicit") if mode == "implicit" else (protocol, "starttls")
        return f"{scheme}://{door.host}:{door.ports[f'{protocol}-{name}']}/{path}"

    def read(door: Door) -> list[bytes]:
        fill(site, "bob")
        common = ("curl", "-s", "--cacert", str(door.ca), "-u", f"bob:{site.users['bob']}", *CURL_TLS[mode])
        answers = []
        for protocol, path in (("imap", "INBOX;MAILINDEX=1"), ("imap", ""), ("pop3", "1"), ("pop3", "")):
            result = run(*common, url(door, protocol, path))
            assert result.returncode == 0, result.stderr
            answers.append(result.stdout)
        return answers

    assert read(site.through) == read(site.direct)
    site.dovecot.empty("bob")
    sent = run(
        "curl", "-s", "--cacert", str(site.through.ca), "-u", f"alice:{site.users['alice']}", *CURL_TLS[mode],
        "--mail-from", "alice@rig.test", "--mail-rcpt", "bob@rig.test", "-T", "-",
        url(site.through, "smtp", "client.example"), stdin=message("by curl"),
    )  # fmt: skip
    assert sent.returncode == 0, sent.stderr
    assert b"Subject: by curl\r\n" in delivered(site, "bob")


@pytest.mark.parametrize("mode", MODES)
def test_swaks(site: Site, mode: str):
    need("swaks")
    site.dovecot.empty("bob")
    port = site.through.ports["smtp-implicit" if mode == "implicit" else "smtp-starttls"]
    tls = {"none": (), "starttls": ("--tls",), "implicit": ("--tls-on-connect",)}[mode]
    result = run(
        "swaks", "--server", f"127.0.0.1:{port}", *tls, "--auth", "PLAIN", "--auth-user", "alice",
        "--auth-password", site.users["alice"], "--from", "alice@rig.test", "--to", "bob@rig.test",
        "--header", "Subject: by swaks", "--pipeline",
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    assert b"Subject: by swaks" in delivered(site, "bob")


@pytest.mark.parametrize("mode", ["none", "starttls", "implicit"])
def test_msmtp(site: Site, mode: str):
    """msmtp sends RCPT and DATA in one packet, and picks SCRAM where it is offered."""
    need("msmtp")
    site.dovecot.empty("bob")
    port = site.through.ports["smtp-implicit" if mode == "implicit" else "smtp-starttls"]
    tls = {
        "none": ("--tls=off",),
        "starttls": ("--tls=on", "--tls-starttls=on"),
        "implicit": ("--tls=on", "--tls-starttls=off"),
    }[mode]
    trust = () if mode == "none" else (f"--tls-trust-file={site.through.ca}",)
    result = run(
        "msmtp", "--host=localhost", f"--port={port}", *tls, *trust, "--auth=scram-sha-256", "--user=alice",
        f"--passwordeval=echo {site.users['alice']}", "--from=alice@rig.test", "bob@rig.test",
        stdin=message("by msmtp"),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert b"Subject: by msmtp" in delivered(site, "bob")


@pytest.mark.parametrize("mode", MODES)
def test_mbsync(site: Site, mode: str, tmp_path: Path):
    """mbsync pipelines, appends with LITERAL+, and would turn on COMPRESS: both ways it syncs the same."""
    need("mbsync")

    def sync(door: Door, folder: Path) -> dict[str, int]:
        fill(site, "bob")
        folder.mkdir()
        (folder / "local").mkdir()
        name, kind = ("imap-implicit", "IMAPS") if mode == "implicit" else ("imap-starttls", "STARTTLS")
        kind = "None" if mode == "none" else kind
        (folder / "rc").write_text(
            f"IMAPAccount a\nHost {door.host}\nPort {door.ports[name]}\nUser bob\nPass {site.users['bob']}\n"
            f"SSLType {kind}\nCertificateFile {door.ca}\n\nIMAPStore far\nAccount a\n\n"
            f"MaildirStore near\nPath {folder}/local/\nInbox {folder}/local/INBOX\n\n"
            "Channel c\nFar :far:\nNear :near:\nPatterns INBOX\nCreate Both\nSyncState *\n"
        )
        result = run("mbsync", "-c", str(folder / "rc"), "c")
        assert result.returncode == 0, result.stderr
        new = folder / "local" / "INBOX" / "new"
        (new / "1.x.y").write_bytes(message("from mbsync").replace(b"\r\n", b"\n"))
        result = run("mbsync", "-c", str(folder / "rc"), "c")
        assert result.returncode == 0, result.stderr
        client = imaplib.IMAP4("localhost", site.direct.ports["imap-starttls"])
        client.login("bob", site.users["bob"])
        count = int(client.select(readonly=True)[1][0])
        client.logout()
        files = [
            path.read_bytes() for path in sorted((folder / "local" / "INBOX").rglob("*")) if path.is_file()
        ]
        return {"far": count, "near": sum(1 for text in files if b"Subject: " in text)}

    assert (
        sync(site.through, tmp_path / "through")
        == sync(site.direct, tmp_path / "direct")
        == {"far": 4, "near": 4}
    )


def test_the_log_tells_each_command_and_login(site: Site):
    """One line for each exchange, one for each login, one for each session."""
    client = open_imap(site.through, "none")
    client.login("alice", site.users["alice"])
    client.select()
    client.logout()
    line = site.gateway.wait_for_log(
        lambda one: one.get("event") == "session" and one["protocol"] == "imap" and one.get("user") == "alice"
    )
    mine = [one for one in site.gateway.log_lines() if one.get("session") == line["session"]]
    assert [one["verb"] for one in mine if one["event"] == "command"] == [
        "CAPABILITY",
        "LOGIN",
        "SELECT",
        "LOGOUT",
    ]
    login = next(one for one in mine if one["event"] == "login")
    assert login["outcome"] == "ok" and login["password_exposed"] is True and login["protection"] == "none"
    assert line["reason"] == "quit" and line["commands"] == 4


def test_no_password_in_the_log(site: Site):
    text = site.gateway.log_path.read_text()
    for user, password in site.users.items():
        for secret in (password, base64.b64encode(f"\0{user}\0{password}".encode()).decode()):
            assert secret not in text


def test_a_scrape_has_what_dashboards_and_alerts_ask_for(site: Site):
    """Of the running gateway, after real traffic: no metric and no label is only a hope."""
    scrape = Scrape(site.gateway.get("/metrics"))
    missing = {where: scrape.missing(expression) for where, expression in expressions().items()}
    assert not {where: names for where, names in missing.items() if names}


def test_health_and_readiness(site: Site):
    assert site.gateway.get("/healthz").strip()
    assert '"imap"' in site.gateway.get("/readyz")


@pytest.mark.parametrize("mode", MODES)
def test_imapclient(site: Site, mode: str):
    """IMAPClient sends IDLE, non-synchronising literals, and names beyond ASCII."""

    def converse(door: Door) -> list[str]:
        fill(site, "bob")
        client = IMAPClient(
            door.host,
            door.ports["imap-implicit" if mode == "implicit" else "imap-starttls"],
            ssl=mode == "implicit",
            ssl_context=door.tls() if mode == "implicit" else None,
            timeout=20,
        )
        if mode == "starttls":
            client.starttls(door.tls())
        client.login("bob", site.users["bob"])
        client.select_folder("INBOX")
        client.create_folder("Entwürfe")
        seen: list[Any] = [
            client.search(["SUBJECT", "number"]),
            client.search(["SUBJECT", "Grüße"], charset="UTF-8"),
            sorted(client.fetch([1, 2], ["FLAGS", "RFC822.SIZE", "BODY[TEXT]"]).items()),
            client.append("Entwürfe", message("draft")).startswith(b"[APPENDUID "),
            client.folder_exists("Entwürfe"),
        ]
        client.idle()
        client.idle_check(timeout=0.01)
        seen.append(client.idle_done()[0])
        client.delete_folder("Entwürfe")
        client.logout()
        return [unstamped(one) for one in seen]

    assert converse(site.through) == converse(site.direct)
