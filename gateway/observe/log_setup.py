"""The program's own log: start, listening, reload, warnings.  Structlog, by the same writer.

No traceback reaches a user: an unexpected exception is logged with its type and place, and
with the traceback as one escaped field at debug level only.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, MutableMapping
from pathlib import Path
from types import TracebackType
from typing import Any

import structlog

from .command_log import CommandLog, Lines
from .console import Console
from .hub import Sink
from .json_line import Clock, value
from .levels import INFO, LEVELS
from .terminal import Palette, own_line

Event = MutableMapping[str, Any]

#: Characters of one field of the program's own lines: a traceback is long.
FIELD_LIMIT = 4000


def unfold(error: BaseException, debug: bool) -> dict[str, str]:
    """Write an exception as fields: its type, its place, and at debug level its traceback."""
    place: TracebackType | None = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    fields = {"error": type(error).__name__}
    if place is not None:
        code = place.tb_frame.f_code
        fields["place"] = f"{Path(code.co_filename).name}:{place.tb_lineno} {code.co_name}"
    if debug:
        fields["traceback"] = "".join(traceback.format_exception(error))
    return fields


class _Unfold:
    """Puts fields in the place of an exception."""

    def __init__(self, debug: bool) -> None:
        self._debug = debug

    def __call__(self, _logger: object, _method: str, event: Event) -> Event:
        found = event.pop("exc_info", None)
        if found is True:
            found = sys.exc_info()[1]
        elif isinstance(found, tuple):
            found = found[1]
        if isinstance(found, BaseException):
            event.update(unfold(found, self._debug))
        return event


class _Json:
    """Writes an event as one JSON line."""

    def __init__(self) -> None:
        self._clock = Clock()

    def __call__(self, _logger: object, method: str, event: Event) -> str:
        stamp = self._clock.stamp(time.time())
        name = value(str(event.pop("event", "")))
        fields = [f",{value(str(key))}:{value(item, FIELD_LIMIT)}" for key, item in event.items()]
        return f'{{"ts":"{stamp}","level":"{_level(method)}","event":{name}{"".join(fields)}}}\n'


class _Human:
    """Writes an event as one line for a person."""

    def __init__(self, palette: Palette) -> None:
        self._palette = palette

    def __call__(self, _logger: object, method: str, event: Event) -> str:
        name = str(event.pop("event", ""))
        return own_line(self._palette, time.time(), LEVELS.get(_level(method), INFO), name, event)


def _level(method: str) -> str:
    return {"exception": "error", "critical": "error", "warn": "warning", "msg": "info"}.get(method, method)


class _Logger:
    """What structlog writes to: every level's method is the writer's ``write``."""

    def __init__(self, lines: Lines) -> None:
        write = lines.write
        self.debug = self.info = self.warning = self.error = self.critical = self.msg = write


def set_up(lines: Lines, *, json: bool, level: str = "info", palette: Palette | None = None) -> None:
    """Let every ``structlog.get_logger()`` write to ``lines``, from now on.

    json: JSON lines; otherwise lines for a person, as ``palette`` says.
    level: "debug", "info", "warning", "error".
    """
    renderer: _Json | _Human = _Json() if json else _Human(palette or Palette())
    structlog.configure(
        processors=[_Unfold(level == "debug"), renderer],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_: _Logger(lines),
        # Kept loggers would go on writing to a writer that a reload has replaced.
        cache_logger_on_first_use=False,
    )


def session_log(
    lines: Lines, *, json: bool, level: str = "info", commands: bool = True, palette: Palette | None = None
) -> Sink:
    """Return the sink that writes the sessions' lines in the same form as the program's own."""
    if json:
        return CommandLog(lines, level, commands)
    return Console(lines, palette, level, commands)


def dropped_line(json: bool, palette: Palette | None = None) -> Callable[[int], str]:
    """Return what the writer calls to say how many lines were dropped."""
    render: _Json | _Human = _Json() if json else _Human(palette or Palette())
    return lambda count: render(None, "warning", {"event": "log_lines_dropped", "count": count})


#: Twisted's log can begin only once in a process; then it holds True.
_begun: list[bool] = []


def watch_twisted() -> Callable[[], None]:
    """Let Twisted's log come to this one; returns what undoes it.

    Failures become errors with their type and place.  Twisted's own news (starting a factory,
    "Main loop terminated.") are at debug level.  From now on Twisted writes nothing itself.
    """
    from twisted.logger import (
        ILogObserver,
        LogLevel,
        formatEvent,
        globalLogBeginner,
        globalLogPublisher,
    )
    from zope.interface import provider

    levels = {LogLevel.warn: "warning", LogLevel.error: "error", LogLevel.critical: "error"}

    @provider(ILogObserver)
    def observer(event: dict[str, Any]) -> None:
        method = levels.get(event.get("log_level"), "debug")
        error = getattr(event.get("log_failure"), "value", None)
        # A failure's text may go on with a traceback, which has its own field.
        text = (formatEvent(event).splitlines() or [""])[0]
        log = structlog.get_logger()
        getattr(log, method)("twisted", system=event.get("log_namespace", ""), text=text, exc_info=error)

    if _begun:
        globalLogPublisher.addObserver(observer)
    else:
        _begun.append(True)
        globalLogBeginner.beginLoggingTo([observer], discardBuffer=True, redirectStandardIO=False)
    return lambda: globalLogPublisher.removeObserver(observer)
