"""How late the reactor calls its timers: what a blocking plugin or sink costs everyone."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Seconds between two measurements.
INTERVAL = 0.5


class LagMeter:
    """Calls ``observe`` with the lateness of a timer, in seconds, twice a second."""

    def __init__(self, reactor: IReactorTime, observe: Callable[[float], None]) -> None:
        self._reactor = reactor
        self._observe = observe
        self._due = 0.0
        self._call: IDelayedCall | None = None

    def start(self) -> None:
        self._due = self._reactor.seconds() + INTERVAL
        self._call = self._reactor.callLater(INTERVAL, self._measure)

    def stop(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _measure(self) -> None:
        self._observe(max(0.0, self._reactor.seconds() - self._due))
        self.start()
