"""PostgreSQL in a directory of its own, on loopback."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path

import pg8000.dbapi

from .processes import Process, free_port, wait_until

#: Debian keeps the server's programs out of the path.
FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
ACCOUNT = "postgres"


class Postgres:
    """A running server with one superuser, ``mailgate``, who has a password."""

    def __init__(self, directory: Path) -> None:
        programs = FOLDERS[-1]
        self.home = home = directory / "postgres"
        home.mkdir()
        self.port = free_port()
        self.password = secrets.token_hex(12)
        # It refuses to run as root.
        account = ACCOUNT if os.geteuid() == 0 else None
        if account:
            shutil.chown(home, account)
        secret = home / "password"
        secret.write_text(self.password)
        secret.chmod(0o644)
        command = [programs / "initdb", "-D", home / "data", "-U", "mailgate", "-A", "scram-sha-256"]
        command += ["--pwfile", secret, "--no-sync", "-E", "UTF8", "--locale", "C"]
        subprocess.run(command, check=True, capture_output=True, user=account, cwd=home)
        self._command = [str(programs / "postgres"), "-D", str(home / "data"), "-F", "-p", str(self.port)]
        self._command += ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={home}"]
        self._account = account
        self._databases = 0
        self.start()

    def start(self) -> None:
        self.process = Process(self._command, self.home.parent / "postgres.output", user=self._account)
        self.process.wait_for_port(self.port)
        wait_until(self._ready, 20, "PostgreSQL to take logins")

    def _ready(self) -> bool:
        try:
            self._connect().close()
        except pg8000.dbapi.Error:  # it is starting up
            return False
        return True

    def _connect(self) -> pg8000.dbapi.Connection:
        return pg8000.dbapi.connect(
            user="mailgate", password=self.password, host="127.0.0.1", port=self.port, database="postgres"
        )

    def url(self) -> str:
        """Return the URL of a fresh database."""
        self._databases += 1
        name = f"audit{self._databases}"
        connection = self._connect()
        connection.autocommit = True
        connection.cursor().execute(f"CREATE DATABASE {name}")
        connection.close()
        return f"postgresql://mailgate:{self.password}@127.0.0.1:{self.port}/{name}"

    def stop(self) -> None:
        # A "fast" shutdown: SIGTERM would wait for the clients.
        if self.process.popen.poll() is None:
            os.kill(self.process.pid, signal.SIGINT)
            self.process.popen.wait(20)
        self.process.stop()
