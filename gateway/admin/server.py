"""The admin's HTTP server: /metrics, /healthz, /readyz, and nothing else.

It has no secret and no command, yet it tells what passes, so it is bound to loopback by
default, and it answers only to a Host that a rebinding attack can't have: an address, a name
of this machine's loopback, or a name from the configuration.  (Such an attack lets a page of
the attacker's reach us through the reader's browser, by a name whose address it changes; the
browser then sends that name.)
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IListeningPort
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

#: What the app tells: whether the gateway is ready, and why or why not.
Readiness = Callable[[], tuple[bool, Mapping[str, Any]]]

TEXT = b"text/plain; charset=utf-8"
#: Seconds after which a silent connection is closed.
TIMEOUT = 30


def host_name(header: str) -> str:
    """Return the host of a Host header, in lower case, without its port (RFC 9110 7.2)."""
    header = header.strip().lower()
    if header.startswith("["):
        host, _, rest = header[1:].partition("]")
        return host if not rest or rest[0] == ":" else header
    return header.partition(":")[0].rstrip(".")


def is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class AdminServer:
    """Serves metrics and health.

    address, port: where to listen; port 0 takes a free one, see :attr:`port` after start.
    registry: what /metrics shows.
    readiness: asked by /readyz; False answers 503.
    hosts: names besides ``localhost`` that a Host header may have.
    """

    def __init__(
        self,
        address: str,
        port: int,
        registry: CollectorRegistry,
        readiness: Readiness,
        *,
        hosts: Iterable[str] = (),
        reactor: Any = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor as installed

            reactor = installed
        self._reactor = reactor
        self._address = address
        self._listening: IListeningPort | None = None
        self.port = port
        self.registry = registry
        self.readiness = readiness
        self.hosts = frozenset({"localhost", address.lower(), *(host.lower().rstrip(".") for host in hosts)})

    def start(self) -> None:
        """Listen.  Raises twisted.internet.error.CannotListenError."""
        pages = _Pages(self, self._reactor)
        site = _Site(pages, timeout=TIMEOUT, reactor=self._reactor)  # type: ignore[no-untyped-call]
        listening = self._reactor.listenTCP(self.port, site, interface=self._address)
        self._listening = listening
        self.port = listening.getHost().port

    def stop(self) -> Deferred[None]:
        """Listen no more; fires once the port is free."""
        listening, self._listening = self._listening, None
        if listening is None:
            return succeed(None)
        return listening.stopListening() or succeed(None)

    def allows(self, host: str | None) -> bool:
        """Tell whether a Host header may be answered; HTTP/1.0 probes have none."""
        if host is None:
            return True
        name = host_name(host)
        return name in self.hosts or is_address(name)


class _Pages(Resource):
    """All there is to see.  Plain text, no detail of the software, no traceback."""

    isLeaf = True

    def __init__(self, admin: AdminServer, reactor: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._admin = admin
        self._reactor = reactor
        self._pages: dict[bytes, Callable[[Any], bytes | int]] = {
            b"/metrics": self._metrics,
            b"/healthz": self._healthz,
            b"/readyz": self._readyz,
        }

    def render(self, request: Any) -> bytes | int:
        request.setHeader(b"server", b"mailgate")
        request.setHeader(b"cache-control", b"no-store")
        request.setHeader(b"x-content-type-options", b"nosniff")
        request.setHeader(b"cross-origin-resource-policy", b"same-origin")
        host = request.getHeader(b"host")
        page = self._pages.get(request.path)
        if not self._admin.allows(host.decode("latin-1") if host is not None else None):
            return _answer(request, 421, b"this host name is not served here\n")
        if page is None:
            return _answer(request, 404, b"not found; there are /metrics, /healthz and /readyz\n")
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"allow", b"GET, HEAD")
            return _answer(request, 405, b"only GET and HEAD\n")
        try:
            return page(request)
        except Exception as error:  # noqa: BLE001 - the admin gets a sentence, the log the place
            return _broken(request, error)

    def _healthz(self, request: Any) -> bytes:
        return _answer(request, 200, b"ok\n")

    def _readyz(self, request: Any) -> bytes:
        ready, why = self._admin.readiness()
        body = json.dumps({"ready": ready, **why}, default=str, indent=1) + "\n"
        return _answer(request, 200 if ready else 503, body.encode(), b"application/json")

    def _metrics(self, request: Any) -> int:
        encode, kind = choose_encoder((request.getHeader(b"accept") or b"").decode("latin-1"))
        # Thousands of series take some ten milliseconds: too long for the reactor's thread.
        pool = self._reactor.getThreadPool()
        made: Deferred[bytes] = deferToThreadPool(self._reactor, pool, encode, self._admin.registry)
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def done(result: bytes | Failure) -> None:
            if isinstance(result, Failure):
                body = _broken(request, result.value)
            else:
                body = _answer(request, 200, result, kind.encode("latin-1"))
            if not gone:
                request.setHeader(b"content-length", b"%d" % len(body))
                if request.method != b"HEAD":
                    request.write(body)
                request.finish()

        made.addBoth(done)
        return NOT_DONE_YET


def _answer(request: Any, status: int, body: bytes, kind: bytes = TEXT) -> bytes:
    request.setResponseCode(status)
    request.setHeader(b"content-type", kind)
    return body


def _broken(request: Any, error: BaseException | None) -> bytes:
    structlog.get_logger().error("admin_failed", path=request.path.decode("latin-1"), exc_info=error)
    return _answer(request, 500, b"internal error; see the log\n")


class _Site(Site):
    """Writes no access log: a scrape every few seconds is no news."""

    noisy = False

    def log(self, request: object) -> None:
        return
