"""Reading a configuration: every error at once, each with its path, line and a suggestion."""

from __future__ import annotations

import datetime
import os
import pwd
import re
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .checks import check
from .errors import ConfigurationError, Problem
from .lines import key_lines, line_of
from .mending import is_certain, mend
from .model import Configuration
from .wording import dotted, problem

Where = tuple[str | int, ...]
Lines = dict[Where, int]

_DAY = re.compile(r"(?<![\w-])\d{4}-\d{2}-\d{2}(?![\w-])", re.ASCII)
#: What helps against tomllib's messages.
_HINTS = {
    "Invalid value": "text needs quotes",
    "Cannot overwrite a value": "this key is set already; a second table of a kind begins with its own [[ ]]",
    "Cannot declare": "this table is there already",
    "Unbalanced quotes": 'a text ends with the " that it began with',
    "Expected '=' after a key in a key/value pair": 'write it like: name = "value"',
}


def read(path: Path) -> Configuration:
    """Read and check a file.  Raises ConfigurationError with all that is wrong.

    Warnings are no errors: :func:`examine` tells them too.
    """
    configuration, found = examine(path)
    errors = [problem for problem in found if not problem.warning]
    if errors or configuration is None:
        raise ConfigurationError(errors)
    return configuration


def examine(path: Path) -> tuple[Configuration | None, list[Problem]]:
    """Read a file; return what it says (None if it can't be used) and every problem and warning."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None, [Problem("", f"no such file: {path}", None, "`mailgate init` writes an example")]
    except PermissionError:
        user = pwd.getpwuid(os.geteuid()).pw_name
        return None, [Problem("", f"can't be read by the user {user}: {path}")]
    except OSError as error:
        return None, [Problem("", f"can't read {path}: {error.strerror}")]
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        return None, [Problem("", "not UTF-8, as TOML must be", line)]
    return examine_text(text, path.resolve().parent)


def examine_text(text: str, directory: Path) -> tuple[Configuration | None, list[Problem]]:
    """The same for a text; ``directory``: what relative paths are relative to."""
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # of which TOMLDecodeError is one
        return None, [_syntax_problem(error, text)]
    lines = key_lines(text)
    context = {"directory": directory}
    try:
        configuration = Configuration.model_validate(tables, context=context)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        told = [fault for fault in faults if not _says_nothing_new(fault, faults)]
        problems = [problem(fault, lines) for fault in told]
        return None, _in_order(problems + _what_else(tables, told, context, lines))
    return configuration, _in_order(_found(configuration, lines))


def _found(configuration: Configuration, lines: Lines, replaced: Iterable[Where] = ()) -> list[Problem]:
    """Return what the checks find, but for what comes of a replaced value."""
    return [
        Problem(dotted(where), message, line_of(where, lines), suggestion, warning)
        for where, message, suggestion, warning in check(configuration)
        if is_certain(where, replaced)
    ]


def _what_else(
    tables: dict[str, Any], faults: Sequence[Any], context: dict[str, Any], lines: Lines
) -> list[Problem]:
    """Return what the checks find in a file that has other faults."""
    try:
        mended, replaced = mend(
            tables, [(fault["loc"], fault["type"] == "extra_forbidden") for fault in faults]
        )
        configuration = Configuration.model_validate(mended, context=context)
    except (LookupError, TypeError, AttributeError, ValidationError):
        return []  # too far gone: the faults themselves are told
    return _found(configuration, lines, replaced)


def _says_nothing_new(fault: Any, faults: Sequence[Any]) -> bool:
    """Tell whether a list is "too short" only because its items are wrong, which are told."""
    depth = len(fault["loc"])
    return fault["type"] == "too_short" and any(
        len(other["loc"]) > depth and other["loc"][:depth] == fault["loc"] for other in faults
    )


def _in_order(problems: Sequence[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda one: (one.line or 0, one.path))


def _impossible_day(lines: Sequence[str]) -> str:
    """Return what looks like a date and is none; "" where there is nothing of that kind."""
    for written in _DAY.findall("".join(lines)):
        try:
            datetime.date.fromisoformat(written)
        except ValueError:
            return str(written)
    return ""


def _syntax_problem(error: ValueError | RecursionError, text: str) -> Problem:
    """Put tomllib's message, which ends in "(at line 3, column 4)", into our form."""
    if isinstance(error, RecursionError):
        return Problem("", "not TOML: nested too deeply")
    if not isinstance(error, tomllib.TOMLDecodeError):
        return Problem("", "not TOML: a number that is too long")
    message = str(error)
    body, _, place = message.rpartition(" (at ")
    words = place.rstrip(")").replace(",", "").split()
    hint = _HINTS.get(body, "")
    if words[:1] == ["line"] and (day := _impossible_day(text.splitlines()[int(words[1]) - 1 :][:1])):
        body, hint = f"there is no day {day}", "write it like 2027-01-31"
    if words[:1] == ["line"]:
        return Problem("", f"not TOML: {body}", int(words[1]), hint)
    return Problem("", f"not TOML: {body or message}", text.count("\n") + 1, hint)
