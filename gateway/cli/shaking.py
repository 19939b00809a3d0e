"""Handshakes with a mail server, one after the other, as many different clients would shake hands."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from OpenSSL import SSL, crypto

from ..core.steps import TlsInfo
from ..core.text import shown
from ..relay.tls import describe, handshake_problem, is_address
from .asking import ASKING, WAIT, Connection, ProbeError, Target

VERSIONS = {
    "TLSv1": SSL.TLS1_VERSION,
    "TLSv1.1": SSL.TLS1_1_VERSION,
    "TLSv1.2": SSL.TLS1_2_VERSION,
    "TLSv1.3": SSL.TLS1_3_VERSION,
}
TLS13_CIPHERS = ("TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256")
#: Groups of the key exchange, by OpenSSL's names.
GROUPS = ("X25519", "P-256", "P-384", "P-521")
#: All that this OpenSSL can still say, the weak as well: a probe must be able to find it.
ALL_CIPHERS = "ALL:COMPLEMENTOFALL:@SECLEVEL=0"
#: No server gets more connections than that from one check.
MOST_HANDSHAKES = 64
#: What only a server that reads plaintext behind STARTTLS answers, and how to end the session behind TLS.
_INJECTED = {"smtp": "NOOP", "lmtp": "NOOP", "pop3": "CAPA", "imap": "injected NOOP"}
_STARTTLS = {"smtp": "STARTTLS", "lmtp": "STARTTLS", "pop3": "STLS", "imap": "probe STARTTLS"}
_QUIT = {"smtp": "QUIT", "lmtp": "QUIT", "pop3": "QUIT", "imap": "probe LOGOUT"}


@dataclass
class Shaken:
    """What one handshake came to."""

    problem: str = ""  # "" if it succeeded
    info: TlsInfo | None = None
    chain: list[x509.Certificate] = field(default_factory=list)
    verdict: int = 0  # OpenSSL's on the chain: 0 is good
    asked: bool = False  # the server asks for the client's certificate
    session: Any = None
    context: SSL.Context | None = None
    tls: SSL.Connection | None = None


class Shaker:
    """Shakes hands with one server.  Raises ProbeError where it can't be reached, or is asked too much."""

    def __init__(self, target: Target, name: str, ca: str | None) -> None:
        """name: for SNI, unless it is an address.  ca: a file of trusted authorities, or the system's."""
        self.target = Target(
            target.addresses, target.protocol, "none", ssl.create_default_context(),
            name, target.proxy_protocol, target.hello,
        )  # fmt: skip
        self.implicit = target.tls == "implicit"
        self.protocol = target.protocol
        self.name = name
        self.ca = ca
        self.count = 0

    def connect(self) -> Connection:
        """Open a connection in clear."""
        self.count += 1
        if self.count > MOST_HANDSHAKES:
            raise ProbeError(f"more than {MOST_HANDSHAKES} handshakes would be needed")
        return Connection(self.target)

    def shake(
        self,
        *,
        lowest: str = "TLSv1",
        highest: str = "TLSv1.3",
        ciphers: str | None = None,
        suites: str | None = None,
        group: str = "",
        after: Shaken | None = None,
        settle: bool = False,
    ) -> Shaken:
        """Connect, ask for TLS, and shake hands.

        ciphers, suites: OpenSSL's lists up to TLS 1.2, and for 1.3.  settle: hear what comes behind the
        handshake: tickets, and whether a client without a certificate may stay.  after: the handshake
        that this one is to go on from.
        """
        connection = self.connect()
        try:
            if not self.implicit:
                self.ask_for_tls(connection)
            result = Shaken()
            if after is not None and after.context is not None:
                self._run(connection, after.context, result, after.session, settle)
                return result
            context = result.context = SSL.Context(SSL.TLS_CLIENT_METHOD)
            context.set_min_proto_version(VERSIONS[lowest])
            context.set_max_proto_version(VERSIONS[highest])
            if ciphers is not None:
                context.set_cipher_list(ciphers.encode())
            if suites is not None:
                context.set_tls13_ciphersuites(suites.encode())
            if group:
                # pyOpenSSL has a call for the curves of its elliptic keys only.
                SSL._lib.SSL_CTX_set1_curves_list(context._context, group.encode())  # type: ignore[attr-defined]
            if self.ca is not None:
                context.load_verify_locations(self.ca)
            else:
                context.set_default_verify_paths()
            context.set_verify(SSL.VERIFY_PEER, _keep_verdict(result))
            context.set_info_callback(_keep_request(result))
            self._run(connection, context, result, None, settle)
            return result
        finally:
            connection.close()

    def ask_for_tls(self, connection: Connection, more: str = "") -> None:
        """Say STARTTLS in the protocol's words.  more: what is sent in the same segment, behind it."""
        asking = ASKING[self.protocol]
        asking.greeting(connection)
        if self.protocol in ("smtp", "lmtp"):
            asking.offered(connection, self.target.hello)
        if more:
            connection.sock.sendall(f"{_STARTTLS[self.protocol]}\r\n{more}\r\n".encode())
            lines = [connection.line()]
            while self.protocol == "imap" and lines[-1].startswith("* "):
                lines.append(connection.line())
            if not lines[-1].upper().startswith(("220", "+OK", "PROBE OK")):
                raise ProbeError(lines[-1])
            return
        problem = asking.starttls(connection, ["STARTTLS"])
        if problem:
            raise ProbeError(problem)

    def _run(
        self, connection: Connection, context: SSL.Context, result: Shaken, session: Any, settle: bool
    ) -> None:
        tls = result.tls = SSL.Connection(context, None)
        if self.name and not is_address(self.name):
            tls.set_tlsext_host_name(self.name.encode("idna"))
        if session is not None:
            tls.set_session(session)
        tls.set_connect_state()
        try:
            _pump(connection, tls, tls.do_handshake)
            result.info = describe(tls)
            result.chain = tls.get_peer_cert_chain(as_cryptography=True) or []
            if settle:
                if not self.implicit:
                    tls.send(_QUIT[self.protocol].encode() + b"\r\n")
                _pump(connection, tls, lambda: tls.recv(4096))
                result.session = tls.get_session()
                tls.shutdown()  # a session that was cut is not taken up again
        except (SSL.Error, ValueError) as error:
            result.problem = _problem(error, tls)
            if result.asked and result.info is None and tls.get_cipher_name():
                result.info = describe(tls)  # all was agreed on; only the client's certificate lacks
                result.chain = tls.get_peer_cert_chain(as_cryptography=True) or []
        except ConnectionError:
            result.problem = "the server closes the connection"
        except OSError as error:
            result.problem = error.strerror or str(error)

    def injected(self) -> str:
        """Send a command behind STARTTLS in one segment; say what becomes of it (CVE-2011-0411).

        "executed", "discarded", or "refused".
        """
        connection = self.connect()
        try:
            try:
                self.ask_for_tls(connection, _INJECTED[self.protocol])
            except ProbeError:
                return "refused"
            context = SSL.Context(SSL.TLS_CLIENT_METHOD)
            tls = SSL.Connection(context, None)
            tls.set_connect_state()
            try:
                _pump(connection, tls, tls.do_handshake)
                tls.send(_QUIT[self.protocol].encode() + b"\r\n")
                heard = b""
                while len(heard) < 65536:
                    heard += _pump(connection, tls, lambda: tls.recv(4096))
            except (SSL.Error, OSError, ValueError):
                pass
            if not tls.get_finished():
                return "refused"
            if self.protocol == "imap":
                return "executed" if b"injected " in heard else "discarded"
            return "executed" if len(heard.splitlines()) > 1 else "discarded"
        finally:
            connection.close()


