"""The parts that a reader sees as the text of a message, and comparing texts in them."""

from __future__ import annotations

from collections.abc import Iterator

from .parts import Part

_BODY_TYPES = ("text/plain", "text/html")
_OPAQUE = ("multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime")
_NOT_ENTERED = ("multipart/report", "multipart/digest")


def bodies(root: Part, every: bool = False) -> Iterator[Part]:
    """Give the parts that a reader sees as the message's text, and what hides them if encrypted.

    No attachments, enclosed messages and delivery reports.  With ``every``, as a warning wants
    it: also the text of a report, and a text that has a file's name and is not said to be
    an attachment, since most programs show them.
    """
    waiting = [root]
    while waiting:
        part = waiting.pop()
        if part.content_type in _BODY_TYPES:
            if _is_body(part, every):
                yield part
        elif part.content_type in _OPAQUE:
            yield part
        elif part.content_type == "multipart/alternative":
            waiting.extend(reversed(part.children))
        elif part.is_multipart and (every or part.content_type not in _NOT_ENTERED):
            shown = next((child for child in part.children if _is_body(child, every)), None)
            if shown is not None:
                waiting.append(shown)


def _is_body(part: Part, every: bool) -> bool:
    if part.is_multipart or part.content_type in _OPAQUE:
        return True
    attached = part.disposition == "attachment" if every else part.is_attachment
    return part.content_type in _BODY_TYPES and not attached


def squeezed(text: str) -> str:
    """Return text as it survives other programs: blanks as one, what is not ASCII as "?"."""
    return " ".join(text.encode("ascii", "replace").decode().split())


def for_part(part: Part, text: str) -> str:
    """Return lines so that a plain part shows them as they are, though it be format=flowed."""
    if part.parameters.get("format", "").lower() != "flowed":
        return text
    return "\n".join(_fixed(line) for line in text.split("\n"))


def _fixed(line: str) -> str:
    """Return a line that format=flowed leaves as it is (RFC 3676 4.2, 4.4)."""
    if line != "-- ":
        line = line.rstrip(" ")
    return f" {line}" if line.startswith((" ", ">", "From ")) else line
