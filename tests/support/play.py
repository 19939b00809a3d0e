"""Plays: written conversations that an engine must perform, in three cuttings.

Notation, one line each::

    C>  EHLO me          the client says (CRLF is added)
    C>| raw\\r\\n          the same, with Python's escapes and no line end added
    U>  250 ok           the upstream says
    >U  EHLO me          we send upstream
    >C  250 ok           we send the client           (also with | for raw)
    !   StartTls(client) a step: an order or a fact, as `render` writes it
    !   body line|two|   content of a body; each | is a CRLF
    ?   pass             news: see `_news`
    # comment

Every order is compared.  A kind of fact is compared in plays that mention it.  Adjacent
sends to one side and adjacent pieces of a body count as one.  The prologue is performed
silently (opened, routed) unless the play begins with ``? open``.

Each play runs line by line, byte by byte, and with adjacent lines of one side glued.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gateway.core.engine import Engine, Route
from gateway.core.outcome import Action, Outcome
from gateway.core.record import SessionRecord
from gateway.core.rules import Rules
from gateway.core.steps import (
    CLIENT,
    ORDERS,
    UPSTREAM,
    BodyData,
    BodyEnd,
    BodyStart,
    Close,
    CommandSeen,
    Fault,
    ReplySeen,
    Send,
    SendBody,
    Side,
    StartTls,
    Step,
    TlsInfo,
)
from gateway.core.trouble import FaultKind, Trouble
from gateway.core.view import ViewKey
from gateway.observe.notation import render as render_step
from tests.support.views import PlayViews

TLS = TlsInfo("TLSv1.3", "TLS_AES_128_GCM_SHA256")


def render(step: Step) -> str:
    """Write a step as a play does: with the octets of what is sent."""
    match step:
        case Send(side, data):
            return f">{'C' if side is CLIENT else 'U'} {data!r}"
        case BodyData(_, data):
            return f"body {data!r}"
    return render_step(step)


def merge(steps: Iterable[Step]) -> list[Step]:
    """Join adjacent Sends to one side and adjacent BodyDatas of one source."""
    merged: list[Step] = []
    for step in steps:
        last = merged[-1] if merged else None
        if isinstance(step, Send) and isinstance(last, Send) and last.side is step.side:
            merged[-1] = Send(step.side, last.data + step.data)
        elif isinstance(step, BodyData) and isinstance(last, BodyData) and last.source is step.source:
            merged[-1] = BodyData(step.source, last.data + step.data)
        else:
            merged.append(step)
    return merged


@dataclass
class _Beat:
    """One input and what must come of it."""

    side: Side | None  # None: news
    data: bytes
    news: str
    expected: list[str]
    line: int


class PlayError(AssertionError):
    pass


def _bytes(text: str, raw: bool) -> bytes:
    if raw:
        text = text[1:] if text.startswith(" ") else text
        return text.encode("latin-1", "backslashreplace").decode("unicode_escape").encode("latin-1")
    return text.encode() + b"\r\n"


def _parse(text: str) -> tuple[list[_Beat], list[str]]:
    beats: list[_Beat] = []
    before: list[str] = []
    for number, line in enumerate(textwrap.dedent(text).splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        mark, rest = line[:2], line[2:]
        raw = rest.startswith("|")
        content = rest[1:] if raw else rest.removeprefix("  ").removeprefix(" ") if rest else ""
        expected = beats[-1].expected if beats else before
        if mark in ("C>", "U>"):
            side = CLIENT if mark == "C>" else UPSTREAM
            beats.append(_Beat(side, _bytes(content, raw), "", [], number))
        elif mark in (">C", ">U"):
            expected.append(f"{mark} {_bytes(content, raw)!r}")
        elif mark.startswith("!"):
            content = line[1:].strip()
            if content.startswith("body "):
                content = f"body {content[5:].replace('|', chr(13) + chr(10)).encode()!r}"
            expected.append(content)
        elif mark.startswith("?"):
            beats.append(_Beat(None, b"", line[1:].strip(), [], number))
        else:
            raise PlayError(f"line {number} of the play: {line!r}")
    return beats, before


def _join_expected(expected: list[str]) -> list[str]:
    """Join adjacent sends and bodies of a written expectation, as `merge` does steps."""
    joined: list[str] = []
    for item in expected:
        for mark in (">C ", ">U ", "body "):
            if item.startswith(mark) and joined and joined[-1].startswith(mark):
                left, right = eval(joined[-1][len(mark) :]), eval(item[len(mark) :])
                joined[-1] = f"{mark}{left + right!r}"
                break
        else:
            joined.append(item)
    return joined


class Player:
    """Drives one engine and checks the promises of the contract on the way."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.views = PlayViews()
        engine.views = self.views
        self.keys: list[ViewKey | None] = [None, None]
        self.tls_pending = [False, False]
        self.body_pending = [False, False]
        self.size = [0, 0]
        self.settled: set[int] = set()
        self.seen: set[int] = set()
        self.closed = False

    def check(self, steps: list[Step]) -> list[Step]:
        for step in steps:
            assert not self.closed or not isinstance(step, ORDERS), f"{step} behind Close"
            match step:
                case Send(side, data):
                    assert data, "an empty Send"
                    assert not self.tls_pending[side], f"Send behind StartTls: {step}"
                    assert not self.body_pending[side], f"Send behind SendBody: {step}"
                case StartTls(side):
                    self.tls_pending[side] = True
                case SendBody(side=side):
                    assert not self.body_pending[side]
                    self.body_pending[side] = True
                case BodyStart(source=source):
                    self.size[source] = 0
                case BodyEnd(source, key):
                    self.keys[source] = key
                case BodyData(source, data):
                    self.size[source] += len(data)
                case CommandSeen(serial, _, _):
                    assert serial not in self.seen
                    self.seen.add(serial)
                case ReplySeen(command, _, _):
                    assert command.serial in self.seen and command.serial not in self.settled
                    self.settled.add(command.serial)
                case Fault(_, FaultKind.INTERNAL, detail):
                    raise AssertionError(f"internal error: {detail}")
                case Close():
                    self.closed = True
        return steps

    def hear(self, side: Side, data: bytes, byte_by_byte: bool) -> list[Step]:
        if not byte_by_byte:
            return self.check(self.engine.receive(side, data))
        steps: list[Step] = []
        for index in range(len(data)):
            steps += self.check(self.engine.receive(side, data[index : index + 1]))
        return steps

    def decide(self, source: Side, outcome: Outcome) -> list[Step]:
        """Tell the engine a verdict, as a session does: what clients fetch is kept first."""
        if source is UPSTREAM:
            self.views.judge(self.keys[source], outcome)
        return self.engine.decided(source, outcome)

    def news(self, text: str) -> list[Step]:
        """Perform one ``?`` line."""
        engine = self.engine
        word, _, rest = text.partition(" ")
        side = UPSTREAM if rest.startswith("upstream") else CLIENT
        source = CLIENT if engine.held[CLIENT] or not engine.held[UPSTREAM] else UPSTREAM
        match word:
            case "open":
                return self.check(engine.opened())
            case "routed":
                return self.check(engine.routed(Route("test", "192.0.2.1:1", TLS if rest == "tls" else None)))
            case "unreachable":
                return self.check(engine.unreachable(Trouble(rest)))
            case "tls":
                self.tls_pending[side] = False
                return self.check(engine.handshaken(side, TLS))
            case "sent":
                side = UPSTREAM if self.body_pending[UPSTREAM] else CLIENT
                self.body_pending[side] = False
                return self.check(engine.body_sent(side))
            case "closed":
                return self.check(engine.closed(side))
            case "fail":
                return self.check(engine.fail(Trouble(rest)))
            case "stop":
                return self.check(engine.stop_when_quiet())
            case "keep":
                return self.check(engine.keep_upstream())
            case "finished":
                return self.check(engine.finished())
            case "pass":
                return self.check(self.decide(source, Outcome(Action.PASS, self.size[source])))
            case "modify":
                return self.check(self.decide(source, Outcome(Action.MODIFY, int(rest or 0))))
            case "reject" | "quarantine" | "discard" | "defer":
                notice = source is UPSTREAM
                outcome = Outcome(
                    Action(word), 42 if notice else 0, rest.removesuffix(" accept"), notice=notice
                )
                outcome.accept = rest.endswith("accept")
                return self.check(self.decide(source, outcome))
        raise PlayError(f"unknown news {text!r}")


