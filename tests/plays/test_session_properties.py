"""Properties of every engine in a session that takes its time.

Handshakes, verdicts and bodies are finished late, with any outcome; sides close at any moment;
what a gate shuts out waits outside.  Nothing raises, nothing is out of step (the player looks),
nothing grows without bound, and no fact shows a password.
"""

from __future__ import annotations

import base64
import sys
from collections import deque
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.engine import Engine, Route
from gateway.core.outcome import Action, Outcome
from gateway.core.record import SessionRecord
from gateway.core.rules import Rules
from gateway.core.steps import (
    CLIENT,
    UPSTREAM,
    BodyEnd,
    Close,
    Connect,
    ReplySeen,
    Send,
    SendBody,
    Side,
    Stage,
    StartTls,
    Step,
)
from gateway.core.trouble import Trouble
from gateway.protocols.registry import ENGINES
from tests.plays.test_properties import SCRIPTS, Script
from tests.support.play import TLS, Player

ALL = frozenset(Stage)
MANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
PROTOCOLS = sorted(ENGINES)


class SlowSession:
    """Performs orders when it is told to, as a session does: one at a time, and in any order."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.player = Player(engine)
        self.steps: list[Step] = []
        self.waiting: list[deque[bytes]] = [deque(), deque()]
        self.pending: deque[Step] = deque()  # orders that are being performed
        self.ended = [False, False]
        self.connected = False
        self.perform(engine.opened())

    def perform(self, steps: list[Step]) -> None:
        self.steps += self.player.check(steps)
        for step in steps:
            if isinstance(step, (StartTls, SendBody, Connect)) or (
                isinstance(step, BodyEnd) and self.engine.held[step.source]
            ):
                self.pending.append(step)
            elif isinstance(step, Close):
                self.pending.clear()
        self.deliver()

    def hear(self, side: Side, data: bytes) -> None:
        if not self.ended[side]:
            self.waiting[side].append(data)
            self.deliver()

    def deliver(self) -> None:
        """Let in what the gates allow."""
        for side in (CLIENT, UPSTREAM):
            open_ = self.connected or side is CLIENT
            while (
                open_
                and self.waiting[side]
                and self.engine.reading[side]
                and not self.player.tls_pending[side]
                and not self.player.closed
            ):
                self.perform(self.engine.receive(side, self.waiting[side].popleft()))

    def go_on(self, outcome: Outcome) -> None:
        """Finish one order that is pending."""
        if not self.pending or self.player.closed:
            return
        engine, step = self.engine, self.pending.popleft()
        match step:
            case Connect():
                self.connected = True
                self.perform(engine.routed(Route("t", "192.0.2.1:1")))
            case StartTls(side):
                self.player.tls_pending[side] = False
                self.perform(engine.handshaken(side, TLS))
            case SendBody(side=side):
                self.player.body_pending[side] = False
                self.perform(engine.body_sent(side))
            case BodyEnd(source):
                if engine.held[source]:
                    outcome.notice = source is UPSTREAM and outcome.action is not Action.DISCARD
                    self.perform(self.player.decide(source, outcome))

    def close(self, side: Side) -> None:
        if not self.ended[side] and (self.connected or side is CLIENT) and not self.player.tls_pending[side]:
            self.ended[side] = True
            self.waiting[side].clear()
            self.perform(self.engine.closed(side))

    def finish(self) -> None:
        self.perform(self.engine.finished())
        assert self.player.seen == self.player.settled, "a command was never settled"
        assert self.engine.finished() == [], "settled twice"


OUTCOMES = st.builds(
    Outcome,
    st.sampled_from(list(Action)),
    st.integers(0, 100_000),
    st.text(max_size=20),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
WORDS = [
    b"STARTTLS\r\n",
    b"STLS\r\n",
    b"z STARTTLS\r\n",
    b"-ERR bye\r\n",
    b"421 bye\r\n",
    b"* BYE\r\n",
    b"+OK\r\n",
    b"250 ok\r\n",
    b"z OK\r\n",
    b"+ \r\n",
    b".\r\n",
    b"x",
    b"\r\n",
    b"QUIT\r\n",
    b"*\r\n",
]
EVENTS = st.one_of(
    st.tuples(st.just("go on"), OUTCOMES),
    st.tuples(st.just("go on"), OUTCOMES),
    st.tuples(st.just("close"), st.sampled_from([CLIENT, UPSTREAM])),
    st.tuples(st.just("fail"), st.sampled_from(list(Trouble))),
    st.tuples(st.just("stop"), st.none()),
    st.tuples(st.just("keep"), st.none()),
    st.tuples(
        st.just("say"),
        st.tuples(
            st.sampled_from([CLIENT, UPSTREAM]),
            st.sampled_from(WORDS),
        ),
    ),
)


def engine_for(protocol: str, **values: Any) -> Engine:
    rules = Rules(**{"hostname": "g", "client_tls": "starttls", "max_literal": 1000, **values})
    return ENGINES[protocol](rules, SessionRecord("t", protocol, "t", "192.0.2.7", 1))


@pytest.mark.parametrize("upstream_tls", ["none", "opportunistic"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_anything_may_happen_at_any_moment(protocol, upstream_tls):
    """A good conversation, and between any two lines of it whatever a session may have to tell."""
    script = SCRIPTS[protocol]
    between = st.lists(st.tuples(st.integers(0, len(script)), EVENTS), max_size=12)

    @MANY
    @given(between, st.sampled_from([ALL, frozenset()]), st.booleans())
    def check(events: list[tuple[int, tuple[str, Any]]], hold: frozenset[Stage], prompt: bool) -> None:
        session = SlowSession(engine_for(protocol, hold=hold, upstream_tls=upstream_tls))
        happy = Outcome(Action.PASS, 10)
        for place in range(len(script) + 1):
            for _, (kind, value) in (event for event in events if event[0] == place):
                match kind:
                    case "go on":
                        session.go_on(value)
                    case "close":
                        session.close(value)
                    case "say":
                        session.hear(*value)
                    case "fail":
                        session.perform(session.engine.fail(value))
                    case "stop":
                        session.perform(session.engine.stop_when_quiet())
                    case _:
                        session.perform(session.engine.keep_upstream())
            if prompt or not session.connected:
                session.go_on(happy)
            if place < len(script):
                session.hear(*script[place])
        session.finish()

    check()


def test_an_append_answered_while_its_message_is_sent_is_settled_once():
    """The upstream says OK before it has the literal, and then breaks the protocol."""
    session = SlowSession(engine_for("imap", hold=ALL))
    passed = Outcome(Action.PASS, 5)
    session.go_on(passed)
    for said in SCRIPTS["imap"][:7]:
        session.hear(*said)
    session.go_on(passed)  # the message that was fetched is judged,
    session.go_on(passed)  # and sent
    session.hear(CLIENT, b"d APPEND Sent {5+}\r\nhello\r\n")
    session.go_on(passed)
    session.hear(UPSTREAM, b"+ go\r\nd OK\r\n+ what\r\n")
    replies = [
        step.result for step in session.steps if isinstance(step, ReplySeen) and step.command.serial == 4
    ]
    assert replies == ["ok"]
    session.finish()


def weight(thing: Any, seen: set[int] | None = None) -> int:
    """Return about how many octets a thing holds, with what it refers to of its own."""
    seen = set() if seen is None else seen
    if id(thing) in seen or isinstance(thing, (type, Rules)) or callable(thing):
        return 0
    seen.add(id(thing))
    total = sys.getsizeof(thing)
    if isinstance(thing, dict):
        return total + sum(weight(key, seen) + weight(value, seen) for key, value in thing.items())
    if isinstance(thing, (list, tuple, set, frozenset, deque)):
        return total + sum(weight(one, seen) for one in thing)
    names = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    total += sum(weight(getattr(thing, name), seen) for name in names if hasattr(thing, name))
    if type(thing).__module__.startswith("gateway") or isinstance(thing, (Engine, Player)):
        total += weight(getattr(thing, "__dict__", {}), seen)
    return total


FILLERS: dict[str, bytes] = {
    "no end": b"a" * 8192,
    "nuls": b"\0" * 8192,
    "empty lines": b"\r\n" * 4096,
    "bare newlines": b"\n" * 8192,
    "dots": b".\r\n" * 2700,
    "words": b"NOOP\r\nRSET\r\nz NOOP\r\n" * 400,
    "unknown": b"XYZ abc\r\n" * 900,
    "literals": b"z X {10+}\r\n0123456789\r\n" * 350,
    "long literal": b"z CREATE {99999999+}\r\n" + b"x" * 8000,
    "fetched": b"* 1 FETCH (BODY[] {5}\r\nhello)\r\n" * 250,
    "replies": b"+OK\r\n-ERR\r\n250 ok\r\n* OK\r\nz OK\r\n" * 250,
    "long reply": b"250-x\r\n" * 1100,
    "capabilities": b"* CAPABILITY A B C\r\n" * 400,
    "recipients": b"MAIL FROM:<a@b>\r\n" + b"RCPT TO:<c@d>\r\n" * 500,
    "quotes": b'z X "' + b"\\" * 8000,
    "nested": b"* 1 FETCH " + b"(" * 8000,
}


@pytest.mark.parametrize("side", [CLIENT, UPSTREAM], ids=str)
@pytest.mark.parametrize("filler", sorted(FILLERS))
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_memory_is_bounded(protocol, filler, side):
    """Megabytes of anything, from either side, at any stage: what an engine holds stays small."""
    script = SCRIPTS[protocol]
    for stage in (0, 1, 3, 6, len(script) - 2):
        session = SlowSession(engine_for(protocol))
        session.go_on(Outcome(Action.PASS))
        for said in script[:stage]:
            session.hear(*said)
        engine = session.engine
        for _ in range(60):
            if engine.ended or session.waiting[side]:
                break
            session.hear(side, FILLERS[filler])
            # Steps are handed on: what is kept is what counts.
            session.steps.clear()
            session.player.seen -= session.player.settled
            session.player.settled.clear()
            engine._steps = []
        session.waiting[side].clear()
        assert weight(engine) < 1_500_000, f"at stage {stage}"


LOGINS: dict[str, list[Any]] = {
    "smtp": [
        lambda s: [(CLIENT, b"AUTH PLAIN " + plain(s) + b"\r\n")],
        lambda s: [(CLIENT, b"AUTH PLAIN\r\n"), (UPSTREAM, b"334 \r\n"), (CLIENT, plain(s) + b"\r\n")],
        lambda s: [
            (CLIENT, b"AUTH LOGIN\r\n"), (UPSTREAM, b"334 VXNlcm5hbWU6\r\n"), (CLIENT, b"YWxpY2U=\r\n"),
            (UPSTREAM, b"334 UGFzc3dvcmQ6\r\n"), (CLIENT, base64.b64encode(s) + b"\r\n"),
        ],
        lambda s: [(CLIENT, b"AUTH " + plain(s) + b"\r\n")],
        lambda s: [(CLIENT, s + b"\r\n")],
    ],
    "pop3": [
        lambda s: [(CLIENT, b"USER alice\r\n"), (UPSTREAM, b"+OK\r\n"), (CLIENT, b"PASS " + s + b"\r\n")],
        lambda s: [(CLIENT, b"USER alice\r\nPASS " + s + b"\r\n"), (UPSTREAM, b"+OK\r\n")],
        lambda s: [(CLIENT, b"AUTH PLAIN " + plain(s) + b"\r\n")],
        lambda s: [(CLIENT, b"AUTH PLAIN\r\n"), (UPSTREAM, b"+ \r\n"), (CLIENT, plain(s) + b"\r\n")],
        lambda s: [(CLIENT, b"AUTH " + plain(s) + b"\r\n")],
        lambda s: [(CLIENT, s + b"\r\n")],
    ],
    "imap": [
        lambda s: [(CLIENT, b'a LOGIN alice "' + s + b'"\r\n')],
        lambda s: [(CLIENT, b"a LOGIN alice {%d+}\r\n%b\r\n" % (len(s), s))],
        lambda s: [
            (CLIENT, b"a LOGIN {5}\r\n"), (UPSTREAM, b"+ go\r\n"), (CLIENT, b"alice {%d}\r\n" % len(s)),
            (UPSTREAM, b"+ go\r\n"), (CLIENT, s + b"\r\n"),
        ],
        lambda s: [(CLIENT, b"a AUTHENTICATE PLAIN " + plain(s) + b"\r\n")],
        lambda s: [
            (CLIENT, b"a AUTHENTICATE PLAIN\r\n"), (UPSTREAM, b"+ \r\n"), (CLIENT, plain(s) + b"\r\n"),
        ],
        lambda s: [(CLIENT, b"a AUTHENTICATE " + plain(s) + b"\r\n")],
        lambda s: [(CLIENT, b"a " + s + b"\r\n")],
        lambda s: [(CLIENT, s + b"\r\n")],
    ],
}  # fmt: skip
LOGINS["lmtp"] = LOGINS["smtp"]
GREETED: dict[str, Script] = {
    "smtp": SCRIPTS["smtp"][:3],
    "lmtp": SCRIPTS["lmtp"][:3],
    "pop3": SCRIPTS["pop3"][:2],
    "imap": SCRIPTS["imap"][:1],
}
REFUSALS = {"smtp": b"535 what is %b?\r\n", "pop3": b"-ERR what is %b?\r\n", "imap": b"a NO what is %b?\r\n"}
REFUSALS["lmtp"] = REFUSALS["smtp"]


def plain(secret: bytes) -> bytes:
    return base64.b64encode(b"\0alice\0" + secret)


@pytest.mark.parametrize("cleartext_login", ["allow", "refuse"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_fact_shows_a_password(protocol, cleartext_login):
    """Lines of a login lost or said twice, the upstream quoting them: what is told never is the password."""
    alphabet = st.sampled_from("abcdefgABCDEFG0123456789!$%&/=?+-_.")

    @MANY
    @given(
        st.text(alphabet, min_size=10, max_size=16),
        st.sampled_from(LOGINS[protocol]),
        st.lists(st.tuples(st.sampled_from(["drop", "double"]), st.integers(0, 6)), max_size=2),
    )
    def check(word: str, login: Any, mutations: list[tuple[str, int]]) -> None:
        secret = b"Zq7" + word.encode()
        said = login(secret)
        last = said[-1][1] if said[-1][0] is CLIENT else said[-2][1]
        if len(said) > 3:
            mutations = []  # a password given where the name is asked for is a name
        for kind, place in mutations:
            index = place % len(said)
            if kind == "drop" and len(said) > 1:
                del said[index]
            else:
                said.insert(index, said[index])
        session = SlowSession(engine_for(protocol, cleartext_login=cleartext_login))
        session.go_on(Outcome(Action.PASS))
        for side, data in [*GREETED[protocol], *said]:
            session.hear(side, data)
        # An upstream can quote, in its reply to it, only what it was sent.
        sent = b"".join(
            step.data for step in session.steps if isinstance(step, Send) and step.side is UPSTREAM
        )
        if not mutations and last in sent:
            quoted = last.replace(b"\r\n", b" ").rstrip()
            session.hear(UPSTREAM, REFUSALS[protocol] % quoted)
        session.finish()
        told = " ".join(repr(step) for step in session.steps if not isinstance(step, Send))
        for form in (secret, base64.b64encode(secret), plain(secret)):
            assert form.decode() not in told

    check()
