"""The kinds of values a configuration has: durations, sizes, addresses, networks, paths."""

from __future__ import annotations

import datetime
import ipaddress
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, ValidationInfo

_YEAR = 365 * 86400.0
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZES = {
    "": 1, "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1024, "mib": 1024**2, "gib": 1024**3,
}  # fmt: skip


def duration(value: object, longest: float = _YEAR) -> float:
    """Read ``30s``, ``10m``, ``1h30m`` into seconds; a bare number is seconds."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str) and re.fullmatch(r"(\d+(\.\d+)?\s*(ms|s|m|h|d)\s*)+", value.strip()):
        parts = re.findall(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)", value)
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    else:
        raise ValueError('not a duration; write it like "30s", "10m", "1h30m"')
    if seconds < 0:
        raise ValueError("a duration can't be negative")
    if not math.isfinite(seconds) or seconds > longest:
        raise ValueError(f"a duration can't be longer than {longest / 86400:g}d")
    return seconds


def positive_duration(value: object) -> float:
    """Read a duration that can't be nothing."""
    seconds = duration(value)
    if not seconds:
        raise ValueError("must be more than 0s")
    return seconds


def retention(value: object) -> float:
    """Read how long something is kept: a duration of up to ten years."""
    return duration(value, longest=10 * _YEAR)


def size(value: object) -> int:
    """Read ``10 MiB``, ``500 kB`` into octets; a bare number is octets."""
    if isinstance(value, int) and not isinstance(value, bool):
        octets = value
    elif isinstance(value, str) and (
        found := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmg]?i?b?)\s*", value.lower())
    ):
        number, unit = found.groups()
        if unit not in _SIZES:
            raise ValueError('not a size; write it like "10 MiB" or "500 kB"')
        octets = int(float(number) * _SIZES[unit])
    else:
        raise ValueError('not a size; write it like "10 MiB" or "500 kB"')
    if octets < 0:
        raise ValueError("a size can't be negative")
    if octets >= 1 << 63:
        raise ValueError("a size must be less than 8 EiB")
    return octets


@dataclass(frozen=True, slots=True)
class HostPort:
    """A host (name or number) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def host_port(value: object) -> HostPort:
    """Read ``host:port``, ``[::1]:143``."""
    if isinstance(value, HostPort):
        return value
    if not isinstance(value, str):
        raise ValueError('not an address; write it like "127.0.0.1:143" or "[::1]:143"')
    host, colon, port = value.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]+", port):
        raise ValueError('no port; write it like "127.0.0.1:143" or "[::1]:143"')
    if len(port) > 5 or int(port) > 65535:
        raise ValueError(f"there is no port {port[:10]}: the highest is 65535")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError('an IPv6 address needs brackets: "[::1]:143"')
    if not host:
        raise ValueError('no host; write it like "127.0.0.1:143" or "[::1]:143"')
    if ":" not in host:
        host_name(host)
    elif not _is_address(host):
        raise ValueError(f"not an IPv6 address: {host}")
    return HostPort(host, int(port))


def upstream_address(value: object) -> HostPort:
    """Read an address to connect to."""
    address = host_port(value)
    if not address.port:
        raise ValueError("port 0 can't be connected to")
    return address


def host_name(value: object) -> str:
    """Read the name of a host, or an IPv4 address: labels of RFC 1123 2.1, "_", or IDNA."""
    if not isinstance(value, str):
        raise ValueError("must be a string")
    try:
        text = value.encode("idna").decode("ascii")
    except UnicodeError:
        text = ""
    label = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
    if len(text) > 253 or not re.fullmatch(rf"{label}(?:\.{label})*\.?", text):
        raise ValueError(f'not the name of a host: {value!r}; write it like "mail.example.org"')
    return value


def own_name(value: object) -> str:
    """Read the name that goes into greetings and EHLO: ASCII letters, digits, "-" and "."."""
    name = host_name(value)
    if not re.fullmatch(r"[A-Za-z0-9.-]+", name):
        raise ValueError(f"{value!r} may hold ASCII letters, digits, '-' and '.' only")
    return name


def server_name(value: object) -> str:
    """Read the name or address that a certificate must have; "" is the host's."""
    if value == "" or (isinstance(value, str) and _is_address(value)):
        return str(value)
    return host_name(value)


def greeting_text(value: object) -> str:
    """Read what is said in a greeting: one line of printable ASCII (RFC 5321 4.2), of 400 octets."""
    if not isinstance(value, str) or not re.fullmatch(r"[\x20-\x7e]{0,400}", value):
        raise ValueError("must be one line of at most 400 printable ASCII characters")
    return value


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def listen_address(value: object) -> HostPort:
    """Read an address to listen on: a number, not a name."""
    address = host_port(value)
    if not _is_address(address.host):
        raise ValueError('listen on an address, not a name; all addresses are "0.0.0.0" or "[::]"')
    return address


