"""What the README says is true: its configuration passes, its plugin works, its commands are there."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.cli import COMMANDS
from gateway.config.reading import examine_text
from gateway.demo.certificates import make_authority
from gateway.inspection.loader import PluginSpec, load_plugins
from gateway.plugin import Message, Modify, SessionRecord

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def block(kind: str, containing: str) -> str:
    found = [text for text in re.findall(rf"```{kind}\n(.*?)```", README, re.DOTALL) if containing in text]
    assert len(found) == 1
    return found[0]


def test_the_short_configuration_passes(tmp_path):
    pair = make_authority(tmp_path).issue("pair")
    (tmp_path / "mail.pem").write_bytes(pair.certificate.read_bytes())
    (tmp_path / "mail.key").write_bytes(pair.key.read_bytes())
    configuration, problems = examine_text(block("toml", "[[listeners]]"), tmp_path)
    assert configuration is not None and problems == []


def test_the_plugin_works(tmp_path):
    (tmp_path / "tag.py").write_text(block("python", "class Tag"))
    loaded = load_plugins([PluginSpec("external", str(tmp_path / "tag.py"))])[0]
    message = Message.of(b"Subject: hello\r\n\r\nHello.\r\n")
    verdict = loaded.plugin.inspect(message, SessionRecord("id", "smtp", "mx", "192.0.2.1", 1024))
    assert isinstance(verdict, Modify)


def test_its_commands_and_files_are_there():
    for command in re.findall(r"mailgate ([a-z]+) ", README):
        assert command in COMMANDS or command in ("is",), command
    for target in re.findall(r"\]\(([a-z][\w/.]*)\)", README):
        assert (ROOT / target).exists(), target
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^ +make (\w+)", README, re.MULTILINE):
        assert f"\n{target}:" in makefile
