"""No line of the log holds a secret, whatever the client says and the server answers.

The server of these talks quotes whatever it was told: some do ("500 unrecognized: ...").
"""

from __future__ import annotations

import pytest

from gateway.core.facts import SessionOpened
from gateway.core.steps import ORDERS
from gateway.observe.audit import AuditSink
from gateway.observe.command_log import CommandLog
from gateway.observe.hub import Hub
from gateway.observe.transcript import Choice, Transcripts
from gateway.protocols.registry import ENGINES

from .sample import NOW, Kept
from .talk import Talk
from .test_transcript import CLEAR, PLAIN, SECRET, TALKS, b64, forms, record

AUTH = b"EHLO me\r\n"
LOGIN = [b64(b"alice") + b"\r\n", b64(SECRET) + b"\r\n", b64(SECRET) + b"\r\n"]

#: Logins as no client should write them, but some do.
ODD: dict[str, tuple[str, list[bytes]]] = {
    "smtp tabs": ("smtp", [AUTH, b"AUTH\tPLAIN\t" + PLAIN + b"\r\n"]),
    "smtp leading blank": ("smtp", [AUTH, b" AUTH PLAIN " + PLAIN + b"\r\n"]),
    "smtp control": ("smtp", [AUTH, b"AUTH PLAIN \x01" + PLAIN + b"\r\n"]),
    "smtp three words": ("smtp", [AUTH, b"AUTH PLAIN = " + PLAIN + b"\r\n"]),
    "smtp no verb": ("smtp", [AUTH, PLAIN + b"\r\n", SECRET + b"\r\n"]),
    "pop3 tab": ("pop3", [b"PASS\t" + SECRET + b"\r\n"]),
    "pop3 leading blank": ("pop3", [b" PASS " + SECRET + b"\r\n"]),
    "pop3 APOP": ("pop3", [b"APOP alice " + CLEAR[0] + b"\r\n"]),
    "pop3 PASS without USER": ("pop3", [b"PASS " + SECRET + b"\r\n"]),
    "pop3 goes on": ("pop3", [b"AUTH LOGIN\r\n", *LOGIN]),
    "pop3 unknown mechanism": ("pop3", [b"AUTH X-NEW\r\n", PLAIN + b"\r\n"]),
    "imap tab": ("imap", [b"a1 LOGIN\talice " + CLEAR[0] + b"\r\n"]),
    "imap two blanks": ("imap", [b"a1  LOGIN alice " + CLEAR[0] + b"\r\n"]),
    "imap no tag": ("imap", [b"LOGIN alice " + CLEAR[0] + b"\r\n"]),
    "imap three arguments": ("imap", [b"a1 LOGIN alice " + SECRET + b"\r\n"]),
    "imap goes on": ("imap", [b"a1 AUTHENTICATE LOGIN\r\n", *LOGIN]),
    "imap unknown mechanism": ("imap", [b"a1 AUTHENTICATE X-NEW\r\n", PLAIN + b"\r\n"]),
}


@pytest.mark.parametrize("name", [*TALKS, *ODD])
def test_no_log_line_holds_a_secret(name: str) -> None:
    protocol, said = (TALKS | ODD)[name]
    lines = Kept()
    audit = AuditSink([lambda kept: lines.append(repr(kept))])
    hub = Hub([CommandLog(lines, level="debug"), audit])
    about = record(protocol)
    hub.publish(about, SessionOpened(), NOW)
    talk = Talk(
        ENGINES[protocol],
        Transcripts([]),
        about,
        watch=lambda step: None if isinstance(step, ORDERS) else hub.publish(about, step, NOW),
    )
    for octets in said:
        talk.say(octets)
    talk.end()
    assert len(lines) > 1
    for line in lines:
        for secret in (SECRET, *CLEAR):
            for form in forms(secret):
                assert len(form) < 4 or form not in line, line


def test_the_transcript_of_an_odd_login_holds_none_either(tmp_path_factory: pytest.TempPathFactory) -> None:
    for name, (protocol, said) in ODD.items():
        folder = tmp_path_factory.mktemp("plays")
        talk = Talk(ENGINES[protocol], Transcripts([Choice(folder)]), record(protocol))
        for octets in said:
            talk.say(octets)
        talk.end()
        [path] = folder.iterdir()
        text = path.read_text()
        for secret in (SECRET, *CLEAR):
            assert all(form not in text for form in forms(secret) if len(form) > 3), name
