"""Put a header field into each message.

    [[plugins]]
    name = "mark"
    use = "add_header"
    options = { name = "X-Gateway", value = "{hostname} ({session}, {user})", mode = "set" }

In the value stand ``{hostname}`` (the gateway's), ``{client_address}``, ``{client_name}`` (of
EHLO), ``{user}``, ``{protocol}``, ``{listener}``, ``{protection}``, ``{session}``, ``{stage}``
and ``{mailfrom}`` (the reverse-path; SMTP and LMTP only).  What a client chose can't break out
of the field: line breaks and other controls become blanks, what is not ASCII becomes encoded
words (RFC 2047).
"""

from __future__ import annotations

from collections.abc import Callable
from string import Formatter
from typing import Literal

from pydantic import BaseModel, field_validator

from gateway.plugin import (
    Message,
    Modify,
    Pass,
    Plugin,
    PluginOptions,
    Services,
    SessionRecord,
    Verdict,
    is_field_name,
)

_FIELDS: dict[str, Callable[[Message, SessionRecord], str]] = {
    "client_address": lambda message, session: session.client_address,
    "client_name": lambda message, session: session.client_name,
    "user": lambda message, session: session.user,
    "protocol": lambda message, session: session.protocol,
    "listener": lambda message, session: session.listener,
    "protection": lambda message, session: session.protection,
    "session": lambda message, session: session.id,
    "stage": lambda message, session: str(message.stage),
    "mailfrom": lambda message, session: message.envelope.reverse_path if message.envelope else "",
}


class AddHeader(Plugin):
    """Adds or sets one header field."""

    class Options(PluginOptions):
        """name: of the field.  value: its text, with the names above in braces.

        mode: "add" whatever there is, "set" in place of what there is, or "if-missing".
        """

        name: str
        value: str
        mode: Literal["add", "set", "if-missing"] = "add"

        @field_validator("name")
        @classmethod
        def _check_name(cls, name: str) -> str:
            if not is_field_name(name):
                raise ValueError("must be a header field name: printable ASCII without blank and colon")
            return name

        @field_validator("value")
        @classmethod
        def _check_value(cls, value: str) -> str:
            for _, field, spec, conversion in Formatter().parse(value):
                if field is not None and (spec or conversion or field not in (*_FIELDS, "hostname")):
                    known = ", ".join(["hostname", *_FIELDS])
                    raise ValueError(
                        f'unknown "{{{field}}}"; known: {known}; a brace itself is written twice'
                    )
            return value

    options: Options

    def __init__(self, options: BaseModel) -> None:
        super().__init__(options)
        self._hostname = ""

    def start(self, services: Services) -> None:
        """Learn the gateway's name."""
        self._hostname = services.hostname

    async def inspect(self, message: Message, session: SessionRecord) -> Verdict:
        """Modify each message, but with "if-missing" only those without the field."""
        name, mode = self.options.name, self.options.mode
        if mode == "if-missing" and message.root.get(name) is not None:
            return Pass()
        edits = message.edits()
        if mode == "set":
            edits.set_header(name, self._value(message, session))
        else:
            edits.add_header(name, self._value(message, session))
        return Modify(edits)

    def _value(self, message: Message, session: SessionRecord) -> str:
        pieces: list[str] = []
        for literal, field, _, _ in Formatter().parse(self.options.value):
            pieces.append(literal)
            if field == "hostname":
                pieces.append(self._hostname)
            elif field is not None:
                pieces.append(_FIELDS[field](message, session))
        return "".join(pieces)
