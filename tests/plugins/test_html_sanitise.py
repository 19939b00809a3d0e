"""Nothing active is left in HTML, as an independent parser sees it, and the rest is the same."""

from __future__ import annotations

import base64
import re
import sys
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any, Literal

import pytest
from gateway.plugins.html_sanitise import HtmlSanitise
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from selectolax.lexbor import LexborHTMLParser

from gateway.core.facts import PluginRan
from gateway.inspection.css import plain_css
from gateway.inspection.html import lay_in
from gateway.inspection.message import Message
from gateway.inspection.parts import parse
from tests.inspection.samples import DKIM, WELL_FORMED, crlf
from tests.inspection.support import RECORD, judge, loaded


def cleaned(message: bytes, **options: Any) -> tuple[bytes, PluginRan]:
    judgement = judge(message, loaded(HtmlSanitise(HtmlSanitise.Options(**options))))
    (ran,) = judgement.runs
    assert ran.result in ("pass", "modify"), ran
    return b"".join(judgement.chunks) if judgement.chunks is not None else message, ran


def in_html(html: str, **options: Any) -> str:
    message = f"Content-Type: text/html; charset=utf-8\r\n\r\n{html}".encode()
    return parse(cleaned(message, **options)[0]).text()


# -- what an independent parser finds active -----------------------------------

ACTIVE = frozenset(
    {
        "script",
        "iframe",
        "frame",
        "frameset",
        "object",
        "embed",
        "applet",
        "form",
        "input",
        "button",
        "select",
        "textarea",
        "base",
        "set",
        "animate",
        "noscript",
        "xmp",
        "plaintext",
    }
)
RUNS = re.compile(r"^(?:javascript|vbscript|livescript|data:(?!image/))")
CSS_RUNS = re.compile(r"expression\s*\(|-moz-binding|(?:java|vb)script:|(?<![\w-])behavior\s*:\s*url\(x")


CONDITIONAL = re.compile(r"<!--\[if[^\]>]*\]>((?:(?!-->).)*?)(?:<!(?:\[endif\])?)?-->", re.DOTALL)


def wrong(tag: str, attributes: list[tuple[str, str | None]]) -> list[str]:
    found = [tag] if tag.rpartition(":")[2] in ACTIVE else []
    for name, value in attributes:
        squeezed = re.sub(r"[\x00-\x20\xa0\ufeff]", "", value or "").lower()
        if name.lower().startswith("on") and len(name) > 2:
            found.append(f"{tag} {name}")
        if name != "title" and name != "alt" and RUNS.match(squeezed):
            found.append(f"{tag} {name}={value}")
        if name in ("srcdoc", "formaction"):
            found.append(f"{tag} {name}")
        if name == "style" and CSS_RUNS.search(plain_css(value or "")):
            found.append(f"{tag} {name}={value}")
    if tag == "meta" and any(
        name == "http-equiv" and (value or "").lower().strip() == "refresh" for name, value in attributes
    ):
        found.append("refresh")
    return found


def by_lexbor(html: str) -> list[str]:
    root = LexborHTMLParser(html).root
    found: list[str] = []
    for node in root.traverse(include_text=False) if root is not None else ():
        found += wrong(node.tag or "", list(node.attributes.items()))
        if node.tag == "style" and CSS_RUNS.search(plain_css(node.text())):
            found.append("style")
    return found


