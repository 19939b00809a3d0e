"""What a model can't see: references, files, certificates, contradictions."""

from __future__ import annotations

import ipaddress
import os
import pwd
import re
import socket
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path as FilePath
from urllib.parse import urlsplit

from ..core.rules import DEFAULT_MECHANISMS
from ..core.wording import did_you_mean
from ..inspection.bucket import bucket_problem
from ..inspection.loader import PluginConfigError, check_plugins
from ..networks import NetworkFileError, read_networks
from .kinds import HostPort
from .model import Configuration, EventsTable, Listener, Upstream

Where = tuple[str | int, ...]
#: path, message, suggestion, whether it is only a warning.
Found = tuple[Where, str, str, bool]

#: How long before its end a certificate is worth a warning.
SOON = timedelta(days=14)
#: Which stages messages pass, by protocol.
_STAGES = {"smtp": {"data"}, "lmtp": {"data"}, "imap": {"append", "fetch"}, "pop3": {"retr", "top"}}
#: Mechanisms that are no typing mistakes.
_MECHANISMS = DEFAULT_MECHANISMS | {"ANONYMOUS", "DIGEST-MD5", "GSSAPI", "GS2-KRB5", "NTLM", "OTP"}
_FORWARDS = {"xclient": ("smtp", "lmtp", "pop3"), "id": ("imap",)}


def check(configuration: Configuration) -> Iterator[Found]:
    """Give everything that is wrong or doubtful."""
    yield from _duplicates([u.name for u in configuration.upstreams], "upstreams")
    yield from _duplicates([one.name for one in configuration.listeners], "listeners")
    yield from _duplicates([p.name for p in configuration.plugins], "plugins")
    yield from _duplicates([one.name for one in configuration.events], "events")
    for index, upstream in enumerate(configuration.upstreams):
        yield from _upstream(upstream, ("upstreams", index))
    for index, listener in enumerate(configuration.listeners):
        yield from _listener(listener, configuration, ("listeners", index))
    yield from _addresses(configuration)
    yield from _plugins(configuration)
    yield from _policies(configuration)
    yield from _abuse(configuration)
    for index, table in enumerate(configuration.transcripts):
        yield from _listeners_named(table.listeners, configuration, ("transcripts", index))
    if configuration.views.verdicts is not None:
        yield from _writable_folder(configuration.views.verdicts.parent, ("views", "verdicts"), configuration)
    yield from _quarantine(configuration)
    yield from _audit(configuration)
    for index, events in enumerate(configuration.events):
        yield from _events(events, configuration, ("events", index))
    directory = configuration.spool.directory
    if directory is not None:
        yield from _writable_folder(directory, ("spool", "directory"), configuration)
    if configuration.log.output not in ("stderr", "stdout"):
        output = FilePath(configuration.log.output)
        if output.is_dir():
            yield ("log", "output"), f"is a folder: {output}", "", False
        else:
            yield from _writable_folder(output.parent, ("log", "output"), configuration)
    if configuration.user:
        try:
            pwd.getpwnam(configuration.user)
        except KeyError:
            yield ("user",), f'there is no user "{configuration.user}"', "", False


def _audit(configuration: Configuration) -> Iterator[Found]:
    """Find what the audit lacks: folders, keys; and switches that have nothing to do."""
    table = configuration.audit
    if table.store is not None and "://" not in table.store:
        file = FilePath(table.store)
        if file.is_dir():
            yield ("audit", "store"), f"is a folder: {file}", f'store = "{file}/audit.db"', False
        else:
            yield from _writable_folder(file.parent, ("audit", "store"), configuration)
    if table.store is not None and "://" in table.store and find_spec("pg8000") is None:
        hint = "pip install 'mailgate[postgres]'"
        yield ("audit", "store"), "PostgreSQL needs the driver pg8000", hint, False
    if table.store is None and (table.required or table.chain or table.users == "pseudonym"):
        hint = 'store = "/var/lib/mailgate/audit.db"'
        yield ("audit",), "there is no audit without a store", hint, False
    if table.users == "pseudonym" and table.pseudonym_key is None:
        hint = "openssl rand -hex 32 > pseudonym.key"
        yield ("audit", "users"), "pseudonyms need a pseudonym_key", hint, False
    for name, key in (("chain_key", table.chain_key), ("pseudonym_key", table.pseudonym_key)):
        if key is not None:
            yield from _key(key, ("audit", name))
    if table.chain_head is not None:
        yield from _writable_folder(table.chain_head.parent, ("audit", "chain_head"), configuration)
    for name in ("chain_key", "chain_head"):
        if getattr(table, name) is not None and not table.chain:
            yield ("audit", name), "the chain is off", "chain = true", True


