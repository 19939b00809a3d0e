"""A small name server on loopback, which a test gives its zones; UDP, and TCP for long answers."""

from __future__ import annotations

import socketserver
import struct
import threading
from collections import Counter
from collections.abc import Sequence
from types import TracebackType

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from .processes import free_port


class NameServer:
    """Answers with authority for every name.

    zones: (name, type) -> texts of records.  "SERVFAIL" and "SILENCE" as the only text are what
    they say.  A name without any record does not exist.  asked: how often, by name and type.
    """

    def __init__(self) -> None:
        self.zones: dict[tuple[str, str], Sequence[str]] = {}
        self.asked: Counter[tuple[str, str]] = Counter()
        self.ttl = 300
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        outer = self

        class Datagram(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                octets, sock = self.request
                answer = outer.answer(octets)
                if answer is not None:
                    sock.sendto(outer.cut(answer, 1232), self.client_address)

        class Stream(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                (size,) = struct.unpack("!H", self.rfile.read(2))
                answer = outer.answer(self.rfile.read(size))
                if answer is not None:
                    octets = answer.to_wire(max_size=65535)
                    self.wfile.write(struct.pack("!H", len(octets)) + octets)

        class Udp(socketserver.ThreadingUDPServer):
            daemon_threads = True

        class Tcp(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

        self._servers: list[socketserver.BaseServer] = [
            Udp(("127.0.0.1", self.port), Datagram),
            Tcp(("127.0.0.1", self.port), Stream),
        ]
        self._threads = [
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
            for server in self._servers
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> NameServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()

    def txt(self, name: str, *texts: str) -> None:
        """Set the TXT records of a name."""
        self.zones[name.lower(), "TXT"] = [
            " ".join(f'"{text[place : place + 200]}"' for place in range(0, len(text) or 1, 200))
            for text in texts
        ]

    def set(self, name: str, kind: str, *texts: str) -> None:
        """Set the records of a name."""
        self.zones[name.lower(), kind] = texts

    def answer(self, octets: bytes) -> dns.message.Message | None:
        question = dns.message.from_wire(octets)
        (asked,) = question.question
        name = asked.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(asked.rdtype)
        self.asked[name, kind] += 1
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.AA
        texts = self.zones.get((name, kind), ())
        if list(texts) == ["SILENCE"]:
            return None
        if list(texts) == ["SERVFAIL"]:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif texts:
            answer.answer.append(dns.rrset.from_text_list(asked.name, self.ttl, "IN", kind, list(texts)))
        elif not any(known == name for known, _ in self.zones):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer

    @staticmethod
    def cut(answer: dns.message.Message, size: int) -> bytes:
        """Return an answer for UDP: none at all, and the flag for it, where it is too long."""
        octets = answer.to_wire(max_size=65535)
        if len(octets) <= size:
            return octets
        answer.answer.clear()
        answer.flags |= dns.flags.TC
        return answer.to_wire()
