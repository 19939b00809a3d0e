"""Every name that some mail program may take for a file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.inspection.filenames import extension_of, file_names, name_tricks, saved_names
from gateway.inspection.parts import parse


def names(header: str) -> tuple[str, ...]:
    return file_names(parse(header.replace("\n", "\r\n").encode() + b"\r\n\r\nx"))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Content-Type: a/b; name=x.exe", {"x.exe"}),
        (
            "Content-Disposition: attachment; filename=a.txt\nContent-Type: a/b; name=x.exe",
            {"a.txt", "x.exe"},
        ),
        ('Content-Disposition: attachment; filename="a.txt"; filename="x.exe"', {"a.txt", "x.exe"}),
        ("Content-Disposition: attachment; filename=\"a.txt\"; filename*=utf-8''x.exe", {"a.txt", "x.exe"}),
        ("Content-Disposition: attachment; filename*0=x.; filename*1=exe", {"x.exe"}),
        ("Content-Disposition: attachment; filename*1=exe; filename*0=x.", {"x.exe"}),
        ("Content-Disposition: attachment; filename*0*=utf-8''%78.; filename*1*=e%78e", {"x.exe"}),
        ('Content-Disposition: attachment; filename="=?utf-8?B?eC5leGU=?="', {"x.exe"}),
        ("Content-Disposition: attachment; filename==?utf-8?Q?x=2Eexe?=", {"x.exe"}),
        ("Content-Disposition: attachment; filename=x.exe and more", {"x.exe", "x.exe and more"}),
        ("Content-Disposition: attachment; name=x.exe", {"x.exe"}),
        ("Content-Disposition: attachment\nContent-Disposition: attachment; filename=x.exe", {"x.exe"}),
        ("Content-Type: a/b\nContent-Type: a/b; name=x.exe", {"x.exe"}),
        ("Content-Disposition: attachment filename=x.exe", {"x.exe"}),
        ('Content-Disposition: attachment; filename="x\\.exe"', {"x.exe"}),
        ("Content-Disposition: attachment; filename=x(comment).exe", {"x.exe"}),
        ("Content-Disposition: attachment;\n filename=x.exe", {"x.exe"}),
        ('Content-Disposition: attachment; filename="x.exe"y.txt', {"x.exe", "x.exey.txt"}),
        ('Content-Disposition: attachment; filename= "x.exe" y.txt', {"x.exe"}),
        ("Content-Disposition: attachment; filename=x.exe,y.txt", {"x.exe", "x.exe,y.txt"}),
        ("Content-Disposition: filename=x.exe", {"x.exe"}),
    ],
)
def test_every_reading(header: str, expected: set[str]):
    assert expected <= set(names(header)), names(header)


def test_no_name():
    assert names("Content-Type: text/plain") == ()


@pytest.mark.parametrize(
    ("name", "saved"),
    [
        ("X.EXE", "x.exe"),
        ("x.exe...", "x.exe"),
        ("x.exe \t.", "x.exe"),
        ("dir/../x.exe", "x.exe"),
        ("C:\\temp\\x.exe", "x.exe"),
        ("x\u2024exe", "x.exe"),
        ("\uff58.\uff45\uff58\uff45", "x.exe"),
        ("x.e\u200bxe", "x.exe"),
        ("cod\u202egnp.exe", "codgnp.exe"),
        ("x.exe\0.txt", "x.exe"),
        ("x.exe\0.txt", "x.exe.txt"),
        ("x.exe::$DATA", "x.exe"),
        ("x.exe:stream.txt", "x.exe"),
        ('x.exe"', "x.exe"),
    ],
)
def test_as_it_is_saved(name: str, saved: str):
    assert saved in saved_names(name)


def test_extensions():
    assert [extension_of(name) for name in ("a.tar.gz", "a", "", ".profile")] == ["gz", "", "", "profile"]


@given(st.text(max_size=200))
def test_any_name(name: str):
    assert all(one for one in saved_names(name))
    name_tricks(name)


def test_a_long_name_takes_no_time():
    for unit in (" ", "a.", "_", "\u202e", "=?", "a\0"):
        name_tricks(unit * 500_000)
        saved_names(unit * 500_000)
        names(f'Content-Type: a/b; name="{unit.encode("ascii", "ignore").decode() * 20_000}"')
