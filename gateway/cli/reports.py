"""`mailgate logins`, `plaintext`, `readiness`, `user`, `tls`: reports on the audit of logins."""

from __future__ import annotations

import datetime
import functools
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..core.steps import OUTCOMES
from . import Wrapped, config_option, fail, read_configuration
from .auditing import opened, read_store, store_option, table_of

if TYPE_CHECKING:
    from ..audit.sql import SqlStore
    from ..config.model import Audit
    from ..core.policy import Policy
    from ..reports.report import Report
    from ..reports.selection import Selection

FORMATS = ("table", "json", "csv", "html")
#: Rows of each table: for people, and for programs.
LIMIT, DATA_LIMIT = 50, 10_000
#: What records can have, by option.
KNOWN = {
    "protocols": ("smtp", "lmtp", "pop3", "imap"),
    "protections": ("tls", "tls-in-front", "trusted-network", "none"),
    "outcomes": OUTCOMES,
}
#: Seconds between two looks for new logins.
FOLLOW = 0.5


@dataclass(frozen=True)
class Asked:
    """What all reports are asked with."""

    path: Path | None  # of the configuration
    table: Audit
    selection: Selection
    form: str
    output: Path | None
    section: str
    limit: int


def asked(default_since: str) -> Callable[[Wrapped], Wrapped]:
    """The options that all reports have; the command gets an :class:`Asked` in their place."""

    def decorate(command: Wrapped) -> Wrapped:
        @functools.wraps(command)
        def wrapped(
            path: Path | None,
            where: str,
            since: str,
            until: str,
            networks: tuple[str, ...],
            **more: Any,
        ) -> None:
            if click.get_current_context().invoked_subcommand is not None:
                return
            from ..reports.selection import Selection, of_many

            present = time.time()
            for name in KNOWN.keys() & more.keys():
                _known(name, of_many(more[name]))
            table = table_of(path, where)
            selection = Selection(
                since=_moment(since, present, "--since"),
                until=_moment(until, present, "--until"),
                users=_users(table, of_many(more.pop("users", ()))),
                networks=tuple(_network(one) for one in of_many(networks)),
                **{
                    name: of_many(more.pop(name))
                    for name in ("protocols", "listeners", "mechanisms", "protections", "outcomes")
                    if name in more
                },
                exposed=more.pop("exposed", False),
            )
            form, output = more.pop("form"), more.pop("output")
            if not form:
                suffix = output.suffix[1:] if output is not None else ""
                form = {"htm": "html", "txt": "table"}.get(suffix, suffix)
                form = form if form in FORMATS else "table"
            limit = more.pop("limit")
            if limit is None:
                limit = LIMIT if form in ("table", "html") else DATA_LIMIT
            section = more.pop("section")
            if section and form != "csv":
                raise click.UsageError("--section is for --format csv, which holds one table only")
            command(Asked(path, table, selection, form, output, section, limit), **more)

        options = [
            config_option(required=False),
            store_option,
            click.option(
                "--since",
                default=default_since,
                show_default=True,
                metavar="TIME",
                help='"7d" (ago), "2026-11-01", "2026-11-01T08:00"; "all".',
            ),
            click.option("--until", default="", metavar="TIME", help="The same; now if absent."),
            click.option("--network", "networks", multiple=True, metavar="CIDR", help="Of clients."),
            click.option("--protocol", "protocols", multiple=True, help=", ".join(KNOWN["protocols"])),
            click.option("--listener", "listeners", multiple=True, help="By name."),
            click.option("--mechanism", "mechanisms", multiple=True, help="PLAIN, LOGIN, USER, APOP, ..."),
            click.option(
                "--format", "form", type=click.Choice(FORMATS), help="By the file's name if absent."
            ),
            click.option(
                "-o",
                "--output",
                type=click.Path(path_type=Path, dir_okay=False),
                help="A file to write, in place of the terminal.",
            ),
            click.option("--section", default="", help="Which table a CSV holds; the first if absent."),
            click.option(
                "--limit",
                type=click.IntRange(min=0),
                help=f"Rows of each table; 0 is all.  [default: {LIMIT}; {DATA_LIMIT} for JSON and CSV]",
            ),
        ]
        for option in reversed(options):
            wrapped = option(wrapped)
        return wrapped  # type: ignore[return-value]

    return decorate


def _known(name: str, values: tuple[str, ...]) -> None:
    """Refuse what no record can have: it would find nothing, and nobody would know why."""
    for value in values:
        if value not in KNOWN[name]:
            hint = f"--{name.removesuffix('s')}"
            raise click.BadParameter(f"{value!r} is none of {', '.join(KNOWN[name])}", param_hint=hint)


