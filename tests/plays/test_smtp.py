"""SMTP by the tables: the prologue, capabilities, replies in order, messages held and streamed."""

from __future__ import annotations

import pytest

from gateway.core.rules import Rules
from gateway.core.steps import Stage
from gateway.protocols.smtp import LmtpEngine, SmtpEngine
from tests.support.play import play

HOLD = frozenset({Stage.DATA})
HELD = Rules(hostname="gate.example", hold=HOLD)
PLAIN = Rules(hostname="gate.example")

GREETED = """
U>  220 mx.example ESMTP Postfix
>C  220 gate.example ESMTP
C>  EHLO me.example
>U  EHLO me.example
U>  250-mx.example
U>  250-PIPELINING
U>  250-SIZE 10240000
U>  250 8BITMIME
>C  250-gate.example
>C  250-PIPELINING
>C  250-SIZE 10240000
"""
HELD_GREETED = (
    GREETED
    + """
>C  250-CHUNKING
>C  250 8BITMIME
"""
)
PLAIN_GREETED = (
    GREETED
    + """
>C  250 8BITMIME
"""
)
CHUNKING_GREETED = HELD_GREETED.replace("U>  250-SIZE", "U>  250-CHUNKING\nU>  250-SIZE")
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
DATA = """
C>  DATA
>C  354 End data with <CR><LF>.<CR><LF>
!   BodyStart(client, data, held)
C>  Subject: x
C>
C>  ..dot
C>  .
!   body Subject: x||.dot|
!   BodyEnd(client)
"""


def test_held_message_goes_on_only_after_the_verdict():
    """The upstream hears DATA only once the pipeline has passed the message."""
    play(
        SmtpEngine,
        HELD_GREETED
        + MAIL
        + DATA
        + """
?   pass
>U  DATA
U>  354 go
!   SendBody(upstream, dots)
?   sent
U>  250 2.0.0 queued as 1
>C  250 2.0.0 queued as 1
C>  QUIT
>U  QUIT
U>  221 bye
>C  221 bye
!   Close(quit)
""",
        HELD,
    )


def test_bdat_upstream_where_it_takes_that():
    """RFC 3030: one BDAT LAST, counted, without a round trip for 354."""
    play(
        SmtpEngine,
        CHUNKING_GREETED
        + MAIL
        + DATA
        + """
?   pass
>U| BDAT 20 LAST\\r\\n
!   SendBody(upstream, raw)
?   sent
U>  250 2.0.0 queued
>C  250 2.0.0 queued
""",
        HELD,
    )


@pytest.mark.parametrize(
    ("verdict", "reply"),
    [
        ("reject no macros here", "550 5.7.1 no macros here"),
        ("quarantine held", "550 5.7.1 held"),
        ("quarantine held accept", "250 2.0.0 Ok"),
        ("discard x accept", "250 2.0.0 Ok"),
        ("defer Scanner down", "451 4.7.1 Scanner down"),
    ],
)
def test_a_stopped_message_never_reaches_the_upstream(verdict, reply):
    """The client hears the verdict; the upstream only that the envelope is void."""
    play(
        SmtpEngine,
        HELD_GREETED
        + MAIL
        + DATA
        + f"""
?   {verdict}
>C  {reply}
>U  RSET
U>  250 flushed
C>  NOOP
>U  NOOP
U>  250 ok
>C  250 ok
""",
        HELD,
    )


def test_the_upstreams_refusal_of_data_is_the_clients_final_reply():
    play(
        SmtpEngine,
        HELD_GREETED
        + MAIL
        + DATA
        + """
?   pass
>U  DATA
U>  452 4.3.1 no space
!   BodyAbort(client)
>C  452 4.3.1 no space
>U  RSET
U>  250 ok
""",
        HELD,
    )


@pytest.mark.parametrize("final", ["554 5.7.1 spam", "451 4.3.0 later", "250 2.0.0 ok"])
def test_the_final_reply_is_the_upstreams_own(final):
    play(
        SmtpEngine,
        HELD_GREETED
        + MAIL
        + DATA
        + f"""
?   pass
>U  DATA
U>  354 go
!   SendBody(upstream, dots)
?   sent
U>  {final}
>C  {final}
""",
        HELD,
    )


