"""PROXY headers: what is built is read, in any cutting, and nothing else is taken for one."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.proxy_header import (
    V1_LIMIT,
    V2_LIMIT,
    ProxyHeader,
    ProxyHeaderError,
    ProxyHeaderParser,
    build_v1,
    build_v2,
    crc32c,
)
from tests.wire.cutting import cut

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
PORTS = st.integers(0, 65535)
SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=8)
ADDRESSES = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)),
    st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6)),
)


def read(data: bytes, sizes: list[int] | None = None) -> tuple[ProxyHeader | None, bytes]:
    """Read a header in pieces; give it and the octets behind it."""
    parser, found, behind = ProxyHeaderParser(), None, b""
    for piece in cut(data, sizes or [len(data)]):
        if found is not None:
            behind += piece
        else:
            found = parser.feed(piece)
    return found, parser.rest + behind


def v2(command: int, family: int, body: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", 0x20 | command, family, len(body)) + body


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


IPV4 = bytes([192, 0, 2, 1, 192, 0, 2, 2]) + struct.pack("!HH", 4711, 25)


@given(ADDRESSES, PORTS, PORTS, SIZES)
def test_version_1_is_read_as_it_was_built(ends, source_port, destination_port, sizes):
    wire = build_v1(str(ends[0]), source_port, str(ends[1]), destination_port)
    assert len(wire) <= V1_LIMIT
    header, rest = read(wire + b"\r\nEHLO", sizes)
    assert header == ProxyHeader(False, str(ends[0]), source_port, str(ends[1]), destination_port)
    assert rest == b"\r\nEHLO"


@given(ADDRESSES, PORTS, PORTS, SIZES, st.booleans(), *[st.text(max_size=20)] * 5)
def test_version_2_is_read_as_it_was_built(
    ends, source_port, destination_port, sizes, tls, version, cipher, authority, alpn, name
):
    wire = build_v2(
        str(ends[0]), source_port, str(ends[1]), destination_port,
        tls=tls, tls_version=version, cipher=cipher, authority=authority, alpn=alpn, common_name=name,
    )  # fmt: skip
    header, rest = read(wire + b"\x16\x03\x01", sizes)
    assert rest == b"\x16\x03\x01"
    assert header == ProxyHeader(
        False, str(ends[0]), source_port, str(ends[1]), destination_port,
        tls=tls, authority=authority, alpn=alpn,
        tls_version=version if tls else "", cipher=cipher if tls else "",
        common_name=name if tls else "", verified=tls and bool(name),
    )  # fmt: skip


@given(st.binary(max_size=300), SIZES)
def test_garbage_is_refused_or_awaited_in_any_cutting(data, sizes):
    def outcome(pieces):
        try:
            return read(data, pieces)
        except ProxyHeaderError:
            return "refused"

    assert outcome(sizes) == outcome(None)


@given(st.binary(max_size=60), st.integers(0, 255), st.integers(0, 255))
def test_version_2_with_any_body(body, command, family):
    data = SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body
    try:
        header, rest = read(data)
    except ProxyHeaderError:
        return
    assert header is not None and rest == b""
    if not header.local:
        ipaddress.ip_address(header.source_address)


def test_nothing_is_kept_beyond_the_bound():
    parser = ProxyHeaderParser()
    with pytest.raises(ProxyHeaderError):
        for _ in range(V1_LIMIT + 1):
            parser.feed(b"PROXY "[len(parser._data) :][:1] or b"x")
    assert len(parser._data) <= V1_LIMIT
    with pytest.raises(ProxyHeaderError, match="too long"):
        ProxyHeaderParser().feed(SIGNATURE + struct.pack("!BBH", 0x21, 0x11, V2_LIMIT + 1))


def test_the_longest_version_1_line():
    """The bound counts the end: 107 octets are whole, 108 are not (2.1)."""
    line = b"PROXY UNKNOWN ".ljust(V1_LIMIT - 2, b"x")
    assert read(line + b"\r\n")[0] == ProxyHeader(local=True)
    with pytest.raises(ProxyHeaderError):
        read(line + b"x\r\n")


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
        b"PROXY  TCP4 192.0.2.1 192.0.2.2 1 2",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 -1 2",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536",
        b"PROXY TCP4 192.0.2.256 192.0.2.2 1 2",
        b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2",
        b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2",
        b"PROXY TCP6 fe80::1%\x1b[31m fe80::2 1 2",
        b"PROXY TCP6 fe80::1%eth0 fe80::2 1 2",
        b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2",
        b"PROXY ",
        b"PROXY",
        b"proxy TCP4 192.0.2.1 192.0.2.2 1 2",
        b"GET / HTTP/1.1",
        b"",
    ],
)
def test_broken_lines(line):
    with pytest.raises(ProxyHeaderError):
        read(line + b"\r\n" + b"x" * V1_LIMIT)


@pytest.mark.parametrize("family", [0x00, 0x11, 0x21, 0x31, 0x51])
@pytest.mark.parametrize("body", [b"", b"x", IPV4, b"\xff" * 300])
def test_a_local_header_says_nothing_else(family, body):
    """Health checks: whatever stands behind is thrown away (2.2)."""
    assert read(v2(0, family, body) + b"rest") == (ProxyHeader(local=True), b"rest")


@pytest.mark.parametrize("family", [0x41, 0x51, 0xF1])
def test_an_unknown_family_is_refused(family):
    with pytest.raises(ProxyHeaderError, match="family"):
        read(v2(1, family, b"x" * 40))


@pytest.mark.parametrize(("family", "size"), [(0x11, 12), (0x21, 36), (0x31, 216)])
def test_addresses_cut_short(family, size):
    with pytest.raises(ProxyHeaderError, match="cut short"):
        read(v2(1, family, b"\0" * (size - 1)))


def test_unix_and_unspecified_keep_the_real_addresses_and_the_rest():
    for family, addresses in ((0x31, b"\0" * 216), (0x00, b"")):
        header, _ = read(v2(1, family, addresses + tlv(0x01, b"imap")))
        assert header is not None and header.local and header.alpn == "imap"


@pytest.mark.parametrize("cut_at", range(1, 8))
def test_fields_cut_short(cut_at):
    fields = tlv(0x02, b"mail.example")
    with pytest.raises(ProxyHeaderError, match="cut short"):
        read(v2(1, 0x11, IPV4 + fields[: -cut_at * 2] + b""))


@pytest.mark.parametrize(
    ("client", "verify", "tls", "verified"),
    [
        (0x00, 0, False, False),
        (0x01, 0, True, False),
        (0x03, 0, True, True),
        (0x05, 0, True, True),
        (0x03, 1, True, False),
        (0x07, 0xFFFFFFFF, True, False),
    ],
)
def test_a_certificate_counts_when_it_was_shown_and_verified(client, verify, tls, verified):
    ssl = struct.pack("!BI", client, verify) + tlv(0x21, b"TLSv1.3") + tlv(0x22, b"alice")
    header, _ = read(v2(1, 0x11, IPV4 + tlv(0x20, ssl)))
    assert header is not None
    assert (header.tls, header.verified, header.tls_version) == (tls, verified, "TLSv1.3")


def test_the_connections_own_name():
    header, _ = read(v2(1, 0x11, IPV4 + tlv(0x05, b"\0\xffid") + tlv(0xEE, b"unknown")))
    assert header is not None and header.unique_id == "00ff6964"


@pytest.mark.parametrize("flip", [None, 0, 5, 11, 16, 20])
def test_the_checksum_is_checked(flip):
    """Over the header with its own field zeroed (2.2.3)."""
    body = IPV4 + tlv(0x02, b"mail.example") + tlv(0x03, b"\0\0\0\0")
    wire = bytearray(v2(1, 0x11, body))
    wire[-4:] = crc32c(bytes(wire)).to_bytes(4, "big")
    if flip is not None:
        wire[16 + flip] ^= 0x01
        with pytest.raises(ProxyHeaderError):
            read(bytes(wire))
        return
    header, _ = read(bytes(wire))
    assert header is not None and header.authority == "mail.example"


def test_addresses_that_don_t_go_together():
    assert build_v1("192.0.2.1", 1, "2001:db8::1", 2) == b"PROXY UNKNOWN\r\n"
    assert build_v1("a socket", 1, "192.0.2.1", 2) == b"PROXY UNKNOWN\r\n"
    assert build_v1("fe80::1%eth0", 1, "fe80::2", 2) == b"PROXY TCP6 fe80::1 fe80::2 1 2\r\n"
    header, _ = read(build_v2("192.0.2.1", 1, "2001:db8::1", 2))
    assert header is not None and ipaddress.ip_address(header.source_address).ipv4_mapped is not None
    assert read(build_v2("", 0, "", 0))[0] == ProxyHeader(local=True)
