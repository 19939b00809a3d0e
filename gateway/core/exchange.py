"""Commands that await their replies, for protocols that answer in command order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from .steps import CommandSeen

Kind = TypeVar("Kind")


@dataclass(slots=True)
class Entry(Generic[Kind]):
    """One awaited reply.

    kind: what the engine needs to know when the reply is there.
    command: the client's command; None where the gateway itself asked the upstream.
    own: our own reply, which leaves when the entry is the head; None if the upstream answers.
    """

    kind: Kind
    command: CommandSeen | None
    own: bytes | None = None


class Exchange(Generic[Kind]):
    """A queue of entries: replies settle the head, and our own replies wait their turn."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: deque[Entry[Kind]] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry[Kind]]:
        return iter(self._entries)

    @property
    def head(self) -> Entry[Kind] | None:
        """The entry whose reply is due next."""
        return self._entries[0] if self._entries else None

    @property
    def last(self) -> Entry[Kind] | None:
        return self._entries[-1] if self._entries else None

    def expect(self, entry: Entry[Kind]) -> None:
        """Add an entry behind all others."""
        self._entries.append(entry)

    def settle(self) -> Entry[Kind]:
        """Take the head off.  Raises IndexError if nothing is awaited."""
        return self._entries.popleft()

    def ready(self) -> Entry[Kind] | None:
        """Take the head off if its reply is our own."""
        if self._entries and self._entries[0].own is not None:
            return self._entries.popleft()
        return None

    def drain(self) -> Iterator[Entry[Kind]]:
        """Take off every entry, first to last."""
        while self._entries:
            yield self._entries.popleft()
