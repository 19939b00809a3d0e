"""POP3 by the tables and against THREATS."""

from __future__ import annotations

import pytest

from gateway.core.rules import Rules
from gateway.core.steps import Stage
from gateway.protocols.pop3 import Pop3Engine
from tests.support.play import play

RULES = Rules(hostname="gate.example", client_tls="starttls")
REFUSE = Rules(hostname="gate.example", client_tls="starttls", cleartext_login="refuse")
HELD = Rules(hostname="gate.example", hold=frozenset({Stage.RETR}))

GREETED = """
U>  +OK ready <1896.697170952@mx.example>
>U  CAPA
U>  +OK
U>  USER
U>  SASL PLAIN CRAM-MD5 EXTERNAL SCRAM-SHA-256 SCRAM-SHA-256-PLUS
U>  PIPELINING
U>  UIDL
U>  STLS
U>  .
>C  +OK ready <1896.697170952@mx.example>
"""


def test_delete_waits_for_the_message_before_it():
    """A client that pipelines RETR and DELE must not lose the mail we still hold."""
    play(
        Pop3Engine,
        GREETED
        + """
C>  RETR 1
C>  DELE 1
>U  RETR 1
>U  DELE 1
""",
        RULES,
    )
    play(
        Pop3Engine,
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
C>  DELE 1
?   pass
>C  +OK 15 octets
!   SendBody(client, dots)
?   sent
>U  DELE 1
""",
        HELD,
        cuttings=("line by line", "byte by byte"),
    )


def test_a_rewritten_message_has_its_true_count():
    play(
        Pop3Engine,
        GREETED
        + """
C>  RETR 1
>U  RETR 1
U>  +OK 15 octets follow
U>  Subject: hello
U>  .
!   BodyStart(upstream, retr, held)
!   body Subject: hello|
!   BodyEnd(upstream)
?   modify 99
>C  +OK 99 octets follow
!   SendBody(client, dots)
""",
        HELD,
    )


@pytest.mark.parametrize(("verdict", "reply"), [("defer Scanner down", "-ERR [SYS/TEMP] Scanner down")])
def test_a_plugin_that_fails_is_a_temporary_failure(verdict, reply):
    play(
        Pop3Engine,
        GREETED
        + f"""
C>  RETR 1
>U  RETR 1
U>  +OK
U>  x
U>  .
!   BodyStart(upstream, retr, held)
!   body x|
!   BodyEnd(upstream)
?   {verdict}
>C  {reply}
""",
        HELD,
    )


def test_messages_stream_with_their_stuffing_kept():
    """What is told the client is octet for octet what the upstream sent; what is measured is unstuffed."""
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
""",
        RULES,
        cuttings=("glued",),
    )


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


def test_listings_with_and_without_argument():
    """A table, not guesses: LIST is multi-line, LIST 1 is not."""
    play(
        Pop3Engine,
        GREETED
        + """
C>  LIST 1
C>  LIST
C>  STAT
>U  LIST 1
>U  LIST
>U  STAT
U>  +OK 1 10
U>  +OK
U>  1 10
U>  .
U>  +OK 1 10
>C  +OK 1 10
>C  +OK
>C  1 10
>C  .
>C  +OK 1 10
""",
        RULES,
    )


def test_capa_is_filtered():
    play(
        Pop3Engine,
        GREETED
        + """
C>  CAPA
>U  CAPA
U>  +OK list
U>  USER
U>  SASL PLAIN CRAM-MD5 EXTERNAL SCRAM-SHA-256 SCRAM-SHA-256-PLUS
U>  XTND XMIT
U>  X-SECRET
U>  UIDL
U>  STLS
U>  .
>C  +OK list
>C  USER
>C  SASL PLAIN CRAM-MD5
>C  UIDL
>C  STLS
>C  PIPELINING
>C  .
""",
        RULES,
    )


def test_the_timestamp_is_struck_where_apop_is_forbidden():
    play(
        Pop3Engine,
        GREETED.replace(">C  +OK ready <1896.697170952@mx.example>", ">C  +OK ready")
        + "\nC>  APOP alice c4c9334bac560ecc979e58001b3e22fb\n>C  -ERR APOP is not offered\n",
        Rules(hostname="gate.example", apop=False),
    )


def test_apop_exposes_no_password():
    play(
        Pop3Engine,
        GREETED
        + """
C>  APOP alice c4c9334bac560ecc979e58001b3e22fb
>U  APOP alice c4c9334bac560ecc979e58001b3e22fb
U>  +OK in
!   LoginSeen(APOP, alice, ok)
>C  +OK in
""",
        RULES,
    )


def test_user_and_pass():
    """Passwords may hold blanks; they are never shown."""
    play(
        Pop3Engine,
        GREETED
        + """
C>  USER alice
>U  USER alice
U>  +OK
>C  +OK
C>  PASS my secret word
>U  PASS my secret word
U>  -ERR [AUTH] no
!   LoginSeen(USER, alice, failed)
>C  -ERR [AUTH] no
""",
        RULES,
    )


