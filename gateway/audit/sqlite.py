"""The audit in an SQLite file: the default."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from . import migrations
from .chain import Chain, HeadFile
from .sql import Row, SqlStore, listed
from .store import StoreError

#: Seconds to wait for somebody else's lock.
BUSY = 2.0


class SqliteStore(SqlStore):
    """One file, mode 0600, in write-ahead mode: commands read while the gateway writes.

    read_only: for commands; nothing is made, and no schema brought up to date.
    """

    dialect = "sqlite"
    id_type = "INTEGER PRIMARY KEY AUTOINCREMENT"

    def __init__(
        self,
        path: Path,
        *,
        read_only: bool = False,
        chain: Chain | None = None,
        head_file: HeadFile | None = None,
        busy: float = BUSY,
    ) -> None:
        super().__init__(str(path), chain, head_file)
        self.path = path
        self._read_only = read_only
        self._busy = busy
        self._connection: sqlite3.Connection | None = None
        self._inode = (0, 0)

    def open(self) -> None:
        """Open the file, made if absent.  Raises StoreError."""
        self.close()
        mode = "ro" if self._read_only else "rw"
        try:
            # A file that is there is not opened here: closing it would end this process's locks on it.
            if not self._read_only and not self.path.exists():
                with contextlib.suppress(FileExistsError):
                    os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            found = self.path.stat()
            if not os.access(self.path, os.R_OK if self._read_only else os.R_OK | os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            self._connection = sqlite3.connect(
                f"file:{quote(str(self.path))}?mode={mode}",
                uri=True,
                timeout=self._busy,
                isolation_level=None,
                check_same_thread=False,
            )
            self._inode = (found.st_dev, found.st_ino)
            self._connection.create_function("within", 2, _within, deterministic=True)
            with self._told():
                self._prepare()
        except OSError as error:
            self.close()
            raise StoreError(f"{self.name}: {error.strerror or error}") from None
        except sqlite3.Error as error:
            self.close()
            raise StoreError(f"{self.name}: {error}") from None
        except StoreError:
            self.close()
            raise

    def _prepare(self) -> None:
        run = self._run
        tables = {row[0] for row in run("SELECT name FROM sqlite_master WHERE type = 'table'")}
        ours = "schema_version" in tables and "logins" in tables
        if tables - {"sqlite_sequence"} and not ours:
            raise StoreError(f"{self.name}: the database of another program")
        if self._read_only:
            if not ours:
                raise StoreError(f"{self.name}: no audit has been written there yet")
        else:
            run("PRAGMA journal_mode = WAL")
            run("PRAGMA synchronous = NORMAL")
            if not ours:
                run(migrations.VERSIONS)
        version = run("SELECT coalesce(max(version), 0) FROM schema_version")[0][0]
        migrations.refuse_newer(self.name, version)
        if self._read_only:
            migrations.refuse_older(self.name, version)
        elif version < migrations.newest():
            with self._transaction():
                # Another gateway may have done it meanwhile.
                self._migrate(run("SELECT coalesce(max(version), 0) FROM schema_version")[0][0])

    def close(self) -> None:
        """Let go of the file.  Never raises."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say in a StoreError what SQLite says."""
        try:
            yield
        except (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError) as error:
            raise ValueError(f"{self.name}: {error}") from None  # the record's fault, not the store's
        except sqlite3.DatabaseError as error:
            raise StoreError(f"{self.name}: {error}") from None

    def _run(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        if self._connection is None:
            raise StoreError(f"{self.name}: not open")
        return self._connection.execute(sql, parameters).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._told():
            self._same_file()
            self._run("BEGIN IMMEDIATE")
            try:
                yield
                self._run("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._run("ROLLBACK")
                raise

    def _same_file(self) -> None:
        """Refuse to write to a file that has no name any more: what is written there is lost."""
        try:
            found = self.path.stat()
        except OSError as error:
            raise StoreError(f"{self.name}: {error.strerror}: it was deleted or moved away") from None
        if (found.st_dev, found.st_ino) != self._inode:
            raise StoreError(f"{self.name}: another file stands in its place")

    def _insert(self, table: str, columns: Sequence[str], rows: Sequence[Row], suffix: str = "") -> None:
        if self._connection is None:
            raise StoreError(f"{self.name}: not open")
        marks = ", ".join("?" * len(columns))
        sql = f"INSERT INTO {table} ({listed(columns)}) VALUES ({marks}) {suffix}"
        self._connection.executemany(sql, rows)

    def within(self, column: str) -> str:
        return f"within({column}, ?)"

    def snapshot(self) -> None:
        with self._told():
            self._run("BEGIN")

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[Row]:
        """Give the rows of a SELECT.  Raises StoreError."""
        with self._told():
            if self._connection is None:
                raise StoreError(f"{self.name}: not open")
            yield from self._connection.execute(sql, parameters)


@lru_cache(65536)
def _within(address: str, network: str) -> bool:
    """Tell whether an address, or a smaller network, lies in a network."""
    found, wide = _network(address), _network(network)
    return (
        found is not None
        and wide is not None
        and found.version == wide.version
        and found.network_address in wide
        and found.prefixlen >= wide.prefixlen
    )


@lru_cache(65536)
def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None
