"""Which SASL mechanisms of the upstream a client may be told of: one rule for all protocols."""

from __future__ import annotations

from collections.abc import Sequence

from .gate import EVERY
from .rules import Rules


def filter_mechanisms(offered: Sequence[str], rules: Rules) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the mechanisms to pass, in the upstream's order, and the struck ones with reasons.

    offered: names as the upstream lists them, any case.
    """
    upper = [name.upper() for name in offered]
    passed: list[str] = []
    struck: list[tuple[str, str]] = []
    for name in upper:
        if name in passed:
            continue
        reason = why_struck(name, upper, rules)
        if reason:
            struck.append((name, reason))
        else:
            passed.append(name)
    return passed, struck


def hide(names: Sequence[str], hidden: frozenset[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Take away the mechanisms that nobody may log in with now; return the struck ones with reasons."""
    if hidden >= EVERY:
        return [], [(name, "no login before TLS") for name in names]
    struck = [(name, "refused by a policy as things are") for name in names if name in hidden]
    return [name for name in names if name not in hidden], struck


def why_struck(name: str, offered: Sequence[str], rules: Rules) -> str:
    """Return why a mechanism (upper case) can't be passed; "" if it can."""
    if name.endswith("-PLUS"):
        return "channel binding can't pass a proxy that terminates TLS (RFC 5929)"
    if name == "EXTERNAL":
        return "the client's certificate ends at the gateway (RFC 4422 A)"
    if name.startswith("SCRAM-") and f"{name}-PLUS" in offered:
        # RFC 5802 6: a client that could bind and saw no -PLUS says so (gs2 flag "y"), and a
        # server that did offer -PLUS must then take it for a downgrade attack and fail.
        return "the upstream offers its -PLUS, so it would refuse the plain one (RFC 5802 6)"
    if name not in rules.mechanisms:
        return "not among the mechanisms that the listener passes"
    return ""
