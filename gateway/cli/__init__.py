"""The command.  Exit status: 0 done, 1 failed, 2 wrong usage or configuration."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.group()
def main() -> None:
    """mailgate: a mail-gateway proxy and traffic inspector for SMTP, POP3 and IMAP."""


@main.command()
@click.option("-c", "--config", "path", type=click.Path(path_type=Path), required=True)
def run(path: Path) -> None:
    """Run the gateway."""
    from ..config.errors import ConfigurationError, StartError
    from ..config.reading import read

    try:
        configuration = read(path)
    except ConfigurationError as error:
        for problem in error.problems:
            click.echo(f"{path}: {problem}", err=True)
        sys.exit(2)
    from ..app import run as run_app

    try:
        sys.exit(run_app(configuration, path))
    except StartError as error:
        click.echo(f"mailgate: {error}", err=True)
        sys.exit(1)
