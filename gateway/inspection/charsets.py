"""Charset names of mail to Python's codecs, as mail programs and browsers take them.

Names come from strangers, and Python keeps every name it was asked for: only names of its
own table are ever looked up, and only codecs that turn octets into text in linear time.
"""

from __future__ import annotations

import codecs
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
    **dict.fromkeys(("unicode_1_1_utf_7", "unicode_2_0_utf_7", "csunicode11utf7", "csutf7"), "utf_7"),
    **dict.fromkeys(("utf8mb4", "unicode_1_1_utf_8", "unicode11utf8", "unicode20utf8"), "utf_8"),
    "x_unicode20utf8": "utf_8",
    **dict.fromkeys(("unicode", "ucs_2", "csunicode", "iso_10646_ucs_2", "unicodefeff"), "utf_16"),
    **dict.fromkeys(("unicodefffe", "ucs_2be"), "utf_16_be"),
    "ucs_2le": "utf_16_le",
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


def is_utf8(content: bytes) -> bool:
    """Tell whether octets are UTF-8 throughout."""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def reading_codec_of(content: bytes, charset: str) -> str:
    """Return the codec that :func:`decode` reads these octets in."""
    codec = codec_of(charset)
    if codec == "ascii" or codec is None:
        return "utf_8" if is_utf8(content) else "cp1252"
    return codec


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


def without_mark(content: bytes, codec: str) -> tuple[str, bytes]:
    """Return the codec that writes no byte order mark of its own, and the mark that is there."""
    if codec not in ("utf_16", "utf_32"):
        return codec, b""
    big, little = _MARKS[codec]
    if content.startswith(big):
        return f"{codec}_be", big
    return f"{codec}_le", little if content.startswith(little) else b""


_MARKS = {
    "utf_16": (codecs.BOM_UTF16_BE, codecs.BOM_UTF16_LE),
    "utf_32": (codecs.BOM_UTF32_BE, codecs.BOM_UTF32_LE),
}
_STEP = 64


def octet_offsets(content: bytes, text: str, codec: str, offsets: list[int]) -> list[int] | None:
    """Return where in the content the characters at these ascending offsets of its text begin.

    codec: that the text was read in, a superset of ASCII.  None if one of them lies within
    what was decoded as one.
    """
    if len(text) == len(content):
        return offsets
    found: list[int] = []
    if codec == "utf_8" and is_utf8(content):
        characters = octets = 0
        for offset in offsets:
            octets += len(text[characters:offset].encode())
            characters = offset
            found.append(octets)
        return found
    decoder = codecs.getincrementaldecoder(codec)("replace")
    characters = place = 0
    waiting = list(reversed(offsets))
    while waiting and waiting[-1] < len(text):
        state = decoder.getstate()
        stop = min(place + _STEP, len(content))
        size = len(decoder.decode(content[place:stop], stop == len(content)))
        if characters + size <= waiting[-1]:
            characters, place = characters + size, stop
            continue
        decoder.setstate(state)
        starts: dict[int, int] = {}
        for at in range(place, stop):
            pending = len(decoder.getstate()[0])
            starts[characters] = at - pending
            size = len(decoder.decode(content[at : at + 1], at + 1 == len(content)))
            if size > 1:  # what was pending was none, and this octet is one
                starts[characters + size - 1] = at
            characters += size
        place = stop
        while waiting and waiting[-1] < characters:
            start = starts.get(waiting.pop())
            if start is None:
                return None
            found.append(start)
    return found + [len(content)] * len(waiting)
