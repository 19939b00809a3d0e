"""The milter protocol, version 6, as a mail server speaks it to a filter: octets and values only.

A frame is a length of four octets, a command or reply of one octet, and data; the length counts
both.  A talk begins with a negotiation: the server offers what a filter may change (`MilterActions`) and
which steps it may leave out (`Steps`), the filter answers with what it wants of it.  Then come the
steps of a message, each answered unless the filter has said that it answers none, and at the end
of the message the filter's changes and its last word.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, IntFlag
from ipaddress import ip_address

from ..core.text import shown

VERSION = 6
#: What a filter takes in one frame, in octets of data, unless more was agreed.
CHUNK = 65535
#: What is taken of a filter in one frame, in octets of data.
LARGEST = 1024 * 1024
_HEAD = struct.Struct("!I")
_OFFER = struct.Struct("!III")
#: A reply's line: its code, perhaps an enhanced code, and text (RFC 5321 4.2, RFC 3463 2).
_REPLY_LINE = re.compile(rb"([45]\d\d)(?:[ -](?:[45]\.\d{1,3}\.\d{1,3}(?: |$))?(.*))?", re.DOTALL)


class MilterError(Exception):
    """A filter that does not keep to the protocol, or wants what it is not offered."""


class MilterActions(IntFlag):
    """What a filter may do at the end of a message."""

    ADD_FIELDS = 0x01
    REPLACE_BODY = 0x02
    ADD_RECIPIENTS = 0x04
    DELETE_RECIPIENTS = 0x08
    CHANGE_FIELDS = 0x10
    QUARANTINE = 0x20
    CHANGE_SENDER = 0x40
    ADD_RECIPIENTS_WITH_PARAMETERS = 0x80
    CHOOSE_MACROS = 0x100


class Steps(IntFlag):
    """What is left out for a filter (NO_), what it does not answer (QUIET_), and what it can do."""

    NO_CONNECT = 0x01
    NO_HELO = 0x02
    NO_MAIL = 0x04
    NO_RECIPIENTS = 0x08
    NO_BODY = 0x10
    NO_FIELDS = 0x20
    NO_END_OF_HEADER = 0x40
    QUIET_FIELDS = 0x80
    NO_UNKNOWN = 0x100
    NO_DATA = 0x200
    SKIP = 0x400  # it may say that it has seen enough of the body
    REFUSED_RECIPIENTS = 0x800  # it wants to hear of those too
    QUIET_CONNECT = 0x1000
    QUIET_HELO = 0x2000
    QUIET_MAIL = 0x4000
    QUIET_RECIPIENTS = 0x8000
    QUIET_DATA = 0x10000
    QUIET_UNKNOWN = 0x20000
    QUIET_END_OF_HEADER = 0x40000
    QUIET_BODY = 0x80000
    LEADING_SPACE = 0x100000  # values of fields with the blank behind the colon, both ways
    FRAMES_OF_256K = 0x10000000
    FRAMES_OF_1M = 0x20000000


#: All steps but larger frames, which only some filters understand.
ALL_STEPS = Steps(0x1FFFFF)


class Command(bytes, Enum):
    """What the server sends."""

    ABORT = b"A"
    BODY = b"B"
    CONNECT = b"C"
    MACROS = b"D"
    END_OF_BODY = b"E"
    HELO = b"H"
    FIELD = b"L"
    MAIL = b"M"
    END_OF_HEADER = b"N"
    NEGOTIATE = b"O"
    QUIT = b"Q"
    RECIPIENT = b"R"
    DATA = b"T"
    UNKNOWN = b"U"


# ------------------------------------------------------------------ what a filter answers


class MilterWord(bytes, Enum):
    """An answer of one word."""

    ACCEPT = b"a"
    CONTINUE = b"c"
    DISCARD = b"d"
    CONNECTION_FAILED = b"f"
    PROGRESS = b"p"
    REJECT = b"r"
    SKIP = b"s"
    TEMPFAIL = b"t"
    SHUTDOWN = b"4"


@dataclass(frozen=True, slots=True)
class ReplyCode:
    """The reply that the client is to have.  text: without the codes, its lines joined."""

    code: int
    text: str

    @property
    def is_temporary(self) -> bool:
        return self.code < 500


@dataclass(frozen=True, slots=True)
class AddField:
    """A field behind all others."""

    name: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class InsertField:
    """A field at a place among all: 0 is before the first one."""

    index: int
    name: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class ChangeField:
    """Another value for one of the fields of a name: 1 is the first one.  No value deletes it."""

    index: int
    name: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class ReplaceBody:
    """A piece of the new body."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Hold:
    """The message is to be kept for somebody to look at."""

    reason: str


