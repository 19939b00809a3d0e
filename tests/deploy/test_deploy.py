"""What is deployed: the examples pass `check`, the unit passes systemd's own."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.cli import COMMANDS
from gateway.config.model import GlobalLimits
from gateway.config.reading import examine
from gateway.demo.certificates import make_authority
from tests.conftest import need

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
EXAMPLES = sorted((DEPLOY / "examples").glob("*.toml"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_pass_check(example: Path, tmp_path: Path):
    """With certificates in the places that they name."""
    (tmp_path / "tls").mkdir()
    authority = make_authority(tmp_path / "made")
    pair = authority.issue("mail")
    shutil.copy(pair.certificate, tmp_path / "tls" / "mail.pem")
    shutil.copy(pair.key, tmp_path / "tls" / "mail.key")
    shutil.copy(authority.certificate, tmp_path / "tls" / "ca.pem")
    shutil.copy(example, tmp_path / "mailgate.toml")
    configuration, problems = examine(tmp_path / "mailgate.toml")
    assert configuration is not None and problems == []


def test_there_are_three_cases():
    assert len(EXAMPLES) == 3


def test_the_unit_is_hardened(tmp_path: Path):
    """systemd's own judgement: below 2.0 is "OK" to it."""
    need("systemd-analyze")
    unit = tmp_path / "mailgate.service"
    text = (DEPLOY / "mailgate.service").read_text()
    unit.write_text(text.replace("/opt/mailgate/bin/mailgate", "/bin/true"))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert verified.returncode == 0 and str(unit) not in verified.stderr, verified.stderr
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", judged.stdout)
    assert found is not None and float(found.group(1)) < 2.0, judged.stdout


def test_the_unit_leaves_memory_deny_write_execute_out():
    """pyOpenSSL's callbacks fail under it."""
    lines = (DEPLOY / "mailgate.service").read_text().splitlines()
    assert not any(line.startswith("MemoryDenyWriteExecute") for line in lines)


def settings(name: str) -> list[str]:
    """Return the values of one of the unit's settings, in order."""
    text = (DEPLOY / "mailgate.service").read_text()
    return re.findall(rf"^{name}=(.*)$", text, re.MULTILINE)


def test_the_unit_waits_for_messages_in_flight():
    assert float(settings("TimeoutStopSec")[0]) > GlobalLimits().drain


def test_the_unit_calls_commands_that_there_are():
    called = [line for name in ("ExecStart", "ExecReload") for line in settings(name)]
    commands = re.findall(r"mailgate (\w+) -c /etc/mailgate/mailgate.toml", "\n".join(called))
    assert commands == ["run", "check"] and set(commands) <= set(COMMANDS)
    assert settings("Type") == ["notify"] and settings("RestartPreventExitStatus") == ["2"]


def test_the_builder_gets_what_the_image_needs():
    sent = {
        line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    text = (DEPLOY / "Dockerfile").read_text()
    copied = {
        name for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE) for name in line.split()
    }
    assert sent == copied


def test_the_readme_names_what_there_is():
    text = (DEPLOY / "README.md").read_text()
    for name in re.findall(r"^\| `([\w./-]+)` \|", text, re.MULTILINE):
        assert (DEPLOY / name).exists(), name
    assert {path.name for path in EXAMPLES} <= set(re.findall(r"examples/([\w.-]+)`", text))


def test_the_image_installs_what_there_is():
    text = (DEPLOY / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        for name in line.split():
            assert (DEPLOY.parent / name).exists(), name
    assert "USER mailgate" in text and "HEALTHCHECK" in text
