"""What a milter wants to be changed, laid into messages of every shape."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.inspection.message import Message
from gateway.inspection.milter_changes import lay_in_milter_changes
from gateway.inspection.milter_protocol import AddField, ChangeField, InsertField
from gateway.inspection.parts import parse
from tests.inspection.samples import crlf
from tests.inspection.test_parts import soups

MESSAGE = crlf("A: 1\nB: 2\na: 3\n\tfolded\nB: 4\n\nbody\n")


def changed(
    *changes: AddField | InsertField | ChangeField,
    message: bytes = MESSAGE,
    body: bytes | None = None,
    leading_space: bool = False,
) -> bytes:
    made = Message.of(message)
    edits = made.edits()
    lay_in_milter_changes(edits, made.root, changes, body, leading_space)
    return edits.apply()


@pytest.mark.parametrize(
    ("changes", "header"),
    [
        ([AddField(b"X", b"9")], "A: 1\nB: 2\na: 3\n\tfolded\nB: 4\nX: 9\n"),
        ([InsertField(0, b"X", b"9")], "X: 9\nA: 1\nB: 2\na: 3\n\tfolded\nB: 4\n"),
        ([InsertField(1, b"X", b"9")], "A: 1\nX: 9\nB: 2\na: 3\n\tfolded\nB: 4\n"),
        ([InsertField(3, b"X", b"9")], "A: 1\nB: 2\na: 3\n\tfolded\nX: 9\nB: 4\n"),
        ([InsertField(4, b"X", b"9")], "A: 1\nB: 2\na: 3\n\tfolded\nB: 4\nX: 9\n"),
        ([InsertField(2**32 - 1, b"X", b"9")], "A: 1\nB: 2\na: 3\n\tfolded\nB: 4\nX: 9\n"),
        ([ChangeField(1, b"a", b"9")], "a: 9\nB: 2\na: 3\n\tfolded\nB: 4\n"),
        ([ChangeField(0, b"A", b"9")], "A: 9\nB: 2\na: 3\n\tfolded\nB: 4\n"),
        ([ChangeField(2, b"A", b"9")], "A: 1\nB: 2\nA: 9\nB: 4\n"),
        ([ChangeField(2, b"A", b"")], "A: 1\nB: 2\nB: 4\n"),
        ([ChangeField(3, b"A", b"9")], "A: 1\nB: 2\na: 3\n\tfolded\nB: 4\nA: 9\n"),
        ([ChangeField(3, b"A", b"")], "A: 1\nB: 2\na: 3\n\tfolded\nB: 4\n"),
        ([ChangeField(1, b"X", b"")], "A: 1\nB: 2\na: 3\n\tfolded\nB: 4\n"),
        # Each as those before it have left the header.
        ([ChangeField(1, b"B", b""), ChangeField(1, b"B", b"")], "A: 1\na: 3\n\tfolded\n"),
        ([ChangeField(2, b"B", b""), ChangeField(1, b"B", b"")], "A: 1\na: 3\n\tfolded\n"),
        ([InsertField(0, b"X", b"8"), InsertField(0, b"Y", b"9"), ChangeField(1, b"A", b"")],
         "Y: 9\nX: 8\nB: 2\na: 3\n\tfolded\nB: 4\n"),
        ([AddField(b"B", b"5"), ChangeField(3, b"B", b"6")], "A: 1\nB: 2\na: 3\n\tfolded\nB: 4\nB: 6\n"),
        ([AddField(b"X", b"9"), ChangeField(1, b"X", b"")], "A: 1\nB: 2\na: 3\n\tfolded\nB: 4\n"),
        ([ChangeField(1, b"A", b""), InsertField(0, b"X", b"9")], "X: 9\nB: 2\na: 3\n\tfolded\nB: 4\n"),
        ([ChangeField(1, b"A", b"1")], "A: 1\nB: 2\na: 3\n\tfolded\nB: 4\n"),
    ],
)  # fmt: skip
def test_indices(changes: list[AddField | InsertField | ChangeField], header: str):
    assert changed(*changes) == crlf(header + "\nbody\n")


@pytest.mark.parametrize(
    ("value", "plain", "led"),
    [
        (b"a\n\tb", b"X: a\r\n\tb\r\n", b"X:a\r\n\tb\r\n"),
        (b"a\r\n b", b"X: a\r\n b\r\n", b"X:a\r\n b\r\n"),
        (b" a", b"X:  a\r\n", b"X: a\r\n"),
        (b"", b"X: \r\n", b"X:\r\n"),
        (b"a\nEvil: b", b"X: a\r\n\tEvil: b\r\n", b"X:a\r\n\tEvil: b\r\n"),
        (b"a\rEvil: b", b"X: a\r\n\tEvil: b\r\n", b"X:a\r\n\tEvil: b\r\n"),
        (b"a\n\n\n \nb\n", b"X: a\r\n\tb\r\n", b"X:a\r\n\tb\r\n"),
        (b"\n\ta", b"X: \r\n\ta\r\n", b"X:\r\n\ta\r\n"),
        (b"caf\xe9", b"X: caf\xe9\r\n", b"X:caf\xe9\r\n"),
    ],
)
def test_values_stay_in_their_field(value: bytes, plain: bytes, led: bytes):
    for leading_space, field in ((False, plain), (True, led)):
        found = changed(InsertField(0, b"X", value), leading_space=leading_space)
        assert found == field + MESSAGE


@pytest.mark.parametrize(
    ("message", "added", "bodied"),
    [
        (b"A: 1\r\n\r\nold\r\n", b"A: 1\r\nX: 9\r\n\r\nold\r\n", b"A: 1\r\nX: 9\r\n\r\nnew\r\n"),
        (b"A: 1\n\nold\n", b"A: 1\nX: 9\n\nold\n", b"A: 1\nX: 9\n\nnew\n"),
        (b"A: 1\r\n", b"A: 1\r\nX: 9\r\n", b"A: 1\r\nX: 9\r\n\r\nnew\r\n"),
        (b"A: 1", b"A: 1\r\nX: 9\r\n", b"A: 1\r\nX: 9\r\n\r\nnew\r\n"),
        (b"", b"X: 9\r\n\r\n", b"X: 9\r\n\r\nnew\r\n"),
        (b"\r\nold\r\n", b"X: 9\r\n\r\nold\r\n", b"X: 9\r\n\r\nnew\r\n"),
        (b"old text\r\n", b"X: 9\r\n\r\nold text\r\n", b"X: 9\r\n\r\nnew\r\n"),
        (b"A: 1\r\nold\r\n", b"A: 1\r\nX: 9\r\nold\r\n", b"A: 1\r\nX: 9\r\n\r\nnew\r\n"),
        (b"From x\r\nA: 1\r\n\r\nold", b"From x\r\nA: 1\r\nX: 9\r\n\r\nold",
         b"From x\r\nA: 1\r\nX: 9\r\n\r\nnew\r\n"),
    ],
)  # fmt: skip
def test_shapes_of_messages(message: bytes, added: bytes, bodied: bytes):
    new = AddField(b"X", b"9")
    assert changed(new, message=message) == added
    assert changed(new, message=message, body=b"new\r\n") == bodied


def test_a_new_body_is_no_header():
    assert changed(message=b"", body=b"A: 1\r\n") == b"\r\nA: 1\r\n"
    assert changed(message=b"A: 1\r\n", body=b"B: 1\r\n") == b"A: 1\r\n\r\nB: 1\r\n"
    assert changed(message=MESSAGE, body=b"") == MESSAGE.partition(b"body")[0]


def test_the_last_field_may_go():
    assert changed(ChangeField(1, b"A", b""), message=b"A: 1\r\n\r\nx") == b"\r\nx"
    assert changed(ChangeField(1, b"A", b""), AddField(b"X", b"9"), message=b"A: 1") == b"X: 9\r\n"
    assert changed(ChangeField(1, b"A", b""), message=b"A: 1", body=b"x") == b"\r\nx"


names = st.sampled_from([b"A", b"b", b"Subject"])
values = st.sampled_from([b"", b"x", b"y\n\tz"])
changes = st.one_of(
    st.builds(AddField, names, values),
    st.builds(InsertField, st.integers(0, 8), names, values),
    st.builds(ChangeField, st.integers(0, 4), names, values),
)


@given(
    st.lists(st.tuples(names, values.filter(bool)), max_size=6),
    st.lists(changes, max_size=8),
    st.none() | st.sampled_from([b"", b"new: body\r\n"]),
)
def test_any_changes_as_a_list_of_fields_has_them(
    fields: list[tuple[bytes, bytes]], wanted: list[AddField | InsertField | ChangeField], body: bytes | None
):
    """Against the simplest model: a list that is written out again."""
    header = list(fields)
    message = _written(header) + b"\r\nold\r\n"
    for change in wanted:
        if isinstance(change, AddField):
            header.append((change.name, change.value))
        elif isinstance(change, InsertField):
            header.insert(change.index, (change.name, change.value))
        else:
            same = [place for place, one in enumerate(header) if one[0].lower() == change.name.lower()]
            place = same[max(change.index, 1) - 1] if len(same) >= max(change.index, 1) else None
            if place is None:
                header += [(change.name, change.value)] if change.value else []
            elif change.value:
                header[place] = (change.name, change.value)
            else:
                del header[place]
    expected = _written(header) + b"\r\n" + (b"old\r\n" if body is None else body)
    assert changed(*wanted, message=message, body=body) == expected


def _written(header: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(b"%s: %s\n" % one for one in header).replace(b"\n", b"\r\n")


@given(soups, st.lists(changes, max_size=4), st.none() | st.just(b"new\r\n"))
def test_any_message_keeps_the_fields_that_no_change_is_about(
    message: bytes, wanted: list[AddField | InsertField | ChangeField], body: bytes | None
):
    touched = {change.name.lower() for change in wanted}
    before = [one.raw.rstrip() for one in parse(message).fields if one.name.encode() not in touched]
    after = parse(changed(*wanted, message=message, body=body))
    kept = [one.raw.rstrip() for one in after.fields if one.name.encode() not in touched]
    assert kept == before
    if body is not None:
        assert after.raw_body.replace(b"\r\n", b"\n") == b"new\n"
