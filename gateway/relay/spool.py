"""The spool: where a held message lies until its verdict.

Memory up to a bound, then a file that is unlinked at birth: a crash leaves no mail behind.
A full disk is a state of the spool, not an exception on the way of the bytes.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

#: How much one read from a spool gives, in octets.
PIECE = 256 * 1024


class SpoolSettings:
    """Where spools lie, and how much of them lies there now (octets, for the metric)."""

    def __init__(self, directory: Path | None = None, memory: int = 1024 * 1024) -> None:
        self.directory = directory
        self.memory = memory
        self.in_use = 0


class Spool:
    """One message: written once, then read as often as need be, then closed."""

    __slots__ = ("_file", "_map", "_pieces", "_settings", "_whole", "problem", "size")

    def __init__(self, settings: SpoolSettings) -> None:
        self._settings = settings
        self._pieces: list[bytes] = []
        self._whole: bytes | None = None
        self._file: IO[bytes] | None = None
        self._map: mmap.mmap | None = None
        self.size = 0
        #: Why the message could not be kept, in words; "" if it could.
        self.problem = ""

    def write(self, data: bytes) -> None:
        """Add octets.  After a failure they are thrown away, and `problem` says why."""
        if self.problem:
            return
        self.size += len(data)
        self._settings.in_use += len(data)
        try:
            if self._file is not None:
                self._write_all(data)
            elif self.size <= self._settings.memory:
                self._pieces.append(data)
                if len(self._pieces) > 256:  # a slow client sends small pieces
                    self._pieces = [b"".join(self._pieces)]
            else:
                directory = self._settings.directory
                self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115
                for piece in (*self._pieces, data):
                    self._write_all(piece)
                self._pieces = []
        except OSError as error:
            self._lose(f"spool: {error.strerror or error}")

    def _write_all(self, data: bytes) -> None:
        assert self._file is not None
        view = memoryview(data)
        while view:
            written = self._file.write(view)
            view = view[written:]

    def _lose(self, problem: str) -> None:
        self.close()
        self.problem = problem

    def view(self) -> bytes | mmap.mmap:
        """Return the whole as one buffer: bytes, or a map of the file.  Raises OSError."""
        if self._file is None:
            if self._whole is None:
                self._whole = b"".join(self._pieces)
                self._pieces = []
            return self._whole
        if self._map is None:
            self._map = mmap.mmap(self._file.fileno(), self.size, access=mmap.ACCESS_READ)
        return self._map

    def pieces(self) -> Iterator[bytes]:
        """Give the octets, first to last, in pieces of at most `PIECE`."""
        if self._file is None:
            whole = self.view()
            if len(whole) <= PIECE:
                if whole:
                    yield bytes(whole)
                return
            for start in range(0, len(whole), PIECE):
                yield whole[start : start + PIECE]
            return
        position = 0
        descriptor = self._file.fileno()
        while position < self.size:
            piece = os.pread(descriptor, min(PIECE, self.size - position), position)
            if not piece:
                raise OSError("spool: the file is shorter than what was written")
            position += len(piece)
            yield piece

    def tail(self, count: int) -> bytes:
        """Return the last octets."""
        if self._file is None:
            return bytes(self.view()[-count:])
        start = max(0, self.size - count)
        return os.pread(self._file.fileno(), count, start)

    def close(self) -> None:
        """Forget the message.  A map that a plugin still reads goes with its last reader."""
        self._settings.in_use -= self.size
        self.size = 0
        self._pieces = []
        self._whole = None
        if self._map is not None:
            try:
                self._map.close()
            except BufferError:
                pass
            self._map = None
        if self._file is not None:
            self._file.close()
            self._file = None
