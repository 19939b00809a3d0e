"""Authentication-Results (RFC 8601): written, and recognised where they claim to be ours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..edits import Edits
from ..field_edits import eol_of
from ..fields import Field
from ..part import Part

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+._`{|}~^-]{1,200}\Z")
_ADDRESS = re.compile(r"[A-Za-z0-9!#$&'*+/=?^_`{|}~.%-]{0,64}@[A-Za-z0-9._-]{1,255}\Z")
_LARGEST = 64 * 1024
_LONGEST = 300


@dataclass(frozen=True, slots=True)
class Result:
    """What one method came to.

    properties: as ("header.d", "example.org"); what is empty is left out.
    """

    method: str
    result: str
    reason: str = ""
    comment: str = ""
    properties: Sequence[tuple[str, str]] = ()

    def __str__(self) -> str:
        text = f"{self.method}={self.result}"
        if self.comment:
            text += f" ({_plain(self.comment, '()')})"
        if self.reason:
            text += f" reason={_quoted(self.reason)}"
        return text + "".join(f" {name}={_value(value)}" for name, value in self.properties if value)


def write_results(root: Part, identifier: str, results: Sequence[Result]) -> bytes:
    """Return the field for a message, last line end included; a line for each method."""
    lines = [f"Authentication-Results: {_value(identifier)}", *(f"\t{one}" for one in results)]
    text = ";\r\n".join(lines) if results else f"{lines[0]}; none"
    return (text + "\r\n").encode("ascii").replace(b"\r\n", eol_of(root))


def claiming_results(root: Part, identifiers: frozenset[str]) -> list[Field]:
    """Return the fields of a message that say to be of one of these, in lower case."""
    return [one for one in root.get_all("authentication-results") if claims_results(one, identifiers)]


def put_results(root: Part, edits: Edits, data: bytes, identifiers: frozenset[str]) -> int:
    """Put fields on top, and remove Authentication-Results that say to be of one of these.

    data: whole fields, or none.  Nothing is done where all of it is so already.
    Returns how many fields are removed.
    """
    fields, claiming = root.fields, claiming_results(root, identifiers)
    first = bool(claiming) and claiming[0] is fields[0]
    if first and len(claiming) == 1 and claiming[0].raw == data:
        return 0
    for one in claiming:
        edits.splice(one.start, one.end, data if one is fields[0] else b"")
    if data and fields and not first:
        edits.splice(fields[0].start, fields[0].start, data)
    elif data and not fields:
        name, _, value = data.decode("ascii").partition(":")
        edits.add_header(name, " ".join(value.split()), top=True)
    return len(claiming)


def claims_results(field: Field, identifiers: frozenset[str]) -> bool:
    """Tell whether a field says to be of one of these, in lower case, in any way of reading it.

    What is too long or broken counts as theirs if one occurs in it: some program may read it so.
    """
    text = field.raw_value[: _LARGEST + 1].decode("utf-8", "replace").lower()
    pieces = _without_comments(text)
    if pieces is None or len(text) > _LARGEST:
        return any(one in text for one in identifiers)
    # A comment parts two words, but not for every program.
    return any(_first_word(between.join(pieces)) in identifiers for between in (" ", ""))


def says_pass(raw: bytes, method: str) -> bool:
    """Tell whether results, as they stand in a field, say that a method has passed."""
    pieces = _without_comments(raw[:_LARGEST].decode("utf-8", "replace").lower())
    results = " ".join(pieces or ()).split(";")
    return any(one.split()[:1] == [f"{method}=pass"] for one in results)


def _first_word(text: str) -> str:
    first = text.strip(" \t\r\n").partition(";")[0].strip(" \t\r\n")
    if first.startswith('"'):
        first = first[1:].partition('"')[0].replace("\\", "")
    return re.split(r"[\s/,\"]", first, maxsplit=1)[0].strip(".")


def _without_comments(text: str) -> list[str] | None:
    """Return what stands between comments (RFC 5322 3.2.2); None if they or quotes are not closed."""
    kept: list[str] = [""]
    depth, quoted = 0, False
    for piece in re.findall(r'\\.|["()]|[^"()\\]+|\\', text, re.DOTALL):
        if quoted:
            quoted = piece != '"'
            kept[-1] += piece
        elif piece == "(":
            depth += 1
        elif piece == ")":
            if not depth:
                return None
            depth -= 1
            kept.append("")
        elif not depth:
            quoted = piece == '"'
            kept[-1] += piece
    return None if depth or quoted else kept


def _plain(text: str, without: str = "") -> str:
    """Return what of a stranger's text may stand in the field: printable ASCII, cut."""
    return "".join(
        one if " " <= one <= "~" and one not in '\\"' + without else "?" for one in text[:_LONGEST]
    )


def _quoted(text: str) -> str:
    return f'"{_plain(text)}"'


def _value(text: str) -> str:
    if _TOKEN.match(text) is not None or _ADDRESS.match(text) is not None:
        return text
    return _quoted(text)
