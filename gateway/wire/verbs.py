"""What may be a command's verb, whether it is known or not."""

from __future__ import annotations

import re

_VERB = re.compile(rb"[A-Za-z][A-Za-z0-9._-]*+\Z")


def is_verb(word: bytes) -> bool:
    """Tell whether every server reads a word as one verb: it has no blank, quote or control in it."""
    return _VERB.match(word) is not None
