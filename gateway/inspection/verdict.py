"""The closed set of what a plugin may answer."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.text import shown
from .edits import Edits


@dataclass(frozen=True, slots=True)
class Pass:
    """Let the message go on as it is."""


@dataclass(frozen=True, slots=True)
class Modify:
    """Let the message go on with edits laid in; with no edits it is as Pass."""

    edits: Edits


@dataclass(frozen=True, slots=True)
class Reject:
    """Refuse the message.  The client is told the reason, so it holds no secret."""

    reason: str


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Keep the message from its way, for an admin to look at.

    Without a quarantine, or where it fails, the gateway answers with a temporary failure, so
    that the message stays where it is.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Discard:
    """Tell the client that the message was taken, and drop it."""

    reason: str = ""


Verdict = Pass | Modify | Reject | Quarantine | Discard
#: For the check that an answer is one of them.
VERDICTS: tuple[type, ...] = (Pass, Modify, Reject, Quarantine, Discard)


def what_it_is(value: object) -> str:
    """Say what a plugin has answered in place of a verdict."""
    if isinstance(value, type) and issubclass(value, VERDICTS):
        return f"the class {value.__name__} (write {value.__name__}(...))"
    return "None" if value is None else shown(type(value).__name__)
