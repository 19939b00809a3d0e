"""`mailgate tls check`: good servers, bad ones, and what is wrong usage."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.demo.certificates import KeyPair, make_authority
from tests.cli.support import mailgate
from tests.demo.conftest import Upstream


def check(*arguments: str) -> tuple[int, dict[str, Any]]:
    result = mailgate("tls", "check", *arguments, "--json")
    assert result.stdout, result.stderr
    return result.returncode, json.loads(result.stdout)


def said(report: dict[str, Any], level: str) -> str:
    return "\n".join(one["text"] for one in report["findings"] if one["level"] == level)


@pytest.mark.parametrize("name", ["smtp", "pop3", "imap", "smtps", "pop3s", "imaps"])
def test_a_good_server(upstream: Upstream, name):
    mode = "--implicit" if name.endswith("s") else "--starttls"
    where = f"localhost:{upstream.ports[name]}"
    status, report = check(where, "--protocol", name.rstrip("s"), mode, "--ca", upstream.ca)
    assert status == 0 and not said(report, "error")
    assert report["versions"] == {"TLSv1": False, "TLSv1.1": False, "TLSv1.2": True, "TLSv1.3": True}
    assert len(report["ciphers"]["TLSv1.3"]) == 3 and len(report["ciphers"]["TLSv1.2"]) > 3
    assert report["resumption"]["TLSv1.3"] and report["name_matches"] and not report["verified"]
    assert report["chain"][0]["key"] == "EC secp256r1" and "localhost" in report["chain"][0]["names"]
    assert {"x25519", "secp256r1", "secp384r1"} <= {group.lower() for group in report["groups"]}
    assert report["handshakes"] <= 64
    if mode == "--starttls":
        assert report["starttls"]["offered"] and report["starttls"]["commands_behind"] != "executed"
    else:
        assert not report["starttls"]


def test_for_people(upstream: Upstream):
    result = mailgate(
        "tls", "check", f"localhost:{upstream.ports['imaps']}", "--protocol", "imap", "--implicit"
    )
    assert result.returncode == 1, "nobody vouches for the throw-away authority"
    assert "its authority is not trusted" in result.stdout and "\x1b" not in result.stdout
    assert "X25519" in result.stdout and "days left" in result.stdout


def test_another_name(upstream: Upstream):
    where = f"localhost:{upstream.ports['imaps']}"
    status, report = check(
        where, "--protocol", "imap", "--implicit", "--ca", upstream.ca, "--server-name", "other.example"
    )
    assert status == 1 and "is not for other.example, but for localhost" in said(report, "error")


def test_no_starttls(upstream: Upstream):
    upstream.quirks(strip_starttls=True)
    status, report = check(f"localhost:{upstream.ports['smtp']}", "--protocol", "smtp", "--ca", upstream.ca)
    assert status == 1 and "offers no STARTTLS" in said(report, "error")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("nonsense",), 2, "is not HOST:PORT"),
        (("localhost:1", "--protocol", "imap"), 1, "can't connect to localhost:1"),
        (("localhost:12345",), 2, "which protocol is spoken"),
        (("localhost:1", "--protocol", "imap", "--ca", __file__), 2, "no certificates in PEM form"),
    ],
)
def test_what_is_wrong_is_said(arguments, status, message):
    result = mailgate("tls", "check", *arguments)
    assert result.returncode == status and message in result.stderr and "Traceback" not in result.stderr


def test_its_help_names_the_check():
    result = mailgate("tls", "--help")
    assert result.returncode == 0 and "check" in result.stdout


# ---------------------------------------------------------------- a server that does all wrong


def serve_badly(client: socket.socket, context: ssl.SSLContext) -> None:
    """Speak SMTP, and read on in TLS what came in clear behind STARTTLS."""
    client.settimeout(10)
    client.sendall(b"220 bad.example\r\n")
    heard = b""
    secure = False
    while True:
        while b"\n" not in heard:
            data = client.recv(4096)
            if not data:
                return
            heard += data
        line, _, heard = heard.partition(b"\n")
        word = line.strip().upper().partition(b" ")[0]
        if word == b"EHLO":
            client.sendall(b"250-bad.example\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n")
        elif word == b"STARTTLS" and not secure:
            client.sendall(b"220 go on\r\n")
            client = context.wrap_socket(client, server_side=True)
            secure = True
        elif word == b"QUIT":
            client.sendall(b"221 bye\r\n")
            client.close()
            return
        else:
            client.sendall(b"250 fine\r\n")


@contextmanager
def bad_server(pair: KeyPair) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    listening = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def one(client: socket.socket) -> None:
        with client:
            try:
                serve_badly(client, context)
            except (OSError, ValueError):
                return

    def serve() -> None:
        while not ended.is_set():
            try:
                client, _ = listening.accept()
            except OSError:
                return
            one(client)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        ended.set()
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(20)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_a_bad_server(tmp_path: Path):
    """Injection, old versions, ciphers without forward secrecy, an expired certificate."""
    authority = make_authority(tmp_path)
    pair = authority.issue("old", not_after=datetime.now(UTC) - timedelta(days=2))
    with bad_server(pair) as port:
        status, report = check(f"localhost:{port}", "--protocol", "smtp", "--ca", str(authority.certificate))
    assert status == 1
    errors = said(report, "error")
    assert "executed within TLS (CVE-2011-0411)" in errors
    assert "it has expired" in errors and "CN=old expired on" in errors
    assert report["starttls"]["logins_before_tls"] == ["PLAIN"]
    assert "TLSv1 and TLSv1.1: accepted" in said(report, "warning")
