"""The key log: for its owner only, and no session fails because of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.relay.keylog import KeyLog


def test_lines_are_added(tmp_path: Path):
    path = tmp_path / "keys.log"
    path.write_bytes(b"before\n")
    log = KeyLog(path, lambda *_: pytest.fail("it failed"))
    log.write(b"CLIENT_RANDOM 1 2")
    log.close()
    log.write(b"CLIENT_RANDOM 3 4")  # of a session that outlives a reload without the option
    assert path.read_bytes() == b"before\nCLIENT_RANDOM 1 2\n"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_told_once(tmp_path: Path):
    told: list[str] = []
    log = KeyLog(tmp_path / "keys.log", lambda _path, error: told.append(error.strerror))
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, log._descriptor)
    os.close(full)
    log.write(b"one")
    log.write(b"two")
    log.close()
    assert told == ["No space left on device"]


def test_only_a_plain_file_is_taken(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("pipe", "link", "."):
        with pytest.raises(OSError, match=r".+"):
            KeyLog(tmp_path / name, lambda *_: None)
