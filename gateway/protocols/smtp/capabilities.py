"""The extensions of EHLO and LHLO: what the gateway passes, owns and strikes, and why.

An allow-list.  What is not in the table is struck.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ...core.explaining import Row, explain_lines
from ...core.gate import EVERY
from ...core.mechanisms import filter_mechanisms, hide
from ...core.rules import Rules
from ...core.steps import Stage

#: keyword -> (action, reason).  "optional" is passed if the listener lists it.
TABLE: dict[str, tuple[str, str]] = {
    "SIZE": ("own", "the lower of the upstream's and the listener's limit (RFC 1870)"),
    "PIPELINING": ("own", "the gateway takes commands in any grouping and keeps the order (RFC 2920)"),
    "STARTTLS": ("own", "TLS ends at the gateway on each side (RFC 3207)"),
    "AUTH": ("own", "the upstream's mechanisms less those that can't pass or are forbidden (RFC 4954)"),
    "CHUNKING": ("own", "BDAT is parsed by the gateway (RFC 3030)"),
    "LIMITS": ("own", "the lower of the upstream's and the listener's limits (RFC 9422)"),
    "8BITMIME": ("pass", "RFC 6152"),
    "SMTPUTF8": ("pass", "RFC 6531"),
    "DSN": ("pass", "RFC 3461"),
    "ENHANCEDSTATUSCODES": ("pass", "RFC 2034; the gateway's own replies carry codes too"),
    "HELP": ("pass", "RFC 5321 4.1.1.8"),
    "BINARYMIME": ("pass", "only if messages are not held, with CHUNKING on both sides (RFC 3030)"),
    "REQUIRETLS": ("pass", "only if both sides have TLS (RFC 8689)"),
    "VRFY": ("pass", "only if the listener allows VRFY"),
    "EXPN": ("pass", "only if the listener allows EXPN"),
    "DELIVERBY": ("optional", "holding a message may break its promise (RFC 2852)"),
    "FUTURERELEASE": ("optional", "holding a message may break its promise (RFC 4865)"),
    "MT-PRIORITY": ("optional", "RFC 6710"),
    "NO-SOLICITING": ("optional", "RFC 3865"),
    "RRVS": ("optional", "RFC 7293"),
    "MTRK": ("optional", "RFC 3885"),
    "SUBMITTER": ("optional", "RFC 4405"),
    "CONPERM": ("optional", "RFC 4141"),
    "CONNEG": ("optional", "RFC 4141"),
    "BURL": ("strike", "the server would fetch content past the gateway (RFC 4468)"),
    "ETRN": ("strike", "RFC 1985"),
    "ATRN": ("strike", "reverses the roles on the same connection (RFC 2645)"),
    "TURN": ("strike", "reverses the roles on the same connection"),
    "CHECKPOINT": ("strike", "restarts in mid-message (RFC 1845)"),
    "XCLIENT": ("strike", "only the gateway may speak it to the upstream"),
    "XFORWARD": ("strike", "only the gateway may speak it to the upstream"),
    "PRDR": ("strike", "changes the number of replies after the final dot"),
    "PIPECONNECT": ("strike", "lets clients talk before the greeting"),
    "PIPE_CONNECT": ("strike", "lets clients talk before the greeting"),
}
UNKNOWN = ("strike", "unknown to the gateway")


@dataclass(slots=True)
class Offer:
    """What one EHLO reply of the upstream offers, and what of it the client is told."""

    keywords: dict[str, list[str]] = field(default_factory=dict)  # the upstream's, with arguments
    lines: list[str] = field(default_factory=list)  # for the client, the greeting line not among them
    struck: list[tuple[str, str]] = field(default_factory=list)
    mechanisms: list[str] = field(default_factory=list)  # those that the client may use
    size: int = 0  # the limit told to the client; 0 is none

    def reply(self, hostname: str) -> list[bytes]:
        """Return the lines of the reply to EHLO, with codes and ends."""
        texts = [hostname, *self.lines]
        lines = [f"250-{text}\r\n".encode() for text in texts[:-1]]
        return [*lines, f"250 {texts[-1]}\r\n".encode()]

    def has(self, keyword: str) -> bool:
        return keyword in self.keywords

    @property
    def struck_names(self) -> set[str]:
        return {name.partition(" ")[0] for name, _ in self.struck}


def read(lines: Sequence[bytes]) -> dict[str, list[str]]:
    """Read the keyword lines of an EHLO reply (without codes and ends)."""
    keywords: dict[str, list[str]] = {}
    for line in lines:
        words = line.decode("ascii", "replace").split()
        if not words:
            continue  # smtp-sink ends its list with an empty line
        keyword = words[0].upper()
        if keyword.startswith("AUTH="):  # the old spelling, for old Outlook
            words = ["AUTH", words[0][5:], *words[1:]]
            keyword = "AUTH"
        arguments = keywords.setdefault(keyword, [])
        arguments += [word for word in words[1:] if word not in arguments]
    return keywords


def advertise(
    keywords: dict[str, list[str]],
    rules: Rules,
    *,
    secure: bool,
    hidden: frozenset[str],
    upstream_secure: bool,
) -> Offer:
    """Work out what a client may be told.

    secure: the client's leg has TLS.  hidden: mechanisms that nobody may log in with now.
    """
    offer = Offer(keywords)
    held = Stage.DATA in rules.hold
    for keyword, arguments in keywords.items():
        action, reason = TABLE.get(keyword, UNKNOWN)
        text = " ".join([keyword, *arguments])
        if keyword in rules.strike_extensions:
            offer.struck.append((text, "struck by the configuration"))
        elif keyword in rules.pass_extensions and action in ("strike", "optional"):
            offer.lines.append(text)
        elif action == "pass":
            why = _unfit(keyword, keywords, rules, held, secure and upstream_secure)
            if why:
                offer.struck.append((text, why))
            else:
                offer.lines.append(text)
        elif action in ("strike", "optional"):
            offer.struck.append((text, reason))
    _own(offer, rules, held, secure, hidden)
    return offer


def _unfit(keyword: str, keywords: dict[str, list[str]], rules: Rules, held: bool, both_secure: bool) -> str:
    """Return why an extension of the table can't be passed here; "" if it can."""
    if keyword == "BINARYMIME" and held:
        return "messages are held and may be rewritten"
    if keyword == "BINARYMIME" and "CHUNKING" not in keywords:
        return "the upstream offers no CHUNKING"
    if keyword == "REQUIRETLS" and not both_secure:
        return "not both sides have TLS (RFC 8689)"
    if keyword == "SMTPUTF8" and "8BITMIME" not in keywords:
        return "the upstream offers no 8BITMIME (RFC 6531 3.1)"
    if keyword == "VRFY" and rules.vrfy != "allow":
        return "denied by the configuration"
    if keyword == "EXPN" and rules.expn != "allow":
        return "denied by the configuration"
    return ""


