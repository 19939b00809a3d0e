"""The closed set of what a plugin may answer when a client connects, commands or logs in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Allow:
    """Let it be; None says the same."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Refuse it.  The client is told the reason, so it holds no secret."""

    reason: str


@dataclass(frozen=True, slots=True)
class Tag:
    """Let it be, and note something on the session: ``session.tags[name]`` for plugins and the log."""

    name: str
    value: str = "yes"


Answer = Allow | Refuse | Tag | None


@dataclass(frozen=True, slots=True)
class Command:
    """A command that a client has given.

    verb: of the protocol's closed set, or "other".  text: as it may be logged, secrets masked.
    """

    verb: str
    text: str


@dataclass(frozen=True, slots=True)
class Login:
    """A login that the server has accepted.

    user: as the client gave it.  mechanism: of SASL, or the protocol's own: "LOGIN", "USER", "APOP".
    """

    user: str
    mechanism: str
