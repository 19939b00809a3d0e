"""`mailgate plugin`: what there is, what it takes, and a first one of one's own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.support import mailgate
from tests.config.test_reading import GOOD


def test_the_bundled_are_listed():
    result = mailgate("plugin", "list")
    assert result.returncode == 0
    assert re.search(r"^footer +bundled +Put a footer under the text", result.stdout, re.MULTILINE)
    rows = json.loads(mailgate("plugin", "list", "--json").stdout)["plugins"]
    assert {"add_header", "footer"} <= {row["name"] for row in rows}


def test_the_configured_are_listed(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text(
        GOOD + '\n[[plugins]]\nname = "foot"\nuse = "footer"\nshadow = true\nshare = "25%"\n'
        'options = { text = "x" }\n'
    )
    result = mailgate("plugin", "list", "-c", path)
    assert re.search(r"^foot +footer +.*in shadow; share 0.25$", result.stdout, re.MULTILINE)
    shown = mailgate("plugin", "show", "foot", "-c", path)
    assert shown.returncode == 0 and "foot: Footer" in shown.stdout


def test_options_are_shown_with_types_and_defaults():
    result = mailgate("plugin", "show", "add_header")
    assert result.returncode == 0
    assert re.search(r"^name +text +required", result.stdout, re.MULTILINE)
    assert re.search(r'^mode +"add" \| "set" \| "if-missing" +"add"', result.stdout, re.MULTILINE)
    assert re.search(
        r"^edit_signed +true or false +false +let this plugin's edits", result.stdout, re.MULTILINE
    )
    assert "use = " in result.stdout and "add_header.py" in result.stdout


@pytest.mark.parametrize(
    "name", ["attachment_policy", "dlp", "header", "mail_auth", "link_rewrite", "milter"]
)
def test_types_are_told_in_words(name: str):
    shown = mailgate("plugin", "show", name).stdout
    table = shown[shown.index("\noption") :]
    for internal in ("tuple", "frozenset", "Optional", "Annotated", "Literal", "<function", "None", "Rule"):
        assert not re.search(rf"^\S+ +[^\n]{{0,60}}\b{re.escape(internal)}\b", table, re.MULTILINE), internal
    if name in ("attachment_policy", "dlp"):
        assert re.search(r"^rules +list of table +required", table, re.MULTILINE)
        assert re.search(r'^rules\.action +".*" +required', table, re.MULTILINE)


def test_what_is_no_plugin():
    result = mailgate("plugin", "show", "foooter")
    assert result.returncode == 1 and 'did you mean "footer"?' in result.stderr


def test_a_new_plugin_passes_its_own_test_and_can_be_used(tmp_path: Path):
    folder = tmp_path / "mine"
    result = mailgate("plugin", "new", "my_tag", folder)
    assert result.returncode == 0, result.stderr
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "test_my_tag.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0 and "3 passed" in run.stdout, run.stdout + run.stderr
    shown = mailgate("plugin", "show", folder / "my_tag.py")
    assert re.search(r'^tag +text +"\[my tag\]" +what is put', shown.stdout, re.MULTILINE)
    # The table at the top of the file is right as it stands, beside the configuration.
    table = "\n".join(line[4:] for line in shown.stdout.splitlines() if line.startswith("    "))
    (folder / "x.toml").write_text(f"{GOOD}\n{table}\n")
    checked = mailgate("check", "-c", folder / "x.toml")
    assert checked.returncode == 0 and "1 plugin" in checked.stdout, checked.stderr


def test_a_new_plugin_is_formatted_and_typed(tmp_path: Path):
    assert mailgate("plugin", "new", "my_tag", tmp_path).returncode == 0
    root = Path(__file__).resolve().parent.parent.parent
    ruff = [sys.executable, "-m", "ruff"]
    if subprocess.run([*ruff, "--version"], capture_output=True, check=False).returncode:
        pytest.skip("not installed: ruff")
    options = ["--config", str(root / "pyproject.toml"), str(tmp_path / "my_tag.py")]
    for how in (["format", "--check"], ["check"]):
        told = subprocess.run([*ruff, *how, *options], capture_output=True, text=True, check=False)
        assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.parametrize("name", ["My-Tag", "1x", "class", "json", "../x", ""])
def test_names_that_can_be_no_file(tmp_path: Path, name: str):
    result = mailgate("plugin", "new", "--", name, tmp_path)
    assert result.returncode == 2 and not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path: Path):
    (tmp_path / "tag.py").write_text("mine")
    result = mailgate("plugin", "new", "tag", tmp_path)
    assert result.returncode == 1 and "--force" in result.stderr
    assert (tmp_path / "tag.py").read_text() == "mine"
    assert mailgate("plugin", "new", "tag", tmp_path, "--force").returncode == 0
