"""Who listens on a port, for an error message: read from /proc, as ss(8) does."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_LISTEN = "0A"


def occupant(port: int) -> str:
    """Return "master (pid 123)", or "" where that can't be known (another user's, without root)."""
    wanted = _sockets_of(port)
    if not wanted:
        return ""
    for process in Path("/proc").glob("[0-9]*"):
        # Processes end, and others' are closed to us.
        with suppress(OSError):
            if any(str(one.readlink()) in wanted for one in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
    return ""


def _sockets_of(port: int) -> set[str]:
    """Return the sockets that listen on a port, as /proc/PID/fd names them (proc_net_tcp(5))."""
    found: set[str] = set()
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == _LISTEN and int(words[1].rpartition(":")[2], 16) == port:
                    found.add(f"socket:[{words[9]}]")
    return found
