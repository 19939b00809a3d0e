"""`mailgate plugin`: list what there is, show one, begin one."""

from __future__ import annotations

import inspect
import json
import keyword
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import click

from . import config_option, fail, say_problem
from .plugin_template import PLUGIN, TEST

if TYPE_CHECKING:
    from pydantic import BaseModel

    from ..inspection.base import Plugin


@click.group("plugin")
def command() -> None:
    """List plugins, show one, begin one of your own."""


@dataclass(frozen=True)
class Row:
    """One plugin that can be used, or is.

    source: "bundled", a distribution with its version, "file", or "configuration".
    """

    name: str
    source: str
    summary: str


@command.command("list")
@config_option(required=False)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def list_(path: Path | None, as_json: bool) -> None:
    """List the bundled and the installed plugins, and with -c those of a configuration."""
    from ..core.text import shown

    rows = [Row(shown(one.name), _source(one), _summary_of(one)) for one in _installed()]
    used = list(_configured(path)) if path is not None else []
    if as_json:
        told = {"plugins": [asdict(row) for row in rows], "configured": [asdict(row) for row in used]}
        click.echo(json.dumps(told, indent=2))
        return
    _print_table(("plugin", "from", ""), [(row.name, row.source, row.summary) for row in rows])
    if path is not None:
        click.echo()
        _print_table(("configured", "use", ""), [(row.name, row.source, row.summary) for row in used])


@command.command("show")
@click.argument("name")
@config_option(required=False)
def show(name: str, path: Path | None) -> None:
    """Show what the plugin NAME is for, its options and its file.

    NAME is what a configuration's `use` may be (a plugin's name, or a path to a .py file), or
    with -c the name of a table [[plugins]].
    """
    from ..core.text import shown
    from ..inspection.base import PluginOptions
    from ..inspection.loader import Unusable, find_class

    use = next((spec.use for spec in _specs(path) if spec.name == name), name) if path is not None else name
    try:
        kind = find_class(use)
    except Unusable as problem:
        fail(str(problem))
    module = sys.modules.get(kind.__module__)
    text = _description(kind) or "It is not described."
    click.echo(click.style(f"{shown(name)}: {kind.__name__}", bold=True))
    click.echo(shown(getattr(module, "__file__", None) or kind.__module__, 4000))
    click.echo()
    for line in text.splitlines():
        click.echo(shown(line, 2000))
    click.echo()
    click.echo(", ".join(_traits(kind)))
    click.echo()
    _print_table(("option", "type", "default", ""), list(_options(kind)))
    about = kind.Options.__doc__
    if about and kind.Options is not PluginOptions:
        click.echo()
        for line in inspect.cleandoc(about).splitlines():
            click.echo(f"  {shown(line, 2000)}".rstrip())


@command.command("new")
@click.argument("name")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), default=Path())
@click.option("--force", is_flag=True, help="Overwrite files that are there.")
def new(name: str, directory: Path, force: bool) -> None:
    """Write a plugin NAME.py with its test to DIRECTORY (this one if absent), to begin with."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name) or keyword.iskeyword(name):
        fail(f'"{name}" can\'t be a plugin\'s file: lower-case letters, digits and "_"', 2)
    if name in sys.stdlib_module_names:
        fail(f'"{name}" is the name of a module of Python\'s own: its test would import that', 2)
    files = {directory / f"{name}.py": PLUGIN, directory / f"test_{name}.py": TEST}
    there = [str(file) for file in files if file.exists()]
    if there and not force:
        fail(f"there already: {', '.join(there)}; --force overwrites")
    words = name.replace("_", " ").strip()
    class_name = "".join(part.capitalize() for part in name.split("_") if part)
    if class_name in ("Plugin", "Message", "Modify", "Pass", "Reject", "Verdict", "Field"):
        class_name += "Plugin"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            text = text.replace("@NAME@", name).replace("@CLASS@", class_name).replace("@WORDS@", words)
            file.write_text(text)
    except OSError as error:
        fail(f"can't write to {directory}: {error.strerror}")
    plugin, test = files
    click.echo(f"Wrote {plugin} and {test}.")
    click.echo(f"Next: `python -m pytest {test}`, then put the table from the top of {plugin} into")
    click.echo("your configuration, and try it: `mailgate inspect MESSAGE.eml -c FILE`.")


# -- what there is --------------------------------------------------------------


def _installed() -> list[EntryPoint]:
    """Return the entry points, the bundled ones first."""
    from ..inspection.loader import GROUP

    return sorted(entry_points(group=GROUP), key=lambda one: (_source(one) != "bundled", one.name))


def _source(entry: EntryPoint) -> str:
    if entry.dist is None or entry.dist.name == "mailgate":
        return "bundled"
    return f"{entry.dist.name} {entry.dist.version}"


def _summary_of(entry: EntryPoint) -> str:
    """Return the first line of what a plugin says of itself, or why it can't be used."""
    from ..inspection.loader import Unusable, find_class

    try:
        return _summary(find_class(entry.name))
    except Unusable as problem:
        return f"can't be used: {problem}"


