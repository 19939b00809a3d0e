"""TLS in operation: renewal under open sessions, resumption, client certificates, fingerprints, keys."""

from __future__ import annotations

import imaplib
import json
import os
import re
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.demo.certificates import Authority, KeyPair, make_authority
from tests.cli.support import mailgate
from tests.conftest import need
from tests.demo.conftest import Upstream
from tests.support.gateway import RunningGateway
from tests.support.processes import free_port, wait_until

pytestmark = pytest.mark.live

EXPIRY = "mailgate_tls_certificate_expiry_timestamp_seconds"


class Scene:
    """A gateway with IMAP and SMTP over TLS, and an authority that issues what is asked for."""

    def __init__(self, directory: Path, upstream: Upstream) -> None:
        self.directory = directory
        self.upstream = upstream
        self.authority: Authority = make_authority(directory)
        self.pair: KeyPair = self.authority.issue("gateway")
        self.imaps, self.smtp, self.admin = free_port(), free_port(), free_port()
        self.gateway: RunningGateway | None = None

    def start(self, tls: str = "", top: str = "") -> RunningGateway:
        text = f"""
[admin]
address = "127.0.0.1:{self.admin}"
[tls]
watch = "100ms"
{top}
"""
        for name, protocol, port, mode in (
            ("imaps", "imap", self.imaps, "implicit"),
            ("smtp", "smtp", self.smtp, "starttls"),
        ):
            text += f"""
[[upstreams]]
name = "{protocol}"
addresses = ["127.0.0.1:{self.upstream.ports[protocol]}"]
tls = "none"
[[listeners]]
name = "{name}"
protocol = "{protocol}"
address = "127.0.0.1:{port}"
upstream = "{protocol}"
[listeners.tls]
mode = "{mode}"
certificates = [{{ certificate = "{self.pair.certificate}", key = "{self.pair.key}" }}]
{tls}
"""
        self.gateway = RunningGateway(text, self.directory)
        return self.gateway

    def client(self, pair: KeyPair | None = None) -> imaplib.IMAP4_SSL:
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        if pair is not None:
            context.load_cert_chain(pair.certificate, pair.key)
        return imaplib.IMAP4_SSL("localhost", self.imaps, ssl_context=context, timeout=20)

    def serial(self) -> str:
        """Return the serial number of the certificate that a new client sees."""
        client = self.client()
        try:
            shown = client.socket().getpeercert()
            return str(shown["serialNumber"])
        finally:
            client.logout()

    def openssl(self, *arguments: str, port: int = 0, starttls: str = "", say: str = "a LOGOUT\n") -> str:
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port or self.imaps}", "-crlf"]
        command += ["-servername", "localhost", "-CAfile", str(self.authority.certificate), *arguments]
        if starttls:
            command += ["-starttls", starttls]
        done = subprocess.run(command, input=say, capture_output=True, text=True, timeout=15, check=False)
        return done.stdout + done.stderr

    def replace(self, name: str, hosts: tuple[str, ...] = ("localhost", "127.0.0.1")) -> None:
        """Put a new pair into the place of the gateway's."""
        new = self.authority.issue(name, hosts)
        os.replace(new.key, self.pair.key)
        os.replace(new.certificate, self.pair.certificate)


@pytest.fixture
def scene(tmp_path: Path, upstream: Upstream) -> Iterator[Scene]:
    made = Scene(tmp_path, upstream)
    try:
        yield made
    finally:
        if made.gateway is not None:
            made.gateway.stop()


def test_a_renewed_certificate_is_shown_and_no_session_ends(scene: Scene):
    """Without a signal: as an ACME client leaves it."""
    gateway = scene.start()
    before = scene.serial()
    session = scene.client()
    session.login("alice", scene.upstream.users["alice"])
    expiry = gateway.metric(EXPIRY, name="imaps/gateway.pem")
    scene.replace("renewed")
    line = gateway.wait_for_log(lambda line: line.get("event") == "certificates renewed")
    assert line["tls_of"] in ("listener imaps", "listener smtp")
    wait_until(lambda: scene.serial() != before, 10, "the new certificate")
    assert session.select()[0] == "OK"
    session.logout()
    assert gateway.metric(EXPIRY, name="imaps/gateway.pem") >= expiry


def test_a_pair_that_does_not_match_changes_nothing(scene: Scene):
    gateway = scene.start()
    before = scene.serial()
    other = scene.authority.issue("other")
    os.replace(other.certificate, scene.pair.certificate)
    line = gateway.wait_for_log(
        lambda line: line.get("kind") == "certificate" and line["severity"] == "alert"
    )
    assert "not the key of" in line["detail"] and line["level"] == "error"
    assert scene.serial() == before
    assert gateway.metric("mailgate_security_events_total", kind="certificate", severity="alert") >= 1
    # The key comes a moment later, as with two copies one after the other.
    os.replace(other.key, scene.pair.key)
    wait_until(lambda: scene.serial() != before, 10, "the new certificate")


