"""Keep a copy of each message, or of its header.

    [[plugins]]
    name = "archive"
    use = "archive"
    on_error = "defer"
    options = { path = "/var/lib/mailgate/archive", layout = "maildir" }

A copy goes into a maildir, into directories by date, or with ``url = "s3://bucket/prefix"``
into a bucket by date (the extra ``s3``; credentials come from the environment, as
``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY``, or from the machine's role).  What is kept
is the message as the plugins before this one have left it.  Next to it stands a JSON file with
the envelope and the session.  Nothing is there half written: a file gets its name when it is
whole and, with ``fsync``, on the disk.  A copy that can't be kept is a failure of the plugin,
which ``on_error`` settles.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from gateway.plugin import (
    Bucket,
    Message,
    Pass,
    Plugin,
    PluginOptions,
    Services,
    SessionRecord,
    Verdict,
    bucket_problem,
)

_CHUNK = 1024 * 1024
#: A message above this goes to a bucket in pieces, octets.
_LARGE = 8 * 1024 * 1024


class Archive(Plugin):
    """Keeps copies of messages."""

    class Options(PluginOptions):
        """path: the directory; it is made if it is not there.  url: a bucket, in place of path.

        layout: "maildir", or "dated" for path/2026/01/31/NAME.eml; a bucket is always dated.
        content: the whole "message", or its "header" with the blank line.
        facts: put a JSON file next to it; in a maildir, in its directory "facts".
        fsync: wait until it is on the disk.
        endpoint: of a store that speaks S3 elsewhere, "https://host:port".  region: of the bucket.
        timeout: seconds that one request to the bucket may take.
        """

        path: Path | None = None
        url: str = ""
        layout: Literal["maildir", "dated"] = "maildir"
        content: Literal["message", "header"] = "message"
        facts: bool = True
        fsync: bool = True
        endpoint: str = ""
        region: str = "us-east-1"
        timeout: float = Field(default=4.0, gt=0, le=300)

        @field_validator("path")
        @classmethod
        def _check_path(cls, path: Path | None) -> Path | None:
            if path is not None and not path.is_absolute():
                raise ValueError("must be an absolute path")
            return path

        @model_validator(mode="after")
        def _check_place(self) -> Archive.Options:
            if (self.path is None) == (not self.url):
                raise ValueError("give either path or url")
            if problem := bucket_problem(self.url, self.endpoint):
                raise ValueError(problem)
            return self

    options: Options

    def __init__(self, options: BaseModel) -> None:
        super().__init__(options)
        own = self.options
        self._names = _Names()
        self._store: _Files | _Objects
        if own.path is None:
            self._store = _Objects(own)
        else:
            self._store = _Files(own.path, own.layout == "maildir", own.fsync)

    def start(self, services: Services) -> None:
        """Make the directories.  Raises OSError if they can't be."""
        self._names.host = services.hostname
        self._store.prepare()

    def inspect(self, message: Message, session: SessionRecord) -> Verdict:
        """Keep a copy, and let the message go on."""
        end = message.root.body_start if self.options.content == "header" else message.size
        now = time.time()
        name = self._names.next(now)
        facts = b""
        if self.options.facts:
            digest = hashlib.sha256()
            for chunk in _chunks(message, end):
                digest.update(chunk)
            kept = {"kept": self.options.content, "octets": end, "sha256": digest.hexdigest()}
            facts = json.dumps({"time": _iso(now), **kept, **_facts_of(message, session)}, indent=1).encode()
        try:
            place = self._store.keep(name, datetime.fromtimestamp(now, UTC), message, end, facts)
        except OSError as error:
            where = error.filename or self.options.url or self.options.path
            raise OSError(f"no copy was kept in {where}: {error.strerror or error}") from error
        message.note("kept", place)
        return Pass()


class _Names:
    """Names that no two copies share, on one host or on several (maildir's rules)."""

    def __init__(self) -> None:
        self.host = "localhost"
        self._counter = itertools.count()
        self._start = secrets.token_hex(4)

    def next(self, now: float) -> str:
        host = self.host.replace("/", "\\057").replace(":", "\\072")
        micro = int(now % 1 * 1e6)
        return f"{int(now)}.M{micro:06}P{os.getpid()}R{self._start}Q{next(self._counter)}.{host}"


