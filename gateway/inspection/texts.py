"""The texts of a message that a plugin may change."""

from __future__ import annotations

from collections.abc import Iterator

from .message import Message
from .parts import Part

HTML_TYPES = frozenset({"text/html", "text/x-amp-html"})
PLAIN_TYPES = frozenset({"text/plain"})


def editable_texts(message: Message, types: frozenset[str], attachments: bool = False) -> Iterator[Part]:
    """Give the parts of these types that a reader may see, those of enclosed messages too.

    A part that says it is an attachment counts with ``attachments`` only, unless it is the
    whole message; a file name alone doesn't keep programs from showing a part.  Parts that a
    signature covers are left out, and so noted (``skipped_signed``), as encrypted messages are.
    """
    for part in message.root.walk():
        if part.content_type in types and not part.children:
            if part.disposition == "attachment" and not attachments and part is not message.root:
                continue
            if message.may_edit(part):
                yield part
                continue
        elif part.content_type not in _OPAQUE:
            continue
        cover = message.cover_of(part)
        message.note("skipped_signed", str(cover.kind) if cover is not None else part.content_type)


_OPAQUE = frozenset({"multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime"})
