"""The pages of the plugins for HTML: their examples work, their tables name every option."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from gateway.inspection.loader import PluginSpec, check_plugins, load_plugins

PAGES = Path(__file__).resolve().parents[2] / "docs" / "plugins"
NAMES = ["html_sanitise", "link_rewrite", "remote_content"]


def spec(name: str, directory: Path) -> PluginSpec:
    (example,) = re.findall(r"```toml\n(.*?)```", (PAGES / f"{name}.md").read_text(), re.DOTALL)
    (table,) = tomllib.loads(example)["plugins"]
    options: dict[str, Any] = dict(table["options"])
    if "key_file" in options:
        options["key_file"] = directory / "link.key"
        options["key_file"].write_text("0123456789abcdef" * 4 + "\n")
    return PluginSpec(table["name"], table["use"], options=options)


@pytest.mark.parametrize("name", NAMES)
def test_the_example_works_and_the_table_is_whole(name: str, tmp_path: Path):
    example = spec(name, tmp_path)
    assert example.use == name and check_plugins([example]) == []
    (loaded,) = load_plugins([example])
    rows = re.findall(r"^\| `(\w+)` \|(.*?)\|", (PAGES / f"{name}.md").read_text(), re.MULTILINE)
    fields = type(loaded.plugin).Options.model_fields
    assert sorted(row for row, _ in rows) == sorted(fields)
    for row, cell in rows:
        default = cell.strip()
        if default.startswith("`"):
            value = tomllib.loads(f"x = {default.strip('`')}")["x"]
            assert fields[row].default == (tuple(value) if isinstance(value, list) else value), row
        elif default:
            assert default.split(", ") == list(fields[row].default)
