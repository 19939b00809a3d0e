"""Frames between the gateway and its workers: whole, bounded, in time, no descriptor from a stranger."""

from __future__ import annotations

import errno
import mmap
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from gateway.inspection import frames

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


@pytest.mark.parametrize("size", [0, 1, frames.BY_DESCRIPTOR, frames.BY_DESCRIPTOR + 1, 3_000_000])
@pytest.mark.parametrize("by_descriptor", [True, False])
def test_a_frame_arrives_as_it_was_sent(pair: Pair, size: int, by_descriptor: bool):
    head, octets = b"head" * 100_000, os.urandom(size)
    sending = threading.Thread(
        target=frames.send, args=(pair[0], head, octets), kwargs={"by_descriptor": by_descriptor}
    )
    sending.start()
    frame = frames.receive(pair[1], size, time.monotonic() + 20, by_descriptor=by_descriptor)
    sending.join()
    assert (frame.head, frame.octets[:]) == (head, octets)
    large = by_descriptor and size > frames.BY_DESCRIPTOR
    assert isinstance(frame.octets, mmap.mmap) is large
    if isinstance(frame.octets, mmap.mmap):
        frame.octets.close()


def test_without_files_in_memory_the_octets_go_as_they_are(pair: Pair, monkeypatch: pytest.MonkeyPatch):
    def refused(name: str, flags: int) -> int:
        raise OSError(errno.EPERM, "not permitted")

    monkeypatch.setattr(os, "memfd_create", refused)
    octets = os.urandom(frames.BY_DESCRIPTOR + 1)
    frames.send(pair[0], b"", octets, by_descriptor=True)
    assert frames.receive(pair[1], len(octets), by_descriptor=True).octets == octets


def test_what_is_no_frame(pair: Pair):
    frames.send(pair[0], b"head", b"x" * 11)
    with pytest.raises(frames.FrameError, match="it answered with 15 octets"):
        frames.receive(pair[1], 10)


@pytest.mark.parametrize("part", [b"", b"\0\0", b"\0\0\0\5" + bytes(9) + b"ab"])
def test_an_end_in_mid_frame(pair: Pair, part: bytes):
    pair[0].sendall(part)
    pair[0].close()
    with pytest.raises(frames.FrameError, match="it closed the connection"):
        frames.receive(pair[1], 100)


def test_a_descriptor_that_nobody_asked_for_is_not_taken(pair: Pair):
    """Whoever may send one can make the file shorter under its reader, which kills that."""
    before = len(os.listdir("/proc/self/fd"))
    frames.send(pair[0], b"", os.urandom(frames.BY_DESCRIPTOR + 1), by_descriptor=True)
    with pytest.raises(frames.FrameError):
        frames.receive(pair[1], 1 << 30)
    assert len(os.listdir("/proc/self/fd")) == before


def test_nothing_comes_in_time(pair: Pair):
    with pytest.raises(TimeoutError):
        frames.receive(pair[1], 100, time.monotonic() + 0.05)
    with pytest.raises(TimeoutError):
        frames.receive(pair[1], 100, time.monotonic() - 1)
    with pytest.raises(TimeoutError):
        frames.send(pair[0], b"x" * 10_000_000, deadline=time.monotonic() + 0.05)
