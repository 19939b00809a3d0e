"""What was said in a login is masked wherever it comes up again."""

from __future__ import annotations

import base64

import pytest

from gateway.core.masking import Masking, status, unknown
from gateway.core.text import shown

SECRET = b"Tr0ub4dor&3 zwo"
PLAIN = base64.b64encode(b"\0alice\0" + SECRET)


@pytest.mark.parametrize(
    ("said", "standing", "text", "masked"),
    [
        (b"PASS " + SECRET, [b"PASS"], "-ERR not PASS Tr0ub4dor&3 zwo", "-ERR not PASS ***"),
        (b"PASS " + SECRET, [b"PASS"], "-ERR Tr0ub4dor&3 is bad", "-ERR *** is bad"),
        (
            b'a1 LOGIN alice "Tr0ub4dor&3"',
            [b"a1", b"LOGIN", b"alice"],
            "NO Tr0ub4dor&3, alice",
            "NO ***, alice",
        ),
        (PLAIN, [], f"500 what is {PLAIN.decode()}?", "500 what is ***?"),
        (PLAIN, [], "535 Tr0ub4dor&3 zwo", "535 ***"),
        (b"AUTH PLAIN " + PLAIN, [b"AUTH", b"PLAIN"], "AUTH PLAIN refused", "AUTH PLAIN refused"),
        (base64.b64encode(SECRET), [], "500 VHIwdWI0ZG9yJjMgendv", "500 ***"),
    ],
)
def test_a_text_that_quotes_a_secret_is_masked(
    said: bytes, standing: list[bytes], text: str, masked: str
) -> None:
    masking = Masking()
    masking.learn(said, standing)
    assert masking.text(text) == masked


def test_the_user_s_name_is_no_secret() -> None:
    masking = Masking()
    masking.learn(PLAIN)
    masking.forgive("alice")
    assert masking.text("235 welcome, alice") == "235 welcome, alice"
    assert masking.text("535 Tr0ub4dor&3") == "535 ***"


def test_nothing_is_shown_of_what_was_learnt() -> None:
    masking = Masking()
    masking.learn(SECRET)
    assert "Tr0ub" not in repr(masking)


def test_a_session_cannot_make_it_slow() -> None:
    masking = Masking()
    for number in range(10_000):
        masking.learn(b"word%d" % number)
    masking.learn(b"x" * 1_000_000)
    assert len(masking._words) <= 200


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        (b"XFOO bar", "XFOO ***"),
        (b"XFOO", "XFOO"),
        (base64.b64encode(SECRET), "***"),
        (SECRET, "***"),
        (b" PASS " + SECRET, "***"),
        (b"PASS\t" + SECRET, "***"),
        (b"", "***"),
        (b"\x1b[31m", "***"),
    ],
)
def test_a_command_nobody_knows_shows_its_verb_only(said: bytes, seen: str) -> None:
    assert unknown(said) == seen


@pytest.mark.parametrize("limit", range(20, 60))
def test_a_secret_that_was_cut_is_masked_too(limit: int) -> None:
    masking = Masking()
    masking.learn(PLAIN)
    text = masking.text(shown(f"500 5.5.1 what is {PLAIN.decode()}, please?", limit))
    assert PLAIN.decode()[:4] not in text


@pytest.mark.parametrize(
    ("reply", "kept"),
    [
        ("500 5.5.1 what is hunter2?", "500 5.5.1 ***"),
        ("500-5.5.1 what", "500-5.5.1 ***"),
        ("502 hunter2", "502 ***"),
        ("-ERR hunter2", "-ERR ***"),
        ("+OK", "+OK"),
        ("BAD hunter2", "BAD ***"),
        ("hunter2", "***"),
        ("", ""),
    ],
)
def test_of_a_reply_to_an_unknown_command_only_the_result_stands(reply: str, kept: str) -> None:
    assert status(reply) == kept
