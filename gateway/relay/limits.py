"""Counting connections: in all, by listener, by client address."""

from __future__ import annotations

import ipaddress
from collections import Counter


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

    def refuses(self, listener: str, address: str, per_listener: int, per_address: int) -> str:
        """Say which limit is reached: "limit_total", "limit_listener", "limit_address"; or ""."""
        if self.total and self.connections >= self.total:
            return "limit_total"
        if per_listener and self._by_listener[listener] >= per_listener:
            return "limit_listener"
        if per_address and self._by_address[listener, address_key(address)] >= per_address:
            return "limit_address"
        return ""

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
