"""A runner for the pipeline without a reactor, and what else its tests share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from gateway.core.record import SessionRecord
from gateway.core.steps import CLIENT, BodyStart, Envelope, Stage
from gateway.inspection.base import Plugin, PluginOptions
from gateway.inspection.loader import LoadedPlugin, PluginSpec
from gateway.inspection.message import Message
from gateway.inspection.pipeline import Judgement, Pipeline
from gateway.inspection.verdict import Verdict

Result = TypeVar("Result")

RECORD = SessionRecord(
    "abcdefghijkl", "smtp", "mx", "192.0.2.7", 1024, user="alice", client_name="client.example.org"
)


class AsyncioRunner:
    """Runs plugins on asyncio's loop and its threads."""

    def __init__(self) -> None:
        self.threads = 0

    async def in_thread(self, function: Callable[..., Result], *arguments: Any) -> Result:
        self.threads += 1
        return await asyncio.to_thread(function, *arguments)

    async def result_of(self, future: Future[Result]) -> Result:
        self.threads += 1
        return await asyncio.wrap_future(future)

    async def with_limit(self, awaitable: Awaitable[Result], seconds: float) -> Result:
        return await asyncio.wait_for(awaitable, seconds)


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    return asyncio.run(coroutine)


class Answering(Plugin):
    """A plugin that does what the test says."""

    def __init__(self, answer: Callable[[Message], Any], **options: Any) -> None:
        super().__init__(PluginOptions(**options))
        self.answer = answer
        self.seen: list[bytes] = []

    def inspect(self, message: Message, session: SessionRecord) -> Verdict:
        self.seen.append(bytes(message.buffer[:]))
        return self.answer(message)  # type: ignore[no-any-return]


def loaded(plugin: Plugin, name: str = "test", **spec: Any) -> LoadedPlugin:
    return LoadedPlugin(PluginSpec(name, name, **spec), plugin)


def start(stage: Stage = Stage.DATA, **more: Any) -> BodyStart:
    envelope = Envelope("alice@example.org", ["bob@example.org"]) if stage is Stage.DATA else None
    return BodyStart(CLIENT, stage, held=True, envelope=envelope, **more)


def judge(buffer: bytes, *plugins: LoadedPlugin, stage: Stage = Stage.DATA, **more: Any) -> Judgement:
    """Have a message judged, the plugins started before."""
    pipeline = Pipeline(plugins, AsyncioRunner(), hostname="gate.example.org")
    pipeline.start()
    return run(pipeline.judge(buffer, start(stage, **more), RECORD))
