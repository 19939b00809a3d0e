"""The writer: batches, outages, losses that are counted, an end that does not wait for ever."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.audit import writer as module
from gateway.audit.record import ProgramRecord
from gateway.audit.sqlite import SqliteStore
from gateway.audit.writer import AuditWriter, Report
from tests.support.processes import wait_until

from .samples import NOW, event, login


class Counting(SqliteStore):
    """Counts how often it was opened, or could not be."""

    tries = 0

    def open(self) -> None:
        self.tries += 1
        super().open()


class Scene:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "store" / "audit.db"
        self.path.parent.mkdir()
        self.reports: list[Report] = []
        self.writers: list[AuditWriter] = []

    def writer(self, **more: object) -> AuditWriter:
        self.store = Counting(self.path, busy=0.05)
        made = AuditWriter(self.store, tell=self.reports.append, **more)  # type: ignore[arg-type]
        self.writers.append(made)
        return made

    def count(self, table: str = "logins") -> int:
        try:
            connection = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)
        except sqlite3.Error:
            return 0
        try:
            return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
        except sqlite3.Error:
            return 0
        finally:
            connection.close()

    def states(self) -> list[str]:
        return [report.state for report in self.reports]


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(module, "RETRY", 0.05)
    monkeypatch.setattr(module, "RETRY_MOST", 0.1)
    monkeypatch.setattr(module, "TELL_EVERY", 0.2)
    made = Scene(tmp_path)
    yield made
    for writer in made.writers:
        writer.close(2)


def test_what_is_put_in_is_written_and_the_end_drains(scene: Scene) -> None:
    writer = scene.writer()
    assert writer.wait_opened(5) and writer.healthy
    for number in range(2500):
        writer.put(login(number))
    writer.put(event())
    writer.put(ProgramRecord("alice", "192.0.2.7", "K-9", NOW))
    writer.close()
    assert scene.count() == 2500 and scene.count("events") == 1
    assert writer.written == {"login": 2500, "event": 1, "program": 1}
    assert writer.lost == 0 and writer.waiting == 0 and scene.reports == []
    writer.put(login())
    assert writer.lost == 1


def test_few_records_are_written_soon(scene: Scene) -> None:
    writer = scene.writer()
    for number in range(3):
        writer.put(login(number))
        wait_until(lambda: scene.count() == number + 1, 5, "the record")  # noqa: B023


def test_a_locked_store_is_told_once_and_nothing_is_lost(scene: Scene) -> None:
    writer = scene.writer()
    assert writer.wait_opened(5)
    with sqlite3.connect(scene.path, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        writer.put(login())
        wait_until(lambda: scene.reports, 5, "the report")
        assert not writer.healthy
        writer.put(login(1))
        tries = scene.store.tries
        wait_until(lambda: scene.store.tries >= tries + 3, 5, "more tries, which are not told")
        assert scene.states() == ["outage"] and "locked" in scene.reports[0].detail
        other.execute("COMMIT")
    other.close()
    wait_until(lambda: writer.healthy, 5, "the recovery")
    wait_until(lambda: scene.count() == 2, 5, "the records")
    wait_until(lambda: len(scene.reports) == 2, 5, "the second report")
    assert scene.states() == ["outage", "recovered"] and writer.lost == 0


def test_a_full_queue_drops_and_counts(scene: Scene) -> None:
    writer = scene.writer(bound=100)
    assert writer.wait_opened(5)
    with sqlite3.connect(scene.path, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        writer.put(login())
        wait_until(lambda: scene.reports, 5, "the outage")
        for number in range(500):
            writer.put(login(number))
        assert writer.waiting + writer.lost == 501 and writer.lost >= 400
        wait_until(lambda: "lost" in scene.states(), 5, "the report of the loss")
        other.execute("COMMIT")
    other.close()
    wait_until(lambda: scene.count() == 501 - writer.lost, 5, "the rest")
    wait_until(lambda: "recovered" in scene.states(), 5, "the recovery")
    assert sum(report.lost for report in scene.reports) == writer.lost


@pytest.mark.parametrize("how", ["deleted", "directory gone", "garbage"])
def test_a_file_that_goes_is_told_and_made_anew(scene: Scene, how: str) -> None:
    writer = scene.writer()
    writer.put(login())
    wait_until(lambda: scene.count() == 1, 5, "the record")
    if how == "deleted":
        scene.path.unlink()
    elif how == "directory gone":
        scene.path.parent.rename(scene.path.parent.with_name("moved"))
    else:
        for path in scene.path.parent.iterdir():
            path.unlink()
        scene.path.write_bytes(b"garbage" * 1000)
    writer.put(login(1))
    wait_until(lambda: "outage" in scene.states(), 5, "the report")
    if how == "directory gone":
        assert not writer.healthy
        scene.path.parent.mkdir()
    elif how == "garbage":
        tries = scene.store.tries
        wait_until(lambda: scene.store.tries >= tries + 3, 5, "more tries")
        assert not writer.healthy and scene.path.read_bytes().startswith(b"garbage")
        scene.path.unlink()
    wait_until(lambda: writer.healthy and scene.count() == 1, 5, "the new file")
    assert scene.states().count("outage") == 1 and writer.lost == 0


def test_a_store_that_is_not_there_at_the_start(scene: Scene) -> None:
    scene.path.parent.rmdir()
    writer = scene.writer()
    assert not writer.wait_opened(5)
    writer.put(login())
    scene.path.parent.mkdir()
    wait_until(lambda: scene.count() == 1, 5, "the record")


def test_a_record_that_no_store_takes_does_not_stop_the_others(scene: Scene) -> None:
    writer = scene.writer()
    for number in range(10):
        writer.put(login(number, code=None if number == 5 else "OK"))
    writer.put(login(11, user=object()))
    writer.put(login(12))
    wait_until(lambda: scene.count() == 10, 5, "the others")
    writer.close()
    assert writer.lost == 2 and writer.written["login"] == 10 and scene.states() == ["lost"]


def test_the_end_does_not_wait_for_a_store_that_fails(scene: Scene) -> None:
    writer = scene.writer()
    assert writer.wait_opened(5)
    with sqlite3.connect(scene.path, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        for number in range(10):
            writer.put(login(number))
        writer.close(0.5)
        assert writer.lost == 10
        other.execute("COMMIT")
    other.close()


FULL = """
import resource, sys
from pathlib import Path
from gateway.audit import writer as module
from gateway.audit.sqlite import SqliteStore
from tests.audit.samples import login
from tests.support.processes import wait_until

