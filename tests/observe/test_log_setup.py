"""The program's own log: one line an event, exceptions without tracebacks."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import structlog
from twisted.logger import Logger

from gateway.observe.command_log import CommandLog
from gateway.observe.console import Console
from gateway.observe.log_setup import dropped_line, session_log, set_up, watch_twisted

from .sample import Kept


@pytest.fixture
def lines() -> Iterator[Kept]:
    yield Kept()
    structlog.reset_defaults()


def fail() -> None:
    raise ValueError("said by a peer:\r\nsecond line")


def test_an_event_is_one_json_line_with_its_fields(lines: Kept) -> None:
    set_up(lines, json=True)
    structlog.get_logger().info("listening", listener="imaps", port=993, tls=True, names=["a", "b"])
    [line] = map(json.loads, lines)
    assert list(line) == ["ts", "level", "event", "listener", "port", "tls", "names"]
    assert line["ts"].endswith("Z")
    assert (line["level"], line["event"], line["port"], line["names"]) == (
        "info",
        "listening",
        993,
        ["a", "b"],
    )


def test_what_lies_below_the_level_is_not_written(lines: Kept) -> None:
    set_up(lines, json=True, level="warning")
    log = structlog.get_logger()
    log.info("quiet")
    log.warning("loud")
    assert [json.loads(line)["event"] for line in lines] == ["loud"]


@pytest.mark.parametrize("level", ["info", "debug"])
def test_an_exception_is_told_by_type_and_place(lines: Kept, level: str) -> None:
    set_up(lines, json=True, level=level)
    try:
        fail()
    except ValueError:
        structlog.get_logger().exception("unexpected", session="0123")
    [line] = map(json.loads, lines)
    assert line["level"] == "error"
    assert line["error"] == "ValueError"
    assert line["place"].startswith("test_log_setup.py:") and line["place"].endswith(" fail")
    assert ("traceback" in line) is (level == "debug")
    assert ("said by a peer" in lines[0]) is (level == "debug")


def test_a_person_s_line_has_no_line_break_either(lines: Kept) -> None:
    set_up(lines, json=False, level="debug")
    try:
        fail()
    except ValueError as error:
        structlog.get_logger().error("unexpected", exc_info=error)
    [line] = lines
    assert line.count("\n") == 1
    assert line[:-1].isprintable()
    assert "error=ValueError" in line


def test_twisted_s_log_comes_to_ours(lines: Kept) -> None:
    set_up(lines, json=True, level="info")
    undo = watch_twisted()
    try:
        log = Logger(namespace="somewhere")
        log.info("Starting factory")
        log.warn("careful, {who}", who="you")
        try:
            fail()
        except ValueError:
            log.failure("Unhandled error in Deferred")
    finally:
        undo()
    log.warn("behind the end")
    seen = [json.loads(line) for line in lines]
    assert [(line["level"], line["text"]) for line in seen] == [
        ("warning", "careful, you"),
        ("error", "Unhandled error in Deferred"),
    ]
    assert seen[0]["system"] == "somewhere"
    assert seen[1]["error"] == "ValueError"
    assert "said by a peer" not in "".join(lines)


def test_sessions_are_logged_in_the_form_of_the_rest(lines: Kept) -> None:
    assert isinstance(session_log(lines, json=True), CommandLog)
    assert isinstance(session_log(lines, json=False), Console)
    line = json.loads(dropped_line(json=True)(7))
    assert (line["level"], line["event"], line["count"]) == ("warning", "log_lines_dropped", 7)
    assert "log lines dropped count=7" in dropped_line(json=False)(7)