class Simple(HTMLParser):
    """The standard library's parser, which knows nothing of trees."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += wrong(tag, attrs)


def by_standard_library(html: str) -> list[str]:
    parser = Simple()
    # Older ones look for "]>", even within the next comment.
    parser.feed(html.replace("<![endif]-->", "<![endif]>-->"))
    parser.close()
    return parser.found


def active(html: str) -> list[str]:
    """Return what is active in a text, wherever it is put and whoever reads it."""
    found = by_lexbor(html) + by_standard_library(html)
    for before in ("<svg>", "<math>", "<table><tr>", "<div title='x'>", "<svg><title>", "<math><mtext>"):
        found += by_lexbor(before + html)
    opened = CONDITIONAL.sub(r"\1", html)
    return found + (by_lexbor(opened) if opened != html else [])


J = "javascript:alert(1)"
VECTORS = [
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//x.example></SCRIPT>",
    "<script/x>alert(1)</script/x>",
    "<script\n>alert(1)</script\n>",
    "<script>alert(1)",
    "<script",
    "<scr<script>ipt>alert(1)</script>",
    "<scr\0ipt>alert(1)</scr\0ipt>",
    "<<script>alert(1)//<</script>",
    "<script><!--<script></script>--></script><img src=x onerror=alert(1)>",
    "<script>'</script><img src=x onerror=alert(1)>'</script>",
    "<<script></script>img src=x onerror=alert(1)>",
    "<<script></script>script>alert(1)<<script></script>/script>",
    "<scrip<script></script>t>alert(1)</script>",
    "</<script></script>p><img src=x onerror=alert(1)>",
    "<svg:script>alert(1)</svg:script>",
    "<img src=x onerror=alert(1)>",
    "<img src=x onerror=alert(1)",
    "<img/src=x/onerror=alert(1)>",
    "<img src='x'onerror=alert(1)>",
    '<img src="x"title="y"onerror="alert(1)">',
    "<img src=x\fonerror=alert(1)>",
    "<img src=x OnErRoR = 'alert(1)'>",
    "<img src=x o\0nerror=alert(1)>",
    "<img src=x onerror=a =b onload=c>",
    "<a href onx=a =javascript:alert(1)>",
    "<img src=`x`onerror=alert(1)>",
    "<img title=`x onerror=alert(1)`>",
    '<img """><script>alert(1)</script>">',
    "<img a='>' onerror=alert(1)>",
    '<img a="" "onerror=alert(1)>',
    "<body onload=alert(1)>",
    "<p x:onclick=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg/onload=alert(1)//",
    "<svg><script>alert&#40;1)</script></svg>",
    "<svg><script/href=data:,alert(1) /></svg>",
    "<svg><style><img src=x onerror=alert(1)></style></svg>",
    "<svg><style>p{x:&#101;xpression(alert(1))}</style></svg>",
    "<svg><title><script>alert(1)</script></title></svg>",
    "<svg><![CDATA[><img src=x onerror=alert(1)>]]></svg>",
    "<![CDATA[ a> <!-- ]]><img src=x onerror=alert(1)> -->",
    "<svg><![CDATA[ a> <!-- ]]><img src=x onerror=alert(1)> --></svg>",
    "<<![CDATA[script>alert(1)</script>",
    f"<svg><a><animate attributeName=href values={J} /><text>x</text></a></svg>",
    f"<svg><a><set attributeName=xlink:href to={J} /></a></svg>",
    f"<svg><a xlink:href='{J}'><text>x</text></a></svg>",
    "<svg><use href='data:image/svg+xml,<svg id=x onload=alert(1)>#x'/></svg>",
    "<svg><foreignObject><img src=x onerror=alert(1)></foreignObject></svg>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=alert(1)&gt;'>",
    "<math><mi//xlink:href='data:x,<script>alert(1)</script>'>",
    f"<math href='{J}'>x</math>",
    f"<a href='{J}'>x</a>",
    f"<a href={J}>x</a>",
    f"<a href=' {J}'>x</a>",
    "<a href='JaVaScRiPt:alert(1)'>x</a>",
    "<a href='java\nscript:alert(1)'>x</a>",
    "<a href='java&#10;script:alert(1)'>x</a>",
    "<a href='java&Tab;script:alert(1)'>x</a>",
    "<a href='javascript&colon;alert(1)'>x</a>",
    "<a href='&#106;&#x61;vascript:alert(1)'>x</a>",
    "<a href='&#0000000000000000106avascript:alert(1)'>x</a>",
    "<a href='&#1;javascript:alert(1)'>x</a>",
    "<a href='\x01\x1fjavascript:alert(1)'>x</a>",
    "<a href='\u00a0javascript:alert(1)'>x</a>",
    "<a href='java\u00adscript:alert(1)'>x</a>",
    "<a href='vbscript:msgbox(1)'>x</a>",
    "<a href='livescript:x'>x</a>",
    "<a href='data:text/html,<script>alert(1)</script>'>x</a>",
    "<a href='data:text/html;base64,PHNjcmlwdD4='>x</a>",
    "<a href='data:image/svg+xml,<svg onload=alert(1)>'>x</a>",
    "<a href='data:,x'>x</a>",
    f"<a href=x href={J}>x</a>",
    f"<area href={J}>",
    f"<form action={J}><input type=submit></form>",
    f"<form id=f></form><button form=f formaction={J}>x</button>",
    f"<isindex action={J} type=submit>",
    f"<input type=image src={J}>",
    f"<img src={J}>",
    f"<img lowsrc={J}><img dynsrc={J}><bgsound src={J}>",
    f"<img srcset='x 1x, {J} 2x'>",
    f"<body background={J}><table background={J}>",
    f"<video poster={J}></video>",
    f"<link rel=stylesheet href={J}>",
    "<link rel=import href=//x.example>",
    f"<base href={J}//><a href=x>x</a>",
    f"<meta http-equiv=refresh content='0;url={J}'>",
    "<meta http-equiv=' Refresh ' content='0;url=//x.example'>",
    "<meta charset=utf-7>+ADw-script+AD4-alert(1)+ADw-/script+AD4-",
    "<meta http-equiv=content-type content='text/html; charset=iso-2022-jp'>",
    f"<iframe src={J}></iframe>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<iframe><img src=x onerror=alert(1)></iframe>",
    "<iframe></iframe",
    f"<frameset><frame src={J}></frameset>",
    f"<object data={J}></object><embed src={J}><applet code=x></applet>",
    "<object><param name=x value=y><img src=x onerror=alert(1)></object>",
    "<p style='width:expression(alert(1))'>",
    "<p style='width:exp/**/ression(alert(1))'>",
    "<p style='width:\\65xpression(alert(1))'>",
    "<p style='width:&#101;xpression(alert(1))'>",
    "<p style='width:\uff45xpression(alert(1))'>",
    "<p style='-moz-binding:url(//x.example/x.xml#x)'>",
    "<p style='behavior:url(x.htc)'>",
    "<p style='beh\\61vior: url(x.htc)'>",
    f"<p style='background:url({J})'>",
    f'<p style="background:url(&quot;{J}&quot;)">',
    "<p style=width:expression(alert(1))>",
    "<style>p{width:expression(alert(1))}</style>",
    f"<style>@import '{J}';</style>",
    "<style>p{-moz-\\62inding:url(x)}</style>",
    "<style></style\n><script>alert(1)</script>",
    "<style><!--</style><script>alert(1)</script>--></style>",
    "<style><!-- a --!> <img src=x onerror=alert(1)> --></style>",
    "<style><img src='</style><img src=x onerror=alert(1)//'>",
    "<style><script>alert(1)</script>",
    "<style/><img src=x onerror=alert(1)></style>",
    "<svg><style/><img src=x onerror=alert(1)></svg></style>",
    "<select><style></select><img src=x onerror=alert(1)></style>",
    "<title><a title='</title><img src=x onerror=alert(1)>'></title>",
    "<title><script>alert(1)</script>",
    "<textarea><script>alert(1)</script></textarea>",
    "<textarea><p title='</textarea><img src=x onerror=alert(1)>'>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'></noscript>",
    "<noembed><p title='</noembed><img src=x onerror=alert(1)>'></noembed>",
    "<noframes><p title='</noframes><img src=x onerror=alert(1)>'></noframes>",
    "<xmp><p title='</xmp><img src=x onerror=alert(1)>'></xmp>",
    "<xmp><script>alert(1)</script></xmp>",
    "<plaintext><script>alert(1)</script>",
    "<comment><p title='</comment><img src=x onerror=alert(1)>'></comment>",
    "<template><script>alert(1)</script></template>",
    "<!--><script>alert(1)</script>-->",
    "<!---><script>alert(1)</script>-->",
    "<!-- --!><script>alert(1)</script>-->",
    "<!--><a title='--><img src=x onerror=alert(1)>'>",
    "<!-- <script>alert(1)</script>",
    "<!-- <!-- --><script>alert(1)</script> -->",
    '<p style="' + "color:red;" * 3000 + 'width:expression(alert(1))">',
    "<!--[if mso]><script>alert(1)</script><![endif]-->",
    "<!--[if mso]><a title='--><script>alert(1)</script>'><![endif]-->",
    "<!--[if mso]><p onclick=alert(1) style='behavior:url(x)'><![endif]-->",
    "<!--[if mso]>x<!--><a title='--><img src=x onerror=alert(1)>'>",
    "<!--[if gte IE 4]><script>alert(1)</script>",
    "<!--[if mso]><style><![endif]--><script>alert(1)</script></style>",
    "<![if true]><script>alert(1)</script><![endif]>",
    "<!DOCTYPE html '><img title='> <script>alert(1)</script>'>",
    "<!DOCTYPE x [ <!ENTITY y '<script>alert(1)</script>'> ]>",
    "<?xml version='1.0'><script>alert(1)</script>?>",
    "<? '><img title='> <script>alert(1)</script>'>",
    "</ <script>alert(1)</script>",
    "</p title='><img src=x onerror=alert(1)>'>",
    "</p onclick=alert(1)>",
    "<p<img src=x onerror=alert(1)>",
    '<p title=x"onclick=alert(1)>',
    "<p =onclick=alert(1) onclick=alert(1)>",
    "<p ==onclick onclick=alert(1)>",
    "<xml id=x><a>&lt;script>alert(1)&lt;/script></a></xml><span datasrc=#x datafld=b dataformatas=html>",
    "<table><td background='javascript:alert(1)'>",
    "<a href=x onclick\n=\n'alert(1)'>",
    "<details open ontoggle=alert(1)>",
    "<marquee onstart=alert(1)>",
    "<portal src=//x.example></portal>",
    "<layer src=//x.example></layer>",
]


