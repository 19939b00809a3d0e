"""The command log: what each line holds, in which order, and what none may hold."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.facts import (
    ConnectionRefused,
    MessageAmbiguous,
    MessageSeen,
    PluginRan,
    SessionClosed,
    SessionOpened,
    TlsFailed,
    UpstreamConnected,
    UpstreamFailed,
)
from gateway.core.record import SessionRecord
from gateway.core.steps import (
    CLIENT,
    UPSTREAM,
    ClientNamed,
    CommandSeen,
    ExtensionStruck,
    Fault,
    LoginSeen,
    Refused,
    ReplySeen,
    Stage,
    TlsStarted,
)
from gateway.core.text import shown
from gateway.core.trouble import CloseReason, FaultKind, Trouble
from gateway.observe.command_log import CommandLog
from gateway.observe.hub import Hub

from .sample import NOW, TLS, Kept, answered, publish, record

HEAD = ["ts", "level", "event", "session", "protocol", "listener", "client", "user", "upstream"]
EVERY_FACT = [
    SessionOpened(),
    answered("NOOP", "NOOP"),
    LoginSeen("PLAIN", "alice", "ok", True, True, "OK"),
    SessionClosed(CloseReason.QUIT, "", 2.5),
    ConnectionRefused("limit_address"),
    ClientNamed("ehlo", "me.example"),
    TlsStarted(CLIENT, "starttls", TLS),
    TlsFailed(CLIENT, "implicit", "plaintext", "client speaks plaintext"),
    UpstreamConnected("dovecot", "127.0.0.1:143", 0.0012),
    UpstreamFailed("dovecot", "127.0.0.1:143", Trouble.UPSTREAM_DOWN, "refused", "Connection refused"),
    Fault(CLIENT, FaultKind.BARE_LF, "in a message"),
    Refused("VRFY", "policy"),
    ExtensionStruck("COMPRESS=DEFLATE", "bodies could not be read"),
    PluginRan("footer", Stage.DATA, "modify", "modify", 0.0021, facts={"parts": "2"}),
    MessageAmbiguous(Stage.DATA, ("boundary_clash", "too_deep"), "reject"),
    MessageSeen(Stage.DATA, CLIENT, "passed", True, 1500, 1500, "ab" * 32, recipients=2),
]


def logged(*facts: Any, about: SessionRecord | None = None, **options: Any) -> list[dict[str, Any]]:
    """What a session logs that was opened before."""
    lines = Kept()
    hub = Hub([CommandLog(lines, **options)])
    publish(hub, about or record(), SessionOpened())
    lines.clear()
    publish(hub, about or record(), *facts)
    assert all(line.endswith("\n") and line.count("\n") == 1 for line in lines)
    return [json.loads(line) for line in lines]


def test_a_command_and_its_reply_are_one_line_with_their_latency() -> None:
    [line] = logged(answered("FETCH", "UID FETCH 7 BODY.PEEK[]"), about=record(user="alice"))
    assert line == {
        "ts": "2026-09-21T14:13:20.250Z",
        "level": "info",
        "event": "command",
        "session": "0123456789ab",
        "protocol": "imap",
        "listener": "imap-in",
        "client": "192.0.2.7",
        "user": "alice",
        "upstream": "dovecot",
        "verb": "FETCH",
        "shown": "UID FETCH 7 BODY.PEEK[]",
        "result": "ok",
        "reply": "OK done",
        "ms": 41.5,
    }


@pytest.mark.parametrize("fact", EVERY_FACT, ids=lambda fact: type(fact).__name__)
def test_every_line_begins_with_the_same_keys_in_the_same_order(fact: Any) -> None:
    lines = Kept()
    publish(Hub([CommandLog(lines, level="debug")]), record(), SessionOpened(), fact)
    line = lines[-1]
    assert list(json.loads(line))[: len(HEAD)] == HEAD


def test_a_command_without_a_stamp_or_from_the_future_took_no_time() -> None:
    for at in (0.0, NOW + 5):
        [line] = logged(ReplySeen(CommandSeen(1, "NOOP", "NOOP", at=at), "ok", ""))
        assert line["ms"] == 0.0


def test_a_line_of_a_later_second_has_a_new_time_stamp() -> None:
    lines = Kept()
    hub = Hub([CommandLog(lines)])
    for now in (NOW, NOW + 0.5, NOW + 1):
        publish(hub, record(), answered("NOOP", "NOOP"), now=now)
    assert [json.loads(line)["ts"][17:] for line in lines] == ["20.250Z", "20.750Z", "21.250Z"]


def test_the_user_and_upstream_of_later_lines_are_those_of_the_record() -> None:
    lines = Kept()
    hub, about = Hub([CommandLog(lines)]), record(upstream="")
    publish(hub, about, answered("CAPABILITY", "CAPABILITY"))
    about.upstream = "dovecot"
    publish(hub, about, UpstreamConnected("dovecot", "127.0.0.1:143", 0.001), answered("NOOP", "NOOP"))
    about.user = "alice"
    publish(hub, about, LoginSeen("LOGIN", "alice", "ok", True, True), answered("NOOP", "NOOP"))
    seen = [(json.loads(line)["user"], json.loads(line)["upstream"]) for line in lines]
    assert seen == [("", ""), ("", "dovecot"), ("alice", "dovecot"), ("alice", "dovecot")]


@pytest.mark.parametrize(
    ("mechanism", "reveals", "sent", "protection", "exposed"),
    [
        ("PLAIN", True, True, {}, True),
        ("PLAIN", True, False, {}, False),
        ("SCRAM-SHA-256", False, True, {}, False),
        ("PLAIN", True, True, {"client_tls": TLS}, False),
        ("PLAIN", True, True, {"tls_in_front": True}, False),
        ("PLAIN", True, True, {"trusted_network": True}, False),
    ],
)
def test_a_password_is_exposed_if_itself_crossed_an_unprotected_wire(
    mechanism: str, reveals: bool, sent: bool, protection: dict[str, Any], exposed: bool
) -> None:
    [line] = logged(LoginSeen(mechanism, "bob", "failed", reveals, sent, "no"), about=record(**protection))
    assert line["password_exposed"] is exposed
    assert line["level"] == ("warning" if exposed else "info")
    assert line["user"] == "bob"


def test_a_login_line_says_who_from_where_and_how() -> None:
    about = record("smtp", client_tls=TLS, client_name="me.example")
    [line] = logged(LoginSeen("PLAIN", "alice", "ok", True, True, "235 2.7.0 ok"), about=about)
    assert {key: line[key] for key in list(line)[len(HEAD) :]} == {
        "client_port": 4711,
        "mechanism": "PLAIN",
        "outcome": "ok",
        "protection": "tls",
        "password_exposed": False,
        "reply": "235 2.7.0 ok",
        "tls_version": "TLSv1.3",
        "tls_cipher": "TLS_AES_128_GCM_SHA256",
        "client_name": "me.example",
        "client_program": "",
    }


def test_the_session_line_sums_up_both_legs() -> None:
    about = record(client_tls=TLS, bytes_from_client=1, bytes_to_client=2, bytes_from_upstream=3)
    about.bytes_to_upstream, about.commands, about.messages, about.ended_by = 4, 5, 6, "client"
    [line] = logged(SessionClosed(CloseReason.QUIT, "bye", 2.5), about=about)
    assert line["event"] == "session"
    assert (line["reason"], line["ended_by"], line["seconds"]) == ("quit", "client", 2.5)
    assert [line[f"bytes_{way}"] for way in ("from_client", "to_client", "from_upstream", "to_upstream")] == [
        1,
        2,
        3,
        4,
    ]
    assert (line["commands"], line["messages"]) == (5, 6)
    assert line["client_tls"]["group"] == "X25519"
    assert line["client_tls"]["sni"] == "imap.example.org"
    assert line["upstream_tls"] is None


HOSTILE = 'a"b\\c\r\nd\x1b[31m\u202e\x9b\u2028é\udcff\x00'


@pytest.mark.parametrize("fact", EVERY_FACT, ids=lambda fact: type(fact).__name__)
def test_what_strangers_say_stays_on_one_line_and_moves_no_terminal(fact: Any) -> None:
    lines = Kept()
    about = record(user=HOSTILE, client_name=HOSTILE, client_program=HOSTILE, upstream=HOSTILE)
    for name in fact.__dataclass_fields__:
        if isinstance(getattr(fact, name), str) and type(getattr(fact, name)) is str:
            fact = type(fact)(**{n: getattr(fact, n) for n in fact.__dataclass_fields__} | {name: HOSTILE})
    if isinstance(fact, ReplySeen):  # the engine has made these safe
        fact = answered("NOOP", shown(HOSTILE), "ok", shown(HOSTILE))
    publish(Hub([CommandLog(lines, level="debug")]), about, SessionOpened(), fact)
    line = lines[-1]
    assert line.rstrip("\n").isprintable()
    line.encode()
    assert json.loads(line)["user"] == 'a"b\\c\\x0d\\x0ad\\x1b[31m\\u202e\\x9b\\u2028é\\udcff\\x00'


def test_what_a_shadow_would_change_is_a_list_of_lines() -> None:
    diff = ("@@ header", "-Subject: a", "+Subject: \x1b[31m")
    [line] = logged(PluginRan("dlp", Stage.DATA, "modify", "shadow", 0.1, diff=diff))
    assert (line["applied"], line["diff"]) == ("shadow", ["@@ header", "-Subject: a", "+Subject: \\x1b[31m"])


def test_long_strings_are_cut() -> None:
    [line] = logged(LoginSeen("PLAIN", "u" * 10_000, "failed", True, True))
    assert line["user"] == "u" * 200 + "…(+9800)"


def test_command_lines_can_be_switched_off() -> None:
    assert [line["event"] for line in logged(*EVERY_FACT, commands=False)].count("command") == 0
    assert [line["event"] for line in logged(*EVERY_FACT)].count("command") == 1


@pytest.mark.parametrize(
    ("level", "events"),
    [
        ("error", {"upstream_failed"}),
        (
            "warning",
            {"upstream_failed", "login", "connection_refused", "tls_failed", "fault", "message_ambiguous"},
        ),
        (
            "info",
            {"upstream_failed", "login", "connection_refused", "tls_failed", "fault", "message_ambiguous"}
            | {"command", "session", "refused", "extension_struck", "plugin", "message"},
        ),
    ],
)
def test_each_level_shows_its_events(level: str, events: set[str]) -> None:
    assert {line["event"] for line in logged(*EVERY_FACT, level=level)} == events


def test_at_debug_level_everything_is_shown() -> None:
    assert len(logged(*EVERY_FACT, level="debug")) == len(EVERY_FACT)


def test_an_upstream_s_struck_extension_is_told_once() -> None:
    lines = Kept()
    hub = Hub([CommandLog(lines)])
    for number in range(3):
        about = record()
        about.id = f"{number}"
        publish(hub, about, ExtensionStruck("COMPRESS=DEFLATE", "why"))
    publish(hub, record(upstream="other"), ExtensionStruck("COMPRESS=DEFLATE", "why"))
    assert [json.loads(line)["upstream"] for line in lines] == ["dovecot", "other"]


def test_a_flood_of_refused_connections_is_no_flood_of_lines() -> None:
    lines = Kept()
    hub = Hub([CommandLog(lines)])
    for tick in range(2001):
        publish(hub, record(), ConnectionRefused("limit_total"), now=NOW + tick / 1000)
    assert [json.loads(line)["not_shown"] for line in lines] == [0, 999, 999]


def test_an_upstream_that_is_down_is_told_once_a_second_for_each_address() -> None:
    lines = Kept()
    hub = Hub([CommandLog(lines)])
    for tick in range(100):
        for port in (143, 144):
            fact = UpstreamFailed("a", f"127.0.0.1:{port}", Trouble.UPSTREAM_DOWN, "refused", "")
            publish(hub, record(), fact, now=NOW + tick / 1000)
    assert [json.loads(line)["address"] for line in lines] == ["127.0.0.1:143", "127.0.0.1:144"]
    assert [json.loads(line)["upstream"] for line in lines] == ["a", "a"]
    assert json.loads(lines[0])["level"] == "error"


def test_a_closed_session_leaves_nothing_behind() -> None:
    log = CommandLog(Kept())
    hub = Hub([log])
    publish(
        hub, record(), SessionOpened(), answered("NOOP", "NOOP"), SessionClosed(CloseReason.QUIT, "", 1.0)
    )
    publish(hub, record(), ConnectionRefused("limit_total"), SessionClosed(CloseReason.POLICY, "", 0.0))
    assert not log._heads and not log._open


def test_a_connection_that_was_refused_has_no_summary() -> None:
    """Its refusal was said, and a flood of them is thinned."""
    lines = Kept()
    refused = (ConnectionRefused("limit_total"), SessionClosed(CloseReason.POLICY, "", 0.0))
    publish(Hub([CommandLog(lines, level="debug")]), record(), *refused)
    assert [json.loads(line)["event"] for line in lines] == ["connection_refused"]


def test_who_was_in_front_is_told_where_somebody_was() -> None:
    [line] = logged(SessionOpened(), about=record(peer_address="192.0.2.7"), level="debug")
    assert "peer" not in line
    [line] = logged(SessionOpened(), about=record(peer_address="198.51.100.1"), level="debug")
    assert line["peer"] == "198.51.100.1"


def test_an_internal_error_is_an_error() -> None:
    faults = logged(Fault(UPSTREAM, FaultKind.INTERNAL, "x"), SessionClosed(CloseReason.INTERNAL, "", 1.0))
    assert [line["level"] for line in faults] == ["error", "error"]
