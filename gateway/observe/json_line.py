"""Writing JSON by hand: one object a line, values of strangers made safe to show."""

from __future__ import annotations

import time
from collections.abc import Mapping
from json.encoder import encode_basestring as quote

from ..core.text import SHOWN_LIMIT, shown

__all__ = ["Clock", "quote", "value"]


class Clock:
    """Writes wall-clock seconds as ISO 8601 in UTC with milliseconds; keeps the last second."""

    __slots__ = ("second", "text")

    def __init__(self) -> None:
        self.second = -1
        self.text = ""

    def stamp(self, now: float) -> str:
        second = int(now)
        if second != self.second:
            self.second = second
            self.text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self.text}.{int((now - second) * 1000):03d}Z"


def value(thing: object, limit: int = SHOWN_LIMIT) -> str:
    """Write one value as JSON.

    Strings are escaped and cut as :func:`gateway.core.text.shown` does, so that a line can be
    shown on a terminal too; what JSON has no word for is written as its ``str``.
    limit: characters of a string.
    """
    if isinstance(thing, str):
        return quote(shown(thing, limit))
    if thing is True or thing is False:
        return "true" if thing else "false"
    if isinstance(thing, int):
        return str(int(thing))
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
