"""Records in a file, one JSON object a line, exchanged for a new one when it is full."""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from ..audit.record import StoredRecord
from ..audit.store import StoreError
from .ecs import line
from .outlet import Outlet, sendable


class FileOutlet(Outlet):
    """Appends to a file of mode 0600; a file that was moved away is made anew.

    max_size: octets; then it becomes ``.1``, what was ``.1`` becomes ``.2``, and so on.  0 is no bound.
    keep: how many such files stay.  compress: they are packed by gzip.
    """

    def __init__(
        self, path: Path, hostname: str, max_size: int = 0, keep: int = 10, compress: bool = False
    ) -> None:
        self._path = path
        self._hostname = hostname
        self._max_size = max_size
        self._keep = keep
        self._suffix = ".gz" if compress else ""
        self._descriptor = -1

    def open(self) -> None:
        self.close()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            self._descriptor = os.open(self._path, flags, 0o600)
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror}") from None

    def close(self) -> None:
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1

    def write(self, records: Sequence[StoredRecord]) -> None:
        piece: list[bytes] = []
        octets = 0
        try:
            for record in sendable(records):
                one = line(record, self._hostname) + b"\n"
                if self._max_size and piece and octets + len(one) > self._max_size:
                    self._append(b"".join(piece))
                    piece, octets = [], 0
                piece.append(one)
                octets += len(one)
            self._append(b"".join(piece))
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror}") from None

    def _append(self, data: bytes) -> None:
        """Write whole lines into one file.  Raises OSError, and then has written none."""
        size = self._settle(len(data))
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            os.ftruncate(self._descriptor, size)  # no half of a line, when it is tried again
            raise

    def _settle(self, more: int) -> int:
        """Have the right file open for so many octets more; return its size.  Raises OSError."""
        ours = os.fstat(self._descriptor)
        try:
            there = self._path.stat()
        except FileNotFoundError:
            there = None
        if there is None or (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
            self.open()  # moved away, by another program that keeps old files
            ours = os.fstat(self._descriptor)
        if self._max_size and ours.st_size and ours.st_size + more > self._max_size:
            self._exchange()
            self.open()
            return 0
        return ours.st_size

    def _exchange(self) -> None:
        """Move the file, and those before it, one number on."""
        for number in range(self._keep, 0, -1):
            old = self._old(number)
            if number == self._keep:
                old.unlink(missing_ok=True)
            elif old.exists():
                old.rename(self._old(number + 1))
        if not self._keep:
            self._path.unlink()
        elif not self._suffix:
            self._path.rename(self._old(1))
        else:
            packed = self._old(1).with_suffix(".tmp")
            with (
                self._path.open("rb") as source,
                open(packed, "wb", opener=_private) as file,
                gzip.GzipFile(fileobj=file, mode="wb", filename="") as target,
            ):
                shutil.copyfileobj(source, target)
            packed.rename(self._old(1))
            self._path.unlink()

    def _old(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}{self._suffix}")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
