"""YARA rules over messages, parts and what is in them."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from gateway.plugins.yara import Yara
from hypothesis import given, settings
from pydantic import ValidationError

from gateway.core.facts import PluginRan
from gateway.core.outcome import Action
from gateway.inspection.loader import PluginSpec, check_plugins, load_plugins
from gateway.inspection.parts import parse
from gateway.inspection.pipeline import Judgement, Pipeline
from tests.inspection.files import PE, encrypted_zip, zipped
from tests.inspection.samples import WELL_FORMED, crlf
from tests.inspection.support import RECORD, AsyncioRunner, judge, loaded, run, start
from tests.inspection.test_parts import soups
from tests.plugins.pages import PAGES, check_page

pytest.importorskip("yara_x")

RULES = """\
rule marker { strings: $a = "a-marker" condition: $a }
rule program { meta: mailgate_action = "tag" condition: uint16(0) == 0x5a4d }
rule named { meta: mailgate_action = "log" condition: filename == "x.exe" and extension == "exe" }
rule typed { meta: mailgate_action = "log" condition: content_type == "image/png" }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mail.yar").write_text(RULES)
    return tmp_path


def yara(*rules: Path, **options: Any) -> Yara:
    return Yara(Yara.Options(rules=tuple(map(str, rules)), **options))


def judged(message: bytes, *rules: Path, **options: Any) -> Judgement:
    return judge(message, loaded(yara(*rules, **options), isolation="thread"))


def ran(message: bytes, *rules: Path, **options: Any) -> PluginRan:
    return judged(message, *rules, **options).runs[0]


def rules(message: bytes, *files: Path, **options: Any) -> set[str]:
    """Return what is noted of the rules that match."""
    return {text for key, text in ran(message, *files, **options).facts.items() if key.startswith("rule")}


def attached(content: bytes, header: str = "application/x; name=a.zip") -> bytes:
    head = f"Content-Type: {header}\nContent-Transfer-Encoding: base64\n\n"
    return crlf(head + base64.encodebytes(content).decode())


# -- what is scanned -----------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        crlf("X-Any: a-marker\n\nx\n"),
        crlf("Subject: x\n\na-marker\n"),
        crlf("Content-Transfer-Encoding: quoted-printable\n\na-mar=\nker\n"),
        attached(b"a-marker"),
        attached(zipped({"b.zip": zipped({"c": b"a-marker"})})),
    ],
)
def test_message_parts_and_archives(folder: Path, message: bytes):
    assert ran(message, folder).result == "reject"


def test_what_can_be_left_out(folder: Path):
    assert ran(crlf("X-Any: a-marker\n\nx\n"), folder, raw=False).result == "pass"
    assert ran(attached(zipped({"a": b"a-marker"})), folder, archives=False).result == "pass"


def test_names_and_types_are_known_to_rules(folder: Path):
    assert rules(attached(zipped({"x.exe": PE})), folder) == {
        "own/mail:named (log): a.zip/x.exe",
        "own/mail:program (tag): a.zip/x.exe",
    }
    assert rules(attached(b"x", "image/png"), folder) == {"own/mail:typed (log): message"}


def test_what_can_not_be_unpacked_is_noted(folder: Path):
    assert ran(attached(encrypted_zip()), folder).facts["not_unpacked"] == "encrypted"


# -- what becomes of it --------------------------------------------------------------


def test_actions(folder: Path):
    message = crlf("Subject: x\n\na-marker\n")
    outcome = judged(message, folder).outcome
    assert outcome.action is Action.REJECT
    assert outcome.reason == "Message refused, it matches own/mail:marker"
    assert ran(message, folder).facts == {"rule1": "own/mail:marker (reject): message"}
    assert ran(message, folder, action="quarantine").result == "quarantine"
    assert ran(message, folder, action="log").result == "pass"
    tagged = judged(message, folder, action="tag").chunks
    assert tagged is not None
    assert parse(b"".join(tagged)).get("x-yara").value == "own/mail:marker"  # type: ignore[union-attr]


def test_the_strictest_rule_counts(folder: Path):
    message = attached(zipped({"x.exe": PE, "y": b"a-marker"}))
    assert ran(message, folder).result == "reject"
    assert ran(attached(PE, "a/b; name=x.exe"), folder).result == "modify"


def test_namespaces_and_includes(folder: Path):
    (folder / "other.yara").write_text('include "own/mail.yar"\nrule marker2 { condition: marker }\n')
    found = {rule.partition(" ")[0] for rule in rules(crlf("\na-marker\n"), folder)}
    assert found == {"own/mail:marker", "other:marker", "other:marker2"}
    found = rules(crlf("\na-marker\n"), folder / "own" / "mail.yar")
    assert found == {"mail:marker (reject): message"}


