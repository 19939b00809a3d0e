"""Failed logins: who guesses, and who has only a wrong password saved on a phone.

Nothing but behaviour is looked at, no password nor anything made of one:

    spraying        one address or network tries many users, more than succeed from there
    guessing        many networks try one user
    brute force     one address tries one user, or anything, fast and often
    stale password  one address and one user fail again and again with time in between, as a
                    program does that polls: told to the admin, never locked with its address
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from ..core.facts import EventKind, SecurityEvent
from ..core.policy import network_of, parsed
from ..core.record import SessionRecord
from ..core.steps import LoginSeen
from ..core.users import normalised
from ..networks import NetworkList
from .counters import Counters, OwnCounters, Tally
from .offences import Offences

#: Failures of one address and user this far apart are a program's that polls, in seconds.
POLLING = 20.0
DAY = 86400.0


@dataclass(frozen=True, slots=True)
class AbuseLimits:
    """How much is too much.  Counts are within ``window`` seconds; 0 is no limit.

    mode: "off", "monitor" (events only), "enforce" (delays and locks, too).
    pair_a_day: slow failures of one address and user in a day, before that pair is locked too.
    delay_after: failures of an address before the next answer waits; 1, 2, 4... seconds.
    lockout: seconds of the first lock; each further one is twice as long, up to lockout_max.
    """

    mode: str = "monitor"
    window: float = 600.0
    address_failures: int = 30
    network_failures: int = 200
    user_failures: int = 0
    pair_failures: int = 10
    pair_a_day: int = 200
    spraying_users: int = 10
    guessing_networks: int = 10
    delay_after: int = 3
    delay_max: float = 8.0
    lockout: float = 900.0
    lockout_max: float = DAY


@dataclass(slots=True)
class Seen:
    """What a login led to.

    events: to be told.  delay: seconds that the client waits before it is heard again.
    """

    events: list[SecurityEvent] = field(default_factory=list)
    delay: float = 0.0


class Abuse:
    """Counts failed logins of the whole process; outlives reloads."""

    def __init__(self, limits: AbuseLimits | None = None, counters: Counters | None = None) -> None:
        self.limits = limits or AbuseLimits()
        self.allowed = NetworkList((), ())
        self.denied = NetworkList((), ())
        self.counters: Counters = counters if counters is not None else OwnCounters()
        self.refused = 0  # logins, because of a lock
        self._offences = Offences()

    # -- asked ---------------------------------------------------------------

    def turns_away(self, address: str) -> bool:
        """Tell whether a connection is not wanted at all."""
        return address in self.denied and address not in self.allowed

    def refuses(self, address: str, user: str, now: float) -> bool:
        """Tell whether a login may not be tried now.  user: "" while it is not known."""
        if self.limits.mode != "enforce" or address in self.allowed:
            return False
        locked = any(self.counters.locked(key, now) for key in _keys(_client(address), normalised(user)))
        self.refused += locked
        return locked

    # -- told ----------------------------------------------------------------

    def login(self, record: SessionRecord, login: LoginSeen, now: float) -> Seen:
        """Count a login that has come to its end.  now: seconds since the epoch."""
        user, seen = normalised(login.user), Seen()
        if self.limits.mode == "off" or record.client_address in self.allowed:
            return seen
        address = _client(record.client_address)
        if login.outcome == "ok":
            self._good(address, user, now)
        elif login.outcome == "failed":
            self._bad(address, user, now, seen)
        return seen

    def _good(self, address: str, user: str, now: float) -> None:
        counters = self.counters
        counters.add(f"good {address}", user, now, self.limits.window)
        for key in (f"pair {address} {user}", f"slow {address} {user}"):
            counters.forget(key)
        keys = _addresses(address)
        for key in (*keys, _tried(keys[0])):
            counters.forget(key, user)

    def _bad(self, address: str, user: str, now: float, seen: Seen) -> None:
        limits, counters = self.limits, self.counters
        keys = _addresses(address)
        self._tries(keys[0], address, user, now, seen)
        if user:
            slow = counters.add(f"slow {address} {user}", "", now, DAY)
            if POLLING <= slow.since_last < DAY:
                self._polled(address, user, slow, now, seen)
                return
            pair = counters.add(f"pair {address} {user}", "", now, limits.window)
            if _reached(pair.times, limits.pair_failures):
                what = f"{pair.times} wrong passwords of {user} from {address}"
                self._offend(EventKind.BRUTE_FORCE, "warning", what, address, user, now, seen)
                self._lock(f"pair {address} {user}", now, seen, address, user)
        for key, limit in zip(keys, (limits.address_failures, limits.network_failures), strict=False):
            tally = counters.add(key, user, now, limits.window)
            where = key.partition(" ")[2]
            if key.startswith("address"):
                seen.delay = self._delay(tally)
            if _reached(tally.times, limit):
                what = f"{tally.times} failed logins from {where}"
                self._offend(EventKind.BRUTE_FORCE, "warning", what, where, "", now, seen)
                self._lock(key, now, seen, where, "")
        if user:
            self._user(address, user, now, seen)

    def _tries(self, key: str, address: str, user: str, now: float, seen: Seen) -> None:
        """Count the users tried from an address, slowly or not: few have so many stale passwords."""
        limits, counters = self.limits, self.counters
        users = len(counters.add(_tried(key), user, now, limits.window).items)
        if not _reached(users, limits.spraying_users):
            return
        if users > 2 * len(counters.tally(f"good {address}", now, limits.window).items):
            where = key.partition(" ")[2]
            what = f"{users} users tried from {where}"
            self._offend(EventKind.SPRAYING, "alert", what, where, "", now, seen)
            self._lock(key, now, seen, where, "")

    def _user(self, address: str, user: str, now: float, seen: Seen) -> None:
        limits = self.limits
        known = parsed(address)
        network = network_of(known) if known is not None else address  # of IPv6 it is one already
        tally = self.counters.add(f"user {user}", network, now, limits.window)
        if _reached(len(tally.items), limits.guessing_networks):
            what = f"{user} tried from {len(tally.items)} networks"
            self._offend(EventKind.GUESSING, "alert", what, "", user, now, seen)
        if _reached(tally.times, limits.user_failures):
            self._lock(f"user {user}", now, seen, "", user)

    def _polled(self, address: str, user: str, slow: Tally, now: float, seen: Seen) -> None:
        """A program tries a password that has been wrong before, as it does every few minutes."""
        if slow.times >= 3:
            what = f"{user} at {address}: a program goes on with a wrong password"
            self._offend(EventKind.STALE_PASSWORD, "info", what, address, user, now, seen)
        if _reached(slow.times, self.limits.pair_a_day):
            what = f"{slow.times} wrong passwords of {user} from {address} in a day"
            self._offend(EventKind.BRUTE_FORCE, "warning", what, address, user, now, seen)
            self._lock(f"pair {address} {user}", now, seen, address, user)

    # -- what follows --------------------------------------------------------

    def _delay(self, tally: Tally) -> float:
        limits = self.limits
        beyond = tally.times - limits.delay_after
        if limits.mode != "enforce" or beyond < 0 or not limits.delay_max:
            return 0.0
        return min(limits.delay_max, 2.0 ** min(beyond, 10))

    def _lock(self, key: str, now: float, seen: Seen, address: str, user: str) -> None:
        limits, counters = self.limits, self.counters
        if limits.mode != "enforce" or not limits.lockout or counters.locked(key, now):
            return
        seconds = min(limits.lockout_max, limits.lockout * 2.0 ** min(counters.level(key), 20))
        counters.lock(key, now, seconds)
        counters.forget(key)  # what led here is paid for
        what = f"no logins of {key.partition(' ')[2]} for {seconds:.0f} s"
        data = {"lock": key}
        seen.events.append(SecurityEvent(EventKind.LOCKOUT, "warning", what, address, user, data=data))

    def _offend(
        self, kind: EventKind, severity: str, what: str, address: str, user: str, now: float, seen: Seen
    ) -> None:
        count = self._offences.count((kind, address, user), now)
        if count:
            seen.events.append(SecurityEvent(kind, severity, what, address, user, count))


def _reached(count: int, limit: int) -> bool:
    return bool(limit) and count >= limit


def _tried(key: str) -> str:
    """Return the key that counts the users tried from an address, beside that of its fast failures."""
    return f"tried {key}"


def _client(address: str) -> str:
    """Return whom an address stands for: whoever has one of IPv6 has its /64."""
    known = parsed(address)
    if known is None:
        return address
    return str(known) if known.version == 4 else network_of(known)


def _network(client: str) -> str:
    """Return the network that a client lies in, as CIDR: a /24 of IPv4, a /48 of IPv6; "" of none."""
    known = parsed(client)
    if known is not None:
        return network_of(known)
    if "/" not in client:
        return ""
    return str(ipaddress.ip_network(client).supernet(new_prefix=48))


def _addresses(client: str) -> list[str]:
    """Return the keys of a client and of the network that it lies in."""
    network = _network(client)
    return [f"address {client}", *([f"network {network}"] if network else [])]


def _keys(address: str, user: str) -> list[str]:
    keys = _addresses(address)
    return [*keys, f"user {user}", f"pair {address} {user}"] if user else keys
