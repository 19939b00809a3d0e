"""What `mailgate tls check` finds out about a server, and what it says to that."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from service_identity import VerificationError
from service_identity.pyopenssl import verify_hostname, verify_ip_address

from ..core.text import shown
from ..relay.tls import VERDICTS, is_address
from .asking import ASKING, ProbeError
from .shaking import (
    ALL_CIPHERS,
    GROUPS,
    TLS13_CIPHERS,
    VERSIONS,
    Shaken,
    Shaker,
    accepted_in_order,
    known_ciphers,
)

DAY = 86400.0
#: Parts of the names of ciphers that nobody should take any more.
_BROKEN = ("NULL", "EXP", "RC4", "RC2", "DES", "MD5", "ADH", "AECDH", "SEED", "IDEA", "ANON")


@dataclass
class Finding:
    """One judgement.  level: "ok", "warning", "error"."""

    level: str
    text: str


@dataclass
class Shown:
    """One certificate of the chain."""

    subject: str
    issuer: str
    names: list[str]
    begin: str
    end: str
    days: int
    key: str
    signature: str


@dataclass
class Report:
    """All that was found."""

    target: str
    address: str
    protocol: str
    mode: str
    server_name: str
    trust: str
    starttls: dict[str, Any] = field(default_factory=dict)
    chain: list[Shown] = field(default_factory=list)
    verified: str = ""  # why not; "" if it is
    name_matches: bool = False
    agreed: dict[str, str] = field(default_factory=dict)
    versions: dict[str, bool] = field(default_factory=dict)
    ciphers: dict[str, list[str]] = field(default_factory=dict)
    server_order: bool | None = None
    groups: list[str] = field(default_factory=list)
    resumption: dict[str, bool] = field(default_factory=dict)
    client_certificate: str = "none"  # "none", "requested", "required"
    handshakes: int = 0
    findings: list[Finding] = field(default_factory=list)

    def say(self, level: str, text: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(level, text))

    @property
    def failed(self) -> bool:
        """Whether something is wrong."""
        return any(finding.level == "error" for finding in self.findings)

    def as_object(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def examine(shaker: Shaker, report: Report) -> None:
    """Find out everything, and judge it.  Raises ProbeError where the server can't be asked at all."""
    if not shaker.implicit:
        _starttls(shaker, report)
        if not report.starttls["offered"]:
            return
    first = shaker.shake(settle=True)
    if first.info is None:
        report.say("error", f"the TLS handshake fails: {first.problem}")
        return
    report.agreed = {"version": first.info.version, "cipher": first.info.cipher, "group": first.info.group}
    if first.asked:
        report.client_certificate = "required" if first.problem else "requested"
    _chain(shaker, report, first)
    _versions(shaker, report)
    _ciphers(shaker, report)
    _groups(shaker, report)
    _resumption(shaker, report)
    report.handshakes = shaker.count


def _starttls(shaker: Shaker, report: Report) -> None:
    """See what is offered before TLS, and what becomes of commands behind STARTTLS."""
    asking = ASKING[shaker.protocol]
    connection = shaker.connect()
    try:
        asking.greeting(connection)
        offered = [line.upper() for line in asking.offered(connection, shaker.target.hello)]
        problem = asking.starttls(connection, offered)
    finally:
        connection.close()
    logins = _logins(shaker.protocol, offered)
    report.starttls = {"offered": not problem, "problem": problem, "logins_before_tls": logins}
    if problem:
        report.say("error", problem)
        return
    behind = report.starttls["commands_behind"] = shaker.injected()
    if behind == "executed":
        report.say("error", "commands sent behind STARTTLS are executed within TLS (CVE-2011-0411)")
    else:
        report.say("ok", f"commands sent behind STARTTLS are {behind}")
    if logins:
        report.say("warning", f"logins are offered before TLS: {', '.join(logins)}")


def _logins(protocol: str, offered: Sequence[str]) -> list[str]:
    """Return the ways to log in that an offer names."""
    if protocol == "imap":
        names = [line[5:] for line in offered if line.startswith("AUTH=")]
        return names if "LOGINDISABLED" in offered else ["LOGIN", *names]
    found = [line.split() for line in offered if line.split()[:1] in (["AUTH"], ["SASL"], ["USER"])]
    return [name for words in found for name in (words[1:] if len(words) > 1 else words)]


def _chain(shaker: Shaker, report: Report, first: Shaken) -> None:
    report.chain = [_certificate(one) for one in first.chain]
    if first.verdict:
        report.verified = VERDICTS.get(first.verdict, f"OpenSSL's error {first.verdict}")
        report.say("error", f"the chain is not verified by {report.trust}: {report.verified}")
    else:
        report.say("ok", f"the chain is verified by {report.trust}")
    assert first.tls is not None
    try:
        (verify_ip_address if is_address(shaker.name) else verify_hostname)(first.tls, shaker.name)
        report.name_matches = True
        report.say("ok", f"the certificate is for {shaker.name}")
    except VerificationError:
        names = ", ".join(report.chain[0].names[:5]) if report.chain else ""
        report.say("error", f"the certificate is not for {shaker.name}, but for {names or 'no name'}")
    except Exception as error:  # noqa: BLE001 - a certificate may be malformed in many ways
        report.say("error", f"the certificate can't be read: {type(error).__name__}")
    for certificate, one in zip(report.chain, first.chain, strict=True):
        _judge(report, certificate, one)


