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
        a record.  percent: of the messages that it asks it for.
    """

    result: str
    domain: str
    policy: str = ""
    percent: int = 100
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Record:
    policy: str
    strict_dkim: bool
    strict_spf: bool
    percent: int


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
    lookup: Lookup, author: str, spf: SpfResult | None, signatures: Iterable[Check]
) -> DmarcResult:
    """Return what DMARC says of the author's domain, in ASCII.

    spf: None where it could not be asked; then a message can pass by DKIM and can't fail.
    """
    if len(author) > 253 or DOMAIN.match(author) is None:
        return DmarcResult("permerror", author[:253], reason="no domain in From")
    try:
        record = _find(lookup, author)
    except TemporaryError as error:
        return DmarcResult("temperror", author, reason=str(error))
    if record is None:
        return DmarcResult("none", author)
    waiting = False
    for check in signatures:
        if check.result in ("pass", "temperror") and is_aligned(check.domain, author, record.strict_dkim):
            if check.result == "pass":
                return DmarcResult("pass", author, record.policy, record.percent)
            waiting = True
    if spf is not None and spf.domain and is_aligned(spf.domain, author, record.strict_spf):
        if spf.result == "pass":
            return DmarcResult("pass", author, record.policy, record.percent)
        waiting = waiting or spf.result == "temperror"
    if waiting:
        return DmarcResult("temperror", author, record.policy, reason="SPF or DKIM could not be asked")
    if spf is None:
        return DmarcResult("none", author, record.policy, reason="SPF was not checked")
    return DmarcResult("fail", author, record.policy, record.percent)


def _find(lookup: Lookup, author: str) -> _Record | None:
    """Return the record that is for a domain (RFC 7489 6.6.3)."""
    found = _tags(lookup(f"_dmarc.{author}", "TXT"))
    if found is not None:
        return _record(found, found.get("p", ""))
    parent = organisational(author)
    if parent == author:
        return None
    found = _tags(lookup(f"_dmarc.{parent}", "TXT"))
    if found is None:
        return None
    return _record(found, found.get("sp", found.get("p", "")))


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


def _record(tags: dict[str, str], policy: str) -> _Record | None:
    policy = policy.lower()
    if policy not in _POLICIES:
        if "rua" not in tags:
            return None
        policy = "none"
    percent = tags.get("pct", "100")
    return _Record(
        policy,
        tags.get("adkim", "r").lower() == "s",
        tags.get("aspf", "r").lower() == "s",
        min(int(percent), 100) if percent.isascii() and percent.isdigit() and len(percent) < 4 else 100,
    )
