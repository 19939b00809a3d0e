"""Counting what happened lately, by key; and locks.

:class:`Counters` is what a store that several gateways share will implement; here is the one
of a single process.  Times are seconds since the epoch, and are passed in.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple, Protocol

#: Keys that are remembered, and what is remembered of one: no limit of [abuse] is higher.
MOST_KEYS = 100_000
MOST_OF_A_KEY = 1000


class Tally(NamedTuple):
    """What is remembered of a key within a window.

    times: how often.  items: what it happened with, each once.  since_last: seconds between the last
    two times; infinity if it happened once.
    """

    times: int
    items: Collection[str]
    since_last: float = float("inf")


@dataclass(frozen=True, slots=True)
class Lock:
    """A key that is locked.  level: how often it was, with nothing good in between."""

    key: str
    since: float
    until: float
    level: int


class Counters(Protocol):
    """Sliding windows and locks, by key."""

    def add(self, key: str, item: str, now: float, window: float) -> Tally:
        """Count one more time; return the tally with it.  window: seconds."""

    def tally(self, key: str, now: float, window: float) -> Tally:
        """Return the tally."""

    def forget(self, key: str, item: str | None = None) -> None:
        """Forget a key, or what happened with one item."""

    def lock(self, key: str, now: float, seconds: float) -> Lock:
        """Lock a key; each time again counts one level more."""

    def locked(self, key: str, now: float) -> bool:
        """Tell whether a key is locked."""

    def level(self, key: str) -> int:
        """Return how often a key was locked lately."""

    def locks(self, now: float) -> list[Lock]:
        """Return what is locked, the latest first."""

    def unlock(self, key: str) -> bool:
        """Take a lock away, and its level; tell whether there was one."""


class OwnCounters:
    """The counters of one process: bounded, the keys that were quiet longest are forgotten."""

    def __init__(self, most: int = MOST_KEYS) -> None:
        self._most = most
        self._times: OrderedDict[str, deque[tuple[float, str]]] = OrderedDict()
        self._locks: OrderedDict[str, Lock] = OrderedDict()

    def __len__(self) -> int:
        return len(self._times)

    def add(self, key: str, item: str, now: float, window: float) -> Tally:
        """Count one more time; return the tally with it."""
        times = self._times.get(key)
        if times is None:
            times = self._times[key] = deque(maxlen=MOST_OF_A_KEY)
            if len(self._times) > self._most:
                self._times.popitem(last=False)
        else:
            self._times.move_to_end(key)
        times.append((now, item))
        return self.tally(key, now, window)

    def tally(self, key: str, now: float, window: float) -> Tally:
        """Return the tally; what is older than the window is forgotten."""
        times = self._times.get(key)
        if times is None:
            return Tally(0, ())
        while times and times[0][0] <= now - window:
            times.popleft()
        if not times:
            del self._times[key]
            return Tally(0, ())
        since_last = times[-1][0] - times[-2][0] if len(times) > 1 else float("inf")
        return Tally(len(times), {item for _, item in times}, since_last)

    def forget(self, key: str, item: str | None = None) -> None:
        """Forget a key, or what happened with one item."""
        if item is None:
            self._times.pop(key, None)
        elif (times := self._times.get(key)) is not None:
            kept = [one for one in times if one[1] != item]
            times.clear()
            times.extend(kept)

    def lock(self, key: str, now: float, seconds: float) -> Lock:
        """Lock a key."""
        lock = self._locks[key] = Lock(key, now, now + seconds, self.level(key) + 1)
        self._locks.move_to_end(key)
        if len(self._locks) > self._most:
            self._locks.popitem(last=False)
        return lock

    def locked(self, key: str, now: float) -> bool:
        """Tell whether a key is locked."""
        lock = self._locks.get(key)
        return lock is not None and now < lock.until

    def level(self, key: str) -> int:
        """Return how often a key was locked lately."""
        lock = self._locks.get(key)
        return lock.level if lock is not None else 0

    def locks(self, now: float) -> list[Lock]:
        """Return what is locked, the latest first."""
        return [lock for lock in reversed(self._locks.values()) if now < lock.until]

    def unlock(self, key: str) -> bool:
        """Take a lock away, and its level."""
        return self._locks.pop(key, None) is not None

    def sweep(self, now: float, keep: float) -> None:
        """Forget locks, with their levels, that ended so many seconds ago."""
        for key in [key for key, lock in self._locks.items() if lock.until <= now - keep]:
            del self._locks[key]
