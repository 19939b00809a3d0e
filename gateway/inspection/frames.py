"""What goes between the gateway and a worker process: frames over a socket pair.

A frame is two lengths, then a head and octets.  To the worker the head is a pickle: it trusts
the gateway.  From the worker it is JSON: a plugin that a message has taken over must not reach
the gateway by what it answers.  A large message goes to the worker as a file in memory, by its
descriptor; from the worker no descriptor is taken.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any

from .edits import Edit
from .scan import Buffer

_LENGTHS = struct.Struct("!IQ?")
#: Octets of a message above which it goes by a descriptor.
BY_DESCRIPTOR = 64 * 1024
#: Octets of a head, at most.
HEAD_LIMIT = 16 * 1024 * 1024
_PIECE = 1024 * 1024


class FrameError(Exception):
    """The other end has closed, or sends what is no frame."""


@dataclass(slots=True)
class Frame:
    """One frame, as it came.  ``octets`` may be a map: close it when it is done with."""

    head: bytes
    octets: Buffer


def send(
    connection: socket.socket,
    head: bytes,
    octets: Buffer = b"",
    deadline: float | None = None,
    *,
    by_descriptor: bool = False,
) -> None:
    """Send a frame.  Raises OSError; TimeoutError behind the deadline, of the monotonic clock.

    by_descriptor: octets that are many go by a descriptor.
    """
    descriptor = _in_memory(octets) if by_descriptor and len(octets) > BY_DESCRIPTOR else -1
    lengths = _LENGTHS.pack(len(head), len(octets), descriptor >= 0)
    _set_time(connection, deadline)
    if descriptor < 0:
        connection.sendall(b"".join((lengths, head, octets[:])))
        return
    try:
        socket.send_fds(connection, [lengths], [descriptor])
    finally:
        os.close(descriptor)
    _set_time(connection, deadline)
    connection.sendall(head)


def _in_memory(octets: Buffer) -> int:
    """Return the descriptor of a file in memory; -1 where there can be none, as behind some sandboxes."""
    try:
        descriptor = os.memfd_create("mailgate-message", os.MFD_CLOEXEC)
    except OSError:
        return -1
    try:
        for start in range(0, len(octets), _PIECE):
            _write_all(descriptor, octets[start : start + _PIECE])
    except OSError:
        os.close(descriptor)
        return -1
    return descriptor


def receive(
    connection: socket.socket, limit: int, deadline: float | None = None, *, by_descriptor: bool = False
) -> Frame:
    """Receive a frame.  Raises FrameError, OSError, TimeoutError.

    limit: octets that it may carry besides its head.
    by_descriptor: whether they may come by a descriptor; whoever sends it can make it shorter,
        which kills who reads the map.
    """
    _set_time(connection, deadline)
    descriptors: list[int] = []
    if by_descriptor:
        flags = socket.MSG_CMSG_CLOEXEC
        lengths, descriptors, _, _ = socket.recv_fds(connection, _LENGTHS.size, 1, flags)
    else:
        lengths = connection.recv(_LENGTHS.size)
    try:
        if not lengths:
            raise FrameError("it closed the connection")
        lengths += _exactly(connection, _LENGTHS.size - len(lengths), deadline)
        head_length, length, large = _LENGTHS.unpack(lengths)
        if head_length > HEAD_LIMIT or length > limit or large != bool(descriptors):
            raise FrameError(f"it answered with {head_length + length} octets")
        head = _exactly(connection, head_length, deadline)
        if not large:
            return Frame(head, _exactly(connection, length, deadline))
        return Frame(head, mmap.mmap(descriptors[0], length, access=mmap.ACCESS_READ))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _exactly(connection: socket.socket, count: int, deadline: float | None) -> bytes:
    pieces: list[bytes] = []
    while count:
        _set_time(connection, deadline)
        piece = connection.recv(min(count, _PIECE))
        if not piece:
            raise FrameError("it closed the connection")
        pieces.append(piece)
        count -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _set_time(connection: socket.socket, deadline: float | None) -> None:
    if deadline is None:
        connection.settimeout(None)
        return
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    connection.settimeout(left)


# -- edits ------------------------------------------------------------------------

#: By its fields an edit is told of, whatever they are.
_EDIT = Edit(0, 0, b"")
_FIELDS = [(field.name, getattr(_EDIT, field.name)) for field in fields(Edit)]


def pack_edits(edits: Iterable[Edit]) -> tuple[list[list[Any]], bytes]:
    """Return edits as JSON can hold them, octets as their number, and all octets in a row."""
    told: list[list[Any]] = []
    octets: list[bytes] = []
    for edit in edits:
        row = [getattr(edit, name) for name, _ in _FIELDS]
        octets += [value for value in row if isinstance(value, bytes)]
        told.append([len(value) if isinstance(value, bytes) else value for value in row])
    return told, b"".join(octets)


def unpack_edits(told: object, octets: bytes) -> Iterator[Edit]:
    """Give the edits that a stranger tells of.  Raises TypeError, ValueError where these are none."""
    if not isinstance(told, list):
        raise TypeError("no list of edits")
    place = 0
    for row in told:
        if not isinstance(row, list) or len(row) != len(_FIELDS):
            raise TypeError("no edit")
        values: dict[str, Any] = {}
        for value, (name, like) in zip(row, _FIELDS, strict=True):
            if isinstance(like, bytes):
                if type(value) is not int or not 0 <= value <= len(octets) - place:
                    raise ValueError("no octets of an edit")
                values[name] = octets[place : place + value]
                place += value
            else:
                values[name] = _like(value, like)
        yield Edit(**values)


def _like(value: Any, like: Any) -> Any:
    """Return a value that is of the same kind as another.  Raises TypeError."""
    if isinstance(like, tuple):
        if not isinstance(value, list) or len(value) != len(like):
            raise TypeError("no field of an edit")
        return tuple(_like(one, other) for one, other in zip(value, like, strict=True))
    if type(value) is not (bool if isinstance(like, bool) else int):
        raise TypeError("no field of an edit")
    return value
