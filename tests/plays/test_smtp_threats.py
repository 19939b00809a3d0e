"""SMTP against THREATS: TLS and its upgrade, logins, the end of data, floods, broken peers."""

from __future__ import annotations

import pytest

from gateway.core.engine import Route
from gateway.core.record import SessionRecord
from gateway.core.rules import Rules
from gateway.core.steps import CLIENT, UPSTREAM, BodyData, BodyEnd, Send, Stage, Step
from gateway.protocols.smtp import SmtpEngine
from tests.support.play import Player, play

HOLD = frozenset({Stage.DATA})
TLS = Rules(hostname="gate.example", client_tls="starttls")
HELD = Rules(hostname="gate.example", hold=HOLD)
REFUSE = Rules(hostname="gate.example", client_tls="starttls", cleartext_login="refuse")

EHLO = """
U>  220 mx.example ESMTP
>C  220 gate.example ESMTP
C>  EHLO me
>U  EHLO me
U>  250-mx.example
U>  250-PIPELINING
U>  250-AUTH PLAIN LOGIN CRAM-MD5
U>  250 STARTTLS
>C  250-gate.example
>C  250-PIPELINING
>C  250-SIZE 104857600
"""
OPEN = EHLO + "\n>C  250-STARTTLS\n>C  250 AUTH PLAIN LOGIN CRAM-MD5\n"
NO_LOGIN = EHLO + "\n>C  250 STARTTLS\n"
HELD_OPEN = EHLO + "\n>C  250-AUTH PLAIN LOGIN CRAM-MD5\n>C  250 CHUNKING\n"
MAIL = """
C>  MAIL FROM:<a@example.org>
>U  MAIL FROM:<a@example.org>
U>  250 2.1.0 Ok
>C  250 2.1.0 Ok
C>  RCPT TO:<b@example.org>
>U  RCPT TO:<b@example.org>
U>  250 2.1.5 Ok
>C  250 2.1.5 Ok
"""


def rehearse(rules: Rules, *said: bytes) -> list[Step]:
    """Let the client say these, while the upstream answers each command that reaches it with 250."""
    player = Player(SmtpEngine(rules, SessionRecord("t", "smtp", "t", "192.0.2.7", 1)))
    steps = player.check(player.engine.opened() + player.engine.routed(Route("t", "192.0.2.1:25")))
    steps += player.check(player.engine.receive(UPSTREAM, b"220 x\r\n"))
    for data in said:
        fresh = player.check(player.engine.receive(CLIENT, data))
        steps += fresh
        for _ in (step for step in fresh if isinstance(step, Send) and step.side is UPSTREAM):
            reply = {b"EHLO": b"250-x\r\n250 AUTH PLAIN\r\n", b"AUTH": b"235 ok\r\n"}.get(
                data[:4], b"250 ok\r\n"
            )
            steps += player.check(player.engine.receive(UPSTREAM, reply))
    return steps


# -------------------------------------------------------------------- STARTTLS


def test_starttls_forgets_what_was_said_before():
    """RFC 3207 4.2: after the handshake the client must say EHLO again; STARTTLS is gone."""
    play(
        SmtpEngine,
        OPEN
        + """
C>  STARTTLS
>C  220 2.0.0 Ready to start TLS
!   StartTls(client)
?   tls client
C>  AUTH PLAIN AGEAYg==
>C  504 5.5.4 Unrecognized authentication type
C>  EHLO me
>U  EHLO me
U>  250-mx.example
U>  250 AUTH PLAIN
>C  250-gate.example
>C  250-PIPELINING
>C  250-SIZE 104857600
>C  250 AUTH PLAIN
C>  STARTTLS
>C  503 5.5.1 TLS is already active
""",
        TLS,
        cuttings=("line by line", "byte by byte"),  # bytes glued behind AUTH are refused
    )


