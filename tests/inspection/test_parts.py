"""The structure of messages: well formed as others read it, broken with a name for the defect."""

from __future__ import annotations

import email
import mmap
import tempfile
from email.message import Message as OtherMessage

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.inspection.defects import Defect, Limits
from gateway.inspection.parts import Part, parse

from .samples import ALTERNATIVE, MIXED, PLAIN, WELL_FORMED, crlf


def types(root: Part) -> list[str]:
    return [part.content_type for part in root.walk()]


def defects(message: bytes, limits: Limits | None = None) -> set[Defect]:
    return {defect for part in parse(message, limits).walk() for defect in part.defects}


def test_the_plain_message_is_one_part():
    root = parse(PLAIN)
    assert (root.start, root.end, root.children) == (0, len(PLAIN), [])
    assert root.raw_body == b"Hello, Bob.\r\n"
    assert [one.name for one in root.fields] == ["received", "received", "from", "subject"]
    assert root.content_type == "text/plain" and not root.defects


def test_mixed_structure_names_and_bodies():
    root = parse(MIXED)
    assert types(root) == [
        "multipart/mixed",
        "multipart/related",
        "multipart/alternative",
        "text/plain",
        "text/html",
        "image/png",
        "text/plain",
        "message/rfc822",
        "multipart/mixed",
        "text/plain",
    ]
    parts = list(root.walk())
    assert parts[3].raw_body == b"text"
    assert parts[5].filename == "pä.png" and parts[5].content() == b"\x89PNG\r\n\x1a\n"
    assert (parts[6].disposition, parts[6].filename, parts[6].is_attachment) == ("attachment", "ä.txt", True)
    assert parts[9].raw_body == b"deep text"
    assert defects(MIXED) == {Defect.BOUNDARY_CLASH, Defect.BOUNDARY_PREFIX, Defect.ENCODED_WORD_NAME}


def outline(part: Part) -> list[object]:
    """Return structure, types and bodies, as :func:`other_outline` does of the email package."""
    if part.children:
        return [part.content_type, *[outline(child) for child in part.children]]
    return [part.content_type, part.raw_body]


def other_outline(part: OtherMessage) -> list[object]:
    kind = part.get_content_type().partition(" (")[0]  # the package leaves comments in
    if part.is_multipart():
        return [kind, *[other_outline(child) for child in part.get_payload()]]
    return [kind, part.get_payload().encode("ascii", "surrogateescape")]


@pytest.mark.parametrize("name", WELL_FORMED)
def test_structure_agrees_with_the_email_package(name: str):
    message = WELL_FORMED[name]
    assert outline(parse(message)) == other_outline(email.message_from_bytes(message))


texts = st.text(alphabet="ab -=\r\n", max_size=30).map(
    lambda text: text.replace("\r", "").replace("\n", "\r\n")
)


@st.composite
def well_formed(draw: st.DrawFn, depth: int = 0) -> bytes:
    """Make a message with nested multiparts, whose texts can't be delimiters."""
    if depth >= 3 or draw(st.booleans()):
        kind = draw(st.sampled_from(["text/plain", "text/html; charset=utf-8", "application/pdf"]))
        return f"Content-Type: {kind}\r\n\r\n{draw(texts)}".encode()
    boundary = f"bound{depth}"
    parts = draw(st.lists(well_formed(depth=depth + 1), min_size=1, max_size=3))
    body = b"".join(b"--" + boundary.encode() + b"\r\n" + part + b"\r\n" for part in parts)
    subtype = draw(st.sampled_from(["mixed", "alternative", "related"]))
    return (
        f'Content-Type: multipart/{subtype}; boundary="{boundary}"\r\n\r\n'.encode()
        + body
        + f"--{boundary}--\r\n".encode()
    )


@given(well_formed())
@settings(max_examples=60, deadline=None)
def test_nested_messages_agree_with_the_email_package(message: bytes):
    root = parse(message)
    assert outline(root) == other_outline(email.message_from_bytes(message))
    assert not defects(message)


