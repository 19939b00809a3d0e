"""Detectors find what is valid, pass over what is not, and take no time on hostile texts."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.inspection.sensitive import DETECTORS, blotted, joined, mask, passes_luhn, passes_mod97


def found(detector: str, text: str) -> list[str]:
    return [text[start:end] for start, end in DETECTORS[detector](text)]


#: Numbers that schemes and banks publish for tests.
CARDS = [
    "4111111111111111",
    "4222222222222",
    "5555555555554444",
    "2223003122003222",
    "378282246310005",
    "6011111111111117",
    "30569309025904",
    "3530111333300000",
    "6200000000000005",
]
IBANS = [
    "DE89370400440532013000",
    "GB82WEST12345698765432",
    "FR1420041010050500013M02606",
    "NO9386011117947",
    "MT84MALT011000012345MTLCAST001S",
]
KEY = "-----BEGIN " + "RSA PRIVATE KEY-----\nMIIBOgIBAAJBAK\n-----END " + "RSA PRIVATE KEY-----"
JWT = ".".join(
    base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
    for part in ({"alg": "HS256"}, {"sub": "alice"}, "signature")
)


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("form", ["{}", "card: {}.", "({})", "12 {} 34", "x\n{}\ny", "no.{}", ".{}", "3 .{}"])
def test_cards(card: str, form: str):
    assert found("card", form.format(card)) == [card]


def test_cards_in_groups():
    for written in (
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "3782 822463 10005",
        "4111\u00a01111\u00a01111\u00a01111",
        "4111\u20091111\u202f1111\u20071111",
    ):
        assert found("card", f"pay {written} now") == [written]
    assert len(found("card", " ".join(CARDS))) == len(CARDS)


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",  # wrong check digit
        "1111111111111117",  # no issuer
        "0000000000000000",
        "41111111111111111111111",  # longer than any
        "411111111111111",
        "0.4111111111111111",
        "2024-01-01 2024-01-02 2024-01-03",
        "+49 30 1234567 12345 678",
    ],
)
def test_what_is_no_card(text: str):
    assert found("card", text) == []


@pytest.mark.parametrize("iban", IBANS)
def test_ibans(iban: str):
    grouped = " ".join(iban[place : place + 4] for place in range(0, len(iban), 4))
    for written in (iban, grouped, iban.lower()):
        assert found("iban", f"to {written} please") == [written]
        assert found("iban", f"{written}, {written}.") == [written, written]
    assert found("iban", iban[:-1] + ("1" if iban[-1] != "1" else "2")) == []
    assert found("iban", iban[:-1]) == found("iban", "XX" + iban[2:]) == []
    assert found("iban", "A" + iban) == found("iban", iban + "7") == []


@pytest.mark.parametrize(
    ("detector", "secret"),
    [
        ("private_key", KEY),
        ("private_key", KEY.replace("RSA ", "")),
        ("private_key", KEY.replace("RSA ", "OPENSSH ")),
        ("aws_key", "AKIA" + "IOSFODNN7EXAMPLE"),
        ("github_token", "ghp_" + "a1B2" * 9),
        ("gitlab_token", "glpat-" + "a1B2c" * 4),
        ("slack_token", "xoxb-" + "123456789012-abcdef"),
        ("stripe_key", "sk_live_" + "a1B2" * 6),
        ("google_key", "AIza" + "a1B2c" * 7),
        ("jwt", JWT),
    ],
)
def test_keys_and_tokens(detector: str, secret: str):
    assert found(detector, f'x="{secret}"; y') == [secret]
    assert found(detector, secret[: len(secret) // 3]) == []


def test_a_key_without_its_end_and_one_of_putty():
    assert found("private_key", KEY[:40]) == [KEY[: KEY.index("\n")]]
    putty = "PuTTY-User-Key-File-3: ssh-rsa\nPrivate-Lines: 8\nAAAA\nPrivate-MAC: 12"
    assert found("private_key", putty) == ["Private-Lines: 8\nAAAA\n"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('password = "hX93kd02mfP1zQ8s"', ["hX93kd02mfP1zQ8s"]),
        ("DB_PASSWORD=hX93kd02mfP1zQ8s;", ["hX93kd02mfP1zQ8s"]),
        ("api-key: hX93kd02mfP1zQ8s", ["hX93kd02mfP1zQ8s"]),
        ('"client_secret_v2": "hX93kd02mfP1zQ8s"', ["hX93kd02mfP1zQ8s"]),
        ("password = correcthorsebatterystaple", []),
        ("token: aaaaaaaaaaaaaaaaaaa1", []),
        ("password is hX93kd02mfP1zQ8s", []),
        ("password: short1", []),
        ("\u0130 token=hX93kd02mfP1zQ8s", ["hX93kd02mfP1zQ8s"]),
    ],
)
def test_assigned_secrets(text: str, expected: list[str]):
    assert found("secret", text) == expected


def test_checks():
    assert passes_luhn("79927398713") and not passes_luhn("79927398710") and not passes_luhn("")
    assert passes_mod97("GB82 WEST 1234 5698 7654 32") and not passes_mod97("GB83WEST12345698765432")


@given(st.text(max_size=300))
def test_any_text(text: str):
    for detector in DETECTORS.values():
        for start, end in detector(text):
            assert 0 <= start < end <= len(text)


def test_a_mask_leaves_the_last_ones_and_what_separates():
    text = "4111-1111 1111-1234"

    def masked(keep: int, text: str = text) -> str:
        return blotted(text, mask(text, 0, len(text), keep))

    assert masked(4) == "****-**** ****-1234"
    assert masked(0) == "****-**** ****-****"
    assert masked(4, "12345678") == "********"


def test_joined_spans():
    assert joined([(5, 7), (0, 2), (2, 3), (6, 9)]) == [(0, 3), (5, 9)]


@pytest.mark.parametrize(
    "unit",
    [
        *(
            "1",
            "1 ",
            "4111 ",
            "a1",
            "DE89 ",
            "token",
            "token=",
            "token=a1",
            "eyJ",
            "eyJaaaaa.",
            ".eyJaaaaaaa.aaaaa",
        ),
        *(
            "-----BEGIN ",
            "-----BEGIN " + "PRIVATE KEY-----",
            "PuTTY-User-Key-File-",
            "Private-Lines:",
            "AKIA",
            "xoxb-",
        ),
    ],
)
@pytest.mark.parametrize("detector", DETECTORS)
def test_hostile_texts_take_time_in_proportion(unit: str, detector: str):
    text = "PuTTY-User-Key-File-" + unit * (300_000 // len(unit))
    for _ in DETECTORS[detector](text):
        pass