def test_mail_rcpt_rcpt_data_in_one_packet():
    """RFC 2920: replies leave in the order of the commands; our 354 waits for its turn."""
    play(
        SmtpEngine,
        HELD_GREETED
        + """
C>  MAIL FROM:<a@example.org>
C>  RCPT TO:<b@example.org>
C>  RCPT TO:<c@example.org>
C>  DATA
>U  MAIL FROM:<a@example.org>
>U  RCPT TO:<b@example.org>
>U  RCPT TO:<c@example.org>
U>  250 2.1.0 Ok
>C  250 2.1.0 Ok
U>  550 5.1.1 unknown
>C  550 5.1.1 unknown
U>  250 2.1.5 Ok
>C  250 2.1.5 Ok
>C  354 End data with <CR><LF>.<CR><LF>
!   BodyStart(client, data, held)
""",
        HELD,
    )


def test_data_without_a_valid_recipient():
    play(
        SmtpEngine,
        HELD_GREETED
        + """
C>  MAIL FROM:<a@example.org>
C>  RCPT TO:<b@example.org>
C>  DATA
>U  MAIL FROM:<a@example.org>
>U  RCPT TO:<b@example.org>
U>  250 2.1.0 Ok
>C  250 2.1.0 Ok
U>  550 5.1.1 unknown
>C  550 5.1.1 unknown
>C  554 5.5.1 No valid recipients
""",
        HELD,
    )


def test_an_upstream_without_pipelining_gets_one_command_at_a_time():
    """OpenSMTPD answers early data with 500: what is not offered is not done."""
    play(
        SmtpEngine,
        """
U>  220 mx.example ESMTP
>C  220 gate.example ESMTP
C>  EHLO me
>U  EHLO me
U>  250 mx.example
>C  250-gate.example
>C  250-PIPELINING
>C  250 SIZE 104857600
C>  MAIL FROM:<a@example.org>
C>  RCPT TO:<b@example.org>
>U  MAIL FROM:<a@example.org>
U>  250 ok
>C  250 ok
>U  RCPT TO:<b@example.org>
U>  250 ok
>C  250 ok
""",
        PLAIN,
    )


def test_commands_behind_the_end_of_data_are_answered_in_order():
    play(
        SmtpEngine,
        HELD_GREETED
        + MAIL
        + """
C>  DATA
>C  354 End data with <CR><LF>.<CR><LF>
!   BodyStart(client, data, held)
C>  x
C>  .
C>  NOOP
!   body x|
!   BodyEnd(client)
?   pass
>U  DATA
U>  354 go
!   SendBody(upstream, dots)
?   sent
U>  250 ok
>C  250 ok
>U  NOOP
U>  250 noop
>C  250 noop
""",
        HELD,
    )


def test_a_streamed_message_waits_for_the_upstreams_354():
    play(
        SmtpEngine,
        PLAIN_GREETED
        + MAIL
        + """
C>  DATA
>U  DATA
U>  354 go ahead
>C  354 go ahead
!   BodyStart(client, data, passing)
C>| x\\r\\n..y\\r\\n.\\r\\n
!   body x|.y|
>U| x\\r\\n..y\\r\\n.\\r\\n
!   BodyEnd(client)
U>  250 ok
>C  250 ok
""",
        PLAIN,
        cuttings=("glued",),  # content and wire bytes interleave differently when cut smaller
    )


# ------------------------------------------------------------------- capabilities


