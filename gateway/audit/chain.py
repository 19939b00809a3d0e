"""The hash chain over the records: who changes or takes away one, breaks it.

Each row's ``chain`` is the hash of the row before's and of the row itself: HMAC-SHA-256 with a key,
else SHA-256, which whoever can write to the store could compute anew.  The end of the chain is kept in the
table ``chains``, and in a file elsewhere (``chain_head``): only that shows a tail that was cut off
together with its end.  Pruning keeps the last value that went, the anchor, from which the rest goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .sql import SqlStore

_PAGE = 5000


@dataclass(slots=True)
class ChainState:
    """Where one table's chain begins and ends, in the order of the columns of ``chains``."""

    name: str
    head: str = ""  # of the newest record
    count: int = 0  # records ever chained
    anchor: str = ""  # of the newest record that was pruned
    pruned: int = 0
    pruned_at: int = 0  # what was older than this went; microseconds since the epoch
    seal: str = ""  # over all this


class Chain:
    """Computes the links.  key: of HMAC; b"" is plain SHA-256."""

    def __init__(self, key: bytes = b"") -> None:
        self._key = key

    def _hash(self, text: str) -> str:
        octets = text.encode("utf-8", "backslashreplace")
        if self._key:
            return hmac.digest(self._key, octets, "sha256").hex()
        return hashlib.sha256(octets).hexdigest()

    def link(self, before: str, table: str, row: tuple[Any, ...]) -> str:
        """Return the value of a row behind the value ``before``; "" begins the chain."""
        return self._hash(f"{table}\n{before}\n{json.dumps(row, separators=(',', ':'))}")

    def seal(self, state: ChainState) -> str:
        """Return what shows that nobody without the key has set a state."""
        told = (state.name, state.head, state.count, state.anchor, state.pruned, state.pruned_at)
        return self._hash("seal\n" + json.dumps(told))


class HeadFile:
    """The ends of the chains, in a file away from the store: JSON, put in place as a whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._told = False

    def write(self, heads: Mapping[str, ChainState]) -> None:
        """Write these ends, and keep the others.  Never raises: the first failure is told to the log."""
        try:
            known = self.read()
        except (OSError, ValueError):
            known = {}
        known.update(heads)
        fresh = self.path.with_name(self.path.name + ".new")
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                json.dump({name: asdict(state) for name, state in known.items()}, file)
            with contextlib.suppress(OSError):  # a command run by root leaves it its owner's
                there = self.path.stat()
                os.chown(fresh, there.st_uid, there.st_gid)
            fresh.replace(self.path)
            self._told = False
        except OSError as error:
            if not self._told:
                _log().error(
                    "audit chain head not kept", path=str(self.path), why=error.strerror or str(error)
                )
            self._told = True

    def compare(self, state: ChainState) -> None:
        """See whether a store has gone back behind what this file knows, before it is written over.

        If so, the file is kept under another name for ``verify``, and the log is told.  Never raises.
        """
        try:
            known = self.read().get(state.name)
        except (OSError, ValueError):
            return
        if (
            known is None
            or known.count < state.count
            or (known.count, known.head) == (state.count, state.head)
        ):
            return
        aside = self.path.with_name(f"{self.path.name}.{int(time.time())}")
        with contextlib.suppress(OSError):
            aside.write_bytes(self.path.read_bytes())
            aside.chmod(0o600)
        _log().error(
            "audit chain has gone back",
            table=state.name,
            known=known.count,
            there=state.count,
            kept=str(aside),
        )

    def read(self) -> dict[str, ChainState]:
        """Return the ends.  Raises OSError, ValueError."""
        try:
            found = json.loads(self.path.read_text())
            return {name: ChainState(**fields) for name, fields in found.items()}
        except FileNotFoundError:
            raise
        except (TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{self.path}: not the ends of a chain: {error}") from None


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a chain.  id: of the record where it shows; 0 where at none."""

    table: str
    id: int
    what: str

    def __str__(self) -> str:
        return f"{self.table}: record {self.id}: {self.what}" if self.id else f"{self.table}: {self.what}"


@dataclass(slots=True)
class Verified:
    """How far one table's chain was followed."""

    table: str
    records: int = 0
    unchained: int = 0  # from before the chain was switched on
    pruned: int = 0


