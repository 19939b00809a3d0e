"""Edits of the structure: parts replaced, removed, put in and enclosed."""

from __future__ import annotations

import email
import mmap
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.inspection.defects import Defect
from gateway.inspection.edits import EditError, Edits
from gateway.inspection.parts import Part, parse
from gateway.inspection.signatures import covered_edits, find_signed

from .samples import ALTERNATIVE, DKIM, ENCRYPTED, MIXED, PLAIN, SIGNED, WELL_FORMED, crlf
from .test_edits import edited
from .test_parts import other_outline, outline, soups

NAMES = sorted(WELL_FORMED)
#: Every sample, and broken forms of it.
FORMS = {
    "crlf": lambda message: message,
    "lf": lambda message: message.replace(b"\r\n", b"\n"),
    "no final boundary": lambda message: message.replace(b"--outer--\r\n", b"").replace(b"--b--\r\n", b""),
    "cut off": lambda message: message.rstrip(b"\r\n"),
    "empty parts": lambda message: message.replace(b"\r\n\r\n", b"\r\n"),
    "header only": lambda message: message.partition(b"\r\n\r\n")[0] + b"\r\n",
}
messages = st.builds(
    lambda name, form: FORMS[form](WELL_FORMED[name]), st.sampled_from(NAMES), st.sampled_from(sorted(FORMS))
)
anything = st.one_of(soups, messages)
names = st.sampled_from(["", "notice.txt", "ä ö.txt", 'a"b;c\\.txt', "x" * 3000, "ü" * 300])
bodies = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [b"--b\r\n", b"\n--outer--\n", b"a\r\n--alt\r\n", b"x" * 1200, b"A: b\r\nlines\r\n", b"\xff\0"]
    ),
)


def bodies_of(root: Part) -> list[tuple[str, bytes]]:
    return [(part.content_type, part.raw_body) for part in root.walk() if not part.children]


def path_of(part: Part) -> list[int]:
    """Return by which children a part is reached."""
    path: list[int] = []
    while part.parent is not None:
        path.append(part.parent.children.index(part))
        part = part.parent
    return path[::-1]


def follow(root: Part, path: list[int]) -> Part:
    for index in path:
        root = root.children[index]
    return root


def outside_is_kept(message: bytes, edits: Edits) -> bytes:
    """Return the edited message; what no splice covers is checked to be the same octets."""
    result = edited(message, edits)
    place = new = 0
    for edit in edits.in_order():
        assert result[new : new + edit.start - place] == message[place : edit.start]
        new += edit.start - place + len(edit.data)
        place = edit.end
    assert result[new:] == message[place:]
    return result


# -- wrap ----------------------------------------------------------------------------


@given(anything, st.text(max_size=40), st.none() | st.text(max_size=20))
@settings(max_examples=300, deadline=None)
def test_wrap_keeps_every_octet_of_anything(message: bytes, text: str, subject: str | None):
    edits = Edits(parse(message))
    assert edits.wrap(text, subject)
    result = outside_is_kept(message, edits)
    root = parse(result)
    assert [part.content_type for part in root.children] == ["text/plain", "message/rfc822"]
    assert root.children[1].raw_body == message and not root.defects
    shown = text.encode("utf-8", "replace").decode().replace("\r\n", "\n").replace("\r", "\n")
    assert root.children[0].text().replace("\r\n", "\n") == shown
    other = email.message_from_bytes(result)
    assert [part.get_content_type() for part in other.get_payload()] == ["text/plain", "message/rfc822"]  # type: ignore[union-attr]


def test_wrap_takes_over_the_fields_that_a_reader_sees():
    message = crlf("Received: x\nDKIM-Signature: y\nFrom: a@b\nTo: c@d\nSubject: hi\nX-Other: z\n\nHello\n")
    edits = Edits(parse(message))
    edits.wrap("Beware", "[?] hi")
    root = parse(edited(message, edits))
    assert [one.name for one in root.fields] == [
        "received",
        "from",
        "to",
        "subject",
        "mime-version",
        "content-type",
    ]
    subject = root.get("subject")
    assert subject is not None and subject.value == "[?] hi"