def test_capabilities_are_an_allow_list():
    play(
        SmtpEngine,
        """
U>  220 mx.example
>C  220 gate.example ESMTP
C>  EHLO me
>U  EHLO me
U>  250-mx.example Hello
U>  250-SIZE 1000
U>  250-X-EXPS GSSAPI
U>  250-XCLIENT NAME ADDR
U>  250-PRDR
U>  250-BURL imap
U>  250-DSN
U>  250-ETRN
U>  250-VRFY
U>  250-BINARYMIME
U>  250-CHUNKING
U>  250-AUTH PLAIN LOGIN GSSAPI NTLM EXTERNAL SCRAM-SHA-1 SCRAM-SHA-256 SCRAM-SHA-256-PLUS
U>  250-AUTH=PLAIN LOGIN
U>  250-STARTTLS
U>  250 FUTURE
!   ExtensionStruck(X-EXPS GSSAPI)
!   ExtensionStruck(XCLIENT NAME ADDR)
!   ExtensionStruck(PRDR)
!   ExtensionStruck(BURL imap)
!   ExtensionStruck(ETRN)
!   ExtensionStruck(VRFY)
!   ExtensionStruck(BINARYMIME)
!   ExtensionStruck(FUTURE)
!   ExtensionStruck(AUTH GSSAPI)
!   ExtensionStruck(AUTH NTLM)
!   ExtensionStruck(AUTH EXTERNAL)
!   ExtensionStruck(AUTH SCRAM-SHA-256)
!   ExtensionStruck(AUTH SCRAM-SHA-256-PLUS)
>C  250-gate.example
>C  250-PIPELINING
>C  250-SIZE 1000
>C  250-AUTH PLAIN LOGIN SCRAM-SHA-1
>C  250-CHUNKING
>C  250 DSN
""",
        HELD,
    )


@pytest.mark.parametrize(
    "command", ["XCLIENT ADDR=1.2.3.4", "XFORWARD NAME=x", "ETRN x", "TURN", "BURL x LAST", "ATRN"]
)
def test_struck_commands_are_refused_and_never_relayed(command):
    verb = command.split()[0]
    play(
        SmtpEngine,
        HELD_GREETED
        + f"""
C>  {command}
!   Fault(client, struck_extension_used)
!   Refused({verb}, struck)
>C  502 5.5.1 Command not implemented
""",
        HELD,
    )


@pytest.mark.parametrize("command", ["SEND FROM:<a@b>", "SOML FROM:<a@b>", "SAML FROM:<a@b>", "EXPN list"])
def test_obsolete_commands_are_refused_by_default(command):
    play(SmtpEngine, HELD_GREETED + f"\nC>  {command}\n>C  502 5.5.1 Command not implemented\n", HELD)


def test_obsolete_commands_pass_where_the_listener_allows_them():
    play(
        SmtpEngine,
        PLAIN_GREETED
        + """
C>  SOML FROM:<a@example.org>
>U  SOML FROM:<a@example.org>
U>  250 ok
>C  250 ok
""",
        Rules(hostname="gate.example", obsolete_commands=True),
    )


def test_vrfy_tells_nothing_by_default():
    play(
        SmtpEngine,
        HELD_GREETED + "\nC>  VRFY root\n>C  252 2.5.2 Cannot VRFY user, but will accept message\n",
        HELD,
    )


def test_parameters_of_struck_extensions_are_refused():
    play(
        SmtpEngine,
        PLAIN_GREETED.replace("U>  250 8BITMIME", "U>  250-FUTURERELEASE 1 2\nU>  250 8BITMIME")
        + "\nC>  MAIL FROM:<a@b> HOLDFOR=3\n>C  555 5.5.4 Unsupported parameter HOLDFOR\n",
        PLAIN,
    )


def test_auth_parameter_of_a_stranger_is_not_believed():
    """RFC 4954 5: MAIL AUTH= is for trusted clients."""
    play(
        SmtpEngine,
        PLAIN_GREETED
        + """
C>  MAIL FROM:<a@example.org> AUTH=<> SIZE=10
>U  MAIL FROM:<a@example.org> SIZE=10
""",
        PLAIN,
    )


def test_size_of_a_held_message_is_not_sent_as_the_old_one():
    play(
        SmtpEngine,
        HELD_GREETED
        + """
C>  MAIL FROM:<a@example.org> BODY=8BITMIME SIZE=10
>U  MAIL FROM:<a@example.org> BODY=8BITMIME
""",
        HELD,
    )


def test_size_over_the_limit_is_refused_at_once():
    """RFC 1870 6.1."""
    play(
        SmtpEngine,
        HELD_GREETED
        + """
C>  MAIL FROM:<a@example.org> SIZE=10240001
>C  552 5.3.4 Message size exceeds fixed limit
""",
        HELD,
    )


