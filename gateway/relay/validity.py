"""How long certificates and revocation lists are good, and when that is worth telling."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography import x509

DAY = 86400.0


class Stage(IntEnum):
    """How near the end is; the higher, the worse."""

    GOOD = 0
    NOTICE = 1
    EARLY = 2  # not valid yet
    SOON = 3
    LAST = 4
    OVER = 5


#: What each stage is to the security team; GOOD is nothing.
SEVERITY = {
    Stage.NOTICE: "info",
    Stage.EARLY: "warning",
    Stage.SOON: "warning",
    Stage.LAST: "alert",
    Stage.OVER: "alert",
}
#: Days before the end, and the share of the whole life, at which a stage begins: the nearer counts,
#: so that what lives for a week is not complained of from its first day.
_BEFORE = ((Stage.LAST, 1, 1 / 24), (Stage.SOON, 7, 1 / 6), (Stage.NOTICE, 30, 1 / 3))


@dataclass(frozen=True, slots=True)
class Validity:
    """From when to when a file is good, in seconds since the epoch.

    what: "certificate", "client certificate", "revocation list".  name: by which the metric calls it.
    """

    name: str
    what: str
    path: Path
    begin: float
    end: float

    def stage(self, now: float) -> Stage:
        """Return how near the end is."""
        if now >= self.end:
            return Stage.OVER
        if now < self.begin:
            return Stage.EARLY
        life, left = self.end - self.begin, self.end - now
        return next(
            (stage for stage, days, share in _BEFORE if left < min(days * DAY, share * life)), Stage.GOOD
        )


def of_certificate(name: str, what: str, path: Path) -> Validity:
    """Read the first certificate of a PEM file.  Raises ValueError, OSError."""
    from cryptography import x509

    shown = x509.load_pem_x509_certificate(path.read_bytes())
    begin, end = shown.not_valid_before_utc.timestamp(), shown.not_valid_after_utc.timestamp()
    return Validity(name, what, path, begin, end)


def of_lists(name: str, path: Path, lists: Iterable[x509.CertificateRevocationList]) -> Validity | None:
    """Return when the first of some revocation lists ends; None where none does (RFC 5280 5.1.2.5)."""
    dated = [(one.next_update_utc, one.last_update_utc) for one in lists]
    ends = [(end.timestamp(), begin.timestamp()) for end, begin in dated if end is not None]
    if not ends:
        return None
    end, begin = min(ends)
    return Validity(name, "revocation list", path, begin, end)


def in_words(validity: Validity, users: str, now: float) -> str:
    """Say in a line what is the matter.  users: what the file is for, "listeners imap, smtp"."""
    import time

    stage = validity.stage(now)
    ends = validity.what != "revocation list"
    if stage is Stage.EARLY:
        verb, moment = "is not valid before", validity.begin
    elif stage is Stage.OVER:
        verb, moment = ("expired on" if ends else "is out of date since"), validity.end
    else:
        verb, moment = ("expires on" if ends else "must be renewed before"), validity.end
    day = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(moment))
    left = validity.end - now
    more = f", in {_span(left)}" if stage in (Stage.NOTICE, Stage.SOON, Stage.LAST) else ""
    follows = "" if ends or stage is not Stage.OVER else ": certificates of its issuer are refused"
    return f"the {validity.what} {validity.path} ({users}) {verb} {day}{more}{follows}"


def _span(seconds: float) -> str:
    """Write a time to go: "6 days", "5 hours"."""
    for size, unit in ((DAY, "day"), (3600.0, "hour"), (60.0, "minute")):
        count = int(seconds // size)
        if count:
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "less than a minute"
