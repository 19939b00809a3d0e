"""What the parts of the IMAP engine share: commands in flight, gates, and the words of trouble."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...core.engine import Engine
from ...core.record import SessionRecord
from ...core.rules import Rules
from ...core.steps import CLIENT, UPSTREAM, CommandSeen, ExtensionStruck, Refused
from ...core.trouble import REASONS, CloseReason, FaultKind, Trouble
from ...wire.literals import Literal
from .capabilities import Offer, advertise
from .grammar import CAPABILITY_CODE, OWN_TAG

MAX_IN_FLIGHT = 500

WORDS: dict[Trouble, str] = {
    Trouble.UPSTREAM_DOWN: "[UNAVAILABLE] Service not available, try again later",
    Trouble.UPSTREAM_TLS: "[UNAVAILABLE] No secure connection to the mail server, try again later",
    Trouble.UPSTREAM_FAULT: "[UNAVAILABLE] Connection to the mail server lost, try again later",
    Trouble.UPSTREAM_TIMEOUT: "[UNAVAILABLE] The mail server does not answer, try again later",
    Trouble.TLS_REQUIRED: "[PRIVACYREQUIRED] Must issue STARTTLS first",
    Trouble.TOO_MANY: "[UNAVAILABLE] Too many connections, try again later",
    Trouble.TOO_MANY_ERRORS: "Too many errors",
    Trouble.REFUSED: "Access denied",
    Trouble.IDLE: "Disconnected for inactivity",
    Trouble.SHUTDOWN: "[UNAVAILABLE] Service shutting down, try again later",
    Trouble.PROTOCOL: "[CLIENTBUG] Protocol error",
}


@dataclass(slots=True)
class Flight:
    """A command that the upstream has and has not answered.

    command: None for one of the gateway's own; then ``done`` gets the rest of its tagged line.
    argument: what the verb's own handling needs of it (a mailbox).
    """

    verb: str
    command: CommandSeen | None = None
    done: Callable[[bytes], None] | None = None
    argument: str = ""


@dataclass(slots=True)
class Incoming:
    """A command of which literals are still to come from the client.

    mode: "relay", "hold" (an APPEND that is judged first), "mailbox" (the literal that names
        where to append), "discard" (refused: its octets are thrown away).
    reply: the refusal that is sent when all of it is thrown away.
    mistake: "discard": the client should not have given it, which counts.
    prefix, tail: "hold": what stands before the message's literal, and behind it.
    head: "hold": the command up to its mailbox.  following: the next message's literal.
    begun: "hold": the upstream has a message of it already.
    """

    tag: bytes
    verb: str
    command: CommandSeen
    mode: str
    literals: int = 1
    reply: bytes = b""
    mistake: bool = True
    prefix: bytes = b""
    tail: bytes = b""
    head: bytes = b""
    mailbox: str = ""
    following: Literal | None = None
    begun: bool = False
    binary: bool = False
    collected: bytes = b""  # "mailbox": its octets so far
    message: bool = False  # "relay": the literal under way is a message
    answered: bool = False  # the upstream has answered it before it was whole

    @property
    def closing(self) -> bytes:
        """The parenthesis that closes the message before this one, if that was in the UTF8 form."""
        return b")" if self.prefix.startswith(b")") else b""


class Conversation(Engine):
    """The state of an IMAP session."""

    def __init__(self, rules: Rules, record: SessionRecord) -> None:
        super().__init__(rules, record)
        self.reading = [False, False]
        self._flight: dict[bytes, Flight] = {}
        self._incoming: Incoming | None = None
        self._held_append: Incoming | None = None  # whose message is judged, or on its way upstream
        self._literal_left = 0  # octets of the client's literal still to come
        self._plus: Callable[[bytes], None] | None = None  # what a continuation request is for
        self._plus_tag = b""  # and whose command it is
        self._offer = Offer()
        self._told: set[str] = set()
        self._own_number = 0
        self._greeted = False
        self._greeting_text = b"OK"
        self._said_goodbye = False
        self._stopping = False
        self._logged_in = False
        self._forbidden = ""  # why plugins refuse the login that has just succeeded
        self._mailbox = ""
        self._selections = 0
        self._validity = 0  # the selected mailbox's UIDVALIDITY
        self._uses: dict[str, frozenset[str]] = {}  # mailboxes with a special use, by name
        self._learning = False  # the gateway's own LIST is out: the client waits
        self._idle_tag = b""  # the IDLE that is on
        self._waits_for = b""  # the tag of a LOGIN, AUTHENTICATE: the client is not read until its end
        self._login_turn = False
        self._own_tag = OWN_TAG
        self._deciding = False
        self._sending = False
        self._mid_response = False  # the client has the beginning of a response
        self._response_left = 0  # octets of the upstream's literal still to come
        self._queued: list[bytes] = []  # our own responses, while one of the upstream's is unfinished
        self._errors = 0
        self._unknown = 0

    # -- telling -----------------------------------------------------------

    def _tell(self, data: bytes) -> None:
        """Send a response of our own, between two whole ones of the upstream's."""
        if self._mid_response:
            self._queued.append(data)
        else:
            self._send(CLIENT, data)

    def _response_over(self) -> None:
        self._mid_response = False
        if self._queued:
            for data in self._queued:
                self._send(CLIENT, data)
            self._queued.clear()

    def _tell_tagged(self, tag: bytes, command: CommandSeen, text: str, reason: str = "") -> None:
        """Answer a command ourselves.  text: ``NO ...``, ``BAD ...`` or ``OK ...``."""
        if reason:
            self._emit(Refused(command.verb, reason))
        self._tell(tag + b" " + text.encode("utf-8", "replace") + b"\r\n")
        self._reply(command, "ok" if text.startswith("OK") else "refused", text)

    def _error(self, tag: bytes, command: CommandSeen, text: str, reason: str = "") -> None:
        """Answer a command that should not have been given; too many end the session."""
        self._tell_tagged(tag, command, text, reason)
        self._count_error()

    def _count_error(self) -> None:
        self._errors += 1
        if self._errors > self.rules.max_errors and not self.ended:
            self._fault(CLIENT, FaultKind.TOO_MANY_COMMANDS, "too many errors")
            self._fail(Trouble.TOO_MANY_ERRORS)

    # -- asking ------------------------------------------------------------

    def _await_plus(self, tag: bytes, handler: Callable[[bytes], None]) -> None:
        """Have ``handler`` called with the upstream's continuation request for this command."""
        self._plus, self._plus_tag = handler, tag

    def _ask(self, line: bytes, verb: str, done: Callable[[bytes], None]) -> None:
        """Send a command of the gateway's own; ``done`` gets what follows its tag."""
        tag = b""
        while not tag or tag in self._flight:
            self._own_number += 1
            tag = self._own_tag + b"%d" % self._own_number
        self._flight[tag] = Flight(verb, None, done)
        self._send(UPSTREAM, tag + b" " + line + b"\r\n")

    # -- capabilities ------------------------------------------------------

    def _filter(self, names: bytes) -> bytes:
        """Return what a client is told of a list of capabilities: the only place that decides."""
        login_over = self._logged_in or (bool(self._waits_for) and b"AUTH=" not in names.upper())
        secure, hidden = self.secure[CLIENT], self._hidden()
        self._offer = offer = self.rules.remembered(
            (names, secure, hidden, login_over),
            lambda: advertise(
                names.decode("ascii", "replace").split(),
                self.rules,
                secure=secure,
                hidden=hidden,
                logged_in=login_over,
            ),
        )
        for name, reason in offer.struck:
            if name not in self._told:
                self._told.add(name)
                self._emit(ExtensionStruck(name, reason))
        return offer.text

    def _filter_code(self, line: bytes) -> bytes:
        """Filter the list in a response code, wherever it stands."""
        return CAPABILITY_CODE.sub(lambda found: b"[CAPABILITY " + self._filter(found.group(1)) + b"]", line)

    # -- ends --------------------------------------------------------------

    def _broken(self, kind: FaultKind, detail: bytes | str) -> None:
        self._fault(UPSTREAM, kind, detail)
        self._fail(Trouble.UPSTREAM_FAULT)

    def _fail(self, trouble: Trouble) -> None:
        reason = REASONS.get(trouble, CloseReason.INTERNAL)
        if self._mid_response:
            # A line of ours would be read as part of the literal.
            self._fault(UPSTREAM, FaultKind.TRUNCATED_BODY, str(trouble))
        elif not self.handshaking[CLIENT] and not self._said_goodbye:
            words = WORDS.get(trouble, "[UNAVAILABLE] Try again later")
            self._send(CLIENT, f"* BYE {words}\r\n".encode())
        self._finish(reason, str(trouble))

    def _settle_all(self) -> None:
        self._forget_login("unfinished")
        unanswered = [flight.command for flight in self._flight.values()]
        unanswered += [one.command for one in self._unfinished() if not one.answered]
        unanswered += self._unviewed()
        self._flight.clear()
        self._incoming = None
        settled: set[int] = set()
        for command in unanswered:
            if command is not None and command.serial not in settled:
                settled.add(command.serial)
                self._reply(command, "unanswered", "")

    def _unfinished(self) -> list[Incoming]:
        """Return the commands that the upstream has not had, or not whole."""
        return [self._incoming] if self._incoming is not None else []

    def _uses_of(self, mailbox: str) -> frozenset[str]:
        """Return what a mailbox is for."""
        raise NotImplementedError

    def _unviewed(self) -> list[CommandSeen]:
        """Return the FETCH that is being worked off, if it was not answered."""
        raise NotImplementedError

    def _forget_login(self, outcome: str) -> None:
        raise NotImplementedError
