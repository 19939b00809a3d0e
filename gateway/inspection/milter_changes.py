"""What a milter wants to be changed in a message, as edits of it."""

from __future__ import annotations

from collections.abc import Iterable

from .edits import Edits
from .field_edits import begins_line, eol_of
from .fields import Field
from .milter_protocol import AddField, ChangeField, InsertField
from .part import Part
from .rendering import Edit

#: A field that stays, or the octets of one that comes.
_Entry = Field | bytes


def lay_in_milter_changes(
    edits: Edits,
    root: Part,
    fields: Iterable[AddField | InsertField | ChangeField],
    body: bytes | None,
    leading_space: bool,
) -> None:
    """Add to the edits of a message what a milter wants, in its order, as one change.

    Added fields go behind all others.  The index of an inserted one counts all fields from 0,
    that of a changed one those of its name from 1, each as the changes before it have left
    them.  A field that is not there is added; to delete it does nothing.
    body: put in place of the old one; None leaves it.
    leading_space: the values bring the blank behind the colon along.
    """
    eol = eol_of(root)
    entries: list[_Entry] = list(root.fields)
    for change in fields:
        _make(change, entries, leading_space, eol)
    found = _gaps(root, entries, body is not None, eol)
    if body is not None:
        if eol == b"\n":
            body = body.replace(b"\r\n", eol)
        found.append((root.body_start, root.end, body))
    for start, end, data in found:
        if root.buffer[start:end] != data:
            edits.put(Edit(start, end, data, group=1))


def _make(
    change: AddField | InsertField | ChangeField, entries: list[_Entry], leading_space: bool, eol: bytes
) -> None:
    data = _written(change.name, change.value, leading_space, eol)
    if isinstance(change, AddField):
        entries.append(data)
    elif isinstance(change, InsertField):
        entries.insert(change.index, data)
    else:
        name = change.name.lower()
        same = [place for place, entry in enumerate(entries) if _name_of(entry) == name]
        index = max(change.index, 1) - 1  # mail servers take 0 for 1
        if index < len(same):
            entries[same[index] : same[index] + 1] = [data] if change.value else []
        elif change.value:
            entries.append(data)


def _name_of(entry: _Entry) -> bytes:
    return entry.name.encode() if isinstance(entry, Field) else entry.partition(b":")[0].lower()


def _written(name: bytes, value: bytes, leading_space: bool, eol: bytes) -> bytes:
    """Return a whole field: its lines end as the message's do, and none begins another field."""
    first, *others = value.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    lines = [name + (b":" if leading_space else b": ") + first]
    lines += [one if one[:1] in (b" ", b"\t") else b"\t" + one for one in others if one.strip()]
    return eol.join(lines) + eol


def _gaps(root: Part, entries: list[_Entry], new_body: bool, eol: bytes) -> list[tuple[int, int, bytes]]:
    """Return what is to stand between the fields that stay: from, to, octets."""
    found: list[tuple[int, int, bytes]] = []
    place = root.fields[0].start if root.fields else root.header_end
    pending: list[bytes] = []
    for entry in entries:
        if isinstance(entry, Field):
            found.append((place, entry.start, b"".join(pending)))
            place, pending = entry.end, []
        else:
            pending.append(entry)
    lead = tail = b""
    if root.header_end == root.body_start and (new_body or (pending and not root.fields)):
        tail = eol  # there is no blank line that would end the header
    if (pending or tail) and not begins_line(root, place):
        lead = eol
    found.append((place, root.header_end, lead + b"".join(pending) + tail))
    return [one for one in found if one[0] != one[1] or one[2]]
