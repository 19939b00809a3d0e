"""Plugins in processes of their own: what kills one kills one message's run, and nothing else.

Each plugin has its own few workers.  They are started when they are needed, killed when a
message takes too long, and replaced; one that dies again and again is started again ever more
slowly.  A worker that answers what can't be understood is killed as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

from ..core.record import SessionRecord
from ..core.steps import BodyStart
from ..core.text import shown
from . import frames
from .base import Services
from .defects import Limits
from .edits import Edits
from .loader import PluginSpec
from .message import Message
from .verdict import Discard, Modify, Pass, Quarantine, Reject, Verdict
from .worker import Request, Setup

#: Seconds that a worker may take to load and start its plugin.
START_LIMIT = 30.0
#: Seconds that a worker has to end of itself.
END_LIMIT = 2.0
#: How often workers may fail in a row before the next one has to wait, and for how long, seconds.
_PATIENCE, _FIRST_WAIT, _LONGEST_WAIT = 2, 0.5, 30.0
#: Octets of edits that a worker may answer with, besides as many as the message has.
_EDITS = 64 * 1024 * 1024


class WorkerFailure(Exception):
    """A worker could not judge a message; the text says why."""


class _NotYet(Exception):
    """The message's time is over while its worker still starts."""


class Worker:
    """One process.  Used by one thread at a time."""

    def __init__(self, setup: Setup) -> None:
        """Start it; it is not ready yet.  Raises OSError."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = _starter.popen(theirs.fileno())
            except BaseException:
                ours.close()
                raise
        self._connection = ours
        self._setup = setup
        self._state = "new"  # then "starts", "ready"
        self._start_deadline = time.monotonic() + START_LIMIT

    @property
    def pid(self) -> int:
        return self._process.pid

    def get_ready(self, deadline: float) -> None:
        """Wait until it is ready.  Raises _NotYet, WorkerFailure."""
        if self._state == "ready":
            return
        over = min(deadline, self._start_deadline)
        try:
            if self._state == "new":
                # It fits into the socket's buffer, so that this does not wait for the worker.
                frames.send(self._connection, pickle.dumps(self._setup), deadline=self._start_deadline)
                self._state = "starts"
            answer = self._read(0, over)[0]
        except TimeoutError:
            if over < self._start_deadline:
                raise _NotYet from None
            raise self._broken(f"worker process did not start within {START_LIMIT:g} s") from None
        except OSError as error:
            raise self._broken(f"worker process: {error.strerror or error}") from None
        if answer.get("ready") is not True:
            failed = answer.get("failed")
            self.kill()
            raise _with_trace(
                WorkerFailure(f"did not start: {shown(failed) if isinstance(failed, str) else 'no reason'}"),
                answer,
            )
        self._state = "ready"

    def ask(self, request: Request, message: Message, deadline: float) -> Verdict:
        """Have a message judged.

        Raises TimeoutError and WorkerFailure; after them it may be of no more use (see
        :attr:`is_usable`).
        """
        try:
            head = pickle.dumps(request)
            frames.send(self._connection, head, message.buffer, deadline, by_descriptor=True)
            answer, octets = self._read(message.size + _EDITS, deadline)
        except TimeoutError:
            self.kill()
            raise
        except OSError as error:
            raise self._broken(f"worker process: {error.strerror or error}") from None
        try:
            return _verdict(answer, octets, message)
        except (TypeError, ValueError, KeyError, RecursionError) as error:
            raise self._broken(f"worker process gave an answer that is none: {shown(str(error))}") from None
        finally:
            if answer.get("memory") is True:
                self.kill()

    @property
    def is_usable(self) -> bool:
        """Whether it lives."""
        return self._process.poll() is None

    def _read(self, limit: int, deadline: float) -> tuple[dict[str, Any], bytes]:
        try:
            frame = frames.receive(self._connection, limit, deadline)
            answer = json.loads(frame.head)
        except frames.FrameError as error:
            raise self._broken(f"worker process: {error}") from None
        except (ValueError, RecursionError):
            raise self._broken("worker process gave an answer that is none") from None
        if not isinstance(answer, dict):
            raise self._broken("worker process gave an answer that is none")
        return answer, frame.octets[:]

    def _broken(self, text: str) -> WorkerFailure:
        """Return what to raise of a worker that is of no more use: how it died, if it did."""
        self._connection.close()
        try:
            status = self._process.wait(0.5)
        except subprocess.TimeoutExpired:
            self.kill()
            return WorkerFailure(text)
        return WorkerFailure(_died(status) if status else text)

    def kill(self) -> None:
        """End it now."""
        self._connection.close()
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """Let it stop its plugin and end; kill it if it does not."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_LIMIT)
        self.kill()