def _judge(report: Report, certificate: Shown, one: x509.Certificate) -> None:
    life = (one.not_valid_after_utc - one.not_valid_before_utc).total_seconds()
    left = one.not_valid_after_utc.timestamp() - time.time()
    subject = certificate.subject
    if left < 0:
        report.say("error", f"{subject} expired on {certificate.end}")
    elif left < min(14 * DAY, life / 4):
        report.say("warning", f"{subject} expires in {certificate.days} days, on {certificate.end}")
    key = one.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < 2048:
        report.say("error", f"{subject}: an RSA key of {key.key_size} bits is too short")
    if certificate.signature in ("md5", "sha1") and one.issuer != one.subject:
        report.say("error", f"{subject} is signed with {certificate.signature}")


def _certificate(one: x509.Certificate) -> Shown:
    try:
        extension = one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = [shown(str(name.value), 100) for name in extension][:100]
    except (x509.ExtensionNotFound, ValueError):
        names = []
    try:
        public = one.public_key()
    except Exception:  # noqa: BLE001 - a key of a kind that is not known here
        public = None
    key = "of an unknown kind"
    if isinstance(public, rsa.RSAPublicKey):
        key = f"RSA {public.key_size}"
    elif isinstance(public, ec.EllipticCurvePublicKey):
        key = f"EC {public.curve.name}"
    elif public is not None:
        key = type(public).__name__.removesuffix("PublicKey").lstrip("_")
    digest = one.signature_hash_algorithm
    left = one.not_valid_after_utc.timestamp() - time.time()
    return Shown(
        shown(one.subject.rfc4514_string(), 200),
        shown(one.issuer.rfc4514_string(), 200),
        names,
        f"{one.not_valid_before_utc:%Y-%m-%d}",
        f"{one.not_valid_after_utc:%Y-%m-%d}",
        int(left // DAY),
        key,
        digest.name if digest is not None else "",
    )


def _versions(shaker: Shaker, report: Report) -> None:
    for version in VERSIONS:
        shaken = shaker.shake(lowest=version, highest=version, ciphers=ALL_CIPHERS)
        report.versions[version] = shaken.info is not None
    old = [version for version in ("TLSv1", "TLSv1.1") if report.versions[version]]
    if old:
        report.say("warning", f"{' and '.join(old)}: accepted, though RFC 8996 forbids it")
    if not report.versions["TLSv1.2"] and not report.versions["TLSv1.3"]:
        report.say("error", "neither TLS 1.2 nor TLS 1.3 is spoken")
    elif not old:
        good = [version for version, accepted in report.versions.items() if accepted]
        report.say("ok", f"only {' and '.join(good)} accepted")


def _ciphers(shaker: Shaker, report: Report) -> None:
    for version, accepted in report.versions.items():
        if not accepted:
            continue

        def attempt(names: Sequence[str], version: str = version) -> str:
            if not names:
                return ""
            if version == "TLSv1.3":
                shaken = shaker.shake(lowest=version, suites=":".join(names))
            else:
                offer = ":".join((*names, "@SECLEVEL=0"))
                shaken = shaker.shake(lowest=version, highest=version, ciphers=offer)
            return shaken.info.cipher if shaken.info is not None else ""

        names = list(TLS13_CIPHERS) if version == "TLSv1.3" else known_ciphers()
        try:
            found = report.ciphers[version] = accepted_in_order(attempt, names)
        except ProbeError:  # the bound on handshakes
            report.say("warning", f"{version}: too many ciphers to try them all")
            return
        if version == "TLSv1.2" and len(found) > 1:
            report.server_order = attempt([*reversed(found)]) == found[0]
        _judge_ciphers(report, version, found)


def _judge_ciphers(report: Report, version: str, found: Sequence[str]) -> None:
    broken = [name for name in found if any(part in name.upper() for part in _BROKEN)]
    if broken:
        report.say("error", f"{version}: broken ciphers are accepted: {', '.join(broken)}")
    if version != "TLSv1.3":
        static = [name for name in found if not name.startswith(("ECDHE", "DHE")) and name not in broken]
        if static:
            report.say("warning", f"{version}: no forward secrecy with {', '.join(static)}")
        if not broken and not static:
            report.say("ok", f"{version}: all ciphers have forward secrecy")


def _groups(shaker: Shaker, report: Report) -> None:
    """See which groups are agreed on: the server's choice of all, and one by one."""
    found = [report.agreed["group"]] if report.agreed["group"] else []
    for name in GROUPS:
        try:
            shaken = shaker.shake(group=name)
        except ProbeError:
            break
        if shaken.info is not None and shaken.info.group not in found:
            found.append(shaken.info.group)
    report.groups = [shown(group, 60) for group in found]


def _resumption(shaker: Shaker, report: Report) -> None:
    for version in ("TLSv1.2", "TLSv1.3"):
        if not report.versions.get(version):
            continue
        try:
            first = shaker.shake(lowest=version, highest=version, settle=True)
            again = shaker.shake(lowest=version, highest=version, after=first)
        except ProbeError:
            break
        report.resumption[version] = again.info is not None and again.info.resumed
