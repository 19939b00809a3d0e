"""IMAP's capabilities: what the gateway passes, owns and strikes, and why.

An allow-list, applied by one function wherever a list appears: the greeting's code, the
untagged response, a tagged OK's code.  What is not in the table is struck.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ...core.gate import EVERY
from ...core.mechanisms import filter_mechanisms, hide
from ...core.rules import Rules
from ...core.steps import Stage

_PASSED = """
    IMAP4rev1 IMAP4rev2 IMAP4 SASL-IR IDLE ID ENABLE NAMESPACE UIDPLUS MOVE CHILDREN UNSELECT SORT
    ESEARCH SEARCHRES WITHIN CONDSTORE QRESYNC LIST-EXTENDED LIST-STATUS LIST-MYRIGHTS LIST-METADATA
    SPECIAL-USE CREATE-SPECIAL-USE QUOTA QUOTASET ACL METADATA METADATA-SERVER NOTIFY I18NLEVEL=1
    I18NLEVEL=2 LANGUAGE BINARY MULTIAPPEND APPENDLIMIT FILTERS OBJECTID STATUS=SIZE SAVEDATE
    PREVIEW REPLACE UTF8=ACCEPT UTF8=ONLY UIDONLY PARTIAL INPROGRESS MESSAGELIMIT SAVELIMIT
    UIDBATCHES MULTISEARCH SEARCH=FUZZY SNIPPET=FUZZY SORT=DISPLAY ESORT X-GM-EXT-1 XLIST
    MAILBOX-STATUS CATENATE
