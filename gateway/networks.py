"""Many networks, looked up fast: of the configuration, and of files that may change."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from pathlib import Path

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class NetworkFileError(ValueError):
    """A line is no network; the text names file and line."""


class Networks:
    """A set of networks, by the length of their prefixes: one look-up for each length in use."""

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        self._by_length: dict[tuple[int, int], set[int]] = {}
        for network in networks:
            bits = network.max_prefixlen - network.prefixlen
            key = (network.version, bits)
            self._by_length.setdefault(key, set()).add(int(network.network_address) >> bits)

    def __bool__(self) -> bool:
        return bool(self._by_length)

    def __contains__(self, address: object) -> bool:
        if not self._by_length:
            return False
        try:
            parsed = ipaddress.ip_address(str(address).partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(parsed, "ipv4_mapped", None)
        parsed = mapped or parsed
        number, version = int(parsed), parsed.version
        return any(number >> bits in found for (of, bits), found in self._by_length.items() if of == version)


def read_networks(path: Path) -> list[Network]:
    """Return the networks of a file: one a line, ``#`` begins a comment.

    Raises OSError, NetworkFileError.
    """
    found: list[Network] = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        text = line.partition("#")[0].strip()
        if text:
            try:
                found.append(ipaddress.ip_network(text))
            except ValueError as error:
                raise NetworkFileError(f"{path}: line {number}: {error}") from None
    return found


class NetworkList:
    """Networks of the configuration and of files."""

    def __init__(self, networks: Sequence[Network], files: Sequence[Path]) -> None:
        """Read the files.  Raises OSError, NetworkFileError."""
        self._own = tuple(networks)
        self._files = tuple(files)
        self._seen: list[tuple[int, int, int]] = []
        self._networks = Networks()
        self._read()

    def __contains__(self, address: object) -> bool:
        return address in self._networks

    def __bool__(self) -> bool:
        return bool(self._networks)

    def _read(self) -> None:
        seen = [_identity(path) for path in self._files]
        networks = [one for path in self._files for one in read_networks(path)]
        self._networks = Networks((*self._own, *networks))
        self._seen = seen

    def refresh(self) -> str:
        """Read the files again if they have changed; say what is wrong, and keep what was then."""
        if not self._files:
            return ""
        try:
            seen = [_identity(path) for path in self._files]
            if seen == self._seen:
                return ""
            self._seen = seen  # what is wrong is told once
            self._read()
        except (OSError, NetworkFileError) as error:
            return str(error)
        return ""


def _identity(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size
