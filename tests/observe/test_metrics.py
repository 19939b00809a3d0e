"""The metrics: what each fact counts, what exists at zero, and what is never a label."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families

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
from gateway.core.steps import (
    CLIENT,
    UPSTREAM,
    CommandSeen,
    ExtensionStruck,
    Fault,
    LoginSeen,
    ReplySeen,
    Stage,
    TlsInfo,
    TlsStarted,
)
from gateway.core.trouble import CloseReason, FaultKind, Trouble
from gateway.observe.hub import Hub, Sink
from gateway.observe.metrics import Metrics

from .sample import NOW, TLS, answered, publish, record


class Bench:
    """Metrics with a registry of their own, and a way to read them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(
            self.registry,
            listeners={"imap-in": "imap", "smtp-in": "smtp"},
            upstreams=["dovecot"],
            plugins={"footer": ["data"]},
            verbs={"imap": {"FETCH", "NOOP"}, "smtp": {"MAIL"}},
            build={"version": "1.2.3"},
        )
        self.hub = Hub([self.metrics])

    def get(self, name: str, /, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"mailgate_{name}", labels)

    def publish(self, *facts: Any, protocol: str = "imap", **more: object) -> None:
        publish(self.hub, record(protocol, **more), *facts)

    def series(self) -> dict[tuple[str, str], float]:
        text = generate_latest(self.registry).decode()
        return {
            (sample.name, str(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if not sample.name.startswith(("process_", "python_"))
        }


@pytest.fixture
def bench() -> Bench:
    return Bench()


EVERY_FACT = [
    (SessionOpened(), "connections_total", {"protocol": "imap", "listener": "imap-in"}),
    (ConnectionRefused("limit_address"), "connections_refused_total", {"reason": "limit_address"}),
    (SessionClosed(CloseReason.TIMEOUT, "", 1.0), "sessions_closed_total", {"reason": "timeout"}),
    (answered("FETCH", "FETCH 1 FLAGS", "no"), "commands_total", {"command": "FETCH", "result": "no"}),
    (
        LoginSeen("PLAIN", "alice", "failed", True, True),
        "auth_attempts_total",
        {"mechanism": "PLAIN", "result": "failed"},
    ),
    (LoginSeen("PLAIN", "alice", "ok", True, True), "auth_protection_total", {"protection": "none"}),
    (
        LoginSeen("PLAIN", "alice", "ok", True, True),
        "cleartext_credentials_total",
        {"mechanism": "PLAIN", "outcome": "accepted"},
    ),
    (
        TlsStarted(CLIENT, "starttls", TLS),
        "tls_handshakes_total",
        {"leg": "client", "mode": "starttls", "version": "TLSv1.3", "result": "ok"},
    ),
    (TlsStarted(UPSTREAM, "implicit", TLS), "tls_cipher_total", {"leg": "upstream", "cipher": TLS.cipher}),
    (
        TlsFailed(CLIENT, "implicit", "plaintext", "x"),
        "tls_handshakes_total",
        {"leg": "client", "version": "none", "result": "plaintext"},
    ),
    (
        UpstreamFailed("dovecot", "192.0.2.1:143", Trouble.UPSTREAM_DOWN, "timeout", ""),
        "upstream_errors_total",
        {"upstream": "dovecot", "reason": "timeout"},
    ),
    (Fault(CLIENT, FaultKind.BARE_LF), "protocol_anomalies_total", {"kind": "bare_lf"}),
    (
        ExtensionStruck("COMPRESS=DEFLATE", ""),
        "capability_stripped_total",
        {"capability": "COMPRESS=DEFLATE"},
    ),
    (
        PluginRan("footer", Stage.DATA, "timeout", "defer", 5.0),
        "plugin_runs_total",
        {"plugin": "footer", "result": "timeout", "policy_applied": "defer"},
    ),
    (
        MessageAmbiguous(Stage.APPEND, ("too_deep",), "reject"),
        "ambiguous_messages_total",
        {"stage": "append", "policy_applied": "reject"},
    ),
    (
        MessageSeen(Stage.FETCH, UPSTREAM, "passed", False, 5000, 5000, ""),
        "messages_total",
        {"stage": "fetch", "action": "passed"},
    ),
]


@pytest.mark.parametrize(
    ("fact", "name", "labels"), EVERY_FACT, ids=[f"{type(f).__name__}-{n}" for f, n, _ in EVERY_FACT]
)
def test_each_fact_counts_once_where_it_belongs(
    bench: Bench, fact: Any, name: str, labels: dict[str, str]
) -> None:
    before = bench.series()
    bench.publish(fact)
    bench.publish(fact)
    risen = [
        key
        for key, value in bench.series().items()
        if key[0] == f"mailgate_{name}" and value == before.get(key, 0) + 2
    ]
    assert len(risen) == 1
    for label, value in labels.items():
        assert f"('{label}', '{value}')" in risen[0][1]


def test_every_knowable_series_exists_from_the_start(bench: Bench) -> None:
    """What the facts above touch was there at zero, but for what an upstream names."""
    before = bench.series()
    for fact, _, _ in EVERY_FACT:
        bench.publish(fact)
    new = {name for name, _ in bench.series().keys() - before.keys()}
    assert new <= {"mailgate_capability_stripped_total"}
    zeros = {name for (name, _), value in before.items() if value == 0}
    assert {f"mailgate_{name}" for _, name, _ in EVERY_FACT} - new <= zeros


def test_every_verb_and_result_exists_at_zero(bench: Bench) -> None:
    for protocol, verb in (("imap", "FETCH"), ("imap", "NOOP"), ("imap", "other"), ("smtp", "MAIL")):
        for result in ("ok", "no", "bad", "temp", "perm", "refused", "unanswered"):
            assert bench.get("commands_total", protocol=protocol, command=verb, result=result) == 0
        labels = {"protocol": protocol, "command": verb}
        assert bench.get("command_duration_seconds_count", **labels) == 0
    for result in ("ok", "failed", "error", "aborted", "policy", "unfinished"):
        assert bench.get("auth_attempts_total", protocol="imap", mechanism="LOGIN", result=result) == 0
    assert (
        bench.get("plugin_runs_total", plugin="footer", stage="data", result="error", policy_applied="pass")
        == 0
    )


def test_a_command_s_latency_falls_into_its_bucket(bench: Bench) -> None:
    for ms in (1.0, 41.5, 90.0, 60_000.0):
        bench.publish(answered("FETCH", "FETCH", ms=ms))
    labels = {"protocol": "imap", "command": "FETCH"}
    bucket = "command_duration_seconds_bucket"
    assert [bench.get(bucket, le=le, **labels) for le in ("0.001", "0.025", "0.1", "10", "+Inf")] == [
        pytest.approx(1, abs=1),
        1,
        3,
        3,
        4,
    ]
    assert bench.get("command_duration_seconds_count", **labels) == 4
    assert bench.get("command_duration_seconds_sum", **labels) == pytest.approx(60.1325, rel=1e-3)


def test_a_command_without_a_stamp_counts_without_a_latency(bench: Bench) -> None:
    bench.publish(ReplySeen(CommandSeen(1, "NOOP", "NOOP"), "ok", ""))
    assert bench.get("commands_total", protocol="imap", command="NOOP", result="ok") == 1
    assert bench.get("command_duration_seconds_count", protocol="imap", command="NOOP") == 0


def test_what_peers_choose_is_never_a_label(bench: Bench) -> None:
    bench.publish(
        answered("XEVIL", "XEVIL", "weird"),
        LoginSeen("X-EVIL", "mallory@example.org", "weird", True, True),
        TlsFailed(CLIENT, "implicit", "weird", ""),
        TlsStarted(CLIENT, "implicit", TlsInfo("weird", "TLS_NEW")),
        ConnectionRefused("weird"),
        UpstreamFailed("dovecot", "203.0.113.9:143", Trouble.UPSTREAM_DOWN, "weird", "secret"),
        UpstreamConnected("dovecot", "203.0.113.9:143", 0.01),
        ExtensionStruck("EVIL\x1b[0m", ""),
        ExtensionStruck("é" * 10, ""),
        ExtensionStruck("X" * 100, ""),
        MessageSeen(
            Stage.FETCH, UPSTREAM, "weird", False, 1, 1, "ff" * 32, mailbox="INBOX", message_id="<id@x>"
        ),
        user="alice",
    )
    text = generate_latest(bench.registry).decode()
    for word in (
        "XEVIL",
        "X-EVIL",
        "weird",
        "alice",
        "mallory",
        "192.0.2.7",
        "203.0.113.9",
        "INBOX",
        "<id@x>",
        "ffff",
    ):
        assert word not in text, word
    assert bench.get("commands_total", protocol="imap", command="other", result="bad") == 1
    assert bench.get("auth_attempts_total", protocol="imap", mechanism="other", result="other") == 1
    assert bench.get("capability_stripped_total", protocol="imap", capability="other") == 3


def test_endless_new_capabilities_do_not_make_endless_series(bench: Bench) -> None:
    for number in range(1000):
        bench.publish(ExtensionStruck(f"X{number}", ""))
    names = [key for key in bench.series() if key[0] == "mailgate_capability_stripped_total"]
    assert len(names) == 65
    assert bench.get("capability_stripped_total", protocol="imap", capability="other") == 936


def test_open_sessions_go_up_and_down(bench: Bench) -> None:
    labels = {"protocol": "imap", "listener": "imap-in"}
    bench.publish(SessionOpened(), SessionOpened())
    assert bench.get("connections_active", **labels) == 2
    bench.publish(SessionClosed(CloseReason.QUIT, "", 1.0))
    assert bench.get("connections_active", **labels) == 1


def test_a_connection_that_was_refused_was_never_open(bench: Bench) -> None:
    bench.publish(ConnectionRefused("limit_total"), SessionClosed(CloseReason.POLICY, "", 0.0))
    assert bench.get("connections_active", protocol="imap", listener="imap-in") == 0
    assert bench.get("sessions_closed_total", protocol="imap", reason="policy") == 1


def test_a_reload_brings_series_and_keeps_counts(bench: Bench) -> None:
    bench.publish(SessionOpened(), answered("FETCH", "FETCH"))
    bench.publish(UpstreamFailed("dovecot", "a:1", Trouble.UPSTREAM_DOWN, "refused", ""))
    before = bench.series()
    bench.metrics.expect({"imap-in": "imap", "pop": "pop3"}, ["cyrus"], {"mark": ["retr"]})
    assert bench.get("connections_active", protocol="imap", listener="imap-in") == 1
    assert bench.get("connections_total", protocol="pop3", listener="pop") == 0
    assert bench.get("commands_total", protocol="imap", command="FETCH", result="ok") == 1
    assert bench.get("upstream_up", upstream="cyrus") == 1
    assert bench.get("upstream_up", upstream="dovecot") is None, "what is no more is not down"
    gone = before.keys() - bench.series().keys()
    assert {name for name, _ in gone} == {"mailgate_upstream_up"}


def test_the_totals_of_a_session_are_counted_at_its_end(bench: Bench) -> None:
    sizes = {"bytes_from_client": 1, "bytes_to_client": 2, "bytes_from_upstream": 3, "bytes_to_upstream": 4}
    for _ in range(2):
        bench.publish(SessionClosed(CloseReason.QUIT, "", 1.0), **sizes)
    for leg, direction, total in (
        ("client", "received", 2),
        ("client", "sent", 4),
        ("upstream", "received", 6),
        ("upstream", "sent", 8),
    ):
        assert bench.get("bytes_total", protocol="imap", leg=leg, direction=direction) == total


@pytest.mark.parametrize(
    "protection", [{"client_tls": TLS}, {"tls_in_front": True}, {"trusted_network": True}]
)
def test_a_protected_password_is_not_counted_as_exposed(bench: Bench, protection: dict[str, Any]) -> None:
    bench.publish(LoginSeen("PLAIN", "alice", "ok", True, True), **protection)
    labels = {"protocol": "imap", "mechanism": "PLAIN", "outcome": "accepted"}
    assert bench.get("cleartext_credentials_total", **labels) == 0


def test_an_upstream_is_up_until_an_address_fails_and_up_again_when_one_answers(bench: Bench) -> None:
    seen = [bench.get("upstream_up", upstream="dovecot")]
    bench.publish(UpstreamFailed("dovecot", "a:1", Trouble.UPSTREAM_DOWN, "refused", ""))
    seen.append(bench.get("upstream_up", upstream="dovecot"))
    bench.publish(UpstreamConnected("dovecot", "b:1", 0.004))
    seen.append(bench.get("upstream_up", upstream="dovecot"))
    assert seen == [1, 0, 1]
    assert bench.get("upstream_connect_duration_seconds_bucket", upstream="dovecot", le="0.005") == 1


def test_what_others_tell_is_shown(bench: Bench) -> None:
    class Raises(Sink):
        def watches(self) -> dict[type, Any]:
            return {SessionOpened: lambda *_: 1 / 0}

    hub = Hub([Raises()])
    bench.metrics.watch_hub(hub)
    bench.metrics.watch_spool(lambda: 4096)
    bench.metrics.watch_threads(lambda: 3)
    bench.metrics.watch_log(lambda: 7)
    bench.metrics.certificates({"imap": NOW})
    bench.metrics.reactor_lag(0.03)
    assert bench.get("sink_errors_total", sink="Raises") == 0
    publish(hub, record(), SessionOpened())
    # A function has no class of its own that would tell more.
    assert sum(hub.failures.values()) == 1
    assert bench.get("spool_bytes") == 4096
    assert bench.get("plugin_threads_hanging") == 3
    assert bench.get("log_lines_dropped_total") == 7
    assert bench.get("tls_certificate_expiry_timestamp_seconds", name="imap") == NOW
    assert bench.get("reactor_lag_seconds_bucket", le="0.05") == 1
    assert bench.get("reactor_lag_seconds_bucket", le="0.02") == 0
    assert bench.get("build_info", version="1.2.3") == 1
    bench.metrics.certificates({"smtp": NOW})
    assert bench.get("tls_certificate_expiry_timestamp_seconds", name="imap") is None


def test_a_protocol_that_came_with_a_reload_is_counted(bench: Bench) -> None:
    bench.publish(answered("LIST", "LIST"), protocol="pop3")
    assert bench.get("commands_total", protocol="pop3", command="other", result="ok") == 1


def test_both_exposition_formats_are_well_formed_and_the_process_is_in_them(bench: Bench) -> None:
    assert generate_openmetrics(bench.registry).endswith(b"# EOF\n")
    text = generate_latest(bench.registry).decode()
    names = {family.name for family in text_string_to_metric_families(text)}
    assert {"process_cpu_seconds", "process_resident_memory_bytes", "process_open_fds"} <= names
    ours = [name for name in names if not name.startswith(("process_", "python_"))]
    assert all(name.startswith("mailgate_") for name in ours)


def test_scraping_while_counting_loses_nothing(bench: Bench) -> None:
    """The scrape runs in a thread of its own."""
    done = threading.Event()
    errors: list[Exception] = []

    def scrape() -> None:
        while not done.is_set():
            try:
                generate_latest(bench.registry)
            except Exception as error:
                errors.append(error)

    thread = threading.Thread(target=scrape)
    thread.start()
    fact = answered("FETCH", "FETCH")
    for number in range(20_000):
        bench.publish(fact)
        if number < 60:
            bench.publish(ExtensionStruck(f"X{number}", ""))
    done.set()
    thread.join()
    assert not errors
    assert bench.get("commands_total", protocol="imap", command="FETCH", result="ok") == 20_000


def test_what_may_run_in_shadow_has_its_series_from_the_start(bench: Bench) -> None:
    labels = {"plugin": "footer", "stage": "data", "result": "error", "policy_applied": "shadow"}
    assert bench.get("plugin_runs_total", **labels) is None
    bench.metrics.expect({"smtp-in": "smtp"}, plugins={"footer": ["data"]}, shadows=["footer"])
    assert bench.get("plugin_runs_total", **labels) == 0
