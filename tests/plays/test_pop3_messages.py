"""POP3's messages: RETR and TOP, streamed and held; nothing undelivered is ever deleted."""

from __future__ import annotations

import pytest

from gateway.core.engine import Route
from gateway.core.outcome import Action, Outcome
from gateway.core.record import SessionRecord
from gateway.core.rules import Rules
from gateway.core.steps import CLIENT, UPSTREAM, BodyData, BodyEnd, BodyStart, Send, Stage
from gateway.protocols.pop3 import Pop3Engine
from tests.support.play import Player, merge, play

RULES = Rules(hostname="gate.example")
HELD = Rules(hostname="gate.example", hold=frozenset({Stage.RETR}))
HELD_TOP = Rules(hostname="gate.example", hold=frozenset({Stage.TOP}))

GREETED = """
U>  +OK ready
>U  CAPA
U>  +OK
U>  USER
U>  PIPELINING
U>  UIDL
U>  .
>C  +OK ready
"""

#: A held message, up to where its verdict is awaited.
WAITING = (
    GREETED
    + """
C>  RETR 1
>U  RETR 1
U>  +OK 15 octets
U>  Subject: hello
U>  .
!   BodyStart(upstream, retr, held)
!   body Subject: hello|
!   BodyEnd(upstream)
"""
)


def test_delete_waits_for_the_message_before_it():
    """A client that pipelines RETR and DELE must not lose the mail we still hold."""
    play(
        Pop3Engine,
        GREETED
        + """
C>  RETR 1
C>  DELE 1
!   CommandSeen(RETR, RETR 1)
>U  RETR 1
U>  +OK 15 octets
U>  Subject: hello
U>  .
!   BodyStart(upstream, retr, held)
!   body Subject: hello|
!   BodyEnd(upstream)
# nothing has reached the client yet
?   pass
>C  +OK 15 octets
!   ReplySeen(RETR, ok)
!   SendBody(client, dots)
?   sent
!   CommandSeen(DELE, DELE 1)
>U  DELE 1
U>  +OK
>C  +OK
!   ReplySeen(DELE, ok)
""",
        HELD,
    )


def test_quit_behind_a_held_message_waits_with_the_delete():
    play(
        Pop3Engine,
        GREETED
        + """
C>  RETR 1
C>  DELE 1
C>  QUIT
>U  RETR 1
U>  +OK 15 octets
U>  Subject: hello
U>  .
!   BodyStart(upstream, retr, held)
!   body Subject: hello|
!   BodyEnd(upstream)
?   pass
>C  +OK 15 octets
!   SendBody(client, dots)
?   sent
>U  DELE 1
U>  +OK
>C  +OK
>U  QUIT
U>  +OK bye
>C  +OK bye
!   Close(quit)
""",
        HELD,
    )


def test_quit_waits_until_every_message_before_it_was_sent():
    """Deletions come true at QUIT: it is not relayed while a message is still on its way."""
    play(
        Pop3Engine,
        GREETED
        + """
C>  RETR 1
C>  DELE 1
C>  QUIT
>U  RETR 1
>U  DELE 1
U>| +OK\\r\\nhello\\r\\n
>C  +OK
!   BodyStart(upstream, retr, passing)
!   body hello
>C| hello\\r\\n
U>| .\\r\\n
!   body |
>C| .\\r\\n
!   BodyEnd(upstream)
U>  +OK deleted
>C  +OK deleted
>U  QUIT
U>  +OK bye
>C  +OK bye
!   Close(quit)
""",
        RULES,
        cuttings=("line by line",),
    )


def test_quit_is_not_relayed_when_the_message_before_it_is_lost():
    play(
        Pop3Engine,
        GREETED
        + """
C>  RETR 1
C>  DELE 1
C>  QUIT
>U  RETR 1
>U  DELE 1
U>| +OK\\r\\nhalf
>C  +OK
!   BodyStart(upstream, retr, passing)
!   body half
>C| half
?   closed upstream
!   BodyAbort(upstream)
!   Close(upstream_eof)
""",
        RULES,
        cuttings=("glued",),
    )


def test_other_commands_behind_a_held_message_wait_too():
    play(
        Pop3Engine,
        GREETED
        + """
C>  STAT
C>  RETR 1
C>  XYZ
C>  RETR 2
>U  STAT
>U  RETR 1
U>  +OK 2 20
>C  +OK 2 20
U>  +OK
U>  one
U>  .
!   BodyStart(upstream, retr, held)
!   body one|
!   BodyEnd(upstream)
?   pass
>C  +OK
!   SendBody(client, dots)
?   sent
>U  XYZ
U>  -ERR what
>C  -ERR what
>U  RETR 2
""",
        HELD,
        cuttings=("line by line", "byte by byte"),
    )


