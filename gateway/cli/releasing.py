"""Sending a quarantined message on its way: to the server that it was for."""

from __future__ import annotations

import base64
import contextlib
import imaplib
import re
import smtplib
import ssl
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..config.model import Configuration, Upstream
from ..core.outcome import Action
from ..core.text import shown
from ..inspection.quarantine import Entry, Quarantine

_TIMEOUT = 60.0
_DOTS = re.compile(rb"^\.", re.MULTILINE)
#: What a mailbox's name holds as it is; "&" begins what does not (RFC 3501 5.1.3).
_NOT_PLAIN = re.compile("[^\x20-\x7e]+|&")


class ReleaseError(Exception):
    """The message stays where it is; the text says why.

    left: who of its recipients has not got it, where some have.
    """

    def __init__(self, text: str, left: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.left = tuple(left)


def release(
    configuration: Configuration,
    quarantine: Quarantine,
    entry: Entry,
    to: tuple[str, ...] = (),
    user: str = "",
    password: str = "",
    keep: bool = False,
) -> str:
    """Send a message on, and delete it; return what was done, in words.  Raises ReleaseError.

    keep: don't delete it.  Of one that some of its recipients have got, the others are remembered.
    """
    try:
        with quarantine.place.claim(entry.id):
            told = _release(configuration, quarantine, entry, to, user, password)
            if not keep:
                with contextlib.suppress(KeyError, FileNotFoundError):  # purged meanwhile
                    quarantine.delete(entry.id)
            return told
    except BlockingIOError:
        raise ReleaseError("it is being released by another") from None
    except FileNotFoundError:
        raise ReleaseError("it is not there any more") from None
    except ReleaseError as error:
        if error.left and not to:
            quarantine.change(replace(entry, recipients=error.left))
        raise


def _release(
    configuration: Configuration,
    quarantine: Quarantine,
    entry: Entry,
    to: tuple[str, ...],
    user: str,
    password: str,
) -> str:
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
        except (OSError, UnicodeError, smtplib.SMTPException, imaplib.IMAP4.error) as error:
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
    else:
        client = smtplib.SMTP(host, port, name, timeout=_TIMEOUT)
    lmtp = entry.protocol == "lmtp"
    if lmtp:
        client.ehlo_msg = "lhlo"
    with client:
        client.ehlo_or_helo_if_needed()
        if upstream.tls == "starttls" or (upstream.tls == "opportunistic" and client.has_extn("starttls")):
            client.starttls(context=_context(upstream))
            client.ehlo_or_helo_if_needed()
        refused = _hand_over(client, entry.reverse_path, recipients, content, lmtp)
    if refused:
        who = ", ".join(f"{shown(one, 100)} ({shown(why, 100)})" for one, why in refused.items())
        some = len(refused) < len(recipients)
        raise ReleaseError(f"some have it, but not {who}" if some else who, list(refused) if some else ())
    return f"released to {', '.join(shown(one, 100) for one in recipients)}"


def _hand_over(
    client: smtplib.SMTP, reverse_path: str, recipients: list[str], content: bytes, lmtp: bool
) -> dict[str, str]:
    """Send one message; return who was refused, and why.  Raises SMTPException.

    smtplib would take one reply behind the message, where LMTP has one a recipient (RFC 2033 4.2).
    """
    options = ["BODY=8BITMIME"] if not content.isascii() and client.has_extn("8bitmime") else []
    if not "".join((reverse_path, *recipients)).isascii():
        if not client.has_extn("smtputf8"):
            raise smtplib.SMTPNotSupportedError("it takes no addresses but in ASCII (SMTPUTF8)")
        client.command_encoding = "utf-8"
        options.append("SMTPUTF8")
    code, text = client.mail(reverse_path, options)
    if code != 250:
        raise smtplib.SMTPSenderRefused(code, text, reverse_path)
    refused: dict[str, str] = {}
    for recipient in recipients:
        code, text = client.rcpt(recipient)
        if code not in (250, 251):
            refused[recipient] = _said(code, text)
    taken = [one for one in recipients if one not in refused]
    if not taken:
        return refused
    code, text = client.docmd("DATA")
    if code != 354:
        raise smtplib.SMTPDataError(code, text)
    end = b".\r\n" if content.endswith(b"\r\n") else b"\r\n.\r\n"
    client.send(_DOTS.sub(b"..", content) + end)
    for recipient in taken if lmtp else taken[:1]:
        code, text = client.getreply()
        if code != 250:
            for one in [recipient] if lmtp else taken:
                refused[one] = _said(code, text)
    return refused


def _said(code: int, text: bytes) -> str:
    return f"{code} {text.decode('utf-8', 'replace')}"


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
        if "AUTH=PLAIN" in client.capabilities:
            client.authenticate("PLAIN", lambda _: f"\0{user}\0{password}".encode())
        else:
            client.login(user, password)
        mailbox = '"' + _in_ascii(entry.mailbox).replace("\\", "\\\\").replace('"', '\\"') + '"'
        status, answer = client.append(mailbox, "", None, content)
        if status != "OK":
            text = answer[0].decode("utf-8", "replace") if answer and answer[0] else ""
            raise ReleaseError(shown(text, 200))
    return f"appended to {shown(entry.mailbox, 100)}"


def _in_ascii(mailbox: str) -> str:
    """Return a mailbox's name as every server takes it: what a client gave in UTF-8, in modified UTF-7."""

    def encoded(found: re.Match[str]) -> str:
        octets = found[0].encode("utf-16-be", "surrogatepass")
        return "&-" if found[0] == "&" else f"&{base64.b64encode(octets, b'+,').decode().rstrip('=')}-"

    return mailbox if mailbox.isascii() else _NOT_PLAIN.sub(encoded, mailbox)


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