@pytest.mark.parametrize("html", VECTORS)
def test_nothing_active_is_left(html: str):
    for text in (html, f"<p>before</p>{html}<p>after</p>", f"<html><head>{html}</head></html>", html * 2):
        result = in_html(text)
        assert active(result) == []
        assert in_html(result) == result
    assert active(in_html(html, mode="strict")) == []


@pytest.mark.parametrize(
    "html", ["<script>x</script>", "<p onclick=x>", f"<a href='{J}'>", "<svg><set to=x>"]
)
def test_the_judges_see_what_is_active(html: str):
    assert by_lexbor(html) and by_standard_library(html)


FRAGMENTS = st.sampled_from(
    [
        *"<>/!?-= \"'`&;x\n\0:",
        "<script>",
        "</script>",
        "<style>",
        "</style>",
        "<svg>",
        "</svg>",
        "<math>",
        "<select>",
        "</select>",
        "<title>",
        "</title>",
        "<textarea>",
        "</textarea>",
        "<noscript>",
        "</noscript>",
        "<!--",
        "-->",
        "--!>",
        "<!--[if mso]>",
        "<![endif]-->",
        "<![CDATA[",
        "]]>",
        "<img src=x onerror=a>",
        "<img ",
        "onerror=",
        "<a href=",
        "javascript:",
        "java",
        "script",
        "&#106;",
        "style='x:",
        "expression(",
        "<p title='",
        '<p title="',
        "<iframe ",
        "</p ",
        "<xmp>",
        "<plaintext>",
        "<template>",
        "<table>",
        "<mtext>",
        "<foreignObject>",
    ]
)


