"""The writer: records go into a bounded queue, and a thread writes them to the store in batches.

Whoever puts a record in never waits.  While the store can't be used the records wait; the thread tries
again, after longer and longer pauses, and opens the store anew.  What finds the queue full is dropped and
counted.  An outage is told once, its losses at most once a minute, and its end.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from .record import AuditRecord, EventRecord, LoginRecord, ProgramRecord, StoredRecord
from .store import StoreError

#: Seconds between the first record of a batch and its writing.
DELAY = 0.25
#: This many waiting records are written without delay.
HURRY = 200
#: As many in one transaction at most.
MOST = 1000
#: Seconds until the first new try, and between two tries at most.
RETRY, RETRY_MOST = 0.5, 30.0
#: Seconds between two reports of losses.
TELL_EVERY = 60.0
#: Seconds between two searches for what is too old; then records a step.
PRUNE_EVERY, PRUNE_STEP = 3600.0, 500

KINDS = {LoginRecord: "login", EventRecord: "event", ProgramRecord: "program"}


class Writable(Protocol):
    """What the writer needs of a store."""

    def open(self) -> None: ...
    def write(self, records: Sequence[StoredRecord]) -> None: ...
    def prune(self, before: int, at_most: int) -> int: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Wording:
    """What logs and reports call it.  fields: of each line in the log."""

    what: str = "audit"
    place: str = "store"
    title: str = "the audit's store"
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    """Something that the security team is to hear of."""

    state: str  # "outage", "lost", "recovered"
    detail: str
    lost: int  # records dropped since the last report


class AuditWriter:
    """Writes records to a store, in a thread of its own.

    bound: records that wait at most.
    prepare: makes of a record what is stored, in the writer's thread: the privacy modes.
    tell: hears of outages and losses, in the writer's thread.
    retention: seconds that records are kept; 0 keeps them.
    wording: where it is not the audit's store that is written to.
    """

    def __init__(
        self,
        store: Writable,
        *,
        bound: int = 20_000,
        prepare: Callable[[AuditRecord], Iterable[StoredRecord]] | None = None,
        tell: Callable[[Report], None] | None = None,
        retention: float = 0,
        wording: Wording | None = None,
    ) -> None:
        self._store = store
        self._bound = bound
        self._prepare = prepare
        self._tell = tell
        self._retention = retention
        self._queue: deque[AuditRecord] = deque()
        self._batch: list[StoredRecord] = []
        self._records = 0  # of which the batch was made
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._opened = threading.Event()
        self._awake = False
        self._closing = False
        self._deadline = float("inf")
        self._is_open = False
        self._outage = False
        self._pause = RETRY
        self._retry_at = 0.0
        self._prune_at = time.monotonic() + 60.0
        self._told_at = float("-inf")
        self._told_lost = 0
        # Two counters, so that each has one thread that adds to it.
        self._kept_out = 0
        self._dropped = 0
        self._told_kinds: set[str] = set()
        self.written = {"login": 0, "event": 0, "program": 0}
        self._wording = wording or Wording()
        self._logger = structlog.get_logger()
        name = f"{self._wording.what} writer"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    # -- from any thread ---------------------------------------------------

    def put(self, record: AuditRecord) -> None:
        """Take a record.  Never blocks, never raises."""
        queue = self._queue
        waiting = len(queue)
        if waiting >= self._bound or self._closing:
            self._kept_out += 1
            return
        queue.append(record)
        if not self._awake:
            self._awake = True
            self._wake.set()
        elif waiting == HURRY:
            self._hurry.set()

    @property
    def healthy(self) -> bool:
        """Whether a record put in now can be expected to be kept."""
        return self._is_open and not self._outage and len(self._queue) < self._bound

    @property
    def lost(self) -> int:
        """How many records were dropped so far."""
        return self._kept_out + self._dropped

    @property
    def waiting(self) -> int:
        """How many records are not written yet."""
        return len(self._queue) + self._records

    def wait_opened(self, seconds: float) -> bool:
        """Wait until the store is open, or could not be opened; tell whether it is."""
        self._opened.wait(seconds)
        return self._is_open

    def close(self, seconds: float = 5.0) -> None:
        """Write what waits, within a bound, and let go of the store; what remains is lost."""
        if self._closing:
            return
        self._deadline = time.monotonic() + seconds
        self._closing = True
        self._wake.set()
        self._hurry.set()
        self._thread.join(seconds + 1.0)
        left = self.waiting
        if left:
            self._dropped += left
            self._log("error", "records lost at the end", records=left)

    # -- the thread --------------------------------------------------------

    def _run(self) -> None:
        self._open()
        self._opened.set()
        while not self._closing:
            self._await_work()
            self._step()
            self._tell_losses()
        while (self._queue or self._batch) and time.monotonic() < self._deadline:
            if not self._step():
                # Once more at most: the end can't wait for long.
                time.sleep(min(0.2, max(0.0, self._deadline - time.monotonic())))
                if not self._is_open:
                    self._retry_at = 0.0
        self._store.close()

    def _await_work(self) -> None:
        """Wait for a batch, for the next try, or for the next look at what is too old."""
        now = time.monotonic()
        if not self._is_open:
            self._hurry.clear()
            pause = self._retry_at - now
            # The queue may be full: only the end may cut a pause short.
            while pause > 0 and not self._closing:
                self._hurry.wait(min(pause, TELL_EVERY))
                self._hurry.clear()
                self._tell_losses()
                pause = self._retry_at - time.monotonic()
            return
        if not self._queue and not self._batch:
            self._awake = False
            if not self._queue:
                self._wake.wait(max(0.05, self._prune_at - now))
            self._wake.clear()
            self._awake = True
        if len(self._queue) < HURRY and not self._closing:
            self._hurry.wait(DELAY)
        self._hurry.clear()

    def _step(self) -> bool:
        """Open the store if need be, write one batch, take away some of what is too old."""
        if not self._is_open and (time.monotonic() < self._retry_at or not self._open()):
            return False
        try:
            self._write()
            self._prune()
        except StoreError as error:
            self._failed(error)
            return False
        except Exception as error:  # noqa: BLE001 - the thread must not die
            self._failed(StoreError(f"{type(error).__name__}: {error}"))
            return False
        return True

    def _open(self) -> bool:
        try:
            self._store.open()
        except StoreError as error:
            self._failed(error)
            return False
        except Exception as error:  # noqa: BLE001 - the thread must not die
            self._failed(StoreError(f"{type(error).__name__}: {error}"))
            return False
        self._is_open = True
        return True

    def _take(self) -> None:
        """Make the next batch of what waits."""
        queue = self._queue
        records = [queue.popleft() for _ in range(min(len(queue), MOST))]
        if self._prepare is None:
            self._batch = list(records)
        else:
            for record in records:
                try:
                    self._batch += self._prepare(record)
                except Exception as error:  # noqa: BLE001 - one record must not stop the others
                    self._refused(error)
        self._records = len(records)

    def _write(self) -> None:
        if not self._batch:
            self._take()
        if self._batch:
            try:
                self._store.write(self._batch)
            except StoreError:
                raise
            except Exception:  # noqa: BLE001 - a record that no store takes
                self._one_by_one()
            self._count(self._batch)
            self._batch = []
        self._records = 0
        if self._outage:
            self._outage = False
            self._pause = RETRY
            self._log("info", "recovered", lost=self.lost - self._told_lost)
            self._report("recovered", f"{self._wording.title} takes records again")

    def _one_by_one(self) -> None:
        """Write a batch's records each alone, and drop those that the store can't take."""
        batch, kept = self._batch, []
        while batch:
            try:
                self._store.write(batch[:1])
                kept.append(batch[0])
            except StoreError:
                self._count(kept)
                raise
            except Exception as error:  # noqa: BLE001
                self._refused(error)
            del batch[0]
        self._batch = kept

    def _refused(self, error: Exception) -> None:
        self._dropped += 1
        kind = type(error).__name__
        if kind not in self._told_kinds:
            self._told_kinds.add(kind)
            self._log("error", "record not taken", error=kind)  # its text may quote the record

    def _count(self, records: Iterable[StoredRecord]) -> None:
        for record in records:
            if (kind := KINDS.get(type(record))) is not None:
                self.written[kind] += 1

    def _prune(self) -> None:
        if not self._retention or time.monotonic() < self._prune_at:
            return
        before = int((time.time() - self._retention) * 1e6)
        if not self._store.prune(before, PRUNE_STEP) or self._closing:
            self._prune_at = time.monotonic() + PRUNE_EVERY

    # -- trouble -----------------------------------------------------------

    def _failed(self, error: StoreError) -> None:
        self._is_open = False
        self._store.close()
        # Not all gateways at once, when what failed for all of them is back.
        pause = self._pause * random.uniform(0.8, 1.0)
        self._retry_at = time.monotonic() + max(pause, error.after)
        self._pause = min(self._pause * 2, RETRY_MOST)
        if not self._outage:
            self._outage = True
            self._log("error", f"{self._wording.place} failed", why=str(error), waiting=self.waiting)
            self._report("outage", f"{self._wording.title} can't be used: {error}")

    def _tell_losses(self) -> None:
        if self.lost > self._told_lost and time.monotonic() - self._told_at >= TELL_EVERY:
            why = "fails" if self._outage else "does not take them as fast as they come"
            self._log("error", "records lost", records=self.lost - self._told_lost)
            self._report("lost", f"{self._wording.what} records were lost: {self._wording.title} {why}")

    def _report(self, state: str, detail: str) -> None:
        lost = self.lost
        new, self._told_lost = lost - self._told_lost, lost
        self._told_at = time.monotonic()
        if self._tell is not None:
            try:
                self._tell(Report(state, detail, new))
            except Exception:  # noqa: BLE001 - whoever listens must not stop the thread
                self._log("error", "report not told", state=state)

    def _log(self, level: str, text: str, **more: object) -> None:
        getattr(self._logger, level)(f"{self._wording.what} {text}", **self._wording.fields, **more)
