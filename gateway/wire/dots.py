"""Dot-terminated bodies: SMTP DATA (RFC 5321 4.5.2) and POP3 multi-line replies (RFC 1939 3).

Only CRLF.CRLF ends such a body.  Everything that another reader might take for the end
(a bare CR or LF around a lone dot, with or without NULs) is named, so that the engine can
refuse or mend it: this is what makes SMTP smuggling impossible.

No per-line Python: `find`, `replace` and `count` run in C, and a chunk without any dot,
which is nearly every chunk of an attachment, can neither end a body nor hold a stuffed dot.
"""

from __future__ import annotations

import re
from io import IncrementalNewlineDecoder

_END = b"\r\n.\r\n"
_DOT_LINE = re.compile(rb"\r\n\.")
#: So many dots are looked at one by one; prose has more, and is left to the expression.
_FEW_DOTS = 64
#: Looked for with the NULs left out, of which any number may stand around the dot.
_LOOKALIKE = re.compile(rb"[\r\n]\.[\r\n]")
_ANY_NEWLINE = re.compile(rb"\r\n|\r|\n")
_NULS_AT_LINE_START = re.compile(rb"(?<=\n)\0+")


def _held_back(data: bytes) -> int:
    """Return the length of the longest end of ``data`` that CRLF.CRLF begins with."""
    for length in range(min(4, len(data)), 0, -1):
        if data[-length:] == _END[:length]:
            return length
    return 0


def _dot_line(data: bytes) -> int:
    """Return where the first dot behind a CRLF stands; -1 if there is none.

    Attachments have few dots: finding those is ten times faster than looking at line ends.
    """
    dot = data.find(b".")
    for _ in range(_FEW_DOTS):
        if dot < 0:
            return -1
        if data[dot - 2 : dot] == b"\r\n":
            return dot
        dot = data.find(b".", dot + 1)
    if dot < 0:
        return -1
    found = _DOT_LINE.search(data, max(dot - 2, 0))
    return found.end() - 1 if found else -1


def bare_newlines(data: bytes) -> tuple[bool, bool]:
    """Tell whether there is a bare CR, and whether there is a bare LF.

    data: must not end between a CR and its LF.
    """
    if _even_lines(data):
        return False, False
    # The one function of the library that looks for all three newlines in one pass.
    decoder = IncrementalNewlineDecoder(None, translate=False)
    decoder.decode(data.decode("latin-1"), final=True)
    found = decoder.newlines
    kinds = (found,) if isinstance(found, str) else found or ()
    return "\r" in kinds, "\n" in kinds


def _even_lines(data: bytes) -> bool:
    """Tell whether all lines are of one length, as base64 has them, and end in CRLF.

    Blanking the newlines where they must be and looking for others costs an eighth of counting.
    """
    first = data.find(b"\n")
    stride = data.find(b"\n", first + 1) - first
    if first < 1 or stride < 2:
        return False
    feeds = data[first::stride]
    count = len(feeds)
    returns = slice(first - 1, first + (count - 1) * stride, stride)
    if feeds.count(b"\n") != count or data[returns].count(b"\r") != count:
        return False
    rest = bytearray(data)
    rest[first::stride] = rest[returns] = bytes(count)
    return b"\n" not in rest and b"\r" not in rest