@given(st.lists(FRAGMENTS, max_size=25).map("".join))
@settings(max_examples=600, deadline=None)
def test_nothing_active_is_left_of_anything(html: str):
    plugin = HtmlSanitise(HtmlSanitise.Options())
    spans = plugin.spans(html, Counter())
    assert all(one[1] <= other[0] for one, other in pairwise(spans))
    result = lay_in(html, spans)
    assert active(result) == [], result
    assert plugin.spans(result, Counter()) == []


@pytest.mark.parametrize("behind", ["", "</p>", "<p>", "text"])
@pytest.mark.parametrize("attribute", ["onclick=x", "a'b=c", 'style="behavior:url(x)"'])
@pytest.mark.parametrize("tag", ["style", "title", "textarea", "iframe"])
def test_a_tag_that_nothing_closes_goes_with_its_attributes(tag: str, attribute: str, behind: str):
    result = in_html(f"<p>a</p><{tag} id=b {attribute}>{behind}", forms=False, frames=False)
    assert active(result) == [] and result.startswith("<p>a</p>") and "id=b" not in result


BENIGN = [
    '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" "http://www.w3.org/x.dtd">\n<html xmlns='
    '"http://www.w3.org/1999/xhtml" xmlns:v="urn:schemas-microsoft-com:vml"><head><meta charset="utf-8" />'
    '<meta name="viewport" content="width=device-width"><meta http-equiv="X-UA-Compatible" content="IE=edge">'
    '<title>a &amp; b</title><style type="text/css">p > a { color: red; scroll-behavior: smooth }</style>'
    "<style>\n<!--\n/* Font */ p.MsoNormal { margin:0 }\nv\\:* {behavior:url(#default#VML);}\n--></style>"
    "<link href='https://fonts.example/css' rel='stylesheet'></head><body bgcolor=#ffffff>",
    "<!--[if mso]><table width=600><tr><td><![endif]--><p>x</p><!--[if mso]></td></table><![endif]-->",
    "<!--[if !mso]><!--><p>a</p><!--<![endif]--><![if !vml]><img src=cid:x><![endif]>",
    '<?xml:namespace prefix = o ns = "urn:schemas-microsoft-com:office:office" /><o:p>&nbsp;</o:p>',
    "<!-- a comment with <script> in it --><p>1 < 2 && 3 > 2 <> << >></p><br/><BR />",
    '<a href="https://x.example/?a=1&amp;b=2" target=_blank title=\'a "b"\'>x</a><a href=mailto:a@b>y</a>',
    "<a href=#x></a><a name=x></a><a href='/p?q=http://x'>z</a><a href='tel:+1'>t</a>",
    "<img src='data:image/png;base64,AAAA' alt=\"\" width=1><img srcset='a.png 1x, b.png 2x'>",
    "<table background='https://x.example/a.png'><td style=\"background:url('a.png') ; font:12px 'Arial'\">",
    "<svg width=1><path d='M0 0'/></svg><fieldset><legend>x</legend></fieldset>",
    "<p style='font-family:\"Segoe UI\"; behaviour: x'>the expression (of) javascript: in text</p>"[:31]
    + "'>",
]


