"""The watchman of a running gateway: from the table [abuse] to limits, lists, rates; and commands."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import structlog

from .config.errors import StartError
from .config.model import AbuseTable
from .core.gate import Need
from .networks import NetworkList
from .observe.hub import Hub
from .relay.abuse import DAY, AbuseLimits
from .relay.counters import OwnCounters
from .relay.rates import KINDS, Rate, Rates
from .relay.watchman import Watchman

#: How often files of networks are looked at, in seconds.
REFRESH = 15.0


class Guarding:
    """Security for the whole process, through reloads."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._hub: Hub | None = None
        self._again: Any = None
        self.watchman = Watchman(self._publish)

    def prepare(self, table: AbuseTable) -> Callable[[], None]:
        """Read the files of a table; return what takes it into use.  Raises StartError."""
        try:
            allowed = NetworkList(table.allow, table.allow_files)
            denied = NetworkList(table.deny, table.deny_files)
        except (OSError, ValueError) as error:
            raise StartError(f"abuse: {error}") from None
        limits = AbuseLimits(**table.limits())
        by_client, by_user = (
            {
                kind: Rate(*found)
                for kind in KINDS
                if (found := getattr(table.rates, f"{prefix}{kind}")) is not None
            }
            for prefix in ("", "user_")
        )

        def use() -> None:
            abuse = self.watchman.abuse
            abuse.limits, abuse.allowed, abuse.denied = limits, allowed, denied
            self.watchman.rates = Rates(by_client, by_user)

        return use

    def attach(self, hub: Hub) -> None:
        """Publish events there, and look at the files from now on."""
        self._hub = hub
        self._again = self._reactor.callLater(REFRESH, self._refresh)

    def stop(self) -> None:
        """Look at nothing any more."""
        if self._again is not None and self._again.active():
            self._again.cancel()

    def _publish(self, record: Any, event: Any) -> None:
        if self._hub is not None:
            self._hub.publish(record, event, time.time())

    def _refresh(self) -> None:
        self._again = self._reactor.callLater(REFRESH, self._refresh)
        abuse = self.watchman.abuse
        for name, networks in (("allow_files", abuse.allowed), ("deny_files", abuse.denied)):
            if problem := networks.refresh():
                structlog.get_logger().warning(f"abuse.{name}: kept as they were", why=problem)
        if isinstance(abuse.counters, OwnCounters):
            abuse.counters.sweep(time.time(), DAY)

    def lacks(self, address: str, user: str) -> Need | None:
        """Say whether a login has to wait."""
        return Need.PATIENCE if self.watchman.abuse.refuses(address, user, time.time()) else None

    # -- metrics -------------------------------------------------------------

    def figures(self) -> tuple[dict[str, int], int, dict[str, int]]:
        """Return what the metrics show: locks by kind, logins refused by them, clients that had to wait."""
        abuse = self.watchman.abuse
        locks = dict.fromkeys(("address", "network", "user", "pair"), 0)
        for lock in abuse.counters.locks(time.time()):
            locks[lock.key.partition(" ")[0]] += 1
        throttled = {kind: self.watchman.throttled.get(kind, 0) for kind in KINDS}
        return locks, abuse.refused, throttled

    # -- commands ------------------------------------------------------------

    def commands(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
        """Return what the control socket offers."""
        return {"lockouts": self._list, "clear lockouts": self._clear}

    def _list(self, _request: dict[str, Any]) -> list[dict[str, Any]]:
        return [asdict(lock) for lock in self.watchman.abuse.counters.locks(time.time())]

    def _clear(self, request: dict[str, Any]) -> list[str]:
        counters = self.watchman.abuse.counters
        wanted = [str(key) for key in request.get("keys", ())]
        locks = [lock.key for lock in counters.locks(time.time())]
        if request.get("all") is True:
            found = locks
        else:
            # "192.0.2.7" finds "address 192.0.2.7" and "pair 192.0.2.7 alice".
            found = [key for key in locks if any(one == key or one in key.split(" ")[1:] for one in wanted)]
        for key in found:
            counters.unlock(key)
            structlog.get_logger().info("lockout cleared", lock=key)
        return found
