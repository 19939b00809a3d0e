"""How a test makes the embedded upstream misbehave."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Quirks:
    """What the upstream does differently from a well-behaved server; all defaults mean "behave".

    ``hang_after`` and ``close_after`` name a verb in upper case (for IMAP both ``FETCH`` and ``UID FETCH``
    match ``UID FETCH``); the verb is recorded, and then the upstream falls silent or closes without a reply.
    ``close_after="data"`` closes once a whole message has arrived (final dot, last BDAT chunk, APPEND
    literal), before any reply to it.
    """

    strip_starttls: bool = False
    """Offer no STARTTLS or STLS and refuse it, as an attacker in the middle would (RFC 3207 section 6)."""
    greeting_preauth: bool = False
    """Greet IMAP with ``* PREAUTH`` as the first user of the store (RFC 3501 section 7.1.4)."""
    greeting: bytes | None = None
    """Send this line (with its CRLF) in place of the greeting."""
    inject_after_starttls: bytes = b""
    """Plain bytes sent behind the reply to STARTTLS, before the handshake."""
    refuse_login: bool = False
    """Refuse every login as if the password were wrong."""
    hang_after: str = ""
    close_after: str = ""
    final_dot_reply: bytes | None = None
    """The reply (with its CRLF) to a whole SMTP message; a ``2`` at its start delivers the message."""
    extra_capabilities: list[str] = field(default_factory=list)
    no_capabilities: set[str] = field(default_factory=set)
    """Capability names in upper case (first word) that are not offered."""
    slow_body: int = 0
    """Bytes per second at which message bodies are sent; 0 means at once."""
    cut_body: int | None = None
    """Close after this many bytes of a message body have been sent."""

    def wants_hang(self, *verbs: str) -> bool:
        """Whether the upstream falls silent after one of these verbs."""
        return bool(self.hang_after) and self.hang_after in verbs

    def wants_close(self, *verbs: str) -> bool:
        """Whether the upstream closes after one of these verbs (or ``"data"``)."""
        return bool(self.close_after) and self.close_after in verbs

    def capabilities(self, names: list[str]) -> list[str]:
        """The capability list as these quirks change it."""
        struck = {name.upper() for name in self.no_capabilities}
        if self.strip_starttls:
            struck |= {"STARTTLS", "STLS"}
        return [name for name in names if name.split()[0].upper() not in struck] + self.extra_capabilities

    @classmethod
    def from_json(cls, text: str) -> Quirks:
        """Reads quirks from a JSON object; byte strings are given as text, sets as lists.

        Raises ValueError for text that is no JSON object of known quirks.
        """
        data: Any = json.loads(text)
        if not isinstance(data, dict):
            raise ValueError("quirks are a JSON object")
        known = {each.name for each in dataclasses.fields(cls)}
        if unknown := set(data) - known:
            raise ValueError(f"unknown quirk {sorted(unknown)[0]!r}; known are {', '.join(sorted(known))}")
        for name in ("inject_after_starttls", "final_dot_reply", "greeting"):
            if isinstance(data.get(name), str):
                data[name] = data[name].encode("utf-8")
        if "no_capabilities" in data:
            data["no_capabilities"] = set(data["no_capabilities"])
        return cls(**data)
