"""Passwords where none may be: looked for in all that a gateway has written, at the end of each test.

Whoever gives a password to a client or a server calls :func:`remember`; the running gateway of a test
looks for all of them when it stops.
"""

from __future__ import annotations

import base64
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

#: Every password that was used so far.
KNOWN: set[str] = set()


def remember(passwords: Iterable[str]) -> None:
    """Look for these, too, from now on."""
    KNOWN.update(passwords)


def forms_of(password: str) -> list[bytes]:
    """Return what would give a password away: as it is, in hexadecimal, in base64 at each offset."""
    octets = password.encode()
    forms = [octets, octets.hex().encode(), octets.hex().upper().encode()]
    # Without the characters that hold bits of what stands before and behind.
    forms += [base64.b64encode(b"\0" * pad + octets)[(pad * 8 + 5) // 6 : -4] for pad in range(3)]
    return [form for form in forms if len(form) >= 4]


def leaks(content: bytes, passwords: Iterable[str] = ()) -> list[str]:
    """Return the passwords that can be read in some content: of those known, and of more."""
    return [one for one in {*KNOWN, *passwords} if any(form in content for form in forms_of(one))]


def written(configuration: Path) -> Iterator[Path]:
    """Give the files that a gateway writes by its configuration, its mail aside."""
    tables: dict[str, Any] = tomllib.loads(configuration.read_text())
    folder = configuration.parent
    named = [tables.get("log", {}).get("output", ""), tables.get("audit", {}).get("store", "")]
    named += [tables.get("audit", {}).get("chain_head", ""), tables.get("views", {}).get("verdicts", "")]
    named += [table.get("file", {}).get("path", "") for table in tables.get("events", ())]
    for name in named:
        if name and "://" not in name:
            path = folder / name
            yield from sorted(path.parent.glob(path.name + "*"))  # and what was put aside, or lies beside it
    for table in tables.get("transcripts", ()):
        yield from sorted((folder / table["directory"]).rglob("*"))
