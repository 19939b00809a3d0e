"""Who logs in, by which mechanism, and whether a password crossed the wire."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.sasl import REVEALING, SaslReader, decode, mechanism_name

SECRET = b"Tr0ub4dor&3"


@pytest.mark.parametrize(
    ("word", "name"),
    [
        (b"PLAIN", "PLAIN"),
        (b"scram-sha-256", "SCRAM-SHA-256"),
        (b"CRAM-MD5", "CRAM-MD5"),
        (b"X_1", "X_1"),
        (b"", None),
        (b"PLAIN=", None),
        (b"PLAIN\n", None),
        (b"A" * 20, "A" * 20),
        (b"A" * 21, None),
        (b"\xc3\xa9", None),
    ],
)
def test_mechanism_names(word: bytes, name: str | None) -> None:
    assert mechanism_name(word) == name


@pytest.mark.parametrize(
    ("payload", "data"),
    [
        (b"=", b""),
        (b"", b""),
        (b"YWxpY2U=", b"alice"),
        (b"YWxpY2U", None),
        (b"YWxp!Y2U=", None),
        (b"\xff", None),
        (b"YWxpY2U=\n", None),
    ],
)
def test_payloads_are_strict_base64(payload: bytes, data: bytes | None) -> None:
    assert decode(payload) == data


@pytest.mark.parametrize(
    ("mechanism", "payloads", "user", "sent"),
    [
        ("PLAIN", [b"\0alice\0" + SECRET], "alice", True),
        ("PLAIN", [b"bob\0alice\0" + SECRET], "alice", True),
        ("PLAIN", [b"", b"\0alice\0" + SECRET], "alice", True),
        ("PLAIN", [b"no nuls"], "", True),
        ("PLAIN", [], "", False),
        ("LOGIN", [b"alice"], "alice", False),
        ("LOGIN", [b"alice", SECRET], "alice", True),
        ("CRAM-MD5", [b"alice smith 0123456789abcdef"], "alice smith", False),
        ("SCRAM-SHA-256", [b"n,,n=alice,r=abc", b"c=biws,r=abcdef,p=xx"], "alice", False),
        ("SCRAM-SHA-1", [b"y,a=bob,n=al=2Cice=3D,r=abc"], "al,ice=", False),
        ("XOAUTH2", [b"user=alice\1auth=Bearer token\1\1"], "alice", True),
        ("OAUTHBEARER", [b"n,a=alice,\1host=mx\1auth=Bearer token\1\1"], "alice", True),
        ("OAUTHBEARER", [b"n,,\1auth=Bearer token\1\1"], "", True),
        ("OAUTHBEARER", [b"n,,\1auth=Bearer good,a=tail\1\1"], "", True),
        ("XOAUTH2", [b"auth=Bearer token\1user=alice\1\1"], "alice", True),
        ("DIGEST-MD5", [b'username="al\\"ice",realm="x"'], 'al\\"ice', False),
        ("ANONYMOUS", [b"trace"], "anonymous", False),
        ("GSSAPI", [b"\x60\x82"], "", False),
    ],
)
def test_who_logs_in(mechanism: str, payloads: list[bytes], user: str, sent: bool) -> None:
    reader = SaslReader(mechanism)
    for payload in payloads:
        reader.client(base64.b64encode(payload))
    assert (reader.user, reader.sent) == (user, sent)
    assert reader.reveals is (mechanism in {"PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER"})


@pytest.mark.parametrize(
    ("mechanism", "payload", "initial", "malformed", "hides"),
    [
        ("PLAIN", b"", False, False, True),
        ("PLAIN", b"=", True, True, True),
        ("LOGIN", b"=", True, True, True),
        ("LOGIN", b"", True, True, True),
        ("LOGIN", b"YWxpY2U=", True, False, False),
        ("LOGIN", b"YWxp Y2U=", True, True, True),
        ("LOGIN", b"YWxp\tY2U=", False, True, True),
        ("SCRAM-SHA-256", b"", True, True, True),
        ("SCRAM-SHA-256", b"bix5LHI9eA==", True, True, True),
        ("EXTERNAL", b"=", True, False, True),
        ("GSSAPI", b"YII=", True, False, True),
        ("ANONYMOUS", b"=", True, False, False),
        ("CRAM-MD5", b"YWxpY2UgMDEyMw==", False, False, False),
    ],
)
def test_what_servers_may_read_otherwise(
    mechanism: str, payload: bytes, initial: bool, malformed: bool, hides: bool
) -> None:
    reader = SaslReader(mechanism)
    assert reader.hides is (mechanism in ("EXTERNAL", "GSSAPI"))
    reader.client(payload, initial=initial)
    assert (reader.malformed, reader.hides) == (malformed, hides)


@pytest.mark.parametrize(
    ("mechanism", "payload", "initial"),
    [
        ("SCRAM-SHA-256", b"n=bob,,n=alice,r=abc", False),
        ("SCRAM-SHA-256", b"n,,r=abc,n=alice", False),
        ("SCRAM-SHA-256", b"n=alice,r=abc", False),
        ("XOAUTH2", b"user=bob\1user=alice\1auth=Bearer t\1\1", True),
        ("XOAUTH2", b"auth=Bearer t\1\1", True),
        ("OAUTHBEARER", b"n,a=bob,a=alice,\1auth=Bearer t\1\1", True),
        ("OAUTHBEARER", b"n=bob,a=alice,\1auth=Bearer t\1\1", True),
        ("DIGEST-MD5", b'xusername="bob",username="alice",username="carol"', False),
        ("DIGEST-MD5", b'username="bob"', True),
        ("CRAM-MD5", b"bob 0123456789abcdef", True),
    ],
)
def test_messages_that_servers_read_otherwise_are_malformed(
    mechanism: str, payload: bytes, initial: bool
) -> None:
    reader = SaslReader(mechanism)
    reader.client(base64.b64encode(payload), initial=initial)
    assert reader.malformed


def test_what_is_no_base64_may_be_a_password_in_clear() -> None:
    reader = SaslReader("LOGIN")
    reader.client(b"Tr0ub4dor&3")
    assert reader.sent and reader.user == ""


def test_a_name_that_is_no_utf_8_is_escaped_and_cut() -> None:
    reader = SaslReader("LOGIN")
    reader.client(base64.b64encode(b"\xff" + b"a" * 10_000))
    assert reader.user.startswith("\\xff") and len(reader.user) < 1000


@given(st.sampled_from([*sorted(REVEALING), "CRAM-MD5", "SCRAM-SHA-256", "DIGEST-MD5", "X"]),
       st.lists(st.binary(max_size=60), max_size=4), st.booleans())  # fmt: skip
def test_any_payload_is_read_without_an_error(mechanism: str, said: list[bytes], encoded: bool) -> None:
    reader = SaslReader(mechanism)
    for payload in said:
        reader.client(base64.b64encode(payload) if encoded else payload)
    assert isinstance(reader.user, str)
    assert reader.reveals or not reader.sent


@given(st.binary(min_size=6, max_size=40).filter(lambda secret: b"\0" not in secret))
def test_nothing_kept_holds_the_password(secret: bytes) -> None:
    reader = SaslReader("PLAIN")
    reader.client(base64.b64encode(b"\0\0" + secret))
    kept = [getattr(reader, name) for name in SaslReader.__slots__]
    assert secret.decode("utf-8", "backslashreplace") not in [str(one) for one in kept]
