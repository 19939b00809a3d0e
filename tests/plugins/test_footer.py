"""The footer: in the right parts, once, and nowhere else."""

from __future__ import annotations

import base64
import email
from typing import Any

import pytest
from gateway.plugins.footer import Footer
from hypothesis import given, settings
from pydantic import ValidationError
from selectolax.lexbor import LexborHTMLParser

from gateway.core.facts import PluginRan
from gateway.core.record import SessionRecord
from gateway.core.steps import CLIENT, BodyStart, Stage
from gateway.inspection.html_body import _end_by_tokens, body_ends
from gateway.inspection.message import Content
from gateway.inspection.parts import Part, parse
from gateway.plugin import Message, Modify, Pass
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
from tests.inspection.support import judge, loaded
from tests.inspection.test_html import soups as html_soups
from tests.inspection.test_parts import soups

TEXT = "-- \nExample Ltd <info@example.org>"
HTML_INNER = "-- <br>\nExample Ltd &lt;info@example.org&gt;"


def footed(message: bytes, text: str = TEXT, **options: Any) -> tuple[bytes, PluginRan]:
    judgement = judge(message, loaded(Footer(Footer.Options(text=text, **options))))
    (ran,) = judgement.runs
    assert ran.result in ("pass", "modify"), ran
    return b"".join(judgement.chunks) if judgement.chunks is not None else message, ran


def leaves(message: bytes) -> list[Part]:
    return [part for part in parse(message).walk() if not part.children]


def test_plain_text_gets_it_at_its_end():
    result, _ = footed(PLAIN)
    assert result == PLAIN + b"-- \r\nExample Ltd <info@example.org>\r\n"


def test_both_alternatives_get_it_and_nothing_else_changes():
    result, _ = footed(ALTERNATIVE)
    plain, html = leaves(result)
    assert plain.text() == "Grüße\r\n-- \r\nExample Ltd <info@example.org>"
    assert HTML_INNER.replace("\n", "\r\n") in html.text()
    assert html.text().endswith("</div>\r\n</BODY></html>")
    before = parse(ALTERNATIVE)
    assert result.startswith(ALTERNATIVE[: before.children[0].end])
    assert result.endswith(ALTERNATIVE[before.children[1].end :])
    other = email.message_from_bytes(result)
    payload = other.get_payload(0).get_payload(decode=True)  # type: ignore[union-attr]
    assert payload.decode() == plain.text()


def test_attachments_and_enclosed_messages_are_left_alone():
    result, _ = footed(MIXED)
    changed = ["Example Ltd" in part.text() for part in leaves(result)]
    assert changed == [True, True, False, False, False]
    start = parse(MIXED).children[0].end
    assert result.endswith(MIXED[start:])


@pytest.mark.parametrize("message", [PLAIN, ALTERNATIVE, MIXED])
def test_once_is_enough(message: bytes):
    for text in (TEXT, "grüß\u20ac\n\u65e5\u672c", "one line"):
        once, _ = footed(message, text)
        twice, ran = footed(once, text)
        assert once != message and twice == once
        assert "already_there" in ran.facts


def test_html_that_a_mail_program_has_moved_about_is_recognised():
    once, _ = footed(crlf("Content-Type: text/html\n\n<p>x</p>\n"))
    again = once.rstrip() + b"<br>\r\n&nbsp;</span ></body></html>\r\n"
    assert footed(again)[0] == again


def html_mail(body: str) -> bytes:
    return crlf(f"Content-Type: text/html\n\n<html><body>{body}</body></html>\n")


def test_an_edited_draft_does_not_collect_footers():
    once, _ = footed(crlf("Subject: draft\n\nHello.\n"))
    edited = once + b"PS: a text below.\r\n"
    result, ran = footed(edited)
    assert result == edited and ran.facts == {"already_there": "text/plain"}
    rewrapped = once.replace(b"-- \r\nExample Ltd <", b"--  \r\n\r\n Example  Ltd\r\n<") + b"PS\r\n"
    assert footed(rewrapped)[0] == rewrapped
    once, _ = footed(html_mail("<p>Hello.</p>"))
    edited = once.replace(b"</body>", b"<p>PS: a text below.</p></body>")
    result, ran = footed(edited)
    assert result == edited and ran.facts == {"already_there": "text/html"}


@pytest.mark.parametrize(
    "quoting",
    [
        "> -- \n> Example Ltd <info@example.org>\n",
        ">-- \n>Example Ltd <info@example.org>\n> \n> more\n",
        "-----Urspr\u00fcngliche Nachricht-----\nFrom: x\n\n-- \nExample Ltd <info@example.org>\nmore\n",
        "-----Original Message-----\nFrom: x\n\n-- \nExample Ltd <info@example.org>\nmore\n",
        "________________________________\n\nVon: x\n\n-- \nExample Ltd <info@example.org>\nmore\n",
        "it says -- Example Ltd <info@example.org>\nmore\n",
        "-- \nExample Ltd <info@example.org> is not at its end\n",
    ],
)
def test_what_a_plain_text_quotes_does_not_count(quoting: str):
    message = crlf(f"Content-Type: text/plain; charset=utf-8\n\nYes.\n\n{quoting}")
    once, _ = footed(message)
    assert once == message + b"-- \r\nExample Ltd <info@example.org>\r\n"
    assert footed(once)[0] == once


