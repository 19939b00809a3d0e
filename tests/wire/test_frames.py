"""Lines, literals, SASL payloads and PROXY headers."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.lines import LineBuffer, LineEnd, LineTooLong
from gateway.wire.literals import in_quotes, literal_at_end, quote
from gateway.wire.proxy_header import ProxyHeaderError, ProxyHeaderParser, build_v1, build_v2, crc32c
from gateway.wire.sasl import SaslReader, decode, mechanism_name


@given(st.lists(st.sampled_from([b"a", b"bc", b"\r\n", b"\n", b"\r"]), max_size=20), st.integers(1, 7))
def test_lines_in_any_cutting(pieces, size):
    data = b"".join(pieces)
    buffer, lines = LineBuffer(), []
    for start in range(0, len(data), size):
        buffer.feed(data[start : start + size])
        while (line := buffer.line(1000)) is not None:
            lines.append((line, buffer.ended))
    whole = [one + b"\n" for one in data.split(b"\n")[:-1]]
    assert [line for line, _ in lines] == whole
    assert all((end is LineEnd.CRLF) == line.endswith(b"\r\n") for line, end in lines)
    assert buffer.take_all() == data.rpartition(b"\n")[2]


def test_a_line_has_a_bound_before_its_end_is_there():
    buffer = LineBuffer()
    buffer.feed(b"a" * 10)
    with pytest.raises(LineTooLong):
        buffer.line(10)
    assert not buffer.skip_line() and len(buffer) == 0
    buffer.feed(b"rest\r\nnext\r\n")
    assert buffer.skip_line() and buffer.line(10) == b"next\r\n"


def test_counted_octets_and_lines_mix():
    buffer = LineBuffer()
    buffer.feed(b"one\r\nabcdetwo\r\n")
    assert buffer.line(100) == b"one\r\n"
    assert buffer.peek(2) == b"ab" and buffer.take(5) == b"abcde"
    buffer.push_back(b"zero\r\n")
    assert buffer.line(100) == b"zero\r\n" and buffer.line(100) == b"two\r\n" and buffer.line(100) is None


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"a APPEND x {10}", (b"a APPEND x ", 10, True, False)),
        (b"a APPEND x {10+}", (b"a APPEND x ", 10, False, False)),
        (b"a APPEND x UTF8 (~{0+}", (b"a APPEND x UTF8 (", 0, False, True)),
        (b"a {007}", (b"a ", 7, True, False)),
        (b"a {99999999999999999999}", (b"a ", 1 << 63, True, False)),
        (b"a {-1}", None),
        (b"a {1 }", None),
        (b"a {}", None),
        (b"a {1}x", None),
    ],
)
def test_literals(line, found):
    literal = literal_at_end(line)
    got = None if literal is None else (literal.before, literal.size, literal.synchronising, literal.binary)
    assert got == found


@pytest.mark.parametrize(
    ("line", "within"),
    [(b'a "b', True), (b'a "b" c', False), (b'a "b\\" c', True), (b"a b", False), (b'"" "', True)],
)
def test_quotes(line, within):
    assert in_quotes(line) is within


def test_quoting():
    assert quote(b'a"b\\c') == b'"a\\"b\\\\c"' and quote(b"a\nb") is None


def encoded(text: bytes) -> bytes:
    return base64.b64encode(text)


@pytest.mark.parametrize(
    ("mechanism", "said", "user", "sent"),
    [
        ("PLAIN", [b"\0alice\0secret"], "alice", True),
        ("PLAIN", [b"admin\0alice\0secret"], "alice", True),
        ("LOGIN", [b"alice"], "alice", False),
        ("LOGIN", [b"alice", b"secret"], "alice", True),
        ("CRAM-MD5", [b"alice smith 0123456789abcdef"], "alice smith", False),
        ("SCRAM-SHA-256", [b"n,,n=al=2Cice,r=abc", b"c=biws,r=abc,p=xyz"], "al,ice", False),
        ("XOAUTH2", [b"user=alice@example.org\1auth=Bearer token\1\1"], "alice@example.org", True),
        ("OAUTHBEARER", [b"n,a=alice@example.org,\1auth=Bearer token\1\1"], "alice@example.org", True),
        ("DIGEST-MD5", [b'username="alice",realm="x"'], "alice", False),
    ],
)
def test_sasl_identities(mechanism, said, user, sent):
    reader = SaslReader(mechanism)
    for data in said:
        reader.client(encoded(data))
    assert reader.user == user and reader.sent is sent
    assert reader.reveals is (mechanism in ("PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER"))


@given(
    st.sampled_from(["PLAIN", "LOGIN", "SCRAM-SHA-1", "XOAUTH2", "DIGEST-MD5"]),
    st.lists(st.binary(), max_size=4),
)
def test_sasl_takes_any_payload(mechanism, said):
    reader = SaslReader(mechanism)
    for data in said:
        reader.client(data)
        reader.client(encoded(data))


def test_sasl_words():
    assert mechanism_name(b"scram-sha-1") == "SCRAM-SHA-1"
    assert mechanism_name(b"a b") is None and mechanism_name(b"x" * 21) is None
    assert decode(b"=") == b"" and decode(b"%%") is None and decode(b"YQ==") == b"a"


@pytest.mark.parametrize(
    "header",
    [
        build_v1("192.0.2.1", 4711, "192.0.2.2", 25),
        build_v1("2001:db8::1", 4711, "2001:db8::2", 25),
        build_v2("192.0.2.1", 4711, "192.0.2.2", 25),
        build_v2("192.0.2.1", 4711, "192.0.2.2", 25, tls=True, tls_version="TLSv1.3", authority="x.example"),
        build_v2("2001:db8::1", 4711, "192.0.2.2", 25),
    ],
)
def test_proxy_headers_in_single_octets(header):
    parser, found = ProxyHeaderParser(), None
    data = header + b"EHLO"
    for index in range(len(header)):
        assert found is None
        found = parser.feed(data[index : index + 1])
    assert found is not None and found.source_port == 4711
    assert found.source_address in ("192.0.2.1", "2001:db8::1")
    assert found.tls == (b"TLSv1.3" in header)


@pytest.mark.parametrize(
    "data",
    [
        b"EHLO me\r\n",
        b"PROXY TCP4 1.2.3.4\r\n",
        b"PROXY TCP4 1.2.3.4 ::1 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 99999\r\n",
        b"PROXY " + b"x" * 200,
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c" + b"\0" * 12,
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x02ab",
    ],
)
def test_broken_proxy_headers(data):
    with pytest.raises(ProxyHeaderError):
        ProxyHeaderParser().feed(data)


def test_a_health_check_keeps_the_real_addresses():
    found = ProxyHeaderParser().feed(b"PROXY UNKNOWN\r\n")
    assert found is not None and found.local


def test_crc32c():
    """The check value of RFC 9260's polynomial."""
    assert crc32c(b"123456789") == 0xE3069283
