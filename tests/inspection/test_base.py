"""The choice for signed mail that plugins share."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.plugin import Message, SignedOptions
from tests.inspection.samples import DKIM, INLINE_PGP, PLAIN, SIGNED

BOTH = DKIM.replace(b"\r\n\r\n", b"\r\n" + SIGNED, 1)


@pytest.mark.parametrize(
    ("options", "edits", "choices"),
    [
        ({}, False, ("skip", "skip", "skip", "skip")),
        ({"edit_signed": True}, True, ("modify", "modify", "modify", "modify")),
        ({"edit_signed": False}, False, ("skip", "skip", "skip", "skip")),
        ({"signed": "modify"}, True, ("modify", "modify", "modify", "modify")),
        ({"dkim": "modify"}, True, ("modify", "skip", "skip", "skip")),
        (
            {"signed": "subject_only", "dkim": "skip"},
            True,
            ("skip", "subject_only", "subject_only", "subject_only"),
        ),
        ({"signed": "wrap"}, False, ("wrap", "wrap", "wrap", "wrap")),
        ({"signed": "wrap", "edit_signed": True}, True, ("wrap", "wrap", "wrap", "wrap")),
    ],
)
def test_a_choice_for_each_cover(options: dict[str, Any], edits: bool, choices: tuple[str, ...]):
    made = SignedOptions(**options)
    assert made.edit_signed is edits
    for octets, choice in zip((DKIM, SIGNED, BOTH, INLINE_PGP), choices, strict=True):
        message = Message.of(octets)
        part = message.root.children[0] if message.root.children else message.root
        assert made.on_signed(message, part) == choice
        assert len(message.facts) == 1
    message = Message.of(PLAIN)
    assert made.on_signed(message, message.root) is None and not message.facts


@pytest.mark.parametrize("choice", ["subject_only", "modify"])
def test_a_contradiction_is_refused(choice: str):
    with pytest.raises(ValidationError, match="contradicts"):
        SignedOptions.model_validate({"signed": choice, "edit_signed": False})
