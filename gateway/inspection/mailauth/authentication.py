"""All checks of one message, one after the other, and what they come to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address

from ..addresses import domains_of, plain_domain
from ..part import Part
from .arc import Chain, verify_chain
from .dkim import Check, Verifier, signing_domain
from .dmarc import DmarcResult, Policy, check_dmarc, find_policy, is_aligned
from .lookups import Lookup
from .results import Result
from .spf import SpfResult, check_spf

Network = IPv4Network | IPv6Network

#: More authors' domains than this are not asked for.
_MOST_AUTHORS = 5
_MOST_RELAYS = 20
#: What Postfix, Exim and Sendmail write: the client's own name can hold no blank, so that the
#: first address in the comment behind it is what the relay itself has seen.
_RECEIVED = re.compile(
    r"\s{0,20}from\s{1,20}(\S{1,255})\s{1,20}\((?:[^\s\[]\S{0,255}\s{1,20})?\[(?:IPv6:)?([0-9A-Fa-f:.]{2,45})\]",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Sender:
    """Who has sent a message, for SPF: the client's address and name, and the reverse-path."""

    address: str
    helo: str
    reverse_path: str


@dataclass(slots=True)
class Authentication:
    """What the checks of a message have come to.

    spf: None where it could not be asked.  dmarc: of each domain in From; empty where it was not
    asked.  odd_author: From is missing or names no domain, or too many.  unchecked: signatures
    beyond the limit.
    """

    spf: SpfResult | None = None
    dkim: list[Check] = field(default_factory=list)
    arc: Chain = field(default_factory=Chain)
    dmarc: list[DmarcResult] = field(default_factory=list)
    odd_author: bool = False
    unchecked: int = 0

    def results(self) -> list[Result]:
        """Return what is to be written into Authentication-Results."""
        found: list[Result] = []
        if self.spf is not None:
            identity = f"smtp.{self.spf.identity}", self.spf.value
            found.append(Result("spf", self.spf.result, self.spf.reason, "", [identity]))
        found += [_told(check) for check in self.dkim] or [Result("dkim", "none")]
        for one in self.dmarc:
            policy = f"p={one.policy}" if one.policy else ""
            found.append(Result("dmarc", one.result, one.reason, policy, [("header.from", one.domain)]))
        if self.arc.result != "none":
            count = f"i={len(self.arc.sealers)}" if self.arc.sealers else ""
            found.append(Result("arc", self.arc.result, self.arc.reason, count))
        return found

    @property
    def waits(self) -> bool:
        """Whether the DNS has left something open."""
        return any(one.result == "temperror" for one in self.results())


def _told(check: Check) -> Result:
    properties = [
        ("header.d", check.domain),
        ("header.s", check.selector),
        ("header.a", check.algorithm),
        ("header.b", check.begin),
    ]
    if check.identity != f"@{check.domain}":
        properties.insert(1, ("header.i", check.identity))
    return Result("dkim", check.result, check.reason, "test mode" if check.testing else "", properties)


def authenticate(
    root: Part,
    lookup: Lookup,
    sender: Sender | None,
    *,
    most_signatures: int = 10,
    dmarc: bool = True,
) -> Authentication:
    """Check a message.

    sender: None where SPF means nothing.  dmarc: whether the author's domain is asked.
    """
    found = Authentication()
    verifier = Verifier(root, lookup)
    signatures = root.get_all("dkim-signature")
    found.unchecked = max(0, len(signatures) - most_signatures)
    waiting = {place: signing_domain(one) for place, one in enumerate(signatures[:most_signatures])}
    checks: dict[int, Check] = {}
    # Strangers choose the other domains, and how long those take to answer: the authors' come
    # first, each with its share of the time, so that no forger can keep a policy from being found.
    authors = author_domains(root) if dmarc else []
    asked = [one for one in authors if one][:_MOST_AUTHORS]
    policies: list[Policy | None] = []
    for place, author in enumerate(asked):
        verifier.lookup = lookup.part(lookup.seconds / (len(asked) - place + 1))
        policies.append(find_policy(verifier.lookup, author))
        for number in [one for one, domain in waiting.items() if domain and is_aligned(domain, author)]:
            del waiting[number]
            checks[number] = verifier.check(signatures[number])
    verifier.lookup = lookup
    if sender is not None:
        found.spf = check_spf(lookup, sender.address, sender.reverse_path, sender.helo)
    for number in waiting:
        checks[number] = verifier.check(signatures[number])
    found.dkim = [checks[number] for number in sorted(checks)]
    found.arc = verify_chain(verifier)
    if dmarc:
        found.odd_author = not authors or "" in authors or len(authors) > _MOST_AUTHORS
        # RFC 7489 6.6.1: of several each is asked, and the strictest policy counts.
        found.dmarc = [
            check_dmarc(author, policy, found.spf, found.dkim)
            for author, policy in zip(asked, policies, strict=True)
        ]
    return found


def author_domains(root: Part) -> list[str]:
    """Return the domains in all From fields, each once, in ASCII; "" for an author without one."""
    found = [plain_domain(one) for field in root.get_all("from") for one in domains_of(field.raw_value)]
    return list(dict.fromkeys(found))


def sender_before(root: Part, relays: Sequence[Network], reverse_path: str) -> Sender | None:
    """Return who gave a message to the first of our relays, by the Received fields they wrote.

    None where that can't be read.
    """
    for one in root.get_all("received")[:_MOST_RELAYS]:
        found = _RECEIVED.match(one.raw_value[:1000].decode("utf-8", "replace"))
        try:
            address = ip_address(found[2]) if found is not None else None
        except ValueError:
            return None
        if found is None or address is None:
            return None
        if not is_within(str(address), relays):
            return Sender(str(address), found[1], reverse_path)
    return None


def is_within(address: str, networks: Sequence[Network]) -> bool:
    """Tell whether an address is in one of some networks; not what is no address."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return any(found.version == network.version and found in network for network in networks)
