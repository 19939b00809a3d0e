"""Writing a body in a transfer encoding (RFC 2045 6)."""

from __future__ import annotations

import binascii
from collections.abc import Iterable

from .part import Part

#: No body longer than this is encoded anew as a whole: octets.
MOST_ENCODED = 8 * 1024 * 1024
#: RFC 5321 4.5.3.1.6: a line's octets without its line end.
LONGEST_LINE = 998
BASE64_LINE = 76


def encode_quoted_printable(content: bytes, eol: bytes) -> bytes:
    """Encode text: its own line ends ``eol`` stay such, lone CR and LF are encoded (RFC 2045 6.7).

    No line of it can be taken for a delimiter.
    """
    soft = b"=" + eol
    return eol.join(_quoted_line(line).replace(b"=\n", soft) if line else b"" for line in content.split(eol))


def _quoted_line(line: bytes) -> bytes:
    encoded = binascii.b2a_qp(line, istext=False)
    if encoded.startswith(b"--") and len(encoded) < 70:
        encoded = b"=2D" + encoded[1:]
    elif encoded.startswith(b"--") or b"\n--" in encoded:
        octets = b"".join(b"=%02X" % octet for octet in line)
        encoded = b"=\n".join(octets[at : at + 75] for at in range(0, len(octets), 75))
    return encoded


def encode_base64(content: bytes, eol: bytes, line: int = BASE64_LINE) -> bytes:
    """Encode in lines of ``line`` characters, each with a line end (RFC 2045 6.8)."""
    flat = binascii.b2a_base64(content, newline=False)
    return b"".join(flat[at : at + line] + eol for at in range(0, len(flat), line))


def short_lines(octets: bytes) -> bool:
    """Tell whether no line is longer than SMTP allows."""
    return max(map(len, octets.split(b"\n"))) <= LONGEST_LINE


def is_plain_lines(content: bytes, eol: bytes) -> bool:
    """Tell whether content stands in a 7bit body as it is: ASCII lines that end with ``eol``."""
    if not content.isascii() or b"\0" in content or not short_lines(content):
        return False
    rest = content.replace(eol, b"")
    return b"\r" not in rest and b"\n" not in rest


def holds_delimiter(octets: bytes, boundaries: Iterable[bytes]) -> bool:
    """Tell whether a line begins like a delimiter of one of the boundaries."""
    lines = b"\n" + octets
    return any(b"\n--" + boundary in lines for boundary in boundaries)


def boundaries_around(part: Part) -> list[bytes]:
    """Return the boundaries of the multiparts that a part is in."""
    found: list[bytes] = []
    outer = part.parent
    while outer is not None:
        if outer.is_multipart and outer.boundary:
            found.append(outer.boundary)
        outer = outer.parent
    return found


def makes_delimiter(octets: bytes, before: bytes, behind: bytes, boundaries: Iterable[bytes]) -> bool:
    """Tell whether octets put between others make a line that begins like a delimiter."""
    begun = before[before.rfind(b"\n") + 1 :]
    newline = behind.find(b"\n")
    rest = behind[: newline if newline >= 0 else len(behind)]
    return holds_delimiter(begun + octets + rest, boundaries)


def with_line_ends(octets: bytes, eol: bytes) -> bytes:
    """Return octets of a text with these line ends in place of its own."""
    return octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", eol)
