"""The chain: whoever changes, inserts, takes away or cuts off records is found out."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.audit.chain import Chain, HeadFile, read_key, verify
from gateway.audit.sqlite import SqliteStore

from .samples import NOW, event, login

KEY = b"0123456789abcdef" * 2


class Scene:
    def __init__(self, folder: Path, key: bytes = KEY) -> None:
        self.path, self.key = folder / "audit.db", key
        self.head = HeadFile(folder / "audit.head")
        self.store = SqliteStore(self.path, chain=Chain(key), head_file=self.head)
        self.store.open()
        for number in range(0, 100, 10):
            self.store.write([login(number + one) for one in range(10)] + [event(number)])
        self.store.close()

    def tamper(self, *statements: str) -> None:
        connection = sqlite3.connect(self.path, isolation_level=None)
        for statement in statements:
            connection.execute(statement)
        connection.close()

    def findings(self, head: bool = False, key: bytes | None = None) -> list[str]:
        reader = SqliteStore(self.path, read_only=True)
        reader.open()
        try:
            heads = self.head.read() if head else None
            return [str(one) for one in verify(reader, Chain(self.key if key is None else key), heads)[1]]
        finally:
            reader.close()


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_an_untouched_audit_is_whole(scene: Scene) -> None:
    assert scene.findings() == scene.findings(head=True) == []
    scene.store.open()
    scene.store.write([login(100)])
    scene.store.close()
    assert scene.findings(head=True) == []
    assert scene.head.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("UPDATE logins SET outcome = 'ok' WHERE id = 50", []),
        ("UPDATE logins SET outcome = 'failed' WHERE id = 50", ["record 50: was changed"]),
        ("UPDATE logins SET exposed = 1 WHERE id = 1", ["record 1: does not follow on the anchor"]),
        ("UPDATE events SET count = 1 WHERE id = 3", ["record 3: was changed"]),
        ("DELETE FROM logins WHERE id = 50", ["record 51: does not follow on record 49: 1 missing"]),
        ("DELETE FROM logins WHERE id BETWEEN 20 AND 29", ["record 30: does not follow on record 19: 10"]),
        ("DELETE FROM logins WHERE id < 10", ["record 10: does not follow on the anchor"]),
        ("DELETE FROM logins WHERE id > 95", ["tail is cut off: 5 records"]),
        ("DELETE FROM logins", ["tail is cut off: 100 records"]),
        (
            "UPDATE logins SET chain = '' WHERE id = 50",
            ["record 50: is not chained", "record 51: was changed"],
        ),
        ("UPDATE logins SET id = -id WHERE id IN (7, 8)", ["record -8: does not follow"]),
        ("DELETE FROM chains WHERE name = 'logins'", ["note of its ends is missing"]),
        ("UPDATE chains SET pruned = 5 WHERE name = 'logins'", ["the seal of its ends"]),
    ],
)
def test_tampering_shows(scene: Scene, statement: str, found: list[str]) -> None:
    scene.tamper(statement)
    told = scene.findings()
    assert bool(told) == bool(found), told
    for wanted in found:
        assert any(wanted in one for one in told), told


def test_a_record_that_was_put_in_shows(scene: Scene) -> None:
    copy = "INSERT INTO logins SELECT 1000 + id, " + ", ".join(
        f'"{name}"' for name in (*__import__("gateway.audit.sql").audit.sql.LOGINS, "chain")
    )
    scene.tamper(copy + " FROM logins WHERE id = 50")
    assert any("record 1050" in one for one in scene.findings())


def test_a_tail_cut_with_its_end_shows_by_the_end_kept_elsewhere(scene: Scene, tmp_path: Path) -> None:
    """An older copy of the whole store is put back: only the file of ends knows better."""
    old = scene.path.read_bytes()
    scene.store.open()
    scene.store.write([login(number) for number in range(100, 110)])
    scene.store.close()
    for path in tmp_path.glob("audit.db*"):
        path.unlink()
    scene.path.write_bytes(old)
    assert scene.findings() == []
    (told,) = scene.findings(head=True)
    assert "knows 110 records, here are 100" in told


def test_evidence_of_an_older_copy_is_not_written_over(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An older copy is put back, and the gateway goes on with it: the end that was known is kept aside."""
    old = scene.path.read_bytes()
    scene.store.open()
    scene.store.write([login(number) for number in range(100, 110)])
    scene.store.close()
    assert "gone back" not in capsys.readouterr().out
    for path in tmp_path.glob("audit.db*"):
        path.unlink()
    scene.path.write_bytes(old)
    scene.store.open()
    scene.store.write([login(number) for number in range(200, 230)])
    scene.store.close()
    assert "audit chain has gone back" in capsys.readouterr().out
    assert scene.findings(head=True) == []
    (aside,) = tmp_path.glob("audit.head.*")
    scene.head = HeadFile(aside)
    assert any("written anew" in one for one in scene.findings(head=True))


