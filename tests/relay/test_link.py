"""The link, over pipes in memory: outbox, gates, TLS, and every way to end."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.revocation import revocation_lists
from gateway.core.steps import CLIENT, UPSTREAM
from gateway.demo.certificates import make_authority
from gateway.relay.tls import ClientTls, KeyPair, ServerTls, TlsError
from tests.support.memory import Listening, MemoryLink, exchange


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return make_authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def server_tls(authority):
    pairs = [
        authority.issue("one", ["one.example"]),
        authority.issue("two", ["two.example", "*.two.example"]),
    ]
    return ServerTls([KeyPair(p.certificate, p.key) for p in pairs], protocol="imap")


def ca_of(authority) -> Path:
    return Path(authority.certificate)


def pair(server_tls, client_tls, name="one.example", cut=1 << 30):
    """Return two ends with a finished handshake."""
    server_owner, client_owner = Listening(), Listening()
    server, client = MemoryLink(CLIENT, server_owner), MemoryLink(UPSTREAM, client_owner)
    server.start_tls(server_tls.connection())
    client.start_tls(client_tls.connection(name))
    exchange(server, client, cut)
    return server, client, server_owner, client_owner


def test_what_the_pipe_refuses_waits_in_the_outbox():
    owner = Listening()
    link = MemoryLink(CLIENT, owner, room=10)
    link.send(b"0123456789abcdef")
    link.send(b"ghij")
    assert link.outbox == 10 and link.wants == (False, True)
    assert link.carry() == b"0123456789"
    assert link.carry() == b"abcdefghij"
    assert link.outbox == 0 and link.wants == (False, False)
    assert set(owner.names()) == {"moved"}
    assert link.bytes_out == 20


def test_close_flushes_first():
    link = MemoryLink(CLIENT, Listening(), room=4)
    link.send(b"goodbye")
    link.close()
    assert not link.shut
    assert link.carry() == b"good"
    assert link.carry() == b"bye"
    assert link.shut and link.closed


def test_a_lingering_close_hears_the_peer_out():
    """Closing with unread octets would reset the connection, and lose our last words."""
    link = MemoryLink(CLIENT, Listening())
    link.set_reading(True)
    link.send(b"421 bye\r\n")
    link.close(linger=True)
    assert link.half_closed and not link.shut and link.delays
    link.arrive(b"MORE\r\n")
    link.end()
    assert link.shut


def test_nothing_is_sent_behind_close():
    link = MemoryLink(CLIENT, Listening(), room=1)
    link.send(b"ab")
    link.close()
    link.send(b"c")
    assert link.carry() + link.carry() == b"ab"


@pytest.mark.parametrize("cut", [1 << 30, 1, 7])
def test_tls_in_any_cutting(server_tls, authority, cut):
    server, client, heard, said = pair(server_tls, ClientTls(ca=ca_of(authority)), cut=cut)
    assert heard.names() == said.names() == ["secured"]
    info = server.tls_info
    assert info is not None and info.version == "TLSv1.3" and info.sni == "one.example" and info.group
    client.send(b"hello " * 10_000)
    exchange(server, client, max(cut, 7))
    assert heard.data == b"hello " * 10_000
    server.send(b"x" * 100_000)
    exchange(server, client, max(cut, 100))
    assert said.data == b"x" * 100_000
    assert client.bytes_in == 100_000 and server.bytes_in == 60_000


@pytest.mark.parametrize(
    ("name", "served"), [("two.example", "two"), ("a.two.example", "two"), ("other.example", "one")]
)
def test_the_certificate_is_chosen_by_sni(server_tls, name, served):
    _, client, _, _ = pair(server_tls, ClientTls(verify=False), name)
    shown = client.tls_connection.get_peer_certificate(as_cryptography=True)
    assert shown is not None and f"CN={served}" in shown.subject.rfc4514_string()


def test_an_unknown_authority_is_refused(server_tls, tmp_path):
    other = make_authority(tmp_path)
    _, _, _, said = pair(server_tls, ClientTls(ca=ca_of(other)))
    assert ("not secured", "certificate") in said.news


@pytest.mark.parametrize("whose", ["its own", "another's"])
def test_a_certificate_on_a_revocation_list_is_refused(server_tls, authority, whose):
    shown = KeyPair(authority.directory / "one.pem", authority.directory / "one-key.pem")
    other = authority.issue("three", ["three.example"])
    lists = revocation_lists(authority.revoke(shown if whose == "its own" else other))
    _, _, _, said = pair(server_tls, ClientTls(ca=ca_of(authority), crl=lists))
    if whose == "its own":
        assert ("not secured", "certificate") in said.news
        assert said.details == ["the certificate is not trusted: it is revoked"]
    else:
        assert said.names() == ["secured"]


def test_a_list_of_another_authority_says_nothing_good(server_tls, authority, tmp_path):
    """No list of the issuer's: nobody can tell, so nobody is trusted."""
    lists = revocation_lists(make_authority(tmp_path).revoke())
    _, _, _, said = pair(server_tls, ClientTls(ca=ca_of(authority), crl=lists))
    assert said.details == [
        "the certificate is not trusted: the revocation list is signed by another authority"
    ]


