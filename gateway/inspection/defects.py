"""The named ways in which a message's structure is broken, ambiguous or beyond a limit."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Defect(StrEnum):
    """One defect of one part.  Two mail programs may read such a message differently."""

    BAD_CONTENT_TYPE = "bad_content_type"  # no "type/subtype"; read as text/plain
    DUPLICATE_CONTENT_TYPE = "duplicate_content_type"  # the first one counts
    DUPLICATE_ENCODING = "duplicate_transfer_encoding"  # the first one counts
    DUPLICATE_DISPOSITION = "duplicate_disposition"  # the first one counts
    DUPLICATE_PARAMETER = "duplicate_parameter"  # the first one counts
    MISSING_SEMICOLON = "missing_semicolon"
    UNCLOSED_QUOTE = "unclosed_quote"
    UNCLOSED_COMMENT = "unclosed_comment"
    BROKEN_CONTINUATION = "broken_continuation"  # RFC 2231 sections with a gap
    UNKNOWN_ENCODING = "unknown_transfer_encoding"
    ENCODED_MULTIPART = "encoded_multipart"  # RFC 2045 6.4 forbids; read as if it were not
    ENCODED_MESSAGE = "encoded_message"  # a message/rfc822 in base64 or quoted-printable: not entered
    MISSING_HEADER = "missing_header"  # the first line is no field: all is body
    MISSING_BLANK_LINE = "missing_blank_line"  # a line that is no field ends the header
    MBOX_LINE = "mbox_line"  # "From ..." before the first field
    MISSING_BOUNDARY = "missing_boundary"  # a multipart without the parameter
    BOUNDARY_NOT_FOUND = "boundary_not_found"
    MISSING_FINAL_BOUNDARY = "missing_final_boundary"
    BOUNDARY_PREFIX = "boundary_prefix"  # a line only begins like a delimiter
    BOUNDARY_CLASH = "boundary_clash"  # the same as, or a prefix of, one of a part around it
    BOUNDARY_AFTER_FINAL = "boundary_after_final"
    # -- limits
    TOO_DEEP = "too_deep"
    TOO_MANY_PARTS = "too_many_parts"
    TOO_MANY_FIELDS = "too_many_fields"
    TOO_MANY_PARAMETERS = "too_many_parameters"
    TOO_MANY_LOOKALIKES = "too_many_lookalikes"  # of delimiters: the rest is not split
    HEADER_TOO_LONG = "header_too_long"  # the rest of it is not read


LIMIT_DEFECTS = frozenset(
    {
        Defect.TOO_DEEP,
        Defect.TOO_MANY_PARTS,
        Defect.TOO_MANY_FIELDS,
        Defect.TOO_MANY_PARAMETERS,
        Defect.TOO_MANY_LOOKALIKES,
        Defect.HEADER_TOO_LONG,
    }
)


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a message is taken apart.  They keep the time linear in its size.

    depth: levels of multiparts and messages within messages.
    parts: in all.
    header_bytes: octets of one part's header; four times as many in all.
    fields: in all.
    parameters: of one field.
    lookalikes: lines that only begin like a delimiter, in all.
    scans: how many times the message's own size may be searched for delimiters.
    """

    depth: int = 50
    parts: int = 10_000
    header_bytes: int = 512 * 1024
    fields: int = 50_000
    parameters: int = 200
    lookalikes: int = 50_000
    scans: int = 16
