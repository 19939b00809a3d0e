"""`mailgate quarantine`: look at the messages that plugins have kept, let them go, delete them."""

from __future__ import annotations

import contextlib
import datetime
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..core.text import shown
from . import config_option, fail, read_configuration

if TYPE_CHECKING:
    from ..config.model import Configuration
    from ..inspection.quarantine import Entry, Quarantine


@click.group("quarantine")
def command() -> None:
    """Look at the messages that plugins have quarantined; release or delete them.

    Exit status: 0 done; 1 failed, or no such message; 2 wrong usage or configuration.
    """


def _opened(path: Path) -> tuple[Configuration, Quarantine]:
    from ..inspection.quarantine import Quarantine

    configuration = read_configuration(path)
    try:
        place = configuration.quarantine_place()
    except ValueError as error:
        fail(f"{path}: quarantine.{error}")
    if place is None:
        fail(f"{path}: there is no quarantine: [quarantine] names no directory and no url", 2)
    return configuration, Quarantine(place, configuration.quarantine.max_size)


def _found(quarantine: Quarantine, ident: str) -> Entry:
    try:
        return quarantine.entry(ident)
    except KeyError:
        fail(f"no message {shown(ident, 40)} in {quarantine.place}")


@command.command("list")
@config_option()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_command(path: Path, as_json: bool) -> None:
    """List the messages, oldest first."""
    _, quarantine = _opened(path)
    try:
        entries = list(quarantine.entries())
    except OSError as error:
        fail(f"{quarantine.place}: {error.strerror or error}")
    if as_json:
        for entry in entries:
            click.echo(json.dumps(asdict(entry)))
        return
    if not entries:
        click.echo("The quarantine is empty.")
        return
    from ..observe.terminal import octets

    rows = [("id", "time", "stage", "from", "to", "size", "subject", "reason")]
    rows += [
        (
            one.id,
            _time(one.at),
            one.stage,
            shown(one.reverse_path or one.user, 30),
            shown(", ".join(one.recipients) or one.mailbox, 30),
            octets(one.size),
            shown(one.subject, 40),
            shown(one.reason, 60),
        )
        for one in entries
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        click.secho(line, bold=not number)


@command.command("show")
@click.argument("ident", metavar="ID")
@config_option()
@click.option("--json", "as_json", is_flag=True, help="What is known, as JSON.")
@click.option("--raw", is_flag=True, help="The message itself, octet by octet.")
def show_command(ident: str, path: Path, as_json: bool, raw: bool) -> None:
    """Show what is known of one message."""
    _, quarantine = _opened(path)
    entry = _found(quarantine, ident)
    if raw:
        try:
            sys.stdout.buffer.write(quarantine.content(ident))
        except OSError as error:
            fail(f"{quarantine.place.where(ident)}: {error.strerror or error}")
        return
    if as_json:
        click.echo(json.dumps(asdict(entry)))
        return
    told = asdict(entry) | {"at": _time(entry.at), "recipients": ", ".join(entry.recipients)}
    del told["scope"]
    for name, value in told.items():
        if value != "":
            click.echo(f"{name.replace('_', ' '):16}{shown(str(value), 500)}")
    click.echo(f"{'kept in':16}{quarantine.place.where(ident)}")


@command.command("release")
@click.argument("idents", metavar="ID...", nargs=-1, required=True)
@config_option()
@click.option("--to", multiple=True, metavar="ADDRESS", help="Send it there; SMTP and LMTP only.")
@click.option("--keep", is_flag=True, help="Keep it in the quarantine all the same.")
@click.option("--user", default="", help="Whose mailbox it is appended to (IMAP APPEND).")
@click.option(
    "--password-file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Holds that user's password; it is asked for if absent.",
)
def release_command(
    idents: Sequence[str],
    path: Path,
    to: Sequence[str],
    keep: bool,
    user: str,
    password_file: Path | None,
) -> None:
    """Send messages on their way, past the plugins.

    What was submitted goes to its upstream with its envelope; what was to be appended is
    appended to its mailbox as --user; what was on its way to a client passes when it is
    fetched next.  A message leaves the quarantine when the server has it.
    """
    from .releasing import ReleaseError, release

    configuration, quarantine = _opened(path)
    failed = False
    for ident in idents:
        entry = _found(quarantine, ident)
        password = ""
        if entry.stage == "append" and user:
            password = (
                password_file.read_text().rstrip("\n")
                if password_file is not None
                else click.prompt(f"Password of {user}", hide_input=True)
            )
        try:
            told = release(configuration, quarantine, entry, tuple(to), user, password, keep)
        except ReleaseError as error:
            click.echo(f"{ident}: not released: {error}", err=True)
            failed = True
        else:
            click.echo(f"{ident}: {told}")
    sys.exit(1 if failed else 0)


@command.command("delete")
@click.argument("idents", metavar="ID...", nargs=-1, required=True)
@config_option()
def delete_command(idents: Sequence[str], path: Path) -> None:
    """Delete messages for good."""
    _, quarantine = _opened(path)
    for ident in idents:
        _found(quarantine, ident)
    for ident in idents:
        with contextlib.suppress(KeyError, FileNotFoundError):  # released or purged meanwhile
            quarantine.delete(ident)
        click.echo(f"{ident}: deleted")


@command.command("purge")
@config_option()
@click.option("--older-than", default="", help='"7d", "12h"; the configured retention if absent.')
def purge_command(path: Path, older_than: str) -> None:
    """Delete what is older than the retention."""
    from ..config.kinds import duration

    configuration, quarantine = _opened(path)
    seconds = configuration.quarantine.retention
    if older_than:
        try:
            seconds = duration(older_than)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--older-than") from None
    try:
        click.echo(f"{quarantine.purge(seconds)} deleted")
    except OSError as error:
        fail(f"{quarantine.place}: {error.strerror or error}")


def _time(at: float) -> str:
    return datetime.datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S")
