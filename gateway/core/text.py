"""Making strings of strangers safe to show: in a log, on a terminal, in a page."""

from __future__ import annotations

import re

#: How much of a command or reply is shown, in characters.
SHOWN_LIMIT = 200

_UNSAFE = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069\\ufeff\\ud800-\\udfff]"
)


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def shown(data: bytes | str, limit: int = SHOWN_LIMIT) -> str:
    """Return text that can be shown anywhere on one line.

    Trailing line ends go, controls (terminal escapes, line breaks, bidirectional overrides)
    are escaped, octets that are no UTF-8 are escaped, and what passes ``limit`` characters
    is cut, with a mark that says how much is missing.
    """
    if isinstance(data, (bytes, bytearray)):
        if len(data) > 4 * limit:
            total = len(data)
            text = bytes(data[: 4 * limit]).decode("utf-8", "backslashreplace")
        else:
            text = data.decode("utf-8", "backslashreplace")
            total = len(text)
    else:
        text = data
        total = len(text)
    text = text.rstrip("\r\n")
    if not text.isprintable():
        text = _UNSAFE.sub(_escape, text)
    if len(text) > limit:
        return f"{text[:limit]}…(+{total - limit})"
    return text
