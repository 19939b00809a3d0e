"""Regular expressions that an admin writes, run by RE2: in linear time on any text."""

from __future__ import annotations

from typing import Any


def compile_expression(pattern: str) -> Any:
    """Return a compiled expression with the interface of :mod:`re`.

    Raises ValueError, in words for an admin, for an expression that RE2 does not take (it has
    no back-references and no look-around), and where it is not installed (the extra ``regex``).
    """
    try:
        import re2
    except ImportError:
        raise ValueError("patterns need google-re2: install mailgate[regex]") from None
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        told = error.args[0] if error.args else ""
        text = told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told)
        raise ValueError(f"no expression that RE2 takes: {text}") from None
