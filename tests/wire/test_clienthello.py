"""JA4: the specification's own example, its corners, any cutting, and what is no ClientHello."""

from __future__ import annotations

import random
import ssl
import struct

import pytest

from gateway.wire.clienthello import BOUND, HelloReader, ja4

#: The example of the specification, in the order in which it gives the values.
CIPHERS = "1301 1302 1303 c02b c02f c02c c030 cca9 cca8 c013 c014 009c 009d 002f 0035"
EXTENSIONS = "001b 0000 0033 0010 4469 0017 002d 000d 0005 0023 0012 002b ff01 000b 000a 0015"
ALGORITHMS = "0403 0804 0401 0503 0805 0501 0806 0601"
JA4 = "t13d1516h2_8daaf6152771_e5627efa2ab1"


def numbers(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


def words(values: list[int]) -> bytes:
    return b"".join(struct.pack("!H", value) for value in values)


def hello(
    ciphers: list[int],
    extensions: list[int],
    algorithms: list[int],
    *,
    alpn: bytes | None = b"h2",
    versions: tuple[int, ...] = (0x0A0A, 0x0304, 0x0303),
) -> bytes:
    """Return a ClientHello's body (RFC 8446 4.1.2)."""
    listed = b"" if alpn is None else bytes([len(alpn)]) + alpn
    contents = {
        0x000D: struct.pack("!H", 2 * len(algorithms)) + words(algorithms),
        0x0010: struct.pack("!H", len(listed)) + listed,
        0x002B: bytes([2 * len(versions)]) + words(list(versions)),
    }
    block = b"".join(
        struct.pack("!HH", kind, len(contents.get(kind, b"xyz"))) + contents.get(kind, b"xyz")
        for kind in extensions
    )
    suites = words(ciphers)
    return (
        b"\3\3" + bytes(32) + b"\x20" + bytes(32) + struct.pack("!H", len(suites)) + suites + b"\1\0"
        + (struct.pack("!H", len(block)) + block if extensions else b"")
    )  # fmt: skip


def records(body: bytes, size: int = 16384) -> bytes:
    message = b"\1" + len(body).to_bytes(3, "big") + body
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\3\1" + struct.pack("!H", len(piece)) + piece for piece in pieces)


EXAMPLE = hello(numbers(CIPHERS), numbers(EXTENSIONS), numbers(ALGORITHMS))


def test_the_specifications_example():
    assert ja4(EXAMPLE) == JA4


def test_grease_is_nothing():
    """RFC 8701: it is sent to be ignored, another one each time."""
    ciphers, extensions = [0x3A3A, *numbers(CIPHERS)], [0xDADA, *numbers(EXTENSIONS), 0x1A1A]
    assert ja4(hello(ciphers, extensions, [0xFAFA, *numbers(ALGORITHMS)])) == JA4


@pytest.mark.parametrize(
    ("alpn", "shown"),
    [
        (None, "00"),
        (b"", "00"),
        (b"imap", "ip"),
        (b"http/1.1", "h1"),
        (b"x", "xx"),
        (b"\xab", "ab"),
        (b"\xab\xcd", "ad"),
        (b"\x30\xab", "3b"),
        (b"\x30\x31\xab\xcd", "3d"),
        (b"\x30\xab\xcd\x31", "01"),
    ],
)
def test_alpn(alpn, shown):
    body = hello(numbers(CIPHERS), numbers(EXTENSIONS), numbers(ALGORITHMS), alpn=alpn)
    assert ja4(body) == JA4.replace("h2", shown)


def test_without_signature_algorithms():
    """The specification's second hash: the list ends without an underscore."""
    body = hello(numbers(CIPHERS), numbers(EXTENSIONS), [])
    assert ja4(body).endswith("_6d807ffa2a79")


@pytest.mark.parametrize(
    ("version", "shown"), [(0x0304, "13"), (0x0303, "12"), (0x0302, "11"), (0x0301, "10"), (0x7777, "00")]
)
def test_versions(version, shown):
    assert ja4(hello([0x1301], [0x002B], [], versions=(version,))).startswith(f"t{shown}i0101")


def test_what_offers_nothing():
    assert ja4(hello([], [], [])) == "t12i000000_000000000000_000000000000"


@pytest.mark.parametrize("size", [1, 2, 7, 100, 16384])
def test_any_cutting(size):
    """Of records, and of segments."""
    raw = records(EXAMPLE, size)
    for step in (1, 3, 1000, len(raw)):
        reader = HelloReader()
        for at in range(0, len(raw), step):
            assert not reader.done
            reader.feed(memoryview(raw)[at : at + step])
        assert reader.done and reader.ja4 == JA4
        reader.feed(b"more")
        assert reader.ja4 == JA4


@pytest.mark.parametrize(
    "data", [b"EHLO me\r\n", b"\x15\3\1\0\2\1\0", b"\x16\3\1\0\0", b"\x16\3\1\0\4\2\0\0\0", records(bytes(3))]
)
def test_what_is_no_client_hello(data):
    reader = HelloReader()
    reader.feed(data)
    assert reader.done and not reader.ja4


def test_one_without_end_has_a_bound():
    reader = HelloReader()
    reader.feed(b"\x16\3\1\x40\0\1\0\x7f\xff")
    for _ in range(BOUND // 1000 + 1):
        reader.feed(bytes(1000))
    assert reader.done and not reader.ja4 and not reader._raw


def test_nothing_raises():
    """Each cut and each flipped octet of a true one."""
    raw = bytearray(records(EXAMPLE))
    source = random.Random(4)
    for end in range(len(EXAMPLE)):
        ja4(EXAMPLE[:end])
    for _ in range(3000):
        broken = bytearray(raw)
        for _ in range(source.randint(1, 4)):
            broken[source.randrange(len(raw))] = source.randrange(256)
        HelloReader().feed(bytes(broken))


def test_the_one_of_this_python():
    """A true library's: twice the same, another one for other ciphers."""

    def made(ciphers: str) -> str:
        context = ssl.create_default_context()
        context.set_ciphers(ciphers)
        outgoing = ssl.MemoryBIO()
        connection = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="mail.example.org")
        with pytest.raises(ssl.SSLWantReadError):
            connection.do_handshake()
        reader = HelloReader()
        reader.feed(outgoing.read())
        return reader.ja4

    one = made("ECDHE+AESGCM")
    assert one.startswith("t13d") and one == made("ECDHE+AESGCM") != made("ECDHE+CHACHA20")
