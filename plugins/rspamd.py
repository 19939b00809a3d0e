"""Have rspamd judge messages.

    [[plugins]]
    name = "rspamd"
    use = "rspamd"
    time_limit = 20.0
    options = { address = "127.0.0.1:11333", seconds = 18.0 }

rspamd is asked over HTTP (``/checkv2``) with the envelope and what is known of the client.  Its
action is done: fields added and removed, the subject rewritten, the message refused.
"""

from __future__ import annotations

import http.client
import io
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from gateway import plugin as api
from gateway.plugin import Message, SessionRecord, Stage, Verdict

_ACTIONS = (
    "no action",
    "greylist",
    "add header",
    "rewrite subject",
    "soft reject",
    "reject",
    "quarantine",
    "discard",
)
_MOST = 4 * 1024 * 1024
Outcome = Literal["reject", "quarantine", "discard", "tag", "pass", "error"]


class Rspamd(api.Plugin):
    """Asks rspamd, and does what it says."""

    class Options(api.PluginOptions):
        """Where rspamd is, and what its actions mean here."""

        address: api.ServiceAddresses = ("127.0.0.1:11333",)
        """"unix:/path" or "host:port" of its normal worker; of several the first that answers"""
        connect_timeout: api.ServiceSeconds = 1.0
        """seconds until a connection stands"""
        seconds: api.ServiceSeconds = 4.5
        """seconds for everything together: less than the table's time_limit"""
        password_file: Path | None = None
        """holds the password that rspamd wants, if it wants one"""
        max_size: int = Field(default=10 << 20, ge=1)
        """octets above which a message passes unjudged"""
        reject: Outcome = "reject"
        """what becomes of "reject"; "tag" only adds fields"""
        soft_reject: Outcome = "error"
        """what becomes of "soft reject"; "error": see on_error"""
        greylist: Outcome = "pass"
        """what becomes of "greylist": nobody comes again who is past the gateway"""
        header: api.FieldName = "X-Spam"
        """added to what rspamd calls probable spam; one that came with a message is removed"""
        rewrite_subject: bool = True
        """whether "rewrite subject" changes the subject; of DKIM-signed mail only with edit_signed"""
        reason: str = "Message looks like spam"
        """what the client is told where rspamd gives no text"""

    options: Options

    def __init__(self, options: BaseModel) -> None:
        super().__init__(options)
        own = self.options
        self._rspamd = api.Service(own.address, connect_timeout=own.connect_timeout, seconds=own.seconds)
        self._password = ""
        if own.password_file is not None:
            try:
                self._password = own.password_file.read_text().strip()
            except (OSError, UnicodeError) as error:
                raise ValueError(f"password_file: can't read {own.password_file}: {error}") from None

    def inspect(self, message: Message, session: SessionRecord) -> Verdict:
        """Ask rspamd."""
        own = self.options
        if message.size > own.max_size:
            message.note("not_judged", f"{message.size} octets")
            return api.Pass()
        fields = self._fields(message, session)
        answer = self._rspamd.ask(lambda talk: _check(talk, fields, message))
        action, score = answer["action"], answer["score"]
        message.note("action", action)
        message.note("score", f"{score:g}")
        message.note("symbols", api.plain_text(", ".join(sorted(answer.get("symbols", {}))), 2000))
        told = answer.get("messages")
        text = told.get("smtp_message") if isinstance(told, dict) else None
        reason = api.plain_text(text, 200) if isinstance(text, str) and text else own.reason
        outcome: str = {
            "reject": own.reject,
            "soft reject": own.soft_reject,
            "greylist": own.greylist,
            "quarantine": "quarantine",
            "discard": "discard",
        }.get(action, "tag")
        match outcome:
            case "reject":
                return api.Reject(reason)
            case "quarantine":
                return api.Quarantine(reason)
            case "discard":
                return api.Discard(reason)
            case "error":
                raise api.ServiceError(f"rspamd wants to see the message later: {reason}")
        return self._marked(message, answer, marks=action not in ("no action", "greylist"))

    def _marked(self, message: Message, answer: dict[str, Any], marks: bool) -> Verdict:
        own = self.options
        edits = message.edits()
        orders = answer.get("milter")
        orders = orders if isinstance(orders, dict) else {}
        removed = orders.get("remove_headers")
        names = {own.header, *(removed if isinstance(removed, dict) else ())}
        for name in sorted(names):
            if api.is_field_name(name):
                edits.remove_header(name)
        for name, value in _added(orders.get("add_headers")):
            edits.add_header(name, value, top=True)
        if marks:
            edits.add_header(own.header, f"Yes ({answer['score']:g})", top=True)
        subject = answer.get("subject")
        if answer["action"] == "rewrite subject" and own.rewrite_subject and isinstance(subject, str):
            if message.signed and not own.edit_signed:
                message.note("subject", "kept: the message is signed")
            elif subject != message.subject:
                edits.set_header("Subject", subject)
        return api.Modify(edits) if len(edits) else api.Pass()

    def _fields(self, message: Message, session: SessionRecord) -> list[tuple[str, str]]:
        """Return what rspamd is told of a message, as fields of HTTP."""
        fields = [("Queue-Id", session.id), ("MTA-Name", "mailgate")]
        if message.stage is Stage.DATA:
            fields += [("IP", session.client_address), ("Helo", session.client_name), ("User", session.user)]
            if session.client_tls is not None:
                fields += [
                    ("TLS-Version", session.client_tls.version),
                    ("TLS-Cipher", session.client_tls.cipher),
                ]
        elif "@" in session.user:
            fields += [("Deliver-To", session.user)]
        if message.envelope is not None:
            fields += [("From", message.envelope.reverse_path)]
            fields += [("Rcpt", recipient) for recipient in message.envelope.recipients]
        if self._password:
            fields += [("Password", self._password)]
        return [(name, api.plain_text(value)) for name, value in fields if value]


