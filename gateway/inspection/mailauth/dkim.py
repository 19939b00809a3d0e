"""DKIM (RFC 6376, 8301, 8463): signatures verified and made."""

from __future__ import annotations

import hashlib
import re
import time
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ..fields import Field
from ..part import Part
from .canonical import Bodies, Fields, canonical_field
from .keys import BadKey, KeyRecord, PrivateKey, PublicKey, read_record, sign, verifies
from .lookups import Lookup, TemporaryError
from .tags import BadTags, decode_base64, read_number, read_tags, without_blanks, without_signature

#: A domain or a selector, to be asked for in the DNS.
DOMAIN = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})){0,100}\Z")
_ALGORITHMS = {"rsa-sha256": "rsa", "ed25519-sha256": "ed25519"}


@dataclass(slots=True)
class Check:
    """What became of one signature.

    result: of RFC 8601 2.7.1: "pass", "fail", "neutral", "policy", "temperror", "permerror".
    begin: of the signature itself (RFC 6008).  testing: the domain says that it only tests.
    """

    result: str = "neutral"
    reason: str = ""
    domain: str = ""
    selector: str = ""
    identity: str = ""
    algorithm: str = ""
    begin: str = ""
    testing: bool = False


class Verifier:
    """Verifies signatures of one message, which share the digests of its body.

    lookup: by which keys are asked for; it may be changed between signatures.
    """

    def __init__(self, root: Part, lookup: Lookup) -> None:
        self.root = root
        self.bodies = Bodies(root)
        self.fields = Fields(root)
        self.lookup = lookup

    def check(self, signature: Field) -> Check:
        """Return what becomes of one DKIM-Signature field."""
        check = Check()
        try:
            tags = read_tags(signature.raw_value)
            _describe(check, tags)
            if tags.get("v") != "1":
                raise BadTags("unknown version")
            self.verify(check, tags, signature)
        except BadTags as error:
            check.result, check.reason = "neutral", str(error)
        except Failed as error:
            check.result, check.reason = error.result, error.reason
        return check

    def verify(self, check: Check, tags: dict[str, str], signature: Field) -> None:
        """Set a check's result, for a DKIM-Signature or an ARC-Message-Signature.

        Raises BadTags and Failed.
        """
        relaxed_header, relaxed_body = _forms(tags.get("c", "simple/simple"))
        names = [one.lower() for one in without_blanks(tags.get("h", "")).split(":")]
        if "from" not in names:
            raise BadTags("From is not signed")  # RFC 6376 5.4
        if without_blanks(tags.get("q", "dns/txt")).lower().split(":").count("dns/txt") == 0:
            raise BadTags("unknown query method")
        _check_times(tags)
        wanted = decode_base64(_needed(tags, "bh"), "bh")
        octets = decode_base64(_needed(tags, "b"), "b")
        record = self.key(tags)
        identity_domain = check.identity.rpartition("@")[2].lower()
        if record.strict and identity_domain != check.domain:
            raise Failed("permerror", "i= is a subdomain, which the key forbids")
        check.testing = record.testing
        digest, size = self.bodies.digest(relaxed_body)
        if "l" in tags:
            covered = read_number(tags["l"], "l")
            if covered > size:
                raise Failed("permerror", "l= is more than the body has")
            if covered < size:
                # RFC 6376 8.2: what stands behind it can be anybody's.
                raise Failed("policy", "l= leaves a part of the body unsigned")
        if digest != wanted:
            raise Failed("fail", "body hash did not verify")
        hashed = hashlib.sha256()
        for raw in self.fields.select(names, signature):
            hashed.update(canonical_field(raw, relaxed_header) + b"\r\n")
        hashed.update(canonical_field(without_signature(signature.raw), relaxed_header))
        if not verifies(record.key, octets, hashed.digest()):
            raise Failed("fail", "signature did not verify")
        check.result, check.reason = "pass", ""

    def key(self, tags: dict[str, str]) -> KeyRecord:
        """Return the key that the tags a=, d= and s= name.  Raises BadTags and Failed."""
        algorithm = _algorithm(tags)
        name = f"{_domain(tags, 's')}._domainkey.{_domain(tags, 'd')}"
        try:
            records = self.lookup(name, "TXT")
        except TemporaryError as error:
            raise Failed("temperror", str(error)) from None
        if not records:
            raise Failed("permerror", "no key for the signature")
        trouble = ""
        for record in records[:5]:
            try:
                return read_record(record, algorithm)
            except BadKey as error:
                trouble = trouble or str(error)
        raise Failed("permerror", trouble)


class Failed(Exception):
    """A signature that does not hold, with its result and the reason."""

    def __init__(self, result: str, reason: str) -> None:
        super().__init__(reason)
        self.result, self.reason = result, reason


def signing_domain(signature: Field) -> str:
    """Return the domain that a signature names; "" if that can't be read."""
    try:
        return _domain(read_tags(signature.raw_value), "d").lower()
    except BadTags:
        return ""


