"""SPF (RFC 7208): whether a domain lets an address send in its name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import quote

from .dkim import DOMAIN
from .lookups import Lookup, TemporaryError

#: RFC 7208 4.6.4.
MOST_LOOKUPS = 10
MOST_VOID = 2
_MOST_NAMES = 10
_MOST_TERMS = 500
_LARGEST_RECORD = 16 * 1024
_QUALIFIERS = {"": "pass", "+": "pass", "-": "fail", "~": "softfail", "?": "neutral"}
_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9_.-]{0,60})=(.*)\Z", re.DOTALL)
_MECHANISM = re.compile(r"([-+?~]?)([A-Za-z0-9]{1,20})(?::([^ ]*?))?((?:/[0-9]{1,3})?(?://[0-9]{1,3})?)\Z")
_MACRO = re.compile(r"%(?:\{([A-Za-z])([0-9]{0,3})([rR]?)([.\-+,/_=]{0,10})\}|([%_-])|(.|\Z))", re.DOTALL)
_TAKES_DOMAIN = {"include": True, "exists": True, "a": False, "mx": False, "ptr": False}


@dataclass(frozen=True, slots=True)
class SpfResult:
    """What SPF says.

    result: of RFC 7208 2.6.  identity: "mailfrom" or "helo".  value: of the identity.
    domain: that was asked.
    """

    result: str
    identity: str
    value: str
    domain: str
    reason: str = ""


class _Permanent(Exception):
    """A record that can't be evaluated."""


@dataclass(frozen=True, slots=True)
class _Term:
    qualifier: str
    name: str
    value: str
    prefix4: int
    prefix6: int


def check_spf(lookup: Lookup, address: str, sender: str, helo: str) -> SpfResult:
    """Return whether the sender's domain lets an address send; of a null sender that of HELO.

    address: the client's.  sender: the reverse-path, without angle brackets.
    """
    identity, value = ("mailfrom", sender) if sender else ("helo", helo)
    local, _, domain = sender.rpartition("@") if sender else ("postmaster", "@", helo)
    domain = domain.rstrip(".").lower()
    if not domain.isascii():
        try:
            domain = domain.encode("idna").decode()
        except UnicodeError:
            domain = ""
    if len(domain) > 253 or "." not in domain or DOMAIN.match(domain) is None:
        return SpfResult("none", identity, value, domain, "no domain to ask")
    try:
        client = ip_address(address.partition("%")[0])
        if isinstance(client, IPv6Address) and client.ipv4_mapped is not None:
            client = client.ipv4_mapped
        evaluation = _Evaluation(lookup, client, local or "postmaster", domain, helo)
        result = evaluation.check(domain)
    except TemporaryError as error:
        return SpfResult("temperror", identity, value, domain, str(error))
    except (_Permanent, ValueError) as error:
        return SpfResult("permerror", identity, value, domain, str(error))
    return SpfResult(result, identity, value, domain)