def test_a_pass_leaves_the_reply_as_it_was():
    play(
        Pop3Engine,
        WAITING
        + """
?   pass
>C  +OK 15 octets
!   SendBody(client, dots)
?   sent
C>  NOOP
>U  NOOP
""",
        HELD,
    )


def test_a_rewritten_message_has_its_true_count():
    play(
        Pop3Engine,
        WAITING.replace("15 octets", "15 octets follow")
        + """
?   modify 99
>C  +OK 99 octets follow
!   SendBody(client, dots)
""",
        HELD,
    )


@pytest.mark.parametrize("line", ["+OK", "+OK message follows", "+OK here are many octets"])
def test_a_reply_without_a_count_gets_none(line):
    play(
        Pop3Engine,
        WAITING.replace("+OK 15 octets", line)
        + f"""
?   modify 99
>C  {line}
!   SendBody(client, dots)
""",
        HELD,
    )


@pytest.mark.parametrize("body", [b"a\nb\r\n", b"a\rb\r\n", b"a\r\n\0b\r\n"])
def test_a_count_that_mending_will_change_is_left_out(body):
    """A rewritten message's bare newlines are mended on the wire: no count is better than a wrong one."""
    session = Held()
    session.hear(UPSTREAM, b"+OK 5 octets\r\n" + body + b".\r\n")
    assert session.decide(Action.MODIFY, 99) == b"+OK message follows\r\n"
    again = Held()
    again.hear(UPSTREAM, b"+OK 5 octets\r\nabc\r\n.\r\n")
    assert again.decide(Action.MODIFY, 99) == b"+OK 99 octets\r\n"


class Held:
    """A session that has asked for a message that is held."""

    def __init__(self) -> None:
        self.player = Player(Pop3Engine(HELD, SessionRecord("t", "pop3", "t", "192.0.2.7", 1)))
        engine = self.player.engine
        self.player.check(engine.opened())
        self.player.check(engine.routed(Route("t", "192.0.2.1:1")))
        self.hear(UPSTREAM, b"+OK\r\n+OK\r\nPIPELINING\r\n.\r\n")
        self.hear(CLIENT, b"RETR 1\r\n")

    def hear(self, side, data):
        return self.player.check(self.player.engine.receive(side, data))

    def decide(self, action, size):
        steps = self.player.check(self.player.engine.decided(UPSTREAM, Outcome(action, size)))
        return next(step.data for step in steps if isinstance(step, Send))


@pytest.mark.parametrize("verdict", ["reject Virus", "quarantine Virus"])
def test_a_notice_stands_in_place_of_a_stopped_message(verdict):
    play(
        Pop3Engine,
        WAITING
        + f"""
?   {verdict}
>C  +OK 42 octets
!   SendBody(client, dots)
?   sent
C>  DELE 1
>U  DELE 1
""",
        HELD,
    )


def test_a_plugin_that_fails_is_a_temporary_failure():
    """And what could not be delivered can't be deleted, until it was delivered."""
    play(
        Pop3Engine,
        WAITING
        + """
?   defer Scanner down
>C  -ERR [SYS/TEMP] Scanner down
!   ReplySeen(RETR, refused)
C>  DELE 01
!   Refused(DELE, undelivered)
>C  -ERR [SYS/TEMP] The message was not delivered, so it is kept
!   ReplySeen(DELE, refused)
C>  DELE 2
>U  DELE 2
U>  +OK
>C  +OK
!   ReplySeen(DELE, ok)
C>  RETR 1
>U  RETR 1
U>| +OK\\r\\nx\\r\\n.\\r\\n
!   BodyStart(upstream, retr, held)
!   body x|
!   BodyEnd(upstream)
?   pass
>C  +OK
!   ReplySeen(RETR, ok)
!   SendBody(client, dots)
?   sent
C>  DELE 1
>U  DELE 1
""",
        HELD,
    )


def test_a_delete_pipelined_behind_a_message_that_fails_is_refused():
    play(
        Pop3Engine,
        WAITING.replace("C>  RETR 1\n", "C>  RETR 1\nC>  DELE 1\nC>  NOOP\n")
        + """
?   defer Scanner down
>C  -ERR [SYS/TEMP] Scanner down
>C  -ERR [SYS/TEMP] The message was not delivered, so it is kept
>U  NOOP
""",
        HELD,
    )


def test_a_reason_can_t_break_the_line():
    session = Held()
    session.hear(UPSTREAM, b"+OK\r\nx\r\n.\r\n")
    outcome = Outcome(Action.DEFER, reason="bad\r\n+OK injected")
    steps = session.player.check(session.player.engine.decided(UPSTREAM, outcome))
    sent = b"".join(step.data for step in steps if isinstance(step, Send))
    assert sent.count(b"\r\n") == 1 and sent.startswith(b"-ERR [SYS/TEMP] bad")


