"""`mailgate init`."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

import click


@click.command("init")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("mailgate.toml"), show_default=True
)
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
def command(output: Path, force: bool) -> None:
    """Write a commented example that passes `mailgate check`."""
    if output.exists() and not force:
        click.echo(f"mailgate: {output} is there already; --force overwrites it", err=True)
        sys.exit(1)
    try:
        output.write_text((files("gateway.config") / "example.toml").read_text())
    except OSError as error:
        click.echo(f"mailgate: can't write {output}: {error.strerror}", err=True)
        sys.exit(1)
    click.echo(
        f"Wrote {output}.  Next: edit it, then `mailgate check -c {output}` and `mailgate run -c {output}`."
    )
