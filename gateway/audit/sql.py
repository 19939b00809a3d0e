"""What the two stores share: rows, the hash chain, pruning; in SQL that both dialects speak."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

from . import migrations
from .chain import Chain, ChainState, HeadFile
from .record import EventRecord, LoginRecord, ProgramRecord, PseudonymRecord, StoredRecord

Row = tuple[Any, ...]

LOGINS = tuple(field.name for field in fields(LoginRecord))
EVENTS = tuple(field.name for field in fields(EventRecord))
PROGRAMS = tuple(field.name for field in fields(ProgramRecord))
PSEUDONYMS = tuple(field.name for field in fields(PseudonymRecord))
#: The chained tables, with what stands in their rows but for ``id`` and ``chain``.
CHAINED: dict[str, tuple[str, ...]] = {"logins": LOGINS, "events": EVENTS}
_LOGIN = attrgetter(*LOGINS)
_PROGRAM = attrgetter(*PROGRAMS)
_EXPOSED = LOGINS.index("exposed")
_DAY = 86400 * 1_000_000
_STATE = tuple(field.name for field in fields(ChainState))


def listed(columns: Sequence[str]) -> str:
    """Return names of columns as SQL has them: ``user`` is a word of its own in PostgreSQL."""
    return ", ".join(f'"{name}"' if name == "user" else name for name in columns)


def login_row(record: LoginRecord) -> Row:
    """Return a login as its row."""
    row: Row = _LOGIN(record)
    return (*row[:_EXPOSED], int(record.exposed), *row[_EXPOSED + 1 :])


def event_row(record: EventRecord) -> Row:
    """Return an event as its row."""
    return (
        record.time,
        record.kind,
        record.severity,
        record.session,
        record.protocol,
        record.listener,
        record.address,
        record.user,
        record.count,
        record.detail,
        json.dumps(record.data, sort_keys=True, separators=(",", ":")) if record.data else "{}",
    )


class SqlStore(ABC):
    """A store of the audit.  Subclasses speak to SQLite or PostgreSQL.

    name: as messages have it; never with a password.
    chain: how rows are chained; None where they are not.
    head_file: where the chain's ends are kept besides.
    """

    #: What the statements are written for: "sqlite", "postgres"; and what makes an automatic key there.
    dialect: str
    id_type: str

    def __init__(self, name: str, chain: Chain | None = None, head_file: HeadFile | None = None) -> None:
        self.name = name
        self.chain = chain
        self._head_file = head_file

    # -- what a dialect has ------------------------------------------------

    @abstractmethod
    def open(self) -> None:
        """Connect, and bring the schema up to date.  Raises StoreError."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the store.  Never raises."""

    @abstractmethod
    def _transaction(self) -> Any:
        """Return a context manager: one transaction, alone among writers.  Raises StoreError."""

    @abstractmethod
    def _run(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Run one statement within the transaction; return its rows.  May raise what the driver raises."""

    @abstractmethod
    def _insert(self, table: str, columns: Sequence[str], rows: Sequence[Row], suffix: str = "") -> None:
        """Put rows into a table, within the transaction.  suffix: of the INSERT."""

    @abstractmethod
    def query(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[Row]:
        """Give the rows of a SELECT, which may be very many."""

    def ask(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Return the rows of a SELECT that sums up.  Raises StoreError."""
        return list(self.query(sql, parameters))

    @abstractmethod
    def within(self, column: str) -> str:
        """Return SQL that tells whether an address lies in a network, whose CIDR is its one parameter."""

    @abstractmethod
    def snapshot(self) -> None:
        """Have all queries until ``close`` see one state of the store."""

    # -- the schema --------------------------------------------------------

    def _migrate(self, version: int) -> None:
        """Bring the schema up to date, within a transaction."""
        migrations.refuse_newer(self.name, version)
        for number, statements in migrations.pending(version, self.dialect, self.id_type):
            for statement in statements:
                self._run(statement)
            self._run(
                "INSERT INTO schema_version (version, applied) VALUES (?, ?)", (number, int(time.time()))
            )

    # -- writing -----------------------------------------------------------

    def write(self, records: Sequence[StoredRecord]) -> None:
        """Write a batch as one transaction: all of it, or none.  Raises StoreError."""
        logins: list[Row] = []
        events: list[Row] = []
        programs: dict[Row, Row] = {}
        pseudonyms: dict[str, Row] = {}
        for record in records:
            match record:
                case LoginRecord():
                    logins.append(login_row(record))
                case EventRecord():
                    events.append(event_row(record))
                case ProgramRecord():
                    row = _PROGRAM(record)
                    programs[row[:-1]] = row
                case PseudonymRecord():
                    pseudonyms[record.pseudonym] = (record.pseudonym, record.time, record.sealed)
        with self._transaction():
            heads = dict(self._chained("logins", logins), **self._chained("events", events))
            if programs:
                suffix = 'ON CONFLICT ("user", address, program) DO UPDATE SET time = excluded.time'
                self._insert("programs", PROGRAMS, list(programs.values()), suffix)
            if pseudonyms:
                suffix = (
                    "ON CONFLICT (pseudonym) DO UPDATE SET time = excluded.time, sealed = excluded.sealed"
                )
                self._insert("pseudonyms", PSEUDONYMS, list(pseudonyms.values()), suffix)
        self._export(heads)

    def _chained(self, table: str, rows: list[Row]) -> dict[str, ChainState]:
        """Insert rows, with their chain where there is one; return the new end of it."""
        columns = CHAINED[table]
        if not rows:
            return {}
        chain = self.chain
        if chain is None:
            self._insert(table, columns, rows)
            return {}
        # Read anew each time: another gateway, or one that is being replaced, may write as well.
        state = self._state(table) or ChainState(table)
        if self._head_file is not None:
            self._head_file.compare(state)
        head = state.head
        linked = []
        for row in rows:
            head = chain.link(head, table, row)
            linked.append((*row, head))
        self._insert(table, (*columns, "chain"), linked)
        state.head, state.count = head, state.count + len(rows)
        self._keep(state)
        return {table: state}

    def _state(self, table: str) -> ChainState | None:
        rows = self._run(f"SELECT {listed(_STATE)} FROM chains WHERE name = ?", (table,))
        return ChainState(*rows[0]) if rows else None

    def _keep(self, state: ChainState) -> None:
        state.seal = (self.chain or Chain()).seal(state)
        self._run("DELETE FROM chains WHERE name = ?", (state.name,))
        self._insert("chains", _STATE, [tuple(getattr(state, name) for name in _STATE)])

    def _export(self, heads: dict[str, ChainState]) -> None:
        if self._head_file is not None and heads:
            self._head_file.write(heads)

    # -- pruning -----------------------------------------------------------

    def prune(self, before: int, at_most: int) -> int:
        """Take away records older than so many microseconds since the epoch; return how many.

        Logins and events go in the order in which they were written, so that what stays is a
        whole chain: one whose time is off goes, or stays, with its neighbours.
        """
        gone = 0
        heads: dict[str, ChainState] = {}
        with self._transaction():
            for table in CHAINED:
                oldest = f"SELECT id, time, chain FROM {table} ORDER BY id LIMIT ?"
                rows = self._run(oldest, (at_most - gone,)) if gone < at_most else []
                old = [place for place, row in enumerate(rows) if row[1] < before]
                if not old:
                    continue
                leaving = rows[: old[-1] + 1]
                gone += len(leaving)
                self._run(f"DELETE FROM {table} WHERE id <= ?", (leaving[-1][0],))
                links = [row[2] for row in leaving if row[2]]
                state = self._state(table) if links else None
                if state is not None:
                    state.anchor, state.pruned = links[-1], state.pruned + len(links)
                    state.pruned_at = before
                    self._keep(state)
                    heads[table] = state
            # A pseudonym is stored again once a day: none goes before its last login.
            for table, key, limit in (
                ("programs", ("user", "address", "program"), before),
                ("pseudonyms", ("pseudonym",), before - _DAY),
            ):
                if gone < at_most:
                    old_ones = self._run(
                        f"SELECT {listed(key)} FROM {table} WHERE time < ? LIMIT ?",
                        (limit, at_most - gone),
                    )
                    same = " AND ".join(f"{listed([name])} = ?" for name in key)
                    for row in old_ones:
                        self._run(f"DELETE FROM {table} WHERE {same}", row)
                    gone += len(old_ones)
        self._export(heads)
        return gone

    # -- looking -----------------------------------------------------------

    def kept(self) -> tuple[int | None, int | None]:
        """Return the times of the first and the last login, None without any.  Raises StoreError."""
        # Asked for together, they would be looked for in every row.
        sql = "SELECT (SELECT min(time) FROM logins), (SELECT max(time) FROM logins)"
        ((first, last),) = self.ask(sql)
        return first, last

    def states(self) -> dict[str, ChainState]:
        """Return the ends of the chains, as the store has them.  Raises StoreError."""
        rows = self.query(f"SELECT {listed(_STATE)} FROM chains")
        return {state.name: state for state in (ChainState(*row) for row in rows)}
