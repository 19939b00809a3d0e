"""What is seen of HTML, and where it stands in the source."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.inspection.visible import flowed_text, visible_text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("plain", "plain"),
        ("a <b>b</b>c", "a bc"),
        ("a<p>b</p>c", "a\nb\nc"),
        ("a<br>b<td>c", "a\nb\nc"),
        ("a &amp; b&#52;&#x31;&nbsp;c&lt", "a & b41\u00a0c<"),
        ("a & b &unknown; c", "a & b &unknown; c"),
        ("a<!-- <b>hidden --> b", "a b"),
        ("a<script>x<b></script>b<STYLE>x</STYLE >c", "abc"),
        ('a<a href="4111">b</a>', "ab"),
        ("1 < 2 <3", "1 < 2 <3"),
        ("a<?xml x?>b<!doctype c>d", "abd"),
        ("a<!-- never closed", "a"),
        ("a<b never closed", "a never closed"),
        ("a<script>never closed", "anever closed"),
        ("a b\r\nc  d\t e", "a b c d e"),
        ("a <b> b</b>\n <i>\n</i>c<tr>\n<td>", "a b c\n"),
        ("a\u00a0\u00a0b", "a\u00a0\u00a0b"),
        ("<pre>a\n  b</pre>\nc  d", "\na\n b\n c d"),
        ("a<!-->b<!--->c<!-- --!>d<!-- x -- > -->e", "abcde"),
        ("<!-- x --!>a<!-- y -->b<!-- z --!>c", "abc"),
        ("41<nobr>11</nobr><st1:phone>11</st1:phone><p-x>1</p-x><img src=x>1", "41111111"),
        ('41<b title=">">11</b><b a = \'>\' c=d">1', "41111"),
        ('a<b ">b<b =">c<b x=">">d', "abcd"),
        ('a<b x="b>c', "ac"),
        ("<svg><style/></svg>a</style>b", "ab"),
        ("", ""),
    ],
)
def test_what_is_seen(source: str, text: str):
    assert visible_text(source).text == text


def test_what_is_seen_of_xml():
    document = "<w:p><w:r><w:t>41</w:t></w:r><w:r><w:t>11</w:t></w:r></w:p>"
    assert visible_text(document, html=False).text == "\n4111\n"
    assert visible_text("<c><v>41</v></c><c><v>11</v></c>", html=False).text.split() == ["41", "11"]


@pytest.mark.parametrize(
    ("source", "without_blank", "text"),
    [
        ("a \r\nb\r\nc", False, "a b\r\nc"),
        ("a \nb \nc", True, "abc"),
        ("> a \r\n> b\r\n  c", False, "> a b\r\n  c"),
        ("", False, ""),
    ],
)
def test_flowed_lines_are_joined(source: str, without_blank: bool, text: str):
    seen = flowed_text(source, without_blank=without_blank)
    assert seen.text == text
    assert "".join(source[start:end] for start, end, _ in seen.in_source(0, len(text))) == text


def pieces(source: str, text: str) -> list[tuple[str, int]]:
    seen = visible_text(source)
    place = seen.text.index(text)
    return [(source[start:end], count) for start, end, count in seen.in_source(place, place + len(text))]


def test_where_it_stands():
    source = "<p>4111<b>11</b>&#49;1</p><p>x"
    assert pieces(source, "41111111") == [("4111", 4), ("11", 2), ("&#49;", 1), ("1", 1)]
    assert pieces(source, "111") == [("111", 3)]
    assert pieces(source, "\nx") == [("x", 1)]
    wrapped = "a  b\r\n<p>4111\r\n\t1111 &#49;111 <b> 1</b>\tc"
    assert pieces(wrapped, "4111") == [("4111", 4)]
    assert pieces(wrapped, "1111 ") == [("1111 ", 5)]
    assert pieces(wrapped, "1 c") == [("1", 1), ("\tc", 2)]


@given(st.text(alphabet="<>&;#1a/!- \"'pb", max_size=120))
def test_any_source(source: str):
    seen = visible_text(source)
    covered = list(seen.in_source(0, len(seen.text)))
    assert all(0 <= start < end <= len(source) for start, end, _ in covered)
    assert covered == sorted(covered) and all(a[1] <= b[0] for a, b in pairwise(covered))
    for start, end, count in covered:
        assert end - start == count or source[start] == "&"


@pytest.mark.parametrize(
    "unit",
    [
        "<",
        "<!--",
        "<a",
        "<a ",
        "&",
        "&a",
        "&amp;",
        "<script>",
        "<p>",
        "<!",
        "</",
        "<p <",
        "<p '>",
        "<!---",
        '<p a="',
        "<p a='",
        "<p =",
        "<!-- --!>",
    ],
)
def test_hostile_sources_take_time_in_proportion(unit: str):
    for end in ("", ">", 'a=">"', "--!>"):
        visible_text(unit * (300_000 // len(unit)) + end)
        visible_text(end + "<a '" + unit * (300_000 // len(unit)))
    flowed_text(unit + " \n>" * 300_000, without_blank=True)