@dataclass(frozen=True, slots=True)
class EnvelopeChange:
    """Another sender, or a recipient more or less.  action: which of them."""

    action: MilterActions
    address: str
    parameters: str = ""


Change = AddField | InsertField | ChangeField | ReplaceBody | Hold | EnvelopeChange
Reply = MilterWord | ReplyCode | Change


@dataclass(frozen=True, slots=True)
class Agreed:
    """What a filter has answered to the offer.  macros: the names that it wants, by stage."""

    version: int
    actions: MilterActions
    steps: Steps
    macros: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    @property
    def largest(self) -> int:
        """Octets of data that the filter takes in one frame."""
        if self.steps & Steps.FRAMES_OF_1M:
            return 1024 * 1024 - 1
        return 256 * 1024 - 1 if self.steps & Steps.FRAMES_OF_256K else CHUNK


# ------------------------------------------------------------------ from the server


def frame(command: bytes, data: bytes = b"") -> bytes:
    """Return a frame."""
    return b"".join((_HEAD.pack(len(data) + 1), command, data))


def strings(*values: bytes) -> bytes:
    """Return strings as data, each ended by NUL.  Raises MilterError for a NUL within."""
    for value in values:
        if b"\0" in value:
            raise MilterError("a NUL can't be told to a milter")
    return b"".join(value + b"\0" for value in values)


def offer(actions: MilterActions, steps: Steps = ALL_STEPS) -> bytes:
    """Return the frame that begins a talk."""
    return frame(Command.NEGOTIATE, _OFFER.pack(VERSION, actions, steps))


def macros(command: Command, values: Mapping[str, bytes]) -> bytes:
    """Return the frame of macros that goes before a command."""
    pairs = [one for name, value in values.items() for one in (name.encode(), value)]
    return frame(Command.MACROS, command + strings(*pairs))


def connect(name: bytes, address: str, port: int) -> bytes:
    """Return the frame that tells who has connected; what is no address is told as unknown."""
    try:
        family = b"%d" % ip_address(address).version
    except ValueError:
        return frame(Command.CONNECT, strings(name) + b"U")
    told = family + struct.pack("!H", port & 0xFFFF) + strings(address.encode())
    return frame(Command.CONNECT, strings(name) + told)


def header_field(name: bytes, raw_value: bytes, steps: Steps) -> bytes:
    """Return the frame of a field.

    raw_value: all behind the colon.  Its line ends become LF, and its last one goes; without
    LEADING_SPACE the blank behind the colon goes too, as all servers have it.
    """
    value = raw_value.replace(b"\r\n", b"\n").removesuffix(b"\n")
    if not steps & Steps.LEADING_SPACE:
        value = value.removeprefix(b" ")
    return frame(Command.FIELD, strings(name, value))


# ------------------------------------------------------------------ from the filter


class Frames:
    """Frames out of octets as they come.

    limit: octets of data that a frame may have.
    """

    def __init__(self, limit: int = LARGEST) -> None:
        self._limit = limit
        self._octets = bytearray()

    def feed(self, octets: bytes) -> None:
        """Take what has come."""
        self._octets += octets

    def take(self) -> tuple[bytes, bytes] | None:
        """Return the next frame, reply and data; None if it is not all there.

        Raises MilterError for a length that none can have, as soon as it is there.
        """
        if len(self._octets) < _HEAD.size:
            return None
        (length,) = _HEAD.unpack_from(self._octets)
        if not 1 <= length <= self._limit + 1:
            raise MilterError(f"the milter announces {length} octets: {shown(bytes(self._octets[:20]))}")
        end = _HEAD.size + length
        if len(self._octets) < end:
            return None
        told = bytes(self._octets[_HEAD.size : end])
        del self._octets[:end]
        return told[:1], told[1:]


