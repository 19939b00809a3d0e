"""Splices that change what parts a message has: replaced, taken away, put in, enclosed.

Each function returns the splices of one change, or None where it can't be made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from .defects import LIMIT_DEFECTS, Defect
from .field_edits import Splice, begins_line, change_fields, eol_of, root_of
from .header_text import format_field
from .parameters import format_structured
from .parts import IDENTITY_ENCODINGS, Part
from .scan import Buffer, find
from .transfer import (
    boundaries_around,
    encode_base64,
    encode_quoted_printable,
    holds_delimiter,
    is_plain_lines,
    short_lines,
)

#: A delimiter line is no longer than this behind its boundary: see parts.
_LONGEST_LINE = 1000 + 200 * 1024
_WINDOW = 1024 * 1024
#: The fields that a notice about a message takes over from it.
_COPIED = frozenset(
    {
        "received",
        "return-path",
        "delivered-to",
        "x-original-to",
        "date",
        "from",
        "sender",
        "reply-to",
        "to",
        "cc",
        "message-id",
        "in-reply-to",
        "references",
        "subject",
        "auto-submitted",
    }
)
_HEADER_CUT = frozenset({Defect.HEADER_TOO_LONG, Defect.TOO_MANY_FIELDS})


def replace_content(
    part: Part, content: bytes, content_type: str | None, filename: str | None
) -> list[Splice] | None:
    """Give a leaf other content, encoded as before if that can be, else in base64."""
    if part.children or part.is_multipart or _HEADER_CUT & set(part.defects):
        return None
    eol = eol_of(root_of(part))
    fields: dict[str, bytes] = {}
    kept = part.transfer_encoding
    if kept in IDENTITY_ENCODINGS and is_plain_lines(content, eol):
        encoding, data = kept, content
    elif kept == "quoted-printable" and short_lines(content):
        encoding, data = kept, encode_quoted_printable(content, eol)
    else:
        encoding, data = "base64", encode_base64(content, eol)
    if encoding in IDENTITY_ENCODINGS and holds_delimiter(data, boundaries_around(part)):
        encoding, data = "base64", encode_base64(content, eol)
    if encoding != kept:
        fields["content-transfer-encoding"] = b"Content-Transfer-Encoding: " + encoding.encode()
    if encoding == "base64" and not _ends_line(part):
        data = data.removesuffix(eol)
    if content_type is not None or (filename is not None and "name" in part.parameters):
        parameters = {} if content_type is not None else dict(part.parameters)
        name = part.filename if filename is None else filename
        if name:
            parameters["name"] = name
        else:
            parameters.pop("name", None)
        fields["content-type"] = _structured(
            "Content-Type", content_type or part.content_type, parameters, eol
        )
    if filename is not None:
        word = part.disposition or "attachment"
        fields["content-disposition"] = _structured("Content-Disposition", word, _named(filename), eol)
    splices = change_fields(part, fields, eol, body=bool(data))
    return [*splices, (part.body_start, part.end, data)]


def replace_by_notice(part: Part, text: str, filename: str) -> list[Splice] | None:
    """Put a text in place of a part and all that is in it."""
    eol = eol_of(root_of(part))
    boundaries = boundaries_around(part)
    encoding, data = _encode_text(text, eol, boundaries)
    fields = _leaf_fields("text/plain", encoding, filename, not filename, eol, {"charset": "utf-8"})
    if part.parent is not None and part.parent.is_multipart:
        header = b"".join(field + eol for field in fields.values())
        if not begins_line(part, part.start):
            header = eol + header
        return [(part.start, part.end, header + eol + data)]
    if _HEADER_CUT & set(part.defects):
        return None
    names = tuple({field.name for field in part.fields if field.name.startswith("content-")})
    if part.get("mime-version") is None:
        fields["mime-version"] = b"MIME-Version: 1.0"
    splices = change_fields(part, fields, eol, dropped=names, body=True)
    return [*splices, (part.body_start, part.end, data)]


def remove_part(part: Part, last: bool) -> list[Splice] | None:
    """Take a part of a multipart away with its delimiter.

    last: no other part is left beside it, so an empty text stays in its place.
    """
    parent = part.parent
    if parent is None or not parent.is_multipart:
        return None
    eol = eol_of(root_of(part))
    line = _delimiter_line(part)
    if last:
        lead = b"" if part.buffer[part.start - 1 : part.start] == b"\n" else eol
        return [(part.start, part.end, lead + b"Content-Type: text/plain" + eol + eol)]
    behind = _next_line(part)
    if behind is not None:
        return [(line, behind, b"")]
    final = b"--" + parent.boundary + b"--"
    return [(line, part.end, final + eol if part.end == len(part.buffer) else final)]


def insert_part(
    root: Part,
    content: bytes,
    content_type: str,
    filename: str,
    inline: bool,
    first: bool,
    beside: Part | None,
) -> list[Splice] | None:
    """Put a new part before or behind another, or at the top of the message."""
    eol = eol_of(root)
    place = beside or root
    parent = place.parent
    if beside is None and _holds_parts(root):
        parent, place = root, root.children[0 if first else -1]
    if parent is None or not _holds_parts(parent) or (not first and LIMIT_DEFECTS & set(parent.defects)):
        return _make_multipart(place, content, content_type, filename, inline, first, eol)
    new = _entity(content, content_type, filename, inline, eol, boundaries_around(place))
    delimiter = b"--" + parent.boundary
    if first:
        line = _delimiter_line(place)
        return [(line, line, delimiter + eol + new + eol)]
    behind = _next_line(place)
    if behind is not None:
        return [(behind, behind, delimiter + eol + new + eol)]
    return [(place.end, place.end, _line_end_behind(place, eol) + delimiter + eol + new)]


def wrap(root: Part, text: str, subject: str | None) -> list[Splice]:
    """Enclose the whole message, as it stands, in another that begins with a text."""
    eol = eol_of(root)
    buffer = root.buffer
    boundary = new_boundary(buffer, text.encode("utf-8", "replace"))
    fields: list[bytes] = []
    for field in root.fields:
        if field.name in _COPIED and not (field.name == "subject" and subject is not None):
            raw = field.raw
            fields.append(raw if raw.endswith(b"\n") else raw + eol)
    if subject is not None:
        fields.append(format_field("Subject", subject, eol))
    eight_bit = not _is_ascii(buffer)
    fields.append(b"MIME-Version: 1.0" + eol)
    fields.append(_structured("Content-Type", "multipart/mixed", {"boundary": boundary.decode()}, eol) + eol)
    if eight_bit:
        fields.append(b"Content-Transfer-Encoding: 8bit" + eol)
    encoding, data = _encode_text(text, eol, (boundary,))
    notice = _leaf_fields("text/plain", encoding, "", True, eol, {"charset": "utf-8"})
    lines = [b"", b"--" + boundary, *notice.values(), b"", data]
    lines += [b"--" + boundary, b"Content-Type: message/rfc822"]
    lines += [b"Content-Disposition: attachment; filename=message.eml"]
    lines += [b"Content-Transfer-Encoding: 8bit"] if eight_bit else []
    head = b"".join(fields) + eol.join(lines) + eol + eol
    return [
        (0, 0, head),
        (len(buffer), len(buffer), _line_end_behind(root, eol) + b"--" + boundary + b"--" + eol),
    ]


def new_boundary(buffer: Buffer, content: bytes) -> bytes:
    """Return a boundary that occurs nowhere in either; the same for the same octets.

    A message that is asked for twice, or in pieces, must come out the same each time.
    """
    seed = hashlib.sha256(content)
    for place in range(0, len(buffer), _WINDOW):
        seed.update(buffer[place : place + _WINDOW])
    counter = 0
    while True:
        boundary = (
            b"=_" + hashlib.sha256(seed.digest() + counter.to_bytes(4, "big")).hexdigest()[:32].encode()
        )
        if find(buffer, boundary, 0, len(buffer)) < 0 and boundary not in content:
            return boundary
        counter += 1


# -- pieces ----------------------------------------------------------------------


def _make_multipart(
    part: Part, content: bytes, content_type: str, filename: str, inline: bool, first: bool, eol: bytes
) -> list[Splice] | None:
    """Make a multipart/mixed of a part, in which it stands beside the new one."""
    if _HEADER_CUT & set(part.defects):
        return None
    boundary = new_boundary(part.buffer, content)
    moved = [field for field in part.fields if field.name.startswith("content-")]
    inner = b"".join(raw if raw.endswith(b"\n") else raw + eol for raw in (field.raw for field in moved))
    if part.get("content-type") is None and part.content_type != "text/plain":
        inner = b"Content-Type: " + part.content_type.encode() + eol + inner
    kind = _structured("Content-Type", "multipart/mixed", {"boundary": boundary.decode()}, eol)
    fields = {"content-type": kind}
    if part.transfer_encoding in ("8bit", "binary"):
        fields["content-transfer-encoding"] = b"Content-Transfer-Encoding: " + part.transfer_encoding.encode()
    top = part.parent is None or not part.parent.is_multipart
    if top and part.get("mime-version") is None:
        fields["mime-version"] = b"MIME-Version: 1.0"
    names = tuple({field.name for field in moved})
    new = _entity(content, content_type, filename, inline, eol, (boundary, *boundaries_around(part)))
    delimiter = b"--" + boundary
    head = delimiter + eol
    tail = _line_end_behind(part, eol) + delimiter
    if first:
        head += new + eol + delimiter + eol
    else:
        tail += eol + new + eol + delimiter
    tail += b"--" + (eol if part.end == len(part.buffer) else b"")
    return [
        *change_fields(part, fields, eol, dropped=names, body=True),
        (part.body_start, part.body_start, head + inner + eol),
        (part.end, part.end, tail),
    ]


def _entity(
    content: bytes,
    content_type: str,
    filename: str,
    inline: bool,
    eol: bytes,
    boundaries: Iterator[bytes] | tuple[bytes, ...] | list[bytes],
) -> bytes:
    """Return a new part: header, blank line, body."""
    boundaries = tuple(boundaries)
    if is_plain_lines(content, eol) and not holds_delimiter(content, boundaries):
        encoding, data = "7bit", content
    elif content_type.lower().startswith("text/"):
        encoding, data = "quoted-printable", encode_quoted_printable(content, eol)
    else:
        encoding, data = "base64", encode_base64(content, eol)
    fields = _leaf_fields(content_type, encoding, filename, inline, eol, {})
    return b"".join(field + eol for field in fields.values()) + eol + data


def _leaf_fields(
    content_type: str, encoding: str, filename: str, inline: bool, eol: bytes, parameters: dict[str, str]
) -> dict[str, bytes]:
    if filename:
        parameters = {**parameters, "name": filename}
    return {
        "content-type": _structured("Content-Type", content_type, parameters, eol),
        "content-transfer-encoding": b"Content-Transfer-Encoding: " + encoding.encode(),
        "content-disposition": _structured(
            "Content-Disposition", "inline" if inline else "attachment", _named(filename), eol
        ),
    }


def _named(filename: str) -> dict[str, str]:
    return {"filename": filename} if filename else {}


def _structured(name: str, value: str, parameters: dict[str, str], eol: bytes) -> bytes:
    if not value.isascii() or not value.isprintable():
        raise ValueError(f"not a value of {name}: {value[:80]!r}")
    return format_structured(name, value, parameters, eol.decode()).encode("ascii", "replace")


def _encode_text(text: str, eol: bytes, boundaries: tuple[bytes, ...] | list[bytes]) -> tuple[str, bytes]:
    octets = text.encode("utf-8", "replace").replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", eol)
    if is_plain_lines(octets, eol) and not holds_delimiter(octets, boundaries):
        return "7bit", octets
    return "quoted-printable", encode_quoted_printable(octets, eol)


def _holds_parts(part: Part) -> bool:
    """Tell whether a part can get another one as it is."""
    return part.content_type == "multipart/mixed" and bool(part.children)


def _delimiter_line(part: Part) -> int:
    """Return the offset of the delimiter line that a part stands behind."""
    buffer = part.buffer
    floor = max(0, part.start - _LONGEST_LINE)
    ended = buffer[part.start - 1 : part.start] == b"\n"
    return buffer.rfind(b"\n", floor, part.start - 1 if ended else part.start) + 1


def _next_line(part: Part) -> int | None:
    """Return the offset of the delimiter line behind a part, or None if there is none."""
    parent = part.parent
    assert parent is not None
    buffer = part.buffer
    delimiter = b"--" + parent.boundary
    for width in (0, 1, 2):  # a part without any octet has no line end before its delimiter
        line = part.end + width
        if (
            line < parent.end
            and buffer[line : line + len(delimiter)] == delimiter
            and begins_line(part, line)
        ):
            return line
    return None


def _line_end_behind(part: Part, eol: bytes) -> bytes:
    """Return the line end before a delimiter: none that a lone CR at the part's end would join."""
    return b"\r\n" if part.buffer[max(0, part.end - 1) : part.end] == b"\r" else eol


def _ends_line(part: Part) -> bool:
    return part.buffer[max(part.body_start, part.end - 1) : part.end] == b"\n"


def _is_ascii(buffer: Buffer) -> bool:
    return all(buffer[at : at + _WINDOW].isascii() for at in range(0, len(buffer), _WINDOW))
