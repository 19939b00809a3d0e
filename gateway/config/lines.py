"""Where in a TOML text a key stands: enough of a scanner to name a line."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""^\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*[A-Za-z0-9_-]+)*)\s*=""")

Path = tuple[str | int, ...]


def key_lines(text: str) -> dict[Path, int]:
    """Return the line of each table and key that stands at the start of a line.

    Keys within inline tables and arrays have no entry: their parent's line is near enough.
    """
    found: dict[Path, int] = {}
    counts: Counter[Path] = Counter()
    table: Path = ()
    for number, line in enumerate(text.splitlines(), 1):
        header = _HEADER.match(line)
        if header:
            names = [name.strip().strip("\"'") for name in header.group(2).split(".")]
            table = _resolve(names[:-1], counts)
            last = (*table, names[-1])
            if header.group(1) == "[[":
                table = (*last, counts[last])
                counts[last] += 1
                found.setdefault(last, number)
            else:
                table = last if not counts[last] else (*last, counts[last] - 1)
            found.setdefault(table, number)
            continue
        key = _KEY.match(line)
        if key:
            names = [name.strip().strip("\"'") for name in key.group(1).split(".")]
            for depth in range(1, len(names) + 1):
                found.setdefault((*table, *names[:depth]), number)
    return found


def _resolve(names: Sequence[str], counts: Counter[Path]) -> Path:
    """Return the path that a header's leading names mean: the last item of arrays of tables."""
    path: Path = ()
    for name in names:
        path = (*path, name)
        if counts[path]:
            path = (*path, counts[path] - 1)
    return path


def line_of(path: Sequence[str | int], lines: dict[Path, int]) -> int | None:
    """Return the line of a key, or of the nearest table around it."""
    key = tuple(path)
    while key:
        if key in lines:
            return lines[key]
        key = key[:-1]
    return None
