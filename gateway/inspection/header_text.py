"""Writing a header field: no control survives, nothing is longer than a line may be."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

from .words import encode_words

#: RFC 5322 2.1.1: a line should be no longer than this, its line end not counted.
LINE = 78
_LONGEST_WORD = 900
_CONTROLS = re.compile(
    "[\\x00-\\x20\\x7f-\\xa0\\u2028\\u2029\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069\\ufeff]+"
)
_SURROGATES = re.compile("[\\ud800-\\udfff]")
_NAME = re.compile(r"[!-9;-~]{1,76}")


def is_field_name(name: str) -> bool:
    """Tell whether it may name a field: printable ASCII without the colon (RFC 5322 3.6.8)."""
    return _NAME.fullmatch(name) is not None


def format_field(name: str, value: str, eol: bytes = b"\r\n") -> bytes:
    """Return a whole unstructured field, line end included.

    Line breaks and other controls in the value become a blank, so it can't begin another
    field; what is no printable ASCII becomes encoded words (RFC 2047); it is folded at 78.
    Raises ValueError for a name that is none.
    """
    if not is_field_name(name):
        raise ValueError(f"not a header field name: {name[:80]!r}")
    words = [word for word in _CONTROLS.sub(" ", _SURROGATES.sub("?", value)).split(" ") if word]
    if any(not word.isascii() or "=?" in word or len(word) > _LONGEST_WORD for word in words):
        words = encode_words(" ".join(words))
    lines = [f"{name}:"]
    for word in words:
        if len(lines[-1]) + 1 + len(word) > LINE and lines != [f"{name}:"]:
            lines.append("")
        lines[-1] += f" {word}"
    return eol.join(line.encode("ascii") for line in lines) + eol


def _checked_name(name: str) -> str:
    if not is_field_name(name):
        raise ValueError("must be a header field name: printable ASCII without blank and colon")
    return name


#: For an option that names a header field.
FieldName = Annotated[str, AfterValidator(_checked_name)]
