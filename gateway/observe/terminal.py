"""Writing for a person at a terminal: colour, symbols, columns, and numbers as people say them.

Colour is for a terminal only, and never where ``NO_COLOR`` is set (https://no-color.org).
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from typing import TextIO

from ..core.text import shown
from .levels import ERROR, WARNING

#: How wide a line is where nobody tells: in a pipe.
PLAIN_WIDTH = 140

_STYLES = {"dim": "2", "bold": "1", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}
_MARKS = {
    "ok": ("✓", "+"),
    "no": ("✗", "x"),
    "soft": ("~", "~"),
    "none": ("·", "."),
    "warn": ("▲", "!"),
    "mail": ("✉", "@"),
    "open": ("┌", ">"),
    "close": ("└", "<"),
    "key": ("●", "*"),
    "step": ("│", "|"),
}


class Palette:
    """Whether there is colour, whether there is more than ASCII, and whether lines must fit ``width``.

    ``fit`` is for terminals, where a longer line would break; absent, it follows ``colour``.
    """

    def __init__(
        self,
        colour: bool = False,
        symbols: bool = True,
        width: int = PLAIN_WIDTH,
        fit: bool | None = None,
    ) -> None:
        self.colour = colour
        self.fit = colour if fit is None else fit
        self.symbols = symbols
        self.width = width

    @classmethod
    def of(cls, stream: TextIO, environment: Mapping[str, str] | None = None) -> Palette:
        """Return what suits a stream: colour on a terminal, unless NO_COLOR or TERM forbids."""
        environment = os.environ if environment is None else environment
        terminal = stream.isatty()
        colour = terminal and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"
        symbols = (getattr(stream, "encoding", None) or "").lower().replace("-", "") == "utf8"
        width = shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns if terminal else PLAIN_WIDTH
        return cls(bool(colour), symbols, max(width, 80), terminal)

    def paint(self, text: str, style: str) -> str:
        if not self.colour or not style or not text:
            return text
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"

    def mark(self, name: str, style: str) -> str:
        return self.paint(_MARKS[name][0 if self.symbols else 1], style)

    def cell(self, text: str, width: int, style: str = "", right: bool = False) -> str:
        """Pad or cut a text to a width, then paint it."""
        if len(text) > width:
            more = "…" if self.symbols else "~"
            text = text[: max(width - 1, 0)] + more
        return self.paint(text.rjust(width) if right else text.ljust(width), style)


def octets(count: float) -> str:
    """Write a number of octets for a person: ``512 B``, ``1.4 KiB``, ``30.0 MiB``."""
    if count < 1024:
        return f"{int(count)} B"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if count < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} TiB"


def duration(seconds: float) -> str:
    """Write a duration for a person: ``0.4 ms``, ``41 ms``, ``1.2 s``, ``3m 07s``, ``2h 05m``."""
    if seconds < 0.01:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m {rest:02d}s" if minutes < 60 else f"{minutes // 60}h {minutes % 60:02d}m"


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def time_of_day(now: float) -> str:
    """Write the local time of day, as people at a terminal read it."""
    return time.strftime("%H:%M:%S", time.localtime(now)) + f".{int(now % 1 * 1000):03d}"


def own_line(palette: Palette, now: float, level: int, event: str, fields: Mapping[str, object]) -> str:
    """Write a line of the program's own log: ``event`` in words, then ``key=value``."""
    style = {WARNING: "yellow", ERROR: "red"}.get(level, "bold")
    stamp = palette.paint(time_of_day(now), "dim")
    words = palette.paint(shown(event.replace("_", " "), 200), style)
    pairs = [
        f"{palette.paint(key, 'cyan')}={shown(_plain(item), 4000)}"
        for key, item in fields.items()
        if item is not None and item != ""
    ]
    return "  ".join([stamp, " ".join([palette.paint("mailgate", "dim"), words, *pairs])]) + "\n"


def _plain(item: object) -> str:
    if isinstance(item, (list, tuple, set, frozenset)):
        return ",".join(str(entry) for entry in item)
    return str(item)
