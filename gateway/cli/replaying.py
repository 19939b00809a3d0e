"""`mailgate replay`."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command("replay")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--hold/--stream", default=True, help="Whether messages are held for a verdict.")
def command(file: Path, hold: bool) -> None:
    """Run a transcript through the engine of its protocol, and print what the engine does.

    Inputs are taken from the file; what the engine answers is printed behind each.
    """
    from ..core.record import SessionRecord
    from ..core.rules import Rules
    from ..core.steps import Stage
    from ..observe.replay import ReplayError, protocol_of, replay
    from ..protocols.registry import ENGINES

    try:
        text = file.read_text()
        protocol = protocol_of(text)
        held = frozenset({Stage.DATA, Stage.APPEND}) if hold else frozenset()
        rules = Rules(hostname="gate.example", client_tls="starttls", upstream_tls="opportunistic", hold=held)
        engine = ENGINES[protocol](rules, SessionRecord("replay", protocol, "replay", "192.0.2.7", 1))
        for line in replay(text, engine):
            click.echo(line)
    except KeyError:
        click.echo(f"mailgate: {file}: unknown protocol {protocol!r}", err=True)
        sys.exit(2)
    except (ReplayError, UnicodeDecodeError) as error:
        click.echo(f"mailgate: {file}: {error}", err=True)
        sys.exit(2)
