"""Each cell of the policies, before Dovecot and Postfix: what the client is told, what is recorded.

A client chooses its policy by the loopback address that it comes from.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import imaplib
import itertools
import poplib
import smtplib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.demo.certificates import Authority
from tests.support.dovecot import Dovecot
from tests.support.gateway import Line, RunningGateway
from tests.support.postfix import Postfix
from tests.support.processes import free_port

pytestmark = pytest.mark.live

LOGINS = ("none", "no-exposed-password", "tls", "tls-client-cert")
MODES = ("monitor", "warn", "enforce")
CELLS = list(itertools.product(LOGINS, MODES))
PROTOCOLS = ("smtp", "pop3", "imap")
HELP = "Read https://help.example/tls"


def address_of(login: str, mode: str) -> str:
    return f"127.0.7.{CELLS.index((login, mode)) + 1}"


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, dovecot: Dovecot, postfix: Postfix, authority: Authority
) -> Iterator[RunningGateway]:
    directory = tmp_path_factory.mktemp("policies")
    pair = authority.issue("policies", ["localhost", "127.0.0.1"])
    behind = {
        "smtp": postfix.ports["submission"],
        "pop3": dovecot.ports["pop3"],
        "imap": dovecot.ports["imap"],
    }
    toml = 'hostname = "gate.rig.test"\n'
    for protocol, port in behind.items():
        toml += f"""
[[upstreams]]
name = "{protocol}"
addresses = ["localhost:{port}"]
tls = "{"starttls" if protocol == "smtp" else "none"}"
{f'ca = "{authority.certificate}"' if protocol == "smtp" else ""}
[[listeners]]
name = "{protocol}"
protocol = "{protocol}"
address = "127.0.0.1:{free_port()}"
upstream = "{protocol}"
[listeners.tls]
mode = "starttls"
certificates = [{{ certificate = "{pair.certificate}", key = "{pair.key}" }}]
"""
    for login, mode in CELLS:
        toml += f"""
