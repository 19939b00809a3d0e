"""What is wrong with a value, in the admin's words: never a text of the library that checked it."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any

_PLAIN = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "dict_type": "must be a table",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "frozen_set_type": "must be a list",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "model_type": "must be a table",
    "path_type": "must be a path",
    "string_too_short": "must not be empty",
    "string_type": "must be a string",
    "too_short": "there must be at least one",
    "tuple_type": "must be a list",
}
#: pydantic's name of a bound, and what it is in words.
_BOUNDS = {
    "greater_than": ("gt", "must be more than {}"),
    "greater_than_equal": ("ge", "must be at least {}"),
    "less_than": ("lt", "must be less than {}"),
    "less_than_equal": ("le", "must be at most {}"),
    "string_too_long": ("max_length", "must be no longer than {} characters"),
    "too_long": ("max_length", "there may be {} at most"),
}


def in_words(details: Mapping[str, Any]) -> str:
    """Put one of pydantic's errors into words; "" of one that there are no words for."""
    kind, context = details["type"], details.get("ctx", {})
    if kind == "literal_error":
        return f"{_shown(details['input'])} is not one of {context['expected']}"
    if kind == "value_error":
        return str(context["error"])
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return words.format(context[name])
    return _PLAIN.get(kind, "")


def did_you_mean(given: str, known: Collection[str]) -> str:
    """Suggest what was meant, or ""."""
    near = difflib.get_close_matches(given, known, 1)
    return f'did you mean "{near[0]}"?' if near else ""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