""".split()  # noqa: SIM905

#: name -> (action, reason).
TABLE: dict[str, tuple[str, str]] = {
    **{name.upper(): ("pass", "parsed or harmless") for name in _PASSED},
    "STARTTLS": ("own", "TLS ends at the gateway on each side (RFC 9051 6.2.1)"),
    "LOGINDISABLED": ("own", "where the listener refuses logins in clear (RFC 9051 6.2.3)"),
    "LITERAL+": ("own", "the gateway takes non-synchronising literals, and makes them synchronising"),
    "LITERAL-": ("own", "the gateway offers LITERAL+ (RFC 7888)"),
    "CATENATE": ("pass", "only if messages are not held: it appends content past the gateway (RFC 4469)"),
    "PREVIEW": ("pass", "only if what clients fetch is not judged: it shows the original (RFC 8970)"),
    "SNIPPET=FUZZY": ("pass", "only if what clients fetch is not judged: it shows the original"),
    "NOTIFY": ("pass", "only if what clients fetch is not judged: it may send messages unasked (RFC 5465)"),
    "UIDONLY": ("pass", "only if what clients fetch is not judged: its responses are others (RFC 9586)"),
    "COMPRESS=DEFLATE": ("strike", "would blind the gateway to every later octet (RFC 4978)"),
    "URLAUTH": ("strike", "returns bodies past FETCH (RFC 4467)"),
    "URLAUTH=BINARY": ("strike", "returns bodies past FETCH (RFC 5524)"),
    "URL-PARTIAL": ("strike", "returns bodies past FETCH (RFC 5550)"),
    "CONVERT": ("strike", "returns bodies that the server has changed (RFC 5259)"),
    "LOGIN-REFERRALS": ("strike", "sends the client around the gateway (RFC 2221)"),
    "MAILBOX-REFERRALS": ("strike", "sends the client around the gateway (RFC 2193)"),
    "UNAUTHENTICATE": ("strike", "goes back before the login (RFC 8437)"),
    "JMAPACCESS": ("strike", "shows a door that the gateway does not guard (RFC 9698)"),
}
UNKNOWN = ("strike", "unknown to the gateway")
#: Families: what begins so is passed.
_PREFIXES = ("THREAD=", "RIGHTS=", "QUOTA=RES-", "CONTEXT=", "APPENDLIMIT=", "MESSAGELIMIT=", "SAVELIMIT=")
#: Struck where messages of that stage are held.
_NOT_WHEN_HELD = {
    Stage.APPEND: ("CATENATE",),
    Stage.FETCH: ("PREVIEW", "SNIPPET=FUZZY", "NOTIFY", "UIDONLY"),
}


@dataclass(slots=True)
class Offer:
    """One list of the upstream, and what of it the client is told."""

    offered: frozenset[str] = frozenset()  # upper case
    names: list[str] = field(default_factory=list)
    struck: list[tuple[str, str]] = field(default_factory=list)
    mechanisms: list[str] = field(default_factory=list)

    @property
    def text(self) -> bytes:
        return " ".join(self.names).encode()


def action_of(name: str) -> tuple[str, str]:
    """Return what the table says of a capability (upper case)."""
    if name.startswith(_PREFIXES):
        return "pass", "parsed or harmless"
    return TABLE.get(name, UNKNOWN)


def struck_when_held(rules: Rules) -> frozenset[str]:
    """Return what is struck because messages are held."""
    return frozenset(name for stage in rules.hold for name in _NOT_WHEN_HELD.get(stage, ()))


def advertise(
    offered: Sequence[str], rules: Rules, *, secure: bool, hidden: frozenset[str], logged_in: bool
) -> Offer:
    """Work out what a client may be told.

    secure: the client's leg has TLS.  hidden: mechanisms that nobody may log in with now.
    """
    upper = [name.upper() for name in offered]
    offer = Offer(frozenset(upper))
    held = struck_when_held(rules)
    for name, key in zip(offered, upper, strict=True):
        if key.startswith("AUTH="):
            continue
        action, reason = action_of(key)
        if key in rules.strike_extensions:
            offer.struck.append((name, "struck by the configuration"))
        elif key in held:
            offer.struck.append((name, reason))
        elif action == "pass" or (action == "strike" and key in rules.pass_extensions):
            if name not in offer.names:
                offer.names.append(name)
        elif action == "strike":
            offer.struck.append((name, reason))
    offer.names.append("LITERAL+")
    if logged_in:
        return offer
    mechanisms = [key[5:] for key in upper if key.startswith("AUTH=")]
    offer.mechanisms, struck = filter_mechanisms(mechanisms, rules)
    offer.struck += [(f"AUTH={name}", why) for name, why in struck]
    if rules.client_tls == "starttls" and not secure:
        offer.names.append("STARTTLS")
    if hidden & {"LOGIN", *EVERY}:
        offer.names.append("LOGINDISABLED")
    offer.mechanisms, struck = hide(offer.mechanisms, hidden)
    offer.struck += [(f"AUTH={name}", why) for name, why in struck]
    offer.names += [f"AUTH={name}" for name in offer.mechanisms]
    return offer


def explain(offered: Sequence[str], rules: Rules, secure: bool) -> list[tuple[str, str, str]]:
    """Say of each capability what becomes of it: (name, "pass|strike|own|change", reason)."""
    logged_in = not any(name.upper().startswith("AUTH=") for name in offered) and "STARTTLS" not in offered
    hidden = EVERY if rules.cleartext_login == "refuse" and not secure else frozenset()
    offer = advertise(offered, rules, secure=secure, hidden=hidden, logged_in=logged_in)
    struck = {name.upper(): reason for name, reason in offer.struck}
    rows: list[tuple[str, str, str]] = []
    for name in offered:
        key = name.upper()
        action, reason = ("pass", "relayed and read") if key.startswith("AUTH=") else action_of(key)
        if key in struck:
            rows.append((name, "strike", struck[key]))
        elif name in offer.names:
            rows.append((name, "own" if action == "own" else "pass", reason))
        else:
            rows.append((name, "strike", reason))
    known = {name.upper() for name in offered}
    rows += [(name, "own", action_of(name)[1]) for name in offer.names if name.upper() not in known]
    return rows
