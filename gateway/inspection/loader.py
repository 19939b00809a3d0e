"""Plugins from the configuration's tables: found, checked, made.  Every error names its place."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ValidationError

from ..core.steps import Stage
from ..core.text import shown
from ..core.wording import did_you_mean, in_words
from .base import Plugin
from .models import model_at
from .shares import SHARE_BY

_Where = tuple[str | int, ...]

#: The group of entry points; the bundled plugins are in it as anybody's.
GROUP = "mailgate.plugins"
#: By which a plugin does anything; it has at least one of them.
METHODS = ("inspect", "on_connect", "on_command", "on_login", "on_fact")
ON_ERROR = ("defer", "pass", "reject")
OUTSIDE_SHARE = ("skip", "shadow")
ISOLATION = ("", "thread", "process")
#: Less memory than this is not enough to judge anything, octets.
LEAST_MEMORY = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PluginSpec:
    """One table ``[[plugins]]``.

    use: the name of an entry point, or a path to a file: "sort.py", or "sort.py:Sorter" where
        the file holds several plugins.
    stages: where messages are judged.  listeners: by name; none is all of them.
    time_limit: seconds for one message.
    on_error: what becomes of a message that the plugin fails on: "defer", "pass", "reject".
    shadow: it is asked, and nothing comes of it but a fact.
    share: of the messages, from 0 to 1, drawn by ``share_by``
        (see :mod:`gateway.inspection.shares`).
    outside_share: what becomes of the others: "skip", or "shadow".
    isolation: "thread", "process"; "" is as the plugin's class says.
    processes: how many a plugin in processes has.
    memory_limit: octets that each may take; None is as the plugin's class says.
    """

    name: str
    use: str
    stages: frozenset[Stage] = frozenset({Stage.DATA, Stage.APPEND})
    listeners: frozenset[str] = frozenset()
    time_limit: float = 5.0
    on_error: str = "defer"
    shadow: bool = False
    share: float = 1.0
    share_by: str = ""
    outside_share: str = "skip"
    isolation: str = ""
    processes: int = 2
    memory_limit: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PluginConfigError:
    """One thing that is wrong with a plugin's table.

    path: the place below ``plugins``: (0, "options", "name").
    """

    path: tuple[str | int, ...]
    message: str

    def __str__(self) -> str:
        text = "plugins"
        for step in self.path:
            text += f"[{step}]" if isinstance(step, int) else f".{step}"
        return f"{text}: {self.message}"


class PluginConfigErrors(ValueError):
    """Everything that is wrong with the plugins' tables, at once."""

    def __init__(self, errors: Sequence[PluginConfigError]) -> None:
        super().__init__("\n".join(str(error) for error in errors))
        self.errors = list(errors)


@dataclass(slots=True)
class LoadedPlugin:
    """A plugin, ready to be started, and what its table says."""

    spec: PluginSpec
    plugin: Plugin

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def stages(self) -> frozenset[Stage]:
        """Where it judges messages: nowhere without `inspect`."""
        judges = type(self.plugin).inspect is not Plugin.inspect
        return self.spec.stages if judges else frozenset()

    @property
    def edit_signed(self) -> bool:
        """Whether its edits may go into signed parts."""
        return bool(getattr(self.plugin.options, "edit_signed", False))

    @property
    def may_shadow(self) -> bool:
        """Whether it runs in shadow, for some messages at least."""
        spec = self.spec
        return self.only_observes or (spec.share < 1 and spec.outside_share == "shadow")

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.plugin.inspect)

    @property
    def only_observes(self) -> bool:
        """Whether its verdicts change nothing: then no message is held for it."""
        return self.spec.shadow or self.plugin.observes

    @property
    def in_process(self) -> bool:
        """Whether it runs in processes of its own."""
        return (self.spec.isolation or self.plugin.isolation) == "process"

    @property
    def memory_limit(self) -> int:
        """Octets that each of its processes may take."""
        limit = self.spec.memory_limit
        return limit if limit is not None else self.plugin.memory_limit

    def watches(self, listener: str) -> bool:
        """Tell whether it judges messages of a listener."""
        return not self.spec.listeners or listener in self.spec.listeners


def load_plugins(specs: Sequence[PluginSpec]) -> list[LoadedPlugin]:
    """Return the plugins in the order of their tables.  Raises PluginConfigErrors."""
    loaded, errors = _load(specs)
    if errors:
        raise PluginConfigErrors(errors)
    return loaded


def check_plugins(specs: Sequence[PluginSpec]) -> list[PluginConfigError]:
    """Return everything that is wrong with the tables: nothing if they can be loaded."""
    return _load(specs)[1]


def _load(specs: Sequence[PluginSpec]) -> tuple[list[LoadedPlugin], list[PluginConfigError]]:
    loaded: list[LoadedPlugin] = []
    errors: list[PluginConfigError] = []
    for index, spec in enumerate(specs):
        found = [PluginConfigError((index, *path), message) for path, message in _check(spec)]
        errors += found
        try:
            kind = find_class(spec.use)
        except Unusable as problem:
            errors.append(PluginConfigError((index, "use"), str(problem)))
            continue
        try:
            plugin = kind(kind.Options.model_validate(dict(spec.options)))
        except ValidationError as problem:
            errors += [
                PluginConfigError((index, "options", *place), message)
                for place, message in _wrong_options(problem, kind.Options)
            ]
        except Exception as problem:  # noqa: BLE001 - a plugin's constructor is a stranger's code
            errors.append(PluginConfigError((index, "options"), _told(problem)))
        else:
            made = LoadedPlugin(spec, plugin)
            on_reactor = _on_reactor(made) if made.in_process else []
            if on_reactor:
                message = f"runs on the reactor, so it can't be in a process of its own: {_list(on_reactor)}"
                errors.append(PluginConfigError((index, "isolation"), message))
            elif not found:
                loaded.append(made)
    return loaded, errors


