"""The audit in a PostgreSQL database, named by a URL.

The driver is pg8000 (extra ``postgres``): pure Python, BSD licence, and synchronous as the thread that
writes and the commands that read are.  asyncpg copies faster, but wants an event loop of its own in both,
and a gateway writes some hundred rows a second.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from . import migrations
from .chain import Chain, HeadFile
from .sql import Row, SqlStore, listed
from .store import StoreError

#: Seconds for each answer of the server, while writing and while reading for a report.
TIMEOUT, READING_TIMEOUT = 10.0, 300.0
_PAGE = 5000
#: For a report's sums: with PostgreSQL's own default they would be sorted on the disk.
_WORK_MEMORY = "64MB"
#: One number for all gateways: who holds the lock brings the schema up to date, or adds to a chain.
_LOCK = 0x6D61696C67617465
_NUMERIC = 1700
#: A placeholder, or what is quoted and may hold a question mark.
_MARKS = re.compile(r"""'[^']*'|"[^"]*"|\?""")
_LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Target:
    """What a URL says: ``postgresql://user:password@host:5432/database?sslmode=verify-full``."""

    user: str
    password: str
    host: str
    port: int
    database: str
    socket: str  # a folder with the server's socket; "" is TCP
    sslmode: str  # "disable", "require" (not verified), "verify-full"
    root: str  # certificates trusted, PEM; "" is the system's

    @property
    def name(self) -> str:
        """What messages may show: no password."""
        return f"postgresql://{self.user}@{self.socket or f'{self.host}:{self.port}'}/{self.database}"


def target(url: str) -> Target:
    """Read a URL.  Raises ValueError, which shows no password.

    Options: ``sslmode`` (verify-full is the default for hosts other than this one), ``sslrootcert``,
    ``host`` (a folder with a socket), ``passfile`` (a file with the password alone).
    """
    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres"):
        raise ValueError(
            'not a URL of PostgreSQL; write it like "postgresql://mailgate@db.example.org/audit"'
        )
    options = dict(parse_qsl(parts.query))
    unknown = set(options) - {"sslmode", "sslrootcert", "host", "passfile"}
    if unknown:
        raise ValueError(f"the URL has unknown options: {', '.join(sorted(unknown))}")
    try:
        port = parts.port or 5432
    except ValueError:
        raise ValueError("the URL's port is no number") from None
    host = parts.hostname or "localhost"
    socket = options.get("host", "")
    local = bool(socket) or host in _LOCAL
    sslmode = options.get("sslmode", "disable" if local else "verify-full")
    if sslmode not in ("disable", "require", "verify-full"):
        raise ValueError(f"sslmode {sslmode!r} is none of disable, require, verify-full")
    password = unquote(parts.password or "") or os.environ.get("PGPASSWORD", "")
    if "passfile" in options:
        try:
            password = Path(options["passfile"]).read_text().rstrip("\r\n")
        except OSError as error:
            raise ValueError(f"{options['passfile']}: {error.strerror}") from None
    database = unquote(parts.path.lstrip("/"))
    if not database:
        raise ValueError("the URL names no database")
    return Target(
        unquote(parts.username or "") or "mailgate",
        password,
        host,
        port,
        database,
        socket,
        sslmode,
        options.get("sslrootcert", ""),
    )