module.RETRY, module.RETRY_MOST = 0.05, 0.1
reports = []
writer = module.AuditWriter(SqliteStore(Path(sys.argv[1])), bound=2000, tell=reports.append)
assert writer.wait_opened(5)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
number = 0
while not reports:
    writer.put(login(number))
    number += 1
    wait_until(lambda: reports or writer.waiting < 1000, 10, "room")
assert reports[0].state == "outage" and not writer.healthy, reports
for extra in range(5000):
    writer.put(login(number + extra))
number += 5000
assert writer.lost >= 1000  # no more than what waits, and what a file has room for, is kept
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
wait_until(lambda: writer.healthy, 10, "the recovery")
writer.close()
print(reports[0].detail)
print(number - writer.lost)
"""


def test_no_room_for_the_file_and_room_again(scene: Scene) -> None:
    """A limit on the size of files is what a full disk is: a write that fails half-way."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(scene.path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    detail, kept = done.stdout.splitlines()[-2:]
    assert "disk" in detail
    assert scene.count() == int(kept)
    connection = sqlite3.connect(scene.path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_putting_in_never_waits(scene: Scene) -> None:
    """The store hangs until all is put: a put that waited for it would wait for ever."""
    hangs = threading.Event()

    class Hanging(SqliteStore):
        def write(self, records) -> None:
            hangs.wait()
            super().write(records)

    writer = AuditWriter(Hanging(scene.path), bound=1000)
    scene.writers.append(writer)
    for number in range(3000):
        writer.put(login(number))
    assert writer.lost >= 1000
    hangs.set()


def test_what_is_too_old_goes_in_the_background(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    now = int(time.time() * 1e6)
    first = scene.writer()
    for number in range(1200):
        first.put(login(number, time=now - 3600_000_000))
    first.put(login(time=now))
    first.close()
    monkeypatch.setattr(module, "PRUNE_STEP", 100)
    second = scene.writer(retention=1800.0)
    second._prune_at = 0.0
    second.put(login(time=now))
    wait_until(lambda: scene.count() == 2, 10, "the pruning")
