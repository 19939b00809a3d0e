"""The embedded upstream: every port on 127.0.0.1, in this process.

``python -m gateway.demo.upstream --json`` runs it alone: it prints one JSON line (host, ports, CA file,
users) and runs until its standard input closes or a SIGTERM comes. On standard input it takes one word a
line and answers each with one JSON line: ``transcript`` (what was heard) and ``accepted`` (messages with
their envelopes); a JSON object sets the quirks from then on.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ServerFactory
from twisted.protocols.basic import LineOnlyReceiver

from gateway.demo.certificates import make_authority
from gateway.demo.conversation import Conversation, Site
from gateway.demo.imap_server import ImapServer
from gateway.demo.pop3_server import Pop3Server
from gateway.demo.quirks import Quirks
from gateway.demo.samples import fill
from gateway.demo.smtp_server import LmtpServer, SmtpServer
from gateway.demo.store import USERS, Store

HOST = "127.0.0.1"
_PLAIN: dict[str, type[Conversation]] = {
    "smtp": SmtpServer,
    "lmtp": LmtpServer,
    "pop3": Pop3Server,
    "imap": ImapServer,
}
_IMPLICIT: dict[str, type[Conversation]] = {"smtps": SmtpServer, "pop3s": Pop3Server, "imaps": ImapServer}


class _Factory(ServerFactory):
    noisy = False

    def __init__(self, kind: type[Conversation], site: Site, *, implicit_tls: bool) -> None:
        self._kind, self._site, self._implicit_tls = kind, site, implicit_tls

    def buildProtocol(self, addr: IAddress | None) -> Conversation:
        return self._kind(self._site, implicit_tls=self._implicit_tls)


class EmbeddedUpstream:
    """An in-memory mail server for SMTP, LMTP, POP3 and IMAP on the running Twisted reactor.

    ``store`` defaults to one with ``users`` (name to password) and the sample messages. With a pyOpenSSL
    context (or a function that makes one) STARTTLS, STLS and the ports for implicit TLS are offered.
    ``quirks`` may be replaced at any time; ``transcript`` holds every command line, passwords included.
    """

    def __init__(
        self,
        store: Store | None = None,
        *,
        hostname: str = "upstream.example",
        users: Mapping[str, str] | None = None,
        tls_context_factory: SSL.Context | Callable[[], SSL.Context] | None = None,
        quirks: Quirks | None = None,
    ) -> None:
        context = tls_context_factory
        if context is not None and not isinstance(context, SSL.Context):
            context = context()
        self.store = store if store is not None else fill(Store(users if users is not None else USERS))
        self.site = Site(self.store, hostname, quirks or Quirks(), context)
        self.ports: dict[str, int] = {}
        self._listening: list[Any] = []

    @property
    def quirks(self) -> Quirks:
        """How this upstream misbehaves."""
        return self.site.quirks

    @quirks.setter
    def quirks(self, quirks: Quirks) -> None:
        self.site.quirks = quirks

    @property
    def transcript(self) -> list[tuple[str, str]]:
        """Every command line heard so far, as (protocol, line)."""
        return self.site.transcript

    def start(self) -> dict[str, int]:
        """Opens the ports and returns them by name: smtp, lmtp, pop3, imap, and with TLS smtps, pop3s, imaps.

        Raises twisted.internet.error.CannotListenError when a port can't be opened.
        """
        from twisted.internet import reactor

        listen: Any = reactor.listenTCP
        for kinds, implicit in ((_PLAIN, False), (_IMPLICIT, True)):
            for name, kind in kinds.items():
                if implicit and self.site.tls is None:
                    continue
                factory = _Factory(kind, self.site, implicit_tls=implicit)
                port = listen(0, factory, interface=HOST)
                self._listening.append(port)
                self.ports[name] = port.getHost().port
        return dict(self.ports)

    def stop(self) -> Deferred[Any]:
        """Closes the ports and aborts what is connected; fires when the ports are closed."""
        listening, self._listening = self._listening, []
        closed: Deferred[Any] = DeferredList([Deferred.fromCoroutine(_closed(port)) for port in listening])
        for connection in list(self.site.connections):
            if connection.transport is not None:
                connection.transport.abortConnection()  # type: ignore[attr-defined]
        return closed


async def _closed(port: Any) -> None:
    await port.stopListening()


class _Control(LineOnlyReceiver):
    """Standard input and output of the stand-alone upstream."""

    delimiter = b"\n"

    def __init__(self, upstream: EmbeddedUpstream) -> None:
        self._upstream = upstream

    def lineReceived(self, line: bytes) -> None:
        word = line.decode("utf-8", "replace").strip()
        answer: Any
        if word == "transcript":
            answer = [list(entry) for entry in self._upstream.transcript]
        elif word == "accepted":
            answer = [
                {**vars(delivery), "content": delivery.content.decode("latin-1")}
                for delivery in self._upstream.store.accepted
            ]
        else:
            try:
                self._upstream.quirks = Quirks.from_json(word)
                answer = "ok"
            except (ValueError, TypeError) as error:
                answer = {"error": str(error)}
        self.sendLine(json.dumps(answer).encode("ascii"))  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: object = None) -> None:
        from twisted.internet import reactor

        if reactor.running:
            reactor.stop()


def main(arguments: list[str] | None = None) -> int:
    """Runs the upstream alone; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m gateway.demo.upstream", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the ports as one JSON line")
    parser.add_argument("--quirks", default="{}", help='a JSON object, such as {"strip_starttls": true}')
    options = parser.parse_args(arguments)
    try:
        quirks = Quirks.from_json(options.quirks)
    except (ValueError, TypeError) as error:
        parser.error(f"--quirks: {error}")

    from twisted.internet import reactor, stdio

    with tempfile.TemporaryDirectory(prefix="mailgate-demo-") as directory:
        authority = make_authority(Path(directory))
        pair = authority.issue("upstream")
        upstream = EmbeddedUpstream(tls_context_factory=pair.server_context, quirks=quirks)
        ports = upstream.start()
        users = {name: user.password for name, user in upstream.store.users.items()}
        facts = {
            "host": HOST,
            "ports": ports,
            "ca": str(authority.certificate),
            "crl": str(authority.revoke(pair)),  # for who wants to see its certificate refused
            "users": users,
        }

        def announce() -> None:
            if options.json:
                sys.stdout.write(json.dumps(facts) + "\n")
            else:
                sys.stdout.writelines(f"{name:6} {HOST}:{port}\n" for name, port in ports.items())
            sys.stdout.flush()

        # Only once the reactor handles signals: whoever reads the line may send a SIGTERM at once.
        reactor.callLater(0, announce)
        stdio.StandardIO(_Control(upstream))  # type: ignore[no-untyped-call]
        reactor.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
