"""`mailgate inspect`: the parts, the plugins, the outcome; on a terminal, in a pipe, as JSON."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.cli.support import mailgate
from tests.config.test_reading import GOOD
from tests.inspection.samples import DKIM, MIXED, SIGNED

SMTP = """
[[listeners]]
name = "mx"
protocol = "smtp"
address = "127.0.0.1:2587"
upstream = "up"
"""
PLUGINS = """
[[plugins]]
name = "mark"
use = "add_header"
options = { name = "X-Gateway", value = "{user} {mailfrom}" }
[[plugins]]
name = "foot"
use = "footer"
shadow = true
options = { text = "Sent by Example Ltd." }
[[plugins]]
name = "later"
use = "footer"
stages = ["append"]
options = { text = "x" }
[[plugins]]
name = "never"
use = "footer"
share = "0%"
options = { text = "x" }
"""


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    path = tmp_path / "mailgate.toml"
    path.write_text(GOOD + SMTP + PLUGINS)
    return path


def message(folder: Path, octets: bytes) -> Path:
    path = folder / "message.eml"
    path.write_bytes(octets)
    return path


def on_a_terminal(*arguments: str | Path, columns: int = 80) -> str:
    """Return what a person sees whose terminal has so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", *map(str, arguments)],
        stdout=theirs,
        stderr=theirs,
        stdin=subprocess.DEVNULL,
        env={**environment, "TERM": "xterm-256color"},
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # what a pty gives at the end
            break
        if not data:
            break
        seen += data
    os.close(ours)
    assert process.wait(60) == 0, seen.decode()
    return seen.decode()


def test_the_parts_of_a_message(tmp_path):
    result = mailgate("inspect", message(tmp_path, MIXED))
    assert result.returncode == 0
    rows = [line.split()[:2] for line in result.stdout.partition("part ")[2].splitlines()[1:]]
    assert rows[:5] == [
        ["-", "multipart/mixed"],
        ["1", "multipart/related"],
        ["1.1", "multipart/alternative"],
        ["1.1.1", "text/plain"],
        ["1.1.2", "text/html"],
    ]
    assert '"pä.png"' in result.stdout and "\x1b" not in result.stdout
    assert all(line == line.rstrip() for line in result.stdout.splitlines())


def test_signatures_and_defects_are_named(tmp_path):
    assert "covered by multipart/signed" in mailgate("inspect", message(tmp_path, SIGNED)).stdout
    assert "covered by dkim" in mailgate("inspect", message(tmp_path, DKIM)).stdout
    broken = b"Content-Type: multipart/mixed; boundary=b\r\n\r\nnothing\r\n"
    assert "boundary_not_found" in mailgate("inspect", message(tmp_path, broken)).stdout
    hidden = (
        b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        b"Q29udGVudC1UeXBlOiB0ZXh0L2h0bWwNCg0KPHA+aGlkZGVuPC9wPg0K\r\n"
    )
    told = mailgate("inspect", message(tmp_path, hidden)).stdout
    assert "ambiguous: programs may read it differently: encoded_message" in told
    assert re.search(r"^~1 +text/html", told, re.MULTILINE), told


def test_what_the_plugins_say(tmp_path, configuration):
    path = message(tmp_path, b"Subject: hello\n\nhello\n")
    options = ["--user", "alice", "--mail-from", "a@example.org", "--rcpt-to", "b@example.org"]
    result = mailgate("inspect", path, "-c", configuration, *options)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert any(re.match(r"mark +modify +\d", line) for line in lines)
    assert any(re.match(r"foot +modify, so shadow +\d", line) for line in lines)
    assert any(re.match(r"later +- +not asked at the stage data", line) for line in lines)
    assert any(re.match(r"never +- +outside of its share of 0", line) for line in lines)
    end = result.stdout.partition("foot would change\n")[2]
    assert "  @@ body\n  +Sent by Example Ltd.\n" in end
    assert "outcome modify: 25 B, now" in end
    assert end.endswith("  @@ header\n  +X-Gateway: alice a@example.org\n")
    assert "line ends LF" in lines[0]


def test_as_json_from_the_standard_input(tmp_path, configuration):
    ended = subprocess.run(
        [sys.executable, "-m", "gateway", "inspect", "-", "-c", configuration, "--json", "--stage", "append"],
        input=b"Subject: \x1b[31mhello\r\n\r\nhello\r\n",
        capture_output=True,
        check=True,
    )
    told = json.loads(ended.stdout)
    assert (told["file"], told["size"], told["was_lf"]) == ("standard input", 30, False)
    assert [part["type"] for part in told["parts"]] == ["text/plain"]
    assert [(run["plugin"], run["result"], run["applied"]) for run in told["plugins"]] == [
        ("mark", "modify", "modify"),
        ("foot", "modify", "shadow"),
        ("later", "modify", "modify"),
    ]
    assert told["plugins"][1]["diff"] == ["@@ body", "+Sent by Example Ltd."]
    assert told["outcome"]["action"] == "modify" and told["outcome"]["difference"]
    assert told["unasked"] == {"never": "outside of its share of 0"}


def test_on_a_terminal_of_80_columns(tmp_path, configuration):
    hostile = MIXED.replace(b"Subject: ", b"Subject: \x1b]0;owned\x07\x1b[2J \xe2\x80\xae ", 1)
    hostile = hostile.replace(b"image/png", b"image/" + b"x" * 200)
    assert hostile.startswith(b"From")
    seen = on_a_terminal("inspect", message(tmp_path, hostile), "-c", configuration)
    bare = re.sub("\x1b\\[[0-9;]*m", "", seen)
    assert "\x1b[" in seen, "there is colour"
    assert "\x1b" not in bare and "\x07" not in bare and "\u202e" not in bare
    lines = bare.replace("\r\n", "\n").splitlines()
    assert all(len(line) <= 80 for line in lines)


def test_what_can_not_be_inspected(tmp_path, configuration):
    gone = mailgate("inspect", tmp_path / "gone.eml")
    assert gone.returncode == 1 and "can't read" in gone.stderr
    path = message(tmp_path, b"x")
    wrong = mailgate("inspect", path, "-c", configuration, "--listener", "mxx")
    assert wrong.returncode == 2 and 'no listener "mxx"; there are: imap, mx' in wrong.stderr
    configuration.write_text("nonsense")
    assert mailgate("inspect", path, "-c", configuration).returncode == 2


def test_any_octets(tmp_path):
    for octets in (
        b"",
        b"\0" * 100,
        b"\xff\xfe",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" * 300,
    ):
        assert mailgate("inspect", message(tmp_path, octets)).returncode == 0
