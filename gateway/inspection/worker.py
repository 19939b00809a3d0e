"""A worker process: one plugin that judges one message after the other.

Started by :mod:`gateway.inspection.processes` as ``python -m gateway.inspection.worker`` with
the descriptor of its end of a socket pair.  It ends with the gateway, whatever it is at.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import pickle
import resource
import signal
import socket
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.record import SessionRecord
from ..core.steps import BodyStart
from . import frames
from .base import Plugin, Services
from .defects import Limits
from .loader import PluginConfigErrors, PluginSpec, load_plugins
from .message import Content, Message
from .scan import Buffer
from .verdict import VERDICTS, Modify, what_it_is

_PR_SET_PDEATHSIG = 1
#: Characters of a traceback that go into the gateway's log.
_TRACEBACK = 8000
#: What a worker's own exit status is when a message has taken its memory.
OUT_OF_MEMORY = 70


@dataclass(frozen=True, slots=True)
class Setup:
    """The first frame: which plugin, and what it may take.

    memory_limit: octets beyond what the worker itself takes; 0 is no limit.
    """

    spec: PluginSpec
    services: Services
    memory_limit: int


@dataclass(frozen=True, slots=True)
class Request:
    """A frame with a message.

    cpu_limit: seconds of CPU time that it may take.
    """

    start: BodyStart
    record: SessionRecord
    limits: Limits | None
    edit_signed: bool
    cpu_limit: float


def main(descriptor: int, parent: int) -> int:
    """Serve until the gateway closes its end; return the exit status."""
    _settle(parent)
    connection = socket.socket(fileno=descriptor)
    try:
        setup: Setup = pickle.loads(frames.receive(connection, 0).head)
    except (frames.FrameError, OSError):
        return 0
    try:
        plugin = _begin(setup)
    except BaseException as error:  # noqa: BLE001 - a plugin is a stranger's code
        _answer(connection, {"failed": _told(error), "traceback": _trace(error)})
        return 1
    _answer(connection, {"ready": True})
    status = 0
    try:
        while not status:
            frame = frames.receive(connection, 1 << 62, by_descriptor=True)
            status = _serve(connection, plugin, pickle.loads(frame.head), frame.octets)
            if isinstance(frame.octets, mmap.mmap):
                with contextlib.suppress(BufferError):
                    frame.octets.close()
            del frame
    except (frames.FrameError, OSError):
        pass  # the gateway has closed: the end
    with contextlib.suppress(Exception):
        plugin.stop()
    return status


def _settle(parent: int) -> None:
    """Tie this process to the gateway's, and keep what is for the gateway from it."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)  # it died before it could be watched
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would hold mail
    with contextlib.suppress(OSError):
        os.dup2(2, 1)  # what a plugin prints goes where errors go


def _begin(setup: Setup) -> Plugin:
    if setup.memory_limit:
        own = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = own + setup.memory_limit
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        if hard != resource.RLIM_INFINITY:
            limit = min(limit, hard)
        try:
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        except (OSError, ValueError) as error:
            raise RuntimeError(f"can't limit its memory (setrlimit): {error}") from None
    (loaded,) = load_plugins([setup.spec])
    loaded.plugin.start(setup.services)
    return loaded.plugin


def _serve(connection: socket.socket, plugin: Plugin, request: Request, buffer: Buffer) -> int:
    """Judge one message and answer; return the exit status if the process is to end, or 0."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + request.cpu_limit) + 2
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    with contextlib.suppress(OSError, ValueError):  # it only backs the gateway's own clock up
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))
    message = Message(Content(buffer, request.limits), request.start, request.edit_signed)
    octets = b""
    status = 0
    try:
        answer, octets = _judge(plugin, message, request.record)
    except MemoryError:
        # What is left of the heap is not worth going on with.
        answer, status = {"memory": True}, OUT_OF_MEMORY
    except TimeoutError as error:
        answer = {"timeout": str(error) or "a time-out within the plugin"}
    except Exception as error:  # noqa: BLE001 - a plugin is a stranger's code
        answer = {"error": _told(error), "traceback": _trace(error)}
    answer["facts"] = message.facts
    _answer(connection, answer, octets)
    return status


def _judge(plugin: Plugin, message: Message, record: SessionRecord) -> tuple[dict[str, Any], bytes]:
    verdict: Any = plugin.inspect(message, record)
    if not isinstance(verdict, VERDICTS):
        return {"wrong": what_it_is(verdict)}, b""
    name = type(verdict).__name__.lower()
    if not isinstance(verdict, Modify):
        return {"verdict": name, "reason": str(getattr(verdict, "reason", ""))}, b""
    edits, octets = frames.pack_edits(verdict.edits)
    return {"verdict": name, "edits": edits}, octets


def _answer(connection: socket.socket, answer: dict[str, Any], octets: bytes = b"") -> None:
    # Lone surrogates are no UTF-8: ASCII escapes them.
    frames.send(connection, json.dumps(answer).encode("ascii"), octets)


def _told(error: BaseException) -> str:
    if isinstance(error, PluginConfigErrors):
        return "; ".join(one.message for one in error.errors)
    text = str(error)[:1000]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))[-_TRACEBACK:]


if __name__ == "__main__":
    # Imported by its own name: what is pickled for it names its classes there.
    from gateway.inspection.worker import main as run

    sys.exit(run(int(sys.argv[1]), int(sys.argv[2])))
