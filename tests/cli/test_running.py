"""`mailgate run` from start to stop, as systemd sees it (sd_notify(3))."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.config.test_reading import GOOD
from tests.support.processes import free_port


@pytest.fixture
def notified(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket that a service manager listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(30)
        yield listening


def test_ready_reload_and_stop_are_notified(tmp_path: Path, notified: socket.socket):
    path = tmp_path / "x.toml"
    path.write_text(GOOD.replace("2143", str(free_port())))
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "run", "-c", str(path)],
        env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert notified.recv(100) == b"READY=1"
        path.write_text("nonsense")
        process.send_signal(signal.SIGHUP)
        assert [notified.recv(100), notified.recv(100)] == [b"RELOADING=1", b"READY=1"]
        process.send_signal(signal.SIGTERM)
        assert notified.recv(100) == b"STOPPING=1"
        _, told = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert "reload refused" in told and "line 1: not TOML" in told and "Traceback" not in told
