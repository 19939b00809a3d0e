"""What is seen of HTML, and where it stands in the source."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.inspection.visible import visible_text


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
        ("a<script>x<b></script>b<STYLE>x</STYLE >c", "a\nb\nc"),
        ('a<a href="4111">b</a>', "ab"),
        ("1 < 2 <3", "1 < 2 <3"),
        ("a<?xml x?>b<!doctype c>d", "abd"),
        ("a<!-- never closed", "a"),
        ("a<b never closed", "a never closed"),
        ("a<script>never closed", "a\nnever closed"),
        ("<w:p><w:r><w:t>41</w:t></w:r><w:r><w:t>11</w:t></w:r></w:p>", "\n4111\n"),
        ("", ""),
    ],
)
def test_what_is_seen(source: str, text: str):
    assert visible_text(source).text == text


def pieces(source: str, text: str) -> list[tuple[str, int]]:
    seen = visible_text(source)
    place = seen.text.index(text)
    return [(source[start:end], count) for start, end, count in seen.in_source(place, place + len(text))]


def test_where_it_stands():
    source = "<p>4111<b>11</b>&#49;1</p><p>x"
    assert pieces(source, "41111111") == [("4111", 4), ("11", 2), ("&#49;", 1), ("1", 1)]
    assert pieces(source, "111") == [("111", 3)]
    assert pieces(source, "\nx") == [("x", 1)]


@given(st.text(alphabet="<>&;#1a/!- \"'pb", max_size=120))
def test_any_source(source: str):
    seen = visible_text(source)
    covered = list(seen.in_source(0, len(seen.text)))
    assert all(0 <= start < end <= len(source) for start, end, _ in covered)
    assert covered == sorted(covered) and all(a[1] <= b[0] for a, b in pairwise(covered))
    for start, end, count in covered:
        assert end - start == count or source[start] == "&"


@pytest.mark.parametrize(
    "unit", ["<", "<!--", "<a", "<a ", "&", "&a", "&amp;", "<script>", "<p>", "<!", "</", "<p <", "<p '>"]
)
def test_hostile_sources_take_time_in_proportion(unit: str):
    visible_text(unit * (300_000 // len(unit)))
