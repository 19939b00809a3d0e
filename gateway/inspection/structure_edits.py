"""Splices that change what parts a message has: replaced, taken away, put in, enclosed.

Each function returns the splices of one change, or None where it can't be made.
"""

from __future__ import annotations

from .defects import LIMIT_DEFECTS
from .enclosing_edits import HEADER_CUT, make_multipart
from .field_edits import begins_line, change_fields, closing_line, eol_of, root_of
from .new_parts import can_stand, encode_notice, entity, leaf_fields, line_end_behind, named, structured_field
from .part import IDENTITY_ENCODINGS, Part
from .rendering import Splice
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


def replace_content(
    part: Part, content: bytes, content_type: str | None, filename: str | None
) -> list[Splice] | None:
    """Give a leaf other content, encoded as before if that can be, else in base64."""
    if part.children or part.is_multipart or HEADER_CUT & set(part.defects):
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
        # What a stranger wrote may be no type, and can't be written again.
        own = part.content_type if can_stand(part.content_type) else "application/octet-stream"
        fields["content-type"] = structured_field("Content-Type", content_type or own, parameters, eol)
    if filename is not None:
        word = part.disposition if part.disposition and can_stand(part.disposition) else "attachment"
        fields["content-disposition"] = structured_field("Content-Disposition", word, named(filename), eol)
    splices = change_fields(part, fields, eol, body=bool(data))
    return [*splices, Splice(part.body_start, part.end, data, depth=part.depth), *closing_line(part, eol)]


def replace_by_notice(part: Part, text: str, filename: str) -> list[Splice] | None:
    """Put a text in place of a part and all that is in it."""
    eol = eol_of(root_of(part))
    boundaries = boundaries_around(part)
    encoding, data = encode_notice(text, eol, boundaries)
    fields = leaf_fields("text/plain", encoding, filename, not filename, eol, {"charset": "utf-8"})
    if part.parent is not None and part.parent.is_multipart:
        header = b"".join(field + eol for field in fields.values())
        if not begins_line(part, part.start):
            header = eol + header
        return [
            Splice(part.start, part.end, header + eol + data, depth=part.depth, swallows=True),
            *closing_line(part, eol),
        ]
    if HEADER_CUT & set(part.defects):
        return None
    names = tuple({field.name for field in part.fields if field.name.startswith("content-")})
    if part.get("mime-version") is None:
        fields["mime-version"] = b"MIME-Version: 1.0"
    splices = change_fields(part, fields, eol, dropped=names, body=True)
    body = Splice(part.body_start, part.end, data, depth=part.depth + 1, swallows=True)
    return [*splices, body]


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
        empty = lead + b"Content-Type: text/plain" + eol + eol
        return [
            Splice(part.start, part.end, empty, depth=part.depth, swallows=True),
            *closing_line(part, eol),
        ]
    behind = _next_line(part)
    if behind is not None:
        return [Splice(line, behind, b"", depth=part.depth, swallows=True)]
    final = b"--" + parent.boundary + b"--"
    final = final + eol if part.end == len(part.buffer) else final
    return [Splice(line, part.end, final, depth=part.depth, swallows=True)]


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
        return make_multipart(place, content, content_type, filename, inline, first, eol)
    new = entity(content, content_type, filename, inline, eol, boundaries_around(place))
    delimiter = b"--" + parent.boundary
    if first:
        line = _delimiter_line(place)
        return [Splice(line, line, delimiter + eol + new + eol, depth=parent.depth)]
    behind = _next_line(place)
    if behind is not None:
        return [Splice(behind, behind, delimiter + eol + new + eol, depth=parent.depth)]
    new = line_end_behind(place, eol) + delimiter + eol + new
    return [Splice(place.end, place.end, new, depth=parent.depth)]


# -- pieces ----------------------------------------------------------------------


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


def _ends_line(part: Part) -> bool:
    return part.buffer[max(part.body_start, part.end - 1) : part.end] == b"\n"
