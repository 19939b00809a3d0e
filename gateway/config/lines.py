"""Where in a TOML text a key stands, inline tables and the items of arrays included.

A scanner, no parser: tomllib has read the text before, so that only what decides about places
(strings, brackets, comments) need be told apart.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Sequence

_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*"{3,5}' r"|'''(?:[^']|'(?!''))*'{3,5}" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}\n#]*")

Path = tuple[str | int, ...]


def key_lines(text: str) -> dict[Path, int]:
    """Return the line, from 1, of each table, key and item of an array.

    text: what tomllib has accepted.  Of anything else whatever was found before the fault.
    """
    scanner = _Scanner(text)
    try:
        scanner.scan()
    except (_Lost, RecursionError):
        pass
    return scanner.found


class _Lost(Exception):
    """The scanner met what can't stand there."""


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text.replace("\r\n", "\n")
        self.found: dict[Path, int] = {}
        self._at = 0
        self._line, self._counted = 1, 0
        self._items: Counter[Path] = Counter()  # how many items each array of tables has so far

    def scan(self) -> None:
        table: Path = ()
        while self._next():
            if self._take("["):
                table = self._header()
            else:
                self._pair(table)

    def _next(self) -> str:
        """Skip blanks, line ends and comments; return the character there, "" at the end."""
        blank = _BLANK.match(self.text, self._at)
        assert blank is not None  # it matches nothing, too
        self._at = blank.end()
        return self.text[self._at : self._at + 1]

    def _take(self, mark: str) -> bool:
        if self._next() != mark:
            return False
        self._at += 1
        return True

    def _note(self, path: Path) -> None:
        self._line += self.text.count("\n", self._counted, self._at)
        self._counted = self._at
        self.found.setdefault(path, self._line)

    def _header(self) -> Path:
        several = self._take("[")
        *names, last = self._names()
        path: Path = ()
        for name in names:
            self._note((*path, name))
            path = self._newest((*path, name))
        path = (*path, last)
        self._note(path)
        if several:
            self._items[path] += 1
        path = self._newest(path)
        self._note(path)
        while self._take("]"):
            pass
        return path

    def _newest(self, path: Path) -> Path:
        """Return the last item of an array of tables; else the path itself."""
        return (*path, self._items[path] - 1) if path in self._items else path

    def _names(self) -> list[str]:
        """Read a dotted key."""
        names: list[str] = []
        while not names or self._take("."):
            self._next()
            bare = _BARE.match(self.text, self._at)
            quoted = bare or _STRING.match(self.text, self._at)
            if quoted is None:
                raise _Lost
            self._at = quoted.end()
            name = quoted.group()
            names.append(name if bare else tomllib.loads(f"name = {name}")["name"])
        return names

    def _pair(self, table: Path) -> None:
        self._next()
        start = table
        self._note(start)
        for name in self._names():
            start = (*start, name)
            self._note(start)
        if not self._take("="):
            raise _Lost
        self._value(start)

    def _value(self, path: Path) -> None:
        mark = self._next()
        if mark == "[":
            self._at += 1
            index = 0
            while not self._take("]"):
                self._note((*path, index))
                self._value((*path, index))
                self._take(",")
                index += 1
        elif mark == "{":
            self._at += 1
            while not self._take("}"):
                self._pair(path)
                self._take(",")
        else:
            scalar = _STRING.match(self.text, self._at) or _SCALAR.match(self.text, self._at)
            if scalar is None or scalar.end() == self._at:
                raise _Lost
            self._at = scalar.end()


def line_of(path: Sequence[str | int], lines: dict[Path, int]) -> int | None:
    """Return the line of a key, or of the nearest table around it."""
    key = tuple(path)
    while key:
        if key in lines:
            return lines[key]
        key = key[:-1]
    return None
