"""The hub: facts come in, every sink that watches their kind is called."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import structlog

from ..core.facts import Fact
from ..core.record import SessionRecord

#: What a sink does with one fact: the session's record, the fact, wall-clock seconds.
Watch = Callable[[SessionRecord, Any, float], None]


class Sink:
    """Something that watches facts.  Subclasses override both methods."""

    def watches(self) -> dict[type, Watch]:
        """Return what to call for each type of fact; asked once, when the hub is built."""
        raise NotImplementedError

    def close(self) -> None:
        """Flush and let go of files.  Called once; must not raise for a full disk."""


class Hub:
    """Calls the sinks, in their order, for each fact.

    A sink that raises is told to the log once for each kind of error, and counted in
    ``failures`` (sink's class name -> times); the other sinks and the session go on.
    """

    __slots__ = ("_sinks", "_table", "_told", "failures")

    def __init__(self, sinks: Iterable[Sink]) -> None:
        self._sinks: tuple[Sink, ...] = ()
        self.failures: dict[str, int] = {}
        self._told: set[tuple[str, str, str]] = set()
        self._table: dict[type, tuple[Watch, ...]] = {}
        self._take(sinks)

    def _take(self, sinks: Iterable[Sink]) -> None:
        self._sinks = tuple(sinks)
        table: dict[type, tuple[Watch, ...]] = {}
        for sink in self._sinks:
            self.failures.setdefault(type(sink).__name__, 0)
            for kind, watch in sink.watches().items():
                table[kind] = (*table.get(kind, ()), watch)
        self._table = table

    def exchange(self, old: Sink | None, new: Sink | None) -> None:
        """Put a sink in another's place, or add or take away one."""
        kept = [sink for sink in self._sinks if sink is not old]
        self._take([*kept, new] if new is not None else kept)

    def publish(self, record: SessionRecord, fact: Fact, now: float) -> None:
        """Hand a fact to whoever watches its type.  Never raises.

        now: wall-clock seconds since the epoch.
        """
        watches = iter(self._table.get(type(fact), ()))
        while True:
            try:
                for watch in watches:
                    watch(record, fact, now)
                return
            except Exception as error:  # noqa: BLE001 - a sink must not break a session
                self._failed(watch, type(fact).__name__, error)

    def close(self) -> None:
        """Close every sink."""
        for sink in self._sinks:
            try:
                sink.close()
            except Exception as error:  # noqa: BLE001 - the others must be closed too
                self._failed(sink.close, "close", error)

    def _failed(self, watch: Callable[..., None], kind: str, error: Exception) -> None:
        owner = getattr(watch, "__self__", watch)
        name = type(owner).__name__
        self.failures[name] = self.failures.get(name, 0) + 1
        key = (name, kind, type(error).__name__)
        if key in self._told:
            return
        self._told.add(key)
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = f"{place.tb_frame.f_code.co_name}:{place.tb_lineno}" if place else "?"
        # The exception's text may quote what a peer said: its type and place must do.
        structlog.get_logger().error(
            "sink_failed", sink=name, fact=kind, error=type(error).__name__, place=where
        )