@pytest.mark.parametrize("name", WELL_FORMED)
def test_bare_line_feeds_give_the_same_structure(name: str):
    message = WELL_FORMED[name].replace(b"\r\n", b"\n")
    assert types(parse(message)) == types(parse(WELL_FORMED[name]))
    assert [p.raw_body for p in parse(message).walk()] == [
        p.raw_body.replace(b"\r\n", b"\n") for p in parse(WELL_FORMED[name]).walk()
    ]


def multipart(*lines: str, kind: str = "multipart/mixed; boundary=b") -> bytes:
    return crlf(f"Content-Type: {kind}\n\n" + "\n".join(lines))


BROKEN: dict[str, tuple[bytes, Defect, list[str]]] = {
    "duplicate type": (
        crlf("Content-Type: text/html\nContent-Type: text/plain\n\nx"),
        Defect.DUPLICATE_CONTENT_TYPE,
        ["text/html"],
    ),
    "duplicate encoding": (
        crlf("Content-Transfer-Encoding: 7bit\nContent-Transfer-Encoding: base64\n\nx"),
        Defect.DUPLICATE_ENCODING,
        ["text/plain"],
    ),
    "unknown encoding": (
        crlf("Content-Transfer-Encoding: rot13\n\nx"),
        Defect.UNKNOWN_ENCODING,
        ["text/plain"],
    ),
    "bad type": (crlf("Content-Type: banana\n\nx"), Defect.BAD_CONTENT_TYPE, ["text/plain"]),
    **{
        f"bad html type {kind}": (
            crlf(f"Content-Type: {kind}; charset=utf-8\n\nx"),
            Defect.BAD_HTML_TYPE,
            ["text/plain"],
        )
        for kind in ("text html", "text//html", "html", "x text/ html", "text\\HTML")
    },
    "duplicate boundary": (
        multipart("--b", "", "x", "--b--", "", kind="multipart/mixed; boundary=b; boundary=c"),
        Defect.DUPLICATE_PARAMETER,
        ["multipart/mixed", "text/plain"],
    ),
    "missing boundary": (
        multipart("--b", "", "x", "--b--", kind="multipart/mixed"),
        Defect.MISSING_BOUNDARY,
        ["multipart/mixed"],
    ),
    "boundary never": (multipart("nothing"), Defect.BOUNDARY_NOT_FOUND, ["multipart/mixed"]),
    "no part": (multipart("x", "--b--", "y"), Defect.BOUNDARY_NOT_FOUND, ["multipart/mixed"]),
    "partial": (
        crlf("Content-Type: message/partial; id=x; number=1\n\nx"),
        Defect.PARTIAL_MESSAGE,
        ["message/partial"],
    ),
    "no final": (multipart("--b", "", "x"), Defect.MISSING_FINAL_BOUNDARY, ["multipart/mixed", "text/plain"]),
    "prefix line": (
        multipart("--b", "", "x", "--bc", "y", "--b--", ""),
        Defect.BOUNDARY_PREFIX,
        ["multipart/mixed", "text/plain"],
    ),
    "after final": (
        multipart("--b", "", "x", "--b--", "--b", "", "hidden", "--b--", ""),
        Defect.BOUNDARY_AFTER_FINAL,
        ["multipart/mixed", "text/plain"],
    ),
    "clash": (
        multipart("--b", "Content-Type: multipart/mixed; boundary=b", "", "--b", "", "x", "--b--", ""),
        Defect.BOUNDARY_CLASH,
        ["multipart/mixed", "multipart/mixed", "text/plain"],
    ),
    "encoded multipart": (
        crlf(
            "Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: base64\n\n--b\n\n--b--\n"
        ),
        Defect.ENCODED_MULTIPART,
        ["multipart/mixed", "text/plain"],
    ),
    "encoded message": (
        crlf("Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nU3ViamVjdDogeA0K"),
        Defect.ENCODED_MESSAGE,
        ["message/rfc822"],
    ),
    "no header": (crlf("Hello\n\nx"), Defect.MISSING_HEADER, ["text/plain"]),
    "no blank line": (
        crlf("Content-Type: text/html\nHello there\n\nx"),
        Defect.MISSING_BLANK_LINE,
        ["text/html"],
    ),
    "mbox": (crlf("From a@b Mon\nContent-Type: text/html\n\nx"), Defect.MBOX_LINE, ["text/html"]),
    "semicolon": (
        multipart("--b", "", "x", "--b--", kind="multipart/mixed boundary=b"),
        Defect.MISSING_SEMICOLON,
        ["multipart/mixed", "text/plain"],
    ),
    "quote": (
        multipart("--b", "", "x", "--b--", kind='multipart/mixed; boundary="b'),
        Defect.UNCLOSED_QUOTE,
        ["multipart/mixed", "text/plain"],
    ),
    "comment": (
        multipart("--b", kind="multipart/mixed; boundary=b (open"),
        Defect.UNCLOSED_COMMENT,
        ["multipart/mixed", "text/plain"],
    ),
    "continuation": (
        crlf("Content-Type: text/plain; name*1=b; name*2=c\n\nx"),
        Defect.BROKEN_CONTINUATION,
        ["text/plain"],
    ),
    "nul": (b"Subject: a\0b\r\n\r\nx", Defect.NUL_IN_HEADER, ["text/plain"]),
    "bare cr": (b"Subject: a\rContent-Type: text/html\r\n\r\nx", Defect.CR_IN_HEADER, ["text/plain"]),
    "line ends": (b"Subject: a\r\nX: y\r\n\nx\r\n\r\n", Defect.MIXED_LINE_ENDS, ["text/plain"]),
    "other line ends": (b"Subject: a\nX: y\n\r\nx\n\n", Defect.MIXED_LINE_ENDS, ["text/plain"]),
    "blank fold": (
        crlf("Subject: a\n \nContent-Type: text/html\n\nx"),
        Defect.BLANK_FOLD,
        ["text/html"],
    ),
    "blank before colon": (crlf("Content-Type : text/html\n\nx"), Defect.BLANK_BEFORE_COLON, ["text/html"]),
    "bad multipart": (
        crlf("Content-Type: multipart/; boundary=b\n\n--b\n\nx\n--b--\n"),
        Defect.BAD_MULTIPART_TYPE,
        ["text/plain"],
    ),
    "two dispositions": (
        crlf("Content-Disposition: inline\nContent-Disposition: attachment; filename=a.exe\n\nx"),
        Defect.DUPLICATE_DISPOSITION,
        ["text/plain"],
    ),
    "repeated": (
        crlf("Content-Type: text/html\nContent-Type:\n text/html\n\nx"),
        Defect.REPEATED_FIELD,
        ["text/html"],
    ),
    "encoded boundary": (
        multipart("--b", "", "x", "--b--", "", kind='multipart/mixed; boundary="=?utf-8?q?b?="'),
        Defect.ENCODED_WORD_PARAMETER,
        ["multipart/mixed"],
    ),
    "two forms of a boundary": (
        multipart("--b", "", "x", "--b--", "", kind="multipart/mixed; boundary=b; boundary*=utf-8''c"),
        Defect.DUPLICATE_PARAMETER,
        ["multipart/mixed"],
    ),
    "encoded name": (
        crlf('Content-Type: text/html; name="=?utf-8?q?a=2Eexe?="\n\nx'),
        Defect.ENCODED_WORD_NAME,
        ["text/html"],
    ),
    "two names": (
        crlf("Content-Type: text/html; name=a.txt\nContent-Disposition: inline; filename=a.exe\n\nx"),
        Defect.DIFFERENT_NAMES,
        ["text/html"],
    ),
    "two forms of a name": (
        crlf("Content-Disposition: inline; filename=a.txt; filename*=utf-8''a.exe\n\nx"),
        Defect.DIFFERENT_NAMES,
        ["text/plain"],
    ),
    "long boundary": (
        multipart("--" + "b" * 71, "", "x", kind="multipart/mixed; boundary=" + "b" * 71),
        Defect.LONG_BOUNDARY,
        ["multipart/mixed", "text/plain"],
    ),
    "boundary with a blank": (
        multipart("--b", "", "x", "--b--", "", kind='multipart/mixed; boundary="b "'),
        Defect.BAD_BOUNDARY,
        ["multipart/mixed", "text/plain"],
    ),
}