def test_a_message_over_the_limit_is_read_to_its_end_then_refused():
    play(
        SmtpEngine,
        HELD_GREETED.replace("10240000", "10")
        + MAIL
        + """
C>  DATA
>C  354 End data with <CR><LF>.<CR><LF>
!   BodyStart(client, data, held)
C>  0123456789
C>  more
C>  .
!   Fault(client, message_too_large)
!   BodyAbort(client)
>C  552 5.3.4 Message size exceeds fixed limit
>U  RSET
U>  250 ok
""",
        HELD,
        cuttings=("glued",),  # how much was taken before the limit depends on the cutting
    )


# --------------------------------------------------------------------------- BDAT


def test_bdat_is_taken_whenever_it_is_offered():
    """RFC 3030: chunks are gathered, the upstream gets DATA if it has no CHUNKING."""
    play(
        SmtpEngine,
        HELD_GREETED
        + MAIL
        + """
C>  BDAT 5
!   BodyStart(client, data, held)
C>| abc\\r\\n
!   body abc|
>C  250 2.0.0 5 octets received
C>  BDAT 3 LAST
C>| .\\r\\n
!   body .|
!   BodyEnd(client)
?   pass
>U  DATA
U>  354 go
!   SendBody(upstream, dots)
?   sent
U>  250 ok
>C  250 ok
""",
        HELD,
    )


def test_bdat_0_last_ends_a_message():
    play(
        SmtpEngine,
        CHUNKING_GREETED
        + MAIL
        + """
C>  BDAT 3
!   BodyStart(client, data, held)
C>| a\\r\\n
!   body a|
>C  250 2.0.0 3 octets received
C>  BDAT 0 LAST
!   BodyEnd(client)
?   pass
>U  BDAT 3 LAST
!   SendBody(upstream, raw)
""",
        HELD,
    )


def test_a_refused_chunk_is_read_and_thrown_away():
    """Octets of a chunk are never read as commands."""
    play(
        SmtpEngine,
        HELD_GREETED
        + """
C>  BDAT 6 LAST
C>| QUIT\\r\\n
>C  503 5.5.1 Need MAIL command
C>  NOOP
>U  NOOP
""",
        HELD,
    )


def test_bdat_where_it_was_not_offered():
    play(
        SmtpEngine,
        PLAIN_GREETED
        + MAIL
        + """
C>  BDAT 6 LAST
C>| QUIT\\r\\n
!   Fault(client, struck_extension_used)
>C  502 5.5.1 Command not implemented
""",
        PLAIN,
    )


@pytest.mark.parametrize("argument", ["-1", "x", "1 2", "1 FIRST", "", "0x10"])
def test_bdat_sizes_that_lie(argument):
    play(
        SmtpEngine,
        HELD_GREETED + MAIL + f"\nC>  BDAT {argument}\n>C  501 5.5.4 Syntax: BDAT size [LAST]\n",
        HELD,
    )


def test_bdat_size_beyond_measure_ends_the_session():
    play(
        SmtpEngine,
        HELD_GREETED
        + MAIL
        + """
C>  BDAT 99999999999999999999
!   Fault(client, bad_chunk)
>C  552 5.3.4 Chunk too large
!   Close(protocol_error)
""",
        HELD,
    )


def test_data_behind_bdat_is_refused():
    play(
        SmtpEngine,
        HELD_GREETED
        + MAIL
        + """
C>  BDAT 2
!   BodyStart(client, data, held)
C>| \\r\\n
!   body |
>C  250 2.0.0 2 octets received
C>  DATA
>C  503 5.5.1 DATA behind BDAT
""",
        HELD,
    )


# --------------------------------------------------------------------------- LMTP


def test_lmtp_answers_once_for_each_accepted_recipient():
    """RFC 2033 4.2."""
    play(
        LmtpEngine,
        HELD_GREETED.replace("EHLO", "LHLO").replace("gate.example ESMTP", "gate.example LMTP")
        + MAIL
        + """
C>  RCPT TO:<c@example.org>
>U  RCPT TO:<c@example.org>
U>  250 2.1.5 Ok
>C  250 2.1.5 Ok
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
U>  250 2.0.0 b ok
>C  250 2.0.0 b ok
U>  452 4.2.2 c over quota
>C  452 4.2.2 c over quota
""",
        HELD,
    )


