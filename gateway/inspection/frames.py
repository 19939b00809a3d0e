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

#: By its fields an edit is told of, whatever they are: octets, numbers, switches, rows of such.
_EDIT = Edit(0, 0, b"")
_FIELDS = tuple(field.name for field in fields(Edit))
_LIKE = tuple(getattr(_EDIT, name) for name in _FIELDS)


def pack_edits(edits: Iterable[Edit]) -> tuple[list[Any], bytes]:
    """Return edits as JSON can hold them, octets as their number, and all octets in a row."""
    octets: list[bytes] = []
    told = [[_packed(getattr(edit, name), octets) for name in _FIELDS] for edit in edits]
    return told, b"".join(octets)


def _packed(value: Any, octets: list[bytes]) -> Any:
    if isinstance(value, bytes):
        octets.append(value)
        return len(value)
    return [_packed(one, octets) for one in value] if isinstance(value, tuple) else value


def unpack_edits(told: object, octets: bytes) -> Iterator[Edit]:
    """Give the edits that a stranger tells of.  Raises TypeError, ValueError where these are none."""
    if not isinstance(told, list):
        raise TypeError("no list of edits")
    stream = _Octets(octets)
    for row in told:
        yield Edit(*_unpacked(row, _LIKE, stream))


def _unpacked(value: Any, like: Any, octets: _Octets) -> Any:
    """Return a value of the same kind as another.  Raises TypeError, ValueError."""
    if isinstance(like, tuple):
        if not isinstance(value, list) or len(value) != len(like):
            raise TypeError("no edit")
        inner = [_unpacked(one, other, octets) for one, other in zip(value, like, strict=True)]
        return type(like)(*inner) if hasattr(like, "_fields") else tuple(inner)
    if type(value) is not (bool if isinstance(like, bool) else int):
        raise TypeError("no field of an edit")
    if isinstance(like, bytes):
        return octets.next(value)
    return type(like)(value)


class _Octets:
    """Octets that are taken one piece after the other."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._place = 0

    def next(self, count: int) -> bytes:
        """Return the next octets.  Raises ValueError if there are not so many."""
        if not 0 <= count <= len(self._octets) - self._place:
            raise ValueError("no octets of an edit")
        self._place += count
        return self._octets[self._place - count : self._place]
