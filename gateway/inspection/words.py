"""Encoded words in header fields (RFC 2047), read leniently and in linear time, and written."""

from __future__ import annotations

import binascii
import re

from .charsets import codec_of, decode

_BLANK = " \t\r\n"
_LONGEST_CHARSET = 60


def unfold(raw: bytes) -> bytes:
    """Return a field's value on one line (RFC 5322 2.2.3)."""
    return raw.replace(b"\r\n", b"").replace(b"\n", b"").strip(b" \t\r")


def as_text(raw: bytes) -> str:
    """Decode octets that may be raw 8-bit: UTF-8 (RFC 6532), else Windows-1252, never failing."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return decode(raw, "windows-1252")


def decode_words(raw: bytes) -> str:
    """Decode every encoded word of an unfolded value; what is none stays as it stands.

    Neighbouring words of one charset are joined before their octets are decoded, since
    senders cut characters in two.
    """
    text = as_text(raw)
    position = text.find("=?")
    if position < 0:
        return text
    pieces: list[str] = []
    pending: list[bytes] = []
    pending_charset = ""
    done = 0  # everything before it is in `pieces` or `pending`
    while position >= 0:
        word = _word_at(text, position)
        if word is None:
            if text.find("?=", position) < 0:
                break  # no further word can end: this keeps the whole linear
            position = text.find("=?", position + 2)
            continue
        charset, content, end = word
        between = text[done:position]
        if not (pending and not between.strip(_BLANK)):  # RFC 2047 6.2: blanks between words are not shown
            if pending:
                pieces.append(decode(b"".join(pending), pending_charset))
                pending = []
            pieces.append(between)
        elif charset != pending_charset:
            pieces.append(decode(b"".join(pending), pending_charset))
            pending = []
        pending.append(content)
        pending_charset = charset
        done = end
        position = text.find("=?", end)
    if pending:
        pieces.append(decode(b"".join(pending), pending_charset))
    pieces.append(text[done:])
    return "".join(pieces)


def _word_at(text: str, start: int) -> tuple[str, bytes, int] | None:
    """Read the encoded word that begins at ``start``: its charset, octets and end, or None."""
    first = text.find("?", start + 2, start + 2 + _LONGEST_CHARSET)
    if first < 0 or text[first + 2 : first + 3] != "?":
        return None
    kind = text[first + 1].upper()
    if kind not in "BQ":
        return None
    end = text.find("?=", first + 3)
    if end < 0:
        return None
    charset = text[start + 2 : first].partition("*")[0]  # RFC 2231 5: a language may follow
    body = text[first + 3 : end].encode("utf-8", "surrogateescape")
    if kind == "Q":
        content = binascii.a2b_qp(body, header=True)
    else:
        content = decode_base64(body)
    return charset.lower(), content, end + 2


_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NOT_BASE64 = bytes(set(range(256)) - set(_BASE64) - {ord("=")})


def decode_base64(data: bytes) -> bytes:
    """Decode base64 as the most lenient client does (RFC 2045 6.8).

    What is not of the alphabet is passed over, missing padding is no matter, and what stands
    behind a padding is decoded too.
    """
    clean = data.translate(None, _NOT_BASE64)
    body, _, rest = clean.partition(b"=")
    if not rest.strip(b"="):
        return _decode_run(body)
    return b"".join(_decode_run(run) for run in clean.split(b"=") if run)


def stands_alone(data: bytes, characters: int) -> bool:
    """Tell whether base64 up to here has so many characters and no padding.

    If these are a multiple of four, what follows decodes for itself.
    """
    clean = data.translate(None, _NOT_BASE64)
    return len(clean) == characters and b"=" not in clean


def decode_quoted_printable(data: bytes) -> bytes:
    """Decode quoted-printable leniently (RFC 2045 6.7), each line for itself.

    "=" before a CR alone is a soft line break: what stands behind it is read.
    """
    if b"=\r" in data:
        data = _SOFT_CR.sub(b"=\n", data)
    return binascii.a2b_qp(data)


_SOFT_CR = re.compile(rb"=\r(?!\n)")


def _decode_run(run: bytes) -> bytes:
    over = len(run) % 4
    if over == 1:  # six bits make no octet
        run = run[:-1]
        over = 0
    return binascii.a2b_base64(run + b"=" * (-over % 4))


def encode_words(value: str) -> list[str]:
    """Return text as encoded words in UTF-8, each at most 75 characters (RFC 2047 2)."""
    words: list[str] = []
    chunk = bytearray()
    for character in value:
        octets = character.encode("utf-8", "replace")
        if len(chunk) + len(octets) > 39:  # 52 characters of base64, so that a short name fits before it
            words.append(_b_word(chunk))
            chunk.clear()
        chunk += octets
    words.append(_b_word(chunk))
    return words


def _b_word(octets: bytes | bytearray) -> str:
    return f"=?utf-8?B?{binascii.b2a_base64(octets, newline=False).decode()}?="


_HEX = frozenset(b"0123456789abcdefABCDEF")


def percent_decode(text: str, charset: str) -> str:
    """Decode RFC 2231's percent-encoding: linear, lenient."""
    first, *others = text.encode("utf-8", "surrogateescape").split(b"%")
    octets = [first]
    for piece in others:
        if len(piece) > 1 and piece[0] in _HEX and piece[1] in _HEX:
            octets.append(bytes((int(piece[:2], 16),)) + piece[2:])
        else:
            octets.append(b"%" + piece)
    joined = b"".join(octets)
    return decode(joined, charset) if codec_of(charset) else as_text(joined)
