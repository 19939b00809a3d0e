"""Plugins from tables: found in files and entry points, and every error with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.core.steps import Stage
from gateway.inspection.loader import PluginConfigErrors, PluginSpec, check_plugins, load_plugins

GOOD = """
from __future__ import annotations
from gateway.plugin import Message, Pass, Plugin, PluginOptions, SessionRecord, Verdict

class Sorter(Plugin):
    class Options(PluginOptions):
        folder: str
        level: int = 3
    options: Options
    def inspect(self, message: Message, session: SessionRecord) -> Verdict:
        return Pass()
"""


def write(folder: Path, text: str, name: str = "sort.py") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def problems(use: str, **more: Any) -> list[str]:
    return [str(error) for error in check_plugins([PluginSpec("x", use, **more)])]


def test_a_plugin_from_a_file(tmp_path: Path):
    spec = PluginSpec("sorter", write(tmp_path, GOOD), options={"folder": "a", "level": 5})
    (loaded,) = load_plugins([spec])
    assert (loaded.name, loaded.stages) == ("sorter", {Stage.DATA, Stage.APPEND})
    assert loaded.plugin.options.model_dump() == {"edit_signed": False, "folder": "a", "level": 5}
    assert not loaded.edit_signed and not loaded.is_async
    assert loaded.watches("anything")


def test_a_class_of_a_file_by_name(tmp_path: Path):
    two = GOOD + "\nclass Other(Sorter):\n    pass\n"
    path = write(tmp_path, two)
    assert problems(path, options={"folder": "a"}) == [
        f'plugins[0].use: {path} holds several plugins: Other, Sorter; write "{path}:NAME"'
    ]
    (loaded,) = load_plugins([PluginSpec("x", f"{path}:Other", options={"folder": "a"})])
    assert type(loaded.plugin).__name__ == "Other"
    assert problems(f"{path}:None")[0].endswith("has no plugin class None; it has: Other, Sorter")


def test_the_bundled_plugins_are_entry_points():
    specs = [
        PluginSpec("mark", "add_header", options={"name": "X", "value": "y"}),
        PluginSpec("foot", "footer", options={"text": "x"}),
    ]
    assert [type(one.plugin).__name__ for one in load_plugins(specs)] == ["AddHeader", "Footer"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def broken(:\n", ":1: SyntaxError: "),
        ("\n\nimport nosuchmodule\n", ":3: ModuleNotFoundError: No module named 'nosuchmodule'"),
        ("raise SystemExit(3)\n", ":1: SystemExit: 3"),
        ("x = 1\n", " holds no class derived from gateway.plugin.Plugin"),
        ("from gateway.plugin import Plugin\n", " holds no class derived from gateway.plugin.Plugin"),
        ("from gateway.plugin import Plugin\nclass A(Plugin):\n    pass\n", " has none of the methods"),
        (
            "from gateway.plugin import Plugin\nclass A(Plugin):\n    Options = 3\n    inspect = len\n",
            ": Options is no model (derive it from gateway.plugin.PluginOptions)",
        ),
    ],
)
def test_files_that_hold_no_plugin(tmp_path: Path, text: str, expected: str):
    path = write(tmp_path, text)
    (problem,) = problems(path)
    assert problem.startswith(f"plugins[0].use: {path}{expected}") and "\n" not in problem


def test_names_that_name_nothing():
    assert problems("add_haeder") == [
        'plugins[0].use: no plugin named "add_haeder", did you mean "add_header"?'
    ]
    (problem,) = problems("zzz")
    assert "installed: add_header, " in problem
    assert problems("nosuch/file.py") == ["plugins[0].use: no such file: nosuch/file.py"]


def test_all_errors_are_found_at_once(tmp_path: Path):
    path = write(tmp_path, GOOD)
    specs = [
        PluginSpec("a", path, options={"level": "high", "foldr": "x"}, time_limit=0, on_error="panic"),
        PluginSpec("b", "nosuch.py", stages=frozenset()),
        PluginSpec("c", "add_header", options={"name": "a b", "value": "{nosuch}", "mode": "x"}),
    ]
    found = check_plugins(specs)
    assert [error.path for error in found] == [
        (0, "time_limit"),
        (0, "on_error"),
        (0, "options", "folder"),
        (0, "options", "level"),
        (0, "options", "foldr"),
        (1, "stages"),
        (1, "use"),
        (2, "options", "name"),
        (2, "options", "value"),
        (2, "options", "mode"),
    ]
    texts = [str(error) for error in found]
    assert texts[2] == "plugins[0].options.folder: is required"
    assert texts[4] == 'plugins[0].options.foldr: unknown option, did you mean "folder"?'
    assert texts[7].startswith("plugins[2].options.name: must be a header field name")
    with pytest.raises(PluginConfigErrors) as caught:
        load_plugins(specs)
    assert caught.value.errors == found


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([], ["rules: there must be at least one"]),
        ("x", ["rules: must be a list"]),
        (
            [{"name": "a", "action": "strip", "conditions": ["macro"]}],
            ['rules[0].conditions: unknown condition "'],
        ),
        (
            [{"name": "a", "atcion": "strip"}, {"name": 7, "action": "drop", "larger_than": -1}],
            [
                "rules[0].action: is required",
                'rules[0].atcion: unknown option, did you mean "action"?',
                "rules[1].name: must be a string",
                "rules[1].action: 'drop' is not one of 'allow', ",
                "rules[1].larger_than: must be at least 0",
            ],
        ),
    ],
)
def test_what_is_wrong_in_tables_of_options_is_told_where_it_is(rules: object, expected: list[str]):
    found = problems("attachment_policy", options={"rules": rules})
    assert len(found) == len(expected), found
    for told, start in zip(found, expected):
        assert told.startswith(f"plugins[0].options.{start}")


def test_a_constructor_that_raises_is_an_error_of_the_options(tmp_path: Path):
    text = GOOD + "    def __init__(self, options):\n        raise ValueError('no such folder')\n"
    (problem,) = problems(write(tmp_path, text), options={"folder": "a"})
    assert problem == "plugins[0].options: ValueError: no such folder"


def test_a_file_that_fails_leaves_no_module_behind(tmp_path: Path):
    import sys

    before = set(sys.modules)
    problems(write(tmp_path, "raise ValueError\n"))
    assert not {name for name in set(sys.modules) - before if name.startswith("mailgate_plugin")}