def _events(table: EventsTable, configuration: Configuration, where: Where) -> Iterator[Found]:
    """Find what an output of events lacks, and what would go out unprotected."""
    if sum(one is not None for one in (table.file, table.syslog, table.webhook)) != 1:
        hint = 'like: file = { path = "/var/log/mailgate/events.json" }'
        yield where, "needs one of file, syslog, webhook", hint, False
    if (file := table.file) is not None:
        if file.path.is_dir():
            yield (*where, "file", "path"), f"is a folder: {file.path}", "", False
        else:
            yield from _writable_folder(file.path.parent, (*where, "file", "path"), configuration)
    far = "everybody between can read who logs in, from where and when"
    if (syslog := table.syslog) is not None:
        here = (*where, "syslog")
        if not syslog.tls and not _is_loopback(syslog.address.host):
            yield (*here, "tls"), far, "tls = true", True
        yield from _client_pair(syslog.certificate, syslog.key, here)
        if syslog.ca is not None:
            yield from _authorities(syslog.ca, (*here, "ca"))
    if (webhook := table.webhook) is not None:
        here = (*where, "webhook")
        try:
            parts = urlsplit(webhook.url)
            wrong = parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0
        except ValueError:
            wrong = True
        if wrong or parts.username is not None or not webhook.url.isascii() or " " in webhook.url:
            hint = 'url = "https://siem.example.org/hook"; a password goes into a file: token'
            yield (*here, "url"), "not the URL of a webhook", hint, False
        elif parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
            yield (*here, "url"), far, f'url = "https{webhook.url[4:]}"', True
        for name, value in webhook.headers.items():
            if not re.fullmatch(r"[A-Za-z0-9-]+", name) or not re.fullmatch(r"[ -~]*", value):
                yield (*here, "headers"), f"not a header field: {name!r}", "", False
        if webhook.secret is not None:
            yield from _key(webhook.secret, (*here, "secret"))
        if webhook.token is not None:
            yield from _readable(webhook.token, (*here, "token"))
        if webhook.ca is not None:
            yield from _authorities(webhook.ca, (*here, "ca"))


def _client_pair(certificate: FilePath | None, key: FilePath | None, where: Where) -> Iterator[Found]:
    if (certificate is None) != (key is None):
        yield where, "a client certificate needs both certificate and key", "", False
    elif certificate is not None and key is not None:
        yield from _pair(certificate, key, where)


def _key(path: FilePath, where: Where) -> Iterator[Found]:
    hint = f"openssl rand -hex 32 > {path}; chmod 600 {path}"
    unreadable = list(_readable(path, where))
    yield from unreadable
    if not unreadable and len(path.read_bytes().rstrip(b"\r\n")) < 32:
        yield where, "a key has 32 octets or more", hint, False
    elif not unreadable and path.stat().st_mode & 0o007:
        yield where, "others may read this key", f"chmod 600 {path}", False


def _addresses(configuration: Configuration) -> Iterator[Found]:
    """Find what can't be listened on together, and a gateway that would talk to itself."""
    taken: list[tuple[str, HostPort]] = []
    for index, listener in enumerate(configuration.listeners):
        for other, there in taken:
            if _overlap(listener.address, there):
                message = f"{other} listens on {there} already"
                yield ("listeners", index, "address"), message, "", False
                break
        taken.append((f"listeners[{index}]", listener.address))
    admin = configuration.admin.address
    for other, there in taken:
        if admin is not None and _overlap(admin, there):
            yield ("admin", "address"), f"{other} listens on {there} already", "", False
    for index, upstream in enumerate(configuration.upstreams):
        for place, address in enumerate(upstream.addresses):
            for other, there in taken:
                if there.port == address.port and _is_loopback(address.host) and _covers(there, address):
                    message = f"is where {other} listens: the gateway would talk to itself"
                    yield ("upstreams", index, "addresses", place), message, "", False


def _abuse(configuration: Configuration) -> Iterator[Found]:
    abuse = configuration.abuse
    for key, paths in (("allow_files", abuse.allow_files), ("deny_files", abuse.deny_files)):
        for index, path in enumerate(paths):
            problems = [*_readable(path, ("abuse", key, index))]
            yield from problems
            if not problems:
                try:
                    read_networks(path)
                except NetworkFileError as error:
                    yield ("abuse", key, index), str(error), "", False
    if configuration.admin.control is not None:
        yield from _writable_folder(configuration.admin.control.parent, ("admin", "control"), configuration)


