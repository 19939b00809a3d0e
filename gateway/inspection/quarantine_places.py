"""Where quarantined messages lie: a folder, or a bucket of S3.

Two things a message: its octets as they came (``ID.eml``) and what is known of them
(``ID.json``).  The second is written last: a message is there when its ``.json`` is there, and
then it is whole.  Methods block, and raise OSError.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from .bucket import Bucket


class Place(Protocol):
    """Keeps messages by id.  ``str`` of it names it in errors."""

    def put(self, ident: str, content: Iterable[bytes], facts: bytes) -> None:
        """Keep a message, durably, or leave nothing of it."""

    def content(self, ident: str) -> bytes:
        """Return a message's octets."""

    def facts(self, ident: str) -> bytes:
        """Return what is known of it."""

    def put_facts(self, ident: str, facts: bytes) -> None:
        """Put others in place of what is known of a message."""

    def claim(self, ident: str) -> AbstractContextManager[None]:
        """Keep others from claiming a message meanwhile, where that can be done.

        Raises BlockingIOError if one has, FileNotFoundError if it is not there.
        """

    def delete(self, ident: str) -> None:
        """Forget a message.  Raises FileNotFoundError if it is not there."""

    def names(self) -> list[str]:
        """Return the names of what is there, ``ID.json`` and ``ID.eml``."""

    def usage(self) -> tuple[int, int]:
        """Return how many messages there are, and their octets."""

    def sweep(self, before: float) -> None:
        """Take away what a crash has left before that time, in seconds since the epoch."""

    def where(self, ident: str) -> str:
        """Tell where a message's octets are."""


class Folder:
    """A folder of its own.  Files are written under another name, made durable and renamed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __str__(self) -> str:
        return str(self.directory)

    def put(self, ident: str, content: Iterable[bytes], facts: bytes) -> None:
        """Keep a message, durably, or leave nothing of it."""
        waiting = [self.directory / f"new-{ident}.eml", self.directory / f"new-{ident}.json"]
        try:
            _write(waiting[0], content)
            _write(waiting[1], [facts])
            waiting[0].rename(self._content(ident))
            waiting[1].rename(self._facts(ident))
        except OSError:
            for path in (*waiting, self._content(ident)):
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
            raise
        _make_durable(self.directory)

    def content(self, ident: str) -> bytes:
        """Return a message's octets."""
        return self._content(ident).read_bytes()

    def facts(self, ident: str) -> bytes:
        """Return what is known of it."""
        return self._facts(ident).read_bytes()

    def put_facts(self, ident: str, facts: bytes) -> None:
        """Put others in place of what is known of a message."""
        waiting = self.directory / f"new-{ident}.json"
        _write(waiting, [facts])
        waiting.rename(self._facts(ident))
        _make_durable(self.directory)

    @contextlib.contextmanager
    def claim(self, ident: str) -> Iterator[None]:
        """Keep others from claiming a message meanwhile; a process that dies has no claim."""
        with self._content(ident).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.fstat(file.fileno()).st_nlink:
                raise FileNotFoundError(ident)
            yield

    def delete(self, ident: str) -> None:
        """Forget a message.  Raises FileNotFoundError if it is not there."""
        self._facts(ident).unlink()
        self._content(ident).unlink(missing_ok=True)

    def names(self) -> list[str]:
        """Return the names of what is there."""
        return [path.name for path in self.directory.iterdir()]

    def usage(self) -> tuple[int, int]:
        """Return how many messages there are, and their octets."""
        messages = octets = 0
        with os.scandir(self.directory) as found:
            for one in found:
                if one.name.endswith(".eml") and not one.name.startswith("new-"):
                    messages += 1
                    octets += one.stat().st_size
        return messages, octets

    def sweep(self, before: float) -> None:
        """Take away what a crash has left: files on their way, and messages without facts."""
        names = set(self.names())
        for name in names:
            stem = name.removesuffix(".eml")
            if name.startswith("new-") or (stem != name and f"{stem}.json" not in names):
                path = self.directory / name
                with contextlib.suppress(OSError):
                    if path.stat().st_mtime < before:
                        path.unlink()

    def where(self, ident: str) -> str:
        """Tell where a message's octets are."""
        return str(self._content(ident))

    def _content(self, ident: str) -> Path:
        return self.directory / f"{ident}.eml"

    def _facts(self, ident: str) -> Path:
        return self.directory / f"{ident}.json"


class Objects:
    """A bucket, or a prefix in one, that nothing else writes to."""

    def __init__(self, url: str, *, endpoint: str, region: str, timeout: float) -> None:
        """Raises ValueError without the extra that it needs."""
        self.url = url.rstrip("/")
        self._bucket = Bucket(url, endpoint=endpoint, region=region, timeout=timeout)

    def __str__(self) -> str:
        return self.url

    def put(self, ident: str, content: Iterable[bytes], facts: bytes) -> None:
        """Keep a message, durably, or leave nothing of it."""
        self._bucket.put(f"{ident}.eml", iter(content))
        try:
            self._bucket.put(f"{ident}.json", facts)
        except OSError:
            with contextlib.suppress(OSError):
                self._bucket.delete(f"{ident}.eml")
            raise

    def content(self, ident: str) -> bytes:
        """Return a message's octets."""
        return self._bucket.get(f"{ident}.eml")

    def facts(self, ident: str) -> bytes:
        """Return what is known of it."""
        return self._bucket.get(f"{ident}.json")

    def put_facts(self, ident: str, facts: bytes) -> None:
        """Put others in place of what is known of a message."""
        self._bucket.put(f"{ident}.json", facts)

    def claim(self, ident: str) -> AbstractContextManager[None]:
        """A bucket has no locks."""
        return contextlib.nullcontext()

    def delete(self, ident: str) -> None:
        """Forget a message."""
        self._bucket.delete(f"{ident}.json")
        self._bucket.delete(f"{ident}.eml")

    def names(self) -> list[str]:
        """Return the names of what is there."""
        return [key for key, _ in self._bucket.list()]

    def usage(self) -> tuple[int, int]:
        """Return how many messages there are, and their octets."""
        sizes = [size for key, size in self._bucket.list() if key.endswith(".eml")]
        return len(sizes), sum(sizes)

    def sweep(self, before: float) -> None:
        """Take away messages without facts: their ids begin with their time."""
        names = set(self.names())
        for name in names:
            stem = name.removesuffix(".eml")
            if stem != name and f"{stem}.json" not in names and int(stem.partition("-")[0], 16) < before:
                self._bucket.delete(name)

    def where(self, ident: str) -> str:
        """Tell where a message's octets are."""
        return f"{self.url}/{ident}.eml"


def _write(path: Path, content: Iterable[bytes]) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        for piece in content:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def _make_durable(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