def test_a_chain_written_anew_without_a_key_shows_by_the_end_kept_elsewhere(tmp_path: Path) -> None:
    scene = Scene(tmp_path, key=b"")
    scene.tamper("UPDATE logins SET outcome = 'failed' WHERE id = 50")
    assert scene.findings() != []
    rows = list(sqlite3.connect(scene.path).execute("SELECT * FROM logins ORDER BY id"))
    chain, head = Chain(), ""
    for row in rows:
        head = chain.link(head, "logins", tuple(row[1:-1]))
        scene.tamper(f"UPDATE logins SET chain = '{head}' WHERE id = {row[0]}")
    scene.store.open()
    state = scene.store.states()["logins"]
    state.head = head
    scene.tamper(f"UPDATE chains SET head = '{head}', seal = '{chain.seal(state)}' WHERE name = 'logins'")
    scene.store.close()
    assert scene.findings() == []
    assert any("written anew" in one for one in scene.findings(head=True))


def test_another_key_is_told(scene: Scene) -> None:
    assert any("seal" in one for one in scene.findings(key=b"another" * 8))


def test_pruning_leaves_a_chain_that_can_be_verified(scene: Scene) -> None:
    scene.store.open()
    while scene.store.prune(NOW + 45_500_000, 7):
        pass
    scene.store.write([login(100)])
    scene.store.close()
    assert scene.findings(head=True) == []
    scene.tamper("DELETE FROM logins WHERE id <= 50")
    assert any("anchor" in one for one in scene.findings())
    scene.store.open()
    while scene.store.prune(NOW + 1000_000_000, 100):
        pass
    scene.store.write([login(101)])
    scene.store.close()


def test_everything_may_be_pruned(scene: Scene) -> None:
    scene.store.open()
    while scene.store.prune(NOW + 1000_000_000, 100):
        pass
    assert scene.findings(head=True) == []
    scene.store.write([login(101)])
    scene.store.close()
    assert scene.findings(head=True) == []
    scene.tamper("DELETE FROM logins")
    assert any("cut off: 1 records" in one for one in scene.findings())


def test_records_from_before_the_chain_are_counted(tmp_path: Path) -> None:
    plain = SqliteStore(tmp_path / "audit.db")
    plain.open()
    plain.write([login(number) for number in range(5)])
    plain.close()
    chained = SqliteStore(tmp_path / "audit.db", chain=Chain(KEY))
    chained.open()
    chained.write([login(number) for number in range(5, 8)])
    walks, findings = verify(chained, Chain(KEY))
    assert findings == [] and (walks[0].unchained, walks[0].records) == (5, 3)
    chained.close()


def _short(path: Path) -> None:
    path.write_bytes(b"short\n")


def _open(path: Path) -> None:
    path.write_bytes(KEY)
    path.chmod(0o644)


@pytest.mark.parametrize(
    ("make", "why"), [(_short, "32 octets"), (_open, "others may read"), (lambda path: None, "No such file")]
)
def test_a_key_that_is_none_is_told(tmp_path: Path, make: Callable[[Path], None], why: str) -> None:
    make(tmp_path / "key")
    with pytest.raises(ValueError, match=why):
        read_key(tmp_path / "key")