def test_a_discarded_message_is_an_error_and_can_t_be_deleted():
    """There is no way not to answer a RETR: silence is for messages that come in."""
    session = Held()
    session.hear(UPSTREAM, b"+OK\r\nx\r\n.\r\n")
    steps = session.player.check(
        session.player.engine.decided(UPSTREAM, Outcome(Action.DISCARD, reason="Policy", accept=True))
    )
    assert [step.data for step in steps if isinstance(step, Send)] == [b"-ERR [SYS/PERM] Policy\r\n"]
    steps = session.hear(CLIENT, b"DELE 1\r\n")
    assert not [step for step in steps if isinstance(step, Send) and step.side is UPSTREAM]


def test_messages_stream_with_their_stuffing_kept():
    """What is told the client is octet for octet what the upstream sent; what is measured is unstuffed.

    A line that looks like a reply is a line of the message.
    """
    play(
        Pop3Engine,
        GREETED
        + """
C>  RETR 1
>U  RETR 1
U>| +OK 10 octets\\r\\nx\\r\\n..\\r\\n-ERR\\r\\n.\\r\\n
>C  +OK 10 octets
!   BodyStart(upstream, retr, passing)
!   body x|.|-ERR|
>C| x\\r\\n..\\r\\n-ERR\\r\\n.\\r\\n
!   BodyEnd(upstream)
C>  NOOP
>U  NOOP
""",
        RULES,
        cuttings=("glued",),
    )


WIRE = [
    b".\r\n",
    b"\r\n.\r\n",
    b"x\r\n.\r\n",
    b"..\r\n.\r\n",
    b"...\r\n..x\r\n.\r\n",
    b"+OK bye\r\n-ERR no\r\n.\r\n",
    b"a\n.\nb\r\n.\r\n",
    b"a\r.\rb\r\n.\r\n",
    b"a\n.\r\nb\r\n.\r\n",
    b"\0\xff\r\n.\r\n",
]
CONTENT = [
    b"",
    b"\r\n",
    b"x\r\n",
    b".\r\n",
    b"..\r\n.x\r\n",
    b"+OK bye\r\n-ERR no\r\n",
    b"a\n.\nb\r\n",
    b"a\r.\rb\r\n",
    b"a\n.\r\nb\r\n",
    b"\0\xff\r\n",
]


@pytest.mark.parametrize("piece", [1, 2, 3, 1000])
@pytest.mark.parametrize(("wire", "content"), list(zip(WIRE, CONTENT, strict=True)))
def test_a_body_in_pieces_is_the_same_body(wire, content, piece):
    """In any cutting: the client's octets are the upstream's, and the content is unstuffed once."""
    engine = Pop3Engine(RULES, SessionRecord("t", "pop3", "t", "192.0.2.7", 1))
    player = Player(engine)
    player.check(engine.opened())
    player.check(engine.routed(Route("t", "192.0.2.1:1")))
    player.check(engine.receive(UPSTREAM, b"+OK\r\n+OK\r\nPIPELINING\r\n.\r\n"))
    player.check(engine.receive(CLIENT, b"RETR 1\r\nNOOP\r\n"))
    said = b"+OK 7 octets\r\n" + wire + b"+OK noop\r\n"
    steps = []
    for at in range(0, len(said), piece):
        steps += player.check(engine.receive(UPSTREAM, said[at : at + piece]))
    assert b"".join(step.data for step in steps if isinstance(step, Send)) == said
    assert b"".join(step.data for step in merge(steps) if isinstance(step, BodyData)) == content
    (start,) = (step for step in steps if isinstance(step, BodyStart))
    assert (start.stage, start.size, start.ident, start.held) == (Stage.RETR, 7, "message 1", False)
    assert sum(isinstance(step, BodyEnd) for step in steps) == 1


def test_a_large_body_streams_in_large_pieces():
    """What is heard at once goes on at once, and is not copied line by line."""
    engine = Pop3Engine(RULES, SessionRecord("t", "pop3", "t", "192.0.2.7", 1))
    engine.opened()
    engine.routed(Route("t", "192.0.2.1:1"))
    engine.receive(UPSTREAM, b"+OK\r\n+OK\r\nPIPELINING\r\n.\r\n")
    engine.receive(CLIENT, b"RETR 1\r\n")
    engine.receive(UPSTREAM, b"+OK\r\n")
    assert engine.in_body[UPSTREAM]
    piece = b"0123456789abcdef\r\n" * 4096
    steps = engine.receive(UPSTREAM, piece)
    assert [type(step) for step in steps] == [BodyData, Send]


def test_top_is_a_part():
    play(
        Pop3Engine,
        GREETED
        + """
C>  TOP 1 0
>U  TOP 1 0
U>| +OK\\r\\nx\\r\\n.\\r\\n
>C  +OK
!   BodyStart(upstream, top, passing, partial)
!   body x|
>C| x\\r\\n.\\r\\n
!   BodyEnd(upstream)
""",
        RULES,
        cuttings=("glued",),
    )


