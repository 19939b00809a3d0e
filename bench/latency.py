"""What holding a message for the plugins adds to its time on the way, on each path and by where plugins run.

One connection, one message after the other: nothing waits for anything but its own message.  "streamed"
has no plugins; "held" has one on the reactor, "thread" one in a thread, "process" one in a process of its
own.  Times are medians, of all runs of a row taking turns.  The backend has one message only: what was
fetched before is "known", its verdict kept and not asked for again, so what plugins take is seen in the
other rows.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
from pathlib import Path

from peers import Backend, BenchError, Cores, Mailgate, build, raise_file_limit, run_load

STAGES = '["data", "append", "retr", "fetch"]'
OPTIONS = 'options = { name = "X-Measured", value = "yes" }'
#: A plugin that does what add_header does, where it is told to.
MARK = """
from gateway.plugin import Message, Modify, Pass, Plugin, SessionRecord

class Mark(Plugin):
    def inspect(self, message: Message, session: SessionRecord):
        edits = message.edits()
        edits.add_header("X-Measured", "yes")
        return Modify(edits)
"""
PATHS = (
    ("SMTP DATA", "smtp", ""),
    ("IMAP APPEND", "imap", "append"),
    ("POP3 RETR, known", "pop3", ""),
    ("IMAP FETCH, known", "imap", ""),
)


class Streaming(Mailgate):
    """mailgate without plugins."""

    name = "streamed"


class Held(Mailgate):
    """mailgate with a plugin that edits each message on the reactor."""

    name = "held"
    plugins = f"""[[plugins]]
name = "mark"
use = "add_header"
stages = {STAGES}
{OPTIONS}
"""


class InThread(Mailgate):
    """The same in a thread."""

    name = "thread"
    isolation = "thread"

    def command(self) -> list[str]:
        mark = self.home / "mark.py"
        mark.write_text(MARK)
        self.plugins = f"""[[plugins]]
name = "mark"
use = "{mark}"
stages = {STAGES}
isolation = "{self.isolation}"
"""
        return super().command()


class InProcess(InThread):
    """The same in a process."""

    name = "process"
    isolation = "process"


KINDS = (Streaming, Held, InThread, InProcess)


def measure(size: int, args: argparse.Namespace, cores: Cores) -> list[dict[str, object]]:
    """Measure and print each path with messages of one size."""
    table: list[dict[str, object]] = []
    with contextlib.ExitStack() as stack:
        backend = Backend(cores, size)
        stack.callback(backend.stop)
        gateways = []
        for kind in KINDS:
            gateways.append(kind(cores, backend))
            stack.callback(gateways[-1].stop)
        for path, protocol, op in PATHS:
            times: dict[str, list[float]] = {gateway.name: [] for gateway in gateways}
            for turn in range(args.rounds + 1):
                for gateway in gateways:
                    options: list[object] = [
                        "--protocol",
                        protocol,
                        "--port",
                        gateway.ports[protocol, "none"],
                    ]
                    options += ["--workload", "bulk", "--connections", 1, "--size", size, "--edited"]
                    options += ["--op", op] if op else []
                    options += ["--seconds", args.seconds if turn else 0.2]  # first: warm up, not counted
                    run = run_load(cores, *options, workers=1)
                    if turn:
                        times[gateway.name].append(run["p50_us"] / 1000)
            found = {name: statistics.median(each) for name, each in times.items()}
            table.append({"path": path, "size": size, "ms": found})
            first, *others = found.values()
            cells = "".join(f"{f'{each:.2f} ({each - first:+.2f})':>18}" for each in others)
            print(f"{path:18}{size / 1000:>7,.0f} KB{first:>10.2f}{cells}", flush=True)
    return table


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="10000,10000000", help="octets of the messages (10 KB and 10 MB)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each row (default 3)")
    parser.add_argument("--seconds", type=float, default=0.7, help="length of a run (default 0.7)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    args = parser.parse_args()
    raise_file_limit()
    build()
    cores = Cores.of_this_machine()
    print(
        f"{'ms of a message':28}"
        + "".join(f"{kind.name:>{10 if kind is Streaming else 17}}" for kind in KINDS)
    )
    table = [row for size in args.sizes.split(",") for row in measure(int(size), args, cores)]
    if args.json:
        args.json.write_text(json.dumps(table, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as trouble:
        sys.exit(f"bench: {trouble}")
    except KeyboardInterrupt:
        sys.exit(130)