def test_a_certificate_that_ends_soon_is_told_at_the_start(scene: Scene):
    from datetime import UTC, datetime, timedelta

    scene.pair = scene.authority.issue("gateway", not_after=datetime.now(UTC) + timedelta(hours=2))
    gateway = scene.start()
    line = gateway.wait_for_log(lambda line: line.get("kind") == "certificate")
    assert "expires on" in line["detail"] and "(listener imaps, listener smtp)" in line["detail"]
    assert len([one for one in gateway.log_lines() if one.get("kind") == "certificate"]) == 1


@pytest.mark.parametrize("version", ["tls1_2", "tls1_3"])
@pytest.mark.parametrize("tickets", [True, False])
def test_clients_resume_their_sessions(scene: Scene, version: str, tickets: bool):
    """By a ticket; in TLS 1.2 by the session's id, too.  A renewed certificate ends that."""
    gateway = scene.start()
    kept = scene.directory / "session.pem"
    more = () if tickets else ("-no_ticket",)
    first = scene.openssl(f"-{version}", "-ign_eof", "-sess_out", str(kept), *more)
    assert "New, TLS" in first and kept.stat().st_size
    again = scene.openssl(f"-{version}", "-ign_eof", "-sess_in", str(kept), *more)
    assert "Reused, TLS" in again
    line = gateway.wait_for_log(lambda line: line.get("event") == "tls" and line["resumed"])
    assert line["version"] == {"tls1_2": "TLSv1.2", "tls1_3": "TLSv1.3"}[version]
    wait_until(lambda: gateway.metric("mailgate_tls_resumed_total", leg="client") >= 1, 10, "the metric")
    before = scene.serial()
    scene.replace("renewed")
    wait_until(lambda: scene.serial() != before, 10, "the new certificate")
    assert "New, TLS" in scene.openssl(f"-{version}", "-ign_eof", "-sess_in", str(kept), *more)


def test_a_session_is_resumed_behind_starttls(scene: Scene):
    scene.start()
    kept = str(scene.directory / "session.pem")
    scene.openssl("-ign_eof", "-sess_out", kept, port=scene.smtp, starttls="smtp", say="QUIT\n")
    again = scene.openssl("-ign_eof", "-sess_in", kept, port=scene.smtp, starttls="smtp", say="QUIT\n")
    assert "Reused, TLS" in again


def test_client_certificates_by_authority_and_revocation_list(scene: Scene):
    """Required, verified at each connection, refused from the moment on that the list says so."""
    good, bad = (scene.authority.issue(name, (), client=True) for name in ("phone", "lost"))
    crl = scene.authority.revoke()
    tls = f'client_ca = "{scene.authority.certificate}"\nclient_certificate = "require"\nclient_crl = "{crl}"'
    policy = '[[policies]]\nname = "certificates"\nlogin = "tls-client-cert"\nmode = "enforce"'
    gateway = scene.start(tls, policy)
    for pair in (good, bad):
        client = scene.client(pair)
        assert client.login("alice", scene.upstream.users["alice"])[0] == "OK"
        client.logout()
    with pytest.raises((OSError, imaplib.IMAP4.abort)):
        scene.client()
    gateway.wait_for_log(lambda line: line.get("event") == "tls_failed" and line["reason"] == "certificate")
    kept = str(scene.directory / "session.pem")
    shown = ("-cert", str(good.certificate), "-key", str(good.key), "-ign_eof")
    for version in ("-tls1_2", "-tls1_3"):
        scene.openssl(*shown, version, "-sess_out", kept)
        assert "Reused, TLS" not in scene.openssl(*shown, version, "-sess_in", kept)
    scene.authority.revoke(bad)
    gateway.wait_for_log(lambda line: line.get("event") == "certificates renewed")

    def refused() -> bool:
        try:
            scene.client(bad).logout()
        except (OSError, imaplib.IMAP4.abort):
            return True
        return False

    wait_until(refused, 10, "the revocation")
    gateway.wait_for_log(lambda line: "revoked" in str(line.get("detail")))
    scene.client(good).logout()


