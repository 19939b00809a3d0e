"""Keys of DKIM: public ones out of the DNS (RFC 6376 3.6.1), private ones out of files."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_private_key

from ...core.text import shown
from .tags import BadTags, decode_base64, read_tags, without_blanks

PublicKey = RSAPublicKey | Ed25519PublicKey
PrivateKey = RSAPrivateKey | Ed25519PrivateKey

#: RFC 8301 3.2.
LEAST_BITS = 1024
MOST_BITS = 4096
_MOST_EXPONENT_BITS = 64
_LARGEST_RECORD = 16 * 1024
_LARGEST_FILE = 64 * 1024


class BadKey(ValueError):
    """A key record that no signature can be verified with."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One record: the key, whether the domain only tests, whether i= must be d= itself."""

    key: PublicKey
    testing: bool
    strict: bool


def read_record(raw: bytes, algorithm: str) -> KeyRecord:
    """Return the key that a record holds for "rsa" or "ed25519".  Raises BadKey."""
    if len(raw) > _LARGEST_RECORD:
        raise BadKey("key record too long")
    try:
        tags = read_tags(raw)
        if tags.get("v", "DKIM1") != "DKIM1":
            raise BadKey("key record of an unknown version")
        if tags.get("k", "rsa") != algorithm:
            raise BadKey("key of another algorithm")
        if "h" in tags and "sha256" not in without_blanks(tags["h"]).split(":"):
            raise BadKey("key for another digest")
        services = without_blanks(tags.get("s", "*")).split(":")
        if "*" not in services and "email" not in services:
            raise BadKey("key for another service")
        if "p" not in tags:
            raise BadKey("key record without a key")
        octets = decode_base64(tags["p"], "p")
    except BadTags as error:
        raise BadKey(f"key record: {error}") from None
    if not octets:
        raise BadKey("key revoked")
    flags = without_blanks(tags.get("t", "")).split(":")
    return KeyRecord(_public(octets, algorithm), "y" in flags, "s" in flags)


def _public(octets: bytes, algorithm: str) -> PublicKey:
    if algorithm == "ed25519":
        try:
            return Ed25519PublicKey.from_public_bytes(octets)  # RFC 8463 4
        except (ValueError, UnsupportedAlgorithm):
            raise BadKey("no Ed25519 key") from None
    key: object = None
    # RFC 6376 3.6.1 says RSAPublicKey, its examples and all the world have SubjectPublicKeyInfo.
    for form in (octets, _wrapped(octets)):
        try:
            key = load_der_public_key(form)
            break
        except (ValueError, UnsupportedAlgorithm):
            continue
    if not isinstance(key, RSAPublicKey):
        raise BadKey("no RSA key")
    if not LEAST_BITS <= key.key_size <= MOST_BITS:
        raise BadKey(f"RSA key of {key.key_size} bits")
    if key.public_numbers().e.bit_length() > _MOST_EXPONENT_BITS:
        raise BadKey("RSA key with a huge exponent")
    return key


_RSA_ALGORITHM = bytes.fromhex("300d06092a864886f70d0101010500")


def _wrapped(key: bytes) -> bytes:
    """Return an RSAPublicKey as a SubjectPublicKeyInfo (RFC 3279 2.3.1)."""
    bits = b"\x03" + _length(len(key) + 1) + b"\0" + key
    return b"\x30" + _length(len(_RSA_ALGORITHM) + len(bits)) + _RSA_ALGORITHM + bits


def _length(size: int) -> bytes:
    if size < 0x80:
        return bytes([size])
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([0x80 | len(octets)]) + octets


def verifies(key: PublicKey, signature: bytes, digest: bytes) -> bool:
    """Tell whether a signature is the key's, of a SHA-256 digest."""
    try:
        if isinstance(key, Ed25519PublicKey):
            key.verify(signature, digest)  # RFC 8463 3: of the digest itself
        else:
            key.verify(signature, digest, PKCS1v15(), Prehashed(SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


def sign(key: PrivateKey, digest: bytes) -> bytes:
    """Return the key's signature of a SHA-256 digest."""
    if isinstance(key, Ed25519PrivateKey):
        return key.sign(digest)
    return key.sign(digest, PKCS1v15(), Prehashed(SHA256()))


def read_private(path: Path, unsafe: bool = False) -> PrivateKey:
    """Return the key of a PEM file.  Raises ValueError, in words for an admin.

    unsafe: take it also where every account of the machine can read or change it.
    """
    try:
        status = path.stat()
        if status.st_size > _LARGEST_FILE:
            raise ValueError(f"{path} is too large for a key")
        octets = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} can't be read: {shown(str(error.strerror))}") from None
    if status.st_mode & (stat.S_IROTH | stat.S_IWOTH) and not unsafe:
        raise ValueError(f"{path} can be read or changed by everybody: chmod o-rwx, or unsafe_keys = true")
    try:
        key = load_pem_private_key(octets, None)
    except TypeError:
        raise ValueError(f"{path} has a passphrase: DKIM keys must have none") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"{path} holds no private key in PEM") from None
    if isinstance(key, Ed25519PrivateKey):
        return key
    if not isinstance(key, RSAPrivateKey):
        raise ValueError(f"{path} holds neither an RSA nor an Ed25519 key")
    if not LEAST_BITS <= key.key_size <= MOST_BITS:
        raise ValueError(
            f"{path} holds an RSA key of {key.key_size} bits, it must have {LEAST_BITS} to {MOST_BITS}"
        )
    return key
