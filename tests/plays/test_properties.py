"""Properties of every engine: whatever a peer sends, in whatever pieces.

Never an exception (promise 8), never out of step (checked by the player), never growing
without bound, and the same steps for any cutting (promise 2).
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.engine import Engine, Route
from gateway.core.outcome import Action, Outcome
from gateway.core.record import SessionRecord
from gateway.core.rules import Rules
from gateway.core.steps import CLIENT, ORDERS, UPSTREAM, BodyEnd, SendBody, Side, Stage, StartTls, Step
from gateway.protocols.registry import ENGINES
from tests.support.play import TLS, Player, merge, render

HELD = frozenset(Stage)
Script = list[tuple[Side, bytes]]

C, U = CLIENT, UPSTREAM
SCRIPTS: dict[str, Script] = {
    "smtp": [
        (U, b"220 mx ESMTP\r\n"), (C, b"EHLO me\r\n"),
        (U, b"250-mx\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 AUTH PLAIN LOGIN\r\n"),
        (C, b"AUTH LOGIN\r\n"), (U, b"334 VXNlcm5hbWU6\r\n"), (C, b"YWxpY2U=\r\n"), (U, b"235 ok\r\n"),
        (C, b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n"), (U, b"250 ok\r\n250 ok\r\n"),
        (C, b"Subject: x\r\n\r\n..\r\nbody\r\n.\r\nRSET\r\n"), (U, b"250 queued\r\n"), (U, b"250 reset\r\n"),
        (C, b"MAIL FROM:<a@b>\r\n"), (U, b"250 ok\r\n"), (C, b"RCPT TO:<c@d>\r\n"), (U, b"250 ok\r\n"),
        (C, b"BDAT 4\r\nabcdBDAT 2 LAST\r\nef"), (U, b"250 ok\r\n"), (C, b"QUIT\r\n"), (U, b"221 bye\r\n"),
    ],
    "pop3": [
        (U, b"+OK ready <1.2@mx>\r\n"), (U, b"+OK\r\nUSER\r\nPIPELINING\r\nSASL PLAIN\r\n.\r\n"),
        (C, b"USER a\r\n"), (U, b"+OK\r\n"), (C, b"PASS b c\r\n"), (U, b"+OK in\r\n"),
        (C, b"STAT\r\nLIST\r\nRETR 1\r\nDELE 1\r\n"), (U, b"+OK 1 10\r\n+OK\r\n1 10\r\n.\r\n"),
        (U, b"+OK 10 octets\r\nx: y\r\n\r\n..\r\n.\r\n"), (U, b"+OK gone\r\n"),
        (C, b"TOP 1 0\r\nQUIT\r\n"), (U, b"+OK\r\nx: y\r\n\r\n.\r\n"), (U, b"+OK bye\r\n"),
    ],
    "imap": [
        (U, b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN IDLE] ready\r\n"),
        (C, b"a LOGIN {5}\r\n"), (U, b"+ go\r\n"), (C, b'alice "x y"\r\n'),
        (U, b"a OK [CAPABILITY IMAP4rev1 COMPRESS=DEFLATE] in\r\n"),
        (C, b"b SELECT INBOX\r\nc UID FETCH 1:* (BODY[])\r\n"),
        (U, b"* 1 EXISTS\r\nb OK\r\n* 1 FETCH (UID 7 BODY[] {9}\r\nb OK x\r\n) FLAGS ())\r\nc OK\r\n"),
        (C, b"d APPEND Sent (\\Seen) {5+}\r\nhello\r\n"), (U, b"+ go\r\n"), (U, b"d OK\r\n"),
        (C, b"e IDLE\r\n"), (U, b"+ idling\r\n* 2 EXISTS\r\n"), (C, b"DONE\r\n"), (U, b"e OK\r\n"),
        (C, b"f CREATE {3+}\r\nbox\r\n"), (U, b"+ go\r\n"), (U, b"f OK\r\n"),
        (C, b"g LOGOUT\r\n"), (U, b"* BYE\r\ng OK\r\n"),
    ],
}  # fmt: skip
#: Streamed, DATA is the upstream's own from its 354 on.
STREAMED: dict[str, Script] = {
    "smtp": [
        *SCRIPTS["smtp"][:9],
        (U, b"354 go\r\n"),
        (C, b"Subject: x\r\n\r\n..\r\nbody\r\n.\r\n"), (U, b"250 queued\r\n"),
        (C, b"MAIL FROM:<a@b>\r\n"), (U, b"250 ok\r\n"), (C, b"RCPT TO:<c@d>\r\n"), (U, b"250 ok\r\n"),
        (C, b"BDAT 4\r\nabcd"), (U, b"250 ok\r\n"), (C, b"BDAT 2 LAST\r\nef"), (U, b"250 ok\r\n"),
        (C, b"QUIT\r\n"), (U, b"221 bye\r\n"),
    ],
}  # fmt: skip
STREAMED["lmtp"] = [(side, data.replace(b"EHLO", b"LHLO")) for side, data in STREAMED["smtp"]]
SCRIPTS["lmtp"] = [(side, data.replace(b"EHLO", b"LHLO")) for side, data in SCRIPTS["smtp"]]

MODES = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def make(protocol: str, held: bool) -> Engine:
    rules = Rules(hostname="g", client_tls="starttls", hold=HELD if held else frozenset(), max_literal=1000)
    return ENGINES[protocol](rules, SessionRecord("t", protocol, "t", "192.0.2.7", 1))


class Session:
    """A stand-in that performs orders at once: TLS succeeds, each message passes."""

    def __init__(self, engine: Engine) -> None:
        self.player = Player(engine)
        self.steps: list[Step] = []
        self.perform(engine.opened())
        self.perform(engine.routed(Route("t", "192.0.2.1:1")))

    def hear(self, side: Side, data: bytes) -> None:
        self.perform(self.player.engine.receive(side, data))

    def perform(self, steps: list[Step]) -> None:
        player, engine = self.player, self.player.engine
        self.steps += player.check(steps)
        for step in steps:
            if isinstance(step, StartTls) and player.tls_pending[step.side]:
                player.tls_pending[step.side] = False
                self.perform(engine.handshaken(step.side, TLS))
            elif isinstance(step, SendBody) and player.body_pending[step.side]:
                player.body_pending[step.side] = False
                self.perform(engine.body_sent(step.side))
            elif isinstance(step, BodyEnd) and engine.held[step.source] and not engine.ended:
                self.perform(player.decide(step.source, Outcome(Action.PASS, player.size[step.source])))

    def end(self) -> list[str]:
        engine = self.player.engine
        self.perform(engine.finished())
        assert self.player.seen == self.player.settled, "a command was never settled"
        return [render(step) for step in merge(s for s in self.steps if isinstance(s, ORDERS))]


def by_side(rendered: list[str]) -> dict[str, str]:
    """Join what goes to each side: sends to two sides may interleave as the cutting has it."""
    joined: dict[str, str] = {}
    for line in rendered:
        key = line[:2] if line.startswith(">") else "orders"
        text = eval(line[3:]).decode("latin-1") if line.startswith(">") else line + "\n"
        if not line.startswith("body"):
            joined[key] = joined.get(key, "") + text
    return joined


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("protocol", sorted(ENGINES))
def test_arbitrary_garbage(protocol, held):
    words = st.sampled_from(
        [b"EHLO x", b"DATA", b"BDAT 5", b"MAIL FROM:<>", b"RCPT TO:<a>", b"USER a", b"PASS b", b"RETR 1",
         b"a LOGIN",
         b"b APPEND x {3+}", b"{5}", b"{9999999999}", b"+ ", b"+OK", b"-ERR",
         b"* OK [CAPABILITY A]", b"* 1 FETCH (BODY[] {4}",
         b"250 x", b"250-x", b"354 x", b"334 x", b"STARTTLS", b"STLS", b"AUTH PLAIN",
         b"a OK", b"DONE", b"a IDLE", b".",
         b"\r\n", b"\r\n.\r\n", b"\n", b"\r", b"\0", b"\xff", b" ", b'"'])  # fmt: skip
    piece = st.one_of(words, st.binary(max_size=20))
    talk = st.lists(
        st.tuples(st.sampled_from([CLIENT, UPSTREAM]), st.lists(piece, max_size=6).map(b"".join)), max_size=12
    )

    @MODES
    @given(talk)
    def check(said: Script) -> None:
        session = Session(make(protocol, held))
        for side, data in said:
            session.hear(side, data)
        session.end()

    check()


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("protocol", sorted(ENGINES))
def test_a_conversation_in_any_cutting(protocol, held):
    script = SCRIPTS[protocol] if held else STREAMED.get(protocol, SCRIPTS[protocol])

    def converse(cuts: list[int]) -> dict[str, str]:
        session = Session(make(protocol, held))
        for number, (side, data) in enumerate(script):
            cut = cuts[number % len(cuts)] if cuts else 0
            pieces = [data[i : i + cut] for i in range(0, len(data), cut)] if cut else [data]
            for one in pieces:
                session.hear(side, one)
        return by_side(session.end())

    whole = converse([])
    assert "Close(quit)" in whole["orders"], "the script is a good one"

    @MODES
    @given(st.lists(st.integers(1, 30), min_size=1, max_size=20))
    def check(cuts: list[int]) -> None:
        assert converse(cuts) == whole

    check()


@pytest.mark.parametrize("protocol", sorted(ENGINES))
def test_mutated_conversations(protocol):
    """Lines lost, doubled, swapped, octets changed: refused or passed, never a loss of step."""
    script = SCRIPTS[protocol]
    mutation = st.tuples(
        st.sampled_from(["drop", "double", "swap", "flip", "insert", "other side"]),
        st.integers(0, len(script) - 2),
        st.integers(0, 40),
        st.binary(min_size=1, max_size=3),
    )

    @MODES
    @given(st.lists(mutation, min_size=1, max_size=4), st.booleans())
    def check(mutations: list[tuple[str, int, int, bytes]], held: bool) -> None:
        said = list(script)
        for kind, place, offset, octets in mutations:
            side, data = said[place % len(said)]
            index = place % len(said)
            if kind == "drop" and len(said) > 2:
                del said[index]
            elif kind == "double":
                said.insert(index, said[index])
            elif kind == "swap":
                said[index], said[index - 1] = said[index - 1], said[index]
            elif kind == "flip":
                at = offset % max(len(data), 1)
                said[index] = (side, data[:at] + octets + data[at + len(octets) :])
            elif kind == "insert":
                at = offset % (len(data) + 1)
                said[index] = (side, data[:at] + octets + data[at:])
            else:
                said[index] = (side.other, data)
        session = Session(make(protocol, held))
        for side, data in said:
            session.hear(side, data)
        session.end()

    check()
