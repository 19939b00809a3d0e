"""The banner: on what comes from outside, once, where readers see it, and every other octet kept."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from gateway.plugins.external_banner import ExternalBanner
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from selectolax.lexbor import LexborHTMLParser

from gateway.core.facts import PluginRan
from gateway.core.record import SessionRecord
from gateway.core.steps import Envelope, Stage
from gateway.inspection.parts import Part, parse
from gateway.inspection.pipeline import Pipeline
from tests.inspection.samples import (
    ALTERNATIVE,
    DKIM,
    ENCRYPTED,
    INLINE_PGP,
    MIXED,
    PKCS7,
    PLAIN,
    SIGNED,
    WELL_FORMED,
    crlf,
)
from tests.inspection.support import AsyncioRunner, loaded, run, start
from tests.inspection.test_parts import soups

TEXT = "Caution: this comes from outside."
OUTSIDE = SessionRecord("s", "smtp", "mx", "198.51.100.7", 1024)


def marked(
    message: bytes,
    sender: str | None = "eve@outside.example",
    stage: Stage = Stage.DATA,
    record: SessionRecord = OUTSIDE,
    **options: Any,
) -> tuple[bytes, PluginRan]:
    given = {"internal_domains": ["example.org"], "text": TEXT, **options}
    pipeline = Pipeline(
        [loaded(ExternalBanner(ExternalBanner.Options(**given)), stages={stage})], AsyncioRunner()
    )
    began = start(stage)
    began.envelope = Envelope(sender, ["bob@example.org"]) if sender is not None else None
    judgement = run(pipeline.judge(message, began, record))
    (ran,) = judgement.runs
    assert ran.result in ("pass", "modify"), ran
    return b"".join(judgement.chunks) if judgement.chunks is not None else message, ran


def leaves(message: bytes) -> list[Part]:
    return [part for part in parse(message).walk() if not part.children]


def sent(sender: str = "eve@outside.example", more: str = "") -> bytes:
    return crlf(f"From: {sender}\nSubject: hello\n{more}\nHello.\n")


def html_mail(text: str, charset: str = "utf-8", encoding: str = "8bit") -> bytes:
    head = f"Content-Type: text/html; charset={charset}\nContent-Transfer-Encoding: {encoding}\n\n"
    return crlf(head) + text.encode(charset)


# -- where it goes ---------------------------------------------------------------


def test_plain_text_gets_it_at_its_top_and_nothing_else_changes():
    result, ran = marked(PLAIN)
    assert result == PLAIN.replace(b"Hello, Bob", TEXT.encode() + b"\r\n\r\nHello, Bob")
    assert ran.facts == {"origin": "external"}


def test_both_alternatives_get_it_and_nothing_else_changes():
    result, _ = marked(ALTERNATIVE)
    plain, rich = leaves(result)
    assert plain.text() == f"{TEXT}\r\n\r\nGrüße"
    assert re.search(rf"<BODY><div class=[^>]*>{re.escape(TEXT)}</div>\r\n<p>Hello", rich.text())
    before = parse(ALTERNATIVE)
    assert result.startswith(ALTERNATIVE[: before.children[0].body_start])
    behind = ALTERNATIVE.index(b"<p>Hello")
    assert result.endswith(ALTERNATIVE[behind:])


def test_attachments_and_enclosed_messages_are_left_alone():
    result, _ = marked(MIXED)
    assert ["Caution" in part.text() for part in leaves(result)] == [True, True, False, False, False]
    assert result.endswith(MIXED[parse(MIXED).children[0].end :])


@pytest.mark.parametrize("charset", ["us-ascii", "utf-8", "iso-8859-1", "iso-2022-jp", "utf-16"])
@pytest.mark.parametrize("encoding", ["quoted-printable", "base64", "8bit"])
@pytest.mark.parametrize("kind", ["plain", "html"])
def test_charsets_and_encodings(charset: str, encoding: str, kind: str):
    import base64
    import quopri

    if charset == "utf-16" and encoding == "8bit":
        return
    text = "Hello.\r\n" * 30
    body = text.encode(charset)
    if encoding == "base64":
        body = base64.encodebytes(body).replace(b"\n", b"\r\n")
    elif encoding == "quoted-printable":
        body = quopri.encodestring(body)
    head = f"Content-Type: text/{kind}; charset={charset}\nContent-Transfer-Encoding: {encoding}\n\n"
    message = crlf(head) + body
    wanted = "Vorsicht: von au\u00dferhalb \u20ac"
    once, ran = marked(message, text=wanted)
    assert "skipped_part" not in ran.facts
    found = html.unescape(parse(once).text())
    assert wanted in found and found.endswith(text)
    twice, ran = marked(once, text=wanted)
    assert twice == once and ran.facts["already_there"] == f"text/{kind}"


def test_flowed_text_keeps_the_lines_apart():
    message = crlf("Content-Type: text/plain; format=flowed\n\nHello. \n")
    result, _ = marked(message, text="one \n> two")
    assert result.endswith(b"\r\n\r\none\r\n > two\r\n\r\nHello. \r\n")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<html><body>", "x"),
        ("<HTML><head><title>a <body> b</title></head>\r\n<BODY class='a>b' bgcolor=\"#fff\">", "x"),
        ("<!doctype html><html><head><style>a:after{content:'<body>'}</style></head><body\r\nx>", "y"),
        ("<!-- <body> --><html><body>", "x"),
        ("<!--><body>", "x"),
        ("<!--[if mso]><body><![endif]--><body id=a/>", "x"),
        ("<!--[if !mso]><!--><body>", "x"),
        ("<?xml version='1.0'?><html><head><meta charset=utf-8><link rel=x></head><body>", "x"),
        ("<script>'<body>'</script><body>", "x"),
        ("", "<p>no body tag</p>"),
        ("", "text <body>"),
        ("<html><head></head>", "<div>x</div><body>"),
        ("", "<!-- <body> never closed"),
        ("", "<title><body>never closed"),
        ("", "<body never closed"),
        ("", "<script><!--<script></script><body>--></script><body>x"),
        ("<html>", "<noscript><body></noscript>x"),
        ("<html>", "<body=a>x"),
        ('<body a=">">', "<p>"),
        ("<body a=b'>", "<p>'>"),
        ('<body ">', '<p>">'),
        ("\ufeff<html><body>", "x"),
        ("", ""),
    ],
)
def test_html_gets_it_where_its_body_begins(before: str, after: str):
    message = html_mail(before + after)
    result, _ = marked(message)
    place = len(message) - len(after.encode())
    assert result.startswith(message[:place] + b'<div class="mailgate-banner-')
    assert result.endswith(TEXT.encode() + b"</div>\r\n" + message[place:])
    assert marked(result)[0] == result


fragments = st.sampled_from(
    [
        "<!doctype html>",
        "<html>",
        "<html a='>'>",
        "<head>",
        "</head>",
        "<body>",
        '<body class="a>b">',
        "<body x='",
        "</body>",
        "</html>",
        "<!--",
        "-->",
        "<!-->",
        "--!>",
        "<!--[if mso]>",
        "<![endif]>",
        "<title>",
        "</title>",
        "<style>",
        "</style>",
        "<script>",
        "</script>",
        "<p>",
        "text",
        "<meta charset=utf-8>",
        "<link rel=a>",
        "<base href=b>",
        "<noscript>",
        "</noscript>",
        "<?x?>",
        "</x>",
        "</ x>",
        "<",
        ">",
        '"',
        "'",
        "=",
        " ",
        "\n",
        "&amp;",
        "<div",
        "<br>",
        "</br>",
        "<bo",
        "dy>",
        "<template>",
        "<body/>",
        '<body"x>',
        "</title x>",
        "\x00",
    ]
)


@given(st.lists(fragments, max_size=12).map("".join))
@settings(max_examples=500, deadline=None)
def test_a_browser_shows_it_first(text: str):
    result, _ = marked(html_mail(text))
    tree = LexborHTMLParser(parse(result).text())
    assert tree.body is not None
    child = tree.body.child
    while child is not None and (
        child.tag == "-comment" or (child.tag == "-text" and not child.text().strip())
    ):
        child = child.next
    assert child is not None
    assert (child.attributes.get("class") or "").startswith("mailgate-banner-"), result


def test_a_style_sheet_does_not_hide_it():
    result, _ = marked(html_mail("<style>div{display:none}</style><body>x"))
    assert b'style="display:block!important;visibility:visible!important' in result


@pytest.mark.parametrize("kind", ["image/png", "multipart/mixed; boundary=b"])
def test_a_message_without_text_gets_a_part(kind: str):
    inner = "--b\nContent-Type: application/pdf\n\nx\n--b--\n" if "multipart" in kind else "iVBORw0KGgo=\n"
    once, _ = marked(crlf(f"From: eve@outside.example\nMIME-Version: 1.0\nContent-Type: {kind}\n\n{inner}"))
    root = parse(once)
    assert root.content_type == "multipart/mixed"
    assert [part.content_type for part in root.children] == [
        "text/plain",
        "application/pdf" if "multipart" in kind else kind,
    ]
    assert root.children[0].text().strip() == TEXT
    assert marked(once)[0] == once


def test_no_way_of_naming_a_text_keeps_it_out():
    named = crlf("Content-Type: text/html; name=a.html\nContent-Disposition: inline\n\n<p>x</p>\n")
    report = crlf("Content-Type: multipart/report; boundary=b\n\n--b\n\nfailed\n--b--\n")
    for message in (named, report):
        assert TEXT.encode() in marked(message)[0]
    invitation = crlf("Content-Type: text/calendar\n\nBEGIN:VCALENDAR\n")
    result, ran = marked(invitation)
    assert result == invitation and ran.facts["no_text"] == "text/calendar"


def test_own_html():
    result, _ = marked(ALTERNATIVE, html="<b>outside</b>")
    assert "<b>outside</b></div>" in leaves(result)[1].text()


# -- once ------------------------------------------------------------------------


@pytest.mark.parametrize("name", WELL_FORMED)
@pytest.mark.parametrize("signed", ["skip", "subject_only", "wrap", "modify"])
def test_once_is_enough(name: str, signed: str):
    options = {"subject_tag": "[ext]", "field": "X-External", "signed": signed}
    once, _ = marked(WELL_FORMED[name], **options)
    twice, _ = marked(once, **options)
    assert once != WELL_FORMED[name] and twice == once


def test_a_quoted_banner_does_not_count():
    message = crlf(f"Subject: Re: x\n\n> {TEXT}\n> Hello.\n{TEXT}\n")
    assert marked(message)[0] == crlf(f"Subject: Re: x\n\n{TEXT}\n\n> {TEXT}\n> Hello.\n{TEXT}\n")
    once, _ = marked(html_mail("<body><p>x</p>"))
    banner = parse(once).text().partition("<body>")[2].partition("<p>")[0]
    for forged in (f"<blockquote>{banner}</blockquote>", f"<p>x</p>{banner}", f"<!--{banner}-->"):
        assert marked(html_mail(f"<body>{forged}"))[0].count(b"mailgate-banner-") == 2


@given(soups)
@settings(max_examples=200, deadline=None)
def test_any_octets_get_it_once_or_not_at_all(message: bytes):
    marked(message, subject_tag="[ext]", field="X-External")


# -- subject and field -------------------------------------------------------------


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("hello", "[ext] hello"),
        ("Re: [EXT] hello", "Re: [EXT] hello"),
        ("=?utf-8?Q?Gr=C3=BC=C3=9Fe?=", "[ext] Grüße"),
        ("", "[ext]"),
    ],
)
def test_subject_tag(subject: str, expected: str):
    result, _ = marked(crlf(f"Subject: {subject}\n\nx\n"), text="", subject_tag="[ext]")
    assert parse(result).get_all("subject")[0].value == expected
    assert result.endswith(b"\r\n\r\nx\r\n")


def test_a_field_of_the_sender_is_replaced():
    message = sent(more="X-External: no\nx-external: yes\n")
    result, _ = marked(message, text="", field="X-External")
    assert [field.value for field in parse(result).get_all("x-external")] == ["yes"]
    assert marked(result, text="", field="X-External")[0] == result


# -- who is outside ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "sender", "origin"),
    [
        ("a@example.org", "a@example.org", "internal"),
        ("a@EXAMPLE.org", "A <a@mail.example.ORG.>", "internal"),
        ("a@notexample.org", "a@example.org", "external"),
        ("a@example.org", "a@example.org.evil.example", "external"),
        ("", "a@example.org", "internal"),
        ("", "eve@outside.example", "external"),
        ("postmaster", "a@example.org", "external"),
        ("a@example.org", '"a@example.org" <eve@outside.example>', "external"),
        ("a@example.org", '"eve@outside.example" <a@example.org>', "internal"),
        ("a@example.org", "(eve@outside.example) a@example.org (x (y@z))", "internal"),
        ("a@example.org", "a@example.org, eve@outside.example", "external"),
        ("a@example.org", "eve@outside.example, B <b@example.org>", "external"),
        ("a@example.org", "eve@outside.example <a@example.org>", "external"),
        ("a@example.org", '"unclosed <eve@outside.example> a@example.org', "external"),
        ("a@example.org", "=?utf-8?Q?a=40example.org?= <eve@outside.example>", "external"),
        ("a@example.org", "Team: a@example.org, b@example.org;", "internal"),
        ("a@example.org", "no address", "external"),
        ("a@example.org", "<>", "external"),
        ("a@example.org", "a@[192.0.2.1]", "external"),
        ("a@xn--bcher-kva.example", "a@bücher.example", "internal"),
    ],
)
def test_the_sender_is_outside_if_either_address_is(path: str, sender: str, origin: str):
    domains = ["Example.org", "bücher.example"]
    assert marked(sent(sender), path, internal_domains=domains)[1].facts["origin"] == origin


def test_every_from_field_counts():
    message = sent("a@example.org", "From: eve@outside.example\n")
    assert marked(message, "a@example.org")[1].facts["origin"] == "external"
    assert marked(crlf("Subject: x\n\nx\n"), "a@example.org")[1].facts["origin"] == "internal"


@pytest.mark.parametrize(
    ("facts", "options", "origin"),
    [
        ({"user": "alice"}, {}, "internal"),
        ({"trusted_network": True}, {}, "internal"),
        ({"user": "alice"}, {"trusted": ["network"]}, "external"),
        ({"trusted_network": True}, {"trusted": ["login"]}, "external"),
        ({}, {"trusted_networks": ["198.51.100.0/24"]}, "internal"),
        ({"client_address": "::ffff:198.51.100.9"}, {"trusted_networks": ["198.51.100.0/24"]}, "internal"),
        ({"client_address": "2001:db8::1%eth0"}, {"trusted_networks": ["2001:db8::/32"]}, "internal"),
        ({"client_address": "203.0.113.1"}, {"trusted_networks": ["198.51.100.0/24"]}, "external"),
        ({"client_address": "unix"}, {"trusted_networks": ["198.51.100.0/24"]}, "external"),
    ],
)
def test_who_is_trusted_is_inside(facts: dict[str, Any], options: dict[str, Any], origin: str):
    given = {"id": "s", "protocol": "smtp", "listener": "mx", "client_port": 1}
    record = SessionRecord(**{**given, "client_address": "198.51.100.7", **facts})
    assert marked(sent(), record=record, **options)[1].facts["origin"] == origin


def test_a_reader_who_has_logged_in_says_nothing_of_the_sender():
    record = SessionRecord("s", "imap", "imap", "192.0.2.7", 1, user="bob", trusted_network=True)
    for message, origin in (
        (sent(), "external"),
        (sent("a@example.org"), "internal"),
        (sent("a@example.org", "Return-Path: <eve@outside.example>\n"), "external"),
        (sent("a@example.org", "Return-Path: <>\n"), "internal"),
    ):
        assert marked(message, None, Stage.RETR, record)[1].facts["origin"] == origin


def test_forged_senders_get_a_warning_of_their_own():
    forged = {"text": "Not from us!", "subject_tag": "[forged?]"}
    message = sent("Boss <boss@example.org>")
    for path in ("boss@example.org", "eve@outside.example", ""):
        result, ran = marked(message, path, forged=forged)
        assert ran.facts["origin"] == "forged"
        assert b"Subject: [forged?] hello\r\n" in result and b"\r\n\r\nNot from us!\r\n\r\nHello" in result
    assert marked(sent(), forged=forged)[1].facts["origin"] == "external"
    record = SessionRecord("s", "smtp", "mx", "192.0.2.7", 1, user="boss")
    assert marked(message, record=record, forged=forged)[1].facts["origin"] == "internal"
    assert marked(message, "boss@example.org")[1].facts["origin"] == "internal"


# -- signed mail -----------------------------------------------------------------

COVERED = {
    "multipart/signed": SIGNED,
    "dkim": DKIM,
    "multipart/encrypted": ENCRYPTED,
    "pkcs7-mime": PKCS7,
    "inline-pgp": INLINE_PGP,
}


@pytest.mark.parametrize("kind", COVERED)
def test_signed_messages_are_left_alone_and_it_is_noted(kind: str):
    message = COVERED[kind]
    result, ran = marked(message, subject_tag="[ext]")
    assert result == message
    assert ran.facts == {"origin": "external", "skipped_signed": kind}
    result, _ = marked(message, subject_tag="[ext]", field="X-External")
    assert result.replace(b"X-External: yes\r\n", b"") == message != result


@pytest.mark.parametrize("kind", COVERED)
def test_only_the_subject_of_a_signed_message(kind: str):
    message = COVERED[kind]
    result, ran = marked(message, subject_tag="[ext]", signed="subject_only")
    assert parse(result).raw_body == parse(message).raw_body
    assert b"Subject: [ext]" in result and ran.facts["subject_only_signed"] == kind


@pytest.mark.parametrize("kind", COVERED)
def test_a_signed_message_can_be_enclosed(kind: str):
    message = COVERED[kind]
    result, ran = marked(message, subject_tag="[ext]", field="X-External", signed="wrap")
    root = parse(result)
    notice, enclosed = root.children
    assert notice.text().strip() == TEXT and enclosed.raw_body.rstrip() == message.rstrip()
    assert [one.value for one in root.get_all("x-external")] == ["yes"]
    assert root.get_all("subject")[0].value.startswith("[ext]")
    assert ran.facts["wrapped_signed"] == kind


def test_a_signed_message_can_be_modified():
    assert b"\r\n\r\n" + TEXT.encode() + b"\r\n\r\nsigned text" in marked(SIGNED, signed="modify")[0]
    for options in ({"dkim": "modify"}, {"signed": "modify"}, {"edit_signed": True}):
        result, ran = marked(DKIM, subject_tag="[ext]", **options)
        assert b"Subject: [ext] hello" in result and TEXT.encode() in result
        assert ran.facts["modified_signed"] == "dkim"


def test_dkim_has_a_choice_of_its_own():
    both = DKIM.replace(b"\r\n\r\n", b"\r\n" + SIGNED, 1)
    result, ran = marked(both, dkim="modify")
    assert result == both and ran.facts["skipped_signed"] == "multipart/signed"


# -- limits ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "hostile",
    [
        "<!--",
        "<meta>",
        "<title>",
        "<body a='",
        "<",
        "</x>",
        "<script>",
        '<body a="b" ',
        " ",
        "<!-->",
        '"<',
        "<a " * 3,
    ],
)
def test_hostile_html_takes_linear_time(hostile: str):
    message = html_mail(hostile * (300_000 // len(hostile)))
    marked(message)


@pytest.mark.parametrize("hostile", ['"', "\\", "(", "<", "@", ",", ":", '"\\', "a:", "<a@b>", "()"])
def test_a_hostile_from_takes_linear_time(hostile: str):
    message = sent(hostile * (200_000 // len(hostile)))
    assert marked(message)[1].facts["origin"] == "external"


@pytest.mark.parametrize(
    "options",
    [
        {"internal_domains": []},
        {"internal_domains": ["@example.org"]},
        {"internal_domains": ["*.example.org"]},
        {"internal_domains": ["."]},
        {"text": ""},
        {"text": "", "html": "<b>x</b>"},
        {"text": "", "subject_tag": "[ext]", "signed": "wrap"},
        {"field": "Subject"},
        {"field": "X: y"},
        {"trusted": ["everybody"]},
        {"trusted_networks": ["192.0.2.1/24"]},
        {"signed": "other"},
        {"forged": {"other": 1}},
        {"signed": "wrap", "forged": {"subject_tag": "x"}},
        {"signed": "modify", "edit_signed": False},
        {"unknown": 1},
    ],
)
def test_options_that_are_refused(options: dict[str, Any]):
    with pytest.raises(ValidationError):
        ExternalBanner.Options(**{"internal_domains": ["example.org"], "text": TEXT, **options})
