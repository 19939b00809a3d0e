"""Policies: which applies, what is lacking, and what follows from when on."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.gate import Need
from gateway.core.policy import Policy, PolicyBook, Spared, Users, network_of, parsed, plain_address, rule
from gateway.core.record import SessionRecord
from gateway.core.steps import TlsInfo
from gateway.core.users import normalised

NOW = 1_800_000_000.0
NET = (ipaddress.ip_network("192.0.2.0/24"),)


def session(
    address: str = "192.0.2.7", protocol: str = "imap", listener: str = "imap", tls: TlsInfo | None = None
) -> SessionRecord:
    return SessionRecord("s", protocol, listener, address, 1, client_tls=tls)


def judged(policy: Policy, record: SessionRecord, user: str = "alice", mechanism: str = "PLAIN") -> str:
    return rule(PolicyBook([policy]).concerning(record), record, user, mechanism, NOW).judgement


MODERN = TlsInfo("TLSv1.3", "TLS_AES_128_GCM_SHA256")
BAD = TlsInfo("TLSv1.2", "BAD")
OLD = TlsInfo("TLSv1", "ECDHE-RSA-AES256-SHA")


@pytest.mark.parametrize(
    ("login", "mechanism", "tls", "refused"),
    [
        ("none", "PLAIN", None, False),
        ("no-exposed-password", "PLAIN", None, True),
        ("no-exposed-password", "USER", None, True),
        ("no-exposed-password", "LOGIN", None, True),
        ("no-exposed-password", "OAUTHBEARER", None, True),
        ("no-exposed-password", "SCRAM-SHA-256", None, False),
        ("no-exposed-password", "CRAM-MD5", None, False),
        ("no-exposed-password", "APOP", None, False),
        ("no-exposed-password", "PLAIN", OLD, False),
        ("tls", "SCRAM-SHA-256", None, True),
        ("tls", "PLAIN", OLD, False),
        ("tls-client-cert", "PLAIN", MODERN, True),
        ("tls-client-cert", "PLAIN", TlsInfo("TLSv1.3", "x", peer="CN=alice", verified=True), False),
    ],
)
def test_what_a_login_needs(login: str, mechanism: str, tls: TlsInfo | None, refused: bool) -> None:
    policy = Policy("p", login=login, mode="enforce")
    assert judged(policy, session(tls=tls), mechanism=mechanism) == ("refused" if refused else "")


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize(
    ("policies", "known", "unknown"),
    [
        ([Policy("a", users=Users(["alice"]), login="tls", mode="enforce")], "refused", ""),
        (
            [
                Policy("a", users=Users(["bob"]), login="tls", mode="warn"),
                Policy("b", login="tls", mode="enforce"),
            ],
            "refused",
            "",
        ),
        ([Policy("a", login="tls", mode="enforce", enforce_from=0.0, share=0.1)], "refused", ""),
        (
            [Policy("a", login="tls", mode="enforce", exceptions=(Spared(users=Users(["carol"])),))],
            "refused",
            "",
        ),
        ([Policy("a", login="tls", mode="enforce")], "refused", "refused"),
        ([Policy("a", login="tls", mode="monitor")], "would-refuse", ""),
        ([Policy("a", login="none", mode="enforce")], "", ""),
    ],
)
def test_the_strictest_decides_on_who_hides(
    policies: list[Policy], known: str, unknown: str, hidden: bool
) -> None:
    record = session()
    concerning = PolicyBook(policies).concerning(record)
    assert rule(concerning, record, "", "PLAIN", NOW, hidden).judgement == (known if hidden else unknown)


def test_tls_in_front_is_tls_and_a_trusted_network_exposes_no_password() -> None:
    front, trusted = session(), session()
    front.tls_in_front, trusted.trusted_network = True, True
    assert judged(Policy("p", login="tls", mode="enforce"), front) == ""
    assert judged(Policy("p", login="tls", mode="enforce"), trusted) == "refused"
    assert judged(Policy("p", login="no-exposed-password", mode="enforce"), trusted) == ""


@pytest.mark.parametrize(
    ("policy", "tls", "need"),
    [
        (Policy("p", min_version="TLSv1.2", mode="enforce"), OLD, Need.TLS_VERSION),
        (Policy("p", min_version="TLSv1.2", mode="enforce"), MODERN, None),
        (Policy("p", min_version="TLSv1.2", mode="enforce"), None, None),
        (
            Policy("p", ciphers=frozenset({"GOOD"}), mode="enforce"),
            TlsInfo("TLSv1.2", "BAD"),
            Need.TLS_VERSION,
        ),
        (Policy("p", ciphers=frozenset({"GOOD"}), mode="enforce"), TlsInfo("TLSv1.2", "GOOD"), None),
        (Policy("p", ciphers=frozenset({"GOOD"}), mode="enforce"), MODERN, None),
        (Policy("p", mechanisms=frozenset({"SCRAM-SHA-256"}), mode="enforce"), MODERN, Need.MECHANISM),
    ],
)
def test_versions_ciphers_and_mechanisms(policy: Policy, tls: TlsInfo | None, need: Need | None) -> None:
    record = session(tls=tls)
    ruling = rule([policy], record, "alice", "PLAIN", NOW)
    assert (ruling.need if ruling.refused else None) == need


def test_the_first_that_applies_counts() -> None:
    book = PolicyBook(
        [
            Policy("pop3", protocols=frozenset({"pop3"}), login="tls", mode="enforce"),
            Policy("staff", users=Users(["*@staff.example"]), login="tls", mode="enforce"),
            Policy("net", networks=NET, login="tls", mode="warn"),
            Policy("rest", listeners=frozenset({"imap"})),
        ]
    )

    def applied(record: SessionRecord, user: str) -> tuple[str, str]:
        ruling = rule(book.concerning(record), record, user, "PLAIN", NOW)
        return ruling.policy, ruling.judgement

    assert applied(session(protocol="pop3"), "x") == ("pop3", "refused")
    assert applied(session(), "Bob@Staff.Example") == ("staff", "refused")
    assert applied(session(), "bob") == ("net", "warned")
    assert applied(session("::ffff:192.0.2.9"), "bob") == ("net", "warned")
    assert applied(session("198.51.100.1"), "bob") == ("rest", "")
    assert applied(session("198.51.100.1", listener="other"), "bob") == ("", "")
    assert applied(session("unix"), "bob") == ("rest", "")


def test_before_the_user_is_known_only_what_all_are_refused_is_refused() -> None:
    strict = Policy("strict", login="tls", mode="enforce")
    some = Policy("some", users=Users(["a*"]), login="tls", mode="enforce")
    lax = Policy("lax")
    record = session()
    for policies, refused in (
        ([strict], True),
        ([some, strict], True),
        ([some, lax], False),
        ([some], False),
        ([], False),
    ):
        assert rule(PolicyBook(policies).concerning(record), record, "", "PLAIN", NOW).refused is refused


def test_modes_and_dates() -> None:
    def mode(**options: object) -> str:
        return judged(Policy("p", login="tls", **options), session())  # type: ignore[arg-type]

    assert mode(mode="monitor") == "would-refuse"
    assert mode(mode="warn") == "warned"
    assert mode(mode="enforce") == "refused"
    assert mode(mode="warn", enforce_from=NOW + 1) == "warned"
    assert mode(mode="enforce", enforce_from=NOW + 1) == "would-refuse"
    assert mode(mode="warn", enforce_from=NOW) == "refused"
    assert mode(mode="warn", enforce_from=NOW, share=0.0) == "warned"


def test_exceptions_end() -> None:
    def spared(*exceptions: Spared, user: str = "scanner") -> str:
        return judged(Policy("p", login="tls", mode="enforce", exceptions=exceptions), session(), user)

    assert spared(Spared(Users(["scanner"]))) == ""
    assert spared(Spared(Users(["scanner"])), user="alice") == "refused"
    assert spared(Spared(Users(["scanner"]), until=NOW + 1)) == ""
    assert spared(Spared(Users(["scanner"]), until=NOW)) == "refused"
    assert spared(Spared(networks=NET)) == ""
    assert spared(Spared(networks=(ipaddress.ip_network("10.0.0.0/8"),))) == "refused"
    # It may turn out to be the scanner: the login must be possible until the name is known.
    assert spared(Spared(Users(["scanner"])), user="") == ""


@given(
    st.lists(st.text(min_size=1), min_size=1, max_size=30, unique_by=normalised),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_a_share_that_grows_keeps_who_is_in_it(users: list[str], one: float, other: float) -> None:
    small, large = sorted((one, other))

    def chosen(share: float) -> set[str]:
        policy = Policy("p", login="tls", mode="monitor", enforce_from=0.0, share=share)
        return {user for user in users if judged(policy, session(), user) == "refused"}

    assert chosen(small) <= chosen(large)
    assert chosen(1.0) == set(users)
    assert not {user for user in chosen(0.0) if normalised(user)}


def test_a_share_is_about_as_large_as_it_says() -> None:
    policy = Policy("p", login="tls", mode="monitor", enforce_from=0.0, share=0.25)
    refused = sum(judged(policy, session(), f"user{number}") == "refused" for number in range(4000))
    assert 850 < refused < 1150


def test_a_share_of_networks_is_known_before_the_user_is() -> None:
    policy = Policy("p", login="tls", mode="monitor", enforce_from=0.0, share=0.5, share_by="network")
    seen = set()
    for number in range(40):
        record = session(f"10.0.{number}.1")
        neighbour = session(f"10.0.{number}.99")
        before = rule([policy], record, "", "PLAIN", NOW).refused
        assert before == (judged(policy, record) == "refused") == (judged(policy, neighbour) == "refused")
        seen.add(before)
    assert seen == {True, False}


def test_names_and_networks_in_one_form() -> None:
    assert normalised(" Alice@Example.ORG. ") == "alice@example.org"
    assert normalised("ﬀ") == "ff"
    assert network_of(ipaddress.ip_address("192.0.2.77")) == "192.0.2.0/24"
    for written in ("::ffff:192.0.2.77", "::ffff:c000:24d", "0:0:0:0:0:ffff:192.0.2.77"):
        mapped = parsed(written)
        assert mapped is not None and network_of(mapped) == "192.0.2.0/24"
        assert plain_address(written) == "192.0.2.77"
    for written in ("192.0.2.77", "2001:db8::1", "unix:/run/x", "::1"):
        assert plain_address(written) == written
    assert network_of(ipaddress.ip_address("2001:db8::1")) == "2001:db8::/64"
