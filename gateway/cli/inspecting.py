"""`mailgate inspect`: what is in a message, what each plugin says, and what comes of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import config_option, fail, say_problem

if TYPE_CHECKING:
    from ..config.model import Configuration, Listener
    from ..core.record import SessionRecord
    from ..core.steps import BodyStart
    from ..inspection.loader import LoadedPlugin
    from ..inspection.pipeline import Judgement

#: Which protocol's stage each is, for a message that is given without a configuration.
PROTOCOLS = {"data": "smtp", "append": "imap", "retr": "pop3", "fetch": "imap"}
#: Characters of a difference that are shown; it is for one message, and asked for.
DIFFERENCE = 64 * 1024


@dataclass
class Inspected:
    """Everything there is to tell of one message.

    was_lf: the file had bare LFs, which no protocol sends; they are CRLF here.
    unasked: the plugins that were not asked, and why.
    """

    name: str
    buffer: bytes
    was_lf: bool
    plugins: Sequence[LoadedPlugin] = ()
    judgement: Judgement | None = None
    unasked: dict[str, str] = field(default_factory=dict)
    difference: tuple[str, ...] = ()


@click.command("inspect")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@config_option(required=False)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.option(
    "--stage",
    type=click.Choice(list(PROTOCOLS)),
    default="data",
    show_default=True,
    help="Where in its protocol the message passes.",
)
@click.option("--listener", help="Which listener it comes to; the first that has the stage if absent.")
@click.option("--user", default="", help="Who has logged in.")
@click.option("--client", default="127.0.0.1", show_default=True, help="The client's address.")
@click.option("--mail-from", default="", help="The reverse-path of the envelope.")
@click.option("--rcpt-to", multiple=True, help="A recipient of the envelope; may be given again.")
@click.option("--mailbox", default="INBOX", show_default=True, help="The mailbox (append, fetch).")
def command(
    file: Path,
    path: Path | None,
    as_json: bool,
    stage: str,
    listener: str | None,
    user: str,
    client: str,
    mail_from: str,
    rcpt_to: Sequence[str],
    mailbox: str,
) -> None:
    """Show what is in FILE ("-" is the standard input): its parts, defects and signatures.

    And with -c, what each plugin of the configuration says about it, how long that takes, and
    what of the message they change.  The plugins are started and asked as the gateway asks
    them; nothing is sent anywhere but by them.

    Exit status 0 if the message could be inspected, 1 if not, 2 for a wrong configuration.
    """
    from ..core.record import SessionRecord
    from ..core.steps import CLIENT, UPSTREAM, BodyStart, Envelope, Stage
    from .reporting import as_object, show

    found = _read(file)
    if path is not None:
        configuration = _configuration(path)
        table = _listener(configuration, stage, listener)
        record = SessionRecord(
            "inspect", table.protocol if table else PROTOCOLS[stage], table.name if table else "", client, 0
        )
        record.user = user
        smtp = stage == "data"
        start = BodyStart(
            CLIENT if stage in ("data", "append") else UPSTREAM,
            Stage(stage),
            held=True,
            size=len(found.buffer),
            envelope=Envelope(mail_from, list(rcpt_to)) if smtp else None,
            mailbox="" if smtp else mailbox,
        )
        _ask(found, configuration, start, record)
    if as_json:
        click.echo(json.dumps(as_object(found), indent=2))
    else:
        show(found)


def _read(file: Path) -> Inspected:
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        fail(f"can't read {file}: {error.strerror}")
    was_lf = b"\n" in data and b"\r\n" not in data
    name = "standard input" if str(file) == "-" else str(file)
    return Inspected(name, data.replace(b"\n", b"\r\n") if was_lf else data, was_lf)


def _configuration(path: Path) -> Configuration:
    from ..config.errors import ConfigurationError
    from ..config.reading import read

    try:
        return read(path)
    except ConfigurationError as error:
        for problem in error.problems:
            say_problem(path, problem)
        sys.exit(2)


def _listener(configuration: Configuration, stage: str, name: str | None) -> Listener | None:
    """Return the listener that the message comes to; None where none has the stage."""
    from ..core.steps import Stage
    from ..inspection.pipeline import STAGES

    if name is not None:
        for table in configuration.listeners:
            if table.name == name:
                return table
        known = ", ".join(table.name for table in configuration.listeners)
        fail(f'no listener "{name}"; there are: {known}', 2)
    having = (t for t in configuration.listeners if Stage(stage) in STAGES[t.protocol])
    return next(having, None)


def _ask(found: Inspected, configuration: Configuration, start: BodyStart, record: SessionRecord) -> None:
    """Have the plugins judge the message, as the gateway does, on a reactor of our own."""
    from ..inspection.difference import difference
    from ..inspection.loader import PluginConfigErrors, load_plugins
    from ..inspection.pipeline import Pipeline, why_unasked
    from ..relay.reactor import install

    install()
    from twisted.internet import defer
    from twisted.internet import reactor as installed

    from ..app import TwistedRunner

    reactor: Any = installed
    try:
        found.plugins = load_plugins(configuration.plugin_specs())
    except PluginConfigErrors as error:
        fail(str(error), 2)
    for loaded in found.plugins:
        why = why_unasked(loaded, start, record)
        if why:
            found.unasked[loaded.name] = why
    pipeline = Pipeline(
        found.plugins,
        TwistedRunner(reactor),
        hostname=configuration.hostname,
        limits=configuration.parse_limits(),
        defects=configuration.inspection.defects,
    )
    problems: list[Any] = []

    async def judge() -> None:
        pipeline.start()
        try:
            judgement = found.judgement = await pipeline.judge(found.buffer, start, record)
            if judgement.chunks is not None:
                found.difference = difference(found.buffer, b"".join(judgement.chunks), DIFFERENCE)
        finally:
            pipeline.stop()

    def begin() -> None:
        waiting = defer.ensureDeferred(judge())
        waiting.addErrback(problems.append)
        waiting.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run(installSignalHandlers=False)
    if problems:
        problems[0].raiseException()
