"""The PostgreSQL store before a real server: the same interface, outages, no password in a message."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pg8000.native import DatabaseError

from gateway.audit.chain import Chain, verify
from gateway.audit.opening import store_of
from gateway.audit.postgres import PostgresStore, target
from gateway.audit.record import ProgramRecord, PseudonymRecord
from gateway.audit.sqlite import SqliteStore
from gateway.audit.store import StoreError
from tests.support.postgres import Postgres

from .samples import NOW, event, login


@pytest.fixture
def url(postgres: Postgres) -> str:
    return postgres.url()


@pytest.fixture
def store(url: str):
    made = PostgresStore(url)
    made.open()
    yield made
    made.close()


def test_rows_are_those_of_sqlite(store, tmp_path: Path) -> None:
    batch = [login(number, exposed=number % 2 == 0) for number in range(50)]
    batch += [event(), ProgramRecord("a", "::1", "K-9", NOW), ProgramRecord("a", "::1", "K-9", NOW + 1)]
    batch += [PseudonymRecord("u-1", NOW, "x"), login(51, user="zoë'; DROP TABLE logins; --\\ \"")]
    other = SqliteStore(tmp_path / "audit.db")
    other.open()
    for one in (store, other):
        one.write(batch)
        one.write([PseudonymRecord("u-1", NOW + 5, "y")])
    for sql in (
        "SELECT * FROM logins ORDER BY id",
        "SELECT * FROM events",
        "SELECT * FROM programs",
        "SELECT * FROM pseudonyms",
        'SELECT "user", count(*), sum(exposed), max(time) FROM logins GROUP BY "user" ORDER BY 2',
    ):
        assert list(store.query(sql)) == list(other.query(sql)), sql
    sql = "SELECT id FROM logins WHERE time >= ? AND protocol = ? ORDER BY id LIMIT ?"
    parameters = (NOW + 10_000_000, "imap", 3)
    assert list(store.query(sql, parameters)) == list(other.query(sql, parameters)) == [(11,), (12,), (13,)]
    other.close()


def test_a_batch_is_whole_or_not_there_and_nul_is_left_out(store) -> None:
    with pytest.raises(ValueError, match="null value"):
        store.write([login(), login(1, code=None)])
    assert list(store.query("SELECT count(*) FROM logins")) == [(0,)]
    store.write([login(user="a\x00b")])
    assert list(store.query('SELECT "user" FROM logins')) == [("ab",)]


def test_many_rows_are_read_in_pages_and_queries_nest(store) -> None:
    for batch in range(13):
        store.write([login(batch * 1000 + number) for number in range(1000)])
    seen = 0
    for (ident,) in store.query("SELECT id FROM logins ORDER BY id"):
        if ident % 5000 == 0:
            assert list(store.query("SELECT count(*) FROM logins")) == [(13_000,)]
        seen += 1
    assert seen == 13_000
    next(store.query("SELECT 1 FROM logins"))  # left in the middle
    store.write([login()])


def test_pruning_and_the_chain(url: str) -> None:
    """Two gateways write to one chain."""
    stores = [PostgresStore(url, chain=Chain(b"k" * 32)) for _ in range(2)]
    for one in stores:
        one.open()
    for number in range(20):
        stores[number % 2].write([login(number * 2), login(number * 2 + 1), event(number)])
    assert stores[0].prune(NOW + 10_500_000, 1000) == 11 + 11
    reader = store_of(url, read_only=True)
    reader.open()
    walks, findings = verify(reader, Chain(b"k" * 32))
    assert findings == [] and [(walk.records, walk.pruned) for walk in walks] == [(29, 11), (9, 11)]
    with pytest.raises(DatabaseError, match="read-only"):
        reader._run("DELETE FROM logins")
    reader.close()
    stores[1]._run("UPDATE logins SET outcome = 'failed' WHERE id = 30")
    reader.open()
    _, findings = verify(reader, Chain(b"k" * 32))
    assert [(finding.table, finding.id) for finding in findings] == [("logins", 30)]
    for one in (*stores, reader):
        one.close()


def test_the_schema_is_made_once_and_a_reader_makes_none(url: str) -> None:
    with pytest.raises(StoreError, match="no audit has been written there yet"):
        PostgresStore(url, read_only=True).open()
    for _ in range(2):
        store = PostgresStore(url)
        store.open()
    store._run("INSERT INTO schema_version VALUES (99, 0)")
    store.close()
    with pytest.raises(StoreError, match=r"version 99.*upgrade"):
        PostgresStore(url).open()


def test_an_outage_is_an_error_without_the_password_and_passes(tmp_path_factory) -> None:
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="mailgate-pg-"))
    folder.chmod(0o755)
    server = Postgres(folder)
    try:
        url = server.url()
        store = PostgresStore(url)
        store.open()
        store.write([login()])
        server.stop()
        for what in (lambda: store.write([login(1)]), store.open):
            with pytest.raises(StoreError) as told:
                what()
            assert server.password not in str(told.value) and "127.0.0.1" in str(told.value)
        server.start()
        store.open()
        store.write([login(1)])
        assert list(store.query("SELECT count(*) FROM logins")) == [(2,)]
        store.close()
        wrong = url.replace(server.password, "wrong-password")
        with pytest.raises(StoreError, match="authentication failed") as told:
            PostgresStore(wrong).open()
        assert "wrong-password" not in str(told.value)
        by_socket = url.replace("127.0.0.1", "localhost") + f"?host={server.home}"
        (folder / "secret").write_text(server.password + "\n")
        by_file = by_socket.replace(f":{server.password}@", "@") + f"&passfile={folder / 'secret'}"
        for one in (by_socket, by_file):
            local = PostgresStore(one, read_only=True)
            local.open()
            assert list(local.query("SELECT count(*) FROM logins")) == [(2,)]
            local.close()
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("postgresql://db.example.org", "names no database"),
        ("postgresql://db.example.org:x/audit", "port"),
        ("postgresql://db.example.org/audit?sslmode=prefer", "none of"),
        ("postgresql://u:hidden@db.example.org/audit?colour=red", "unknown options: colour"),
        ("mysql://db.example.org/audit", "not a URL of PostgreSQL"),
    ],
)
def test_a_wrong_url_is_told(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as told:
        target(url)
    assert "hidden" not in str(told.value)


def test_tls_is_the_default_off_this_machine() -> None:
    assert target("postgresql://u@db.example.org/audit").sslmode == "verify-full"
    assert target("postgresql://u@localhost/audit").sslmode == "disable"
    assert "s3cret" not in target("postgresql://u:s3cret@db.example.org/audit").name


def test_without_the_driver_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pg8000.native", None)
    with pytest.raises(StoreError, match=r"mailgate\[postgres\]"):
        PostgresStore("postgresql://u@localhost/audit").open()
