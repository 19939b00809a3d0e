"""The conventions, as programs: the import rule, names, sizes, what may not stand in a file."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GATEWAY = ROOT / "gateway"

#: Which packages of gateway each package may import (itself always).
MAY_IMPORT: dict[str, set[str]] = {
    "wire": set(),
    "core": {"wire"},
    "protocols": {"core", "wire"},
    "inspection": {"core"},
    "audit": {"core"},
    "observe": {"audit", "core"},
    "reports": {"audit", "core"},
    "export": {"audit"},
    "plugin": {"core", "inspection"},
    "plugins": {"plugin"},
    "networks": set(),
    "relay": {"core", "inspection", "networks", "observe", "wire"},
    "config": {"core", "inspection", "observe", "networks"},
    "admin": {"relay", "observe", "core"},
    "demo": {"config", "core", "observe", "app", "audit", "relay", "reports", "policies", "protocols"},
}
#: What never appears in the pure packages, at all.
IMPURE = {
    "twisted",
    "OpenSSL",
    "socket",
    "ssl",
    "os",
    "pathlib",
    "time",
    "datetime",
    "asyncio",
    "threading",
}
STANDARD_ONLY = {"wire", "core", "protocols"}


def modules() -> list[Path]:
    found = sorted(GATEWAY.rglob("*.py")) + sorted((ROOT / "plugins").glob("*.py"))
    return [path for path in found if "__pycache__" not in path.parts]


def package_of(path: Path) -> str:
    """Return the package (or top-level module) of gateway that a file belongs to."""
    if path.is_relative_to(GATEWAY):
        parts = path.relative_to(GATEWAY).parts
        return parts[0].removesuffix(".py")
    return "plugins"


def imports(path: Path) -> list[tuple[str, int]]:
    """Return the dotted names that a file imports, relative ones resolved, with their lines."""
    module = (
        ["gateway", *path.relative_to(GATEWAY).with_suffix("").parts]
        if path.is_relative_to(GATEWAY)
        else ["gateway", "plugins", path.stem]
    )
    found: list[tuple[str, int]] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = module[: len(module) - node.level] if node.level else []
            name = ".".join([*base, *((node.module or "").split(".") if node.module else [])])
            if name == "gateway" or (node.level and not node.module):
                found += [(f"{name}.{alias.name}", node.lineno) for alias in node.names]
            else:
                found.append((name, node.lineno))
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_import_rule(path: Path):
    """Imports go one way: DESIGN's rule, read from the code."""
    package = package_of(path)
    allowed = MAY_IMPORT.get(package)
    broken = []
    for name, line in imports(path):
        if name.startswith("gateway."):
            other = name.split(".")[1]
            if allowed is not None and other != package and other not in allowed:
                broken.append(f"line {line}: {package} imports {name}")
        elif package in STANDARD_ONLY and name.split(".")[0] in IMPURE:
            broken.append(f"line {line}: {package} imports {name}")
    assert not broken, "\n".join(broken)


def test_the_core_names_no_plugin():
    """A bundled plugin is an entry point, as a third party's would be."""
    for path in GATEWAY.rglob("*.py"):
        assert not any(name.startswith("gateway.plugins") for name, _ in imports(path)), path


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_has_a_docstring(path: Path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "a module without a docstring"


def tracked() -> list[Path]:
    """Return the project's own text files."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
        )
        names = listed.stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):  # an unpacked sdist has no repository
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if ".venv" not in path.parts]
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


FORBIDDEN = {
    "an absolute path of somebody's machine": re.compile(r"/(?:root|home|Users)/\w|/work/"),
    "a private key": re.compile("-----BEGIN (?:RSA |EC )?PRIVATE " + "KEY-----"),
    "the name of a registry's host": re.compile(
        r"pypi" + r"\.org|pythonhosted|registry\.npmjs|deb\.debian" + r"\.org"
    ),
}


def test_nothing_stands_in_the_tree_that_may_not():
    broken = []
    for path in tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        for what, pattern in FORBIDDEN.items():
            if path.name == Path(__file__).name:
                continue
            broken += [f"{path.relative_to(ROOT)}: {what}: {hit.group()}" for hit in pattern.finditer(text)]
    assert not broken, "\n".join(broken)


def test_packages_are_all_listed():
    """setup.cfg names every package, so that a wheel has them."""
    import configparser

    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    there = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in GATEWAY.rglob("__init__.py")
        if "__pycache__" not in path.parts
    }
    assert there | {"gateway.plugins"} == listed
