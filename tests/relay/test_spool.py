"""The spool: memory, then an unlinked file; a full disk is a state and no exception."""

from __future__ import annotations

import os

import pytest

from gateway.relay.spool import Spool, SpoolSettings


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 100_000, 700_000])
def test_what_is_written_is_read(tmp_path, size):
    settings = SpoolSettings(tmp_path, memory=100)
    spool = Spool(settings)
    data = os.urandom(size)
    for start in range(0, size, 977):
        spool.write(data[start : start + 977])
    assert settings.in_use == size
    assert bytes(spool.view()) == data if size else spool.size == 0
    assert b"".join(spool.pieces()) == data
    assert spool.tail(2) == data[-2:]
    assert list(tmp_path.iterdir()) == [], "a crash would leave mail behind"
    spool.close()
    assert settings.in_use == 0


def test_many_small_pieces(tmp_path):
    spool = Spool(SpoolSettings(tmp_path))
    for _ in range(5000):
        spool.write(b"ab")
    assert b"".join(spool.pieces()) == b"ab" * 5000


def test_a_directory_that_is_gone(tmp_path):
    settings = SpoolSettings(tmp_path / "gone", memory=10)
    spool = Spool(settings)
    spool.write(b"x" * 20)
    spool.write(b"y" * 20)
    assert "No such file or directory" in spool.problem
    spool.close()
    assert settings.in_use == 0


def test_a_full_disk():
    """/dev/full is full for ever."""
    settings = SpoolSettings(None, memory=10)
    spool = Spool(settings)
    spool.write(b"x" * 20)
    assert spool._file is not None
    os.dup2(os.open("/dev/full", os.O_WRONLY), spool._file.fileno())
    spool.write(b"y" * 20)
    assert "No space left" in spool.problem and spool.size == 0
    spool.close()
    assert settings.in_use == 0