# -- limits --------------------------------------------------------------------------


def test_a_scan_ends_in_time(folder: Path):
    rule = "rule slow { strings: $a = /a.*a.*a.*b/s condition: #a > 10 }"
    (folder / "slow.yar").write_text(rule)
    result = ran(b"\r\n" + b"a" * 3_000_000, folder, seconds=1)
    assert result.result == "timeout" and "longer than it may" in result.detail


def test_what_is_too_large_does_not_pass(folder: Path):
    result = ran(crlf("\n" + "x" * 3000), folder, largest=2000)
    assert result.result == "error" and "3002 octets to scan, more than 2000" in result.detail


@pytest.mark.parametrize("name", WELL_FORMED)
def test_well_formed_messages_pass(folder: Path, name: str):
    assert ran(WELL_FORMED[name], folder).result == "pass"


def test_any_octets(tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("rules") / "mail.yar"
    path.write_text(RULES)
    plugin = yara(path)

    @given(soups)
    @settings(max_examples=100, deadline=None)
    def check(message: bytes) -> None:
        assert judge(message, loaded(plugin, isolation="thread")).runs[0].result in (
            "pass",
            "modify",
            "reject",
        )

    check()


# -- mistakes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("rule a { condition: true }\nrule b {\n condition: nosuch }", ":3: unknown identifier `nosuch`"),
        ("rule a {", ":1: syntax error"),
        ('import "nosuch"\nrule a { condition: true }', ":1: unknown module `nosuch`"),
        ('include "nosuch.yar"', ":1: include file not found"),
        ("rule a { condition: true }\nrule a { condition: true }", ":2: duplicate rule `a`"),
        (
            '\n\nrule a { meta: mailgate_action = "burn" condition: true }',
            ':3: unknown mailgate_action "burn"; known: log, tag, quarantine, reject',
        ),
    ],
)
def test_a_mistake_in_a_rule_names_file_and_line(folder: Path, source: str, message: str):
    path = folder / "wrong.yar"
    path.write_text(source)
    (error,) = check_plugins([PluginSpec("yara", "yara", options={"rules": [str(folder)]})])
    assert f"{path}{message}" in str(error)


def test_what_can_not_be_read(folder: Path):
    for path, message in (
        (folder / "nosuch", "no such file or directory"),
        (folder / "empty", "has no file"),
        (folder / "octets.yar", "can't be read"),
        (folder / "own" / "mail.yar", "would share the namespace mail"),
    ):
        (folder / "empty").mkdir(exist_ok=True)
        (folder / "octets.yar").write_bytes(b"\xff\xfe\x00")
        (folder / "mail.yar").write_text(RULES)
        with pytest.raises(ValueError, match=message):
            yara(path, folder / "mail.yar")


def test_without_yara_x(folder: Path, monkeypatch: pytest.MonkeyPatch):
    import sys

    monkeypatch.setitem(sys.modules, "yara_x", None)
    with pytest.raises(ValueError, match=r"install mailgate\[yara\]"):
        yara(folder)


@pytest.mark.parametrize("options", [{"rules": ()}, {"action": "burn"}, {"seconds": 0}, {"header": "X Y"}])
def test_options_that_are_refused(folder: Path, options: dict[str, Any]):
    with pytest.raises(ValidationError):
        Yara.Options(**({"rules": (str(folder),)} | options))


def test_in_a_process_as_it_is_configured(folder: Path):
    spec = PluginSpec("yara", "yara", time_limit=20.0, options={"rules": [str(folder)]})
    pipeline = Pipeline(load_plugins([spec]), AsyncioRunner(), hostname="gate.example.org")
    pipeline.start()
    try:
        for content, result in ((zipped({"x": b"a-marker"}), "reject"), (PE, "modify"), (b"x", "pass")):
            judgement = run(pipeline.judge(attached(content), start(), RECORD))
            assert judgement.runs[0].result == result, judgement
    finally:
        pipeline.stop()


def test_the_page(folder: Path):
    check_page("yara", Yara.Options, rules=[str(folder)])
    source = (PAGES / "yara.md").read_text().partition("```yara\n")[2].partition("```")[0]
    (folder / "page.yar").write_text(source)
    assert ran(attached(b"new WScript.Shell", "a/b; name=x.js"), folder).result == "reject"
