"""The PROXY protocol, versions 1 and 2: who the client of a load balancer is.

Source: HAProxy's proxy-protocol.txt, sections 2.1 (text), 2.2 (binary), 2.2.x (TLVs).
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
#: Octets of a version 1 line at most, its end included (2.1).
V1_LIMIT = 107
#: Octets of addresses and TLVs of a version 2 header that are taken at most.
V2_LIMIT = 4096

_TLV_ALPN, _TLV_AUTHORITY, _TLV_CRC32C, _TLV_UNIQUE_ID, _TLV_SSL = 0x01, 0x02, 0x03, 0x05, 0x20
_SSL_VERSION, _SSL_CN, _SSL_CIPHER = 0x21, 0x22, 0x23
_CLIENT_SSL, _CERT_CONNECTION, _CERT_SESSION = 0x01, 0x02, 0x04
#: Octets of addresses by family (2.2): unspecified, IPv4, IPv6, UNIX.
_ADDRESSES = {0: 0, 1: 12, 2: 36, 3: 216}


class ProxyHeaderError(Exception):
    """What came is no PROXY header, or a broken one."""


@dataclass(slots=True)
class ProxyHeader:
    """What a PROXY header says.

    local: the connection is the load balancer's own (a health check), or of a family without
        addresses that could be used: keep the real ones.
    tls: the client speaks TLS to the load balancer; ``tls_version`` as it names it, "TLSv1.3".
    verified: the client showed a certificate that was found good; ``common_name`` is its
        subject's, and says nothing where this is false.
    unique_id: the load balancer's name for the connection, hexadecimal; "" if it gave none.
    """

    local: bool = False
    source_address: str = ""
    source_port: int = 0
    destination_address: str = ""
    destination_port: int = 0
    tls: bool = False
    tls_version: str = ""
    cipher: str = ""
    authority: str = ""
    alpn: str = ""
    common_name: str = ""
    verified: bool = False
    unique_id: str = ""


class ProxyHeaderParser:
    """Reads one header, in any cutting.  ``rest`` holds the octets behind it."""

    def __init__(self) -> None:
        self._data = b""
        self.rest = b""

    def feed(self, data: bytes) -> ProxyHeader | None:
        """Take octets; return the header when it is whole.  Raises ProxyHeaderError."""
        self._data += data
        have = self._data
        if have[: len(_SIGNATURE)] == _SIGNATURE[: len(have)]:
            return self._version_2() if len(have) >= 16 else None
        if have[:6] == b"PROXY "[: len(have)]:
            return self._version_1()
        raise ProxyHeaderError("no PROXY header")

    def _version_1(self) -> ProxyHeader | None:
        end = self._data.find(b"\r\n", 0, V1_LIMIT)
        if end < 0:
            if len(self._data) >= V1_LIMIT:
                raise ProxyHeaderError("line too long")
            return None
        self.rest = self._data[end + 2 :]
        words = self._data[:end].split(b" ")
        if len(words) >= 2 and words[1] == b"UNKNOWN":
            return ProxyHeader(local=True)
        if len(words) != 6 or words[1] not in (b"TCP4", b"TCP6"):
            raise ProxyHeaderError("not six words")
        family = 4 if words[1] == b"TCP4" else 6
        source, destination = (_address(word, family) for word in words[2:4])
        ports = [_port(word) for word in words[4:6]]
        return ProxyHeader(False, source, ports[0], destination, ports[1])

    def _version_2(self) -> ProxyHeader | None:
        version_command, family, length = struct.unpack("!BBH", self._data[12:16])
        if version_command >> 4 != 2:
            raise ProxyHeaderError("unknown version")
        if length > V2_LIMIT:
            raise ProxyHeaderError("header too long")
        if len(self._data) < 16 + length:
            return None
        body = self._data[16 : 16 + length]
        self.rest = self._data[16 + length :]
        command = version_command & 0x0F
        if command == 0:  # 2.2: the rest of a LOCAL header is to be thrown away
            return ProxyHeader(local=True)
        if command != 1:
            raise ProxyHeaderError("unknown command")
        size = _ADDRESSES.get(family >> 4)
        if size is None:
            raise ProxyHeaderError("unknown family")
        if len(body) < size:
            raise ProxyHeaderError("addresses cut short")
        header = ProxyHeader(local=family >> 4 not in (1, 2))
        if not header.local:
            width = 4 if family >> 4 == 1 else 16
            header.source_address = str(ipaddress.ip_address(body[:width]))
            header.destination_address = str(ipaddress.ip_address(body[width : 2 * width]))
            header.source_port, header.destination_port = struct.unpack("!HH", body[2 * width : size])
        self._read_tlvs(header, body[size:], 16 + size)
        return header

    def _read_tlvs(self, header: ProxyHeader, data: bytes, offset: int) -> None:
        for kind, value, at in _tlvs(data):
            if kind == _TLV_ALPN:
                header.alpn = _text(value)
            elif kind == _TLV_AUTHORITY:
                header.authority = _text(value)
            elif kind == _TLV_CRC32C:
                self._check(value, offset + at)
            elif kind == _TLV_UNIQUE_ID:
                header.unique_id = value[:128].hex()
            elif kind == _TLV_SSL and len(value) >= 5:
                header.tls = bool(value[0] & _CLIENT_SSL)
                shown = value[0] & (_CERT_CONNECTION | _CERT_SESSION)
                header.verified = bool(shown) and value[1:5] == b"\0\0\0\0"
                for inner, text, _ in _tlvs(value[5:]):
                    if inner == _SSL_VERSION:
                        header.tls_version = _text(text)
                    elif inner == _SSL_CN:
                        header.common_name = _text(text)
                    elif inner == _SSL_CIPHER:
                        header.cipher = _text(text)

    def _check(self, value: bytes, at: int) -> None:
        """Check the sum over the header with its own field zeroed (2.2.3)."""
        if len(value) != 4:
            raise ProxyHeaderError("checksum of a wrong length")
        length = 16 + struct.unpack("!H", self._data[14:16])[0]
        header = bytearray(self._data[:length])
        header[at : at + 4] = b"\0\0\0\0"
        if crc32c(bytes(header)) != int.from_bytes(value, "big"):
            raise ProxyHeaderError("wrong checksum")


def _tlvs(data: bytes) -> list[tuple[int, bytes, int]]:
    """Cut type-length-value fields; give type, value, and where the value stands."""
    found: list[tuple[int, bytes, int]] = []
    position = 0
    while position < len(data):
        if position + 3 > len(data):
            raise ProxyHeaderError("a field cut short")
        kind, length = struct.unpack("!BH", data[position : position + 3])
        position += 3
        if position + length > len(data):
            raise ProxyHeaderError("a field cut short")
        found.append((kind, data[position : position + length], position))
        position += length
    return found


def _text(value: bytes) -> str:
    return value[:256].decode("utf-8", "backslashreplace")


def _address(word: bytes, family: int) -> str:
    try:
        address = ipaddress.ip_address(word.decode("ascii"))
    except ValueError:
        raise ProxyHeaderError("not an address") from None
    if b"%" in word:  # a zone of the load balancer's means nothing here
        raise ProxyHeaderError("not an address")
    if address.version != family:
        raise ProxyHeaderError("an address of the other family")
    return str(address)


def _port(word: bytes) -> int:
    if not word.isdigit() or len(word) > 5 or int(word) > 65535:
        raise ProxyHeaderError("not a port")
    return int(word)


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ 0x82F63B78 if value & 1 else value >> 1
        table.append(value)
    return table


_CRC_TABLE = _crc_table()


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of the octets (RFC 9260 appendix A)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def build_v1(source: str, source_port: int, destination: str, destination_port: int) -> bytes:
    """Write a version 1 header.  Addresses of two families, or none, become UNKNOWN."""
    try:
        ends = [_parse(source), _parse(destination)]
    except ValueError:
        return b"PROXY UNKNOWN\r\n"
    if ends[0].version != ends[1].version:
        return b"PROXY UNKNOWN\r\n"
    family = f"TCP{ends[0].version}"
    return f"PROXY {family} {ends[0]} {ends[1]} {source_port} {destination_port}\r\n".encode()


def build_v2(
    source: str,
    source_port: int,
    destination: str,
    destination_port: int,
    *,
    tls: bool = False,
    tls_version: str = "",
    cipher: str = "",
    authority: str = "",
    alpn: str = "",
    common_name: str = "",
) -> bytes:
    """Write a version 2 header, with what is known of the client's TLS.

    common_name: of the client's certificate, if it was verified.  Addresses of two families
    become IPv6; none that can be read becomes LOCAL.
    """
    fields = b""
    if alpn:
        fields += _field(_TLV_ALPN, alpn.encode())
    if authority:
        fields += _field(_TLV_AUTHORITY, authority.encode())
    if tls:
        inner = b"".join(
            _field(kind, text.encode())
            for kind, text in ((_SSL_VERSION, tls_version), (_SSL_CN, common_name), (_SSL_CIPHER, cipher))
            if text
        )
        # The last four octets: 0 says that the client's certificate was verified (2.2.5).
        bits = _CLIENT_SSL | _CERT_CONNECTION | _CERT_SESSION if common_name else _CLIENT_SSL
        fields += _field(_TLV_SSL, struct.pack("!BI", bits, 0 if common_name else 1) + inner)
    try:
        ends = [_parse(source), _parse(destination)]
    except ValueError:
        ends = []
    if not ends:
        return _SIGNATURE + struct.pack("!BBH", 0x20, 0, len(fields)) + fields
    if ends[0].version != ends[1].version:
        ends = [_as_v6(end) for end in ends]
    family = 0x11 if ends[0].version == 4 else 0x21
    addresses = b"".join(end.packed for end in ends) + struct.pack("!HH", source_port, destination_port)
    body = addresses + fields
    return _SIGNATURE + struct.pack("!BBH", 0x21, family, len(body)) + body


def _field(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def _parse(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Read an address, its zone left out.  Raises ValueError."""
    return ipaddress.ip_address(address.partition("%")[0])


def _as_v6(end: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv6Address:
    if isinstance(end, ipaddress.IPv6Address):
        return end
    return ipaddress.IPv6Address(b"\0" * 10 + b"\xff\xff" + end.packed)
