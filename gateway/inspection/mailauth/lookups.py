"""Questions to the DNS: with time limits, counted, and remembered for as long as they hold."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any

_MOST_ENTRIES = 20_000
_MOST_OCTETS = 16 * 1024 * 1024
_LONGEST_TTL = 3600.0
#: How long it is remembered that a name or a record does not exist, seconds at most.
_ABSENT_TTL = 60.0
#: How long it is remembered that no answer came, seconds: others needn't wait for it too.
_FAILED_TTL = 5.0
_MOST_QUESTIONS = 120
_MOST_VALUES = 200


class TemporaryError(Exception):
    """The DNS has not answered, or not in time: what was asked may be so or not."""


class _Cache:
    """Answers by name and type; what was used least is forgotten first."""

    def __init__(self) -> None:
        self._entries: OrderedDict[tuple[str, str], tuple[float, tuple[bytes, ...]]] = OrderedDict()
        self._octets = 0
        self._lock = threading.Lock()

    def get(self, key: tuple[str, str]) -> tuple[bytes, ...] | None:
        with self._lock:
            found = self._entries.get(key)
            if found is None:
                return None
            if found[0] <= time.monotonic():
                self._forget(key)
                return None
            self._entries.move_to_end(key)
            return found[1]

    def put(self, key: tuple[str, str], values: tuple[bytes, ...], seconds: float) -> None:
        if seconds <= 0:
            return
        with self._lock:
            if key in self._entries:
                self._forget(key)
            self._entries[key] = time.monotonic() + seconds, values
            self._octets += _size(key, values)
            while len(self._entries) > _MOST_ENTRIES or self._octets > _MOST_OCTETS:
                self._forget(next(iter(self._entries)))

    def _forget(self, key: tuple[str, str]) -> None:
        self._octets -= _size(key, self._entries.pop(key)[1])


def _size(key: tuple[str, str], values: tuple[bytes, ...]) -> int:
    return 300 + len(key[0]) + sum(60 + len(value) for value in values)


class Resolver:
    """Asks name servers, of all messages; safe to be used by threads.

    servers: "192.0.2.1", "192.0.2.1:5353", "[2001:db8::1]:5353"; none is what the system uses.
    timeout: seconds to wait for one answer.
    Raises ValueError where the library is not installed, and for what is no address.
    """

    def __init__(self, servers: Sequence[str] = (), timeout: float = 2.0) -> None:
        try:
            import dns.nameserver
            import dns.resolver
        except ImportError:
            raise ValueError("the plugin needs dnspython: install mailgate[mailauth]") from None
        if servers:
            self._resolver: Any = dns.resolver.Resolver(configure=False)
            self._resolver.nameservers = [
                dns.nameserver.Do53Nameserver(*read_server(server)) for server in servers
            ]
        else:
            try:
                self._resolver = dns.resolver.Resolver()
            except dns.resolver.NoResolverConfiguration:
                raise ValueError('the system names no name server: give "resolvers"') from None
        self._resolver.timeout = min(timeout, 1.5)
        self._resolver.use_edns(0, 0, 1232)
        self._timeout = timeout
        self._cache = _Cache()
        self._failed = _Cache()

    def questions(self, seconds: float) -> Lookup:
        """Return the questions of one message, which has so many seconds for all of them."""
        return Lookup(self._ask, seconds)

    def _ask(self, name: str, kind: str, seconds: float) -> tuple[bytes, ...]:
        key = name.lower().removesuffix("."), kind
        known = self._cache.get(key)
        if known is not None:
            return known
        failed = self._failed.get(key)
        if failed is not None:
            raise TemporaryError(failed[0].decode())
        try:
            values, ttl = self._resolve(name, kind, min(seconds, self._timeout))
        except TemporaryError as error:
            if seconds >= self._timeout:  # with less time it may have been our own impatience
                self._failed.put(key, (str(error).encode(),), _FAILED_TTL)
            raise
        self._cache.put(key, values, min(ttl, _LONGEST_TTL))
        return values

    def _resolve(self, name: str, kind: str, seconds: float) -> tuple[tuple[bytes, ...], float]:
        import dns.exception
        import dns.name
        import dns.resolver

        try:
            labels = [label.encode("ascii") for label in name.removesuffix(".").split(".")]
            asked = dns.name.Name([*labels, b""])
        except (UnicodeEncodeError, dns.exception.DNSException):
            return (), _ABSENT_TTL  # no such name can be
        try:
            answer = self._resolver.resolve(
                asked, kind, raise_on_no_answer=False, lifetime=max(seconds, 0.05), search=False
            )
        except dns.resolver.NXDOMAIN:
            return (), _ABSENT_TTL
        except Exception as error:  # noqa: BLE001 - whatever a server answers, the mail goes on
            raise TemporaryError(f"DNS: {type(error).__name__} for {name[:100]}") from None
        if answer.rrset is None:
            return (), _ABSENT_TTL
        values = tuple(_value(one, kind) for one in list(answer.rrset)[:_MOST_VALUES])
        return values, float(answer.rrset.ttl)


def _value(record: Any, kind: str) -> bytes:
    if kind == "TXT":
        return b"".join(record.strings)
    if kind == "MX":
        return bytes(record.exchange.to_text(omit_final_dot=True).encode("ascii"))
    if kind == "PTR":
        return bytes(record.target.to_text(omit_final_dot=True).encode("ascii"))
    return bytes(record.address.encode("ascii"))


def read_server(server: str) -> tuple[str, int]:
    """Return address and port of a name server.  Raises ValueError."""
    host, port = server, "53"
    if server.startswith("["):
        host, _, rest = server[1:].partition("]")
        port = rest.removeprefix(":") or "53"
    elif server.count(":") == 1:
        host, _, port = server.partition(":")
    try:
        number = int(port) if port.isascii() and port.isdigit() else 0
        if not 0 < number < 65536:
            raise ValueError
        return str(ip_address(host)), number
    except ValueError:
        raise ValueError(f'"{server[:60]}" is no address of a name server, as "192.0.2.1:53"') from None


class Lookup:
    """The questions of one message: so many, and so many seconds for them, in all."""

    def __init__(self, ask: Callable[[str, str, float], tuple[bytes, ...]], seconds: float) -> None:
        self._ask = ask
        self._until = time.monotonic() + seconds
        self._left = _MOST_QUESTIONS

    @property
    def seconds(self) -> float:
        """What is left of the time."""
        return max(0.0, self._until - time.monotonic())

    def part(self, seconds: float) -> Lookup:
        """Return questions of their own, for at most so many of the seconds that are left."""
        return Lookup(self._ask, min(seconds, self.seconds))

    def __call__(self, name: str, kind: str) -> tuple[bytes, ...]:
        """Return the records of a name; none if there are none.  Raises TemporaryError.

        kind: "TXT", "A", "AAAA", "MX" or "PTR".  Addresses and names are ASCII texts.
        """
        self._left -= 1
        if self._left < 0:
            raise TemporaryError("too many questions to the DNS for one message")
        seconds = self.seconds
        if seconds <= 0:
            raise TemporaryError("no time left for questions to the DNS")
        return self._ask(name, kind, seconds)
