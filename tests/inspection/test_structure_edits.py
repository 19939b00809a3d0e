"""Edits of the structure: parts replaced, removed, put in and enclosed."""

from __future__ import annotations

import pytest

from gateway.inspection.edits import Edits
from gateway.inspection.parts import parse

from .samples import ALTERNATIVE, MIXED, PLAIN, WELL_FORMED
from .test_edits import edited


@pytest.mark.parametrize("name", WELL_FORMED)
@pytest.mark.parametrize("lone", [False, True])
def test_wrap_keeps_every_octet(name: str, lone: bool):
    message = WELL_FORMED[name].replace(b"\r\n", b"\n") if lone else WELL_FORMED[name]
    edits = Edits(parse(message))
    assert edits.wrap("Beware: ü", "[wrapped]")
    result = edited(message, edits)
    root = parse(result)
    assert [part.content_type for part in root.children] == ["text/plain", "message/rfc822"]
    assert root.children[1].raw_body == message
    assert root.children[0].text() == "Beware: ü"
    assert root.get("subject").value == "[wrapped]"


def test_insert_remove_replace():
    edits = Edits(parse(PLAIN))
    assert edits.insert_part(b"new", "text/plain", first=False)
    root = parse(edited(PLAIN, edits))
    assert [part.text() for part in root.children] == ["Hello, Bob.\r\n", "new"]
    edits = Edits(parse(MIXED))
    assert edits.insert_part(b"%PDF\0", "application/pdf", filename="ä.pdf", inline=False)
    root = parse(edited(MIXED, edits))
    assert root.children[0].filename == "ä.pdf" and root.children[0].content() == b"%PDF\0"
    root = parse(ALTERNATIVE)
    edits = Edits(root)
    assert edits.remove_part(root.children[0])
    after = parse(edited(ALTERNATIVE, edits))
    assert [part.content_type for part in after.children] == ["text/html"]
    edits = Edits(root)
    assert edits.replace_by_notice(root.children[1], "taken away: ü", "notice.txt")
    after = parse(edited(ALTERNATIVE, edits))
    assert after.children[1].text() == "taken away: ü" and after.children[1].filename == "notice.txt"
    edits = Edits(root)
    assert edits.replace_spans(root.children[0], [(2, 4, "ÜSS")])
    assert parse(edited(ALTERNATIVE, edits)).children[0].text() == "GrÜSSe"[:0] + "Gr" + "ÜSS" + "e"
