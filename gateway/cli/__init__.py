"""The command: one file for each group of commands, imported when it is called.

Exit status: 0 done; 1 failed; 2 wrong usage or configuration.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from .. import __version__

if TYPE_CHECKING:
    from ..config.model import Configuration

Wrapped = TypeVar("Wrapped", bound=Callable[..., Any])

#: name -> (module, or module:command, and one line of help).  Modules are imported only when their
#: command runs, so that `mailgate version` does not wait for what `mailgate run` needs.
COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("running", "Run the gateway."),
    "check": ("checking", "Check a configuration; tell every error at once."),
    "init": ("beginning", "Write a commented configuration to begin with."),
    "demo": ("demonstrating", "See mailgate at work before an embedded mail server."),
    "probe": ("probing", "Show what a mail server offers, and what mailgate would make of it."),
    "inspect": ("inspecting", "Show what is in a message, and what the plugins make of it."),
    "plugin": ("plugins", "List plugins, show one, begin one of your own."),
    "lockouts": ("lockouts", "List and clear who is locked out after failed logins."),
    "logins": ("reports:logins", "Show logins, one by one; --follow."),
    "plaintext": ("reports:plaintext", "Who still sends a password unprotected."),
    "readiness": ("reports:readiness", "What would break if a policy were enforced today."),
    "user": ("reports:user", "All that is known of one user's logins."),
    "tls": ("tls", "Which TLS logins speak; `tls check`: what a server shows its clients."),
    "quarantine": ("quarantining", "List, show, release and delete quarantined messages."),
    "audit": ("auditing", "Verify and prune the audit of logins; resolve its pseudonyms."),
    "replay": ("replaying", "Run a recorded session through the engine, and show the steps."),
    "version": ("version", "Show the versions of mailgate and of what it stands on."),
    "completion": ("completing", "Print a shell's completion script."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(
            importlib.import_module(f"{__name__}.{module}"), attribute or "command"
        )
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        import difflib

        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            hint = f' Did you mean "{near[0]}"?' if near else ""
            ctx.fail(f'No such command "{args[0]}".{hint}')
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mailgate", message="%(prog)s %(version)s")
def main() -> None:
    """mailgate: a mail-gateway proxy and traffic inspector for SMTP, POP3 and IMAP.

    Exit status: 0 done; 1 failed; 2 wrong usage or configuration.
    """


def config_option(required: bool = True) -> Callable[[Wrapped], Wrapped]:
    """The option that names the configuration file."""
    return click.option(
        "-c",
        "--config",
        "path",
        type=click.Path(path_type=Path, dir_okay=False, readable=False),  # `read` says who can't
        required=required,
        help="The configuration file.",
    )


def read_configuration(path: Path) -> Configuration:
    """Return the configuration of a file; of a wrong one, say what is wrong and exit with 2."""
    from ..config.reading import examine

    configuration, problems = examine(path)
    if configuration is None:
        for problem in problems:
            say_problem(path, problem)
        sys.exit(2)
    return configuration


def fail(text: str, status: int = 1) -> NoReturn:
    """Say why there is nothing more to do, and exit."""
    click.echo(f"mailgate: {text}", err=True)
    sys.exit(status)


def say_problem(path: Path, problem: Any) -> None:
    """Print one problem of a configuration, as compilers do: file, line, what, hint."""
    line = f":{problem.line}" if problem.line else ""
    kind = click.style("warning", fg="yellow") if problem.warning else click.style("error", fg="red")
    where = f"{problem.path}: " if problem.path else ""
    click.echo(f"{path}{line}: {kind}: {where}{problem.message}", err=True)
    if problem.suggestion:
        click.echo(f"    {problem.suggestion}", err=True)
