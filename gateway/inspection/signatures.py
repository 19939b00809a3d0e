"""Which regions of a message a signature or an encryption covers, so that no edit breaks one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .edits import Edit, Edits
from .part import Part
from .scan import find
from .words import unfold


class SignedKind(StrEnum):
    """What covers a region."""

    MULTIPART_SIGNED = "multipart/signed"  # RFC 1847 2.1: S/MIME, PGP/MIME
    MULTIPART_ENCRYPTED = "multipart/encrypted"  # RFC 1847 2.2
    PKCS7 = "pkcs7-mime"  # RFC 8551 3.2
    INLINE_PGP = "inline-pgp"  # RFC 9580 6.2, in the text itself
    DKIM = "dkim"  # RFC 6376


@dataclass(frozen=True, slots=True)
class Signed:
    """One covered region.

    part: the part that it concerns.  start, end: offsets of the body covered.
    names: the header fields of that part that are covered too, lower-case.
    """

    kind: SignedKind
    part: Part
    start: int
    end: int
    names: frozenset[str]


_CONTENT = frozenset({"content-type", "content-transfer-encoding", "mime-version"})
_PKCS7 = ("application/pkcs7-mime", "application/x-pkcs7-mime")
_ARMOUR = (b"-----BEGIN PGP MESSAGE-----", b"-----BEGIN PGP SIGNED MESSAGE-----")


def find_signed(root: Part) -> tuple[Signed, ...]:
    """Return the covered regions of a message, in the order of its parts."""
    found: list[Signed] = []
    names: set[str] = set()
    for signature in root.get_all("dkim-signature"):
        names |= _covered_names(signature.raw_value)
    if root.get("dkim-signature") is not None:
        # RFC 6376 3.7: the body is covered as a whole, the fields by name.
        found.append(Signed(SignedKind.DKIM, root, root.body_start, root.end, frozenset(names)))
    for part in root.walk():
        kind = _kind(part)
        if kind is not None:
            found.append(Signed(kind, part, part.body_start, part.end, _CONTENT))
    return tuple(found)


def _kind(part: Part) -> SignedKind | None:
    if part.content_type == "multipart/signed":
        return SignedKind.MULTIPART_SIGNED
    if part.content_type == "multipart/encrypted":
        return SignedKind.MULTIPART_ENCRYPTED
    if part.content_type in _PKCS7:
        return SignedKind.PKCS7
    if part.is_text and not part.children and _has_armour(part):
        return SignedKind.INLINE_PGP
    return None


def _has_armour(part: Part) -> bool:
    if part.transfer_encoding == "base64":
        content = part.content()
        return any(armour in content for armour in _ARMOUR)
    # In quoted-printable the armour's own characters are never encoded.
    return any(find(part.buffer, armour, part.body_start, part.end) >= 0 for armour in _ARMOUR)


def _covered_names(raw: bytes) -> set[str]:
    """Return the names in the tag h= of a DKIM-Signature field (RFC 6376 3.5)."""
    for tag in unfold(raw[:65536]).split(b";"):
        name, _, value = tag.partition(b"=")
        if name.strip() == b"h":
            return {one.strip().decode("ascii", "replace").lower() for one in value.split(b":")}
    return set()


def covered_edits(edits: Edits, signed: tuple[Signed, ...]) -> dict[int, SignedKind]:
    """Return the groups of edits that reach into a covered region, and what covers it."""
    found: dict[int, SignedKind] = {}
    for edit in edits:
        if edit.around:
            continue
        for one in signed:
            if _in_body(edit, one) or _in_header(edit, one):
                found.setdefault(edit.group, one.kind)
                break
    return found


def _in_body(edit: Edit, one: Signed) -> bool:
    if edit.start == edit.end:
        return one.start <= edit.start <= one.end
    return edit.start < one.end and edit.end > one.start


def _in_header(edit: Edit, one: Signed) -> bool:
    part = one.part
    if edit.start > part.header_end or edit.end < part.start:
        return False
    if any(f.name in one.names for f in part.fields if edit.start < f.end and edit.end > f.start):
        return True
    lines = [line for line in edit.data.split(b"\n") if line[:1] not in (b" ", b"\t")]
    added = {line.partition(b":")[0].strip().decode("ascii", "replace").lower() for line in lines}
    return not added.isdisjoint(one.names)
