"""The ClientHello, as far as a fingerprint needs it: JA4, FoxIO's public specification for TLS clients.

A fingerprint is made of what a TLS library offers: versions, ciphers, extensions, signature
algorithms.  It tells programs apart, not people, and anybody can imitate it.
"""

from __future__ import annotations

import hashlib

#: No honest ClientHello is longer, octets.  What is longer has no fingerprint.
BOUND = 32 * 1024
_HANDSHAKE, _CLIENT_HELLO = 22, 1
_SNI, _SIGNATURE_ALGORITHMS, _ALPN, _SUPPORTED_VERSIONS = 0, 13, 16, 43
_VERSIONS = {0x0304: "13", 0x0303: "12", 0x0302: "11", 0x0301: "10", 0x0300: "s3", 0x0002: "s2"}
_NOTHING = "0" * 12


class HelloReader:
    """Takes the first octets of a connection in any pieces, until the ClientHello is whole.

    ``ja4`` is its fingerprint; "" before, and for what is no ClientHello.  It never raises.
    """

    __slots__ = ("_message", "_raw", "_room", "done", "ja4")

    def __init__(self) -> None:
        self._raw = bytearray()  # of the record that is not whole yet
        self._message = bytearray()  # of the handshake message, from all records before
        self._room = BOUND
        self.done = False
        self.ja4 = ""

    def feed(self, data: bytes | memoryview) -> None:
        """Take what arrived."""
        if self.done:
            return
        self._raw += data[: self._room]
        self._room -= len(data)
        whole = self._walk()
        if whole is None and self._room > 0:
            return
        self.done = True
        self._raw, self._message = bytearray(), bytearray()
        if whole:
            self.ja4 = ja4(whole)

    def _walk(self) -> bytes | None:
        """Join the records up to the end of the first message (RFC 8446 5.1).

        None: it is not whole; b"": it is no ClientHello.
        """
        raw, message, at = self._raw, self._message, 0
        while len(raw) - at >= 5 and raw[at] == _HANDSHAKE:
            size = raw[at + 3] << 8 | raw[at + 4]
            if not size:
                return b""
            if len(raw) - at < 5 + size:
                break
            message += raw[at + 5 : at + 5 + size]
            at += 5 + size
        del raw[:at]
        if message and message[0] != _CLIENT_HELLO:
            return b""
        size = int.from_bytes(message[1:4], "big") if len(message) >= 4 else BOUND
        if size > BOUND:
            return b""
        if len(message) >= 4 + size:
            return bytes(message[4 : 4 + size])
        return b"" if raw and raw[0] != _HANDSHAKE else None


def ja4(hello: bytes) -> str:
    """Return the fingerprint of a ClientHello's body (RFC 8446 4.1.2); "" if it is malformed."""
    try:
        return _ja4(hello)
    except (IndexError, ValueError):
        return ""


def _ja4(hello: bytes) -> str:
    version, at = _number(hello, 0), 34
    at += 1 + hello[at]  # the session's id
    ciphers, at = _vector(hello, at, 2)
    at += 1 + hello[at]  # compression methods
    extensions: list[tuple[int, bytes]] = []
    if at < len(hello):
        block, _ = _vector(hello, at, 2)
        place = 0
        while place < len(block):
            kind = _number(block, place)
            content, place = _vector(block, place + 2, 2)
            if not _is_grease(kind):
                extensions.append((kind, content))
    found = dict(reversed(extensions))  # of one that comes twice, the first
    if _SUPPORTED_VERSIONS in found:
        offered, _ = _vector(found[_SUPPORTED_VERSIONS], 0, 1)
        version = max(_numbers(offered), default=0)
    suites = _numbers(ciphers)
    head = (
        f"t{_VERSIONS.get(version, '00')}{'d' if _SNI in found else 'i'}"
        f"{min(len(suites), 99):02}{min(len(extensions), 99):02}{_alpn(found.get(_ALPN, b''))}"
    )
    kinds = sorted(kind for kind, _ in extensions if kind not in (_SNI, _ALPN))
    tail = _hexes(kinds)
    if kinds and _SIGNATURE_ALGORITHMS in found:
        algorithms = _numbers(_vector(found[_SIGNATURE_ALGORITHMS], 0, 2)[0])
        tail += f"_{_hexes(algorithms)}" if algorithms else ""
    return f"{head}_{_digest(_hexes(sorted(suites)))}_{_digest(tail)}"


def _number(data: bytes, at: int) -> int:
    return data[at] << 8 | data[at + 1]


def _vector(data: bytes, at: int, width: int) -> tuple[bytes, int]:
    """Return what stands behind its length, and where it ends.  Raises ValueError."""
    begin = at + width
    end = begin + int.from_bytes(data[at:begin], "big")
    if begin > len(data) or end > len(data):
        raise ValueError("cut short")
    return data[begin:end], end


def _numbers(data: bytes) -> list[int]:
    """Return the two-octet numbers of a list, without GREASE."""
    numbers = [_number(data, at) for at in range(0, len(data), 2)]
    return [number for number in numbers if not _is_grease(number)]


def _is_grease(number: int) -> bool:
    """Tell whether a number stands for nothing: 0x0a0a, 0x1a1a, ... (RFC 8701)."""
    return number & 0x0F0F == 0x0A0A and number >> 8 == number & 0xFF


def _alpn(extension: bytes) -> str:
    """Return the first and the last character of the first protocol offered."""
    if not extension:
        return "00"
    names, _ = _vector(extension, 0, 2)
    first = _vector(names, 0, 1)[0] if names else b""
    if not first:
        return "00"
    ends = bytes((first[0], first[-1]))
    if ends.isalnum():  # of bytes: ASCII only
        return ends.decode("ascii")
    return first.hex()[0] + first.hex()[-1]


def _hexes(numbers: list[int]) -> str:
    return ",".join(f"{number:04x}" for number in numbers)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else _NOTHING
