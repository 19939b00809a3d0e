"""Policies at the login: refused before the password where the protocol allows it, in its own words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.core.engine import Engine
from gateway.core.policy import Policy, PolicyBook, Users
from gateway.core.record import SessionRecord
from gateway.core.rules import Rules
from gateway.protocols.imap.engine import ImapEngine
from gateway.protocols.pop3.engine import Pop3Engine
from gateway.protocols.smtp.engine import SmtpEngine
from gateway.relay.gate import SessionGate
from tests.support.play import play


def behind(engine: type[Engine], *policies: Policy) -> Callable[[Rules, SessionRecord], Engine]:
    def make(rules: Rules, record: SessionRecord) -> Engine:
        record.protocol = engine.protocol
        made = engine(rules, record)
        made.gate = SessionGate(PolicyBook(policies), record, 1e9, made._emit)  # type: ignore[arg-type]
        return made

    return make


#: alice needs TLS; what others need is not said.
ALICE = Policy("alice", users=Users(["alice"]), login="tls", mode="enforce", text="See example.org")
#: Everybody may log in without TLS, but not by what shows the password.
HASHED = Policy("hashed", login="no-exposed-password", mode="enforce")
#: What follows AUTH at once is a fault of its own.
APART = ("line by line", "byte by byte")
TLS_RULES = Rules(hostname="gate.example", client_tls="starttls")

SMTP = """
U>  220 up ESMTP
>C  220 gate.example ESMTP
C>  EHLO me
>U  EHLO me
U>  250-up
U>  250 AUTH PLAIN LOGIN CRAM-MD5
"""
OFFER = """
>C  250-gate.example
>C  250-PIPELINING
>C  250-SIZE 104857600
>C  250 AUTH {names}
"""
SMTP_ALL = SMTP + OFFER.format(names="PLAIN LOGIN CRAM-MD5")


@pytest.mark.parametrize(
    ("said", "mechanism"),
    [
        ("PLAIN =", "PLAIN"),
        ("PLAIN AGFsaWNl AHMzY3JldA==", "PLAIN"),
        ("PLAIN AGFsaWNlAHMzY3JldA", "PLAIN"),
    ],
)
def test_what_a_server_may_read_otherwise_names_nobody(said: str, mechanism: str):
    """Dovecot skips blanks in an initial response."""
    play(
        behind(SmtpEngine, ALICE),
        SMTP_ALL
        + f"""
C>  AUTH {said}
>C  501 5.5.2 Cannot decode response
!   LoginSeen({mechanism}, , aborted)
""",
        cuttings=APART,
    )


@pytest.mark.parametrize(
    ("mechanism", "answer"), [("LOGIN", "YWxpY2U="), ("CRAM-MD5", "YWxpY2UgMDEyMzQ1Njc4OWFiY2RlZg==")]
)
def test_an_empty_initial_response_where_the_server_speaks_first_is_none(mechanism: str, answer: str):
    """mutt gives it; some servers take it for the user's name, others for nothing."""
    play(
        behind(SmtpEngine, ALICE),
        SMTP_ALL
        + f"""
C>  AUTH {mechanism} =
>U  AUTH {mechanism}
U>  334 eA==
>C  334 eA==
C>  {answer}
!   Fault(client, cleartext_login)
>U  *
U>  501 cancelled
!   LoginSeen({mechanism}, alice, policy)
>C  538 5.7.11 Encryption required for authentication. See example.org
""",
        cuttings=APART,
    )


def test_an_answer_that_is_no_base64_ends_the_exchange():
    play(
        behind(SmtpEngine, ALICE),
        SMTP_ALL
        + """
C>  AUTH LOGIN
>U  AUTH LOGIN
U>  334 VXNlcm5hbWU6
>C  334 VXNlcm5hbWU6
C>  YWxp Y2U=
>U  *
U>  501 cancelled
!   LoginSeen(LOGIN, , aborted)
>C  501 5.5.2 Cannot decode response
""",
        cuttings=APART,
    )


def test_who_is_not_named_is_taken_for_whom_it_is_strictest():
    play(
        behind(SmtpEngine, ALICE),
        SMTP_ALL
        + """
C>  AUTH LOGIN
>U  AUTH LOGIN
U>  334 VXNlcm5hbWU6
>C  334 VXNlcm5hbWU6
C>  =
!   Fault(client, cleartext_login)
>U  *
U>  501 cancelled
!   LoginSeen(LOGIN, , policy)
>C  538 5.7.11 Encryption required for authentication. See example.org
""",
        cuttings=APART,
    )