@pytest.mark.parametrize(
    "kind", ["text/ html", "text /html", "text / html", "text\n /\n\thtml", "text(a)/(b) html"]
)
@pytest.mark.parametrize("more", ["", "; charset=utf-7", " charset=utf-7"])
def test_blanks_beside_the_slash_of_a_type(kind: str, more: str):
    part = parse(crlf(f"Content-Type: {kind}{more}\n\nx"))
    assert (part.content_type, part.charset) == ("text/html", "utf-7" if more else "")
    assert parse(crlf(f"Content-Disposition: attachment / {more}\n\nx")).disposition == "attachment"


def test_blanks_beside_the_slash_of_a_multipart():
    message = multipart("--b c", "", "x", "--b c--", kind='multipart/ mixed boundary="b c"')
    assert [part.content_type for part in parse(message).walk()] == ["multipart/mixed", "text/plain"]


@pytest.mark.parametrize("name", BROKEN)
def test_defects_have_names(name: str):
    message, defect, expected = BROKEN[name]
    assert defect in defects(message)
    assert types(parse(message)) == expected


@pytest.mark.parametrize("name", WELL_FORMED)
def test_well_formed_messages_have_no_defect(name: str):
    mixed = {Defect.BOUNDARY_CLASH, Defect.BOUNDARY_PREFIX, Defect.ENCODED_WORD_NAME}
    allowed = mixed if name == "mixed" else set()
    assert defects(WELL_FORMED[name]) == allowed


