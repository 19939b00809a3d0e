"""Threads of plugins: none is lost to one that hangs, and none does what nobody waits for."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from gateway.core.outcome import Action
from gateway.core.record import SessionRecord
from gateway.inspection.base import Plugin, PluginOptions
from gateway.inspection.message import Message
from gateway.inspection.pipeline import Pipeline
from gateway.inspection.threads import PluginThreads, TooManyHang
from gateway.inspection.verdict import Pass, Verdict
from tests.support.processes import wait_until

from .samples import PLAIN
from .support import RECORD, Answering, AsyncioRunner, loaded, run, start


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What everything that hangs waits for."""
    event = threading.Event()
    yield event
    event.set()


def test_results_and_exceptions_come_back():
    threads = PluginThreads()
    assert threads.submit("a", lambda one, two: one + two, 1, 2).result(10) == 3
    with pytest.raises(ZeroDivisionError):
        threads.submit("a", lambda: 1 // 0).result(10)
    with pytest.raises(RuntimeError, match="SystemExit 3"):  # whoever waits does not exit
        threads.submit("a", lambda: exit(3)).result(10)
    assert threads.submit("a", threading.current_thread).result(10).daemon
    threads.stop()


def test_a_thread_is_used_again(gate: threading.Event):
    threads = PluginThreads(most=4)
    names = {threads.submit("a", threading.get_ident).result(10) for _ in range(50)}
    assert len(names) <= 4
    held = [threads.submit("a", gate.wait) for _ in range(10)]
    assert sum(one.state == "waiting" for one in held) >= 6
    gate.set()
    assert all(one.result(10) for one in held)
    threads.stop()


def test_what_hangs_is_replaced_and_counted(gate: threading.Event):
    threads = PluginThreads(most=1, hanging=3, hanging_each=2)
    for count in (1, 2):
        run = threads.submit("bad", gate.wait)
        wait_until(lambda run=run: run.state == "runs", 10, "the thread")
        threads.give_up(run)
        assert threads.hanging == count
        assert threads.submit("good", lambda: 1).result(10) == 1
    with pytest.raises(TooManyHang, match="2 earlier runs of it still hang"):
        threads.submit("bad", lambda: 1)
    run = threads.submit("worse", gate.wait)
    wait_until(lambda: run.state == "runs", 10, "the thread")
    threads.give_up(run)
    with pytest.raises(TooManyHang, match="3 earlier runs of plugins still hang"):
        threads.submit("good", lambda: 1)
    gate.set()
    wait_until(lambda: threads.hanging == 0, 10, "the end of what hangs")
    assert threads.submit("bad", lambda: 1).result(10) == 1
    threads.stop()


def test_a_run_that_nobody_waits_for_never_begins(gate: threading.Event):
    threads = PluginThreads(most=1)
    begun: list[int] = []
    first = threads.submit("a", gate.wait)
    second = threads.submit("a", begun.append, 2)
    threads.give_up(second)
    third = threads.submit("a", begun.append, 3)
    gate.set()
    assert first.result(10) and third.result(10) is None
    assert begun == [3] and threads.hanging == 0
    threads.stop()


def test_giving_up_what_has_ended_changes_nothing():
    threads = PluginThreads()
    run = threads.submit("a", lambda: 1)
    assert run.result(10) == 1
    threads.give_up(run)
    threads.give_up(run)
    assert threads.hanging == 0
    threads.stop()


class Hanging(Plugin):
    def __init__(self, gate: threading.Event) -> None:
        super().__init__(PluginOptions())
        self.gate = gate

    def inspect(self, message: Message, session: SessionRecord) -> Verdict:
        self.gate.wait()
        return Pass()


def test_a_plugin_that_hangs_is_soon_not_asked_any_more(gate: threading.Event):
    threads = PluginThreads(most=2, hanging_each=3)
    bad = loaded(Hanging(gate), "bad", time_limit=0.05, on_error="pass")
    good = loaded(Answering(lambda message: Pass()), "good")
    pipeline = Pipeline([bad, good], AsyncioRunner(), threads=threads)
    runs = [run(pipeline.judge(PLAIN, start(), RECORD)).runs for _ in range(5)]
    assert [one[0].result for one in runs] == ["timeout"] * 3 + ["error"] * 2
    assert runs[4][0].detail == "not asked: 3 earlier runs of it still hang in threads"
    assert [one[1].result for one in runs] == ["pass"] * 5
    gate.set()
    wait_until(lambda: not threads.hanging, 10, "the threads")
    judgement = run(pipeline.judge(PLAIN, start(), RECORD))
    assert judgement.outcome.action is Action.PASS and judgement.runs[0].result == "pass"
    threads.stop()
