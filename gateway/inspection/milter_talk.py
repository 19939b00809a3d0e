"""A talk with a filter of the milter protocol about one message, over a connection of its own.

It blocks, and so belongs in a thread; nothing in it waits longer than the times that it is given.
Frames that the filter does not answer are collected and sent together.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic

from ..core.text import shown
from . import milter_protocol as protocol
from .defects import LIMIT_DEFECTS
from .milter_protocol import (
    Agreed,
    Change,
    ChangeField,
    Command,
    EnvelopeChange,
    Hold,
    InsertField,
    MilterActions,
    MilterError,
    MilterWord,
    ReplaceBody,
    Reply,
    ReplyCode,
    Steps,
)
from .part import Part
from .services import connect

#: What is collected before it is sent, in octets.
_BATCH = 128 * 1024
_PIECE = 64 * 1024
_LONE = re.compile(rb"\r\n|\r|\n")
#: What a filter may ask for at the end of a message.
_MOST_CHANGES = 1000
_MOST_CHANGED = 1024 * 1024

#: The macros that are told where the filter has not chosen: as Postfix has them.
_MACROS: dict[Command, tuple[int, str]] = {
    Command.CONNECT: (0, "j {daemon_name} {daemon_addr} v _ {client_addr} {client_name} {client_port}"),
    Command.HELO: (1, "{tls_version} {cipher} {cipher_bits} {cert_subject} {cert_issuer}"),
    Command.MAIL: (2, "i {auth_type} {auth_authen} {auth_author} {mail_addr} {mail_host} {mail_mailer}"),
    Command.RECIPIENT: (3, "i {rcpt_addr} {rcpt_host} {rcpt_mailer}"),
    Command.DATA: (4, "i"),
    Command.END_OF_HEADER: (6, "i"),
    Command.END_OF_BODY: (5, "i"),
}
#: By the action that it takes, what may be asked for.
_ALLOWED_BY: dict[type, MilterActions] = {
    protocol.AddField: MilterActions.ADD_FIELDS,
    InsertField: MilterActions.ADD_FIELDS,
    ChangeField: MilterActions.CHANGE_FIELDS,
    ReplaceBody: MilterActions.REPLACE_BODY,
    Hold: MilterActions.QUARANTINE,
}


@dataclass(frozen=True, slots=True)
class MilterLimits:
    """How long a filter may take, in seconds, and how much it may send.

    connect: until a connection stands.  command: for each answer.  end_of_message: for each
    answer once it has the whole message; it may ask for as much again, and again.  in_all: for
    everything together.  body: octets of a new body.
    """

    connect: float = 1.0
    command: float = 3.0
    end_of_message: float = 4.0
    in_all: float = 4.5
    body: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class MilterRecipient:
    """A recipient with its parameters, "<bob@example.org>" first, and its macros."""

    arguments: Sequence[str]
    macros: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MilterMail:
    """What a filter is told of a message besides its octets.

    host: the client's name, or "unknown".  sender: as a recipient's arguments.
    macros: by name, "j" or "{auth_type}"; told at the steps that they belong to.
    """

    host: str
    address: str
    port: int
    helo: str
    sender: Sequence[str]
    recipients: Sequence[MilterRecipient] = ()
    macros: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class MilterAnswer:
    """What a filter has said.

    word: its last one: ACCEPT, REJECT, TEMPFAIL or DISCARD.  text: for the client, "" without.
    at: the command that it answered.  hold: why the message is to be kept; None if it is not.
    fields, body: what is to be changed; a body of None stays.  envelope: what else it asked for.
    leading_space: the values of the fields bring the blank behind the colon along.
    """

    word: MilterWord
    text: str = ""
    at: Command = Command.CONNECT
    hold: str | None = None
    fields: list[protocol.AddField | InsertField | ChangeField] = field(default_factory=list)
    body: bytes | None = None
    envelope: list[EnvelopeChange] = field(default_factory=list)
    leading_space: bool = False


def ask_milter(
    addresses: Sequence[str], root: Part, mail: MilterMail, actions: MilterActions, limits: MilterLimits
) -> MilterAnswer:
    """Ask the first filter that is there about a message.

    addresses: each "unix:PATH" or "HOST:PORT".  root: the message.  actions: what is offered.
    Raises MilterError for a filter that breaks the protocol or hangs up, OSError for one that
    can't be reached, TimeoutError for one that takes too long.
    """
    if LIMIT_DEFECTS.intersection(root.defects):
        raise MilterError("the message's header is beyond a limit, and can't be told to a milter as a whole")
    deadline = monotonic() + limits.in_all
    failures: list[Exception] = []
    for address in addresses:
        try:
            talk = _Talk(address, limits, deadline)
        except OSError as error:
            failures.append(type(error)(f"{address}: {_why(error)}"))
            continue
        with talk.connection:
            try:
                talk.negotiate(actions)
            except (OSError, MilterError) as error:
                failures.append(type(error)(f"{address}: {_why(error)}"))
                continue
            try:
                return talk.tell(root, mail)
            except (OSError, MilterError) as error:
                kind = type(error) if isinstance(error, MilterError | TimeoutError) else MilterError
                raise kind(f"{address}: {_why(error)}") from None
    raise type(failures[0])("; ".join(map(str, failures)))


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or shown(str(error)) or "no connection"


class _Talk:
    def __init__(self, address: str, limits: MilterLimits, deadline: float) -> None:
        self._limits = limits
        self._deadline = deadline
        self._frames = protocol.Frames()
        self._unsent = bytearray()
        self._agreed = Agreed(protocol.VERSION, MilterActions(0), Steps(0))
        left = min(limits.connect, self._left())
        self.connection = connect(address, left)

    def _left(self, limit: float = float("inf")) -> float:
        left = min(limit, self._deadline - monotonic())
        if left <= 0:
            raise TimeoutError(f"the milter took longer than {self._limits.in_all:g} s in all")
        return left

    # -- octets ------------------------------------------------------------

    def _send(self, octets: bytes) -> None:
        self._unsent += octets
        if len(self._unsent) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        self.connection.settimeout(self._left(self._limits.command))
        try:
            self.connection.sendall(self._unsent)
        except TimeoutError:
            raise TimeoutError("the milter did not take what it was sent") from None
        self._unsent.clear()

    def _receive(self, limit: float, what: str) -> tuple[bytes, bytes]:
        self._flush()
        until = min(monotonic() + limit, self._deadline)
        while (taken := self._frames.take()) is None:
            left = until - monotonic()
            try:
                if left <= 0:
                    raise TimeoutError
                self.connection.settimeout(left)
                self._acknowledge_at_once()
                octets = self.connection.recv(_PIECE)
            except TimeoutError:
                self._left()
                raise TimeoutError(f"the milter did not answer {what} within {limit:g} s") from None
            if not octets:
                raise MilterError(f"the milter hung up in place of an answer to {what}")
            self._frames.feed(octets)
        return taken

    def _acknowledge_at_once(self) -> None:
        """Keep a milter from waiting 40 ms for an acknowledgement between two small answers."""
        if self.connection.family != socket.AF_UNIX and hasattr(socket, "TCP_QUICKACK"):
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _reply(self, command: Command, limit: float) -> Reply:
        while True:
            reply = protocol.parse_reply(*self._receive(limit, _name(command)))
            if reply is not MilterWord.PROGRESS:
                return reply

    # -- steps -------------------------------------------------------------

    def negotiate(self, actions: MilterActions) -> None:
        """Agree with the filter on what it is told and may do."""
        self._send(protocol.offer(actions))
        code, data = self._receive(self._limits.command, "the negotiation")
        if code != Command.NEGOTIATE:
            raise MilterError(f"the milter negotiates with {shown(code)!r}")
        self._agreed = protocol.parse_agreement(data, actions)

    def tell(self, root: Part, mail: MilterMail) -> MilterAnswer:
        """Go through the steps of a message until the filter has decided."""
        answer = self._before_the_end(root, mail)
        if answer is None:
            answer = self._end(mail)
        elif answer.at is not Command.CONNECT:
            self._unsent += protocol.frame(Command.ABORT)
        self._unsent += protocol.frame(Command.QUIT)
        try:
            self._flush()
        except OSError:
            pass  # it has said what is wanted of it
        return answer

    def _before_the_end(self, root: Part, mail: MilterMail) -> MilterAnswer | None:
        told = protocol.strings
        frame = protocol.frame
        named = protocol.connect(_octets(mail.host), mail.address, mail.port)
        helo = frame(Command.HELO, told(_octets(mail.helo)))
        sender = frame(Command.MAIL, told(*map(_octets, mail.sender)))
        for command, octets, left_out, quiet in (
            (Command.CONNECT, named, Steps.NO_CONNECT, Steps.QUIET_CONNECT),
            (Command.HELO, helo if mail.helo else b"", Steps.NO_HELO, Steps.QUIET_HELO),
            (Command.MAIL, sender, Steps.NO_MAIL, Steps.QUIET_MAIL),
        ):
            if octets and (answer := self._step(command, octets, left_out, quiet, mail.macros)):
                return answer
        for one in mail.recipients:
            octets = frame(Command.RECIPIENT, told(*map(_octets, one.arguments)))
            macros = {**mail.macros, **one.macros}
            left_out, quiet = Steps.NO_RECIPIENTS, Steps.QUIET_RECIPIENTS
            if answer := self._step(Command.RECIPIENT, octets, left_out, quiet, macros):
                return answer
        data = frame(Command.DATA)
        if self._agreed.version >= 4 and (
            answer := self._step(Command.DATA, data, Steps.NO_DATA, Steps.QUIET_DATA, mail.macros)
        ):
            return answer
        for octets in self._fields(root):
            if answer := self._step(Command.FIELD, octets, Steps.NO_FIELDS, Steps.QUIET_FIELDS):
                return answer
        end = frame(Command.END_OF_HEADER)
        left_out, quiet = Steps.NO_END_OF_HEADER, Steps.QUIET_END_OF_HEADER
        if answer := self._step(Command.END_OF_HEADER, end, left_out, quiet, mail.macros):
            return answer
        return self._body(root)

    def _fields(self, root: Part) -> Iterator[bytes]:
        for one in root.fields:
            name = one.buffer[one.start : one.colon].rstrip(b" \t")
            octets = protocol.header_field(name, one.raw_value.replace(b"\0", b" "), self._agreed.steps)
            if len(octets) - 5 > self._agreed.largest:
                raise MilterError(f"the field {one.name} has {len(octets)} octets: more than a milter takes")
            yield octets

    def _body(self, root: Part) -> MilterAnswer | None:
        if self._agreed.steps & Steps.NO_BODY:
            return None
        for piece in body_pieces(root):
            for place in range(0, len(piece), self._agreed.largest):
                octets = protocol.frame(Command.BODY, piece[place : place + self._agreed.largest])
                self._send(octets)
                if self._agreed.steps & Steps.QUIET_BODY:
                    continue
                reply = self._reply(Command.BODY, self._limits.command)
                if reply is MilterWord.SKIP and self._agreed.steps & Steps.SKIP:
                    return None
                if answer := self._decided(Command.BODY, reply):
                    return answer
        return None

    def _step(
        self,
        command: Command,
        octets: bytes,
        left_out: Steps,
        quiet: Steps,
        macros: Mapping[str, str] | None = None,
    ) -> MilterAnswer | None:
        """Take a step; return what the filter has decided, None if it wants to go on."""
        if self._agreed.steps & left_out:
            return None
        if macros is not None:
            self._tell_macros(command, macros)
        self._send(octets)
        if self._agreed.steps & quiet:
            return None
        return self._decided(command, self._reply(command, self._limits.command))

    def _tell_macros(self, command: Command, known: Mapping[str, str]) -> None:
        stage, usual = _MACROS[command]
        names = self._agreed.macros.get(stage, usual.split())
        found = {one: known.get(one) or known.get("{" + one + "}") for one in names}
        self._send(protocol.macros(command, {name: _octets(text) for name, text in found.items() if text}))

    def _decided(self, command: Command, reply: Reply) -> MilterAnswer | None:
        match reply:
            case MilterWord.CONTINUE:
                return None
            case MilterWord.ACCEPT | MilterWord.REJECT | MilterWord.TEMPFAIL | MilterWord.DISCARD:
                return MilterAnswer(reply, at=command)
            case ReplyCode(_, text):
                word = MilterWord.TEMPFAIL if reply.is_temporary else MilterWord.REJECT
                return MilterAnswer(word, text, command)
            case MilterWord.SHUTDOWN:
                return MilterAnswer(MilterWord.TEMPFAIL, "the service is shutting down", command)
            case MilterWord.CONNECTION_FAILED:
                raise MilterError("the milter says that its connection has failed")
        told = reply.name if isinstance(reply, MilterWord) else type(reply).__name__
        raise MilterError(f"the milter answers {_name(command)} with {told}")

    # -- the end of the message --------------------------------------------

    def _end(self, mail: MilterMail) -> MilterAnswer:
        """Tell the filter that it has all, and take what it wants to be changed."""
        self._tell_macros(Command.END_OF_BODY, mail.macros)
        self._send(protocol.frame(Command.END_OF_BODY))
        answer = MilterAnswer(MilterWord.ACCEPT, at=Command.END_OF_BODY)
        answer.leading_space = bool(self._agreed.steps & Steps.LEADING_SPACE)
        pieces: list[ReplaceBody] = []
        size = changed = 0
        while True:
            reply = self._reply(Command.END_OF_BODY, self._limits.end_of_message)
            if isinstance(reply, MilterWord | ReplyCode):
                decided = self._decided(Command.END_OF_BODY, reply)
                if decided is not None:
                    answer.word, answer.text = decided.word, decided.text
                answer.body = protocol.joined_body(pieces) if pieces else None
                return answer
            self._check_allowed(reply)
            if isinstance(reply, ReplaceBody):
                size += len(reply.data)
                if size > self._limits.body:
                    raise MilterError(f"the milter's body has more than {self._limits.body} octets")
                pieces.append(reply)
                continue
            if isinstance(reply, Hold):
                answer.hold = reply.reason
            elif isinstance(reply, EnvelopeChange):
                answer.envelope.append(reply)
            else:
                answer.fields.append(reply)
                changed += len(reply.name) + len(reply.value)
            if len(answer.fields) + len(answer.envelope) > _MOST_CHANGES or changed > _MOST_CHANGED:
                raise MilterError("the milter wants more changes than can be made")

    def _check_allowed(self, change: Change) -> None:
        action = change.action if isinstance(change, EnvelopeChange) else _ALLOWED_BY[type(change)]
        if not self._agreed.actions & action:
            raise MilterError(f"the milter asks for {type(change).__name__}, which was not agreed")


def _name(command: Command) -> str:
    return command.name.replace("_", " ")


def _octets(text: str) -> bytes:
    """Return a text as it came, without what would end a string."""
    try:
        return text.replace("\0", " ").encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.replace("\0", " ").encode("utf-8", "replace")


def body_pieces(root: Part) -> Iterator[bytes]:
    """Give the body with CRLF at the end of every line, as it leaves for a server."""
    place = root.body_start
    while place < root.end:
        stop = min(place + _PIECE - 1, root.end)
        piece = root.buffer[place:stop]
        if stop < root.end and piece.endswith(b"\r"):
            stop += 1  # the LF, if it is one, belongs to it
            piece = root.buffer[place:stop]
        place = stop
        pairs = piece.count(b"\r\n")
        if piece.count(b"\n") != pairs or piece.count(b"\r") != pairs:
            piece = _LONE.sub(b"\r\n", piece)
        yield piece
