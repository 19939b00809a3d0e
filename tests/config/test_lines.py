"""Where keys stand: checked against what tomllib reads."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from gateway.config.lines import key_lines, line_of

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "deploy" / "examples").glob("*.toml"))


def paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of everything in what tomllib has read."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in items:
        yield from paths(inner, (*path, step))


def test_tables_arrays_and_dotted_keys():
    lines = key_lines('a = 1\n[[t]]\nx = 1\n[t.u]\ny = 2\n[[t]]\n"x" = 3\n[v.w]\nz.q = 1\n[[t.n]]\nk = 1\n')
    assert lines[("a",)] == 1
    assert lines[("t", 0)] == 2 and lines[("t", 1)] == 6
    assert lines[("t", 0, "x")] == 3
    assert lines[("t", 0, "u", "y")] == 5
    assert lines[("t", 1, "x")] == 7
    assert lines[("v", "w", "z", "q")] == 9
    assert lines[("t", 1, "n", 0, "k")] == 11


def test_inline_tables_and_arrays_over_several_lines():
    lines = key_lines('t = [\n  { a = 1,  # one ]\n    b = "}" },\n\n  { a = [ 1,\n 2 ] },\n]\n')
    assert lines[("t", 0, "a")] == 2 and lines[("t", 0, "b")] == 3
    assert lines[("t", 1)] == 5 and lines[("t", 1, "a", 1)] == 6


@pytest.mark.parametrize("quotes", ['"""', "'''"])
def test_strings_hold_no_keys(quotes):
    """What looks like a table within a string of several lines is none."""
    text = f"x = {quotes}\n[[listeners]]\nname = 3\n# {quotes[:2]} \n{quotes}\n[[listeners]]\nname = 5\n"
    tomllib.loads(text)
    assert key_lines(text) == {(): 1, ("x",): 1, ("listeners",): 6, ("listeners", 0): 6,
                               ("listeners", 0, "name"): 7}  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        (files("gateway.config") / "example.toml").read_text(),
        *(path.read_text() for path in EXAMPLES),
        '"a\\u0020b" = 1\n\'c.d\' . e = { "f" . g = [[], [{}]] }\r\n[ h . "i" ]\r\nj=1979-05-27 07:32:00\n',
        'a = "\\"[#" # ]\nb = \'\\\'\nc = [ "x", # {\n "y" ]\nd = {}\n',
    ],
)
def test_everything_has_its_line(text):
    """Each key that tomllib reads is found, on a line that has its name."""
    found, shown = key_lines(text), text.splitlines()
    for path in paths(tomllib.loads(text)):
        assert path in found, path
        names = [step for step in path if isinstance(step, str)]
        if isinstance(path[-1], str) and names[-1].isidentifier():
            assert names[-1] in shown[found[path] - 1], path


def test_the_nearest_place_and_no_place_at_all():
    lines = key_lines("[a]\nb = 1\n")
    assert line_of(("a", "c", 3), lines) == 1
    assert line_of(("x",), lines) is None
    assert line_of((), lines) is None


@pytest.mark.parametrize(
    "text", ["= = =", "[[[", "a = [", 'a = """', "a = {b", "[" * 50_000, "a=" + "[" * 50_000]
)
def test_what_is_no_toml_ends_the_scan(text):
    key_lines(text)