@pytest.mark.parametrize("html", BENIGN)
def test_harmless_html_stays_as_it_is(html: str):
    assert in_html(html) == html


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<p>a<script>b</script>c</p>", "<p>ac</p>"),
        ("<p class=x onclick='y' id=z>", "<p class=x  id=z>"),
        (f"<a HREF='{J}' title=t>x</a>", "<a  title=t>x</a>"),
        ("<form action=x>a<input name=y><b>c</b></form>", "<p>a<b>c</b>"[3:]),
        ("<p style='color:red;width:expression(1)'>", "<p style='color:red;width:x-removed(1)'>"),
        ("<style>a { behavior:url(x.htc) }</style>", "<style>a { x-removed:url(x.htc) }</style>"),
        ("<title>a <b> c</title>", "<title>a &lt;b> c</title>"),
        ("<xmp><b></xmp>", "&lt;b&gt;"),
        ("<object><img src=cid:x></object>", "<img src=cid:x>"),
        ("<!--[if mso]><p onclick=x><![endif]-->", "<!--[if mso]><p ><![endif]-->"),
    ],
)
def test_only_what_is_active_is_cut(html: str, expected: str):
    assert in_html(html) == expected


def test_what_an_admin_lets_stay():
    html = "<form action='https://x'><input onclick=x><iframe src=https://x></iframe><object data=x></object>"
    kept = in_html(html, forms=False, frames=False, objects=False)
    assert kept == html.replace("onclick=x", "")
    assert in_html("<a href=skype:x>", schemes=["skype"]) == "<a href=skype:x>"
    assert in_html("<a href=https:x>", schemes=["skype"]) == "<a >"


def test_strict_writes_it_anew():
    html = "<html><body><p style='color:red;position:fixed' onclick=x>a<blink>b</blink><script>c</script></p>"
    assert in_html(html, mode="strict") == '<p style="color:red">ab</p>'
    assert in_html("<p>a</p>", mode="strict") == "<p>a</p>"


def test_strict_without_nh3_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "nh3", None)
    with pytest.raises(ValueError, match=r"mailgate\[html\]"):
        HtmlSanitise(HtmlSanitise.Options(mode="strict"))


def test_facts():
    message = crlf("Content-Type: text/html\n\n<script>1</script><p onclick=x onfocus=y>\n")
    _, ran = cleaned(message)
    assert ran.facts == {"removed": "handler=2 script=1"}


