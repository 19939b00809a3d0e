"""Compare mailgate with nginx's mail proxy, one core each: CPU seconds per unit of work.

Run it with the Python that mailgate is installed for: ``python bench/run.py``.  See README.md beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import re
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from peers import (
    PROTOCOLS,
    TARGETS,
    WAYS,
    Backend,
    BenchError,
    Cores,
    Proxy,
    build,
    cpu_seconds,
    idle_load,
    memory,
    raise_file_limit,
    run_load,
)

WAY_NAMES = {"none": "plain", "starttls": "starttls", "implicit": "tls"}


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table: a workload of one protocol over one way to TLS."""

    workload: str
    protocol: str
    way: str

    @property
    def name(self) -> str:
        return f"{self.workload}-{self.protocol}-{WAY_NAMES[self.way]}"

    @property
    def unit(self) -> str:
        return {"session": "CPU s/1000", "bulk": "CPU s/GB"}.get(self.workload, "CPU us each")

    def options(self, args: argparse.Namespace) -> list[object]:
        """What the load generator is told."""
        workload = "noop" if self.workload == "pipelined" else self.workload
        connections = 4 if workload == "bulk" else args.connections
        options: list[object] = ["--protocol", self.protocol, "--tls", self.way, "--workload", workload]
        options += ["--connections", connections, "--size", args.size]
        if self.workload == "pipelined":
            options += ["--pipeline", 100]
        if workload == "noop" and self.protocol == "smtp":  # mailgate limits commands between messages
            options += ["--per-session", 900]
        return options + ["--text"] * args.text

    def cost(self, run: dict[str, Any]) -> float:
        """CPU of the proxy per unit."""
        if self.workload == "bulk":
            return float(run["proxy_cpu"] / (run["bytes"] / 1e9))
        return float(run["proxy_cpu"] / run["ops"] * (1000 if self.workload == "session" else 1e6))

    def rate(self, run: dict[str, Any]) -> float:
        """Units a second by the wall clock: sessions, NOOPs, or MB."""
        return float((run["bytes"] / 1e6 if self.workload == "bulk" else run["ops"]) / run["wall"])


ROWS = [
    *(Row("session", protocol, way) for protocol in PROTOCOLS for way in WAYS),
    *(Row("bulk", protocol, way) for protocol in PROTOCOLS for way in ("none", "implicit")),
    *(Row("noop", protocol, way) for protocol in PROTOCOLS for way in ("none", "implicit")),
    *(Row("pipelined", protocol, "none") for protocol in PROTOCOLS),
]


def measure(
    row: Row, proxy: Proxy, backend: Backend, cores: Cores, args: argparse.Namespace
) -> dict[str, Any]:
    """One run of one workload through one proxy."""
    options = [*row.options(args), "--port", proxy.ports[row.protocol, row.way]]
    before, backend_before = cpu_seconds(proxy.pid), cpu_seconds(backend.pid)
    run = run_load(cores, *options, "--seconds", args.seconds)
    time.sleep(0.05)  # the proxy closes the last sessions: their cost belongs to this run
    run["proxy_cpu"] = cpu_seconds(proxy.pid) - before
    run["backend_cpu"] = cpu_seconds(backend.pid) - backend_before
    if not run["ops"]:
        raise BenchError("not one operation in the time of the run; raise --seconds")
    return run


def compare(
    rows: list[Row], proxies: list[Proxy], backend: Backend, cores: Cores, args: Any
) -> list[dict[str, Any]]:
    """All rows, the proxies taking turns within each."""
    table = []
    for row in rows:
        runs: dict[str, list[dict[str, Any]]] = {proxy.name: [] for proxy in proxies}
        failed: dict[str, str] = {}
        for turn in range(args.rounds + 1):
            for proxy in proxies:
                if proxy.name in failed:
                    continue
                try:
                    if turn == 0:  # warm up: not counted
                        port = proxy.ports[row.protocol, row.way]
                        run_load(cores, *row.options(args), "--port", port, "--seconds", 0.15)
                    else:
                        runs[proxy.name].append(measure(row, proxy, backend, cores, args))
                except BenchError as error:
                    failed[proxy.name] = str(error)
        line = summary(row, runs, failed, args)
        print_line(line, args)
        table.append(line)
    return table


