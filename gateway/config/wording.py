"""What the model found, in the admin's words: never a text of pydantic's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from ..core.wording import did_you_mean, in_words
from ..inspection.models import model_at, table_of
from .errors import Problem
from .lines import line_of
from .model import Configuration

Path = tuple[str | int, ...]

#: A name of a listener, an upstream, a policy.
_NAME = "may hold letters, digits, '.', '-' and '_' only, up to 63, no sign first"


def problem(details: Mapping[str, Any], lines: dict[Path, int]) -> Problem:
    """Put one of pydantic's errors into words."""
    path: Path = details["loc"]
    kind, given = details["type"], details["input"]
    message, suggestion = in_words(details), ""
    if kind == "extra_forbidden":
        message = f'unknown key "{path[-1]}"'
        suggestion = _about_key(path)
    elif kind == "missing":
        message = f'"{path[-1]}" is missing'
        path = path[:-1]
    elif kind == "literal_error":
        expected = details["ctx"]["expected"]
        choices = [word.strip("' ") for word in expected.replace(" or ", ",").split(",")]
        suggestion = did_you_mean(str(given), choices)
    elif kind == "string_pattern_mismatch":
        message = _NAME
    elif kind == "tuple_type" and isinstance(given, dict):
        suggestion = f"write [[{'.'.join(str(step) for step in path)}]]"
    elif kind == "tuple_type":
        suggestion = "write it in brackets: [ ]"
    return Problem(dotted(path), message or "can't be used", line_of(path, lines), suggestion)


def dotted(path: Sequence[str | int]) -> str:
    """Write a path as ``listeners[2].tls.mode``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text


def _about_key(path: Path) -> str:
    """Say what an unknown key may have been meant to be, or where it belongs."""
    name = str(path[-1])
    known = list(model_at(Configuration, path[:-1]).model_fields)
    table = tuple(step for step in path[:-1] if isinstance(step, str))
    homes = [home for home, model in _tables() if name in model.model_fields]
    inside = [home for home in homes if home[: len(table)] == table]
    homes = inside or homes
    if len(homes) == 1:
        return f"it belongs in {_header(homes[0])}" if homes[0] else "it belongs at the top of the file"
    return did_you_mean(name, known) or f"known here: {', '.join(sorted(known))}"


def _header(table: tuple[str, ...]) -> str:
    several = len(table) == 1 and table[0] in ("upstreams", "listeners", "plugins", "transcripts")
    return f"[[{table[0]}]]" if several else f"[{'.'.join(table)}]"


def _tables(
    model: type[BaseModel] = Configuration, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], type[BaseModel]]]:
    yield path, model
    for name, field in model.model_fields.items():
        inner = table_of(field.annotation)
        if inner is not None:
            yield from _tables(inner, (*path, name))
