"""Milters: OpenDKIM, OpenDMARC, clamav-milter in directories of their own, and one that a test directs."""

from __future__ import annotations

import base64
import getpass
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.inspection.milter_protocol import Frames, frame

from .processes import Process, free_port, wait_until

DOMAIN = "example.org"
#: Answers that end a talk, or never come.
HANG, CLOSE = b"<hang>", b"<close>"


class Key:
    """A DKIM key, as a file and as the record that DNS would have.  Made for the test."""

    def __init__(self, directory: Path, selector: str = "s1") -> None:
        self.selector = selector
        self.file = directory / f"{selector}.pem"
        private = rsa.generate_private_key(65537, 2048)
        self.file.touch(0o600)
        self.file.write_bytes(
            private.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        public = private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.name = f"{selector}._domainkey.{DOMAIN}"
        self.record = f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode()}"

    def lookup(self, name: bytes, timeout: float = 0) -> bytes | None:
        """Answer as DNS would, for a verifier."""
        del timeout
        return self.record.encode() if name.decode().rstrip(".") == self.name else None


class OpenDkim:
    """OpenDKIM, which signs or verifies.  ``address`` is where it listens."""

    def __init__(self, directory: Path, key: Key, mode: str, *lines: str, tcp: bool = False) -> None:
        """mode: "s" or "v", as in its own configuration.  lines: more of that."""
        home = directory / f"opendkim-{mode}"
        home.mkdir(exist_ok=True)
        (home / "keys").write_text(f"{key.name} {key.record}\n")
        (home / "KeyTable").write_text(f"key {DOMAIN}:{key.selector}:{key.file}\n")
        (home / "SigningTable").write_text(f"*@{DOMAIN} key\n")
        port = free_port() if tcp else 0
        self.address = f"127.0.0.1:{port}" if tcp else f"unix:{home}/socket"
        own = f"inet:{port}@127.0.0.1" if tcp else f"local:{home}/socket"
        settings = [f"Mode {mode}", f"Socket {own}", "RequireSafeKeys no", f"PidFile {home}/pid"]
        if mode == "s":
            settings += [f"KeyTable {home}/KeyTable", f"SigningTable refile:{home}/SigningTable"]
        else:
            settings += [f"TestPublicKeys {home}/keys", "AlwaysAddARHeader yes"]
        (home / "conf").write_text("\n".join([*settings, *lines]) + "\n")
        self.process = Process([_program("opendkim"), "-f", "-x", f"{home}/conf"], home / "output")
        if tcp:
            self.process.wait_for_port(port)
        else:
            _wait_for_socket(home / "socket", self.process)

    def stop(self) -> None:
        _end(self.process)


class OpenDmarc:
    """OpenDMARC, in a network of its own where nobody answers: it finds no policy of any domain."""

    def __init__(self, directory: Path) -> None:
        home = directory / "opendmarc"
        home.mkdir()
        self.address = f"unix:{home}/socket"
        settings = [
            f"Socket local:{home}/socket",
            f"PidFile {home}/pid",
            "AuthservID gate.example.org",
            "RequiredHeaders true",
            "RejectFailures true",
            "IgnoreAuthenticatedClients true",
            "SoftwareHeader true",
            "Syslog false",
        ]
        (home / "conf").write_text("\n".join(settings) + "\n")
        command = ["unshare", "-rn", _program("opendmarc"), "-f", "-c", f"{home}/conf"]
        self.process = Process(command, home / "output")
        _wait_for_socket(home / "socket", self.process)

    def stop(self) -> None:
        _end(self.process)


