"""Counting connections."""

from __future__ import annotations

from gateway.relay.limits import ConnectionLimits, address_key


def test_each_limit_has_its_name():
    limits = ConnectionLimits(3)
    assert limits.refuses("a", "192.0.2.1", 2, 1) == ""
    limits.add("a", "192.0.2.1")
    assert limits.refuses("a", "192.0.2.1", 2, 1) == "limit_address"
    assert limits.refuses("b", "192.0.2.1", 2, 1) == ""
    limits.add("a", "192.0.2.2")
    assert limits.refuses("a", "192.0.2.3", 2, 1) == "limit_listener"
    limits.add("b", "192.0.2.2")
    assert limits.refuses("c", "192.0.2.9", 0, 0) == "limit_total"
    for listener, address in (("a", "192.0.2.1"), ("a", "192.0.2.2"), ("b", "192.0.2.2")):
        limits.remove(listener, address)
    assert limits.connections == 0 and not limits._by_address, "addresses that left are forgotten"


def test_ipv6_counts_by_64():
    assert address_key("2001:db8::1") == address_key("2001:db8::ffff")
    assert address_key("2001:db8::1") != address_key("2001:db8:0:1::1")
    assert address_key("192.0.2.1") == "192.0.2.1"


def test_a_rate_is_a_bucket_that_fills_again():
    limits = ConnectionLimits()
    now = 1000.0
    assert [limits.too_fast("a", "192.0.2.1", 2, now) for _ in range(3)] == [False, False, True]
    assert not limits.too_fast("a", "192.0.2.2", 2, now), "another address has its own"
    assert not limits.too_fast("b", "192.0.2.1", 2, now), "so has another listener"
    assert not limits.too_fast("a", "192.0.2.1", 2, now + 30), "half a minute gives one back"
    assert limits.too_fast("a", "192.0.2.1", 2, now + 30)


def test_rates_of_quiet_addresses_are_forgotten():
    limits = ConnectionLimits()
    for number in range(10_000):
        limits.too_fast("a", f"10.0.{number >> 8}.{number & 255}", 5, 0.0)
    limits.too_fast("a", "192.0.2.1", 5, 100.0)
    assert len(limits._rates) == 1
