"""POP3 against THREATS: injections around TLS, secrets, endless and broken input, ends of every kind."""

from __future__ import annotations

import base64

import pytest

from gateway.core.engine import Route
from gateway.core.record import SessionRecord
from gateway.core.rules import Rules
from gateway.core.steps import CLIENT, UPSTREAM, Close, Fault, LoginSeen, Send, Stage
from gateway.core.trouble import CloseReason, FaultKind, Trouble
from gateway.protocols.pop3 import Pop3Engine
from gateway.protocols.pop3.conversation import WORDS
from tests.support.play import Player, play

RULES = Rules(hostname="gate.example", client_tls="starttls")
REFUSE = Rules(hostname="gate.example", client_tls="starttls", cleartext_login="refuse")

GREETED = """
U>  +OK ready
>U  CAPA
U>  +OK
U>  USER
U>  SASL PLAIN LOGIN CRAM-MD5
U>  PIPELINING
U>  .
>C  +OK ready
"""
SECRET = "Tr0ub4dor&3"


class Session:
    """An engine whose client has been greeted."""

    def __init__(self, rules: Rules = RULES, tls_in_front: bool = False) -> None:
        self.record = SessionRecord("t", "pop3", "t", "192.0.2.7", 1, tls_in_front=tls_in_front)
        self.engine = Pop3Engine(rules, self.record)
        self.player = Player(self.engine)
        self.steps = self.player.check(self.engine.opened())
        self.steps += self.player.check(self.engine.routed(Route("t", "192.0.2.1:1")))
        self.hear(UPSTREAM, b"+OK ready\r\n")
        self.hear(UPSTREAM, b"+OK\r\nUSER\r\nSASL PLAIN LOGIN CRAM-MD5\r\nPIPELINING\r\n.\r\n")

    def hear(self, side, data):
        """Give the engine octets; return what is sent to the client and upstream."""
        steps = self.player.check(self.engine.receive(side, data))
        self.steps += steps
        sent = [b"", b""]
        for step in steps:
            if isinstance(step, Send):
                sent[step.side] += step.data
        return sent

    def kinds(self):
        return [step.kind for step in self.steps if isinstance(step, Fault)]

    def closed(self):
        return [step.reason for step in self.steps if isinstance(step, Close)]


# -- TLS ------------------------------------------------------------------


@pytest.mark.parametrize("behind", [b"USER evil\r\n", b"X", b"\r\n", b"\x16\x03\x01", b"\0"])
def test_octets_behind_stls_are_never_interpreted(behind):
    session = Session()
    client, upstream = session.hear(CLIENT, b"STLS\r\n" + behind)
    assert client == b"-ERR Commands behind STLS\r\n" and upstream == b""
    assert FaultKind.PIPELINED_BEFORE_TLS in session.kinds()
    assert session.closed() == [CloseReason.PROTOCOL_ERROR]


def test_stls_with_a_bare_newline_is_watched_too():
    session = Session()
    assert session.hear(CLIENT, b"STLS\nUSER evil\r\n") == [b"-ERR Commands behind STLS\r\n", b""]
    assert session.closed() == [CloseReason.PROTOCOL_ERROR]


def test_stls_waits_for_the_replies_before_it():
    play(
        Pop3Engine,
        GREETED
        + """
C>  NOOP
C>  STLS
>U  NOOP
U>  +OK
>C  +OK
>C  +OK Begin TLS negotiation
!   StartTls(client)
""",
        RULES,
    )


@pytest.mark.parametrize("words", ["-ERR autologout", "+OK surprise"])
def test_the_upstream_speaks_while_the_client_shakes_hands(words):
    """No plaintext may go to a client that has begun its handshake."""
    reason = "upstream_eof"
    play(
        Pop3Engine,
        GREETED
        + f"""
C>  STLS
>C  +OK Begin TLS negotiation
!   StartTls(client)
U>  {words}
!   Close({reason})
""",
        RULES,
    )


