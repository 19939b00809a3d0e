"""Signed and encrypted regions: recognised, and left alone."""

from __future__ import annotations

import base64

import pytest

from gateway.inspection.edits import Edits
from gateway.inspection.message import Message
from gateway.inspection.signatures import SignedKind, covered_edits

from .samples import ALTERNATIVE, DKIM, ENCRYPTED, INLINE_PGP, MIXED, PKCS7, PLAIN, SIGNED, crlf


@pytest.mark.parametrize(
    ("message", "kinds"),
    [
        (PLAIN, []),
        (ALTERNATIVE, []),
        (MIXED, []),
        (SIGNED, [SignedKind.MULTIPART_SIGNED]),
        (ENCRYPTED, [SignedKind.MULTIPART_ENCRYPTED]),
        (PKCS7, [SignedKind.PKCS7]),
        (INLINE_PGP, [SignedKind.INLINE_PGP]),
        (DKIM, [SignedKind.DKIM]),
        (
            b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.b64encode(b"-----BEGIN PGP MESSAGE-----"),
            [SignedKind.INLINE_PGP],
        ),
    ],
)
def test_kinds(message: bytes, kinds: list[SignedKind]):
    assert [one.kind for one in Message.of(message).signed] == kinds


def covered(message: bytes, edits: Edits) -> list[SignedKind]:
    return list(covered_edits(edits, Message.of(message).signed).values())


@pytest.mark.parametrize(
    ("name", "allowed"), [("X-Mark", True), ("Subject", False), ("From", False), ("Cc", True)]
)
def test_fields_that_dkim_covers(name: str, allowed: bool):
    for how in ("add_header", "set_header"):
        edits = Message.of(DKIM).edits()
        getattr(edits, how)(name, "value")
        assert (covered(DKIM, edits) == []) is allowed


def test_the_folded_lines_of_a_new_field_are_no_fields():
    message = Message.of(DKIM)
    edits = message.edits()
    edits.splice(0, 0, b"DKIM-Signature: v=1; h=Date:To:\r\n\tFrom:Subject;\r\n b=x\r\n")
    assert not covered_edits(edits, message.signed)


def test_removing_a_covered_field():
    edits = Message.of(DKIM).edits()
    edits.remove_header("subject")
    assert covered(DKIM, edits) == [SignedKind.DKIM]


@pytest.mark.parametrize("message", [SIGNED, ENCRYPTED, PKCS7, INLINE_PGP, DKIM])
def test_no_body_of_a_signed_message_may_be_edited(message: bytes):
    seen = Message.of(message)
    for part in seen.root.walk():
        assert not seen.may_edit(part)
        edits = seen.edits()
        edits.splice(part.end, part.end, b"x")
        assert len(covered(message, edits)) == 1
    edits = seen.edits()
    edits.add_header("X-Mark", "value")
    assert covered(message, edits) == []


def test_a_signed_part_beside_others_protects_itself_only():
    message = (
        crlf("Content-Type: multipart/mixed; boundary=m\n\n--m\n\nfree\n--m\n")
        + SIGNED.partition(b"\r\n")[2]
        + crlf("--m--\n")
    )
    seen = Message.of(message)
    free, signed = seen.root.children
    assert signed.content_type == "multipart/signed"
    assert seen.may_edit(free) and not any(seen.may_edit(part) for part in signed.walk())
    edits = seen.edits()
    edits.append_text(free, "ü")
    assert covered(message, edits) == []
    edits.set_header("Content-Type", "text/plain")
    assert covered(message, edits) == []


def test_the_transfer_encoding_of_a_covered_part_may_not_be_changed():
    seen = Message.of(INLINE_PGP)
    edits = seen.edits()
    edits.set_header("Content-Transfer-Encoding", "base64")
    assert covered(INLINE_PGP, edits) == [SignedKind.INLINE_PGP]


def test_ten_thousand_tags_in_a_dkim_field_are_read_once():
    message = b"DKIM-Signature: " + b"h=a;" * 100_000 + b"\r\n\r\nx"
    assert Message.of(message).signed[0].names == {"a"}
