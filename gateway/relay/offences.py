"""The first of a kind is told at once, later ones as a count now and then: never a flood."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable


class Offences:
    """Remembers what was told, and how much was not.  Bounded: the oldest is forgotten."""

    def __init__(self, interval: float = 3600.0, most: int = 20_000) -> None:
        """interval: seconds between two tellings of one offence."""
        self._interval = interval
        self._most = most
        self._told: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def count(self, key: Hashable, now: float) -> int:
        """Return for how many offences an event is to be told now; 0 if none is."""
        told = self._told.get(key)
        if told is not None and now - told[0] < self._interval:
            self._told[key] = (told[0], told[1] + 1)
            return 0
        waiting = told[1] if told is not None else 0
        self._told[key] = (now, 0)
        self._told.move_to_end(key)
        if len(self._told) > self._most:
            self._told.popitem(last=False)
        return waiting + 1
