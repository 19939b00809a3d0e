"""POP3 by the tables: logins, listings, capabilities, TLS, and what ends a session."""

from __future__ import annotations

import pytest

from gateway.core.rules import Rules
from gateway.protocols.pop3 import Pop3Engine
from tests.support.play import play

RULES = Rules(hostname="gate.example", client_tls="starttls")
REFUSE = Rules(hostname="gate.example", client_tls="starttls", cleartext_login="refuse")

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
!   Fault(client, bad_sequence)
>C  -ERR USER first
!   LoginSeen(USER, , policy)
C>  USER alice
>U  USER alice
U>  +OK
>C  +OK
C>  PASS x
>U  PASS x
U>  -ERR no
!   LoginSeen(USER, alice, failed)
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


@pytest.mark.parametrize(
    ("command", "many"),
    [
        ("LIST", True),
        ("LIST 1", False),
        ("LIST ", True),
        ("UIDL", True),
        ("UIDL 1", False),
        ("LANG", True),
        ("LANG *", False),
        ("STAT", False),
        ("DELE 1", False),
        ("NOOP", False),
        ("RSET", False),
        ("LAST", False),
        ("UTF8", False),
        ("UTF8 USER", False),
    ],
)
def test_which_replies_are_listings(command, many):
    """By command, argument and outcome: a refusal is one line always."""
    listing = "U>  +one\nU>  .\n" if many else ""
    told = ">C  +one\n>C  .\n" if many else ""
    play(
        Pop3Engine,
        GREETED + f"\nC>  {command}\n>U  {command.strip()}\nU>  +OK\n{listing}>C  +OK\n{told}"
        f"C>  {command}\n>U  {command.strip()}\nU>  -ERR no\n>C  -ERR no\n"
        "C>  NOOP\n>U  NOOP\nU>  +OK\n>C  +OK\n",
        RULES,
    )


def test_own_replies_wait_their_turn():
    """Any number of commands in one packet are answered in order, whoever answers."""
    play(
        Pop3Engine,
        GREETED
        + """
C>  STAT
C>  XCLIENT ADDR=1.2.3.4
C>  UIDL
C>  XTND XMIT
C>  NOOP
>U  STAT
>U  UIDL
>U  NOOP
U>  +OK 1 10
>C  +OK 1 10
>C  -ERR Unknown command
U>  +OK
U>  1 a
U>  .
>C  +OK
>C  1 a
>C  .
>C  -ERR Unknown command
U>  +OK
>C  +OK
""",
        RULES,
    )


@pytest.mark.parametrize("client_tls", ["starttls", "implicit"])
def test_capabilities_where_logins_in_clear_are_refused(client_tls):
    """USER and SASL are not offered before TLS, and are behind it."""
    rules = Rules(hostname="gate.example", client_tls=client_tls, cleartext_login="refuse")
    asked = """
C>  CAPA
>U  CAPA
U>  +OK
U>  USER
U>  SASL PLAIN LOGIN DIGEST-MD5
U>  RESP-CODES
U>  AUTH-RESP-CODE
U>  LOGIN-DELAY 60 USER
U>  EXPIRE NEVER
U>  UTF8 USER
U>  LANG
U>  TOP
U>  IMPLEMENTATION Secret-Server-1.2.3
U>  .
>C  +OK
{first}>C  RESP-CODES
>C  AUTH-RESP-CODE
>C  LOGIN-DELAY 60 USER
>C  EXPIRE NEVER
>C  UTF8 USER
>C  LANG
>C  TOP
{last}>C  PIPELINING
>C  .
"""
    logins = ">C  USER\n>C  SASL PLAIN LOGIN\n"
    if client_tls == "implicit":
        play(Pop3Engine, GREETED + asked.format(first=logins, last=""), rules)
        return
    begin = "\nC>  STLS\n>C  +OK Begin TLS negotiation\n!   StartTls(client)\n?   tls client\n"
    play(
        Pop3Engine,
        GREETED + asked.format(first="", last=">C  STLS\n") + begin + asked.format(first=logins, last=""),
        rules,
    )


def test_what_was_struck_is_told_once():
    play(
        Pop3Engine,
        """
U>  +OK ready
>U  CAPA
U>  +OK
U>  X-SECRET
U>  .
!   ExtensionStruck(X-SECRET)
>C  +OK ready
C>  CAPA
>U  CAPA
U>  +OK
U>  X-SECRET
U>  UIDL
U>  .
>C  +OK
>C  UIDL
>C  STLS
>C  PIPELINING
>C  .
""",
        RULES,
    )


def test_the_configuration_passes_and_strikes():
    rules = Rules(
        hostname="gate.example",
        pass_extensions=frozenset({"X-SECRET"}),
        strike_extensions=frozenset({"UIDL", "PIPELINING"}),
    )
    play(
        Pop3Engine,
        GREETED + "\nC>  CAPA\n>U  CAPA\nU>  +OK\nU>  X-SECRET 1\nU>  UIDL\nU>  PIPELINING\nU>  .\n"
        ">C  +OK\n>C  X-SECRET 1\n>C  .\n",
        rules,
    )


def test_a_server_without_capa():
    """The client's CAPA is refused by the upstream's own words."""
    play(
        Pop3Engine,
        """
U>  +OK ready
>U  CAPA
U>  -ERR what
>C  +OK ready
C>  CAPA
>U  CAPA
U>  -ERR what
>C  -ERR what
C>  AUTH CRAM-MD5
>U  AUTH CRAM-MD5
""",
        RULES,
    )


def test_a_password_behind_a_login_is_no_wrong_one():
    play(
        Pop3Engine,
        GREETED + "\nC>  USER a\n>U  USER a\nU>  +OK\n>C  +OK\nC>  PASS x\n>U  PASS x\nU>  +OK\n"
        "!   LoginSeen(USER, a, ok)\n>C  +OK\nC>  PASS y\n>U  PASS y\nU>  -ERR unknown\n"
        "!   LoginSeen(USER, a, aborted)\n>C  -ERR unknown\n",
        RULES,
    )


def test_states_are_the_upstreams_to_keep():
    """What the state forbids is relayed, and the upstream's refusal with it (RFC 1939 4, 5)."""
    play(
        Pop3Engine,
        GREETED + "\nC>  STAT\n>U  STAT\nU>  -ERR not logged in\n>C  -ERR not logged in\n"
        "C>  APOP a c4c9334bac560ecc979e58001b3e22fb\n>U  APOP a c4c9334bac560ecc979e58001b3e22fb\n"
        "U>  +OK\n>C  +OK\n"
        "C>  USER a\n>U  USER a\nU>  -ERR logged in\n>C  -ERR logged in\n",
        RULES,
    )


def test_verbs_in_any_case_and_bare_newlines_of_the_upstream():
    play(
        Pop3Engine,
        GREETED + "\nC>  rEtR 1\n>U  RETR 1\nU>| -ERR no\\n\n>C  -ERR no\n",
        RULES,
    )