def network(value: object) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Read a network in CIDR form; an address is a network of one."""
    if isinstance(value, (ipaddress.IPv4Network, ipaddress.IPv6Network)):
        return value
    try:
        return ipaddress.ip_network(str(value), strict=True)
    except ValueError as error:
        raise ValueError(f'not a network: {error}; write it like "192.0.2.0/24"') from None


def path(value: object, info: ValidationInfo) -> Path:
    """Read a path; a relative one is relative to the configuration file's folder."""
    if not isinstance(value, (str, Path)) or not str(value) or "\0" in str(value):
        raise ValueError("not a path")
    base = (info.context or {}).get("directory")
    return Path(base, value) if base is not None else Path(value)


def log_output(value: object, info: ValidationInfo) -> str:
    """Read where the log goes: "stderr", "stdout", or a path."""
    return str(value) if value in ("stderr", "stdout") else str(path(value, info))


def audit_store(value: object, info: ValidationInfo) -> str:
    """Read where the audit is kept: a file's path, or a URL of PostgreSQL."""
    if isinstance(value, str) and "://" in value:
        if not re.match(r"postgres(ql)?://[^/]*/[^/?]+", value):
            raise ValueError(
                'not a path, nor a URL like "postgresql://mailgate@db.example.org/audit?passfile=secret"'
            )
        return value
    return str(path(value, info))


def share(value: object) -> float:
    """Read ``25%`` or a number from 0 to 1."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", value) if isinstance(value, str) else None
    if found:
        number = float(found.group(1)) / 100
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        number = float(value)
    else:
        raise ValueError('not a share; write it like "25%"')
    if not 0 <= number <= 1:
        raise ValueError("a share lies between 0% and 100%")
    return number


def moment(value: object) -> float:
    """Read a TOML date, or a date with a time, into seconds since the epoch.

    Without an offset it is in the machine's own time zone; a date alone is its first moment.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)  # read already
    if isinstance(value, datetime.datetime):
        return value.astimezone().timestamp()
    if isinstance(value, datetime.date):
        return datetime.datetime(value.year, value.month, value.day).astimezone().timestamp()
    raise ValueError("not a date; write it without quotes like 2027-01-31 or 2027-01-31T08:00:00")


def rate(value: object) -> tuple[float, float]:
    """Read ``600/m``, ``100/h``, ``1 GiB/d``, ``30/10s`` into an amount and its seconds."""
    if isinstance(value, (tuple, list)) and len(value) == 2:
        return float(value[0]), float(value[1])  # read already
    amount, slash, time = value.partition("/") if isinstance(value, str) else ("", "", "")
    time = time.strip()
    try:
        seconds = duration(f"1{time}" if time.isalpha() else time)
        octets = size(int(amount) if amount.strip().isdigit() else amount)
    except ValueError:
        octets, seconds = 0, 0.0
    if not slash or not octets or not seconds:
        raise ValueError('not a rate; write it like "600/m", "100/h" or "1 GiB/h"')
    return float(octets), seconds


def plugin_use(value: object, info: ValidationInfo) -> str:
    """Read what names a plugin; a relative path is relative to the configuration file's folder."""
    if not isinstance(value, str) or not value:
        raise ValueError("not a plugin's name, nor a path to a .py file")
    file, colon, name = value.partition(".py")
    if colon and (not name or name.startswith(":")):
        return str(path(file + ".py", info)) + name
    return value


def _text(value: Any) -> str:
    return str(value)


Duration = Annotated[float, BeforeValidator(duration)]
Retention = Annotated[float, BeforeValidator(retention)]
PositiveDuration = Annotated[float, BeforeValidator(positive_duration)]
RateLimit = Annotated[tuple[float, float], BeforeValidator(rate)]
Moment = Annotated[float, BeforeValidator(moment)]
Size = Annotated[int, BeforeValidator(size)]
Address = Annotated[HostPort, BeforeValidator(upstream_address), PlainSerializer(_text)]
ListenAddress = Annotated[HostPort, BeforeValidator(listen_address), PlainSerializer(_text)]
Network = Annotated[
    ipaddress.IPv4Network | ipaddress.IPv6Network, BeforeValidator(network), PlainSerializer(_text)
]
Share = Annotated[float, BeforeValidator(share)]
PluginUse = Annotated[str, BeforeValidator(plugin_use)]
FilePath = Annotated[Path, BeforeValidator(path)]
OwnName = Annotated[str, BeforeValidator(own_name)]
ServerName = Annotated[str, BeforeValidator(server_name)]
GreetingText = Annotated[str, BeforeValidator(greeting_text)]
AuditStore = Annotated[str, BeforeValidator(audit_store)]
LogOutput = Annotated[str, BeforeValidator(log_output)]
