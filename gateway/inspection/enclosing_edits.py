"""Splices that put something around a part, or around the whole message."""

from __future__ import annotations

from collections.abc import Sequence

from .defects import Defect
from .field_edits import change_fields, closing_line, eol_of
from .fields import Field
from .header_text import format_field
from .new_parts import encode_notice, entity, leaf_fields, line_end_behind, new_boundary, structured_field
from .part import Part
from .rendering import Rank, Splice
from .scan import Buffer
from .transfer import boundaries_around

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
HEADER_CUT = frozenset({Defect.HEADER_TOO_LONG, Defect.TOO_MANY_FIELDS})


def wrap(root: Part, text: str, subject: str | None, added: Sequence[tuple[str, str]] = ()) -> list[Splice]:
    """Enclose the whole message, as it stands, in another that begins with a text."""
    eol = eol_of(root)
    buffer = root.buffer
    boundary = new_boundary(buffer, text.encode("utf-8", "replace"))
    fields = [format_field(name, value, eol) for name, value in added]
    for field in root.fields:
        if field.name in _COPIED and not (field.name == "subject" and subject is not None):
            fields.append(_copy(field, eol))
    if subject is not None:
        fields.append(format_field("Subject", subject, eol))
    eight_bit = not _is_ascii(buffer)
    fields.append(b"MIME-Version: 1.0" + eol)
    fields.append(
        structured_field("Content-Type", "multipart/mixed", {"boundary": boundary.decode()}, eol) + eol
    )
    if eight_bit:
        fields.append(b"Content-Transfer-Encoding: 8bit" + eol)
    encoding, data = encode_notice(text, eol, (boundary,))
    notice = leaf_fields("text/plain", encoding, "", True, eol, {"charset": "utf-8"})
    lines = [b"", b"--" + boundary, *notice.values(), b"", data]
    lines += [b"--" + boundary, b"Content-Type: message/rfc822"]
    lines += [b"Content-Disposition: attachment; filename=message.eml"]
    lines += [b"Content-Transfer-Encoding: 8bit"] if eight_bit else []
    head = b"".join(fields) + eol.join(lines) + eol + eol
    tail = line_end_behind(root, eol) + b"--" + boundary + b"--" + eol
    size = len(buffer)
    return [Splice(0, 0, head, Rank.OPENING, -1), Splice(size, size, tail, Rank.CLOSING, -1)]


def make_multipart(
    part: Part, content: bytes, content_type: str, filename: str, inline: bool, first: bool, eol: bytes
) -> list[Splice] | None:
    """Make a multipart/mixed of a part, in which it stands beside the new one."""
    if HEADER_CUT & set(part.defects):
        return None
    boundary = new_boundary(part.buffer, content)
    moved = [field for field in part.fields if field.name.startswith("content-")]
    inner = b"".join(raw if raw.endswith(b"\n") else raw + eol for raw in (field.raw for field in moved))
    if part.get("content-type") is None and part.content_type != "text/plain":
        inner = b"Content-Type: " + part.content_type.encode() + eol + inner
    kind = structured_field("Content-Type", "multipart/mixed", {"boundary": boundary.decode()}, eol)
    fields = {"content-type": kind}
    if part.transfer_encoding in ("8bit", "binary"):
        fields["content-transfer-encoding"] = b"Content-Transfer-Encoding: " + part.transfer_encoding.encode()
    top = part.parent is None or not part.parent.is_multipart
    if top and part.get("mime-version") is None:
        fields["mime-version"] = b"MIME-Version: 1.0"
    names = tuple({field.name for field in moved})
    new = entity(content, content_type, filename, inline, eol, (boundary, *boundaries_around(part)))
    delimiter = b"--" + boundary
    head = delimiter + eol
    tail = line_end_behind(part, eol) + delimiter
    if first:
        head += new + eol + delimiter + eol
    else:
        tail += eol + new + eol + delimiter
    tail += b"--" + (eol if part.end == len(part.buffer) else b"")
    return [
        *change_fields(part, fields, eol, dropped=names, body=True),
        Splice(part.body_start, part.body_start, head + inner + eol, Rank.OPENING, part.depth),
        Splice(part.end, part.end, tail, Rank.CLOSING, part.depth),
        *closing_line(part, eol),
    ]


def _copy(field: Field, eol: bytes) -> bytes:
    """Return a field as it stands, or written anew if it holds what no header may."""
    raw = field.raw
    if not raw.endswith(b"\n"):
        raw += eol
    bare = raw.replace(b"\r\n", b"\n")
    if b"\0" in bare or b"\r" in bare or any(not line.strip() for line in bare.split(b"\n")[:-1]):
        return format_field(field.name.title(), field.value, eol)
    return bare.replace(b"\n", eol)


def _is_ascii(buffer: Buffer) -> bool:
    return all(buffer[at : at + _WINDOW].isascii() for at in range(0, len(buffer), _WINDOW))