@pytest.mark.parametrize(
    "quoting",
    [
        "<blockquote type=cite>{}</blockquote>",
        "<div class=gmail_quote><BLOCKQUOTE>{}<p>x</p></BLOCKQUOTE></div>",
        '<div id="divRplyFwdMsg">From: x</div>{}<p>and below</p>',
        '<div style="border:none;border-top:solid #E1E1E1 1.0pt">From: x</div>{}<p>and below</p>',
    ],
)
def test_what_an_html_text_quotes_does_not_count(quoting: str):
    inner, _ = footed(html_mail(""))
    footer = parse(inner).text().partition("<body>")[2].partition("</body>")[0]
    answer = html_mail("<p>Yes.</p>" + quoting.format(footer))
    once, _ = footed(answer)
    assert once.count(b"mailgate-footer") == 2
    assert footed(once)[0] == once
    above = once.replace(b"<p>Yes.</p>", b"<p>Yes.</p>" + footer.encode())
    assert footed(above)[0] == above


@pytest.mark.parametrize(
    "hostile", ["> " * 400_000, "-- \n" * 300_000, "<blockquote" * 100_000, "-" * 900_000]
)
def test_hostile_texts_take_linear_time(hostile: str):
    for kind in ("plain", "html"):
        message = crlf(f"Content-Type: text/{kind}\n\nExample <info@example.org> mailgate-footer-\n{hostile}")
        footed(message)


def test_special_mailboxes_can_be_left_out():
    start = BodyStart(CLIENT, Stage.APPEND, True, mailbox="Entw&APw-rfe", special_use=frozenset({"\\drafts"}))
    message = Message(Content(PLAIN), start)
    record = SessionRecord("s", "imap", "i", "192.0.2.7", 1)
    options = Footer.Options(text=TEXT, skip_special_use=["\\Drafts", "\\Sent"])
    assert Footer(options).inspect(message, record) == Pass()
    assert message.facts == {"skipped_mailbox": "Entw&APw-rfe"}
    assert isinstance(Footer(Footer.Options(text=TEXT)).inspect(message, record), Modify)


@pytest.mark.parametrize("message", [SIGNED, DKIM, ENCRYPTED, PKCS7, INLINE_PGP])
def test_signed_messages_can_be_enclosed(message: bytes):
    result, ran = footed(message, signed="wrap")
    notice, enclosed = parse(result).children
    assert notice.text().rstrip() == TEXT.replace("\n", "\r\n")
    assert enclosed.raw_body.rstrip() == message.rstrip()
    assert list(ran.facts) == ["wrapped_signed"]
    assert footed(result, signed="wrap")[0] == result


def test_dkim_can_be_left_to_itself():
    assert footed(DKIM, dkim="modify")[0] == DKIM + b"-- \r\nExample Ltd <info@example.org>\r\n"
    both = DKIM.replace(b"\r\n\r\n", b"\r\n" + SIGNED, 1)
    assert parse(both).content_type == "multipart/signed"
    result, ran = footed(both, dkim="modify")
    assert result == both and ran.facts == {"skipped_signed": "multipart/signed"}
    result, ran = footed(both, signed="modify", dkim="skip")
    assert result != both and ran.facts == {"modified_signed": "multipart/signed"}


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (SIGNED, "multipart/signed"),
        (DKIM, "dkim"),
        (ENCRYPTED, "multipart/encrypted"),
        (PKCS7, "pkcs7-mime"),
        (INLINE_PGP, "inline-pgp"),
    ],
)
def test_signed_messages_are_left_alone_and_it_is_noted(message: bytes, kind: str):
    result, ran = footed(message)
    assert result == message
    assert ran.facts == {"skipped_signed": kind} and ran.result == "pass"


def test_unless_the_admin_says_so():
    assert footed(DKIM, edit_signed=True)[0] == DKIM + b"-- \r\nExample Ltd <info@example.org>\r\n"


def test_a_report_gets_none():
    message = crlf(
        "Content-Type: multipart/report; boundary=b; report-type=delivery-status\n\n--b\n\nfailed\n--b--\n"
    )
    assert footed(message)[0] == message


def test_a_text_attachment_alone_gets_none():
    message = crlf("Content-Type: text/plain; name=a.txt\nContent-Disposition: attachment\n\nx\n")
    assert footed(message)[0] == message


