"""The hub: who is called, and what a raising sink may not do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from gateway.core.facts import SessionOpened
from gateway.core.record import SessionRecord
from gateway.core.steps import ClientNamed, Refused
from gateway.observe.hub import Hub, Sink, Watch

from .sample import NOW, record


@pytest.fixture(autouse=True)
def _plain_structlog() -> Iterator[None]:
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


class Listens(Sink):
    def __init__(self, *kinds: type) -> None:
        self.kinds = kinds
        self.heard: list[object] = []
        self.closed = False

    def watches(self) -> dict[type, Watch]:
        return dict.fromkeys(self.kinds, self.hear)

    def hear(self, record: SessionRecord, fact: Any, now: float) -> None:
        self.heard.append(fact)

    def close(self) -> None:
        self.closed = True


class Raises(Listens):
    def hear(self, record: SessionRecord, fact: Any, now: float) -> None:
        raise ValueError("s3cret of a peer")

    def close(self) -> None:
        raise OSError("no space")


def test_a_fact_goes_to_those_who_watch_its_type_in_order() -> None:
    first, second = Listens(ClientNamed, Refused), Listens(ClientNamed)
    hub = Hub([first, second])
    named, refused = ClientNamed("ehlo", "me"), Refused("VRFY", "policy")
    for fact in (named, refused, SessionOpened()):
        hub.publish(record(), fact, NOW)
    assert first.heard == [named, refused]
    assert second.heard == [named]


def test_a_raising_sink_is_told_once_and_counted_and_stops_nobody() -> None:
    before, broken, behind = Listens(Refused), Raises(Refused), Listens(Refused)
    hub = Hub([before, broken, behind])
    with capture_logs() as lines:
        for _ in range(3):
            hub.publish(record(), Refused("VRFY", "policy"), NOW)
    assert len(before.heard) == len(behind.heard) == 3
    assert hub.failures == {"Listens": 0, "Raises": 3}
    assert [(line["event"], line["sink"], line["fact"], line["error"]) for line in lines] == [
        ("sink_failed", "Raises", "Refused", "ValueError")
    ]
    assert "s3cret" not in str(lines)


def test_two_raising_sinks_in_a_row_do_not_hide_the_third() -> None:
    behind = Listens(Refused)
    hub = Hub([Raises(Refused), Raises(Refused), behind])
    hub.publish(record(), Refused("VRFY", "policy"), NOW)
    assert len(behind.heard) == 1
    assert hub.failures["Raises"] == 2


def test_closing_closes_every_sink() -> None:
    broken, behind = Raises(Refused), Listens(Refused)
    hub = Hub([broken, behind])
    with capture_logs() as lines:
        hub.close()
    assert behind.closed
    assert lines[0]["error"] == "OSError"