def parse_agreement(data: bytes, actions: MilterActions, steps: Steps = ALL_STEPS) -> Agreed:
    """Read the answer to an offer.  Raises MilterError if it wants more than that."""
    if len(data) < _OFFER.size:
        raise MilterError(f"the milter negotiates with {len(data)} octets")
    version, wanted, left_out = _OFFER.unpack_from(data)
    if not 2 <= version <= VERSION:
        raise MilterError(f"the milter speaks version {version}, not 2 to {VERSION}")
    if wanted & ~int(actions):
        raise MilterError(
            f"the milter wants to {_told(MilterActions, wanted & ~int(actions))}, which is not offered"
        )
    if left_out & ~int(steps):
        raise MilterError(f"the milter wants {_told(Steps, left_out & ~int(steps))}, which is not offered")
    chosen: dict[int, tuple[str, ...]] = {}
    place = _OFFER.size
    while place < len(data):
        end = data.find(b"\0", place + _HEAD.size)
        if end < 0:
            raise MilterError("the milter's list of macros is cut off")
        (stage,) = _HEAD.unpack_from(data, place)
        chosen[stage] = tuple(data[place + _HEAD.size : end].decode("ascii", "replace").split())
        place = end + 1
    return Agreed(version, MilterActions(wanted), Steps(left_out), chosen)


def _told(kind: type[MilterActions] | type[Steps], value: int) -> str:
    known = [str(one.name).lower().replace("_", " ") for one in kind if value & one]
    rest = value & ~sum(kind)
    return ", ".join([*known, *([f"{rest:#x}"] if rest else [])])


def parse_reply(code: bytes, data: bytes) -> Reply:
    """Read an answer.  Raises MilterError for what is none."""
    match code:
        case b"h":
            return AddField(*_field(data, "an added field"))
        case b"i":
            return InsertField(_index(data), *_field(data[4:], "an inserted field"))
        case b"m":
            return ChangeField(_index(data), *_field(data[4:], "a changed field"))
        case b"b":
            return ReplaceBody(data)
        case b"q":
            return Hold(_text(_strings(data, 1, 1, "a quarantine")[0]))
        case b"y":
            return _reply_code(_strings(data, 1, 1, "a reply")[0])
        case b"+":
            return _envelope(MilterActions.ADD_RECIPIENTS, data, 1)
        case b"2":
            return _envelope(MilterActions.ADD_RECIPIENTS_WITH_PARAMETERS, data, 2)
        case b"-":
            return _envelope(MilterActions.DELETE_RECIPIENTS, data, 1)
        case b"e":
            return _envelope(MilterActions.CHANGE_SENDER, data, 2)
    try:
        return MilterWord(code)
    except ValueError:
        raise MilterError(f"the milter answers {shown(code)!r}, which is no reply") from None


def _strings(data: bytes, least: int, most: int, what: str) -> list[bytes]:
    if not data.endswith(b"\0"):
        raise MilterError(f"{what} of the milter's is cut off")
    found = data[:-1].split(b"\0", most)
    if not least <= len(found) <= most:
        raise MilterError(f"{what} of the milter's has {len(found)} strings")
    return found


def _field(data: bytes, what: str) -> tuple[bytes, bytes]:
    name, value = _strings(data, 2, 2, what)
    if not name or any(not 33 <= octet <= 126 or octet == 58 for octet in name):
        raise MilterError(f"{what} of the milter's has the name {shown(name)!r}")
    return name, value


def _index(data: bytes) -> int:
    if len(data) < _HEAD.size:
        raise MilterError("an index of the milter's is cut off")
    return int(_HEAD.unpack_from(data)[0])


def _envelope(action: MilterActions, data: bytes, most: int) -> EnvelopeChange:
    what = _told(MilterActions, action)
    return EnvelopeChange(action, *(_text(one) for one in _strings(data, 1, most, what)))


def _reply_code(text: bytes) -> ReplyCode:
    """Read "550 5.7.1 text", of one line or several; "%%" stands for "%"."""
    lines = _lines(text)
    read = [_REPLY_LINE.fullmatch(line) for line in lines]
    first = read[0] if read else None
    if first is None:
        raise MilterError(f"a reply of the milter's is none: {shown(text)}")
    texts = [match.group(2) or b"" if match else line for match, line in zip(read, lines, strict=True)]
    told = b" ".join(one.strip() for one in texts if one.strip())
    return ReplyCode(int(first.group(1)), _text(told.replace(b"%%", b"%")))


def _lines(text: bytes) -> list[bytes]:
    return [line for line in text.replace(b"\r", b"\n").split(b"\n") if line]


def _text(octets: bytes) -> str:
    return shown(octets, 500)


def joined_body(pieces: Iterable[ReplaceBody]) -> bytes:
    """Return the new body that pieces of it make."""
    return b"".join(piece.data for piece in pieces)
