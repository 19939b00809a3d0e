"""`mailgate audit`: what it tells, to admins and to scripts, and its exit status."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from gateway.audit.chain import Chain, HeadFile
from gateway.audit.privacy import Privacy, Pseudonyms
from gateway.audit.sqlite import SqliteStore
from tests.audit.samples import event, login

from .support import mailgate, without_rights

KEY = "0123456789abcdef" * 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a chained store, its keys, and a configuration."""
    for name in ("chain", "pseudonym"):
        (tmp_path / f"{name}.key").write_text(KEY + "\n")
        (tmp_path / f"{name}.key").chmod(0o600)
    privacy = Privacy(None, Pseudonyms(KEY.encode()))
    store = SqliteStore(
        tmp_path / "audit.db", chain=Chain(KEY.encode()), head_file=HeadFile(tmp_path / "audit.head")
    )
    store.open()
    for number in range(10):
        store.write([*privacy(login(number)), *privacy(event(number))])
    store.close()
    (tmp_path / "mailgate.toml").write_text("""
[audit]
store = "audit.db"
chain = true
chain_key = "chain.key"
chain_head = "audit.head"
users = "pseudonym"
pseudonym_key = "pseudonym.key"
[[upstreams]]
name = "up"
addresses = ["127.0.0.1:1025"]
[[listeners]]
name = "mx"
protocol = "smtp"
address = "127.0.0.1:2525"
upstream = "up"
""")
    return tmp_path


def audit(folder: Path, *arguments: str | Path, status: int = 0, config: bool = True) -> str:
    more = ("-c", folder / "mailgate.toml") if config else ()
    done = mailgate("audit", *arguments, *more)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_verify_and_what_it_finds(folder: Path) -> None:
    assert "logins: 10 records in the chain" in audit(folder, "verify")
    plain = audit(folder, "verify", "--store", folder / "audit.db", status=1, config=False)
    assert "seal" in plain
    told = audit(
        folder, "verify", "--store", folder / "audit.db", "--key", folder / "chain.key", config=False
    )
    assert "a tail may be missing" in told and "whole" in told
    connection = sqlite3.connect(folder / "audit.db")
    connection.execute("DELETE FROM logins WHERE id = 5")
    connection.commit()
    connection.close()
    assert "record 6: does not follow on record 4: 1 missing before it" in audit(folder, "verify", status=1)
    found = json.loads(audit(folder, "verify", "--json", status=1))
    assert found["whole"] is False and found["findings"][0]["id"] == 6
    (folder / "audit.head").write_text("nonsense")
    assert "not the ends of a chain" in audit(folder, "verify", status=2)


def test_resolve(folder: Path) -> None:
    pseudonym = Pseudonyms(KEY.encode()).of("alice@example.org")
    assert audit(folder, "resolve", pseudonym) == f"{pseudonym}  alice@example.org\n"
    (folder / "other.key").write_text("x" * 64)
    (folder / "other.key").chmod(0o600)
    told = audit(folder, "resolve", pseudonym, "--key", folder / "other.key", status=1)
    assert "not sealed with this key" in told and "alice" not in told
    where = ("--store", folder / "audit.db")
    assert "name the pseudonyms' key" in audit(folder, "resolve", pseudonym, *where, status=2, config=False)


def test_prune_and_status(folder: Path) -> None:
    before = json.loads(audit(folder, "status", "--json"))
    assert before["logins"] == 10 and before["oldest"] == "2026-09-21T14:13:20Z"
    assert before["chain_logins"]["count"] == 10 and len(before["chain_logins"]["head"]) == 64
    assert "logins          10" in audit(folder, "status")
    assert "0 deleted" in audit(folder, "prune", "--older-than", "3650d")
    chained = audit(
        folder, "prune", "--store", folder / "audit.db", "--older-than", "1s", status=2, config=False
    )
    assert "knows the chain's key" in chained
    audit(folder, "prune", "--older-than", "1ms")
    told = audit(folder, "verify")
    assert "10 pruned" in told and "whole" in told
    assert "longer than 3650d" in audit(folder, "prune", "--older-than", "9999d", status=2)


def test_what_is_wrong_is_told(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert "name the configuration" in audit(folder, "status", status=2, config=False)
    assert "No such file" in audit(folder, "status", "--store", folder / "none.db", status=1)
    assert not (folder / "none.db").exists()
    (folder / "garbage.db").write_bytes(b"garbage" * 1000)
    assert "not a database" in audit(folder, "verify", "--store", folder / "garbage.db", status=1)
    assert "names no database" in audit(
        folder, "status", "--store", "postgresql://u:hidden@db.example.org/", status=2
    )
    text = (folder / "mailgate.toml").read_text()
    (folder / "mailgate.toml").write_text(
        text.partition("[audit]")[2].partition("[[up")[2].join(["[[up", ""])
    )
    assert "[audit] names no store" in audit(folder, "status", status=2)
    (folder / "mailgate.toml").write_text(text.replace("[audit]", "[audit]\nrequierd = true"))
    assert 'did you mean "required"' in audit(folder, "status", status=2)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('store = "audit.db"', 'store = "nowhere/audit.db"', "audit.store: no such folder"),
        ('store = "audit.db"', 'store = "mysql://x/y"', "audit.store: not a path, nor a URL"),
        ('store = "audit.db"', "", "there is no audit without a store"),
        ('pseudonym_key = "pseudonym.key"', "", "pseudonyms need a pseudonym_key"),
        ('"chain.key"', '"none.key"', "audit.chain_key: no such file"),
        ('"chain.key"', '"short.key"', "a key has 32 octets or more"),
        ('"chain.key"', '"open.key"', "others may read this key"),
        ("chain = true", "", "the chain is off"),
        ("chain = true", 'chain = true\nretention = "4000d"', "longer than 3650d"),
    ],
)
def test_the_check_tells_what_the_audit_lacks(folder: Path, old: str, new: str, problem: str) -> None:
    (folder / "short.key").write_text("short")
    (folder / "open.key").write_text(KEY)
    (folder / "open.key").chmod(0o644)
    path = folder / "mailgate.toml"
    path.write_text(path.read_text().replace(old, new))
    done = mailgate("check", "-c", path)
    assert problem in done.stdout + done.stderr, done.stdout + done.stderr


def test_without_the_right_to_read(folder: Path) -> None:
    (folder / "audit.db").chmod(0o000)
    done = mailgate("audit", "status", "-c", folder / "mailgate.toml", before=without_rights())
    assert done.returncode in (1, 2) and "ermission denied" in done.stderr
