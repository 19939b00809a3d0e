"""Reading a configuration: every error at once, each with its path, line and a suggestion."""

from __future__ import annotations

import difflib
import os
import pwd
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from .checks import check
from .errors import ConfigurationError, Problem
from .lines import key_lines, line_of
from .model import Configuration


def read(path: Path) -> Configuration:
    """Read and check a file.  Raises ConfigurationError with all that is wrong.

    Warnings are no errors: :func:`problems` tells them too.
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
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        return None, [Problem("", "not UTF-8, as TOML must be", line)]
    return examine_text(text, path.resolve().parent)


def examine_text(text: str, directory: Path) -> tuple[Configuration | None, list[Problem]]:
    """The same for a text; ``directory``: what relative paths are relative to."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return None, [_syntax_problem(str(error), text)]
    lines = key_lines(text)
    try:
        configuration = Configuration.model_validate(tables, context={"directory": directory})
    except ValidationError as error:
        found_errors = error.errors(include_url=False)
        problems = [
            _problem(details, lines)
            for details in found_errors
            # A list whose items are all wrong counts as empty too: that says nothing new.
            if details["type"] != "too_short" or not any(_is_within(one, details) for one in found_errors)
        ]
        return None, _in_order(problems)
    found = [
        Problem(dotted(where), message, line_of(where, lines), suggestion, warning)
        for where, message, suggestion, warning in check(configuration)
    ]
    return configuration, _in_order(found)


def _in_order(problems: Sequence[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda problem: (problem.line or 0, problem.path))


def _syntax_problem(message: str, text: str) -> Problem:
    """Put tomllib's message, which ends in "(at line 3, column 4)", into our form."""
    body, _, place = message.rpartition(" (at ")
    words = place.rstrip(")").replace(",", "").split()
    if words[:1] == ["line"]:
        return Problem("", f"not TOML: {body}", int(words[1]))
    return Problem("", f"not TOML: {body or message}", text.count("\n") + 1)


def dotted(path: Sequence[str | int]) -> str:
    """Write a path as ``listeners[2].tls.mode``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text


def _is_within(inner: Any, outer: Any) -> bool:
    depth = len(outer["loc"])
    return len(inner["loc"]) > depth and inner["loc"][:depth] == outer["loc"]


def _problem(details: Any, lines: dict[Any, int]) -> Problem:
    """Put one of pydantic's errors into the admin's words."""
    path = [
        step
        for step in details["loc"]
        if not (isinstance(step, str) and step.startswith(("function-", "union")))
    ]
    kind, context = details["type"], details.get("ctx", {})
    suggestion = ""
    if kind == "extra_forbidden":
        known = _fields_at(path[:-1])
        near = difflib.get_close_matches(str(path[-1]), known, 1)
        message = f'unknown key "{path[-1]}"'
        suggestion = f'did you mean "{near[0]}"?' if near else f"known here: {', '.join(sorted(known))}"
    elif kind == "missing":
        message = "is missing"
        path, name = path[:-1], path[-1]
        message = f'"{name}" is missing'
    elif kind in ("literal_error", "enum"):
        given = details["input"]
        message = f"{given!r} is not one of {context['expected']}"
        choices = [word.strip("' ") for word in context["expected"].replace(" or ", ",").split(",")]
        near = difflib.get_close_matches(str(given), choices, 1)
        suggestion = f'did you mean "{near[0]}"?' if near else ""
    elif kind == "value_error":
        message = str(context.get("error", details["msg"]))
    elif kind == "too_short":
        message = "there must be at least one"
    elif kind == "string_pattern_mismatch":
        message = f"{details['input']!r} may hold letters, digits, '.', '-' and '_' only"
    else:
        message = details["msg"][:1].lower() + details["msg"][1:]
    return Problem(dotted(path), message, line_of(path, lines), suggestion)


def _fields_at(path: Sequence[str | int]) -> list[str]:
    """Return the keys that the table at a path may have."""
    model: type[BaseModel] = Configuration
    for step in path:
        if isinstance(step, int):
            continue
        field = model.model_fields.get(str(step))
        if field is None:
            return []
        inner = _table_of(field.annotation)
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _table_of(annotation: Any) -> type[BaseModel] | None:
    """Find the model within ``tuple[Model, ...]``, ``Model | None`` and the like."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _table_of(argument)
        if found is not None:
            return found
    return None
