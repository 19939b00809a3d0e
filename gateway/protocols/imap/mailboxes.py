"""What mailboxes are for: drafts, sent mail, junk (RFC 6154).

Plugins leave drafts alone, so it must be known before a message is judged, whether or not the
client has asked for it: where messages are held, the gateway asks itself after the login.
"""

from __future__ import annotations

import re

from ...core.steps import Stage
from ...core.text import shown
from .conversation import Conversation
from .grammar import first_string

_LIST = re.compile(
    rb"\* (?:X?LIST|LSUB) \(([^)]*)\) (?:NIL|\"(?:[^\"\\]|\\.)*\") (.+)\r\n\Z", re.IGNORECASE | re.DOTALL
)
_USES = {
    use.lower(): use
    for use in ("\\All", "\\Archive", "\\Drafts", "\\Flagged", "\\Junk", "\\Sent", "\\Trash", "\\Important")
}
#: Mailboxes whose use is remembered.
_MOST = 1000


class Mailboxes(Conversation):
    """The part of the engine that learns what mailboxes are for."""

    def _learn_uses(self) -> None:
        """Ask the upstream, where that matters and it can tell."""
        if not self.rules.hold & {Stage.APPEND, Stage.FETCH} or "SPECIAL-USE" not in self._offer.offered:
            return
        self._learning = True
        self._ask(b'LIST (SPECIAL-USE) "" "*"', "LIST", self._learnt)

    def _learnt(self, _rest: bytes) -> None:
        self._learning = False

    def _hear_list(self, line: bytes) -> bool:
        """Take note of a LIST response; tell whether it was the gateway's own."""
        found = _LIST.match(line)
        if found is not None:
            words = found.group(1).decode("ascii", "replace").lower().split()
            uses = frozenset(_USES[word] for word in words if word in _USES)
            name = first_string(found.group(2)) if uses else None
            if name is not None and len(self._uses) < _MOST:
                self._uses[_key(shown(name, 200))] = uses
        return self._learning

    def _uses_of(self, mailbox: str) -> frozenset[str]:
        return self._uses.get(_key(mailbox), frozenset())


def _key(mailbox: str) -> str:
    return "INBOX" if mailbox.upper() == "INBOX" else mailbox  # RFC 9051 5.1