def test_commands_behind_starttls_are_an_attack():
    """CVE-2011-0411: never interpreted, before or after TLS."""
    play(
        SmtpEngine,
        OPEN
        + """
C>  STARTTLS
C>  MAIL FROM:<evil@example.org>
!   Fault(client, pipelined_before_tls)
>C  554 5.5.1 Commands behind STARTTLS
!   Close(protocol_error)
""",
        TLS,
        cuttings=("glued",),
    )


def test_upstream_bytes_behind_its_220_are_an_attack():
    play(
        SmtpEngine,
        """
U>  220 mx
>U  EHLO gate.example
U>  250-mx
U>  250 STARTTLS
>U  STARTTLS
U>| 220 go\\r\\n250 injected\\r\\n
!   Fault(upstream, injected_before_tls)
>C  421 gate.example No secure connection to the mail server, try again later
!   Close(upstream_unreachable)
""",
        Rules(hostname="gate.example", upstream_tls="starttls"),
        cuttings=("line by line",),
    )


def test_upstream_starttls_in_the_prologue():
    """The client is greeted behind the handshake; the upstream's offer is asked again then."""
    play(
        SmtpEngine,
        """
U>  220 mx
>U  EHLO gate.example
U>  250-mx
U>  250 STARTTLS
>U  STARTTLS
U>  220 go
!   StartTls(upstream)
?   tls upstream
>C  220 gate.example ESMTP
""",
        Rules(hostname="gate.example", upstream_tls="starttls"),
    )


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        ("250 mx", "starttls_missing"),
        ("250-mx\nU>  250 STARTTLS\n>U  STARTTLS\nU>  454 no", "starttls_refused"),
    ],
)
def test_stripped_starttls_is_never_a_downgrade(reply, fault):
    play(
        SmtpEngine,
        f"""
U>  220 mx
>U  EHLO gate.example
U>  {reply}
!   Fault(upstream, {fault})
>C  421 gate.example No secure connection to the mail server, try again later
!   Close(upstream_unreachable)
""",
        Rules(hostname="gate.example", upstream_tls="starttls"),
    )


def test_opportunistic_tls_goes_on_without():
    play(
        SmtpEngine,
        "\nU>  220 mx\n>U  EHLO gate.example\nU>  250 mx\n>C  220 gate.example ESMTP\n",
        Rules(hostname="gate.example", upstream_tls="opportunistic"),
    )


def test_starttls_with_an_argument_or_where_not_offered():
    play(SmtpEngine, OPEN + "\nC>  STARTTLS now\n>C  501 5.5.4 No parameters allowed\n", TLS)
    play(SmtpEngine, HELD_OPEN + "\nC>  STARTTLS\n>C  502 5.5.1 STARTTLS is not offered\n", HELD)


def test_tls_on_a_plaintext_port():
    play(
        SmtpEngine,
        "\nU>  220 mx\n>C  220 gate.example ESMTP\nC>| \\x16\n"
        "!   Fault(client, tls_on_plaintext_port)\n!   Close(tls_error)\n",
        TLS,
    )


# ----------------------------------------------------------------------- XCLIENT


def test_xclient_tells_the_upstream_who_the_client_is():
    play(
        SmtpEngine,
        """
U>  220 mx
>U  EHLO gate.example
U>  250-mx
U>  250 XCLIENT NAME ADDR PROTO
>U  XCLIENT NAME=[UNAVAILABLE] ADDR=192.0.2.7 PROTO=ESMTP
U>  220 mx again
>C  220 gate.example ESMTP
""",
        Rules(hostname="gate.example", forward_client="xclient"),
    )


# ------------------------------------------------------------------------ logins


def test_auth_plain_with_an_initial_response():
    """RFC 4954: mechanism, identity and outcome are read; the password is not shown."""
    play(
        SmtpEngine,
        OPEN
        + """
C>  AUTH PLAIN AGFsaWNlAHMzY3JldA==
>U  AUTH PLAIN AGFsaWNlAHMzY3JldA==
U>  235 2.7.0 ok
!   LoginSeen(PLAIN, alice, ok)
>C  235 2.7.0 ok
""",
        TLS,
    )


