"""The audit through reloads: kept, exchanged, taken away; counts that never fall; who may log in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.auditing import Audit
from gateway.config.errors import StartError
from gateway.config.model import Audit as Table
from gateway.core.facts import EventKind, SecurityEvent
from gateway.core.steps import LoginSeen
from gateway.observe.hub import Hub, Sink
from tests.observe.sample import publish, record
from tests.support.processes import wait_until


class Told(Sink):
    def __init__(self) -> None:
        self.events: list[SecurityEvent] = []

    def watches(self):
        return {SecurityEvent: lambda record, event, now: self.events.append(event)}


class Scene:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told = Told()
        self.hub = Hub([self.told])
        self.audit = Audit(lambda call, *arguments: call(*arguments))

    def use(self, attach: bool = False, **fields: object) -> None:
        if attach:
            self.audit.attach(self.hub)
        self.audit.prepare(Table(**fields))()  # type: ignore[arg-type]

    def log_in(self) -> None:
        publish(self.hub, record(), LoginSeen("PLAIN", "alice", "ok", True, True, "OK"))

    def written(self, count: int) -> None:
        wait_until(lambda: self.audit.figures()[0]["login"] >= count, 10, f"{count} records")
        assert self.audit.figures()[0]["login"] == count


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.audit.close()


def test_the_same_table_keeps_the_writer_and_another_exchanges_it(scene: Scene) -> None:
    one, other = str(scene.folder / "one.db"), str(scene.folder / "other.db")
    scene.use(store=one, attach=True)
    writer = scene.audit._writer
    scene.log_in()
    scene.use(store=one)
    assert scene.audit._writer is writer
    scene.written(1)
    seen = []
    scene.use(store=other)
    scene.log_in()
    for _ in range(200):
        seen.append(scene.audit.figures()[0]["login"])
    assert seen == sorted(seen) and seen[0] >= 1
    scene.written(2)
    scene.use()
    scene.log_in()
    assert not scene.audit.closed
    scene.use(store=one)
    scene.log_in()
    scene.written(3)


def test_a_wrong_table_changes_nothing(scene: Scene) -> None:
    scene.use(store=str(scene.folder / "one.db"), attach=True)
    wrong = [
        {"users": "pseudonym"},
        {"chain": True, "chain_key": scene.folder / "none.key"},
        {"store": "postgresql://u:hidden@db.example.org/audit?colour=red"},
    ]
    for fields in wrong:
        with pytest.raises(StartError, match="audit: ") as told:
            scene.use(**{"store": str(scene.folder / "one.db"), **fields})
        assert "hidden" not in str(told.value)
    scene.log_in()
    scene.written(1)


def test_who_may_log_in_and_the_alarm(scene: Scene) -> None:
    store = scene.folder / "away" / "audit.db"
    scene.use(store=str(store), attach=True)
    wait_until(lambda: scene.told.events, 10, "the alarm")
    (event,) = scene.told.events
    assert event.kind is EventKind.AUDIT_LOST and event.severity == "alert" and event.count == 1
    assert "No such file" in event.detail
    assert not scene.audit.closed
    scene.use(store=str(store), required=True)
    assert scene.audit.closed
    store.parent.mkdir()
    wait_until(lambda: not scene.audit.closed, 10, "the store")
    scene.log_in()
    scene.written(1)
    scene.audit.close()
    assert scene.audit.closed
