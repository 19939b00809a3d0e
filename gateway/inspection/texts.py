"""The texts of a message that a plugin may change."""

from __future__ import annotations

from collections.abc import Iterator

from .defects import Defect
from .message import Message
from .parameters import parse_structured
from .parts import Part

HTML_TYPES = frozenset({"text/html", "text/x-amp-html"})
PLAIN_TYPES = frozenset({"text/plain"})


def editable_texts(message: Message, types: frozenset[str], attachments: bool = False) -> Iterator[Part]:
    """Give the parts of these types that a reader may see, those of enclosed messages too.

    A part that says it is an attachment counts with ``attachments`` only, unless it is the
    whole message; a file name alone doesn't keep programs from showing a part, nor does one of
    two dispositions.  Parts that a signature covers are left out, and so noted
    (``skipped_signed``), as encrypted messages are.
    """
    for part in message.root.walk():
        if part.content_type in types and not part.children:
            if not attachments and part is not message.root and _is_attachment(part):
                continue
            if message.may_edit(part):
                yield part
                continue
        elif part.content_type not in _OPAQUE:
            continue
        cover = message.cover_of(part)
        message.note("skipped_signed", str(cover.kind) if cover is not None else part.content_type)


def unreachable_texts(message: Message, types: frozenset[str], attachments: bool = False) -> Iterator[Part]:
    """Give the parts of these types that only some programs see, and that can't be edited.

    They are those of other readings (:meth:`Message.walk`).  Attachments count as with
    :func:`editable_texts`; what a signature covers is left out.
    """
    for part in (part for reading in message.readings for part in reading.walk()):
        if part.content_type not in types or part.children:
            continue
        # A part that is described twice says in its own header whether it is an attachment.
        holder = part.outer if part.outer is not None and not part.outer.is_message else part
        kept = attachments or holder is message.root or not _is_attachment(holder)
        if kept and message.may_edit(part.origin):
            yield part


def _is_attachment(part: Part) -> bool:
    """Tell whether every program takes a part for an attachment."""
    if part.disposition != "attachment" or Defect.DUPLICATE_DISPOSITION not in part.defects:
        return part.disposition == "attachment"
    fields = part.get_all("content-disposition")
    return all(parse_structured(one.raw_value).value == "attachment" for one in fields)


_OPAQUE = frozenset({"multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime"})