def test_no_step_but_the_wire_holds_the_password():
    steps = rehearse(TLS, b"EHLO x\r\n", b"AUTH PLAIN AGFsaWNlAHMzY3JldA==\r\n")
    facts = [repr(step) for step in steps if not isinstance(step, Send)]
    assert any("AUTH PLAIN ***" in fact for fact in facts)
    assert not any(secret in fact for fact in facts for secret in ("s3cret", "AGFsaWNl", "czNjcmV0"))


def test_auth_login_with_challenges():
    play(
        SmtpEngine,
        OPEN
        + """
C>  AUTH LOGIN
>U  AUTH LOGIN
U>  334 VXNlcm5hbWU6
>C  334 VXNlcm5hbWU6
C>  YWxpY2U=
>U  YWxpY2U=
U>  334 UGFzc3dvcmQ6
>C  334 UGFzc3dvcmQ6
C>  czNjcmV0
>U  czNjcmV0
U>  535 5.7.8 no
!   LoginSeen(LOGIN, alice, failed)
>C  535 5.7.8 no
""",
        TLS,
    )


@pytest.mark.parametrize(
    "said",
    [
        b"AUTH\tPLAIN AGFsaWNlAHMzY3JldA==",
        b" AUTH PLAIN AGFsaWNlAHMzY3JldA==",
        b"\tAUTH PLAIN AGFsaWNlAHMzY3JldA==",
        b"XCLIENT\tLOGIN=bob",
        b" XCLIENT LOGIN=bob",
        b"XFORWARD\tADDR=203.0.113.66",
        b" MAIL FROM:<a@example.org>",
        b"BDAT\t33 LAST",
        b'"AUTH" PLAIN AGFsaWNlAHMzY3JldA==',
        b"A\\UTH PLAIN AGFsaWNlAHMzY3JldA==",
        b"",
        b" ",
    ],
)
def test_what_is_no_verb_here_and_one_elsewhere_is_not_relayed(said: bytes):
    """Postfix skips blanks before a verb, and ends it at a tab."""
    steps = rehearse(REFUSE, b"EHLO x\r\n", said + b"\r\n")
    sent = [step.data for step in steps if isinstance(step, Send) and step.side is UPSTREAM]
    assert sent[-1].startswith(b"EHLO"), sent
    assert [step.data[:3] for step in steps if isinstance(step, Send)][-1] == b"500"
    assert "czNjcmV0" not in str([step for step in steps if not isinstance(step, Send)])


@pytest.mark.parametrize("control", ["\\r", "\\0", "\\x7f"])
def test_a_control_in_an_answer_is_not_relayed(control: str):
    """Another program might take it for the end of the line."""
    play(
        SmtpEngine,
        OPEN
        + f"""
C>  AUTH LOGIN
>U  AUTH LOGIN
U>  334 VXNlcm5hbWU6
>C  334 VXNlcm5hbWU6
C>| YWxp{control}Y2U=\\r\\n
!   Fault(client, control_in_argument)
>C  421 4.5.0 Protocol error
!   LoginSeen(LOGIN, , unfinished)
!   Close(protocol_error)
""",
        TLS,
    )


def test_auth_cancelled():
    play(
        SmtpEngine,
        OPEN
        + """
C>  AUTH CRAM-MD5
>U  AUTH CRAM-MD5
U>  334 PDE+
>C  334 PDE+
C>  *
>U  *
U>  501 5.7.0 cancelled
!   LoginSeen(CRAM-MD5, , aborted)
>C  501 5.7.0 cancelled
""",
        TLS,
    )


def test_a_cleartext_login_is_refused_without_the_upstream():
    """The password has crossed the wire all the same: the audit says so."""
    play(
        SmtpEngine,
        NO_LOGIN
        + """
C>  AUTH PLAIN AGFsaWNlAHMzY3JldA==
!   Fault(client, cleartext_login)
>C  538 5.7.11 Encryption required for authentication
!   LoginSeen(PLAIN, alice, policy)
""",
        REFUSE,
    )


