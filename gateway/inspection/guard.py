"""Plugins asked when a client connects, commands and logs in; and shown facts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..core.facts import PluginAnswered
from ..core.record import SessionRecord
from ..core.text import shown
from .answers import Allow, Command, Login, Refuse, Tag
from .base import Plugin
from .loader import LoadedPlugin

HOOKS = ("connect", "command", "login")
_MOST_TAGS = 20
_FAILED = "Not possible now, try again later"


def overrides(loaded: LoadedPlugin, hook: str) -> bool:
    """Tell whether a plugin answers at a hook."""
    return getattr(type(loaded.plugin), hook) is not getattr(Plugin, hook)


class SessionGuard:
    """Asks the plugins of one listener about one session.

    publish: hears of every answer that is not Allow.  A plugin that fails refuses, unless its
    ``on_error`` is "pass"; one in shadow is asked, and nothing comes of it but the fact.
    logins_closed: says why no login may begin now, or "".
    """

    __slots__ = (
        "_commands",
        "_connects",
        "_logins",
        "_logins_closed",
        "_publish",
        "_record",
        "asks_commands",
        "asks_logins",
    )

    def __init__(
        self,
        plugins: Iterable[LoadedPlugin],
        record: SessionRecord,
        publish: Callable[[Any], None],
        logins_closed: Callable[[], str] | None = None,
    ) -> None:
        mine = [loaded for loaded in plugins if loaded.watches(record.listener)]
        self._connects = [loaded for loaded in mine if overrides(loaded, "on_connect")]
        self._commands = [loaded for loaded in mine if overrides(loaded, "on_command")]
        self._logins = [loaded for loaded in mine if overrides(loaded, "on_login")]
        self._record = record
        self._publish = publish
        self._logins_closed = logins_closed
        self.asks_commands = bool(self._commands)
        self.asks_logins = bool(self._logins)

    def connect(self) -> str:
        """Return why the client is turned away; "" lets it in."""
        record = self._record
        return self._ask("connect", self._connects, lambda plugin: plugin.on_connect(record))

    def command(self, verb: str, shown: str) -> str:
        """Return why a command is refused; "" lets it go on."""
        command, record = Command(verb, shown), self._record
        return self._ask("command", self._commands, lambda plugin: plugin.on_command(command, record))

    def login(self, user: str, mechanism: str) -> str:
        """Return why a login that the upstream has accepted is refused; "" lets it be."""
        login, record = Login(user, mechanism), self._record
        return self._ask("login", self._logins, lambda plugin: plugin.on_login(login, record))

    def no_logins(self) -> str:
        """Return why no login may begin now, whoever it is; "" lets them begin."""
        return self._logins_closed() if self._logins_closed is not None else ""

    def _ask(self, hook: str, plugins: list[LoadedPlugin], question: Callable[[Plugin], object]) -> str:
        for loaded in plugins:
            result, detail = "error", ""
            try:
                answer = question(loaded.plugin)
            except Exception as error:  # noqa: BLE001 - a plugin is a stranger's code
                detail = shown(f"{type(error).__name__}: {error}")
            else:
                if answer is None or isinstance(answer, Allow):
                    continue
                if isinstance(answer, Refuse):
                    result, detail = "refuse", shown(answer.reason, 200) or "Refused"
                elif isinstance(answer, Tag):
                    result, detail = "tag", shown(f"{answer.name}={answer.value}", 200)
                    self._tag(answer)
                else:
                    detail = f"answered {type(answer).__name__} in place of Allow, Refuse or Tag"
            refuses = result == "refuse" or (result == "error" and loaded.spec.on_error != "pass")
            applied = "shadow" if loaded.only_observes else "refuse" if refuses else "allow"
            self._publish(PluginAnswered(loaded.name, hook, result, applied, detail))
            if applied == "refuse":
                return detail if result == "refuse" else _FAILED
        return ""

    def _tag(self, tag: Tag) -> None:
        tags, name = self._record.tags, shown(tag.name, 40)
        if len(tags) < _MOST_TAGS or name in tags:
            tags[name] = shown(tag.value, 200)


class FactWatchers:
    """Shows every fact to the plugins that have ``on_fact``."""

    def __init__(self, plugins: Iterable[LoadedPlugin], told: Callable[[str, BaseException], None]) -> None:
        self._plugins = [loaded for loaded in plugins if overrides(loaded, "on_fact")]
        self._told = told

    def __bool__(self) -> bool:
        return bool(self._plugins)

    def __call__(self, record: SessionRecord, fact: Any) -> None:
        """Show one fact.  A plugin that fails is told of in the log; the others are shown it."""
        for loaded in self._plugins:
            if loaded.watches(record.listener):
                try:
                    loaded.plugin.on_fact(fact, record)
                except Exception as error:  # noqa: BLE001 - a plugin is a stranger's code
                    self._told(loaded.name, error)
