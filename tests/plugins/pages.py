"""The page of a plugin: its examples, and the options that its tables name."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from gateway.inspection.loader import PluginSpec, check_plugins

PAGES = Path(__file__).resolve().parents[2] / "docs" / "plugins"


def check_page(name: str, *models: type[BaseModel], **replaced: Any) -> None:
    """Fail if an example of a page does not load, or a table lacks an option.

    models: whose fields are options.  replaced: options that a test has to give itself.
    """
    text = (PAGES / f"{name}.md").read_text()
    examples = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert examples, "a page without an example"
    for example in examples:
        for table in tomllib.loads(example)["plugins"]:
            options = table.pop("options", {}) | replaced
            assert check_plugins([PluginSpec(**table, options=options)]) == []
    named = set(re.findall(r"`(\w+)`", text))
    for model in models:
        assert not set(model.model_fields) - named, f"options that {name}.md does not name"