def test_bytes_behind_auth_are_refused():
    play(
        SmtpEngine,
        OPEN
        + """
C>  AUTH LOGIN
C>  YWxpY2U=
!   Fault(client, pipelined_behind_auth)
>C  503 5.5.1 Commands behind AUTH
!   Close(protocol_error)
""",
        TLS,
        cuttings=("glued",),
    )


def test_a_mechanism_that_is_not_passed_is_refused():
    play(SmtpEngine, OPEN + "\nC>  AUTH GSSAPI\n>C  504 5.5.4 Unrecognized authentication type\n", TLS)


def test_a_long_token_passes():
    """RFC 4954 4: 12,288 octets."""
    token = "A" * 12000
    play(SmtpEngine, OPEN + f"\nC>  AUTH PLAIN {token}\n>U  AUTH PLAIN {token}\n", TLS)


# ------------------------------------------------------------------- end of data

LOOKALIKES = [
    "\\n.\\n", "\\r.\\r", "\\r\\n.\\n", "\\n.\\r\\n", "\\r\\n.\\r", "\\r.\\r\\n", "\\r\\n\\0.\\r\\n",
    "\\r\\n.\\0\\r\\n", "\\n..\\n", "\\r\\n..\\n",
]  # fmt: skip


@pytest.mark.parametrize("lookalike", LOOKALIKES)
def test_only_crlf_dot_crlf_ends_data(lookalike):
    """SMTP smuggling: the true end is awaited, and the message refused."""
    play(
        SmtpEngine,
        HELD_OPEN
        + MAIL
        + f"""
C>  DATA
>C  354 End data with <CR><LF>.<CR><LF>
!   BodyStart(client, data, held)
C>| {lookalike}MAIL FROM:<evil@example.org>\\r\\nRCPT TO:<v@example.org>\\r\\nDATA\\r\\n.\\r\\n
!   BodyAbort(client)
>C  550 5.6.11 {{}}
>U  RSET
U>  250 ok
C>  NOOP
>U  NOOP
""".replace(
            "{}",
            "Line ends that are not CRLF around a lone dot"
            if ".." not in lookalike
            else "Bare <CR> or <LF> in message",
        ),
        HELD,
        cuttings=("glued",),
    )


def test_bare_newlines_are_mended_behind_a_login():
    """Scripts and old clients send LF; whoever has logged in smuggles no stranger's mail."""
    said = (b"MAIL FROM:<a@b>\r\n", b"RCPT TO:<c@d>\r\n", b"DATA\r\n", b"a\nb\r\n.\r\n")
    login = (b"EHLO x\r\n", b"AUTH PLAIN AGFsaWNlAHMzY3JldA==\r\n")
    stranger = rehearse(HELD, b"EHLO x\r\n", *said)
    assert any(isinstance(step, Send) and step.data.startswith(b"550 5.6.11") for step in stranger)
    known = rehearse(HELD, *login, *said)
    assert isinstance(known[-1], BodyEnd)


@pytest.mark.parametrize("lookalike", LOOKALIKES[:6])
def test_normalised_lookalikes_end_nothing(lookalike):
    """The true end is found, whatever the cutting; what goes on is mended (see tests/wire)."""
    rules = Rules(hostname="g", hold=HOLD, bare_newlines="normalise")
    raw = lookalike.encode().decode("unicode_escape").encode()
    body = b"one" + raw + b"two\r\n"
    for cut in range(len(raw) + 1):
        steps = rehearse(
            rules,
            b"HELO x\r\n",
            b"MAIL FROM:<a@b>\r\n",
            b"RCPT TO:<c@d>\r\n",
            b"DATA\r\n",
            body[: 3 + cut],
            body[3 + cut :] + b".\r\n",
        )
        content = b"".join(step.data for step in steps if isinstance(step, BodyData))
        assert content.startswith(b"one") and content.endswith(b"two\r\n")
        assert isinstance(steps[-1], BodyEnd)


# ------------------------------------------------------- floods and broken peers