def test_a_boundary_of_eight_bit_octets_is_found():
    for octets in (b"b\xfc", "bü".encode()):
        message = b'Content-Type: multipart/mixed; boundary="%s"\r\n\r\n--%s\r\n\r\nx\r\n--%s--\r\n' % (
            octets,
            octets,
            octets,
        )
        assert types(parse(message)) == ["multipart/mixed", "text/plain"]


# -- hostile ---------------------------------------------------------------------


def nested(depth: int, kind: str) -> bytes:
    if kind == "message":
        return b"Content-Type: message/rfc822\r\n\r\n" * depth + b"Subject: x\r\n\r\nend"
    return b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (level, level)
        for level in range(depth)
    )


@pytest.mark.parametrize("kind", ["message", "multipart"])
def test_ten_thousand_levels_stop_at_the_limit(kind: str):
    root = parse(nested(10_000, kind))
    parts = list(root.walk())
    # Multiparts without end are stopped by the amount of searching before that.
    assert len(parts) == (Limits().depth if kind == "message" else Limits().scans) + 1
    assert parts[-1].defects[-1] is Defect.TOO_DEEP


def test_a_hundred_thousand_parts_stop_at_the_limit():
    message = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\n" * 100_000
    root = parse(message)
    assert len(list(root.walk())) == Limits().parts
    assert Defect.TOO_MANY_PARTS in root.defects


def test_a_hundred_thousand_fields_stop_at_the_limit():
    message = b"X-A: b\r\n" * 100_000 + b"\r\nbody"
    root = parse(message, Limits(header_bytes=10_000_000))
    assert len(root.fields) == Limits().fields
    assert Defect.TOO_MANY_FIELDS in root.defects
    assert root.raw_body == b"body"


@pytest.mark.parametrize("line", [b"X-A: %s\r\n" % (b"b" * 40), b"X" * 1_000_000 + b"\r\n", b" folded\r\n"])
def test_a_header_beyond_its_limit_still_ends_where_it_ends(line: bytes):
    message = b"Subject: x\r\n" + line * (1_000_000 // len(line) + 1) + b"\r\nbody"
    root = parse(message)
    assert Defect.HEADER_TOO_LONG in root.defects
    assert root.raw_body == b"body"
    assert root.fields[0].raw_value.startswith(b" x")
    assert sum(one.end - one.start for one in root.fields) <= Limits().header_bytes


def test_fifty_thousand_parameters_are_not_all_read():
    many = "".join(f"; p{number}=v" for number in range(50_000))
    root = parse(f"Content-Type: text/plain{many}\r\n\r\nx".encode())
    assert len(root.parameters) <= Limits().parameters
    assert root.content_type == "text/plain"
    assert root.defects


def test_lookalikes_of_a_delimiter_stop_at_the_limit():
    message = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        + b"--bx\r\n" * 60_000
        + b"--b\r\n\r\nx\r\n--b--\r\n"
    )
    root = parse(message)
    assert Defect.TOO_MANY_LOOKALIKES in root.defects and not root.children