def _on_reactor(made: LoadedPlugin) -> list[str]:
    """Return what of a plugin runs on the reactor."""
    kind = type(made.plugin)
    hooks = [name for name in METHODS[1:] if getattr(kind, name) is not getattr(Plugin, name)]
    return (["async inspect"] if made.is_async else []) + hooks


def _check(spec: PluginSpec) -> Iterable[tuple[tuple[str, ...], str]]:
    if not spec.stages:
        yield ("stages",), "names no stage, so the plugin would never run"
    if spec.time_limit <= 0:
        yield ("time_limit",), "must be more than 0"
    if spec.on_error not in ON_ERROR:
        yield ("on_error",), f'must be one of "{", ".join(ON_ERROR)}"'
    if not 0 <= spec.share <= 1:
        yield ("share",), "must lie between 0 and 1"
    if spec.share_by not in SHARE_BY:
        yield ("share_by",), f'must be one of "{", ".join(SHARE_BY[1:])}"'
    if spec.isolation not in ISOLATION:
        yield ("isolation",), f'must be one of "{", ".join(ISOLATION[1:])}"'
    if spec.processes < 1:
        yield ("processes",), "must be at least 1"
    if spec.memory_limit is not None and spec.memory_limit < LEAST_MEMORY:
        yield ("memory_limit",), f"must be at least {LEAST_MEMORY // 1024**2} MiB"
    if spec.outside_share not in OUTSIDE_SHARE:
        yield ("outside_share",), f'must be one of "{", ".join(OUTSIDE_SHARE)}"'


def _place(location: _Where) -> _Where:
    return tuple(step for step in location if step != "__root__")


def _wrong_options(problem: ValidationError, options: type[BaseModel]) -> Iterable[tuple[_Where, str]]:
    """Yield each place in a plugin's options where something is wrong, and what."""
    found = problem.errors(include_url=False)
    places = [_place(error["loc"]) for error in found]
    for place, error in zip(places, found):
        if error["type"] == "too_short" and any(one[: len(place)] == place != one for one in places):
            continue  # none is left, for each is wrong
        if error["type"] == "extra_forbidden":
            known = _known(options, place[:-1])
            near = did_you_mean(str(place[-1]), known)
            yield place, f"unknown option, {near}" if near else f"unknown option; known: {_list(known)}"
        elif error["type"] == "missing":
            yield place, "is required"
        else:
            yield place, shown(in_words(error) or str(error["msg"]))


def _known(options: type[BaseModel], place: _Where) -> list[str]:
    """Return the options that there are at a place; none where a model has it in ways of its own."""
    try:
        return list(model_at(options, place).model_fields)
    except LookupError:
        return []


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _told(error: BaseException) -> str:
    """Say what an exception is, on one line."""
    text = shown(str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


# -- finding a class -----------------------------------------------------------


class Unusable(ValueError):
    """``use`` names nothing that can be used."""


def find_class(use: str) -> type[Plugin]:
    """Return the class that ``use`` names: an entry point, a file, or FILE:NAME.  Raises Unusable."""
    path, _, class_name = use.partition(":")
    if path.endswith(".py") or "/" in path:
        return _from_file(Path(path), class_name)
    known = {entry.name: entry for entry in entry_points(group=GROUP)}
    entry = known.get(use)
    if entry is None:
        hint = did_you_mean(use, known) or f"installed: {_list(known)}; or give a path to a .py file"
        raise Unusable(f'no plugin named "{shown(use, 80)}", {hint}')
    try:
        found = entry.load()
    except Exception as error:
        raise Unusable(f"can't be imported from {entry.value}: {_told(error)}") from error
    return _checked(found, entry.value)


def _from_file(path: Path, class_name: str) -> type[Plugin]:
    module = _module(path)
    found = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Plugin) and value.__module__ == module.__name__
    }
    if class_name:
        if class_name not in found:
            raise Unusable(f"{path} has no plugin class {shown(class_name, 80)}; it has: {_list(found)}")
        return _checked(found[class_name], f"{path}:{class_name}")
    if not found:
        raise Unusable(f"{path} holds no class derived from gateway.plugin.Plugin")
    if len(found) > 1:
        raise Unusable(f'{path} holds several plugins: {_list(found)}; write "{path}:NAME"')
    return _checked(next(iter(found.values())), str(path))


def _module(path: Path) -> ModuleType:
    if not path.is_file():
        raise Unusable(f"no such file: {path}")
    digest = hashlib.sha256(str(path.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:12]
    name = f"mailgate_plugin_{digest}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise Unusable(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module  # the model's annotations are resolved there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        if before is not None:
            sys.modules[name] = before
        else:
            del sys.modules[name]
        raise Unusable(f"{path}{_line_of(error, path)}: {_told(error)}") from error
    return module


def _line_of(error: BaseException, path: Path) -> str:
    """Return ":LINE", the last line of the file that the exception passed; or ""."""
    if isinstance(error, SyntaxError) and error.lineno:
        return f":{error.lineno}"
    line = 0
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f":{line}" if line else ""


def _checked(found: Any, where: str) -> type[Plugin]:
    if not (isinstance(found, type) and issubclass(found, Plugin)):
        raise Unusable(f"{where} is no class derived from gateway.plugin.Plugin")
    if not any(getattr(found, name) is not getattr(Plugin, name) for name in METHODS):
        raise Unusable(f"{where} has none of the methods {_list(METHODS)}")
    if not (isinstance(found.Options, type) and issubclass(found.Options, BaseModel)):
        raise Unusable(f"{where}: Options is no model (derive it from gateway.plugin.PluginOptions)")
    return found
