"""The console: aligned, coloured on a terminal only, and safe for the terminal."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest

from gateway.core.facts import ConnectionRefused, PluginRan, SessionClosed, SessionOpened
from gateway.core.steps import LoginSeen, Stage
from gateway.core.trouble import CloseReason
from gateway.observe.console import Console
from gateway.observe.hub import Hub
from gateway.observe.levels import WARNING
from gateway.observe.terminal import Palette, duration, octets, own_line

from .sample import NOW, TLS, Kept, answered, publish, record
from .test_command_log import EVERY_FACT, HOSTILE

COLOUR = Palette(colour=True, width=100)


def shown(*facts: Any, palette: Palette | None = None, level: str = "debug", **about: Any) -> list[str]:
    """What a session shows that was opened before."""
    lines = Kept()
    hub = Hub([Console(lines, palette, level)])
    publish(hub, record(**about), SessionOpened())
    lines.clear()
    publish(hub, record(**about), *facts)
    assert all(line.endswith("\n") and line.count("\n") == 1 for line in lines)
    return [line[:-1] for line in lines]


def bare(line: str) -> str:
    return re.sub("\x1b\\[[0-9;]*m", "", line)


def test_lines_of_commands_are_aligned() -> None:
    lines = shown(
        answered("NOOP", "NOOP", ms=0.4),
        answered("FETCH", "UID FETCH 1:* (" + "FLAGS " * 40 + ")", "bad", "BAD " + "no " * 100, ms=1500),
        answered("X", "X", "unanswered", ""),
    )
    assert len({len(line) for line in lines}) == 1
    assert "0.4 ms" in lines[0]
    assert lines[0].index("NOOP") == lines[1].index("UID FETCH")
    assert lines[1].endswith("1.5 s")
    assert "no reply" in lines[2]


@pytest.mark.parametrize("width", [80, 99, 100, 140])
@pytest.mark.parametrize("listener", ["imap", "a-long-listener-name"])
@pytest.mark.parametrize("colour", [True, False])
def test_a_line_has_the_width_of_the_terminal(width: int, listener: str, colour: bool) -> None:
    palette = Palette(colour, width=width, fit=True)
    for fact in [*EVERY_FACT, answered("FETCH", "UID FETCH " * 9, "bad", "BAD " * 30)]:
        for line in shown(fact, palette=palette, listener=listener):
            assert len(bare(line)) <= width, line


@pytest.mark.parametrize("fact", EVERY_FACT, ids=lambda fact: type(fact).__name__)
def test_colour_changes_no_letter(fact: Any) -> None:
    coloured, plain = Palette(colour=True, width=1000), Palette(width=1000)
    [line] = shown(fact, palette=plain)
    assert "\x1b" not in line
    [painted] = shown(fact, palette=coloured)
    assert "\x1b" in painted
    assert bare(painted) == line


@pytest.mark.parametrize("fact", EVERY_FACT, ids=lambda fact: type(fact).__name__)
def test_without_utf8_the_marks_are_ascii(fact: Any) -> None:
    [line] = shown(fact, palette=Palette(symbols=False))
    assert line.isascii()


@pytest.mark.parametrize("palette", [COLOUR, Palette()])
def test_strangers_move_no_terminal(palette: Palette) -> None:
    lines = shown(
        LoginSeen("PLAIN", HOSTILE, "failed", True, True, HOSTILE),
        SessionClosed(CloseReason.TIMEOUT, HOSTILE, 1.0),
        palette=palette,
        user=HOSTILE,
        client_name=HOSTILE,
    )
    assert len(lines) == 2
    assert all(bare(line).isprintable() for line in lines)


def test_an_exposed_password_is_said_in_words() -> None:
    [line] = shown(LoginSeen("PLAIN", "alice", "ok", True, True), level="warning")
    assert "alice: logged in, PLAIN without TLS" in line
    assert "crossed the wire in clear" in line
    assert shown(LoginSeen("PLAIN", "alice", "ok", True, True), level="warning", client_tls=TLS) == []
    [line] = shown(LoginSeen("PLAIN", "alice", "ok", True, True), client_tls=TLS)
    assert "PLAIN over TLSv1.3" in line


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "colour"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colour_is_for_terminals_that_want_it(environment: dict[str, str], colour: bool) -> None:
    assert Palette.of(Terminal(io.BytesIO(), "utf-8"), environment).colour is colour
    assert not Palette.of(io.TextIOWrapper(io.BytesIO(), "utf-8"), environment).colour


def test_symbols_are_for_utf8() -> None:
    assert Palette.of(Terminal(io.BytesIO(), "utf-8"), {}).symbols
    assert not Palette.of(Terminal(io.BytesIO(), "latin-1"), {}).symbols


def test_sizes_and_durations_are_for_people() -> None:
    assert [octets(n) for n in (0, 1023, 1536, 31457280, 5 * 1024**3)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "30.0 MiB",
        "5.0 GiB",
    ]
    assert [duration(s) for s in (0.0004, 0.041, 1.24, 187, 7500)] == [
        "0.4 ms",
        "41 ms",
        "1.2 s",
        "3m 07s",
        "2h 05m",
    ]


def test_the_program_s_own_lines_are_words_and_pairs() -> None:
    line = own_line(Palette(), NOW, WARNING, "certificate_expires", {"name": "imap", "days": 3, "why": None})
    assert line.endswith("  mailgate certificate expires name=imap days=3\n")


def test_a_connection_that_was_refused_has_no_summary() -> None:
    lines = Kept()
    hub = Hub([Console(lines)])
    publish(hub, record(), ConnectionRefused("limit_total"), SessionClosed(CloseReason.POLICY, "", 0.0))
    assert len(lines) == 1
    assert "connection refused: limit total" in lines[0]


def test_sessions_are_shown_to_begin_and_end_at_level_info() -> None:
    opened, closed = SessionOpened(), SessionClosed(CloseReason.QUIT, "", 2.0)
    begin, end = shown(opened, closed, level="info", commands=3)
    assert "connected from 192.0.2.7:4711" in begin
    assert "quit" in end and "2.0 s, 3 commands" in end
    assert shown(opened, closed, level="warning") == []


def test_what_a_shadow_would_change_is_shown_below_it() -> None:
    diff = ("@@ header", "-Subject: a", "+Subject: b", *["+more"] * 20)
    lines = shown(PluginRan("dlp", Stage.DATA, "modify", "shadow", 0.1, diff=diff))
    assert "plugin dlp: modify, so shadow" in lines[0]
    assert [line.split("│")[1].strip() for line in lines[1:4]] == list(diff[:3])
    assert len(lines) == 14 and lines[-1].rstrip().endswith("11 more lines")
