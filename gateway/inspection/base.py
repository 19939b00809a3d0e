"""What every plugin is."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from ..core.record import SessionRecord
from .answers import Answer, Command, Login
from .message import Message
from .verdict import Verdict


class PluginOptions(BaseModel):
    """The table ``options`` of a plugin; derive from it to have options of your own.

    An option that is not a field of the model is an error when the configuration is read.  A
    string below a field describes it: ``mailgate plugin show`` prints it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    edit_signed: bool = False
    """let this plugin's edits into signed and encrypted parts: what it edits there breaks"""


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
