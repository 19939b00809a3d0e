"""TLS contexts for both sides, and what is worth knowing of a handshake."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from OpenSSL import SSL, crypto
from service_identity import VerificationError
from service_identity.pyopenssl import verify_hostname, verify_ip_address

from ..core.steps import TlsInfo

if TYPE_CHECKING:
    from cryptography import x509

#: Mozilla's profiles (Server Side TLS 5.7): lowest version and the ciphers up to TLS 1.2.
PROFILES: dict[str, tuple[int, bytes]] = {
    "modern": (SSL.TLS1_3_VERSION, b"ECDHE+AESGCM"),
    "intermediate": (
        SSL.TLS1_2_VERSION,
        b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
        b"ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
        b"DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384",
    ),
    "old": (SSL.TLS1_VERSION, b"ALL:!aNULL:!eNULL:!EXPORT:!RC4:!MD5:@SECLEVEL=0"),
}

_VERSION_NAMES = {
    SSL.TLS1_VERSION: "TLSv1",
    SSL.TLS1_1_VERSION: "TLSv1.1",
    SSL.TLS1_2_VERSION: "TLSv1.2",
    SSL.TLS1_3_VERSION: "TLSv1.3",
}


def version_name(version: int) -> str:
    """Return what OpenSSL calls a version of TLS."""
    return _VERSION_NAMES[version]


#: ALPN identifiers by protocol (IANA); SMTP has none registered.
ALPN: dict[str, tuple[bytes, ...]] = {"imap": (b"imap",), "pop3": (b"pop3",), "smtp": (), "lmtp": ()}
#: Identifiers that show a browser led here by somebody else (ALPACA).
_FOREIGN = (b"http/", b"h2", b"h3", b"ftp", b"xmpp")


#: How long a client may come back without a full handshake, in seconds.
RESUMPTION_TIME = 2 * 3600

_ENABLE_PARTIAL_WRITE = 1  # SSL_MODE_ENABLE_PARTIAL_WRITE, which pyOpenSSL sets and does not name


class TlsError(Exception):
    """A certificate, key or authority can't be used; the text says which and why."""


class ForeignProtocol(Exception):
    """A client offers a protocol by ALPN that is not spoken here."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate chain and its key, both PEM files."""

    certificate: Path
    key: Path


def names_of(certificate: Path) -> list[str]:
    """Return the DNS names of a certificate, lower case."""
    from cryptography import x509

    loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
    try:
        extension = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return [name.lower() for name in extension.value.get_values_for_type(x509.DNSName)]


def _context(minimum: int, ciphers: bytes) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(minimum)
    context.set_cipher_list(ciphers)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    # One call encrypts all it is given: the memory behind it never blocks.
    context.clear_mode(_ENABLE_PARTIAL_WRITE)
    # An idle connection gives its buffers back.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    return context


def _load(context: SSL.Context, pair: KeyPair) -> None:
    try:
        context.use_certificate_chain_file(str(pair.certificate))
    except SSL.Error:
        raise TlsError(f"{pair.certificate}: not a certificate in PEM form") from None
    try:
        context.use_privatekey_file(str(pair.key))
        context.check_privatekey()
    except SSL.Error:
        raise TlsError(f"{pair.key}: not the key of {pair.certificate}") from None


def _allow_resumption(context: SSL.Context, protocol: str, *, certificates: bool) -> None:
    """Let clients come back with a ticket, or a session's id (RFC 8446 2.2, RFC 5077, RFC 5246 7.3).

    The keys of tickets are the context's own: whoever comes back after a reload shakes hands in full.
    certificates: clients may show some.  Those are looked at each time, for they may be revoked meanwhile.
    """
    context.set_session_id(f"mailgate-{protocol}".encode()[:32])
    if certificates:
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_options(SSL.OP_NO_TICKET)
        return
    context.set_session_cache_mode(SSL.SESS_CACHE_SERVER)
    context.set_timeout(RESUMPTION_TIME)


def _check_revocation(context: SSL.Context, lists: Sequence[x509.CertificateRevocationList]) -> None:
    """Refuse certificates that the lists revoke (RFC 5280 5).

    A certificate whose issuer has no list there, or only one that is out of date, is refused too.
    """
    store = context.get_cert_store()
    assert store is not None
    for one in lists:
        store.add_crl(one)
    store.set_flags(crypto.X509StoreFlags.CRL_CHECK)


