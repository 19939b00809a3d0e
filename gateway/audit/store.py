"""What a store of the audit can do.  Its methods block: one thread writes, commands read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from .record import StoredRecord


class StoreError(Exception):
    """The store can't be used now: locked, full, broken, away.  The text names it and says why.

    after: seconds that it wants to be left alone; 0 where it said nothing.
    """

    def __init__(self, text: str, after: float = 0.0) -> None:
        super().__init__(text)
        self.after = after


class AuditStore(Protocol):
    """SQLite, PostgreSQL.  Every method raises StoreError."""

    def open(self) -> None:
        """Connect, and bring the schema up to date by the numbered migrations."""

    def write(self, records: Sequence[StoredRecord]) -> None:
        """Write a batch as one transaction: all of it, or none."""

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """Give the rows of a SELECT.  Placeholders are ``?``; dialects differ in nothing else used."""

    def prune(self, before: int, at_most: int) -> int:
        """Take away records older than so many microseconds since the epoch; return how many.

        at_most: in one call, so that nobody waits long for the lock.
        """

    def close(self) -> None:
        """Let go of it.  Never raises."""
