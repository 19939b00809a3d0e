"""Scanners in directories of their own: clamd, rspamd, spamd; and one that a test directs.

None asks the network: clamd knows one signature of the test, rspamd one rule of the test and a
name server that is not there, spamd only its local tests.
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from .processes import Process, free_port, wait_until

#: What clamd takes for malware, and what rspamd and spamd take for spam.
MALWARE = b"mailgate-infected-marker"
GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"


def _program(name: str) -> str:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or name


class Clamd:
    """clamd on a UNIX socket and on a port."""

    def __init__(self, directory: Path) -> None:
        home = directory / "clamd"
        (home / "signatures").mkdir(parents=True)
        signatures = f"Test.Marker:0:*:{MALWARE.hex()}\nHeuristics.Marker:0:*:{b'looks-odd-to-me'.hex()}\n"
        (home / "signatures" / "test.ndb").write_text(signatures)
        self.port = free_port()
        self.address, self.tcp = f"unix:{home}/socket", f"127.0.0.1:{self.port}"
        lines = [f"LocalSocket {home}/socket", f"DatabaseDirectory {home}/signatures", "Foreground yes"]
        lines += [
            f"TCPSocket {self.port}",
            "TCPAddr 127.0.0.1",
            "StreamMaxLength 1M",
            f"User {getpass.getuser()}",
        ]
        (home / "conf").write_text("\n".join(lines) + "\n")
        self.process = Process([_program("clamd"), "-c", f"{home}/conf"], home / "output")
        self.process.wait_for_port(self.port)
        # UNOFFICIAL is what it calls signatures that are not its own.
        self.signature = "Test.Marker.UNOFFICIAL"

    def stop(self) -> None:
        self.process.stop()


_RSPAMD = """
options {{
  pidfile = "{home}/pid";
  tempdir = "{home}";
  filters = "";
  gtube_patterns = "all";
  dns {{ nameserver = ["127.0.0.1:{nobody}"]; timeout = 0.05s; retransmits = 1; }}
}}
logging {{ type = "console"; level = "warning"; }}
worker "normal" {{ bind_socket = "127.0.0.1:{port}"; count = 1; }}
metric {{
  name = "default";
  subject = "*** SPAM *** %s";
  actions {{ reject = 100; "rewrite_subject" = 20; add_header = 6; greylist = 4; }}
  symbol {{ name = "MARKED"; weight = 1.0; }}
}}
lua = "{home}/rules.lua";
"""
_RULES = """
rspamd_config:register_symbol({
  name = 'MARKED',
  score = 1.0,
  callback = function(task)
    local wanted = task:get_header('X-Wanted-Score')
    if wanted then return true, tonumber(wanted) end
  end
})
rspamd_config:register_symbol({
  name = 'TOLD', type = 'postfilter',
  callback = function(task)
    local ip, helo = task:get_from_ip(), task:get_helo()
    local from, rcpt = task:get_from('smtp'), task:get_recipients('smtp')
    task:set_milter_reply({
      add_headers = {
        ['X-Told'] = string.format('%s %s %s %s %s', tostring(ip), tostring(helo), tostring(task:get_user()),
          from and from[1].addr or '-', rcpt and #rcpt or 0)
      },
      remove_headers = { ['X-Remove'] = 0 }
    })
  end
})
"""


class RspamdServer:
    """rspamd's normal worker."""

    def __init__(self, directory: Path) -> None:
        home = directory / "rspamd"
        home.mkdir()
        home.chmod(0o777)  # it may drop to an account of its own
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        (home / "rules.lua").write_text(_RULES)
        (home / "conf").write_text(_RSPAMD.format(home=home, port=self.port, nobody=free_port()))
        command = [_program("rspamd"), "-f", "-i", "-c", f"{home}/conf"]
        self.process = Process(command, home / "output")
        self.process.wait_for_port(self.port)

    def stop(self) -> None:
        self.process.stop()


class Spamd:
    """SpamAssassin's spamd with its local tests."""

    def __init__(self, directory: Path) -> None:
        home = directory / "spamd"
        home.mkdir()
        home.chmod(0o777)
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        (home / "site").mkdir()
        (home / "site" / "local.cf").write_text("use_bayes 0\ndns_available no\n")
        check = "loadplugin Mail::SpamAssassin::Plugin::Check\n"
        (home / "site" / "check.pre").write_text(check)  # without it there are no tests at all
        command = [_program("spamd"), "--local", "--nouser-config", "--syslog=stderr", "--max-children=2"]
        command += ["--listen=127.0.0.1", f"--port={self.port}", f"--siteconfigpath={home}/site"]
        command += [f"--helper-home-dir={home}", f"--pidfile={home}/pid"]
        if os.geteuid() == 0:
            command.append("--username=mail")
        self.process = Process(command, home / "output")
        self.process.wait_for_port(self.port, 60)

    def stop(self) -> None:
        self.process.stop()


class Directed:
    """A server that does with each connection what the test says; ``heard`` counts them."""

    def __init__(self, act: Callable[[socket.socket], None]) -> None:
        self.heard = 0
        self._act = act
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self.heard += 1
            threading.Thread(target=self._one, args=(client,), daemon=True).start()

    def _one(self, client: socket.socket) -> None:
        with client:
            try:
                client.settimeout(10)
                self._act(client)
            except OSError:
                pass

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        wait_until(lambda: not self._thread.is_alive(), 10, "the server's end")


def saying(answer: bytes) -> Callable[[socket.socket], None]:
    """Hear something, answer, and close."""

    def act(client: socket.socket) -> None:
        client.recv(65536)
        client.sendall(answer)

    return act


def silent(client: socket.socket) -> None:
    """Hear everything, and never answer."""
    while client.recv(65536):
        pass
    threading.Event().wait(10)
