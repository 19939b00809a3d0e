"""Tell readers that a message comes from outside.

    [[plugins]]
    name = "external"
    use = "external_banner"
    stages = ["data"]
    [plugins.options]
    internal_domains = ["example.org"]
    text = "This message comes from outside of Example Ltd."
    subject_tag = "[external]"
    field = "X-External"
    dkim = "modify"

A message is from outside if its reverse-path or an address of its From field is of a domain
that is not internal, nor below one that is; unless its sender has logged in or sits in a
trusted network.  The banner goes to the top of the text and HTML that a reader sees; the other
octets stay.  It is put once.  What comes from outside with only internal senders can be given
a banner of its own (``forged``).  Signed and encrypted mail is left alone unless ``signed``
says otherwise; nearly all mail from outside is signed by DKIM, which ``dkim`` is for.
"""

from __future__ import annotations

import hashlib
import html
import ipaddress
import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gateway.plugin import (
    Edits,
    Message,
    Modify,
    Part,
    Pass,
    Plugin,
    SessionRecord,
    SignedOptions,
    Stage,
    Verdict,
    bodies,
    body_begins,
    domains_of,
    for_part,
    is_field_name,
    plain_domain,
    squeezed,
)

#: So that a style sheet of the message can't hide the banner: in a style attribute these win.
_STYLE = (
    "display:block!important;visibility:visible!important;opacity:1!important;position:static!important;"
    "height:auto!important;max-height:none!important;overflow:visible!important;clear:both!important;"
    "font-size:14px!important;line-height:1.4!important;text-indent:0!important;transform:none!important;"
    "margin:0 0 12px 0!important;padding:8px 12px!important;border:1px solid #c60!important;"
    "background:#fff4e5!important;color:#333!important"
)


