"""The command log: one JSON object a line, made by hand.

One line for each command with its reply, one for each authentication attempt, one summary at
the end of each session; and a line for each fault, refusal, failure and message.  Every line
begins with ``ts``, ``level``, ``event``, ``session``, ``protocol``, ``listener``, ``client``,
``user``, ``upstream``, in this order; the event's own keys follow.

A general logger costs several times what the rest of a command does, so the line of a command
is one f-string: the session's part of it is kept, the second's part of the time stamp too.
"""

from __future__ import annotations

from typing import Protocol

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
from .hub import Sink, Watch
from .json_line import Clock, quote, value
from .levels import (
    CEILING,
    DEBUG,
    ERROR,
    FLOOR,
    INFO,
    LEVELS,
    NAMES,
    WARNING,
    Once,
    Thinner,
    loudness,
    password_exposed,
)


class Lines(Protocol):
    """Where lines go: :class:`gateway.observe.writer.Writer`, or a list in a test."""

    def write(self, line: str) -> None:
        """Take one line, its line end included."""


def tls_object(tls: TlsInfo | None) -> str:
    """Write what a handshake agreed on as JSON; null without TLS."""
    if tls is None:
        return "null"
    peer = f',"peer":{value(tls.peer)},"verified":{value(tls.verified)}' if tls.peer else ""
    ja4 = f',"ja4":{value(tls.ja4)}' if tls.ja4 else ""
    return (
        f'{{"version":{value(tls.version)},"cipher":{value(tls.cipher)},"group":{value(tls.group)},'
        f'"sni":{value(tls.sni)},"resumed":{value(tls.resumed)}{peer}{ja4}}}'
    )


