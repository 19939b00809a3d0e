"""Messages that were judged on their way to IMAP clients, kept so that pieces of them agree."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from twisted.internet import defer

from ..core.record import SessionRecord
from ..core.steps import Stage
from ..core.view import ViewKey
from ..inspection.defects import Limits
from ..inspection.message import Content
from ..inspection.pipeline import Pipeline
from ..inspection.verdicts import VerdictStore, verdict_key
from .spool import Spool

#: Messages of which no more is known than that they are unchanged: a few hundred octets each.
MOST_UNCHANGED = 100_000

_Key = tuple[str, str, str, ViewKey]  # upstream, user, pipeline, message


class Unchanged:
    """A message that clients see as the upstream has it."""

    __slots__ = ()
    modified = False
    size = 0
    root: Any = None

    def octets(self, start: int, end: int) -> bytes:
        """Nothing is kept of it."""
        raise LookupError("an unchanged message is the upstream's to give")


UNCHANGED = Unchanged()


class Rewritten:
    """A message that clients see in place of the upstream's: the spool is its own."""

    modified = True

    def __init__(self, spool: Spool, limits: Limits | None = None) -> None:
        self.size = spool.size
        self._spool = spool
        self._limits = limits

    @cached_property
    def root(self) -> Any:
        """The message as a tree of parts."""
        return Content(self._spool.view(), self._limits).root

    def octets(self, start: int, end: int) -> bytes:
        """Return some of it."""
        return bytes(self._spool.view()[start:end])

    def __del__(self) -> None:
        # Whoever still sends a slice of it keeps it; the last one to let go closes the file.
        self.__dict__.pop("root", None)
        self._spool.close()


class ViewCache:
    """What was judged lately, of all users: bounded by the octets of rewritten messages."""

    def __init__(self, most_octets: int) -> None:
        self.most_octets = most_octets
        self.octets = 0
        self.hits = 0
        self.misses = 0
        self._rewritten: OrderedDict[_Key, Rewritten] = OrderedDict()
        self._unchanged: OrderedDict[_Key, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rewritten) + len(self._unchanged)

    def find(self, key: _Key) -> Rewritten | Unchanged | None:
        """Return what became of a message; None if nobody knows any more."""
        found = self._rewritten.get(key)
        if found is not None:
            self._rewritten.move_to_end(key)
            self.hits += 1
            return found
        if key in self._unchanged:
            self._unchanged.move_to_end(key)
            self.hits += 1
            return UNCHANGED
        self.misses += 1
        return None

    def keep_unchanged(self, key: _Key) -> None:
        """Remember that a message is not changed."""
        self._unchanged[key] = None
        if len(self._unchanged) > MOST_UNCHANGED:
            self._unchanged.popitem(last=False)

    def keep(self, key: _Key, message: Rewritten) -> None:
        """Keep a rewritten message, and forget those that were not asked for longest."""
        old = self._rewritten.pop(key, None)
        self.octets += message.size - (old.size if old is not None else 0)
        self._rewritten[key] = message
        while self.octets > self.most_octets and len(self._rewritten) > 1:
            self.octets -= self._rewritten.popitem(last=False)[1].size


class SessionSizes:
    """The sizes of one session's user's messages, as POP3's engine asks for them."""

    __slots__ = ("_pipeline", "_record", "_store")

    def __init__(self, store: VerdictStore, record: SessionRecord, pipeline: Pipeline) -> None:
        self._store = store
        self._record = record
        self._pipeline = pipeline

    def _key(self, unique_id: bytes) -> bytes:
        names = self._pipeline.names(self._record.listener, Stage.RETR)
        return verdict_key(unique_id, "size", self._record.upstream, self._record.user, names)

    def find(self, unique_ids: Sequence[bytes]) -> dict[bytes, int]:
        """Return the octets of those messages that were judged once."""
        by_key = {self._key(one): one for one in unique_ids}
        return {by_key[key]: size for key, size in self._store.sizes(list(by_key)).items()}

    def keep(self, unique_id: bytes, size: int) -> None:
        """Remember one, in a thread: a disk may be slow, and nobody waits for it."""
        defer.ensureDeferred(self._pipeline.in_thread(self._store.put_size, self._key(unique_id), size))


class SessionViews:
    """The judged messages of one session's user, as its engine asks for them."""

    __slots__ = ("_cache", "_pipeline", "_record")

    def __init__(self, cache: ViewCache, record: SessionRecord, pipeline: str) -> None:
        self._cache = cache
        self._record = record
        self._pipeline = pipeline

    def _key(self, key: ViewKey) -> _Key:
        return (self._record.upstream, self._record.user, self._pipeline, key)

    def find(self, key: ViewKey) -> Rewritten | Unchanged | None:
        """Return what became of a message; None if it was not judged, or is kept no more."""
        return self._cache.find(self._key(key))

    def keep_unchanged(self, key: ViewKey) -> None:
        """Remember that a message is not changed."""
        self._cache.keep_unchanged(self._key(key))

    def keep(self, key: ViewKey, message: Rewritten) -> None:
        """Keep a rewritten message."""
        self._cache.keep(self._key(key), message)