def _moment(text: str, now: float, option: str) -> int | None:
    """Return microseconds since the epoch; None of "" and "all"."""
    from ..config.kinds import retention

    text = text.strip()
    if text in ("", "all"):
        return None
    midnight = datetime.datetime.fromtimestamp(now).replace(hour=0, minute=0, second=0, microsecond=0)
    if text == "today":
        return int(midnight.timestamp() * 1e6)
    if text == "yesterday":
        return int((midnight - datetime.timedelta(days=1)).timestamp() * 1e6)
    try:
        return int(datetime.datetime.fromisoformat(text).astimezone().timestamp() * 1e6)
    except (ValueError, OverflowError):
        pass
    try:
        return int((now - retention(text)) * 1e6)
    except ValueError:
        raise click.BadParameter(
            f'{text!r} is no time; write it like "7d", "12h", "2026-11-01" or "2026-11-01T08:00"',
            param_hint=option,
        ) from None


def _network(text: str) -> str:
    from ..config.kinds import network

    try:
        return str(network(text))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--network") from None


def _users(table: Audit, users: tuple[str, ...]) -> tuple[str, ...]:
    """Return users as the audit has them: where it keeps pseudonyms, those."""
    plain = [one for one in users if not one.startswith("u-")]
    if table.users != "pseudonym" or table.pseudonym_key is None or not plain:
        return users
    from ..audit.chain import read_key
    from ..audit.privacy import Pseudonyms
    from ..core.users import normalised

    if any(set("*?") & set(one) for one in plain):
        raise click.UsageError("the audit keeps pseudonyms: a pattern finds nobody; name the user whole")
    try:
        pseudonyms = Pseudonyms(read_key(table.pseudonym_key))
    except ValueError as error:
        fail(f"{error}: the audit keeps pseudonyms, which are made with that key", 2)
    return tuple(one if one.startswith("u-") else pseudonyms.of(normalised(one)) for one in users)


@contextmanager
def audit_store(table: Audit) -> Iterator[SqlStore]:
    with opened(read_store(table.model_copy(update={"chain": False}))) as store:
        store.snapshot()
        yield store


def show(asked: Asked, report: Report) -> None:
    """Write a report as it was asked for."""
    if asked.form == "table" and asked.output is None:
        from ..reports.text import write

        write(report)
        return
    try:
        text = _rendered(asked, report)
    except KeyError:
        names = ", ".join(one.name for one in report.sections)
        raise click.BadParameter(f"there is none of that name: {names}", param_hint="--section") from None
    if asked.output is None:
        click.echo(text, nl=False)
        return
    try:
        asked.output.write_text(text, encoding="utf-8")
    except OSError as error:
        fail(f"{asked.output}: {error.strerror}")
    click.echo(f"{asked.output}: written", err=True)


def _rendered(asked: Asked, report: Report) -> str:
    """Return a report as text.  Raises KeyError of an unknown section."""
    from ..reports import data

    if asked.form == "json":
        return data.as_json(report)
    if asked.form == "csv":
        return data.as_csv(report, asked.section)
    if asked.form == "html":
        from ..reports.page import as_html

        return as_html(report)
    import io

    from ..reports.text import write

    kept = io.StringIO()
    write(report, kept)
    return kept.getvalue()


def now() -> int:
    return int(time.time() * 1e6)


user_option = click.option("--user", "users", multiple=True, metavar="NAME", help='Or like "*@example.org".')
protection_option = click.option(
    "--protection", "protections", multiple=True, help=", ".join(KNOWN["protections"])
)
outcome_option = click.option("--outcome", "outcomes", multiple=True, help=", ".join(KNOWN["outcomes"]))


@click.command("logins")
@user_option
@protection_option
@outcome_option
@click.option("--exposed", is_flag=True, help="Only those that exposed a password.")
@click.option("-f", "--follow", is_flag=True, help="Go on with new ones as they come, until Ctrl-C.")
@asked("1d")
def logins(asked: Asked, follow: bool) -> None:
    """Show logins, the newest last, and what they come to.

    Options may be given several times, or with commas; any of the values will do.

    Exit status: 0 done; 1 the audit can't be read; 2 wrong usage or configuration.
    """
    from ..reports import logins as report

    if follow:
        if asked.form in ("html",) or asked.output is not None:
            raise click.UsageError("--follow writes to the terminal, as a table, JSON or CSV")
        _follow(asked)
        return
    with audit_store(asked.table) as store:
        show(asked, report.logins(store, asked.selection, now(), asked.limit))


def _follow(asked: Asked) -> None:
    """Write the latest logins, then each new one as it is recorded."""
    from ..reports.logins import last_id, latest, newer

    write = _writer(asked.form)
    with opened(read_store(asked.table.model_copy(update={"chain": False}))) as store:
        seen = last_id(store)
        for row in latest(store, asked.selection, min(asked.limit, LIMIT)):
            write(row)
        try:
            while True:
                for found, row in newer(store, asked.selection, seen):
                    seen = found
                    write(row)
                time.sleep(FOLLOW)
        except KeyboardInterrupt:
            sys.exit(0)