def test_smtp_refuses_a_user_before_the_password():
    play(
        behind(SmtpEngine, ALICE),
        SMTP_ALL
        + """
C>  AUTH LOGIN
>U  AUTH LOGIN
U>  334 VXNlcm5hbWU6
>C  334 VXNlcm5hbWU6
C>  YWxpY2U=
!   Fault(client, cleartext_login)
>U  *
U>  501 cancelled
!   LoginSeen(LOGIN, alice, policy)
>C  538 5.7.11 Encryption required for authentication. See example.org
C>  AUTH LOGIN Ym9i
>U  AUTH LOGIN Ym9i
U>  334 UGFzc3dvcmQ6
>C  334 UGFzc3dvcmQ6
""",
    )


def test_smtp_never_sends_on_what_came_with_the_command():
    play(
        behind(SmtpEngine, ALICE),
        SMTP_ALL
        + """
C>  AUTH PLAIN AGFsaWNlAHNlY3JldA==
!   Fault(client, cleartext_login)
>C  538 5.7.11 Encryption required for authentication. See example.org
!   LoginSeen(PLAIN, alice, policy)
C>  NOOP
>U  NOOP
""",
        cuttings=APART,
    )


def test_smtp_does_not_offer_what_nobody_may_use():
    play(
        behind(SmtpEngine, HASHED),
        SMTP
        + OFFER.format(names="CRAM-MD5")
        + """
C>  AUTH PLAIN AGFsaWNlAHNlY3JldA==
!   Fault(client, cleartext_login)
>C  538 5.7.11 Encryption required for authentication
!   LoginSeen(PLAIN, alice, policy)
C>  AUTH CRAM-MD5
>U  AUTH CRAM-MD5
""",
        cuttings=APART,
    )


def test_smtp_tells_a_user_who_is_warned():
    play(
        behind(SmtpEngine, Policy("w", login="tls", mode="warn", text="Turn on TLS")),
        SMTP_ALL
        + """
C>  AUTH PLAIN AGFsaWNlAHNlY3JldA==
>U  AUTH PLAIN AGFsaWNlAHNlY3JldA==
U>  235 welcome
!   LoginSeen(PLAIN, alice, ok)
>C  235 2.7.0 Authentication successful. Turn on TLS
""",
    )


def test_smtp_demands_tls_before_anything():
    play(
        behind(SmtpEngine, Policy("s", session="tls", mode="enforce")),
        SMTP.replace("AUTH PLAIN LOGIN CRAM-MD5", "HELP")
        + """
>C  250-gate.example
>C  250-PIPELINING
>C  250-SIZE 104857600
>C  250-STARTTLS
>C  250 HELP
C>  MAIL FROM:<a@example.org>
>C  530 5.7.0 Must issue a STARTTLS command first
C>  NOOP
>U  NOOP
""",
        TLS_RULES,
    )


POP3 = """
U>  +OK ready
>U  CAPA
U>| +OK\\r\\nUSER\\r\\nSASL PLAIN CRAM-MD5\\r\\nPIPELINING\\r\\n.\\r\\n
>C  +OK ready
"""


def test_pop3_refuses_a_user_before_the_password():
    play(
        behind(Pop3Engine, ALICE),
        POP3
        + """
C>  USER alice
!   Fault(client, cleartext_login)
>C  -ERR [AUTH] Must issue STLS first. See example.org
!   LoginSeen(USER, alice, policy)
C>  USER bob
>U  USER bob
U>  +OK
>C  +OK
C>  AUTH PLAIN
>U  AUTH PLAIN
U>| + \\r\\n
>C| + \\r\\n
C>  AGFsaWNlAHNlY3JldA==
!   Fault(client, cleartext_login)
>U  *
U>  -ERR cancelled
!   LoginSeen(PLAIN, alice, policy)
>C  -ERR [AUTH] Must issue STLS first. See example.org
C>  NOOP
>U  NOOP
""",
    )


def test_pop3_knows_whose_password_came_all_the_same():
    """mpop sends USER and PASS in one packet where PIPELINING is offered."""
    play(
        behind(Pop3Engine, ALICE),
        POP3
        + """
C>  USER bob
>U  USER bob
U>  +OK
>C  +OK
C>| USER alice\\r\\nPASS secret\\r\\n
!   Fault(client, cleartext_login)
>C  -ERR [AUTH] Must issue STLS first. See example.org
!   LoginSeen(USER, alice, policy)
!   Fault(client, cleartext_login)
>C  -ERR [AUTH] Must issue STLS first. See example.org
!   LoginSeen(USER, alice, policy)
C>  USER bob
>U  USER bob
U>  +OK
>C  +OK
""",
    )


