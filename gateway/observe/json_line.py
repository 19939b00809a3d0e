"""Writing JSON by hand: one object a line, values of strangers made safe to show."""

from __future__ import annotations

import time
from collections.abc import Mapping
from json.encoder import encode_basestring as quote

from ..core.text import SHOWN_LIMIT, shown

__all__ = ["Clock", "quote", "value"]


_MILLISECONDS = [f".{count:03d}Z" for count in range(1000)]


class Clock:
    """Writes wall-clock seconds as ISO 8601 in UTC with milliseconds.

    What was written last is kept: the facts of one input have one time, and most are of one
    second.
    """

    __slots__ = ("_date", "_second", "now", "text")

    def __init__(self) -> None:
        self._second = -1
        self._date = ""
        self.now = -1.0
        self.text = ""

    def stamp(self, now: float) -> str:
        """Return the time stamp of a moment, seconds since the epoch."""
        if now == self.now:
            return self.text
        second = int(now)
        if second != self._second:
            self._second = second
            self._date = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        self.now = now
        self.text = self._date + _MILLISECONDS[int((now - second) * 1000)]
        return self.text


def value(thing: object, limit: int = SHOWN_LIMIT) -> str:
    """Write one value as JSON.

    Strings are escaped and cut as :func:`gateway.core.text.shown` does, so that a line can be
    shown on a terminal too; what JSON has no word for is written as its ``str``.
    limit: characters of a string.
    """
    if isinstance(thing, str):
        # Most strings are harmless, and this tells it sooner than making them so.
        if len(thing) <= limit and thing.isprintable():
            return quote(thing)
        return quote(shown(thing, limit))
    if thing is True or thing is False:
        return "true" if thing else "false"
    if isinstance(thing, int):
        return int.__repr__(thing)
    if isinstance(thing, float):
        return repr(round(thing, 3)) if abs(thing) < float("inf") else "null"
    if thing is None:
        return "null"
    if isinstance(thing, Mapping):
        pairs = [f"{value(str(key), limit)}:{value(item, limit)}" for key, item in thing.items()]
        return "{" + ",".join(pairs) + "}"
    if isinstance(thing, (list, tuple, set, frozenset)):
        return "[" + ",".join([value(item, limit) for item in thing]) + "]"
    return quote(shown(str(thing), limit))
