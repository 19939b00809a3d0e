"""The milter protocol as octets: frames, the negotiation, answers, and garbage."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.inspection import milter_protocol as protocol
from gateway.inspection.milter_protocol import (
    ALL_STEPS,
    AddField,
    ChangeField,
    Command,
    EnvelopeChange,
    Frames,
    Hold,
    InsertField,
    MilterActions,
    MilterError,
    MilterWord,
    ReplaceBody,
    ReplyCode,
    Steps,
    parse_agreement,
    parse_reply,
)

ALL_ACTIONS = MilterActions(0x1FF)
names = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=":"), min_size=1).map(
    str.encode
)
values = st.binary().map(lambda octets: octets.replace(b"\0", b""))


# -- frames --------------------------------------------------------------------------


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=1), st.binary(max_size=300))), st.data())
def test_frames_come_out_as_they_went_in(frames: list[tuple[bytes, bytes]], data: st.DataObject):
    """However the octets are cut."""
    octets = b"".join(protocol.frame(*one) for one in frames)
    cuts = data.draw(st.lists(st.integers(0, len(octets)), max_size=8).map(sorted))
    reader = Frames()
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(octets)], strict=True):
        reader.feed(octets[start:end])
        while (taken := reader.take()) is not None:
            found.append(taken)
    assert found == frames


@pytest.mark.parametrize("octets", [b"\0\0\0\0", b"HTTP/1.1 400 Bad", b"220 mail ESMTP\r\n", b"\xff" * 4])
def test_lengths_that_no_frame_has(octets: bytes):
    reader = Frames()
    reader.feed(octets)
    with pytest.raises(MilterError, match="announces"):
        reader.take()


def test_a_limit_counts_the_data_alone():
    reader = Frames(limit=3)
    reader.feed(protocol.frame(b"b", b"abc"))
    assert reader.take() == (b"b", b"abc")
    reader.feed(protocol.frame(b"b", b"abcd")[:5])
    with pytest.raises(MilterError, match="announces 5 octets"):
        reader.take()


@given(st.binary(max_size=100))
def test_any_octets_are_frames_or_an_error(octets: bytes):
    reader = Frames(limit=50)
    reader.feed(octets)
    try:
        while (taken := reader.take()) is not None:
            code, data = taken
            assert len(code) == 1 and len(data) <= 50
    except MilterError:
        pass


# -- what the server says ------------------------------------------------------------


def test_commands_as_octets():
    """Against the wire format as libmilter's header files have it."""
    assert protocol.offer(MilterActions(0x31), Steps(0x7F)) == (b"\0\0\0\x0dO\0\0\0\x06\0\0\0\x31\0\0\0\x7f")
    assert protocol.connect(b"mx", "192.0.2.7", 1025) == b"\0\0\0\x11Cmx\x004\x04\x01192.0.2.7\0"
    assert protocol.connect(b"mx", "2001:db8::1", 25)[5:] == b"mx\x006\x00\x192001:db8::1\0"
    assert protocol.connect(b"mx", "nowhere", 25)[5:] == b"mx\0U"
    assert protocol.macros(Command.MAIL, {"i": b"x", "{auth_type}": b""})[4:] == b"DMi\0x\0{auth_type}\0\0"


@pytest.mark.parametrize(
    ("raw", "plain", "led"),
    [
        (b" hello\r\n", b"hello", b" hello"),
        (b"\thello\r\n\tyou\r\n", b"\thello\n\tyou", b"\thello\n\tyou"),
        (b"  a\n b", b" a\n b", b"  a\n b"),
        (b"\r\n", b"", b""),
    ],
)
def test_values_of_fields(raw: bytes, plain: bytes, led: bytes):
    assert protocol.header_field(b"X", raw, Steps(0))[5:] == b"X\0" + plain + b"\0"
    assert protocol.header_field(b"X", raw, Steps.LEADING_SPACE)[5:] == b"X\0" + led + b"\0"


def test_no_string_holds_a_nul():
    with pytest.raises(MilterError, match="NUL"):
        protocol.strings(b"a\0b")


# -- the negotiation -----------------------------------------------------------------


def agreement(version: int, actions: int, steps: int, rest: bytes = b"") -> bytes:
    return struct.pack("!III", version, actions, steps) + rest


def test_an_agreement():
    rest = b"\0\0\0\0j {client_addr}\0" + b"\0\0\0\x05\0"
    agreed = parse_agreement(agreement(6, 0x101, 0x100081, rest), ALL_ACTIONS)
    assert agreed.actions == MilterActions.ADD_FIELDS | MilterActions.CHOOSE_MACROS
    assert agreed.steps == Steps.LEADING_SPACE | Steps.QUIET_FIELDS | Steps.NO_CONNECT
    assert agreed.macros == {0: ("j", "{client_addr}"), 5: ()}
    assert agreed.largest == 65535


