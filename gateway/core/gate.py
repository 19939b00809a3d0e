"""What an engine asks about logins before a password goes anywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Need(StrEnum):
    """What a refused login lacks; each protocol words it."""

    TLS = "tls"
    TLS_VERSION = "tls_version"
    CERTIFICATE = "certificate"
    MECHANISM = "mechanism"
    PATIENCE = "patience"  # too many failed logins
    SYNTAX = "syntax"  # what was sent can't be read
    AUDIT = "audit"  # the audit can't be written, and must be


@dataclass(frozen=True, slots=True)
class Ruling:
    """What was decided on a login, before the upstream heard of it.

    policy: the name of the policy that decided.
    judgement: "" (as it wants), "would-refuse" (it only monitors), "warned", "refused".
    need: what was lacking.  text: what the user is told besides, by a policy that has words.
    """

    policy: str = ""
    judgement: str = ""
    need: Need = Need.TLS
    text: str = ""

    @property
    def reason(self) -> str:
        """Why a login was refused, as logs and metrics have it."""
        return _REASONS[self.need]

    @property
    def warning(self) -> str:
        """What a user is told whose login was let through all the same; "" if nothing."""
        return (self.text or _WARNINGS[self.need]) if self.judgement == "warned" else ""

    @property
    def refused(self) -> bool:
        """Whether the login may not go on."""
        return self.judgement == "refused"

    @property
    def outcome(self) -> str:
        """What a login that is refused comes to: not all of it is a policy's."""
        known = {Need.PATIENCE: "locked", Need.AUDIT: "error", Need.SYNTAX: "aborted"}
        return known.get(self.need, "policy")


_REASONS = {
    Need.TLS: "cleartext_login",
    Need.TLS_VERSION: "policy",
    Need.CERTIFICATE: "policy",
    Need.MECHANISM: "policy",
    Need.PATIENCE: "lockout",
    Need.SYNTAX: "syntax",
    Need.AUDIT: "audit",
}
_WARNINGS = {
    Need.TLS: "This login had no TLS and will be refused soon: turn on TLS in your mail program",
    Need.TLS_VERSION: "Your mail program uses outdated encryption and will be refused soon: update it",
    Need.CERTIFICATE: "Logins without a client certificate will be refused soon",
    Need.MECHANISM: "This way of logging in will be refused soon: change it in your mail program",
    Need.PATIENCE: "",
    Need.SYNTAX: "",
    Need.AUDIT: "",
}
ALLOWED = Ruling()


#: Asked with a client's address and a user ("" while not known): what a login lacks now, or None.
Barrier = Callable[[str, str], Need | None]


class Gate(Protocol):
    """Bound to one session, whose protection it knows.  Answers at once.

    active: whether there is anything to ask; looked at before every question.
    guards_commands: whether commands before TLS are its business.
    """

    active: bool
    guards_commands: bool

    def hides(self, mechanism: str) -> bool:
        """Tell whether a mechanism would be refused now, whoever the user is."""

    def attempt(self, user: str, mechanism: str, hidden: bool) -> Ruling:
        """Rule on a login.

        user: "" while it is not known.  hidden: it will not be: then what holds for some is refused,
        else only what holds for all.
        """

    def demands_tls(self) -> bool:
        """Tell whether a command other than those that lead to TLS is refused for lack of it."""


class OpenGate:
    """Lets everybody through."""

    active = False
    guards_commands = False

    def hides(self, mechanism: str) -> bool:
        """Hide nothing."""
        return False

    def attempt(self, user: str, mechanism: str, hidden: bool) -> Ruling:
        """Allow it."""
        return ALLOWED

    def demands_tls(self) -> bool:
        """Demand nothing."""
        return False


OPEN_GATE = OpenGate()

#: What stands for every mechanism where none may be used.
EVERY = frozenset({"*"})
