"""LIST and STAT with the sizes of the messages as clients get them, where RETR is held.

The octets of a rewritten message differ from those that the server counts (RFC 1939 11). Where
``exact_sizes`` is on, the gateway asks for the server's listing, has messages of unknown size
judged first, at most ``judge_listings`` of them, and gives the listing itself; further ones
keep the server's size. A size is remembered by the message's unique-id.
"""

from __future__ import annotations

from functools import partial

from ...core.exchange import Entry
from ...core.outcome import Outcome
from ...core.steps import CLIENT, UPSTREAM, BodyStart, Side, Stage
from ...core.text import shown
from .conversation import Handler
from .grammar import number
from .messages import Messages

#: Octets of a listing of the upstream: some 300,000 messages.
MAILDROP_LIMIT = 4 * 1024 * 1024


class ExactSizes(Messages):
    """The part of the engine that tells sizes."""

    _asked = b""  # the verb with its argument, while its answer is being made
    _listed: dict[bytes, int]  # number of a message -> its size, as the upstream has it
    _unjudged: list[bytes]  # numbers still to be judged for this answer

    def _c_listing(self, rest: bytes, verb: str) -> None:
        """LIST or STAT."""
        wanted = rest.split()
        if Stage.RETR not in self.rules.hold or not self.rules.exact_sizes or len(wanted) > (verb == "LIST"):
            self._plain(rest, verb)
            return
        self._sync = True
        command = self._command(verb, f"{verb} {shown(rest)}" if rest else verb)
        asked = verb.encode() + (b" " + rest if rest else b"")
        self._exchange.expect(Entry(partial(self._listing_turn, asked), command, b""))
        self._turn()

    def _listing_turn(self, asked: bytes, entry: Entry[Handler], _line: bytes) -> None:
        self._asked, self._body = asked, entry
        self._ask(b"LIST", self._r_listed)

    def _r_listed(self, _entry: Entry[Handler], line: bytes) -> None:
        if line.startswith(b"+OK"):
            self._gather(self._have_listing, MAILDROP_LIMIT)
        else:
            self._leave_to_upstream()

    def _leave_to_upstream(self) -> None:
        """Relay the command after all: what is wrong with it is the upstream's to say."""
        entry, self._body = self._body, None
        assert entry is not None
        self._relay(entry.command, self._asked, self._pass)

    def _have_listing(self, lines: list[bytes]) -> None:
        pairs = [line.split()[:2] for line in lines]
        self._listed = {number(p[0]): int(p[1]) for p in pairs if len(p) == 2 and _is_size(p[1])}
        if self._unique is not None:
            self._judge_missing()
        else:
            self._ask(b"UIDL", self._r_unique)

    def _r_unique(self, _entry: Entry[Handler], line: bytes) -> None:
        if line.startswith(b"+OK"):
            self._gather(self._have_unique, MAILDROP_LIMIT)
        else:
            self._have_unique([])

    def _have_unique(self, lines: list[bytes]) -> None:
        """Keep the unique-ids: within a session nothing about them changes (RFC 1939 7)."""
        self._unique = {number(line): line.split()[1] for line in lines if len(line.split()) == 2}
        known = self.sizes.find(list(self._unique.values()))
        for one, unique_id in self._unique.items():
            if unique_id in known:
                self._sizes.setdefault(one, known[unique_id])
        self._judge_missing()

    def _judge_missing(self) -> None:
        argument = number(self._asked.partition(b" ")[2])
        if argument and argument not in self._listed:
            self._leave_to_upstream()
            return
        wanted = [argument] if argument else list(self._listed)
        missing = [one for one in wanted if one not in self._sizes]
        self._unjudged = missing[: max(self.rules.judge_listings, len(argument) > 0)]
        self._judge_next()

    def _judge_next(self) -> None:
        if self._unjudged:
            one = self._unjudged.pop(0)
            self._ask(b"RETR " + one, partial(self._r_unjudged, one))
        else:
            self._tell_sizes()

    def _r_unjudged(self, one: bytes, _entry: Entry[Handler], line: bytes) -> None:
        if not line.startswith(b"+OK"):
            self._judge_next()
            return
        self._judging = one
        self._begin_body(BodyStart(UPSTREAM, Stage.RETR, held=True, ident=f"message {shown(one)}"))
        self._begin_lines(self._take_held, watch_newlines=True)
        self._body_newlines = self._decoder

    def _decided(self, source: Side, outcome: Outcome) -> None:
        one, self._judging = self._judging, b""
        if not one:
            super()._decided(source, outcome)
            return
        self._deciding = False
        self._note_size(one, outcome)
        self._abort_body(UPSTREAM)
        self._judge_next()
        self._turn()

    def _tell_sizes(self) -> None:
        entry, self._body = self._body, None
        assert entry is not None and entry.command is not None
        verb, _, argument = self._asked.partition(b" ")
        sizes = {one: self._sizes.get(one) or size for one, size in self._listed.items()}
        if verb == b"STAT":
            answer = b"+OK %d %d\r\n" % (len(sizes), sum(sizes.values()))
        elif argument.strip():
            answer = b"+OK %b %d\r\n" % (number(argument), sizes[number(argument)])
        else:
            answer = b"+OK %d messages\r\n" % len(sizes)
        lines = b""
        if verb == b"LIST" and not argument.strip():
            lines = b"".join(b"%b %d\r\n" % pair for pair in sizes.items()) + b".\r\n"
        self._send(CLIENT, answer + lines)
        self._reply(entry.command, "ok", answer)


def _is_size(text: bytes) -> bool:
    return text.isdigit() and len(text) < 19
