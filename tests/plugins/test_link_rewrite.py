"""Links through a redirector: which ones, once, signed, and nothing else changed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from gateway.plugins.link_rewrite import LinkRewrite, verify
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from selectolax.lexbor import LexborHTMLParser

from gateway.core.facts import PluginRan
from gateway.inspection.parts import parse
from tests.inspection.samples import DKIM, ENCRYPTED, INLINE_PGP, SIGNED, WELL_FORMED, crlf
from tests.inspection.support import judge, loaded
from tests.inspection.test_html import soups

PLAIN_TEMPLATE = "https://click.example.com/?u={url}"
KEY = b"0123456789abcdef0123456789abcdef"


def rewritten(message: bytes, **options: Any) -> tuple[bytes, PluginRan]:
    if options.get("mode") != "defang":
        options.setdefault("template", PLAIN_TEMPLATE)
    judgement = judge(message, loaded(LinkRewrite(LinkRewrite.Options(**options))))
    (ran,) = judgement.runs
    assert ran.result in ("pass", "modify"), ran
    return b"".join(judgement.chunks) if judgement.chunks is not None else message, ran


def in_html(html: str, **options: Any) -> str:
    message = f"Content-Type: text/html; charset=utf-8\r\n\r\n{html}".encode()
    return parse(rewritten(message, **options)[0]).text()


def in_text(text: str, head: str = "text/plain; charset=utf-8", **options: Any) -> str:
    message = f"Content-Type: {head}\r\n\r\n{text}".encode()
    return parse(rewritten(message, **options)[0]).text()


EVIL = "https%3A%2F%2Fevil.example%2F"


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ('<a href="https://evil.example/">x</a>', f'<a href="https://click.example.com/?u={EVIL}">x</a>'),
        (
            "<A CLASS=b HREF = 'https://evil.example/' >",
            f"<A CLASS=b HREF = 'https://click.example.com/?u={EVIL}' >",
        ),
        ("<a href=https://evil.example/>x", f'<a href="https://click.example.com/?u={EVIL}">x'),
        ('<area href=" https://evil.exa\nmple/ ">', f'<area href="https://click.example.com/?u={EVIL}">'),
        ('<form action="https://evil.example/">', f'<form action="https://click.example.com/?u={EVIL}">'),
        ('<a href="//evil.example/">', f'<a href="https://click.example.com/?u={EVIL}">'),
        (
            "<!--[if mso]><v:rect href='https://evil.example/'><![endif]-->",
            f"<!--[if mso]><v:rect href='https://click.example.com/?u={EVIL}'><![endif]-->",
        ),
        *(
            (f'<{name} href="https://evil.example/">', f'<{name} href="https://click.example.com/?u={EVIL}">')
            for name in ("v:group", "v:polyline", "v:curve", "v:arc")
        ),
        (
            '<a href="&#104;ttps://evil.example/?a=1&amp;b=2&copy=3">',
            f'<a href="https://click.example.com/?u={EVIL}%3Fa%3D1%26b%3D2%26copy%3D3">',
        ),
        (
            '<base href="https://evil.example/d/"><a href="../"><a href="#x">',
            '<base href="https://evil.example/d/">'
            f'<a href="https://click.example.com/?u={EVIL}"><a href="#x">',
        ),
        (
            "<a href='x' href='https://evil.example/'>",
            f"<a href='x' href='https://click.example.com/?u={EVIL}'>",
        ),
    ],
)
def test_links_of_html(html: str, expected: str):
    assert in_html(html) == expected


@pytest.mark.parametrize(
    "html",
    [
        '<a href="mailto:a@example.org"><a href=tel:1><a href="cid:x"><a href="#top"><a href>',
        '<a href="http://"><a href="https:"><a href="//"><a href="https://?x">',
        '<a href="page.html"><a href="/page">',
        '<img src="https://evil.example/"><link href="https://evil.example/">',
        '<a data-href="https://evil.example/" title="https://evil.example/">https://evil.example/</a>',
        '<!-- <a href="https://evil.example/"> -->',
        '<script>"<a href=https://evil.example/>"</script>',
        '<a href="https://ok.example"><a href="HTTPS://WWW.OK.EXAMPLE.:443/x?y">',
        '<a href="https://click.example.com/?u=x">',
    ],
)
def test_what_stays(html: str):
    assert in_html(html, allow=["ok.example"]) == html


@pytest.mark.parametrize(
    "url",
    [
        "https://ok.example@evil.example/",
        "https://ok.example\\@evil.example/",
        "https://evil.example\\.ok.example/",
        "https://okay.example/",
        "https://evil.example/ok.example",
        "https://ok.example.evil.example",
        "https://ok。example/",
        "https:\\\\ok.example/",
        "https://click.example.com.evil.example/?u=",
    ],
)
def test_what_only_looks_allowed_is_rewritten(url: str):
    assert "click.example.com/?u=" in in_html(f'<a href="{url}">', allow=["ok.example"])


OK = '<base href="https://ok.example/x/">'
BAD = '<base href="https://evil.example/">'


@pytest.mark.parametrize(
    ("base", "link", "url"),
    [
        (OK, "\\\\evil.example/", "https://evil.example/"),
        (OK, "/\\evil.example/", "https://evil.example/"),
        (OK, "///evil.example/", "https://evil.example/"),
        (OK, "https:/evil.example/", "https:/evil.example/"),
        (BAD, "https:ok.example/", "https://evil.example/ok.example/"),
        (BAD, "https:/ok.example/?\\", "https://evil.example/ok.example/?\\"),
        ('<base href="https:\\\\evil.example\\">', "ok.example/p", "https://evil.example/ok.example/p"),
        ('<base href="https:evil.example/">', "ok.example/p", "https://evil.example/ok.example/p"),
        ('<base href="\\\\evil.example\\">', "p", "https://evil.example/p"),
        (f'<!--[if mso]><base href="cid:x"><![endif]-->{BAD}', "login", "https://evil.example/login"),
        (f'<title><base href="cid:x"></title>{BAD}', "login", "https://evil.example/login"),
        (f'<base href><base href="x">{OK}{BAD}', "login", "https://evil.example/login"),
    ],
)
def test_a_relative_link_is_taken_by_the_worst_base(base: str, link: str, url: str):
    html = f'{base}<a href="{link}">x</a>'
    expected = f'{base}<a href="https://click.example.com/?u={quote(url, safe="")}">x</a>'
    assert in_html(html, allow=["ok.example"]) == expected
    assert in_html(html, mode="defang", allow=["ok.example"]).startswith(f'{base}<a href="hxxps://')


@pytest.mark.parametrize("link", ["p", "/p", "//ok.example/", "https://ok.example/", "https:p/ok.example"])
def test_a_relative_link_to_an_allowed_host_stays(link: str):
    html = f'<base href="cid:x">{OK}<base href="https://www.ok.example/"><a href="{link}">'
    assert (in_html(html, allow=["ok.example"]) == html) is not link.startswith("https:p")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("see https://evil.example/a.", "https://evil.example/a"),
        ("(see https://evil.example/a_(b))", "https://evil.example/a_(b)"),
        ("<https://evil.example/a>", "https://evil.example/a"),
        ("<URL:https://evil.example/aaaa\r\nbbb>", "https://evil.example/aaaabbb"),
        ('"https://evil.example/a", he said', "https://evil.example/a"),
        ("HTTPS://EVIL.example/?a=b&c=d;", "HTTPS://EVIL.example/?a=b&c=d"),
        ("x\r\nhttps://evil.example/a\r\nb", "https://evil.example/a"),
        ("[https://evil.example/a]!?", "https://evil.example/a"),
    ],
)
def test_urls_of_plain_text(text: str, url: str):
    result = in_text(text)
    quoted = result.partition("?u=")[2]
    before, _, after = text.partition(url[:20])
    assert result.startswith(before + "https://click.example.com/?u=")
    assert unquote(quoted).startswith(url)
    assert result.count("https://") == 1 and after[-1:] in (url[-1:], result[-1])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see www.evil.example/a?b.", "see {http://www.evil.example/a?b}."),
        (
            "(WWW.evil.example) <www.evil.example:80>",
            "({http://WWW.evil.example}) <{http://www.evil.example:80}>",
        ),
        ("www.b\u00fccher.example,", "{http://www.b\u00fccher.example},"),
        ("http:\\\\evil.example\\a", "{http:\\\\evil.example\\a}"),
        ("<https:/\\evil.example>", "<{https:/\\evil.example}>"),
        ("www. www.a www..b www.a. awww.a.b @www.a.b www.a.b@c www.1.2 /www.a.b", None),
        ("www.ok.example", None),
    ],
)
def test_what_programs_make_links_of_in_plain_text(text: str, expected: str | None):
    quoted = re.sub(
        "{(.*?)}", lambda url: f"https://click.example.com/?u={quote(url[1], safe='')}", expected or text
    )
    assert in_text(text, allow=["ok.example"]) == quoted
    once = in_text(text, mode="defang", allow=["ok.example"])
    assert (once == text) is (expected is None)
    assert in_text(once, mode="defang", allow=["ok.example"]) == once


@pytest.mark.parametrize(
    "text",
    ["https:/ \r\n/evil.example/", "ht \r\ntps:// \r\nevil. \r\nexample/", "HTTPS \r\n:\\\\evil.example/"],
)
def test_flowed_text_with_delsp_may_break_a_url_anywhere(text: str):
    result = in_text(f"see {text} more", "text/plain; format=flowed; delsp=yes")
    url = text.replace(" \r\n", "")
    assert result == f"see https://click.example.com/?u={quote(url, safe='')} more"


def test_flowed_text_with_delsp_has_urls_over_several_lines():
    text = "see https://evil.example/aaa \r\nbbb and \r\nmore"
    result = in_text(text, "text/plain; format=flowed; delsp=yes")
    assert result == f"see https://click.example.com/?u={EVIL}aaabbb and \r\nmore"
    assert "bbb and" in in_text(text, "text/plain; format=flowed").partition("\r\n")[2]


def test_visible_urls_on_request():
    html = "<title>https://evil.example/</title><p>https://evil.example/?a&amp;b</p>"
    expected = "<p>https://click.example.com/?u=https%3A%2F%2Fevil.example%2F%3Fa%26b</p>"
    assert in_html(html) == html
    assert in_html(html, visible=True) == html.partition("<p>")[0] + expected


def test_defang():
    html = '<a href="https://evil.example/a.b">http://evil.example</a>'
    assert in_html(html, mode="defang") == '<a href="hxxps://evil[.]example/a.b">http://evil.example</a>'
    expected = '<a href="hxxps://evil[.]example/a.b">hxxp://evil[.]example</a>'
    assert in_html(html, mode="defang", visible=True) == expected
    assert in_text("see http://evil.example/a.b.", mode="defang") == "see hxxp://evil[.]example/a.b."


@pytest.mark.parametrize(
    "between", ["/", "?", "?u=", "/(www.x.y/", "/http:\\\\x.y/", "/x.y/", "#", "/http://", "\u00e9"]
)
def test_no_link_is_left_within_a_defanged_one(between: str):
    text = f"http://a.example{between}HTTPS://b.example/c.d"
    once = in_text(text, mode="defang")
    assert "http" not in once.lower() and once.startswith("hxxp://a[.]example")
    assert once.endswith("hxxps://b[.]example/c.d") and in_text(once, mode="defang") == once


SIGNING = "https://click.example.com/go?m={id}&u={url}&s={signature}"


def keys(directory: Path, *values: bytes) -> Path:
    path = directory / "keys"
    path.write_bytes(b"# newest first\n" + b"\n".join(values) + b"\n")
    return path


def test_signatures_are_as_documented_and_keys_rotate(tmp_path: Path):
    old, new = KEY, b"f" * 40
    message = crlf(
        "Message-ID: <1@example.org>\nContent-Type: text/html\n\n<a href='https://e.example/?ü&amp;b'>\n"
    )
    result, _ = rewritten(message, template=SIGNING, key_file=keys(tmp_path, new, old))
    (link,) = [node.attributes["href"] for node in LexborHTMLParser(parse(result).text()).css("a")]
    assert link is not None
    url = "https://e.example/?ü&b"
    identifier = hashlib.sha256(b"<1@example.org>").hexdigest()[:16]
    canonical = f"mailgate-link-1\n{identifier}\n{url}".encode()
    expected = urlsafe_b64encode(hmac.new(new, canonical, "sha256").digest()).rstrip(b"=").decode()
    assert link.endswith(f"&s={expected}") and f"m={identifier}&" in link
    assert verify(link, [new, old], SIGNING) == url
    assert verify(link, [old], SIGNING) is None
    result, _ = rewritten(message, template=SIGNING, key_file=keys(tmp_path, old))
    (link,) = [node.attributes["href"] for node in LexborHTMLParser(parse(result).text()).css("a")]
    assert link is not None and verify(link, [new, old], SIGNING) == url


@pytest.mark.parametrize(
    "change",
    [
        lambda link: link.replace("evil", "live"),
        lambda link: link.replace("m=", "m=0"),
        lambda link: link[:-1],
        lambda link: link + "&x=y",
        lambda link: link.replace("https://click", "http://click"),
        lambda link: link.replace("&s=", "&u=x&s="),
        lambda link: "",
    ],
)
def test_a_link_that_was_changed_is_refused(tmp_path: Path, change: Any):
    link = in_text("https://evil.example/", template=SIGNING, key_file=keys(tmp_path, KEY))
    assert verify(link, [KEY], SIGNING) == "https://evil.example/"
    assert verify(change(link), [KEY], SIGNING) is None


@given(soups, st.sampled_from(["html", "plain"]), st.booleans())
@settings(max_examples=300, deadline=None)
def test_once_is_enough(text: str, kind: str, visible: bool):
    message = f"Content-Type: text/{kind}; charset=utf-8\r\n\r\n{text} https://x.example/".encode()
    for options in ({"mode": "defang"}, {"template": PLAIN_TEMPLATE}):
        once, _ = rewritten(message, visible=visible, **options)
        assert rewritten(once, visible=visible, **options)[0] == once


def test_facts():
    html = "".join(f'<a href="https://h{number % 12}.example/">' for number in range(24))
    message = crlf(f"Content-Type: text/html\n\n{html}<a href='https://ok.example'>\n")
    _, ran = rewritten(message, allow=["ok.example"])
    assert ran.facts["links"] == "25" and ran.facts["rewritten"] == "24"
    assert len(ran.facts["hosts"].split()) == 10


def test_what_only_other_programs_see_is_noted():
    inner = base64.encodebytes(b"Content-Type: text/html\r\n\r\n<img src=https://t.example/>\r\n")
    message = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n" + inner
    result, ran = rewritten(message)
    assert result == message and ran.facts == {"unreachable": "message/rfc822"}


@pytest.mark.parametrize("message", [SIGNED, DKIM, ENCRYPTED, INLINE_PGP])
def test_signed_messages_are_left_alone_and_it_is_noted(message: bytes):
    message = message.replace(b"Hello", b"https://evil.example/")
    result, ran = rewritten(message)
    assert result == message and "skipped_signed" in ran.facts


@pytest.mark.parametrize("name", WELL_FORMED)
def test_messages_without_links_stay(name: str):
    assert rewritten(WELL_FORMED[name])[0] == WELL_FORMED[name]


def test_parts_and_encodings():
    message = crlf(
        """\
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/html; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