def test_top_can_be_held_by_itself():
    """Only plugins that see partial messages are asked: RETR streams on."""
    play(
        Pop3Engine,
        GREETED
        + """
C>  TOP 1 0
C>  RETR 1
>U  TOP 1 0
U>| +OK\\r\\nx\\r\\n.\\r\\n
!   BodyStart(upstream, top, held, partial)
!   body x|
!   BodyEnd(upstream)
?   modify 9
>C  +OK
!   SendBody(client, dots)
?   sent
>U  RETR 1
U>| +OK\\r\\ny\\r\\n.\\r\\n
>C  +OK
!   BodyStart(upstream, retr, passing)
!   body y|
>C| y\\r\\n.\\r\\n
!   BodyEnd(upstream)
""",
        HELD_TOP,
        cuttings=("glued",),
    )


@pytest.mark.parametrize("command", ["RETR 99", "TOP 99 0", "RETR", "TOP 1"])
def test_a_message_that_is_not_there(command):
    for rules in (RULES, Rules(hostname="gate.example", hold=frozenset({Stage.RETR}), judge_top=False)):
        play(
            Pop3Engine,
            GREETED + f"\nC>  {command}\n>U  {command}\nU>  -ERR no\n>C  -ERR no\nC>  NOOP\n>U  NOOP\n",
            rules,
        )


def test_the_upstream_dies_within_a_message():
    """A broken body is never presented as whole: no final dot, no words of ours among it."""
    play(
        Pop3Engine,
        GREETED
        + """
C>  RETR 1
>U  RETR 1
U>| +OK\\r\\nhalf
>C  +OK
!   BodyStart(upstream, retr, passing)
!   body half
>C| half
?   closed upstream
!   Fault(upstream, truncated_body)
!   BodyAbort(upstream)
!   Close(upstream_eof)
""",
        RULES,
        cuttings=("glued",),
    )


def test_the_upstream_dies_within_a_held_message():
    """The client has heard nothing of it, so it can be told."""
    play(
        Pop3Engine,
        GREETED
        + """
C>  RETR 1
>U  RETR 1
U>| +OK\\r\\nhalf
!   BodyStart(upstream, retr, held)
!   body half
?   closed upstream
!   Fault(upstream, truncated_body)
>C  -ERR [SYS/TEMP] Connection to the mail server lost, try again later
!   BodyAbort(upstream)
!   Close(upstream_eof)
""",
        HELD,
        cuttings=("glued", "line by line"),
    )


def test_the_upstream_dies_while_the_verdict_is_awaited():
    """The message is whole: it is delivered, and then the client is told."""
    play(
        Pop3Engine,
        WAITING
        + """
?   closed upstream
?   pass
>C  +OK 15 octets
!   SendBody(client, dots)
?   sent
>C  -ERR [SYS/TEMP] Connection to the mail server lost, try again later
!   Close(upstream_eof)
""",
        HELD,
    )


def test_the_gateway_stops_when_the_message_is_through():
    play(
        Pop3Engine,
        WAITING
        + """
?   stop
?   pass
>C  +OK 15 octets
!   SendBody(client, dots)
?   sent
>C  -ERR [SYS/TEMP] Service shutting down, try again later
!   Close(shutdown)
""",
        HELD,
    )


def test_top_is_answered_from_the_message_as_it_is_judged():
    """Otherwise TOP with many lines would be a way around the plugins."""
    play(
        Pop3Engine,
        GREETED
        + """
C>  TOP 1 5
>U  RETR 1
U>  +OK 15 octets
U>  Subject: hello
U>  .
!   BodyStart(upstream, retr, held)
!   body Subject: hello|
!   BodyEnd(upstream)
?   modify 30
>C  +OK top of message follows
!   SendBody(client, dots, 5 lines)
?   sent
C>  TOP 1
>C  -ERR TOP takes a message and a number of lines
C>  TOP 1 1 1
>C  -ERR TOP takes a message and a number of lines
C>  TOP 9 0
>U  RETR 9
U>  -ERR no such message
>C  -ERR no such message
""",
        HELD,
    )


def test_top_that_can_not_be_judged_does_not_keep_the_message_from_being_deleted():
    play(
        Pop3Engine,
        GREETED
        + """
C>  TOP 1 0
>U  RETR 1
U>  +OK 15 octets
U>  Subject: hello
U>  .
!   BodyStart(upstream, retr, held)
!   body Subject: hello|
!   BodyEnd(upstream)
?   defer later
>C  -ERR [SYS/TEMP] later
C>  DELE 1
>U  DELE 1
""",
        HELD,
    )
