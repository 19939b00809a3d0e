"""Failed logins: each attack is recognised, and what only looks like one is let be."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.facts import EventKind, SecurityEvent
from gateway.core.record import SessionRecord
from gateway.core.steps import CLIENT, Fault, LoginSeen
from gateway.core.trouble import FaultKind
from gateway.networks import NetworkFileError, NetworkList, read_networks
from gateway.relay.abuse import Abuse, AbuseLimits
from gateway.relay.counters import OwnCounters
from gateway.relay.offences import Offences
from gateway.relay.rates import Rate, Rates
from gateway.relay.watchman import Watchman

START = 1_800_000_000.0


class Site:
    """Logins at a gateway that enforces, or only looks on."""

    def __init__(self, mode: str = "enforce", **limits: float) -> None:
        self.abuse = Abuse(AbuseLimits(mode=mode, **limits))  # type: ignore[arg-type]
        self.now = START
        self.told: list[SecurityEvent] = []
        self.delay = 0.0

    def log_in(self, address: str, user: str, outcome: str = "failed", after: float = 1.0) -> bool:
        """Try a login; return whether it was let through to the server."""
        self.now += after
        if self.abuse.refuses(address, user, self.now):
            return False
        record = SessionRecord("s", "imap", "imap", address, 1)
        seen = self.abuse.login(record, LoginSeen("PLAIN", user, outcome, True, True), self.now)
        self.told += seen.events
        self.delay = seen.delay
        return True

    @property
    def kinds(self) -> Counter[str]:
        return Counter(event.kind.value for event in self.told)

    def locks(self) -> list[str]:
        return [lock.key for lock in self.abuse.counters.locks(self.now)]


def test_spraying_is_one_address_and_many_users() -> None:
    site = Site()
    tried = sum(site.log_in("192.0.2.7", f"user{number}") for number in range(40))
    assert tried == 10 and site.kinds["spraying"] == 1
    assert site.told[0].severity == "alert" and site.told[0].address == "192.0.2.7"
    assert site.locks() == ["address 192.0.2.7"]
    assert site.log_in("192.0.2.8", "somebody", "ok"), "its neighbours are not locked"


def test_guessing_is_one_user_and_many_networks() -> None:
    site = Site()
    for number in range(30):
        assert site.log_in(f"10.{number}.0.1", "Alice@Example.org")
    assert site.kinds == {"guessing": 1}
    assert site.told[0].user == "alice@example.org"
    assert site.log_in("192.0.2.1", "alice@example.org", "ok"), "strangers can't lock her out"


def test_a_user_may_be_locked_where_that_is_wanted() -> None:
    site = Site(user_failures=5)
    for number in range(5):
        site.log_in(f"10.{number}.0.1", "alice")
    assert not site.log_in("192.0.2.1", "ALICE")
    assert site.locks() == ["user alice"]


def test_brute_force_locks_the_pair_then_the_address() -> None:
    site = Site()
    assert sum(site.log_in("192.0.2.7", "alice") for _ in range(30)) == 10
    assert site.kinds == {"brute_force": 1, "lockout": 1}
    assert site.log_in("192.0.2.7", "bob", "ok")
    assert site.log_in("192.0.2.9", "alice", "ok")
    for number in range(3):
        for _ in range(7):
            site.log_in("192.0.2.7", f"other{number}")
    assert "address 192.0.2.7" in site.locks()


def test_a_phone_with_a_stale_password_is_no_attack() -> None:
    """It tries every five minutes, day and night; its owner's other devices, and colleagues, log in."""
    site = Site()
    for number in range(150):
        assert site.log_in("192.0.2.7", "alice", after=300)
        if not number % 10:
            assert site.log_in("192.0.2.7", "bob", "ok")
            assert site.log_in("198.51.100.1", "alice", "ok")
    assert site.kinds["stale_password"] >= 1
    assert set(site.kinds) == {"stale_password"}
    assert all(event.severity == "info" for event in site.told)
    assert sum(event.count for event in site.told) < 150 and len(site.told) <= 14, "a count now and then"


def test_slow_guessing_is_stopped_in_the_end() -> None:
    site = Site(pair_a_day=100)
    tried = sum(site.log_in("192.0.2.7", "alice", after=30) for _ in range(300))
    assert tried < 140 and site.kinds["lockout"] >= 1


def test_spraying_in_rounds_is_no_program_that_polls() -> None:
    """Each user is tried again and again with time in between, as a phone does; but there are too many."""
    site = Site()
    tried = sum(site.log_in("192.0.2.7", f"user{n % 50}", after=3) for n in range(300))
    assert tried == 10 and site.kinds["spraying"] == 1
    site.now += 3600
    tried = sum(site.log_in("192.0.2.7", f"user{n % 50}", after=3) for n in range(300))
    assert tried == 10 and site.locks() == ["address 192.0.2.7"]


