"""`mailgate replay`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import click


@click.command("replay")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--protocol",
    type=click.Choice(["smtp", "lmtp", "pop3", "imap"]),
    help="Where the file's head does not say it, or to overrule it.",
)
@click.option("--hold/--stream", default=True, help="Whether messages are held for a verdict.")
def command(file: Path, protocol: str | None, hold: bool) -> None:
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
        protocol = protocol or protocol_of(text)
        if protocol not in ENGINES:
            raise ReplayError(f"unknown protocol {protocol!r}")
        held = frozenset({Stage.DATA, Stage.APPEND}) if hold else frozenset()
        rules = Rules(hostname="gate.example", client_tls="starttls", upstream_tls="opportunistic", hold=held)
        engine = ENGINES[protocol](rules, SessionRecord("replay", protocol, "replay", "192.0.2.7", 1))
        for line in replay(text, engine):
            click.echo(line)
    except OSError as error:
        _end(f"can't read {file}: {error.strerror}")
    except UnicodeDecodeError:
        _end(f"{file}: no transcript: not UTF-8")
    except ReplayError as error:
        _end(f"{file}: {error}")


def _end(text: str) -> NoReturn:
    click.echo(f"mailgate: {text}", err=True)
    sys.exit(2)
