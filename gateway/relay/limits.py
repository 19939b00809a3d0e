"""Counting connections: in all, by listener, by client address."""

from __future__ import annotations

import ipaddress
from collections import Counter

#: How many addresses' rates are remembered before the quiet ones are forgotten.
_MOST_RATES = 10_000
_MINUTE = 60.0


def address_key(address: str) -> str:
    """Return what an address counts as: itself, for IPv6 its /64."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address


class ConnectionLimits:
    """Who may connect.  A bound of 0 is none."""

    def __init__(self, total: int = 0) -> None:
        self.total = total
        self.connections = 0
        self._by_listener: Counter[str] = Counter()
        self._by_address: Counter[tuple[str, str]] = Counter()
        #: Token buckets: what is left, and when that was so (seconds, monotonic).
        self._rates: dict[tuple[str, str], tuple[float, float]] = {}

    def refuses(self, listener: str, address: str, per_listener: int, per_address: int) -> str:
        """Say which limit is reached: "limit_total", "limit_listener", "limit_address"; or ""."""
        if self.total and self.connections >= self.total:
            return "limit_total"
        if per_listener and self._by_listener[listener] >= per_listener:
            return "limit_listener"
        if per_address and self._by_address[listener, address_key(address)] >= per_address:
            return "limit_address"
        return ""

    def too_fast(self, listener: str, address: str, per_minute: int, now: float) -> bool:
        """Count a new connection; tell whether its address has had too many in the last minute.

        A handshake costs the server more than the client: without a bound on their rate, one
        address could keep the process busy.  now: seconds, monotonic.
        """
        key = (listener, address_key(address))
        if key not in self._rates and len(self._rates) >= _MOST_RATES:
            self._rates = {k: v for k, v in self._rates.items() if now - v[1] < _MINUTE}
        left, since = self._rates.get(key, (float(per_minute), now))
        left = min(float(per_minute), left + (now - since) * per_minute / _MINUTE)
        refused = left < 1.0
        self._rates[key] = (left if refused else left - 1.0, now)
        return refused

    def add(self, listener: str, address: str) -> None:
        """Count a connection."""
        self.connections += 1
        self._by_listener[listener] += 1
        self._by_address[listener, address_key(address)] += 1

    def remove(self, listener: str, address: str) -> None:
        """Count it no more."""
        self.connections -= 1
        self._by_listener[listener] -= 1
        key = (listener, address_key(address))
        self._by_address[key] -= 1
        if self._by_address[key] <= 0:  # addresses come and go: what is at zero is forgotten
            del self._by_address[key]
