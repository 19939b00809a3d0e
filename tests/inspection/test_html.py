"""HTML as offsets: every piece is found where a browser finds it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser

from gateway.inspection.html import (
    Kind,
    Token,
    decode_references,
    decode_with_offsets,
    lay_in,
    quiet_tags,
    tags,
    tokens,
)

PIECES = st.sampled_from(
    [
        *"<>/!?-= \"'&;x\n",
        "<!--",
        "-->",
        "--!>",
        "<!--[if mso]>",
        "<![endif]-->",
        "<![CDATA[",
        "]]>",
        "<a href=",
        "<img src='",
        '"http://x/"',
        "<style>",
        "</style>",
        "</style",
        "<title>",
        "</title >",
        "<p class=x ",
        "class='",
        'style="',
        "onclick=",
        "<p>",
        "</p>",
        "&amp;",
        "&#x41;",
        "\u0130",
        "\0",
    ]
)
soups = st.lists(PIECES, max_size=30).map("".join)


def pieces(text: str, **options: object) -> list[tuple[str, str]]:
    return [(one.kind.value, text[one.start : one.end]) for one in tokens(text, **options)]  # type: ignore[arg-type]


def attributes(tag: str) -> list[tuple[str, str]]:
    (token,) = tokens(tag)
    return [(one.name, one.value) for one in token.attributes]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a<b>c</b>d", [("start tag", "<b>"), ("end tag", "</b>")]),
        ("1 < 2 <> <3 <", []),
        ("<!DOCTYPE html><?xml a?></ x><!x>", None),
        ("<a title='>' b=\">\">", [("start tag", "<a title='>' b=\">\">")]),
        ('<a b"c>d">', [("start tag", '<a b"c>')]),
        ("<a b= >c>", [("start tag", "<a b= >")]),
        ("<!-- <b> --><i>", [("comment", "<!-- <b> -->"), ("start tag", "<i>")]),
        ("<!--><b>-->", [("comment", "<!-->"), ("start tag", "<b>")]),
        ("<!---><b>-->", [("comment", "<!--->"), ("start tag", "<b>")]),
        ("<!-- --!><b>", [("comment", "<!-- --!>"), ("start tag", "<b>")]),
        ("<!-- <b>", [("comment", "<!--"), ("start tag", "<b>")]),
        (
            "<style><b></style x>",
            [("start tag", "<style>"), ("raw text", "<b>"), ("end tag", "</style x>")],
        ),
        (
            "<title></titlex></TITLE>",
            [("start tag", "<title>"), ("raw text", "</titlex>"), ("end tag", "</TITLE>")],
        ),
        ("<style><b>", [("start tag", "<style>"), ("start tag", "<b>")]),
        ("<noscript><b>", [("start tag", "<noscript>"), ("start tag", "<b>")]),
        ("<![CDATA[<b>", [("CDATA", "<![CDATA["), ("start tag", "<b>")]),
        ("<a b='c", [("start tag", "<a b='c")]),
        ("</", []),
    ],
)
def test_pieces(text: str, expected: list[tuple[str, str]] | None):
    if expected is None:
        assert [kind for kind, _ in pieces(text)] == ["declaration"] * 4
    else:
        assert pieces(text) == expected


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("<a b>", [("b", "")]),
        ("<a/b/c=d/>", [("b", ""), ("c", "d/")]),
        ("<a B = 'c' d=e>", [("b", "c"), ("d", "e")]),
        ('<a b="c"d=e>', [("b", "c"), ("d", "e")]),
        ("<a =b c>", [("=b", ""), ("c", "")]),
        ("<a b\n=\n\tc>", [("b", "c")]),
        ("<a b==c>", [("b", "=c")]),
        ("<a b=c b=d>", [("b", "c"), ("b", "d")]),
        ("<a href=x?a=1&amp;copy=2&copy=3&copy>", [("href", "x?a=1&copy=2&copy=3\u00a9")]),
        ("<a b='&#106;&#x6A&#0000106;&lt&ltx&nosuch;'>", [("b", "jjj<&ltx&nosuch;")]),
    ],
)
def test_attributes(tag: str, expected: list[tuple[str, str]]):
    assert attributes(tag) == expected


def test_attribute_offsets():
    text = "<p><a\nhref = 'x&amp;y' b=c d e=>"
    token = list(tokens(text))[1]
    found = {
        one.name: (text[one.start : one.end], text[one.value_start : one.value_end], one.quote)
        for one in token.attributes
    }
    assert found == {
        "href": ("href = 'x&amp;y'", "x&amp;y", "'"),
        "b": ("b=c", "c", ""),
        "d": ("d", "", ""),
        "e": ("e=", "", ""),
    }


@pytest.mark.parametrize("tag", ['<a b="c">', "<a b='c'>", "<a b=c>", "<a b>", "<a b/>", "<a b=c d>"])
@pytest.mark.parametrize("value", ["x", "a\"b'c", "&amp;<>", "", "a b"])
def test_a_value_replaced_is_read_again(tag: str, value: str):
    (token,) = tokens(tag)
    (again,) = tokens(lay_in(tag, [token.attributes[0].replaced(value)]))
    assert again.attributes[0].value == value
    assert [one.name for one in again.attributes] == [one.name for one in token.attributes]


@pytest.mark.parametrize("digits", ["0", "999999999999", "9" * 10_000, "0" * 10_000 + "65", "xd800", "x80"])
def test_numeric_references_of_any_size(digits: str):
    assert len(decode_references(f"&#{digits};")) == 1


def test_conditional_comments_and_raw_texts_are_looked_into():
    text = (
        "<!--[if (gte mso 9)|(IE)]><a 1><![endif]--><!--[if !mso]><!--><a 2><!--<![endif]-->"
        "<![if !mso]><a 3><![endif]><title><a 4></title><script><a></script><!-- <a> -->"
        "<!--[if mso]><style>x<a 5></style><![endif]-->"
    )
    found = [one.attributes[0].name for one in tags(text, frozenset({"a"})) if one.name == "a"]
    assert found == ["1", "2", "3", "4", "5"]


@given(soups)
@settings(max_examples=500, deadline=None)
def test_pieces_are_in_order_and_apart(text: str):
    place = 0
    for one in tokens(text):
        assert place <= one.start < one.end <= len(text) or one.kind is Kind.RAW
        inner = place = one.end
        for attribute in reversed(one.attributes):
            assert one.start < attribute.start <= attribute.value_start <= attribute.value_end
            assert attribute.value_end <= attribute.end <= inner
            inner = attribute.start


@given(soups)
@settings(max_examples=500, deadline=None)
def test_asking_for_names_gives_the_same_tags(text: str):
    names = frozenset({"a", "img"})

    def key(one: Token) -> tuple[object, ...]:
        return one.kind, one.start, one.end, one.name

    wanted = [key(one) for one in tokens(text) if one.kind not in (Kind.START, Kind.END) or one.name in names]
    given_ = [
        key(one)
        for one in tokens(text, names=names)
        if one.kind not in (Kind.START, Kind.END) or one.name in names
    ]
    assert given_ == wanted


@given(
    st.lists(st.sampled_from(["&", "#", "x", "6", "amp", "lt;", ";", "=", "&NotEqualTilde;"])).map("".join)
)
@settings(max_examples=300, deadline=None)
def test_offsets_of_decoded_text(raw: str):
    text, offsets = decode_with_offsets(raw)
    assert text == decode_references(raw)
    assert len(offsets) == len(text) + 1 and offsets[len(text)] == len(raw)
    assert all(one <= other for one, other in zip(offsets, list(offsets)[1:]))


@given(soups)
@settings(max_examples=500, deadline=None)
def test_quiet_tags_are_passed_over_and_all_others_found(text: str):
    def found(**options: str) -> set[tuple[int, int]]:
        return {(one.start, one.end) for one in tokens(text, **options)}  # type: ignore[arg-type]

    every, some = found(), found(quiet=quiet_tags('style="[^"]*+"'))
    assert some <= every
    for start, end in every - some:
        assert text.startswith(("<p", "</p>", "<a", "<img"), start) and "onclick" not in re.sub(
            "'[^']*'|\"[^\"]*\"", "", text[start:end]
        )


@pytest.mark.parametrize(
    ("tag", "quiet"),
    [
        ("<p>", True),
        ("</P>", True),
        ("<br/>", True),
        ("<TD Width=100% align='left' class = \"x>y\" nowrap >", True),
        ('<p style="color:red">', True),
        ("<p onclick=x>", False),
        ("<p class=x onclick=y>", False),
        ("<p class='x'onclick=y>", False),
        ("<p classic=x>", False),
        ("<p style=x>", False),
        ("<p/onclick=x>", False),
        ("<pp>", False),
        ("<p class='x", False),
        ("<script>", False),
        ("</p x>", False),
    ],
)
def test_quiet_tags(tag: str, quiet: bool):
    assert list(tokens(tag))
    assert (list(tokens(tag, quiet=quiet_tags('style="[^"]*+"'))) == []) == quiet


BENIGN = [
    "<html><head><title>T &amp; t</title><style>a > b { color: red }</style></head><body class=x>"
    "<p align='left'>one<br/>two <b>three</b></p><img src=\"a?b&amp;c\" alt=''><hr size=1>"
    "<!-- no --><a href=http://x/y?a=1&copy=2 title='&quot;x&quot;'>z</a></body></html>",
    "<div data-a='1' data-b=\"2\" DATA-C=3><span style='font: 12px \"Arial\"'>x</span></div>",
    "<ul><li one two=2>a</li><li\nthree\n=\n'3'>b</li></ul><textarea><p></textarea><p id=q>",
]


@pytest.mark.parametrize("text", BENIGN)
def test_an_independent_parser_sees_the_same_elements(text: str):
    theirs = [
        (node.tag, dict(node.attributes))
        for node in LexborHTMLParser(text).root.traverse()  # type: ignore[union-attr]
        if node.tag is not None and not node.tag.startswith(("-", "!"))
    ]
    ours = [
        (one.name, {each.name: each.value or None for each in reversed(one.attributes)})
        for one in tokens(text)
        if one.kind is Kind.START
    ]
    their_own = [
        (tag, {name: value or None for name, value in found.items()})
        for tag, found in theirs
        if found or any(tag == name for name, _ in ours)
    ]
    assert [one for one in their_own if one[1]] == [one for one in ours if one[1]]
    assert {tag for tag, _ in ours} <= {tag for tag, _ in theirs}


@given(st.lists(st.tuples(st.sampled_from(["a", "href", "data-x"]), st.text("ab&;\"'=<>#x1 ", max_size=8))))
@settings(max_examples=300, deadline=None)
def test_an_independent_parser_sees_the_same_attributes(pairs: list[tuple[str, str]]):
    tag = "<p"
    for number, (name, value) in enumerate(pairs):
        quote = ("'", '"')[number % 2]
        tag += f" {name}={quote}{value.replace(quote, '')}{quote}"
    (ours,) = tokens(tag + ">")
    node = LexborHTMLParser(tag + ">").css_first("p")
    assert node is not None
    mine = {one.name: one.value for one in reversed(ours.attributes)}
    assert mine == {name: value or "" for name, value in node.attributes.items()}


@pytest.mark.parametrize(
    "piece",
    [
        "<",
        "<a ",
        "<a",
        "<!--",
        "<!--[if x]>",
        "<style>",
        "<title><textarea>",
        '<a b="',
        "<a b='\"",
        "<a =",
        "</",
        "<!",
        "<![CDATA[",
        "<a b = b = ",
        "<a////",
        "<style></styl",
        "<!--[if a]><style><!--[if b]><title>",
        "--!",
        "<a b=&#" + "9" * 50,
        "<a\t\t\t\t\t\t\t\t\t\t\t\t",
        "&" * 50,
    ],
)
def test_hostile_text_takes_linear_time(piece: str):
    text = piece * (300_000 // len(piece))
    for one in tags(text):
        for attribute in one.attributes:
            assert attribute.value is not None
