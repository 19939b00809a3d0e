"""The schema's numbered steps: which there are, and which of them a store still needs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from itertools import groupby
from operator import itemgetter

from .store import StoreError

#: Keeps which steps were taken; made by the store itself before the first.
VERSIONS = "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT PRIMARY KEY, applied BIGINT NOT NULL)"


@cache
def steps() -> tuple[tuple[int, str, str], ...]:
    """Return the numbers, dialects and texts of the steps, in their order.

    A file ``0003_reports.sqlite.sql`` is of one dialect only; "" is of all.
    """
    found = []
    for file in (files(__package__) / "migrations").iterdir():
        if name := re.fullmatch(r"(\d{4})_\w+(?:\.(\w+))?\.sql", file.name):
            found.append((int(name[1]), name[2] or "", file.read_text()))
    return tuple(sorted(found))


def newest() -> int:
    """Return the version that this program writes and reads."""
    return steps()[-1][0]


def pending(version: int, dialect: str, id_type: str) -> Iterator[tuple[int, list[str]]]:
    """Give what a store of a version still needs: each step's number and statements.

    dialect: "sqlite", "postgres".  id_type: what makes an automatic key in it.
    """
    for number, group in groupby(steps(), itemgetter(0)):
        if number > version:
            text = "".join(text for _, only, text in group if only in ("", dialect))
            plain = re.sub(r"^\s*--.*$", "", text, flags=re.MULTILINE).replace("{id}", id_type)
            yield number, [one.strip() for one in plain.split(";") if one.strip()]


def refuse_newer(name: str, version: int) -> None:
    """Raise StoreError for a store that a newer program has written."""
    if version > newest():
        raise StoreError(
            f"{name}: its schema is version {version}, this mailgate knows {newest()}: "
            "a newer mailgate has written it; upgrade this one"
        )


def refuse_older(name: str, version: int) -> None:
    """Raise StoreError for a store that must be brought up to date before it is read."""
    if version < newest():
        raise StoreError(
            f"{name}: its schema is version {version}, this mailgate reads {newest()}: "
            "start the gateway once, it brings the schema up to date"
        )