@pytest.mark.parametrize(
    ("rules", "before", "reply"),
    [
        (Rules(client_tls="implicit"), b"", b"-ERR TLS is already active\r\n"),
        (Rules(client_tls="none"), b"", b"-ERR STLS is not offered\r\n"),
        (RULES, b"APOP alice c4c9334bac560ecc979e58001b3e22fb\r\n", b"-ERR STLS is not allowed here\r\n"),
    ],
)
def test_stls_where_it_may_not_be(rules, before, reply):
    """Refused in protocol, and the session goes on."""
    session = Session(rules)
    if before:
        session.hear(CLIENT, before)
        session.hear(UPSTREAM, b"+OK in\r\n")
    assert session.hear(CLIENT, b"STLS\r\n") == [reply, b""]
    assert session.hear(CLIENT, b"NOOP\r\n") == [b"", b"NOOP\r\n"]


def test_stls_is_offered_only_where_it_may_be_used():
    session = Session()

    def capabilities():
        session.hear(CLIENT, b"CAPA\r\n")
        return session.hear(UPSTREAM, b"+OK\r\nUIDL\r\nSTLS\r\n.\r\n")[CLIENT].split(b"\r\n")

    assert b"STLS" in capabilities()
    session.hear(CLIENT, b"USER alice\r\n")
    session.hear(UPSTREAM, b"+OK\r\n")
    session.hear(CLIENT, b"PASS x\r\n")
    session.hear(UPSTREAM, b"+OK\r\n")
    assert b"STLS" not in capabilities()


def test_upstream_tls_is_opportunistic_where_the_rules_say_so():
    play(
        Pop3Engine,
        """
U>  +OK ready
>U  STLS
U>  -ERR no
>U  CAPA
U>  -ERR no
>C  +OK ready
""",
        Rules(hostname="gate.example", upstream_tls="opportunistic"),
    )


def test_capabilities_are_asked_within_upstream_tls():
    play(
        Pop3Engine,
        """
U>  +OK ready
>U  STLS
U>  +OK begin
!   StartTls(upstream)
?   tls upstream
>U  CAPA
U>  +OK
U>  .
>C  +OK ready
""",
        Rules(hostname="gate.example", upstream_tls="starttls"),
    )


@pytest.mark.parametrize("mode", ["starttls", "opportunistic"])
@pytest.mark.parametrize("behind", ["+OK\\r\\n", "x", "\\r\\n"])
def test_octets_behind_the_upstreams_stls_are_an_attack(mode, behind):
    play(
        Pop3Engine,
        f"""
U>  +OK ready
>U  STLS
U>| +OK begin\\r\\n{behind}
!   Fault(upstream, injected_before_tls)
>C  -ERR [SYS/TEMP] No secure connection to the mail server, try again later
!   Close(upstream_unreachable)
""",
        Rules(hostname="gate.example", upstream_tls=mode),
        cuttings=("glued",),
    )


# -- secrets --------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        f"PASS {SECRET}",
        f"pass {SECRET} and more",
        f"PASS  {SECRET}",
        f"PASS\t{SECRET}",
        f" PASS {SECRET}",
        f"PASS {SECRET}\0",
        f"AUTH PLAIN {base64.b64encode(f'_alice_{SECRET}'.replace('_', chr(0)).encode()).decode()}",
        f"AUTH {base64.b64encode(f'_alice_{SECRET}'.replace('_', chr(0)).encode()).decode()}",
        "AUTH " + base64.b64encode(SECRET.encode()).decode(),
        f"AUTH {SECRET}",
        f"AUTH X {SECRET}",
        f"APOP alice {SECRET}",
        SECRET,
        f"PASS{SECRET}",
    ],
)
@pytest.mark.parametrize("rules", [RULES, REFUSE])
def test_no_fact_shows_a_secret(said, rules):
    """However it is said, and though the upstream quotes it."""
    session = Session(rules)
    session.hear(CLIENT, b"USER alice\r\n")
    session.hear(UPSTREAM, b"+OK\r\n") if rules is RULES else None
    _client, upstream = session.hear(CLIENT, said.encode() + b"\r\n")
    if upstream:
        session.hear(UPSTREAM, b"-ERR what is " + said.encode() + b"?\r\n")
    session.steps += session.player.check(session.engine.finished())
    facts = " ".join(repr(step) for step in session.steps if not isinstance(step, Send))
    for form in (SECRET, base64.b64encode(SECRET.encode()).decode(), SECRET.encode().hex()):
        assert form.lower() not in facts.lower()
    assert base64.b64encode(f"\0alice\0{SECRET}".encode()).decode()[:12] not in facts


