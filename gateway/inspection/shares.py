"""Shares: which messages a plugin sees while it is brought in step by step.

A share is drawn by person, not by chance: the same person is always on the same side, on every
machine and after every restart, and raising a share only adds people.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence

from ..core.record import SessionRecord
from ..core.steps import Envelope

#: By what a share is drawn; "" is by user, or by sender where nobody has logged in.
SHARE_BY = ("", "user", "sender", "recipient", "client")


def in_share(key: str, share: float, salt: str = "") -> bool:
    """Tell whether a key is in a share.

    It follows from the arguments alone: the first 64 bits of SHA-256 of the salt and the key,
    as a fraction of 2**64, lie below the share.

    key: of a person: a user's name, an address.  Letters count the same in any case.
    share: from 0 (nobody) to 1 (everybody).
    salt: keys are drawn anew for each, so that the same people are not always the first.
    """
    if share >= 1:
        return True
    text = f"{salt}\0{key.strip().casefold()}"
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") < share * 2.0**64


def share_keys(by: str, record: SessionRecord, envelope: Envelope | None) -> Sequence[str]:
    """Return whom a message is drawn by; a message is in the share if one of them is.

    by: one of ``SHARE_BY``.  Nobody is known by a message without a sender (a bounce), or
    without a login where it is drawn by user: it is in no share but the whole.
    """
    sender = envelope.reverse_path if envelope is not None else record.user
    if by == "":
        found = [record.user or sender]
    elif by == "user":
        found = [record.user]
    elif by == "sender":
        found = [sender]
    elif by == "recipient":
        found = envelope.recipients if envelope is not None else [record.user]
    else:
        found = [_network(record.client_address)]
    return [key for key in found if key]


def _network(address: str) -> str:
    """Return an IPv4 address, or the /64 of an IPv6 address: one client has many there."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