def test_controls_in_arguments():
    for argument in ("<a\\0b@example.org>", "<a\\rb@example.org>", "<a\\x1b@example.org>"):
        play(
            SmtpEngine,
            OPEN + f"\nC>| MAIL FROM:{argument}\\r\\n\n!   Fault(client, control_in_argument)\n"
            ">C  501 5.5.2 Control character in argument\n",
            TLS,
        )


def test_eight_bit_addresses_need_smtputf8():
    play(
        SmtpEngine,
        OPEN + "\nC>  MAIL FROM:<ä@example.org>\n>C  553 5.6.7 SMTPUTF8 is required for this address\n",
        TLS,
    )


def test_a_bare_lf_ends_a_command_and_goes_on_as_crlf():
    play(
        SmtpEngine,
        OPEN + "\nC>| NOOP\\n\n!   Fault(client, bare_lf)\n>U  NOOP\n",
        TLS,
    )


def test_a_line_without_end():
    play(
        SmtpEngine,
        OPEN + f"\nC>| {'A' * 13000}\n!   Fault(client, line_too_long)\nC>  \n"
        ">C  500 5.5.2 Line too long\nC>  NOOP\n>U  NOOP\n",
        TLS,
        cuttings=("line by line",),
    )


def test_a_long_command_line_is_refused():
    play(SmtpEngine, OPEN + f"\nC>  MAIL FROM:<{'a' * 3000}@example.org>\n>C  500 5.5.2 Line too long\n", TLS)


def test_too_many_recipients():
    text = OPEN + "\nC>  MAIL FROM:<a@b>\n>U  MAIL FROM:<a@b>\nU>  250 ok\n>C  250 ok\n"
    text += "\nC>  RCPT TO:<1@b>\n>U  RCPT TO:<1@b>\nU>  250 ok\n>C  250 ok\n"
    text += "\nC>  RCPT TO:<2@b>\n!   Fault(client, too_many_recipients)\n>C  452 4.5.3 Too many recipients\n"
    play(SmtpEngine, text, Rules(hostname="gate.example", client_tls="starttls", max_recipients=1))


def test_endless_noop():
    text = OPEN + "\nC>  NOOP\n>U  NOOP\nU>  250 ok\n>C  250 ok\n" * 3
    text += (
        "\nC>  NOOP\n!   Fault(client, too_many_commands)\n>C  421 4.7.0 Too many errors\n!   Close(policy)\n"
    )
    play(SmtpEngine, text, Rules(hostname="gate.example", client_tls="starttls", max_junk_commands=4))


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        ("250-a\\r\\n251 b\\r\\n", "bad_reply"),
        ("hello\\r\\n", "bad_reply"),
        ("150 x\\r\\n", "bad_reply"),
        ("25\\r\\n", "bad_reply"),
        ("354 go on\\r\\n", "unexpected_reply"),
    ],
)
def test_replies_that_break_the_protocol(reply, fault):
    play(
        SmtpEngine,
        OPEN + f"\nC>  NOOP\n>U  NOOP\nU>| {reply}\n!   Fault(upstream, {fault})\n"
        ">C  421 4.3.0 Connection to the mail server lost, try again later\n!   Close(upstream_eof)\n",
        TLS,
    )


def test_a_reply_without_end():
    for reply in (
        "250 " + "x" * 5000,
        "250-" + "x" * 4000 + "\\r\\n" + ("250-" + "x" * 4000 + "\\r\\n") * 20,
    ):
        play(
            SmtpEngine,
            OPEN + f"\nC>  NOOP\n>U  NOOP\nU>| {reply}\n!   Fault(upstream, reply_too_long)\n"
            ">C  421 4.3.0 Connection to the mail server lost, try again later\n!   Close(upstream_eof)\n",
            TLS,
        )


