"""FETCH where plugins judge what clients read: one message, however it is fetched.

A client that fetches a message whole, in parts, by size and structure or octet by octet must
see the same one (RFC 9051 2.3.1.1).  So a FETCH of anything that a rewrite changes is taken
alone, and goes one of two ways:

    stream    what asks for whole messages goes upstream under the client's own tag, with UID
              added.  Each message is held, judged and sent on: as it came, or with all that was
              asked of it answered from the rewritten one.  So goes a listing of more messages
              than `judge_listings`, of which only those judged before are answered anew.
    batches   what asks for pieces is worked off in batches: the UIDs are asked for, messages
              that are not known are fetched with BODY.PEEK[] and judged, then the client's own
              items are asked for.  Unchanged messages are answered in the upstream's words.

Flags, UID, MODSEQ and INTERNALDATE are always the upstream's, and its ``\\Seen`` is set by the
client's own items.  A message that can't be judged now is left out, and the command ends with
NO: a notice in its place would stay in the client's cache under its UID for ever.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from ...core.outcome import Action, Outcome
from ...core.steps import CLIENT, UPSTREAM, BodyStart, CommandSeen, Framing, SendBody, Stage
from ...core.trouble import FaultKind
from ...core.view import Judged, Piece, Slice, ViewKey
from ...wire.literals import Literal
from .conversation import Flight
from .fetch_items import (
    MARK,
    Fetch,
    Kind,
    Response,
    count_of,
    parse_fetch,
    parse_response,
    unquoted,
)
from .grammar import BODY_ITEM, FETCH, UID_ITEM
from .mailboxes import Mailboxes
from .view import answer

#: How many messages one round of a batch concerns.
BATCH = 50
#: Octets of a literal that is no whole message and has to be kept for a moment.
KEPT_LITERAL = 4 * 1024 * 1024
#: Slices up to this size are sent with the text around them, octets.
SMALL_SLICE = 16 * 1024
_OWN_ITEMS = frozenset({b"UID", b"MODSEQ", b"BODY[]"})


class Round(Enum):
    """What the responses that come in are for."""

    WAITING = "waiting"  # for the commands before it
    NUMBERING = "numbering"  # UIDs of the messages asked for
    JUDGING = "judging"  # messages that nobody has judged
    ANSWERING = "answering"  # the client's items
    STREAM = "stream"  # the client's own command


class Fate(Enum):
    """What becomes of a literal of a response."""

    KEEP = "keep"  # in the engine: it is small
    HOLD = "hold"  # in the spool, to be judged
    DROP = "drop"  # another one takes its place


@dataclass(slots=True)
class Viewing:
    """A FETCH that is being worked off."""

    tag: bytes
    command: CommandSeen
    fetch: Fetch
    by_uid: bool
    round: Round = Round.WAITING
    wants_uid: bool = False
    numbers: deque[int] = field(default_factory=deque)  # as the client counts: UIDs or sequence numbers
    uids: dict[int, int] = field(default_factory=dict)  # number -> UID
    judged: dict[int, Judged | None] = field(default_factory=dict)  # by UID: of this batch
    left_out: int = 0
    over: bytes = b""  # what the upstream said last behind a tag


@dataclass(slots=True)
class Collected:
    """A response that is being heard: its text so far, its literals by number."""

    text: bytes = b""
    literals: list[bytes | None] = field(default_factory=list)  # None: in the spool, or dropped
    binary: list[bool] = field(default_factory=list)
    fate: Fate = Fate.KEEP
    held: int = -1  # the literal that is in the spool
    outcome: Outcome | None = None


class Fetching(Mailboxes):
    """The part of the engine that shows clients one message for each UID."""

    _viewing: Viewing | None = None
    _collected: Collected | None = None
    _response: Response | None = None  # heard whole, waiting for the verdict
    _out: deque[Piece | None]  # what is on its way to the client; None: the held message
    _sending_view = False

    def _relay(self, tag: bytes, flight: Flight, text: bytes, literal: Literal | None) -> None:
        raise NotImplementedError

    def _refuse(
        self, tag: bytes, command: CommandSeen, text: str, literal: Literal | None, reason: str = ""
    ) -> None:
        raise NotImplementedError

    # -- the command -------------------------------------------------------

    def _c_fetch(
        self, tag: bytes, command: CommandSeen, text: bytes, args: bytes, literal: Literal | None
    ) -> None:
        if Stage.FETCH not in self.rules.hold:
            self._relay(tag, Flight("FETCH", command), text, literal)
            return
        fetch = parse_fetch(args) if literal is None else None
        if fetch is None:
            self._fault(CLIENT, FaultKind.BAD_COMMAND, "FETCH")
            self._refuse(tag, command, "BAD Can't read this FETCH", literal)
        elif fetch.has(Kind.LEAK):
            self._fault(CLIENT, FaultKind.STRUCK_EXTENSION_USED, "PREVIEW")
            self._refuse(tag, command, "BAD PREVIEW is not available", literal, "struck")
        elif all(item.kind is Kind.OTHER for item in fetch.items):
            self._relay(tag, Flight("FETCH", command), text, literal)
        else:
            by_uid = text[len(tag) + 1 : len(tag) + 5].upper() == b"UID "
            self._viewing = Viewing(tag, command, fetch, by_uid)
            self._viewing.wants_uid = by_uid or any(item.name == b"UID" for item in fetch.items)
            self._view_when_alone()

    def _view_when_alone(self) -> None:
        """Begin when nothing else is in flight: then every FETCH response is this one's."""
        viewing = self._viewing
        if viewing is None or viewing.round is not Round.WAITING or self._flight:
            return
        fetch = viewing.fetch
        wholes = sum(item.kind is Kind.WHOLE for item in fetch.items)
        most = self.rules.judge_listings
        few = count_of(fetch.numbers, most) <= most
        if fetch.has(Kind.PIECE) or wholes > 1 or (not wholes and few):
            self._number(viewing)
            return
        viewing.round = Round.STREAM
        self._flight[viewing.tag] = Flight("FETCH", viewing.command, argument="view")
        self._send(UPSTREAM, viewing.tag + b" " + self._line(viewing, fetch.numbers) + b"\r\n")

    def _line(self, viewing: Viewing, numbers: bytes, items: bytes = b"") -> bytes:
        """Write a FETCH as the client wrote it, with UID before its items."""
        fetch = viewing.fetch
        if not items:
            asked = [item.raw for item in fetch.items if item.name != b"UID"]
            items = b" ".join([b"UID", *asked])
        line = (b"UID FETCH " if viewing.by_uid else b"FETCH ") + numbers + b" (" + items + b")"
        if fetch.modifiers and viewing.round in (Round.NUMBERING, Round.STREAM):
            line += b" " + fetch.modifiers
        return line

    def _key(self, uid: int) -> ViewKey:
        # A mailbox whose name came as a literal is known by nothing but this selection.
        mailbox = self._mailbox or f"\0{self.record.id} {self._selections}"
        return ViewKey(mailbox, self._validity, uid)

    def _known(self, uid: int) -> Judged | None:
        viewing = self._viewing
        found = viewing.judged.get(uid) if viewing is not None else None
        return found or (self.views.find(self._key(uid)) if uid else None)

    # -- batches -----------------------------------------------------------

    def _number(self, viewing: Viewing) -> None:
        """Learn which messages are meant, unless the client named UIDs that are all known."""
        words = viewing.fetch.numbers.split(b",")
        if (
            viewing.by_uid
            and len(words) <= BATCH
            and all(word.isdigit() and len(word) < 11 for word in words)
        ):
            uids = list(dict.fromkeys(map(int, words)))
            judged = {uid: self._known(uid) for uid in uids}
            if all(one is not None for one in judged.values()):
                viewing.judged = judged
                viewing.uids = {uid: uid for uid in uids}
                self._answer_batch(viewing, uids)
                return
        viewing.round = Round.NUMBERING
        self._ask(self._line(viewing, viewing.fetch.numbers, b"UID"), "FETCH", self._numbered)

    def _numbered(self, rest: bytes) -> None:
        viewing = self._viewing
        assert viewing is not None
        viewing.over = rest
        if rest[:3].upper() != b"OK ":
            self._view_over()
            return
        viewing.numbers = deque(sorted(viewing.uids))
        self._next_batch(viewing)

    def _next_batch(self, viewing: Viewing) -> None:
        batch = [viewing.numbers.popleft() for _ in range(min(BATCH, len(viewing.numbers)))]
        if not batch:
            self._view_over()
            return
        viewing.judged = {}
        missing: list[int] = []
        for number in batch:
            uid = viewing.uids[number]
            viewing.judged[uid] = judged = self.views.find(self._key(uid))
            if judged is None:
                missing.append(number)
        if not missing:
            self._answer_batch(viewing, batch)
            return
        viewing.round = Round.JUDGING
        numbers = b",".join(b"%d" % number for number in missing)
        line = self._line(viewing, numbers, b"UID BODY.PEEK[]")
        self._ask(line, "FETCH", lambda _rest: self._answer_batch(viewing, batch))

    def _answer_batch(self, viewing: Viewing, batch: list[int]) -> None:
        viewing.round = Round.ANSWERING
        numbers = b",".join(b"%d" % number for number in batch)
        items = [b"UID", *(item.raw for item in viewing.fetch.items if item.name != b"UID")]
        if b"CHANGEDSINCE" in viewing.fetch.modifiers.upper() and b"MODSEQ" not in items:
            items.append(b"MODSEQ")
        self._ask(self._line(viewing, numbers, b" ".join(items)), "FETCH", self._answered_batch)

    def _answered_batch(self, rest: bytes) -> None:
        viewing = self._viewing
        assert viewing is not None
        viewing.over = rest
        if rest[:3].upper() == b"OK ":
            self._next_batch(viewing)
        else:
            self._view_over()

    def _unviewed(self) -> list[CommandSeen]:
        viewing, self._viewing = self._viewing, None
        return [viewing.command] if viewing is not None else []

    def _view_over(self) -> None:
        """Answer a command that went in batches."""
        viewing, self._viewing = self._viewing, None
        assert viewing is not None
        text = self._ended_with(viewing, viewing.over)
        self._tell(viewing.tag + b" " + text + (b"" if text.endswith(b"\r\n") else b"\r\n"))
        self._reply(viewing.command, _result(text), text)
        if self._stopping:
            self._stop_when_quiet()

    def _ended_with(self, viewing: Viewing, rest: bytes) -> bytes:
        if not viewing.left_out or rest[:3].upper() != b"OK ":
            return rest
        what = b"%d messages" % viewing.left_out if viewing.left_out > 1 else b"a message"
        return b"NO [UNAVAILABLE] %b can't be inspected now, try again later\r\n" % what

    def _stop_when_quiet(self) -> None:
        raise NotImplementedError

    # -- hearing a response ------------------------------------------------

    @property
    def _is_viewing(self) -> bool:
        return self._viewing is not None and self._viewing.round is not Round.WAITING

    def _view_line(self, line: bytes, literal: Literal | None) -> bool:
        """Take a line of a FETCH response; False lets it pass as it is."""
        collected = self._collected
        if collected is None:
            if FETCH.match(line) is None:
                return False
            if literal is not None and self._may_pass(line):
                return False
            collected = self._collected = Collected()
        if literal is None:
            collected.text += line[:-2]
            self._collected_all(collected)
            return True
        collected.text += literal.before + MARK % len(collected.literals)
        collected.literals.append(b"")
        collected.binary.append(literal.binary)
        self._response_left = literal.size
        collected.fate = self._fate(collected, literal)
        if collected.fate is Fate.HOLD:
            collected.held = len(collected.literals) - 1
            collected.literals[-1] = None
            self._hold_body(collected.text, literal.size)
        return True

    def _may_pass(self, line: bytes) -> bool:
        """Tell whether a response with literals may stream through: its message is not changed."""
        viewing = self._viewing
        assert viewing is not None
        if viewing.round not in (Round.STREAM, Round.ANSWERING):
            return False
        uid = UID_ITEM.search(line)
        judged = self._known(int(uid.group(1)[:18])) if uid is not None else None
        return judged is not None and not judged.modified

    def _without_uid(self, line: bytes) -> bytes:
        """Return a FETCH response that may pass, without a UID that nobody asked for."""
        viewing = self._viewing
        if viewing is None or viewing.wants_uid or FETCH.match(line) is None:
            return line
        return UID_ITEM.sub(lambda found: found.group()[:1], line, 1).replace(b"( ", b"(", 1)

    def _fate(self, collected: Collected, literal: Literal) -> Fate:
        viewing = self._viewing
        assert viewing is not None
        item = BODY_ITEM.search(literal.before, max(0, len(literal.before) - 4200))
        whole = item is not None and not item.group(1) and not item.group(2) and not item.group(3)
        uid = UID_ITEM.search(collected.text)
        judged = self._known(int(uid.group(1)[:18])) if uid is not None else None
        if viewing.round is Round.JUDGING:
            return Fate.HOLD if whole and collected.held < 0 else Fate.DROP
        if judged is not None and judged.modified:
            return Fate.DROP
        if viewing.round is Round.STREAM and whole and judged is None and collected.held < 0:
            return Fate.HOLD
        if viewing.round is Round.ANSWERING and judged is None and uid is not None:
            return Fate.DROP  # it is left out
        if literal.size > KEPT_LITERAL and (judged is None or not whole):
            self._broken(FaultKind.LITERAL_TOO_LARGE, str(literal.size))
        return Fate.KEEP

    def _hold_body(self, head: bytes, size: int) -> None:
        uid = UID_ITEM.search(head)
        ident = f"uid {int(uid.group(1)[:18])}" if uid is not None else ""
        self._begin_body(
            BodyStart(
                UPSTREAM,
                Stage.FETCH,
                held=True,
                size=size,
                mailbox=self._mailbox,
                ident=ident,
                special_use=self._uses_of(self._mailbox),
            )
        )

    def _view_literal(self, data: bytes) -> None:
        """Take octets of a literal of a response that is collected."""
        collected = self._collected
        assert collected is not None
        if collected.fate is Fate.HOLD:
            self._body_data(UPSTREAM, data)
        elif collected.fate is Fate.KEEP:
            collected.literals[-1] = (collected.literals[-1] or b"") + data

    def _collected_all(self, collected: Collected) -> None:
        """A response is whole: answer it, or wait for the verdict on its message."""
        response = parse_response(collected.text)
        if response is None:
            self._broken(FaultKind.BAD_REPLY, collected.text[:60])
            return
        viewing = self._viewing
        assert viewing is not None
        if collected.held < 0 and viewing.round in (Round.JUDGING, Round.STREAM):
            whole = self._unheld_whole(response, collected)
            if whole is not None and self._known(response.uid) is None:
                self._hold_body(b"( UID %d" % response.uid, len(whole))
                self._body_data(UPSTREAM, whole)
                collected.held = len(collected.literals)  # none of them
        self._response = response
        if collected.held < 0:
            self._respond()
        else:
            # Only now the UID is surely known: items come in any order.
            self._end_body(UPSTREAM, self._key(response.uid) if response.uid else None)
            self._gate_upstream()

    def _unheld_whole(self, response: Response, collected: Collected) -> bytes | None:
        """Return a whole message that came as a quoted string, or in a literal that was kept."""
        for item in response.items:
            if item.name.upper() in (b"BODY[]", b"RFC822"):
                return unquoted(item.value)
        return None

    def _fetch_decided(self, outcome: Outcome) -> None:
        collected = self._collected
        assert collected is not None
        collected.outcome = outcome
        self._respond()

    # -- answering ---------------------------------------------------------

    def _respond(self) -> None:
        """Do with a whole response what its round asks for."""
        viewing, collected, response = self._viewing, self._collected, self._response
        assert viewing is not None and collected is not None and response is not None
        self._response = None
        outcome = collected.outcome
        deferred = outcome is not None and outcome.action is Action.DEFER
        uid = response.uid
        names = {item.name.upper() for item in response.items}
        if viewing.round is Round.NUMBERING:
            if uid:
                viewing.uids[uid if viewing.by_uid else response.number] = uid
            self._pass_rest(response, collected)
        elif viewing.round is Round.JUDGING:
            if outcome is not None:
                viewing.judged[uid] = None if deferred else self.views.find(self._key(uid))
                if not deferred:
                    self._emit_forget()
            self._pass_rest(response, collected)
        elif not any(_is_content(name) for name in names):
            self._forward(response, collected)
        else:
            self._respond_content(viewing, collected, response, deferred)

    def _respond_content(
        self, viewing: Viewing, collected: Collected, response: Response, deferred: bool
    ) -> None:
        outcome = collected.outcome
        judged = self._known(response.uid)
        if outcome is not None and judged is None and outcome.action in (Action.PASS, Action.DISCARD):
            self._forward(response, collected)  # judged and unchanged, though nobody could keep that
        elif judged is not None and judged.modified:
            if outcome is not None:
                self._emit_forget()
            self._rewrite(viewing, collected, response, judged)
        elif judged is not None:
            self._forward(response, collected)
        elif deferred or outcome is not None or not self._is_listing(viewing):
            viewing.left_out += 1
            self._collected = None
        else:
            self._forward(response, collected)

    def _is_listing(self, viewing: Viewing) -> bool:
        """Tell whether messages that nobody has judged may be listed as the upstream has them."""
        return viewing.round is Round.STREAM and not viewing.fetch.has(Kind.WHOLE)

    def _emit_forget(self) -> None:
        """The held message itself is not sent: the session may forget it."""
        self._abort_body(UPSTREAM)

    def _pass_rest(self, response: Response, collected: Collected) -> None:
        """Pass on what the upstream told besides what the gateway asked for itself."""
        rest = [item for item in response.items if item.name.upper() not in _OWN_ITEMS]
        if not rest:
            self._collected = None
            return
        uid = [item for item in response.items if item.name.upper() == b"UID" and self._viewing_by_uid]
        self._forward(Response(response.number, [*uid, *rest]), collected)

    @property
    def _viewing_by_uid(self) -> bool:
        return self._viewing is not None and self._viewing.by_uid

    def _forward(self, response: Response, collected: Collected) -> None:
        """Send a response in the upstream's words, without a UID that nobody asked for."""
        viewing = self._viewing
        items = response.items
        if viewing is not None and not viewing.wants_uid:
            items = [item for item in items if item.name.upper() != b"UID"] or items
        pieces: list[Piece | None] = []
        for item in items:
            pieces.append((b" " if pieces else b"") + item.name + b" ")
            pieces += self._value(item.value, collected)
        self._send_response(response.number, pieces)

    def _rewrite(self, viewing: Viewing, collected: Collected, response: Response, judged: Judged) -> None:
        """Send a response with all that was asked for answered from the rewritten message."""
        pieces: list[Piece | None] = []
        told: set[bytes] = set()
        if viewing.wants_uid:
            told.add(b"UID")
            pieces.append(b"UID %d" % response.uid)
        for item in viewing.fetch.items:
            if item.kind is Kind.OTHER:
                value = response.value(item.name)
                if value is not None and item.name not in told:
                    told.add(item.name)
                    pieces += [(b" " if pieces else b"") + item.name + b" ", *self._value(value, collected)]
                continue
            if pieces:
                pieces.append(b" ")
            pieces += answer(judged, item)
        for other in response.items:
            name = other.name.upper()
            if name in told or _is_content(name) or (name == b"UID" and not viewing.wants_uid):
                continue
            pieces += [(b" " if pieces else b"") + other.name + b" ", *self._value(other.value, collected)]
        self._send_response(response.number, pieces)

    def _value(self, value: bytes, collected: Collected) -> list[Piece | None]:
        """Return a value with its literals in place of their marks."""
        if b"\0" not in value:
            return [value]
        pieces: list[Piece | None] = []
        for place, text in enumerate(value.split(b"\0")):
            if place % 2 == 0:
                pieces.append(text)
                continue
            number = int(text)
            content = collected.literals[number]
            size = len(content) if content is not None else self._held_size(collected)
            pieces.append((b"~{%d}\r\n" if collected.binary[number] else b"{%d}\r\n") % size)
            pieces.append(content)
        return [piece for piece in pieces if piece is None or len(piece)]

    def _held_size(self, collected: Collected) -> int:
        return collected.outcome.size if collected.outcome is not None else 0

    def _send_response(self, number: int, pieces: list[Piece | None]) -> None:
        self._collected = None
        self._mid_response = True
        self._out = deque([b"* %d FETCH (" % number, *pieces, b")\r\n"])
        self._send_on()

    def _send_on(self) -> None:
        """Send what is on its way: text at once, large slices by the session."""
        text: list[bytes] = []
        while self._out:
            piece = self._out.popleft()
            if isinstance(piece, bytes):
                text.append(piece)
            elif isinstance(piece, Slice) and len(piece) <= SMALL_SLICE:
                text.append(piece.judged.octets(piece.start, piece.end))
            else:
                self._send_text(text)
                self._sending_view = True
                self._gate_upstream()
                self._emit(SendBody(CLIENT, Framing.RAW, piece=piece))
                return
        self._send_text(text)
        self._response_over()

    def _send_text(self, text: list[bytes]) -> None:
        joined = b"".join(text)
        if joined:
            self._send(CLIENT, joined)

    def _gate_upstream(self) -> None:
        """Hear no more of the upstream while a message is judged, or sent to the client."""
        self.reading[UPSTREAM] = self._response is None and not self._sending_view

    def _view_sent(self) -> None:
        self._sending_view = False
        self._send_on()


def _is_content(name: bytes) -> bool:
    """Tell whether an item of a response tells what a rewrite changes."""
    return name.startswith((b"BODY", b"RFC822", b"BINARY", b"ENVELOPE", b"PREVIEW", b"SNIPPET"))


def _result(text: bytes) -> str:
    word = text.split(b" ", 1)[0].strip().lower()
    return word.decode() if word in (b"ok", b"no", b"bad") else "bad"
