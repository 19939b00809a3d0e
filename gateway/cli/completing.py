"""`mailgate completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of a shell.

    For bash: mailgate completion bash > ~/.local/share/bash-completion/completions/mailgate
    """
    from . import main

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(main, {}, "mailgate", "_MAILGATE_COMPLETE").source())
