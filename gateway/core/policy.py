"""Policies: what protection a login and a session need; first match wins.

A policy applies by listener, protocol, network and user.  What it asks for is judged at each
login; its mode says what follows: ``monitor`` records, ``warn`` tells the user, ``enforce``
refuses.  From a date on it may be enforced for a share of users or networks, chosen by a stable
hash, so that the same ones stay chosen while the share grows.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from functools import lru_cache

from ..wire.sasl import REVEALING
from .gate import ALLOWED, Need, Ruling
from .record import SessionRecord
from .users import normalised

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
#: TLS versions, lowest first.
VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
#: How much of a network is one subject of a share, as prefix lengths.
_SUBJECT = {4: 24, 6: 64}


class Users:
    """User names by pattern: ``alice``, ``*@example.org``; without regard to case."""

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        joined = "|".join(translate(normalised(one)) for one in patterns)
        self._match = re.compile(joined) if patterns else None

    def __bool__(self) -> bool:
        return self._match is not None

    def __contains__(self, user: object) -> bool:
        return self._match is not None and self._match.match(str(user)) is not None


@dataclass(frozen=True, slots=True)
class Spared:
    """Who is left alone, until when.

    until: seconds since the epoch; None is for ever.
    """

    users: Users = field(default_factory=Users)
    networks: tuple[Network, ...] = ()
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy.

    login: "none", "no-exposed-password", "tls", "tls-client-cert".
    session: "none", or "tls": nothing before TLS but what leads to it.
    min_version: of the client's TLS; "" is any.  ciphers: allowed up to TLS 1.2; empty is any.
    mechanisms: allowed; empty is any.
    mode: "monitor", "warn", "enforce".
    enforce_from: seconds since the epoch; the mode before is ``mode``.  None: the mode counts.
    share: of subjects for which it is enforced, 0 to 1.  share_by: "user" or "network".
    text: what a user is told.
    """

    name: str
    listeners: frozenset[str] = frozenset()
    protocols: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()
    users: Users = field(default_factory=Users)
    login: str = "none"
    session: str = "none"
    min_version: str = ""
    ciphers: frozenset[str] = frozenset()
    mechanisms: frozenset[str] = frozenset()
    mode: str = "monitor"
    enforce_from: float | None = None
    share: float = 1.0
    share_by: str = "user"
    exceptions: tuple[Spared, ...] = ()
    text: str = ""

    def concerns(self, record: SessionRecord, address: IpAddress | None) -> bool:
        """Tell whether it may apply to a session, whoever the user will be."""
        return (
            (not self.listeners or record.listener in self.listeners)
            and (not self.protocols or record.protocol in self.protocols)
            and (not self.networks or _within(address, self.networks))
        )

    def lacks(self, record: SessionRecord, mechanism: str) -> Need | None:
        """Return what a login by a mechanism lacks now; None if it is as the policy wants."""
        protection, tls = record.protection, record.client_tls
        if self.mechanisms and mechanism not in self.mechanisms and mechanism != "preauth":
            return Need.MECHANISM
        if self.login == "no-exposed-password" and mechanism in REVEALING and protection == "none":
            return Need.TLS
        needs_tls = self.session == "tls" or self.login in ("tls", "tls-client-cert")
        if needs_tls and protection not in ("tls", "tls-in-front"):
            return Need.TLS
        if self.login == "tls-client-cert" and (tls is None or not tls.verified):
            return Need.CERTIFICATE
        if tls is not None and self._too_old(tls.version, tls.cipher):
            return Need.TLS_VERSION
        return None

    def _too_old(self, version: str, cipher: str) -> bool:
        known = self.min_version and version in VERSIONS
        if known and VERSIONS.index(version) < VERSIONS.index(self.min_version):
            return True
        return bool(self.ciphers) and version != "TLSv1.3" and cipher not in self.ciphers

    def mode_for(self, user: str, address: IpAddress | None, now: float, hidden: bool = False) -> str:
        """Return "monitor", "warn", "enforce", or "except" for a user, whose name is normalised.

        user: "" while nobody knows; then "enforce" is answered only if it holds for all users.
        hidden: nobody will know; then if it may hold for some.
        """
        for one in self.exceptions:
            if one.until is not None and now >= one.until:
                continue
            if one.networks and not _within(address, one.networks):
                continue
            if one.users and user not in one.users:
                if not user and not hidden:
                    return "monitor"  # it may yet turn out to be one of them
                continue
            return "except"
        if self.enforce_from is None:
            return self.mode
        if now < self.enforce_from or not self._chosen(user, address, hidden):
            return "monitor" if self.mode == "enforce" else self.mode
        return "enforce"

    def _chosen(self, user: str, address: IpAddress | None, hidden: bool) -> bool:
        if self.share >= 1:
            return True
        subject = user
        if self.share_by == "network":
            subject = network_of(address) if address is not None else ""
        elif not user:
            return hidden and self.share > 0
        digest = hashlib.sha256(f"{self.name}\0{subject}".encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8]) < self.share * 2**64


