"""`mailgate audit`: is the audit whole, whom does a pseudonym stand for, what is kept; and pruning."""

from __future__ import annotations

import datetime
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..core.text import shown
from . import config_option, fail, read_configuration

if TYPE_CHECKING:
    from ..audit.sql import SqlStore
    from ..config.model import Audit

FILE = click.Path(path_type=Path, dir_okay=False)


@click.group("audit")
def command() -> None:
    """Look after the audit of logins: verify its chain, prune it, resolve pseudonyms.

    Exit status: 0 done; 1 failed, or the audit is not whole; 2 wrong usage or configuration.
    """


def table_of(path: Path | None, where: str) -> Audit:
    """Return the table [audit], or one that names the store given in its stead."""
    from ..config.model import Audit

    if path is None:
        if not where:
            raise click.UsageError("name the configuration (-c) or the store (--store)")
        return Audit(store=where)
    table = read_configuration(path).audit
    if where:
        table = table.model_copy(update={"store": where})
    if table.store is None:
        fail(f"{path}: there is no audit: [audit] names no store", 2)
    return table


@contextmanager
def opened(store: SqlStore) -> Iterator[SqlStore]:
    """Open a store, and close it; of one that can't be used, say why and exit with 1."""
    from ..audit.store import StoreError

    try:
        store.open()
        yield store
    except StoreError as error:
        fail(str(error))
    finally:
        store.close()


def read_store(table: Audit, *, read_only: bool = True) -> SqlStore:
    """Return the store of a table, not open yet; of a wrong one, say what is wrong and exit with 2."""
    from ..auditing import store_for

    try:
        return store_for(table, read_only=read_only)
    except ValueError as error:
        fail(f"audit: {error}", 2)


store_option = click.option(
    "--store", "where", default="", metavar="PATH|URL", help="In place of the configuration's."
)


