"""How much memory mailgate takes for one large message on each path.

For each path: reset the peak of the process's resident memory, pass one message (default 100 MB), read
the peak.  "growth" is that peak less what was resident before; "private" leaves pages of files out (watched,
so a moment's peak may be missed).  "held" paths have a plugin that edits the message, so that it lies in the
spool whole before it goes on; pages of a spool file that are mapped while a plugin reads count as resident,
though the kernel may drop them at any time.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from peers import (
    Backend,
    BenchError,
    Cores,
    Mailgate,
    build,
    family,
    idle_load,
    raise_file_limit,
    run_load,
)


@dataclasses.dataclass(frozen=True)
class Route:
    """A way that a message takes through the gateway."""

    name: str
    protocol: str
    held: bool
    op: str = ""


ROUTES = (
    Route("SMTP DATA, streamed", "smtp", False),
    Route("SMTP DATA, held and edited", "smtp", True),
    Route("IMAP APPEND, streamed", "imap", False, "append"),
    Route("IMAP APPEND, held and edited", "imap", True, "append"),
    Route("POP3 RETR, streamed", "pop3", False),
    Route("POP3 RETR, held and edited", "pop3", True),
    Route("IMAP FETCH, streamed", "imap", False),
    Route("IMAP FETCH, held and edited", "imap", True),
)


class Holding(Mailgate):
    """mailgate with a plugin that edits every message, sent or fetched."""

    name = "mailgate-holding"
    plugins = """[[plugins]]
name = "mark"
use = "add_header"
stages = ["data", "append", "retr", "fetch"]
time_limit = "60s"
options = { name = "X-Measured", value = "yes" }
"""


def status(pid: int) -> dict[str, int]:
    """The memory lines of /proc/PID/status, in bytes."""
    found = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            found[name] = int(value.split()[0]) * 1024
    return found


class Highest:
    """Watches private memory (pages of no file) while a block runs: the kernel keeps no peak of it."""

    def __init__(self, pids: list[int]) -> None:
        self.seen = dict.fromkeys(pids, 0)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._over.wait(0.002):
            for pid, highest in self.seen.items():
                self.seen[pid] = max(highest, status(pid)["RssAnon"])

    def __enter__(self) -> Highest:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def peak_of(
    gateway: Mailgate, route: Route, way: str, args: argparse.Namespace, cores: Cores
) -> dict[str, float]:
    """Pass the messages of one route; return resident MiB before, at the peak, and after."""
    options: list[object] = ["--protocol", route.protocol, "--port", gateway.ports[route.protocol, way]]
    options += ["--tls", way, "--workload", "bulk", "--op", route.op or "-", "--size", args.size]
    options += ["--connections", args.connections, "--count", args.connections, "--seconds", 100]
    if route.held:
        options += ["--edited"]
    pids = family(gateway.pid)
    before = {pid: status(pid)["VmRSS"] for pid in pids}
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    private = {pid: status(pid)["RssAnon"] for pid in pids}
    with Highest(pids) as highest:
        run = run_load(cores, *options, workers=1)
    ends = {pid: status(pid) for pid in pids}
    mib = 2**20
    return {
        "before": sum(before.values()) / mib,
        "peak": sum(each["VmHWM"] for each in ends.values()) / mib,
        "growth": max(ends[pid]["VmHWM"] - before[pid] for pid in pids) / mib,
        "private": max(highest.seen[pid] - private[pid] for pid in pids) / mib,
        "after": sum(each["VmRSS"] for each in ends.values()) / mib,
        "seconds": run["wall"],
    }


def kept_by_idle(cores: Cores, size: int = 4 << 20, connections: int = 200) -> dict[str, float]:
    """Return the KiB that an idle IMAP connection over TLS holds, without and with a message of
    ``size`` octets fetched before."""
    found = {}
    backend = Backend(cores, size)
    try:
        for name, fetch in (("idle", 0), ("idle, after a fetch", size)):
            gateway = Mailgate(cores, backend)
            try:
                port = gateway.ports["imap", "implicit"]
                way = ["--protocol", "imap", "--tls", "implicit", "--port", port, "--size", size]
                run_load(cores, *way, "--count", 50)  # warm: what is loaded once does not count
                run_load(cores, *way, "--workload", "bulk", "--connections", 2, "--count", 2)
                before = sum(status(pid)["VmRSS"] for pid in family(gateway.pid))
                with idle_load(cores, port, connections, "implicit", fetch):
                    after = sum(status(pid)["VmRSS"] for pid in family(gateway.pid))
                found[name] = (after - before) / 1024 / connections
            finally:
                gateway.stop()
    finally:
        backend.stop()
    return found


@contextlib.contextmanager
def gateways(cores: Cores, backend: Backend) -> Iterator[dict[bool, Mailgate]]:
    """mailgate without and with the plugin."""
    with contextlib.ExitStack() as stack:
        found: dict[bool, Mailgate] = {}
        for held, kind in ((False, Mailgate), (True, Holding)):
            found[held] = kind(cores, backend)
            stack.callback(found[held].stop)
        yield found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=100_000_000, help="bytes of the message (default 100 MB)")
    parser.add_argument("--connections", type=int, default=1, help="messages at once (default 1)")
    parser.add_argument("--tls", action="store_true", help="over implicit TLS instead of plaintext")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    args = parser.parse_args()
    raise_file_limit()
    build()
    cores = Cores.of_this_machine()
    backend = Backend(cores, args.size)
    table: dict[str, dict[str, float] | str] = {}
    try:
        with gateways(cores, backend) as found:
            way = "implicit" if args.tls else "none"
            print(f"{args.connections} x {args.size / 1e6:g} MB, {'TLS' if args.tls else 'plaintext'}")
            columns = ("before", "peak", "growth", "private", "after", "seconds")
            print(f"{'resident MiB':32}" + "".join(f"{column:>9}" for column in columns))
            for route in ROUTES:
                try:
                    line = peak_of(found[route.held], route, way, args, cores)
                except BenchError as error:
                    table[route.name] = str(error)
                    print(f"{route.name:32}failed: {error}")
                    continue
                table[route.name] = line
                print(f"{route.name:32}" + "".join(f"{value:>9.1f}" for value in line.values()))
    finally:
        backend.stop()
    try:
        idle = kept_by_idle(cores)
        table["KiB of an idle TLS connection"] = idle
        print("KiB of an idle IMAP connection over TLS: ", end="")
        print(", ".join(f"{name} {value:.1f}" for name, value in idle.items()))
    except BenchError as error:
        table["idle"] = str(error)
        print(f"idle connections failed: {error}")
    if args.json:
        args.json.write_text(json.dumps(table, indent=1) + "\n")
    return 1 if any(isinstance(line, str) for line in table.values()) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as trouble:
        sys.exit(f"bench: {trouble}")
    except KeyboardInterrupt:
        sys.exit(130)
