"""Fixtures that all tests share: the real servers, started once for each worker, when asked for."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.demo.certificates import Authority, make_authority
from tests.demo.conftest import Upstream
from tests.support.cyrus import PROGRAM as CYRUS
from tests.support.cyrus import Cyrus
from tests.support.dovecot import Dovecot
from tests.support.exim import PROGRAM as EXIM
from tests.support.exim import Exim
from tests.support.postfix import Postfix
from tests.support.postgres import FOLDERS as POSTGRES
from tests.support.postgres import Postgres

# Hundreds of commands are started: without files of bytecode each would compile everything anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def need(*programs: str) -> None:
    """Skip the test, with one clear line, where a program is missing; in CI that is a failure."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    missing = [program for program in programs if shutil.which(program, path=path) is None]
    if not missing:
        return
    message = f"not installed: {', '.join(missing)}"
    if os.environ.get("MAILGATE_NO_SKIPS") == "1":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def rig_directory() -> Iterator[Path]:
    """A directory that the servers' own accounts can get into, which pytest's own are not."""
    directory = Path(tempfile.mkdtemp(prefix="mailgate-rig-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def authority(rig_directory: Path) -> Authority:
    folder = rig_directory / "ca"
    folder.mkdir()
    return make_authority(folder)


@pytest.fixture(scope="session")
def dovecot(rig_directory: Path, authority: Authority) -> Iterator[Dovecot]:
    need("dovecot")
    if os.geteuid() != 0:
        pytest.skip("Dovecot's users want root")
    server = Dovecot(rig_directory, authority)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postfix(rig_directory: Path, dovecot: Dovecot) -> Iterator[Postfix]:
    need("postfix")
    server = Postfix(rig_directory, dovecot)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def exim(rig_directory: Path, authority: Authority) -> Iterator[Exim]:
    if not EXIM.exists() and os.environ.get("MAILGATE_NO_SKIPS") != "1":
        pytest.skip("not installed: exim")
    server = Exim(rig_directory, authority)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def cyrus(rig_directory: Path, authority: Authority) -> Iterator[Cyrus]:
    if not CYRUS.exists() and os.environ.get("MAILGATE_NO_SKIPS") != "1":
        pytest.skip("not installed: cyrus")
    server = Cyrus(rig_directory, authority)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres(rig_directory: Path) -> Iterator[Postgres]:
    if not POSTGRES and os.environ.get("MAILGATE_NO_SKIPS") != "1":
        pytest.skip("not installed: postgresql")
    server = Postgres(rig_directory)
    yield server
    server.stop()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """The embedded upstream, which misbehaves on request."""
    running = Upstream()
    try:
        yield running
    finally:
        running.close()