def logins(session):
    return [
        (s.mechanism, s.user, s.outcome, s.reveals, s.sent) for s in session.steps if isinstance(s, LoginSeen)
    ]


@pytest.mark.parametrize(
    ("said", "login"),
    [
        (b"PASS x\r\n", ("USER", "", "policy", True, True)),
        (b"AUTH PLAIN AGFsaWNlAHg=\r\n", ("PLAIN", "alice", "policy", True, True)),
        (b"AUTH PLAIN\r\n", ("PLAIN", "", "policy", True, False)),
        (b"AUTH CRAM-MD5\r\n", ("CRAM-MD5", "", "policy", False, False)),
    ],
)
def test_the_audit_tells_whether_a_password_was_exposed(said, login):
    session = Session(REFUSE)
    assert session.hear(CLIENT, said) == [b"-ERR [AUTH] Must issue STLS first\r\n", b""]
    assert logins(session) == [login]


def test_tls_in_front_is_protection():
    session = Session(REFUSE, tls_in_front=True)
    assert session.hear(CLIENT, b"USER alice\r\n") == [b"", b"USER alice\r\n"]


def test_apop_is_allowed_without_tls():
    """It shows no password."""
    session = Session(REFUSE)
    assert (
        session.hear(CLIENT, b"APOP alice c4c9334bac560ecc979e58001b3e22fb\r\n")[UPSTREAM]
        == b"APOP alice c4c9334bac560ecc979e58001b3e22fb\r\n"
    )
    session.hear(UPSTREAM, b"+OK\r\n")
    assert logins(session) == [("APOP", "alice", "ok", False, False)]


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (b"+OK in\r\n", "ok"),
        (b"-ERR [AUTH] no\r\n", "failed"),
        (b"-ERR no\r\n", "failed"),
        (b"-ERR [SYS/TEMP] later\r\n", "error"),
        (b"-ERR [IN-USE] locked\r\n", "error"),
        (b"-ERR [LOGIN-DELAY] wait\r\n", "error"),
    ],
)
def test_what_the_upstream_says_to_a_login(reply, outcome):
    session = Session()
    session.hear(CLIENT, b"USER alice\r\nPASS x\r\n")
    assert session.hear(UPSTREAM, b"+OK\r\n" + reply)[CLIENT] == b"+OK\r\n" + reply
    assert logins(session) == [("USER", "alice", outcome, True, True)]


@pytest.mark.parametrize("mechanism", ["EXTERNAL", "SCRAM-SHA-256-PLUS", "GSSAPI", "DIGEST-MD5", "X"])
def test_struck_mechanisms_are_refused(mechanism):
    session = Session()
    assert session.hear(CLIENT, f"AUTH {mechanism}\r\n".encode()) == [b"-ERR Unknown mechanism\r\n", b""]
    assert logins(session)[0][2] == "policy"


@pytest.mark.parametrize("mechanism", ["EXTERNAL", "SCRAM-SHA-256-PLUS", "GSSAPI", "X"])
def test_struck_mechanisms_are_refused_before_a_server_without_capa(mechanism):
    engine = Pop3Engine(RULES, SessionRecord("t", "pop3", "t", "192.0.2.7", 1))
    player = Player(engine)
    player.check(engine.opened())
    player.check(engine.routed(Route("t", "192.0.2.1:1")))
    player.check(engine.receive(UPSTREAM, b"+OK\r\n-ERR what\r\n"))
    steps = player.check(engine.receive(CLIENT, f"AUTH {mechanism}\r\n".encode()))
    assert [step for step in steps if isinstance(step, Send)] == [Send(CLIENT, b"-ERR Unknown mechanism\r\n")]


def test_scram_passes_where_the_upstream_has_no_binding():
    play(
        Pop3Engine,
        """
U>  +OK ready
>U  CAPA
U>  +OK
U>  SASL SCRAM-SHA-256
U>  .
>C  +OK ready
C>  AUTH SCRAM-SHA-256 biwsbj1hbGljZSxyPTE=
>U  AUTH SCRAM-SHA-256 biwsbj1hbGljZSxyPTE=
U>  +OK
!   LoginSeen(SCRAM-SHA-256, alice, ok)
>C  +OK
""",
        RULES,
    )


