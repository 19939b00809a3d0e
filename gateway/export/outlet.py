"""What all outlets share."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Sequence

from ..audit.privacy import Privacy
from ..audit.record import AuditRecord, EventRecord, LoginRecord, StoredRecord

#: Severities, least first.
SEVERITIES = ("info", "warning", "alert")


class Outlet:
    """Where records go.  Its methods block: one thread calls them.

    ``open`` and ``write`` raise StoreError where it helps to try again, ``write`` also ValueError
    where the other side will never take the batch.
    """

    def open(self) -> None:
        """Get ready, or say why not."""

    def write(self, records: Sequence[StoredRecord]) -> None:
        """Send a batch: all of it, or raise."""
        raise NotImplementedError

    def prune(self, before: int, at_most: int) -> int:
        """Keep nothing, so that there is nothing to take away."""
        return 0

    def close(self) -> None:
        """Let go of it.  Never raises."""


def wanted(what: frozenset[str], min_severity: str) -> Callable[[AuditRecord], bool]:
    """Return what tells whether an outlet takes a record.

    what: of "logins" and "events".  min_severity: of events.
    """
    severities = frozenset(SEVERITIES[SEVERITIES.index(min_severity) :])

    def takes(record: AuditRecord) -> bool:
        if isinstance(record, LoginRecord):
            return "logins" in what
        return isinstance(record, EventRecord) and "events" in what and record.severity in severities

    return takes


def sendable(records: Sequence[StoredRecord]) -> list[LoginRecord | EventRecord]:
    """Return the logins and events of a batch: all that outlets know."""
    return [one for one in records if isinstance(one, LoginRecord | EventRecord)]


def words(error: OSError) -> str:
    """Return what an admin is told of a connection that failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or str(error)).lower().replace('_', ' ')}"
    return error.strerror or str(error)


def private(privacy: Privacy) -> Callable[[AuditRecord], Iterator[StoredRecord]]:
    """Return what makes of a record what may leave; whom pseudonyms stand for stays."""

    def prepare(record: AuditRecord) -> Iterator[StoredRecord]:
        yield from sendable(list(privacy(record)))

    return prepare