class ServerTls:
    """The client leg of one listener: a context for each certificate, chosen by SNI."""

    def __init__(
        self,
        pairs: Sequence[KeyPair],
        *,
        protocol: str,
        profile: str = "intermediate",
        client_ca: Path | None = None,
        client_crl: Sequence[x509.CertificateRevocationList] = (),
        client_certificate: str = "none",
        key_log: Callable[[bytes], None] | None = None,
        ja4: bool = False,
    ) -> None:
        """Load everything.  Raises TlsError, OSError.

        ja4: whether a fingerprint is made of each client's offer.
        """
        self.ja4 = ja4
        self._by_name: dict[str, SSL.Context] = {}
        self._default: SSL.Context | None = None
        minimum, ciphers = PROFILES[profile]
        for pair in pairs:
            context = _context(minimum, ciphers)
            context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
            _load(context, pair)
            _allow_resumption(context, protocol, certificates=client_certificate != "none")
            context.set_tlsext_servername_callback(self._choose)
            context.set_alpn_select_callback(_alpn_chooser(ALPN.get(protocol, ())))
            if client_certificate != "none" and client_ca is not None:
                context.load_verify_locations(str(client_ca))
                mode = SSL.VERIFY_PEER
                if client_certificate == "require":
                    mode |= SSL.VERIFY_FAIL_IF_NO_PEER_CERT
                context.set_verify(mode, _verified)
                if client_crl:
                    _check_revocation(context, client_crl)
            if key_log is not None:
                context.set_keylog_callback(partial(_keep_keys, key_log))
            if self._default is None:
                self._default = context
            for name in names_of(pair.certificate):
                self._by_name.setdefault(name, context)

    def adopt(self, other: ServerTls) -> None:
        """Use what another one has loaded for connections to come; those that are there keep theirs."""
        self._by_name, self._default = other._by_name, other._default

    def _choose(self, connection: SSL.Connection) -> None:
        """Pick the certificate for the name that the client asks for; else the first."""
        name = connection.get_servername()
        if not name:
            return
        text = name.decode("ascii", "replace").lower()
        context = self._by_name.get(text) or self._by_name.get("*." + text.partition(".")[2])
        if context is not None:
            connection.set_context(context)

    def connection(self) -> SSL.Connection:
        """Return the server's end of a new TLS connection."""
        assert self._default is not None
        connection = SSL.Connection(self._default, None)
        connection.set_accept_state()
        return connection


def _keep_keys(write: Callable[[bytes], None], _connection: SSL.Connection, line: bytes) -> None:
    write(line)


def _alpn_chooser(ours: Sequence[bytes]) -> Callable[[SSL.Connection, list[bytes]], bytes]:
    def choose(_connection: SSL.Connection, offered: list[bytes]) -> bytes:
        for name in offered:
            if name in ours:
                return name
        if offered and all(name.startswith(_FOREIGN) for name in offered):
            raise ForeignProtocol(b", ".join(offered).decode("ascii", "replace"))
        return SSL.NO_OVERLAPPING_PROTOCOLS  # type: ignore[return-value]

    return choose


class ClientTls:
    """The upstream leg: what is verified, and what is shown."""

    def __init__(
        self,
        *,
        verify: bool = True,
        ca: Path | None = None,
        crl: Sequence[x509.CertificateRevocationList] = (),
        pair: KeyPair | None = None,
        key_log: Callable[[bytes], None] | None = None,
    ) -> None:
        """Load everything.  Raises TlsError, OSError."""
        self.verify = verify
        context = _context(SSL.TLS1_2_VERSION, PROFILES["intermediate"][1])
        if ca is not None:
            try:
                context.load_verify_locations(str(ca))
            except SSL.Error:
                raise TlsError(f"{ca}: no certificates in PEM form") from None
        else:
            context.set_default_verify_paths()
        if pair is not None:
            _load(context, pair)
        if verify:
            context.set_verify(SSL.VERIFY_PEER, _verified)
            if crl:
                _check_revocation(context, crl)
        if key_log is not None:
            context.set_keylog_callback(partial(_keep_keys, key_log))
        self._context = context

    def adopt(self, other: ClientTls) -> None:
        """Use what another one has loaded for connections to come; those that are there keep theirs."""
        self._context = other._context

    def connection(self, name: str) -> SSL.Connection:
        """Return the client's end of a new TLS connection to the host of that name."""
        connection = SSL.Connection(self._context, None)
        if not is_address(name):
            connection.set_tlsext_host_name(name.encode("idna"))
        connection.set_connect_state()
        return connection

    def problem_with_name(self, connection: SSL.Connection, name: str) -> str:
        """Say why the certificate shown is not that host's; "" if it is (RFC 9525)."""
        if not self.verify:
            return ""
        try:
            if is_address(name):
                verify_ip_address(connection, name)
            else:
                verify_hostname(connection, name)
        except VerificationError:
            return f"the certificate is not for {name}"
        except Exception as error:  # noqa: BLE001 - a certificate may be malformed in many ways
            return f"the certificate can't be read: {type(error).__name__}"
        return ""


