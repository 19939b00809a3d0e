"""No login may begin: each protocol says so in its temporary words, and asks the server nothing."""

from __future__ import annotations

import pytest

from gateway.core.engine import Engine
from gateway.core.gate import Need
from gateway.core.policy import PolicyBook
from gateway.core.record import SessionRecord
from gateway.core.rules import Rules
from gateway.protocols.imap import ImapEngine
from gateway.protocols.pop3 import Pop3Engine
from gateway.protocols.smtp import SmtpEngine
from gateway.relay.gate import SessionGate
from tests.support.play import play

RULES = Rules(hostname="gate.example", client_tls="starttls")

POP3 = """
U>  +OK ready <1896.697170952@mx.example>
>U  CAPA
U>  +OK
U>  USER
U>  SASL PLAIN
U>  .
>C  +OK ready <1896.697170952@mx.example>
"""
IMAP = """
U>  * OK [CAPABILITY IMAP4rev1 LITERAL+ SASL-IR AUTH=PLAIN] ready
>C  * OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL+ STARTTLS AUTH=PLAIN] ready
"""


def closed(kind: type[Engine]):
    def make(rules: Rules, record: SessionRecord) -> Engine:
        engine = kind(rules, record)
        engine.gate = SessionGate(PolicyBook(()), record, 0.0, engine._emit, lambda *_: Need.AUDIT)
        return engine

    make.protocol = kind.protocol  # type: ignore[attr-defined]
    return make


@pytest.mark.parametrize("more", ["", " AGFsaWNlAHNlY3JldA=="])
def test_smtp(more: str):
    play(
        closed(SmtpEngine),
        f"""
U>  220 mx.example ESMTP
>C  220 gate.example ESMTP
C>  EHLO pc
>U  EHLO pc
U>  250-mx.example
U>  250 AUTH PLAIN
>C  250-gate.example
>C  250-PIPELINING
>C  250-SIZE 104857600
>C  250-STARTTLS
>C  250 AUTH PLAIN
C>  AUTH PLAIN{more}
>C  454 4.7.0 Temporary authentication failure
!   LoginSeen(PLAIN, {"alice" if more else ""}, error)
""",
        RULES,
    )


@pytest.mark.parametrize(
    ("line", "login"),
    [
        ("PASS secret", "LoginSeen(USER, alice, error)"),
        ("APOP alice c4c9334bac560ecc979e58001b3e22fb", "LoginSeen(APOP, alice, error)"),
        ("AUTH PLAIN AGFsaWNlAHNlY3JldA==", "LoginSeen(PLAIN, alice, error)"),
    ],
)
def test_pop3(line: str, login: str):
    play(
        closed(Pop3Engine),
        POP3
        + f"""
C>  USER alice
>C  -ERR [SYS/TEMP] Logins are not possible now, try again later
!   LoginSeen(USER, alice, error)
C>  {line}
>C  -ERR [SYS/TEMP] Logins are not possible now, try again later
!   {login}
""",
        RULES,
    )


@pytest.mark.parametrize(
    ("line", "login"),
    [
        ("LOGIN alice secret", "LoginSeen(LOGIN, alice, error)"),
        ("AUTHENTICATE PLAIN AGFsaWNlAHNlY3JldA==", "LoginSeen(PLAIN, alice, error)"),
        ("AUTHENTICATE PLAIN", "LoginSeen(PLAIN, , error)"),
    ],
)
def test_imap(line: str, login: str):
    play(
        closed(ImapEngine),
        IMAP
        + f"""
C>  a {line}
!   {login}
>C  a NO [UNAVAILABLE] Logins are not possible now, try again later
C>  b NOOP
>U  b NOOP
U>  b OK done
>C  b OK done
""",
        RULES,
    )


def test_an_imap_literal_is_thrown_away():
    play(
        closed(ImapEngine),
        IMAP
        + """
C>  a LOGIN alice {6+}
C>  secret
!   LoginSeen(LOGIN, alice, error)
>C  a NO [UNAVAILABLE] Logins are not possible now, try again later
C>  b NOOP
>U  b NOOP
""",
        RULES,
    )
