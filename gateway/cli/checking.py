"""`mailgate check`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from . import config_option, say_problem


@click.command("check")
@config_option()
@click.option("--json", "as_json", is_flag=True, help="Print the problems as JSON.")
def command(path: Path, as_json: bool) -> None:
    """Check a configuration: every error at once, with its line and a suggestion.

    Exit status 0 if it can be used (there may be warnings), 2 if not.
    """
    from ..config.reading import examine

    configuration, problems = examine(path)
    wrong = [problem for problem in problems if not problem.warning]
    if as_json:
        click.echo(json.dumps([asdict(problem) for problem in problems], indent=2))
    else:
        for problem in problems:
            say_problem(path, problem)
    if wrong or configuration is None:
        if not as_json:
            click.echo(f"{path}: {len(wrong)} error{'s' * (len(wrong) != 1)}", err=True)
        sys.exit(2)
    if not as_json:
        warnings = f", {len(problems)} warning{'s' * (len(problems) != 1)}" if problems else ""
        counts = {
            "listener": len(configuration.listeners),
            "upstream": len(configuration.upstreams),
            "plugin": len(configuration.plugins),
        }
        summary = ", ".join(f"{count} {what}{'s' * (count != 1)}" for what, count in counts.items())
        click.echo(f"{path}: good: {summary}{warnings}")
