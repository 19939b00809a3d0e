"""DMARC (RFC 7489): whether what SPF and DKIM say is said of the author's domain, and its policy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .dkim import DOMAIN, Check
from .lookups import Lookup, TemporaryError
from .spf import SpfResult
from .tags import BadTags, read_tags

_POLICIES = ("none", "quarantine", "reject")


@dataclass(frozen=True, slots=True)
class DmarcResult:
    """What DMARC says of one domain.

    result: "none", "pass", "fail", "temperror", "permerror".
    policy: what the domain asks for where it fails: "none", "quarantine", "reject"; "" without
        a policy.  percent: of the messages that it asks it for.
    """

    result: str
    domain: str
    policy: str = ""
    percent: int = 100
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a domain asks for.

    policy: "none", "quarantine", "reject".  percent: of the messages that fail.
    trouble: why it can't be known at this time; the rest is meaningless then.
    """

    policy: str
    strict_dkim: bool = False
    strict_spf: bool = False
    percent: int = 100
    trouble: str = ""


@lru_cache(maxsize=1)
def _suffixes() -> Any:
    try:
        from publicsuffixlist import PublicSuffixList
    except ImportError:
        raise ValueError("the plugin needs publicsuffixlist: install mailgate[mailauth]") from None
    return PublicSuffixList()


def organisational(domain: str) -> str:
    """Return the domain that is registered, by the Public Suffix List; of a suffix itself that.

    Raises ValueError where the list is not installed.
    """
    domain = domain.lower().strip(".")
    return _suffixes().privatesuffix(domain) or domain


def is_aligned(domain: str, author: str, strict: bool = False) -> bool:
    """Tell whether a domain speaks for the author's (RFC 7489 3.1)."""
    domain, author = domain.lower().strip("."), author.lower().strip(".")
    return domain == author or (not strict and organisational(domain) == organisational(author))


def check_dmarc(
    author: str, policy: Policy | None, spf: SpfResult | None, signatures: Iterable[Check]
) -> DmarcResult:
    """Return what DMARC says of the author's domain, in ASCII.

    policy: as :func:`find_policy` has it.  spf: None where it could not be asked; then a message
    can pass by DKIM and can't fail.
    """
    if not _is_domain(author):
        return DmarcResult("permerror", author[:253], reason="no domain in From")
    if policy is None:
        return DmarcResult("none", author)
    if policy.trouble:
        return DmarcResult("temperror", author, reason=policy.trouble)
    waiting = False
    for check in signatures:
        if check.result in ("pass", "temperror") and is_aligned(check.domain, author, policy.strict_dkim):
            if check.result == "pass":
                return DmarcResult("pass", author, policy.policy, policy.percent)
            waiting = True
    if spf is not None and spf.domain and is_aligned(spf.domain, author, policy.strict_spf):
        if spf.result == "pass":
            return DmarcResult("pass", author, policy.policy, policy.percent)
        waiting = waiting or spf.result == "temperror"
    if waiting:
        return DmarcResult("temperror", author, policy.policy, reason="SPF or DKIM could not be asked")
    if spf is None:
        return DmarcResult("none", author, policy.policy, reason="SPF was not checked")
    return DmarcResult("fail", author, policy.policy, policy.percent)


def find_policy(lookup: Lookup, author: str) -> Policy | None:
    """Return what a domain asks for (RFC 7489 6.6.3); None if nothing."""
    if not _is_domain(author):
        return None
    try:
        found = _tags(lookup(f"_dmarc.{author}", "TXT"))
        if found is not None:
            return _policy(found, found.get("p", ""))
        parent = organisational(author)
        found = _tags(lookup(f"_dmarc.{parent}", "TXT")) if parent != author else None
    except TemporaryError as error:
        return Policy("", trouble=str(error))
    return _policy(found, found.get("sp", found.get("p", ""))) if found is not None else None


def _is_domain(author: str) -> bool:
    return len(author) <= 253 and DOMAIN.match(author) is not None


def _tags(records: tuple[bytes, ...]) -> dict[str, str] | None:
    found: list[dict[str, str]] = []
    for record in records:
        try:
            tags = read_tags(record)
        except BadTags:
            if not record.lstrip().startswith(b"v=DMARC1"):
                continue
            tags = _leniently(record)
        if next(iter(tags), "") == "v" and tags["v"] == "DMARC1":
            found.append(tags)
    return found[0] if len(found) == 1 else None


def _leniently(record: bytes) -> dict[str, str]:
    """Return the tags that can be read: RFC 7489 6.3 passes over errors."""
    tags: dict[str, str] = {}
    for piece in record[:4096].split(b";"):
        try:
            tags.update((name, value) for name, value in read_tags(piece).items() if name not in tags)
        except BadTags:
            continue
    return tags


def _policy(tags: dict[str, str], policy: str) -> Policy | None:
    policy = policy.lower()
    if policy not in _POLICIES:
        if "rua" not in tags:
            return None
        policy = "none"
    percent = tags.get("pct", "100")
    return Policy(
        policy,
        tags.get("adkim", "r").lower() == "s",
        tags.get("aspf", "r").lower() == "s",
        min(int(percent), 100) if percent.isascii() and percent.isdigit() and len(percent) < 4 else 100,
    )
