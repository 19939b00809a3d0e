"""What an engine knows of a message that was judged: how IMAP answers pieces of it.

The engine asks by key, at once; who keeps the messages (memory, files) is the session's
business.  An entity is as :class:`gateway.inspection.parts.Part` has it; only what IMAP's
answers are made of is named here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol


class ViewKey(NamedTuple):
    """Which message: one UID has one content for ever (RFC 9051 2.3.1.1).

    mailbox: as the client wrote it.  validity: its UIDVALIDITY.
    """

    mailbox: str
    validity: int
    uid: int


class HeaderField(Protocol):
    """One header field: ``name`` in lower case, ``raw`` with its line ends."""

    name: str

    @property
    def raw(self) -> bytes: ...
    @property
    def raw_value(self) -> bytes: ...


class Entity(Protocol):
    """One MIME entity as offsets into the message (RFC 2045 2.4)."""

    start: int
    body_start: int
    end: int
    content_type: str
    transfer_encoding: str

    @property
    def is_multipart(self) -> bool: ...
    @property
    def is_message(self) -> bool: ...
    @property
    def is_text(self) -> bool: ...
    def content(self) -> bytes: ...


class Judged(Protocol):
    """A message after its verdict.

    modified: the client sees other octets than the upstream has.
    size: octets of what the client sees; 0 where it is not modified.
    """

    @property
    def modified(self) -> bool: ...
    @property
    def size(self) -> int: ...
    @property
    def root(self) -> Any:
        """The message that the client sees, as a tree of entities."""

    def octets(self, start: int, end: int) -> bytes:
        """Return some of what the client sees."""


class Views(Protocol):
    """The judged messages of one session's user."""

    def find(self, key: ViewKey) -> Judged | None:
        """Return what became of a message; None if it was not judged, or is kept no more."""


class NoViews:
    """Nothing was judged."""

    def find(self, key: ViewKey) -> Judged | None:
        """Return None."""
        return None


class Sizes(Protocol):
    """The sizes of one session's user's messages, by POP3's unique-ids."""

    def find(self, unique_ids: Sequence[bytes]) -> dict[bytes, int]:
        """Return the octets of those messages that were judged once."""

    def keep(self, unique_id: bytes, size: int) -> None:
        """Remember one."""


class NoSizes:
    """Nothing is remembered."""

    def find(self, unique_ids: Sequence[bytes]) -> dict[bytes, int]:
        """Return nothing."""
        return {}

    def keep(self, unique_id: bytes, size: int) -> None:
        """Forget it."""


@dataclass(slots=True)
class Slice:
    """Some octets of a judged message, to be sent as they are."""

    judged: Judged
    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start


#: What an answer is made of.
Piece = bytes | Slice


def length(pieces: Sequence[Piece]) -> int:
    """Return the octets in pieces."""
    return sum(map(len, pieces))