def test_lmtp_refusal_speaks_for_each_recipient():
    play(
        LmtpEngine,
        HELD_GREETED.replace("EHLO", "LHLO").replace("gate.example ESMTP", "gate.example LMTP")
        + MAIL
        + """
C>  RCPT TO:<c@example.org>
>U  RCPT TO:<c@example.org>
U>  250 2.1.5 Ok
>C  250 2.1.5 Ok
C>  DATA
>C  354 End data with <CR><LF>.<CR><LF>
!   BodyStart(client, data, held)
C>  x
C>  .
!   body x|
!   BodyEnd(client)
?   reject no
>C  550 5.7.1 no
>C  550 5.7.1 no
>U  RSET
""",
        HELD,
    )


def test_lmtp_knows_no_ehlo():
    play(
        LmtpEngine,
        "U>  220 x LMTP\n>C  220 gate.example LMTP\nC>  EHLO me\n>C  500 5.5.1 Command unrecognized\n",
        HELD,
    )


# ---------------------------------------------------------------- odds and ends


def test_smtp_sinks_empty_last_line():
    """smtp-sink ends its EHLO reply with an empty ``250 `` line."""
    play(
        SmtpEngine,
        """
U>  220 sink
>C  220 gate.example ESMTP
C>  EHLO me
>U  EHLO me
U>  250-sink
U>  250-PIPELINING
U>| 250 \\r\\n
>C  250-gate.example
>C  250-PIPELINING
>C  250 SIZE 104857600
""",
        PLAIN,
    )


def test_helo_is_relayed_and_knows_no_extensions():
    play(
        SmtpEngine,
        """
U>  220 mx
>C  220 gate.example ESMTP
C>  helo me
>U  HELO me
U>  250 mx Hello
>C  250 gate.example
""",
        PLAIN,
    )


def test_an_upstream_that_greets_with_554():
    play(
        SmtpEngine,
        """
U>  554 no service
>C  421 gate.example Service not available, try again later
!   Close(upstream_unreachable)
""",
        PLAIN,
    )


def test_unknown_verbs_are_relayed_then_refused_then_the_session_ends():
    text = PLAIN_GREETED
    for _ in range(2):
        text += "\nC>  XNEW a\n>U  XNEW a\nU>  500 what\n>C  500 what\n"
    for _ in range(2):
        text += "\nC>  XNEW a\n>C  500 5.5.2 Command unrecognized\n"
    text += (
        "\nC>  XNEW a\n>C  500 5.5.2 Command unrecognized\n>C  421 4.7.0 Too many errors\n!   Close(policy)\n"
    )
    play(SmtpEngine, text, Rules(hostname="gate.example", max_unknown_commands=2, max_errors=2))


def test_a_second_ehlo_resets_the_transaction():
    """RFC 5321 4.1.4."""
    play(
        SmtpEngine,
        HELD_GREETED
        + MAIL
        + HELD_GREETED[HELD_GREETED.index("C>  EHLO") :]
        + "\nC>  DATA\n>C  503 5.5.1 Need MAIL command\n",
        HELD,
    )


def test_own_trouble_is_worded():
    play(
        SmtpEngine,
        "? open\n!   Connect()\n?   unreachable upstream_down\n"
        ">C  421 gate.example Service not available, try again later\n!   Close(upstream_unreachable)\n",
        PLAIN,
    )


def test_a_size_is_kept_from_an_upstream_that_does_not_know_it():
    """SIZE is the gateway's own offer (RFC 1870)."""
    play(
        SmtpEngine,
        """
U>  220 mx ESMTP
>C  220 gate.example ESMTP
C>  EHLO me
>U  EHLO me
U>  250 mx
>C  250-gate.example
>C  250-PIPELINING
>C  250 SIZE 104857600
C>  MAIL FROM:<a@example.org> SIZE=100
>U  MAIL FROM:<a@example.org>
""",
        Rules(hostname="gate.example", banner="ESMTP"),
    )
