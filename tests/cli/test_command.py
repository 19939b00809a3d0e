"""The command as an admin meets it: exit statuses, messages, and never a traceback."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli import COMMANDS
from gateway.demo.certificates import make_authority
from tests.cli.support import mailgate, without_rights
from tests.config.test_reading import GOOD
from tests.support.processes import free_port


def test_init_then_check(tmp_path):
    path = str(tmp_path / "mailgate.toml")
    assert mailgate("init", "-o", path).returncode == 0
    again = mailgate("init", "-o", path)
    assert again.returncode == 1 and "--force" in again.stderr
    checked = mailgate("check", "-c", path)
    assert checked.returncode == 0 and "good: 3 listeners" in checked.stdout


def test_check_tells_all_and_exits_with_2(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text(GOOD.replace("upstream =", "upstrem =").replace("hostname", "hostnam"))
    for command in ("check", "run"):
        result = mailgate(command, "-c", str(path))
        assert result.returncode == 2
        assert f"{path}:2: error: hostnam: unknown key" in result.stderr
        assert 'did you mean "upstream"?' in result.stderr
    as_json = mailgate("check", "--json", "-c", str(path))
    assert as_json.returncode == 2 and len(json.loads(as_json.stdout)) == 3


def test_a_port_in_use(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        path = tmp_path / "x.toml"
        path.write_text(GOOD.replace("2143", str(port)))
        result = mailgate("run", "-c", str(path))
    assert result.returncode == 1
    assert f"listener 'imap': 127.0.0.1:{port} is in use by " in result.stderr
    assert f"(pid {os.getpid()})" in result.stderr  # who it is, as far as /proc tells


def test_an_admin_port_in_use(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        path = tmp_path / "x.toml"
        text = GOOD.replace("2143", str(free_port())) + f'\n[admin]\naddress = "127.0.0.1:{port}"\n'
        path.write_text(text)
        result = mailgate("run", "-c", str(path))
    assert result.returncode == 1 and f"admin: 127.0.0.1:{port} is in use" in result.stderr


def test_an_address_of_another_machine(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text(GOOD.replace("127.0.0.1:2143", "192.0.2.1:2143"))
    result = mailgate("run", "-c", str(path))
    assert result.returncode == 1 and "no address of this machine" in result.stderr


def test_a_port_that_takes_a_right(tmp_path):
    first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if first < 2:
        pytest.skip("every port is open to everybody here")
    port = min(first, 26) - 1
    path = tmp_path / "x.toml"
    path.write_text(GOOD.replace("2143", str(port)))
    result = mailgate("run", "-c", path, before=without_rights())
    assert result.returncode == 1
    assert f"listener 'imap': no permission to listen on 127.0.0.1:{port}" in result.stderr
    assert "CAP_NET_BIND_SERVICE" in result.stderr


def test_files_that_can_not_be_read(tmp_path):
    """The message names the file, its place in the configuration, and who can't read it."""
    pair = make_authority(tmp_path).issue("mail")
    pair.key.chmod(0)
    path = tmp_path / "x.toml"
    files = f'{{ certificate = "mail.pem", key = "{pair.key.name}" }}'
    path.write_text(f'{GOOD}tls = {{ mode = "implicit", certificates = [{files}] }}\n')
    result = mailgate("check", "-c", path, before=without_rights())
    assert result.returncode == 2
    assert re.search(
        rf"x\.toml:13: error: listeners\[0\]\.tls\.certificates\[0\]\.key: can't be read by the user \S+: "
        rf"{re.escape(str(pair.key))}\n",
        result.stderr,
    )
    path.chmod(0)
    for command in ("check", "run"):
        result = mailgate(command, "-c", path, before=without_rights())
        assert result.returncode == 2 and "can't be read by the user" in result.stderr


def test_a_warning_is_told_and_is_no_error(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text(GOOD + 'mechanisms = ["PLAN"]\n')
    result = mailgate("check", "-c", path)
    assert result.returncode == 0
    assert f'{path}:13: warning: listeners[0].mechanisms[0]: unknown SASL mechanism "PLAN"' in result.stderr
    assert 'did you mean "PLAIN"?' in result.stderr
    assert result.stdout == f"{path}: good: 1 listener, 1 upstream, 0 plugins, 1 warning\n"


def test_init_where_it_can_not_write(tmp_path):
    result = mailgate("init", "-o", tmp_path / "nowhere" / "x.toml")
    assert result.returncode == 1 and "can't write" in result.stderr
    result = mailgate("init", "--force", "-o", tmp_path)
    assert result.returncode == 1 and "can't write" in result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    result = mailgate(command, "--help")
    assert result.returncode == 0 and result.stdout.startswith("Usage: ")


@pytest.mark.parametrize(
    "arguments", [("check",), ("check", "-c"), ("run", "-c", "/"), ("completion", "tcsh")]
)
def test_wrong_usage_exits_with_2(arguments):
    result = mailgate(*arguments)
    assert result.returncode == 2 and "Error: " in result.stderr


def test_version_and_completion_and_typos():
    told = json.loads(mailgate("version", "--json").stdout)
    assert all(re.match(r"\d+\.\d", told[name]) for name in ("mailgate", "python", "twisted", "openssl"))
    assert mailgate("--version").stdout == f"mailgate {told['mailgate']}\n"
    for shell in ("bash", "zsh", "fish"):
        assert "mailgate" in mailgate("completion", shell).stdout
    typo = mailgate("chek")
    assert typo.returncode == 2 and 'Did you mean "check"?' in typo.stderr


def test_completion_works():
    """What a shell asks for when TAB is pressed."""
    asked = mailgate(_MAILGATE_COMPLETE="bash_complete", COMP_WORDS="mailgate ch", COMP_CWORD="1")
    assert asked.stdout == "plain,check\n"


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (["version"], ("twisted", "pydantic", "rich")),
        (["check", "-c", "FILE"], ("twisted", "OpenSSL", "rich")),
    ],
)
def test_light_commands_load_no_reactor(tmp_path, arguments, unwanted):
    """Import time is a feature: `check` and `version` wait for no Twisted."""
    path = tmp_path / "x.toml"
    path.write_text(GOOD)
    words = [str(path) if word == "FILE" else word for word in arguments]
    code = (
        f"import sys; sys.argv = ['mailgate', *{words}]\n"
        "from gateway.cli import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code, end.code\n"
        f"assert not [name for name in {unwanted} if name in sys.modules]"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_replay(tmp_path):
    path = tmp_path / "one.play"
    path.write_text("# protocol: smtp\n?   open\n?   routed\nU>  220 mx\nC>  NOOP\nU>  250 ok\n")
    result = mailgate("replay", str(path))
    assert result.returncode == 0 and ">C  220 gate.example ESMTP" in result.stdout
    path.write_text(path.read_text().replace("# protocol: smtp\n", ""))
    assert mailgate("replay", "--protocol", "smtp", path).stdout == result.stdout.replace(
        "# protocol: smtp\n", ""
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"nonsense\n", 'no line "# protocol: ..."'),
        (b"# protocol: gopher\n", "unknown protocol 'gopher'"),
        (b"# protocol: smtp\nnonsense\n", "line 2: neither"),
        (b"# protocol: smtp\n?   nonsense\n", "line 2: unknown news 'nonsense'"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_replay_of_what_is_no_transcript(tmp_path, content, message):
    path = tmp_path / "one.play"
    path.write_bytes(content)
    result = mailgate("replay", path)
    assert (
        result.returncode == 2
        and result.stderr.startswith(f"mailgate: {path}: ")
        and message in result.stderr
    )
