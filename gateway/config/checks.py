"""What a model can't see: references, files, certificates, contradictions."""

from __future__ import annotations

import difflib
import ipaddress
import os
import pwd
import socket
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path as FilePath

from ..inspection.loader import PluginConfigError, check_plugins
from .model import Certificate, Configuration, Listener, Upstream

Where = tuple[str | int, ...]
#: path, message, suggestion, whether it is only a warning.
Found = tuple[Where, str, str, bool]

#: How long before its end a certificate is worth a warning.
SOON = timedelta(days=14)
_FORWARDS = {"xclient": ("smtp", "lmtp", "pop3"), "id": ("imap",)}


def check(configuration: Configuration) -> Iterator[Found]:
    """Give everything that is wrong or doubtful."""
    yield from _duplicates([u.name for u in configuration.upstreams], "upstreams")
    yield from _duplicates([one.name for one in configuration.listeners], "listeners")
    yield from _duplicates([p.name for p in configuration.plugins], "plugins")
    for index, upstream in enumerate(configuration.upstreams):
        yield from _upstream(upstream, ("upstreams", index))
    addresses: dict[str, int] = {}
    for index, listener in enumerate(configuration.listeners):
        where: Where = ("listeners", index)
        yield from _listener(listener, configuration, where)
        address = str(listener.address)
        if listener.address.port and address in addresses:
            yield (*where, "address"), f"listeners[{addresses[address]}] listens on {address} too", "", False
        addresses.setdefault(address, index)
    yield from _plugins(configuration)
    directory = configuration.spool.directory
    if directory is not None and not directory.is_dir():
        yield ("spool", "directory"), f"no such folder: {directory}", "", False


def _duplicates(names: Sequence[str], table: str) -> Iterator[Found]:
    for index, name in enumerate(names):
        if name in names[:index]:
            yield (
                (table, index, "name"),
                f'"{name}" is the name of {table}[{names.index(name)}] too',
                "",
                False,
            )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _upstream(upstream: Upstream, where: Where) -> Iterator[Found]:
    far = [str(address) for address in upstream.addresses if not _is_loopback(address.host)]
    if upstream.tls is None and far:
        message = f"tls must be said for an upstream that is not on this machine ({far[0]})"
        yield (
            where,
            message,
            'tls = "starttls" or "implicit"; "none" sends mail and passwords in clear',
            False,
        )
    if upstream.tls not in (None, "none") and not upstream.verify and far:
        message = "the upstream's certificate is not verified: anybody between can read everything"
        yield (*where, "verify"), message, "", True
    if (upstream.certificate is None) != (upstream.key is None):
        yield where, "a client certificate needs both certificate and key", "", False
    elif upstream.certificate is not None and upstream.key is not None:
        yield from _pair(upstream.certificate, upstream.key, where)
    if upstream.ca is not None:
        yield from _readable(upstream.ca, (*where, "ca"))
    for index, address in enumerate(upstream.addresses):
        try:
            socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        except OSError as error:
            yield (*where, "addresses", index), f"can't resolve {address.host}: {error.strerror}", "", True


def _listener(listener: Listener, configuration: Configuration, where: Where) -> Iterator[Found]:
    upstreams = {upstream.name: upstream for upstream in configuration.upstreams}
    upstream = upstreams.get(listener.upstream)
    if upstream is None:
        near = difflib.get_close_matches(listener.upstream, upstreams, 1)
        hint = f'did you mean "{near[0]}"?' if near else f"there are: {', '.join(upstreams)}"
        yield (*where, "upstream"), f'unknown upstream "{listener.upstream}"', hint, False
    elif upstream.forward_client != "none" and listener.protocol not in _FORWARDS[upstream.forward_client]:
        message = (
            f'forward_client = "{upstream.forward_client}" of its upstream is not for {listener.protocol}'
        )
        yield (*where, "upstream"), message, "", False
    tls = listener.tls
    if tls.mode != "none" and not tls.certificates:
        yield (*where, "tls"), f'mode = "{tls.mode}" needs certificates', "", False
    if tls.mode == "none" and listener.cleartext_login == "refuse" and not listener.proxy_protocol_from:
        message = "no login is possible: there is no TLS, and logins in clear are refused"
        yield (*where, "cleartext_login"), message, "", True
    if tls.client_certificate != "none" and tls.client_ca is None:
        yield (*where, "tls", "client_ca"), "is needed to verify client certificates", "", False
    if tls.client_ca is not None:
        yield from _readable(tls.client_ca, (*where, "tls", "client_ca"))
    if tls.key_log is not None:
        message = "whoever reads this file can decrypt every connection"
        yield (*where, "tls", "key_log"), message, "", True
    for index, pair in enumerate(tls.certificates):
        yield from _certificate(pair, (*where, "tls", "certificates", index))


def _certificate(pair: Certificate, where: Where) -> Iterator[Found]:
    yield from _pair(pair.certificate, pair.key, where)


def _readable(path: FilePath, where: Where) -> Iterator[Found]:
    try:
        path.read_bytes()
    except FileNotFoundError:
        yield where, f"no such file: {path}", "", False
    except PermissionError:
        user = pwd.getpwuid(os.geteuid()).pw_name
        yield where, f"can't be read by the user {user}: {path}", "", False
    except OSError as error:
        yield where, f"{path}: {error.strerror}", "", False


def _pair(certificate: FilePath, key: FilePath, where: Where) -> Iterator[Found]:
    """Check that both can be read, belong together, and when the certificate ends."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    unreadable = [
        *_readable(certificate, (*where, "certificate")),
        *_readable(key, (*where, "key")),
    ]
    yield from unreadable
    if unreadable:
        return
    try:
        shown = x509.load_pem_x509_certificate(certificate.read_bytes())
    except ValueError:
        yield (*where, "certificate"), f"not a certificate in PEM form: {certificate}", "", False
        return
    try:
        private = serialization.load_pem_private_key(key.read_bytes(), None)
    except TypeError:
        yield (*where, "key"), f"the key is encrypted: {key}", "openssl pkey -in KEY -out NEWKEY", False
        return
    except ValueError:
        yield (*where, "key"), f"not a private key in PEM form: {key}", "", False
        return
    if private.public_key() != shown.public_key():
        yield (*where, "key"), f"not the key of {certificate}: {key}", "", False
    now = datetime.now(UTC)
    end = shown.not_valid_after_utc
    if end < now:
        yield (*where, "certificate"), f"expired on {end:%Y-%m-%d}: {certificate}", "renew it", True
    elif end < now + SOON:
        yield (*where, "certificate"), f"expires on {end:%Y-%m-%d}: {certificate}", "renew it", True
    if shown.not_valid_before_utc > now:
        yield (*where, "certificate"), f"not valid before {shown.not_valid_before_utc:%Y-%m-%d}", "", True


def _plugins(configuration: Configuration) -> Iterator[Found]:
    names = {listener.name for listener in configuration.listeners}
    for index, table in enumerate(configuration.plugins):
        for place, name in enumerate(table.listeners):
            if name not in names:
                near = difflib.get_close_matches(name, names, 1)
                hint = f'did you mean "{near[0]}"?' if near else ""
                yield ("plugins", index, "listeners", place), f'unknown listener "{name}"', hint, False
    problems: list[PluginConfigError] = check_plugins(configuration.plugin_specs())
    for problem in problems:
        yield ("plugins", *problem.path), problem.message, "", False
