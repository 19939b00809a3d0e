"""`mailgate probe`: what a mail server offers in each state, and what mailgate would make of it."""

from __future__ import annotations

import base64
import json
import os
import socket
import ssl
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from . import config_option

PORTS = {25: "smtp", 587: "smtp", 465: "smtp", 24: "lmtp", 110: "pop3", 995: "pop3", 143: "imap", 993: "imap"}
IMPLICIT = {465, 995, 993}


class ProbeError(Exception):
    """The probe could not go on; the text says why."""


@dataclass
class Stage:
    """What was offered in one state."""

    name: str  # "before TLS", "after TLS", "after login"
    secure: bool
    offered: list[str]
    rows: list[tuple[str, str, str]] = field(default_factory=list)


class Connection:
    """A plain line-based connection, with TLS from the standard library."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext, name: str, implicit: bool) -> None:
        self._context, self._name = context, name
        try:
            self.sock: socket.socket = socket.create_connection((host, port), timeout=10)
        except OSError as error:
            raise ProbeError(f"can't connect to {host}:{port}: {error.strerror or error}") from None
        self.secure = False
        self.tls = ""
        if implicit:
            self.start_tls()
        self.file = self.sock.makefile("rb")

    def start_tls(self) -> None:
        try:
            secured = self._context.wrap_socket(self.sock, server_hostname=self._name)
        except ssl.SSLCertVerificationError as error:
            raise ProbeError(f"the certificate is not to be trusted: {error.verify_message}") from None
        except (ssl.SSLError, OSError) as error:
            raise ProbeError(f"the TLS handshake failed: {getattr(error, 'reason', None) or error}") from None
        self.sock, self.secure = secured, True
        cipher = secured.cipher()
        self.tls = f"{secured.version()} {cipher[0] if cipher else ''}"
        self.file = secured.makefile("rb")

    def send(self, line: str) -> None:
        self.sock.sendall(line.encode() + b"\r\n")

    def line(self) -> str:
        try:
            data = self.file.readline(65536)
        except OSError as error:
            raise ProbeError(f"the server does not answer: {error}") from None
        if not data:
            raise ProbeError("the server closed the connection")
        return data.decode("utf-8", "replace").rstrip("\r\n")


class Smtp:
    """How SMTP and LMTP are asked."""

    def __init__(self, hello: str = "EHLO") -> None:
        self.hello = hello

    def reply(self, connection: Connection) -> list[str]:
        lines = [connection.line()]
        while lines[-1][3:4] == "-":
            lines.append(connection.line())
        return lines

    def greeting(self, connection: Connection) -> str:
        return self.reply(connection)[0]

    def offered(self, connection: Connection) -> list[str]:
        connection.send(f"{self.hello} {socket.getfqdn()}")
        lines = self.reply(connection)
        if not lines[0].startswith("250"):
            raise ProbeError(f"{self.hello} was refused: {lines[0]}")
        return [line[4:] for line in lines[1:] if line[4:].strip()]

    def starttls(self, connection: Connection, offered: list[str]) -> bool:
        if not any(line.upper() == "STARTTLS" for line in offered):
            return False
        connection.send("STARTTLS")
        return self.reply(connection)[0].startswith("220")

    def login(self, connection: Connection, user: str, password: str) -> str:
        secret = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
        connection.send(f"AUTH PLAIN {secret}")
        reply = self.reply(connection)[0]
        return "" if reply.startswith("235") else reply


class Pop3:
    """How POP3 is asked."""

    def greeting(self, connection: Connection) -> str:
        return connection.line()

    def offered(self, connection: Connection) -> list[str]:
        connection.send("CAPA")
        if not connection.line().startswith("+OK"):
            return []
        lines: list[str] = []
        while (line := connection.line()) != ".":
            lines.append(line)
        return lines

    def starttls(self, connection: Connection, offered: list[str]) -> bool:
        connection.send("STLS")
        return connection.line().startswith("+OK")

    def login(self, connection: Connection, user: str, password: str) -> str:
        for command in (f"USER {user}", f"PASS {password}"):
            connection.send(command)
            reply = connection.line()
            if not reply.startswith("+OK"):
                return reply
        return ""


class Imap:
    """How IMAP is asked."""

    def greeting(self, connection: Connection) -> str:
        return connection.line()

    def tagged(self, connection: Connection, command: str) -> tuple[str, list[str]]:
        connection.send(f"probe {command}")
        lines: list[str] = []
        while not (line := connection.line()).startswith("probe "):
            lines.append(line)
        return line[6:], lines

    def offered(self, connection: Connection) -> list[str]:
        _, lines = self.tagged(connection, "CAPABILITY")
        found = [line for line in lines if line.upper().startswith("* CAPABILITY ")]
        return found[-1].split()[2:] if found else []

    def starttls(self, connection: Connection, offered: list[str]) -> bool:
        if "STARTTLS" not in (name.upper() for name in offered):
            return False
        return self.tagged(connection, "STARTTLS")[0].upper().startswith("OK")

    def login(self, connection: Connection, user: str, password: str) -> str:
        def quoted(text: str) -> str:
            return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

        status, _ = self.tagged(connection, f"LOGIN {quoted(user)} {quoted(password)}")
        return "" if status.upper().startswith("OK") else status


ASKS: dict[str, Any] = {"smtp": Smtp(), "lmtp": Smtp("LHLO"), "pop3": Pop3(), "imap": Imap()}


def explain(protocol: str, offered: list[str], rules: Any, secure: bool) -> list[tuple[str, str, str]]:
    """Say what mailgate would make of an offer."""
    import importlib

    name = "smtp" if protocol == "lmtp" else protocol
    module = importlib.import_module(f"gateway.protocols.{name}.capabilities")
    rows: list[tuple[str, str, str]] = module.explain(offered, rules, secure)
    return rows


@click.command("probe")
@click.argument("upstream")
@config_option(required=False)
@click.option("--listener", help="Whose rules to apply (with -c); the first one of the upstream if absent.")
@click.option("--protocol", type=click.Choice(["smtp", "lmtp", "pop3", "imap"]))
@click.option("--tls", type=click.Choice(["none", "starttls", "implicit"]))
@click.option("--ca", type=click.Path(path_type=Path, exists=True, dir_okay=False))
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
    """
    from ..core.rules import Rules

    rules = Rules(hostname=socket.getfqdn() or "localhost", client_tls="starttls")
    host, port, name = "", 0, ""
    if path is not None:
        found = _of_configuration(path, upstream, listener)
        host, port, name, protocol, configured, ca, rules = found
        tls = tls or configured
    else:
        head, colon, tail = upstream.rpartition(":")
        if not colon or not tail.isdigit():
            _end(f'"{upstream}" is not HOST:PORT; name an upstream of a configuration with -c FILE', 2)
        host, port = head.strip("[]"), int(tail)
        protocol = protocol or PORTS.get(port)
        if protocol is None:
            _end(f"which protocol is spoken on port {port}? say it with --protocol", 2)
    assert protocol is not None
    tls = tls or ("implicit" if port in IMPLICIT else "starttls")
    context = ssl.create_default_context(cafile=str(ca) if ca else None)
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    password = _password(password_file) if user else ""
    try:
        result = probe(host, port, protocol, tls, context, name or host, rules, user or "", password)
    except ProbeError as error:
        _end(str(error), 1)
    _show(upstream, protocol, result, as_json)