@pytest.mark.parametrize("said", [b"AUTH PLAIN AGFsaWNlAHg=\r\nNOOP\r\n", b"AUTH LOGIN\r\nYWxpY2U=\r\n"])
def test_octets_behind_auth_are_refused(said):
    session = Session()
    assert session.hear(CLIENT, said) == [b"-ERR Commands behind AUTH\r\n", b""]
    assert FaultKind.PIPELINED_BEHIND_AUTH in session.kinds()
    assert session.closed() == [CloseReason.PROTOCOL_ERROR]


@pytest.mark.parametrize("answer", [b"YWxpY2U=\0\r\n", b"YWxp\rUSER x\r\n", b"A" * 20000])
def test_answers_to_a_challenge_that_break_the_protocol(answer):
    session = Session()
    session.hear(CLIENT, b"AUTH LOGIN\r\n")
    session.hear(UPSTREAM, b"+ VXNlcm5hbWU6\r\n")
    client, upstream = session.hear(CLIENT, answer)
    assert upstream == b"" and client.startswith(b"-ERR [SYS/PERM]")
    assert session.closed() == [CloseReason.PROTOCOL_ERROR]
    assert logins(session) == [("LOGIN", "", "unfinished", True, False)]


def test_a_login_half_done_when_the_client_goes():
    play(
        Pop3Engine,
        GREETED
        + """
C>  AUTH CRAM-MD5
!   CommandSeen(AUTH, AUTH CRAM-MD5)
>U  AUTH CRAM-MD5
U>  + PDE+
>C  + PDE+
?   closed client
!   LoginSeen(CRAM-MD5, , unfinished)
!   ReplySeen(AUTH, unanswered)
!   Close(client_eof)
""",
        RULES,
    )


# -- input without end, and nonsense --------------------------------------


@pytest.mark.parametrize("size", [2100, 12400, 200_000])
def test_commands_that_are_too_long(size):
    session = Session()
    client, upstream = session.hear(CLIENT, b"USER " + b"a" * size + b"\r\nNOOP\r\n")
    assert (client, upstream) == (b"-ERR Line too long\r\n", b"NOOP\r\n")
    assert session.kinds() == [FaultKind.LINE_TOO_LONG]


def test_a_line_without_end_takes_no_memory():
    session = Session()
    for _ in range(2000):
        assert session.hear(CLIENT, b"a" * 1000) == [b"", b""]
        assert len(session.engine.heard[CLIENT]) < 20_000
    assert session.hear(CLIENT, b"\r\nNOOP\r\n") == [b"-ERR Line too long\r\n", b"NOOP\r\n"]


def test_a_long_token_is_no_long_line():
    """Tokens of OAuth pass 512 octets by far."""
    session = Session(Rules(client_tls="implicit"))
    session.engine._offer.mechanisms.append("XOAUTH2")
    line = b"AUTH XOAUTH2 " + base64.b64encode(b"user=a\1auth=Bearer " + b"t" * 8000 + b"\1\1") + b"\r\n"
    assert session.hear(CLIENT, line)[UPSTREAM] == line


@pytest.mark.parametrize(
    "said", [b"", b" ", b"\t", b" NOOP", b"NOOP\tx", b"<>", b"\xff\xfe", b"GET/ x", b"."]
)
def test_what_is_no_verb_is_not_relayed(said):
    """An upstream may ignore an empty line, and the replies would be out of step."""
    session = Session()
    assert session.hear(CLIENT, said + b"\r\n") == [b"-ERR Unknown command\r\n", b""]


@pytest.mark.parametrize("said", [b"RETR 1\0", b"USER a\rb", b"DELE 1\r\r", b"LIST \x1b[31m", b"XYZ \x7f"])
def test_controls_are_refused(said):
    session = Session()
    client, upstream = session.hear(CLIENT, said + b"\r\n")
    assert client.startswith(b"-ERR Control character") and upstream == b""
    assert FaultKind.CONTROL_IN_ARGUMENT in session.kinds()


def test_a_bare_newline_is_told_and_mended():
    session = Session()
    assert session.hear(CLIENT, b"NOOP\nSTAT\n") == [b"", b"NOOP\r\nSTAT\r\n"]
    assert session.kinds() == [FaultKind.BARE_LF, FaultKind.BARE_LF]


