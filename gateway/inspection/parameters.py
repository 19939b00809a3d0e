"""Structured fields with parameters: Content-Type, Content-Disposition (RFC 2045 5.1, 2183, 2231)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .defects import Defect
from .words import decode_words, percent_decode, unfold

#: No value longer than this is read: octets.
LONGEST_VALUE = 64 * 1024

_OUTSIDE = re.compile(r'"(?:[^"\\]|\\.)*"?|\\.?|[();]|[^"\\();]+', re.DOTALL)
_COMMENT = re.compile(r"[^()\\]+|\\.?|[()]", re.DOTALL)
_PAIR = re.compile(r"\\(.)", re.DOTALL)


@dataclass(slots=True)
class Structured:
    """A value and its parameters.

    value: lower-case, "multipart/mixed" or "attachment"; "" if there is none.
    parameters: lower-case names, decoded values.
    codec: in which the octets were read, "utf-8", or "latin-1" where they are no UTF-8.
    others: values that another program may take for a parameter, by its name.
    """

    value: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    defects: list[Defect] = field(default_factory=list)
    codec: str = "utf-8"
    others: dict[str, list[str]] = field(default_factory=dict)

    def take_other(self, name: str, value: str) -> None:
        """Remember another value of a parameter."""
        if value not in self.others.setdefault(name, []):
            self.others[name].append(value)


Piece = tuple[bool, str]  # whether it was quoted, and the text


def parse_structured(raw: bytes, most: int = 200, *, slash: bool = False) -> Structured:
    """Parse a field's raw value.  Never fails; what is wrong is named in ``defects``.

    most: how many parameters are read.  slash: the value has one, with blanks beside it or not.
    """
    result = Structured()
    if len(raw) > LONGEST_VALUE:
        raw = raw[:LONGEST_VALUE]
        result.defects.append(Defect.HEADER_TOO_LONG)
    raw = unfold(raw)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text, result.codec = raw.decode("latin-1"), "latin-1"
    segments = _segments(text, most, result.defects)
    head = segments.pop(0)
    if slash:
        _join_type(head)
    words = "".join(text for _, text in head).split(None, 1)
    if words:
        result.value = words[0].lower()
        if len(words) > 1 and "=" in words[1]:
            result.defects.append(Defect.MISSING_SEMICOLON)
            rest = head[0][1].lstrip()[len(words[0]) :]
            segments.insert(0, [(False, rest), *head[1:]])
    _collect(segments, result)
    return result


def _segments(text: str, most: int, defects: list[Defect]) -> list[list[Piece]]:
    """Cut at the semicolons outside quotes and comments, and drop the comments."""
    segments: list[list[Piece]] = [[]]
    position, depth, size = 0, 0, len(text)
    while position < size:
        match = (_COMMENT if depth else _OUTSIDE).match(text, position)
        if match is None:
            break
        position = match.end()
        token = match.group()
        if token == "(":
            depth += 1
        elif depth:
            depth -= token == ")"
        elif token == ";":
            if len(segments) > most:
                defects.append(Defect.TOO_MANY_PARAMETERS)
                break
            segments.append([])
        elif token[0] == '"':
            closed = len(token) > 1 and token[-1] == '"' and not _ends_in_pair(token)
            if not closed:
                defects.append(Defect.UNCLOSED_QUOTE)
            segments[-1].append((True, _PAIR.sub(r"\1", token[1:-1] if closed else token[1:])))
        else:
            segments[-1].append((False, token))
    if depth:
        defects.append(Defect.UNCLOSED_COMMENT)
    return segments


def _join_type(head: list[Piece]) -> None:
    """Take away the blanks beside the first slash of unquoted text (RFC 822 3.1.4 allows them)."""
    count = next((place for place, (quoted, _) in enumerate(head) if quoted), len(head))
    text = "".join(text for _, text in head[:count])
    major, found, minor = text.partition("/")
    if found and (major[-1:].isspace() or minor[:1].isspace() or count > 1):
        head[:count] = [(False, f"{major.rstrip()}/{minor.lstrip()}")]


def _ends_in_pair(token: str) -> bool:
    """Tell whether the last quote of a token belongs to a quoted pair."""
    body = token[1:-1]
    return (len(body) - len(body.rstrip("\\"))) % 2 == 1


def _collect(segments: list[list[Piece]], result: Structured) -> None:
    """Make parameters of segments, continuations (RFC 2231 3) put together in any order."""
    sections: dict[str, dict[int, tuple[str, bool]]] = {}
    plain: dict[str, str] = {}
    for segment in segments:
        if not segment or segment[0][0]:
            continue
        name, equals, first = segment[0][1].partition("=")
        name = name.strip().lower()
        if not equals or not name:
            continue
        value = _value([(False, first), *segment[1:]])
        base, star, section = name.partition("*")
        if base == "boundary":
            for other in _shorter(first, segment[1:]):
                if other != value:
                    result.take_other(base, other)
        if not star:
            if name in plain:
                if value != plain[name]:
                    result.defects.append(Defect.DUPLICATE_PARAMETER)
                    result.take_other(name, value)
            else:
                plain[name] = value
            continue
        extended = section == "" or section.endswith("*")
        digits = section.rstrip("*")
        if digits and not (digits.isascii() and digits.isdigit() and len(digits) < 5):
            result.defects.append(Defect.BROKEN_CONTINUATION)
            continue
        parts = sections.setdefault(base, {})
        index = int(digits) if digits else 0
        if index in parts:
            result.defects.append(Defect.DUPLICATE_PARAMETER)
        else:
            parts[index] = (value, extended)
    for name, value in plain.items():
        result.parameters[name] = _without_words(name, value, result) if "=?" in value else value
    for name, parts in sections.items():
        # Where a plain one stands beside it, it is for programs that don't know RFC 2231.
        joined = _join(parts, result.defects)
        if result.parameters.get(name, joined) != joined:
            result.take_other(name, result.parameters[name])
            if name not in _NAMES:
                result.defects.append(Defect.DUPLICATE_PARAMETER)
        result.parameters[name] = joined


def _without_words(name: str, value: str, result: Structured) -> str:
    """Return a name with its encoded words decoded, which RFC 2047 5 forbids and most programs do."""
    decoded = decode_words(value.encode())
    if decoded == value:
        return value
    if name not in _NAMES:
        result.defects.append(Defect.ENCODED_WORD_PARAMETER)
        result.take_other(name, decoded)
        return value
    result.defects.append(Defect.ENCODED_WORD_NAME)
    result.take_other(name, value)
    return decoded


_NAMES = ("name", "filename")


def _value(pieces: list[Piece]) -> str:
    return "".join(text if quoted else text.strip() for quoted, text in pieces)


def _shorter(first: str, behind: list[Piece]) -> list[str]:
    """Return what programs take that stop at the end of a token or of a quoted string.

    first, behind: of a value, as :func:`_value` gets them.
    """
    quoted = [text for is_quoted, text in behind if is_quoted]
    token = _BARE_TOKEN.match(first.strip())
    return [one for one in (token.group() if token is not None else "", *quoted) if one]


def _join(parts: dict[int, tuple[str, bool]], defects: list[Defect]) -> str:
    if sorted(parts) != list(range(len(parts))):
        defects.append(Defect.BROKEN_CONTINUATION)
    charset = ""
    joined: list[str] = []
    run: list[str] = []
    for index in sorted(parts):
        value, extended = parts[index]
        if extended and index == 0 and value.count("'") >= 2:
            charset, _, value = value.split("'", 2)
        if extended:
            run.append(value)
            continue
        if run:
            joined.append(percent_decode("".join(run), charset))
            run = []
        joined.append(value)
    if run:
        joined.append(percent_decode("".join(run), charset))
    return "".join(joined)


def every_value(raw: bytes, name: str) -> list[str]:
    """Return each text that some program may take for a parameter of a field's raw value.

    Where :func:`parse_structured` decides, this does not: the plain one and the one of RFC
    2231, the first and the second of two, an unquoted one as a whole, its first word and its
    token, a quoted string with what stands beside it and alone.
    """
    try:
        text = unfold(raw[:LONGEST_VALUE]).decode("utf-8")
    except UnicodeDecodeError:
        text = unfold(raw[:LONGEST_VALUE]).decode("latin-1")
    found = [parse_structured(raw).parameters.get(name, "")]
    for segment in _segments(text, 200, []):
        if not segment or segment[0][0]:
            continue
        key, _, first = segment[0][1].partition("=")
        base, star, section = key.strip().lower().rpartition(" ")[2].partition("*")
        if base != name:
            continue
        value = _value([(False, first), *segment[1:]])
        if star and section != "":
            found.append(_join({0: (value, True)}, []) if section.endswith("*") else value)
        elif star:
            found.append(_join({0: (value, True)}, []))
        else:
            found += [value, decode_words(value.encode("utf-8", "replace"))]
            if first.strip():
                found.append(first.strip().split()[0])
            found += _shorter(first, segment[1:])
    return [value for value in dict.fromkeys(found) if value]


def format_structured(name: str, value: str, parameters: dict[str, str], eol: str) -> str:
    """Write such a field, each parameter on a line of its own, without the last line end.

    What is not ASCII or too long for a line is encoded and continued (RFC 2231 3, 4).
    """
    lines = [f"{name}: {value}"]
    for key, text in parameters.items():
        if not text.isascii() or not text.isprintable() or len(text) > _LONGEST_PLAIN:
            lines += _extended(key, text)
        elif _TOKEN.fullmatch(text):
            lines.append(f"{key}={text}")
        else:
            quoted = text.replace("\\", "\\\\").replace('"', '\\"')
            lines.append(f'{key}="{quoted}"')
    return f";{eol}\t".join(lines)


def _extended(key: str, text: str) -> list[str]:
    octets = [
        chr(octet) if octet < 128 and chr(octet).isalnum() else f"%{octet:02X}"
        for octet in text.encode("utf-8", "replace")
    ]
    if sum(map(len, octets)) <= _LONGEST_PLAIN:
        return [f"{key}*=utf-8''{''.join(octets)}"]
    pieces = ["".join(octets[at : at + _SECTION]) for at in range(0, len(octets), _SECTION)]
    pieces[0] = f"utf-8''{pieces[0]}"
    return [f"{key}*{index}*={piece}" for index, piece in enumerate(pieces)]


#: Characters of a parameter on one line, and octets of one section, encoded three characters each.
_LONGEST_PLAIN = 200
_SECTION = 60
#: RFC 2045 5.1, with 8-bit characters as well.
_BARE_TOKEN = re.compile(r"[^\x00-\x20\x7f()<>@,;:\\\"/\[\]?=]+")
_TOKEN = re.compile(r"[!#$%&'*+.0-9A-Z^_`a-z{|}~-]+")
