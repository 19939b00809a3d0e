"""Writing a part that was not there: its header, its body, and boundaries around it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from .parameters import format_structured
from .part import Part
from .scan import Buffer, find
from .transfer import encode_base64, encode_quoted_printable, holds_delimiter, is_plain_lines, with_line_ends

_WINDOW = 1024 * 1024


def entity(
    content: bytes,
    content_type: str,
    filename: str,
    inline: bool,
    eol: bytes,
    boundaries: Sequence[bytes],
) -> bytes:
    """Return a new part: header, blank line, body."""
    if is_plain_lines(content, eol) and not holds_delimiter(content, boundaries):
        encoding, data = "7bit", content
    elif content_type.lower().startswith("text/"):
        encoding, data = "quoted-printable", encode_quoted_printable(content, eol)
    else:
        encoding, data = "base64", encode_base64(content, eol)
    fields = leaf_fields(content_type, encoding, filename, inline, eol, {})
    return b"".join(field + eol for field in fields.values()) + eol + data


def leaf_fields(
    content_type: str, encoding: str, filename: str, inline: bool, eol: bytes, parameters: dict[str, str]
) -> dict[str, bytes]:
    """Return the fields of a leaf, by lower-case name, each without its last line end."""
    if filename:
        parameters = {**parameters, "name": filename}
    return {
        "content-type": structured_field("Content-Type", content_type, parameters, eol),
        "content-transfer-encoding": b"Content-Transfer-Encoding: " + encoding.encode(),
        "content-disposition": structured_field(
            "Content-Disposition", "inline" if inline else "attachment", named(filename), eol
        ),
    }


def named(filename: str) -> dict[str, str]:
    """Return the parameters of a Content-Disposition."""
    return {"filename": filename} if filename else {}


def can_stand(value: str) -> bool:
    """Tell whether a type or a disposition can be written into a header."""
    return value.isascii() and value.isprintable()


def structured_field(name: str, value: str, parameters: dict[str, str], eol: bytes) -> bytes:
    """Return a field without its last line end.  Raises ValueError for a value that is none."""
    if not can_stand(value):
        raise ValueError(f"not a value of {name}: {value[:80]!r}")
    return format_structured(name, value, parameters, eol.decode()).encode("ascii", "replace")


def encode_notice(text: str, eol: bytes, boundaries: Sequence[bytes]) -> tuple[str, bytes]:
    """Return a text in UTF-8 as a body, and its transfer encoding before it."""
    octets = with_line_ends(text.encode("utf-8", "replace"), eol)
    if is_plain_lines(octets, eol) and not holds_delimiter(octets, boundaries):
        return "7bit", octets
    return "quoted-printable", encode_quoted_printable(octets, eol)


def line_end_behind(part: Part, eol: bytes) -> bytes:
    """Return the line end before a delimiter: none that a lone CR at the part's end would join."""
    return b"\r\n" if part.buffer[max(0, part.end - 1) : part.end] == b"\r" else eol


def new_boundary(buffer: Buffer, content: bytes) -> bytes:
    """Return a boundary that occurs nowhere in either; the same for the same octets.

    A message that is asked for twice, or in pieces, must come out the same each time.
    """
    seed = hashlib.sha256(content)
    for place in range(0, len(buffer), _WINDOW):
        seed.update(buffer[place : place + _WINDOW])
    counter = 0
    while True:
        digest = hashlib.sha256(seed.digest() + counter.to_bytes(4, "big")).hexdigest()
        boundary = b"=_" + digest[:32].encode()
        if find(buffer, boundary, 0, len(buffer)) < 0 and boundary not in content:
            return boundary
        counter += 1