<p>gr=FC=DFe <a href=3D"https://evil.=
example/">=E4</a>

--b
Content-Type: text/plain; charset=utf-8; name=x.txt
Content-Transfer-Encoding: base64

aHR0cHM6Ly9ldmlsLmV4YW1wbGUv

--b
Content-Type: text/html
Content-Disposition: attachment

<a href="https://evil.example/">
--b--
"""
    )
    result, _ = rewritten(message)
    html, plain, attached = [part for part in parse(result).walk() if not part.children]
    assert html.text() == f'<p>grüße <a href="https://click.example.com/?u={EVIL}">ä</a>\r\n'
    assert plain.text().startswith(f"https://click.example.com/?u={EVIL}")
    assert attached.raw_body == b'<a href="https://evil.example/">'
    assert b"<p>gr=FC=DFe <a href=3D" in result
    assert rewritten(message, attachments=True)[0].count(b"click.example.com") == 2


def test_too_many_links_are_a_failure():
    judgement = judge(
        crlf("Content-Type: text/html\n\n" + "<a href=http://x.example>" * 3),
        loaded(LinkRewrite(LinkRewrite.Options(template=PLAIN_TEMPLATE, max_links=2))),
    )
    assert "more than 2 links" in str(judgement.runs[0])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "must have {url}"),
        ({"template": "https://x.example/?{u}"}, "must have {url}"),
        ({"template": "https://x.example/{url}{url}"}, "each once"),
        ({"template": "https://x.example/{url!r}"}, "must have {url}"),
        ({"template": "https://x.example/{url"}, "must have {url}"),
        ({"template": "https://x.example{url}"}, "must begin with"),
        ({"template": "ftp://x.example/{url}"}, "must begin with"),
        ({"template": "https://x.example/{url}{signature}"}, "go together"),
        ({"template": PLAIN_TEMPLATE, "key_file": "keys"}, "go together"),
        ({"template": PLAIN_TEMPLATE, "mode": "defang"}, 'of mode = "redirect"'),
        ({"template": PLAIN_TEMPLATE, "allow": ["https://x"]}, "no name of a domain"),
        ({"template": PLAIN_TEMPLATE, "max_links": 0}, "greater than"),
    ],
)
def test_options_that_are_refused(options: dict[str, Any], reason: str):
    with pytest.raises(ValidationError, match=reason):
        LinkRewrite.Options(**options)


@pytest.mark.parametrize("content", [None, b"", b"# only a comment\n", b"short\n"])
def test_key_files_that_are_refused(tmp_path: Path, content: bytes | None):
    if content is not None:
        (tmp_path / "keys").write_bytes(content)
    with pytest.raises(ValueError, match="key_file: "):
        LinkRewrite(LinkRewrite.Options(template=SIGNING, key_file=tmp_path / "keys"))


@pytest.mark.parametrize(
    "piece",
    [
        "<base href=//a><a href=b>",
        "http://",
        "<http://a\n",
        "http://a)",
        "https://a ",
        "<a href=http://",
        "http://a.,;",
        "(((http://",
    ],
)
def test_hostile_text_takes_linear_time(piece: str):
    plugin = LinkRewrite(LinkRewrite.Options(template=PLAIN_TEMPLATE, max_links=1_000_000, visible=True))
    from gateway.inspection.message import Message
    from tests.inspection.support import RECORD

    for kind in ("plain", "html"):
        body = piece * (300_000 // len(piece))
        plugin.inspect(Message.of(f"Content-Type: text/{kind}\r\n\r\n{body}".encode()), RECORD)
