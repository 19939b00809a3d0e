"""What was decided on messages that clients fetched, remembered for ever.

A message that a client has seen under a UID never changes (RFC 9051 2.3.1.1): not when it is
fetched again, not after a restart, not when a plugin's options change.  So a verdict is kept
by the digest of the original, with the edits that made of it what the client saw.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import struct
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..core.outcome import Action
from .edits import Edit

#: Keys of one query, below SQLite's bound of variables.
_AT_ONCE = 900
#: Verdicts that are remembered where no file is given.
MOST_IN_MEMORY = 50_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS verdicts (
    key BLOB PRIMARY KEY, action TEXT NOT NULL, reason TEXT NOT NULL, edits BLOB NOT NULL,
    at INTEGER NOT NULL DEFAULT (unixepoch())
) WITHOUT ROWID
"""
_SIZES = """
CREATE TABLE IF NOT EXISTS sizes (
    key BLOB PRIMARY KEY, size INTEGER NOT NULL, at INTEGER NOT NULL DEFAULT (unixepoch())
) WITHOUT ROWID
"""
_VERSION = 1
_EDIT = struct.Struct("!QQQ")


@dataclass(frozen=True, slots=True)
class Remembered:
    """A verdict: what to do, and the edits of the original that do it.

    action: PASS or MODIFY; REJECT, QUARANTINE and DISCARD, whose edits put a notice in place.
    """

    action: Action
    reason: str = ""
    edits: Sequence[Edit] = field(default_factory=tuple)


class VerdictStore:
    """Verdicts by key, in SQLite.  Safe to use from several threads; each call may block."""

    def __init__(self, path: Path | None = None) -> None:
        """path: the file; without one, verdicts last as long as the process.

        Raises OSError with the path in its text if the file can't be used.
        """
        self.path = path
        self.failures = 0
        self._lock = threading.Lock()
        if path is not None:
            # The edits of messages are in it.
            with contextlib.suppress(FileExistsError):
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            self._database = sqlite3.connect(path or ":memory:", check_same_thread=False, timeout=5.0)
            if path is not None:
                self._database.execute("PRAGMA journal_mode=WAL")
                self._database.execute("PRAGMA synchronous=NORMAL")
            version = self._database.execute("PRAGMA user_version").fetchone()[0]
            if version > _VERSION:
                raise OSError(f"{path}: made by a newer version of mailgate")
            self._database.execute(_SCHEMA)
            self._database.execute(_SIZES)
            self._database.execute(f"PRAGMA user_version={_VERSION}")
            self._database.commit()
        except sqlite3.Error as error:
            raise OSError(f"{path}: {error}") from error

    def get(self, key: bytes) -> Remembered | None:
        """Return the verdict; None if there is none, or the store fails (`failures` counts that)."""
        try:
            with self._lock:
                row = self._database.execute(
                    "SELECT action, reason, edits FROM verdicts WHERE key = ?", (key,)
                ).fetchone()
            return Remembered(Action(row[0]), row[1], _unpacked(row[2])) if row is not None else None
        except (sqlite3.Error, ValueError, zlib.error, struct.error):
            self.failures += 1
            return None

    def put(self, key: bytes, verdict: Remembered) -> None:
        """Remember a verdict, unless there is one already: the first one counts."""
        row = (key, str(verdict.action), verdict.reason, _packed(verdict.edits))
        try:
            with self._lock, self._database:
                self._database.execute(
                    "INSERT OR IGNORE INTO verdicts (key, action, reason, edits) VALUES (?, ?, ?, ?)", row
                )
                self._forget_some("verdicts")
        except sqlite3.Error:
            self.failures += 1

    def sizes(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        """Return the sizes that are remembered, by key; none if the store fails."""
        found: dict[bytes, int] = {}
        try:
            with self._lock:
                for start in range(0, len(keys), _AT_ONCE):
                    some = keys[start : start + _AT_ONCE]
                    marks = ",".join("?" * len(some))
                    query = f"SELECT key, size FROM sizes WHERE key IN ({marks})"
                    found.update(self._database.execute(query, some))
        except sqlite3.Error:
            self.failures += 1
        return found

    def put_size(self, key: bytes, size: int) -> None:
        """Remember the octets of a message as its readers get it."""
        try:
            with self._lock, self._database:
                self._database.execute("INSERT OR REPLACE INTO sizes (key, size) VALUES (?, ?)", (key, size))
                self._forget_some("sizes")
        except sqlite3.Error:
            self.failures += 1

    def replace(self, key: bytes, verdict: Remembered) -> bool:
        """Put a verdict in another's place: an admin has decided otherwise.  Returns whether it is there."""
        row = (key, str(verdict.action), verdict.reason, _packed(verdict.edits))
        try:
            with self._lock, self._database:
                self._database.execute(
                    "INSERT OR REPLACE INTO verdicts (key, action, reason, edits) VALUES (?, ?, ?, ?)", row
                )
        except sqlite3.Error:
            self.failures += 1
            return False
        return True

    def _forget_some(self, table: str) -> None:
        """Keep a store in memory within its bound."""
        if self.path is not None:
            return
        count = self._database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        if count > MOST_IN_MEMORY:
            self._database.execute(
                f"DELETE FROM {table} WHERE key IN (SELECT key FROM {table} ORDER BY at LIMIT ?)",
                (MOST_IN_MEMORY // 10,),
            )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()


def verdict_key(digest: bytes, *scope: str) -> bytes:
    """Return the key of a verdict: a message's SHA-256 for one user of one upstream and pipeline."""
    text = "\0".join(scope).encode("utf-8", "surrogatepass")
    return hashlib.sha256(digest + text).digest()


def _packed(edits: Sequence[Edit]) -> bytes:
    if not edits:
        return b""
    head = b"".join(_EDIT.pack(edit.start, edit.end, len(edit.data)) for edit in edits)
    return zlib.compress(struct.pack("!I", len(edits)) + head + b"".join(edit.data for edit in edits), 1)


def _unpacked(packed: bytes) -> list[Edit]:
    if not packed:
        return []
    text = zlib.decompress(packed)
    (count,) = struct.unpack_from("!I", text)
    place = 4 + count * _EDIT.size
    found: list[Edit] = []
    for number in range(count):
        start, end, size = _EDIT.unpack_from(text, 4 + number * _EDIT.size)
        found.append(Edit(start, end, text[place : place + size]))
        place += size
    return found
