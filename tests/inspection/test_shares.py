"""Shares: stable, fair, and growing without dropping anybody."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.record import SessionRecord
from gateway.core.steps import Envelope, Stage
from gateway.inspection.pipeline import Pipeline
from gateway.inspection.shares import in_share, share_keys
from gateway.inspection.verdict import Pass, Reject

from .samples import PLAIN
from .support import Answering, AsyncioRunner, loaded, run, start

KEYS = st.text(max_size=80)
SHARES = st.floats(0, 1)


@given(KEYS, SHARES, SHARES, st.text(max_size=20))
def test_raising_a_share_only_adds(key: str, one: float, other: float, salt: str):
    low, high = sorted((one, other))
    assert not in_share(key, low, salt) or in_share(key, high, salt)
    assert in_share(key, 1, salt) and not in_share(key, 0, salt)


@given(KEYS.filter(lambda key: key.isascii()), SHARES)
def test_the_same_person_in_any_case(key: str, share: float):
    assert in_share(key.upper(), share) == in_share(key.lower(), share) == in_share(f" {key}\r\n", share)


def test_a_share_is_about_as_large_as_it_says():
    people = [f"user{number}@example.org" for number in range(4000)]
    for share in (0.01, 0.25, 0.9):
        there = sum(in_share(one, share, "dlp") for one in people)
        assert abs(there / len(people) - share) < 0.03


def test_another_salt_draws_others():
    people = [f"user{number}" for number in range(1000)]
    one = {name for name in people if in_share(name, 0.5, "one")}
    two = {name for name in people if in_share(name, 0.5, "two")}
    assert 150 < len(one & two) < 350


def test_restarts_change_nothing():
    """Written down, so that a change of the rule is seen; and the same with any hash seed."""
    drawn = "bob,dave"
    names = "alice,bob,carol,dave,erin,frank"
    code = (
        "from gateway.inspection.shares import in_share; import sys; "
        "print(','.join(n for n in sys.argv[1].split(',') if in_share(n, 0.5, 'footer')))"
    )
    for seed in ("1", "2"):
        told = subprocess.run(
            [sys.executable, "-c", code, names],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        )
        assert told.stdout.strip() == drawn


def record(user: str = "", address: str = "192.0.2.7") -> SessionRecord:
    return SessionRecord("id", "smtp", "mx", address, 1024, user=user)


@pytest.mark.parametrize(
    ("by", "user", "address", "keys"),
    [
        ("", "alice", "192.0.2.7", ["alice"]),
        ("", "", "192.0.2.7", ["a@x"]),
        ("user", "", "192.0.2.7", []),
        ("sender", "alice", "192.0.2.7", ["a@x"]),
        ("recipient", "alice", "192.0.2.7", ["b@x", "c@x"]),
        ("client", "alice", "192.0.2.7", ["192.0.2.7"]),
        ("client", "", "2001:db8::7:1", ["2001:db8::/64"]),
        ("client", "", "::ffff:192.0.2.7", ["192.0.2.7"]),
        ("client", "", "fe80::1%eth0", ["fe80::/64"]),
    ],
)
def test_by_whom_a_message_is_drawn(by: str, user: str, address: str, keys: Sequence[str]):
    envelope = Envelope("a@x", ["b@x", "c@x"])
    assert share_keys(by, record(user, address), envelope) == keys


def test_without_an_envelope_the_user_stands_for_sender_and_recipient():
    for by in ("", "user", "sender", "recipient"):
        assert share_keys(by, record("alice"), None) == ["alice"]
        assert share_keys(by, record(), None) == []


def asked(user: str, **spec: Any) -> list[tuple[str, str]]:
    plugin = loaded(Answering(lambda message: Reject("no")), "footer", **spec)
    after = loaded(Answering(lambda message: Pass()), "after")
    pipeline = Pipeline([plugin, after], AsyncioRunner())
    judgement = run(pipeline.judge(PLAIN, start(Stage.DATA), record(user)))
    return [(one.plugin, one.applied) for one in judgement.runs]


def test_the_pipeline_asks_only_about_its_share():
    assert asked("bob", share=0.5) == [("footer", "reject")]
    assert asked("alice", share=0.5) == [("after", "pass")]
    assert asked("alice", share=0.5, outside_share="shadow") == [("footer", "shadow"), ("after", "pass")]
    assert asked("bob", share=0.5, shadow=True) == [("footer", "shadow"), ("after", "pass")]
    assert asked("alice", share=0.5, shadow=True) == [("after", "pass")]
