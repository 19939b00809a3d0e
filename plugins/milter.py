"""Ask a milter: opendkim, opendmarc, clamav-milter, or any other.

    [[plugins]]
    name = "dkim"
    use = "milter"
    time_limit = 20.0
    options = { address = "unix:/run/opendkim/opendkim.sock", seconds = 18.0 }

A milter is a filter of Sendmail's and Postfix's.  The plugin speaks to it as they do (version 6
of the protocol), with a connection of its own for each message: who has connected, the envelope,
the header, the body.  What the milter says is done: fields added, inserted, changed and deleted,
the body replaced, the message refused, quarantined or dropped.

The client has heard of its recipients before, so that a milter that refuses one of them refuses
the message, and senders and recipients can't be changed.  Mail that has no envelope (IMAP, POP3)
is told with the address of its Return-Path, and to the address of who reads it, if these are known.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Literal

from pydantic import BaseModel, Field, field_validator

from gateway import plugin as api
from gateway.plugin import Message, MilterAnswer, MilterWord, SessionRecord, Stage, Verdict

_PATH = re.compile(rb"<[^<>\x00-\x20]{0,320}>")
_MACRO = re.compile(r"\w|\{\w{1,60}\}")
_ENVELOPE = (
    api.MilterActions.ADD_RECIPIENTS
    | api.MilterActions.DELETE_RECIPIENTS
    | api.MilterActions.CHANGE_SENDER
    | api.MilterActions.ADD_RECIPIENTS_WITH_PARAMETERS
)
_ACTIONS = ~_ENVELOPE
#: Where the client reads the mail, and has not sent it.
_READ = (Stage.RETR, Stage.TOP, Stage.FETCH)


class Milter(api.Plugin):
    """Asks a milter, and does what it says."""

    class Options(api.PluginOptions):
        """Where the milter is, how long it may take, and what becomes of what it says."""

        address: api.ServiceAddresses
        """"unix:/path" or "host:port"; of several the first that answers is asked"""
        connect_timeout: api.ServiceSeconds = 1.0
        """seconds until a connection stands"""
        command_timeout: api.ServiceSeconds = 3.0
        """seconds for each answer but the last"""
        message_timeout: api.ServiceSeconds = 4.0
        """seconds for the answer to the whole message; it may ask for as much again, and again"""
        seconds: api.ServiceSeconds = 4.5
        """seconds for everything together: less than the table's time_limit"""
        macros: dict[str, str] = {}
        """macros that are told as they stand here: { "{daemon_name}" = "ORIGINATING" }"""
        tempfail: Literal["error", "reject", "quarantine"] = "error"
        """what becomes of a message that the milter wants to see later; "error": see on_error"""
        envelope_changes: Literal["refuse", "error", "ignore"] = "refuse"
        """other senders and recipients: not offered; offered, and an error if used; or ignored"""
        largest_body: int = Field(default=64 << 20, ge=1, le=1 << 30)
        """octets of a new body, at most"""
        reason: str = "Message refused by a filter"
        """what the client is told where the milter gives no text"""

        @field_validator("macros")
        @classmethod
        def _check_macros(cls, value: dict[str, str]) -> dict[str, str]:
            for name, text in value.items():
                if not _MACRO.fullmatch(name):
                    raise ValueError(f'"{name}" is no macro: one character, or a name in braces')
                if not text.isprintable():
                    raise ValueError(f'the value of "{name}" has a character that can\'t be printed')
            return value

    options: Options

    def __init__(self, options: BaseModel) -> None:
        super().__init__(options)
        self._hostname = ""
        own = self.options
        self._limits = api.MilterLimits(
            own.connect_timeout, own.command_timeout, own.message_timeout, own.seconds, own.largest_body
        )
        self._offered = _ACTIONS if own.envelope_changes == "refuse" else _ACTIONS | _ENVELOPE

    def start(self, services: api.Services) -> None:
        """Learn the gateway's name."""
        self._hostname = services.hostname

    def inspect(self, message: Message, session: SessionRecord) -> Verdict:
        """Tell the milter of the message, and answer as it does."""
        mail = self._mail(message, session)
        answer = api.ask_milter(self.options.address, message.root, mail, self._offered, self._limits)
        message.note("answer", f"{answer.word.name.lower()} at {answer.at.name.lower()}")
        for change in answer.envelope:
            told = f"{change.action.name} {change.address}".lower()
            if self.options.envelope_changes != "ignore":
                raise api.MilterError(f"the milter wants what can't be done: {told}")
            message.note("ignored", told)
        match answer.word:
            case MilterWord.REJECT:
                return api.Reject(answer.text or self.options.reason)
            case MilterWord.DISCARD:
                return api.Discard("discarded by a milter")
            case MilterWord.TEMPFAIL:
                return self._later(answer.text or "no reason given")
        if answer.hold is not None:
            return api.Quarantine(answer.hold or self.options.reason)
        return self._changed(message, answer)

    def _later(self, text: str) -> Verdict:
        if self.options.tempfail == "reject":
            return api.Reject(text)
        if self.options.tempfail == "quarantine":
            return api.Quarantine(text)
        raise api.MilterError(f"the milter wants to see the message later: {text}")

    def _changed(self, message: Message, answer: MilterAnswer) -> Verdict:
        kinds = Counter(type(one).__name__.lower().removesuffix("field") for one in answer.fields)
        if answer.body is not None:
            kinds["body"] = 1
        if not kinds:
            return api.Pass()
        message.note("changes", ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items())))
        edits = message.edits()
        api.lay_in_milter_changes(edits, message.root, answer.fields, answer.body, answer.leading_space)
        return api.Modify(edits)

    # -- what is told --------------------------------------------------------

    def _mail(self, message: Message, session: SessionRecord) -> api.MilterMail:
        envelope = message.envelope
        if envelope is None:
            sender, parameters = _return_path(message), {}
            recipients = [_reader(message, session)]
        else:
            sender, parameters = envelope.reverse_path, envelope.parameters
            recipients = envelope.recipients
        return api.MilterMail(
            "unknown",
            session.client_address,
            session.client_port,
            session.client_name,
            [f"<{sender}>", *(f"{key}={value}" if value else key for key, value in parameters.items())],
            [api.MilterRecipient([f"<{one}>"], self._macros("rcpt", one)) for one in recipients],
            {**self._facts(message, session), **self._macros("mail", sender)},
        )

    def _macros(self, kind: str, address: str) -> dict[str, str]:
        known = {f"{{{kind}_addr}}": address, f"{{{kind}_host}}": address.rpartition("@")[2]}
        return {**known, **self.options.macros}

    def _facts(self, message: Message, session: SessionRecord) -> dict[str, str]:
        known = {
            "j": self._hostname,
            "v": "mailgate",
            "i": session.id,
            "_": f"{session.client_name} [{session.client_address}]".strip(),
            "{daemon_name}": session.listener,
            "{daemon_addr}": session.server_address,
            "{daemon_port}": str(session.server_port or ""),
            "{if_addr}": session.server_address,
            "{client_addr}": session.client_address,
            "{client_name}": "unknown",
            "{client_port}": str(session.client_port),
        }
        if session.client_tls is not None:
            known["{tls_version}"] = session.client_tls.version
            known["{cipher}"] = session.client_tls.cipher
            known["{cert_subject}"] = session.client_tls.peer
        if session.user and message.stage not in _READ:
            known["{auth_authen}"] = session.user
            known["{auth_type}"] = session.mechanism
        return known


def _reader(message: Message, session: SessionRecord) -> str:
    """Return the address of who reads the mail, if it is one.

    Without any recipient, libmilter takes what follows for out of order, and is silent.
    """
    path = f"<{session.user}>".encode("utf-8", "replace")
    return session.user if message.stage in _READ and "@" in session.user and _PATH.fullmatch(path) else ""


def _return_path(message: Message) -> str:
    found = message.root.get("return-path")
    raw = found.raw_value.strip() if found is not None else b""
    return raw[1:-1].decode("utf-8", "replace") if _PATH.fullmatch(raw) else ""
