"""Plugins asked at connect, command and login: every answer, and every way to fail."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.facts import PluginAnswered
from gateway.core.record import SessionRecord
from gateway.inspection.guard import FactWatchers, SessionGuard
from gateway.inspection.loader import LoadedPlugin, PluginSpec
from gateway.plugin import Allow, Plugin, PluginOptions, Refuse, Tag


class Says(Plugin):
    """Answers with what it was given."""

    def __init__(self, answer: Any) -> None:
        super().__init__(PluginOptions())
        self.answer = answer

    def on_command(self, command: Any, session: SessionRecord) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def guard(*plugins: tuple[Any, dict[str, Any]]) -> tuple[SessionGuard, list[PluginAnswered], SessionRecord]:
    record = SessionRecord("id", "imap", "imaps", "192.0.2.1", 1)
    facts: list[PluginAnswered] = []
    loaded = [
        LoadedPlugin(PluginSpec(f"p{number}", "x", **values), Says(answer))
        for number, (answer, values) in enumerate(plugins)
    ]
    return SessionGuard(loaded, record, facts.append), facts, record


@pytest.mark.parametrize(
    ("answer", "values", "why", "result", "applied"),
    [
        (None, {}, "", None, None),
        (Allow(), {}, "", None, None),
        (Refuse("no\r\nQUIT"), {}, "no\\x0d\\x0aQUIT", "refuse", "refuse"),
        (Refuse(""), {}, "Refused", "refuse", "refuse"),
        (Refuse("no"), {"shadow": True}, "", "refuse", "shadow"),
        (Tag("a", "b"), {}, "", "tag", "allow"),
        (True, {}, "Not possible now, try again later", "error", "refuse"),
        (Refuse, {}, "Not possible now, try again later", "error", "refuse"),
        (RuntimeError("x"), {}, "Not possible now, try again later", "error", "refuse"),
        (RuntimeError("x"), {"on_error": "pass"}, "", "error", "allow"),
        (Refuse("no"), {"listeners": frozenset({"other"})}, "", None, None),
    ],
)
def test_each_answer(answer: Any, values: dict[str, Any], why: str, result: Any, applied: Any) -> None:
    asked, facts, record = guard((answer, values))
    assert asked.command("NOOP", "NOOP") == why
    assert [(fact.result, fact.applied) for fact in facts] == ([(result, applied)] if result else [])
    assert record.tags == ({"a": "b"} if result == "tag" else {})


def test_the_first_refusal_counts_and_nobody_is_asked_behind_it() -> None:
    asked, facts, _ = guard((Tag("t"), {}), (Refuse("one"), {}), (Refuse("two"), {}))
    assert asked.command("NOOP", "NOOP") == "one"
    assert [fact.plugin for fact in facts] == ["p0", "p1"]


def test_only_what_is_overridden_is_asked() -> None:
    asked, _, _ = guard((Allow(), {}))
    assert asked.asks_commands and not asked.asks_logins
    assert asked.connect() == asked.login("alice", "PLAIN") == ""


def test_tags_are_bounded() -> None:
    asked, _, record = guard(*[(Tag(f"t{number}"), {}) for number in range(50)])
    asked.command("NOOP", "NOOP")
    assert len(record.tags) == 20


def test_a_watcher_that_fails_keeps_no_fact_from_the_others() -> None:
    class Watches(Plugin):
        def on_fact(self, fact: object, session: SessionRecord) -> None:
            seen.append(fact)
            raise RuntimeError("broken")

    seen: list[object] = []
    told: list[str] = []
    loaded = [LoadedPlugin(PluginSpec(name, "x"), Watches(PluginOptions())) for name in ("a", "b")]
    watchers = FactWatchers(loaded, lambda name, _error: told.append(name))
    watchers(SessionRecord("id", "imap", "imaps", "192.0.2.1", 1), "fact")
    assert seen == ["fact", "fact"] and told == ["a", "b"]
