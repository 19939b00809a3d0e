"""The plugins' verdicts on one message, in the order of the configuration.

It ends with the first verdict that stops the message.  Each run has a time limit, and a
failure of any kind is settled by the plugin's ``on_error``; a failure in one message touches
no other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol, TypeVar

from ..core.facts import MessageAmbiguous, PluginRan
from ..core.outcome import Action, Outcome
from ..core.record import SessionRecord
from ..core.steps import BodyStart, Stage
from ..core.text import shown
from .base import Services
from .defects import Limits
from .delta import Delta
from .difference import difference
from .edits import Edit, Edits, render
from .guard import overrides
from .loader import LoadedPlugin
from .message import Content, Message
from .processes import WorkerFailure, Workers
from .scan import Buffer
from .shares import in_share, share_keys
from .signatures import covered_edits
from .threads import PluginThreads, TooManyHang
from .verdict import Discard, Modify, Pass, Quarantine, Reject, Verdict, what_it_is

Result = TypeVar("Result")

#: The stages that each protocol has.
STAGES: dict[str, frozenset[Stage]] = {
    "smtp": frozenset({Stage.DATA}),
    "lmtp": frozenset({Stage.DATA}),
    "imap": frozenset({Stage.APPEND, Stage.FETCH}),
    "pop3": frozenset({Stage.RETR, Stage.TOP}),
}
#: A message above this is worked through in a thread, octets.
_LARGE = 1024 * 1024
#: Where ambiguous messages are stopped: those that clients already have in their mailbox are shown.
_TOWARDS_SERVER = frozenset({Stage.DATA, Stage.APPEND})
#: Defects that are named.
_DEFECTS = 8
_ASKED_BY_SESSIONS = ("on_command", "on_login")
#: Seconds that a plugin in processes has beyond its time limit, which its workers keep themselves.
_GRACE = 3.0


class Runner(Protocol):
    """How the program runs plugins; the app has one for Twisted, tests have their own."""

    async def in_thread(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call a function in a thread."""

    async def with_limit(self, awaitable: Awaitable[Result], seconds: float) -> Result:
        """Await for at most so many seconds.  Raises TimeoutError."""

    async def result_of(self, future: Future[Result]) -> Result:
        """Await what another thread comes to."""


@dataclass(slots=True)
class Judgement:
    """What the plugins came to.

    chunks: the new message where the outcome's action is MODIFY, else None.  Take them while
        the buffer is there.
    runs: one fact for each plugin that ran, in order.
    message_id: of the message, as it came; "" if it has none.
    ambiguous: the fact that it was stopped before any plugin, and why.
    edits: what made the new message of the one that came, where ``chunks`` is given.
    """

    outcome: Outcome
    edits: list[Edit] = field(default_factory=list)
    chunks: Iterable[bytes] | None = None
    runs: list[PluginRan] = field(default_factory=list)
    message_id: str = ""
    ambiguous: MessageAmbiguous | None = None


@dataclass(slots=True)
class _Work:
    """A message on its way through the plugins, with the edits of the last one pending."""

    content: Content
    delta: Delta
    edits: list[Edit] = field(default_factory=list)
    new_size: int = 0
    modified: bool = False

    def laid_in(self) -> bytes:
        return b"".join(render(self.content.buffer, self.edits))

    def is_eight_bit(self) -> bool:
        return any(not chunk.isascii() for chunk in render(self.content.buffer, self.edits))


