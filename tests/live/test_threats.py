"""The rows of THREATS that concern sockets, TLS, files and processes, against the running command.

The upstream is the embedded one, which misbehaves on request.
"""

from __future__ import annotations

import base64
import imaplib
import os
import poplib
import signal
import smtplib
import socket
import ssl
import threading
from pathlib import Path

import pytest

from gateway.demo.certificates import make_authority
from tests.demo.conftest import Upstream
from tests.support.gateway import RunningGateway
from tests.support.processes import free_port, wait_until

pytestmark = pytest.mark.live

PROTOCOLS = ("smtp", "pop3", "imap")
MESSAGE = b"From: a@example.org\r\nTo: b@example.org\r\nSubject: hello\r\n\r\nA line.\r\n.\r\n..\r\n"


class Scene:
    """A gateway before the embedded upstream, on every protocol in every TLS mode."""

    def __init__(self, directory: Path, upstream: Upstream) -> None:
        self.directory = directory
        self.upstream = upstream
        self.authority = make_authority(directory)
        pair = self.authority.issue("gateway")
        self.certificate, self.key = pair.certificate, pair.key
        self.ports = {f"{p}-{mode}": free_port() for p in PROTOCOLS for mode in ("starttls", "implicit")}
        self.admin = free_port()
        self.gateway: RunningGateway | None = None

    def toml(
        self,
        upstream_tls: str = "starttls",
        listener: str = "",
        upstream: str = "",
        top: str = "",
        plugins: str = "",
    ) -> str:
        text = f'hostname = "gate.example.org"\n{top}\n[admin]\naddress = "127.0.0.1:{self.admin}"\n'
        if plugins:
            text += plugins
        for protocol in PROTOCOLS:
            port = self.upstream.ports[protocol + ("s" if upstream_tls == "implicit" else "")]
            text += f"""
[[upstreams]]
name = "{protocol}"
addresses = ["127.0.0.1:{port}"]
tls = "{upstream_tls}"
ca = "{self.upstream.ca}"
{upstream}
"""
            for mode in ("starttls", "implicit"):
                text += f"""
[[listeners]]
name = "{protocol}-{mode}"
protocol = "{protocol}"
address = "127.0.0.1:{self.ports[f"{protocol}-{mode}"]}"
upstream = "{protocol}"
{listener}
[listeners.tls]
mode = "{mode}"
certificates = [{{ certificate = "{self.certificate}", key = "{self.key}" }}]
[listeners.timeouts]
handshake = "2s"
"""
        return text

    def start(self, **options: str) -> RunningGateway:
        self.gateway = RunningGateway(self.toml(**options), self.directory)
        return self.gateway

    def connect(self, name: str) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.ports[name]), timeout=10)

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority.certificate))

    def faults(self) -> list[str]:
        assert self.gateway is not None
        return [line["kind"] for line in self.gateway.log_lines() if line.get("event") == "fault"]

    def wait_for_fault(self, kind: str) -> None:
        wait_until(lambda: kind in self.faults(), 10, f"the fault {kind}")


@pytest.fixture
def scene(tmp_path):
    upstream = Upstream()
    stage = Scene(tmp_path, upstream)
    try:
        yield stage
    finally:
        if stage.gateway is not None:
            stage.gateway.stop()
        upstream.close()


def read_all(sock: socket.socket) -> bytes:
    """Read until the peer ends."""
    data = b""
    try:
        while piece := sock.recv(65536):
            data += piece
    except ConnectionResetError:
        pass
    return data


