"""The header plugin: modes, templates, and that no client's word breaks out of the field."""

from __future__ import annotations

from typing import Any

import pytest
from gateway.plugins.add_header import AddHeader
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.core.record import SessionRecord
from gateway.core.steps import CLIENT, BodyStart, Envelope, Stage, TlsInfo
from gateway.inspection.edits import render
from gateway.inspection.message import Content
from gateway.plugin import Message, Modify, Pass, Services
from tests.inspection.samples import DKIM, PLAIN
from tests.inspection.support import judge, loaded, run

EVERY = (
    "{hostname} {client_address} {client_name} {user} {protocol} {listener} "
    "{protection} {session} {stage} {mailfrom} {{}}"
)


def plugin(**options: Any) -> AddHeader:
    made = AddHeader(AddHeader.Options(**options))
    made.start(Services("gate.example.org", "mark"))
    return made


def result(message: bytes, **options: Any) -> bytes:
    judgement = judge(message, loaded(plugin(**options)))
    return b"".join(judgement.chunks) if judgement.chunks is not None else message


def test_add_puts_the_field_behind_the_trace_fields():
    assert result(PLAIN, name="X-Gateway", value="seen by {hostname}") == PLAIN.replace(
        b"From:", b"X-Gateway: seen by gate.example.org\r\nFrom:", 1
    )


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("add", b"X: new\r\nA: 1\r\nX: one\r\nx: two\r\n\r\nbody"),
        ("set", b"A: 1\r\nX: new\r\n\r\nbody"),
        ("if-missing", b"A: 1\r\nX: one\r\nx: two\r\n\r\nbody"),
    ],
)
def test_modes(mode: str, expected: bytes):
    message = b"A: 1\r\nX: one\r\nx: two\r\n\r\nbody"
    assert result(message, name="X", value="new", mode=mode) == expected


def test_if_missing_and_set_add_where_there_is_none():
    for mode in ("set", "if-missing"):
        assert result(b"A: 1\r\n\r\n", name="X", value="new", mode=mode) == b"X: new\r\nA: 1\r\n\r\n"


def test_every_name_of_the_template():
    session = SessionRecord(
        "s1", "smtp", "mx", "192.0.2.7", 1, user="alice", client_name="c", client_tls=TlsInfo("TLSv1.3", "x")
    )
    start = BodyStart(CLIENT, Stage.DATA, True, envelope=Envelope("a@b"))
    verdict = run(plugin(name="X", value=EVERY).inspect(Message(Content(PLAIN), start), session))
    assert isinstance(verdict, Modify)
    (edit,) = verdict.edits
    assert edit.data.replace(b"\r\n ", b" ") == (
        b"X: gate.example.org 192.0.2.7 c alice smtp mx tls s1 data a@b {}\r\n"
    )
    append = BodyStart(CLIENT, Stage.APPEND, True)
    verdict = run(plugin(name="X", value="<{mailfrom}>").inspect(Message(Content(PLAIN), append), session))
    assert isinstance(verdict, Modify) and next(iter(verdict.edits)).data == b"X: <>\r\n"


@given(st.text(max_size=300), st.text(max_size=300))
@settings(max_examples=150, deadline=None)
def test_nothing_breaks_out_of_the_field(user: str, address: str):
    session = SessionRecord("s", "smtp", "mx", "192.0.2.7", 1, user=user)
    start = BodyStart(CLIENT, Stage.DATA, True, envelope=Envelope(address))
    message = Message(Content(PLAIN), start)
    verdict = run(plugin(name="X", value="{user} {mailfrom}").inspect(message, session))
    assert isinstance(verdict, Modify)
    changed = Message.of(b"".join(render(PLAIN, verdict.edits.in_order())))
    assert len(changed.root.fields) == len(message.root.fields) + 1
    assert changed.root.raw_body == message.root.raw_body
    assert max(len(line) for line in bytes(changed.buffer[:]).split(b"\r\n")) <= 998


def test_a_signed_message_gets_the_field_unless_the_signature_covers_it():
    assert result(DKIM, name="X-Gateway", value="y") != DKIM
    assert result(DKIM, name="Subject", value="y", mode="set") == DKIM


@pytest.mark.parametrize(
    "options",
    [
        {"name": "X"},
        {"name": "a b", "value": "x"},
        {"name": "X:", "value": "x"},
        {"name": "X\r\nY", "value": "x"},
        {"name": "X", "value": "{password}"},
        {"name": "X", "value": "{user.__class__}"},
        {"name": "X", "value": "{user!r}"},
        {"name": "X", "value": "{user:>10}"},
        {"name": "X", "value": "{}"},
        {"name": "X", "value": "{"},
        {"name": "X", "value": "x", "mode": "other"},
        {"name": "X", "value": "x", "unknown": 1},
    ],
)
def test_options_that_are_refused(options: dict[str, Any]):
    with pytest.raises(ValidationError):
        AddHeader.Options(**options)


def test_if_missing_passes():
    message = Message.of(b"X: y\r\n\r\n")
    session = SessionRecord("s", "smtp", "mx", "192.0.2.7", 1)
    assert run(plugin(name="x", value="y", mode="if-missing").inspect(message, session)) == Pass()
