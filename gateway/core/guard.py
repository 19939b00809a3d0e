"""What an engine asks before it goes on: whether a command or a login may be."""

from __future__ import annotations

from typing import Protocol


class Guard(Protocol):
    """Answers at once: it is asked between two steps.

    asks_commands, asks_logins: whether there is anything to ask; looked at on the hot path.
    """

    asks_commands: bool
    asks_logins: bool

    def command(self, verb: str, shown: str) -> str:
        """Return why a command is refused; "" lets it go on.  shown: as it may be logged."""

    def login(self, user: str, mechanism: str) -> str:
        """Return why a login that the upstream has accepted is refused; "" lets it be."""

    def no_logins(self) -> str:
        """Return why no login may begin now, whoever it is; "" lets them begin."""


class NoGuard:
    """Lets everything be."""

    asks_commands = False
    asks_logins = False

    def command(self, verb: str, shown: str) -> str:
        """Refuse nothing."""
        return ""

    def login(self, user: str, mechanism: str) -> str:
        """Refuse nothing."""
        return ""

    def no_logins(self) -> str:
        """Refuse nothing."""
        return ""


NO_GUARD = NoGuard()