def test_a_client_certificate_that_is_revoked(authority):
    mine, theirs = authority.issue("server", ["one.example"]), authority.issue("user", [], client=True)
    server_tls = ServerTls(
        [KeyPair(mine.certificate, mine.key)],
        protocol="imap",
        client_ca=ca_of(authority),
        client_certificate="require",
        client_crl=revocation_lists(authority.revoke(theirs)),
    )
    client_tls = ClientTls(ca=ca_of(authority), pair=KeyPair(theirs.certificate, theirs.key))
    _, _, heard, _ = pair(server_tls, client_tls)
    assert heard.details == ["the certificate is not trusted: it is revoked"]


def test_the_name_is_verified(server_tls, authority):
    client_tls = ClientTls(ca=ca_of(authority))
    _, client, _, _ = pair(server_tls, client_tls, "one.example")
    assert client_tls.problem_with_name(client.tls_connection, "one.example") == ""
    assert client_tls.problem_with_name(client.tls_connection, "else.example")
    assert client_tls.problem_with_name(client.tls_connection, "127.0.0.1")


@pytest.mark.parametrize("octets", [b"EHLO me\r\n", b"GET / HTTP/1.0\r\n\r\n", b"\0" * 20])
def test_plaintext_where_tls_is_due(server_tls, octets):
    owner = Listening()
    link = MemoryLink(CLIENT, owner)
    link.start_tls(server_tls.connection())
    link.arrive(octets)
    assert owner.news == [("not secured", "plaintext")] and owner.data == b""


def test_a_handshake_cut_short(server_tls):
    owner = Listening()
    link = MemoryLink(CLIENT, owner)
    link.start_tls(server_tls.connection())
    link.end(False)
    assert owner.news == [("not secured", "closed")]


def test_an_end_without_close_notify_is_not_clean(server_tls, authority):
    server, client, heard, _ = pair(server_tls, ClientTls(ca=ca_of(authority)))
    server.set_reading(True)
    server.end(False)
    assert heard.news[-1] == ("ended", False)
    server, client, heard, _ = pair(server_tls, ClientTls(ca=ca_of(authority)))
    client.close()
    server.arrive(client.carry())
    assert heard.news[-1] == ("ended", True)


def test_a_foreign_alpn_is_refused(server_tls, authority):
    """ALPACA: a browser led here by somebody else gets an alert."""
    from OpenSSL import SSL

    context = SSL.Context(SSL.TLS_METHOD)
    context.set_alpn_protos([b"h2", b"http/1.1"])
    connection = SSL.Connection(context, None)
    connection.set_connect_state()
    owner = Listening()
    link, client = MemoryLink(CLIENT, owner), MemoryLink(UPSTREAM, Listening())
    link.start_tls(server_tls.connection())
    client.start_tls(connection)
    exchange(link, client)
    assert owner.news == [("not secured", "alpn")]


def test_a_key_that_is_not_the_certificates(authority):
    one, two = authority.issue("a", ["a.example"]), authority.issue("b", ["b.example"])
    with pytest.raises(TlsError, match=r"b-key\.pem: not the key of"):
        ServerTls([KeyPair(one.certificate, two.key)], protocol="smtp")
