"""Before the client is greeted: greeting, TLS, capabilities; and what a client is told of these."""

from __future__ import annotations

import re

from ...core.engine import Route
from ...core.exchange import Entry
from ...core.steps import CLIENT, UPSTREAM, Connect, ExtensionStruck, Side
from ...core.trouble import FaultKind, Trouble
from .capabilities import Offer, advertise, read
from .conversation import Conversation, Handler

_TIMESTAMP = re.compile(rb"\s*<[^<>\s]{1,200}@[^<>\s]{0,200}>")


class Prologue(Conversation):
    """The part of the engine that greets, and tells capabilities."""

    def _opened(self) -> None:
        self._emit(Connect())

    def _routed(self, route: Route) -> None:
        self._exchange.expect(Entry(self._r_greeting, None))

    def _r_greeting(self, _entry: Entry[Handler], line: bytes) -> None:
        if not line.startswith(b"+OK"):
            self._fault(UPSTREAM, FaultKind.BAD_REPLY, line)
            self._fail(Trouble.UPSTREAM_DOWN)
            return
        self._greeting = line
        if self.rules.upstream_tls in ("starttls", "opportunistic") and not self.secure[UPSTREAM]:
            self._ask(b"STLS", self._r_stls)
        else:
            self._ask_capabilities()

    def _r_stls(self, _entry: Entry[Handler], line: bytes) -> None:
        if not line.startswith(b"+OK"):
            if self.rules.upstream_tls == "starttls":
                self._fault(UPSTREAM, FaultKind.STARTTLS_MISSING, line)
                self._fail(Trouble.UPSTREAM_TLS)
            else:
                self._ask_capabilities()
        elif len(self.heard[UPSTREAM]):
            self._fault(UPSTREAM, FaultKind.INJECTED_BEFORE_TLS, self.heard[UPSTREAM].peek(60))
            self._fail(Trouble.UPSTREAM_TLS)
        else:
            self._start_tls(UPSTREAM)

    def _ask_capabilities(self) -> None:
        """Ask CAPA upstream: it tells which mechanisms may pass, and whether it takes pipelining."""
        self._ask(b"CAPA", self._r_own_capa)

    def _r_own_capa(self, _entry: Entry[Handler], line: bytes) -> None:
        if line.startswith(b"+OK"):
            self._gather(self._own_capabilities)
        else:
            self._own_capabilities([])

    def _own_capabilities(self, lines: list[bytes]) -> None:
        self._offered = read(lines)
        self._one_at_a_time = "PIPELINING" not in self._offered
        self._offer = self._advertise(self._offered)
        if self._greeted:
            return
        if self.rules.forward_client == "xclient" and "XCLIENT" in self._offered:
            address = self.record.client_address
            self._ask(f"XCLIENT ADDR={address} PORT={self.record.client_port}".encode(), self._r_xclient)
        else:
            self._greet()

    def _r_xclient(self, _entry: Entry[Handler], line: bytes) -> None:
        if not line.startswith(b"+OK"):
            self._broken(FaultKind.UNEXPECTED_REPLY, line)
            return
        self._greet()

    def _greet(self) -> None:
        line = self._greeting
        if not self.rules.apop:
            line = _TIMESTAMP.sub(b"", line)
        self._send(CLIENT, line)
        self._greeted = True

    def _secured(self, side: Side) -> None:
        if side is UPSTREAM:
            self._ask_capabilities()
            return
        # RFC 2595 4: nothing of the plaintext phase counts.  The upstream may hold a USER of it.
        self._stale_user = self._stale_user or self._holds_user
        self._user = b""
        self._forget_login("aborted")
        if self._offered is not None:
            self._offer = self._advertise(self._offered)

    # -- capabilities ------------------------------------------------------

    def _advertise(self, keywords: dict[str, list[str]]) -> Offer:
        hidden = self._hidden()
        stls = self.rules.client_tls == "starttls" and not self.secure[CLIENT] and not self._authenticated
        key = tuple((name, *arguments) for name, arguments in keywords.items())
        offer = self.rules.remembered(
            (key, stls, hidden),
            lambda: advertise(keywords, self.rules, stls=stls, hidden=hidden),
        )
        for name, reason in offer.struck:
            if name not in self._told:
                self._told.add(name)
                self._emit(ExtensionStruck(name, reason))
        return offer

    def _r_capa(self, entry: Entry[Handler], line: bytes) -> None:
        self._pass(entry, line)
        if line.startswith(b"+OK"):
            self._gather(self._tell_capabilities)

    def _tell_capabilities(self, lines: list[bytes]) -> None:
        self._offered = read(lines)
        self._offer = self._advertise(self._offered)
        self._send(CLIENT, "".join(f"{one}\r\n" for one in self._offer.lines).encode() + b".\r\n")

    def _r_mechanisms(self, entry: Entry[Handler], line: bytes) -> None:
        self._pass(entry, line)
        if line.startswith(b"+OK"):
            self._gather(self._tell_mechanisms)

    def _tell_mechanisms(self, lines: list[bytes]) -> None:
        names = [one.decode("ascii", "replace").strip() for one in lines]
        passed = advertise({"SASL": names}, self.rules, stls=False, hidden=self._hidden()).mechanisms
        self._send(CLIENT, "".join(f"{one}\r\n" for one in passed).encode() + b".\r\n")
