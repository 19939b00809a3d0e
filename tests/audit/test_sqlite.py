"""The SQLite store: batches, the schema, a file that is deleted, full, locked or no database."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from gateway.audit import migrations
from gateway.audit.record import ProgramRecord, PseudonymRecord
from gateway.audit.sql import LOGINS, listed, login_row
from gateway.audit.sqlite import SqliteStore
from gateway.audit.store import StoreError

from .samples import NOW, event, login


@pytest.fixture
def store(tmp_path: Path):
    made = SqliteStore(tmp_path / "audit.db", busy=0.05)
    made.open()
    yield made
    made.close()


def count(store, table: str = "logins") -> int:
    return next(store.query(f"SELECT count(*) FROM {table}"))[0]


def test_a_batch_is_kept_as_it_was(store) -> None:
    program = ProgramRecord("alice", "192.0.2.7", "K-9", NOW)
    store.write([login(), event(), program, PseudonymRecord("u-1", NOW, "x")])
    store.write([ProgramRecord("alice", "192.0.2.7", "K-9", NOW + 1)])
    (row,) = store.query('SELECT "user", user_given, exposed, time, chain FROM logins')
    assert row == ("alice@example.org", "Alice@Example.org", 0, NOW, "")
    (row,) = store.query("SELECT kind, count, data FROM events WHERE time = ?", (NOW,))
    assert row == ("brute_force", 12, '{"from":"192.0.2.7","passwords":"12"}')
    assert list(store.query("SELECT program, time FROM programs")) == [("K-9", NOW + 1)]


def test_only_its_owner_reads_the_file(store) -> None:
    store.write([login()])
    for path in store.path.parent.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600, path


def test_a_batch_is_whole_or_not_there(store) -> None:
    with pytest.raises(ValueError, match="NOT NULL"):
        store.write([login(), login(1, code=None)])
    assert count(store) == 0
    store.write([login()])
    assert count(store) == 1


def test_commands_read_while_the_gateway_writes(store) -> None:
    store.write([login()])
    reader = SqliteStore(store.path, read_only=True)
    reader.open()
    reader.snapshot()
    assert count(reader) == 1
    store.write([login(1)])
    assert count(reader) == 1 and count(store) == 2
    reader.close()
    with pytest.raises(StoreError, match="not open"):
        count(reader)


def test_reading_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        SqliteStore(tmp_path / "none.db", read_only=True).open()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty.db").touch()
    with pytest.raises(StoreError, match="no audit has been written there yet"):
        SqliteStore(tmp_path / "empty.db", read_only=True).open()


def test_a_newer_schema_is_refused_and_an_older_one_is_brought_up(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    (_, _, text), *_ = migrations.steps()
    text = text.replace("{id}", SqliteStore.id_type)
    with sqlite3.connect(path) as old:
        old.executescript(migrations.VERSIONS + ";" + text + ";INSERT INTO schema_version VALUES (1, 0)")
        named = ", ".join(listed([name]) for name in LOGINS)
        old.execute(
            f"INSERT INTO logins ({named}) VALUES ({', '.join('?' * len(LOGINS))})", login_row(login())
        )
        old.execute("INSERT INTO programs VALUES (?, ?, ?)", (login().session, NOW, "K-9"))
    old.close()
    with pytest.raises(StoreError, match="start the gateway once"):
        SqliteStore(path, read_only=True).open()
    store = SqliteStore(path)
    store.open()
    store.write([login()])
    # What was kept by session is kept by device.
    assert list(store.query("SELECT * FROM programs")) == [("alice@example.org", "192.0.2.7", "K-9", NOW)]
    versions = [row[0] for row in store.query("SELECT version FROM schema_version ORDER BY version")]
    assert versions == list(range(1, migrations.newest() + 1))
    store._run("INSERT INTO schema_version VALUES (99, 0)")
    store.close()
    for read_only in (False, True):
        with pytest.raises(StoreError, match=r"version 99.*upgrade"):
            SqliteStore(path, read_only=read_only).open()


def test_another_program_s_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE things (x)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        SqliteStore(path).open()
    assert path.read_bytes() == before
    path.write_bytes(b"garbage" * 1000)
    with pytest.raises(StoreError, match="not a database"):
        SqliteStore(path).open()


def test_a_lock_is_an_error_in_time(store) -> None:
    with sqlite3.connect(store.path, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match="locked"):
            store.write([login()])
        other.execute("COMMIT")
    other.close()
    store.write([login()])
    assert count(store) == 1


def test_a_file_that_was_deleted_takes_no_records(store) -> None:
    store.write([login()])
    store.path.unlink()
    with pytest.raises(StoreError, match="deleted or moved away"):
        store.write([login(1)])
    store.path.touch()
    with pytest.raises(StoreError, match="another file stands in its place"):
        store.write([login(1)])
    store.open()
    store.write([login(1)])
    assert count(store) == 1


def test_pruning_goes_in_small_steps_and_in_order(store) -> None:
    store.write([login(number) for number in range(100)] + [event(number) for number in range(10)])
    store.write([ProgramRecord("alice", "192.0.2.7", "x", NOW), PseudonymRecord("u-1", NOW, "x")])
    cut = NOW + 50_500_000
    gone = []
    while step := store.prune(cut, 20):
        gone.append(step)
    assert sum(gone) == 51 + 10 + 1 and max(gone) == 20
    assert next(store.query("SELECT min(time) FROM logins"))[0] == NOW + 51_000_000
    assert count(store, "events") == 0 and count(store, "programs") == 0
    # A pseudonym is stored once a day, and must outlive the logins of that day.
    assert count(store, "pseudonyms") == 1
    assert store.prune(NOW + 2 * 86400 * 1_000_000, 1000) == 49 + 1
