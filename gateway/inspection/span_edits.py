"""Replacing pieces of a text part's decoded text in its own charset and transfer encoding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from . import charsets
from .part import Part
from .text_edits import TextChange, encode_text, known_encoding, whole_body, with_charset
from .transfer import (
    BASE64_LINE,
    MOST_ENCODED,
    boundaries_around,
    encode_base64,
    encode_quoted_printable,
    holds_delimiter,
    short_lines,
    with_line_ends,
)
from .words import decode_quoted_printable, stands_alone

Span = tuple[int, int, str]
#: A piece of the decoded content, in octets, and what stands there instead.
Piece = tuple[int, int, bytes]


def replace_spans(part: Part, spans: Sequence[Span], eol: bytes) -> list[TextChange] | None:
    """Return the changes that put new texts in place of spans of a text, or None if they can't be.

    Raises ValueError for spans outside of the text or over each other.
    """
    codec = charsets.writing_codec_of(part.charset or "us-ascii")
    if codec is None or not known_encoding(part) or part.children:
        return None
    content = part.content()
    reading = charsets.reading_codec_of(content, part.charset)
    text = charsets.decode(content, part.charset)
    ordered = _checked(spans, len(text))
    if not charsets.is_ascii_superset(codec):
        return _by_characters(part, content, text, ordered, codec, eol)
    offsets = charsets.octet_offsets(content, text, reading, [at for one in ordered for at in one[:2]])
    if offsets is None:
        return None
    known = content.isascii() or charsets.codec_of(part.charset or "us-ascii") == reading
    line_end = b"\n" if b"\n" in content and b"\r\n" not in content else b"\r\n"
    if part.transfer_encoding != "base64":
        line_end = eol
    fields: dict[str, bytes] = {}
    octets = [encode_text(new, codec, part) for _, _, new in ordered]
    if None in octets:
        if codec != "ascii":
            return _whole_as_utf8(part, content, text, ordered, eol)
        if charsets.is_utf8(content):
            octets = [new.encode("utf-8", "replace") for _, _, new in ordered]
            fields["content-type"] = with_charset(part, "utf-8", eol)
        else:
            octets = [new.encode("ascii", "replace") for _, _, new in ordered]
    pieces = [
        (offsets[2 * index], offsets[2 * index + 1], with_line_ends(new or b"", line_end))
        for index, new in enumerate(octets)
    ]
    if ("\ufffd" in text or not known) and not _reads_back(part, content, text, ordered, pieces):
        return None
    changes = _into_body(part, content, pieces, eol)
    if changes and fields:
        changes[0].fields.update(fields)
    return changes


def _checked(spans: Sequence[Span], size: int) -> list[Span]:
    """Return the spans in order, those that touch as one: hostile texts have hundreds of thousands."""
    ordered: list[tuple[int, int, list[str]]] = []
    last = 0
    for start, end, new in sorted(spans, key=lambda span: span[:2]):
        if not 0 <= start <= end <= size:
            raise ValueError(f"span {start}-{end} of a text of {size} characters")
        if start < last:
            raise ValueError(f"spans overlap at character {start}")
        if ordered and start == last:
            ordered[-1][2].append(new)
            ordered[-1] = (ordered[-1][0], end, ordered[-1][2])
        else:
            ordered.append((start, end, [new]))
        last = end
    return [(start, end, "".join(new)) for start, end, new in ordered]


def _laid_in(text: str, spans: list[Span]) -> str:
    joined: list[str] = []
    place = 0
    for start, end, new in spans:
        joined += [text[place:start], new]
        place = end
    joined.append(text[place:])
    return "".join(joined)


def _octets_laid_in(content: bytes, pieces: list[Piece]) -> bytes:
    joined: list[bytes] = []
    place = 0
    for start, end, new in pieces:
        joined += [content[place:start], new]
        place = end
    joined.append(content[place:])
    return b"".join(joined)


def _reads_back(part: Part, content: bytes, text: str, spans: list[Span], pieces: list[Piece]) -> bool:
    """Tell whether broken octets beside the pieces read as before."""
    written = [charsets.decode(new, part.charset) for _, _, new in pieces]
    wanted = [(start, end, new) for (start, end, _), new in zip(spans, written, strict=True)]
    return charsets.decode(_octets_laid_in(content, pieces), part.charset) == _laid_in(text, wanted)


# -- charsets --------------------------------------------------------------------


def _whole_as_utf8(
    part: Part, content: bytes, text: str, spans: list[Span], eol: bytes
) -> list[TextChange] | None:
    """Make the whole part UTF-8, if nothing is lost; else leave it."""
    if "\ufffd" in text:
        return None
    wanted = _laid_in(text, spans).encode("utf-8", "replace")
    if part.transfer_encoding != "base64":
        wanted = with_line_ends(wanted, eol)
    change = whole_body(part, wanted, eol)
    if change is None:
        return None
    change.fields["content-type"] = with_charset(part, "utf-8", eol)
    return [change]


def _by_characters(
    part: Part, content: bytes, text: str, spans: list[Span], codec: str, eol: bytes
) -> list[TextChange] | None:
    """Edit a charset with states or wide characters: what differs afterwards is the stretch."""
    if len(content) > MOST_ENCODED:
        return None
    codec, mark = charsets.without_mark(content, codec)
    try:
        if content[len(mark) :].decode(codec) != text:
            return None
    except (UnicodeError, ValueError):
        return None
    line_end = "\n" if "\n" in text and "\r\n" not in text else "\r\n"
    spans = [
        (start, end, new.replace("\r\n", "\n").replace("\r", "\n").replace("\n", line_end))
        for start, end, new in spans
    ]
    wanted = encode_text(_laid_in(text, spans), codec, part)
    if wanted is None:
        return _whole_as_utf8(part, content, text, spans, eol)
    wanted = mark + wanted
    start = _common(content, wanted)
    behind = _common_end(content[start:], wanted[start:])
    piece = (start, len(content) - behind, wanted[start : len(wanted) - behind])
    return _into_body(part, content, [piece], eol)


def _common(one: bytes, other: bytes) -> int:
    """Return how many octets two share at their beginning."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _common_end(one: bytes, other: bytes) -> int:
    """Return how many octets two share at their end."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[len(one) - middle : len(one) - low] == other[len(other) - middle : len(other) - low]:
            low = middle
        else:
            high = middle - 1
    return low


# -- transfer encodings ----------------------------------------------------------


def _into_body(part: Part, content: bytes, pieces: list[Piece], eol: bytes) -> list[TextChange] | None:
    if not pieces:
        return []
    if part.transfer_encoding == "base64":
        changes = _into_base64(part, content, pieces, eol)
    elif part.transfer_encoding == "quoted-printable":
        changes = _into_quoted_printable(part, content, pieces, eol)
    else:
        changes = _into_identity(part, content, pieces)
    if changes is not None:
        return changes
    change = whole_body(part, _octets_laid_in(content, pieces), eol)
    return [change] if change is not None else None


def _into_identity(part: Part, content: bytes, pieces: list[Piece]) -> list[TextChange] | None:
    """Put the pieces where they are, if what stands in their lines then may stand there."""
    seven = part.transfer_encoding == "7bit" and content.isascii()
    if seven and not all(new.isascii() for _, _, new in pieces):
        return None
    boundaries = boundaries_around(part)
    for begun, end, group in _by_lines(content, pieces):
        before = content[begun:end]
        joined = _octets_laid_in(before, [(one[0] - begun, one[1] - begun, one[2]) for one in group])
        if holds_delimiter(joined, boundaries) or (short_lines(before) and not short_lines(joined)):
            return None
    return [TextChange(part.body_start + start, part.body_start + end, new) for start, end, new in pieces]


def _by_lines(content: bytes, pieces: list[Piece]) -> Iterator[tuple[int, int, list[Piece]]]:
    """Give the pieces that stand in the same lines, and where those lines begin and end."""
    group: list[Piece] = []
    begun = line_end = 0
    for piece in pieces:
        if group and piece[0] > line_end:
            yield begun, line_end, group
            group = []
        if not group:
            begun = content.rfind(b"\n", 0, piece[0]) + 1
        if not group or piece[1] > line_end:
            newline = content.find(b"\n", piece[1])
            line_end = newline if newline >= 0 else len(content)
        group.append(piece)
    if group:
        yield begun, line_end, group


def _into_quoted_printable(
    part: Part, content: bytes, pieces: list[Piece], eol: bytes
) -> list[TextChange] | None:
    """Write the encoded lines anew that the pieces stand in."""
    changes: list[TextChange] = []
    raw = part.raw_body
    waiting = list(reversed(pieces))
    place = decoded = 0
    begun: tuple[int, int] | None = None  # where the lines to be written anew begin: encoded, decoded
    taken: list[Piece] = []
    total = 0
    while waiting or begun is not None:
        newline = raw.find(b"\n", place)
        behind = newline + 1 if newline >= 0 else len(raw)
        size = len(decode_quoted_printable(raw[place:behind]))
        last = behind >= len(raw)
        while waiting and (waiting[-1][0] < decoded + size or last):
            if begun is None:
                begun = place, decoded
            taken.append(waiting.pop())
        place, decoded = behind, decoded + size
        if begun is None or (not last and (taken[-1][1] > decoded)):
            continue
        if not last and waiting and waiting[-1][0] < decoded:
            continue
        shifted = [(start - begun[1], end - begun[1], new) for start, end, new in taken]
        wanted = _octets_laid_in(content[begun[1] : decoded], shifted)
        total += len(wanted)
        if total > MOST_ENCODED:
            return None
        data = encode_quoted_printable(wanted, eol)
        if not last and data and not wanted.endswith(b"\n"):
            data += b"=" + eol
        changes.append(TextChange(part.body_start + begun[0], part.body_start + place, data))
        begun, taken = None, []
    return changes


def _into_base64(part: Part, content: bytes, pieces: list[Piece], eol: bytes) -> list[TextChange] | None:
    """Write the lines anew from the first that changes on: what is behind it may move."""
    raw = part.raw_body
    step = raw.find(b"\n") + 1
    line = len(raw[:step].rstrip(b"\r\n"))
    octets = line // 4 * 3
    kept = pieces[0][0] // octets if line >= 4 and line % 4 == 0 else 0
    kept = min(kept, len(raw) // step if step else 0)
    if not kept or not stands_alone(raw[: kept * step], kept * line):
        kept, line = 0, line if 4 <= line <= BASE64_LINE and line % 4 == 0 else BASE64_LINE
    decoded = kept * octets
    shifted = [(start - decoded, end - decoded, new) for start, end, new in pieces]
    wanted = _octets_laid_in(content[decoded:], shifted)
    if len(wanted) > MOST_ENCODED:
        return None
    data = encode_base64(wanted, eol, line)
    if not raw.endswith(b"\n"):
        data = data.removesuffix(eol)
    return [TextChange(part.body_start + kept * step, part.end, data)]
