"""The writer: batches, a blocked pipe, a full disk, rotation; the caller never waits."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.observe import writer as module
from gateway.observe.writer import Writer


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "never came true"
        time.sleep(0.005)


def test_lines_reach_the_file_in_order_without_close(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = Writer(path)
    for number in range(5000):
        writer.write(f"line {number}\n")
    until(lambda: path.read_text().count("\n") == 5000)
    assert path.read_text() == "".join(f"line {number}\n" for number in range(5000))
    assert path.stat().st_mode & 0o777 & ~0o640 == 0
    assert writer.dropped == 0
    writer.close()


def test_closing_writes_what_waits(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = Writer(path)
    writer.write("the last word, é \udcff\n")
    writer.close()
    writer.close()
    assert path.read_bytes() == "the last word, é \\udcff\n".encode()


def test_lines_are_written_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    write = os.write

    def counting(descriptor: int, data: bytes) -> int:
        if len(data) and bytes(data[:1]) == b"=":
            sizes.append(len(data))
        return write(descriptor, data)

    monkeypatch.setattr(module.os, "write", counting)
    writer = Writer(tmp_path / "log")
    for _ in range(100):
        writer.write("=\n")
    writer.close()
    assert sum(sizes) == 200
    assert len(sizes) <= 3


def test_an_unopenable_path_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Writer(tmp_path / "missing" / "log")


def _pipe(blocking: bool) -> tuple[int, int]:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writing, blocking)
    return reading, writing


def _read_all(reading: int, writer: Writer, writing: int) -> str:
    """Read until the writer has closed and everything is out."""
    os.set_blocking(reading, False)
    data = b""
    deadline = time.monotonic() + 10
    while "marker" not in data.decode():
        assert time.monotonic() < deadline
        try:
            data += os.read(reading, 65536)
        except BlockingIOError:
            writer.write("marker\n")
            time.sleep(0.01)
    writer.close()
    os.close(writing)
    os.set_blocking(reading, True)
    while piece := os.read(reading, 65536):
        data += piece
    os.close(reading)
    return data.decode()


@pytest.mark.parametrize("blocking", [True, False])
def test_a_blocked_pipe_blocks_nobody_and_is_told_of_once_it_flows(blocking: bool) -> None:
    reading, writing = _pipe(blocking)
    writer = Writer(writing, bound=1000, dropped_line=lambda count: f"dropped {count}\n")
    for number in range(20_000):
        writer.write(f"line {number:06}\n")
    dropped = writer.dropped
    assert dropped > 15_000
    text = _read_all(reading, writer, writing)
    lines = [line for line in text.splitlines() if line.startswith("line")]
    notices = [int(line.split()[1]) for line in text.splitlines() if line.startswith("dropped")]
    assert sum(notices) >= dropped
    assert len(lines) + dropped == 20_000
    assert lines == sorted(lines)
    assert set(text.split("\n")) >= {"marker", "line 000000"}


def test_a_full_disk_loses_lines_and_says_so_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = [True]
    write = os.write
    path = tmp_path / "log"

    def full_disk(descriptor: int, data: bytes) -> int:
        if full[0] and len(data) > 4:
            write(descriptor, data[:4])  # the last octets that there was room for
            full[0] = False
            full.append(True)
            return 4
        if len(full) > 1 and full[1]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(module, "RETRY", 0.02)
    monkeypatch.setattr(module.os, "write", full_disk)
    writer = Writer(path, dropped_line=lambda count: f"dropped {count}\n")
    writer.write("first line\n")
    until(lambda: writer.dropped == 1)
    writer.write("second line\n")
    until(lambda: writer.dropped == 2)
    full[1] = False
    until(lambda: "dropped 2\n" in path.read_text())
    writer.write("third line\n")
    writer.close()
    # What was cut off stands on a line of its own: the next line is whole.
    assert path.read_text() == "firs\ndropped 2\nthird line\n"


def test_reopening_goes_on_in_the_new_file(tmp_path: Path) -> None:
    path, old = tmp_path / "log", tmp_path / "log.1"
    writer = Writer(path)
    writer.write("old\n")
    until(lambda: path.read_text() == "old\n")
    path.rename(old)
    writer.reopen()
    until(path.exists)
    writer.write("new\n")
    writer.close()
    assert (old.read_text(), path.read_text()) == ("old\n", "new\n")


def test_a_path_that_cannot_be_reopened_leaves_the_old_file(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    writer = Writer(folder / "log")
    writer.write("one\n")
    until(lambda: (folder / "log").read_text() == "one\n")
    folder.rename(tmp_path / "moved")
    writer.reopen()
    writer.write("two\n")
    writer.close()
    assert (tmp_path / "moved" / "log").read_text() == "one\ntwo\n"


def test_closing_does_not_wait_for_a_pipe_that_nobody_reads() -> None:
    reading, writing = _pipe(blocking=False)
    writer = Writer(writing)
    writer.write("x" * 100_000 + "\n")
    writer.close(timeout=0.2)
    os.close(reading)
    os.close(writing)