def test_auth_with_challenges_and_cancel():
    play(
        Pop3Engine,
        GREETED
        + """
C>  AUTH PLAIN
>U  AUTH PLAIN
U>| + \\r\\n
>C| + \\r\\n
C>  AGFsaWNlAHMzY3JldA==
>U  AGFsaWNlAHMzY3JldA==
U>  +OK in
!   LoginSeen(PLAIN, alice, ok)
>C  +OK in
C>  AUTH CRAM-MD5
>U  AUTH CRAM-MD5
U>  + PDE+
>C  + PDE+
C>  *
>U  *
U>  -ERR cancelled
!   LoginSeen(CRAM-MD5, , aborted)
>C  -ERR cancelled
""",
        RULES,
    )


def test_auth_alone_lists_the_mechanisms_that_pass():
    play(
        Pop3Engine,
        GREETED
        + """
C>  AUTH
>U  AUTH
U>  +OK
U>  PLAIN
U>  EXTERNAL
U>  .
>C  +OK
>C  PLAIN
>C  .
""",
        RULES,
    )


@pytest.mark.parametrize(
    ("command", "login"),
    [
        ("PASS secret", "!   LoginSeen(USER, , policy)\n"),
        ("AUTH PLAIN AGFsaWNlAHMzY3JldA==", "!   LoginSeen(PLAIN, alice, policy)\n"),
        ("USER alice", ""),
    ],
)
def test_cleartext_logins_are_refused_without_the_upstream(command, login):
    play(
        Pop3Engine,
        GREETED + f"\nC>  {command}\n!   Fault(client, cleartext_login)\n"
        f">C  -ERR [AUTH] Must issue STLS first\n{login}",
        REFUSE,
    )


def test_stls_forgets_what_was_said_before():
    play(
        Pop3Engine,
        GREETED
        + """
C>  USER evil
>U  USER evil
U>  +OK
>C  +OK
C>  STLS
>C  +OK Begin TLS negotiation
!   StartTls(client)
?   tls client
C>  PASS x
>U  PASS x
U>  -ERR no
!   LoginSeen(USER, , failed)
>C  -ERR no
C>  STLS
>C  -ERR TLS is already active
""",
        RULES,
    )


def test_commands_behind_stls_are_an_attack():
    play(
        Pop3Engine,
        GREETED
        + """
C>  STLS
C>  USER evil
!   Fault(client, pipelined_before_tls)
>C  -ERR Commands behind STLS
!   Close(protocol_error)
""",
        RULES,
        cuttings=("glued",),
    )


@pytest.mark.parametrize(
    ("answer", "fault"), [("-ERR no", "starttls_missing"), ("+OK\\r\\n+OK injected", "injected_before_tls")]
)
def test_upstream_tls_is_never_downgraded(answer, fault):
    play(
        Pop3Engine,
        f"""
U>  +OK ready
>U  STLS
U>| {answer}\\r\\n
!   Fault(upstream, {fault})
>C  -ERR [SYS/TEMP] No secure connection to the mail server, try again later
!   Close(upstream_unreachable)
""",
        Rules(hostname="gate.example", upstream_tls="starttls"),
        cuttings=("line by line",),
    )


def test_xclient_tells_who_the_client_is_and_is_refused_from_clients():
    play(
        Pop3Engine,
        """
U>  +OK ready
>U  CAPA
U>  +OK
U>  XCLIENT
U>  .
>U  XCLIENT ADDR=192.0.2.7 PORT=4711
U>  +OK
>C  +OK ready
C>  XCLIENT ADDR=1.2.3.4
!   Fault(client, struck_extension_used)
>C  -ERR Unknown command
""",
        Rules(hostname="gate.example", forward_client="xclient"),
    )


def test_an_upstream_without_pipelining_gets_one_command_at_a_time():
    play(
        Pop3Engine,
        """
U>  +OK ready
>U  CAPA
U>  -ERR what
>C  +OK ready
C>  STAT
C>  NOOP
>U  STAT
U>  +OK 0 0
>C  +OK 0 0
>U  NOOP
U>  +OK
>C  +OK
""",
        RULES,
    )


def test_quit_is_relayed_then_the_session_ends():
    play(Pop3Engine, GREETED + "\nC>  QUIT\n>U  QUIT\nU>  +OK bye\n>C  +OK bye\n!   Close(quit)\n", RULES)


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


@pytest.mark.parametrize("reply", ["hello", "* OK", "250 ok"])
def test_replies_that_break_the_protocol(reply):
    play(
        Pop3Engine,
        GREETED + f"\nC>  NOOP\n>U  NOOP\nU>  {reply}\n!   Fault(upstream, bad_reply)\n"
        ">C  -ERR [SYS/TEMP] Connection to the mail server lost, try again later\n!   Close(upstream_eof)\n",
        RULES,
    )


def test_a_reply_nobody_asked_for():
    play(
        Pop3Engine,
        GREETED + "\nU>  +OK surprise\n!   Fault(upstream, unexpected_reply)\n"
        ">C  -ERR [SYS/TEMP] Connection to the mail server lost, try again later\n!   Close(upstream_eof)\n",
        RULES,
    )


def test_controls_and_unknown_commands():
    rules = Rules(hostname="gate.example", max_unknown_commands=1)
    play(
        Pop3Engine,
        GREETED + "\nC>| USER a\\0b\\r\\n\n!   Fault(client, control_in_argument)\n"
        ">C  -ERR Control character in argument\n"
        "C>  XYZ 1\n>U  XYZ 1\nU>  -ERR what\n>C  -ERR what\n"
        "C>  XYZ 2\n!   Fault(client, bad_command)\n>C  -ERR Unknown command\n",
        rules,
        cuttings=("line by line", "byte by byte"),
    )
