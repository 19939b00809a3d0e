"""Encoded words, base64 and RFC 2231, read leniently."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.inspection import charsets
from gateway.inspection.header_text import format_field
from gateway.inspection.parameters import format_structured, parse_structured
from gateway.inspection.words import decode_base64, decode_words, encode_words, unfold


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"plain", "plain"),
        (b"=?utf-8?Q?a_b=20c?=", "a b c"),
        (b"=?UTF-8?b?w7xiZXI=?=", "über"),
        (b"=?iso-8859-1?q?=80?=", "€"),  # what senders mean by ISO 8859-1
        (b"=?utf-8*de?q?x?=", "x"),
        (b"a =?utf-8?q?b?= c", "a b c"),
        (b"=?utf-8?q?a?= =?utf-8?q?b?=", "ab"),  # RFC 2047 8
        (b"=?utf-8?q?a?=\r\n =?iso-8859-1?q?b?=", "ab"),
        (b"=?utf-8?b?w7w=?=x=?utf-8?b?w7w=?=", "üxü"),
        (b"=?utf-8?q?=C3?= =?utf-8?q?=BC?=", "ü"),  # a character cut in two
        (b"=?utf-8?q?unclosed", "=?utf-8?q?unclosed"),
        (b"=?utf-8?x?what?=", "=?utf-8?x?what?="),
        (b"=?nosuch?q?=FCx?=", "üx"),
        (b"=??q?x?=", "x"),
        (b"=?utf-8?b??=", ""),
        (b"=?utf-8?q?=41?=", "A"),
        ("raw üü".encode(), "raw üü"),
        (b"raw \xfc", "raw ü"),
    ],
)
def test_decode_words(raw: bytes, text: str):
    assert decode_words(raw) == text


@given(st.text(max_size=200).filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text)))
@settings(max_examples=100, deadline=None)
def test_encoded_words_come_back(text: str):
    words = encode_words(text)
    assert all(len(word) <= 75 for word in words)
    assert decode_words(" ".join(words).encode()) == text


@given(st.binary(max_size=100))
@settings(max_examples=100, deadline=None)
def test_base64_comes_back_whatever_stands_in_between(data: bytes):
    encoded = base64.encodebytes(data)
    assert decode_base64(encoded) == data
    assert decode_base64(b"".join(encoded[i : i + 1] + b" !\r\n" for i in range(len(encoded)))) == data
    assert decode_base64(encoded.rstrip(b"=\n")) == data
    assert decode_base64(encoded + encoded) == data + data


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_nothing_fails_on_any_octets(data: bytes):
    decode_words(unfold(data))
    decode_base64(data)
    parse_structured(data)


@pytest.mark.parametrize("piece", [b"=?", b"=?a?q?", b"=?utf-8?q?a?= ", b"=?utf-8?b?", b"?="])
def test_many_pieces_of_words_are_read_once(piece: bytes):
    """Quadratic time would not come to an end here."""
    assert decode_words(piece * 200_000) is not None


@pytest.mark.parametrize(
    ("raw", "value", "parameters"),
    [
        (b" text/plain", "text/plain", {}),
        (b' Text/HTML ; Charset = "UTF-8" ', "text/html", {"charset": "UTF-8"}),
        (b' a/b; x="a\\"b;c"', "a/b", {"x": 'a"b;c'}),
        (b" a/b (c; x=1); y=2", "a/b", {"y": "2"}),
        (b' a/b (it"s); y=2', "a/b", {"y": "2"}),
        (b" a/b;\r\n\tx=1;\r\n y=2", "a/b", {"x": "1", "y": "2"}),
        (b" a/b; n*1=b; n*0=a; n*2=c", "a/b", {"n": "abc"}),
        (b" a/b; n*0*=utf-8'en'%C3; n*1*=%BC; n*2=%41", "a/b", {"n": "ü%41"}),
        (b" a/b; n=plain; n*=utf-8''%C3%BC", "a/b", {"n": "ü"}),
        (b' a/b; name="=?utf-8?q?=C3=BC?="', "a/b", {"name": "ü"}),
        (b" a/b; n*=nosuch''%FC", "a/b", {"n": "ü"}),
        (b" a/b; n*=utf-8''%zz%4", "a/b", {"n": "%zz%4"}),
        (b" a/b; ; =; x; =y", "a/b", {}),
        (b"", "", {}),
    ],
)
def test_parse_structured(raw: bytes, value: str, parameters: dict[str, str]):
    parsed = parse_structured(raw)
    assert (parsed.value, parsed.parameters) == (value, parameters)


def test_structured_fields_come_back():
    parameters = {"charset": "utf-8", "name": 'a "b" \\ü', "x": "a b"}
    written = format_structured("Content-Type", "text/plain", parameters, "\r\n")
    assert parse_structured(written.partition(":")[2].encode()).parameters == parameters


@pytest.mark.parametrize(
    "name", ["base64", "zlib", "unicode_escape", "idna", "punycode", "rot13", "x" * 100, "ü"]
)
def test_codecs_that_are_no_charsets_are_not_used(name: str):
    assert charsets.codec_of(name) is None
    assert charsets.decode(b"abc", name) == "abc"


@pytest.mark.parametrize(
    ("name", "written"),
    [
        *(
            (name, "utf-16-le")
            for name in ("unicode", "ucs-2", "csUnicode", "ISO-10646-UCS-2", "unicodefeff")
        ),
        *((name, "utf-16-be") for name in ("unicodeFFFE", "ucs-2be")),
        *((name, "utf-7") for name in ("unicode-2-0-utf-7", "csUnicode11UTF7", "csUTF7")),
        *((name, "utf-8") for name in ("unicode-1-1-utf-8", "unicode11utf8", "x-unicode20utf8")),
    ],
)
def test_other_names_of_unicode(name: str, written: str):
    assert charsets.decode("<b>\u00fc".encode(written), name) == "<b>\u00fc"


@pytest.mark.parametrize("codec", sorted(set(charsets._TABLE.values()) - {""}))
def test_every_codec_of_the_table_decodes_anything(codec: str):
    everything = bytes(range(256))
    assert isinstance(charsets.decode(everything, codec), str)
    if charsets.is_ascii_superset(codec):
        assert b"</body>".decode(codec) == "</body>"


@given(st.text(max_size=2000))
@settings(max_examples=200, deadline=None)
def test_a_written_field_is_one_field(value: str):
    data = format_field("X-Test", value)
    lines = data.split(b"\r\n")
    assert lines[0].startswith(b"X-Test:") and lines[-1] == b""
    assert all(line.startswith(b" ") and line.strip() for line in lines[1:-1])
    assert all(len(line) <= 998 and line.isascii() for line in lines)
    assert not data.replace(b"\r\n", b"").translate(None, bytes(range(32, 127)))


@pytest.mark.parametrize("value", ["a\r\nBcc: x", "a\nb", "a\x00\x1bb", "a\u2028b", "\ud800"])
def test_no_value_can_begin_another_field(value: str):
    assert format_field("X", value).count(b"\n") == 1


def test_long_and_foreign_values_are_folded_and_come_back():
    for value in ("word " * 100, "ü" * 300, "x" * 5000, "=?utf-8?q?x?="):
        data = format_field("Subject", value)
        assert decode_words(unfold(data.partition(b":")[2])) == value.strip()
        assert max(map(len, data.split(b"\r\n"))) <= 78


@pytest.mark.parametrize("name", ["", "a b", "a:b", "ü", "a\r\nb", "x" * 77])
def test_names_that_name_no_field(name: str):
    with pytest.raises(ValueError, match="not a header field name"):
        format_field(name, "x")