class PostgresStore(SqlStore):
    """A database, which several gateways may share.  url: as :func:`target` reads it; else ValueError."""

    dialect = "postgres"
    id_type = "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"

    def __init__(
        self,
        url: str,
        *,
        read_only: bool = False,
        chain: Chain | None = None,
        head_file: HeadFile | None = None,
        timeout: float | None = None,
    ) -> None:
        self._target = target(url)
        super().__init__(self._target.name, chain, head_file)
        self._read_only = read_only
        self._timeout = timeout or (READING_TIMEOUT if read_only else TIMEOUT)
        self._connection: Any = None
        self._reading = 0
        self._frozen = False

    def open(self) -> None:
        """Connect.  Raises StoreError."""
        self.close()
        try:
            import pg8000.native as driver
        except ImportError:
            raise StoreError(
                f"{self.name}: needs the driver pg8000: pip install 'mailgate[postgres]'"
            ) from None
        where = self._target
        try:
            context = self._tls()
            self._connection = driver.Connection(
                where.user,
                password=where.password or None,
                host=where.host,
                port=where.port,
                unix_sock=f"{where.socket}/.s.PGSQL.{where.port}" if where.socket else None,
                database=where.database,
                timeout=self._timeout,
                ssl_context=context,
                application_name="mailgate",
            )
            self._connection.register_in_adapter(_NUMERIC, _number)
            with self._told():
                self._prepare()
        except (OSError, driver.Error) as error:
            self.close()
            raise StoreError(f"{self.name}: {_words(error)}") from None
        except StoreError:
            self.close()
            raise

    def _tls(self) -> ssl.SSLContext | bool | None:
        if self._target.sslmode == "disable":
            return None
        context = ssl.create_default_context(cafile=self._target.root or None)
        if self._target.sslmode == "require":
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def _prepare(self) -> None:
        there = "SELECT to_regclass('schema_version') IS NOT NULL"
        version_of = "SELECT coalesce(max(version), 0) FROM schema_version"
        ours = self._run(there)[0][0]
        if self._read_only:
            if not ours:
                raise StoreError(f"{self.name}: no audit has been written there yet")
            version = self._run(version_of)[0][0]
            migrations.refuse_newer(self.name, version)
            migrations.refuse_older(self.name, version)
            self._run(f"SET work_mem = '{_WORK_MEMORY}'")
            return
        if ours and self._run(version_of)[0][0] == migrations.newest():
            return
        with self._transaction():
            self._lock()
            self._run(migrations.VERSIONS)
            self._migrate(self._run(version_of)[0][0])

    def _lock(self) -> None:
        self._run("SELECT pg_advisory_xact_lock(?)", (_LOCK,))

    def close(self) -> None:
        """Let go of the connection.  Never raises."""
        connection, self._connection = self._connection, None
        self._reading, self._frozen = 0, False
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say in a StoreError what the driver and the server say."""
        import pg8000.native as driver

        try:
            yield
        except driver.Error as error:
            code = error.args[0].get("C", "") if error.args and isinstance(error.args[0], dict) else ""
            if code[:2] in ("22", "23"):  # data that it can't take: the record's fault
                raise ValueError(f"{self.name}: {_words(error)}") from None
            raise StoreError(f"{self.name}: {_words(error)}") from None
        except OSError as error:
            raise StoreError(f"{self.name}: {_words(error)}") from None

    def _run(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        if self._connection is None:
            raise StoreError(f"{self.name}: not open")
        number = itertools.count()
        sql = _MARKS.sub(lambda found: f":p{next(number)}" if found[0] == "?" else found[0], sql)
        rows = self._connection.run(sql, **{f"p{place}": value for place, value in enumerate(parameters)})
        return [tuple(row) for row in rows or ()]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._told():
            self._run("BEGIN")
            try:
                if self.chain is not None:
                    self._lock()
                yield
                self._run("COMMIT")
            except BaseException:
                with contextlib.suppress(Exception):
                    self._run("ROLLBACK")
                raise

    def _insert(self, table: str, columns: Sequence[str], rows: Sequence[Row], suffix: str = "") -> None:
        # One parameter and one round trip for a batch; PostgreSQL's text can't hold NUL.
        text = json.dumps([dict(zip(columns, row, strict=True)) for row in rows]).replace("\\u0000", "")
        names = listed(columns)
        self._run(
            f"INSERT INTO {table} ({names}) "
            f"SELECT {names} FROM json_populate_recordset(NULL::{table}, CAST(? AS json)) {suffix}",
            (text,),
        )

    def ask(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        # Not by a cursor: PostgreSQL plans no parallel work for those.
        with self._told():
            return self._run(sql, parameters)

    def within(self, column: str) -> str:
        # A name in place of an address, as of a UNIX socket, is in no network.
        return (
            f"(CASE WHEN {column} ~ '^[0-9a-fA-F:.]+(/[0-9]+)?$' "
            f"THEN CAST({column} AS inet) <<= CAST(? AS inet) ELSE FALSE END)"
        )

    def snapshot(self) -> None:
        with self._told():
            self._run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        self._frozen = True

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[Row]:
        """Give the rows of a SELECT, fetched in pages.  Raises StoreError."""
        with self._told():
            if not self._reading and not self._frozen:
                self._run("BEGIN READ ONLY")
            self._reading += 1
            name = f"page{self._reading}"
            try:
                self._run(f"DECLARE {name} NO SCROLL CURSOR FOR {sql}", parameters)
                while True:
                    rows = self._run(f"FETCH {_PAGE} FROM {name}")
                    yield from rows
                    if len(rows) < _PAGE:
                        break
                self._run(f"CLOSE {name}")
            finally:
                self._reading -= 1
                if not self._reading and not self._frozen and self._connection is not None:
                    with contextlib.suppress(Exception):
                        self._run("ROLLBACK")


def _number(text: str) -> int | float:
    """Read a numeric, as sums of BIGINT are, as SQLite would give it."""
    value = Decimal(text)
    return int(value) if value == value.to_integral_value() else float(value)


def _words(error: BaseException) -> str:
    """Say what went wrong: the server's message, else the system's."""
    first = error.args[0] if error.args else ""
    if isinstance(first, dict):
        return str(first.get("M", "refused"))
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
