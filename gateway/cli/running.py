"""`mailgate run`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from . import config_option, say_problem


@click.command("run")
@config_option()
def command(path: Path) -> None:
    """Run the gateway until SIGTERM or Ctrl-C.

    SIGHUP reads the configuration again; SIGUSR1 opens the log file anew.
    """
    from ..config.errors import StartError
    from ..config.reading import examine

    configuration, problems = examine(path)
    for problem in problems:
        say_problem(path, problem)
    if configuration is None or any(not problem.warning for problem in problems):
        sys.exit(2)
    from ..app import run

    try:
        sys.exit(run(configuration, path))
    except StartError as error:
        click.echo(f"mailgate: {error}", err=True)
        sys.exit(1)
