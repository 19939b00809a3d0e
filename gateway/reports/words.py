"""Values as people and programs read them."""

from __future__ import annotations

import datetime
from typing import Any

from .report import Kind, Report


def told(value: Any, kind: Kind) -> str:
    """Return a value for a person, times in the machine's own time zone."""
    if kind == "count":
        return f"{value:,}"
    if kind == "share":
        return share(value)
    if kind == "time":
        return clock(value) if value else "never"
    return str(value)


def share(value: float) -> str:
    """Return a share in per cent, of which something that is there is never 0, and not all never 100."""
    if 0 < value < 0.001:
        return "< 0.1 %"
    return f"{min(value, 0.999) if value < 1 else value:.{0 if value in (0, 1) else 1}%}".replace("%", " %")


def clock(at: int) -> str:
    """Return a time in the machine's own time zone."""
    return datetime.datetime.fromtimestamp(at // 1_000_000).strftime("%Y-%m-%d %H:%M:%S")


def day(at: int, width: int) -> str:
    """Return the begin of a span (UTC), as exact as its width asks for."""
    form = "%Y-%m-%d" if width >= 86400 * 1_000_000 else "%Y-%m-%d %H:%M"
    return datetime.datetime.fromtimestamp(at // 1_000_000, datetime.UTC).strftime(form)


def iso(at: int | None) -> str | None:
    """Return a time as ISO 8601 in UTC; None of none."""
    if not at:
        return None
    time = datetime.datetime.fromtimestamp(at // 1_000_000, datetime.UTC).replace(microsecond=at % 1_000_000)
    return time.isoformat().replace("+00:00", "Z")


def period(report: Report) -> str:
    """Return what time a report is about."""
    since = clock(report.since) if report.since is not None else "the first record"
    until = clock(report.until) if report.until is not None else "now"
    return f"from {since} to {until}"
