"""Facts of one believable session each, for the tests of sinks."""

from __future__ import annotations

from gateway.core.facts import Fact
from gateway.core.record import SessionRecord
from gateway.core.steps import CommandSeen, ReplySeen, TlsInfo
from gateway.observe.hub import Hub

NOW = 1_790_000_000.25  # 2026-09-21T14:13:20.250Z

TLS = TlsInfo("TLSv1.3", "TLS_AES_128_GCM_SHA256", "X25519", "imap.example.org")


class Kept(list[str]):
    """Lines in a list, as a writer would take them."""

    def write(self, line: str) -> None:
        self.append(line)


def record(protocol: str = "imap", **more: object) -> SessionRecord:
    made = SessionRecord("0123456789ab", protocol, f"{protocol}-in", "192.0.2.7", 4711, upstream="dovecot")
    for name, thing in more.items():
        setattr(made, name, thing)
    return made


def answered(
    verb: str, shown: str, result: str = "ok", reply: str = "OK done", ms: float = 41.5
) -> ReplySeen:
    """A command with its reply, to be published at NOW."""
    return ReplySeen(CommandSeen(1, verb, shown, at=NOW - ms / 1000), result, reply)


def publish(hub: Hub, about: SessionRecord, *facts: Fact, now: float = NOW) -> None:
    for fact in facts:
        hub.publish(about, fact, now)