def summary(
    row: Row, runs: dict[str, list[dict[str, Any]]], failed: dict[str, str], args: Any
) -> dict[str, Any]:
    """Medians of each proxy, and each one's ratio to the first."""
    line: dict[str, Any] = {"row": row.name, "unit": row.unit, "targets": {}, "failed": failed}
    first = args.targets[0]
    for name, each in runs.items():
        if name in failed or not each:
            continue
        costs = [row.cost(run) for run in each]
        found = {
            "cost": statistics.median(costs),
            "costs": costs,
            "rate": statistics.median(row.rate(run) for run in each),
            "p50_us": statistics.median(run["p50_us"] for run in each),
            "p99_us": statistics.median(run["p99_us"] for run in each),
            "proxy_busy": statistics.median(run["proxy_cpu"] / run["wall"] for run in each),
            "backend_busy": statistics.median(run["backend_cpu"] / run["wall"] for run in each),
            "load_busy": statistics.median(run["cpu"] / run["wall"] / args.load_workers for run in each),
        }
        if first in line["targets"]:
            ratios = [mine / theirs for mine, theirs in zip(costs, line["targets"][first]["costs"])]
            found["ratio"] = found["cost"] / line["targets"][first]["cost"]
            found["ratios"] = [min(ratios), max(ratios)]
        line["targets"][name] = found
    return line


def print_head(args: Any) -> None:
    """The names of the columns."""
    costs = "".join(f"{name:>19}" for name in args.targets)
    ratios = "".join(f"{'ratio (range)':>21}" for _ in args.targets[1:])
    rates = "".join(f"{name[:12] + '/s':>15}" for name in args.targets)
    print(f"{'':37}{costs}{ratios}{rates}   p50 ms (busy %: proxy/backend/load)")


def print_line(line: dict[str, Any], args: Any) -> None:
    """One row as text."""
    costs = ratios = rates = rest = ""
    for name in args.targets:
        found = line["targets"].get(name)
        costs += f"{found['cost']:>19.3f}" if found else f"{'failed':>19}"
        if name != args.targets[0]:
            text = "-"
            if found and "ratio" in found:
                text = f"{found['ratio']:.2f} ({found['ratios'][0]:.2f}-{found['ratios'][1]:.2f})"
            ratios += f"{text:>21}"
        rates += f"{found['rate']:>15,.0f}" if found else f"{'-':>15}"
        if found:
            busy = "/".join(f"{100 * found[who + '_busy']:.0f}" for who in ("proxy", "backend", "load"))
            rest += f"  {found['p50_us'] / 1000:.2f} ({busy})"
    print(f"{line['row']:24}{line['unit']:13}{costs}{ratios}{rates} {rest}", flush=True)
    for name, why in line["failed"].items():
        print(f"    {name}: {why}", flush=True)


def direct(backend: Backend, cores: Cores, args: Any) -> list[dict[str, Any]]:
    """Load against backend with nothing between: the rates that neither may be the limit of."""
    table = []
    for row in ROWS:
        if row.way != "none" or not re.search(args.only, row.name.replace("-plain", "-direct")):
            continue
        port, seconds = backend.ports[row.protocol], min(args.seconds, 0.7)
        run = run_load(cores, *row.options(args), "--port", port, "--seconds", seconds)
        table.append({"row": row.name, "rate": row.rate(run), "p50_us": run["p50_us"]})
    if table:
        print("\ndirect, no proxy (a second, MB for bulk): ", end="")
        print(", ".join(f"{each['row'].removesuffix('-plain')} {each['rate']:,.0f}" for each in table))
    return table


