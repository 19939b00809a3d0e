"""Performing a transcript again: what would the engine of today have done?"""

from __future__ import annotations

from collections.abc import Iterator

from ..core.engine import Engine, Route
from ..core.outcome import Action, Outcome
from ..core.steps import CLIENT, UPSTREAM, BodyData, BodyStart, Send, SendBody, Side, Step, TlsInfo
from ..core.trouble import Trouble
from .notation import render, spell, unspell
from .redact import lines_of

#: What a handshake is said to have come to, where a transcript does not tell.
TLS = TlsInfo("TLSv1.3", "TLS_AES_128_GCM_SHA256")


class ReplayError(ValueError):
    """A line of a transcript can't be understood.  Its text names the line."""


def protocol_of(text: str) -> str:
    """Return the protocol that a transcript names in its head.  Raises ReplayError."""
    for line in text.splitlines():
        if line.startswith("# protocol: "):
            return line.removeprefix("# protocol: ").strip()
        if line and not line.startswith("#"):
            break
    raise ReplayError('no line "# protocol: ..." at the head of the transcript')


def replay(text: str, engine: Engine) -> Iterator[str]:
    """Perform a transcript, and yield it with what this engine does, line by line.

    Inputs are ``C>``, ``U>`` and ``?`` lines; what the transcript says came of them is left out,
    as the engine says it anew.  Raises ReplayError.
    """
    stage = _Stage(engine)
    for number, line in enumerate(text.splitlines(), 1):
        mark, rest = line[:2], line[2:]
        if mark not in ("C>", "U>", "? "):
            if line.strip() and line[:1] not in "#!>":
                raise ReplayError(f"line {number}: neither C>, U>, >C, >U, !, ? nor #")
            continue
        yield line
        try:
            if mark == "? ":
                steps = stage.news(rest.strip())
            else:
                steps = engine.receive(CLIENT if mark == "C>" else UPSTREAM, unspell(rest))
        except ValueError as error:
            raise ReplayError(f"line {number}: {error}") from None
        yield from stage.show(steps)


class _Stage:
    """Stands for the session: remembers what news refer to."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._size = [0, 0]
        self._sending = CLIENT

    def show(self, steps: list[Step]) -> Iterator[str]:
        for step in steps:
            match step:
                case Send(side, data):
                    for line in lines_of(data):
                        yield spell(">C" if side is CLIENT else ">U", line)
                    continue
                case BodyData(source, data):
                    self._size[source] += len(data)
                    yield f"# body from {source}, {len(data)} octets"
                    continue
                case BodyStart(source=source):
                    self._size[source] = 0
                case SendBody(side=side):
                    self._sending = side
                case _:
                    pass
            yield f"!   {render(step)}"

    def news(self, text: str) -> list[Step]:
        """Perform one ``?`` line.  Raises ValueError."""
        engine = self._engine
        word, _, rest = text.partition(" ")
        side: Side = UPSTREAM if rest.startswith("upstream") else CLIENT
        source: Side = CLIENT if engine.held[CLIENT] or not engine.held[UPSTREAM] else UPSTREAM
        match word:
            case "open":
                return engine.opened()
            case "routed":
                return engine.routed(Route("replay", "192.0.2.1:1", TLS if rest == "tls" else None))
            case "unreachable":
                return engine.unreachable(Trouble(rest))
            case "tls":
                return engine.handshaken(side, TLS)
            case "sent":
                return engine.body_sent(self._sending)
            case "closed":
                return engine.closed(side)
            case "fail":
                return engine.fail(Trouble(rest))
            case "stop":
                return engine.stop_when_quiet()
            case "keep":
                return engine.keep_upstream()
            case "finished":
                return engine.finished()
            case "pass":
                return engine.decided(source, Outcome(Action.PASS, self._size[source]))
            case "modify":
                return engine.decided(source, Outcome(Action.MODIFY, int(rest or 0)))
            case "reject" | "quarantine" | "discard" | "defer":
                notice = source is UPSTREAM
                outcome = Outcome(
                    Action(word), 42 if notice else 0, rest.removesuffix(" accept"), notice=notice
                )
                outcome.accept = rest.endswith(" accept")
                return engine.decided(source, outcome)
        raise ValueError(f"unknown news {text!r}")
