"""The pipeline: order, ends, failures, and that nothing of a plugin gets beyond it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.outcome import Action, Outcome
from gateway.core.record import SessionRecord
from gateway.core.steps import Stage
from gateway.inspection.answers import Command
from gateway.inspection.base import Plugin, PluginOptions, Services
from gateway.inspection.defects import Limits
from gateway.inspection.message import Message
from gateway.inspection.pipeline import Pipeline
from gateway.inspection.verdict import Discard, Modify, Pass, Quarantine, Reject, Verdict

from .samples import DKIM, PLAIN, SIGNED
from .support import RECORD, Answering, AsyncioRunner, judge, loaded, run, start


def adding(name: str, value: str = "y") -> Answering:
    def answer(message: Message) -> Verdict:
        edits = message.edits()
        edits.add_header(name, value)
        return Modify(edits)

    return Answering(answer)


def test_nothing_runs_without_plugins():
    judgement = judge(b"Message-ID: <1@x>\r\n\r\nx")
    assert (judgement.outcome.action, judgement.chunks, judgement.runs) == (Action.PASS, None, [])
    assert judgement.message_id == "<1@x>"


@pytest.mark.parametrize(
    ("verdict", "action", "result", "applied"),
    [
        (Pass(), Action.PASS, "pass", "pass"),
        (Reject("no\r\nway"), Action.REJECT, "reject", "reject"),
        (Quarantine("odd"), Action.QUARANTINE, "quarantine", "quarantine"),
        (Discard(), Action.DISCARD, "discard", "discard"),
    ],
)
def test_verdicts(verdict: Verdict, action: Action, result: str, applied: str):
    after = Answering(lambda message: Pass())
    judgement = judge(PLAIN, loaded(Answering(lambda message: verdict)), loaded(after, "after"))
    assert judgement.outcome.action is action
    assert (judgement.runs[0].result, judgement.runs[0].applied) == (result, applied)
    assert len(after.seen) == (1 if action is Action.PASS else 0)
    assert "\r" not in judgement.outcome.reason and judgement.chunks is None


def test_each_plugin_sees_what_the_one_before_has_left():
    second = adding("X-Two")
    judgement = judge(
        PLAIN,
        loaded(adding("X-One"), "one"),
        loaded(second, "two"),
        loaded(Answering(lambda message: Pass()), "three"),
    )
    assert judgement.chunks is not None
    result = b"".join(judgement.chunks)
    assert b"X-One: y\r\n" in second.seen[0] and b"X-Two" not in second.seen[0]
    assert result.replace(b"X-One: y\r\n", b"").replace(b"X-Two: y\r\n", b"") == PLAIN
    outcome = judgement.outcome
    assert (outcome.action, outcome.size) == (Action.MODIFY, len(result))
    assert (outcome.eight_bit, outcome.ends_with_newline) == (False, True)
    assert [(one.plugin, one.result, one.applied) for one in judgement.runs] == [
        ("one", "modify", "modify"),
        ("two", "modify", "modify"),
        ("three", "pass", "pass"),
    ]


@pytest.mark.parametrize("tail", [b"", b"x", b"\r\n", b"\n", b"\xff\r\n"])
@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_what_is_told_of_the_new_message_is_true(tail: bytes, cut: int):
    def answer(message: Message) -> Verdict:
        edits = message.edits()
        edits.splice(message.size - cut, message.size, tail)
        return Modify(edits)

    judgement = judge(PLAIN, loaded(Answering(answer)))
    assert judgement.chunks is not None
    result = b"".join(judgement.chunks)
    assert result == PLAIN[: len(PLAIN) - cut] + tail
    assert judgement.outcome.ends_with_newline is result.endswith(b"\r\n")
    assert judgement.outcome.eight_bit is (not result.isascii())
    assert judgement.outcome.size == len(result)


def test_a_reject_behind_a_modify_is_a_reject():
    judgement = judge(PLAIN, loaded(adding("X"), "one"), loaded(Answering(lambda m: Reject("no")), "two"))
    assert (judgement.outcome.action, judgement.outcome.reason) == (Action.REJECT, "no")
    assert judgement.chunks is None


def test_a_modify_without_edits_is_a_pass():
    judgement = judge(PLAIN, loaded(Answering(lambda message: Modify(message.edits()))))
    assert judgement.outcome.action is Action.PASS
    assert (judgement.runs[0].result, judgement.runs[0].applied) == ("pass", "pass")


def overlapping(message: Message) -> Verdict:
    edits = message.edits()
    edits.splice(0, 5, b"")
    edits.splice(3, 6, b"")
    return Modify(edits)


def raising(message: Message) -> Verdict:
    raise RuntimeError("secret\r\n\x1b[31mthing " + "x" * 1000)


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        (raising, "RuntimeError: secret\\x0d\\x0a\\x1b[31mthing xxx"),
        (lambda message: None, "answered None in place of a verdict"),
        (lambda message: True, "answered bool in place of a verdict"),
        (lambda message: Pass, "answered the class Pass (write Pass(...))"),
        (overlapping, "EditError: edits overlap at offset 3"),
        (lambda message: Modify(None), "AttributeError"),  # type: ignore[arg-type]
        (lambda message: Reject(None), "answered Reject with None as the reason"),  # type: ignore[arg-type]
        (lambda message: Quarantine(5), "answered Quarantine with int as the reason"),  # type: ignore[arg-type]
        (lambda message: message.edits().splice(0, 0, "x"), "EditError: splice wants bytes, not str"),  # type: ignore[arg-type]
    ],
)
@pytest.mark.parametrize(
    ("on_error", "action"), [("defer", Action.DEFER), ("pass", Action.PASS), ("reject", Action.REJECT)]
)
def test_failures_come_to_what_on_error_says(answer: Any, detail: str, on_error: str, action: Action):
    after = Answering(lambda message: Pass())
    judgement = judge(PLAIN, loaded(Answering(answer), on_error=on_error), loaded(after, "after"))
    ran = judgement.runs[0]
    assert (ran.result, ran.applied) == ("error", on_error)
    assert ran.detail.startswith(detail) and len(ran.detail) < 220 and ran.detail.isprintable()
    assert judgement.outcome.action is action
    assert "secret" not in judgement.outcome.reason
    assert len(after.seen) == (1 if on_error == "pass" else 0)


def test_a_failure_leaves_the_edits_of_others_standing():
    judgement = judge(PLAIN, loaded(adding("X"), "one"), loaded(Answering(raising), "two", on_error="pass"))
    assert judgement.outcome.action is Action.MODIFY
    assert b"X: y\r\n" in b"".join(judgement.chunks or ())


class Slow(Plugin):
    async def inspect(self, message: Message, session: SessionRecord) -> Verdict:
        await asyncio.Event().wait()
        return Pass()


def test_a_plugin_that_takes_too_long_is_given_up():
    judgement = judge(PLAIN, loaded(Slow(PluginOptions()), time_limit=0.01))
    assert (judgement.runs[0].result, judgement.runs[0].applied) == ("timeout", "defer")
    assert judgement.outcome.action is Action.DEFER
    assert judgement.runs[0].detail == "no verdict within 0.01 s"


def test_plain_plugins_run_in_threads_and_coroutines_on_the_loop():
    threads: list[threading.Thread] = []

    class Here(Plugin):
        async def inspect(self, message: Message, session: SessionRecord) -> Verdict:
            threads.append(threading.current_thread())
            return Pass()

    plain = Answering(lambda message: threads.append(threading.current_thread()) or Pass())
    judge(PLAIN, loaded(plain, "plain"), loaded(Here(PluginOptions()), "here"))
    assert threads[0] is not threading.main_thread() and threads[1] is threading.main_thread()


def test_stages_and_listeners_choose_the_plugins():
    plugins = [
        loaded(Answering(lambda m: Pass()), "a", stages=frozenset({Stage.DATA})),
        loaded(Answering(lambda m: Pass()), "b", stages=frozenset({Stage.APPEND, Stage.TOP})),
        loaded(Answering(lambda m: Pass()), "c", stages=frozenset(Stage), listeners=frozenset({"other"})),
    ]
    assert [one.plugin for one in judge(PLAIN, *plugins).runs] == ["a"]
    assert [one.plugin for one in judge(PLAIN, *plugins, stage=Stage.APPEND).runs] == ["b"]
    pipeline = Pipeline(plugins, AsyncioRunner())
    assert pipeline.subscribes("mx", "smtp") == {Stage.DATA}
    assert pipeline.subscribes("mx", "imap") == {Stage.APPEND}
    assert pipeline.subscribes("mx", "pop3") == frozenset()
    assert pipeline.subscribes("other", "imap") == {Stage.APPEND, Stage.FETCH}
    assert pipeline.subscribes("other", "pop3") == {Stage.RETR}
    assert pipeline.subscribes("other", "gopher") == frozenset()


def test_pieces_are_shown_only_to_plugins_that_want_them():
    class Pieces(Answering):
        sees_partial = True

    whole, pieces = Answering(lambda m: Pass()), Pieces(lambda m: Pass())
    every = frozenset(Stage)
    plugins = [loaded(whole, "whole", stages=every), loaded(pieces, "pieces", stages=every)]
    assert [one.plugin for one in judge(b"x", *plugins, stage=Stage.TOP, partial=True).runs] == ["pieces"]
    assert [one.plugin for one in judge(b"x", *plugins, stage=Stage.FETCH, section="1.2").runs] == ["pieces"]
    assert Pipeline(plugins, AsyncioRunner()).subscribes("mx", "pop3") == {Stage.RETR, Stage.TOP}


def test_edits_in_signed_parts_are_dropped_and_noted():
    def answer(message: Message) -> Verdict:
        edits = message.edits()
        edits.add_header("X-Mark", "y")
        edits.splice(message.size, message.size, b"footer\r\n")
        return Modify(edits)

    for message, kind in ((SIGNED, "multipart/signed"), (DKIM, "dkim")):
        judgement = judge(message, loaded(Answering(answer)))
        result = b"".join(judgement.chunks or ())
        assert result.replace(b"X-Mark: y\r\n", b"") == message and result != message
        assert judgement.runs[0].facts == {"skipped_signed": kind}
        allowed = judge(message, loaded(Answering(answer, edit_signed=True)))
        assert b"".join(allowed.chunks or ()).endswith(b"footer\r\n")
        assert allowed.runs[0].facts == {}


def test_exceptions_are_told_to_the_log():
    told: list[tuple[str, str]] = []
    pipeline = Pipeline(
        [loaded(Answering(raising), "bad")],
        AsyncioRunner(),
        on_exception=lambda plugin, error: told.append((plugin, type(error).__name__)),
    )
    run(pipeline.judge(PLAIN, start(), RECORD))
    assert told == [("bad", "RuntimeError")]


class Starting(Answering):
    def __init__(self, log: list[str], fails: bool = False) -> None:
        super().__init__(lambda message: Pass())
        self.log, self.fails = log, fails

    def start(self, services: Services) -> None:
        if self.fails:
            raise OSError("no such database")
        self.log.append(f"start {services.name} at {services.hostname}")

    def stop(self) -> None:
        self.log.append("stop")
        if self.fails:
            raise OSError("stop")


def test_start_and_stop():
    log: list[str] = []
    failing = loaded(Starting(log, fails=True), "failing")
    pipeline = Pipeline([failing, loaded(Starting(log), "good")], AsyncioRunner(), hostname="gate")
    pipeline.start()
    assert log == ["start good at gate"]
    judgement = run(pipeline.judge(PLAIN, start(), RECORD))
    assert judgement.outcome.action is Action.DEFER
    assert judgement.runs[0].detail == "did not start: OSError: no such database"
    pipeline.stop()
    assert log[1:] == ["stop", "stop"]


def test_large_messages_are_laid_in_in_threads():
    runner = AsyncioRunner()
    message = b"Subject: x\r\n\r\n" + b"line\r\n" * 400_000
    pipeline = Pipeline([loaded(adding("X"), "one"), loaded(adding("Y"), "two")], runner)
    judgement = run(pipeline.judge(message, start(), RECORD))
    assert runner.threads == 4  # two plugins, one laying in between, one look at the result
    assert judgement.outcome.size == len(message) + 2 * len("X: y\r\n")


def test_what_a_message_tells():
    def answer(message: Message) -> Verdict:
        assert message.envelope is not None and message.envelope.recipients == ["bob@example.org"]
        assert (message.stage, message.subject, message.size) == (Stage.DATA, "hello", len(PLAIN))
        assert message.header("x-none") is None and message.defects == []
        for number in range(100):
            message.note(f"key{number}", "value\r\n" * 100)
        return Pass()

    facts = judge(PLAIN, loaded(Answering(answer))).runs[0].facts
    assert len(facts) == 20 and all(len(value) < 220 and value.isprintable() for value in facts.values())


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (lambda message: Reject("no"), "reject"),
        (lambda message: Discard(), "discard"),
        (lambda message: Quarantine("odd"), "quarantine"),
        (lambda message: Modify(message.edits()), "pass"),
        (raising, "error"),
        (overlapping, "error"),
        (lambda message: None, "error"),
    ],
)
def test_nothing_comes_of_a_plugin_in_shadow(answer: Any, result: str):
    after = Answering(lambda message: Pass())
    shadow = loaded(Answering(answer), "shadow", shadow=True, on_error="reject")
    judgement = judge(PLAIN, shadow, loaded(after, "after"))
    assert judgement.outcome.action is Action.PASS and judgement.chunks is None
    assert [(one.result, one.applied) for one in judgement.runs] == [(result, "shadow"), ("pass", "pass")]
    assert judgement.runs[0].diff == ()
    assert after.seen == [PLAIN]


def test_a_plugin_in_shadow_tells_what_it_would_have_changed():
    shadow = loaded(adding("X-Shadow", "a\x1b[31m"), "shadow", shadow=True)
    judgement = judge(PLAIN, loaded(adding("X-One"), "one"), shadow, loaded(adding("X-Two"), "two"))
    result = b"".join(judgement.chunks or ())
    assert b"X-One" in result and b"X-Two" in result and b"X-Shadow" not in result
    assert (judgement.outcome.action, judgement.outcome.size) == (Action.MODIFY, len(result))
    ran = judgement.runs[1]
    assert (ran.result, ran.applied) == ("modify", "shadow")
    assert ran.diff[0] == "@@ header" and ran.diff[1].startswith("+X-Shadow: a")
    assert all(line.isprintable() for line in ran.diff)


def test_a_plugin_in_shadow_that_hangs_or_did_not_start():
    slow = loaded(Slow(PluginOptions()), "slow", time_limit=0.01, shadow=True)
    failing = loaded(Starting([], fails=True), "failing", shadow=True)
    judgement = judge(PLAIN, slow, failing)
    assert judgement.outcome.action is Action.PASS
    assert [(one.result, one.applied) for one in judgement.runs] == [
        ("timeout", "shadow"),
        ("error", "shadow"),
    ]


def one_of(log: list[str]) -> Pipeline:
    pipeline = Pipeline([loaded(Starting(log), "one")], AsyncioRunner())
    pipeline.start()
    log.clear()
    return pipeline


def test_a_pipeline_that_is_replaced_stops_with_its_last_session():
    log: list[str] = []
    old, new = one_of(log), one_of([])
    old.enter()
    old.enter()
    old.retire(new)
    old.leave()
    assert log == [] and not old.is_stopped
    assert [one.plugin for one in run(old.judge(PLAIN, start(), RECORD)).runs] == ["one"]
    old.leave()
    assert log == ["stop"] and old.is_stopped
    unused = one_of(log)
    unused.retire(new)
    assert log == ["stop"]


def test_after_its_bound_the_successor_judges_for_old_sessions():
    old_log: list[str] = []
    old, between, new = one_of(old_log), one_of([]), one_of([])
    plugin = new.plugins[0].plugin
    assert isinstance(plugin, Answering)
    old.enter()
    old.retire(between)
    old.expire()
    assert old_log == ["stop"]
    between.retire(new)  # nobody uses it, so that it stops at once
    assert run(old.judge(PLAIN, start(), RECORD)).outcome.action is Action.PASS
    assert len(plugin.seen) == 1
    old.leave()
    assert old_log == ["stop"]


def test_plugins_that_sessions_ask_stay_until_these_are_over():
    class Asked(Starting):
        def on_command(self, command: Command, session: SessionRecord) -> None:
            pass

    log: list[str] = []
    old = Pipeline([loaded(Asked(log), "asked")], AsyncioRunner())
    old.enter()
    old.retire(one_of([]))
    old.expire()
    assert log == [] and not old.is_stopped
    old.leave()
    assert log == ["stop"]


def test_a_pipeline_does_not_stop_under_a_message():
    log: list[str] = []
    pipeline = Pipeline([], AsyncioRunner())
    leaving: list[str] = []

    def answer(message: Message) -> Verdict:
        pipeline.retire(Pipeline([], AsyncioRunner()))
        pipeline.expire()
        leaving.extend(log)
        return Pass()

    class Ending(Starting):
        async def inspect(self, message: Message, session: SessionRecord) -> Verdict:  # type: ignore[override]
            return answer(message)

    pipeline = Pipeline([loaded(Ending(log), "one")], AsyncioRunner())
    pipeline.start()
    log.clear()
    run(pipeline.judge(PLAIN, start(), RECORD))
    assert leaving == [] and log == ["stop"]


AMBIGUOUS = (
    b"Content-Type: multipart/mixed; boundary=a\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--a\r\n\r\none\r\n--a--\r\n--b\r\n\r\nother\r\n--b--\r\n"
)


@pytest.mark.parametrize(
    ("defects", "action", "stage", "applied"),
    [
        ("pass", Action.PASS, Stage.DATA, ""),
        ("reject", Action.REJECT, Stage.DATA, "reject"),
        ("reject", Action.REJECT, Stage.APPEND, "reject"),
        ("reject", Action.PASS, Stage.FETCH, ""),
    ],
)
def test_ambiguous_messages_are_stopped_before_any_plugin(
    defects: str, action: Action, stage: Stage, applied: str
):
    plugin = Answering(lambda message: Pass())
    every = loaded(plugin, stages=frozenset(Stage))
    pipeline = Pipeline([every], AsyncioRunner(), defects=defects)
    judgement = run(pipeline.judge(AMBIGUOUS, start(stage), RECORD))
    assert judgement.outcome.action is action
    if applied:
        assert judgement.ambiguous is not None and plugin.seen == [] and judgement.runs == []
        assert (judgement.ambiguous.stage, judgement.ambiguous.applied) == (stage, applied)
        assert "duplicate_content_type" in judgement.ambiguous.defects
        assert "duplicate content type" in judgement.outcome.reason
    else:
        assert judgement.ambiguous is None and plugin.seen == [AMBIGUOUS]
    for good in (PLAIN, SIGNED, DKIM):
        assert run(pipeline.judge(good, start(stage), RECORD)).outcome.action is Action.PASS


def test_ambiguous_messages_are_quarantined():
    pipeline = Pipeline([], AsyncioRunner(), defects="quarantine")
    judgement = run(pipeline.judge(AMBIGUOUS, start(), RECORD))
    assert judgement.outcome.action in (Action.QUARANTINE, Action.DEFER)
    assert judgement.ambiguous is not None and judgement.ambiguous.applied == str(judgement.outcome.action)


def test_messages_are_held_to_find_ambiguous_ones_without_any_plugin():
    pipeline = Pipeline([], AsyncioRunner(), defects="reject")
    assert pipeline.subscribes("mx", "smtp") == {Stage.DATA}
    assert pipeline.subscribes("mx", "imap") == {Stage.APPEND}
    assert pipeline.subscribes("mx", "pop3") == frozenset()
    assert Pipeline([], AsyncioRunner()).subscribes("mx", "smtp") == frozenset()


def test_a_message_beyond_a_limit_is_stopped_too():
    message = b"Content-Type: multipart/mixed; boundary=a\r\n\r\n" + b"--a\r\n\r\nx\r\n" * 50 + b"--a--\r\n"
    pipeline = Pipeline([], AsyncioRunner(), defects="reject", limits=Limits(parts=10))
    judgement = run(pipeline.judge(message, start(), RECORD))
    assert judgement.ambiguous is not None and judgement.ambiguous.defects == ("too_many_parts",)
    pipeline = Pipeline([], AsyncioRunner(), defects="reject")
    assert run(pipeline.judge(message, start(), RECORD)).ambiguous is None


ANSWERS = {
    "pass": lambda message: Pass(),
    "add": lambda message: adding("X-Added").answer(message),
    "cut": lambda message: _cut(message),
    "reject": lambda message: Reject("no"),
    "discard": lambda message: Discard(),
    "raise": raising,
    "overlap": overlapping,
    "nonsense": lambda message: 7,
}


def _cut(message: Message) -> Verdict:
    edits = message.edits()
    edits.splice(message.size // 2, message.size, b"")
    return Modify(edits)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(ANSWERS)), st.booleans()), max_size=5),
    st.sampled_from(["defer", "pass", "reject"]),
)
def test_whatever_runs_in_shadow_changes_nothing(row: list[tuple[str, bool]], on_error: str):
    def judged(plugins: list[tuple[str, bool]]) -> tuple[Outcome, bytes | None]:
        made = [
            loaded(Answering(ANSWERS[what]), f"{number}", shadow=shadow, on_error=on_error)
            for number, (what, shadow) in enumerate(plugins)
        ]
        judgement = judge(PLAIN, *made)
        return judgement.outcome, b"".join(judgement.chunks) if judgement.chunks is not None else None

    assert judged(row) == judged([one for one in row if not one[1]])