def _writer(form: str) -> Callable[[tuple[Any, ...]], None]:
    """Return what writes one login after the other."""
    from ..reports.data import csv_row, row_object
    from ..reports.logins import COLUMNS

    if form == "json":
        return lambda row: click.echo(json.dumps(row_object(COLUMNS, row)))
    if form == "csv":
        import csv

        writer = csv.writer(sys.stdout)
        writer.writerow([column.name for column in COLUMNS])

        def write(row: tuple[Any, ...]) -> None:
            writer.writerow(csv_row(COLUMNS, row))
            sys.stdout.flush()

        return write
    from ..reports.text import Lines

    return Lines(COLUMNS).write


@click.command("plaintext")
@user_option
@outcome_option
@asked("30d")
def plaintext(asked: Asked) -> None:
    """Show who still sends a password unprotected: users, devices, since when, and the trend.

    Exit status: 0 done; 1 the audit can't be read; 2 wrong usage or configuration.
    """
    from ..reports.plaintext import plaintext

    with audit_store(asked.table) as store:
        show(asked, plaintext(store, asked.selection, now(), asked.limit))


@click.command("user")
@click.argument("name")
@protection_option
@outcome_option
@asked("90d")
def user(asked: Asked, name: str) -> None:
    """Show all that is known of one user's logins: devices, failures, events.

    Exit status: 0 done; 1 the audit can't be read, or knows no such user; 2 wrong usage or configuration.
    """
    from ..core.users import normalised
    from ..reports.user import user

    if set("*?") & set(name):
        raise click.UsageError("name one user; `mailgate logins --user PATTERN` takes patterns")
    (known,) = _users(asked.table, (normalised(name),))
    with audit_store(asked.table) as store:
        report = user(store, known, asked.selection, now(), asked.limit)
        if not any(one.rows for one in report.sections):
            _near(store, known, name)
        show(asked, report)


def _near(store: SqlStore, known: str, name: str) -> None:
    """Say that there is nothing of a user, and who may be meant."""
    from ..core.text import shown

    pattern = f"{known.partition('@')[0]}%"
    near = list(store.query('SELECT DISTINCT "user" FROM logins WHERE "user" LIKE ? LIMIT 5', (pattern,)))
    hint = f"; there is {', '.join(row[0] for row in near)}" if near else ""
    fail(f"no login of {shown(name, 100)} in that time{hint}")


@click.command("readiness")
@user_option
@protection_option
@click.option(
    "--policy", "names", multiple=True, metavar="NAME", help="Of the configuration; all of them if absent."
)
@click.option(
    "--require",
    type=click.Choice(("no-exposed-password", "tls", "tls-client-cert")),
    help="In place of the configuration's policies: what every login would need.",
)
@click.option("--min-tls", type=click.Choice(("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")), help="The same.")
@click.option("--profile", type=click.Choice(("modern", "intermediate", "old")), help="The same.")
@click.option("--share", default="100%", show_default=True, help="For a share of users, as `enforce` has it.")
@asked("30d")
def readiness(
    asked: Asked,
    names: tuple[str, ...],
    require: str | None,
    min_tls: str | None,
    profile: str | None,
    share: str,
) -> None:
    """Show what would break if a policy were enforced today: who, from where, with which program.

    The rules are the gateway's, exceptions included, asked about the logins of the audit that succeeded.
    Without policies in the configuration, what is asked for is TLS.

    Exit status: 0 done; 1 the audit can't be read; 2 wrong usage or configuration.
    """
    from ..reports.readiness import readiness

    adhoc = {"login": require, "min_tls": min_tls, "profile": profile}
    policies = _policies(asked.path, names, {key: value for key, value in adhoc.items() if value}, share)
    with audit_store(asked.table) as store:
        show(asked, readiness(store, asked.selection, policies, now(), asked.limit))


def _policies(path: Path | None, names: tuple[str, ...], asks: dict[str, str], share: str) -> list[Policy]:
    """Return the policies as they would be: those that are meant enforced, for a share of their users.

    asks: what a policy that is in no configuration would ask for.
    """
    from ..config.kinds import share as read_share
    from ..config.model import PolicyTable
    from ..policies import policy_of
    from ..reports.readiness import enforced

    try:
        part = read_share(float(share) if share.replace(".", "").isdigit() else share)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--share") from None
    configured = read_configuration(path).policies if path is not None else ()
    if asks and names:
        raise click.UsageError("either --policy, or what a policy would ask for")
    known = [table.name for table in configured]
    if unknown := [name for name in names if name not in known]:
        told = ", ".join(known) if known else "the configuration has none"
        raise click.BadParameter(f"no policy {unknown[0]!r}: {told}", param_hint="--policy")
    if asks or not configured:
        asks = asks or {"login": "tls"}
        return [enforced(policy_of(PolicyTable.model_validate({"name": "asked", **asks})), part)]
    return [
        enforced(policy_of(table), part) if not names or table.name in names else policy_of(table)
        for table in configured
    ]
