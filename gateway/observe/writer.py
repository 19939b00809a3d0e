"""The writer: lines go into a bounded queue, and a thread writes them in batches.

The reactor never waits for a pipe or a disk.  Where lines come faster than they can be
written, the newest are dropped and counted, and the log says so itself once it works again.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

#: Seconds between the first line of a batch and its writing.
DELAY = 0.05
#: This many waiting lines are written without delay: about 64 KiB.
HURRY = 200
#: Seconds between two tries while the disk is full or nobody reads the pipe.
RETRY = 0.5


class Writer:
    """Writes lines to a file or a file descriptor.

    target: a path, opened for appending and created with mode 0640; or a descriptor, which
        is not closed.  Raises OSError if the path can't be opened.
    bound: lines that wait at most.
    dropped_line: makes the line that tells how many were dropped.

    All methods may be called from any thread; ``write`` never blocks.
    """

    def __init__(
        self,
        target: Path | int,
        *,
        bound: int = 20_000,
        dropped_line: Callable[[int], str] | None = None,
    ) -> None:
        self._path = target if isinstance(target, Path) else None
        self._file = target if isinstance(target, int) else self._open()
        self._bound = bound
        self._dropped_line = dropped_line or (lambda count: f"{count} log lines were dropped\n")
        self._queue: deque[str] = deque()
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._awake = False
        self._closing = False
        self._reopen = False
        self._deadline = float("inf")
        self._midline = False  # a write failed in the middle of a line
        self._told = 0
        # Two counters, so that each has one thread that adds to it.
        self._kept_out = 0
        self._lost = 0
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """The number of lines dropped so far."""
        return self._kept_out + self._lost

    def write(self, line: str) -> None:
        """Take a line, its line end included."""
        queue = self._queue
        waiting = len(queue)
        if waiting >= self._bound or self._closing:
            self._kept_out += 1
            return
        queue.append(line)
        if not self._awake:
            self._awake = True
            self._wake.set()
        elif waiting == HURRY:
            self._hurry.set()

    def reopen(self) -> None:
        """Open the path anew, for log rotation.  A file that can't be opened leaves the old one."""
        self._reopen = True
        self._awake = True
        self._wake.set()
        self._hurry.set()

    def close(self, timeout: float = 2.0) -> None:
        """Write what waits, for at most ``timeout`` seconds, and end the thread."""
        if self._closing:
            return
        self._deadline = time.monotonic() + timeout
        self._closing = True
        self._wake.set()
        self._hurry.set()
        self._thread.join(timeout + 0.1)

    # -- the thread --------------------------------------------------------

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait()
            self._wake.clear()
            self._hurry.wait(DELAY)
            self._hurry.clear()
            # Before the queue is looked at: a line added behind this wakes the thread again.
            self._awake = False
            if self._reopen:
                self._reopen = False
                self._open_anew()
            self._drain()
        self._drain()
        if self._path is not None:
            os.close(self._file)

    def _drain(self) -> None:
        queue = self._queue
        while queue or self.dropped > self._told:
            lines = [queue.popleft() for _ in range(min(len(queue), 2000))]
            dropped = self.dropped
            if dropped > self._told:
                lines.insert(0, self._dropped_line(dropped - self._told))
            if self._put("".join(lines).encode("utf-8", "backslashreplace")):
                self._told = dropped
            else:
                # The notice is no line that anybody lost; what it told stays to be told.
                self._lost += len(lines) - (dropped > self._told)
                if self._closing or not self._pause():
                    return

    def _put(self, data: bytes) -> bool:
        """Write all octets; False if it can't be done now."""
        if self._midline:
            data = b"\n" + data
        view = memoryview(data)
        while view:
            try:
                written = os.write(self._file, view)
            except BlockingIOError:
                # A descriptor that was made non-blocking by whoever shares it.
                if not select.select([], [self._file], [], min(1.0, self._left()))[1] and self._left() <= 0:
                    return False
                continue
            except OSError:
                return False
            self._midline = view[written - 1] != 10
            view = view[written:]
        return True

    def _left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def _pause(self) -> bool:
        """Wait a little after a failure; False if the writer is being closed."""
        until = time.monotonic() + RETRY
        while not self._closing and time.monotonic() < until:
            self._hurry.wait(RETRY)
            self._hurry.clear()
            if self._reopen:
                self._reopen = False
                self._open_anew()
                break
        return not self._closing

    def _open(self) -> int:
        assert self._path is not None
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def _open_anew(self) -> None:
        if self._path is None:
            return
        try:
            fresh = self._open()
        except OSError:
            return  # better in the old file than nowhere
        os.close(self._file)
        self._file = fresh
        self._midline = False
