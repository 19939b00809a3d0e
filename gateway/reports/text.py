"""Reports for a terminal: figures, sparklines, tables; plain lines of full width in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any, Literal

from .report import Chart, Column, Report, Section
from .words import day, period, told

if TYPE_CHECKING:
    from rich.console import Console

_STEPS = "▁▂▃▄▅▆▇█"
_COLOURS = {"": "cyan", "good": "green", "bad": "red"}
#: Cells of a sparkline; in a pipe, and at most.
_CELLS = 60
#: Values that deserve a colour wherever they stand.
_STYLES = {
    "exposed": "red",
    "none": "red",
    "failed": "yellow",
    "policy": "yellow",
    "locked": "yellow",
    "TLSv1": "red",
    "TLSv1.1": "red",
    "would-refuse": "yellow",
    "refused": "red",
    "alert": "red",
    "warning": "yellow",
}


def write(report: Report, file: IO[str] | None = None) -> None:
    """Write a report, to the terminal if no file is named.  Raises OSError."""
    from rich.console import Console

    wide = file is not None or not sys.stdout.isatty()
    show(Console(highlight=False, soft_wrap=False, file=file, width=500 if wide else None), report)


def show(console: Console, report: Report) -> None:
    """Print a report on a console of rich.  Raises OSError."""
    from rich.text import Text

    console.print(Text(report.title, style="bold"))
    console.print(Text(period(report) + (f"; {report.selected}" if report.selected else ""), style="dim"))
    for note in report.notes:
        console.print(Text(note, style="dim"))
    console.print()
    values = [told(one.value, one.kind) for one in report.figures]
    width = max(map(len, values), default=0)
    for one, value in zip(report.figures, values, strict=True):
        style = {"good": "bold green", "bad": "bold red"}.get(one.tone, "bold")
        console.print(Text.assemble((value.rjust(width), style), "  ", one.title))
    for chart in report.charts:
        _chart(console, chart)
    for section in report.sections:
        _section(console, section)


def _chart(console: Console, chart: Chart) -> None:
    from rich.text import Text

    shown = [one for one in chart.series if any(one[2])]
    title = f"{chart.title}, {day(chart.begins[0], chart.width)} to {day(chart.begins[-1], chart.width)}"
    console.print()
    console.print(Text(title, style="bold"))
    # Several spans a cell, if there are more spans than cells.
    each = -(-len(chart.begins) // _CELLS)
    names = max((len(name) for name, _, _ in shown), default=0)
    highest = 1
    lines = []
    for name, tone, counts in shown:
        sums = [sum(counts[place : place + each]) for place in range(0, len(counts), each)]
        lines.append((name, tone, sums, sum(counts)))
        highest = max(highest, *sums)
    ascii_only = (getattr(console.file, "encoding", None) or "utf-8").lower().replace("-", "") != "utf8"
    steps = ".:-=+*#@" if ascii_only else _STEPS
    for name, tone, sums, total in lines:
        line = "".join(steps[(count * len(steps) - 1) // highest] if count else " " for count in sums)
        console.print(
            Text.assemble(name.ljust(names), "  ", (line, _COLOURS[tone]), "  ", (f"{total:,}", "dim"))
        )


def _section(console: Console, section: Section) -> None:
    from rich.table import Table
    from rich.text import Text

    if not section.rows:
        return
    console.print()
    heading = Text(section.title, style="bold")
    if section.note:
        heading.append(f"  ({section.note})", style="dim")
    console.print(heading)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    columns, rows = section.for_people(details=False)
    for column in columns:
        text = column.kind == "text"
        justify: Literal["left", "right"] = "left" if column.kind in ("text", "time") else "right"
        table.add_column(column.title, justify=justify, overflow="fold", no_wrap=not text)
    for row in rows:
        table.add_row(*cells(columns, row))
    console.print(table)
    if section.total > len(section.rows):
        more = f"... and {section.total - len(section.rows):,} more (--limit 0 shows all)"
        console.print(Text(more, style="dim"))


def line(columns: Sequence[Column], row: Sequence[Any]) -> None:
    """Write one row as a line, as they come one by one.  What is empty is left out."""
    from rich.console import Console
    from rich.text import Text

    told = Text("  ").join(cell for cell in cells(columns, row) if cell.plain)
    Console(highlight=False, soft_wrap=True).print(told)


def cells(columns: Sequence[Column], row: Sequence[Any]) -> list[Any]:
    """Return a row as rich shows it."""
    from rich.text import Text

    return [
        Text(told(value, column.kind), style=_STYLES.get(value, "") if column.kind == "text" else "")
        for column, value in zip(columns, row, strict=True)
    ]
