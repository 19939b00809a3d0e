"""The domains of addresses in header fields, read so that no second reading finds another."""

from __future__ import annotations

import re

_PIECES = re.compile(r'\\.|["()]|[^"()\\]+|\\', re.DOTALL)
_ANGLE = re.compile(r"<[^<>]*>")
_GROUP = re.compile(r"(?:^|(?<=[,;]))[^,;:<>@]*:")
_LONGEST_DOMAIN = 300


def plain_domain(domain: str) -> str:
    """Return a domain to be compared: lower-case, and in ASCII where it can be (RFC 5891 4)."""
    domain = domain[:_LONGEST_DOMAIN].strip().strip(".").lower()
    try:
        return domain if domain.isascii() else domain.encode("idna").decode()
    except UnicodeError:
        return domain


def domains_of(raw: bytes) -> list[str]:
    """Return the domains of all addresses in a field (RFC 5322 3.4), "" for one that has none.

    Where it can be read in two ways, the domains of both are there.
    """
    text = raw.decode("utf-8", "replace").replace("\r", " ").replace("\n", " ")
    kept: list[str] = []
    depth, quoted = 0, False
    for piece in _PIECES.findall(text):
        if quoted:
            quoted = piece != '"'
        elif piece == '"' and not depth:
            quoted = True
        elif piece == "(" or (piece == ")" and depth):
            depth += 1 if piece == "(" else -1
        elif not depth:
            kept.append(piece)
    if not quoted and not depth:
        text = "".join(kept)
    found = [angle[1:-1] for angle in _ANGLE.findall(text)]
    for item in re.split("[,;]", _GROUP.sub("", _ANGLE.sub("\0", text))):
        if "@" in item or ("\0" not in item and item.strip()):
            found.append(item.replace("\0", ""))
    return [address.rpartition("@")[2].strip() if "@" in address else "" for address in found]
