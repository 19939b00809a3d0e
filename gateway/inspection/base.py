"""What every plugin is."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from ..core.record import SessionRecord
from .answers import Answer, Command, Login
from .message import Message
from .parts import Part
from .signatures import SignedKind
from .verdict import Verdict


class PluginOptions(BaseModel):
    """The table ``options`` of a plugin; derive from it to have options of your own.

    An option that is not a field of the model is an error when the configuration is read.  A
    string below a field describes it: ``mailgate plugin show`` prints it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    edit_signed: bool = False
    """let this plugin's edits into signed and encrypted parts: what it edits there breaks"""


#: What a plugin does with a message whose body a signature or an encryption covers: leave it,
#: change its subject only, enclose it as a whole under a text, or edit it as any other.
OnSigned = Literal["skip", "subject_only", "wrap", "modify"]


class SignedOptions(PluginOptions):
    """The options of a plugin that edits bodies, with a choice for signed and encrypted ones.

    signed: what to do where S/MIME or PGP covers the body.  With ``edit_signed`` it is
        "modify" if left out.
    dkim: what to do where only a DKIM signature does; as ``signed`` if left out.

    A plugin asks :meth:`on_signed` of each part that it would edit, and does that.  With
    "subject_only" and "modify" its edits are let into covered regions, as by ``edit_signed``.
    """

    signed: OnSigned = "skip"
    dkim: OnSigned | None = None

    @model_validator(mode="before")
    @classmethod
    def _agree_with_edit_signed(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        breaks = not {"subject_only", "modify"}.isdisjoint((str(data.get("signed")), str(data.get("dkim"))))
        if "edit_signed" not in data:
            return {**data, "edit_signed": breaks}
        if data["edit_signed"] is False and breaks:
            raise ValueError('edit_signed = false contradicts "subject_only" and "modify": leave it out')
        if data["edit_signed"] is True and "signed" not in data:
            return {**data, "signed": "modify"}
        return data

    def on_signed(self, message: Message, part: Part) -> OnSigned | None:
        """Return what to do where something covers the body of a part; None if nothing does.

        It is noted in the log's line: ``skipped_signed``, ``subject_only_signed``,
        ``wrapped_signed`` or ``modified_signed``, with what covers the part.
        """
        covers = message.covers_of(part)
        if not covers:
            return None
        strong = [one.kind for one in covers if one.kind is not SignedKind.DKIM]
        choice = self.signed if strong or self.dkim is None else self.dkim
        kind = str(strong[0] if strong else SignedKind.DKIM)
        message.note(_NOTES[choice], kind)
        return choice


_NOTES: dict[OnSigned, str] = {
    "skip": "skipped_signed",
    "subject_only": "subject_only_signed",
    "wrap": "wrapped_signed",
    "modify": "modified_signed",
}


@dataclass(frozen=True, slots=True)
class Services:
    """What the gateway offers to a plugin.

    hostname: the gateway's own name, as configured.
    name: the plugin's name in the configuration.
    """

    hostname: str
    name: str


class Plugin:
    """Judges messages; one object for each table ``[[plugins]]``, for all sessions.

    Override :meth:`inspect`, as a coroutine function or as a plain one:

    - ``async def inspect`` runs on the reactor: it must not block, and may await what Twisted
      awaits.
    - ``def inspect`` runs in a thread, several at once: it may block, and guards what it
      shares between messages.

    An exception, an answer that is no verdict, and an answer that comes too late are settled
    by ``on_error`` of the plugin's table.
    """

    #: The model of the table ``options``.
    Options: ClassVar[type[BaseModel]] = PluginOptions
    #: Whether pieces of messages are judged too (POP3 TOP).
    sees_partial: ClassVar[bool] = False
    #: Whether it only looks: no message is held for it, it gets a copy while the octets stream
    #: on, and what it answers is recorded and not applied.
    observes: ClassVar[bool] = False
    #: Where a plain ``inspect`` runs: in a thread, or in a process of its own, which is killed
    #: when a message takes too long or too much memory.  There ``start``, ``inspect`` and
    #: ``stop`` are called in each process, one message at a time; the gateway's own object is
    #: made only to check the options.
    isolation: ClassVar[Literal["thread", "process"]] = "thread"
    #: Octets that one process may take beyond what it takes before the plugin is loaded.
    memory_limit: ClassVar[int] = 1024 * 1024 * 1024

    def __init__(self, options: BaseModel) -> None:
        """Take the validated options.  May raise ValueError: an error of the configuration."""
        self.options = options

    def start(self, services: Services) -> None:
        """Get ready, before the first message.

        A plugin that raises here judges nothing: its ``on_error`` settles every message.
        """

    def stop(self) -> None:
        """Let go of everything, after the last message."""

    def on_connect(self, session: SessionRecord) -> Answer:
        """Answer when a client has connected, before it is greeted.

        This and the next three are called on the reactor and must return at once.
        """

    def on_command(self, command: Command, session: SessionRecord) -> Answer:
        """Answer when a client has given a command, before the server hears of it."""

    def on_login(self, login: Login, session: SessionRecord) -> Answer:
        """Answer when the server has accepted a login, before the client hears of that.

        A refused client hears that it is not authorised, and is disconnected.
        """

    def on_fact(self, fact: object, session: SessionRecord) -> None:
        """See what happens: one of the types in `gateway.core.facts` and `gateway.core.steps`."""

    def inspect(self, message: Message, session: SessionRecord) -> Verdict | Awaitable[Verdict]:
        """Judge one message.

        message: the message, as the plugins before this one have left it.
        session: who, from where, how protected.  To be read only.
        """
        raise NotImplementedError
