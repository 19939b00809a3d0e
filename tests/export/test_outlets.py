"""The outlets: files exchanged, frames counted, batches signed; and what they say when they can't."""

from __future__ import annotations

import base64
import contextlib
import errno
import gzip
import hashlib
import hmac
import http.server
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.privacy import Privacy, Pseudonyms
from gateway.audit.record import ProgramRecord
from gateway.audit.store import StoreError
from gateway.audit.writer import AuditWriter, Wording
from gateway.demo.certificates import Authority
from gateway.export.file import FileOutlet
from gateway.export.outlet import private, wanted
from gateway.export.syslog import SyslogOutlet
from gateway.export.webhook import WebhookOutlet, read_secret
from tests.audit.samples import event, login
from tests.support.processes import wait_until

# -------------------------------------------------------------------- files


def objects(path: Path) -> list[Any]:
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(one) for one in text.splitlines()]


def test_lines_are_added_to_a_file_of_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "events.json"
    for number in range(2):
        outlet = FileOutlet(path, "gate")
        outlet.open()
        outlet.write([login(number), event(number), ProgramRecord("a", "b", "c", 1)])
        outlet.close()
    assert [one["event"]["dataset"] for one in objects(path)] == ["mailgate.login", "mailgate.security"] * 2
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("compress", [False, True])
def test_a_full_file_is_exchanged_and_the_oldest_goes(tmp_path: Path, compress: bool) -> None:
    path = tmp_path / "events.json"
    outlet = FileOutlet(path, "gate", max_size=3000, keep=2, compress=compress)
    outlet.open()
    for number in range(30):
        outlet.write([login(number)])
    outlet.close()
    suffix = ".gz" if compress else ""
    files = [path, *(tmp_path / f"events.json.{number}{suffix}" for number in (1, 2))]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    sessions = [one["mailgate"]["session"] for file in reversed(files) for one in objects(file)]
    assert sessions == [f"{number:012x}" for number in range(30 - len(sessions), 30)] and len(sessions) < 15
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)
    if not compress:
        assert all(file.stat().st_size <= 3000 for file in files)


def test_a_file_that_keeps_none_begins_anew(tmp_path: Path) -> None:
    outlet = FileOutlet(tmp_path / "events.json", "gate", max_size=1, keep=0)
    outlet.open()
    for number in range(3):
        outlet.write([login(number)])
    outlet.close()
    (kept,) = tmp_path.iterdir()
    assert [one["mailgate"]["session"] for one in objects(kept)] == [f"{2:012x}"]


def test_a_file_moved_away_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "events.json"
    outlet = FileOutlet(path, "gate")
    outlet.open()
    outlet.write([login(1)])
    path.rename(tmp_path / "old")
    outlet.write([login(2)])
    path.unlink()
    outlet.write([login(3)])
    outlet.close()
    assert len(objects(tmp_path / "old")) == 1 and len(objects(path)) == 1


FULL = """
import resource, signal, sys
from pathlib import Path
from gateway.audit.store import StoreError
from gateway.export.file import FileOutlet
from tests.audit.samples import login
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
outlet = FileOutlet(Path(sys.argv[1]), "gate")
outlet.open()
outlet.write([login(1)])
size = Path(sys.argv[1]).stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))
try:
    outlet.write([login(2)])
except StoreError as error:
    print(error)
print(Path(sys.argv[1]).stat().st_size == size)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
outlet.write([login(2)])
"""


def test_what_does_not_fit_leaves_no_half_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "events.json"
    root = Path(__file__).parents[2]
    ended = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, cwd=root, check=True
    )
    assert ended.stdout.splitlines() == [f"{path}: {os.strerror(errno.EFBIG)}", "True"]
    assert [one["mailgate"]["session"] for one in objects(path)] == [f"{n:012x}" for n in (1, 2)]


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"none/events\.json: No such file"):
        FileOutlet(tmp_path / "none" / "events.json", "gate").open()


# ------------------------------------------------------------------- syslog