def test_an_8bit_message_is_declared_as_such():
    message = "Subject: x\r\n\r\nü\r\n".encode()
    edits = Edits(parse(message))
    edits.wrap("Beware")
    root = parse(edited(message, edits))
    assert root.transfer_encoding == root.children[1].transfer_encoding == "8bit"


# -- remove --------------------------------------------------------------------------


@given(messages, st.integers(0, 20))
@settings(max_examples=300, deadline=None)
def test_a_part_removed_is_gone_and_the_others_are_not(message: bytes, index: int):
    root = parse(message)
    parts = list(root.walk())
    part = parts[index % len(parts)]
    edits = Edits(root)
    in_multipart = part.parent is not None and part.parent.is_multipart
    assert edits.remove_part(part) is in_multipart
    result = outside_is_kept(message, edits)
    if not in_multipart:
        assert result == message
        return
    after = parse(result)
    assert part.parent is not None
    path = path_of(part.parent)
    before = [outline(one) for one in part.parent.children if one is not part]
    assert [outline(one) for one in follow(after, path).children] == (before or [["text/plain", b""]])


@given(messages, st.sets(st.integers(0, 12)))
@settings(max_examples=300, deadline=None)
def test_many_parts_removed_at_once(message: bytes, wanted: set[int]):
    root = parse(message)
    multipart = next((part for part in root.walk() if part.is_multipart and part.children), None)
    if multipart is None:
        return
    edits = Edits(root)
    removed = [child for index, child in enumerate(multipart.children) if index in wanted]
    for child in removed:
        assert edits.remove_part(child)
    after = follow(parse(outside_is_kept(message, edits)), path_of(multipart))
    kept = [outline(child) for child in multipart.children if child not in removed]
    assert [outline(child) for child in after.children] == (kept or [["text/plain", b""]])


@given(soups, st.integers(0, 20))
@settings(max_examples=300, deadline=None)
def test_removing_from_anything_leaves_what_is_outside(message: bytes, index: int):
    root = parse(message)
    parts = list(root.walk())
    part = parts[index % len(parts)]
    edits = Edits(root)
    if edits.remove_part(part):
        outside_is_kept(message, edits)
        for edit in edits:
            assert part.parent is not None and part.parent.start <= edit.start <= edit.end <= part.parent.end


# -- notice --------------------------------------------------------------------------


@given(
    anything,
    st.integers(0, 20),
    st.text(max_size=30),
    names,
)
@settings(max_examples=400, deadline=None)
def test_a_notice_stands_in_place_of_any_part(message: bytes, index: int, text: str, filename: str):
    root = parse(message)
    parts = list(root.walk())
    part = parts[index % len(parts)]
    edits = Edits(root)
    assert edits.replace_by_notice(part, text, filename)
    result = outside_is_kept(message, edits)
    after = follow(parse(result), path_of(part))
    assert (after.content_type, after.charset, after.children) == ("text/plain", "utf-8", [])
    shown = text.encode("utf-8", "replace").decode().replace("\r\n", "\n").replace("\r", "\n")
    assert after.text().replace("\r\n", "\n") == shown
    assert after.filename == filename and after.is_attachment is bool(filename)
    if part.parent is not None and part.parent.is_multipart:
        assert len(after.parent.children) == len(part.parent.children)  # type: ignore[union-attr]
    else:
        kept = {one.name for one in part.fields if not one.name.startswith("content-")}
        assert kept <= {one.name for one in after.fields}


def test_duplicate_fields_do_not_outlive_a_notice():
    message = crlf("Content-Type: text/html\nContent-Type: text/x\nSubject: x\nContent-ID: <a>\n\n<p>\n")
    edits = Edits(parse(message))
    assert edits.replace_by_notice(parse(message), "gone")
    root = parse(edited(message, edits))
    assert [one.name for one in root.fields][:2] == ["content-type", "subject"] and not root.defects


