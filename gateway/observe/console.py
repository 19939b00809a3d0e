"""The console: the same facts for a person at a terminal.  Aligned, coloured, calm.

One line for each command with its reply::

    07:11:57.899  imaps     1f3a  alice           ✓ UID FETCH 7 BODY.PEEK[]     OK done    1.2 ms
"""

from __future__ import annotations

from ..core.facts import (
    ConnectionRefused,
    MessageAmbiguous,
    MessageSeen,
    PluginAnswered,
    PluginRan,
    QuarantineFailed,
    SecurityEvent,
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
from .terminal import Palette, count, duration, octets, time_of_day

__all__ = ["Console", "Palette"]

#: Columns of a terminal below which a line tells less of when and who.
NARROW = 100
#: Lines of what a plugin in shadow would have changed.
_DIFF_LINES = 12


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
        self._listener_width = 10
        self._open: set[str] = set()
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
            MessageAmbiguous: self._ambiguous,
            PluginAnswered: self._answer,
            SecurityEvent: self._security,
            QuarantineFailed: self._not_kept,
            MessageSeen: self._message,
        }
        return {
            kind: watch
            for kind, watch in table.items()
            # Which sessions were opened must be known at any level; and a person wants to see
            # it at "info".
            if kind is SessionOpened or CEILING.get(kind, FLOOR[kind]) >= self._level
            if self._commands or kind is not ReplySeen
        }

    # -- the frame of every line -------------------------------------------

    def _frame(self, record: SessionRecord, now: float, mark: str, style: str) -> tuple[str, int]:
        """Return the begin of a line, and how much room is left on it."""
        palette = self._palette
        self._listener_width = min(max(self._listener_width, len(record.listener)), 14)
        who = shown(record.user or record.client_address, 100)
        stamp, who_width = time_of_day(now), 16
        if palette.width < NARROW:  # room for the command is worth more than milliseconds
            stamp, who_width = stamp[:8], 9
        parts = [
            palette.paint(stamp, "dim"),
            palette.cell(record.listener, self._listener_width, "cyan"),
            palette.paint(record.id[:4].ljust(4), "dim"),
            palette.cell(who, who_width),
            palette.mark(mark, style),
        ]
        used = len(stamp) + 2 + self._listener_width + 2 + 4 + 2 + who_width + 2 + 1 + 1
        return "  ".join(parts) + " ", palette.width - used

    def _say(
        self, record: SessionRecord, now: float, mark: str, style: str, text: str, more: str = ""
    ) -> None:
        begin, room = self._frame(record, now, mark, style)
        palette = self._palette
        text = shown(text, 400)
        if palette.fit and len(text) > room:
            text = palette.cell(text, room)
        line = palette.paint(text, style if style in ("red", "yellow") else "")
        if more:
            more = shown(more, 400)
            rest = room - len(text) - 2
            if palette.fit and rest < len(more):
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
        left = max(min(room * 11 // 20, 60), 12)
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
        if login.judgement:
            text += f" (policy {login.policy}: {login.judgement})"
        if exposed:
            self._say(record, now, "warn", "yellow", text, "the password crossed the wire in clear")
        else:
            self._say(record, now, "key", "green" if login.outcome == "ok" else "red", text)

    def _opened(self, record: SessionRecord, fact: SessionOpened, now: float) -> None:
        self._open.add(record.id)
        if self._level > INFO:
            return
        front = record.peer_address
        where = f" through {front}" if front not in ("", record.client_address) else ""
        self._say(
            record, now, "open", "blue", f"connected from {record.client_address}:{record.client_port}{where}"
        )

    def _closed(self, record: SessionRecord, fact: SessionClosed, now: float) -> None:
        if record.id not in self._open:
            return  # refused at once: that was said
        self._open.discard(record.id)
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
        for line in fact.diff[:_DIFF_LINES]:
            self._say(record, now, "step", {"-": "red", "+": "green"}.get(line[:1], "dim"), f"  {line}", "")
        if len(fact.diff) > _DIFF_LINES:
            self._say(record, now, "step", "dim", f"  {len(fact.diff) - _DIFF_LINES} more lines", "")

    def _ambiguous(self, record: SessionRecord, fact: MessageAmbiguous, now: float) -> None:
        text = f"ambiguous message, so {fact.applied}"
        self._say(record, now, "warn", "yellow", text, ", ".join(fact.defects).replace("_", " "))

    def _not_kept(self, record: SessionRecord, fact: QuarantineFailed, now: float) -> None:
        self._say(record, now, "warn", "red", "a message could not be quarantined", fact.detail)

    def _security(self, record: SessionRecord, fact: SecurityEvent, now: float) -> None:
        level = loudness(record, fact)
        if level >= self._level:
            mark, colour = ("warn", "red" if fact.severity == "alert" else "yellow")
            kind = fact.kind.replace("_", " ")
            self._say(record, now, mark, colour, f"security: {kind}", fact.detail)

    def _answer(self, record: SessionRecord, fact: PluginAnswered, now: float) -> None:
        level = loudness(record, fact)
        if level < self._level:
            return
        came = f", so {fact.applied}" if fact.result == "error" or fact.applied == "shadow" else ""
        text = f"plugin {fact.plugin} at {fact.hook}: {fact.result}{came}"
        warns = level >= WARNING
        self._say(record, now, "warn" if warns else "step", "yellow" if warns else "dim", text, fact.detail)

    def _message(self, record: SessionRecord, fact: MessageSeen, now: float) -> None:
        size = octets(fact.size)
        if fact.action == "rewritten":
            size += f", now {octets(fact.new_size)}"
        what = f"{fact.stage} {fact.ident}".strip() + (f"[{fact.section}]" if fact.section else "")
        text = f"message {fact.action}: {what}, {size}"
        more = []
        if fact.reverse_path or fact.recipients:
            more.append(f"from <{fact.reverse_path}> to {count(fact.recipients, 'recipient')}")
        kept = f"quarantine {fact.quarantine}" if fact.quarantine else ""
        more += [part for part in (fact.mailbox, fact.reason, kept) if part]
        if fact.digest:
            more.append(f"sha256 {fact.digest[:12]}")
        style = {"passed": "blue", "rewritten": "blue"}.get(fact.action, "yellow")
        self._say(record, now, "mail", style, text, ", ".join(more))


def describe_tls(tls: TlsInfo) -> str:
    """Write a handshake's result for a person."""
    words = [tls.version, tls.cipher, tls.group]
    return " ".join(word for word in words if word) + (f" for {tls.sni}" if tls.sni else "")