def test_larger_frames_can_be_agreed():
    for steps, largest in ((Steps.FRAMES_OF_256K, 2**18 - 1), (Steps.FRAMES_OF_1M, 2**20 - 1)):
        agreed = parse_agreement(agreement(6, 0, steps), ALL_ACTIONS, ALL_STEPS | steps)
        assert agreed.largest == largest


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "negotiates with 0 octets"),
        (agreement(1, 0, 0), "version 1, not 2 to 6"),
        (agreement(7, 0, 0), "version 7"),
        (agreement(6, 0x44, 0), "wants to add recipients, change sender, which is not offered"),
        (agreement(6, 0x8000, 0), "wants to 0x8000"),
        (agreement(6, 0, 0x20000000), "wants frames of 1m"),
        (agreement(6, 0, 0, b"\0\0\0\0j"), "cut off"),
        (agreement(6, 0, 0, b"\0"), "cut off"),
    ],
)
def test_agreements_that_are_refused(data: bytes, message: str):
    with pytest.raises(MilterError, match=message):
        parse_agreement(data, MilterActions.ADD_FIELDS)


@given(st.binary(max_size=60))
def test_any_agreement_is_read_or_refused(data: bytes):
    try:
        agreed = parse_agreement(data, ALL_ACTIONS)
    except MilterError:
        return
    assert not agreed.actions & ~ALL_ACTIONS and not agreed.steps & ~ALL_STEPS


# -- what the filter says ------------------------------------------------------------


@given(names, values, st.integers(0, 2**32 - 1))
def test_fields_are_read_back(name: bytes, value: bytes, index: int):
    pair = name + b"\0" + value + b"\0"
    place = struct.pack("!I", index)
    assert parse_reply(b"h", pair) == AddField(name, value)
    assert parse_reply(b"i", place + pair) == InsertField(index, name, value)
    assert parse_reply(b"m", place + pair) == ChangeField(index, name, value)


@pytest.mark.parametrize("word", list(MilterWord))
def test_words(word: MilterWord):
    assert parse_reply(word.value, b"") is word


def test_other_answers():
    assert parse_reply(b"b", b"a\0b") == ReplaceBody(b"a\0b")
    assert parse_reply(b"q", b"why\0") == Hold("why")
    assert parse_reply(b"+", b"<a@b>\0") == EnvelopeChange(MilterActions.ADD_RECIPIENTS, "<a@b>")
    assert parse_reply(b"-", b"<a@b>\0") == EnvelopeChange(MilterActions.DELETE_RECIPIENTS, "<a@b>")
    assert parse_reply(b"2", b"<a@b>\0NOTIFY=NEVER\0") == EnvelopeChange(
        MilterActions.ADD_RECIPIENTS_WITH_PARAMETERS, "<a@b>", "NOTIFY=NEVER"
    )
    assert parse_reply(b"e", b"<a@b>\0") == EnvelopeChange(MilterActions.CHANGE_SENDER, "<a@b>")


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        (b"550 5.7.1 No spam", 550, "No spam"),
        (b"550 No spam", 550, "No spam"),
        (b"451 4.7.1", 451, ""),
        (b"554", 554, ""),
        (b"550-5.7.1 No\r\n550 5.7.1 spam", 550, "No spam"),
        (b"550 5.7.1 100%% spam", 550, "100% spam"),
        (b"550 5.7.1 \x1b[31mred", 550, "\\x1b[31mred"),
        (b"550 5.7.1 caf\xe9", 550, "caf\\xe9"),
        (b"550 5.7.1 one\nRCPT TO:<x>", 550, "one RCPT TO:<x>"),
    ],
)
def test_reply_codes(text: bytes, code: int, told: str):
    reply = parse_reply(b"y", text + b"\0")
    assert reply == ReplyCode(code, told) and isinstance(reply, ReplyCode)
    assert reply.is_temporary is (code < 500)


@pytest.mark.parametrize(
    ("code", "data", "message"),
    [
        (b"Z", b"", "answers 'Z', which is no reply"),
        (b"\x1b", b"", "no reply"),
        (b"h", b"X\0y", "cut off"),
        (b"h", b"X\0", "has 1 strings"),
        (b"h", b"X\0y\0z\0", "has 3 strings"),
        (b"h", b"X Y\0z\0", "has the name 'X Y'"),
        (b"h", b"\0z\0", "has the name ''"),
        (b"h", b"X:\0z\0", "has the name 'X:'"),
        (b"h", b"X\r\nY\0z\0", "has the name"),
        (b"m", b"\0\0", "cut off"),
        (b"i", b"\0\0\0\1", "cut off"),
        (b"y", b"250 fine\0", "a reply of the milter's is none: 250 fine"),
        (b"y", b"\0", "is none"),
        (b"q", b"", "cut off"),
        (b"+", b"a\0b\0", "add recipients of the milter's has 2 strings"),
    ],
)
def test_answers_that_are_none(code: bytes, data: bytes, message: str):
    with pytest.raises(MilterError, match=message):
        parse_reply(code, data)


@given(st.binary(min_size=1, max_size=1), st.binary(max_size=200))
def test_any_answer_is_read_or_refused(code: bytes, data: bytes):
    try:
        parse_reply(code, data)
    except MilterError:
        pass
