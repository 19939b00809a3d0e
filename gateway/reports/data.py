"""Reports for programs: JSON, CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from .report import Column, Report
from .words import iso

#: What spreadsheets take for the begin of a formula.  Names that clients give may begin with it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_json(report: Report) -> str:
    """Return a report as one JSON object, times as ISO 8601 in UTC."""
    told = {
        "report": report.name,
        "made": iso(report.made),
        "since": iso(report.since),
        "until": iso(report.until),
        "selected": report.selected,
        "figures": {one.name: _value(one.value, one.kind) for one in report.figures},
        "charts": {
            chart.name: [
                {"time": iso(begin), **{name: counts[place] for name, _, counts in chart.series}}
                for place, begin in enumerate(chart.begins)
            ]
            for chart in report.charts
        },
        **{one.name: [row_object(one.columns, row) for row in one.rows] for one in report.sections},
        "notes": list(report.notes),
    }
    return json.dumps(told, indent=2) + "\n"


def row_object(columns: Sequence[Column], row: Sequence[Any]) -> dict[str, Any]:
    """Return a row as what JSON can hold."""
    return {column.name: _value(value, column.kind) for column, value in zip(columns, row, strict=True)}


def as_csv(report: Report, section: str = "") -> str:
    """Return one table (the first if unnamed) as CSV (RFC 4180).  Raises KeyError."""
    tables = {one.name: one for one in report.sections}
    table = tables[section] if section else report.sections[0]
    kept = io.StringIO()
    writer = csv.writer(kept)
    writer.writerow([column.name for column in table.columns])
    writer.writerows(csv_row(table.columns, row) for row in table.rows)
    return kept.getvalue()


def csv_row(columns: Sequence[Column], row: Sequence[Any]) -> list[Any]:
    """Return the cells of a row, none of which a spreadsheet takes for a formula."""
    cells = [_value(value, column.kind) for column, value in zip(columns, row, strict=True)]
    return [f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell for cell in cells]


def _value(value: Any, kind: str) -> Any:
    if kind == "time":
        return iso(value)
    return round(value, 6) if kind == "share" else value