def test_an_office_with_some_stale_phones() -> None:
    site = Site()
    for number in range(400):
        assert site.log_in("192.0.2.7", f"phone{number % 9}", after=30)
    assert set(site.kinds) == {"stale_password"} and not site.locks()


def test_high_limits_are_reached() -> None:
    site = Site(pair_failures=0, address_failures=0, network_failures=900)
    for number in range(900):
        assert site.log_in(f"192.0.2.{number % 250}", f"user{number}", after=0.1)
    assert site.locks() == ["network 192.0.2.0/24"]


def test_an_office_behind_one_address() -> None:
    """Two hundred people, some of whom mistype."""
    site = Site()
    for number in range(200):
        if number % 8 == 0:
            assert site.log_in("192.0.2.7", f"user{number}", after=0.5)
        assert site.log_in("192.0.2.7", f"user{number}", "ok", after=0.5)
    assert not site.told and not site.locks()


def test_delays_grow_and_are_bounded() -> None:
    site = Site(pair_failures=0, address_failures=0)
    delays = []
    for _ in range(9):
        site.log_in("192.0.2.7", "alice")
        delays.append(site.delay)
    assert delays == [0, 0, 1, 2, 4, 8, 8, 8, 8]


def test_an_address_of_ipv6_is_its_network() -> None:
    """Whoever has one of a /64 has them all: neither is more to be gained there, nor more to be lost."""
    site = Site()
    tried = sum(site.log_in(f"2001:db8:1:2::{number:x}", "alice") for number in range(40))
    assert tried == 10 and site.locks() == ["pair 2001:db8:1:2::/64 alice"]
    assert site.log_in("2001:db8:1:3::1", "alice", "ok")
    slow = Site()
    tried = sum(slow.log_in(f"2001:db8:1:2::{number:x}", "alice", after=60) for number in range(400))
    assert 200 <= tried < 210 and slow.locks() == ["pair 2001:db8:1:2::/64 alice"]
    office = Site()
    for number in range(100):
        assert office.log_in(f"2001:db8:1:2::{number:x}", f"user{number}", "ok")
    assert all(office.log_in(f"2001:db8:1:2::{number:x}", f"user{number}") for number in range(12))
    assert office.locks() == []


def test_an_address_of_ipv4_within_one_of_ipv6() -> None:
    site = Site()
    for number in range(40):
        site.log_in("::ffff:192.0.2.7", f"user{number}")
    assert site.locks() == ["address 192.0.2.7"]
    assert site.log_in("::ffff:192.0.2.8", "somebody", "ok") and not site.log_in("192.0.2.7", "a")


def test_who_is_not_named_makes_no_pair() -> None:
    site = Site()
    tried = sum(site.log_in("192.0.2.7", "") for _ in range(40))
    assert tried == 30 and site.locks() == ["address 192.0.2.7"]


def test_locks_last_twice_as_long_each_time() -> None:
    site = Site(lockout=60, lockout_max=200, address_failures=0)
    lasted = []
    for _ in range(4):
        while site.log_in("192.0.2.7", "alice"):
            pass
        lock = site.abuse.counters.locks(site.now)[0]
        lasted.append(round(lock.until - lock.since))
        site.now = lock.until
    assert lasted == [60, 120, 200, 200]


def test_who_only_looks_on_refuses_nothing() -> None:
    site = Site("monitor")
    assert all(site.log_in("192.0.2.7", f"user{number}") for number in range(50))
    assert site.kinds["spraying"] == 1 and site.kinds["lockout"] == 0 and site.delay == 0
    off = Site("off")
    assert all(off.log_in("192.0.2.7", f"user{number}") for number in range(50)) and not off.told


def test_an_allowed_network_is_left_alone_and_ipv6_counts_by_64() -> None:
    site = Site()
    site.abuse.allowed = NetworkList([*map(__import__("ipaddress").ip_network, ["192.0.2.0/24"])], [])
    assert all(site.log_in("192.0.2.7", f"user{number}") for number in range(50)) and not site.told
    tried = sum(site.log_in(f"2001:db8::{number:x}", f"user{number}") for number in range(50))
    assert tried == 10 and site.locks() == ["address 2001:db8::/64"]