[[policies]]
name = "{login}-{mode}"
networks = ["{address_of(login, mode)}"]
login = "{login}"
mode = "{mode}"
text = "{HELP}"
"""
    running = RunningGateway(toml, directory)
    yield running
    assert running.stop() == 0


class Refusal(Exception):
    """What a client was told in place of a login."""


def cram(challenge: bytes, password: str) -> bytes:
    digest = hmac.new(password.encode(), base64.b64decode(challenge), hashlib.md5).hexdigest()
    return base64.b64encode(f"alice {digest}".encode())


def smtp(port: int, source: str, tls: bool, hashed: bool, password: str, authority: Authority) -> str:
    client = smtplib.SMTP("127.0.0.1", port, timeout=20, source_address=(source, 0))
    with client:
        client.ehlo()
        if tls:
            client.starttls(context=ssl.create_default_context(cafile=str(authority.certificate)))
            client.ehlo()
        client.user, client.password = "alice", password
        mechanism = "CRAM-MD5" if hashed else "PLAIN"
        offered = mechanism in client.esmtp_features.get("auth", "").upper().split()
        code, text = client.docmd("AUTH", mechanism)
        if code == 334:
            answer = cram(text, password) if hashed else base64.b64encode(f"\0alice\0{password}".encode())
            code, text = client.docmd(answer.decode())
        if code != 235:
            assert not offered, "a mechanism is offered that is refused"
            raise Refusal(f"{code} {text.decode()}")
        assert offered
        return text.decode()


class Imap(imaplib.IMAP4):
    source = ""

    def _create_socket(self, timeout: float | None) -> socket.socket:
        return socket.create_connection((self.host, self.port), 20, (self.source, 0))


def imap(port: int, source: str, tls: bool, hashed: bool, password: str, authority: Authority) -> str:
    client = type("From", (Imap,), {"source": source})("127.0.0.1", port)
    try:
        if tls:
            client.starttls(ssl.create_default_context(cafile=str(authority.certificate)))
        offered = "AUTH=CRAM-MD5" if hashed else "LOGIN"
        hidden = "LOGINDISABLED" in client.capabilities if not hashed else offered not in client.capabilities
        try:
            client.login_cram_md5("alice", password) if hashed else client.login("alice", password)
        except imaplib.IMAP4.error as error:
            assert hidden
            raise Refusal(str(error)) from None
        assert not hidden
        return " ".join(one.decode() for one in client.untagged_responses.get("ALERT", []) or [b""])
    finally:
        client.shutdown()


class Pop3(poplib.POP3):
    source = ""

    def _create_socket(self, timeout: float) -> socket.socket:
        return socket.create_connection((self.host, self.port), 20, (self.source, 0))


def pop3(port: int, source: str, tls: bool, hashed: bool, password: str, authority: Authority) -> str:
    client = type("From", (Pop3,), {"source": source})("127.0.0.1", port)
    try:
        if tls:
            client.stls(ssl.create_default_context(cafile=str(authority.certificate)))
        capabilities = client.capa()
        offered = "CRAM-MD5" in capabilities.get("SASL", []) if hashed else "USER" in capabilities
        try:
            if hashed:
                challenge = client._shortcmd("AUTH CRAM-MD5").split(b" ", 1)[1]
                told = client._shortcmd(cram(challenge, password).decode())
            else:
                client.user("alice")
                told = client.pass_(password)
        except poplib.error_proto as error:
            assert not offered
            raise Refusal(str(error)) from None
        assert offered
        return told.decode()
    finally:
        client.close()


CLIENTS = {"smtp": smtp, "pop3": pop3, "imap": imap}
#: What a refusal says of what is lacking.
WORDS = {
    ("smtp", False): "5.7.11 Encryption required",
    ("smtp", True): "5.7.11 A client certificate is required",
    ("pop3", False): "[AUTH] Must issue STLS first",
    ("pop3", True): "[SYS/PERM] A client certificate is required",
    ("imap", False): "[PRIVACYREQUIRED] Must issue STARTTLS first",
    ("imap", True): "[PRIVACYREQUIRED] A client certificate is required",
}


@pytest.mark.parametrize("hashed", [False, True], ids=["password", "hashed"])
@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize(("login", "mode"), CELLS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_cell(
    gateway: RunningGateway,
    dovecot: Dovecot,
    authority: Authority,
    protocol: str,
    login: str,
    mode: str,
    tls: bool,
    hashed: bool,
) -> None:
    source, password = address_of(login, mode), dovecot.users["alice"]
    lacking = {
        "none": False,
        "no-exposed-password": not tls and not hashed,
        "tls": not tls,
        "tls-client-cert": True,
    }[login]
    before = len(gateway.log_lines())
    told = refused = ""
    try:
        told = CLIENTS[protocol](gateway.ports[protocol], source, tls, hashed, password, authority)
    except Refusal as error:
        refused = str(error)
    assert bool(refused) == (lacking and mode == "enforce")
    if refused:
        assert WORDS[protocol, tls] in refused and HELP in refused
    if protocol != "imap":  # imaplib does not keep the text of a response code
        assert (HELP in told) == (lacking and mode == "warn")

    def is_mine(line: Line) -> bool:
        return line["event"] == "login" and line["client"] == source and line["protocol"] == protocol

    gateway.wait_for_log(lambda line: is_mine(line) and line in gateway.log_lines()[before:])
    (line,) = [line for line in gateway.log_lines()[before:] if is_mine(line)]
    assert line["policy"] == f"{login}-{mode}"
    judgement = {"monitor": "would-refuse", "warn": "warned", "enforce": "refused"}[mode] if lacking else ""
    assert line["judgement"] == judgement
    assert line["outcome"] == ("policy" if refused else "ok")
    crossed = not tls and not hashed and not (refused and protocol in ("smtp", "pop3"))
    assert line["password_exposed"] is crossed


def test_an_imap_client_is_alerted(gateway: RunningGateway, dovecot: Dovecot) -> None:
    source = (address_of("tls", "warn"), 0)
    with socket.create_connection(("127.0.0.1", gateway.ports["imap"]), 20, source) as client:
        wire = client.makefile("rwb")
        wire.readline()
        wire.write(b"a LOGIN alice " + dovecot.users["alice"].encode() + b"\r\n")
        wire.flush()
        lines = [wire.readline()]
        while not lines[-1].startswith(b"a "):
            lines.append(wire.readline())
    assert f"* OK [ALERT] {HELP}\r\n".encode() in lines


def test_what_is_refused_never_reaches_the_server(gateway: RunningGateway, dovecot: Dovecot) -> None:
    with socket.create_connection(
        ("127.0.0.1", gateway.ports["pop3"]), 20, (address_of("tls", "enforce"), 0)
    ) as client:
        wire = client.makefile("rwb")
        wire.readline()
        wire.write(b"USER alice\r\nPASS " + dovecot.users["alice"].encode() + b"\r\n")
        wire.flush()
        assert wire.readline().startswith(b"-ERR") and wire.readline().startswith(b"-ERR")
    text = Path(gateway.log_path).read_text()
    assert dovecot.users["alice"] not in text


def raw(port: int, source: str, *said: bytes) -> bytes:
    """Say lines, each when the one before is answered; return all that was heard."""
    with socket.create_connection(("127.0.0.1", port), 20, (source, 0)) as connection:
        connection.settimeout(20)
        heard = connection.recv(65536)
        for line in said:
            connection.sendall(line)
            heard += connection.recv(65536)
        return heard


@pytest.mark.parametrize("blank", [b"AUTH\tPLAIN ", b" AUTH PLAIN ", b"\tAUTH\tPLAIN "])
def test_a_verb_that_postfix_would_read_is_not_relayed(
    gateway: RunningGateway, dovecot: Dovecot, blank: bytes
) -> None:
    secret = base64.b64encode(f"\0alice\0{dovecot.users['alice']}".encode())
    port, source = gateway.ports["smtp"], address_of("tls", "enforce")
    heard = raw(port, source, b"EHLO x\r\n", blank + secret + b"\r\n", b"MAIL FROM:<a@rig.test>\r\n")
    assert b"\r\n500 5.5.2 Command unrecognized\r\n" in heard and b"235" not in heard


@pytest.mark.parametrize("opener", [b"NOOP x", b"NOOP ) ", b"NOOP ~", b"CAPABILITY a%"])
def test_no_login_is_smuggled_in_a_literal(gateway: RunningGateway, dovecot: Dovecot, opener: bytes) -> None:
    """Dovecot reads what it was not asked for, behind a mistake, as commands."""
    inner = f"b LOGIN alice {dovecot.users['alice']}\r\n".encode()
    said = b"a %b{%d+}\r\n%b\r\nc NOOP\r\n" % (opener, len(inner), inner)
    port, source = gateway.ports["imap"], address_of("tls", "enforce")
    with socket.create_connection(("127.0.0.1", port), 20, (source, 0)) as connection:
        connection.settimeout(20)
        connection.sendall(said)
        heard = b""
        while b"c OK" not in heard and b"BYE" not in heard:
            data = connection.recv(65536)
            assert data, heard
            heard += data
    assert b"a BAD" in heard and b"c OK" in heard and b"b OK" not in heard
