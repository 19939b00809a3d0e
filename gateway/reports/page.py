"""Reports as one HTML page that needs nothing else: it can be sent by mail, printed, and kept."""

from __future__ import annotations

from functools import cache
from html import escape
from importlib.resources import files

from .chart import svg
from .report import Figure, Report, Section
from .words import clock, period, told

#: Nothing is fetched and nothing runs, whatever a client's name may hold.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


@cache
def _style() -> str:
    return (files(__package__) / "page.css").read_text()


def as_html(report: Report) -> str:
    """Return a report as an HTML page."""
    notes = "".join(f"<p>{escape(note)}</p>" for note in report.notes)
    selected = f"<p>{escape(report.selected)}</p>" if report.selected else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(report.title)} - mailgate</title><style>{_style()}</style></head>\n<body>"
        f"<h1>{escape(report.title)}</h1><p>{escape(period(report))}</p>{selected}{notes}\n"
        f'<ul class="figures">{"".join(map(_figure, report.figures))}</ul>\n'
        + "\n".join(map(svg, report.charts))
        + "\n".join(map(_section, report.sections))
        + f"<footer>mailgate, {escape(clock(report.made))}. Days of charts are UTC.</footer></body></html>\n"
    )


def _figure(one: Figure) -> str:
    css = f' class="{one.tone or one.kind}"'
    return f"<li{css}><b>{escape(told(one.value, one.kind))}</b>{escape(one.title)}</li>"


def _section(section: Section) -> str:
    if not section.rows:
        return ""
    columns, rows = section.for_people(details=True)
    heads = "".join(f"<th{_class(column.kind)}>{escape(column.title)}</th>" for column in columns)
    lines = []
    for row in rows:
        cells = []
        for column, value in zip(columns, row, strict=True):
            text = escape(told(value, column.kind))
            if column.kind == "share":
                cells.append(f'<td class="n share" style="--share: {value:.1%}">{text}</td>')
            else:
                cells.append(f"<td{_class(column.kind)}>{text}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    note = f"<p>{escape(section.note)}</p>" if section.note else ""
    more = section.total - len(section.rows)
    rest = f"<p>... and {more:,} more</p>" if more > 0 else ""
    return (
        f'<section><h2>{escape(section.title)}</h2>{note}<div class="table"><table>'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>{chr(10).join(lines)}</tbody></table></div>{rest}</section>"
    )


def _class(kind: str) -> str:
    return {"count": ' class="n"', "share": ' class="n"', "time": ' class="t"'}.get(kind, "")
