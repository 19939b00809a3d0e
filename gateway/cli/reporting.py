"""How `mailgate inspect` tells what it found: tables on a terminal, plain lines in a pipe, JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..core.text import shown
from ..inspection.defects import DefectKind
from ..inspection.difference import numbered
from ..inspection.message import Content
from ..inspection.parts import Part
from ..observe.terminal import duration, octets

if TYPE_CHECKING:
    from rich.console import Console

    from .inspecting import Inspected

_RESULTS = {"pass": "green", "modify": "cyan", "error": "red", "timeout": "red"}
_SIGNS = {"@": "bold", "-": "red", "+": "green"}
#: Parts that are shown to a person.
_ROWS = 200
#: Levels that a part is indented by, at most: beyond, its number tells.
_INDENT = 12


def as_object(found: Inspected) -> dict[str, Any]:
    """Return everything as what JSON can hold."""
    content = Content(found.buffer)
    told: dict[str, Any] = {
        "file": found.name,
        "size": len(found.buffer),
        "was_lf": found.was_lf,
        "parts": [_part(number, part) for number, part in _every(content)],
        "ambiguity": [str(defect) for defect in content.ambiguity],
        "signatures": [
            {
                "kind": str(one.kind),
                "part": _number(content.root, one.part),
                "fields": sorted(one.names),
            }
            for one in content.signed
        ],
    }
    judgement = found.judgement
    if judgement is not None:
        outcome = judgement.outcome
        told["plugins"] = [
            {
                "plugin": run.plugin,
                "result": run.result,
                "applied": run.applied,
                "ms": round(run.seconds * 1000, 3),
                "detail": run.detail,
                "facts": run.facts,
                "diff": list(run.diff),
            }
            for run in judgement.runs
        ]
        told["unasked"] = found.unasked
        told["outcome"] = {
            "action": str(outcome.action),
            "reason": outcome.reason,
            "new_size": outcome.size if judgement.chunks is not None else len(found.buffer),
            "difference": list(found.difference),
        }
    return told


def _part(number: str, part: Part) -> dict[str, Any]:
    return {
        "part": number,
        "type": shown(part.content_type),
        "charset": shown(part.charset),
        "transfer_encoding": shown(part.transfer_encoding),
        "disposition": shown(part.disposition),
        "filename": shown(part.filename),
        "start": part.start,
        "body_start": part.body_start,
        "end": part.end,
        "size": part.end - part.body_start,
        "fields": len(part.fields),
        "defects": [str(defect) for defect in (*part.defects, *part.content_defects)],
    }


def _every(content: Content) -> Iterator[tuple[str, Part]]:
    """Give each part with its number, then those of other readings: "2~1" is the first one of part 2."""
    yield from numbered(content.root)
    for count, reading in enumerate(content.readings, 1):
        origin = _number(content.root, reading.origin)
        for number, part in numbered(reading):
            yield f"{origin}~{count}" + (f".{number}" if number else ""), part


def _number(root: Part, wanted: Part) -> str:
    return next((number for number, part in numbered(root) if part is wanted), "")


def show(found: Inspected) -> None:
    """Print everything: coloured on a terminal, plain in a pipe, where no line is folded."""
    from io import StringIO

    from rich.console import Console

    # A pipe has no width: lines are for grep, then, neither folded nor filled up.
    kept = None if sys.stdout.isatty() else StringIO()
    console = Console(highlight=False, file=kept, width=None if kept is None else 500)
    _show(console, found)
    if kept is not None:
        sys.stdout.write("".join(line.rstrip() + "\n" for line in kept.getvalue().splitlines()))


def _show(console: Console, found: Inspected) -> None:
    content = Content(found.buffer)
    _show_message(console, found, content)
    _show_parts(console, content)
    if found.judgement is not None:
        _show_plugins(console, found)
        _show_outcome(console, found)


def _show_message(console: Console, found: Inspected, content: Content) -> None:
    from rich.text import Text

    line_ends = ", line ends LF (shown as CRLF, as they are sent)" if found.was_lf else ""
    console.print(Text(shown(found.name), style="bold"), Text(f" {octets(len(found.buffer))}{line_ends}"))
    for name in ("From", "To", "Subject", "Date", "Message-ID"):
        field = content.root.get(name)
        if field is not None:
            console.print(Text(f"  {name:<11}", style="dim"), Text(shown(field.value)), sep="")


def _show_parts(console: Console, content: Content) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("part", no_wrap=True)
    table.add_column("type", overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("", overflow="fold", ratio=1)
    covers: dict[int, list[str]] = {}
    for one in content.signed:
        names = f" and {len(one.names)} fields" if one.names and one.kind == "dkim" else ""
        covers.setdefault(id(one.part), []).append(f"covered by {one.kind}{names}")
    for number, part in islice(_every(content), _ROWS):
        more = Text()
        for text, style in _remarks(part, covers.get(id(part), [])):
            more.append(", " if more else "").append(text, style)
        indent = "  " * min(part.depth, _INDENT)
        table.add_row(
            Text(number or "-", style="dim"),
            Text(indent + shown(part.content_type, 60)),
            Text(octets(part.end - part.body_start)),
            more,
        )
    console.print()
    console.print(table)
    count = sum(1 for _ in _every(content))
    if count > _ROWS:
        console.print(Text(f"… {count - _ROWS} more parts", style="dim"))
    if content.readings:
        console.print(Text("1~2: as another program may read part 1, in a second way", style="dim"))
    if content.ambiguity:
        names = ", ".join(str(defect) for defect in content.ambiguity)
        console.print()
        console.print(Text(f"ambiguous: programs may read it differently: {names}", style="yellow"))


def _remarks(part: Part, covers: list[str]) -> Iterator[tuple[str, str]]:
    """Give what is to be said of one part besides its type and size, with a style."""
    if part.filename:
        yield f'"{shown(part.filename, 80)}"', "bold"
    if part.disposition:
        yield shown(part.disposition, 40), ""
    if part.charset:
        yield shown(part.charset, 40), "dim"
    if part.transfer_encoding != "7bit":
        yield shown(part.transfer_encoding, 40), "dim"
    for cover in covers:
        yield cover, "cyan"
    for defect in (*part.defects, *part.content_defects):
        yield str(defect), "dim" if defect.kind is DefectKind.HARMLESS else "yellow"


def _show_plugins(console: Console, found: Inspected) -> None:
    from rich.table import Table
    from rich.text import Text

    judgement = found.judgement
    assert judgement is not None
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("plugin", no_wrap=True)
    table.add_column("says", no_wrap=True)
    table.add_column("took", justify="right", no_wrap=True)
    table.add_column("", overflow="fold", ratio=1)
    runs = {run.plugin: run for run in judgement.runs}
    for loaded in found.plugins:
        run = runs.get(loaded.name)
        if run is None:
            why = found.unasked.get(loaded.name, "not asked: the message was stopped before")
            table.add_row(Text(loaded.name), Text("-", style="dim"), Text(""), Text(why, style="dim"))
            continue
        came = "" if run.applied == run.result else f", so {run.applied}"
        notes = "; ".join(
            [run.detail] * bool(run.detail) + [f"{key}: {value}" for key, value in run.facts.items()]
        )
        table.add_row(
            Text(run.plugin),
            Text(run.result + came, style=_RESULTS.get(run.result, "yellow")),
            Text(duration(run.seconds)),
            Text(notes),
        )
    console.print()
    console.print(table if found.plugins else Text("no plugin is configured", style="dim"))
    for run in judgement.runs:
        if run.diff:
            console.print()
            console.print(Text(f"{run.plugin} would change", style="dim"))
            _show_difference(console, run.diff)


def _show_outcome(console: Console, found: Inspected) -> None:
    from rich.text import Text

    judgement = found.judgement
    assert judgement is not None
    outcome = judgement.outcome
    text = str(outcome.action)
    if judgement.chunks is not None:
        text += f": {octets(len(found.buffer))}, now {octets(outcome.size)}"
    elif outcome.reason:
        text += f": {outcome.reason}"
    console.print()
    console.print(
        Text("outcome ", style="dim"), Text(text, style=_RESULTS.get(outcome.action, "red")), sep=""
    )
    _show_difference(console, found.difference)


def _show_difference(console: Console, lines: Sequence[str]) -> None:
    from rich.padding import Padding
    from rich.text import Text

    for line in lines:
        console.print(Padding(Text(line, style=_SIGNS.get(line[:1], "dim")), (0, 0, 0, 2), expand=False))
