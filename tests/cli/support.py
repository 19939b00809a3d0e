"""The command, as an admin calls it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.conftest import need


def mailgate(
    *arguments: str | Path, before: Sequence[str] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run it to its end; no traceback may be seen.  ``before``: what it is run by."""
    ended = subprocess.run(
        [*before, sys.executable, "-m", "gateway", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
        check=False,
    )
    assert "Traceback" not in ended.stderr + ended.stdout, ended.stderr
    return ended


def without_rights() -> list[str]:
    """Return what runs a program without root's capabilities."""
    if os.geteuid() != 0:
        return []
    need("setpriv")
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
