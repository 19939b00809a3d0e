"""The quarantine's folder: whole messages or none, bounds, and what others put there."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.inspection.quarantine import Entry, Quarantine, QuarantineError
from gateway.inspection.quarantine_places import Folder, Objects
from tests.support.s3 import running_s3

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"


def entry(at: float = 1_700_000_000.0, size: int = len(MESSAGE)) -> Entry:
    return Entry(
        "", at, "bad", "scanner", "data", "smtp", "mx", "store", "s1", "", "192.0.2.1", size, "00" * 32,
        "a@example.org", ("b@example.org", "c@example.org"), subject="x",
    )  # fmt: skip


def test_what_is_stored_is_there_octet_for_octet(tmp_path: Path) -> None:
    quarantine = Quarantine(Folder(tmp_path))
    kept = quarantine.store([MESSAGE[:5], MESSAGE[5:]], entry())
    assert list(Quarantine(Folder(tmp_path)).entries()) == [kept]
    assert quarantine.content(kept.id) == MESSAGE
    assert {oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()} == {"0o600"}
    assert quarantine.figures() == (1, len(MESSAGE))
    quarantine.delete(kept.id)
    assert list(tmp_path.iterdir()) == [] and quarantine.figures() == (0, 0)
    with pytest.raises(KeyError):
        quarantine.delete(kept.id)


def test_what_a_crash_has_left_is_swept(tmp_path: Path) -> None:
    quarantine = Quarantine(Folder(tmp_path))
    kept, orphan = (quarantine.store([MESSAGE], entry(at)) for at in (2_000_000_000.0, 1_700_000_000.0))
    (tmp_path / f"{orphan.id}.json").unlink()
    (tmp_path / "new-x.eml").write_bytes(MESSAGE)
    for path in tmp_path.glob("*.eml"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    assert quarantine.purge(100, now=1_900_000_000) == 0
    assert {path.stem for path in tmp_path.iterdir()} == {kept.id}
    assert Quarantine(Folder(tmp_path)).figures() == (1, len(MESSAGE))


def test_entries_are_in_order_of_time(tmp_path: Path) -> None:
    quarantine = Quarantine(Folder(tmp_path))
    for at in (300.0, 100.0, 200.0):
        quarantine.store([MESSAGE], entry(at))
    assert [one.at for one in quarantine.entries()] == [100.0, 200.0, 300.0]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield MESSAGE
        raise OSError(28, "No space left on device")

    quarantine = Quarantine(Folder(tmp_path))
    with pytest.raises(QuarantineError, match="No space left"):
        quarantine.store(pieces(), entry())
    assert list(tmp_path.iterdir()) == [] and quarantine.failures == 1


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    quarantine = Quarantine(Folder(tmp_path / "gone"))
    with pytest.raises(QuarantineError, match="No such file"):
        quarantine.store([MESSAGE], entry())
    assert quarantine.figures() == (0, 0)


def test_the_bound_counts_all_messages(tmp_path: Path) -> None:
    quarantine = Quarantine(Folder(tmp_path), most_octets=2 * len(MESSAGE))
    quarantine.store([MESSAGE], entry())
    kept = quarantine.store([MESSAGE], entry())
    with pytest.raises(QuarantineError, match="full"):
        quarantine.store([MESSAGE], entry())
    quarantine.delete(kept.id)
    quarantine.store([MESSAGE], entry())


def test_purge_forgets_what_is_old(tmp_path: Path) -> None:
    quarantine = Quarantine(Folder(tmp_path))
    quarantine.store([MESSAGE], entry(1000.0))
    young = quarantine.store([MESSAGE], entry(2000.0))
    (tmp_path / "new-left-by-a-crash.eml").write_bytes(b"half")
    os.utime(tmp_path / "new-left-by-a-crash.eml", (500, 500))
    assert quarantine.purge(500.0, now=2100.0) == 1
    assert [one.id for one in quarantine.entries()] == [young.id]
    assert not list(tmp_path.glob("new-*"))


def test_what_others_put_there_is_passed_over(tmp_path: Path) -> None:
    quarantine = Quarantine(Folder(tmp_path))
    kept = quarantine.store([MESSAGE], entry())
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "000000001-aaaaaaaa.json").write_text("{broken")
    (tmp_path / "000000001-bbbbbbbb.json").write_text(json.dumps({"id": "x"}))
    (tmp_path / "000000001-cccccccc.eml").write_bytes(b"without its facts")
    assert [one.id for one in quarantine.entries()] == [kept.id]
    for ident in ("../../etc/passwd", "", "x", "000000001-aaaaaaaa"):
        with pytest.raises(KeyError):
            quarantine.entry(ident)


def test_many_at_once(tmp_path: Path) -> None:
    quarantine = Quarantine(Folder(tmp_path))

    def work() -> None:
        for _ in range(20):
            quarantine.store([MESSAGE], entry())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len({one.id for one in quarantine.entries()}) == 160
    assert quarantine.figures() == (160, 160 * len(MESSAGE))


# ------------------------------------------------------------------- a bucket


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with running_s3() as address:
        yield address


def bucket(address: str, prefix: str, timeout: float = 20) -> Objects:
    return Objects(f"s3://mail/{prefix}", endpoint=address, region="us-east-1", timeout=timeout)


def test_a_bucket_keeps_messages_as_a_folder_does(s3: str) -> None:
    quarantine = Quarantine(bucket(s3, "one"), 3 * len(MESSAGE))
    old = quarantine.store([MESSAGE[:5], MESSAGE[5:]], entry(1000.0))
    young = quarantine.store([MESSAGE], entry(2000.0))
    again = Quarantine(bucket(s3, "one"))
    assert list(again.entries()) == [old, young]
    assert again.content(old.id) == MESSAGE
    assert again.figures() == (2, 2 * len(MESSAGE))
    assert again.place.where(old.id) == f"s3://mail/one/{old.id}.eml"
    quarantine.store([MESSAGE], entry())
    with pytest.raises(QuarantineError, match="s3://mail/one: full"):
        quarantine.store([MESSAGE], entry())
    assert again.purge(500.0, now=2100.0) == 1
    again.delete(young.id)
    for ident in (old.id, young.id):
        with pytest.raises(KeyError):
            again.entry(ident)


def test_what_a_crash_leaves_in_a_bucket_is_swept_away(s3: str) -> None:
    place = bucket(s3, "two")
    quarantine = Quarantine(place)
    kept = quarantine.store([MESSAGE], entry(2000.0))
    half = quarantine.store([MESSAGE], entry(1000.0))
    place._bucket.delete(f"{half.id}.json")
    assert [one.id for one in quarantine.entries()] == [kept.id]
    assert quarantine.purge(500.0, now=2100.0) == 0
    assert sorted(place.names()) == [f"{kept.id}.eml", f"{kept.id}.json"]


def test_a_bucket_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, never answers
        place = bucket(f"http://127.0.0.1:{silent.getsockname()[1]}", "x", timeout=0.3)
        quarantine = Quarantine(place)
        with pytest.raises(QuarantineError, match="s3://mail/x: "):
            quarantine.store([MESSAGE], entry())
    assert quarantine.failures == 1 and quarantine.figures() == (0, 0)
