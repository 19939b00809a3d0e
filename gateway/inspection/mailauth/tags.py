"""Lists of tags: "v=1; a=rsa-sha256; ..." (RFC 6376 3.2), as DKIM, ARC and DMARC write them."""

from __future__ import annotations

import base64
import binascii
import re

#: A longer field or record is not read, octets.
LARGEST_FIELD = 64 * 1024
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*+\Z")
_BLANKS = str.maketrans("", "", " \t\r\n")


class BadTags(ValueError):
    """No list of tags, or a tag has no value that it may have."""


def read_tags(raw: bytes) -> dict[str, str]:
    """Return the tags with their values, blanks around them away.  Raises BadTags."""
    if len(raw) > LARGEST_FIELD:
        raise BadTags("field too long")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise BadTags("not UTF-8") from None
    found: dict[str, str] = {}
    pieces = text.split(";")
    for place, piece in enumerate(pieces):
        name, equals, value = piece.partition("=")
        name = name.strip(" \t\r\n")
        if not equals:
            if name or (place < len(pieces) - 1 and place):
                raise BadTags("a tag without a value")
            continue
        if _NAME.match(name) is None:
            raise BadTags("a tag without a name")
        if name in found:
            raise BadTags(f"the tag {name}= twice")  # RFC 6376 3.2
        found[name] = value.strip(" \t\r\n")
    return found


def without_blanks(value: str) -> str:
    """Return a value without the blanks and folds that may stand within it."""
    return value.translate(_BLANKS)


def decode_base64(value: str, name: str) -> bytes:
    """Return what base64 of a tag stands for.  Raises BadTags."""
    try:
        return base64.b64decode(without_blanks(value).encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise BadTags(f"{name}= is no base64") from None


def read_number(value: str, name: str) -> int:
    """Return the number of a tag, of at most 19 digits.  Raises BadTags."""
    if not (value.isascii() and value.isdigit() and len(value) < 20):
        raise BadTags(f"{name}= is no number")
    return int(value)


def without_signature(raw: bytes) -> bytes:
    """Return a field with the value of its tag b= taken away, blanks around it too (RFC 6376 3.7)."""
    head, colon, rest = raw.partition(b":")
    pieces = rest.split(b";")
    for place, piece in enumerate(pieces):
        name, equals, _ = piece.partition(b"=")
        if equals and name.strip(b" \t\r\n") == b"b":
            # A line end that closes the field is no part of the value.
            pieces[place] = name + equals
            break
    return head + colon + b";".join(pieces)