class Workers:
    """The workers of one plugin.

    processes: how many there may be.
    limits: of taking messages apart.
    """

    def __init__(
        self,
        spec: PluginSpec,
        services: Services,
        *,
        processes: int,
        memory_limit: int,
        edit_signed: bool = False,
        limits: Limits | None = None,
    ) -> None:
        self._setup = Setup(spec, services, memory_limit)
        self._edit_signed = edit_signed
        self._limits = limits
        self._threads = ThreadPoolExecutor(processes, "mailgate worker")
        self._lock = threading.Lock()
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._failures = 0  # in a row
        self._not_before = 0.0
        self._why = ""
        self._stopped = False

    def submit(self, message: Message, start: BodyStart, record: SessionRecord) -> Future[Verdict]:
        """Have a message judged within the plugin's time limit.

        The result may be a TimeoutError or a WorkerFailure.
        """
        limit = self._setup.spec.time_limit
        deadline = time.monotonic() + limit
        request = Request(start, record, self._limits, self._edit_signed, limit)
        return self._threads.submit(self._judge, message, request, deadline)

    @property
    def pids(self) -> list[int]:
        """The processes that there are now."""
        with self._lock:
            return [worker.pid for worker in (*self._idle, *self._busy)]

    def stop(self) -> None:
        """End the workers: those that judge at once, the others when they have stopped their plugin."""
        with self._lock:
            self._stopped = True
            idle, self._idle = self._idle, []
            busy = list(self._busy)
        for worker in busy:
            with contextlib.suppress(OSError):
                os.kill(worker.pid, signal.SIGKILL)
        for worker in idle:
            self._threads.submit(worker.close)
        self._threads.shutdown(wait=False)

    # -- in a thread of the pool -------------------------------------------

    def _judge(self, message: Message, request: Request, deadline: float) -> Verdict:
        if time.monotonic() >= deadline:
            raise TimeoutError(f"no worker process was free within {request.cpu_limit:g} s")
        worker = self._take()
        try:
            worker.get_ready(deadline)
            verdict = worker.ask(request, message, deadline)
        except _NotYet:
            raise TimeoutError(f"its worker process was not ready within {request.cpu_limit:g} s") from None
        except WorkerFailure as error:
            if not worker.is_usable:
                self._note_failure(str(error))
            raise
        except TimeoutError:
            if not worker.is_usable:
                self._note_failure("the last message took too long")
                raise TimeoutError(f"no verdict within {request.cpu_limit:g} s") from None
            raise
        except BaseException:
            worker.kill()
            raise
        else:
            self._failures = 0
            return verdict
        finally:
            self._put_back(worker)

    def _take(self) -> Worker:
        """Return a worker: one that is idle, or a new one.  There are never more than threads."""
        with self._lock:
            if self._stopped:
                raise WorkerFailure("stopped")
            while self._idle:
                worker = self._idle.pop()
                if worker.is_usable:
                    self._busy.add(worker)
                    return worker
                worker.kill()  # it died while it had nothing to do, which is no message's fault
            wait = self._not_before - time.monotonic()
            if wait > 0:
                raise WorkerFailure(f"{self._why}; not started again for {wait:.1f} s")
        try:
            worker = Worker(self._setup)
        except OSError as error:
            problem = f"can't start a worker process: {error.strerror or error}"
            self._note_failure(problem)
            raise WorkerFailure(problem) from None
        with self._lock:
            self._busy.add(worker)
        return worker

    def _put_back(self, worker: Worker) -> None:
        with self._lock:
            self._busy.discard(worker)
            if worker.is_usable and not self._stopped:
                self._idle.append(worker)
                return
        worker.close()

    def _note_failure(self, why: str) -> None:
        with self._lock:
            self._failures += 1
            self._why = why
            if self._failures > _PATIENCE:
                wait = min(_FIRST_WAIT * 2.0 ** (self._failures - _PATIENCE - 1), _LONGEST_WAIT)
                self._not_before = time.monotonic() + wait


