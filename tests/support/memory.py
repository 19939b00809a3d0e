"""Links over pipes in memory: the same TLS, outbox and backpressure, with no socket."""

from __future__ import annotations

from gateway.core.steps import Side, TlsInfo
from gateway.relay.link import Link, LinkOwner


class MemoryLink(Link):
    """A link whose octets lie in ``sent`` until the test carries them on.

    room: how many octets the pipe takes before it is full.
    """

    def __init__(self, side: Side, owner: LinkOwner, room: int = 1 << 30) -> None:
        super().__init__(side, owner)
        self.sent = bytearray()
        self.room = room
        self.wants = (False, False)
        self.shut = False
        self.half_closed = False
        self.delays: list[float] = []

    def _transmit(self, data: bytes | memoryview) -> int:
        taken = min(self.room - len(self.sent), len(data))
        self.sent += data[:taken]
        return taken

    def _watch(self, reading: bool, writing: bool) -> None:
        self.wants = (reading, writing)

    def _shut(self) -> None:
        self.shut = True

    def _half_close(self) -> None:
        self.half_closed = True

    def _later(self, seconds: float) -> None:
        self.delays.append(seconds)

    def carry(self) -> bytes:
        """Take what was sent out of the pipe, and let the link go on."""
        data = bytes(self.sent)
        self.sent.clear()
        if self.wants[1]:
            self._writable()
        return data

    def arrive(self, data: bytes) -> None:
        """Octets reach this end."""
        self._arrived(data)

    def end(self, clean: bool = True) -> None:
        """The peer ends its direction."""
        self._ended(clean)


class Listening:
    """An owner that notes what it hears."""

    def __init__(self) -> None:
        self.data = b""
        self.details: list[str] = []
        self.news: list[tuple[str, object]] = []

    def heard(self, side: Side, data: bytes) -> None:
        self.data += data

    def link_ended(self, side: Side, clean: bool) -> None:
        self.news.append(("ended", clean))

    def link_lost(self, side: Side, detail: str) -> None:
        self.news.append(("lost", detail))

    def link_moved(self, side: Side) -> None:
        self.news.append(("moved", None))

    def link_secured(self, side: Side, tls: TlsInfo) -> None:
        self.news.append(("secured", tls))

    def link_not_secured(self, side: Side, reason: str, detail: str) -> None:
        self.news.append(("not secured", reason))
        self.details.append(detail)

    def names(self) -> list[str]:
        return [name for name, _ in self.news]


def exchange(left: MemoryLink, right: MemoryLink, cut: int = 1 << 30) -> None:
    """Carry octets between two ends until both are quiet, in pieces of ``cut`` octets."""
    for _ in range(10_000):
        moved = False
        for source, target in ((left, right), (right, left)):
            data = source.carry()
            moved |= bool(data)
            for start in range(0, len(data), cut):
                if not target.closed:
                    target.arrive(data[start : start + cut])
        if not moved:
            return
    raise AssertionError("two links that never come to rest")
