"""Messages of other projects: read as other parsers read them, edited without harm."""

from __future__ import annotations

import email
from pathlib import Path

import fast_mail_parser
import pytest
from hypothesis import given, settings

from gateway.inspection.defects import Defect
from gateway.inspection.edits import Edits, render
from gateway.inspection.message import Content, Message
from gateway.inspection.parts import Part, parse

from .samples import WELL_FORMED
from .test_parts import other_outline, outline, well_formed
from .test_structure_edits import follow, outside_is_kept, path_of

CORPUS = Path(__file__).parent / "corpus"
FILES = sorted(path for path in CORPUS.rglob("*.*") if path.suffix in (".msg", ".eml"))
NAMES = [str(path.relative_to(CORPUS)) for path in FILES]
#: Where the email package differs though nothing is ambiguous, and why.
DIFFERENT = {
    "mail-parser/malformed/000.eml": "it drops a part of no octets",
    "mime4j/multipartemptypart.msg": "it takes the epilogue for the content of a part of no octets",
    "mail-parser/malformed/009.eml": "it drops the last line end where an inner boundary is missing",
    "mail-parser/malformed/011.eml": "it drops the last line end where an inner boundary is missing",
    "mail-parser/malformed/012.eml": "it drops the last line end where an inner boundary is missing",
    "mail-parser/rfc/001.eml": "it reads the phantom header of message/external-body as a message",
}


def corpus(name: str) -> bytes:
    return (CORPUS / name).read_bytes()


def test_the_corpus_is_there():
    assert len(FILES) == 119


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_ambiguous_the_email_package_reads_alike(name: str):
    message = corpus(name)
    if Content(message).ambiguity or name in DIFFERENT:
        return
    other = other_outline(email.message_from_bytes(message)) if message.isascii() else None
    if other is not None:
        assert outline(parse(message)) == other


@pytest.mark.parametrize("name", NAMES)
def test_every_message_has_the_parts_that_the_email_package_finds(name: str):
    """What some program finds is found in one of the readings."""
    message = Message.of(corpus(name))
    kinds = [part.content_type for part in message.walk()]
    for part in email.message_from_bytes(corpus(name)).walk():
        kind = part.get_content_type().partition("\n")[0].strip()
        if name not in DIFFERENT:
            assert kind in kinds, kind


def tree(part: Part) -> list[object]:
    return [part.content_type, *[tree(child) for child in part.children]]


def other_tree(part: fast_mail_parser.PyMimePart) -> list[object]:
    return [part.content_type, *[other_tree(child) for child in part.children]]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_ambiguous_another_parser_reads_alike(name: str):
    message = corpus(name)
    if Content(message).ambiguity or name == "mail-parser/malformed/014.eml":
        return  # of the latter it drops a part of no octets
    assert tree(parse(message)) == other_tree(fast_mail_parser.parse_email_tree(message))


@pytest.mark.parametrize("name", [name for name in WELL_FORMED if name not in ("folded_type", "mixed")])
def test_structure_agrees_with_another_parser(name: str):
    """It leaves comments in the type, and takes a line that only begins like a delimiter for one."""
    assert tree(parse(WELL_FORMED[name])) == other_tree(fast_mail_parser.parse_email_tree(WELL_FORMED[name]))


@given(well_formed())
@settings(max_examples=100, deadline=None)
def test_generated_structure_agrees_with_another_parser(message: bytes):
    assert tree(parse(message)) == other_tree(fast_mail_parser.parse_email_tree(message))


@pytest.mark.parametrize("name", NAMES)
def test_every_edit_of_every_part_is_seen_and_leaves_the_rest(name: str):
    message = corpus(name)
    root = parse(message)
    assert b"".join(render(message, [])) == message
    for part in root.walk():
        path = path_of(part)
        edits = Edits(root)
        assert edits.replace_by_notice(part, "taken away", "notice.txt")
        after = follow(parse(outside_is_kept(message, edits)), path)
        assert (after.text(), after.filename) == ("taken away", "notice.txt")
        edits = Edits(root)
        if edits.replace_content(part, b"\0new", "image/png"):
            after = follow(parse(outside_is_kept(message, edits)), path)
            assert (after.content(), after.content_type) == (b"\0new", "image/png")
        edits = Edits(root)
        if edits.remove_part(part):
            outside_is_kept(message, edits)
        edits = Edits(root)
        if part.is_text and not part.children and edits.replace_spans(part, [(0, 0, "new ")]):
            after = follow(parse(outside_is_kept(message, edits)), path)
            assert after.text() == "new " + part.text()
    for first in (True, False):
        edits = Edits(root)
        assert edits.insert_part(b"new", "image/png", first=first)
        parsed = parse(outside_is_kept(message, edits))
        assert parsed.children[0 if first else -1].content() == b"new"
    edits = Edits(root)
    assert edits.wrap("notice")
    assert parse(outside_is_kept(message, edits)).children[1].raw_body == message


def test_an_encoded_message_of_the_corpus_is_shown():
    message = Message.of(corpus("mime4j/base64encoded-rfc822message-nested.msg"))
    assert Defect.ENCODED_MESSAGE in message.ambiguity
    assert sum(1 for part in message.walk() if part.parent is None) > 1