class _Evaluation:
    """One evaluation, with what is left of its limits."""

    def __init__(
        self, lookup: Lookup, client: IPv4Address | IPv6Address, local: str, domain: str, helo: str
    ) -> None:
        self._lookup = lookup
        self._client = client
        self._local, self._sender_domain, self._helo = local, domain, helo
        self._lookups, self._void = MOST_LOOKUPS, MOST_VOID

    def check(self, domain: str) -> str:
        """Return the result of check_host() (RFC 7208 4)."""
        found = self._lookup(domain, "TXT")
        records = [one for one in found if (one + b" ")[:7].lower() == b"v=spf1 "]
        if not records:
            return "none"
        if len(records) > 1:
            raise _Permanent(f"several records of {domain[:100]}")
        terms, redirect = _read(records[0])
        for term in terms:
            if self._matches(term, domain):
                return _QUALIFIERS[term.qualifier]
        if not redirect:
            return "neutral"
        self._count()
        result = self.check(self._target(redirect, domain))
        if result == "none":
            raise _Permanent("redirect= to a domain without a record")
        return result

    def _count(self) -> None:
        self._lookups -= 1
        if self._lookups < 0:
            raise _Permanent(f"more than {MOST_LOOKUPS} terms that ask the DNS")

    def _ask(self, name: str, kind: str) -> tuple[bytes, ...]:
        found = self._lookup(name, kind)
        if not found:
            self._void -= 1
            if self._void < 0:
                raise _Permanent(f"more than {MOST_VOID} void lookups")
        return found

    def _matches(self, term: _Term, domain: str) -> bool:
        if term.name == "all":
            return True
        if term.name in ("ip4", "ip6"):
            return self._is_within(term.value, term.prefix4 if term.name == "ip4" else term.prefix6)
        self._count()
        target = self._target(term.value, domain) if term.value else domain
        if term.name == "include":
            result = self.check(target)
            if result == "none":
                raise _Permanent("include of a domain without a record")
            return result == "pass"
        if term.name == "exists":
            return bool(self._ask(target, "A"))
        if term.name == "a":
            return self._has_address(target, term)
        if term.name == "mx":
            names = self._ask(target, "MX")
            if len(names) > _MOST_NAMES:
                raise _Permanent(f"more than {_MOST_NAMES} mail exchangers")
            return any(self._has_address(name.decode("ascii"), term) for name in names)
        return self._has_name(target)

    def _is_within(self, address: str, prefix: int) -> bool:
        network = ip_network(f"{address}/{prefix}", strict=False)
        return network.version == self._client.version and self._client in network

    def _has_address(self, name: str, term: _Term) -> bool:
        kind = "A" if self._client.version == 4 else "AAAA"
        prefix = term.prefix4 if self._client.version == 4 else term.prefix6
        return any(self._is_within(one.decode("ascii"), prefix) for one in self._ask(name, kind))

    def _has_name(self, domain: str) -> bool:
        """RFC 7208 5.5: one of the client's own names is of the domain."""
        kind = "A" if self._client.version == 4 else "AAAA"
        domain = domain.lower()
        try:
            names = self._lookup(self._client.reverse_pointer, "PTR")[:_MOST_NAMES]
        except TemporaryError:
            return False
        for name in (one.decode("ascii").lower() for one in names):
            if name != domain and not name.endswith("." + domain):
                continue
            try:
                addresses = self._lookup(name, kind)
            except TemporaryError:
                continue
            if any(ip_address(one.decode("ascii")) == self._client for one in addresses):
                return True
        return False

    # -- macros (RFC 7208 7) -----------------------------------------------

    def _target(self, text: str, domain: str) -> str:
        """Return the domain that a domain-spec stands for, cut from the left if it is too long."""
        name = _MACRO.sub(lambda found: self._macro(found, domain), text).rstrip(".")
        return name if len(name) <= 253 else name[-254:].partition(".")[2]

    def _macro(self, found: re.Match[str], domain: str) -> str:
        if found[5] is not None:
            return {"%": "%", "_": " ", "-": "%20"}[found[5]]
        value = self._letter(found[1].lower(), domain)
        pieces = re.split("[" + re.escape(found[4] or ".") + "]", value[:1000])
        if found[3]:
            pieces.reverse()
        count = int(found[2] or 0)
        text = ".".join(pieces[-count:] if count else pieces)
        return quote(text, safe="") if found[1].isupper() else text

    def _letter(self, letter: str, domain: str) -> str:
        client = self._client
        match letter:
            case "s":
                return f"{self._local}@{self._sender_domain}"
            case "l":
                return self._local
            case "o":
                return self._sender_domain
            case "d":
                return domain
            case "i":
                if isinstance(client, IPv4Address):
                    return str(client)
                return ".".join(client.exploded.replace(":", ""))
            case "v":
                return "in-addr" if client.version == 4 else "ip6"
            case "h":
                return self._helo
        return "unknown"  # p: RFC 7208 7.3 says not to use it