def test_pop3_hides_what_nobody_may_use():
    play(
        behind(Pop3Engine, HASHED),
        POP3
        + """
C>  CAPA
>U  CAPA
U>| +OK\\r\\nUSER\\r\\nSASL PLAIN CRAM-MD5\\r\\n.\\r\\n
>C| +OK\\r\\nSASL CRAM-MD5\\r\\nPIPELINING\\r\\n.\\r\\n
C>  APOP alice c4c9334bac560ecc979e58001b3e22fb
>U  APOP alice c4c9334bac560ecc979e58001b3e22fb
U>  +OK
!   LoginSeen(APOP, alice, ok)
>C  +OK
""",
    )


def test_pop3_tells_a_user_who_is_warned():
    play(
        behind(Pop3Engine, Policy("w", login="tls", mode="warn")),
        POP3
        + """
C>  USER alice
>U  USER alice
U>  +OK
>C  +OK
C>  PASS secret
>U  PASS secret
U>  +OK 3 messages
!   LoginSeen(USER, alice, ok)
>C  +OK Logged in. This login had no TLS and will be refused soon: turn on TLS in your mail program
""",
    )


IMAP = """
U>  * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN AUTH=CRAM-MD5] ready
>C  * OK [CAPABILITY IMAP4rev1 LITERAL+ AUTH=PLAIN AUTH=CRAM-MD5] ready
"""


def test_imap_refuses_a_user():
    play(
        behind(ImapEngine, ALICE),
        IMAP
        + """
C>  a LOGIN alice secret
!   Fault(client, cleartext_login)
!   LoginSeen(LOGIN, alice, policy)
>C  a NO [PRIVACYREQUIRED] Must issue STARTTLS first. See example.org
C>  b AUTHENTICATE PLAIN
>U  b AUTHENTICATE PLAIN
U>| + \\r\\n
>C| + \\r\\n
C>  AGFsaWNlAHNlY3JldA==
!   Fault(client, cleartext_login)
>U  *
U>  b BAD cancelled
!   LoginSeen(PLAIN, alice, policy)
>C  b NO [PRIVACYREQUIRED] Must issue STARTTLS first. See example.org
C>  c LOGIN bob secret
>U  c LOGIN bob secret
""",
    )


def test_imap_refuses_a_user_whose_name_is_a_literal_before_the_password():
    play(
        behind(ImapEngine, ALICE),
        IMAP
        + """
C>  a LOGIN {5}
>U  a LOGIN {5}
U>  + go
>C  + go
C>| alice {6}\\r\\n
>U| alice
!   Fault(client, cleartext_login)
!   LoginSeen(LOGIN, alice, policy)
>C  a NO [PRIVACYREQUIRED] Must issue STARTTLS first. See example.org
!   Close(policy)
""",
    )


def test_imap_disables_logins_that_nobody_may_use():
    play(
        behind(ImapEngine, HASHED),
        """
U>  * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN AUTH=CRAM-MD5] ready
>C  * OK [CAPABILITY IMAP4rev1 LITERAL+ LOGINDISABLED AUTH=CRAM-MD5] ready
C>  a LOGIN bob secret
!   Fault(client, cleartext_login)
!   LoginSeen(LOGIN, bob, policy)
>C  a NO [PRIVACYREQUIRED] Must issue STARTTLS first
""",
    )


def test_imap_tells_a_user_who_is_warned():
    play(
        behind(ImapEngine, Policy("w", login="tls", mode="warn", text="Turn on TLS")),
        IMAP
        + """
C>  a LOGIN bob secret
>U  a LOGIN bob secret
U>  a OK done
>C  * OK [ALERT] Turn on TLS
!   LoginSeen(LOGIN, bob, ok)
>C  a OK done
""",
    )


def test_a_policy_that_monitors_changes_nothing():
    play(
        behind(ImapEngine, Policy("m", login="tls", session="tls", mode="monitor")),
        IMAP + "C>  a LOGIN bob secret\n>U  a LOGIN bob secret\nU>  a OK done\n>C  a OK done\n",
    )


@pytest.mark.parametrize("verb", ["SELECT INBOX", "XYZ", "LIST x y"])
def test_imap_demands_tls_before_anything(verb):
    play(
        behind(ImapEngine, Policy("s", session="tls", mode="enforce")),
        """
U>  * OK [CAPABILITY IMAP4rev1] ready
>C  * OK [CAPABILITY IMAP4rev1 LITERAL+ STARTTLS LOGINDISABLED] ready
"""
        + f"""
C>  a {verb}
>C  a NO [PRIVACYREQUIRED] Must issue STARTTLS first
C>  b ID NIL
>U  b ID NIL
""",
        TLS_RULES,
    )
