"""What the plugins' pages say: their examples load, and no option is left out."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from gateway.inspection.loader import PluginSpec, load_plugins

PAGES = Path(__file__).parents[2] / "docs" / "plugins"


@pytest.mark.parametrize("page", ["archive", "external_banner", "footer", "header"])
def test_a_page_is_true(page: str):
    text = (PAGES / f"{page}.md").read_text()
    examples = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert examples
    options = set(re.findall(r"^\| `(\w+)`", text, re.MULTILINE))
    for example in examples:
        for table in tomllib.loads(example)["plugins"]:
            spec = PluginSpec(table["name"], table["use"], options=table.get("options", {}))
            (loaded,) = load_plugins([spec])
            assert set(type(loaded.plugin.options).model_fields) <= options