class DotDecoder:
    """Reads one dot-terminated body, in any cutting.

    After :meth:`feed` has found the end, :attr:`finished` is true and :attr:`rest` holds the
    octets behind it.  ``watch_newlines`` switches the search for bare newlines on (SMTP).
    """

    __slots__ = (
        "_context",
        "_tail",
        "_virtual",
        "bare_cr",
        "bare_lf",
        "finished",
        "lookalike",
        "nul",
        "rest",
        "watch_newlines",
    )

    def __init__(self, watch_newlines: bool = True) -> None:
        # The body starts at the start of a line, as if CRLF stood in front of it.
        self._tail = b"\r\n"
        self._virtual = 2
        self._context = b""
        self.watch_newlines = watch_newlines
        self.bare_cr = False
        self.bare_lf = False
        self.nul = False
        self.lookalike = False
        self.finished = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """Take octets from the wire and return the content among them, unstuffed."""
        if self._tail:
            data = self._tail + data
        dot = _dot_line(data)
        end = data.find(_END, dot - 2) if dot >= 0 else -1
        if end >= 0:
            raw = data[: end + 2]
            self.finished = True
            self.rest = data[end + 5 :]
            self._tail = b""
        else:
            keep = _held_back(data)
            raw = data[: len(data) - keep] if keep else data
            self._tail = data[len(data) - keep :] if keep else b""
        if self.watch_newlines and raw:
            self._watch(raw)
        # What is held back when the end is not found can't hold a whole stuffed dot either.
        content = raw.replace(b"\r\n.", b"\r\n") if dot >= 0 and dot != end + 2 else raw
        if self._virtual and raw:
            # A body of nothing is ".CRLF" alone: then even the virtual CRLF is not content.
            content = content[self._virtual :]
            self._virtual = 0
        return content

    def _watch(self, raw: bytes) -> None:
        bare_cr, bare_lf = bare_newlines(raw)
        self.bare_cr |= bare_cr
        self.bare_lf |= bare_lf
        nul = b"\0" in raw
        self.nul |= nul
        # A look-alike needs a newline next to a lone dot: with CRLF only, the dot would have
        # been stuffed or the end.  So the costly search runs only where something is bare.
        suspicious = self.bare_cr or self.bare_lf or self.nul
        if suspicious:
            context = (self._context + raw).replace(b"\0", b"")
            if b"." in context and _LOOKALIKE.search(context):
                self.lookalike = True
            self._context = context[-2:]
        else:
            # What may begin a look-alike can have come in several pieces.
            self._context = raw[-2:] if len(raw) > 1 else (self._context + raw)[-2:]


def stuff(data: bytes) -> bytes:
    """Dot-stuff a whole content that starts at a line's start, and add the end.

    A missing last CRLF is added: a dot-terminated body can't be without one.
    """
    encoder = DotEncoder(normalise=False)
    return encoder.feed(data) + encoder.end()


class DotEncoder:
    """Lays a body on the wire, in any cutting: stuffs dots, ends in CRLF.CRLF.

    ``normalise``: turn each bare CR or LF into CRLF and drop NULs that begin a line, so that
    no reader, however lenient, can see an end that is none.
    """

    __slots__ = ("_at_start", "_normalise", "_pending", "_tail")

    def __init__(self, normalise: bool = True) -> None:
        self._normalise = normalise
        self._tail = b"\r\n"  # the last two octets sent
        self._pending = b""  # a CR whose LF may follow

    def feed(self, data: bytes) -> bytes:
        """Return the octets to send for the next piece of content."""
        if self._pending:
            data = self._pending + data
            self._pending = b""
        if data[-1:] == b"\r":
            self._pending = b"\r"
            data = data[:-1]
        if not data:
            return b""
        if self._normalise:
            if any(bare_newlines(data)):
                data = _ANY_NEWLINE.sub(b"\r\n", data)
            if b"\0" in data:
                if self._tail == b"\r\n":
                    data = data.lstrip(b"\0")
                data = _NULS_AT_LINE_START.sub(b"", data)
                if not data:
                    return b""
        if b"." in data:
            if data[:1] == b"." and self._tail == b"\r\n":
                data = b"." + data
            elif data[:2] == b"\n." and self._tail[-1:] == b"\r":
                data = b"\n." + data[1:]
            if _dot_line(data) >= 0:
                data = data.replace(b"\r\n.", b"\r\n..")
        self._tail = (self._tail + data[-2:])[-2:]
        return data

    def end(self) -> bytes:
        """Return the octets that end the body."""
        last = b""
        if self._pending:
            last = b"\r\n" if self._normalise else b"\r"
            self._tail = (self._tail + last)[-2:]
            self._pending = b""
        if self._tail != b"\r\n":
            last += b"\r\n"
        return last + b".\r\n"
