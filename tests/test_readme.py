"""What the README says is true: its configuration passes, its plugin works, its commands are there."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from gateway.cli import COMMANDS
from gateway.config.model import GlobalLimits, ListenerLimits, ListenerTimeouts, Upstream
from gateway.config.reading import examine_text
from gateway.config.rules import COMMAND_TIME
from gateway.demo.certificates import make_authority
from gateway.inspection.loader import PluginSpec, load_plugins
from gateway.observe.metrics import Metrics
from gateway.plugin import Message, Modify, SessionRecord
from gateway.protocols.imap import capabilities as imap
from gateway.protocols.pop3 import capabilities as pop3
from gateway.protocols.smtp import capabilities as smtp

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


def seconds(text: str) -> float:
    return int(text[:-1]) * {"s": 1.0, "m": 60.0}[text[-1]]


def test_the_limits_and_timeouts_are_the_models_defaults():
    chapter = README.partition("## Limits and time-outs")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \| (.*?) \|", chapter, re.MULTILINE)
    told = dict(rows)
    listener, timeouts, total = ListenerLimits(), ListenerTimeouts(), GlobalLimits()
    assert told.pop("`message_size`") == f"{listener.message_size // 1024**2} MiB"
    by_protocol = [COMMAND_TIME[name] for name in ("smtp", "pop3", "imap")]
    assert COMMAND_TIME["smtp"] == COMMAND_TIME["lmtp"]
    assert [seconds(one) for one in told.pop("`command`").split(", ")] == by_protocol
    upstream = Upstream(name="x", addresses=("127.0.0.1:25",)).model_dump()
    defaults = {**listener.model_dump(), **timeouts.model_dump(), **upstream}
    defaults.update({f"limits.{name}": value for name, value in total.model_dump().items()})
    count = 0
    for cell, values in told.items():
        names = re.findall(r"`([\w.]+)`", cell)
        for name, value in zip(names, values.split(", "), strict=True):
            count += 1
            assert (float(value) if value.isdigit() else seconds(value)) == defaults[name], name
    assert count == 16


def test_the_metrics_exist_and_the_struck_are_struck():
    families = Metrics(CollectorRegistry(), listeners={}).collect()
    names = {f"mailgate_{m}" if not m.startswith("mailgate_") else m for m in (f.name for f in families)}
    told = set(re.findall(r"`(mailgate_\w+)`", README))
    assert len(told) >= 15
    assert {name.removesuffix("_total") for name in told} <= names
    tables = {"SMTP": smtp, "POP3": pop3, "IMAP": imap}
    protocol = ""
    chapter = README.partition("| | struck | why |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| *(\w*) *\| ([A-Z].*?) \| (.*) \|$", chapter, re.MULTILINE)
    assert len(rows) == 13
    for label, struck, why in rows:
        protocol = label or protocol
        for name in struck.removesuffix(", ...").split(", "):
            action = tables[protocol].TABLE[name][0]
            wanted = "optional" if "pass_extensions" in why else "pass" if "only where" in why else "strike"
            assert action == wanted, name


def test_its_commands_and_files_are_there():
    for command in re.findall(r"mailgate ([a-z]+) ", README):
        assert command in COMMANDS or command in ("is",), command
    for target in re.findall(r"\]\(([a-z][\w/.]*)\)", README):
        assert (ROOT / target).exists(), target
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^ +make (\w+)", README, re.MULTILINE):
        assert f"\n{target}:" in makefile