#: OpenSSL's verdicts on a certificate (X509_verify_cert_error_string), in words of ours.
VERDICTS = {
    3: "no revocation list for its issuer",
    8: "the revocation list is signed by another authority",
    9: "it is not valid yet",
    10: "it has expired",
    12: "the revocation list is out of date",
    18: "it is signed by itself",
    19: "its authority is not trusted",
    20: "its authority is not trusted",
    21: "its authority is not trusted",
    23: "it is revoked",
    24: "its issuer is no authority",
    26: "it is not made for this purpose",
}


def _verified(connection: SSL.Connection, _shown: object, error: int, _depth: int, ok: int) -> bool:
    """Take OpenSSL's word, and keep why it says no."""
    if not ok and connection.get_app_data() is None:
        connection.set_app_data(VERDICTS.get(error, f"OpenSSL's error {error}"))
    return bool(ok)


def is_address(name: str) -> bool:
    """Tell whether a name is an IP address in truth."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_resumed(connection: SSL.Connection) -> bool:
    # pyOpenSSL does not pass SSL_session_reused() on; should its inside change, all seem to be new.
    try:
        return bool(SSL._lib.SSL_session_reused(connection._ssl))  # type: ignore[attr-defined]
    except AttributeError:
        return False


def describe(connection: SSL.Connection) -> TlsInfo:
    """Say what a finished handshake agreed on."""
    alpn = connection.get_alpn_proto_negotiated()
    name = connection.get_servername()
    peer = connection.get_peer_certificate(as_cryptography=True)
    return TlsInfo(
        version=connection.get_protocol_version_name(),
        cipher=connection.get_cipher_name() or "",
        group=connection.get_group_name() or "",
        sni=name.decode("ascii", "replace") if name else "",
        alpn=alpn.decode("ascii", "replace") if alpn else "",
        resumed=_is_resumed(connection),
        peer=peer.subject.rfc4514_string() if peer is not None else "",
    )


#: OpenSSL's reasons, in words of ours: (fragment, reason, detail).
_PROBLEMS = (
    ("http request", "plaintext", "the peer speaks HTTP, not TLS"),
    ("wrong version number", "plaintext", "the peer speaks plaintext, not TLS"),
    ("packet length too long", "plaintext", "the peer speaks plaintext, not TLS"),
    ("record layer failure", "plaintext", "the peer does not speak TLS"),
    ("unsupported protocol", "no_shared_version", "no TLS version in common"),
    ("version too low", "no_shared_version", "the peer's TLS version is too old"),
    ("alert protocol version", "no_shared_version", "no TLS version in common"),
    ("inappropriate fallback", "no_shared_version", "version fallback refused"),
    ("no shared cipher", "no_shared_cipher", "no cipher in common"),
    ("no suitable", "no_shared_cipher", "no algorithm in common"),
    ("handshake failure", "no_shared_cipher", "the peer refused the handshake"),
    ("certificate verify failed", "certificate", "the certificate is not trusted"),
    ("certificate has expired", "certificate", "the certificate has expired"),
    ("unknown ca", "certificate", "the peer does not trust our certificate"),
    ("bad certificate", "certificate", "the peer refused our certificate"),
    ("certificate unknown", "certificate", "the peer refused our certificate"),
    ("peer did not return a certificate", "certificate", "the client showed no certificate"),
    ("unexpected eof", "closed", "closed within the handshake"),
)


def handshake_problem(error: BaseException, connection: SSL.Connection | None = None) -> tuple[str, str]:
    """Put an error of OpenSSL into a closed set of reasons, and into words.

    connection: the one that failed; it knows what is wrong with a certificate.
    """
    if isinstance(error, ForeignProtocol):
        return "alpn", f"the client offers {error}"
    if isinstance(error, SSL.SysCallError):
        return "closed", "closed within the handshake"
    reasons = error.args[0] if error.args and isinstance(error.args[0], list) else []
    text = "; ".join(str(entry[-1]) for entry in reasons) or type(error).__name__
    for fragment, reason, detail in _PROBLEMS:
        if fragment in text:
            why = connection.get_app_data() if connection is not None and reason == "certificate" else None
            return reason, f"{detail}: {why}" if why else detail
    return "other", text
