"""The audit's sink: what a record holds of a login, an event, a program; and what it costs."""

from __future__ import annotations

import pytest

from gateway.audit.record import AuditRecord, EventRecord, LoginRecord, ProgramRecord
from gateway.core.facts import EventKind, SecurityEvent
from gateway.core.steps import ClientNamed, LoginSeen
from gateway.observe.audit import AuditSink, normal_user, reply_code
from gateway.observe.hub import Hub

from .sample import NOW, TLS, publish, record


def made(*facts, about=None) -> list[AuditRecord]:
    kept: list[AuditRecord] = []
    publish(Hub([AuditSink([kept.append])]), about or record(), *facts)
    return kept


def test_a_login_is_kept_whole() -> None:
    about = record(client_tls=TLS, client_name="pc", client_program="K-9")
    login = LoginSeen("PLAIN", " Alice@Example.ORG ", "failed", True, True, "NO [AUTHENTICATIONFAILED] no")
    (kept,) = made(login, about=about)
    assert isinstance(kept, LoginRecord)
    assert kept == LoginRecord(
        time=int(NOW * 1e6),
        session="0123456789ab",
        protocol="imap",
        listener="imap-in",
        address="192.0.2.7",
        network="192.0.2.0/24",
        user_given=" Alice@Example.ORG ",
        user="alice@example.org",
        mechanism="PLAIN",
        protection="tls",
        tls_version="TLSv1.3",
        tls_cipher="TLS_AES_128_GCM_SHA256",
        tls_group="X25519",
        tls_sni="imap.example.org",
        tls_client="",
        ja4="",
        exposed=False,
        outcome="failed",
        code="NO [AUTHENTICATIONFAILED]",
        client_name="pc",
        client_program="K-9",
        upstream="dovecot",
        policy="",
        judgement="",
    )


@pytest.mark.parametrize(
    ("reveals", "sent", "about", "exposed"),
    [
        (True, True, {}, True),
        (True, False, {}, False),
        (False, True, {}, False),
        (True, True, {"client_tls": TLS}, False),
        (True, True, {"trusted_network": True}, False),
        (True, True, {"tls_in_front": True}, False),
    ],
)
def test_an_exposed_password(reveals: bool, sent: bool, about: dict, exposed: bool) -> None:
    (kept,) = made(LoginSeen("PLAIN", "alice", "ok", reveals, sent), about=record(**about))
    assert kept.exposed is exposed
    assert kept.tls_version == ("TLSv1.3" if "client_tls" in about else "")


@pytest.mark.parametrize(
    ("protocol", "reply", "code"),
    [
        ("smtp", "535 5.7.8 Error: authentication failed", "535 5.7.8"),
        ("smtp", "535-5.7.8 Error", "535 5.7.8"),
        ("smtp", "235 ok", "235"),
        ("lmtp", "454 4.7.0 later", "454 4.7.0"),
        ("pop3", "+OK Logged in.", "+OK"),
        ("pop3", "-ERR [AUTH] Authentication failed.", "-ERR [AUTH]"),
        ("pop3", "-ERR [SYS/TEMP] later", "-ERR [SYS/TEMP]"),
        ("pop3", "-ERR nope [x", "-ERR"),
        ("imap", "NO [AUTHENTICATIONFAILED] Authentication failed.", "NO [AUTHENTICATIONFAILED]"),
        ("imap", "OK [CAPABILITY IMAP4rev1 IDLE] Logged in", "OK"),
        ("imap", "no [unavailable] later", "NO [UNAVAILABLE]"),
        ("imap", "BAD what", "BAD"),
        ("imap", "OK done", "OK"),
        ("imap", "NO [" + "A" * 5000, "NO"),
        ("smtp", "", ""),
        ("imap", "* garbage", ""),
    ],
)
def test_codes(protocol: str, reply: str, code: str) -> None:
    assert reply_code(protocol, reply) == code


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("Alice", "alice"),
        ("  Bob@EXAMPLE.org\t", "bob@example.org"),
        ("\uff41lice", "alice"),  # full width
        ("stra\u00dfe", "strasse"),
        ("ZOE\u0308", "zo\u00eb"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("", ""),
    ],
)
def test_users_are_normalised(given: str, normal: str) -> None:
    assert normal_user(given) == normal


def test_long_names_are_cut() -> None:
    about = record(client_name="n" * 5000, client_program="p" * 5000)
    (kept,) = made(LoginSeen("X" * 999, "u" * 5000, "failed", True, True), about=about)
    assert all(len(text) < 300 for text in (kept.user, kept.user_given, kept.client_name, kept.mechanism))
    assert len(kept.client_program) < 300


def test_an_event_is_kept() -> None:
    event = SecurityEvent(EventKind.SPRAYING, "alert", "many\nusers", user="Alice", count=7, data={"a": "b"})
    (kept,) = made(event)
    assert isinstance(kept, EventRecord)
    assert (kept.kind, kept.address, kept.user, kept.count) == ("spraying", "192.0.2.7", "alice", 7)
    assert "\n" not in kept.detail and kept.data == {"a": "b"}


def test_a_program_is_kept_once_behind_the_login() -> None:
    about = record()
    sink_kept: list[AuditRecord] = []
    hub = Hub([AuditSink([sink_kept.append])])
    publish(hub, about, ClientNamed("id", "K-9"))
    assert sink_kept == []
    about.mechanism, about.user = "PLAIN", "Alice"
    publish(hub, about, ClientNamed("ehlo", "pc"), ClientNamed("id", "K-9"), ClientNamed("id", "Other"))
    assert sink_kept == [ProgramRecord("alice", about.client_address, "K-9", int(NOW * 1e6))]
