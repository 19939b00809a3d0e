"""`mailgate tls`: which TLS logins spoke; `mailgate tls check`: what TLS looks like from outside."""

from __future__ import annotations

import json
import re
import socket
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..core.text import shown
from . import config_option, fail, read_configuration
from .probing import IMPLICIT, PORTS
from .reports import Asked, asked, audit_store, now, outcome_option, show, user_option

if TYPE_CHECKING:
    from .asking import Target
    from .tls_report import Report


@click.group("tls", invoke_without_command=True)
@user_option
@outcome_option
@asked("30d")
def command(asked: Asked) -> None:
    """Show which TLS logins spoke: versions, cipher suites, groups, and who holds old versions back.

    `mailgate tls check` shows what a server offers its clients.

    Exit status: 0 done; 1 the audit can't be read; 2 wrong usage or configuration.
    """
    from ..reports.tls import tls

    with audit_store(asked.table) as store:
        show(asked, tls(store, asked.selection, now(), asked.limit))


@command.command("check")
@click.argument("server", metavar="LISTENER|HOST:PORT")
@config_option(required=False)
@click.option("--protocol", type=click.Choice(["smtp", "lmtp", "pop3", "imap"]))
@click.option("--starttls", "mode", flag_value="starttls", help="Ask for TLS within the protocol.")
@click.option("--implicit", "mode", flag_value="implicit", help="TLS from the first octet.")
@click.option("--server-name", default="", help="The name to ask for, and to find in the certificate.")
@click.option(
    "--ca",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Trusted authorities; the system's if absent.",
)
@click.option("--json", "as_json", is_flag=True)
def check_command(
    server: str,
    path: Path | None,
    protocol: str | None,
    mode: str | None,
    server_name: str,
    ca: Path | None,
    as_json: bool,
) -> None:
    """Show what clients see of a server's TLS, by shaking hands with it some 30 times.

    STARTTLS, chain, versions, ciphers in the server's order, groups, resumption, and what to say to that.
    The server is a listener of the configuration (-c FILE), or HOST:PORT.

    Exit status: 0 nothing is wrong; 1 something is, or the server can't be reached; 2 wrong usage.
    """
    from .asking import ProbeError
    from .shaking import Shaker
    from .tls_report import Report, examine

    target, name = _target(server, path, protocol, mode, server_name)
    if ca is not None:
        try:
            ssl.create_default_context(cafile=str(ca))
        except ssl.SSLError:
            fail(f"no certificates in PEM form: {ca}", 2)
        except OSError as error:
            fail(f"can't read {ca}: {error.strerror}", 2)
    host, port = target.addresses[0]
    trust = str(ca) if ca is not None else "the system's authorities"
    report = Report(server, f"{host}:{port}", target.protocol, target.tls, name, trust)
    try:
        examine(Shaker(target, name, str(ca) if ca is not None else None), report)
    except ProbeError as error:
        if not report.agreed:
            fail(shown(str(error)), 1)
        report.say("warning", f"not all could be asked: {error}")
    if as_json:
        click.echo(json.dumps(report.as_object(), indent=2))
    else:
        _show(report)
    sys.exit(1 if report.failed else 0)


def _target(
    server: str, path: Path | None, protocol: str | None, mode: str | None, server_name: str
) -> tuple[Target, str]:
    """Find the server, and the name to ask for."""
    from .asking import Target

    numbered = re.fullmatch(r"\[?([^\[\]]+)\]?:([0-9]{1,5})", server)
    hello = socket.getfqdn() or "localhost"
    if path is not None:
        configuration = read_configuration(path)
        for table in configuration.listeners:
            if table.name == server:
                return _listener(configuration, table, server_name, hello)
        if numbered is None:
            from ..core.wording import did_you_mean

            names = {table.name for table in configuration.listeners}
            hint = did_you_mean(server, names) or f"there are: {', '.join(sorted(names))}"
            fail(f'no listener "{server}" in {path}; {hint}', 2)
    if numbered is None:
        fail(f'"{server}" is not HOST:PORT; name a listener of a configuration with -c FILE', 2)
    host, port = numbered.group(1), int(numbered.group(2))
    protocol = protocol or PORTS.get(port)
    if protocol is None:
        fail(f"which protocol is spoken on port {port}? say it with --protocol", 2)
    mode = mode or ("implicit" if port in IMPLICIT else "starttls")
    target = Target([(host, port)], protocol, mode, ssl.create_default_context(), hello=hello)
    return target, server_name or host


def _listener(configuration: Any, table: Any, server_name: str, hello: str) -> tuple[Target, str]:
    """Return where a listener is reached from this machine, and whose certificate it should show."""
    import ipaddress

    from ..relay.tls import names_of
    from .asking import Target

    if table.tls.mode == "none":
        fail(f'the listener "{table.name}" has no TLS: mode = "none"', 2)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(table.address.host, table.address.host)
    names = names_of(table.tls.certificates[0].certificate)
    own = configuration.hostname
    name = server_name or (own if own in names else next(iter(names), host))
    behind_proxy = any(ipaddress.ip_address(host) in network for network in table.proxy_protocol_from)
    target = Target(
        [(host, table.address.port)],
        table.protocol,
        table.tls.mode,
        ssl.create_default_context(),
        proxy_protocol="v1" if behind_proxy else "none",
        hello=hello,
    )
    return target, name.replace("*", "www", 1)


_COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}
_SIGNS = {"ok": "ok", "warning": "warning", "error": "ERROR"}


def _yes_no(answers: dict[str, bool]) -> str:
    return ", ".join(f"{name} {'yes' if answer else 'no'}" for name, answer in answers.items())


def _show(report: Report) -> None:
    """Print it for people: coloured on a terminal, plain in a pipe."""

    def line(label: str, text: str) -> None:
        click.echo(f"  {label:<13}{text}")

    mode = "implicit TLS" if report.mode == "implicit" else "STARTTLS"
    click.secho(f"{report.target} ({report.protocol}, {mode}, {report.address})", bold=True)
    if report.agreed:
        line("agreed", " ".join(value for value in report.agreed.values() if value))
        line("versions", _yes_no(report.versions))
        for version, names in report.ciphers.items():
            line(version, names[0] if names else "")
            for name in names[1:]:
                line("", name)
        if report.server_order is not None:
            line("order", "the server's" if report.server_order else "the client's")
        line("groups", ", ".join(report.groups))
        line("resumption", _yes_no(report.resumption))
        line("client cert", report.client_certificate)
    for number, one in enumerate(report.chain):
        click.echo()
        click.secho(f"  certificate {number}  {one.subject}", bold=True)
        line("issuer", one.issuer)
        if one.names:
            more = f" and {len(one.names) - 8} more" if len(one.names) > 8 else ""
            line("names", ", ".join(one.names[:8]) + more)
        line("valid", f"{one.begin} to {one.end}, {one.days} days left")
        line("key", f"{one.key}, signed with {one.signature or 'its own algorithm'}")
    click.echo()
    for finding in sorted(report.findings, key=lambda one: ("error", "warning", "ok").index(one.level)):
        sign = click.style(f"{_SIGNS[finding.level]:<8}", fg=_COLOURS[finding.level])
        click.echo(f"  {sign} {shown(finding.text, 500)}")
