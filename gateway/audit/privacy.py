"""Privacy modes: addresses cut to a prefix, users as pseudonyms that one who holds the key can resolve.

A pseudonym is made of the normalised user and the key by HMAC-SHA-256, so it is the same each time, and
nobody without the key can try names.  Whom it stands for is kept beside, encrypted (AES-256-GCM): take
that row away, and nobody can tell any more.
"""

from __future__ import annotations

import base64
import hmac
import ipaddress
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

from .record import AuditRecord, LoginRecord, ProgramRecord, PseudonymRecord, StoredRecord

#: So many pseudonyms are remembered as stored; each is stored again once a day, so that pruning spares it.
_REMEMBERED = 20_000
_DAY = 86400 * 1_000_000


class SealError(Exception):
    """A sealed user can't be opened: another key, or not what was sealed."""


class Pseudonyms:
    """Gives users their pseudonyms.  key: 32 octets or more."""

    def __init__(self, key: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._naming = hmac.digest(key, b"mailgate audit pseudonym", "sha256")
        self._cipher = AESGCM(hmac.digest(key, b"mailgate audit mapping", "sha256"))
        self.of = lru_cache(_REMEMBERED)(self._of)

    def _of(self, user: str) -> str:
        """Return a normalised user's pseudonym: ``u-`` and 20 hexadecimal digits."""
        return f"u-{hmac.digest(self._naming, user.encode('utf-8', 'backslashreplace'), 'sha256')[:10].hex()}"

    def seal(self, user: str, pseudonym: str) -> str:
        """Return the user encrypted, of a length that tells little."""
        octets = user.encode("utf-8", "backslashreplace")
        padded = octets + b"\0" * (-len(octets) % 32)
        nonce = os.urandom(12)
        return base64.b64encode(nonce + self._cipher.encrypt(nonce, padded, pseudonym.encode())).decode()

    def unseal(self, sealed: str, pseudonym: str) -> str:
        """Return whom a pseudonym stands for.  Raises SealError."""
        from cryptography.exceptions import InvalidTag

        try:
            octets = base64.b64decode(sealed, validate=True)
            return self._cipher.decrypt(octets[:12], octets[12:], pseudonym.encode()).rstrip(b"\0").decode()
        except (InvalidTag, ValueError):
            raise SealError(f"{pseudonym}: not sealed with this key") from None


class Privacy:
    """Makes of a record what may be kept of it.

    prefixes: lengths for IPv4 and IPv6; None keeps addresses.  pseudonyms: None keeps users.
    """

    def __init__(self, prefixes: tuple[int, int] | None, pseudonyms: Pseudonyms | None) -> None:
        self._prefixes = prefixes
        self._pseudonyms = pseudonyms
        self._stored: dict[str, int] = {}
        self._cut = lru_cache(4096)(self._cut_anew)

    def forget(self) -> None:
        """Store every pseudonym again: the store may be another one."""
        self._stored.clear()

    def __call__(self, record: AuditRecord) -> Iterator[StoredRecord]:
        """Give what is to be stored."""
        user, given = record.user, record.user_given if isinstance(record, LoginRecord) else ""
        hide: list[tuple[str, str]] = []
        changes: dict[str, object] = {}
        if self._prefixes is not None and record.address:
            changes["address"] = self._cut(record.address)
            hide.append((record.address, str(changes["address"])))
            if isinstance(record, LoginRecord):
                changes["network"] = changes["address"]
        if self._pseudonyms is not None:
            names = {"user": user}
            if isinstance(record, LoginRecord):
                names["tls_client"] = record.tls_client
            for field, name in names.items():
                if name:
                    changes[field] = pseudonym = self._pseudonyms.of(name)
                    hide += [(one, pseudonym) for one in (given, name) if one]
                    if (sealed := self._sealed(name, pseudonym, record.time)) is not None:
                        yield sealed
            if isinstance(record, LoginRecord):
                changes["user_given"] = changes.get("user", "")
        if isinstance(record, LoginRecord):
            changes["client_name"] = _hidden(record.client_name, hide)
            changes["client_program"] = _hidden(record.client_program, hide)
        elif isinstance(record, ProgramRecord):
            changes["program"] = _hidden(record.program, hide)
        else:
            changes["detail"] = _hidden(record.detail, hide)
            changes["data"] = {name: _hidden(value, hide) for name, value in record.data.items()}
        yield replace(record, **changes)  # type: ignore[arg-type]

    def _sealed(self, name: str, pseudonym: str, time: int) -> PseudonymRecord | None:
        """Return whom a pseudonym stands for, where that is to be stored again."""
        assert self._pseudonyms is not None
        if time - self._stored.get(pseudonym, -_DAY) < _DAY:
            return None
        if len(self._stored) >= _REMEMBERED:
            self._stored.clear()
        self._stored[pseudonym] = time
        return PseudonymRecord(pseudonym, time, self._pseudonyms.seal(name, pseudonym))

    def _cut_anew(self, address: str) -> str:
        """Return the network that an address, or a smaller network, lies in."""
        assert self._prefixes is not None
        return network_of(address, *self._prefixes)


#: An address of IPv6, as EHLO has it too (RFC 5321 4.1.3); there are many ways to write one.
_IPV6 = re.compile(r"(?:IPv6:)?([0-9A-F]*:[0-9A-F:.]+)", re.IGNORECASE)


def _hidden(text: str, hide: list[tuple[str, str]]) -> str:
    """Replace names in any case, short ones as words only; addresses however they are written."""
    for found, shown in hide:
        if found.lower() in text.lower():
            word = r"(?<!\w){}(?!\w)" if len(found) < 3 else "{}"
            pattern = re.compile(word.format(re.escape(found)), re.IGNORECASE)
            text = shown.join(pattern.split(text))
        if ":" in found and ":" in text:
            for hit in reversed(list(_IPV6.finditer(text))):
                if _is_same(hit[1], found):
                    text = text[: hit.start(1)] + shown + text[hit.end(1) :]
    return text


def _is_same(written: str, address: str) -> bool:
    try:
        return ipaddress.ip_address(written) == ipaddress.ip_address(address)
    except ValueError:
        return False


def network_of(address: str, ipv4: int, ipv6: int) -> str:
    """Return the network of an address, as CIDR; of a network, it or the wider one; "" of no address."""
    try:
        found = ipaddress.ip_network(address.partition("%")[0], strict=False)
    except ValueError:
        return ""
    if isinstance(found, ipaddress.IPv6Network) and (mapped := found.network_address.ipv4_mapped):
        found = ipaddress.ip_network(mapped)
    length = min(found.prefixlen, ipv4 if found.version == 4 else ipv6)
    return str(found.supernet(new_prefix=length))
