"""What the pages of docs/ say is true: the tutorial is run, every example is tried, no name is left out."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway import plugin
from gateway.config.model import PluginTable
from gateway.config.reading import examine_text
from gateway.inspection.loader import PluginSpec, load_plugins
from gateway.plugin import Edits, Message, Part, Plugin
from tests.cli.support import mailgate

from .names import page_with, table

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
REFERENCE = (DOCS / "plugins.md").read_text()
TUTORIAL = (DOCS / "tutorial.md").read_text()

BASE = """
[[upstreams]]
name = "up"
addresses = ["127.0.0.1:1025"]
[[listeners]]
name = "mx"
protocol = "smtp"
address = "127.0.0.1:2525"
upstream = "up"
"""


def blocks(page: str, kind: str) -> list[tuple[str, str]]:
    """Return the title and the text of each block of a kind."""
    pattern = rf'^```{kind}(?: title="([^"]+)")?\n(.*?)^```$'
    return re.findall(pattern, page, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tutorial's reader works: with all its files."""
    made = tmp_path_factory.mktemp("tutorial")
    for kind in ("python", "toml", "text"):
        for title, text in blocks(TUTORIAL, kind):
            if title:
                (made / title).write_text(text)
    assert {path.name for path in made.iterdir()} == {
        "guard.py",
        "test_guard.py",
        "mailgate.toml",
        "hello.eml",
    }
    return made


def test_the_tutorial_s_test_passes(folder: Path):
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "test_guard.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0 and "3 passed" in run.stdout, run.stdout + run.stderr


def test_the_tutorial_s_commands_print_what_it_shows(folder: Path):
    count = 0
    for _, session in blocks(TUTORIAL, "console"):
        for told in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
            command, _, shown = told.partition("\n")
            count += 1
            assert _without_times(_run(command, folder)) == _without_times(shown)
    assert count == 4


def _run(command: str, folder: Path) -> str:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ended = subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return ended.stdout


def _without_times(text: str) -> str:
    """Leave out how long things took, and what is only the width of that."""
    return re.sub(r" +", " ", re.sub(r"[\d.]+ m?s$", "TIME", text, flags=re.MULTILINE)).strip()


@pytest.mark.parametrize("page", ["plugins.md", "tutorial.md"])
def test_tables_of_plugins_pass_the_check(page: str, folder: Path):
    (folder / "tag.py").write_text(blocks(REFERENCE, "python")[0][1])
    count = 0
    for title, text in blocks((DOCS / page).read_text(), "toml"):
        if title == "pyproject.toml":
            continue
        base = "" if "[[listeners]]" in text else BASE
        configuration, problems = examine_text(base + text, folder)
        assert configuration is not None and problems == [], problems
        count += 1
    assert count >= 2


def test_examples_in_python_run(tmp_path: Path):
    found = [text for _, text in blocks(REFERENCE, "python")]
    assert len(found) == 5
    for number, text in enumerate(found):
        if "(Plugin)" in text:
            path = tmp_path / f"example{number}.py"
            path.write_text(text)
            assert load_plugins([PluginSpec("x", str(path))])
        else:
            exec(compile(text, f"example {number}", "exec"), {})


def test_a_package_of_a_third_party_is_found(tmp_path: Path):
    """With the page's own pyproject.toml; what an installation writes down of it is enough."""
    ((_, text),) = [one for one in blocks(REFERENCE, "toml") if one[0] == "pyproject.toml"]
    (tmp_path / "pyproject.toml").write_text(text)
    (tmp_path / "mailgate_tag.py").write_text(blocks(REFERENCE, "python")[0][1])
    build = [sys.executable, "-c", "from setuptools import setup; setup()", "-q", "egg_info"]
    subprocess.run(build, cwd=tmp_path, check=True, capture_output=True)
    listed = mailgate("plugin", "list", PYTHONPATH=str(tmp_path))
    assert re.search(r"^tag +mailgate-tag 1.0 +Puts a tag before", listed.stdout, re.MULTILINE), listed.stdout
    path = tmp_path / "x.toml"
    path.write_text(BASE + '[[plugins]]\nname = "t"\nuse = "tag"\n')
    assert mailgate("check", "-c", path, PYTHONPATH=str(tmp_path)).returncode == 0


def names_in_code(page: str) -> set[str]:
    prose = re.sub(r"^```.*?^```$", "", page, flags=re.DOTALL | re.MULTILINE)
    spans = re.findall(r"`([^`]+)`", prose) + [text for _, text in blocks(page, "python")]
    return {word for span in spans for word in re.findall(r"\w+", span)}


def public(kind: type[Any]) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")} | {
        name for name in inspect.get_annotations(kind) if not name.startswith("_")
    }


@pytest.mark.parametrize("kind", [Message, Part, Edits, Plugin], ids=lambda kind: kind.__name__)
def test_every_public_name_is_in_the_reference(kind: type[Any]):
    missing = public(kind) - names_in_code(REFERENCE)
    assert not missing, f"docs/plugins.md does not tell of {kind.__name__}.{', '.join(sorted(missing))}"


def test_everything_that_can_be_imported_is_in_the_reference():
    missing = set(plugin.__all__) - names_in_code(REFERENCE)
    assert not missing, f"docs/plugins.md does not tell of {', '.join(sorted(missing))}"
    assert page_with(table()) == REFERENCE, "renew it with `python -m tests.docs.names`"
    empty = re.findall(r"^\| `(\w+)` \|  \|$", REFERENCE, re.MULTILINE)
    assert not empty, f"nothing is told of {', '.join(empty)}"


def test_every_option_of_the_table_is_in_the_reference():
    chapter = REFERENCE.partition("## The table")[2].partition("\n## ")[0]
    rows = set(re.findall(r"^\| `(\w+)` \|", chapter, re.MULTILINE))
    assert rows == set(PluginTable.model_fields)


def test_what_the_reference_names_can_be_imported():
    used = set(re.findall(r"from gateway\.plugin import (.+)", REFERENCE + TUTORIAL))
    for names in used:
        for name in names.split(", "):
            assert name in plugin.__all__, name


@pytest.mark.parametrize("page", [path.name for path in DOCS.glob("*.md")])
def test_links_lead_somewhere(page: str):
    text = (DOCS / page).read_text()
    for target, anchor in re.findall(r"\]\(([\w./-]*)(?:#([\w-]+))?\)", text):
        path = DOCS / target if target else DOCS / page
        assert path.exists(), target
        if anchor:
            heads = [
                re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-")
                for head in re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
            ]
            assert anchor in heads, anchor
