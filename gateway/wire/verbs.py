"""What may be a command's verb, whether it is known or not, and what no argument may hold."""

from __future__ import annotations

import re

#: Lest another program take it for the end of a line, or of a text.
_CONTROLS = bytes(code for code in range(32) if code != 9) + b"\x7f"
_VERB = re.compile(rb"[A-Za-z][A-Za-z0-9._-]*+\Z")


def is_verb(word: bytes) -> bool:
    """Tell whether every server reads a word as one verb: it has no blank, quote or control in it."""
    return _VERB.match(word) is not None


def has_controls(data: bytes) -> bool:
    """Tell whether data holds controls other than TAB."""
    return len(data.translate(None, _CONTROLS)) != len(data)