class Collector:
    """A server that reads frames, by one connection after the other."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.heard: list[bytes] = []
        self.connections = 0
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                plain, _ = self._listening.accept()
            except OSError:
                return
            try:
                peer = self._tls.wrap_socket(plain, server_side=True) if self._tls else plain
            except OSError:
                plain.close()
                continue
            self._open.append(peer)
            self.connections += 1
            with peer, peer.makefile("rb") as file:
                try:
                    while (head := self._number(file)) is not None:
                        self.heard.append(file.read(head))
                except (OSError, ValueError):
                    continue

    def _number(self, file: Any) -> int | None:
        digits = b""
        while (one := file.read(1)) not in (b" ", b""):
            digits += one
        return int(digits) if digits else None

    def hang_up(self) -> None:
        """Close the connection that there is."""
        # Beneath TLS, which the thread is in.
        socket.socket.shutdown(self._open.pop(), socket.SHUT_RDWR)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for peer in self._open:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(peer, socket.SHUT_RDWR)
        self._thread.join(10)


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def test_frames_are_counted_in_octets(collector: Collector) -> None:
    outlet = SyslogOutlet("127.0.0.1", collector.port, "gate.example.org", facility="local3")
    outlet.open()
    outlet.write([login(user="zo\u00eb", code="NO [X]\r\n<1>1 forged"), event(1)])
    wait_until(lambda: len(collector.heard) == 2, 10, "two frames")
    first, second = collector.heard
    head, _, body = first.partition(b" - {")
    assert head == (
        f"<{19 * 8 + 6}>1 2026-09-21T14:13:20.000000Z gate.example.org mailgate {os.getpid()} login".encode()
    )
    assert json.loads(b"{" + body)["user"]["name"] == "zo\u00eb"
    assert second.startswith(f"<{19 * 8 + 1}>1 ".encode()) and b" brute_force - {" in second
    assert first.isascii() and b"\n" not in first
    outlet.close()


def test_a_connection_that_was_closed_is_noticed_and_doubt_is_sent_again(collector: Collector) -> None:
    outlet = SyslogOutlet("127.0.0.1", collector.port, "gate")
    outlet.open()
    outlet.write([login(1)])
    wait_until(lambda: len(collector.heard) == 1, 10, "the first")
    collector.hang_up()
    outlet.write([login(2)])
    wait_until(lambda: len(collector.heard) == 3, 10, "the first again, and the second")
    idents = [json.loads(one[one.index(b"{") :])["event"]["id"] for one in collector.heard]
    assert idents[0] == idents[1] != idents[2]
    outlet.close()


def test_a_server_that_is_not_there_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(StoreError, match=f"127.0.0.1:{port}: Connection refused"):
        SyslogOutlet("127.0.0.1", port, "gate").open()


def test_syslog_over_tls_verifies_the_server(authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue("syslog", ["siem.example.org"])
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pair.certificate, pair.key)
    collector = Collector(server)
    trusting = ssl.create_default_context(cafile=authority.certificate)
    try:
        for context, name, said in (
            (trusting, "", "its certificate: .*127.0.0.1"),
            (ssl.create_default_context(), "siem.example.org", "its certificate: "),
        ):
            with pytest.raises(StoreError, match=said):
                SyslogOutlet("127.0.0.1", collector.port, "g", tls=context, server_name=name).open()
        outlet = SyslogOutlet("127.0.0.1", collector.port, "g", tls=trusting, server_name="siem.example.org")
        outlet.open()
        for number in range(5):
            outlet.write([login(number)])
        wait_until(lambda: len(collector.heard) == 5, 10, "the frames")
        assert collector.connections == 1
        collector.hang_up()
        outlet.write([login(5)])
        wait_until(lambda: len(collector.heard) == 7, 10, "the last frame, and the one before again")
        outlet.close()
    finally:
        collector.close()


# ------------------------------------------------------------------ webhook


class Hook:
    """A receiver of batches that answers as told, the last answer for ever."""

    def __init__(self) -> None:
        hook = self
        self.answers: list[tuple[int, dict[str, str]]] = [(204, {})]
        self.heard: list[tuple[dict[str, str], bytes]] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.heard.append(({name.lower(): value for name, value in self.headers.items()}, body))
                status, headers = hook.answers.pop(0) if len(hook.answers) > 1 else hook.answers[0]
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, format: str, *arguments: object) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook?x=1"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.close()


def test_a_batch_is_signed(hook: Hook, tmp_path: Path) -> None:
    raw = os.urandom(32)
    path = tmp_path / "secret"
    path.write_text("whsec_" + base64.b64encode(raw).decode() + "\n")
    path.chmod(0o600)
    secret = read_secret(path)
    assert secret == raw
    WebhookOutlet(hook.url, "gate", secret=secret, headers={"X-Source": "gate"}).write([login(1), event(2)])
    ((headers, body),) = hook.heard
    told = json.loads(body)
    assert [one["event"]["action"] for one in told] == ["login", "brute_force"]
    assert headers["content-type"] == "application/json" and headers["x-source"] == "gate"
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    version, _, digest = headers["webhook-signature"].partition(",")
    assert version == "v1" and base64.b64decode(digest) == hmac.new(raw, signed, hashlib.sha256).digest()


def test_a_batch_line_by_line_has_the_same_id_when_it_is_sent_again(hook: Hook) -> None:
    outlet = WebhookOutlet(hook.url, "gate", lines=True)
    for _ in range(2):
        outlet.write([login(1), login(2)])
    (first, body), (again, _) = hook.heard
    assert first["content-type"] == "application/x-ndjson" and "webhook-signature" not in first
    assert first["webhook-id"] == again["webhook-id"]
    assert len(body.splitlines()) == 2


@pytest.mark.parametrize("status", [301, 401, 404, 408, 410, 429, 500, 503])
def test_what_may_get_better_is_tried_again(hook: Hook, status: int) -> None:
    hook.answers = [(status, {"Location": "/x", "Retry-After": "7"})]
    with pytest.raises(StoreError, match=f"{hook.url.partition('?')[0]}: {status} ") as told:
        WebhookOutlet(hook.url, "gate").write([login(1)])
    assert told.value.after == 7


def test_a_date_may_be_told_and_nonsense_is_nothing(hook: Hook) -> None:
    for after, least, most in ((formatdate(4_000_000_000), 600, 600), ("soon", 0, 0), ("1" * 400, 0, 600)):
        hook.answers = [(503, {"Retry-After": after})]
        with pytest.raises(StoreError) as told:
            WebhookOutlet(hook.url, "gate").write([login(1)])
        assert least <= told.value.after <= most


def test_what_will_never_be_taken_is_dropped_and_counted(hook: Hook) -> None:
    hook.answers = [(422, {}), (204, {}), (422, {}), (204, {})]  # the batch; then one by one
    writer = AuditWriter(WebhookOutlet(hook.url, "gate"), wording=Wording("events", "output", "the output x"))
    for number in range(3):
        writer.put(login(number))
    wait_until(lambda: writer.written["login"] == 2 and writer.lost == 1, 10, "the batch")
    writer.close()


def test_nothing_is_lost_while_a_receiver_is_away(hook: Hook) -> None:
    hook.answers = [(503, {}), (429, {}), (200, {})]
    reports: list[Any] = []
    writer = AuditWriter(WebhookOutlet(hook.url, "gate"), tell=reports.append)
    writer.put(login(1))
    wait_until(lambda: writer.written["login"] == 1, 20, "the record")
    writer.close()
    assert writer.lost == 0 and [one.state for one in reports] == ["outage", "recovered"]


def test_no_http_is_told(collector: Collector) -> None:
    with pytest.raises(StoreError, match="closed connection without response"):
        WebhookOutlet(f"http://127.0.0.1:{collector.port}/", "gate", timeout=0.3).write([login(1)])


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"short", "32 octets"), (b"whsec_" + b"?" * 40, "no base64")],
)
def test_a_wrong_secret_is_told(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ValueError, match=said):
        read_secret(path)


# ------------------------------------------------------------------ choosing


@pytest.mark.parametrize(
    ("what", "least", "taken"),
    [
        ({"logins"}, "info", [True, False, False]),
        ({"events"}, "info", [False, True, True]),
        ({"events", "logins"}, "alert", [True, False, True]),
    ],
)
def test_an_outlet_takes_what_it_wants(what: set[str], least: str, taken: list[bool]) -> None:
    takes = wanted(frozenset(what), least)
    program = ProgramRecord("a", "b", "c", 1)
    assert [takes(one) for one in (login(), event(severity="warning"), event())] == taken
    assert not takes(program)


def test_whom_a_pseudonym_stands_for_does_not_leave() -> None:
    prepare = private(Privacy((24, 48), Pseudonyms(b"k" * 32)))
    (kept,) = prepare(login())
    assert kept.user.startswith("u-") and kept.address == "192.0.2.0/24"  # type: ignore[union-attr]