class CommandLog(Sink):
    """The sink that writes the command log.

    lines: where to write.
    level: what lies below it is not written: "debug", "info", "warning", "error".
    commands: whether the line of each command is written.
    """

    def __init__(self, lines: Lines, level: str = "info", commands: bool = True) -> None:
        self._write = lines.write
        self._level = LEVELS[level]
        self._commands = commands
        self._clock = Clock()
        self._heads: dict[str, str] = {}  # session -> its part of every line
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
            QuarantineFailed: self._not_kept,
            SecurityEvent: self._security,
            MessageSeen: self._message,
        }
        wanted = {
            kind: watch
            for kind, watch in table.items()
            if CEILING.get(kind, FLOOR[kind]) >= self._level and (self._commands or kind is not ReplySeen)
        }
        # Whatever changes the head of a session's lines must be heard, written or not.
        wanted.setdefault(LoginSeen, self._forget_head)
        wanted.setdefault(UpstreamConnected, self._forget_head)
        wanted.setdefault(SessionClosed, self._forget)
        wanted.setdefault(SessionOpened, self._opened)
        return wanted

    # -- the hot path ------------------------------------------------------

    def _reply(self, record: SessionRecord, reply: ReplySeen, now: float) -> None:
        command = reply.command
        head = self._heads.get(record.id) or self._head(record)
        at = command.at
        passed = (now - at) * 1000 if 0 < at < now else 0.0
        clock = self._clock
        stamp = clock.text if now == clock.now else clock.stamp(now)
        # shown texts are safe already, and verbs and results are closed sets.
        self._write(
            f'{{"ts":"{stamp}","level":"info","event":"command",{head}"verb":"{command.verb}",'
            f'"shown":{quote(command.shown)},"result":"{reply.result}","reply":{quote(reply.shown)},'
            f'"ms":{passed:.1f}}}\n'
        )

    def _head(self, record: SessionRecord) -> str:
        head = self._heads[record.id] = self._make_head(record, record.user, record.upstream)
        return head

    def _make_head(self, record: SessionRecord, user: str, upstream: str) -> str:
        return (
            f'"session":{value(record.id)},"protocol":{value(record.protocol)},'
            f'"listener":{value(record.listener)},"client":{value(record.client_address)},'
            f'"user":{value(user)},"upstream":{value(upstream)},'
        )

    def _forget_head(self, record: SessionRecord, fact: object, now: float) -> None:
        self._heads.pop(record.id, None)

    def _forget(self, record: SessionRecord, fact: object, now: float) -> None:
        self._heads.pop(record.id, None)
        self._open.discard(record.id)

    # -- everything else ---------------------------------------------------

    def _line(
        self, record: SessionRecord, now: float, level: int, event: str, fields: dict[str, object]
    ) -> None:
        if level >= self._level:
            head = self._heads.get(record.id) or self._head(record)
            self._write(self._join(now, level, event, head, fields))

    def _join(self, now: float, level: int, event: str, head: str, fields: dict[str, object]) -> str:
        rest = ",".join([f'"{key}":{value(item)}' for key, item in fields.items()])
        stamp = self._clock.stamp(now)
        return f'{{"ts":"{stamp}","level":"{NAMES[level]}","event":"{event}",{head}{rest}}}\n'

    def _opened(self, record: SessionRecord, fact: SessionOpened, now: float) -> None:
        self._open.add(record.id)
        if self._level > DEBUG:
            return
        server = f"{record.server_address}:{record.server_port}"
        fields: dict[str, object] = {"client_port": record.client_port, "server": server}
        if record.peer_address not in ("", record.client_address):
            fields["peer"] = record.peer_address
        self._line(record, now, DEBUG, "session_opened", fields)

    def _login(self, record: SessionRecord, login: LoginSeen, now: float) -> None:
        self._heads.pop(record.id, None)
        level = loudness(record, login)
        if level < self._level:
            return
        tls = record.client_tls
        policy = f',"tls_ja4":{value(tls.ja4)}' if tls is not None and tls.ja4 else ""
        if login.policy:
            policy += f',"policy":{value(login.policy)},"judgement":{value(login.judgement)}'
        # The user of a login line is the one who tried, whatever came of it.
        self._write(
            f'{{"ts":"{self._clock.stamp(now)}","level":"{NAMES[level]}","event":"login",'
            f'{self._make_head(record, login.user, record.upstream)}"client_port":{record.client_port},'
            f'"mechanism":{value(login.mechanism)},"outcome":{value(login.outcome)},'
            f'"protection":"{record.protection}",'
            f'"password_exposed":{"true" if password_exposed(record, login) else "false"},'
            f'"reply":{value(login.reply)},"tls_version":{value(tls.version if tls else "")},'
            f'"tls_cipher":{value(tls.cipher if tls else "")},'
            f'"client_name":{value(record.client_name)},"client_program":{value(record.client_program)}{policy}}}\n'
        )

    def _closed(self, record: SessionRecord, fact: SessionClosed, now: float) -> None:
        if record.id not in self._open:
            self._heads.pop(record.id, None)
            return  # refused at once: that was said, and thinned where it came in floods
        level = loudness(record, fact)
        if level >= self._level:
            more = ""
            if record.peer_address not in ("", record.client_address):
                more += f',"peer":{value(record.peer_address)}'
            if record.tags:
                more += f',"tags":{value(record.tags)}'
            self._write(
                f'{{"ts":"{self._clock.stamp(now)}","level":"{NAMES[level]}","event":"session",'
                f"{self._heads.get(record.id) or self._head(record)}"
                f'"reason":"{fact.reason}","ended_by":{value(record.ended_by)},"detail":{value(fact.detail)},'
                f'"seconds":{fact.seconds:.3f},"commands":{record.commands},"messages":{record.messages},'
                f'"bytes_from_client":{record.bytes_from_client},"bytes_to_client":{record.bytes_to_client},'
                f'"bytes_from_upstream":{record.bytes_from_upstream},'
                f'"bytes_to_upstream":{record.bytes_to_upstream},'
                f'"protection":"{record.protection}","mechanism":{value(record.mechanism)},'
                f'"client_port":{record.client_port},"client_name":{value(record.client_name)},'
                f'"client_program":{value(record.client_program)},'
                f'"upstream_address":{value(record.upstream_address)},'
                f'"client_tls":{tls_object(record.client_tls)},'
                f'"upstream_tls":{tls_object(record.upstream_tls)}{more}}}\n'
            )
        self._forget(record, fact, now)

    def _refused_connection(self, record: SessionRecord, fact: ConnectionRefused, now: float) -> None:
        # A flood of connections must not become a flood of lines.
        kept = self._thinner.count(now, record.listener, fact.reason)
        if kept is not None:
            fields: dict[str, object] = {"reason": fact.reason, "not_shown": kept}
            self._line(record, now, WARNING, "connection_refused", fields)
        self._heads.pop(record.id, None)

    def _named(self, record: SessionRecord, fact: ClientNamed, now: float) -> None:
        self._line(record, now, DEBUG, "client_named", {"how": fact.how, "name": fact.name})

    def _tls(self, record: SessionRecord, fact: TlsStarted, now: float) -> None:
        fields: dict[str, object] = {"side": str(fact.side), "mode": fact.mode}
        fields |= {"version": fact.tls.version, "cipher": fact.tls.cipher, "group": fact.tls.group}
        fields |= {"sni": fact.tls.sni, "resumed": fact.tls.resumed}
        if fact.tls.ja4:
            fields["ja4"] = fact.tls.ja4
        if fact.tls.peer:
            fields |= {"peer": fact.tls.peer, "verified": fact.tls.verified}
        self._line(record, now, DEBUG, "tls", fields)

    def _tls_failed(self, record: SessionRecord, fact: TlsFailed, now: float) -> None:
        fields: dict[str, object] = {"side": str(fact.side), "mode": fact.mode}
        fields |= {"reason": fact.reason, "detail": fact.detail}
        self._line(record, now, WARNING, "tls_failed", fields)

    def _connected(self, record: SessionRecord, fact: UpstreamConnected, now: float) -> None:
        self._heads.pop(record.id, None)
        if self._level > DEBUG:
            return
        fields: dict[str, object] = {"address": fact.address, "ms": fact.seconds * 1000}
        head = self._make_head(record, record.user, fact.upstream)
        self._write(self._join(now, DEBUG, "upstream_connected", head, fields))

    def _failed(self, record: SessionRecord, fact: UpstreamFailed, now: float) -> None:
        # While an upstream is down, each session would say so again.
        kept = self._thinner.count(now, fact.upstream, fact.address, fact.reason)
        if kept is None:
            return
        fields: dict[str, object] = {
            "address": fact.address,
            "trouble": fact.trouble,
            "reason": fact.reason,
            "detail": fact.detail,
            "not_shown": kept,
        }
        # The session has none yet: the line is of the one that was tried.
        head = self._make_head(record, record.user, fact.upstream)
        self._write(self._join(now, ERROR, "upstream_failed", head, fields))

    def _fault(self, record: SessionRecord, fact: Fault, now: float) -> None:
        fields: dict[str, object] = {"side": str(fact.side), "kind": fact.kind, "detail": fact.detail}
        self._line(record, now, loudness(record, fact), "fault", fields)

    def _refused(self, record: SessionRecord, fact: Refused, now: float) -> None:
        self._line(record, now, INFO, "refused", {"verb": fact.verb, "reason": fact.reason})

    def _extension(self, record: SessionRecord, fact: ExtensionStruck, now: float) -> None:
        # The same upstream strikes the same list in every session: once is news.
        first = self._struck.first(record.upstream, record.protocol, fact.name)
        fields: dict[str, object] = {"name": fact.name, "reason": fact.reason}
        self._line(record, now, INFO if first else DEBUG, "extension_struck", fields)

    def _plugin(self, record: SessionRecord, fact: PluginRan, now: float) -> None:
        fields: dict[str, object] = {
            "plugin": fact.plugin,
            "stage": fact.stage,
            "result": fact.result,
            "applied": fact.applied,
            "ms": fact.seconds * 1000,
            "detail": fact.detail,
        }
        if fact.facts:
            fields["facts"] = fact.facts
        if fact.diff:
            fields["diff"] = fact.diff
        self._line(record, now, loudness(record, fact), "plugin", fields)

    def _ambiguous(self, record: SessionRecord, fact: MessageAmbiguous, now: float) -> None:
        fields: dict[str, object] = {"stage": fact.stage, "applied": fact.applied, "defects": fact.defects}
        self._line(record, now, WARNING, "message_ambiguous", fields)

    def _not_kept(self, record: SessionRecord, fact: QuarantineFailed, now: float) -> None:
        fields: dict[str, object] = {"plugin": fact.plugin, "detail": fact.detail}
        self._line(record, now, loudness(record, fact), "quarantine_failed", fields)

    def _security(self, record: SessionRecord, fact: SecurityEvent, now: float) -> None:
        fields: dict[str, object] = {
            "kind": fact.kind,
            "severity": fact.severity,
            "detail": fact.detail,
            "address": fact.address,
            "subject": fact.user,
            "count": fact.count,
        }
        if fact.data:
            fields["data"] = fact.data
        self._line(record, now, loudness(record, fact), "security", fields)

    def _answer(self, record: SessionRecord, fact: PluginAnswered, now: float) -> None:
        fields: dict[str, object] = {
            "plugin": fact.plugin,
            "hook": fact.hook,
            "result": fact.result,
            "applied": fact.applied,
            "detail": fact.detail,
        }
        self._line(record, now, loudness(record, fact), "plugin_answer", fields)

    def _message(self, record: SessionRecord, fact: MessageSeen, now: float) -> None:
        fields: dict[str, object] = {
            "stage": fact.stage,
            "source": str(fact.source),
            "action": fact.action,
            "held": fact.held,
            "size": fact.size,
            "new_size": fact.new_size,
            "digest": fact.digest,
            "section": fact.section,
            "partial": fact.partial,
            "mailbox": fact.mailbox,
            "ident": fact.ident,
            "reverse_path": fact.reverse_path,
            "recipients": fact.recipients,
            "message_id": fact.message_id,
            "reason": fact.reason,
            "quarantine": fact.quarantine,
        }
        self._line(record, now, INFO, "message", fields)