def _perform(make: Callable[[], Engine], beats: list[_Beat], before: list[str], cutting: str) -> None:
    player = Player(make())
    fact_kinds = {
        item.partition("(")[0]
        for beat in beats
        for item in beat.expected
        if "(" in item and not item.startswith((">", "body"))
    } | {item.partition("(")[0] for item in before}
    order_kinds = {kind.__name__ for kind in ORDERS}

    def compare(steps: list[Step], expected: list[str], where: str) -> None:
        counted = [s for s in steps if isinstance(s, ORDERS) or type(s).__name__ in fact_kinds | order_kinds]
        got = [render(step) for step in merge(counted)]
        wanted = _join_expected(expected)
        if got != wanted:
            raise PlayError(
                f"{cutting}, {where}:\n  wanted "
                + "\n         ".join(wanted or ["nothing"])
                + "\n  got    "
                + "\n         ".join(got or ["nothing"])
            )

    if not beats or not beats[0].news.startswith("open"):
        player.check(player.engine.opened())
        player.check(player.engine.routed(Route("test", "192.0.2.1:1")))
    index = 0
    while index < len(beats):
        beat = beats[index]
        index += 1
        if beat.side is None:
            compare(player.news(beat.news), beat.expected, f"line {beat.line} (? {beat.news})")
            continue
        # Adjacent lines of one side are one stretch: what comes of them is compared together.
        stretch = [beat]
        # An upstream does not answer what it has not heard: there a stretch ends.
        while index < len(beats) and beats[index].side is beat.side:
            if beat.side is UPSTREAM and any(item.startswith(">U") for item in stretch[-1].expected):
                break
            stretch.append(beats[index])
            index += 1
        pieces = [b"".join(b.data for b in stretch)] if cutting == "glued" else [b.data for b in stretch]
        steps: list[Step] = []
        for piece in pieces:
            steps += player.hear(beat.side, piece, cutting == "byte by byte")
        expected = [item for b in stretch for item in b.expected]
        compare(steps, expected, f"line {beat.line} ({pieces[0][:60]!r})")
    player.check(player.engine.finished())
    assert player.seen == player.settled, "a command was never settled"


CUTTINGS = ("line by line", "byte by byte", "glued")


def play(
    make: Callable[[Rules, SessionRecord], Engine],
    text: str,
    rules: Rules | None = None,
    cuttings: Iterable[str] = CUTTINGS,
) -> None:
    """Perform a play once in each cutting.  Raises PlayError where it differs.

    cuttings: fewer where the cutting is the point, as with bytes injected behind STARTTLS.
    """
    beats, before = _parse(text)

    def engine() -> Engine:
        record = SessionRecord(
            "test", make.protocol if hasattr(make, "protocol") else "?", "test", "192.0.2.7", 4711
        )
        return make(rules or Rules(hostname="gate.example"), record)

    for cutting in cuttings:
        _perform(engine, beats, before, cutting)