@pytest.mark.parametrize("encoding", ["7bit", "8bit", "quoted-printable", "base64"])
@pytest.mark.parametrize("charset", ["us-ascii", "utf-8", "iso-8859-1", "iso-2022-jp"])
def test_encodings_and_charsets(encoding: str, charset: str):
    body = (
        b"Hello.\r\n" if encoding != "base64" else base64.encodebytes(b"Hello.\r\n").replace(b"\n", b"\r\n")
    )
    for kind, end in (("plain", "grüße \u20ac\r\n"), ("html", "</div>\r\n")):
        head = f"MIME-Version: 1.0\r\nContent-Type: text/{kind}; charset={charset}\r\n"
        head += f"Content-Transfer-Encoding: {encoding}\r\n\r\n"
        result, _ = footed(head.encode() + body, "grüße \u20ac")
        assert parse(result).text().startswith("Hello.\r\n") and parse(result).text().endswith(end)
        assert (kind == "plain") or "grüße \u20ac" in html_text(parse(result).text())


def html_text(text: str) -> str:
    import html

    return html.unescape(text)


def test_flowed_text_keeps_the_lines_apart():
    message = crlf("Content-Type: text/plain; format=flowed\n\nHello. \n")
    result, _ = footed(message, "-- \nFrom here \n> there ")
    assert result == message + b"-- \r\n From here\r\n > there\r\n"


def test_a_7bit_html_part_stays_7bit():
    result, _ = footed(ALTERNATIVE, "gr\u00fc\u00dfe")
    assert b">gr&#252;&#223;e</div>\r\n</BODY></html>\r\n--alt--" in result


def test_own_html_and_an_unknown_charset():
    result, _ = footed(ALTERNATIVE, html="<b>Ltd</b>")
    assert "<b>Ltd</b></div>\r\n</BODY>" in leaves(result)[1].text()
    unknown = crlf("Content-Type: text/plain; charset=nosuch\n\nx\n")
    result, ran = footed(unknown)
    assert result == unknown and ran.facts == {"skipped_part": "nosuch"}


def test_a_message_with_bare_line_feeds_keeps_them():
    message = ALTERNATIVE.replace(b"\r\n", b"\n")
    result, _ = footed(message)
    assert result != message and b"\r" not in result


@pytest.mark.parametrize(
    ("before", "behind"),
    [
        ("<p>hi", "</body></html><!-- </body> -->"),
        ("<p>hi", "</BODY ></html>\n"),
        ("<p>hi", "</body><p title='</body>'>"),
        ("<p>hi", "</body><script>'</body>'</script>"),
        ("<p>hi", "</body><![CDATA[</body>"),
        ("<p title='</body>'>hi", ""),
        ('<p title="</body></html>">hi', ""),
        ("<p>hi", "<!-- x"),
        ("<p>hi", "<!-- x</body></html>"),
        ("<p>hi", "<p title='></body></html>"),
        ("<p>hi", "<p title = \">' x</body></html>"),
        ("<p>hi<p title=x </body></html>", ""),
        ("<p>hi", "</body></html><!-- <script>"),
        ("<style>a</style><!-- x --><p title='='>it's \u0130", "</body>"),
    ],
)
def test_html_gets_it_where_it_is_seen(before: str, behind: str):
    message = f"Content-Type: text/html; charset=utf-8\r\n\r\n{before}{behind}".encode()
    result, _ = footed(message)
    assert result.startswith(f"{before}<div class".encode(), message.index(b"\r\n\r\n") + 4)
    assert result.endswith(f"</div>\r\n{behind}".encode()) and footed(result)[0] == result
    shown = LexborHTMLParser(parse(result).text()).css("body > div[class], body > p > div[class]")
    assert len(shown) == 1 or "<p " in before


@given(html_soups)
@settings(max_examples=300, deadline=None)
def test_the_end_is_the_same_however_it_is_found(html: str):
    for text in (html, f"{html}</body>", f"{html}</body></html>"):
        assert body_ends(text) == _end_by_tokens(text)


@given(soups)
@settings(max_examples=200, deadline=None)
def test_any_octets_get_it_once_or_not_at_all(message: bytes):
    once, _ = footed(message)
    assert len(parse(once).fields) >= len(parse(message).fields)
    assert once.startswith(message[: parse(message).start])


@pytest.mark.parametrize("name", WELL_FORMED)
def test_the_structure_stays(name: str):
    result, _ = footed(WELL_FORMED[name], "grüße")
    before, after = list(parse(WELL_FORMED[name]).walk()), list(parse(result).walk())
    assert [part.content_type for part in before] == [part.content_type for part in after]
    assert [part.defects for part in before] == [part.defects for part in after]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"text": ""},
        {"text": " \n"},
        {"text": "x", "html": ""},
        {"text": "x", "other": 1},
        {"text": "x", "signed": "subject_only"},
        {"text": "x", "dkim": "other"},
        {"text": "x", "signed": "modify", "edit_signed": False},
        {"text": "x", "skip_special_use": ["Drafts"]},
    ],
)
def test_options_that_are_refused(options: dict[str, Any]):
    with pytest.raises(ValidationError):
        Footer.Options(**options)