def _policies(configuration: Configuration) -> Iterator[Found]:
    yield from _duplicates([policy.name for policy in configuration.policies], "policies")
    for index, policy in enumerate(configuration.policies):
        where: Where = ("policies", index)
        yield from _listeners_named(policy.listeners, configuration, where)
        if policy.users and policy.session != "none":
            message = "holds before anybody has logged in, so it can't depend on users"
            yield (*where, "session"), message, "", False
        for name in policy.mechanisms:
            if name.upper() not in ("USER", "APOP"):
                yield from _mechanism(name, (*where, "mechanisms"))
        if policy.login == "tls-client-cert" and not any(
            listener.tls.client_certificate != "none"
            for listener in configuration.listeners
            if not policy.listeners or listener.name in policy.listeners
        ):
            message = "no listener that it applies to asks for a client's certificate"
            yield (*where, "login"), message, "set client_certificate in [listeners.tls]", True
        for number, spared in enumerate(policy.exceptions):
            if spared.until is not None and spared.until <= time.time():
                yield (*where, "exceptions", number, "until"), "has ended: it spares nobody", "", True
        for earlier, one in enumerate(configuration.policies[:index]):
            if not (one.listeners or one.protocols or one.networks or one.users):
                yield (*where, "name"), f"never applies: policies[{earlier}] applies to everybody", "", True
                break


def _quarantine(configuration: Configuration) -> Iterator[Found]:
    table = configuration.quarantine
    if table.directory is not None:
        yield from _writable_folder(table.directory, ("quarantine", "directory"), configuration)
        if table.url:
            yield ("quarantine", "url"), "give either directory or url", "", False
    problem = bucket_problem(table.url, table.endpoint)
    if problem:
        key = problem.split()[0]
        yield ("quarantine", key), problem.removeprefix(key).strip(), "", False
    elif table.url and find_spec("obstore") is None:
        yield ("quarantine", "url"), 'needs the extra "s3": pip install "mailgate[s3]"', "", False


def _overlap(one: HostPort, other: HostPort) -> bool:
    """Tell whether the second of two sockets could not be bound.  Port 0 is a free one each time."""
    return bool(one.port) and one.port == other.port and (_covers(one, other) or _covers(other, one))


def _covers(one: HostPort, other: HostPort) -> bool:
    """Tell whether what listens on one address hears what is sent to the other, too."""
    if one.host == "::":
        return True  # IPv4 as well: its socket is not IPv6 only
    return one.host == other.host or (one.host == "0.0.0.0" and ":" not in other.host)


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


#: smtps, imaps, pop3s.
_IMPLICIT_PORTS = frozenset({465, 993, 995})


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
    yield from _client_pair(upstream.certificate, upstream.key, where)
    if upstream.ca is not None:
        yield from _authorities(upstream.ca, (*where, "ca"))
    if upstream.crl is not None:
        yield from _revocation_lists(upstream.crl, (*where, "crl"))
    for index, address in enumerate(upstream.addresses):
        if address.port in _IMPLICIT_PORTS and upstream.tls in ("starttls", "opportunistic", "none"):
            message = f'port {address.port} is for TLS from the first octet: tls = "implicit"'
            yield (*where, "addresses", index), message, "", True
        try:
            socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        except OSError as error:
            message = f"can't resolve {address.host}: {error.strerror}"
            yield (*where, "addresses", index), message, "it is looked up again for each session", True


def _listener(listener: Listener, configuration: Configuration, where: Where) -> Iterator[Found]:
    upstreams = {upstream.name: upstream for upstream in configuration.upstreams}
    upstream = upstreams.get(listener.upstream)
    if upstream is None:
        hint = did_you_mean(listener.upstream, set(upstreams)) or f"there are: {', '.join(upstreams)}"
        yield (*where, "upstream"), f'unknown upstream "{listener.upstream}"', hint, False
    elif upstream.forward_client != "none" and listener.protocol not in _FORWARDS[upstream.forward_client]:
        message = (
            f'forward_client = "{upstream.forward_client}" of its upstream is not for {listener.protocol}'
        )
        yield (*where, "protocol"), message, "", False
    tls = listener.tls
    if tls.mode != "none" and not tls.certificates:
        yield (*where, "tls"), f'mode = "{tls.mode}" needs certificates', "", False
    if tls.mode == "none" and listener.cleartext_login == "refuse" and not listener.proxy_protocol_from:
        message = "no login is possible: there is no TLS, and logins in clear are refused"
        yield (*where, "cleartext_login"), message, "", True
    if tls.client_certificate != "none" and tls.client_ca is None:
        yield (*where, "tls", "client_ca"), "is needed to verify client certificates", "", False
    if tls.client_ca is not None:
        yield from _authorities(tls.client_ca, (*where, "tls", "client_ca"))
    if tls.client_crl is not None:
        yield from _revocation_lists(tls.client_crl, (*where, "tls", "client_crl"))
    if tls.key_log is not None:
        message = "whoever reads this file can decrypt every connection"
        yield (*where, "tls", "key_log"), message, "", True
    if listener.smtp.greeting_delay and listener.protocol not in ("smtp", "lmtp"):
        yield (
            (*where, "smtp", "greeting_delay"),
            f"has no effect: the protocol is {listener.protocol}",
            "",
            True,
        )
    for index, pair in enumerate(tls.certificates):
        yield from _pair(pair.certificate, pair.key, (*where, "tls", "certificates", index))
    for index, name in enumerate(listener.mechanisms):
        yield from _mechanism(name, (*where, "mechanisms", index))


