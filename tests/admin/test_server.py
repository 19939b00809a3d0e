"""The admin's server over real sockets: pages, the Host check, failures."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock

from gateway.admin import AdminServer, LagMeter


class Running:
    """An admin server on a reactor of its own, in a thread."""

    def __init__(self) -> None:
        from twisted.internet.epollreactor import EPollReactor

        self.reactor: Any = EPollReactor()
        self.registry = CollectorRegistry()
        Counter("mailgate_tested", "Times.", registry=self.registry).inc()
        self.ready: Callable[[], tuple[bool, dict[str, Any]]] = lambda: (True, {"listeners": {"imap": "up"}})
        self.admin = AdminServer(
            "127.0.0.1",
            0,
            self.registry,
            lambda: self.ready(),
            hosts=["Gate.Example.org"],
            reactor=self.reactor,
        )
        self.admin.start()
        self.thread = threading.Thread(target=self.reactor.run, kwargs={"installSignalHandlers": False})
        self.thread.start()

    def get(
        self, path: str, method: str = "GET", host: str | None = None, **headers: str
    ) -> tuple[http.client.HTTPResponse, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.admin.port, timeout=10)
        if host is not None:
            headers["Host"] = host
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        body = response.read().decode()
        connection.close()
        return response, body

    def stop(self) -> None:
        def stop() -> None:
            self.admin.stop().addCallback(lambda _: self.reactor.stop())

        self.reactor.callFromThread(stop)
        self.thread.join(10)
        assert not self.thread.is_alive()


@pytest.fixture
def running() -> Iterator[Running]:
    structlog.reset_defaults()
    server = Running()
    yield server
    server.stop()


def test_metrics_are_the_registry_s(running: Running) -> None:
    response, body = running.get("/metrics")
    assert response.status == 200
    assert response.getheader("Content-Type", "").startswith("text/plain; version=")
    assert next(iter(text_string_to_metric_families(body))).name == "mailgate_tested"
    response, body = running.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert response.getheader("Content-Type", "").startswith("application/openmetrics-text")
    assert body.endswith("# EOF\n")


def test_health_is_the_process_alive(running: Running) -> None:
    response, body = running.get("/healthz?verbose")
    assert (response.status, body) == (200, "ok\n")


def test_readiness_says_why(running: Running) -> None:
    response, body = running.get("/readyz")
    assert (response.status, json.loads(body)) == (200, {"ready": True, "listeners": {"imap": "up"}})
    running.ready = lambda: (False, {"upstreams": {"dovecot": "unreachable"}})
    response, body = running.get("/readyz")
    assert response.status == 503
    assert json.loads(body) == {"ready": False, "upstreams": {"dovecot": "unreachable"}}
    assert response.getheader("Content-Type") == "application/json"


@pytest.mark.parametrize("path", ["/", "/metrics/", "/metrics/x", "/..%2fmetrics", "/favicon.ico"])
def test_nothing_else_is_there(running: Running, path: str) -> None:
    response, body = running.get(path)
    assert response.status == 404
    assert response.getheader("Content-Type") == "text/plain; charset=utf-8"
    assert body.startswith("not found")


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
def test_head_has_no_body_and_other_methods_are_refused(running: Running, path: str) -> None:
    response, body = running.get(path, "HEAD")
    assert (response.status, body) == (200, "")
    assert int(response.getheader("Content-Length", "0")) > 0
    response, _ = running.get(path, "POST")
    assert response.status == 405
    assert response.getheader("Allow") == "GET, HEAD"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:9464", 200),
        ("LOCALHOST.", 200),
        ("127.0.0.1", 200),
        ("[::1]:9464", 200),
        ("192.0.2.1:9464", 200),
        ("gate.example.org:9464", 200),
        ("rebound.attacker.example", 421),
        ("localhost.attacker.example", 421),
        ("127.0.0.1.attacker.example", 421),
        ("gate.example.org.attacker.example", 421),
        ("[::1].attacker.example", 421),
        ("[attacker.example]", 421),
        ("", 421),
    ],
)
def test_a_host_that_rebinding_can_have_is_not_answered(running: Running, host: str, status: int) -> None:
    for path in ("/metrics", "/healthz", "/readyz"):
        response, body = running.get(path, host=host)
        assert response.status == status
        assert ("mailgate_tested" in body) is (status == 200 and path == "/metrics")


def test_a_probe_of_http_1_0_without_host_is_answered(running: Running) -> None:
    import socket

    with socket.create_connection(("127.0.0.1", running.admin.port), 10) as link:
        link.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        data = b""
        while piece := link.recv(4096):
            data += piece
    assert b" 200 " in data.splitlines()[0]


def test_no_answer_tells_of_the_software(running: Running) -> None:
    for path in ("/metrics", "/missing", "/healthz"):
        response, _ = running.get(path)
        assert response.getheader("Server") == "mailgate"
        assert response.getheader("X-Content-Type-Options") == "nosniff"
        assert "Twisted" not in str(response.getheaders())


def test_a_failure_is_a_sentence_and_a_line_of_the_log(running: Running) -> None:
    def fail() -> tuple[bool, dict[str, Any]]:
        raise RuntimeError("inner secret")

    class Broken:
        def collect(self) -> Any:
            raise RuntimeError("inner secret")

        def describe(self) -> Any:
            return []

    running.ready = fail
    running.registry.register(Broken())  # type: ignore[arg-type]
    with capture_logs() as lines:
        answers = [running.get("/readyz"), running.get("/metrics")]
    for response, body in answers:
        assert (response.status, body) == (500, "internal error; see the log\n")
    assert [line["path"] for line in lines] == ["/readyz", "/metrics"]


def test_a_port_in_use_is_an_error_at_start(running: Running) -> None:
    second = AdminServer(
        "127.0.0.1", running.admin.port, running.registry, running.ready, reactor=running.reactor
    )
    with pytest.raises(CannotListenError):
        second.start()


def test_the_lag_meter_measures_how_late_its_timer_is() -> None:
    clock, seen = Clock(), list[float]()
    meter = LagMeter(clock, seen.append)
    meter.start()
    clock.advance(0.5)
    clock.advance(0.75)
    clock.advance(0.5)
    assert seen == pytest.approx([0.0, 0.25, 0.0])
    meter.stop()
    assert not clock.getDelayedCalls()