def verify(
    store: SqlStore, chain: Chain, heads: Mapping[str, ChainState] | None = None, most: int = 20
) -> tuple[list[Verified], list[Finding]]:
    """Follow the chains of a store; return how far, and what is wrong: at most so many findings a table.

    heads: the ends as they were kept elsewhere.  Raises StoreError.
    """
    from .sql import CHAINED

    store.snapshot()
    states = store.states()
    walks, findings = [], []
    for table in CHAINED:
        walk = Verified(table)
        found = _walk(store, chain, walk, states.get(table), (heads or {}).get(table))
        for count, finding in enumerate(found):
            if count == most:
                findings.append(Finding(table, 0, "there is more that is wrong"))
                break
            findings.append(finding)
        walks.append(walk)
    return walks, findings


def _walk(
    store: SqlStore, chain: Chain, walk: Verified, state: ChainState | None, kept: ChainState | None
) -> Iterator[Finding]:
    table = walk.table
    if state is not None and not hmac.compare_digest(state.seal, chain.seal(state)):
        yield Finding(table, 0, "the seal of its ends is not this key's: they were changed, or the key was")
    before = state.anchor if state is not None else ""
    walk.pruned = position = state.pruned if state is not None else 0
    kept_seen = kept is None or (kept.count <= position)
    head_seen = state is None or state.count == position
    last = 0
    for ident, link, row in _rows(store, table):
        if not link:
            if walk.records:
                yield Finding(
                    table, ident, "is not chained: it was put there past the chain, or the chain was off"
                )
            else:
                walk.unchained += 1
            last = ident
            continue
        walk.records += 1
        position += 1
        right = chain.link(before, table, row)
        if link != right:
            missing = ident - last - 1 if last else 0
            if walk.records == 1 and state is not None and not walk.unchained:
                yield Finding(
                    table,
                    ident,
                    "does not follow on the anchor: records before it are missing, or it was changed",
                )
            elif missing > 0:
                position += missing
                yield Finding(table, ident, f"does not follow on record {last}: {missing} missing before it")
            else:
                yield Finding(
                    table, ident, "was changed, or put there, or what stood before it was taken away"
                )
        before, last = link, ident
        if kept is not None and position == kept.count:
            kept_seen = True
            if link != kept.head:
                yield Finding(
                    table, ident, "is not what the file of ends has at this place: the chain was written anew"
                )
        if state is not None and position == state.count:
            head_seen = True
            if link != state.head:
                yield Finding(table, ident, "is not the end that the store has noted")
    if state is None and kept is not None and kept.count:
        yield Finding(table, 0, f"has no chain, and had one of {kept.count} records")
    elif state is not None and (not head_seen or position < state.count):
        yield Finding(
            table, 0, f"its tail is cut off: {state.count - position} records are missing at the end"
        )
    elif not kept_seen and kept is not None:
        yield Finding(
            table, 0, f"its tail is cut off: the file of ends knows {kept.count} records, here are {position}"
        )
    if state is None and walk.records:
        yield Finding(table, 0, "the note of its ends is missing")


def _rows(store: SqlStore, table: str) -> Iterator[tuple[int, str, tuple[Any, ...]]]:
    from .sql import CHAINED, listed

    sql = f"SELECT id, chain, {listed(CHAINED[table])} FROM {table} WHERE id > ? ORDER BY id LIMIT ?"
    last = -(1 << 63)  # whoever hides a row below zero hides nothing
    while True:
        page = list(store.query(sql, (last, _PAGE)))
        for ident, link, *row in page:
            yield ident, link, tuple(row)
        if len(page) < _PAGE:
            return
        last = page[-1][0]


def _log() -> Any:
    import structlog  # takes a tenth of a second, and commands that only read have nothing to log

    return structlog.get_logger()


def read_key(path: Path) -> bytes:
    """Return a key: 32 octets and more, line ends at its end left out.  Raises ValueError."""
    try:
        key = path.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    if len(key) < 32:
        raise ValueError(f"{path}: a key has 32 octets or more: openssl rand -hex 32 > {path}")
    with contextlib.suppress(OSError):
        if path.stat().st_mode & 0o007:
            raise ValueError(f"{path}: others may read this key: chmod 600 {path}")
    return key