def _problem(error: Exception, tls: SSL.Connection) -> str:
    if isinstance(error, SSL.ZeroReturnError):
        return "the server ends TLS"
    reasons = error.args[0] if error.args and isinstance(error.args[0], list) else []
    if any("certificate required" in str(entry[-1]) for entry in reasons):
        return "the server wants a client certificate"
    return handshake_problem(error, tls)[1]


def _pump(connection: Connection, tls: SSL.Connection, step: Callable[[], Any]) -> Any:
    """Do a step of TLS, and move octets until it is done.  Raises OSError, SSL.Error."""
    end = time.monotonic() + WAIT
    early, connection._heard = connection._heard, b""
    if early:
        tls.bio_write(early)
    while True:
        try:
            return step()
        except SSL.WantReadError:
            waits = True
        finally:
            _flush(connection, tls)
        if waits:
            data = connection.sock.recv(65536)
            if not data:
                raise ConnectionError("closed")
            if time.monotonic() > end:
                raise TimeoutError(f"no answer within {WAIT:g} s")
            tls.bio_write(data)


def _flush(connection: Connection, tls: SSL.Connection) -> None:
    try:
        while True:
            connection.sock.sendall(tls.bio_read(65536))
    except SSL.WantReadError:
        pass


def _keep_verdict(result: Shaken) -> Callable[..., bool]:
    def verify(_connection: SSL.Connection, _shown: crypto.X509, error: int, _depth: int, ok: int) -> bool:
        if not ok and not result.verdict:
            result.verdict = error
        return True  # what the server shows is to be seen, good or not

    return verify


def _keep_request(result: Shaken) -> Callable[..., None]:
    def told(connection: SSL.Connection, _where: int, _code: int) -> None:
        if b"certificate request" in connection.get_state_string():
            result.asked = True

    return told


def accepted_in_order(attempt: Callable[[Sequence[str]], str], names: Sequence[str]) -> list[str]:
    """Find which of some names a server takes, in its order: offer all, strike what it chose, again."""
    left, found = list(names), []
    while left:
        chosen = attempt(left)
        if not chosen or chosen not in left:
            break
        found.append(shown(chosen, 60))
        left.remove(chosen)
    return found


def known_ciphers() -> list[str]:
    """Return the ciphers up to TLS 1.2 that this OpenSSL has."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_cipher_list(ALL_CIPHERS.encode())
    return [name for name in SSL.Connection(context, None).get_cipher_list() if not name.startswith("TLS_")]
