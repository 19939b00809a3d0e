"""Judged messages for an engine that runs without a session."""

from __future__ import annotations

from functools import cached_property

from gateway.core.outcome import Action, Outcome
from gateway.core.view import Judged, ViewKey
from gateway.inspection.parts import Part, parse

#: What a play's `modify` makes of a message that a client fetches.
NEW = b"Subject: new\r\n\r\nNew text.\r\n"
NOTICE = b"Subject: withheld\r\n\r\nWithheld.\r\n"


class Shown:
    """A message as a client sees it; None: as the upstream has it."""

    def __init__(self, content: bytes | None) -> None:
        self.modified = content is not None
        self._content = content or b""
        self.size = len(self._content)

    @cached_property
    def root(self) -> Part:
        return parse(self._content)

    def octets(self, start: int, end: int) -> bytes:
        return self._content[start:end]


class PlayViews:
    """Keeps what became of each message, as a session's views do."""

    def __init__(self) -> None:
        self.known: dict[ViewKey, Judged] = {}

    def find(self, key: ViewKey) -> Judged | None:
        return self.known.get(key)

    def judge(self, key: ViewKey | None, outcome: Outcome) -> None:
        """Take an outcome on a message; its size becomes that of what is kept."""
        if key is None or outcome.action is Action.DEFER:
            return
        if outcome.action is Action.PASS:
            self.known[key] = Shown(None)
        else:
            shown = Shown(NEW if outcome.action is Action.MODIFY else NOTICE)
            self.known[key] = shown
            outcome.size = shown.size
