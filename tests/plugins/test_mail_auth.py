"""Mail that is verified, and mail that is signed: with a name server, and another implementation."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dkim
import pytest
from gateway.plugins.footer import Footer
from gateway.plugins.mail_auth import MailAuth
from hypothesis import given, settings
from pydantic import ValidationError

from gateway.core.facts import PluginRan
from gateway.core.outcome import Action
from gateway.core.record import SessionRecord
from gateway.core.steps import CLIENT, BodyStart, Envelope, Stage
from gateway.inspection.base import Plugin
from gateway.inspection.loader import PluginSpec, check_plugins, load_plugins
from gateway.inspection.mailauth import dmarc
from gateway.inspection.parts import parse
from gateway.inspection.pipeline import Judgement, Pipeline
from gateway.plugin import DkimKey
from tests.inspection.samples import ALTERNATIVE
from tests.inspection.support import AsyncioRunner, loaded, run
from tests.inspection.test_mailauth import ED_KEY, MAIL, RSA_KEY, dkimpy_sign, pem, record, sealed
from tests.inspection.test_parts import soups
from tests.plugins.pages import PAGES
from tests.support.dns import NameServer

HOST = "gate.example.org"


@pytest.fixture(scope="module")
def server() -> Iterator[NameServer]:
    with NameServer() as running:
        running.txt("example.org", "v=spf1 ip4:192.0.2.0/24 -all")
        running.txt("_dmarc.example.org", "v=DMARC1; p=reject")
        running.txt("s1._domainkey.example.org", record(RSA_KEY))
        running.txt("s2._domainkey.example.org", record(ED_KEY))
        running.txt("quarantine.example", "v=spf1 -all")
        running.txt("_dmarc.quarantine.example", "v=DMARC1; p=quarantine")
        running.txt("_dmarc.part.example", "v=DMARC1; p=reject; pct=0")
        running.set("_dmarc.broken.example", "TXT", "SERVFAIL")
        yield running


@pytest.fixture
def keys(tmp_path: Path) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for selector, key in (("s1", RSA_KEY), ("s2", ED_KEY)):
        path = tmp_path / f"{selector}.pem"
        path.write_bytes(pem(key))
        path.chmod(0o600)
        made.append({"domain": "example.org", "selector": selector, "file": str(path)})
    return made


def judged(
    message: bytes,
    *plugins: Plugin,
    stage: Stage = Stage.DATA,
    path: str = "alice@example.org",
    address: str = "192.0.2.7",
    parameters: dict[str, str] | None = None,
    protocol: str = "smtp",
    **session: Any,
) -> Judgement:
    everywhere = frozenset(Stage)
    tables = [loaded(one, f"p{n}", stages=everywhere) for n, one in enumerate(plugins)]
    pipeline = Pipeline(tables, AsyncioRunner(), hostname=HOST)
    pipeline.start()
    envelope = Envelope(path, ["bob@example.net"], parameters or {}) if stage is Stage.DATA else None
    begun = BodyStart(CLIENT, stage, held=True, envelope=envelope)
    who = SessionRecord("abcdefghijkl", protocol, "mx", address, 1024, client_name="c.example.org", **session)
    return run(pipeline.judge(message, begun, who))


def tagged(message: bytes, server: NameServer, **more: Any) -> tuple[bytes, PluginRan]:
    """Return the message as it goes on, and the fact of the run."""
    options = more.pop("options", {})
    plugin = MailAuth(MailAuth.Options(resolvers=[server.address], **options))
    found = judged(message, plugin, **more)
    (ran,) = found.runs
    assert ran.result in ("pass", "modify"), ran
    return b"".join(found.chunks) if found.chunks is not None else message, ran


def results(message: bytes) -> str:
    """Return what stands in the only field that is ours, which is on top."""
    first, *others = parse(message).fields
    assert first.name == "authentication-results"
    assert not any(HOST in one.value for one in others if one.name == first.name)
    return " ".join(first.value.split())


# -- verification -------------------------------------------------------------------------


def test_good_mail_is_told_so(server: NameServer):
    signed = dkimpy_sign(MAIL)
    result, ran = tagged(signed, server)
    assert result.endswith(signed)
    told = re.sub(r' header\.b="?[^";\s]+"?', "", results(result))
    assert told == (
        f"{HOST}; spf=pass smtp.mailfrom=alice@example.org; dkim=pass header.d=example.org header.s=s1 "
        "header.a=rsa-sha256; dmarc=pass (p=reject) header.from=example.org"
    )
    begin = re.search(r'header\.b="?([^";]+)', results(result))
    assert begin is not None and b"b=" + begin[1].encode() in signed
    assert ran.facts == {"spf": "pass", "dkim": "pass", "dmarc": "pass"}


def test_what_claims_to_be_ours_is_removed(server: NameServer):
    forged = (
        f"Authentication-Results: {HOST}; dmarc=pass\r\nX: y\r\nauthentication-results:\r\n (x)"
        f" {HOST.upper()} 1; none\r\nAuthentication-Results: other.example; dkim=pass\r\n"
        "Authentication-Results: old.example; dkim=pass\r\n"
        "DKIM-Signature: v=1; d=evil.test; s=x; a=rsa-sha256; "
        "h=from:authentication-results; bh=aa==; b=aa==\r\n"
    ).encode()
    result, ran = tagged(forged + MAIL, server, options={"remove": ["old.example"]})
    names = [one.value.split(";")[0].strip() for one in parse(result).get_all("authentication-results")]
    assert names == [HOST, "other.example"]
    assert results(result).startswith(f"{HOST}; spf=pass")
    assert ran.facts["removed"] == "3 Authentication-Results in our name" and b"X: y\r\n" in result
    assert "skipped_signed" not in ran.facts
    again, ran = tagged(result, server, options={"remove": ["old.example"]})
    assert again == result and ran.result == "pass"


def test_a_message_without_fields_and_one_with_bare_line_feeds(server: NameServer):
    result, _ = tagged(b"\r\nbody\r\n", server)
    assert results(result).startswith(f"{HOST}; spf=pass") and result.endswith(b"\r\n\r\nbody\r\n")
    result, _ = tagged(MAIL.replace(b"\r\n", b"\n"), server)
    assert b"\r" not in result and results(result)


@pytest.mark.parametrize(
    ("options", "action"),
    [
        ({}, Action.MODIFY),
        ({"dmarc_reject": "reject"}, Action.REJECT),
        ({"dmarc_reject": "quarantine"}, Action.QUARANTINE),
        ({"dmarc_quarantine": "reject"}, Action.MODIFY),
        ({"spf_fail": "quarantine"}, Action.QUARANTINE),
        ({"spf_fail": "quarantine", "dmarc_reject": "reject"}, Action.REJECT),
    ],
)
def test_forged_mail_goes_where_the_options_say(server: NameServer, options: dict[str, Any], action: Action):
    plugin = MailAuth(MailAuth.Options(resolvers=[server.address], **options))
    found = judged(MAIL, plugin, address="203.0.113.9")
    assert found.outcome.action is action
    if action is Action.REJECT:
        assert found.outcome.reason == "DMARC policy of example.org is reject, and the message fails it"
    if action is Action.MODIFY:
        assert found.chunks is not None
        assert "spf=fail" in results(message := b"".join(found.chunks)) and "dmarc=fail" in results(message)


def test_policies_are_the_author_s(server: NameServer):
    mail = MAIL.replace(b"alice@example.org", b"alice@quarantine.example")
    plugin = MailAuth(MailAuth.Options(resolvers=[server.address], dmarc_quarantine="quarantine"))
    assert judged(mail, plugin).outcome.action is Action.QUARANTINE
    mail = MAIL.replace(b"alice@example.org", b"alice@part.example")
    strict = MailAuth(
        MailAuth.Options(resolvers=[server.address], dmarc_reject="reject", dmarc_quarantine="quarantine")
    )
    assert judged(mail, strict).outcome.action is Action.QUARANTINE


@pytest.mark.parametrize(
    ("author", "wanted"),
    [
        ("a@nothing.example, b@example.org", "reject"),
        ("<a@nothing.example>\r\nFrom: <b@example.org>", "reject"),
        ('"a@nothing.example" <b@example.org>', "reject"),
        (",".join(f"a@n{n}.example" for n in range(6)) + ", b@example.org", "quarantine"),
        ("nobody", "quarantine"),
        ("", "quarantine"),
        ("a@nothing.example", "modify"),
    ],
)
def test_odd_authors(server: NameServer, author: str, wanted: str):
    mail = MAIL.replace(b"From: Alice  <alice@example.org>", f"From: {author}".encode())
    plugin = MailAuth(
        MailAuth.Options(resolvers=[server.address], dmarc_reject="reject", bad_from="quarantine")
    )
    assert judged(mail, plugin, address="203.0.113.9").outcome.action.value == wanted


def test_what_the_dns_does_not_answer(server: NameServer):
    mail = MAIL.replace(b"alice@example.org", b"alice@broken.example")
    result, ran = tagged(mail, server, options={"dmarc_reject": "reject"})
    assert "dmarc=temperror" in results(result) and ran.facts["dmarc"].startswith("temperror DNS")
    plugin = MailAuth(MailAuth.Options(resolvers=[server.address], on_temperror="fail"))
    found = judged(mail, plugin)
    assert found.outcome.action is Action.DEFER and "the DNS has not answered" in found.runs[0].detail
    dead = MailAuth(MailAuth.Options(resolvers=["127.0.0.1:9"], dns_timeout=0.3, dns_seconds=0.5))
    found = judged(dkimpy_sign(MAIL), dead)
    assert found.chunks is not None
    assert results(b"".join(found.chunks)).count("temperror") == 3


@pytest.mark.parametrize(
    ("session", "why"),
    [({"trusted_network": True}, "trusted network"), ({"protocol": "lmtp"}, "LMTP")],
)
def test_spf_is_not_asked_of_a_relay(server: NameServer, session: dict[str, Any], why: str):
    result, ran = tagged(MAIL, server, address="203.0.113.9", options={"dmarc_reject": "reject"}, **session)
    assert results(result) == (
        f'{HOST}; dkim=none; dmarc=none (p=reject) reason="SPF was not checked" header.from=example.org'
    )
    assert ran.facts["spf_skipped"] == why
    received = b"Received: from x.example (x.example [203.0.113.9]) by in; date\r\n"
    options = {"relays": ["10.0.0.0/8"], "dmarc_reject": "reject"}
    plugin = MailAuth(MailAuth.Options(resolvers=[server.address], **options))
    found = judged(received + MAIL, plugin, address="10.0.0.1", **session)
    assert found.outcome.action is Action.REJECT
    result, ran = tagged(MAIL, server, address="10.0.0.1", options=options, **session)
    assert ran.facts["spf_skipped"] == "no client in the Received fields of the relay"


def test_a_trusted_sealer_is_believed(server: NameServer):
    mail = sealed(MAIL, 2).replace(b"alice@example.org", b"alice@example.org")
    options = {"dmarc_reject": "reject", "trusted_sealers": ["Example.org"]}
    plugin = MailAuth(MailAuth.Options(resolvers=[server.address], **options))
    assert judged(mail, plugin, address="203.0.113.9").outcome.action is Action.REJECT  # it saw no DMARC
    mail = sealed(MAIL, 2, "dmarc=pass header.from=example.org")
    result, ran = tagged(mail, server, address="203.0.113.9", options=options)
    assert "arc=pass (i=2)" in results(result) and "dmarc=fail" in results(result)
    assert ran.facts["dmarc_overridden"] == "passed before a trusted sealer"
    other = MailAuth(MailAuth.Options(resolvers=[server.address], dmarc_reject="reject"))
    assert judged(mail, other, address="203.0.113.9").outcome.action is Action.REJECT


def test_towards_clients_only_signatures_are_checked(server: NameServer):
    signed = dkimpy_sign(MAIL)
    result, ran = tagged(signed, server, stage=Stage.FETCH)
    assert results(result).startswith(f"{HOST}; dkim=pass") and set(ran.facts) == {"dkim"}
    assert tagged(result, server, stage=Stage.RETR)[0] == result
    forged = f"Authentication-Results: {HOST}; dmarc=pass\r\n".encode() + signed
    assert tagged(forged, server, stage=Stage.RETR)[0] == result
    kept, ran = tagged(forged, server, stage=Stage.RETR, options={"towards_clients": "keep"})
    assert kept == forged and ran.result == "pass"
    assert tagged(forged, server, stage=Stage.APPEND)[0] == forged


def test_many_signatures(server: NameServer):
    field = dkimpy_sign(MAIL)[: -len(MAIL)]
    result, ran = tagged(field * 500 + MAIL, server)
    assert results(result).count("dkim=pass") == 10 and ran.facts["dkim_unchecked"] == "490"


# -- signing ------------------------------------------------------------------------------


def signer(keys: list[dict[str, Any]], **options: Any) -> MailAuth:
    return MailAuth(MailAuth.Options(keys=keys, **{"verify": False, **options}))


def signed_by(message: bytes, *plugins: Plugin, user: str = "alice", **more: Any) -> tuple[bytes, PluginRan]:
    found = judged(message, *plugins, user=user, **more)
    assert found.outcome.action in (Action.PASS, Action.MODIFY), found
    return b"".join(found.chunks) if found.chunks is not None else message, found.runs[-1]


def verified(message: bytes, index: int = 0) -> bool:
    """Ask another implementation."""

    def ask(name: bytes, timeout: float = 5) -> bytes:
        key = {b"s1": RSA_KEY, b"s2": ED_KEY}[name.partition(b".")[0]]
        return record(key).encode()

    try:
        return bool(dkim.DKIM(message).verify(idx=index, dnsfunc=ask))
    except dkim.ValidationError:
        return False


def test_submitted_mail_is_signed_with_every_key(keys: list[dict[str, Any]], server: NameServer):
    result, ran = signed_by(MAIL, signer(keys))
    assert ran.facts == {"signed": "s1._domainkey.example.org, s2._domainkey.example.org"}
    assert result.endswith(MAIL) and result.count(b"DKIM-Signature:") == 2
    assert verified(result, 0) and verified(result, 1) and b" l=" not in result
    told, _ = tagged(result, server)
    assert results(told).count("dkim=pass") == 2
    again, ran = signed_by(result, signer(keys))
    assert again == result and ran.facts == {"not_signed": "signed already"}


@pytest.mark.parametrize(
    "message", [MAIL, MAIL.replace(b"\r\n", b"\n"), MAIL.rstrip(), MAIL[: MAIL.find(b"\r\n\r\n") + 2]]
)
def test_the_signature_is_of_what_is_sent(message: bytes, keys: list[dict[str, Any]]):
    result, _ = signed_by(message, signer(keys))
    sent = re.sub(rb"\r\n|\r|\n", b"\r\n", result)
    assert verified(sent if sent.endswith(b"\r\n") else sent + b"\r\n")


def test_what_other_plugins_changed_before_is_signed(keys: list[dict[str, Any]]):
    mail = ALTERNATIVE.replace(b"alice@example.org", b"alice@example.org")
    footer = Footer(Footer.Options(text="-- \nExample Ltd"))
    result, _ = signed_by(mail, footer, signer(keys))
    assert b"Example Ltd" in result and verified(result)
    turned, _ = signed_by(mail, signer(keys), Footer(Footer.Options(text="Example Ltd", dkim="modify")))
    assert b"Example Ltd" in turned
    assert not verified(turned)


def test_fields_can_not_be_added(keys: list[dict[str, Any]]):
    result, _ = signed_by(MAIL, signer(keys))
    for field in (
        b"From: eve@example.org",
        b"Reply-To: e@example.net",
        b"Content-Type: text/html",
        b"Cc: x@y",
    ):
        assert not verified(result.replace(b"Date:", field + b"\r\nDate:"))
    assert verified(result.replace(b"Date:", b"X-Spam: no\r\nDate:"))


def test_an_earlier_signature_does_not_keep_ours_out(keys: list[dict[str, Any]]):
    names = b":".join([b"from", b"to", b"cc", b"subject", b"dkim-signature", b"date", b"reply-to"])
    earlier = b"DKIM-Signature: v=1; a=rsa-sha256; d=x.test; s=y; h=" + names + b"; bh=aa==; b=aa==\r\n"
    result, ran = signed_by(earlier + MAIL, signer(keys, edit_signed=True))
    assert verified(result) and "skipped_signed" not in ran.facts
    result, ran = signed_by(earlier.replace(b"dkim-signature:", b"") + MAIL, signer(keys, edit_signed=False))
    assert verified(result) and "skipped_signed" not in ran.facts


@pytest.mark.parametrize(
    ("change", "more", "why"),
    [
        ((b"alice@example.org", b"alice@example.net"), {}, "no key for example.net"),
        ((b"alice@example.org", b"alice@sub.example.org"), {}, "no key for sub.example.org"),
        ((b"From: Alice", b"From: x@y.test\r\nFrom: Alice"), {}, "not one From field"),
        ((b"From: Alice", b"From: x@y.test, Alice"), {}, "not one domain in From"),
        ((b"<alice@example.org>", b""), {}, "not one domain in From"),
        ((b"From:", b"X-From:"), {}, "not one From field"),
        ((b"dot", b"d\0t"), {}, "NUL in the message, which servers change"),
        ((b"", b""), {"parameters": {"BODY": "binarymime"}}, "BINARYMIME, which servers change"),
    ],
)
def test_what_is_not_signed(
    change: tuple[bytes, bytes], more: dict[str, Any], why: str, keys: list[dict[str, Any]]
):
    message = MAIL.replace(*change, 1) if change[0] else MAIL
    result, ran = signed_by(message, signer(keys), **more)
    assert result == message and ran.facts == {"not_signed": why}


def test_domains_and_users(keys: list[dict[str, Any]]):
    sub = MAIL.replace(b"alice@example.org", b"alice@A.b.example.org")
    result, _ = signed_by(sub, signer(keys, domains={"*.example.org": "example.org"}))
    assert b"d=example.org;" in result and verified(result)
    keys = [{**key, "users": ["*@example.org", "alice"]} for key in keys[:1]]
    for user, good in (("alice", True), ("Bob@Example.org", True), ("bob", False), ("x@example.net", False)):
        _, ran = signed_by(MAIL, signer(keys), user=user)
        assert ("signed" in ran.facts) is good


def test_whose_mail_is_signed(keys: list[dict[str, Any]]):
    for mode, session, good in (
        ("login", {"user": "alice"}, True),
        ("login", {"user": "", "trusted_network": True}, False),
        ("trusted", {"user": "", "trusted_network": True}, True),
        ("trusted", {"user": ""}, False),
        ("all", {"user": ""}, True),
    ):
        _, ran = signed_by(MAIL, signer(keys, sign=mode), **session)  # type: ignore[arg-type]
        assert ("signed" in ran.facts) is good
    _, ran = signed_by(MAIL, signer(keys), stage=Stage.APPEND)
    assert not ran.facts


def test_a_forged_result_is_removed_from_submitted_mail(keys: list[dict[str, Any]]):
    forged = f"Authentication-Results: {HOST}; dmarc=pass\r\n".encode()
    result, ran = signed_by(forged + MAIL, signer(keys))
    assert forged not in result and verified(result)
    assert set(ran.facts) == {"signed", "removed"}
    result, _ = signed_by(b"X: y\r\n" + forged + MAIL, signer(keys))
    assert forged not in result and b"X: y\r\n" in result and verified(result)


def test_signatures_expire(keys: list[dict[str, Any]]):
    result, _ = signed_by(MAIL, signer(keys[:1], expire_days=7))
    times = re.search(rb"t=(\d+); x=(\d+);", result)
    assert times is not None and int(times[2]) - int(times[1]) == 7 * 86400 and verified(result)


@given(message=soups)
@settings(max_examples=150, deadline=None)
def test_any_octets_are_verified(server: NameServer, message: bytes):
    found = judged(message, MailAuth(MailAuth.Options(resolvers=[server.address])))
    assert found.chunks is not None
    whole = b"".join(found.chunks)
    assert whole.endswith(message[parse(message).body_start :]) and results(whole)


# -- options and the page -----------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"resolvers": ["localhost"]},
        {"authserv_id": "a b"},
        {"headers": ["to"]},
        {"oversign": ["from", "received"]},
        {"headers": ["from", "ARC-Seal"]},
        {"dmarc_reject": "maybe"},
        {"max_signatures": 0},
        {"keys": [{"domain": "a b", "selector": "x", "file": "y"}]},
        {"keys": [{"domain": "example.org", "selector": "x"}]},
        {"relays": ["host.example"]},
        {"other": 1},
    ],
)
def test_options_that_are_refused(options: dict[str, Any]):
    with pytest.raises(ValidationError):
        MailAuth.Options(**options)


def test_what_can_not_be_used_is_an_error_of_the_configuration(keys: list[dict[str, Any]], tmp_path: Path):
    for options, words in (
        ({"verify": False}, "it would do nothing"),
        ({"keys": [{**keys[0], "file": str(tmp_path / "none.pem")}]}, "none.pem can't be read"),
        ({"keys": keys, "domains": {"a.example": "b.example"}}, 'there is no key of "b.example"'),
        ({"keys": keys, "domains": {"*.example.net": "example.org"}}, 'says nothing of "*.example.net"'),
    ):
        (error,) = check_plugins([PluginSpec("auth", "mail_auth", options=options)])
        assert words in error.message, error
    Path(keys[0]["file"]).chmod(0o644)
    (error,) = check_plugins([PluginSpec("auth", "mail_auth", options={"keys": keys})])
    assert "can be read or changed by everybody" in error.message
    assert not check_plugins([PluginSpec("auth", "mail_auth", options={"keys": keys, "unsafe_keys": True})])


def test_it_runs_in_a_process_of_its_own(keys: list[dict[str, Any]]):
    spec = PluginSpec("sign", "mail_auth", isolation="process", options={"verify": False, "keys": keys})
    pipeline = Pipeline(load_plugins([spec]), AsyncioRunner(), hostname=HOST)
    pipeline.start()
    try:
        begun = BodyStart(
            CLIENT, Stage.DATA, held=True, envelope=Envelope("a@example.org", ["b@example.net"])
        )
        who = SessionRecord("abcdefghijkl", "smtp", "mx", "192.0.2.7", 1024, user="alice")
        found = run(pipeline.judge(MAIL, begun, who))
        assert found.chunks is not None and verified(b"".join(found.chunks))
    finally:
        pipeline.stop()


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch):
    for module in ("dns.nameserver", "publicsuffixlist"):
        with monkeypatch.context() as context:
            context.setitem(sys.modules, module, None)
            dmarc._suffixes.cache_clear()
            (error,) = check_plugins([PluginSpec("auth", "mail_auth")])
            assert error.message.endswith("install mailgate[mailauth]")
    dmarc._suffixes.cache_clear()


def test_the_page_is_true(keys: list[dict[str, Any]]):
    text = (PAGES / "mail_auth.md").read_text()
    (example,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    for table in tomllib.loads(example.replace("/etc/mailgate/dkim/2026a.pem", keys[0]["file"]))["plugins"]:
        assert check_plugins([PluginSpec(**table)]) == []
    named = set(re.findall(r"`(\w+)`", text))
    assert not (set(MailAuth.Options.model_fields) | set(DkimKey.model_fields)) - named
