"""The throw-away authority, judged by the standard library's TLS."""

from __future__ import annotations

import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from gateway.demo.certificates import Authority, KeyPair, make_authority


def shake_hands(authority: Authority, pair: KeyPair, host: str) -> None:
    """A handshake in memory between a checking client and a server with this certificate."""
    acceptor = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    acceptor.load_cert_chain(pair.certificate, pair.key)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    connector = ssl.create_default_context(cafile=str(authority.certificate))
    client = connector.wrap_bio(down, up, server_hostname=host)
    server = acceptor.wrap_bio(up, down, server_side=True)
    ends, turns = [client, server], 0
    while ends and turns < 10:
        turns += 1
        for end in list(ends):
            try:
                end.do_handshake()
                ends.remove(end)
            except ssl.SSLWantReadError:
                pass
    assert not ends


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "mail.example.org"])
def test_an_issued_certificate_is_trusted_for_its_hosts(tmp_path: Path, host: str) -> None:
    authority = make_authority(tmp_path / "new")
    shake_hands(authority, authority.issue("server"), host)


def test_wrong_host_expired_and_foreign_certificates_fail(tmp_path: Path) -> None:
    authority, other = make_authority(tmp_path / "one"), make_authority(tmp_path / "two")
    for pair, reason in [
        (authority.issue("other", ["elsewhere.example"]), "mismatch"),
        (authority.issue("old", not_after=datetime.now(UTC) - timedelta(hours=1)), "expired"),
        (other.issue("foreign"), "unable to get local issuer|signature"),
        (authority.issue("client", client=True), "purpose|unsuitable"),
    ]:
        with pytest.raises(ssl.SSLCertVerificationError, match=reason):
            shake_hands(authority, pair, "localhost")


def test_keys_are_private_and_on_p256(tmp_path: Path) -> None:
    pair = make_authority(tmp_path).issue("server")
    assert stat.S_IMODE(pair.key.stat().st_mode) == 0o600
    certificate = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
    assert getattr(certificate.public_key(), "curve").name == "secp256r1"  # noqa: B009
    assert pair.server_context() is not None


def test_a_name_can_not_leave_the_directory(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="plain file name"):
        make_authority(tmp_path).issue("../server")