def _mechanism(name: str, where: Where) -> Iterator[Found]:
    """Judge the name of a SASL mechanism: 1 to 20 of A-Z, 0-9, "-" and "_" (RFC 4422 3.1)."""
    upper = name.upper()
    if not re.fullmatch(r"[A-Z0-9_-]{1,20}", upper):
        yield where, f'not the name of a SASL mechanism: "{name}"', "", False
    elif upper.endswith("-PLUS") or upper == "EXTERNAL":
        yield where, f"{upper} is struck all the same: it can't pass a proxy that ends TLS", "", True
    elif upper not in _MECHANISMS:
        yield where, f'unknown SASL mechanism "{name}"', did_you_mean(upper, _MECHANISMS), True


def _authorities(path: FilePath, where: Where) -> Iterator[Found]:
    """Check that a file holds certificates to trust."""
    from cryptography import x509

    unreadable = list(_readable(path, where))
    yield from unreadable
    if not unreadable:
        try:
            x509.load_pem_x509_certificates(path.read_bytes())
        except ValueError:
            yield where, f"no certificates in PEM form: {path}", "", False


def _revocation_lists(path: FilePath, where: Where) -> Iterator[Found]:
    """Check that a file holds revocation lists, and that they are not out of date."""
    from .revocation import revocation_lists

    unreadable = list(_readable(path, where))
    yield from unreadable
    if unreadable:
        return
    try:
        lists = revocation_lists(path)
    except ValueError as error:
        yield where, str(error), "", False
        return
    for one in lists:
        end = one.next_update_utc
        if end is not None and end < datetime.now(UTC):
            message = f"out of date since {end:%Y-%m-%d}: certificates of its issuer are refused"
            yield where, message, "fetch the new one", True


def _writable_folder(path: FilePath, where: Where, configuration: Configuration) -> Iterator[Found]:
    if not path.is_dir():
        yield where, f"no such folder: {path}", f"mkdir -p {path}", False
    elif not configuration.user and not os.access(path, os.W_OK | os.X_OK):
        yield where, f"can't be written by the user {_user()}: {path}", "", False


def _readable(path: FilePath, where: Where) -> Iterator[Found]:
    try:
        path.read_bytes()
    except FileNotFoundError:
        yield where, f"no such file: {path}", "", False
    except PermissionError:
        yield where, f"can't be read by the user {_user()}: {path}", "", False
    except OSError as error:
        yield where, f"{path}: {error.strerror}", "", False


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container's
        return str(os.geteuid())


def _pair(certificate: FilePath, key: FilePath, where: Where) -> Iterator[Found]:
    """Check that both can be read, belong together, and when the certificate ends."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
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
    except (ValueError, UnsupportedAlgorithm):
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


def _listeners_named(names: Sequence[str], configuration: Configuration, where: Where) -> Iterator[Found]:
    known = {listener.name for listener in configuration.listeners}
    for place, name in enumerate(names):
        if name not in known:
            hint = did_you_mean(name, known) or f"there are: {', '.join(sorted(known))}"
            yield (*where, "listeners", place), f'unknown listener "{name}"', hint, False


def _plugins(configuration: Configuration) -> Iterator[Found]:
    for index, table in enumerate(configuration.plugins):
        unknown = list(_listeners_named(table.listeners, configuration, ("plugins", index)))
        yield from unknown
        passing = {
            stage
            for listener in configuration.listeners
            if not table.listeners or listener.name in table.listeners
            for stage in _STAGES[listener.protocol]
        }
        if table.stages and not unknown and passing.isdisjoint(table.stages):
            message = (
                f"no message is ever held for it: its listeners have no stage {' or '.join(table.stages)}"
            )
            yield (
                ("plugins", index, "stages"),
                message,
                "data: SMTP and LMTP; append, fetch: IMAP; retr, top: POP3",
                True,
            )
        forgets = configuration.views.verdicts is None and not table.shadow
        if forgets and {"fetch", "retr"} & set(table.stages):
            message = "messages are rewritten for clients, and a restart forgets how"
            hint = 'verdicts = "/var/lib/mailgate/verdicts.db" in [views] keeps one message one message'
            yield ("plugins", index, "stages"), message, hint, True
    problems: list[PluginConfigError] = check_plugins(configuration.plugin_specs())
    for problem in problems:
        yield ("plugins", *problem.path), problem.message, "", False