def _chunks(message: Message, end: int) -> Iterator[bytes]:
    for place in range(0, end, _CHUNK):
        yield message.buffer[place : min(place + _CHUNK, end)]


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


_OF_SESSION = (
    *("id", "protocol", "listener", "client_address", "client_port", "client_name", "client_program"),
    *("server_address", "server_port", "protection", "user", "mechanism", "upstream", "tags"),
)
_OF_MESSAGE = ("message_id", "size", "stage", "mailbox", "section", "partial")


def _facts_of(message: Message, session: SessionRecord) -> dict[str, Any]:
    tls, envelope = session.client_tls, message.envelope
    facts: dict[str, Any] = {name: getattr(message, name) for name in _OF_MESSAGE}
    facts["envelope"] = asdict(envelope) if envelope is not None else None
    facts["session"] = {name: getattr(session, name) for name in _OF_SESSION}
    facts["session"] |= {"started": _iso(session.started), "tls": asdict(tls) if tls is not None else None}
    return facts


# -- files -----------------------------------------------------------------------


class _Files:
    """A directory of copies.  Files are written under tmp and get their names when they are whole."""

    def __init__(self, root: Path, maildir: bool, fsync: bool) -> None:
        self._root = root
        self._maildir = maildir
        self._fsync = fsync

    def prepare(self) -> None:
        """Make the directories.  Raises OSError."""
        for name in ("tmp", "new", "cur") if self._maildir else ("tmp",):
            self._made(self._root / name)

    def _made(self, directory: Path) -> Path:
        """Return a directory, made if it is not there, and its name on the disk."""
        if not directory.is_dir():
            parent = directory.parent
            if parent != directory:
                self._made(parent)
            directory.mkdir(mode=0o700, exist_ok=True)
            self._settle(parent)
        return directory

    def _settle(self, directory: Path) -> None:
        if self._fsync:
            opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(opened)
            finally:
                os.close(opened)

    def _write(self, chunks: Iterator[bytes], temporary: Path, place: Path) -> None:
        """Write a file.  Leaves nothing behind if it raises OSError."""
        directory = self._made(place.parent)
        self._made(temporary.parent)
        opened = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(opened, "wb", buffering=0) as file:
                for chunk in chunks:
                    rest = memoryview(chunk)
                    while rest:
                        rest = rest[file.write(rest) :]
                if self._fsync:
                    os.fsync(opened)
            temporary.rename(place)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self._settle(directory)

    def keep(self, name: str, when: datetime, message: Message, end: int, facts: bytes) -> str:
        """Keep a copy; return its place below the directory.  Raises OSError."""
        if self._maildir:
            # No reader of mail looks into the directory "facts".
            place, beside = self._root / "new" / f"{name},S={end}", self._root / "facts" / f"{name}.json"
        else:
            place = self._root / f"{when:%Y/%m/%d}" / f"{name}.eml"
            beside = place.with_name(f"{name}.json")
        temporary = self._root / "tmp"
        if facts:  # these first: where a message is, its facts are
            self._write(iter((facts,)), temporary / f"{name}.json", beside)
        try:
            self._write(_chunks(message, end), temporary / name, place)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        return str(place.relative_to(self._root))


# -- a bucket ----------------------------------------------------------------------


class _Objects:
    """A bucket of S3.  An object is there whole or not at all."""

    def __init__(self, options: Archive.Options) -> None:
        self._bucket = Bucket(
            options.url, endpoint=options.endpoint, region=options.region, timeout=options.timeout
        )

    def prepare(self) -> None:
        """There is nothing to be made."""

    def keep(self, name: str, when: datetime, message: Message, end: int, facts: bytes) -> str:
        """Keep a copy; return its key below the prefix.  Raises OSError."""
        key = f"{when:%Y/%m/%d}/{name}"
        if facts:
            self._bucket.put(f"{key}.json", facts)
        whole = _chunks(message, end) if end > _LARGE else message.buffer[:end]
        self._bucket.put(f"{key}.eml", whole)
        return f"{key}.eml"
