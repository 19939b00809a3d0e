"""Which key signs a message: by the domain of its author, for the users who may."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ..addresses import plain_domain
from ..field_edits import eol_of
from ..part import Part
from ..scan import find
from .authentication import author_domains
from .canonical import Bodies
from .dkim import DOMAIN, Signer, Verifier
from .dmarc import is_aligned
from .keys import read_private
from .lookups import Lookup

#: RFC 6376 5.4.1, and what makes a message read as another one.
SIGNED_FIELDS = (
    "from",
    "sender",
    "reply-to",
    "to",
    "cc",
    "subject",
    "date",
    "message-id",
    "in-reply-to",
    "references",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    "content-disposition",
    "content-id",
    "resent-from",
    "resent-to",
    "resent-cc",
    "resent-date",
    "resent-message-id",
    "list-id",
    "list-unsubscribe",
    "list-unsubscribe-post",
)
OVERSIGNED_FIELDS = (
    "from",
    "sender",
    "reply-to",
    "to",
    "cc",
    "subject",
    "date",
    "message-id",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
)


class DkimKey(BaseModel):
    """One key that signs.

    domain, selector: d= and s=, under which the public key is in the DNS.  file: the private key
    in PEM, RSA or Ed25519.  users: logins that it signs for, as "alice@example.org" or
    "*@example.org"; none is all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    domain: str = Field(max_length=253)
    selector: str = Field(max_length=100)
    file: Path
    users: tuple[str, ...] = ()

    @field_validator("domain", "selector")
    @classmethod
    def _check_name(cls, name: str) -> str:
        name = plain_domain(name)
        if DOMAIN.match(name) is None:
            raise ValueError("must be a domain name, or a part of one")
        return name

    def is_for(self, user: str) -> bool:
        """Tell whether it signs for a login; a session without one has none."""
        user = user.lower()
        return not self.users or any(
            user.endswith(one[1:].lower()) if one.startswith("*") else user == one.lower()
            for one in self.users
            if user
        )


class Keyring:
    """The keys, read from their files.  Raises ValueError for one that can't be used.

    domains: which key's domain signs for an author's: {"*.example.org": "example.org"}.
    """

    def __init__(
        self,
        keys: Sequence[DkimKey],
        domains: Mapping[str, str],
        *,
        headers: Sequence[str] = SIGNED_FIELDS,
        oversigned: Sequence[str] = OVERSIGNED_FIELDS,
        expire: int = 0,
        unsafe: bool = False,
    ) -> None:
        self._signers: dict[str, list[tuple[DkimKey, Signer]]] = {}
        names = tuple(dict.fromkeys([*headers, *oversigned]))
        for key in keys:
            private = read_private(key.file, unsafe)
            signer = Signer(key.domain, key.selector, private, names, frozenset(oversigned), expire)
            self._signers.setdefault(key.domain, []).append((key, signer))
        self._domains = {name.lower(): plain_domain(domain) for name, domain in domains.items()}
        for name, domain in self._domains.items():
            if domain not in self._signers:
                raise ValueError(f'domains: there is no key of "{domain}"')
            if not is_aligned(domain, name.removeprefix("*.")):
                raise ValueError(f'domains: "{domain}" says nothing of "{name}" (RFC 7489 3.1.1)')

    def __bool__(self) -> bool:
        return bool(self._signers)

    def sign(self, root: Part, user: str) -> tuple[bytes, str]:
        """Return the fields that sign a message, and by which keys; or b"" and why there are none."""
        signers, trouble = self._signers_for(root, user)
        if trouble:
            return b"", trouble
        if find(root.buffer, b"\0", 0, len(root.buffer)) >= 0:
            return b"", "NUL in the message, which servers change"
        verifier = Verifier(root, Lookup(_nobody, 0))
        due = [one for one in signers if not one.has_signed(verifier)]
        if not due:
            return b"", "signed already"
        bodies: Bodies = verifier.bodies
        fields = b"".join(one.sign(root, bodies, eol_of(root)) for one in due)
        return fields, ", ".join(f"{one.selector}._domainkey.{one.domain}" for one in due)

    def _signers_for(self, root: Part, user: str) -> tuple[list[Signer], str]:
        if len(root.get_all("from")) != 1:
            return [], "not one From field"
        authors = author_domains(root)
        if len(authors) != 1 or not authors[0]:
            return [], "not one domain in From"
        keys = self._signers.get(self._domain_for(authors[0]), [])
        if not keys:
            return [], f"no key for {authors[0]}"
        signers = [signer for key, signer in keys if key.is_for(user)]
        return signers, "" if signers else f"no key for {authors[0]} that signs for this user"

    def _domain_for(self, author: str) -> str:
        if author in self._domains:
            return self._domains[author]
        if author in self._signers:
            return author
        parent = author
        while parent:
            parent = parent.partition(".")[2]
            if f"*.{parent}" in self._domains:
                return self._domains[f"*.{parent}"]
        return author


def _nobody(name: str, kind: str, seconds: float) -> tuple[bytes, ...]:
    return ()
