"""rsyslog in a directory of its own: what it takes by TCP and TLS, with octet counting, goes to a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gateway.demo.certificates import Authority

from .processes import Process, free_port

CONFIGURATION = """
global(
    workDirectory="{home}"
    maxMessageSize="64k"
    defaultNetstreamDriverCAFile="{ca}"
    defaultNetstreamDriverCertFile="{certificate}"
    defaultNetstreamDriverKeyFile="{key}"
)
module(load="imtcp")
template(name="whole" type="string" string="%pri% %app-name% %msgid% %hostname% %msg%\\n")
ruleset(name="kept") {{ action(type="omfile" file="{home}/kept" template="whole" asyncWriting="off") }}
input(type="imtcp" address="127.0.0.1" port="{tcp}" ruleset="kept")
input(type="imtcp" address="127.0.0.1" port="{tls}" ruleset="kept"
      streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="anon")
"""


class Rsyslog:
    """A running server.  ports: "tcp" and "tls"."""

    def __init__(self, directory: Path, authority: Authority) -> None:
        self.home = directory / "rsyslog"
        self.home.mkdir()
        self.ports = {"tcp": free_port(), "tls": free_port()}
        pair = authority.issue("rsyslog", ["siem.example.org"])
        path = self.home / "rsyslog.conf"
        path.write_text(
            CONFIGURATION.format(
                home=self.home,
                ca=authority.certificate,
                certificate=pair.certificate,
                key=pair.key,
                **self.ports,
            )
        )
        pid = self.home / "pid"
        self._command = ["/usr/sbin/rsyslogd", "-n", "-f", str(path), "-i", str(pid)]
        self.start()

    def start(self) -> None:
        self.process = Process(self._command, self.home / "output")
        for port in self.ports.values():
            self.process.wait_for_port(port)

    def stop(self) -> None:
        self.process.stop()

    def kept(self) -> list[tuple[int, str, Any]]:
        """Return what it took: priority, MSGID and the JSON of each message."""
        path = self.home / "kept"
        found = []
        for line in path.read_text().splitlines() if path.exists() else []:
            priority, program, ident, _, message = line.split(" ", 4)
            assert program == "mailgate"
            found.append((int(priority), ident, json.loads(message)))
        return found
