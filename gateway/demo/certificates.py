"""A throw-away certificate authority for the demonstration and the tests."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL

HOSTS = ("localhost", "127.0.0.1", "mail.example.org")
_LIFETIME = timedelta(days=30)


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its private key, each in a PEM file."""

    certificate: Path
    key: Path

    def server_context(self) -> SSL.Context:
        """A pyOpenSSL context for the server end, TLS 1.2 and newer (RFC 9325 section 3.1.1)."""
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.use_certificate_chain_file(str(self.certificate))
        context.use_privatekey_file(str(self.key))
        return context


@dataclass(frozen=True)
class Authority:
    """A certificate authority; its own certificate is the file that clients are told to trust."""

    directory: Path
    certificate: Path
    _certificate: x509.Certificate
    _key: ec.EllipticCurvePrivateKey

    def issue(
        self,
        name: str,
        hosts: Iterable[str] = HOSTS,
        *,
        not_after: datetime | None = None,
        client: bool = False,
    ) -> KeyPair:
        """Writes ``<name>.pem`` and ``<name>-key.pem``: ECDSA P-256, the hosts as subjectAltName (RFC 5280).

        ``hosts`` are DNS names and IP addresses; ``not_after`` may lie in the past; ``client`` makes a
        certificate for the client end. Raises ValueError for a name that is no plain file name.
        """
        if not re.fullmatch(r"[A-Za-z0-9._-]+", name) or name.startswith("."):
            raise ValueError(f"not a plain file name: {name!r}")
        purpose = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        key = ec.generate_private_key(ec.SECP256R1())
        names = [_general_name(host) for host in hosts]
        builder = (
            _builder(_subject(name), self._certificate.subject, key.public_key(), not_after)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        pair = KeyPair(self.directory / f"{name}.pem", self.directory / f"{name}-key.pem")
        _write(pair.certificate, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
        _write(pair.key, _pem(key), 0o600)
        return pair

    def revoke(self, *pairs: KeyPair) -> Path:
        """Write ``ca.crl``, the authority's revocation list (RFC 5280 section 5), with these certificates."""
        now = datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(now - timedelta(hours=1))
            .next_update(now + _LIFETIME)
        )
        for pair in pairs:
            serial = x509.load_pem_x509_certificate(pair.certificate.read_bytes()).serial_number
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            )
        path = self.directory / "ca.crl"
        crl = builder.sign(self._key, hashes.SHA256())
        _write(path, crl.public_bytes(serialization.Encoding.PEM), 0o644)
        return path


def make_authority(directory: Path) -> Authority:
    """Makes a new authority and writes ``ca.pem`` into ``directory``, which is created if need be.

    The authority's own key stays in memory. Raises OSError when the directory can't be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject("mailgate throw-away authority")
    certificate = (
        _builder(subject, subject, key.public_key(), None)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = directory / "ca.pem"
    _write(path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    return Authority(directory, path, certificate, key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, not_after: datetime | None
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    end = not_after or now + _LIFETIME
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, end) - timedelta(days=1))
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, data: bytes, mode: int) -> None:
    # The mode is given at creation, so that a key is never readable by others, not even for a moment.
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