def _end(text: str, status: int) -> None:
    click.echo(f"mailgate: {text}", err=True)
    sys.exit(status)


def _password(file: Path | None) -> str:
    if file is not None:
        return file.read_text().strip("\r\n")
    password = os.environ.get("MAILGATE_PROBE_PASSWORD", "")
    if not password:
        _end("a login needs --password-file or MAILGATE_PROBE_PASSWORD", 2)
    return password


def _of_configuration(path: Path, name: str, listener: str | None) -> tuple[Any, ...]:
    """Find an upstream of a configuration and the rules of a listener before it."""
    from ..config.errors import ConfigurationError
    from ..config.reading import read
    from ..config.rules import rules_for
    from ..core.steps import Stage

    try:
        configuration = read(path)
    except ConfigurationError as error:
        for problem in error.problems:
            click.echo(f"{path}: {problem}", err=True)
        sys.exit(2)
    tables = {table.name: table for table in configuration.upstreams}
    if name not in tables:
        _end(f'no upstream "{name}" in {path}; there are: {", ".join(tables)}', 2)
    table = tables[name]
    before = [one for one in configuration.listeners if one.upstream == name and listener in (None, one.name)]
    if not before:
        _end(f'no listener{f" {listener!r}" if listener else ""} has the upstream "{name}"', 2)
    chosen = before[0]
    held = frozenset(
        Stage(stage)
        for plugin in configuration.plugins
        if not plugin.listeners or chosen.name in plugin.listeners
        for stage in plugin.stages
    )
    address = table.addresses[0]
    tls = {"opportunistic": "starttls", None: "none"}.get(table.tls, table.tls)
    rules = rules_for(configuration, chosen, table, held)
    return address.host, address.port, table.server_name, chosen.protocol, tls, table.ca, rules


