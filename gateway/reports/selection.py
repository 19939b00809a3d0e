"""Which logins a report is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..core.users import normalised

if TYPE_CHECKING:
    from ..audit.sql import SqlStore

#: Beyond this share of all records a scan in the index's order is faster than a look at each.
_WIDE = 0.2


@dataclass(frozen=True, slots=True)
class Selection:
    """A choice of logins.  What is empty chooses nothing; of several values any will do.

    since, until: in microseconds since the epoch, the first included, the last not.
    users: names, or patterns like ``*@example.org``.  networks: CIDR.
    """

    since: int | None = None
    until: int | None = None
    users: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    listeners: tuple[str, ...] = ()
    mechanisms: tuple[str, ...] = ()
    protections: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    exposed: bool = False

    def words(self) -> str:
        """Return what was chosen, the time excepted, as a reader is told."""
        told = [
            f"{name} {' or '.join(values)}"
            for name, values in (
                ("user", self.users),
                ("network", self.networks),
                ("protocol", self.protocols),
                ("listener", self.listeners),
                ("mechanism", self.mechanisms),
                ("protection", self.protections),
                ("outcome", self.outcomes),
            )
            if values
        ]
        return "; ".join([*told, *(["password exposed"] if self.exposed else [])])

    def condition(self, store: SqlStore, *, in_order: bool = False) -> tuple[str, list[Any]]:
        """Return a condition on ``logins``, with its parameters.  Raises StoreError.

        in_order: a plus sign keeps SQLite from choosing another index for a column, for the query
        wants rows in the order of one.
        """
        terms: list[str] = []
        parameters: list[Any] = []
        plus = "+" if in_order and store.dialect == "sqlite" else ""
        # From the index of times, too, where that would be slower.
        time = "+time" if self._is_wide(store) else "time"
        for value, term in ((self.since, f"{time} >= ?"), (self.until, f"{time} < ?")):
            if value is not None:
                terms.append(term)
                parameters.append(value)
        if self.exposed:
            terms.append(f"{plus}exposed = 1")
        for column, values in (
            ("protocol", self.protocols),
            ("listener", self.listeners),
            ("mechanism", tuple(one.upper() for one in self.mechanisms)),
            ("protection", self.protections),
            ("outcome", self.outcomes),
        ):
            if values:
                terms.append(f"{plus}{column} IN ({', '.join('?' * len(values))})")
                parameters += values
        for texts, each in (
            (self.users, [_user(one) for one in self.users]),
            (self.networks, [(store.within("address"), one) for one in self.networks]),
        ):
            if texts:
                terms.append("(" + " OR ".join(term for term, _ in each) + ")")
                parameters += [parameter for _, parameter in each]
        return " AND ".join(terms) or "1 = 1", parameters

    def _is_wide(self, store: SqlStore) -> bool:
        if self.since is None and self.until is None:
            return True
        first, last = store.kept()
        if first is None or last is None or last <= first:
            return True
        since, until = max(self.since or first, first), min(self.until or last, last)
        return bool((until - since) / (last - first) > _WIDE)


def _user(pattern: str) -> tuple[str, str]:
    name = normalised(pattern)
    if not set("*?") & set(name):
        return '"user" = ?', name
    for character in "\\%_":
        name = name.replace(character, "\\" + character)
    return "\"user\" LIKE ? ESCAPE '\\'", name.replace("*", "%").replace("?", "_")


def of_many(values: Sequence[str]) -> tuple[str, ...]:
    """Return values given one by one or with commas between them."""
    return tuple(part.strip() for value in values for part in value.split(",") if part.strip())