def test_searching_the_message_again_and_again_stops_at_the_limit():
    """Each level's boundary is looked for in the whole rest."""
    message = nested(40, "multipart") + b"\n" * 1_000_000
    root = parse(message)
    depth = len(list(root.walk()))
    assert Limits().scans - 1 <= depth <= Limits().scans + 1


def test_deeply_nested_comments_need_no_recursion():
    root = parse(b"Content-Type: text/html " + b"(" * 50_000 + b"\r\n\r\nx")
    assert root.content_type == "text/html" and Defect.UNCLOSED_COMMENT in root.defects


@pytest.mark.parametrize(
    "line", [b"X-A: b\r\n", b"X-A: " + b"b" * 20_000_000 + b"\r\n", b"x" * 990 + b"\r\n"]
)
def test_many_megabytes_of_header_are_not_all_read(line: bytes):
    message = line * max(1, 20_000_000 // len(line)) + b"\r\nbody"
    root = parse(message)
    assert sum(one.end - one.start for one in root.fields) <= Limits().header_bytes
    assert root.defects and len(root.fields) <= Limits().fields


def test_a_million_parts_stop_at_the_limit():
    root = parse(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\n" * 1_000_000)
    assert len(root.children) == Limits().parts - 1 and Defect.TOO_MANY_PARTS in root.defects


# -- any octets --------------------------------------------------------------------

pieces = st.sampled_from(
    [
        b"Content-Type: multipart/mixed; boundary=b\r\n",
        b"Content-Type: message/rfc822\r\n",
        b"Content-Type: text/plain; charset=utf-8\r\n",
        b"Content-Transfer-Encoding: base64\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"--b",
        b"--b\r\n",
        b"--b--\r\n",
        b"--",
        b" folded",
        b"X: y\n",
        b"\x00\xff",
        b";",
        b'"',
        b"text",
    ]
)
soups = st.one_of(st.binary(max_size=200), st.lists(pieces, max_size=40).map(b"".join))


@given(soups)
@settings(max_examples=300, deadline=None)
def test_offsets_hold_for_any_octets(message: bytes):
    root = parse(message)
    assert (root.start, root.end) == (0, len(message))
    for part in root.walk():
        assert part.start <= part.header_end <= part.body_start <= part.end
        place = part.body_start
        for child in part.children:
            assert place <= child.start and child.end <= part.end
            place = child.end
        for one in part.fields:
            assert part.start <= one.start < one.colon < one.end <= part.header_end
            assert one.value is not None
        assert isinstance(part.text(), str) and isinstance(part.filename, str)


@given(soups)
@settings(max_examples=100, deadline=None)
def test_a_map_of_a_file_is_read_as_bytes_are(message: bytes):
    message = message or b"x"
    with tempfile.TemporaryFile() as file:
        file.write(message)
        file.flush()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            assert outline(parse(mapped)) == outline(parse(message))


def test_a_large_map_is_searched_across_its_windows():
    body = b"x" * 3_000_000
    message = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n"
        + body
        + b"\r\n--b\r\n\r\ny\r\n--b--\r\n"
    )
    with tempfile.TemporaryFile() as file:
        file.write(message)
        file.flush()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            assert [p.end - p.body_start for p in parse(mapped).children] == [3_000_000, 1]


def test_the_sample_with_preamble_and_epilogue_has_two_parts():
    assert [child.content_type for child in parse(ALTERNATIVE).children] == ["text/plain", "text/html"]
