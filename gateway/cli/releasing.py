"""Sending a quarantined message on its way: to the server that it was for."""

from __future__ import annotations

import imaplib
import smtplib
import ssl
from pathlib import Path

from ..config.model import Configuration, Upstream
from ..core.outcome import Action
from ..core.text import shown
from ..inspection.quarantine import Entry, Quarantine

_TIMEOUT = 60.0


class ReleaseError(Exception):
    """The message stays where it is; the text says why."""


def release(
    configuration: Configuration,
    quarantine: Quarantine,
    entry: Entry,
    to: tuple[str, ...] = (),
    user: str = "",
    password: str = "",
) -> str:
    """Send a message on; return what was done, in words.  Raises ReleaseError."""
    if entry.stage in ("fetch", "retr"):
        return _let_pass(configuration, entry)
    try:
        content = quarantine.content(entry.id)
    except OSError as error:
        raise ReleaseError(f"{quarantine.place.where(entry.id)}: {error.strerror or error}") from None
    upstream = next((one for one in configuration.upstreams if one.name == entry.upstream), None)
    if upstream is None:
        raise ReleaseError(f'its upstream "{shown(entry.upstream, 60)}" is not in the configuration')
    problems: list[str] = []
    for address in upstream.addresses:
        try:
            if entry.stage == "append":
                return _append(upstream, address.host, address.port, entry, content, user, password)
            return _submit(configuration, upstream, address.host, address.port, entry, content, to)
        except (OSError, smtplib.SMTPException, imaplib.IMAP4.error) as error:
            problems.append(f"{address}: {shown(str(error), 200) or type(error).__name__}")
    raise ReleaseError("; ".join(problems))


def _context(upstream: Upstream) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(upstream.ca) if upstream.ca else None)
    if upstream.certificate is not None:
        context.load_cert_chain(upstream.certificate, upstream.key)
    if not upstream.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _submit(
    configuration: Configuration,
    upstream: Upstream,
    host: str,
    port: int,
    entry: Entry,
    content: bytes,
    to: tuple[str, ...],
) -> str:
    recipients = list(to or entry.recipients)
    if not recipients:
        raise ReleaseError("it has no recipient; name one with --to")
    name = configuration.hostname
    if upstream.tls == "implicit":
        client: smtplib.SMTP = smtplib.SMTP_SSL(
            host, port, name, timeout=_TIMEOUT, context=_context(upstream)
        )
    elif entry.protocol == "lmtp":
        client = smtplib.LMTP(host, port, name, timeout=_TIMEOUT)
    else:
        client = smtplib.SMTP(host, port, name, timeout=_TIMEOUT)
    with client:
        client.ehlo_or_helo_if_needed()
        if upstream.tls == "starttls" or (upstream.tls == "opportunistic" and client.has_extn("starttls")):
            client.starttls(context=_context(upstream))
            client.ehlo_or_helo_if_needed()
        options = ["BODY=8BITMIME"] if not content.isascii() and client.has_extn("8bitmime") else []
        refused = client.sendmail(entry.reverse_path, recipients, content, options)
    if refused:
        who = ", ".join(f"{shown(one, 100)} ({code})" for one, (code, _) in refused.items())
        raise ReleaseError(f"some have it, but not {who}")
    return f"released to {', '.join(shown(one, 100) for one in recipients)}"


def _append(
    upstream: Upstream, host: str, port: int, entry: Entry, content: bytes, user: str, password: str
) -> str:
    if not user:
        raise ReleaseError(
            f'it was to be appended by "{shown(entry.user, 60)}": give --user and the password'
        )
    if upstream.tls == "implicit":
        client: imaplib.IMAP4 = imaplib.IMAP4_SSL(
            host, port, ssl_context=_context(upstream), timeout=_TIMEOUT
        )
    else:
        client = imaplib.IMAP4(host, port, timeout=_TIMEOUT)
    with client:
        if upstream.tls == "starttls":
            client.starttls(_context(upstream))
        client.login(user, password)
        mailbox = '"' + entry.mailbox.replace("\\", "\\\\").replace('"', '\\"') + '"'
        status, answer = client.append(mailbox, "", None, content)
        if status != "OK":
            text = answer[0].decode("utf-8", "replace") if answer and answer[0] else ""
            raise ReleaseError(shown(text, 200))
    return f"appended to {shown(entry.mailbox, 100)}"


def _let_pass(configuration: Configuration, entry: Entry) -> str:
    """Have a message pass when its client fetches it next."""
    from ..inspection.verdicts import Remembered, VerdictStore, verdict_key

    path: Path | None = configuration.views.verdicts
    if path is None:
        raise ReleaseError("the gateway remembers verdicts in no file: set verdicts in [views]")
    try:
        store = VerdictStore(path)
    except OSError as error:
        raise ReleaseError(str(error)) from None
    try:
        if not store.replace(verdict_key(bytes.fromhex(entry.digest), *entry.scope), Remembered(Action.PASS)):
            raise ReleaseError(f"{path}: can't be written")
    finally:
        store.close()
    return "passes when it is fetched next; a client that has fetched the notice may keep that"
