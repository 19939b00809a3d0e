"""`mailgate lockouts`: who may not log in now, and letting them in again."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ..core.text import shown
from . import config_option, fail, read_configuration


@click.group("lockouts")
def command() -> None:
    """Who may not log in for now, because of too many failed logins.

    The running gateway is asked through its control socket ([admin] control).

    Exit status: 0 done; 1 the gateway can't be asked, or knows no such lock; 2 wrong usage or configuration.
    """


def _ask(path: Path, name: str, **more: Any) -> Any:
    from ..admin.control import ControlError, ask

    socket = read_configuration(path).admin.control
    if socket is None:
        fail(f"{path}: there is no control socket: [admin] names no control", 2)
    try:
        return ask(socket, name, **more)
    except ControlError as error:
        fail(str(error))


@command.command("list")
@config_option()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_command(path: Path, as_json: bool) -> None:
    """List the locks, the latest first."""
    locks = _ask(path, "lockouts")
    if as_json:
        for lock in locks:
            click.echo(json.dumps(lock))
        return
    if not locks:
        click.echo("Nobody is locked out.")
        return
    rows = [("lock", "since", "for another", "times")]
    now = time.time()
    rows += [
        (
            shown(lock["key"], 100),
            time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(lock["since"])),
            f"{max(0, lock['until'] - now):.0f} s",
            str(lock["level"]),
        )
        for lock in locks
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        click.secho(line, bold=not number)


@command.command("clear")
@click.argument("keys", metavar="LOCK...", nargs=-1)
@config_option()
@click.option("--all", "everything", is_flag=True, help="Every lock.")
def clear_command(keys: Sequence[str], path: Path, everything: bool) -> None:
    """Take locks away, as `list` names them: "address 192.0.2.7", "user alice@example.org".

    An address or a user alone takes every lock away that holds it.
    """
    if not keys and not everything:
        raise click.UsageError("name a lock, or --all")
    cleared = _ask(path, "clear lockouts", keys=list(keys), all=everything)
    for key in cleared:
        click.echo(f"{shown(key, 100)}: cleared")
    if not cleared and everything:
        click.echo("Nobody is locked out.")
    elif not cleared:
        fail(f"no lock {', '.join(shown(key, 100) for key in keys)}")
