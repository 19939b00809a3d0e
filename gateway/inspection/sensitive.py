"""Finding what should not leave a house in a text: card numbers, IBANs, keys, tokens.

A detector takes a text and gives spans.  Candidates are found by literals or by expressions
that are bounded at each place, and then validated; the time is in proportion to the text.
Nothing here keeps, logs or raises what was found.
"""

from __future__ import annotations

import binascii
import math
import re
from collections.abc import Callable, Iterable, Iterator

Span = tuple[int, int]
Detector = Callable[[str], Iterator[Span]]

# -- payment cards -------------------------------------------------------------------

#: Leading digits from, to, and the lengths that an issuer has (ISO/IEC 7812; the schemes' own tables).
_ISSUERS: tuple[tuple[str, str, tuple[int, ...]], ...] = (
    ("34", "34", (15,)),
    ("37", "37", (15,)),
    ("300", "305", (14,)),
    ("36", "36", (14,)),
    ("38", "39", (14,)),
    ("3528", "3589", (16, 17, 18, 19)),
    ("4", "4", (13, 16, 19)),
    ("51", "55", (16,)),
    ("2221", "2720", (16,)),
    ("6011", "6011", (16, 17, 18, 19)),
    ("644", "649", (16, 17, 18, 19)),
    ("65", "65", (16, 17, 18, 19)),
    ("62", "62", (16, 17, 18, 19)),
    ("5018", "5018", (16, 19)),
    ("6304", "6304", (16, 19)),
    ("6759", "6763", (16, 18, 19)),
)
_BY_TWO: dict[str, list[tuple[str, str, tuple[int, ...]]]] = {
    f"{two:02}": [one for one in _ISSUERS if one[0][:2] <= f"{two:02}"[: len(one[0])] <= one[1][:2]]
    for two in range(100)
}
#: Blanks of one line that are not U+0020: no-break, thin and other widths.
_WIDTHS = r"\u00a0\u2000-\u200a\u202f\u205f\u3000"
_BETWEEN = rf" \-\u2010-\u2015{_WIDTHS}"
#: Groups of digits, one separator between two; no group longer than a card's number.
_GROUP = r"[0-9]{1,19}+(?![0-9])"
#: The digit comes first, so that places without one are passed over at the speed of C.
_DIGIT_RUN = re.compile(
    rf"[0-9](?<![0-9][0-9])(?<![0-9]\.[0-9])(?=[0-9{_BETWEEN}]{{12}})[0-9]{{0,18}}+(?![0-9])"
    rf"(?:[{_BETWEEN}]{_GROUP})*+"
)
#: A number of 19 digits in groups of four has five.
_MOST_GROUPS = 6
_DIGIT_GROUP = re.compile(r"[0-9]+")
_DOUBLED = bytes.maketrans(b"0123456789", b"0246813579")


def passes_luhn(number: str) -> bool:
    """Tell whether the check digit of ISO/IEC 7812-1 is right; what is no digit is passed over."""
    digits = "".join(_DIGIT_GROUP.findall(number)).encode()[::-1]
    total = sum(digits[::2]) + sum(digits[1::2].translate(_DOUBLED)) - 48 * len(digits)
    return len(digits) > 1 and total % 10 == 0


def is_card(digits: str) -> bool:
    """Tell whether a number is one that a card scheme gives out, by prefix, length and check digit."""
    size = len(digits)
    for low, high, lengths in _BY_TWO[digits[:2]]:
        if size in lengths and low <= digits[: len(low)] <= high:
            return passes_luhn(digits) and len(set(digits)) > 1
    return False


def find_cards(text: str) -> Iterator[Span]:
    """Give numbers of payment cards, written in one or in groups."""
    for run in _DIGIT_RUN.finditer(text):
        groups = [match.span() for match in _DIGIT_GROUP.finditer(text, *run.span())]
        reached = 0
        for index, (start, _) in enumerate(groups):
            if start < reached or len(_BY_TWO.get(text[start : start + 2], _ISSUERS)) == 0:
                continue
            digits = ""
            for first, behind in groups[index : index + _MOST_GROUPS]:
                grouped = bool(digits) or not behind - first >= 13
                digits += text[first:behind]
                if len(digits) > 19 or (grouped and not 3 <= behind - first <= 7):
                    break
                if len(digits) >= 13 and is_card(digits):
                    yield start, behind
                    reached = behind
                    break


# -- bank accounts -------------------------------------------------------------------

