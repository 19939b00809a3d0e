"""`mailgate demo`."""

from __future__ import annotations

import sys

import click


@click.command("demo")
@click.option("--once", is_flag=True, help="End after the conversation; status 0 if all went well.")
def command(once: bool) -> None:
    """Start an embedded mail server and the gateway before it, talk to them, and show what was seen."""
    from ..demo.show import main

    sys.exit(main(once))
