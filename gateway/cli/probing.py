"""`mailgate probe`: what a mail server offers in each state, and what mailgate would make of it."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ..core.rules import Rules
from . import config_option, fail, say_problem
from .asking import Answer, ProbeError, Target, ask

PORTS = {25: "smtp", 587: "smtp", 465: "smtp", 24: "lmtp", 110: "pop3", 995: "pop3", 143: "imap", 993: "imap"}
IMPLICIT = {465, 995, 993}


@click.command("probe")
@click.argument("upstream")
@config_option(required=False)
@click.option("--listener", help="Whose rules to apply (with -c); the first one of the upstream if absent.")
@click.option("--protocol", type=click.Choice(["smtp", "lmtp", "pop3", "imap"]))
@click.option("--tls", type=click.Choice(["none", "starttls", "implicit"]))
@click.option(
    "--ca",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Trusted authorities; the system's if absent.",
)
@click.option("--insecure", is_flag=True, help="Do not verify the certificate.")
@click.option(
    "--user", help="Log in too; the password comes from --password-file or MAILGATE_PROBE_PASSWORD."
)
@click.option("--password-file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--json", "as_json", is_flag=True)
def command(
    upstream: str,
    path: Path | None,
    listener: str | None,
    protocol: str | None,
    tls: str | None,
    ca: Path | None,
    insecure: bool,
    user: str | None,
    password_file: Path | None,
    as_json: bool,
) -> None:
    """Show what UPSTREAM (a name of the configuration, or HOST:PORT) offers in each state.

    And for each capability whether mailgate passes, strikes, changes or adds it, and why.
    Options overrule the configuration.  Exit status 0 if the server could be asked, 1 if not.
    """
    target, rules = _target(upstream, path, listener, protocol, tls, ca, insecure)
    password = _password(password_file) if user else ""
    try:
        answer = ask(target, user or "", password)
    except ProbeError as error:
        fail(str(error))
    for stage in answer.stages:
        stage.rows = explain(target.protocol, stage.offered, rules, stage.secure)
    if as_json:
        click.echo(json.dumps(_as_json(upstream, target, answer), indent=2))
    else:
        _show(upstream, target, answer)


def explain(protocol: str, offered: Sequence[str], rules: Rules, secure: bool) -> list[tuple[str, str, str]]:
    """Say what mailgate would make of an offer: (capability, "pass|strike|own|change", reason)."""
    import importlib

    name = "smtp" if protocol == "lmtp" else protocol
    module: Any = importlib.import_module(f"gateway.protocols.{name}.capabilities")
    rows: list[tuple[str, str, str]] = module.explain(offered, rules, secure)
    return rows


def _password(file: Path | None) -> str:
    if file is None:
        password = os.environ.get("MAILGATE_PROBE_PASSWORD", "")
        if not password:
            fail("a login needs --password-file or MAILGATE_PROBE_PASSWORD", 2)
        return password
    try:
        return file.read_text().strip("\r\n")
    except OSError as error:
        fail(f"can't read {file}: {error.strerror}", 2)
    except UnicodeDecodeError:
        fail(f"{file} is not UTF-8", 2)


def _target(
    upstream: str,
    path: Path | None,
    listener: str | None,
    protocol: str | None,
    tls: str | None,
    ca: Path | None,
    insecure: bool,
) -> tuple[Target, Rules]:
    """Find the server to ask, and by whose rules to judge it."""
    numbered = re.fullmatch(r"\[?([^\[\]]+)\]?:([0-9]{1,5})", upstream)
    if path is not None:
        configuration = _configuration(path)
        names = {table.name: table for table in configuration.upstreams}
        if upstream in names:
            return _configured(configuration, names[upstream], listener, protocol, tls, ca, insecure)
        if numbered is None:
            from ..core.wording import did_you_mean

            hint = did_you_mean(upstream, names) or f"there are: {', '.join(names)}"
            fail(f'no upstream "{upstream}" in {path}; {hint}', 2)
    if numbered is None:
        fail(f'"{upstream}" is not HOST:PORT; name an upstream of a configuration with -c FILE', 2)
    host, port = numbered.group(1), int(numbered.group(2))
    protocol = protocol or PORTS.get(port)
    if protocol is None:
        fail(f"which protocol is spoken on port {port}? say it with --protocol", 2)
    name = socket.getfqdn() or "localhost"
    target = Target(
        [(host, port)],
        protocol,
        tls or ("implicit" if port in IMPLICIT else "starttls"),
        _context(ca, verify=not insecure),
        hello=name,
    )
    return target, Rules(hostname=name, client_tls="starttls")


def _configuration(path: Path) -> Any:
    from ..config.errors import ConfigurationError
    from ..config.reading import read

    try:
        return read(path)
    except ConfigurationError as error:
        for problem in error.problems:
            say_problem(path, problem)
        sys.exit(2)


def _configured(
    configuration: Any,
    table: Any,
    listener: str | None,
    protocol: str | None,
    tls: str | None,
    ca: Path | None,
    insecure: bool,
) -> tuple[Target, Rules]:
    """Return an upstream of a configuration, and the rules of a listener before it."""
    from ..config.rules import rules_for
    from ..core.steps import Stage

    before = [
        one
        for one in configuration.listeners
        if one.upstream == table.name and listener in (None, one.name) and protocol in (None, one.protocol)
    ]
    if not before:
        fail(f'no listener{f" {listener!r}" if listener else ""} has the upstream "{table.name}"', 2)
    chosen = before[0]
    held = frozenset(
        Stage(stage)
        for plugin in configuration.plugins
        if not plugin.listeners or chosen.name in plugin.listeners
        for stage in plugin.stages
    )
    pair = (table.certificate, table.key) if table.certificate and table.key else None
    target = Target(
        [(address.host, address.port) for address in table.addresses],
        chosen.protocol,
        tls or {"opportunistic": "starttls", None: "none"}.get(table.tls, table.tls),
        _context(ca or table.ca, verify=table.verify and not insecure, pair=pair),
        name=table.server_name,
        proxy_protocol=table.proxy_protocol,
        hello=configuration.hostname,
    )
    return target, rules_for(configuration, chosen, table, held)


def _context(ca: Path | None, *, verify: bool, pair: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(ca) if ca else None)
    except ssl.SSLError:
        fail(f"no certificates in PEM form: {ca}", 2)
    except OSError as error:
        fail(f"can't read {ca}: {error.strerror}", 2)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if pair is not None:
        context.load_cert_chain(*pair)  # `read` has tried both
    return context


def _as_json(upstream: str, target: Target, answer: Answer) -> dict[str, Any]:
    keys = ("capability", "action", "reason")
    return {
        "upstream": upstream,
        "protocol": target.protocol,
        "address": answer.address,
        "greeting": answer.greeting,
        "tls": answer.tls,
        "stages": [
            {
                "state": stage.name,
                "offered": stage.offered,
                "mailgate": [dict(zip(keys, row, strict=True)) for row in stage.rows],
            }
            for stage in answer.stages
        ],
        "note": answer.note,
    }


_ACTIONS = {
    "pass": "pass: clients see it",
    "strike": "strike: they don't",
    "change": "change: they see another",
    "own": "own: added by mailgate",
}


def _show(upstream: str, target: Target, answer: Answer) -> None:
    """Print tables: coloured on a terminal, plain in a pipe."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ..core.text import shown

    # A pipe has no width: lines are for grep, then, and not folded.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 500)
    console.print(Text(f"{upstream} ({target.protocol})", style="bold"))
    console.print(Text(f"  greeting  {shown(answer.greeting)}"))
    if answer.tls:
        console.print(Text(f"  TLS       {answer.tls}"))
    colours = {"pass": "green", "strike": "red", "own": "cyan", "change": "yellow"}
    told = {action for stage in answer.stages for _, action, _ in stage.rows}
    console.print(Text("  " + "; ".join(_ACTIONS[one] for one in _ACTIONS if one in told), style="dim"))
    for stage in answer.stages:
        table = Table(title=stage.name, title_justify="left", box=None, padding=(0, 2, 0, 0))
        for column in ("", "capability", "why"):
            table.add_column(column, overflow="fold")
        for name, action, reason in stage.rows:
            table.add_row(Text(action, style=colours[action]), Text(shown(name, 100)), Text(shown(reason)))
        console.print()
        console.print(table if stage.rows else Text(f"{stage.name}: nothing is offered"))
    if answer.note:
        console.print(Text(f"\n{shown(answer.note)}", style="yellow"))