def idle(cores: Cores, backend: Backend, args: Any) -> list[dict[str, Any]]:
    """Memory of an idle IMAP connection over TLS, each proxy freshly started for it."""
    table = []
    for name in args.targets:
        proxy = TARGETS[name](cores, backend)
        try:
            port = proxy.ports["imap", "implicit"]
            run_load(cores, "--protocol", "imap", "--port", port, "--tls", "implicit", "--count", 200)
            time.sleep(0.3)
            pss, rss = memory(proxy.pid)
            with idle_load(cores, port, args.idle, "implicit"):
                time.sleep(1)
                spent = cpu_seconds(proxy.pid)
                time.sleep(2)
                spent = (cpu_seconds(proxy.pid) - spent) / 2
                full_pss, full_rss = memory(proxy.pid)
            line = {
                "target": name,
                "connections": args.idle,
                "base_mib": pss / 2**20,
                "pss_kib_each": (full_pss - pss) / 1024 / args.idle,
                "rss_kib_each": (full_rss - rss) / 1024 / args.idle,
                "idle_cpu_percent": spent * 100,
            }
        except BenchError as error:
            line = {"target": name, "failed": str(error)}
        finally:
            proxy.stop()
        table.append(line)
        if "failed" in line:
            print(f"idle-imap-tls  {name}: {line['failed']}")
        else:
            print(
                f"idle-imap-tls  {name:18} {args.idle} connections: "
                f"{line['pss_kib_each']:.1f} KiB each by PSS, "
                f"{line['rss_kib_each']:.1f} by RSS; the process alone {line['base_mib']:.1f} MiB; "
                f"CPU while idle {line['idle_cpu_percent']:.1f} %"
            )
    return table


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", metavar="REGEX", help="rows by name, as session-imap-tls")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each proxy in each row (default 3)")
    parser.add_argument("--seconds", type=float, default=0.7, help="length of a run (default 0.7)")
    targets = f"of {', '.join(TARGETS)}; the first is the measure (default nginx,mailgate)"
    parser.add_argument("--targets", default="nginx,mailgate", help=targets)
    parser.add_argument(
        "--connections", type=int, default=50, help="at once in session and noop (default 50)"
    )
    parser.add_argument("--idle", type=int, default=2000, help="connections held idle (0: leave out)")
    parser.add_argument("--size", type=int, default=10 << 20, help="bytes of a bulk message (default 10 MiB)")
    parser.add_argument("--text", action="store_true", help="bulk messages of prose with dots, not base64")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    args = parser.parse_args()
    args.targets = args.targets.split(",")
    unknown = [name for name in args.targets if name not in TARGETS]
    if unknown:
        parser.error(f"unknown target {unknown[0]}")
    try:
        re.compile(args.only)
    except re.error as error:
        parser.error(f"--only: {error}")
    if args.rounds < 1 or args.seconds <= 0:
        parser.error("--rounds and --seconds must be positive")
    return args


def main() -> int:
    args = arguments()
    raise_file_limit()
    rows = [row for row in ROWS if re.search(args.only, row.name)]
    cores = Cores.of_this_machine()
    args.load_workers = cores.load_workers
    table: list[dict[str, Any]] = []
    idle_table: list[dict[str, Any]] = []
    build()
    with contextlib.ExitStack() as stack:
        backend = Backend(cores, args.size, args.text)
        stack.callback(backend.stop)
        print(
            f"{os.cpu_count()} cores: proxy on {cores.proxy}, backend on {cores.backend}, "
            f"load on {cores.load}; {args.rounds} rounds of {args.seconds:g} s; "
            f"kernel {platform.release()}, Python {platform.python_version()}"
        )
        if rows:
            proxies = []
            for name in args.targets:
                proxies.append(TARGETS[name](cores, backend))
                stack.callback(proxies[-1].stop)
            print_head(args)
            table = compare(rows, proxies, backend, cores, args)
        if args.idle and re.search(args.only, "idle-imap-tls"):
            idle_table = idle(cores, backend, args)
        direct_table = direct(backend, cores, args)
    if args.json:
        whole = {"rows": table, "idle": idle_table, "direct": direct_table, "rounds": args.rounds}
        whole |= {"seconds": args.seconds, "size": args.size, "cores": dataclasses.asdict(cores)}
        args.json.write_text(json.dumps(whole, indent=1) + "\n")
    return 1 if any(line["failed"] for line in table) or any("failed" in line for line in idle_table) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as trouble:
        sys.exit(f"bench: {trouble}")
    except KeyboardInterrupt:
        sys.exit(130)
