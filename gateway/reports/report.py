"""What a report is, whatever shows it: figures, charts over time, and tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

#: "count", "text"; "share" 0 to 1; "time" in microseconds since the epoch.
Kind = Literal["text", "count", "share", "time"]
Tone = Literal["", "good", "bad"]
#: What a chart tells apart: values of a column ("*" is every other), with their names and tones.
Series = tuple[tuple[str, str, Tone], ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """One number that says it all.  name: in JSON."""

    name: str
    title: str
    value: float
    kind: Kind = "count"
    tone: Tone = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """Counts over time, stacked.

    begins: of each span, in microseconds since the epoch.  width: of a span, in microseconds.
    series: a name, its tone, and a count for each span.
    """

    name: str
    title: str
    begins: Sequence[int]
    width: int
    series: Sequence[tuple[str, Tone, Sequence[int]]]


@dataclass(frozen=True, slots=True)
class Column:
    """A column.  name: in JSON and CSV.  detail: a terminal, which has little room, does without it."""

    name: str
    title: str
    kind: Kind = "text"
    detail: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A table.  total: how many rows there are, those left out included."""

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    total: int = 0
    note: str = ""

    def for_people(self, *, details: bool) -> tuple[list[Column], list[list[Any]]]:
        """Return columns and rows without what is empty in every row; details: with columns of detail."""
        kept = [
            place
            for place, column in enumerate(self.columns)
            if (details or not column.detail) and any(row[place] != "" for row in self.rows)
        ]
        return [self.columns[place] for place in kept], [[row[place] for place in kept] for row in self.rows]


@dataclass(frozen=True, slots=True)
class Report:
    """An answer.

    since, until: in microseconds since the epoch; None is from the first record, and until now.
    selected: what else the records were chosen by, in words.
    sections: the first is the answer; what follows explains it.
    """

    name: str
    title: str
    made: int
    since: int | None
    until: int | None
    selected: str
    figures: Sequence[Figure] = ()
    charts: Sequence[Chart] = ()
    sections: Sequence[Section] = field(default_factory=list)
    notes: Sequence[str] = ()


def section(
    name: str,
    title: str,
    columns: Sequence[Column],
    rows: Sequence[Sequence[Any]],
    limit: int,
    note: str = "",
) -> Section:
    """Return a table of at most so many rows; 0 is no limit."""
    return Section(name, title, columns, rows[:limit] if limit else rows, len(rows), note)


def some(names: Sequence[str], most: int = 3) -> str:
    """Return names as one cell: the first few, and how many more there are."""
    told = ", ".join(names[:most])
    return f"{told}, {len(names) - most} more" if len(names) > most else told