def _own(offer: Offer, rules: Rules, held: bool, secure: bool, hidden: frozenset[str]) -> None:
    """Add the gateway's own lines."""
    keywords, own = offer.keywords, ["PIPELINING"]
    theirs = keywords.get("SIZE")
    limit = rules.max_message_size
    if theirs and theirs[0].isdigit() and int(theirs[0]):
        upstream = int(theirs[0]) - (rules.size_headroom if held else 0)
        limit = min(limit, max(upstream, 1)) if limit else upstream
    offer.size = limit
    own.append(f"SIZE {limit}" if limit else "SIZE")
    if rules.client_tls == "starttls" and not secure:
        own.append("STARTTLS")
    if "AUTH" in keywords:
        passed, struck = filter_mechanisms(keywords["AUTH"], rules)
        offer.struck += [(f"AUTH {name}", why) for name, why in struck]
        passed, struck = hide(passed, hidden)
        offer.struck += [(f"AUTH {name}", why) for name, why in struck]
        if passed:
            offer.mechanisms = passed
            own.append("AUTH " + " ".join(passed))
    if held or "CHUNKING" in keywords:
        own.append("CHUNKING")
    if "LIMITS" in keywords:
        own.append("LIMITS " + " ".join(_limits(keywords["LIMITS"], rules)))
    offer.lines = [
        *(line for line in own if line.partition(" ")[0] not in rules.strike_extensions),
        *offer.lines,
    ]


def _limits(arguments: Sequence[str], rules: Rules) -> list[str]:
    limits = dict(argument.partition("=")[::2] for argument in arguments)
    theirs = limits.get("RCPTMAX", "")
    limits["RCPTMAX"] = str(
        min(int(theirs), rules.max_recipients) if theirs.isdigit() else rules.max_recipients
    )
    return [f"{name}={value}" for name, value in limits.items() if value]


def explain(offered: Sequence[str], rules: Rules, secure: bool) -> list[Row]:
    """Say of each offered line what becomes of it: (line, "pass|strike|own|change", reason)."""
    keywords = read([line.encode() for line in offered])
    hidden = EVERY if rules.cleartext_login == "refuse" and not secure else frozenset()
    offer = advertise(keywords, rules, secure=secure, hidden=hidden, upstream_secure=secure)
    return explain_lines(keywords, offer.lines, offer.struck, TABLE, UNKNOWN)