#: Length of an IBAN by country (ISO 13616, the registry of SWIFT).
_IBAN_LENGTHS = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 "
    "EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 "
    "IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 "
    "NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 "
    "SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
)
_LENGTH_OF = {entry[:2]: int(entry[2:]) for entry in _IBAN_LENGTHS.split()}
_IBAN_START = re.compile(rf"(?<![A-Za-z0-9])[A-Za-z]{{2}}[0-9]{{2}}(?=[ {_WIDTHS}]?[A-Za-z0-9])")
_IBAN_REST = re.compile(rf"(?:[ {_WIDTHS}]?[A-Za-z0-9]){{1,30}}")


_AS_DIGITS = str.maketrans({chr(55 + value): str(value) for value in range(10, 36)})
_UPPER = re.compile("[0-9A-Z]+")


def passes_mod97(number: str) -> bool:
    """Tell whether the check digits of ISO 7064 (MOD 97-10, as in an IBAN) are right.

    What is neither a letter nor a digit is passed over.
    """
    plain = "".join(_UPPER.findall(number.upper()))
    if len(plain) < 5 or len(plain) > 100:
        return False
    return int((plain[4:] + plain[:4]).translate(_AS_DIGITS)) % 97 == 1


def find_ibans(text: str) -> Iterator[Span]:
    """Give International Bank Account Numbers, with blanks or without."""
    for match in _IBAN_START.finditer(text):
        size = _LENGTH_OF.get(match.group()[:2].upper())
        rest = _IBAN_REST.match(text, match.end()) if size is not None else None
        if size is None or rest is None:
            continue
        written = text[match.start() : rest.end()]
        plain = "".join(written.split())
        if len(plain) < size or not passes_mod97(plain[:size]):
            continue
        end = left = 0
        while left < size:
            left += written[end].isalnum()
            end += 1
        follows = text[match.start() + end : match.start() + end + 1]
        if not (follows.isascii() and follows.isalnum()):
            yield match.start(), match.start() + end


# -- keys and tokens -----------------------------------------------------------------

_LONGEST_KEY = 64 * 1024
_ARMOUR = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_ARMOUR_END = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")


def find_private_keys(text: str) -> Iterator[Span]:
    """Give private keys in PEM, OpenSSH, PGP armour and PuTTY's own format."""
    ended: re.Match[str] | None = None
    reached, any_end = 0, True
    for place in _places(text, "-----BEGIN "):
        begun = _ARMOUR.match(text, place) if place >= reached else None
        if begun is None:
            continue
        if any_end and (ended is None or ended.start() < begun.end()):
            ended = _ARMOUR_END.search(text, begun.end())
            any_end = ended is not None
        near = ended is not None and ended.start() - place <= _LONGEST_KEY
        reached = ended.end() if ended is not None and near else begun.end()
        yield place, reached
    first = text.find("PuTTY-User-Key-File-")
    for place in _places(text, "Private-Lines:") if first >= 0 else ():
        if place >= max(first, reached):
            end = text.find("Private-MAC:", place, place + _LONGEST_KEY)
            reached = end if end >= 0 else min(place + _LONGEST_KEY, len(text))
            yield place, reached


def _places(text: str, literal: str) -> Iterator[int]:
    place = text.find(literal)
    while place >= 0:
        yield place
        place = text.find(literal, place + len(literal))


def _by_literals(*kinds: tuple[str, str]) -> Detector:
    """Return a detector of tokens that begin with a literal; each has an expression for the rest."""
    compiled = [(literal, re.compile(rest, re.ASCII)) for literal, rest in kinds]

    def find(text: str) -> Iterator[Span]:
        for literal, rest in compiled:
            for start in _places(text, literal):
                before = text[start - 1 : start] if start else ""
                match = rest.match(text, start + len(literal))
                if match is not None and not (before.isascii() and before.isalnum()):
                    yield start, match.end()

    return find


_END = r"(?![A-Za-z0-9_\-])"
find_aws_keys = _by_literals(*((prefix, rf"[A-Z0-9]{{16}}{_END}") for prefix in ("AKIA", "ASIA")))
find_github_tokens = _by_literals(
    *((f"gh{kind}_", r"[A-Za-z0-9]{36,255}+") for kind in "pousr"), ("github_pat_", r"[A-Za-z0-9_]{22,255}+")
)
find_gitlab_tokens = _by_literals(("glpat-", r"[A-Za-z0-9_\-]{20,255}+"))
find_slack_tokens = _by_literals(
    *((f"xox{kind}-", r"[A-Za-z0-9\-]{10,250}+") for kind in "abeoprs"),
    ("hooks.slack.com/services/", r"[A-Z0-9]{6,20}/[A-Z0-9]{6,20}/[A-Za-z0-9]{16,40}"),
)
find_stripe_keys = _by_literals(*((prefix, r"[A-Za-z0-9]{16,250}+") for prefix in ("sk_live_", "rk_live_")))
find_google_keys = _by_literals(("AIza", rf"[A-Za-z0-9_\-]{{35}}{_END}"))