def test_endless_unknown_commands_end_the_session():
    session = Session()
    relayed = 0
    for number in range(1000):
        _client, upstream = session.hear(CLIENT, b"XYZ %d\r\n" % number)
        if upstream:
            relayed += 1
            session.hear(UPSTREAM, b"-ERR what\r\n")
        if session.closed():
            break
    assert relayed == RULES.max_unknown_commands
    assert session.closed() == [CloseReason.POLICY]


def test_endless_pipelining_is_bounded():
    session = Session()
    session.hear(CLIENT, b"NOOP\r\n" * 5000)
    assert not session.engine.reading[CLIENT]
    assert len(session.engine._exchange) <= 500
    answered = session.hear(UPSTREAM, b"+OK\r\n" * 500)
    assert answered[CLIENT] == b"+OK\r\n" * 500
    assert answered[UPSTREAM].startswith(b"NOOP\r\n")


@pytest.mark.parametrize("command", [b"XCLIENT ADDR=1.2.3.4", b"XTND XMIT", b"xclient PORT=1"])
def test_struck_commands_are_refused(command):
    session = Session()
    assert session.hear(CLIENT, command + b"\r\n") == [b"-ERR Unknown command\r\n", b""]
    assert session.kinds() == [FaultKind.STRUCK_EXTENSION_USED]


# -- the upstream ---------------------------------------------------------


@pytest.mark.parametrize("said", [b"+OK " + b"a" * 9000, b"+OK\r\n" + b"x" * 9000])
def test_replies_without_end(said):
    session = Session()
    session.hear(CLIENT, b"NOOP\r\nNOOP\r\n")
    session.hear(UPSTREAM, said)
    assert FaultKind.REPLY_TOO_LONG in session.kinds()
    assert session.closed() == [CloseReason.UPSTREAM_EOF]


@pytest.mark.parametrize("command", [b"CAPA", b"AUTH"])
@pytest.mark.parametrize("whole", [True, False])
def test_capabilities_without_end(command, whole):
    """Within a listing no line of ours may stand, for it would be read as part of it."""
    session = Session()
    session.hear(CLIENT, command + b"\r\n")
    said = b"X-LONG\r\n" * 10_000 + (b".\r\n" if whole else b"")
    client = session.hear(UPSTREAM, b"+OK\r\n" + said)[CLIENT]
    assert client == b"+OK\r\n"
    assert FaultKind.REPLY_TOO_LONG in session.kinds()
    assert session.closed() == [CloseReason.UPSTREAM_EOF]


def test_a_listing_of_any_length_streams():
    session = Session()
    session.hear(CLIENT, b"UIDL\r\n")
    session.hear(UPSTREAM, b"+OK\r\n")
    piece = b"1 abcdefgh\r\n" * 5000
    for _ in range(50):
        session.hear(UPSTREAM, piece)
        assert len(session.engine.heard[UPSTREAM]) == 0
    assert session.hear(UPSTREAM, b".\r\n+OK surprise\r\n")[CLIENT].startswith(b".\r\n")


@pytest.mark.parametrize("command", [b"NOOP", b"USER a", b"DELE 1", b"CAPA", b"RETR 1", b"QUIT", b"XYZ"])
def test_a_challenge_nobody_asked_for(command):
    session = Session()
    session.hear(CLIENT, command + b"\r\n")
    client = session.hear(UPSTREAM, b"+ cGFzc3dvcmQ/\r\n")[CLIENT]
    assert not client.startswith(b"+")
    assert FaultKind.UNEXPECTED_CONTINUATION in session.kinds()


def test_a_challenge_of_a_bad_form():
    session = Session()
    session.hear(CLIENT, b"AUTH LOGIN\r\n")
    assert session.hear(UPSTREAM, b"+X\r\n")[CLIENT].startswith(b"-ERR [SYS/TEMP]")
    assert FaultKind.BAD_REPLY in session.kinds()


def test_the_upstream_says_goodbye_by_itself():
    play(
        Pop3Engine,
        GREETED + "\nU>  -ERR Disconnected for inactivity\n>C  -ERR Disconnected for inactivity\n"
        "!   Close(upstream_eof)\n",
        RULES,
    )


