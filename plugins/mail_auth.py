"""Verify who mail is from (SPF, DKIM, ARC, DMARC), and sign what users submit (DKIM).

    [[plugins]]
    name = "verify"                     # before what changes messages
    use = "mail_auth"
    options = { dmarc_reject = "reject", resolvers = ["127.0.0.1"] }

    [[plugins]]
    name = "sign"                       # behind what changes messages
    use = "mail_auth"
    [plugins.options]
    verify = false
    keys = [{ domain = "example.org", selector = "2026a", file = "/etc/mailgate/dkim.pem" }]

What strangers send is checked, and the results are written into Authentication-Results (RFC
8601); fields of that name that claim to be ours are removed.  What users send who have logged in
is signed by the key of the author's domain.  Wants dnspython and publicsuffixlist, of the extra
``mailauth``.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Literal

from pydantic import BaseModel, Field, field_validator

from gateway import plugin as api
from gateway.plugin import Authentication, Edits, Message, SessionRecord, Stage, Verdict

Action = Literal["tag", "quarantine", "reject"]
_SEVERITY = ("tag", "quarantine", "reject")
#: Each server on the way adds to these, or removes them: a signature of them would not hold.
_NEVER_SIGNED = ("received", "return-path", "authentication-results", "dkim-signature", "bcc", "resent-bcc")
_MILDER = {"reject": "quarantine", "quarantine": "none", "none": "none"}


class MailAuth(api.Plugin):
    """Verifies what strangers send, and signs what users send."""

    class Options(api.PluginOptions):
        """What is verified, what becomes of what fails, and what is signed."""

        edit_signed: bool = True
        """let it remove forged fields that a signature covers; nothing else is changed"""
        verify: bool = True
        """check what arrives"""
        authserv_id: str = Field(default="", max_length=253, pattern=r"^[A-Za-z0-9._-]*$")
        """our name in Authentication-Results; the gateway's if left out"""
        remove: tuple[str, ...] = ()
        """other names, whose Authentication-Results are removed too"""
        dmarc_reject: Action = "tag"
        """for mail that fails DMARC, of domains with p=reject"""
        dmarc_quarantine: Action = "tag"
        """for mail that fails DMARC, of domains with p=quarantine"""
        spf_fail: Action = "tag"
        """for mail of a client that SPF forbids ("-all")"""
        bad_from: Action = "tag"
        """for mail without a domain in From, or with more than five"""
        on_temperror: Literal["tag", "fail"] = "tag"
        """where the DNS does not answer; "fail" leaves the message to on_error"""
        trusted_sealers: tuple[str, ...] = ()
        """domains whose ARC seals are believed: what passed DMARC there is let through"""
        relays: tuple[IPv4Network | IPv6Network, ...] = ()
        """our own servers in front: SPF asks for the client in the Received field they wrote"""
        towards_clients: Literal["replace", "keep"] = "replace"
        """POP3, IMAP: what becomes of Authentication-Results that are ours already"""
        max_signatures: int = Field(default=10, ge=1, le=50)
        """how many DKIM signatures of a message are verified"""
        resolvers: tuple[str, ...] = ()
        """name servers, as "127.0.0.1:5353"; those of the system if left out"""
        dns_timeout: float = Field(default=2.0, gt=0, le=30)
        """seconds for one answer"""
        dns_seconds: float = Field(default=4.0, gt=0, le=60)
        """seconds for all answers of a message; less than the table's time_limit"""
        keys: tuple[api.DkimKey, ...] = Field(default=(), max_length=1000)
        """what signs"""
        sign: Literal["login", "trusted", "all"] = "login"
        """whose mail is signed: of who has logged in; and of trusted networks; and all"""
        domains: dict[str, str] = Field(default_factory=dict)
        """which key's domain signs for an author's: { "*.example.org" = "example.org" }"""
        headers: tuple[api.FieldName, ...] = api.SIGNED_FIELDS
        """fields that are signed where they are there"""
        oversign: tuple[api.FieldName, ...] = api.OVERSIGNED_FIELDS
        """fields that are signed so that none can be added"""
        expire_days: int = Field(default=0, ge=0, le=3650)
        """how long a signature is good; 0 is for ever"""
        unsafe_keys: bool = False
        """take key files that everybody on the machine can read"""

        @field_validator("resolvers")
        @classmethod
        def _check_resolvers(cls, resolvers: tuple[str, ...]) -> tuple[str, ...]:
            for one in resolvers:
                api.read_server(one)
            return resolvers

        @field_validator("headers", "oversign")
        @classmethod
        def _check_fields(cls, names: tuple[str, ...]) -> tuple[str, ...]:
            lower = tuple(name.lower() for name in names)
            wrong = [one for one in lower if one in _NEVER_SIGNED or one.startswith("arc-")]
            if wrong:
                raise ValueError(f"{wrong[0]} changes on the way, so it is never signed")
            if "from" not in lower:
                raise ValueError("From must be signed (RFC 6376 5.4)")
            return lower

    options: Options

    def __init__(self, options: BaseModel) -> None:
        super().__init__(options)
        chosen = self.options
        if not chosen.verify and not chosen.keys:
            raise ValueError("verifies nothing and has no keys: it would do nothing")
        api.is_aligned("example.org", "www.example.org")  # the list is read now, or found missing
        self._resolver = api.Resolver(chosen.resolvers, chosen.dns_timeout) if chosen.verify else None
        self._keyring = api.Keyring(
            chosen.keys,
            chosen.domains,
            headers=chosen.headers,
            oversigned=chosen.oversign,
            expire=chosen.expire_days * 86400,
            unsafe=chosen.unsafe_keys,
        )
        self._sealers = frozenset(one.lower() for one in chosen.trusted_sealers)
        self.start(api.Services("mailgate.invalid", "mail_auth"))

    def start(self, services: api.Services) -> None:
        """Learn the gateway's name."""
        self._identifier = self.options.authserv_id or services.hostname
        self._ours = frozenset(one.lower().strip(".") for one in (self._identifier, *self.options.remove))

    def inspect(self, message: Message, session: SessionRecord) -> Verdict:
        """Sign what users send, check what strangers send."""
        if message.stage is Stage.APPEND:
            return api.Pass()  # nobody has sent it
        if message.stage is not Stage.DATA:
            return self._show(message)
        trusted = session.trusted_network and self.options.sign != "login"
        if session.user or trusted or self.options.sign == "all":
            return self._sign(message, session)
        return self._verify(message, session)

    # -- signing -----------------------------------------------------------

    def _sign(self, message: Message, session: SessionRecord) -> Verdict:
        fields = b""
        parameters = message.envelope.parameters if message.envelope is not None else {}
        if self._keyring and parameters.get("BODY", "").upper() == "BINARYMIME":
            message.note("not_signed", "BINARYMIME, which servers change")  # RFC 6376 5.3
        elif self._keyring:
            fields, told = self._keyring.sign(message.root, session.user)
            message.note("signed" if fields else "not_signed", told)
        edits = message.edits()
        self._put(message, edits, fields)
        return api.Modify(edits) if len(edits) else api.Pass()

    # -- verification ------------------------------------------------------

    def _show(self, message: Message) -> Verdict:
        """Check what a client fetches: who has sent it is not known any more."""
        kept = self.options.towards_clients == "keep" and api.claiming_results(message.root, self._ours)
        if self._resolver is None or kept:
            return api.Pass()
        return self._tagged(message, self._authenticate(message, None, dmarc=False))

    def _verify(self, message: Message, session: SessionRecord) -> Verdict:
        if self._resolver is None:
            return api.Pass()
        found = self._authenticate(message, self._sender(message, session), dmarc=True)
        if found.waits and self.options.on_temperror == "fail":
            raise api.TemporaryError("the DNS has not answered, so the message was not checked")
        worst, reason = self._judged(message, found)
        if worst == "reject":
            return api.Reject(reason)
        if worst == "quarantine":
            return api.Quarantine(reason)
        return self._tagged(message, found)

    def _sender(self, message: Message, session: SessionRecord) -> api.Sender | None:
        """Return who has sent a message, or None where SPF would ask for the wrong one."""
        path = message.envelope.reverse_path if message.envelope is not None else ""
        if api.is_within(session.client_address, self.options.relays):
            sender = api.sender_before(message.root, self.options.relays, path)
            if sender is None:
                message.note("spf_skipped", "no client in the Received fields of the relay")
            return sender
        if session.trusted_network or session.protocol == "lmtp":
            message.note("spf_skipped", "trusted network" if session.trusted_network else "LMTP")
            return None
        return api.Sender(session.client_address, session.client_name, path)

    def _authenticate(self, message: Message, sender: api.Sender | None, dmarc: bool) -> Authentication:
        assert self._resolver is not None
        found = api.authenticate(
            message.root,
            self._resolver.questions(self.options.dns_seconds),
            sender,
            most_signatures=self.options.max_signatures,
            dmarc=dmarc,
        )
        said: dict[str, list[str]] = {}
        for one in found.results():
            said.setdefault(one.method, []).append(f"{one.result} {one.reason}".strip())
        for method, texts in said.items():
            message.note(method, ", ".join(texts))
        if found.unchecked:
            message.note("dkim_unchecked", str(found.unchecked))
        return found

    def _judged(self, message: Message, found: Authentication) -> tuple[Action, str]:
        """Return the strictest thing that is to be done, and why."""
        options = self.options
        actions = {"reject": options.dmarc_reject, "quarantine": options.dmarc_quarantine}
        due: list[tuple[Action, str]] = [("tag", "")]
        if found.spf is not None and found.spf.result == "fail":
            due.append((options.spf_fail, f"SPF: {found.spf.domain} does not let this client send"))
        if found.odd_author:
            due.append((options.bad_from, "From names no domain, or too many"))
        for one in found.dmarc:
            if one.result != "fail":
                continue
            policy = one.policy
            if not api.in_share(message.message_id or "none", one.percent / 100, one.domain):
                policy = _MILDER[policy]  # RFC 7489 6.6.4
            if policy != "none" and self._is_vouched(found):
                message.note("dmarc_overridden", "passed before a trusted sealer")
                continue
            action = actions.get(policy, "tag")
            due.append((action, f"DMARC policy of {one.domain} is {policy}, and the message fails it"))
        return max(due, key=lambda one: _SEVERITY.index(one[0]))

    def _is_vouched(self, found: Authentication) -> bool:
        """Tell whether only trusted sealers had it, the first of which saw it pass DMARC."""
        chain = found.arc
        trusted = chain.result == "pass" and self._sealers.issuperset(chain.sealers)
        return trusted and api.says_pass(chain.first, "dmarc")

    # -- fields ------------------------------------------------------------

    def _tagged(self, message: Message, found: Authentication) -> Verdict:
        edits = message.edits()
        self._put(message, edits, api.write_results(message.root, self._identifier, found.results()))
        return api.Modify(edits) if len(edits) else api.Pass()

    def _put(self, message: Message, edits: Edits, data: bytes) -> None:
        removed = api.put_results(message.root, edits, data, self._ours)
        if removed:
            message.note("removed", f"{removed} Authentication-Results in our name")