class Pipeline:
    """The plugins, in order.

    runner: how they are run.  hostname: the gateway's own name.
    on_exception: told of each exception of a plugin, with the plugin's name, for the log.
    threads: where plain plugins run; its own ones if absent.
    defects: what becomes of messages towards the server that are ambiguous: "pass", "reject",
        "quarantine".
    """

    def __init__(
        self,
        plugins: Sequence[LoadedPlugin],
        runner: Runner,
        *,
        hostname: str = "mailgate.invalid",
        on_exception: Callable[[str, BaseException], None] | None = None,
        limits: Limits | None = None,
        threads: PluginThreads | None = None,
        defects: str = "pass",
    ) -> None:
        self._defects = defects
        self.plugins = list(plugins)
        self._threads = threads or PluginThreads()
        self._workers: dict[str, Workers] = {}
        self._runner = runner
        self._hostname = hostname
        self._on_exception = on_exception
        self._limits = limits
        self._unstarted: dict[str, str] = {}  # plugins that failed to start, and why
        self._sessions = 0
        self._judging = 0
        self._successor: Pipeline | None = None
        self._expired = False
        self.is_stopped = False

    def start(self) -> None:
        """Start every plugin.  One that fails is left to its ``on_error`` for every message."""
        for loaded in self.plugins:
            services = Services(self._hostname, loaded.name)
            if loaded.in_process:
                self._workers[loaded.name] = Workers(
                    loaded.spec,
                    services,
                    processes=loaded.spec.processes,
                    memory_limit=loaded.memory_limit,
                    edit_signed=loaded.edit_signed,
                    limits=self._limits,
                )
                continue
            try:
                loaded.plugin.start(services)
            except Exception as error:  # noqa: BLE001 - a plugin is a stranger's code
                self._unstarted[loaded.name] = f"did not start: {self._told(loaded, error)}"

    def stop(self) -> None:
        """Stop every plugin, the last one first; once."""
        if self.is_stopped:
            return
        self.is_stopped = True
        for loaded in reversed(self.plugins):
            if loaded.in_process:
                if loaded.name in self._workers:
                    self._workers[loaded.name].stop()
                continue
            try:
                loaded.plugin.stop()
            except Exception as error:  # noqa: BLE001 - the others are to be stopped too
                self._told(loaded, error)

    # -- reloads -----------------------------------------------------------

    def enter(self) -> None:
        """A session begins that is to be judged by these plugins until it ends."""
        self._sessions += 1

    def leave(self) -> None:
        """A session is over."""
        self._sessions -= 1
        self._stop_if_unused()

    def retire(self, successor: Pipeline) -> None:
        """Stop when the last session is over, or at :meth:`expire`: new sessions go to another."""
        self._successor = successor
        self._stop_if_unused()

    def expire(self) -> None:
        """Wait for no more sessions: what they have yet to bring, the successor judges.

        Sessions ask plugins about commands and logins until they end, so that these stay.
        """
        if any(overrides(loaded, hook) for loaded in self.plugins for hook in _ASKED_BY_SESSIONS):
            return
        self._expired = True
        self._stop_if_unused()

    def _stop_if_unused(self) -> None:
        unused = self._expired or not self._sessions
        if self._successor is not None and unused and not self._judging:
            self.stop()

    def subscribes(self, listener: str, protocol: str) -> frozenset[Stage]:
        """Return the stages whose messages must be held for the plugins of a listener."""
        wanted = self._wanted(listener, protocol, observers=False)
        if self._defects != "pass":
            wanted |= _TOWARDS_SERVER & STAGES.get(protocol, frozenset())
        return wanted

    def observes(self, listener: str, protocol: str) -> frozenset[Stage]:
        """Return the stages whose messages are only watched: they stream, and a copy is judged."""
        wanted = self._wanted(listener, protocol, observers=True)
        return wanted - self.subscribes(listener, protocol)

    def _wanted(self, listener: str, protocol: str, observers: bool) -> frozenset[Stage]:
        wanted: set[Stage] = set()
        for loaded in self.plugins:
            if loaded.watches(listener) and loaded.only_observes is observers:
                # TOP is always a piece of a message.
                wanted |= loaded.stages if loaded.plugin.sees_partial else loaded.stages - {Stage.TOP}
        return STAGES.get(protocol, frozenset()) & wanted

    def names(self, listener: str, stage: Stage) -> str:
        """Name the plugins that may change a listener's messages at a stage, in their order."""
        return "\n".join(
            loaded.name
            for loaded in self.plugins
            if loaded.watches(listener) and stage in loaded.stages and not loaded.only_observes
        )

    @property
    def version(self) -> str:
        """A digest of the plugins and their options: with another one, cached messages are judged anew."""
        told = repr(
            [
                (s.name, s.use, s.shadow, s.share, s.share_by, sorted(s.options.items(), key=str))
                for s in (loaded.spec for loaded in self.plugins)
            ]
        )
        return hashlib.sha256(told.encode("utf-8", "replace")).hexdigest()[:16]

    async def in_thread(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call a function in a thread, as the plugins are."""
        return await self._runner.in_thread(function, *arguments)

    async def judge(self, buffer: Buffer, start: BodyStart, record: SessionRecord) -> Judgement:
        """Ask the plugins that subscribe about one message.

        buffer: the whole of it; it must stay as it is until the chunks are taken.
        """
        if self._successor is not None and (self._expired or self.is_stopped):
            return await self._successor.judge(buffer, start, record)
        self._judging += 1
        try:
            return await self._judge(buffer, start, record)
        finally:
            self._judging -= 1
            self._stop_if_unused()

    async def _judge(self, buffer: Buffer, start: BodyStart, record: SessionRecord) -> Judgement:
        work = _Work(Content(buffer, self._limits), Delta(len(buffer)))
        first = work.content
        judgement = Judgement(Outcome(Action.PASS))
        if self._defects != "pass" and start.stage in _TOWARDS_SERVER:
            await self._stop_ambiguous(first, start, judgement)
        for loaded in self.plugins:
            if judgement.ambiguous is not None:
                break
            if why_unasked(loaded, start, record):
                continue
            shadow = loaded.only_observes or not _is_in_share(loaded, start, record)
            run, stopped = await self._run(loaded, work, start, record, shadow)
            judgement.runs.append(run)
            if stopped is not None:
                judgement.outcome = stopped
                break
        else:
            if work.modified:
                await self._finish(work, judgement)
        judgement.message_id = shown(Message(first, start).message_id)
        return judgement

    async def _stop_ambiguous(self, content: Content, start: BodyStart, judgement: Judgement) -> None:
        """Stop a message that other programs may read otherwise than the plugins would."""
        if len(content.buffer) > _LARGE:
            found = await self._runner.in_thread(lambda: content.ambiguity)
        else:
            found = content.ambiguity
        if not found:
            return
        names = tuple(str(defect) for defect in found[:_DEFECTS])
        reason = f"Message is ambiguous or beyond a limit: {', '.join(names).replace('_', ' ')}"
        verdict = Quarantine(reason) if self._defects == "quarantine" else Reject(reason)
        outcome = _outcome(verdict)
        assert outcome is not None
        judgement.outcome = outcome
        judgement.ambiguous = MessageAmbiguous(start.stage, names, str(outcome.action))

    async def _finish(self, work: _Work, judgement: Judgement) -> None:
        if work.new_size > _LARGE:
            eight_bit = await self._runner.in_thread(work.is_eight_bit)
        else:
            eight_bit = work.is_eight_bit()
        judgement.outcome = Outcome(
            Action.MODIFY,
            size=work.new_size,
            eight_bit=eight_bit,
            ends_with_newline=_tail(work, 2) == b"\r\n",
        )
        judgement.chunks = render(work.content.buffer, work.edits)
        judgement.edits = work.delta.edits()

    # -- one plugin --------------------------------------------------------

    async def _run(
        self, loaded: LoadedPlugin, work: _Work, start: BodyStart, record: SessionRecord, shadow: bool
    ) -> tuple[PluginRan, Outcome | None]:
        """Run one plugin; return the fact, and what stops the message if it is to be stopped.

        shadow: nothing comes of the run but the fact.
        """
        if work.edits:
            # The next plugin sees the message as this one's predecessor has left it.
            large = work.new_size > _LARGE
            octets = await self._runner.in_thread(work.laid_in) if large else work.laid_in()
            work.content = Content(octets, self._limits)
            work.edits = []
        message = Message(work.content, start, loaded.edit_signed)
        began = perf_counter()
        result, detail, verdict = await self._ask(loaded, message, start, record)
        edits: list[Edit] = []
        size = message.size
        if isinstance(verdict, Modify):
            try:
                allowed = self._allowed(loaded, message, verdict.edits)
                edits, size = allowed.in_order(), allowed.new_size()
            except Exception as error:  # noqa: BLE001 - edits over each other, or no edits at all
                result, detail, verdict = "error", self._told(loaded, error), None
        run = PluginRan(
            loaded.name, start.stage, result, result, perf_counter() - began, detail, dict(message.facts)
        )
        if shadow:
            run.applied = "shadow"
            if edits:
                run.diff = await self._difference(message.buffer, edits, size)
            elif result == "modify":
                run.result = "pass"
            return run, None
        if verdict is None:
            run.applied = loaded.spec.on_error
            return run, _failed(loaded)
        if edits:
            work.edits, work.new_size, work.modified = edits, size, True
            work.delta.lay_in(edits)
        elif result == "modify":
            run.result = run.applied = "pass"
        outcome = _outcome(verdict)
        if outcome is not None and outcome.action is Action.DEFER:
            run.applied = "defer"
        return run, outcome

    async def _difference(self, buffer: Buffer, edits: list[Edit], size: int) -> tuple[str, ...]:
        """Return what edits would change, in lines."""

        def work() -> tuple[str, ...]:
            return difference(buffer, b"".join(render(buffer, edits)), limits=self._limits)

        # A small message is small work, but not as small as that of a pass.
        return await self._runner.in_thread(work) if size > _LARGE // 64 else work()

    async def _ask(
        self, loaded: LoadedPlugin, message: Message, start: BodyStart, record: SessionRecord
    ) -> tuple[str, str, Verdict | None]:
        """Return the result's name, a detail, and the verdict, or None if there is none."""
        if loaded.name in self._unstarted:
            return "error", self._unstarted[loaded.name], None
        limit = loaded.spec.time_limit
        try:
            verdict: object
            if loaded.in_process:
                judging: Future[Any] = self._workers[loaded.name].submit(message, start, record)
                verdict = await self._runner.with_limit(self._runner.result_of(judging), limit + _GRACE)
            elif loaded.is_async:
                asked: Awaitable[object] = loaded.plugin.inspect(message, record)  # type: ignore[assignment]
                verdict = await self._runner.with_limit(asked, limit)
            else:
                verdict = await self._in_thread(loaded, message, record)
        except TimeoutError as error:
            return "timeout", shown(str(error)) or f"no verdict within {limit:g} s", None
        except TooManyHang as error:
            return "error", str(error), None
        except WorkerFailure as error:
            self._told(loaded, error)
            return "error", shown(str(error)), None
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin is a stranger's code
            return "error", self._told(loaded, error), None
        if not isinstance(verdict, (Pass, Modify, Reject, Quarantine, Discard)):
            return "error", f"answered {what_it_is(verdict)} in place of a verdict", None
        name, reason = type(verdict).__name__, getattr(verdict, "reason", "")
        if not isinstance(reason, str):
            return "error", f"answered {name} with {what_it_is(reason)} as the reason", None
        return name.lower(), shown(reason), verdict

    async def _in_thread(self, loaded: LoadedPlugin, message: Message, record: SessionRecord) -> object:
        """Run a plain plugin.  Raises TimeoutError, TooManyHang, and what the plugin raises."""
        run = self._threads.submit(id(loaded.plugin), loaded.plugin.inspect, message, record)
        try:
            return await self._runner.with_limit(self._runner.result_of(run), loaded.spec.time_limit)
        except TimeoutError:
            self._threads.give_up(run)
            raise

    def _allowed(self, loaded: LoadedPlugin, message: Message, edits: Edits) -> Edits:
        """Drop the edits that would break a signature."""
        if loaded.edit_signed or not message.signed:
            return edits
        covered = covered_edits(edits, message.signed)
        if not covered:
            return edits
        message.note("skipped_signed", ", ".join(sorted({str(kind) for kind in covered.values()})))
        return edits.without(frozenset(covered))

    def _told(self, loaded: LoadedPlugin, error: BaseException) -> str:
        """Hand an exception to the log, and say on one line what it is."""
        if self._on_exception is not None:
            self._on_exception(loaded.name, error)
        return shown(f"{type(error).__name__}: {error}")


def why_unasked(loaded: LoadedPlugin, start: BodyStart, record: SessionRecord) -> str:
    """Say why a plugin is not asked about a message; "" if it is."""
    if start.stage not in loaded.stages:
        return f"not asked at the stage {start.stage}"
    if not loaded.watches(record.listener):
        return f"not asked on the listener {record.listener or 'none'}"
    if (start.partial or start.section) and not loaded.plugin.sees_partial:
        return "not asked about pieces of messages"
    if loaded.spec.outside_share == "skip" and not _is_in_share(loaded, start, record):
        return f"outside of its share of {loaded.spec.share:.4g}"
    return ""


def _is_in_share(loaded: LoadedPlugin, start: BodyStart, record: SessionRecord) -> bool:
    spec = loaded.spec
    if spec.share >= 1:
        return True
    keys = share_keys(spec.share_by, record, start.envelope)
    return any(in_share(key, spec.share, spec.name) for key in keys)


def _failed(loaded: LoadedPlugin) -> Outcome | None:
    if loaded.spec.on_error == "pass":
        return None
    if loaded.spec.on_error == "reject":
        return Outcome(Action.REJECT, reason="Message could not be inspected")
    return Outcome(Action.DEFER, reason="Message could not be inspected, try again later")


def _outcome(verdict: Verdict) -> Outcome | None:
    """Return what stops the message; None if it goes on."""
    match verdict:
        case Pass() | Modify():
            return None
        case Reject(reason):
            return Outcome(Action.REJECT, reason=shown(reason) or "Message refused")
        case Quarantine(reason):
            return Outcome(Action.QUARANTINE, reason=shown(reason) or "Message quarantined", accept=True)
        case Discard(reason):
            return Outcome(Action.DISCARD, reason=shown(reason), accept=True)


def _tail(work: _Work, count: int) -> bytes:
    """Return the last octets of the message with its edits laid in."""
    buffer = work.content.buffer
    tail = b""
    place = len(buffer)
    for edit in reversed(work.edits):
        tail = edit.data[-count:] + buffer[max(edit.end, place - count) : place] + tail
        place = edit.start
        if len(tail) >= count:
            break
    else:
        tail = buffer[max(0, place - count) : place] + tail
    return tail[-count:]