# -- content -------------------------------------------------------------------------


@given(
    anything,
    st.integers(0, 20),
    bodies,
    st.sampled_from([None, "application/pdf"]),
    st.none() | names,
)
@settings(max_examples=400, deadline=None)
def test_content_replaced_reads_back(
    message: bytes, index: int, content: bytes, kind: str | None, filename: str | None
):
    root = parse(message)
    parts = list(root.walk())
    part = parts[index % len(parts)]
    edits = Edits(root)
    if not edits.replace_content(part, content, kind, filename):
        assert part.children or part.is_multipart or part.is_message
        return
    after = follow(parse(outside_is_kept(message, edits)), path_of(part))
    assert after.content() == content
    assert after.content_type == (kind or part.content_type)
    assert after.filename == (part.filename if filename is None else filename)


# -- insert --------------------------------------------------------------------------


@given(anything, bodies, st.sampled_from(["text/plain", "application/pdf"]), st.booleans())
@settings(max_examples=400, deadline=None)
def test_a_part_put_in_is_there_and_so_are_the_others(message: bytes, content: bytes, kind: str, first: bool):
    root = parse(message)
    edits = Edits(root)
    assert edits.insert_part(content, kind, filename="ä.bin", inline=False, first=first)
    after = parse(outside_is_kept(message, edits))
    assert after.content_type == "multipart/mixed"
    new = after.children[0 if first else -1]
    assert (new.content(), new.content_type, new.filename) == (content, kind, "ä.bin")
    others = after.children[1:] if first else after.children[:-1]
    if root.content_type == "multipart/mixed" and len(others) == len(root.children):
        assert [outline(one) for one in others] == [outline(one) for one in root.children]
    else:
        (other,) = others
        assert bodies_of(other) == bodies_of(root)
    kept = [one.raw.rstrip(b"\r\n") for one in root.fields if not one.name.startswith("content-")]
    assert kept == [
        one.raw.rstrip(b"\r\n")
        for one in after.fields
        if not one.name.startswith("content-")
        and (one.name != "mime-version" or one.raw.rstrip(b"\r\n") in kept)
    ]


@given(messages, st.integers(0, 20), bodies, st.booleans())
@settings(max_examples=400, deadline=None)
def test_a_part_beside_another(message: bytes, index: int, content: bytes, first: bool):
    root = parse(message)
    parts = list(root.walk())
    part = parts[index % len(parts)]
    edits = Edits(root)
    assert edits.insert_part(content, "image/png", first=first, beside=part)
    result = outside_is_kept(message, edits)
    after = parse(result)
    path = path_of(part)
    if part.parent is not None and part.parent.content_type == "multipart/mixed":
        beside = follow(after, path[:-1]).children
        assert len(beside) == len(part.parent.children) + 1
        new, same = beside[path[-1] + (not first)], beside[path[-1] + first]
    else:
        mixed = follow(after, path)
        assert mixed.content_type == "multipart/mixed"
        assert len(mixed.children) == 2
        new, same = mixed.children if first else mixed.children[::-1]
    assert new.content() == content and outline(same) == outline(part)
    if not any(defect is not Defect.BOUNDARY_PREFIX for one in parts for defect in one.defects):
        other = email.message_from_bytes(result)
        assert outline(after) == other_outline(other)


def test_a_part_goes_into_the_multipart_that_is_there():
    edits = Edits(parse(MIXED))
    assert edits.insert_part(b"%PDF\0", "application/pdf", filename="a.pdf", inline=False)
    (edit,) = edits
    after = parse(edited(MIXED, edits))
    assert len(after.children) == 4 and after.children[0].filename == "a.pdf"
    assert edit.start == edit.end


def test_a_multipart_is_made_where_there_is_none():
    edits = Edits(parse(ALTERNATIVE))
    edits.insert_part(b"text", "text/plain")
    after = parse(edited(ALTERNATIVE, edits))
    assert [part.content_type for part in after.walk()] == [
        "multipart/mixed",
        "text/plain",
        "multipart/alternative",
        "text/plain",
        "text/html",
    ]
    assert [one.name for one in after.fields] == ["from", "mime-version", "content-type"]


