"""The capabilities of CAPA: what the gateway passes, owns and strikes, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ...core.explaining import Row, explain_lines
from ...core.gate import EVERY
from ...core.mechanisms import filter_mechanisms, hide
from ...core.rules import Rules

TABLE: dict[str, tuple[str, str]] = {
    "USER": ("own", "hidden where logins in clear are refused (RFC 2449 6.2)"),
    "SASL": ("own", "the upstream's mechanisms less those that can't pass or are forbidden (RFC 5034)"),
    "STLS": ("own", "TLS ends at the gateway on each side (RFC 2595)"),
    "PIPELINING": ("own", "the gateway takes commands in any grouping and keeps the order (RFC 2449 6.6)"),
    "TOP": ("pass", "RFC 2449 6.1"),
    "UIDL": ("pass", "RFC 2449 6.8"),
    "RESP-CODES": ("pass", "RFC 2449 6.4; the gateway's own replies carry codes"),
    "AUTH-RESP-CODE": ("pass", "RFC 3206"),
    "LOGIN-DELAY": ("pass", "RFC 2449 6.5"),
    "EXPIRE": ("pass", "RFC 2449 6.7"),
    "UTF8": ("pass", "RFC 6856"),
    "LANG": ("pass", "RFC 6856"),
    "IMPLEMENTATION": ("strike", "it tells strangers the upstream's program and version (RFC 2449 6.9)"),
    "XCLIENT": ("strike", "only the gateway may speak it to the upstream"),
    "XTND": ("strike", "not parsed by the gateway"),
}
UNKNOWN = ("strike", "unknown to the gateway")


@dataclass(slots=True)
class Offer:
    """What one CAPA reply offers, and what of it the client is told."""

    keywords: dict[str, list[str]] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    struck: list[tuple[str, str]] = field(default_factory=list)
    mechanisms: list[str] = field(default_factory=list)


def read(lines: Sequence[bytes]) -> dict[str, list[str]]:
    """Read the lines of a CAPA reply (without ends)."""
    keywords: dict[str, list[str]] = {}
    for line in lines:
        words = line.decode("ascii", "replace").split()
        if words:
            keywords.setdefault(words[0].upper(), []).extend(words[1:])
    return keywords


def advertise(keywords: dict[str, list[str]], rules: Rules, *, stls: bool, hidden: frozenset[str]) -> Offer:
    """Work out what a client may be told.

    stls: the client may begin TLS now: not twice, nor behind its login (RFC 2595 4).
    hidden: mechanisms that nobody may log in with now.
    """
    offer = Offer(keywords)
    for keyword, arguments in keywords.items():
        text = " ".join([keyword, *arguments])
        action, reason = TABLE.get(keyword, UNKNOWN)
        if keyword in rules.strike_extensions:
            offer.struck.append((text, "struck by the configuration"))
        elif keyword == "USER":
            passed, struck = hide(["USER"], hidden)
            offer.struck += [(text, why) for _, why in struck]
            offer.lines += [text for _ in passed]
        elif keyword == "SASL":
            offer.mechanisms, struck = filter_mechanisms(arguments, rules)
            offer.struck += [(f"SASL {name}", why) for name, why in struck]
            offer.mechanisms, struck = hide(offer.mechanisms, hidden)
            offer.struck += [(f"SASL {name}", why) for name, why in struck]
            if offer.mechanisms:
                offer.lines.append("SASL " + " ".join(offer.mechanisms))
        elif action == "pass" or keyword in rules.pass_extensions:
            offer.lines.append(text)
        elif action == "strike":
            offer.struck.append((text, reason))
    own = ["STLS", "PIPELINING"] if stls else ["PIPELINING"]
    offer.lines += [line for line in own if line not in rules.strike_extensions]
    return offer


def explain(offered: Sequence[str], rules: Rules, secure: bool) -> list[Row]:
    """Say of each offered line what becomes of it: (line, "pass|strike|own|change", reason)."""
    keywords = read([line.encode() for line in offered])
    stls = rules.client_tls == "starttls" and not secure
    hidden = EVERY if rules.cleartext_login == "refuse" and not secure else frozenset()
    offer = advertise(keywords, rules, stls=stls, hidden=hidden)
    return explain_lines(keywords, offer.lines, offer.struck, TABLE, UNKNOWN)
