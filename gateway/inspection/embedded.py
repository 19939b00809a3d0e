"""What stands encoded within the content of a part: files in uuencode and yEnc, in linear time."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from . import charsets
from .words import decode_base64

#: No more are looked for in one part.
MOST_EMBEDDED = 10_000
_BEGIN = re.compile(rb"begin(?:-base64)? {1,9}[0-7]{3,4} {1,9}([^\r\n]{1,1000})")
_YENC_NAME = re.compile(rb" name=([^\r\n]{1,1000})")
_LONGEST_BEGIN = 1100


class EmbeddedKind(StrEnum):
    """How it is encoded."""

    UUENCODE = "uuencode"  # POSIX uuencode, also with base64 lines
    YENC = "yenc"  # yEnc draft 1.3


@dataclass(frozen=True, slots=True)
class Embedded:
    """One file in a text.

    name: as the text gives it; don't trust it.  start, end: offsets into the part's
    ``text()``, first line and last line included, so that ``Edits.replace_spans`` can take it out.
    """

    kind: EmbeddedKind
    name: str
    start: int
    end: int
    encoded: bytes

    def content(self) -> bytes:
        """Return the file, decoded leniently."""
        if self.kind is EmbeddedKind.YENC:
            return _decode_yenc(self.encoded)
        if self.encoded.startswith(b"begin-base64"):
            return decode_base64(self.encoded.partition(b"\n")[2].partition(b"====")[0])
        return b"".join(_decode_uu_line(line) or b"" for line in self.encoded.split(b"\n")[1:])


def find_embedded(content: bytes, charset: str) -> list[Embedded]:
    """Return the files in a text, first to last; never fails."""
    codec = charsets.reading_codec_of(content, charset)
    if not charsets.is_ascii_superset(codec):
        content, codec = charsets.decode(content, charset).encode("utf-8", "replace"), "utf_8"
    found: list[Embedded] = []
    characters = octets = 0
    for kind, name, start, end in _blocks(content):
        characters += len(content[octets:start].decode(codec, "replace"))
        begun = characters
        characters += len(content[start:end].decode(codec, "replace"))
        octets = end
        shown = charsets.decode(name.strip(), charset)
        found.append(Embedded(kind, shown, begun, characters, content[start:end]))
    return found


def _blocks(content: bytes) -> Iterator[tuple[EmbeddedKind, bytes, int, int]]:
    """Give kind, name, start and end of each block; what is no block is passed by once."""
    left = MOST_EMBEDDED
    uu, y = _next_line(content, b"begin", 0), _next_line(content, b"=ybegin ", 0)
    while (uu >= 0 or y >= 0) and left:
        kind = EmbeddedKind.UUENCODE if y < 0 or 0 <= uu < y else EmbeddedKind.YENC
        start = uu if kind is EmbeddedKind.UUENCODE else y
        read = _uuencoded if kind is EmbeddedKind.UUENCODE else _yencoded
        name, end = read(content, start)
        if end > 0:
            yield kind, name, start, end
            left -= 1
        behind = max(end, start + 1)
        if 0 <= uu < behind:
            uu = _next_line(content, b"begin", behind)
        if 0 <= y < behind:
            y = _next_line(content, b"=ybegin ", behind)


def _next_line(content: bytes, word: bytes, start: int) -> int:
    """Return the offset of the next line that begins with a word, or -1."""
    if content.startswith(word, start) and (start == 0 or content[start - 1 : start] == b"\n"):
        return start
    hit = content.find(b"\n" + word, start)
    return hit + 1 if hit >= 0 else -1


def _line_at(content: bytes, start: int) -> tuple[bytes, int]:
    newline = content.find(b"\n", start)
    behind = newline + 1 if newline >= 0 else len(content)
    return content[start : min(behind, start + _LONGEST_BEGIN)], behind


def _uuencoded(content: bytes, start: int) -> tuple[bytes, int]:
    """Read a block: its name and its end, or -1 if it is none."""
    line, place = _line_at(content, start)
    match = _BEGIN.match(line)
    if match is None:
        return b"", -1
    base64 = line.startswith(b"begin-base64")
    lines = 0
    while place < len(content):
        line, behind = _line_at(content, place)
        bare = line.rstrip(b"\r\n")
        if bare in ((b"====",) if base64 else (b"end",)):
            return match.group(1), behind
        if bare and not (_is_base64_line(bare) if base64 else _decode_uu_line(bare) is not None):
            break
        lines += 1
        place = behind
    return match.group(1), place if lines else -1


def _is_base64_line(line: bytes) -> bool:
    return len(line) <= 1000 and not line.translate(None, _BASE64)


_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/= \t"


def _decode_uu_line(line: bytes) -> bytes | None:
    """Decode one line, leniently; None if it is none."""
    line = line.rstrip(b"\r\n")
    if not line:
        return b""
    size = (line[0] - 32) & 63
    data = line[: 1 + (size + 2) // 3 * 4]  # a check character may follow
    if not 32 <= line[0] <= 96 or len(line) > len(data) + 8 or (size and len(line) < 2):
        return None
    try:
        return binascii.a2b_uu(data)
    except binascii.Error:
        return None


_YENC = bytes((octet - 42) & 255 for octet in range(256))
_ESCAPED = bytes((octet - 106) & 255 for octet in range(256))


def _yencoded(content: bytes, start: int) -> tuple[bytes, int]:
    line, place = _line_at(content, start)
    match = _YENC_NAME.search(line)
    end = _next_line(content, b"=yend", place)
    behind = _line_at(content, end)[1] if end >= 0 else len(content)
    return match.group(1) if match else b"", behind


def _decode_yenc(block: bytes) -> bytes:
    lines = [line for line in block.split(b"\n") if not line.startswith((b"=ybegin ", b"=ypart ", b"=yend"))]
    first, *others = b"".join(line.removesuffix(b"\r") for line in lines).split(b"=")
    decoded = [first.translate(_YENC)]
    decoded += [piece[:1].translate(_ESCAPED) + piece[1:].translate(_YENC) for piece in others]
    return b"".join(decoded)