def _read(record: bytes) -> tuple[list[_Term], str]:
    """Return the mechanisms of a record and its redirect=.  Raises _Permanent.

    Errors anywhere in a record count before it is evaluated (RFC 7208 4.6).
    """
    if len(record) > _LARGEST_RECORD or not record.isascii():
        raise _Permanent("record too long, or not ASCII")
    words = [word for word in record.decode("ascii").split(" ")[1:] if word]
    if len(words) > _MOST_TERMS:
        raise _Permanent(f"more than {_MOST_TERMS} terms")
    terms: list[_Term] = []
    modifiers: dict[str, str] = {}
    for word in words:
        modifier = _MODIFIER.match(word)
        if modifier is None:
            terms.append(_term(word))
            continue
        name = modifier[1].lower()
        _check_macros(modifier[2], "slodiphcrtv")
        if name not in ("redirect", "exp"):
            continue
        if name in modifiers or not modifier[2]:
            raise _Permanent(f"{name}= twice, or empty")
        modifiers[name] = modifier[2]
        _check_domain(modifier[2])
    if any(term.name == "all" for term in terms):
        modifiers.pop("redirect", None)
    return terms, modifiers.get("redirect", "")


def _term(word: str) -> _Term:
    found = _MECHANISM.match(word)
    name = found[2].lower() if found is not None else ""
    if found is None or name not in (*_TAKES_DOMAIN, "all", "ip4", "ip6"):
        raise _Permanent(f"unknown mechanism {word[:40]}")
    value, prefixes = found[3], found[4]
    four, _, six = (
        prefixes.removeprefix("/").partition("//")
        if not prefixes.startswith("//")
        else ("", "", prefixes[2:])
    )
    if name in ("ip4", "ip6"):
        return _address(found[1], name, value or "", four, six)
    prefix4, prefix6 = _prefix(four, 32), _prefix(six, 128)
    if prefixes and name not in ("a", "mx"):
        raise _Permanent(f"{name} with a prefix length")
    if name == "all":
        if value is not None:
            raise _Permanent("all with a domain")
    elif value is not None:
        _check_domain(value)
    elif _TAKES_DOMAIN[name]:
        raise _Permanent(f"{name} without a domain")
    return _Term(found[1], name, value or "", prefix4, prefix6)


def _address(qualifier: str, name: str, value: str, four: str, six: str) -> _Term:
    size = 32 if name == "ip4" else 128
    if six:
        raise _Permanent(f"{name} with two prefix lengths")
    try:
        network = ip_address(value)
    except ValueError:
        raise _Permanent(f"{name} without an address") from None
    if network.version != (4 if name == "ip4" else 6) or "%" in value:
        raise _Permanent(f"{name} with another address")
    return _Term(qualifier, name, value, _prefix(four, size) if size == 32 else 32, _prefix(four, size))


def _prefix(text: str, size: int) -> int:
    if not text:
        return size
    if int(text) > size or (len(text) > 1 and text.startswith("0")):
        raise _Permanent(f"a prefix length of {text}")
    return int(text)


def _check_domain(value: str) -> None:
    _check_macros(value, "slodiphv")
    plain = _MACRO.sub("x", value).rstrip(".")
    top = plain.rpartition(".")[2]
    if "." not in plain and "%" not in value:
        raise _Permanent(f"no domain in {value[:60]}")
    if not top or not all(33 <= ord(one) < 127 for one in plain):
        raise _Permanent(f"no domain in {value[:60]}")
    if not value.rstrip(".").endswith("}") and (top.isdigit() or re.fullmatch("[A-Za-z0-9-]+", top) is None):
        raise _Permanent(f"no domain in {value[:60]}")  # RFC 7208 7.1: toplabel


def _check_macros(value: str, letters: str) -> None:
    for found in _MACRO.finditer(value):
        if found[6] is not None or (found[1] and found[1].lower() not in letters):
            raise _Permanent(f"unknown macro in {value[:60]}")
        if found[1] and found[2] and int(found[2]) == 0:
            raise _Permanent(f"a macro with 0 labels in {value[:60]}")
