"""What looks for passwords finds them."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from .leaks import leaks, written

PASSWORD = "c0rrect-h0rse-b\u00e4ttery"


@pytest.mark.parametrize(
    "content",
    [
        PASSWORD.encode(),
        b"x" + PASSWORD.encode() + b"y",
        base64.b64encode(PASSWORD.encode()),
        base64.b64encode(f"\0alice\0{PASSWORD}".encode()),
        base64.b64encode(f"\0bob1\0{PASSWORD}".encode()),
        base64.b64encode(f"al\0al\0{PASSWORD}\0".encode()),
        PASSWORD.encode().hex().encode(),
        PASSWORD.encode().hex().upper().encode(),
    ],
)
def test_passwords_are_found(content: bytes) -> None:
    assert leaks(b"{" + content + b"}", [PASSWORD]) == [PASSWORD]


def test_nothing_is_found_where_nothing_is() -> None:
    assert leaks(b"correct horse battery staple " * 100, [PASSWORD]) == []


def test_what_a_gateway_writes_is_named_by_its_configuration(tmp_path: Path) -> None:
    configuration = tmp_path / "mailgate.toml"
    configuration.write_text(
        '[log]\noutput = "x.log"\n[audit]\nstore = "audit.db"\n[[transcripts]]\ndirectory = "t"\n'
        '[[events]]\nfile = { path = "events.json" }\n'
    )
    (tmp_path / "t").mkdir()
    names = ["audit.db", "audit.db-wal", "events.json", "events.json.1", "t/one.play", "x.log"]
    for name in (*names, "other"):
        (tmp_path / name).touch()
    assert sorted(str(path.relative_to(tmp_path)) for path in written(configuration)) == names