def test_the_same_message_gets_the_same_boundary():
    once, again = Edits(parse(PLAIN)), Edits(parse(PLAIN))
    once.insert_part(b"x", "text/plain")
    again.insert_part(b"x", "text/plain")
    assert edited(PLAIN, once) == edited(PLAIN, again)


@pytest.mark.parametrize("order", ["wrap first", "wrap last"])
def test_what_encloses_the_message_stands_outside_of_all_other_edits(order: str):
    for message in (PLAIN, MIXED, b""):
        edits = Edits(parse(message))
        if order == "wrap first":
            assert edits.wrap("notice")
        assert edits.insert_part(b"x", "image/png", first=False)
        edits.add_header("X-Inner", "y", top=True)
        if order == "wrap last":
            assert edits.wrap("notice")
        assert not edits.wrap("notice again")
        root = parse(outside_is_kept(message, edits))
        assert [part.content_type for part in root.children] == ["text/plain", "message/rfc822"]
        inner = root.children[1].children[0]
        assert inner.get("x-inner") is not None and inner.children[-1].content() == b"x"


def test_a_multipart_is_made_once():
    edits = Edits(parse(PLAIN))
    assert edits.insert_part(b"one", "text/plain")
    assert not edits.insert_part(b"two", "text/plain")
    edits = Edits(parse(MIXED))
    assert edits.insert_part(b"one", "text/plain") and edits.insert_part(b"two", "text/plain", first=False)
    after = parse(outside_is_kept(MIXED, edits))
    assert (after.children[0].text(), after.children[-1].text()) == ("one", "two")


@given(anything, st.permutations(["field", "top", "set", "text", "wrap"]))
@settings(max_examples=400, deadline=None)
def test_edits_of_the_header_and_the_text_go_together_in_any_order(message: bytes, order: list[str]):
    root = parse(message)
    edits = Edits(root)
    texts = not root.children and root.is_text
    for one in order:
        if one == "field":
            edits.add_header("X-Field", "1")
        elif one == "top":
            edits.add_header("X-Top", "2", top=True)
        elif one == "set":
            edits.set_header("X-Set", "3")
        elif one == "text":
            texts = texts and edits.append_text(root, "added")
        else:
            edits.wrap("notice")
    inner = parse(outside_is_kept(message, edits)).children[1].children[0]
    for name in ("x-field", "x-top", "x-set"):
        assert len(inner.get_all(name)) == 1
    if texts:
        assert inner.text() == root.text() + "added"


@given(anything, st.lists(st.tuples(st.integers(0, 20), st.sampled_from(["remove", "notice"])), max_size=6))
@settings(max_examples=400, deadline=None)
def test_parts_within_parts_that_are_taken_away_go_with_them(message: bytes, wanted: list[tuple[int, str]]):
    root = parse(message)
    parts = list(root.walk())
    edits = Edits(root)
    for index, how in wanted:
        part = parts[index % len(parts)]
        if how == "remove":
            edits.remove_part(part)
        elif part.parent is not None and part.parent.is_multipart:
            edits.replace_by_notice(part, "taken away")
    outside_is_kept(message, edits)


def test_an_edit_of_what_is_taken_away_is_void_whichever_came_first():
    enclosing, inner = list(parse(MIXED).walk())[7], list(parse(MIXED).walk())[9]
    for order in ([enclosing, inner], [inner, enclosing]):
        edits = Edits(parse(MIXED))
        for part in order:
            assert edits.replace_by_notice(part, "taken away")
        assert edits.append_text(inner, "more \u00fc")
        after = parse(outside_is_kept(MIXED, edits))
        assert [part.content_type for part in after.children][1:] == ["text/plain", "text/plain"]
        assert after.children[2].text() == "taken away"