@pytest.mark.parametrize(
    ("greeting", "trouble", "reason"),
    [
        ("-ERR too many", Trouble.UPSTREAM_DOWN, "upstream_unreachable"),
        ("+ what", Trouble.UPSTREAM_DOWN, "upstream_unreachable"),
        ("hello", Trouble.UPSTREAM_FAULT, "upstream_eof"),
        ("* OK imap", Trouble.UPSTREAM_FAULT, "upstream_eof"),
        ("220 smtp", Trouble.UPSTREAM_FAULT, "upstream_eof"),
    ],
)
def test_greetings_that_are_none(greeting, trouble, reason):
    play(
        Pop3Engine,
        f"U>  {greeting}\n!   Fault(upstream, bad_reply)\n>C  -ERR {WORDS[trouble]}\n!   Close({reason})\n",
        RULES,
    )


def test_xclient_refused_by_the_upstream_ends_the_session():
    """Else its log would blame the gateway for what the client does."""
    play(
        Pop3Engine,
        """
U>  +OK ready
>U  CAPA
U>  +OK
U>  XCLIENT
U>  .
>U  XCLIENT ADDR=192.0.2.7 PORT=4711
U>  -ERR not you
!   Fault(upstream, unexpected_reply)
>C  -ERR [SYS/TEMP] Connection to the mail server lost, try again later
!   Close(upstream_eof)
""",
        Rules(hostname="gate.example", forward_client="xclient"),
    )


@pytest.mark.parametrize("said", [b"", b"USER alice\r\n", b"AUTH PLAIN\r\n", b"CAPA\r\n", b"QUIT\r\n"])
def test_the_upstream_is_gone(said):
    """Whatever was awaited, the session ends and every command is settled."""
    session = Session()
    if said:
        session.hear(CLIENT, said)
    steps = session.player.check(session.engine.closed(UPSTREAM))
    assert [step.reason for step in steps if isinstance(step, Close)] == [CloseReason.UPSTREAM_EOF]
    session.player.check(session.engine.finished())
    assert session.player.seen == session.player.settled


def test_the_client_closes_its_side_and_still_gets_its_answers():
    play(
        Pop3Engine,
        GREETED
        + """
C>  STAT
C>  LIST
>U  STAT
>U  LIST
?   closed client
U>  +OK 1 10
>C  +OK 1 10
U>  +OK
U>  1 10
U>  .
>C  +OK
>C  1 10
>C  .
!   Close(client_eof)
""",
        RULES,
        cuttings=("line by line", "byte by byte"),
    )


def test_a_command_cut_off_by_the_end_is_not_performed():
    session = Session()
    assert session.hear(CLIENT, b"DELE 1") == [b"", b""]
    steps = session.player.check(session.engine.closed(CLIENT))
    assert not [step for step in steps if isinstance(step, Send)]


@pytest.mark.parametrize("trouble", list(Trouble))
def test_every_trouble_has_a_code(trouble):
    """A plain -ERR would make clients ask for the password again (RFC 3206)."""
    session = Session()
    (said,) = (s.data for s in session.player.check(session.engine.fail(trouble)) if isinstance(s, Send))
    assert said.startswith((b"-ERR [SYS/TEMP] ", b"-ERR [SYS/PERM] ")) and said.endswith(b"\r\n")
    assert trouble not in WORDS or WORDS[trouble].encode() in said


@pytest.mark.parametrize("trouble", [Trouble.UPSTREAM_DOWN, Trouble.UPSTREAM_TLS])
def test_no_upstream_is_told_in_place_of_the_greeting(trouble):
    play(
        Pop3Engine,
        f"? open\n!   Connect()\n? unreachable {trouble}\n>C  -ERR {WORDS[trouble]}\n"
        "!   Close(upstream_unreachable)\n",
        RULES,
    )


def test_who_speaks_before_the_greeting_waits_for_it():
    play(
        Pop3Engine,
        """
C>  NOOP
U>  +OK ready
>U  CAPA
U>  -ERR no
>C  +OK ready
>U  NOOP
""",
        RULES,
    )


def test_stopping_takes_no_more_commands():
    """With held messages too: what is in flight is finished, then the client is told."""
    session = Session(Rules(client_tls="starttls", hold=frozenset({Stage.TOP})))
    session.hear(CLIENT, b"NOOP\r\n")
    assert session.player.check(session.engine.stop_when_quiet()) == []
    assert session.hear(CLIENT, b"DELE 1\r\n")[UPSTREAM] == b""
    said = session.hear(UPSTREAM, b"+OK\r\n")[CLIENT]
    assert said == b"+OK\r\n-ERR [SYS/TEMP] Service shutting down, try again later\r\n"
