"""Changing the text of one part within its own charset and transfer encoding."""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field

from . import charsets
from .parameters import format_structured
from .part import IDENTITY_ENCODINGS, Part
from .transfer import (
    BASE64_LINE,
    MOST_ENCODED,
    boundaries_around,
    encode_base64,
    encode_quoted_printable,
    holds_delimiter,
    makes_delimiter,
    short_lines,
    with_line_ends,
)
from .words import decode_quoted_printable, stands_alone

_TAIL = 1000
_QUOTED_LINE = 75  # and the "=" of a soft line break


@dataclass(slots=True)
class TextChange:
    """One splice of the body, and the fields of the part's header that change with it.

    fields: by name, whole and without the last line end.
    """

    start: int
    end: int
    data: bytes
    fields: dict[str, bytes] = field(default_factory=dict)


def insert_text(part: Part, text: str, before: bytes, eol: bytes) -> TextChange | None:
    """Return the change that puts text into a part, before the last ``before`` or at its end."""
    codec = charsets.writing_codec_of(part.charset or "us-ascii")
    if codec is None or not known_encoding(part):
        return None
    if not charsets.is_ascii_superset(codec):
        return _insert_characters(part, codec, text, before, eol)
    content = part.content()
    octets = encode_text(text, codec, part)
    fields: dict[str, bytes] = {}
    if octets is None:
        if not charsets.is_utf8(content) and codec == "ascii":
            octets = text.encode("ascii", "replace")
        elif codec == "ascii":
            octets = text.encode("utf-8", "replace")
            fields["content-type"] = with_charset(part, "utf-8", eol)
        else:
            change = _insert_characters(part, codec, text, before, eol)
            if change is not None:
                return change
            octets = text.encode(codec, "replace")
    octets = with_line_ends(octets, _line_end_in(part, content, eol))
    place = _place(content, before)
    if part.transfer_encoding == "base64":
        change = _into_base64(part, content, place, octets, eol)
    elif part.transfer_encoding == "quoted-printable":
        change = _into_quoted_printable(part, content, place, octets, eol)
    else:
        change = _into_identity(part, content, place, octets, eol)
    if change is not None:
        change.fields.update(fields)
    return change


def replace_text(part: Part, text: str, eol: bytes) -> TextChange | None:
    """Return the change that puts text in place of a part's body."""
    if not known_encoding(part):
        return None
    codec = charsets.writing_codec_of(part.charset or "us-ascii")
    octets = encode_text(text, codec, part) if codec is not None else None
    fields: dict[str, bytes] = {}
    if octets is None:
        octets = text.encode("utf-8", "replace")
        fields["content-type"] = with_charset(part, "utf-8", eol)
    octets = with_line_ends(octets, eol) if codec is None or charsets.is_ascii_superset(codec) else octets
    change = whole_body(part, octets, eol, keep_identity=True)
    if change is not None:
        change.fields.update(fields)
    return change


def _as_references(error: UnicodeError) -> tuple[str, int]:
    """Write characters as references that HTML reads as the same: those of C1 controls mean others."""
    assert isinstance(error, UnicodeEncodeError)
    places = (ord(character) for character in error.object[error.start : error.end])
    return "".join(f"&#{0xFFFD if 0x80 <= place < 0xA0 else place};" for place in places), error.end


_REFERENCES = "mailgate.references"
codecs.register_error(_REFERENCES, _as_references)


def known_encoding(part: Part) -> bool:
    """Tell whether the body can be written in its transfer encoding."""
    return part.transfer_encoding in (*IDENTITY_ENCODINGS, "base64", "quoted-printable")


def encode_text(text: str, codec: str, part: Part) -> bytes | None:
    """Return text in a part's codec, in HTML with references; None if it can't express it."""
    if part.content_type == "text/html":
        if part.transfer_encoding == "7bit" and charsets.is_ascii_superset(codec):
            codec = "ascii"  # so that the part stays 7bit
        errors = _REFERENCES
    else:
        errors = "strict"
    try:
        return text.encode(codec, errors)
    except (UnicodeError, ValueError):
        return None


def _line_end_in(part: Part, content: bytes, eol: bytes) -> bytes:
    """Return the line end of a text: in base64 it is the text's own, else the message's."""
    if part.transfer_encoding != "base64":
        return eol
    return b"\n" if b"\n" in content and b"\r\n" not in content else b"\r\n"


def _place(content: bytes, before: bytes) -> int:
    if not before:
        return len(content)
    tail = max(0, len(content) - _TAIL)  # where it nearly always stands
    hit = content[tail:].lower().rfind(before.lower())
    if hit >= 0:
        return tail + hit
    hit = content.lower().rfind(before.lower())
    return hit if hit >= 0 else len(content)


def with_charset(part: Part, charset: str, eol: bytes) -> bytes:
    """Return the part's Content-Type with another charset, without the last line end."""
    parameters = {**part.parameters, "charset": charset}
    return format_structured("Content-Type", part.content_type, parameters, eol.decode()).encode(
        "ascii", "replace"
    )


