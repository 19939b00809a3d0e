"""Reports for a terminal: figures, sparklines, tables; plain lines of full width in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any, Literal

from .report import Chart, Column, Report, Section
from .words import day, period, told

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_STEPS = "▁▂▃▄▅▆▇█"
_COLOURS = {"": "cyan", "good": "green", "bad": "red"}
#: Cells of a sparkline; in a pipe, and at most.
_CELLS = 60
#: To fewer characters no column of text is folded: rows are then shown below each other.
_NARROWEST = 16
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
    columns, rows = section.for_people(details=False)
    shown = [cells(columns, row) for row in rows]
    widths = [
        max(len(column.title), *(len(row[place].plain) for row in shown))
        for place, column in enumerate(columns)
    ]
    least = [
        min(width, _NARROWEST) if column.kind == "text" else width
        for width, column in zip(widths, columns, strict=True)
    ]
    if sum(least) + 2 * len(least) > console.width:
        _one_by_one(console, columns, shown)
    else:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for column, width in zip(columns, least, strict=True):
            justify: Literal["left", "right"] = "left" if column.kind in ("text", "time") else "right"
            table.add_column(column.title, justify=justify, overflow="fold", min_width=width)
        for row in shown:
            table.add_row(*row)
        console.print(table)
    if section.total > len(section.rows):
        more = f"... and {section.total - len(section.rows):,} more (--limit 0 shows all)"
        console.print(Text(more, style="dim"))


def _one_by_one(console: Console, columns: Sequence[Column], rows: Sequence[Sequence[Text]]) -> None:
    """Print rows below each other, where they are too wide for columns."""
    from rich.text import Text

    width = max(len(column.title) for column in columns[1:])
    for row in rows:
        console.print(Text.assemble((row[0].plain, "bold")))
        for column, cell in zip(columns[1:], row[1:], strict=True):
            if cell.plain:
                console.print(Text.assemble("  ", (column.title.ljust(width), "dim"), "  ", cell))


class Lines:
    """Writes rows as they come one by one; a column is as wide as what it has had."""

    def __init__(self, columns: Sequence[Column]) -> None:
        from rich.console import Console
        from rich.text import Text

        self._columns = columns
        self._console = Console(highlight=False, soft_wrap=True)
        self._widths = [0] * len(columns)
        self._print([Text(column.title, style="dim") for column in columns])

    def write(self, row: Sequence[Any]) -> None:
        """Write one row; "-" stands for what is empty."""
        from rich.text import Text

        self._print([cell if cell.plain else Text("-", style="dim") for cell in cells(self._columns, row)])

    def _print(self, shown: list[Text]) -> None:
        from rich.text import Text

        for place, cell in enumerate(shown):
            self._widths[place] = max(self._widths[place], len(cell.plain))
            cell.pad_right(self._widths[place] - len(cell.plain))
        line = Text("  ").join(shown)
        line.rstrip()
        self._console.print(line)


def cells(columns: Sequence[Column], row: Sequence[Any]) -> list[Text]:
    """Return a row as rich shows it."""
    from rich.text import Text

    return [
        Text(told(value, column.kind), style=_STYLES.get(value, "") if column.kind == "text" else "")
        for column, value in zip(columns, row, strict=True)
    ]