def test_ten_thousand_parts_removed():
    message = crlf("Content-Type: multipart/mixed; boundary=b\n\n" + "--b\n\nx\n" * 9_000 + "--b--\n")
    root = parse(message)
    edits = Edits(root)
    for part in root.children:
        assert edits.remove_part(part) and edits.remove_part(part)
    assert [outline(part) for part in parse(outside_is_kept(message, edits)).children] == [
        ["text/plain", b""]
    ]


def test_edits_that_give_one_part_two_types_are_refused():
    edits = Edits(parse(PLAIN))
    assert edits.append_text(parse(PLAIN), "\u00fc") and edits.insert_part(b"x", "text/plain")
    with pytest.raises(EditError, match="the same field"):
        edits.in_order()


def test_a_signed_message_may_be_enclosed():
    for message in (DKIM, SIGNED, ENCRYPTED):
        edits = Edits(parse(message))
        assert edits.wrap("notice") and not covered_edits(edits, find_signed(parse(message)))
        assert edits.insert_part(b"x", "text/plain") and covered_edits(edits, find_signed(parse(message)))


def test_a_part_of_another_message_is_refused():
    edits = Edits(parse(PLAIN))
    other = parse(bytes(bytearray(PLAIN)))
    with pytest.raises(EditError, match="another message"):
        edits.replace_by_notice(other, "x")
    with pytest.raises(ValueError, match="not a value of Content-Type"):
        edits.insert_part(b"", "text/plain\r\nX: y")


@pytest.mark.parametrize("delimiters", ["--b\n--b--\n", "--b\n\n--b--\n", "--b\n--b", "--b"])
def test_a_part_of_no_octets_gets_all_that_any_part_gets(delimiters: str):
    message = crlf(f"Content-Type: multipart/mixed; boundary=b\n\n{delimiters}")
    root = parse(message)
    part = root.children[0]
    for edit in (
        lambda edits: edits.append_text(part, "text"),
        lambda edits: edits.replace_text(part, "text"),
        lambda edits: edits.replace_spans(part, [(0, 0, "text")]),
        lambda edits: edits.replace_content(part, b"text"),
        lambda edits: edits.replace_by_notice(part, "text"),
        lambda edits: edits.insert_part(b"text", "text/plain", beside=part),
    ):
        edits = Edits(root)
        assert edit(edits)
        after = parse(outside_is_kept(message, edits))
        assert after.children[0].text() == "text"
        assert len(after.children) - len(root.children) in (0, 1)


def test_what_a_stranger_calls_a_type_is_not_written_again():
    message = b"Content-Type: text/pla\xb2\xb1; name=a.txt\r\n"
    message += b"Content-Disposition: att\xe4ched; filename=a.txt\r\n\r\nx\r\n"
    root = parse(message)
    edits = Edits(root)
    assert edits.replace_content(root, b"new\r\n", filename="b.txt")
    after = parse(outside_is_kept(message, edits))
    assert (after.content_type, after.disposition) == ("application/octet-stream", "attachment")
    assert (after.filename, after.content()) == ("b.txt", b"new\r\n")


@given(anything, st.integers(0, 20))
@settings(max_examples=100, deadline=None)
def test_edits_of_a_map_are_those_of_its_octets(message: bytes, index: int):
    message = message or b"x"
    with tempfile.TemporaryFile() as file:
        file.write(message)
        file.flush()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            results = []
            for root in (parse(message), parse(mapped)):
                parts = list(root.walk())
                part = parts[index % len(parts)]
                done = []
                for change in (
                    lambda edits, part=part: edits.insert_part(b"x", "text/plain", beside=part),
                    lambda edits, part=part: edits.remove_part(part),
                    lambda edits, part=part: edits.replace_by_notice(part, "x"),
                    lambda edits, part=part: edits.append_text(part, "x"),
                    lambda edits: edits.wrap("x"),
                ):
                    edits = Edits(root)
                    done.append((change(edits), edits.in_order()))
                results.append(done)
            assert results[0] == results[1]