class Banner(BaseModel):
    """What is put into a message.

    text: of the banner; "" for none in bodies.  html: of the banner in HTML, put in as it is;
        made of the text if left out.
    subject_tag: put before the subject; "" for none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str = Field(default="", max_length=20_000)
    html: str | None = Field(default=None, min_length=1, max_length=100_000)
    subject_tag: str = Field(default="", max_length=60)

    @field_validator("subject_tag", "text")
    @classmethod
    def _strip(cls, value: str) -> str:
        return value.strip()

    @model_validator(mode="after")
    def _check_text(self) -> Banner:
        if self.html is not None and not self.text:
            raise ValueError("html needs text too, for the readers of plain text")
        return self


class ExternalBanner(Plugin):
    """Marks messages from outside."""

    class Options(SignedOptions):
        """text, html, subject_tag: as of Banner.

        internal_domains: with all domains below them.
        trusted: who is inside whatever the addresses are: who has logged in ("login"), and
            who sits in a trusted network of the listener ("network").  SMTP and LMTP only.
        trusted_networks: more networks that are inside.
        field: a header field that gets "yes"; "" for none.
        forged: the banner where a sender outside uses none but internal addresses, and where
            From is internal and the reverse-path is not; None leaves the former unmarked,
            and marks the latter as any from outside.
        """

        internal_domains: tuple[str, ...] = Field(min_length=1)
        text: str = Field(default="", max_length=20_000)
        html: str | None = Field(default=None, min_length=1, max_length=100_000)
        subject_tag: str = Field(default="", max_length=60)
        trusted: frozenset[Literal["login", "network"]] = frozenset({"login", "network"})
        trusted_networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
        field: str = ""
        forged: Banner | None = None

        @field_validator("internal_domains")
        @classmethod
        def _check_domains(cls, domains: tuple[str, ...]) -> tuple[str, ...]:
            for one in domains:
                if not re.fullmatch(r"[^\s@:/*,<>]{1,253}", one) or not one.strip("."):
                    raise ValueError(f'"{one[:80]}" is no domain; those below a domain belong to it anyway')
            return tuple(plain_domain(one) for one in domains)

        @field_validator("field")
        @classmethod
        def _check_field(cls, name: str) -> str:
            if name and (not is_field_name(name) or not name.lower().startswith("x-")):
                raise ValueError('must be the name of a header field that begins with "X-"')
            return name

        @model_validator(mode="after")
        def _check_banner(self) -> ExternalBanner.Options:
            banner = Banner(text=self.text, html=self.html, subject_tag=self.subject_tag)
            if not (banner.text or banner.subject_tag or self.field):
                raise ValueError("there is nothing to be done: give text, subject_tag or field")
            if "wrap" in (self.signed, self.dkim) and not all(
                one.text for one in (banner, self.forged) if one is not None
            ):
                raise ValueError('"wrap" needs a text to enclose messages under')
            return self

    options: Options

    def __init__(self, options: BaseModel) -> None:
        super().__init__(options)
        own = self.options
        self._external = _Made(Banner(text=own.text, html=own.html, subject_tag=own.subject_tag))
        self._forged = _Made(own.forged) if own.forged is not None else None

    def inspect(self, message: Message, session: SessionRecord) -> Verdict:
        """Modify messages from outside that are not marked yet."""
        origin = self._origin(message, session)
        message.note("origin", origin)
        made = {"external": self._external, "forged": self._forged}.get(origin)
        if made is None:
            return Pass()
        parts = list(bodies(message.root, every=True))
        choices = [self.options.on_signed(message, part) for part in parts or [message.root]]
        edits = message.edits()
        subject = _tagged(message.subject, made.tag)
        if "wrap" in choices:  # what is enclosed stays as it is
            name = self.options.field
            edits.wrap(made.text + "\n", subject, [(name, "yes")] if name else [])
            return Modify(edits)
        self._mark(message, edits)
        if subject is not None and "skip" not in choices:
            edits.set_header("Subject", subject)
        if made.text:
            for part, choice in zip(parts, choices, strict=False):
                if choice in (None, "modify"):
                    made.put(message, part, edits)
            if not parts and choices[0] in (None, "modify"):
                made.put_before(message, edits)
        return Modify(edits) if len(edits) else Pass()

    # -- who sent it -------------------------------------------------------

    def _origin(self, message: Message, session: SessionRecord) -> str:
        """Return "internal", "external" or "forged"."""
        submitted = message.stage is Stage.DATA
        if submitted and self._is_trusted(session):
            return "internal"
        if message.envelope is not None:
            path = message.envelope.reverse_path
        else:
            path = (message.header("return-path") or "").strip().strip("<>")
        outer = bool(path) and not self._is_internal(path.rpartition("@")[2])
        domains = [one for field in message.root.get_all("from") for one in domains_of(field.raw_value)]
        if not all(self._is_internal(one) for one in domains):
            return "external"
        if domains and self._forged is not None and (submitted or outer):
            return "forged"
        return "external" if outer else "internal"

    def _is_trusted(self, session: SessionRecord) -> bool:
        trusted = self.options.trusted
        if ("login" in trusted and session.user) or ("network" in trusted and session.trusted_network):
            return True
        if not self.options.trusted_networks:
            return False
        try:
            address = ipaddress.ip_address(session.client_address.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None) or address
        return any(mapped in network for network in self.options.trusted_networks)

    def _is_internal(self, domain: str) -> bool:
        domain = plain_domain(domain)
        return any(domain == one or domain.endswith(f".{one}") for one in self.options.internal_domains)

    def _mark(self, message: Message, edits: Edits) -> None:
        name = self.options.field
        if name and [one.value.strip() for one in message.root.get_all(name)] != ["yes"]:
            edits.set_header(name, "yes")


class _Made:
    """A banner, ready to be put into bodies."""

    def __init__(self, banner: Banner) -> None:
        self.tag = " ".join(banner.subject_tag.split())
        self.text = "\n".join(banner.text.splitlines())
        inner = banner.html or html.escape(self.text).replace("\n", "<br>\n")
        digest = hashlib.sha256(inner.encode("utf-8", "replace")).hexdigest()[:12]
        self.html = f'<div class="mailgate-banner-{digest}" style="{_STYLE}">{inner}</div>\n'

    def put(self, message: Message, part: Part, edits: Edits) -> None:
        """Put it at the top of a text part, if it does not stand there already."""
        text = part.text()
        if part.content_type == "text/html":
            place, new = body_begins(text), self.html
            seen = html.unescape(text[place : place + 10 * len(new) + 1000])
            there = squeezed(seen).startswith(squeezed(html.unescape(new)))
        elif part.content_type == "text/plain":
            place, new = int(text.startswith("\ufeff")), for_part(part, self.text) + "\n\n"
            there = squeezed(text[place : place + 4 * len(new) + 1000]).startswith(squeezed(new))
        else:
            return
        if there:
            message.note("already_there", part.content_type)
        elif not edits.replace_spans(part, [(place, place, new)]):
            message.note("skipped_part", part.charset or part.transfer_encoding)

    def put_before(self, message: Message, edits: Edits) -> None:
        """Put it before a message that has no text, as a part of its own."""
        kind = message.root.content_type
        content = (self.text + "\n").replace("\n", "\r\n").encode("utf-8", "replace")
        # An invitation would be none any more, were it not the message itself.
        if kind == "text/calendar" or not edits.insert_part(content, "text/plain; charset=utf-8"):
            message.note("no_text", kind)


def _tagged(subject: str, tag: str) -> str | None:
    """Return the subject with the tag; None if it has it already, behind a "Re:" too."""
    return None if not tag or tag.casefold() in subject.casefold() else f"{tag} {subject}".rstrip()