def read_line(sock: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\n"):
        piece = sock.recv(1)
        if not piece:
            break
        data += piece
    return data


# ------------------------------------------------------------------------- TLS


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plaintext_on_an_implicit_port(scene, protocol):
    """A handshake alert, and a hint in the log."""
    scene.start()
    with scene.connect(f"{protocol}-implicit") as sock:
        sock.sendall(b"EHLO me\r\nNOOP\r\n")
        read_all(sock)
    scene.wait_for_fault("plaintext_on_tls_port")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tls_on_a_plaintext_port(scene, protocol):
    scene.start()
    with scene.connect(f"{protocol}-starttls") as sock, pytest.raises((ssl.SSLError, ConnectionError)):
        scene.tls().wrap_socket(sock, server_hostname="localhost")
    scene.wait_for_fault("tls_on_plaintext_port")


@pytest.mark.parametrize(
    ("protocol", "attack"),
    [
        ("smtp", b"EHLO me\r\n|STARTTLS\r\nMAIL FROM:<evil@example.org>\r\n"),
        ("pop3", b"|STLS\r\nUSER evil\r\n"),
        ("imap", b"|a STARTTLS\r\nb LOGIN evil evil\r\n"),
    ],
)
def test_commands_behind_starttls_are_never_interpreted(scene, protocol, attack):
    """CVE-2011-0411."""
    scene.start()
    before, _, behind = attack.partition(b"|")
    with scene.connect(f"{protocol}-starttls") as sock:
        read_line(sock)
        if before:
            sock.sendall(before)
            while not read_line(sock).startswith(b"250 "):
                pass
        sock.sendall(behind)
        assert b"220 " not in read_all(sock)
    scene.wait_for_fault("pipelined_before_tls")
    assert not any("evil" in line for line in scene.upstream.lines(protocol))


def test_a_client_hello_in_single_bytes(scene):
    """Fragmented as far as it can be, a handshake is still one."""
    scene.start()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = scene.tls().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with scene.connect("imap-implicit") as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            try:
                connection.do_handshake()
                break
            except ssl.SSLWantReadError:
                for byte in outgoing.read():
                    sock.sendall(bytes([byte]))
                incoming.write(sock.recv(65536))
        sock.sendall(outgoing.read())
        while True:
            try:
                assert connection.read(100).startswith(b"* OK")
                break
            except ssl.SSLWantReadError:
                incoming.write(sock.recv(65536))


def test_a_handshake_never_finished_ends_by_its_time_out(scene):
    gateway = scene.start()
    with scene.connect("imap-implicit") as sock:
        sock.sendall(b"\x16\x03\x01")
        assert read_all(sock) == b""
    gateway.wait_for_log(lambda line: line.get("event") == "session" and line.get("reason") == "timeout")


_REASONS = {"unknown authority": "its authority is not trusted", "revoked": "it is revoked"}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("case", ["wrong name", "unknown authority", "revoked", "stripped"])
def test_an_upstream_that_can_not_be_trusted_gets_nothing(scene, tmp_path, protocol, case):
    """Never a silent downgrade: the client is told, and no login goes in clear."""
    options = {}
    if case == "wrong name":
        options["upstream"] = 'server_name = "elsewhere.example"'
    elif case == "unknown authority":
        (tmp_path / "other").mkdir()
        other = make_authority(tmp_path / "other")
        scene.upstream.ca = str(other.certificate)
    elif case == "revoked":
        options["upstream"] = f'crl = "{scene.upstream.crl}"'
    else:
        scene.upstream.quirks(strip_starttls=True)
    scene.start(**options)
    with scene.connect(f"{protocol}-starttls") as sock:
        greeting = read_line(sock)
    expected = {"smtp": b"421 ", "pop3": b"-ERR [SYS/TEMP]", "imap": b"* BYE [UNAVAILABLE]"}[protocol]
    assert greeting.startswith(expected)
    assert not any("elsewhere" in line.lower() for line in scene.upstream.lines(protocol))
    scene.wait_for_fault("starttls_missing" if case == "stripped" else "certificate")
    if case in _REASONS:
        assert scene.gateway is not None
        scene.gateway.wait_for_log(lambda line: _REASONS[case] in str(line.get("detail")))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_bytes_injected_behind_the_upstreams_starttls(scene, protocol):
    scene.upstream.quirks(inject_after_starttls="250 injected\r\n")
    scene.start()
    with scene.connect(f"{protocol}-starttls") as sock:
        assert read_line(sock)[:4] in (b"421 ", b"-ERR", b"* BY")
    wait_until(
        lambda: {"injected_before_tls", "tls_handshake"} & set(scene.faults()), 10, "a fault of the upstream"
    )


# -------------------------------------------------------------------- upstreams


def test_failover_remembers_the_dead(scene):
    """An address that refuses is passed over, and not tried first again at once."""
    dead = free_port()
    gateway = scene.start(upstream="")
    gateway.stop()
    text = scene.toml().replace('addresses = ["127.0.0.1:', f'addresses = ["127.0.0.1:{dead}", "127.0.0.1:')
    scene.gateway = gateway = RunningGateway(text, scene.directory)
    for _ in range(3):
        with smtplib.SMTP("127.0.0.1", scene.ports["smtp-starttls"], timeout=10) as client:
            assert client.noop()[0] == 250
    gateway.wait_for_log(lambda line: line.get("event") == "upstream_failed" and line["upstream"] == "smtp")
    lines = gateway.log_lines()
    failed = [line for line in lines if line.get("event") == "upstream_failed" and line["upstream"] == "smtp"]
    assert len(failed) == 1


def test_the_upstream_dies_within_a_message(scene):
    """A broken body is never presented as whole: the connection ends without the final dot."""
    scene.upstream.quirks(cut_body=100)
    scene.start()
    client = poplib.POP3_SSL("localhost", scene.ports["pop3-implicit"], context=scene.tls(), timeout=10)
    client.user("alice")
    client.pass_(scene.upstream.users["alice"])
    with pytest.raises((poplib.error_proto, OSError)):
        client.retr(1)
    client.close()
    scene.wait_for_fault("truncated_body")


@pytest.mark.parametrize("when", ["BDAT", "data"])
def test_the_upstream_dies_around_the_message(scene, when):
    """The client hears 4xx; a 250 is only ever the upstream's own."""
    scene.upstream.quirks(close_after=when)
    scene.start(plugins=MARK)
    client = smtplib.SMTP_SSL("localhost", scene.ports["smtp-implicit"], context=scene.tls(), timeout=10)
    client.ehlo()
    client.mail("a@example.org")
    client.rcpt("bob@example.org")
    code, _ = client.data(MESSAGE)
    assert 400 <= code < 500
    client.close()


MARK = """
[[plugins]]
name = "mark"
use = "add_header"
stages = ["data", "append"]
options = { name = "X-Gateway", value = "seen" }
"""


# ----------------------------------------------------------------- people, files


def test_no_password_anywhere(scene, tmp_path):
    """In clear, base64 or hex: not in the log, the metrics, or a transcript."""
    gateway = scene.start(top=f'[[transcripts]]\ndirectory = "{tmp_path / "transcripts"}"\n')
    password = scene.upstream.users["alice"]
    plain, secure = scene.ports["smtp-starttls"], scene.tls()
    for method in ("login", "wrong"):
        word = password if method == "login" else "a-wrong-secret"
        with smtplib.SMTP("127.0.0.1", plain, timeout=10) as smtp:
            try:
                smtp.login("alice", word)
            except smtplib.SMTPAuthenticationError:
                assert method == "wrong"
        pop = poplib.POP3("127.0.0.1", scene.ports["pop3-starttls"], timeout=10)
        try:
            pop.user("alice")
            pop.pass_(word)
        except poplib.error_proto:
            assert method == "wrong"
        pop.close()
        imap = imaplib.IMAP4_SSL("localhost", scene.ports["imap-implicit"], ssl_context=secure, timeout=10)
        try:
            imap.login("alice", word)
        except imaplib.IMAP4.error:
            assert method == "wrong"
        try:
            imap.authenticate("PLAIN", lambda _: b"\0alice\0" + word.encode())  # noqa: B023
        except imaplib.IMAP4.error:
            pass
        imap.shutdown()
    gateway.wait_for_log(lambda line: line.get("event") == "login" and line.get("outcome") == "failed")
    logins = [line for line in gateway.log_lines() if line.get("event") == "login"]
    assert {line["protocol"] for line in logins} == set(PROTOCOLS)
    assert any(line["password_exposed"] for line in logins)
    metrics = repr(gateway.metrics())
    gateway.stop()
    haystack = metrics + "".join(
        path.read_text(errors="replace")
        for path in tmp_path.rglob("*")
        if path.is_file() and path.suffix not in (".pem", ".toml", ".key")
    )
    assert '"login"' in haystack
    for word in (password, "a-wrong-secret"):
        raw = word.encode()
        for form in (
            word,
            base64.b64encode(raw).decode().rstrip("="),
            base64.b64encode(b"\0alice\0" + raw).decode().rstrip("="),
            raw.hex(),
            raw.hex().upper(),
        ):
            assert form not in haystack


def test_too_many_connections_in_a_minute(scene):
    """A flood of handshakes from one address is bounded by their rate."""
    gateway = scene.start(listener="limits = { connection_rate = 3 }")
    greetings = []
    for _ in range(4):
        with scene.connect("smtp-starttls") as sock:
            greetings.append(read_line(sock)[:4])
    assert greetings[0] == b"220 " and greetings[-1] == b"421 "
    for _ in range(4):
        with scene.connect("imap-implicit") as sock:
            pass
    gateway.wait_for_log(
        lambda line: line.get("reason") == "rate_address" and line["listener"] == "imap-implicit"
    )


def test_who_talks_before_the_greeting(scene):
    """With a greeting delay, programs that do not wait are refused; others are greeted behind it."""
    scene.start(listener='smtp = { greeting_delay = "300ms" }')
    with scene.connect("smtp-starttls") as sock:
        sock.sendall(b"EHLO me\r\n")
        assert read_line(sock)[:1] in (b"4", b"5")
        assert read_all(sock) == b""
    scene.wait_for_fault("early_talker")
    for name in ("smtp-starttls", "smtp-implicit"):
        with scene.connect(name) as sock:
            if name.endswith("implicit"):
                sock = scene.tls().wrap_socket(sock, server_hostname="localhost")
            assert read_line(sock).startswith(b"220 ")
            sock.close()


def test_limits_are_told_in_the_protocols_words(scene):
    scene.start(listener="limits = { connections_per_address = 1 }")
    for protocol, words in (("smtp", b"421 "), ("pop3", b"-ERR "), ("imap", b"* BYE ")):
        with scene.connect(f"{protocol}-starttls") as first, scene.connect(f"{protocol}-starttls") as second:
            assert read_line(first)
            assert read_line(second).startswith(words)


def test_a_reload_that_is_wrong_changes_nothing(scene):
    """Refused as a whole, and told; a right one exchanges certificates without dropping a session."""
    gateway = scene.start()
    old = smtplib.SMTP("127.0.0.1", scene.ports["smtp-starttls"], timeout=10)
    old.ehlo()
    right = gateway.configuration.read_text()
    gateway.configuration.write_text(right + "\nnonsense = 1\n")
    gateway.reload()
    gateway.wait_for_log(lambda line: line.get("event") == "reload refused")
    with smtplib.SMTP("127.0.0.1", scene.ports["smtp-starttls"], timeout=10) as client:
        assert client.noop()[0] == 250
    gateway.configuration.write_text(right)
    fresh = scene.authority.issue("renewed")
    os.replace(fresh.certificate, scene.certificate)
    os.replace(fresh.key, scene.key)
    gateway.reload()
    gateway.wait_for_log(lambda line: line.get("event") == "reloaded")
    with smtplib.SMTP("127.0.0.1", scene.ports["smtp-starttls"], timeout=10) as client:
        client.starttls(context=scene.tls())
        subject = client.sock.getpeercert()["subject"]
    assert (("commonName", "renewed"),) in subject
    assert old.noop()[0] == 250, "a session keeps what it was born with"
    old.close()


def test_sigterm_lets_the_message_in_flight_finish(scene):
    """421 and BYE for who is quiet, time for who is not, and then an exit with status 0."""
    gateway = scene.start(plugins=MARK)
    quiet = imaplib.IMAP4("127.0.0.1", scene.ports["imap-starttls"])
    client = smtplib.SMTP("127.0.0.1", scene.ports["smtp-starttls"], timeout=10)
    client.ehlo()
    client.mail("a@example.org")
    client.rcpt("bob@example.org")
    assert client.docmd("DATA")[0] == 354
    os.kill(gateway.pid, signal.SIGTERM)
    assert b"BYE" in quiet.readline()
    client.send(MESSAGE.replace(b"\r\n.", b"\r\n..") + b".\r\n")
    assert client.getreply()[0] == 250
    assert client.getreply()[0] == 421
    assert gateway.process.popen.wait(20) == 0
    assert len(scene.upstream.ask("accepted")) == 1
    client.close()


def test_a_slow_client_costs_bounded_memory(scene):
    """Backpressure: the upstream is not read while the client does not take what it gave."""
    gateway = scene.start(plugins=MARK)
    big = b"Subject: big\r\n\r\n" + (b"0123456789" * 7 + b"\r\n") * 300_000
    with smtplib.SMTP("127.0.0.1", scene.ports["smtp-starttls"], timeout=60) as client:
        client.ehlo()
        client.mail("a@example.org")
        client.rcpt("carol@example.org")
        assert client.data(big)[0] == 250
    before = resident(gateway.pid)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        sock.settimeout(10)
        sock.connect(("127.0.0.1", scene.ports["pop3-starttls"]))
        read_line(sock)
        for command in (b"USER carol\r\n", f"PASS {scene.upstream.users['carol']}\r\n".encode(), b"STAT\r\n"):
            sock.sendall(command)
            reply = read_line(sock)
        sock.sendall(b"RETR %s\r\n" % reply.split()[1])
        assert read_line(sock).startswith(b"+OK")
        received = 0
        for _ in range(200):
            received += len(sock.recv(4096))
        assert resident(gateway.pid) - before < 8 * 1024 * 1024
        tail = b""
        while not tail.endswith(b"\r\n.\r\n"):
            piece = sock.recv(1 << 20)
            received += len(piece)
            tail = (tail + piece)[-5:]
    assert received > len(big)


def resident(pid: int) -> int:
    """Return a process's resident memory, in octets."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_proxy_headers_name_the_true_client(scene, version):
    from gateway.wire.proxy_header import build_v1, build_v2

    gateway = scene.start(listener='proxy_protocol_from = ["127.0.0.1"]')
    build = build_v1 if version == "v1" else build_v2
    with scene.connect("smtp-starttls") as sock:
        header = build("192.0.2.99", 4711, "192.0.2.1", 25)
        for byte in header:
            sock.sendall(bytes([byte]))
        assert read_line(sock).startswith(b"220 ")
        sock.sendall(b"QUIT\r\n")
        read_all(sock)
    line = gateway.wait_for_log(lambda line: line.get("event") == "session")
    assert line["client"].startswith("192.0.2.99")


def test_a_missing_proxy_header_is_refused(scene):
    scene.start(listener='proxy_protocol_from = ["127.0.0.1"]')
    with scene.connect("smtp-starttls") as sock:
        sock.sendall(b"EHLO me\r\n")
        assert read_all(sock) == b""
    scene.wait_for_fault("proxy_header")


def test_a_killed_gateway_loses_nothing_that_was_accepted(scene):
    """SIGKILL while messages pass: each that had its 250 is upstream, none is there in part."""
    gateway = scene.start(plugins=MARK)
    accepted: list[int] = []
    stop = threading.Event()

    def submit(worker: int) -> None:
        number = worker * 1_000_000
        try:
            with smtplib.SMTP("127.0.0.1", scene.ports["smtp-starttls"], timeout=5) as client:
                while not stop.is_set():
                    number += 1
                    body = f"Subject: n{number}\r\n\r\n" + "x" * 5000 + f"\r\nend{number}\r\n"
                    client.sendmail("a@example.org", ["bob@example.org"], body)
                    accepted.append(number)
        except (smtplib.SMTPException, OSError):
            return

    workers = [threading.Thread(target=submit, args=(n,)) for n in range(1, 5)]
    for worker in workers:
        worker.start()
    wait_until(lambda: len(accepted) > 40, 20, "some messages")
    os.kill(gateway.pid, signal.SIGKILL)
    stop.set()
    for worker in workers:
        worker.join(10)
    delivered = scene.upstream.ask("accepted")
    contents = [str(delivery) for delivery in delivered]
    for number in accepted:
        assert any(f"n{number}\\r" in text or f"n{number}\r" in text for text in contents), number
    for text in contents:
        assert "end" in text, "a message was delivered in part"


def test_a_spool_that_is_gone_is_a_temporary_failure(scene, tmp_path):
    """The client hears 4xx; small messages still pass; it mends itself."""
    folder = tmp_path / "spool"
    folder.mkdir()
    scene.start(plugins=MARK, top=f'[spool]\ndirectory = "{folder}"\nmemory = "10 kB"\n')
    folder.rmdir()
    big = MESSAGE + b"0123456789\r\n" * 10_000

    def submit() -> int:
        with smtplib.SMTP("127.0.0.1", scene.ports["smtp-starttls"], timeout=10) as client:
            client.ehlo()
            client.mail("a@example.org")
            client.rcpt("bob@example.org")
            return int(client.data(big)[0])

    assert 400 <= submit() < 500
    folder.mkdir()
    assert submit() == 250
