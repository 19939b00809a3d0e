"""The programs of a measurement: backend, load generator, and the proxies under test.

Each proxy is pinned to one core of its own; load and backend get the others.  Everything listens on
loopback, on ports found free, and lives in ``bench/build/``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).resolve().parent
BUILD = HERE / "build"
PROTOCOLS = ("smtp", "pop3", "imap")
WAYS = ("none", "starttls", "implicit")
TICK = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """A program of the measurement is missing or did not start; the text says which and why."""


@dataclasses.dataclass(frozen=True)
class Cores:
    """Which cores serve whom, as ``taskset -c`` lists."""

    proxy: str
    backend: str
    load: str
    load_workers: int

    @classmethod
    def of_this_machine(cls) -> Cores:
        """One core for the proxy, one for the backend, the rest for the load; two cores are the least."""
        own = sorted(os.sched_getaffinity(0))
        if len(own) < 2:
            raise BenchError("a measurement needs two cores: one for the proxy, one for all else")
        if len(own) < 4:
            return cls(str(own[0]), str(own[1]), ",".join(map(str, own[1:])), 1)
        return cls(str(own[1]), str(own[2]), ",".join(map(str, [own[0], *own[3:]])), 2)


def build() -> None:
    """Compile load generator and backend, where they are older than their source."""
    for tool in ("make", "cc", "taskset", "openssl"):
        if not shutil.which(tool):
            raise BenchError(f"{tool} is not installed")
    made = subprocess.run(["make", "-s", "-C", str(HERE)], capture_output=True, text=True)
    if made.returncode:
        raise BenchError(f"the load generator did not compile (libssl-dev missing?)\n{made.stderr}")


def certificate() -> tuple[Path, Path]:
    """An ECDSA P-256 certificate for localhost, made at first use: (certificate, key)."""
    certificate, key = BUILD / "localhost.pem", BUILD / "localhost.key"
    if not (certificate.exists() and key.exists()):
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        command += ["-nodes", "-days", "3650", "-subj", "/CN=localhost"]
        command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        command += ["-out", str(certificate), "-keyout", str(key)]
        subprocess.run(command, check=True, capture_output=True)
    return certificate, key


def raise_file_limit() -> int:
    """Let this process and its children open as many files as the system allows; returns the number."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_ports(number: int) -> list[int]:
    """Loopback ports that nobody listens on just now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class Backend:
    """The mail server behind the proxies (backend.c), one thread."""

    def __init__(self, cores: Cores, size: int, text: bool = False) -> None:
        command = ["taskset", "-c", cores.backend, str(BUILD / "backend"), "--size", str(size)]
        self.process = subprocess.Popen(
            command + ["--text"] * text, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise BenchError("the backend did not start")
        self.ports: dict[str, int] = json.loads(line)

    @property
    def pid(self) -> int:
        return self.process.pid

    def stop(self) -> None:
        """End it: it serves until its standard input ends."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


class Proxy:
    """A proxy under test: nine listeners, one for each protocol and way to TLS."""

    name = "?"

    def __init__(self, cores: Cores, backend: Backend) -> None:
        self.backend = backend
        self.home = BUILD / self.name
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True)
        pairs = [(protocol, way) for protocol in PROTOCOLS for way in WAYS]
        found = free_ports(len(pairs) + 1)
        self.ports = dict(zip(pairs, found))
        self.spare_port = found[-1]
        command = ["taskset", "-c", cores.proxy, *self.command()]
        self.said: IO[bytes] = (self.home / "output.txt").open("wb")
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self.said, stderr=subprocess.STDOUT, cwd=self.home
        )
        self._await_listening()

    def command(self) -> list[str]:
        """Write the configuration; return the command that runs it in the foreground."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        return self.process.pid

    def _await_listening(self, limit: float = 20.0) -> None:
        end = time.monotonic() + limit
        for port in self.ports.values():
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    if self.process.poll() is not None or time.monotonic() > end:
                        self.stop()
                        tail = (self.home / "output.txt").read_text(errors="replace")[-2000:]
                        raise BenchError(f"{self.name} did not start:\n{tail}") from None
                    time.sleep(0.05)

    def stop(self) -> None:
        """End it and all its children."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)
        self.said.close()