def test_fingerprints_tell_programs_apart(scene: Scene):
    """JA4 of OpenSSL, curl and Python: the same each time, in the log and the audit."""
    need("openssl", "curl")
    gateway = scene.start("ja4 = true", f'[audit]\nstore = "{scene.directory}/audit.db"')

    def curl() -> None:
        url = f"imaps://localhost:{scene.imaps}/"
        command = ["curl", "-s", "--cacert", str(scene.authority.certificate), url, "-X", "NOOP"]
        subprocess.run(command, capture_output=True, timeout=60, check=False)

    found = []
    for run in (lambda: scene.openssl("-ign_eof"), curl, lambda: scene.client().logout()):
        for _ in range(2):
            known = len(prints(gateway))
            run()
            wait_until(lambda known=known: len(prints(gateway)) > known, 10, "a fingerprint")
        found.append(prints(gateway)[-2:])
    assert all(
        re.fullmatch(r"t13[di]\d{4}[0-9a-z]{2}_[0-9a-f]{12}_[0-9a-f]{12}", one)
        for two in found
        for one in two
    )
    assert all(one == other for one, other in found)
    assert len({one for one, _ in found}) == 3
    client = scene.client()
    client.login("alice", scene.upstream.users["alice"])
    client.logout()
    line = gateway.wait_for_log(lambda line: line.get("event") == "login")
    assert line["tls_ja4"] == found[2][0]


def prints(gateway: RunningGateway) -> list[str]:
    return [
        line["ja4"] for line in gateway.log_lines() if line.get("event") == "tls" and line["side"] == "client"
    ]


def test_without_the_option_no_fingerprint_is_made(scene: Scene):
    gateway = scene.start()
    scene.client().logout()
    line = gateway.wait_for_log(lambda line: line.get("event") == "tls")
    assert "ja4" not in line


@pytest.mark.parametrize("on", [True, False])
def test_the_key_log_is_written_where_it_is_asked_for_only(scene: Scene, on: bool):
    """With the keys of each connection and a loud word; without the option no environment switches it on."""
    path = scene.directory / "keys.log"
    os.environ["SSLKEYLOGFILE"] = str(path)
    try:
        gateway = scene.start(f'key_log = "{path}"' if on else "")
    finally:
        del os.environ["SSLKEYLOGFILE"]
    scene.client().logout()
    gateway.wait_for_log(lambda line: line.get("event") == "tls")
    assert path.exists() == on
    loud = [line for line in gateway.log_lines() if line.get("kind") == "key_log"]
    assert len(loud) == on
    if on:
        assert loud[0]["level"] == "error" and path.stat().st_mode & 0o777 == 0o600
        assert "SERVER_TRAFFIC_SECRET_0 " in path.read_text()
        gateway.reload()
        wait_until(
            lambda: len([line for line in gateway.log_lines() if line.get("kind") == "key_log"]) == 2,
            10, "the word again",
        )  # fmt: skip
        size = path.stat().st_size
        scene.client().logout()
        wait_until(lambda: path.stat().st_size > size, 10, "more keys")


def check(scene: Scene, listener: str) -> tuple[int, dict[str, Any]]:
    """Run `mailgate tls check` for a listener."""
    assert scene.gateway is not None
    done = mailgate(
        "tls", "check", listener, "-c", str(scene.gateway.configuration),
        "--ca", str(scene.authority.certificate), "--server-name", "localhost", "--json",
    )  # fmt: skip
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("listener", ["imaps", "smtp"])
@pytest.mark.parametrize("wants", ["none", "request", "require"])
def test_tls_check_of_a_listener(scene: Scene, listener: str, wants: str):
    """What is configured is what is seen; and the gateway takes no harm."""
    scene.start(f'client_ca = "{scene.authority.certificate}"\nclient_certificate = "{wants}"')
    status, report = check(scene, listener)
    assert status == 0, report["findings"]
    seen = {"none": "none", "request": "requested", "require": "required"}
    assert report["client_certificate"] == seen[wants]
    assert report["versions"] == {"TLSv1": False, "TLSv1.1": False, "TLSv1.2": True, "TLSv1.3": True}
    assert report["server_order"] and "ECDHE-ECDSA-AES128-GCM-SHA256" in report["ciphers"]["TLSv1.2"]
    assert report["resumption"]["TLSv1.3"] == (wants == "none")
    assert report["mode"] == ("implicit" if listener == "imaps" else "starttls")
    if listener == "smtp":
        assert report["starttls"]["commands_behind"] == "refused"


def test_tls_check_finds_the_old_profile(scene: Scene):
    scene.start('profile = "old"')
    _, report = check(scene, "imaps")
    assert report["versions"]["TLSv1"]
    assert any("RFC 8996" in one["text"] for one in report["findings"] if one["level"] == "warning")


def test_tls_check_of_an_unknown_listener(scene: Scene):
    gateway = scene.start()
    done = mailgate("tls", "check", "imap", "-c", str(gateway.configuration))
    assert done.returncode == 2 and 'did you mean "imaps"' in done.stderr
