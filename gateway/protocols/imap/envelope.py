"""ENVELOPE and what BODYSTRUCTURE takes from header fields (RFC 9051 7.5.2), read leniently."""

from __future__ import annotations

import re

#: Addresses of one field that are read; what follows is left out.
_MOST_ADDRESSES = 1000
_TOKEN = re.compile(
    rb'[ \t\r\n]+|"(?:[^"\\]|\\.)*"?|\[(?:[^\]\\]|\\.)*\]?|[<>:;,@]|[^ \t\r\n"\[<>:;,@(]+|\(', re.DOTALL
)
_COMMENT = re.compile(rb"[()\\]")
_PARAMETER = re.compile(rb';[ \t]*([^=; \t]{1,200})[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"?|[^;]*)', re.DOTALL)


def unfolded(raw: bytes) -> bytes:
    """Return a field's value on one line (RFC 5322 2.2.3)."""
    return raw.replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b"").strip(b" \t")


def string(value: bytes | None) -> bytes:
    """Write an nstring: quoted where it may be, else a literal; NIL for None."""
    if value is None:
        return b"NIL"
    if value.isascii() and b"\r" not in value and b"\n" not in value and b"\0" not in value:
        return b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    value = value.replace(b"\0", b"")
    return b"{%d}\r\n%b" % (len(value), value)


def parameters(raw: bytes) -> list[tuple[bytes, bytes]]:
    """Return the parameters of a structured field as they stand, quotes removed (RFC 2045 5.1)."""
    text = unfolded(raw)
    return [
        (found.group(1), _value(found.group(2).strip(b" \t")))
        for found in _PARAMETER.finditer(text, max(0, text.find(b";")))
        if b";" in text
    ]


#: A comment behind a value that needs no quotes.
_BEHIND = re.compile(rb"[ \t]*\([^()]*\)\Z")


def _value(text: bytes) -> bytes:
    return _unquoted(text) if text[:1] == b'"' else _BEHIND.sub(b"", text)


def _unquoted(text: bytes) -> bytes:
    if text[:1] != b'"':
        return text
    inner = text[1:-1] if len(text) > 1 and text.endswith(b'"') else text[1:]
    return re.sub(rb"\\(.)", rb"\1", inner, flags=re.DOTALL)


def addresses(raw: bytes | None) -> bytes:
    """Write an address list (RFC 5322 3.4) as ENVELOPE has it; NIL for no field, or nobody in it."""
    if raw is None:
        return b"NIL"
    reader = _Addresses(unfolded(raw))
    found = reader.read()
    if not found:
        return b"NIL"
    return b"(" + b"".join(b"(%b %b %b %b)" % tuple(map(string, one)) for one in found) + b")"


_Address = tuple[bytes | None, bytes | None, bytes | None, bytes | None]  # name, route, mailbox, host


class _Addresses:
    """Reads one field: words are gathered until a mark says what they are."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._found: list[_Address] = []
        self._words: list[bytes] = []
        self._angle: list[bytes] | None = None  # within <...>
        self._spec: list[bytes] | None = None  # what <...> held
        self._comment = b""
        self._group = False

    def read(self) -> list[_Address]:
        position, text = 0, self._text
        while position < len(text) and len(self._found) < _MOST_ADDRESSES:
            token = _TOKEN.match(text, position)
            if token is None:
                position += 1
                continue
            mark = token.group()
            position = token.end()
            if mark == b"(":
                position = self._take_comment(position)
            elif mark == b"<":
                self._angle = []
            elif mark == b">":
                self._spec, self._angle = self._angle or [], None
            elif self._angle is not None:
                self._angle.append(mark.strip(b" \t"))
            elif mark == b",":
                self._end()
            elif mark == b":" and not self._group and self._words:
                self._found.append((None, None, _phrase(self._words), None))
                self._words, self._group = [], True
            elif mark == b";":
                self._end()
                if self._group:
                    self._found.append((None, None, None, None))
                    self._group = False
            else:
                self._words.append(mark)
        self._end()
        if self._group:
            self._found.append((None, None, None, None))
        return self._found

    def _take_comment(self, position: int) -> int:
        """Skip a comment, nested ones too; a lone one behind an address is its name."""
        depth, start = 1, position
        while depth:
            found = _COMMENT.search(self._text, position)
            if found is None:
                return len(self._text)
            mark, position = found.group(), found.end()
            if mark == b"\\":
                position += 1
            else:
                depth += 1 if mark == b"(" else -1
        self._comment = self._text[start : position - 1]
        return position

    def _end(self) -> None:
        spec = self._spec if self._spec is not None else self._angle
        words, comment = self._words, self._comment
        self._words, self._spec, self._angle, self._comment = [], None, None, b""
        if spec is not None:
            route = None
            if b":" in spec:  # RFC 5322 4.4
                colon = len(spec) - 1 - spec[::-1].index(b":")
                route, spec = b"".join(spec[:colon]), spec[colon + 1 :]
            self._found.append((_phrase(words) or None, route or None, *_split(spec)))
        elif words and any(word.strip() for word in words):
            bare = [word for word in words if word.strip(b" \t")]
            self._found.append((comment or None, None, *_split(bare)))


def _phrase(words: list[bytes]) -> bytes:
    """Join a display name: blanks as one, quotes removed."""
    return b" ".join(b"".join(_unquoted(w) if w.strip(b" \t") else b" " for w in words).split())


def _split(words: list[bytes]) -> tuple[bytes, bytes]:
    """Return local part and domain of an address in tokens."""
    if b"@" in words:
        place = len(words) - 1 - words[::-1].index(b"@")
        local = b"".join(_unquoted(word) for word in words[:place])
        return local, b"".join(words[place + 1 :])
    return b" ".join(_unquoted(word) for word in words), b""
