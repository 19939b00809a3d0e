"""The console: the same facts for a person at a terminal.  Aligned, coloured, calm.

One line for each command with its reply::

    07:11:57.899  imaps     1f3a  alice           ✓ UID FETCH 7 BODY.PEEK[]     OK done    1.2 ms

Colour is for a terminal only, and never where ``NO_COLOR`` is set (https://no-color.org).
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from typing import TextIO

from ..core.facts import (
    ConnectionRefused,
    MessageSeen,
    PluginRan,
    SessionClosed,
    SessionOpened,
    TlsFailed,
    UpstreamConnected,
    UpstreamFailed,
)
from ..core.record import SessionRecord
from ..core.steps import (
    ClientNamed,
    ExtensionStruck,
    Fault,
    LoginSeen,
    Refused,
    ReplySeen,
    TlsInfo,
    TlsStarted,
)
from ..core.text import shown
from .command_log import Lines
from .hub import Sink, Watch
from .levels import (
    CEILING,
    DEBUG,
    ERROR,
    FLOOR,
    INFO,
    LEVELS,
    WARNING,
    Once,
    Thinner,
    loudness,
    password_exposed,
)

#: How wide a line is where nobody tells: in a pipe.
PLAIN_WIDTH = 140

_STYLES = {"dim": "2", "bold": "1", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}
_MARKS = {
    "ok": ("✓", "+"),
    "no": ("✗", "x"),
    "soft": ("~", "~"),
    "none": ("·", "."),
    "warn": ("▲", "!"),
    "mail": ("✉", "@"),
    "open": ("┌", ">"),
    "close": ("└", "<"),
    "key": ("●", "*"),
    "step": ("│", "|"),
}


class Palette:
    """Whether there is colour, and whether there is more than ASCII."""

    def __init__(self, colour: bool = False, symbols: bool = True, width: int = PLAIN_WIDTH) -> None:
        self.colour = colour
        self.symbols = symbols
        self.width = width

    @classmethod
    def of(cls, stream: TextIO, environment: Mapping[str, str] | None = None) -> Palette:
        """Return what suits a stream: colour on a terminal, unless NO_COLOR or TERM forbids."""
        environment = os.environ if environment is None else environment
        terminal = stream.isatty()
        colour = terminal and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"
        symbols = (getattr(stream, "encoding", None) or "").lower().replace("-", "") == "utf8"
        width = shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns if terminal else PLAIN_WIDTH
        return cls(bool(colour), symbols, max(width, 80))

    def paint(self, text: str, style: str) -> str:
        if not self.colour or not style or not text:
            return text
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"

    def mark(self, name: str, style: str) -> str:
        return self.paint(_MARKS[name][0 if self.symbols else 1], style)

    def cell(self, text: str, width: int, style: str = "", right: bool = False) -> str:
        """Pad or cut a text to a width, then paint it."""
        if len(text) > width:
            more = "…" if self.symbols else "~"
            text = text[: max(width - 1, 0)] + more
        return self.paint(text.rjust(width) if right else text.ljust(width), style)


def octets(count: float) -> str:
    """Write a number of octets for a person: ``512 B``, ``1.4 KiB``, ``30.0 MiB``."""
    if count < 1024:
        return f"{int(count)} B"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if count < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} TiB"


def duration(seconds: float) -> str:
    """Write a duration for a person: ``0.4 ms``, ``41 ms``, ``1.2 s``, ``3m 07s``, ``2h 05m``."""
    if seconds < 0.01:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m {rest:02d}s" if minutes < 60 else f"{minutes // 60}h {minutes % 60:02d}m"


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def time_of_day(now: float) -> str:
    """Write the local time of day, as people at a terminal read it."""
    return time.strftime("%H:%M:%S", time.localtime(now)) + f".{int(now % 1 * 1000):03d}"


def own_line(palette: Palette, now: float, level: int, event: str, fields: Mapping[str, object]) -> str:
    """Write a line of the program's own log: ``event`` in words, then ``key=value``."""
    style = {WARNING: "yellow", ERROR: "red"}.get(level, "bold")
    stamp = palette.paint(time_of_day(now), "dim")
    words = palette.paint(shown(event.replace("_", " "), 200), style)
    pairs = [
        f"{palette.paint(key, 'cyan')}={shown(_plain(item), 4000)}"
        for key, item in fields.items()
        if item is not None and item != ""
    ]
    return "  ".join([stamp, " ".join([palette.paint("mailgate", "dim"), words, *pairs])]) + "\n"


def _plain(item: object) -> str:
    if isinstance(item, (list, tuple, set, frozenset)):
        return ",".join(str(entry) for entry in item)
    return str(item)