@command.command("verify")
@config_option(required=False)
@store_option
@click.option("--key", type=FILE, help="The chain's key; the configuration's chain_key if absent.")
@click.option(
    "--head", type=FILE, help="A copy of the chain's end; the configuration's chain_head if absent."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def verify_command(path: Path | None, where: str, key: Path | None, head: Path | None, as_json: bool) -> None:
    """Follow the hash chain through all records, and tell what was changed or is missing."""
    from ..audit.chain import Chain, HeadFile, read_key, verify

    table = table_of(path, where)
    key, head = key or table.chain_key, head or table.chain_head
    heads = None
    try:
        chain = Chain(read_key(key) if key is not None else b"")
        if head is not None:
            heads = HeadFile(head).read()
    except OSError as error:
        fail(f"{head}: {error.strerror}", 2)
    except ValueError as error:
        fail(str(error), 2)
    with opened(read_store(table.model_copy(update={"chain": False}))) as store:
        walks, findings = verify(store, chain, heads)
    chained = any(walk.records or walk.pruned for walk in walks)
    whole = chained and not findings
    if as_json:
        told = {
            "whole": whole,
            "key": key is not None,
            "head": head is not None,
            "tables": [
                {"table": w.table, "records": w.records, "pruned": w.pruned, "unchained": w.unchained}
                for w in walks
            ],
            "findings": [{"table": f.table, "id": f.id, "what": f.what} for f in findings],
        }
        click.echo(json.dumps(told))
        sys.exit(0 if whole else 1)
    for finding in findings:
        click.secho(str(finding), fg="red")
    if findings and key is None:
        click.echo("No key was named (--key): a chain that was made with one (chain_key) looks like this.")
    for walk in walks:
        more = f", {walk.pruned} pruned before them" if walk.pruned else ""
        more += f", {walk.unchained} from before the chain was on" if walk.unchained else ""
        click.echo(f"{walk.table}: {walk.records} records in the chain{more}")
    if not chained and not findings:
        fail('there is no chain: "chain = true" in [audit] begins one')
    if whole:
        if key is None:
            click.echo("Without a key: whoever could write to the store could have chained all anew.")
        if head is None:
            click.echo(
                "Without the chain's end from elsewhere (chain_head): a tail may be missing with its end."
            )
        if before := sum(walk.unchained for walk in walks):
            doubt = f"{before} records stand before the chain: nothing shows whether they are true."
            click.secho(doubt, fg="yellow")
        click.secho("whole", fg="green")
    sys.exit(0 if whole else 1)


@command.command("prune")
@config_option(required=False)
@store_option
@click.option("--older-than", default="", help='"90d", "12h"; the configured retention if absent.')
def prune_command(path: Path | None, where: str, older_than: str) -> None:
    """Delete what is older than the retention, in small steps; the gateway may be running."""
    from ..config.kinds import retention

    if path is None and not older_than:
        raise click.UsageError("name --older-than, or the configuration (-c)")
    table = table_of(path, where)
    seconds = table.retention
    if older_than:
        try:
            seconds = retention(older_than)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--older-than") from None
        if not seconds:
            raise click.BadParameter("all would go; name a longer time", param_hint="--older-than")
    if not seconds:
        fail('retention is "0s": all is kept; name --older-than', 2)
    if path is None and _is_chained(table):
        fail("this store is chained: name the configuration (-c), which knows the chain's key", 2)
    before, gone = int((time.time() - seconds) * 1e6), 0
    with opened(read_store(table, read_only=False)) as store:
        while step := store.prune(before, 1000):
            gone += step
    click.echo(f"{gone} deleted")


def _is_chained(table: Audit) -> bool:
    with opened(read_store(table)) as store:
        return bool(store.states())


@command.command("resolve")
@click.argument("pseudonyms", metavar="PSEUDONYM...", nargs=-1, required=True)
@config_option(required=False)
@store_option
@click.option("--key", type=FILE, help="The pseudonyms' key; the configuration's pseudonym_key if absent.")
def resolve_command(pseudonyms: tuple[str, ...], path: Path | None, where: str, key: Path | None) -> None:
    """Tell whom pseudonyms stand for, to who has their key."""
    from ..audit.chain import read_key
    from ..audit.privacy import Pseudonyms, SealError

    table = table_of(path, where)
    key = key or table.pseudonym_key
    if key is None:
        raise click.UsageError("name the pseudonyms' key (--key)")
    try:
        made = Pseudonyms(read_key(key))
    except ValueError as error:
        fail(str(error), 2)
    failed = False
    with opened(read_store(table.model_copy(update={"chain": False}))) as store:
        for pseudonym in pseudonyms:
            rows = list(store.query("SELECT sealed FROM pseudonyms WHERE pseudonym = ?", (pseudonym,)))
            try:
                told = made.unseal(rows[0][0], pseudonym) if rows else ""
            except SealError as error:
                click.echo(f"mailgate: {error}", err=True)
                failed = True
                continue
            if not rows:
                click.echo(f"mailgate: {shown(pseudonym, 40)}: unknown, or pruned", err=True)
                failed = True
                continue
            click.echo(f"{pseudonym}  {shown(told)}")
    sys.exit(1 if failed else 0)


@command.command("status")
@config_option(required=False)
@store_option
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def status_command(path: Path | None, where: str, as_json: bool) -> None:
    """Tell what the audit holds: how many records, since when, and the end of its chain."""
    from ..audit import migrations

    table = table_of(path, where)
    told: dict[str, Any] = {"schema": migrations.newest()}
    with opened(read_store(table.model_copy(update={"chain": False}))) as store:
        told["store"] = store.name
        for name in ("logins", "events", "programs", "pseudonyms"):
            told[name] = next(store.query(f"SELECT count(*) FROM {name}"))[0]
        oldest, newest = store.kept()
        told["oldest"], told["newest"] = _time(oldest), _time(newest)
        for state in store.states().values():
            told[f"chain_{state.name}"] = {"head": state.head, "count": state.count, "pruned": state.pruned}
    if as_json:
        click.echo(json.dumps(told))
        return
    for name, value in told.items():
        text = f"{value['head']} at {value['count']}" if isinstance(value, dict) else str(value)
        click.echo(f"{name.replace('_', ' '):16}{text}")


def _time(at: int | None) -> str:
    if at is None:
        return ""
    return datetime.datetime.fromtimestamp(at / 1e6, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
