"""The installed command, running before whatever a test puts behind it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import tomllib
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from .leaks import leaks, written
from .processes import Process, wait_until

Line = dict[str, Any]


class RunningGateway:
    """``mailgate run -c FILE`` in a process of its own, with a JSON log in a file."""

    def __init__(self, toml: str, directory: Path) -> None:
        """Write the configuration, start, and wait until it is ready."""
        self.directory = directory
        self.configuration = directory / "mailgate.toml"
        self.log_path = directory / "mailgate.log"
        if "[log]" not in toml:
            # Tables end at the next header, so that ours can stand behind all of theirs.
            toml += f'\n[log]\nformat = "json"\noutput = "{self.log_path}"\nlevel = "debug"\n'
        self.configuration.write_text(toml)
        tables = tomllib.loads(toml)
        self.admin = str(tables.get("admin", {}).get("address", ""))
        self.ports = {
            table["name"]: int(table["address"].rpartition(":")[2]) for table in tables.get("listeners", ())
        }
        command = [sys.executable, "-m", "gateway", "run", "-c", str(self.configuration)]
        self.process = Process(command, directory / "mailgate.output")
        for port in self.ports.values():
            self.process.wait_for_port(port)

    @property
    def pid(self) -> int:
        return self.process.pid

    def log_lines(self) -> list[Line]:
        """Return the log so far, whole lines only."""
        if not self.log_path.exists():
            return []
        text = self.log_path.read_text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def wait_for_log(self, wanted: Callable[[Line], bool], timeout: float = 15) -> Line:
        """Wait for a log line, and return it."""

        def found() -> Line | None:
            return next((line for line in self.log_lines() if wanted(line)), None)

        line = wait_until(found, timeout, "a log line")
        assert line is not None
        return line

    def get(self, path: str) -> str:
        """Return a page of the admin server."""
        with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def metrics(self, prefix: str = "") -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Scrape: name and labels -> value, of names that begin so."""
        text = self.get("/metrics")
        if prefix:  # to parse everything takes long where there are many listeners
            text = "".join(line for line in text.splitlines(keepends=True) if line.startswith(prefix))
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def metric(self, name: str, /, **labels: str) -> float:
        """Return the sum of the samples of a name that have these labels."""
        wanted = set(labels.items())
        found = self.metrics(name)
        return sum(value for (one, has), value in found.items() if one == name and wanted <= has)

    def reload(self) -> None:
        os.kill(self.pid, signal.SIGHUP)

    def stop(self) -> int:
        """End it, and return its exit status.  No traceback and no password may have been written."""
        told = ""
        if self.admin and self.process.popen.poll() is None:
            with contextlib.suppress(OSError):
                told = self.get("/metrics")
        status = self.process.stop()
        assert not leaks(told.encode()), "passwords in the metrics"
        for path in (self.process.output, *written(self.configuration)):
            if path.is_file():
                found = leaks(path.read_bytes())
                assert not found, f"passwords in {path}: {found}"
        output = self.process.output.read_text(errors="replace")
        assert not re.search(r"^Traceback", output, re.MULTILINE), output[-4000:]
        return status
