"""What a reader would see changed: bounded, decoded, and safe to show."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.text import shown
from gateway.inspection.difference import difference

from .samples import PLAIN, SIGNED

MIXED = (
    b"Subject: =?utf-8?q?caf=C3=A9?=\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    b"b25lCnR3bwp0aHJlZQo=\r\n"
    b"--b\r\nContent-Type: application/pdf; name=a.pdf\r\n\r\nAAAA\r\n--b--\r\n"
)


def test_nothing_differs():
    for message in (PLAIN, SIGNED, MIXED, b""):
        assert difference(message, message) == ()


def test_header_fields_and_texts_are_shown_decoded():
    changed = MIXED.replace(b"=?utf-8?q?caf=C3=A9?=", b"tea").replace(
        b"b25lCnR3bwp0aHJlZQo=", b"b25lCjIKdGhyZWUK"
    )
    assert difference(MIXED, changed) == (
        "@@ header",
        "-Subject: café",
        "+Subject: tea",
        "@@ 1 text/plain",
        "-two",
        "+2",
    )


def test_attachments_are_shown_by_name_and_digest():
    found = difference(MIXED, MIXED.replace(b"AAAA", b"BBBBB"))
    assert found[0] == "@@ 2 application/pdf" and len(found) == 3
    assert found[1].startswith("-4 octets a.pdf, sha256 ") and found[2].startswith("+5 octets a.pdf, sha256 ")


def test_what_no_reader_sees():
    assert difference(PLAIN, PLAIN.replace(b"\r\n", b"\n")) == ("@@ only octets that a reader does not see",)


def test_controls_are_escaped():
    found = difference(b"Subject: a\r\n\r\nx\r\n", b"Subject: a\x1b[31m\r\n\r\nx\x07\r\n")
    assert found == ("@@ header", "-Subject: a", "+Subject: a\\x1b[31m", "@@ body", "-x", "+x\\x07")


def test_it_is_bounded():
    long = b"Subject: x\r\n\r\n" + b"".join(b"line %d\r\n" % number for number in range(20_000))
    other = b"Subject: x\r\n\r\n" + b"".join(b"other %d\r\n" % number for number in range(20_000))
    found = difference(long, other)
    assert sum(map(len, found)) < 2200 and found[-1].startswith("… ") and found[-1].endswith(" more")


def test_hostile_texts_take_no_long_time():
    """Many like lines are the worst for an aligner; beyond a bound nothing is aligned."""
    one = b"\r\n" + b"a\r\nb\r\n" * 60_000
    other = b"\r\n" + b"b\r\na\r\n" * 60_000 + b"c\r\n"
    difference(one, other)
    difference(
        b"\r\n" + b"a\r\n" * 190 + b"x\r\n" + b"b\r\n" * 190, b"\r\n" + b"b\r\n" * 190 + b"a\r\n" * 190
    )
    difference(b"\r\n" + b"\n" * 1_000_000, b"\r\n" + b"\n" * 999_999)


@settings(max_examples=60)
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_octets(one: bytes, other: bytes):
    for old, new in ((one, other), (b"Subject: " + one, b"Subject: " + other)):
        found = difference(old, new)
        assert (found == ()) is (old == new)
        assert all(shown(line, 300) == line for line in found)