# ------------------------------------------------------------------- the parts


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.floats(0, 50)), max_size=80))
def test_tallies_are_what_a_plain_count_gives(moves: list[tuple[str, str, float]]) -> None:
    counters, now, seen = OwnCounters(), START, list[tuple[str, str, float]]()
    for key, item, after in moves:
        now += after
        tally = counters.add(key, item, now, 60.0)
        seen.append((key, item, now))
        within = [(one, at) for which, one, at in seen if which == key and at > now - 60.0]
        assert tally.times == len(within) and set(tally.items) == {one for one, _ in within}


def test_counters_are_bounded() -> None:
    counters = OwnCounters(100)
    for number in range(1000):
        counters.add(f"key{number}", "", START, 60)
        counters.lock(f"key{number}", START, 60)
    assert len(counters) == 100 and len(counters.locks(START)) == 100
    for _ in range(5000):
        counters.add("one", "x", START, 60)
    assert counters.tally("one", START, 60).times <= 1000
    counters.sweep(START + 120, 30)
    assert counters.locks(START) == []


def test_the_first_offence_is_told_and_then_a_count() -> None:
    offences = Offences(60, most=2)
    assert [offences.count("a", START + second) for second in (0, 1, 2, 59, 60, 61)] == [1, 0, 0, 0, 4, 0]
    assert offences.count("b", START) == offences.count("c", START) == 1
    assert offences.count("a", START + 62) == 1, "forgotten, for others came"


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 30)), max_size=60))
def test_over_time_nobody_gets_more_than_the_rate(moves: list[tuple[float, int]]) -> None:
    rates, now, spent = Rates({"messages": Rate(10, 10)}, {}), 0.0, 0.0
    for after, amount in moves:
        now += after
        wait = rates.spend("messages", "c", "", amount, now)
        spent += amount
        assert 0 <= wait <= 10
        now += wait
    assert len(moves) == 0 or spent <= 10 + now * 1 + 30 * len(moves) * (spent > 20)


def test_rates_of_clients_and_of_users() -> None:
    rates = Rates({"commands": Rate(2, 10)}, {"commands": Rate(3, 10)})
    assert [rates.spend("commands", "a", "", 1, 0.0) for _ in range(3)] == [0, 0, 5]
    assert rates.spend("commands", "b", "", 1, 0.0) == 0
    assert [rates.spend("commands", f"c{number}", "alice", 1, 0.0) > 0 for number in range(4)] == [
        False
    ] * 3 + [True]
    assert rates.spend("bytes", "a", "alice", 1e9, 0.0) == 0
    assert not Rates({}, {}) and rates


def test_lists_of_networks(tmp_path: Path) -> None:
    path = tmp_path / "deny.txt"
    path.write_text("# bad ones\n192.0.2.0/24\n2001:db8::/32 # and this\n\n198.51.100.7\n")
    networks = NetworkList((), [path])
    for address, within in {
        "192.0.2.1": True, "::ffff:192.0.2.1": True, "192.0.3.1": False, "2001:db8:1::1": True,
        "2001:db9::1": False, "198.51.100.7": True, "198.51.100.8": False, "unix": False, "": False,
    }.items():  # fmt: skip
        assert (address in networks) is within, address
    assert networks.refresh() == ""
    path.write_text("203.0.113.0/24\n")
    assert networks.refresh() == "" and "203.0.113.9" in networks and "192.0.2.1" not in networks
    path.write_text("203.0.113.0/24\n10.0.0.1/8\n")
    assert networks.refresh() == f"{path}: line 2: 10.0.0.1/8 has host bits set"
    assert "203.0.113.9" in networks and networks.refresh() == "", "told once"
    path.unlink()
    assert "No such file" in networks.refresh() and "203.0.113.9" in networks
    with pytest.raises(NetworkFileError):
        path.write_text("x\n")
        read_networks(path)


def test_the_watchman_tells_of_policies_exposure_and_attacks_once() -> None:
    told: list[SecurityEvent] = []
    watchman = Watchman(lambda _record, event: told.append(event))
    record = SessionRecord("s", "imap", "imap", "192.0.2.7", 1)
    login = LoginSeen("PLAIN", "Alice", "ok", True, True, "", "tls", "warned")
    for second in range(5):
        watchman.login(record, login, START + second)
        watchman.fault(record, Fault(CLIENT, FaultKind.PIPELINED_BEFORE_TLS), START + second)
        watchman.fault(record, Fault(CLIENT, FaultKind.BARE_LF), START + second)
    assert [event.kind for event in told] == [
        EventKind.POLICY_WARNED,
        EventKind.PASSWORD_EXPOSED,
        EventKind.ATTACK,
    ]
    assert told[0].data == {"policy": "tls"} and told[0].user == "alice"
    watchman.login(record, login, START + 3700)
    assert [event.count for event in told[3:]] == [5, 5]