class Nginx(Proxy):
    """nginx's mail proxy with its defaults, one worker; the backend answers auth_http."""

    name = "nginx"
    extra = ""

    def command(self) -> list[str]:
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        try:
            about = subprocess.run([program, "-V"], capture_output=True, text=True).stderr
        except FileNotFoundError:
            raise BenchError("nginx is not installed (Debian: nginx-light libnginx-mod-mail)") from None
        modules = re.search(r"--modules-path=(\S+)", about)
        module = Path(modules[1] if modules else "/usr/lib/nginx/modules") / "ngx_mail_module.so"
        load = f"load_module {module};" if module.exists() else ""
        cert, key = certificate()
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        servers = "\n".join(
            f"  server {{ listen 127.0.0.1:{port}{' ssl' if way == 'implicit' else ''}; protocol {protocol};"
            f"{' starttls on;' if way == 'starttls' else ''} }}"
            for (protocol, way), port in self.ports.items()
        )
        configuration = self.home / "nginx.conf"
        configuration.write_text(f"""{load}
daemon off;
worker_processes 1;
worker_rlimit_nofile {files};
pid {self.home}/nginx.pid;
error_log {self.home}/error.log;
events {{ worker_connections 8192; }}
mail {{
  server_name gate.example.org;
  auth_http 127.0.0.1:{self.backend.ports["auth"]}/auth;
  ssl_certificate {cert};
  ssl_certificate_key {key};
  ssl_protocols TLSv1.2 TLSv1.3;
  smtp_auth plain login;
  proxy_smtp_auth on;
  xclient off;
  smtp_capabilities PIPELINING "SIZE 209715200" 8BITMIME ENHANCEDSTATUSCODES;
  pop3_capabilities TOP USER UIDL;
  imap_capabilities IMAP4rev1 LITERAL+ SASL-IR IDLE;
  {self.extra}
{servers}
}}
""")
        return [program, "-p", str(self.home), "-e", str(self.home / "error.log"), "-c", str(configuration)]


class NginxTuned(Nginx):
    """nginx with large buffers, where the question is bulk."""

    name = "nginx-tuned"
    extra = "proxy_buffer 256k;"


class Mailgate(Proxy):
    """mailgate with its defaults: it logs each command to a file, counts, and digests each message."""

    name = "mailgate"
    digest: bool | None = None
    plugins = ""

    def command(self) -> list[str]:
        cert, key = certificate()
        text = f"""hostname = "gate.example.org"
[log]
format = "json"
output = "{self.home}/mailgate.log"
[admin]
address = "127.0.0.1:{self.spare_port}"
[limits]
connections = 20000
"""
        for protocol in PROTOCOLS:
            text += f"""[[upstreams]]
name = "{protocol}"
addresses = ["127.0.0.1:{self.backend.ports[protocol]}"]
tls = "none"
"""
        for (protocol, way), port in self.ports.items():
            digest = "" if self.digest is None else f"digest = {str(self.digest).lower()}\n"
            tls = "" if way == "none" else f'certificates = [{{ certificate = "{cert}", key = "{key}" }}]\n'
            text += f"""[[listeners]]
name = "{protocol}-{way}"
protocol = "{protocol}"
address = "127.0.0.1:{port}"
upstream = "{protocol}"
cleartext_login = "allow"
{digest}[listeners.tls]
mode = "{way}"
{tls}[listeners.limits]
connections = 20000
connections_per_address = 20000
message_size = "200 MiB"
"""
        configuration = self.home / "mailgate.toml"
        configuration.write_text(text + self.plugins)
        return [sys.executable, "-m", "gateway", "run", "-c", str(configuration)]


class MailgateNoDigest(Mailgate):
    """mailgate without the SHA-256 of each message: what nginx does not do either."""

    name = "mailgate-nodigest"
    digest = False


TARGETS: dict[str, type[Proxy]] = {
    each.name: each for each in (Nginx, NginxTuned, Mailgate, MailgateNoDigest)
}


def family(pid: int) -> list[int]:
    """A process and all its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time that the family of ``pid`` has spent, with children already reaped."""
    total = 0
    for each in family(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15]))
    return total / TICK


def memory(pid: int) -> tuple[int, int]:
    """(PSS, RSS) of the family of ``pid``, in bytes."""
    pss = rss = 0
    for each in family(pid):
        for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "Pss":
                pss += int(value.split()[0]) * 1024
            elif name == "Rss":
                rss += int(value.split()[0]) * 1024
    return pss, rss


def load_command(cores: Cores, options: Sequence[object]) -> list[str]:
    """The load generator's command line, pinned."""
    return ["taskset", "-c", cores.load, str(BUILD / "load"), *map(str, options)]


def run_load(cores: Cores, *options: object, workers: int | None = None) -> dict[str, Any]:
    """Run the load generator to its end and return its figures; ``BenchError`` if a session failed."""
    number = cores.load_workers if workers is None else workers
    done = subprocess.run(
        load_command(cores, [*options, "--workers", number]), capture_output=True, text=True, timeout=300
    )
    if done.returncode:
        raise BenchError((done.stderr or done.stdout).strip() or f"load ended with status {done.returncode}")
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


@contextlib.contextmanager
def idle_load(cores: Cores, port: int, connections: int, way: str, fetch: int = 0) -> Iterator[None]:
    """Hold ``connections`` IMAP sessions in IDLE while the block runs.

    fetch: octets of the backend's large message, to be fetched by each session first; 0: none is.
    """
    options: list[object] = ["--protocol", "imap", "--port", port, "--tls", way, "--workload", "idle"]
    options += ["--connections", connections, "--deadline", 120]
    options += ["--op", "fetch", "--size", fetch] if fetch else []
    process = subprocess.Popen(
        load_command(cores, options),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin and process.stdout and process.stderr
    try:
        line = process.stdout.readline()
        if "held" not in line:
            raise BenchError("idle sessions were not held: " + process.stderr.read().strip())
        yield
    finally:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()
        process.stderr.close()
