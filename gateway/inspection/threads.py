"""Threads for plugins that are plain functions: bounded, and not lost to a plugin that hangs.

A thread can't be killed.  One whose plugin is past its time limit is left alone and counted,
and another takes its place, up to a bound; beyond it the plugin is not asked any more until one
of its runs comes back.  The threads are daemons: none of them keeps the process from its end.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any


class TooManyHang(Exception):
    """Earlier runs of a plugin still hang in threads, so it is not asked again."""


class Run(Future[Any]):
    """One run of a plugin."""

    def __init__(self, owner: Hashable, work: Callable[[], Any]) -> None:
        super().__init__()
        self.owner = owner
        self.work: Callable[[], Any] | None = work
        self.state = "waiting"  # then "runs", "hangs", "ended"; or "dropped" before it had a thread


class PluginThreads:
    """A pool of daemon threads.

    most: threads that work.
    hanging: threads that may hang besides, in all.
    hanging_each: of those, how many may be of one plugin.
    """

    def __init__(self, most: int = 16, hanging: int = 16, hanging_each: int = 4) -> None:
        self._most = most
        self._bound = hanging
        self._bound_each = hanging_each
        self._waiting: SimpleQueue[Run | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0  # those that hang left out
        self._idle = 0  # threads that wait, less runs that wait for one
        self._hanging: Counter[Hashable] = Counter()

    @property
    def hanging(self) -> int:
        """How many threads hang now."""
        return self._hanging.total()

    def submit(self, owner: Hashable, function: Callable[..., Any], *arguments: Any) -> Run:
        """Have a thread call a function, for a plugin.  Raises TooManyHang."""
        run = Run(owner, lambda: function(*arguments))
        with self._lock:
            own, total = self._hanging[owner], self._hanging.total()
            if own >= self._bound_each:
                raise TooManyHang(f"not asked: {own} earlier runs of it still hang in threads")
            if total >= self._bound:
                raise TooManyHang(f"not asked: {total} earlier runs of plugins still hang in threads")
            self._idle -= 1
            self._waiting.put(run)
            self._fill()
        return run

    def give_up(self, run: Run) -> None:
        """Take note that the time of a run is over: nobody waits for it any more."""
        with self._lock:
            if run.state == "waiting":
                run.state = "dropped"
                run.work = None
            elif run.state == "runs":
                run.state = "hangs"
                self._hanging[run.owner] += 1
                self._threads -= 1
                self._fill()

    def stop(self) -> None:
        """Let the threads end that have nothing to do."""
        with self._lock:
            for _ in range(self._threads):
                self._waiting.put(None)

    def _fill(self) -> None:
        """Start a thread if a run waits for one, and one may be started."""
        if self._idle < 0 and self._threads < self._most:
            self._threads += 1
            self._idle += 1
            threading.Thread(target=self._serve, name="mailgate plugin", daemon=True).start()

    def _serve(self) -> None:
        while True:
            run = self._waiting.get()
            if run is None or not self._do(run):
                return
            del run  # it holds the message

    def _do(self, run: Run) -> bool:
        """Do one run; say whether its thread is to go on."""
        with self._lock:
            work, run.work = run.work, None
            if work is None or not run.set_running_or_notify_cancel():
                self._idle += 1
                return True
            run.state = "runs"
        result: Any = None
        problem: Exception | None = None
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            problem = error
        except BaseException as error:  # noqa: BLE001 - it would end whoever waits
            problem = RuntimeError(f"{type(error).__name__} {error}".rstrip())
        del work
        with self._lock:
            goes_on = run.state != "hangs"
            run.state = "ended"
            if goes_on:
                self._idle += 1
            else:
                self._hanging[run.owner] -= 1
                if not self._hanging[run.owner]:
                    del self._hanging[run.owner]
        if problem is not None:
            run.set_exception(problem)
        else:
            run.set_result(result)
        return goes_on