def _summary(kind: type[Plugin]) -> str:
    from ..core.text import shown

    return shown(_description(kind).partition("\n")[0])


def _description(kind: type[Plugin]) -> str:
    """Return what a plugin says of itself: its file's docstring, or its own."""
    module = sys.modules.get(kind.__module__)
    return inspect.cleandoc((module and module.__doc__) or kind.__doc__ or "")


def _specs(path: Path) -> list[Any]:
    from ..config.reading import examine

    configuration, problems = examine(path)
    if configuration is None:
        for problem in problems:
            say_problem(path, problem)
        sys.exit(2)
    return configuration.plugin_specs()


def _configured(path: Path) -> Iterator[Row]:
    """Give the plugins of a configuration, with what is special about their tables."""
    from ..core.text import shown

    for spec in _specs(path):
        more = [f"stages {', '.join(sorted(spec.stages))}", f"on_error {spec.on_error}"]
        if spec.listeners:
            more.append(f"listeners {', '.join(sorted(spec.listeners))}")
        if spec.shadow:
            more.append("in shadow")
        if spec.share < 1:
            more.append(f"share {spec.share:.4g}")
        yield Row(spec.name, shown(spec.use), "; ".join(more))


def _traits(kind: type[Plugin]) -> Iterator[str]:
    """Say how a plugin runs."""
    from ..inspection.base import Plugin as Base
    from ..inspection.loader import METHODS
    from ..observe.terminal import octets

    hooks = [name for name in METHODS[1:] if getattr(kind, name) is not getattr(Base, name)]
    if hooks:
        yield f"has {', '.join(hooks)}"
    if kind.inspect is Base.inspect:
        yield "judges no messages"
        return
    if inspect.iscoroutinefunction(kind.inspect):
        yield "runs on the reactor"
    elif kind.isolation == "process":
        yield f"runs in processes of its own, of at most {octets(kind.memory_limit)} each"
    else:
        yield "runs in threads"
    yield "sees pieces of messages too" if kind.sees_partial else "sees whole messages"


def _options(kind: type[Plugin]) -> Iterator[tuple[str, str, str, str]]:
    """Give each option's name, type, default and description, a plugin's own ones first."""
    from ..inspection.base import PluginOptions

    inherited = set(PluginOptions.model_fields)
    yield from _fields(kind.Options, "", lambda name: name in inherited)


def _fields(
    model: type[BaseModel], before: str, is_last: Callable[[str], bool]
) -> Iterator[tuple[str, str, str, str]]:
    """Give the fields of a model, and below each those of the tables that it holds."""
    from ..core.text import shown
    from ..inspection.models import table_of
    from .describing import field_texts

    fields, texts = model.model_fields, field_texts(model)
    for name in sorted(fields, key=is_last):
        field = fields[name]
        default = (
            "required" if field.is_required() else _as_toml(field.get_default(call_default_factory=True))
        )
        text = field.description or texts.get(name, "")
        yield before + name, _type(field.annotation), shown(default, 200), shown(text, 1000)
        inner = table_of(field.annotation)
        if inner is not None:
            yield from _fields(inner, f"{before}{name}.", lambda _: False)


_WORDS = {"str": "text", "int": "number", "float": "number", "bool": "true or false", "Path": "path"}
_WORDS |= {"IPv4Network": "network", "IPv6Network": "network", "NoneType": "none"}


def _type(annotation: Any) -> str:
    """Write a type as a person does."""
    from enum import Enum

    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0])
    if origin is Literal:
        return " | ".join(_as_toml(one) for one in arguments)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_type(one) for one in arguments))
    if origin in (tuple, list, set, frozenset):
        return f"list of {_type(arguments[0])}" if arguments else "list"
    if origin is dict or annotation is dict:
        return "table"
    if isinstance(annotation, type):
        if hasattr(annotation, "model_fields"):
            return "table"
        if issubclass(annotation, Enum):
            return " | ".join(_as_toml(one.value) for one in annotation)
        return _WORDS.get(annotation.__name__, annotation.__name__.lower())
    return "any"


def _as_toml(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, (list, tuple, set, frozenset)):
        return "[" + ", ".join(_as_toml(one) for one in value) + "]"
    return str(value)


# -- printing ---------------------------------------------------------------------


def _print_table(titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print columns: folded on a terminal, one line a row in a pipe."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not sys.stdout.isatty():
        widths = [max(len(row[place]) for row in [titles, *rows]) for place in range(len(titles))]
        for row in [titles, *rows]:
            line = "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True))
            click.echo(line.rstrip())
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(Text(text, style="bold" if not place else "") for place, text in enumerate(row)))
    Console(highlight=False).print(table)
