"""Charset names of mail to Python's codecs, as mail programs and browsers take them.

Names come from strangers, and Python keeps every name it was asked for: only names of its
own table are ever looked up, and only codecs that turn octets into text in linear time.
"""

from __future__ import annotations

from encodings.aliases import aliases

#: What is written and what is meant (WHATWG Encoding, section 4.2).
_MEANT = {
    "ascii": "ascii",
    "us_ascii": "ascii",
    "iso_8859_1": "cp1252",
    "latin_1": "cp1252",
    "latin1": "cp1252",
    "iso_8859_9": "cp1254",
    "iso_8859_8_i": "iso8859_8",
    "gb2312": "gb18030",
    "gb_2312_80": "gb18030",
    "gbk": "gb18030",
    "x_gbk": "gb18030",
    "ks_c_5601_1987": "cp949",
    "ks_c_5601": "cp949",
    "euc_kr": "cp949",
    "shift_jis": "cp932",
    "x_sjis": "cp932",
    "windows_31j": "cp932",
    "big5": "big5hkscs",
    "tis_620": "cp874",
    "windows_874": "cp874",
    "unicode_1_1_utf_7": "utf_7",
    "utf8mb4": "utf_8",
    "x_unknown": "",
}
_CODECS = frozenset(
    name
    for name in aliases.values()
    if name
    not in {
        "base64_codec",
        "bz2_codec",
        "hex_codec",
        "quopri_codec",
        "rot_13",
        "uu_codec",
        "zlib_codec",
        "mbcs",
    }
)
_EXACT = {**{name: name for name in _CODECS}, **{a: c for a, c in aliases.items() if c in _CODECS}}
_TABLE = {**_EXACT, **_MEANT}
#: Codecs in which an ASCII octet may mean something else than that character.
_NOT_ASCII = (
    "utf_16",
    "utf_32",
    "utf_7",
    "hz",
    "iso2022",
    "cp037",
    "cp273",
    "cp424",
    "cp500",
    "cp1026",
    "cp1140",
)


def codec_of(charset: str) -> str | None:
    """Return the name of the Python codec for a charset's name, or None if none is known."""
    return _TABLE.get(_plain(charset)) or None


def writing_codec_of(charset: str) -> str | None:
    """As :func:`codec_of`, but what the name says and not what senders mean by it."""
    name = _plain(charset)
    return _EXACT.get(name) or _TABLE.get(name) or None


def _plain(charset: str) -> str:
    if len(charset) > 40 or not charset.isascii():
        return ""
    return charset.strip().lower().translate(_SEPARATORS)


_SEPARATORS = str.maketrans("- .:", "____")


def is_ascii_superset(codec: str) -> bool:
    """Tell whether ASCII octets mean ASCII characters wherever they stand alone."""
    return not codec.startswith(_NOT_ASCII)


def decode(content: bytes, charset: str) -> str:
    """Return text, whatever the octets: unknown charsets as UTF-8 or else Windows-1252.

    Octets that the charset does not have become U+FFFD.
    """
    codec = codec_of(charset)
    if codec == "ascii" or codec is None:
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError:
            codec = "cp1252"
    try:
        return content.decode(codec, "replace")
    except (UnicodeError, ValueError):  # some stateful codecs know no "replace" for every input
        return content.decode("latin-1")
