"""The Authenticated Received Chain (RFC 8617): verified, never added to."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

from ..fields import Field
from .canonical import relaxed_field
from .dkim import Check, Failed, Verifier
from .keys import verifies
from .tags import (
    LARGEST_FIELD,
    BadTags,
    decode_base64,
    read_number,
    read_tags,
    without_blanks,
    without_signature,
)

#: RFC 8617 4.2.1.
MOST_INSTANCES = 50
_INSTANCE = re.compile(rb"\s{0,100}i\s{0,20}=\s{0,20}([0-9]{1,5})\s{0,20};")
_NAMES = ("arc-authentication-results", "arc-message-signature", "arc-seal")


@dataclass(slots=True)
class Chain:
    """What became of the chain.

    result: "none", "pass", "fail", "temperror".  sealers: the domains that sealed it, the first
    one first.  first: what the first of them has seen, as it wrote it.
    """

    result: str = "none"
    reason: str = ""
    sealers: list[str] = field(default_factory=list)
    first: bytes = b""


@dataclass(slots=True)
class _Set:
    results: Field
    signature: Field
    seal: Field


def verify_chain(verifier: Verifier) -> Chain:
    """Return what becomes of the chain of a message (RFC 8617 5.2)."""
    chain = Chain()
    try:
        sets = _collect(verifier)
        if not sets:
            return chain
        seals = [read_tags(one.seal.raw_value) for one in sets]
        _check_seals(seals)
        _verify_signature(verifier, sets[-1].signature)
        chain.sealers = _verify_seals(verifier, sets, seals)
        chain.result = "pass"
        chain.first = sets[0].results.raw_value.partition(b";")[2]
    except BadTags as error:
        chain.result, chain.reason = "fail", str(error)
    except Failed as error:
        chain.result = "temperror" if error.result == "temperror" else "fail"
        chain.reason = error.reason
    return chain


def _collect(verifier: Verifier) -> list[_Set]:
    """Return the sets in the order of their instances.  Raises BadTags."""
    found: dict[tuple[int, str], Field] = {}
    for name in _NAMES:
        fields = verifier.root.get_all(name)
        if len(fields) > MOST_INSTANCES:
            raise BadTags(f"more than {MOST_INSTANCES} instances")
        for one in fields:
            key = _instance(one), name
            if key in found:
                raise BadTags(f"instance {key[0]} twice")
            found[key] = one
    sets: list[_Set] = []
    while len(sets) * 3 < len(found):
        wanted = [found.get((len(sets) + 1, name)) for name in _NAMES]
        results, signature, seal = wanted
        if results is None or signature is None or seal is None:
            raise BadTags(f"instance {len(sets) + 1} is not whole")
        sets.append(_Set(results, signature, seal))
    return sets


def _instance(one: Field) -> int:
    if one.name == "arc-authentication-results":
        if one.end - one.start > LARGEST_FIELD:
            raise BadTags("field too long")
        found = _INSTANCE.match(one.raw_value[:400])
        number = int(found[1]) if found is not None else 0
    else:
        number = read_number(read_tags(one.raw_value).get("i", ""), "i")
    if not 0 < number <= MOST_INSTANCES:
        raise BadTags("i= is no instance")
    return number


def _check_seals(seals: list[dict[str, str]]) -> None:
    for place, tags in enumerate(seals):
        if "h" in tags:
            raise BadTags("a seal with h=")  # RFC 8617 4.1.3
        state = tags.get("cv", "").lower()
        if state == "fail":
            raise Failed("fail", f"was broken already at instance {place + 1}")
        if state != ("pass" if place else "none"):
            raise BadTags(f"cv= of instance {place + 1}")


def _verify_signature(verifier: Verifier, signature: Field) -> None:
    tags = read_tags(signature.raw_value)
    if "arc-seal" in without_blanks(tags.get("h", "")).lower().split(":"):
        raise BadTags("h= names the seal")  # RFC 8617 4.1.2
    domain = tags.get("d", "").lower()
    verifier.verify(Check(domain=domain, identity=f"@{domain}"), tags, signature)


def _verify_seals(verifier: Verifier, sets: list[_Set], seals: list[dict[str, str]]) -> list[str]:
    """Return the domains of the seals, each of which covers all before it (RFC 8617 5.1.1)."""
    before = hashlib.sha256()
    for one, tags in zip(sets, seals, strict=True):
        for raw in (one.results.raw, one.signature.raw):
            before.update(relaxed_field(raw) + b"\r\n")
        hashed = before.copy()
        hashed.update(relaxed_field(without_signature(one.seal.raw)))
        octets = decode_base64(tags.get("b", ""), "b")
        if not verifies(verifier.key(tags).key, octets, hashed.digest()):
            raise Failed("fail", f"seal {tags['i']} did not verify")
        before.update(relaxed_field(one.seal.raw) + b"\r\n")
    return [tags["d"].lower() for tags in seals]
