"""The named ways in which a message is broken, ambiguous or beyond a limit, and what each means."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DefectKind(StrEnum):
    """What a defect means to somebody who relies on what the plugins saw."""

    AMBIGUOUS = "ambiguous"  # another program may see other parts, other names or other content
    LIMIT = "limit"  # something was not taken apart, so the plugins did not see into it
    HARMLESS = "harmless"  # wrong, but all programs read it nearly alike


class Defect(StrEnum):
    """One defect of one part; ``kind`` says what it means."""

    # -- of the header
    MISSING_HEADER = "missing_header"  # the first line is no field: all is body
    MISSING_BLANK_LINE = "missing_blank_line"  # a line that is no field ends the header
    MBOX_LINE = "mbox_line"  # "From ..." before the first field
    NUL_IN_HEADER = "nul_in_header"
    CR_IN_HEADER = "cr_in_header"  # a CR without LF: a line end to some programs
    MIXED_LINE_ENDS = "mixed_line_ends"  # the header's lines end otherwise than its blank line
    BLANK_FOLD = "blank_fold"  # a folded line of blanks only: the end of the header to some
    BLANK_BEFORE_COLON = "blank_before_colon"  # of a MIME field: none to some programs
    # -- of the fields that say what a part is
    BAD_CONTENT_TYPE = "bad_content_type"  # no "type/subtype"; read as text/plain
    BAD_MULTIPART_TYPE = "bad_multipart_type"  # the same, but a multipart or message to some
    BAD_HTML_TYPE = "bad_html_type"  # the same, but HTML to some
    DUPLICATE_CONTENT_TYPE = "duplicate_content_type"  # they differ; the first one counts
    DUPLICATE_ENCODING = "duplicate_transfer_encoding"  # they differ; the first one counts
    DUPLICATE_DISPOSITION = "duplicate_disposition"  # they differ; the first one counts
    DUPLICATE_PARAMETER = "duplicate_parameter"  # they differ; the first one counts
    REPEATED_FIELD = "repeated_field"  # of these, the same again
    MISSING_SEMICOLON = "missing_semicolon"
    UNCLOSED_QUOTE = "unclosed_quote"
    UNCLOSED_COMMENT = "unclosed_comment"
    BROKEN_CONTINUATION = "broken_continuation"  # RFC 2231 sections with a gap
    ENCODED_WORD_NAME = "encoded_word_name"  # name="=?...?=": decoded, as nearly all programs do
    ENCODED_WORD_PARAMETER = "encoded_word_parameter"  # of another parameter: not decoded
    DIFFERENT_NAMES = "different_names"  # a file's names end in different extensions
    UNKNOWN_ENCODING = "unknown_transfer_encoding"
    # -- of the structure
    ENCODED_MULTIPART = "encoded_multipart"  # RFC 2045 6.4 forbids; read as if it were not
    ENCODED_MESSAGE = "encoded_message"  # a message/rfc822 in base64 or quoted-printable
    PARTIAL_MESSAGE = "partial_message"  # a message/partial: others make one of several messages
    MISSING_BOUNDARY = "missing_boundary"  # a multipart without the parameter
    BAD_BOUNDARY = "bad_boundary"  # not all of ASCII, a blank at its end, or junk behind it
    LONG_BOUNDARY = "long_boundary"  # more than the 70 characters of RFC 2046 5.1.1
    BOUNDARY_NOT_FOUND = "boundary_not_found"  # no part begins
    MISSING_FINAL_BOUNDARY = "missing_final_boundary"
    BOUNDARY_PREFIX = "boundary_prefix"  # a line only begins like a delimiter
    BOUNDARY_CLASH = "boundary_clash"  # the same as, or a prefix of, one of a part around it
    BOUNDARY_AFTER_FINAL = "boundary_after_final"
    # -- of the content, see Part.content_defects
    BASE64_GARBAGE = "base64_garbage"  # characters that are not of the alphabet: passed over
    BASE64_AFTER_PADDING = "base64_after_padding"  # more behind a padding: read on
    BASE64_LENGTH = "base64_length"  # the padding is missing or too long
    BAD_QUOTED_PRINTABLE = "bad_quoted_printable"  # "=" before something else: stands for itself
    QUOTED_LONE_CR = "quoted_lone_cr"  # "=" and a CR without LF: a line end that not all see
    BAD_CHARSET = "bad_charset"  # unknown, or the octets are not of it
    ODD_CHARSET = "odd_charset"  # UTF-7, UTF-16 by another name, or it and UTF-32 without an order
    # -- limits
    TOO_DEEP = "too_deep"
    TOO_MANY_PARTS = "too_many_parts"
    TOO_MANY_FIELDS = "too_many_fields"
    TOO_MANY_PARAMETERS = "too_many_parameters"
    TOO_MANY_LOOKALIKES = "too_many_lookalikes"  # of delimiters: the rest is not split
    TOO_MANY_READINGS = "too_many_readings"  # of ambiguous parts: some are not shown
    HEADER_TOO_LONG = "header_too_long"  # the rest of it is not read

    @property
    def kind(self) -> DefectKind:
        """What it means."""
        if self in LIMIT_DEFECTS:
            return DefectKind.LIMIT
        return DefectKind.HARMLESS if self in HARMLESS_DEFECTS else DefectKind.AMBIGUOUS


LIMIT_DEFECTS = frozenset(
    {
        Defect.TOO_DEEP,
        Defect.TOO_MANY_PARTS,
        Defect.TOO_MANY_FIELDS,
        Defect.TOO_MANY_PARAMETERS,
        Defect.TOO_MANY_LOOKALIKES,
        Defect.TOO_MANY_READINGS,
        Defect.HEADER_TOO_LONG,
    }
)
#: Common in honest mail, and no program finds another part or file because of them.
HARMLESS_DEFECTS = frozenset(
    {
        Defect.MBOX_LINE,
        Defect.BAD_CONTENT_TYPE,
        Defect.REPEATED_FIELD,
        Defect.ENCODED_WORD_NAME,
        Defect.LONG_BOUNDARY,
        Defect.MISSING_FINAL_BOUNDARY,
        Defect.BASE64_LENGTH,
        Defect.BAD_QUOTED_PRINTABLE,
        Defect.BAD_CHARSET,
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
    readings: other readings of ambiguous parts, in all; together at most four times the
    message's own size.
    """

    depth: int = 50
    parts: int = 10_000
    header_bytes: int = 512 * 1024
    fields: int = 50_000
    parameters: int = 200
    lookalikes: int = 50_000
    scans: int = 16
    readings: int = 64
