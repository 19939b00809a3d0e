"""Privacy: what is kept of addresses and users, and who can turn a pseudonym round."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from gateway.audit.privacy import Privacy, Pseudonyms, SealError, network_of
from gateway.audit.record import LoginRecord, ProgramRecord, PseudonymRecord

from .samples import NOW, event, login

KEY = b"0123456789abcdef" * 2
DAY = 86400


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1::/48"),
        ("::ffff:192.0.2.7", "192.0.2.0/24"),
        ("fe80::1%eth0", "fe80::/48"),
        ("198.51.100.128/25", "198.51.100.0/24"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("", ""),
        ("nonsense", ""),
    ],
)
def test_networks(address: str, network: str) -> None:
    assert network_of(address, 24, 48) == network


def test_addresses_are_cut_wherever_they_stand() -> None:
    privacy = Privacy((24, 48), None)
    (kept,) = privacy(login(client_name="[192.0.2.7]"))
    assert "192.0.2.7" not in repr(kept)
    assert kept.address == kept.network == "192.0.2.0/24" and kept.user == "alice@example.org"
    (kept,) = privacy(event())
    assert "192.0.2.7" not in repr(kept) and "tried 12 passwords" in kept.detail


def test_users_become_pseudonyms_that_the_key_resolves() -> None:
    pseudonyms = Pseudonyms(KEY)
    privacy = Privacy(None, pseudonyms)
    mapping, other, kept = privacy(
        login(tls_client="CN=Alice Example", client_name="pc-of-alice@example.org")
    )
    assert isinstance(other, PseudonymRecord) and isinstance(kept, LoginRecord)
    assert pseudonyms.unseal(other.sealed, kept.tls_client) == "CN=Alice Example"
    assert isinstance(mapping, PseudonymRecord) and isinstance(kept, LoginRecord)
    assert kept.user == kept.user_given == mapping.pseudonym and kept.user.startswith("u-")
    for text in (repr(mapping), repr(kept)):
        assert "alice" not in text.lower()
    assert pseudonyms.unseal(mapping.sealed, mapping.pseudonym) == "alice@example.org"
    assert Pseudonyms(KEY).of("alice@example.org") == kept.user
    stranger = Pseudonyms(b"another key of thirty-two octets")
    assert stranger.of("alice@example.org") != kept.user
    with pytest.raises(SealError, match="not sealed with this key"):
        stranger.unseal(mapping.sealed, mapping.pseudonym)
    with pytest.raises(SealError):
        pseudonyms.unseal(mapping.sealed, "u-another")
    (kept,) = privacy(event())
    assert "alice" not in repr(kept) and kept.user in kept.detail


@pytest.mark.parametrize("user", ["jo", "x", "alice", "a.b+c@example.org", "\\1"])
def test_names_are_hidden_in_any_case_and_length(user: str) -> None:
    privacy = Privacy(None, Pseudonyms(KEY))
    for name in (user, user.upper(), f"[{user}]", f"pc-{user}"):
        *_, kept = privacy(login(user=user, user_given=user, client_name=name))
        left = kept.client_name.replace(kept.user, "")
        assert left in ("", "[]", "pc-"), (name, kept.client_name)
    *_, kept = privacy(login(user="jo", user_given="jo", client_name="joseph"))
    assert kept.client_name == "joseph", "a short name is hidden as a word only"


@pytest.mark.parametrize("written", ["2001:db8:1:2::5", "[IPv6:2001:DB8:1:2::5]", "2001:0db8:1:2:0:0:0:5"])
def test_an_address_is_cut_however_it_is_written(written: str) -> None:
    (kept,) = Privacy((24, 48), None)(login(address="2001:db8:1:2::5", client_name=written))
    assert kept.client_name.strip("[]").removeprefix("IPv6:") == "2001:db8:1::/48"


def test_a_mapping_is_stored_once_a_day_and_again_in_a_new_store() -> None:
    privacy = Privacy(None, Pseudonyms(KEY))
    stored = [len(list(privacy(login(number)))) for number in (0, 1, DAY - 1, DAY, DAY + 1)]
    assert stored == [2, 1, 1, 2, 1]
    privacy.forget()
    assert len(list(privacy(login(DAY + 2)))) == 2


def test_nobody_has_no_pseudonym_and_lengths_tell_little() -> None:
    pseudonyms = Pseudonyms(KEY)
    (kept,) = Privacy(None, pseudonyms)(login(user="", user_given=""))
    assert asdict(kept) == asdict(login(user="", user_given=""))
    assert len(pseudonyms.seal("al", "u-1")) == len(pseudonyms.seal("alice@example.org", "u-2"))
    program = ProgramRecord("", "", "K-9", NOW)
    assert list(Privacy((24, 48), pseudonyms)(program)) == [program]


def test_a_program_is_of_nobody_who_is_known() -> None:
    program = ProgramRecord("alice", "192.0.2.7", "alice's phone at 192.0.2.7", NOW)
    sealed, kept = Privacy((24, 48), Pseudonyms(KEY))(program)
    assert isinstance(kept, ProgramRecord) and kept.user == sealed.pseudonym
    assert kept.address == "192.0.2.0/24"
    assert kept.program == f"{kept.user}'s phone at 192.0.2.0/24"


def test_what_is_sealed_is_never_the_same_twice(tmp_path: Path) -> None:
    pseudonyms = Pseudonyms(KEY)
    assert pseudonyms.seal("alice", "u-1") != pseudonyms.seal("alice", "u-1")