class _Heard(io.RawIOBase):
    """What a talk hears, as http.client reads it."""

    def __init__(self, talk: api.Talk) -> None:
        self._talk = talk

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._talk.some(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def makefile(self, *_: object) -> io.BufferedReader:
        """Stand in for a socket."""
        return io.BufferedReader(self)


def _check(talk: api.Talk, fields: list[tuple[str, str]], message: Message) -> dict[str, Any]:
    """Send the message, and return rspamd's answer, whose action and score are what they must be."""
    lines = ["POST /checkv2 HTTP/1.1", "Host: rspamd", "Connection: close", f"Content-Length: {message.size}"]
    lines += [f"{name}: {value}" for name, value in fields]
    talk.send("\r\n".join([*lines, "", ""]).encode("ascii"))
    for piece in api.pieces(message.buffer):
        talk.send(piece)
    response = http.client.HTTPResponse(_Heard(talk), method="POST")  # type: ignore[arg-type]
    try:
        response.begin()
        body = response.read(_MOST + 1)
    except (http.client.HTTPException, ValueError) as error:
        raise api.ServiceError(f"it answers nonsense: {type(error).__name__}") from None
    if response.status != 200:
        raise api.ServiceError(f"it answers {response.status} {api.plain_text(response.reason, 100)}")
    try:
        answer = json.loads(body)
        action, score = answer["action"], answer["score"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise api.ServiceError("its answer is no JSON object with action and score") from None
    if len(body) > _MOST or action not in _ACTIONS or not isinstance(score, (int, float)):
        raise api.ServiceError(f"it answers with the action {api.plain_text(str(action), 40)!r}")
    if not isinstance(answer.get("symbols", {}), dict):
        raise api.ServiceError("its symbols are none")
    return dict(answer)


def _added(told: object) -> list[tuple[str, str]]:
    """Return the fields that rspamd wants added: a value, an object with one, or a list of these."""
    fields: list[tuple[str, str]] = []
    for name, values in told.items() if isinstance(told, dict) else ():
        for one in values if isinstance(values, list) else [values]:
            value = one.get("value") if isinstance(one, dict) else one
            if api.is_field_name(name) and isinstance(value, str) and len(fields) < 100:
                fields.append((name, value))
    return fields
