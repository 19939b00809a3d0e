"""Other readings of ambiguous parts: what another program may see there.

A part that is encoded though it may not be, or that is described twice, is one thing to us
and another to somebody else.  Each other reading is parsed here as a message of its own, with
a buffer of its own: its parts are for looking at.  ``Edits`` refuses them, since their offsets
mean nothing in the message; what may be edited is their ``origin``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .defects import Defect, Limits
from .parts import IDENTITY_ENCODINGS, Part, clash, parse

#: How often a reading may hold an ambiguous part that has readings.
_MOST_LEVELS = 4
_MOST_SIZE = 4
#: Of one part.
_MOST_FIELDS = 4


def find_readings(root: Part, limits: Limits | None = None) -> tuple[Part, ...]:
    """Return the other readings of a message's parts, each as the root of a tree of its own."""
    if not (root.children or root.defects or root.is_message):
        return ()
    limits = limits or Limits()
    found: list[Part] = []
    size = len(root.buffer) * _MOST_SIZE + 4096
    waiting = [(root, 0)]
    while waiting:
        tree, level = waiting.pop(0)
        for part in tree.walk():
            for buffer in _buffers(part):
                size -= len(buffer)
                if len(found) >= limits.readings or size < 0 or level >= _MOST_LEVELS:
                    part.defects.append(Defect.TOO_MANY_READINGS)
                    return tuple(found)
                other = parse(buffer, limits)
                other.outer = part
                found.append(other)
                waiting.append((other, level + 1))
    return tuple(found)


def _buffers(part: Part) -> Iterator[bytes]:
    """Give the octets of each other reading of a part."""
    encoded = part.transfer_encoding not in IDENTITY_ENCODINGS
    if part.is_message and encoded:
        yield part.content()
    if not part.defects:
        return
    kinds = [one.raw_value.strip() for one in part.get_all("content-type")]
    codings = [one.raw_value.strip() for one in part.get_all("content-transfer-encoding")]
    kind = kinds[0] if kinds else b"text/plain"
    coding = codings[0] if codings else b""
    if part.is_multipart and encoded:
        yield _with_header(kind, b"", part.content())
    for boundary in part.other_boundaries:
        quoted = boundary.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        yield _with_header(b'multipart/mixed; boundary="' + quoted + b'"', b"", part.raw_body)
    for other in _others(kinds):
        yield _with_header(other, coding, part.raw_body)
    for other in _others(codings):
        yield _with_header(kind, other, part.raw_body)
    if part.is_multipart:
        for body in _otherwise_split(part):
            yield _with_header(kind, b"", body)
        if not part.children:
            yield _with_header(b"text/plain", coding, part.raw_body)


def _otherwise_split(part: Part) -> Iterator[bytes]:
    """Give bodies in which stand as delimiters what some programs take for one."""
    delimiter = b"--" + part.boundary
    if Defect.BOUNDARY_PREFIX in part.defects:
        # RFC 2046 5.1.1: it is sufficient that the boundary appears at the beginning of the line.
        line = re.compile(rb"^(" + re.escape(delimiter) + rb"(?:--)?)[^\n]*", re.MULTILINE)
        yield line.sub(rb"\1", part.raw_body)
    if Defect.BOUNDARY_AFTER_FINAL in part.defects:
        final = re.compile(rb"^" + re.escape(delimiter) + rb"--[ \t]{0,998}(?=\r?$)", re.MULTILINE)
        yield final.sub(delimiter.replace(b"\\", b"\\\\"), part.raw_body)
    if Defect.BOUNDARY_CLASH in part.defects:
        outer = part.parent
        while outer is not None and not (outer.is_multipart and clash(outer.boundary, part.boundary)):
            outer = outer.parent
        if outer is not None:
            yield part.buffer[part.body_start : outer.end]


def _others(values: list[bytes]) -> list[bytes]:
    """Return the values that differ from the first."""
    return [value for value in dict.fromkeys(values) if value != values[0]][:_MOST_FIELDS]


def _with_header(kind: bytes, coding: bytes, body: bytes) -> bytes:
    header = b"Content-Type: " + kind + b"\r\n"
    if coding:
        header += b"Content-Transfer-Encoding: " + coding + b"\r\n"
    return header + b"\r\n" + body