def probe(
    host: str,
    port: int,
    protocol: str,
    tls: str,
    context: ssl.SSLContext,
    name: str,
    rules: Any,
    user: str,
    password: str,
) -> dict[str, Any]:
    """Ask a server in each state.  Raises ProbeError."""
    ask = ASKS[protocol]
    connection = Connection(host, port, context, name, tls == "implicit")
    greeting = ask.greeting(connection)
    stages = [
        Stage("after TLS" if connection.secure else "before TLS", connection.secure, ask.offered(connection))
    ]
    note = ""
    if tls == "starttls":
        if ask.starttls(connection, stages[0].offered):
            connection.start_tls()
            stages.append(Stage("after TLS", True, ask.offered(connection)))
        else:
            note = "the server offers no STARTTLS"
    if user:
        problem = ask.login(connection, user, password)
        if problem:
            note = f"the login was refused: {problem}"
        else:
            stages.append(Stage("after login", connection.secure, ask.offered(connection)))
    for stage in stages:
        stage.rows = explain(protocol, stage.offered, rules, stage.secure)
    connection.sock.close()
    return {"greeting": greeting, "tls": connection.tls, "stages": stages, "note": note}


def _show(upstream: str, protocol: str, result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        stages = [
            {
                "state": stage.name,
                "offered": stage.offered,
                "mailgate": [
                    dict(zip(("capability", "action", "reason"), row, strict=True)) for row in stage.rows
                ],
            }
            for stage in result["stages"]
        ]
        click.echo(
            json.dumps({**result, "upstream": upstream, "protocol": protocol, "stages": stages}, indent=2)
        )
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ..core.text import shown

    console = Console(highlight=False)
    console.print(Text(f"{upstream} ({protocol})", style="bold"))
    console.print(Text(f"  greeting  {shown(result['greeting'])}"))
    if result["tls"]:
        console.print(Text(f"  TLS       {result['tls']}"))
    colours = {"pass": "green", "strike": "red", "own": "cyan", "change": "yellow"}
    for stage in result["stages"]:
        table = Table(title=stage.name, title_justify="left", box=None, padding=(0, 2, 0, 0))
        for column in ("", "capability", "why"):
            table.add_column(column, overflow="fold")
        for name, action, reason in stage.rows:
            table.add_row(Text(action, style=colours[action]), Text(shown(name, 100)), Text(shown(reason)))
        console.print()
        console.print(table)
    if result["note"]:
        console.print(Text(f"\n{shown(result['note'])}", style="yellow"))