_JWT = re.compile(
    r"(?<![A-Za-z0-9_\-])eyJ[A-Za-z0-9_\-]{5,4000}+\.[A-Za-z0-9_\-]{4,16000}+\.[A-Za-z0-9_\-]{0,2000}+"
)


def find_jwts(text: str) -> Iterator[Span]:
    """Give JSON Web Tokens (RFC 7519, 7515 3.1): their header is JSON that names an algorithm."""
    reached = 0
    for start in _places(text, "eyJ"):
        match = _JWT.match(text, start) if start >= reached else None
        if match is None:
            continue
        head = match.group().partition(".")[0]
        try:
            header = binascii.a2b_base64(head.translate(_URL_SAFE) + "=" * (-len(head) % 4))
        except binascii.Error:
            continue
        if b'"alg"' in header or b'"enc"' in header:
            yield start, match.end()
            reached = match.end()


_URL_SAFE = str.maketrans("-_", "+/")

#: Words before what is assigned, and what may stand between.
_WORDS = ("password", "passwd", "passphrase", "secret", "token", "api_key", "api-key", "apikey", "access_key")
_ASSIGNED = re.compile(
    r"[\w\-]{0,20}+[\"']?+[ \t]{0,4}+(?:=>|:=|=|:)[ \t]{0,4}+[\"']?+([A-Za-z0-9+/_\-.~!@#$%^&*=]{16,256}+)",
    re.ASCII,
)
#: Bits for one character: words and names have less, what a generator makes has more.
_LEAST_ENTROPY = 3.4


def find_assigned_secrets(text: str) -> Iterator[Span]:
    """Give what is assigned to a password, a token or a key and looks made by a generator."""
    lower = text.replace("\u0130", "I").lower()
    if len(lower) != len(text):
        lower = text
    for word in _WORDS:
        reached = 0
        for start in _places(lower, word):
            match = _ASSIGNED.match(text, start + len(word)) if start >= reached else None
            if match is not None:
                reached = match.end()
                if _looks_made(match.group(1)):
                    yield match.span(1)


def _looks_made(value: str) -> bool:
    if not (any(one.isdigit() for one in value) and any(one.isalpha() for one in value)):
        return False
    counts = [value.count(one) for one in set(value)]
    size = len(value)
    return -sum(count / size * math.log2(count / size) for count in counts) >= _LEAST_ENTROPY


#: By the names that a configuration uses.
DETECTORS: dict[str, Detector] = {
    "card": find_cards,
    "iban": find_ibans,
    "private_key": find_private_keys,
    "aws_key": find_aws_keys,
    "github_token": find_github_tokens,
    "gitlab_token": find_gitlab_tokens,
    "slack_token": find_slack_tokens,
    "stripe_key": find_stripe_keys,
    "google_key": find_google_keys,
    "jwt": find_jwts,
    "secret": find_assigned_secrets,
}


def mask(text: str, start: int, end: int, keep: int) -> Iterator[Span]:
    """Give the spans within a span that are to be blotted out: letters and digits but the last.

    keep: how many of them stay.  Where that would leave half of it or more, none stays.
    """
    places = [place for place in range(start, end) if text[place].isalnum()]
    if 2 * keep >= len(places):
        keep = 0
    hidden = places[: len(places) - keep]
    run = -1
    for index, place in enumerate(hidden):
        if run < 0:
            run = place
        if index + 1 == len(hidden) or hidden[index + 1] != place + 1:
            yield run, place + 1
            run = -1


def joined(spans: Iterable[Span]) -> list[Span]:
    """Return spans in order, those that touch or lie over each other as one."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def blotted(text: str, spans: Iterable[Span]) -> str:
    """Return a text with spans that do not lie over each other blotted out."""
    pieces, place = [], 0
    for start, end in sorted(spans):
        pieces += [text[place:start], "*" * (end - start)]
        place = end
    return "".join([*pieces, text[place:]])