class ClamavMilter:
    """clamav-milter with a clamd, which knows nothing but MARKER."""

    MARKER = b"mailgate-infected-marker"

    def __init__(self, directory: Path) -> None:
        home = directory / "clamav"
        (home / "signatures").mkdir(parents=True)
        (home / "signatures" / "test.ndb").write_text(f"Test.Marker:0:*:{self.MARKER.hex()}\n")
        user = getpass.getuser()
        self.address = f"unix:{home}/milter"
        settings = {
            "clamd": [f"LocalSocket {home}/clamd", f"DatabaseDirectory {home}/signatures"],
            "clamav-milter": [
                f"MilterSocket unix:{home}/milter",
                f"ClamdSocket unix:{home}/clamd",
                "OnInfected Reject",
                "RejectMsg Infected with %v",
                "AddHeader Replace",
            ],
        }
        self.processes: list[Process] = []
        for name, lines in settings.items():
            (home / f"{name}.conf").write_text("\n".join([*lines, "Foreground yes", f"User {user}"]) + "\n")
            command = [_program(name), "-c", str(home / f"{name}.conf")]
            self.processes.append(Process(command, home / f"{name}.output"))
            _wait_for_socket(home / ("clamd" if name == "clamd" else "milter"), self.processes[-1])

    def stop(self) -> None:
        for process in reversed(self.processes):
            _end(process)


def has_networks_of_its_own() -> bool:
    """Tell whether a process can be cut off from the network here."""
    try:
        return subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _program(name: str) -> str:
    return shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin") or name


def _wait_for_socket(path: Path, process: Process) -> None:
    def listens() -> bool:
        assert process.popen.poll() is None, process.tail()
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(path))
            except OSError:
                return False
        return True

    wait_until(listens, 20, f"{path} to be listened on")


def _end(process: Process) -> None:
    """End a milter at once: libmilter takes five seconds to notice that it is asked to."""
    if process.popen.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.stop()


Answer = bytes | Callable[[socket.socket], None]


class FakeMilter:
    """A milter that answers each command with the octets that the test gives, else with "go on".

    ``told`` has what it heard, command and data, of all talks.
    """

    def __init__(
        self,
        answers: Mapping[bytes, Answer | list[Answer]] | None = None,
        *,
        actions: int = 0x1FF & ~0xCC,
        steps: int = 0,
        version: int = 6,
        macros: bytes = b"",
    ) -> None:
        """answers: by command; of a list the first, the second... each time.  The rest negotiates."""
        self.told: list[tuple[bytes, bytes]] = []
        self._answers = {
            key: value if isinstance(value, list) else [value] for key, value in (answers or {}).items()
        }
        self._steps = steps
        self._agreement = frame(b"O", struct.pack("!III", version, actions, steps) + macros)
        self._ended = threading.Event()
        self._idle = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._idle.clear()
            with connection:
                try:
                    self._talk(connection)
                except OSError:
                    pass
            self._idle.set()

    def _talk(self, connection: socket.socket) -> None:
        frames = Frames()
        counts: dict[bytes, int] = {}
        while octets := connection.recv(65536):
            frames.feed(octets)
            while (taken := frames.take()) is not None:
                self.told.append(taken)
                command = taken[0]
                if command == b"Q":
                    return
                counts[command] = counts.get(command, 0) + 1
                listed = self._answers.get(command)
                if listed is not None:
                    answer = listed[min(counts[command], len(listed)) - 1]
                elif command == b"O":
                    answer = self._agreement
                elif command in b"DA" or self._is_quiet(command):
                    continue
                else:
                    answer = frame(b"c")
                if answer == CLOSE:
                    return
                if answer == HANG:
                    self._ended.wait(60)
                    return
                if callable(answer):
                    answer(connection)
                else:
                    connection.sendall(answer)

    def _is_quiet(self, command: bytes) -> bool:
        bits = {b"L": 0x80, b"C": 0x1000, b"H": 0x2000, b"M": 0x4000, b"R": 0x8000, b"T": 0x10000}
        bits |= {b"N": 0x40000, b"B": 0x80000}
        return bool(self._steps & bits.get(command, 0))

    def commands(self) -> str:
        """Return what it heard, as letters, without macros, once the talk is over."""
        assert self._idle.wait(10)
        return "".join(command.decode() for command, _ in self.told if command != b"D")

    def macros(self, command: bytes) -> dict[str, str]:
        """Return the macros that were told for a command, of the last time."""
        found = [data for kind, data in self.told if kind == b"D" and data[:1] == command]
        pairs = found[-1][1:].decode().split("\0")[:-1]
        return dict(zip(pairs[::2], pairs[1::2], strict=True))

    def data(self, command: bytes) -> list[bytes]:
        """Return the data of each time that a command was heard."""
        return [data for kind, data in self.told if kind == command]

    def stop(self) -> None:
        self._ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
        assert not self._thread.is_alive()