class PolicyBook:
    """All policies, in the order of the file."""

    def __init__(self, policies: Sequence[Policy]) -> None:
        self.policies = tuple(policies)

    def concerning(self, record: SessionRecord) -> tuple[Policy, ...]:
        """Return those that may apply to a session: up to the first that applies to every user."""
        address = parsed(record.client_address)
        found: list[Policy] = []
        for policy in self.policies:
            if policy.concerns(record, address):
                found.append(policy)
                if not policy.users:
                    break
        return tuple(found)


def rule(
    policies: Sequence[Policy],
    record: SessionRecord,
    user: str,
    mechanism: str,
    now: float,
    hidden: bool = False,
) -> Ruling:
    """Rule on a login by the first policy that applies to its user.

    user: "" while it is not known: refused is then only what every policy that may apply refuses.
    hidden: it will not be known: the strictest of those that may apply decides.
    """
    name, address = normalised(user), parsed(record.client_address)
    if not name:
        rulings = [_ruling(policy, record, "", address, mechanism, now, hidden) for policy in policies]
        if hidden:
            return max(rulings, key=lambda ruling: _STRICTNESS[ruling.judgement], default=ALLOWED)
        ends = bool(policies) and not policies[-1].users
        return rulings[0] if ends and all(ruling.refused for ruling in rulings) else ALLOWED
    for policy in policies:
        if not policy.users or name in policy.users:
            return _ruling(policy, record, name, address, mechanism, now)
    return ALLOWED


_STRICTNESS = {"": 0, "would-refuse": 1, "warned": 2, "refused": 3}


def _ruling(
    policy: Policy,
    record: SessionRecord,
    user: str,
    address: IpAddress | None,
    mechanism: str,
    now: float,
    hidden: bool = False,
) -> Ruling:
    need = policy.lacks(record, mechanism)
    if need is None:
        return Ruling(policy.name)
    mode = policy.mode_for(user, address, now, hidden)
    judgement = {"monitor": "would-refuse", "warn": "warned", "enforce": "refused"}.get(mode, "")
    return Ruling(policy.name, judgement, need, policy.text)


@lru_cache(4096)
def parsed(address: str) -> IpAddress | None:
    """Return an address, of IPv4 if it is one within IPv6; None if the text is none, as for a UNIX socket."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def plain_address(address: str) -> str:
    """Return an IPv4 address that was written as one of IPv6 as what it is."""
    known = parsed(address) if ":" in address else None
    return str(known) if known is not None and known.version == 4 else address


def network_of(address: IpAddress) -> str:
    """Return the network that counts as one subject, as CIDR: IPv4 /24, IPv6 /64."""
    return str(ipaddress.ip_network((address, _SUBJECT[address.version]), strict=False))


def _within(address: IpAddress | None, networks: Sequence[Network]) -> bool:
    if address is None:
        return False
    return any(address in network for network in networks if network.version == address.version)
