"""The quarantine: messages that a plugin has kept from their way, until an admin has looked."""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from .quarantine_places import Place

#: How long a count is believed, in seconds: others delete there too.
_BELIEVED = 60.0
_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"


class QuarantineError(OSError):
    """A message could not be kept; the text says why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one message.

    id: sorts by time.  at: seconds since the epoch.  size: octets.  digest: SHA-256, hexadecimal.
    plugin: who said so.  scope: what its verdict is remembered by, if it was on its way to a client.
    """

    id: str
    at: float
    reason: str
    plugin: str
    stage: str
    protocol: str
    listener: str
    upstream: str
    session: str
    user: str
    client_address: str
    size: int
    digest: str
    reverse_path: str = ""
    recipients: tuple[str, ...] = ()
    mailbox: str = ""
    ident: str = ""
    subject: str = ""
    message_id: str = ""
    scope: tuple[str, ...] = ()


class Quarantine:
    """The messages in one place.  Safe to use from several threads and processes."""

    def __init__(self, place: Place, most_octets: int = 0) -> None:
        """most_octets: of all messages; 0 is no bound."""
        self.place = place
        self.most_octets = most_octets
        self.failures = 0
        self._lock = threading.Lock()
        self._counted_at = 0.0
        self._messages = 0
        self._octets = 0

    # -- writing -----------------------------------------------------------

    def store(self, content: Iterable[bytes], entry: Entry) -> Entry:
        """Keep a message; return its entry with its id.  Raises QuarantineError, and keeps nothing then."""
        try:
            return self._store(content, entry)
        except OSError as error:
            with self._lock:
                self.failures += 1
            if isinstance(error, QuarantineError):
                raise
            raise QuarantineError(f"{self.place}: {error.strerror or error}") from error

    def _store(self, content: Iterable[bytes], entry: Entry) -> Entry:
        messages, octets = self.figures()
        if self.most_octets and octets + entry.size > self.most_octets:
            raise QuarantineError(f"{self.place}: full ({messages} messages, {octets} octets)")
        entry = replace(entry, id=_new_id(entry.at))
        self.place.put(entry.id, content, _written(entry))
        with self._lock:
            self._messages += 1
            self._octets += entry.size
        return entry

    def change(self, entry: Entry) -> None:
        """Remember a message's entry anew.  Raises OSError."""
        self.place.put_facts(entry.id, _written(entry))

    def delete(self, ident: str) -> None:
        """Forget a message.  Raises KeyError if there is none of that id, OSError."""
        size = self.entry(ident).size
        self.place.delete(ident)
        with self._lock:
            self._messages -= 1
            self._octets -= size

    def purge(self, older_than: float, now: float | None = None) -> int:
        """Forget what is older than so many seconds; return how many those were.  Raises OSError."""
        limit = (time.time() if now is None else now) - older_than
        old = [entry.id for entry in self.entries() if entry.at < limit]
        for ident in old:
            with contextlib.suppress(KeyError, FileNotFoundError):
                self.delete(ident)
        self.place.sweep(limit)
        return len(old)

    # -- reading -----------------------------------------------------------

    def entries(self) -> Iterator[Entry]:
        """Give what is there, oldest first; what can't be read is left out.  Raises OSError."""
        for ident in sorted(name[:-5] for name in self.place.names() if _is_entry(name)):
            with contextlib.suppress(KeyError):
                yield self.entry(ident)

    def entry(self, ident: str) -> Entry:
        """Return one entry.  Raises KeyError if there is none that can be read."""
        if not _is_entry(f"{ident}.json"):
            raise KeyError(ident)
        try:
            told = json.loads(self.place.facts(ident))
            known: dict[str, Any] = {one.name: told[one.name] for one in fields(Entry) if one.name in told}
            known.update({name: tuple(known.get(name, ())) for name in ("recipients", "scope")})
            return Entry(**known)
        except (OSError, ValueError, TypeError) as error:
            raise KeyError(ident) from error

    def content(self, ident: str) -> bytes:
        """Return a message's octets.  Raises OSError."""
        return self.place.content(ident)

    def figures(self) -> tuple[int, int]:
        """Return how many messages there are, and their octets; at most a minute old.

        A place that can't be read counts as empty.
        """
        now = time.monotonic()
        with self._lock:
            if self._counted_at and now - self._counted_at < _BELIEVED:
                return self._messages, self._octets
            messages = octets = 0
            with contextlib.suppress(OSError):
                messages, octets = self.place.usage()
            self._messages, self._octets, self._counted_at = messages, octets, now
            return messages, octets


def _written(entry: Entry) -> bytes:
    return json.dumps(asdict(entry), ensure_ascii=True).encode()


def _new_id(at: float) -> str:
    """Return an id that sorts by time and can't be guessed."""
    return f"{int(at):09x}-" + "".join(secrets.choice(_LETTERS) for _ in range(8))


def _is_entry(name: str) -> bool:
    stem = name.removesuffix(".json")
    head, dash, tail = stem.partition("-")
    known = all(letter in "0123456789abcdef" for letter in head) and all(one in _LETTERS for one in tail)
    return stem != name and len(head) == 9 and bool(dash) and len(tail) == 8 and known
