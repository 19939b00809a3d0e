"""The attachments of Outlook's container, winmail.dat ([MS-OXTNEF]), in linear time."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from .words import as_text

# Attributes (2.1.3).
_ATTACH_REND_DATA = 0x00069002  # an attachment begins
_ATTACH_TITLE = 0x00018010
_ATTACH_DATA = 0x0006800F
_ATTACHMENT = 0x00069005  # its MAPI properties
#: Properties: short, long, display and transport name.
_NAMES = (0x3704, 0x3707, 0x3001, 0x370C)
_DATA = 0x3701
#: Octets of a value by the type of the property ([MS-OXCDATA] 2.11.1).
_SIZES = {0x02: 2, 0x03: 4, 0x04: 4, 0x05: 8, 0x06: 8, 0x07: 8, 0x0A: 4, 0x0B: 2, 0x14: 8, 0x40: 8, 0x48: 16}
_OBJECT, _STRING, _UNICODE, _BINARY = 0x0D, 0x1E, 0x1F, 0x102
_MANY = 0x1000


@dataclass(slots=True)
class Enclosed:
    """One attachment: every name and every content that it has, each once, in order.

    broken: not all of it could be read.
    """

    names: dict[str, None] = field(default_factory=dict)
    contents: dict[bytes, None] = field(default_factory=dict)
    broken: bool = False


def attachments(content: bytes) -> Iterator[Enclosed]:
    """Give the attachments; never fails."""
    place = 6
    one: Enclosed | None = None
    while place + 9 <= len(content):
        attribute, size = struct.unpack_from("<II", content, place + 1)
        body = content[place + 9 : place + 9 + size]
        place += 9 + size + 2
        if attribute not in (_ATTACH_REND_DATA, _ATTACH_TITLE, _ATTACH_DATA, _ATTACHMENT):
            if len(body) < size:
                one = one or Enclosed()
                one.broken = True
            continue
        if one is not None and attribute == _ATTACH_REND_DATA:
            yield one
            one = None
        one = one or Enclosed()
        one.broken |= len(body) < size
        if attribute == _ATTACH_TITLE:
            _take_name(one, as_text(body))
        elif attribute == _ATTACH_DATA:
            one.contents[body] = None
        elif attribute == _ATTACHMENT:
            try:
                _read_properties(body, one)
            except (struct.error, ValueError):
                one.broken = True
    if one is not None:
        yield one


def _take_name(one: Enclosed, name: str) -> None:
    name = name.rstrip("\0")
    if name:
        one.names[name] = None


def _read_properties(body: bytes, one: Enclosed) -> None:
    """Read names and content of MAPI properties (2.1.3.4)."""
    (count,) = struct.unpack_from("<I", body)
    place = 4
    for _ in range(count):
        kind, identity = struct.unpack_from("<HH", body, place)
        place += 4
        if identity >= 0x8000:  # a named one: a set, and a number or a name
            by_name, size = struct.unpack_from("<II", body, place + 16)
            place += 24 + (_padded(size) if by_name else 0)
        single = kind & ~_MANY
        if single in _SIZES:
            values = 1
            if kind & _MANY:
                (values,) = struct.unpack_from("<I", body, place)
                place += 4
            place += _padded(_SIZES[single] * values)
        elif single in (_OBJECT, _STRING, _UNICODE, _BINARY):
            (values,) = struct.unpack_from("<I", body, place)
            place += 4
            for _ in range(values):
                (size,) = struct.unpack_from("<I", body, place)
                _take_value(single, identity, body[place + 4 : place + 4 + size], one)
                place += 4 + _padded(size)
                _check_within(place, body)
        else:
            raise ValueError("a property of no known type")
        _check_within(place, body)


def _padded(size: int) -> int:
    return size + (-size % 4)


def _check_within(place: int, body: bytes) -> None:
    if place > len(body):
        raise ValueError("a property goes beyond the end")


def _take_value(kind: int, identity: int, value: bytes, one: Enclosed) -> None:
    if identity == _DATA and kind in (_OBJECT, _BINARY):
        one.contents[value[16:] if kind == _OBJECT else value] = None  # behind the object's interface
    elif identity in _NAMES and kind == _UNICODE:
        _take_name(one, value.decode("utf-16-le", "replace"))
    elif identity in _NAMES and kind == _STRING:
        _take_name(one, as_text(value))
