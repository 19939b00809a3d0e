"""Remote content: pixels and images are gone, and what stays is the same."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest
from gateway.plugins.remote_content import TRANSPARENT, RemoteContent
from hypothesis import given, settings
from pydantic import ValidationError

from gateway.core.facts import PluginRan
from gateway.inspection.css import plain_css, url_spans
from gateway.inspection.html import lay_in
from gateway.inspection.message import Message
from gateway.inspection.parts import parse
from tests.inspection.samples import DKIM, SIGNED, WELL_FORMED, crlf
from tests.inspection.support import RECORD, judge, loaded
from tests.inspection.test_html import soups


def cleaned(message: bytes, **options: Any) -> tuple[bytes, PluginRan]:
    judgement = judge(message, loaded(RemoteContent(RemoteContent.Options(**options))))
    (ran,) = judgement.runs
    assert ran.result in ("pass", "modify"), ran
    return b"".join(judgement.chunks) if judgement.chunks is not None else message, ran


def in_html(html: str, **options: Any) -> str:
    message = f"Content-Type: text/html; charset=utf-8\r\n\r\n{html}".encode()
    return parse(cleaned(message, **options)[0]).text()


U = "https://t.example/a.gif"


@pytest.mark.parametrize(
    "attributes",
    [
        "width=1 height=1",
        'height="1px" width=" 1 "',
        "width=0",
        "height=0 width=100",
        "width=1",
        'style="display:none"',
        'style="Visibility : hidden !important"',
        'style="opacity:0.0"',
        'style="width:1px;height:1px"',
        'style="max-height:0"',
        'style="disp/**/lay:none"',
        'style="d\\69splay:none"',
        "style='display&#58;none'",
        "style=mso-hide:all",
        'style="display:none;display:foo"',
        'style="display:none!important;display:block"',
        'style="opacity:0;opacity:x"',
        'style="width:1px;height:1px;width:x;height:y"',
        'style="width:.75pt;height:.01in"',
        'style="width:calc(1px);height:calc( 0.2mm )"',
        "hidden",
    ],
)
def test_pixels(attributes: str):
    html = f'<p>a<IMG {attributes} SRC="{U}" alt="">b</p>'
    assert in_html(html) == html.replace(U, TRANSPARENT)
    assert in_html(html, replacement="nothing") == "<p>ab</p>"
    assert in_html(html, allow=["example"]) == html
    assert in_html(html, images=True, pixels=False) == html.replace(U, TRANSPARENT)


@pytest.mark.parametrize(
    "image",
    [
        f"<img src={U}>",
        f"<img src={U} width=600 height=1>",
        f"<img src={U} width=100%>",
        f"<img src={U} style='opacity:1;width:10px'>",
        f"<img src={U} style='opacity:'>",
        f"<img src={U} style='width:calc(1px + 99px);height:2pt'>",
        f"<img src={U} style='width:1em;height:1cm'>",
        f"<input type=text width=1 height=1 src={U}><input width=1 src={U}>",
        f"<picture><source srcset={U}><img src=cid:x></picture>",
        f"<picture></picture><source srcset={U}>",
        f"<picture><source srcset={U}><img src=cid:x></picture><img width=1 src=cid:y>",
        "<img src=cid:x width=1 height=1>",
        "<img src=data:image/gif;base64,x width=1 height=1>",
        "<img src=x.gif width=1 height=1>",
        f"<a href={U} style=display:none>",
        f"<!-- <img width=1 src={U}> -->",
    ],
)
def test_what_is_no_pixel(image: str):
    assert in_html(image) == image


def test_pixels_of_other_tags():
    html = f"<p>a<input type=Image width=1 height=1 src={U}>b</p>"
    assert in_html(html) == html.replace(U, f'"{TRANSPARENT}"')
    assert in_html(html, replacement="nothing") == "<p>ab</p>"
    html = f"<picture><source srcset='{U}'><source srcset='cid:z, {U} 2x'><img width=1 src=cid:x></picture>"
    assert "example" not in in_html(html) and "cid:x" in in_html(html)
    assert "example" not in in_html(html.replace("cid:x", U), replacement="nothing")
    message = crlf(f"Content-Type: text/html\n\n{html}\n")
    assert cleaned(message)[1].facts == {"pixels": "1", "remote": "0", "hosts": "t.example"}


def test_a_pixel_is_taken_out_with_all_that_it_loads():
    html = f"<img width=1 src='{U}' srcset='{U} 1x, https://t2.example/ 2x'><p>"
    assert "example" not in in_html(html)
    assert in_html(f"<<img width=1 src={U}>script>", replacement="nothing") == "< script>"


@pytest.mark.parametrize(
    "html",
    [
        f"<img src='{U}'>",
        f"<img src= {U} >",
        "<img src='//t.example/x'>",
        "<img src=' ht\ntps:/t.example/x'>",
        "<img src='\\\\t.example\\share\\x'>",
        "<img src=file://t.example/x>",
        "<img src='&#104;ttp://t.example/x'>",
        "<base href='https://t.example/'><img src=x.gif>",
        "<!--[if mso]><base href=cid:x><![endif]--><base href='https:\\\\t.example\\'><img src=x.gif>",
        f"<img src=cid:x srcset='cid:y, {U} 2x'>",
        f"<picture><source srcset='{U} 2x'></picture>",
        f"<table background='{U}'>",
        f"<video poster='{U}'></video>",
        f"<video src={U}><source src={U}><track src={U}></video>",
        f"<link rel=stylesheet href='{U}'>",
        "<link rel=dns-prefetch href=//t.example>",
        f"<iframe src={U}></iframe><embed src={U}><object data={U}>",
        f"<iframe srcdoc='<img src={U}>'></iframe>",
        f"<meta http-equiv=refresh content='0;url={U}'>",
        f"<meta http-equiv=refresh content='0; {U}'>",
        f"<meta http-equiv=refresh content='0;url&#9;={U}'>",
        f"<meta http-equiv=refresh content='0;url\n=\n{U}'>",
        f"<input type=image src={U}>",
        f"<svg><image xlink:href={U}></image><use href={U}></svg>",
        f"<svg><image><set attributeName=href to={U}></image></svg>",
        f"<svg><rect fill='url({U})'></svg>",
        f"<!--[if mso]><v:fill src='{U}'><![endif]-->",
        f"<p style='background:url({U})'>",
        f"<p style='background:url(&quot;{U}&quot;)'>",
        f"<p style='background:u\\72l({U})'>",
        "<p style='background:url(\\68ttps://t.example/)'>",
        "<p style='background:url(//t.example/)'>",
        "<p style=background:url(http:t.example)>",
        f"<p style='background:image-set(\"{U}\" 1x)'>",
        f"<style>@import '{U}';</style>",
        f"<style>@import url( {U} );</style>",
        "<style>@import '//t.example/x'</style>",
        f"<style>p {{ background: url('{U}') }} @font-face {{ src: url({U}) }}</style>",
        "<style>@\\69mport '\\2f/t.example'</style>",
        f"<style>@import/**/'{U}'</style>",
        f"<title></title><style>a{{content:'/*';background:url({U});x:'*/'}}</style>",
        f"<select><style></select><img src={U}></style>",
        f"<style><img src={U}>",
        '<style>p{background:url("ht\ttps://t.example/")}</style>',
        "<style>p{background:url('ht\\9 tps://t.example/')}</style>",
        "<style>p{background:url(ht\\9 tps://t.example/)}</style>",
        "<style>@import 'ht\\A tps://t.example/';</style>",
        '<style>@import "ht\ttps://t.example/";</style>',
        "<style>@import '/\t/t.example/';</style>",
        "<p style='background:url(&quot;ht&#9;tps://t.example/&quot;)'>",
        "<p style=\"content:'url(';background:url(//t.example/);x:'y'\">",
        "<p style=\"background:url('x\n');background:url(//t.example/)\">",
        "<style>@import '///t.example/x';</style>",
        "<style>@import '//%74.example/t.example';</style>",
        "<style>@import '//[2001:db8::1]/t.example';</style>",
        f"<p>hi<style>p{{background:url({U})}}",
        f"<style></style><STYLE >p{{background:url({U})}}<p>",
        f"<!--[if mso]><style>p{{background:url({U})}}<![endif]--><p>hi",
        "<svg><style>p{background:url(&#104;ttps://t.example/)}</style></svg>",
        "<svg><style>p{background:url(ht<g></g>tps://t.example/)}</style></svg>",
        f"<!--><img src={U}>-->",
    ],
)
def test_all_that_is_loaded(html: str):
    for replacement in ("transparent", "nothing"):
        result = in_html(html, images=True, replacement=replacement)
        assert "t.example" not in plain_css(result.replace("&#", "")) or "<base" in html
        assert "<base" not in html or result.endswith((f'src="{TRANSPARENT}">', 'src="data:,">'))
        assert in_html(result, images=True, replacement=replacement) == result


@pytest.mark.parametrize(
    "html",
    [
        f"<a href={U}>x</a><a href='#y' title='({U})'><form action={U}>",
        "<img src=cid:x><img src='data:image/png;base64,AA//BB=='><img src=x.png><img>",
        "<p style='background:url(cid:x)'><p style='color:red'>",
        "<style>v\\:* {behavior:url(#default#VML)} p { background: url(x.png) } /* a // b */</style>",
        f"<meta property=og:url content='{U}'><p>{U}</p>",
        f"<!-- <img src={U}> --><script>'<img src={U}>'</script>",
        f"<!--[if mso]><style>p{{color:red}}<![endif]--><a href={U}>x</a>",
        "<style>p:before{content:'a\tb';font:'x'} /* don't & won't */ p>a{background:url('x y.png')}</style>",
    ],
)
def test_what_is_not_loaded(html: str):
    assert in_html(html, images=True) == html


def test_a_host_is_allowed_as_a_whole():
    html = "<style>@import 'https://ok.example\t.t.example/';@import 'https://\tok.example/'</style>"
    expected = html.replace("https://ok.example\t.t.example/", "data:,")
    assert in_html(html, images=True, allow=["ok.example"]) == expected


def test_allowed_hosts():
    html = f"<img src=https://ok.example/a><p style='a:url(https://x.ok.example/);b:url({U})'>"
    expected = html.replace(U, "data:,")
    assert in_html(html, images=True, allow=["ok.example"]) == expected


def test_facts():
    message = crlf(
        f"Content-Type: text/html\n\n<img src={U} width=1><img src=https://i.example/>"
        "<p style='background:url(https://b.example/)'>\n"
    )
    _, ran = cleaned(message)
    assert ran.facts == {"pixels": "1", "remote": "0", "hosts": "t.example"}
    _, ran = cleaned(message, images=True)
    assert ran.facts == {"pixels": "1", "remote": "2", "hosts": "t.example i.example b.example"}


def test_what_only_other_programs_see_is_noted():
    inner = base64.encodebytes(b"Content-Type: text/html\r\n\r\n<img src=https://t.example/>\r\n")
    message = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n" + inner
    result, ran = cleaned(message)
    assert result == message and ran.facts == {"unreachable": "message/rfc822"}


@pytest.mark.parametrize("message", [SIGNED, DKIM])
def test_signed_messages_are_left_alone_and_it_is_noted(message: bytes):
    message = re.sub(rb"text/plain", b"text/html", message)
    result, ran = cleaned(message, images=True)
    assert (result == message and "skipped_signed" in ran.facts) or b"text/html" not in message


@pytest.mark.parametrize("name", WELL_FORMED)
def test_messages_without_any_stay(name: str):
    assert cleaned(WELL_FORMED[name], images=True)[0] == WELL_FORMED[name]


@given(soups)
@settings(max_examples=300, deadline=None)
def test_once_is_enough(html: str):
    once = in_html(html, images=True)
    assert in_html(once, images=True) == once


def test_other_octets_stay_in_every_encoding():
    message = crlf(
        "Content-Type: text/html; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\n"
        "<p>gr=FC=\n=DFe=20</p>=\n<img width=3D1 src=3D'https://t.exam=\nple/'>=E4\n"
    )
    result, _ = cleaned(message)
    assert result.startswith(message[: message.index(b"<img")])
    assert parse(result).text().endswith(f"<img width=1 src='{TRANSPARENT}'>ä\r\n")


def test_css_with_nothing_unwanted_stays():
    css = "a { b: url('x\\'y') } /* https://ok.example */ \\"
    assert lay_in(css, url_spans(css, lambda url: "bad" in url)) == css


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"allow": ["a b"]}, "no name of a domain"),
        ({"replacement": "x"}, "transparent"),
        ({"other": 1}, "Extra"),
    ],
)
def test_options_that_are_refused(options: dict[str, Any], reason: str):
    with pytest.raises(ValidationError, match=reason):
        RemoteContent.Options(**options)


def test_nothing_to_do_is_refused():
    with pytest.raises(ValueError, match="nothing to do"):
        RemoteContent(RemoteContent.Options(pixels=False))


@pytest.mark.parametrize(
    "piece",
    [
        "url(",
        "/*",
        "*/ /*",
        "\\",
        "<img style=':;'",
        "<img width=1 src=//a ",
        "//a ",
        "0",
        "url( ",
        ";:",
        "url('",
        "'\"",
        "<",
        "&#",
    ],
)
def test_hostile_text_takes_linear_time(piece: str):
    plugin = RemoteContent(RemoteContent.Options(images=True))
    for before in (
        "",
        "<style>",
        "<!--[if x]><style><![endif]-->" * 1000,
        "<p style='",
        "<img src=//a.example style='opacity:",
        "<img srcset='",
    ):
        body = before + piece * (300_000 // len(piece)) + "'></style>"
        plugin.inspect(Message.of(f"Content-Type: text/html\r\n\r\n{body}".encode()), RECORD)