class _Starter:
    """Starts workers, in a thread that never ends: a worker dies with the *thread* that started it.

    It is a daemon, so that it outlives what waits for the workers' own ends.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted: SimpleQueue[tuple[int, Future[subprocess.Popen[bytes]]]] | None = None

    def popen(self, descriptor: int) -> subprocess.Popen[bytes]:
        """Start a worker with its end of a socket pair.  Raises OSError."""
        started: Future[subprocess.Popen[bytes]] = Future()
        with self._lock:
            if self._wanted is None:
                self._wanted = SimpleQueue()
                threading.Thread(target=self._serve, name="mailgate starter", daemon=True).start()
            self._wanted.put((descriptor, started))
        return started.result()

    def _serve(self) -> None:
        assert self._wanted is not None
        while True:
            descriptor, started = self._wanted.get()
            command = [sys.executable, "-P", "-m", "gateway.inspection.worker"]
            try:
                process = subprocess.Popen(
                    [*command, str(descriptor), str(os.getpid())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=(descriptor,),
                )
            except BaseException as error:  # noqa: BLE001 - whoever waits is told
                started.set_exception(error)
            else:
                started.set_result(process)
                del process


_starter = _Starter()


def _died(status: int) -> str:
    """Say how a worker ended."""
    if status >= 0:
        return f"worker process ended with status {status}"
    if -status == signal.SIGXCPU:
        return "worker process used up its CPU time"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"worker process died of {name}"


def _with_trace(failure: WorkerFailure, answer: dict[str, Any]) -> WorkerFailure:
    """Add the worker's traceback, for the log."""
    trace = answer.get("traceback")
    if isinstance(trace, str):
        failure.add_note("\n".join(shown(line, 400) for line in trace.splitlines()[-60:]))
    return failure


# -- what a worker answers: not to be trusted -------------------------------------


def _verdict(answer: dict[str, Any], octets: bytes, message: Message) -> Verdict:
    """Return the verdict that an answer tells of.

    Raises WorkerFailure and TimeoutError as it says; TypeError, ValueError, KeyError where it
    is no answer.
    """
    facts = answer.get("facts", {})
    for key in list(facts)[:100]:
        message.note(_text(key), _text(facts[key]))
    if answer.get("memory") is True:
        raise WorkerFailure("MemoryError: it took more memory than memory_limit allows")
    if "timeout" in answer:
        raise TimeoutError(_text(answer["timeout"]))
    if "error" in answer:
        raise _with_trace(WorkerFailure(_text(answer["error"])), answer)
    if "wrong" in answer:
        raise WorkerFailure(f"answered {_text(answer['wrong'])} in place of a verdict")
    match answer["verdict"]:
        case "pass":
            return Pass()
        case "reject":
            return Reject(_text(answer["reason"]))
        case "quarantine":
            return Quarantine(_text(answer["reason"]))
        case "discard":
            return Discard(_text(answer["reason"]))
        case "modify":
            return Modify(_edits(answer["edits"], octets, message))
        case other:
            raise ValueError(f"the verdict {shown(str(other))}")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} in place of a text")
    return value


def _edits(told: object, octets: bytes, message: Message) -> Edits:
    edits = message.edits()
    for one in frames.unpack_edits(told, octets):
        edits.put(one)  # an EditError is a ValueError
    return edits
