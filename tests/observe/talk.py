"""One session without sockets: an engine, a recorder, and a small mail server to talk to."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from gateway.core.engine import Engine, Route
from gateway.core.record import SessionRecord
from gateway.core.rules import Rules
from gateway.core.steps import CLIENT, UPSTREAM, Connect, LoginSeen, Send, Side, Step
from gateway.observe.transcript import Choice, Recorder, Transcripts

MAIL = b"Subject: Gehaltsliste\r\n\r\nUnter uns: 90210.\r\n.\r\n250 Flaschen\r\n* 1 FETCH nothing\r\n"


class Smtp:
    """Takes all mail; refuses the first login."""

    greeting = b"220 mx.example ESMTP\r\n"

    def __init__(self) -> None:
        self.held = b""
        self.data = False
        self.logins = 0
        self.challenges = 0

    def feed(self, octets: bytes) -> Iterator[bytes]:
        self.held += octets
        while b"\n" in self.held:
            line, _, self.held = self.held.partition(b"\n")
            yield self.answer(line.rstrip(b"\r"))

    def answer(self, line: bytes) -> bytes:
        verb = line.split(b" ")[0].upper()
        if self.data:
            self.data = line != b"."
            return b"" if self.data else b"250 2.0.0 queued\r\n"
        if self.challenges:
            self.challenges -= 1
            return b"334 UGFzc3dvcmQ6\r\n" if self.challenges else self.outcome(line)
        if verb == b"EHLO":
            return b"250-mx.example\r\n250-PIPELINING\r\n250 AUTH PLAIN LOGIN\r\n"
        if verb == b"AUTH":
            if b"LOGIN" in line.upper() or len(line.split()) < 3:
                self.challenges = 2 if b"LOGIN" in line.upper() else 1
                return b"334 VXNlcm5hbWU6\r\n"
            return self.outcome(line)
        if verb == b"DATA":
            self.data = True
            return b"354 go\r\n"
        if verb == b"QUIT":
            return b"221 bye\r\n"
        if verb in (b"MAIL", b"RCPT", b"NOOP", b"RSET"):
            return b"250 ok\r\n"
        return b"500 5.5.1 what is " + line + b"?\r\n"

    def outcome(self, line: bytes) -> bytes:
        """A server that tells in its reply what it was told."""
        self.logins += 1
        return b"535 5.7.8 not " + line + b"\r\n" if self.logins == 1 else b"235 2.7.0 ok\r\n"


class Pop3(Smtp):
    greeting = b"+OK ready <1896.697170952@mx.example>\r\n"

    def answer(self, line: bytes) -> bytes:
        verb = line.split(b" ")[0].upper()
        if self.challenges:
            self.challenges -= 1
            return b"+ UGFzc3dvcmQ6\r\n" if self.challenges else self.outcome(line)
        if verb == b"CAPA":
            return b"+OK\r\nUSER\r\nUIDL\r\nTOP\r\nSASL PLAIN LOGIN\r\nPIPELINING\r\n.\r\n"
        if verb == b"AUTH":
            if len(line.split()) > 2:
                return self.outcome(line)
            self.challenges = 2 if b"LOGIN" in line.upper() else 1
            return b"+ \r\n"
        if verb in (b"PASS", b"APOP"):
            return self.outcome(line)
        if verb in (b"RETR", b"TOP"):
            return b"+OK message follows\r\n" + MAIL.replace(b"\r\n.", b"\r\n..") + b".\r\n"
        if verb == b"LIST":
            return b"+OK\r\n1 %d\r\n.\r\n" % len(MAIL)
        if verb in (b"USER", b"QUIT", b"NOOP", b"STAT", b"DELE"):
            return b"+OK\r\n"
        return b"-ERR what is " + line + b"?\r\n"

    def outcome(self, line: bytes) -> bytes:
        self.logins += 1
        return b"-ERR not " + line + b"\r\n" if self.logins == 1 else b"+OK\r\n"


class Imap(Smtp):
    greeting = b"* OK [CAPABILITY IMAP4rev1 LITERAL+ SASL-IR AUTH=PLAIN AUTH=LOGIN] ready\r\n"

    def __init__(self) -> None:
        super().__init__()
        self.command = b""
        self.literal = 0
        self.tag = b""

    def feed(self, octets: bytes) -> Iterator[bytes]:
        self.held += octets
        while self.held:
            if self.literal:
                piece, self.held = self.held[: self.literal], self.held[self.literal :]
                self.literal -= len(piece)
                self.command += piece
                continue
            if b"\n" not in self.held:
                return
            line, _, self.held = self.held.partition(b"\n")
            line += b"\n"
            self.command += line
            announced = re.search(rb"\{(\d+)(\+?)\}\r\n\Z", line)
            if announced and not self.challenges:
                self.literal = int(announced.group(1))
                if not announced.group(2):
                    yield b"+ go on\r\n"
                continue
            whole, self.command = self.command, b""
            yield self.answer(whole.rstrip(b"\r\n"))

    def answer(self, line: bytes) -> bytes:
        if self.challenges:
            self.challenges -= 1
            return b"+ UGFzc3dvcmQ6\r\n" if self.challenges else self.outcome(line)
        tag, _, rest = line.partition(b" ")
        verb = rest.split(b" ")[0].upper()
        self.tag = tag
        if verb == b"CAPABILITY":
            capability = b"* CAPABILITY IMAP4rev1 LITERAL+ SASL-IR AUTH=PLAIN AUTH=LOGIN\r\n"
            return capability + tag + b" OK done\r\n"
        if verb == b"LOGIN":
            return self.outcome(line)
        if verb == b"AUTHENTICATE":
            if len(rest.split()) > 2:
                return self.outcome(line)
            self.challenges = 2 if b"LOGIN" in rest.upper() else 1
            return b"+ \r\n"
        if verb == b"SELECT":
            return b"* 1 EXISTS\r\n" + tag + b" OK [READ-WRITE] selected\r\n"
        if verb == b"FETCH":
            size = b"{%d}" % len(MAIL)
            envelope = b'ENVELOPE (NIL "Gehaltsliste" NIL NIL NIL NIL NIL NIL NIL NIL) '
            return (
                b"* 1 FETCH ("
                + envelope
                + b"BODY[] "
                + size
                + b"\r\n"
                + MAIL
                + b")\r\n"
                + tag
                + b" OK done\r\n"
            )
        if verb == b"LOGOUT":
            return b"* BYE bye\r\n" + tag + b" OK done\r\n"
        if verb in (b"APPEND", b"NOOP", b"SEARCH"):
            return tag + b" OK done\r\n"
        return tag + b" BAD what is " + line + b"?\r\n"

    def outcome(self, line: bytes) -> bytes:
        self.logins += 1
        said = line.replace(b"\r\n", b" ")
        return self.tag + (b" NO not " + said if self.logins == 1 else b" OK done") + b"\r\n"


SERVERS: dict[str, Callable[[], Smtp]] = {"smtp": Smtp, "pop3": Pop3, "imap": Imap}


class Talk:
    """Performs a conversation; what the client is told is kept in ``told``."""

    def __init__(
        self,
        make: Callable[[Rules, SessionRecord], Engine],
        transcripts: Transcripts,
        record: SessionRecord,
        piece: int = 1 << 20,
        watch: Callable[[Step], None] = lambda step: None,
    ) -> None:
        self.record = record
        self.engine = make(Rules(hostname="gate.example"), record)
        self.watch = watch
        chosen = transcripts.choose(record)
        self.recorder = chosen or Recorder(Choice(Path("/nowhere")), record)
        self.recorder.active = chosen is not None
        self.server = SERVERS[record.protocol]()
        self.told = b""
        self._piece = piece
        self._coming: deque[tuple[Side, bytes]] = deque()
        self._news("open", self.engine.opened())
        self._run()

    def say(self, octets: bytes) -> None:
        """The client says something; a synchronising literal waits for its turn."""
        self._coming.append((CLIENT, octets))
        self._run()

    def end(self) -> None:
        self._news("finished", self.engine.finished())
        self.recorder.close()

    def _news(self, text: str, steps: list[Step]) -> None:
        self.recorder.news(text)
        self._perform(steps)

    def _run(self) -> None:
        while self._coming:
            side, octets = self._coming.popleft()
            piece, rest = octets[: self._piece], octets[self._piece :]
            if rest:
                self._coming.appendleft((side, rest))
            self.recorder.heard(side, piece)
            self._perform(self.engine.receive(side, piece))

    def _perform(self, steps: list[Step]) -> None:
        heard = self.engine.heard
        self.recorder.steps(steps, (len(heard[CLIENT]), len(heard[UPSTREAM])))
        for step in steps:
            self.watch(step)
            match step:
                case Connect():
                    self._news("routed", self.engine.routed(Route("test", "192.0.2.1:1")))
                    self._coming.append((UPSTREAM, self.server.greeting))
                case Send(side, data) if side is CLIENT:
                    self.told += data
                case Send(data=data):
                    self._coming.extend((UPSTREAM, answer) for answer in self.server.feed(data) if answer)
                case LoginSeen(user=user, outcome="ok"):
                    self.record.user = user
                case _:
                    pass
