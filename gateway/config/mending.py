"""Making the best of a file with faults, so that what is sound in it is checked all the same.

A wrong value is replaced by its default, or by a stand-in where the model demands one.  What
is found then and has to do with something replaced is not told: it may come of the stand-in.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from ..inspection.models import model_at
from .model import Configuration

Where = tuple[str | int, ...]

#: What stands for a value that the model demands: (table, key).
_STAND_INS: dict[tuple[str, str], Any] = {
    ("upstreams", "addresses"): ["127.0.0.1:1"],
    ("listeners", "protocol"): "imap",
    ("listeners", "address"): "127.0.0.1:0",
    ("listeners", "upstream"): "",
}
#: What the finding about a key looks at besides: (table, key).
_LOOKS_AT: dict[str, tuple[tuple[str, str], ...]] = {
    "upstream": (("upstreams", "name"),),
    "protocol": (("upstreams", "forward_client"),),
    "cleartext_login": (("listeners", "tls"), ("listeners", "proxy_protocol_from")),
    "listeners": (("listeners", "name"),),
    "stages": (("listeners", "name"), ("listeners", "protocol")),
}


def mend(tables: dict[str, Any], faults: Iterable[tuple[Where, bool]]) -> tuple[dict[str, Any], set[Where]]:
    """Return the tables without their faults, and the places that were replaced.

    faults: places, and whether a key there is merely unknown.  Raises LookupError, TypeError
    where nothing sensible can be made of the file.
    """
    mended = copy.deepcopy(tables)
    replaced: set[Where] = set()
    for where, unknown in faults:
        if unknown:
            _remove(mended, where)
            continue
        place = where
        while not _replace(mended, place):
            place = place[:-1]  # the IndexError of () ends it
        replaced.add(place)
    return mended, replaced


def is_certain(where: Where, replaced: Iterable[Where]) -> bool:
    """Tell whether a finding has nothing to do with what was replaced."""
    looks_at = next((looks for key, looks in _LOOKS_AT.items() if key in where[2:]), ())
    for place in replaced:
        shorter = min(len(place), len(where))
        if place[:shorter] == where[:shorter]:
            return False
        if any(place[0] == table and key in place for table, key in looks_at):
            return False
    return True


def _remove(tables: dict[str, Any], where: Where) -> None:
    inner: Any = tables
    for step in where[:-1]:
        inner = inner[step]
    inner.pop(where[-1], None)


def _replace(tables: dict[str, Any], where: Where) -> bool:
    """Put the default or a stand-in at a place; say whether there is one."""
    last = where[-1]
    if isinstance(last, int):
        return False
    field = model_at(Configuration, where[:-1]).model_fields[last]
    if not field.is_required():
        _remove(tables, where)
        return True
    if len(where) == 3 and (where[0], last) in _STAND_INS:
        tables[str(where[0])][where[1]][last] = _STAND_INS[str(where[0]), last]
        return True
    if len(where) == 3 and last == "name" and where[0] in ("upstreams", "listeners"):
        tables[str(where[0])][where[1]][last] = f"stand-in-{where[0]}-{where[1]}"
        return True
    return False