# -- one way for each transfer encoding ----------------------------------------


def _into_identity(part: Part, content: bytes, place: int, octets: bytes, eol: bytes) -> TextChange | None:
    fits = octets.isascii() or part.transfer_encoding != "7bit" or not content.isascii()
    meets = makes_delimiter(octets, content[:place], content[place:], boundaries_around(part))
    if fits and short_lines(octets) and not meets:
        return TextChange(part.body_start + place, part.body_start + place, octets)
    return whole_body(part, content[:place] + octets + content[place:], eol)


def _into_quoted_printable(
    part: Part, content: bytes, place: int, octets: bytes, eol: bytes
) -> TextChange | None:
    raw = part.raw_body
    wanted = content[:place] + octets + content[place:]
    data = encode_quoted_printable(octets, eol)
    at = len(raw)
    if place < len(content):
        # Nearly always the marker stands in the encoded text as it does in the decoded one.
        at = raw.lower().rfind(content[place : place + 6].lower())
        data = _softened(raw, at, data, eol)
    meets = at >= 0 and makes_delimiter(data, raw[:at], raw[at:], boundaries_around(part))
    if at >= 0 and not meets and decode_quoted_printable(raw[:at] + data + raw[at:]) == wanted:
        return TextChange(part.body_start + at, part.body_start + at, data)
    return whole_body(part, wanted, eol)


def _softened(raw: bytes, at: int, data: bytes, eol: bytes) -> bytes:
    """Return encoded text with the soft line breaks it needs to stand in the midst of a line."""
    soft = b"=" + eol
    column = at - (raw.rfind(b"\n", 0, at) + 1)
    newline = raw.find(b"\n", at)
    rest = (newline if newline >= 0 else len(raw)) - at
    if column and column + len(data.partition(b"\n")[0]) > _QUOTED_LINE:
        data = soft + data
    last = data[data.rfind(b"\n") + 1 :]
    column = len(last) if b"\n" in data else column + len(last)
    return data + soft if column and column + rest > _QUOTED_LINE else data


def _into_base64(part: Part, content: bytes, place: int, octets: bytes, eol: bytes) -> TextChange | None:
    raw = part.raw_body
    step = raw.find(b"\n") + 1
    line = len(raw[:step].rstrip(b"\r\n"))
    kept = place // (line // 4 * 3) if line >= 4 and line % 4 == 0 else 0
    kept = min(kept, len(raw) // step if step else 0)  # the last line may have no line end
    at = kept * step
    decoded = kept * (line // 4 * 3)
    wanted = content[:place] + octets + content[place:]
    if kept and stands_alone(raw[:at], kept * line):
        data = encode_base64(wanted[decoded:], eol, line)
        if not raw.endswith(b"\n"):
            data = data.removesuffix(eol)
        return TextChange(part.body_start + at, part.end, data)
    return whole_body(part, wanted, eol)


def _insert_characters(part: Part, codec: str, text: str, before: bytes, eol: bytes) -> TextChange | None:
    """Put the text in between characters rather than octets: all of the body is encoded anew."""
    try:
        characters = part.content().decode(codec)
    except (UnicodeError, ValueError):
        return None
    hit = characters.lower().rfind(before.decode("ascii").lower()) if before else -1
    if hit > len(characters) or len(characters.lower()) != len(characters):
        hit = -1  # lower-casing moved what stands behind a few rare letters
    place = hit if hit >= 0 else len(characters)
    line_end = "\n" if "\n" in characters and "\r\n" not in characters else "\r\n"
    added = text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", line_end)
    wanted = characters[:place] + added + characters[place:]
    fields = {}
    try:
        octets = wanted.encode(codec)
    except (UnicodeError, ValueError):
        octets = wanted.encode("utf-8", "replace")
        fields["content-type"] = with_charset(part, "utf-8", eol)
    change = whole_body(part, octets, eol)
    if change is not None:
        change.fields.update(fields)
    return change


def whole_body(part: Part, content: bytes, eol: bytes, keep_identity: bool = False) -> TextChange | None:
    """Return the change that gives the part this content, in base64 if it has it already."""
    if len(content) > MOST_ENCODED:
        return None
    change = TextChange(part.body_start, part.end, b"")
    ends = part.buffer[max(part.body_start, part.end - 1) : part.end] == b"\n"
    if part.transfer_encoding == "base64":
        data = encode_base64(content, eol, BASE64_LINE)
        change.data = data if ends else data.removesuffix(eol)
        return change
    identity = keep_identity and part.transfer_encoding in IDENTITY_ENCODINGS and short_lines(content)
    identity = identity and not holds_delimiter(content, boundaries_around(part))
    if identity and (content.isascii() or part.transfer_encoding != "7bit"):
        change.data = content
        return change
    if part.transfer_encoding != "quoted-printable":
        change.fields["content-transfer-encoding"] = b"Content-Transfer-Encoding: quoted-printable"
    change.data = encode_quoted_printable(content, eol)
    return change
