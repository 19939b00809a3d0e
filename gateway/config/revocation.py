"""Certificate revocation lists in PEM files (RFC 5280 5)."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509

_END = b"-----END X509 CRL-----"


def revocation_lists(path: Path | None) -> list[x509.CertificateRevocationList]:
    """Return the lists in a file, at least one; none for no file.  Raises ValueError, OSError."""
    if path is None:
        return []
    try:
        lists = [x509.load_pem_x509_crl(block + _END) for block in path.read_bytes().split(_END)[:-1]]
    except ValueError:
        lists = []
    if not lists:
        raise ValueError(f"no certificate revocation list in PEM form: {path}")
    return lists
