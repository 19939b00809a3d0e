"""Services: addresses, the time a talk may take, and when one that fails is left alone."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from gateway.inspection.services import (
    Breaker,
    Service,
    ServiceAddresses,
    ServiceDown,
    ServiceError,
    Talk,
    plain_text,
)
from tests.support.scanners import Directed, saying, silent


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_breaker_opens_and_tries_again_with_one() -> None:
    clock = Clock()
    breaker = Breaker(2, 10.0, clock)
    for _ in range(2):
        assert breaker.wait() == 0
        breaker.settle(False)
    assert breaker.wait() == 10
    clock.now += 10
    assert breaker.wait() == 0, "the try"
    assert breaker.wait() == 10, "the others wait for its outcome"
    breaker.settle(True)
    assert breaker.wait() == 0 and breaker.wait() == 0


def test_only_failures_in_a_row_count() -> None:
    breaker = Breaker(2, 10.0, Clock())
    for _ in range(5):
        breaker.settle(False)
        breaker.settle(True)
    assert breaker.wait() == 0


@given(st.lists(st.one_of(st.booleans(), st.floats(0, 30)), max_size=60))
def test_a_breaker_never_stays_open(moves: list[bool | float]) -> None:
    clock = Clock()
    breaker = Breaker(3, 10.0, clock)
    for move in moves:
        if isinstance(move, bool):
            breaker.settle(move)
        else:
            clock.now += move
        assert 0 <= breaker.wait() <= 10.001
    clock.now += 10.001
    assert breaker.wait() == 0


def service(*addresses: str, seconds: float = 5) -> Service:
    return Service(addresses, connect_timeout=2, seconds=seconds)


def hello(talk: Talk) -> bytes:
    talk.send(b"hello")
    return talk.line(b"\n", 100)


def test_a_service_that_is_down_is_not_waited_for() -> None:
    server = Directed(silent)
    asked = service(server.address, seconds=0.1)
    for _ in range(3):
        with pytest.raises(ServiceDown, match="no answer in time"):
            asked.ask(hello)
    with pytest.raises(ServiceDown, match=r"has failed, not asked again for \d+ s"):
        asked.ask(hello)
    assert server.heard == 3
    server.close()


def test_an_error_of_the_caller_is_no_failure_of_the_service() -> None:
    server = Directed(saying(b"hello\n"))
    asked = service(server.address)

    def wrong(talk: Talk) -> None:
        hello(talk)
        raise ZeroDivisionError

    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            asked.ask(wrong)
    assert asked.ask(hello) == b"hello"
    server.close()


def test_a_drop_at_a_time_is_too_slow() -> None:
    def drip(client: socket.socket) -> None:
        while True:
            client.sendall(b"x")
            client.settimeout(0.02)
            try:
                client.recv(1)
            except TimeoutError:
                pass

    server = Directed(drip)
    with pytest.raises(ServiceDown, match="no answer in time"):
        service(server.address, seconds=0.3).ask(lambda talk: talk.rest(1 << 20))
    server.close()


def test_answers_are_bounded() -> None:
    server = Directed(saying(b"x" * 300_000))
    for read in (lambda talk: talk.line(b"\n", 1000), lambda talk: talk.rest(1000)):
        with pytest.raises(ServiceDown, match=r"too (long|much)"):
            service(server.address).ask(lambda talk, read=read: (talk.send(b"?"), read(talk)))
    with pytest.raises(ServiceDown, match="closed the connection within its answer"):
        service(server.address).ask(lambda talk: (talk.send(b"?"), talk.exactly(300_001)))
    server.close()


def test_what_a_talk_reads() -> None:
    server = Directed(saying(b"one\ntwo12345rest"))

    def talk(talk: Talk) -> list[bytes]:
        talk.send(b"?")
        return [talk.line(b"\n", 10), talk.exactly(3), talk.some(2), talk.rest(100)]

    assert service(server.address).ask(talk) == [b"one", b"two", b"12", b"345rest"]
    server.close()


@pytest.mark.parametrize("text", ["unix:/run/x", "localhost:3310", "[::1]:3310", "inet:192.0.2.1:1"])
def test_addresses(text: str) -> None:
    assert TypeAdapter(ServiceAddresses).validate_python(text) == (text.removeprefix("inet:"),)


@pytest.mark.parametrize("text", ["", "x", ":1", "x:0", "x:1a", "unix:x", "unix:/" + "x" * 200, "a b:1", 7])
def test_addresses_that_are_none(text: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(ServiceAddresses).validate_python(text)


def test_plain_text_is_safe_in_a_line() -> None:
    assert plain_text("a\r\nb\x1b[1mü") == "a??b?[1m?"
    assert plain_text("x" * 50, 10) == "x" * 10


def test_errors_name_what_is_wrong() -> None:
    with pytest.raises(ServiceDown, match="unix:/nowhere: No such file"):
        service("unix:/nowhere").ask(hello)
    assert issubclass(ServiceDown, OSError) and not issubclass(ServiceError, OSError)
