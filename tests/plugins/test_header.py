"""The header plugin: actions in order, patterns, conditions, and that passing twice changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from gateway.plugins.header import Header
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.core.record import SessionRecord
from gateway.core.steps import CLIENT, BodyStart, Envelope, Stage
from gateway.inspection.edits import render
from gateway.inspection.message import Content
from gateway.plugin import Message, Modify, Services
from tests.inspection.samples import DKIM, PLAIN
from tests.inspection.support import judge, loaded, run

MESSAGE = b"A: 1\r\nX-Internal-Id: 7\r\nX: one\r\nx-internal-host: a\r\n b\r\nx: two\r\n\r\nbody"


def plugin(*actions: dict[str, Any]) -> Header:
    return Header(Header.Options.model_validate({"actions": actions}))


def result(message: bytes, *actions: dict[str, Any], stage: Stage = Stage.DATA) -> bytes:
    judgement = judge(message, loaded(plugin(*actions)), stage=stage)
    (ran,) = judgement.runs
    assert ran.result in ("pass", "modify"), ran
    return b"".join(judgement.chunks) if judgement.chunks is not None else message


def do(what: str, name: str, value: str | None = None, **more: Any) -> dict[str, Any]:
    return {"do": what, "name": name, **({} if value is None else {"value": value}), **more}


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        ([do("remove", "X-Internal-*")], b"A: 1\r\nX: one\r\nx: two\r\n\r\nbody"),
        ([do("remove", "x")], b"A: 1\r\nX-Internal-Id: 7\r\nx-internal-host: a\r\n b\r\n\r\nbody"),
        ([do("remove", "Nothing-*")], MESSAGE),
        ([do("set", "A", "2")], MESSAGE.replace(b"A: 1", b"A: 2")),
        ([do("set", "B", "2")], b"B: 2\r\n" + MESSAGE),
        ([do("add", "A", "2")], b"A: 2\r\n" + MESSAGE),
        ([do("add", "a", "1")], MESSAGE),
        ([do("add", "A", "1", repeat=True)], b"A: 1\r\n" + MESSAGE),
        ([do("add", "A", "2", if_missing=True)], MESSAGE),
        ([do("set", "A", "2", if_missing=True)], MESSAGE),
        ([do("add", "B", "2", if_missing=True)], b"B: 2\r\n" + MESSAGE),
        ([do("set", "A", "2", stages=["append"])], MESSAGE),
        ([do("set", "A", "2", stages=["append", "data"])], MESSAGE.replace(b"A: 1", b"A: 2")),
    ],
)
def test_each_action(actions: list[dict[str, Any]], expected: bytes):
    assert result(MESSAGE, *actions) == expected


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        ([do("remove", "A"), do("add", "A", "1")], b"A: 1\r\nB: x\r\n\r\n"),
        ([do("remove", "A"), do("add", "A", "3", if_missing=True)], b"A: 3\r\nB: x\r\n\r\n"),
        ([do("add", "A", "3"), do("remove", "A")], b"B: x\r\n\r\n"),
        ([do("set", "A", "3"), do("remove", "a*")], b"B: x\r\n\r\n"),
        ([do("add", "C", "1"), do("set", "C", "2")], b"C: 2\r\nA: 1\r\nA: 2\r\nB: x\r\n\r\n"),
        ([do("set", "A", "3"), do("set", "A", "4")], b"A: 4\r\nB: x\r\n\r\n"),
        ([do("set", "A", "3"), do("add", "A", "4")], b"A: 4\r\nA: 3\r\nB: x\r\n\r\n"),
        ([do("add", "A", "9"), do("set", "A", "3")], b"A: 3\r\nB: x\r\n\r\n"),
        ([do("remove", "A"), do("remove", "B"), do("add", "C", "x", top=True)], b"C: x\r\n\r\n"),
    ],
)
def test_each_action_sees_what_those_before_it_left(actions: list[dict[str, Any]], expected: bytes):
    assert result(b"A: 1\r\nA: 2\r\nB: x\r\n\r\n", *actions) == expected


def test_top_is_before_the_trace_fields():
    assert result(PLAIN, do("add", "X", "1", top=True)) == b"X: 1\r\n" + PLAIN
    assert result(PLAIN, do("add", "X", "1")) == PLAIN.replace(b"From:", b"X: 1\r\nFrom:")


names = st.sampled_from(["A", "B", "X-One", "X-Two"])
values = st.text(st.characters(codec="utf-8"), max_size=60)
some_actions = st.lists(
    st.one_of(
        st.builds(
            do, st.sampled_from(["add", "set"]), names, values.map(lambda text: text.replace("{", "("))
        ),
        st.builds(do, st.just("remove"), st.sampled_from(["A", "B", "X-*", "x-one"])),
    ).map(lambda one: {**one, "value": one["value"].replace("}", ")")} if "value" in one else one),
    min_size=1,
    max_size=6,
)


@given(some_actions, st.sampled_from([MESSAGE, PLAIN, b"", b"no header\r\n", b"A: 1"]))
@settings(max_examples=200, deadline=None)
def test_sets_and_removals_are_done_once(actions: list[dict[str, Any]], message: bytes):
    # An addition that a later action takes back would come again, so the last for each name counts.
    last = {one["name"].lower(): one for one in actions}
    actions = [one for one in last.values() if one["do"] != "remove" or not one["name"].endswith("*")]
    if actions:
        once = result(message, *actions)
        assert result(once, *actions) == once


@given(st.text(max_size=300), st.text(max_size=300))
@settings(max_examples=150, deadline=None)
def test_nothing_breaks_out_of_the_field(user: str, address: str):
    session = SessionRecord("s", "smtp", "mx", "192.0.2.7", 1, user=user)
    start = BodyStart(CLIENT, Stage.DATA, True, envelope=Envelope(address))
    message = Message(Content(PLAIN), start)
    verdict = run(plugin(do("set", "Subject", "{user} {mailfrom}")).inspect(message, session))
    assert isinstance(verdict, Modify)
    changed = Message.of(b"".join(render(PLAIN, verdict.edits.in_order())))
    assert [field.name for field in changed.root.fields] == [field.name for field in message.root.fields]
    assert changed.root.raw_body == message.root.raw_body


def test_the_gateway_is_named():
    made = plugin(do("add", "X", "{hostname}, {{}}"))
    made.start(Services("gate.example.org", "fields"))
    verdict = run(made.inspect(Message.of(PLAIN), SessionRecord("s", "smtp", "mx", "192.0.2.7", 1)))
    assert isinstance(verdict, Modify) and next(iter(verdict.edits)).data == b"X: gate.example.org, {}\r\n"


def test_what_a_signature_covers_stays_unless_the_admin_says_so():
    actions = [do("set", "Subject", "y"), do("add", "X", "z")]
    assert result(DKIM, *actions) == b"X: z\r\n" + DKIM
    allowed = Header(Header.Options.model_validate({"actions": actions, "edit_signed": True}))
    judgement = judge(DKIM, loaded(allowed))
    assert judgement.chunks is not None and b"Subject: y\r\n" in b"".join(judgement.chunks)


@pytest.mark.parametrize(
    "action",
    [
        do("add", "X"),
        do("remove", "X", "value"),
        do("remove", "X", if_missing=True),
        do("remove", "*"),
        do("remove", "X-*-Y"),
        do("add", "X-*", "y"),
        do("remove", "Content-*"),
        do("remove", "Mime-Version"),
        do("set", "content-type", "text/html"),
        do("set", "X", "y", repeat=True),
        do("add", "X", "{password}"),
        do("add", "X:", "y"),
        do("add", "X", "y", stages=["nowhere"]),
        do("change", "X", "y"),
        do("add", "X", "y", other=1),
    ],
)
def test_options_that_are_refused(action: dict[str, Any]):
    with pytest.raises(ValidationError):
        plugin(action)


def test_no_action_at_all_is_refused():
    with pytest.raises(ValidationError):
        plugin()
