"""The program's own log: start, listening, reload, warnings.  Structlog, by the same writer.

No traceback reaches a user: an unexpected exception is logged with its type and place, and
with the traceback as one escaped field at debug level only.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, MutableMapping
from pathlib import Path
from types import TracebackType
from typing import Any

import structlog

from ..core.text import shown
from .command_log import Clock, Lines, value
from .console import Palette, own_line
from .hub import Sink
from .levels import LEVELS
from .writer import Writer

Event = MutableMapping[str, Any]

#: What the program's own lines may be long: a traceback is.
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


def _unfold_exception(debug: bool) -> structlog.types.Processor:
    def processor(_logger: object, _method: str, event: Event) -> Event:
        found = event.pop("exc_info", None)
        if found is True:
            found = sys.exc_info()[1]
        if isinstance(found, tuple):
            found = found[1]
        if isinstance(found, BaseException):
            event |= unfold(found, debug)
        return event

    return processor


def _render_json() -> structlog.types.Processor:
    clock = Clock()

    def processor(_logger: object, _method: str, event: Event) -> str:
        stamp, level = clock.stamp(time.time()), event.pop("level", "info")
        name = str(event.pop("event", ""))
        fields = "".join(
            f",{value(str(key))}:{value(_whole(item))}" for key, item in event.items() if item is not None
        )
        return f'{{"ts":"{stamp}","level":"{level}","event":{value(name)}{fields}}}\n'

    return processor


def _whole(item: object) -> object:
    """Exceptions and paths become strings; what is longer than a line of a command stays whole."""
    if isinstance(item, (str, int, float, bool)) or item is None:
        return _Long(item) if isinstance(item, str) and len(item) > 150 else item
    if isinstance(item, dict):
        return {str(key): _whole(entry) for key, entry in item.items()}
    if isinstance(item, (list, tuple, set, frozenset)):
        return _Long(", ".join(str(entry) for entry in item))
    return _Long(str(item))
