"""`mailgate version`."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version

import click

from .. import __version__


@click.command("version")
@click.option("--json", "as_json", is_flag=True)
def command(as_json: bool) -> None:
    """Show the versions of mailgate and of what it stands on."""
    found = {"mailgate": __version__, "python": platform.python_version()}
    found["openssl"] = _openssl()
    for name in ("twisted", "pyopenssl", "cryptography", "prometheus-client", "structlog"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo(f"mailgate {__version__}")
        for name, text in list(found.items())[1:]:
            click.echo(f"  {name} {text}")


def _openssl() -> str:
    """Return the version of the OpenSSL that TLS is done with: cryptography's, not Python's."""
    try:
        from cryptography.hazmat.backends.openssl import backend
    except ImportError:
        return "not installed"
    return backend.openssl_version_text().split()[1]
