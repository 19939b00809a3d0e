"""What is wrong with the encoding of a body: found in linear time, and only when asked for."""

from __future__ import annotations

import re

from . import charsets
from .defects import Defect

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_OTHERS = bytes(set(range(256)) - set(_ALPHABET))
_BLANKS = (b" ", b"\t", b"\r", b"\n")
_NOT_ENCODED = re.compile(rb"=(?![0-9A-Fa-f]{2}|[ \t]{0,998}\r?\n|[ \t]{0,998}\Z)")
_LONE_CR = re.compile(rb"=\r(?!\n|\Z)")


def base64_defects(raw: bytes) -> list[Defect]:
    """Return what is wrong with a base64 body (RFC 2045 6.8)."""
    found: list[Defect] = []
    clean = raw.translate(None, _OTHERS)
    _, _, rest = clean.partition(b"=")
    if rest.strip(b"="):
        found.append(Defect.BASE64_AFTER_PADDING)
    elif len(clean) % 4 or len(rest) > 1:
        found.append(Defect.BASE64_LENGTH)
    if len(raw) - len(clean) != sum(map(raw.count, _BLANKS)):
        found.append(Defect.BASE64_GARBAGE)
    return found


def quoted_printable_defects(raw: bytes) -> list[Defect]:
    """Return what is wrong with a quoted-printable body (RFC 2045 6.7)."""
    found: list[Defect] = []
    if _LONE_CR.search(raw):
        found.append(Defect.QUOTED_LONE_CR)
    if _NOT_ENCODED.search(raw):
        found.append(Defect.BAD_QUOTED_PRINTABLE)
    return found


def charset_defects(content: bytes, charset: str) -> list[Defect]:
    """Return what is wrong with the declared charset of a text."""
    codec = charsets.codec_of(charset or "us-ascii")
    if codec is None:
        return [Defect.BAD_CHARSET]
    if codec == "utf_7":
        return [Defect.ODD_CHARSET]
    unmarked = codec in ("utf_16", "utf_32") and not charsets.without_mark(content, codec)[1]
    if unmarked and content:
        return [Defect.ODD_CHARSET]
    if codec.startswith("utf_16") and not charset.startswith("utf"):  # a name of it that few know
        return [Defect.ODD_CHARSET]
    if codec == "ascii":
        return [] if content.isascii() else [Defect.BAD_CHARSET]
    try:
        content.decode(codec)
    except (UnicodeError, ValueError):
        return [Defect.BAD_CHARSET]
    return []
