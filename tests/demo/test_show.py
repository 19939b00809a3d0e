"""`mailgate demo`: what a newcomer sees first."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import need
from tests.support.processes import Process, wait_until

COMMAND = [sys.executable, "-m", "gateway", "demo"]


def test_once_ends_with_status_0_and_is_plain_in_a_pipe():
    result = subprocess.run([*COMMAND, "--once"], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    text = result.stdout
    assert "9 of 9 conversations went as they should." in text
    assert text.isascii() and "\x1b" not in text
    assert "+ X-Gateway: mail.example.org for alice, tls" in text and "+ Sent through mailgate." in text
    assert re.search(r"carol +pop3 +USER +none +ok +exposed", text)
    assert re.search(r"alice +imaps +LOGIN .* failed +protected", text)
    assert re.search(r"carol +1 +100 % +no TLS +tls-for-all", text)
    for password in ("wonderland", "builder", "christmas", "123456"):
        assert password not in text


def test_a_conversation_that_goes_wrong_gives_status_1_and_is_told():
    program = """if True:
        from gateway.demo import show, talk
        def broken(self):
            assert False, "the listings differ"
        talk.Talk.read_pop3_stls = broken
        raise SystemExit(show.main(True))
    """
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 1, result.stdout + result.stderr
    assert "8 of 9 conversations went as they should." in result.stdout
    assert "bob lists his mail by POP3: STLS: AssertionError: the listings differ" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr


def test_a_port_that_is_taken_is_told():
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", 2143))
            sock.listen()
        except OSError:
            pass  # taken by somebody else, which is as good
        result = subprocess.run([*COMMAND, "--once"], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"^Port 2143 is taken: imap has \d+ instead\.$", result.stdout, re.MULTILINE)


@pytest.mark.parametrize("arguments", [["--once"], []])
def test_it_ends_when_nobody_reads_any_more(arguments: list[str]):
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        status = process.wait(60)
    if arguments:
        assert status == 0  # the conversation went on


def test_it_stays_up_and_its_commands_work(tmp_path: Path):
    """What it prints to be pasted is pasted."""
    need("curl")
    need("swaks")
    process = Process(COMMAND, tmp_path / "output")
    try:
        wait_until(lambda: "/readyz" in process.tail(), 60, "the demonstration")
        text = process.output.read_text()
        commands = [
            line.strip() for line in text.splitlines() if line.startswith(("  curl", "  printf", "  swaks"))
        ]
        assert len(commands) >= 6
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
