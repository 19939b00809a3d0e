"""`mailgate demo`: what a newcomer sees first."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.conftest import need
from tests.support.processes import Process, wait_until

COMMAND = [sys.executable, "-m", "gateway", "demo"]


def test_once_ends_with_status_0_and_is_plain_in_a_pipe():
    result = subprocess.run([*COMMAND, "--once"], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    text = result.stdout
    assert "8 of 8 conversations went as they should." in text
    assert "\x1b" not in text
    assert "+ X-Gateway: mail.example.org for alice, tls" in text and "+ Sent through mailgate." in text
    assert re.search(r"carol +pop3 +USER +none +ok +exposed", text)
    assert re.search(r"alice +imaps +LOGIN .* failed +protected", text)
    for password in ("wonderland", "builder", "christmas", "123456"):
        assert password not in text


def test_it_stays_up_and_its_commands_work(tmp_path: Path):
    """What it prints to be pasted is pasted."""
    need("curl")
    process = Process(COMMAND, tmp_path / "output")
    try:
        wait_until(lambda: "/readyz" in process.tail(), 60, "the demonstration")
        text = process.output.read_text()
        commands = [line.strip() for line in text.splitlines() if line.startswith(("  curl", "  printf"))]
        assert len(commands) >= 5
        for command in commands:
            ran = subprocess.run(command, shell=True, capture_output=True, timeout=30, check=False)
            assert ran.returncode == 0, (command, ran.stderr)
        wait_until(
            lambda: "rewritten" in process.output.read_text()[len(text) :], 10, "the message to be seen"
        )
        os.kill(process.pid, signal.SIGINT)
        assert process.popen.wait(20) == 0
        assert "Goodbye" in process.tail() and "Traceback" not in process.output.read_text()
    finally:
        process.stop()