def test_signed_messages_are_left_alone_and_it_is_noted():
    message = DKIM.replace(b"\r\n\r\n", b"\r\nContent-Type: text/html\r\n\r\n<script>x</script>", 1)
    result, ran = cleaned(message)
    assert result == message and ran.facts == {"skipped_signed": "dkim"}
    assert b"<script>" not in cleaned(message, edit_signed=True)[0]


@pytest.mark.parametrize("name", WELL_FORMED)
def test_messages_without_any_stay(name: str):
    assert cleaned(WELL_FORMED[name])[0] == WELL_FORMED[name]


def test_a_part_that_can_not_be_edited_is_a_failure():
    message = crlf("Content-Type: text/html; charset=nosuch\n\n<script>x</script>\n")
    judgement = judge(message, loaded(HtmlSanitise(HtmlSanitise.Options())))
    assert "can't edit a part in nosuch" in str(judgement.runs[0])


INNER = crlf("Content-Type: text/html\n\n<script>x</script>\n")
PARTS = b"Content-Type: multipart/mixed; boundary=b\r\n"
BASE64 = b"Content-Transfer-Encoding: base64\r\n\r\n"
OTHERWISE_READ: list[Callable[[bytes], bytes]] = [
    lambda inner: b"Content-Type: message/rfc822\r\n" + BASE64 + base64.encodebytes(inner),
    lambda inner: PARTS + BASE64 + base64.encodebytes(b"--b\r\n" + inner + b"\r\n--b--\r\n"),
    lambda inner: PARTS + b"\r\n--b\r\n\r\nx\r\n--b--\r\n--b\r\n" + inner + b"\r\n--b--\r\n",
    lambda inner: b"Content-Type: image/png\r\n" + inner,
]


@pytest.mark.parametrize("message", OTHERWISE_READ)
@pytest.mark.parametrize("mode", ["cut", "strict"])
def test_what_only_other_programs_see_is_a_failure_if_it_is_active(
    message: Callable[[bytes], bytes], mode: Literal["cut", "strict"]
):
    judgement = judge(message(INNER), loaded(HtmlSanitise(HtmlSanitise.Options(mode=mode))))
    assert "can't edit what other programs may see" in str(judgement.runs[0])
    harmless = message(INNER.replace(b"script", b"p"))
    assert cleaned(harmless, mode=mode)[0] == harmless


def test_what_is_cut_is_also_cut_in_another_reading():
    message = crlf(
        "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/html\n\n"
        "<p>a<script>x</script></p>\n--bc\n--b--\n"
    )
    assert len(list(Message.of(message).walk())) > 2
    assert cleaned(message)[0] == message.replace(b"<script>x</script>", b"")


def test_another_reading_of_an_attachment_or_of_what_is_signed_is_left_alone():
    attached = PARTS + b"\r\n--b\r\nContent-Disposition: attachment\r\n"
    attached += b"Content-Type: image/png\r\n" + INNER + b"\r\n--b--\r\n"
    assert cleaned(attached)[0] == attached
    signed = DKIM.replace(b"\r\n\r\n", b"\r\n" + OTHERWISE_READ[0](INNER), 1)
    assert cleaned(signed)[0] == signed
    plugin = loaded(HtmlSanitise(HtmlSanitise.Options(edit_signed=True)))
    assert "can't edit what other" in str(judge(signed, plugin).runs[0])


@pytest.mark.parametrize(
    "options", [{"mode": "x"}, {"schemes": ["javascript"]}, {"schemes": ["a b"]}, {"schemes": [""]}, {"x": 1}]
)
def test_options_that_are_refused(options: dict[str, Any]):
    with pytest.raises(ValidationError):
        HtmlSanitise.Options(**options)


@pytest.mark.parametrize(
    "piece",
    [
        "<",
        "<script>",
        "<style>",
        "<!--[if x]>",
        "<a onx=",
        "<a style='\\",
        "<title>",
        "<p style='behavior ",
        "<xmp>",
    ],
)
def test_hostile_text_takes_linear_time(piece: str):
    plugin = HtmlSanitise(HtmlSanitise.Options())
    for before in ("", "<style>", "<p style='", "<!--[if x]>"):
        body = before + piece * (300_000 // len(piece)) + "'></style>-->"
        plugin.inspect(Message.of(f"Content-Type: text/html\r\n\r\n{body}".encode()), RECORD)
