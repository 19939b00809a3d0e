"""The demonstration's setting: ports, certificates, and the gateway's configuration."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from ..config.model import Configuration
from ..config.reading import examine_text
from .certificates import KeyPair

#: listener -> (protocol, its TLS, the upstream's port, the upstream's TLS, a port easy to remember).
LISTENERS: dict[str, tuple[str, str, str, str, int]] = {
    "submission": ("smtp", "starttls", "smtp", "starttls", 2587),
    "smtps": ("smtp", "implicit", "smtps", "implicit", 2465),
    "lmtp": ("lmtp", "none", "lmtp", "none", 2424),
    "imap": ("imap", "starttls", "imap", "starttls", 2143),
    "imaps": ("imap", "implicit", "imap", "starttls", 2993),
    "pop3": ("pop3", "starttls", "pop3", "none", 2110),
    "pop3s": ("pop3", "implicit", "pop3s", "implicit", 2995),
}
ADMIN_PORT = 9464


@dataclass
class Setting:
    """Where everything is."""

    ports: dict[str, int]
    admin: int
    moved: list[tuple[str, int]]  # what has another port than usual, and the usual one, which is taken


def choose_ports() -> Setting:
    """Take the ports that are easy to remember, and free ones where those are taken."""
    moved: list[tuple[str, int]] = []

    def port(name: str, wanted: int) -> int:
        for candidate in (wanted, 0):
            with socket.socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    sock.bind(("127.0.0.1", candidate))
                except OSError:
                    moved.append((name, wanted))
                    continue
                return int(sock.getsockname()[1])
        raise OSError("no free port on 127.0.0.1")

    ports = {name: port(name, row[4]) for name, row in LISTENERS.items()}
    return Setting(ports, port("admin", ADMIN_PORT), moved)


def configuration_text(setting: Setting, upstream_ports: dict[str, int], ca: Path, pair: KeyPair) -> str:
    """Write the gateway's configuration, as an admin would."""
    tls = f'certificates = [{{ certificate = "{pair.certificate}", key = "{pair.key}" }}]'
    text = f'hostname = "mail.example.org"\n\n[admin]\naddress = "127.0.0.1:{setting.admin}"\n'
    text += '\n[audit]\nstore = "audit.db"\n'
    text += '\n[[policies]]\nname = "tls-for-all"\nlogin = "tls"\nmode = "monitor"\n'
    upstreams = {(row[2], row[3]): f"{row[2]}-server" for row in LISTENERS.values()}
    for (port, mode), name in upstreams.items():
        text += f'\n[[upstreams]]\nname = "{name}"\naddresses = ["127.0.0.1:{upstream_ports[port]}"]\n'
        text += f'tls = "{mode}"\n' + (f'ca = "{ca}"\n' if mode != "none" else "")
    for name, (protocol, mode, port, upstream_mode, _) in LISTENERS.items():
        text += f'\n[[listeners]]\nname = "{name}"\nprotocol = "{protocol}"\n'
        text += (
            f'address = "127.0.0.1:{setting.ports[name]}"\nupstream = "{upstreams[port, upstream_mode]}"\n'
        )
        if mode != "none":
            text += f'tls = {{ mode = "{mode}", {tls} }}\n'
    text += """
[[plugins]]
name = "mark"
use = "add_header"
options = { name = "X-Gateway", value = "{hostname} for {user}, {protection}" }

[[plugins]]
name = "disclaimer"
use = "footer"
options = { text = "Sent through mailgate." }
"""
    return text


def configuration(setting: Setting, upstream_ports: dict[str, int], ca: Path, pair: KeyPair) -> Configuration:
    """Read the configuration.  Raises AssertionError if it is wrong, which is a bug of ours."""
    text = configuration_text(setting, upstream_ports, ca, pair)
    read, problems = examine_text(text, ca.parent)
    assert read is not None and not problems, problems
    return read