def test_a_reply_that_nobody_asked_for():
    play(
        SmtpEngine,
        OPEN + "\nU>  250 surprise\n!   Fault(upstream, unexpected_reply)\n"
        ">C  421 4.3.0 Connection to the mail server lost, try again later\n!   Close(upstream_eof)\n",
        TLS,
    )
    play(SmtpEngine, OPEN + "\nU>  421 bye\n>C  421 bye\n!   Close(upstream_eof)\n", TLS)


def test_early_talkers_are_noted_and_answered_in_order():
    play(
        SmtpEngine,
        "\nC>  EHLO me\n!   Fault(client, early_talker)\n"
        "U>  220 mx\n>C  220 gate.example ESMTP\n>U  EHLO me\n",
        TLS,
    )


@pytest.mark.parametrize("when", ["", "\nC>  NOOP\n>U  NOOP\n"])
def test_the_upstream_dies_between_commands(when):
    play(
        SmtpEngine,
        OPEN + when + "\n? closed upstream\n"
        ">C  421 4.3.0 Connection to the mail server lost, try again later\n!   Close(upstream_eof)\n",
        TLS,
    )


def test_the_upstream_dies_behind_the_final_dot():
    """RFC 1047: never a 250 that is not the upstream's own."""
    play(
        SmtpEngine,
        HELD_OPEN
        + MAIL
        + """
C>  DATA
>C  354 End data with <CR><LF>.<CR><LF>
!   BodyStart(client, data, held)
C>  x
C>  .
!   body x|
!   BodyEnd(client)
?   pass
>U  DATA
U>  354 go
!   SendBody(upstream, dots)
?   sent
?   closed upstream
>C  451 4.4.2 Lost the mail server before its answer, try again later
!   Close(upstream_eof)
""",
        HELD,
    )


def test_the_client_dies_within_the_message():
    """Nothing is delivered."""
    play(
        SmtpEngine,
        HELD_OPEN
        + MAIL
        + """
C>  DATA
>C  354 End data with <CR><LF>.<CR><LF>
!   BodyStart(client, data, held)
C>| half
!   body half
?   closed client
!   BodyAbort(client)
!   Close(client_eof)
""",
        HELD,
        cuttings=("glued",),
    )


def test_a_client_that_ends_behind_quit_is_still_answered():
    play(
        SmtpEngine,
        OPEN + "\nC>  QUIT\n>U  QUIT\n? closed client\nU>  221 bye\n>C  221 bye\n!   Close(quit)\n",
        TLS,
    )


def test_the_upstream_is_kept_while_a_message_is_held():
    play(
        SmtpEngine,
        HELD_OPEN
        + MAIL
        + """
C>  DATA
>C  354 End data with <CR><LF>.<CR><LF>
!   BodyStart(client, data, held)
?   keep
>U  NOOP
U>  250 ok
C>  x
C>  .
!   body x|
!   BodyEnd(client)
?   keep
>U  NOOP
U>  250 ok
?   pass
>U  DATA
""",
        HELD,
    )


def test_the_shutdown_waits_for_the_message_in_flight():
    play(
        SmtpEngine,
        HELD_OPEN
        + MAIL
        + """
C>  DATA
>C  354 End data with <CR><LF>.<CR><LF>
!   BodyStart(client, data, held)
?   stop
C>  x
C>  .
!   body x|
!   BodyEnd(client)
?   pass
>U  DATA
U>  354 go
!   SendBody(upstream, dots)
?   sent
U>  250 ok
>C  250 ok
>C  421 4.3.2 Service shutting down, try again later
!   Close(shutdown)
""",
        HELD,
    )


@pytest.mark.parametrize(
    ("trouble", "reply", "reason"),
    [
        ("idle", "421 4.4.2 Timeout exceeded", "timeout"),
        ("shutdown", "421 4.3.2 Service shutting down, try again later", "shutdown"),
        ("upstream_timeout", "421 4.4.2 The mail server does not answer, try again later", "timeout"),
    ],
)
def test_trouble_is_told(trouble, reply, reason):
    play(SmtpEngine, OPEN + f"\n? fail {trouble}\n>C  {reply}\n!   Close({reason})\n", TLS)
