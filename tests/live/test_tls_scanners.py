"""What testssl.sh and sslscan find on each listener, with the default profile: nothing above "low"."""

from __future__ import annotations

import json
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.conftest import need
from tests.demo.conftest import Upstream
from tests.live.test_threats import Scene

pytestmark = pytest.mark.live

#: Protocols, cipher categories, forward secrecy, the certificate; and of the vulnerabilities those that
#: depend on how TLS is run, not only on the ciphers and versions that are seen already: Heartbleed, CCS,
#: Ticketbleed, renegotiation, compression, fallback, ROBOT.  All of -U takes three times as long.
CHECKS = ("-p", "-s", "-f", "-S", "-H", "-I", "-T", "-R", "-C", "-Z")
#: What is true of the test's own authority and of no listener: its certificates name no place for
#: revocation lists or OCSP, and testssl.sh lacks an engine for GOST.
OF_THE_TEST = {"cert_revocation", "engine_problem"}
FINE = {"OK", "INFO", "LOW", "DEBUG"}


@pytest.fixture
def scene(tmp_path: Path, upstream: Upstream) -> Iterator[Scene]:
    made = Scene(tmp_path, upstream)
    pair = made.authority.issue("long", not_after=datetime.now(UTC) + timedelta(days=80))
    made.certificate, made.key = pair.certificate, pair.key
    gateway = made.start()
    try:
        yield made
    finally:
        gateway.stop()


def run_testssl(scene: Scene, listener: str) -> list[str]:
    """Return what it finds above "low"."""
    protocol, _, mode = listener.partition("-")
    told = scene.directory / f"{listener}.json"
    command = ["testssl", "--quiet", "--color", "0", "--warnings", "batch", "--jsonfile", str(told)]
    command += ["--add-ca", str(scene.authority.certificate), "--ip", "127.0.0.1", "--nodns", "min", *CHECKS]
    command += ["--starttls", protocol] if mode == "starttls" else []
    command.append(f"localhost:{scene.ports[listener]}")
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=300, check=False)
    findings = json.loads(told.read_text())
    assert any(one["id"] == "TLS1_3" and "offered" in one["finding"] for one in findings), "it saw no TLS"
    return [
        f"{listener}: {one['id']} {one['severity']}: {one['finding']}"
        for one in findings
        if one["severity"] not in FINE
        and one["id"] not in OF_THE_TEST
        and not (one["severity"] == "WARN" and "check failed" in one["finding"])  # its own trouble
    ]


def test_testssl(scene: Scene):
    need("testssl")
    with ThreadPoolExecutor(len(scene.ports)) as pool:
        found = [
            line for lines in pool.map(lambda name: run_testssl(scene, name), scene.ports) for line in lines
        ]
    assert not found, "\n".join(found)


def run_sslscan(scene: Scene, listener: str) -> ET.Element:
    protocol, _, mode = listener.partition("-")
    command = ["sslscan", "--xml=-", "--no-colour", "--sni-name=localhost"]
    command += [f"--starttls-{protocol}"] if mode == "starttls" else []
    command.append(f"127.0.0.1:{scene.ports[listener]}")
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = ET.fromstring(done.stdout).find("ssltest")
    assert found is not None, done.stdout
    return found


def test_sslscan(scene: Scene):
    need("sslscan")
    with ThreadPoolExecutor(3) as pool:
        for listener, found in zip(
            scene.ports, pool.map(lambda name: run_sslscan(scene, name), scene.ports), strict=True
        ):
            enabled = {
                f"{one.get('type')}v{one.get('version')}"
                for one in found.iter("protocol")
                if one.get("enabled") == "1"
            }
            assert enabled == {"tlsv1.2", "tlsv1.3"}, listener
            ciphers = list(found.iter("cipher"))
            assert ciphers and all(one.get("strength") in ("strong", "acceptable") for one in ciphers), (
                listener
            )
            assert all(one.get("vulnerable") == "0" for one in found.iter("heartbleed")), listener
            assert all(one.get("supported") == "0" for one in found.iter("compression")), listener
            weak = [one.get("supported") for one in found.iter("fallback")]
            assert "0" not in weak, listener
            renegotiation = found.find("renegotiation")
            assert renegotiation is not None, listener
            assert renegotiation.get("supported") == "0" or renegotiation.get("secure") == "1", listener