def _describe(check: Check, tags: dict[str, str]) -> None:
    check.domain = _domain(tags, "d").lower()
    check.selector = _domain(tags, "s")
    check.algorithm = tags.get("a", "").lower()[:40]
    check.begin = without_blanks(tags.get("b", ""))[:12]
    check.identity = tags.get("i", f"@{check.domain}")
    domain = check.identity.rpartition("@")[2].lower()
    if "@" not in check.identity or not ("." + domain).endswith("." + check.domain):
        raise BadTags("i= is not of the domain d=")  # RFC 6376 3.5


def _domain(tags: dict[str, str], name: str) -> str:
    value = _needed(tags, name)
    if not value.isascii():
        try:
            value = value.encode("idna").decode()  # RFC 8616 4
        except UnicodeError:
            raise BadTags(f"{name}= is no domain") from None
    if len(value) > 253 or DOMAIN.match(value) is None:
        raise BadTags(f"{name}= is no domain")
    return value


def _needed(tags: dict[str, str], name: str) -> str:
    if not tags.get(name):
        raise BadTags(f"no {name}=")
    return tags[name]


def _algorithm(tags: dict[str, str]) -> str:
    name = tags.get("a", "").lower()
    if name == "rsa-sha1":
        raise Failed("policy", "rsa-sha1 counts for nothing")  # RFC 8301 3.1
    if name not in _ALGORITHMS:
        raise BadTags("unknown algorithm")
    return _ALGORITHMS[name]


def _forms(value: str) -> tuple[bool, bool]:
    header, _, body = value.lower().partition("/")
    forms = (header, body or "simple")
    if not set(forms) <= {"simple", "relaxed"}:
        raise BadTags("unknown canonicalization")
    return forms[0] == "relaxed", forms[1] == "relaxed"


def _check_times(tags: dict[str, str]) -> None:
    if "x" not in tags:
        return
    expires = read_number(tags["x"], "x")
    if "t" in tags and expires < read_number(tags["t"], "t"):
        raise BadTags("x= is before t=")
    if expires < time.time():
        raise Failed("fail", "signature expired")


# -- signing -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Signer:
    """Makes signatures with one key.

    headers: names of fields, lower-case, of which all that are there are signed.
    oversigned: those of which one more is signed than is there, so that none can be added.
    expire: seconds after which a signature is no longer good; 0 is never.
    """

    domain: str
    selector: str
    key: PrivateKey = field(repr=False)
    headers: Sequence[str]
    oversigned: frozenset[str]
    expire: int = 0

    @property
    def algorithm(self) -> str:
        """As the tag a= names it."""
        return "ed25519-sha256" if isinstance(self.key, Ed25519PrivateKey) else "rsa-sha256"

    def sign(self, root: Part, bodies: Bodies, eol: bytes = b"\r\n") -> bytes:
        """Return a DKIM-Signature field, last line end included.

        It is of the message as a server sends it, with lines that end in CRLF; the field has
        the line ends of the message.
        """
        fields = Fields(root)
        names = [name for name in self.headers for _ in range(fields.count(name) + (name in self.oversigned))]
        now = int(time.time())
        body = b64encode(bodies.digest(True)[0]).decode()
        expires = f" x={now + self.expire};" if self.expire else ""
        text = (
            f"DKIM-Signature: v=1; a={self.algorithm}; c=relaxed/relaxed; d={self.domain};\r\n"
            f"\ts={self.selector}; t={now};{expires}\r\n"
            f"\th={_folded(names)};\r\n\tbh={body};\r\n\tb="
        )
        hashed = hashlib.sha256()
        for raw in fields.select(names):
            hashed.update(canonical_field(raw, True) + b"\r\n")
        hashed.update(canonical_field(text.encode("ascii"), True))
        octets = b64encode(sign(self.key, hashed.digest())).decode()
        lines = [octets[place : place + 70] for place in range(0, len(octets), 70)]
        return (text + "\r\n\t ".join(lines) + "\r\n").encode("ascii").replace(b"\r\n", eol)

    def has_signed(self, verifier: Verifier) -> bool:
        """Tell whether the message has a signature of this key that is good."""
        public: PublicKey = self.key.public_key()
        for one in verifier.root.get_all("dkim-signature")[:10]:
            try:
                tags = read_tags(one.raw_value)
                if tags.get("d") == self.domain and tags.get("s") == self.selector:
                    held = _Held(verifier, KeyRecord(public, False, False))
                    if held.check(one).result == "pass":
                        return True
            except BadTags:
                continue
        return False


class _Held(Verifier):
    """Verifies with a key that is at hand."""

    def __init__(self, other: Verifier, record: KeyRecord) -> None:
        self.root, self.bodies, self.fields = other.root, other.bodies, other.fields
        self._record = record

    def key(self, tags: dict[str, str]) -> KeyRecord:
        return self._record


def _folded(names: Sequence[str]) -> str:
    """Return the names, folded before colons.

    A line that began with a name would be taken for a field that is added, where an earlier
    signature forbids that field.
    """
    lines = [""]
    for place, name in enumerate(names):
        piece = f":{name}" if place else name
        if len(lines[-1]) + len(piece) > 70:
            lines.append("")
        lines[-1] += piece
    return "\r\n\t ".join(lines)
