"""From a path or a URL to a store."""

from __future__ import annotations

from pathlib import Path

from .chain import Chain, HeadFile
from .sql import SqlStore


def is_url(where: str) -> bool:
    """Tell whether a database server is meant, and not a file."""
    return where.startswith(("postgresql://", "postgres://"))


def store_of(
    where: str | Path,
    *,
    read_only: bool = False,
    chain: Chain | None = None,
    head_file: HeadFile | None = None,
) -> SqlStore:
    """Return the store of a path (SQLite) or a URL (PostgreSQL), not open yet.  Raises ValueError.

    read_only: for commands that report; nothing is made, and the schema must be there.
    """
    if is_url(str(where)):
        from .postgres import PostgresStore

        return PostgresStore(str(where), read_only=read_only, chain=chain, head_file=head_file)
    from .sqlite import SqliteStore

    return SqliteStore(Path(where), read_only=read_only, chain=chain, head_file=head_file)
