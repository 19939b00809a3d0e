"""Secrets, shown texts, exchanges."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Entry, Exchange
from gateway.core.secret import Secret
from gateway.core.steps import CLIENT, UPSTREAM
from gateway.core.text import shown


def test_a_secret_does_not_print():
    secret = Secret(b"s3cret")
    assert "s3cret" not in f"{secret} {secret!r} {secret!s} {[secret]}" and secret.reveal() == b"s3cret"
    with pytest.raises(TypeError):
        pickle.dumps(secret)


@given(st.one_of(st.text(), st.binary()))
def test_what_is_shown_is_one_line_without_controls(data):
    text = shown(data)
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u2028\u2029\u202e\ufeff" for c in text)
    assert len(text) <= 200 * 10
    text.encode("utf-8")  # holds no lone surrogate


def test_what_is_cut_says_so():
    assert shown("a" * 300).endswith("…(+100)") and shown(b"\x1b[31m") == "\\x1b[31m"


def test_own_replies_wait_for_those_before_them():
    exchange: Exchange[str] = Exchange()
    exchange.expect(Entry("upstream", None))
    exchange.expect(Entry("own", None, b"502 no\r\n"))
    assert exchange.ready() is None
    assert exchange.settle().kind == "upstream"
    own = exchange.ready()
    assert own is not None and own.kind == "own" and not exchange


def test_sides():
    assert CLIENT.other is UPSTREAM and UPSTREAM.other is CLIENT and str(CLIENT) == "client"
