"""The table of all names of gateway.plugin, as docs/plugins.md has it.

``python -m tests.docs.names`` writes it anew.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "plugins.md"
BEGIN, END = "<!-- names: begin -->\n", "<!-- names: end -->\n"


def table() -> str:
    """Return the table, made of the first lines of the docstrings."""
    rows: list[str] = []
    imported = ast.parse((ROOT / "gateway" / "plugin.py").read_text()).body
    for node in imported:
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module is not None:
            path = (ROOT / "gateway" / node.module.replace(".", "/")).with_suffix(".py")
            told = dict(_told(path))
            for alias in node.names:
                text = told.get(alias.name) or _followed(path, alias.name)
                rows.append(f"| `{alias.asname or alias.name}` | {text} |\n")
    rows.sort(key=lambda row: row.casefold())
    return "| name | |\n|---|---|\n" + "".join(rows)


def _told(path: Path) -> Iterator[tuple[str, str]]:
    """Give the names of a module with what is told of them: docstrings, and comments with "#:"."""
    source = path.read_text()
    lines = source.splitlines()
    for node in ast.parse(source).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, _short(ast.get_docstring(node) or "")
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            comment: list[str] = []
            place = node.lineno - 2
            while place >= 0 and lines[place].startswith("#:"):
                comment.insert(0, lines[place][2:].strip())
                place -= 1
            for target in targets:
                if isinstance(target, ast.Name):
                    value = ast.unparse(node.value) if node.value is not None else ""
                    plain = f"`{value}`".replace("|", "\\|") if len(value) < 90 else "A constant"
                    yield target.id, _short(" ".join(comment)) or plain


def _followed(path: Path, name: str) -> str:
    """Look for a name where a module has it from."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
            base = path.parent
            for _ in range(node.level - 1):
                base = base.parent
            return dict(_told((base / (node.module or "").replace(".", "/")).with_suffix(".py")))[name]
    return ""


def _short(text: str) -> str:
    """Return the first sentence, fit for a cell of a table."""
    first = " ".join(text.split("\n\n")[0].split())
    first = re.split(r"(?<=\.)  ?(?=[A-Z])", first)[0].rstrip(".")
    first = re.sub(r":\w+:`([^`]+)`", r"`\1`", first).replace("``", "`")
    return first.replace("|", "\\|")


def page_with(told: str) -> str:
    """Return the page with the table in its place."""
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + told + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(page_with(table()))