class Console(Sink):
    """The sink that shows sessions to a person.

    Lines carry the session's first four characters, and who: the user once logged in, the
    client's address before.  ``level`` as in the command log.
    """

    def __init__(
        self, lines: Lines, palette: Palette | None = None, level: str = "info", commands: bool = True
    ) -> None:
        self._write = lines.write
        self._palette = palette or Palette()
        self._level = LEVELS[level]
        self._commands = commands
        self._listener_width = 6
        self._struck = Once()
        self._thinner = Thinner()

    def watches(self) -> dict[type, Watch]:
        table: dict[type, Watch] = {
            ReplySeen: self._reply,
            LoginSeen: self._login,
            SessionOpened: self._opened,
            SessionClosed: self._closed,
            ConnectionRefused: self._refused_connection,
            ClientNamed: self._named,
            TlsStarted: self._tls,
            TlsFailed: self._tls_failed,
            UpstreamConnected: self._connected,
            UpstreamFailed: self._failed,
            Fault: self._fault,
            Refused: self._refused,
            ExtensionStruck: self._extension,
            PluginRan: self._plugin,
            MessageSeen: self._message,
        }
        return {
            kind: watch
            for kind, watch in table.items()
            # A person wants to see sessions begin; there it counts as "info".
            if (kind is SessionOpened and self._level <= INFO)
            or CEILING.get(kind, FLOOR[kind]) >= self._level
            if self._commands or kind is not ReplySeen
        }

    # -- the frame of every line -------------------------------------------

    def _frame(self, record: SessionRecord, now: float, mark: str, style: str) -> tuple[str, int]:
        """Return the begin of a line, and how much room is left on it."""
        palette = self._palette
        self._listener_width = min(max(self._listener_width, len(record.listener)), 14)
        who = shown(record.user or record.client_address, 100)
        parts = [
            palette.paint(time_of_day(now), "dim"),
            palette.cell(record.listener, self._listener_width, "cyan"),
            palette.paint(record.id[:4].ljust(4), "dim"),
            palette.cell(who, 16),
            palette.mark(mark, style),
        ]
        used = 12 + 2 + self._listener_width + 2 + 4 + 2 + 16 + 2 + 1 + 1
        return "  ".join(parts) + " ", palette.width - used

    def _say(
        self, record: SessionRecord, now: float, mark: str, style: str, text: str, more: str = ""
    ) -> None:
        begin, room = self._frame(record, now, mark, style)
        palette = self._palette
        text = shown(text, 400)
        line = palette.paint(text, style if style in ("red", "yellow") else "")
        if more:
            more = shown(more, 400)
            rest = room - len(text) - 2
            if palette.colour and rest < len(more):
                more = palette.cell(more, rest) if rest > 8 else ""
            line += "  " + palette.paint(more, "dim") if more else ""
        self._write(f"{begin}{line.rstrip()}\n")

    # -- facts -------------------------------------------------------------

    def _reply(self, record: SessionRecord, reply: ReplySeen, now: float) -> None:
        palette = self._palette
        mark, style = {
            "ok": ("ok", "green"),
            "temp": ("soft", "yellow"),
            "unanswered": ("none", "dim"),
        }.get(reply.result, ("no", "red"))
        begin, room = self._frame(record, now, mark, style)
        at = reply.command.at
        passed = max(now - at, 0.0) if at else 0.0
        room -= 10
        left = max(min(room * 11 // 20, 60), 20)
        command = palette.cell(reply.command.shown, left)
        answer = "no reply" if reply.result == "unanswered" else reply.shown
        answer = palette.cell(answer, max(room - left - 2, 10), style if style == "red" else "dim")
        took = palette.cell(duration(passed), 8, "yellow" if passed >= 1 else "dim", right=True)
        self._write(f"{begin}{command}  {answer}  {took}\n")

    def _login(self, record: SessionRecord, login: LoginSeen, now: float) -> None:
        exposed = password_exposed(record, login)
        if (WARNING if exposed else INFO) < self._level:
            return
        outcome = {"ok": "logged in", "failed": "wrong credentials"}.get(login.outcome, login.outcome)
        user = login.user or "somebody"
        tls = record.client_tls
        over = {"tls": f"over {tls.version}" if tls else "", "none": "without TLS"}.get(
            record.protection, record.protection
        )
        text = f"{user}: {outcome}, {login.mechanism} {over}"
        if exposed:
            self._say(record, now, "warn", "yellow", text, "the password crossed the wire in clear")
        else:
            self._say(record, now, "key", "green" if login.outcome == "ok" else "red", text)

    def _opened(self, record: SessionRecord, fact: SessionOpened, now: float) -> None:
        where = f" through {record.peer_address}" if record.peer_address else ""
        self._say(
            record, now, "open", "blue", f"connected from {record.client_address}:{record.client_port}{where}"
        )

    def _closed(self, record: SessionRecord, fact: SessionClosed, now: float) -> None:
        if loudness(record, fact) < self._level:
            return
        ended = str(fact.reason).replace("_", " ")
        if fact.detail:
            ended += f" ({fact.detail})"
        more = [duration(fact.seconds), count(record.commands, "command")]
        if record.messages:
            more.append(count(record.messages, "message"))
        more += [f"{octets(record.bytes_from_client)} in", f"{octets(record.bytes_to_client)} out"]
        style = {"quit": "blue", "client_eof": "blue", "internal": "red"}.get(fact.reason, "yellow")
        self._say(record, now, "close", style, ended, ", ".join(more))

    def _refused_connection(self, record: SessionRecord, fact: ConnectionRefused, now: float) -> None:
        kept = self._thinner.count(now, record.listener, fact.reason)
        if kept is not None:
            more = f"and {kept} more since the last line" if kept else ""
            text = f"connection refused: {fact.reason.replace('_', ' ')}"
            self._say(record, now, "no", "yellow", text, more)

    def _named(self, record: SessionRecord, fact: ClientNamed, now: float) -> None:
        self._say(record, now, "step", "dim", f"calls itself {fact.name}", fact.how)

    def _tls(self, record: SessionRecord, fact: TlsStarted, now: float) -> None:
        self._say(record, now, "step", "dim", f"{fact.side}: {describe_tls(fact.tls)}", fact.mode)

    def _tls_failed(self, record: SessionRecord, fact: TlsFailed, now: float) -> None:
        text = f"TLS with the {fact.side} failed: {fact.reason.replace('_', ' ')}"
        self._say(record, now, "no", "yellow", text, fact.detail)

    def _connected(self, record: SessionRecord, fact: UpstreamConnected, now: float) -> None:
        text = f"upstream {fact.upstream} at {fact.address}"
        self._say(record, now, "step", "dim", text, duration(fact.seconds))

    def _failed(self, record: SessionRecord, fact: UpstreamFailed, now: float) -> None:
        kept = self._thinner.count(now, fact.upstream, fact.address, fact.reason)
        if kept is not None:
            text = f"upstream {fact.upstream} at {fact.address}: {fact.reason}"
            self._say(record, now, "no", "red", text, fact.detail)

    def _fault(self, record: SessionRecord, fact: Fault, now: float) -> None:
        level = loudness(record, fact)
        if level >= self._level:
            style = "red" if level >= ERROR else "yellow"
            text = f"{fact.side}: {fact.kind.replace('_', ' ')}"
            self._say(record, now, "warn", style, text, fact.detail)

    def _refused(self, record: SessionRecord, fact: Refused, now: float) -> None:
        text = f"{fact.verb} refused by the gateway"
        self._say(record, now, "no", "yellow", text, fact.reason.replace("_", " "))

    def _extension(self, record: SessionRecord, fact: ExtensionStruck, now: float) -> None:
        first = self._struck.first(record.upstream, record.protocol, fact.name)
        if (INFO if first else DEBUG) >= self._level:
            self._say(record, now, "step", "dim", f"{fact.name} is not passed on", fact.reason)

    def _plugin(self, record: SessionRecord, fact: PluginRan, now: float) -> None:
        level = loudness(record, fact)
        if level < self._level:
            return
        came = "" if fact.applied == fact.result else f", so {fact.applied}"
        text = f"plugin {fact.plugin}: {fact.result}{came}"
        more = ", ".join(part for part in (duration(fact.seconds), fact.detail) if part)
        style = "yellow" if level >= WARNING or fact.result not in ("pass", "modify") else "dim"
        self._say(record, now, "warn" if level >= WARNING else "step", style, text, more)

    def _message(self, record: SessionRecord, fact: MessageSeen, now: float) -> None:
        size = octets(fact.size)
        if fact.action == "rewritten":
            size += f", now {octets(fact.new_size)}"
        what = f"{fact.stage} {fact.ident}".strip() + (f"[{fact.section}]" if fact.section else "")
        text = f"message {fact.action}: {what}, {size}"
        more = []
        if fact.reverse_path or fact.recipients:
            more.append(f"from <{fact.reverse_path}> to {count(fact.recipients, 'recipient')}")
        more += [part for part in (fact.mailbox, fact.reason) if part]
        if fact.digest:
            more.append(f"sha256 {fact.digest[:12]}")
        style = {"passed": "blue", "rewritten": "blue"}.get(fact.action, "yellow")
        self._say(record, now, "mail", style, text, ", ".join(more))


def describe_tls(tls: TlsInfo) -> str:
    """Write a handshake's result for a person."""
    words = [tls.version, tls.cipher, tls.group]
    return " ".join(word for word in words if word) + (f" for {tls.sni}" if tls.sni else "")
