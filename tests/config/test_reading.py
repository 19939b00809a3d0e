"""Reading a configuration: every error at once, each with its place."""

from __future__ import annotations

import re
import tomllib
from datetime import UTC, datetime, timedelta
from importlib.resources import files

import pytest
from pydantic import BaseModel

from gateway.config.errors import ConfigurationError
from gateway.config.lines import key_lines
from gateway.config.model import Configuration
from gateway.config.reading import _table_of, examine, examine_text, read
from gateway.demo.certificates import make_authority

GOOD = """
hostname = "gate.example"

[[upstreams]]
name = "up"
addresses = ["127.0.0.1:143"]

[[listeners]]
name = "imap"
protocol = "imap"
address = "127.0.0.1:2143"
upstream = "up"
"""


def told(text: str, directory) -> list[str]:
    """Return each problem as one line."""
    return [("warning: " if one.warning else "") + str(one) for one in examine_text(text, directory)[1]]


def test_a_minimal_file_is_about_ten_lines(tmp_path):
    configuration, problems = examine_text(GOOD, tmp_path)
    assert problems == [] and configuration is not None
    assert (
        configuration.upstreams[0].tls is None and configuration.listeners[0].limits.message_size == 100 << 20
    )


def test_every_error_at_once_with_path_line_and_suggestion(tmp_path):
    text = """
hostnam = "x"
[[upstreams]]
name = "up"
addresses = ["127.0.0.1"]
connect_timeout = "soon"
[[listeners]]
name = "imap"
protocol = "imapp"
address = "mail.example:143"
upstream = "up"
[listeners.tls]
mode = "startls"
[listeners.limits]
message_size = "10 parsecs"
"""
    assert told(text, tmp_path) == [
        'line 2: hostnam: unknown key "hostnam" (did you mean "hostname"?)',
        'line 5: upstreams[0].addresses[0]: no port; write it like "127.0.0.1:143" or "[::1]:143"',
        'line 6: upstreams[0].connect_timeout: not a duration; write it like "30s", "10m", "1h30m"',
        "line 9: listeners[0].protocol: 'imapp' is not one of 'smtp', 'lmtp', 'pop3' or 'imap'"
        ' (did you mean "imap"?)',
        "line 10: listeners[0].address: listen on an address, not a name; "
        'all addresses are "0.0.0.0" or "[::]"',
        "line 13: listeners[0].tls.mode: 'startls' is not one of 'none', 'starttls' or 'implicit'"
        ' (did you mean "starttls"?)',
        'line 15: listeners[0].limits.message_size: not a size; write it like "10 MiB" or "500 kB"',
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ('upstream = "up"', 'upstream = "upp"'),
            'listeners[0].upstream: unknown upstream "upp" (did you mean "up"?)',
        ),
        (
            ('"127.0.0.1:143"', '"192.0.2.1:143"'),
            "tls must be said for an upstream that is not on this machine",
        ),
        (
            ('upstream = "up"', 'upstream = "up"\ntls = { mode = "starttls" }'),
            'mode = "starttls" needs certificates',
        ),
        (('"127.0.0.1:143"]', '"127.0.0.1:143"]\nforward_client = "xclient"'), "is not for imap"),
        (('"127.0.0.1:143"]', '"127.0.0.1:143"]\nca = "none.pem"'), "upstreams[0].ca: no such file"),
        (('hostname = "gate.example"', '[spool]\ndirectory = "nowhere"'), "spool.directory: no such folder"),
        (('name = "imap"', 'name = "imap"\nproxy_protocol_from = ["10.0.0.1/8"]'), "not a network"),
    ],
)
def test_what_a_model_can_not_see(tmp_path, change, message):
    problems = told(GOOD.replace(*change), tmp_path)
    assert len(problems) == 1 and message in problems[0] and problems[0].startswith("line ")


def test_two_listeners_on_one_address(tmp_path):
    second = GOOD[GOOD.index("[[listeners]]") :].replace('"imap"\nprotocol', '"two"\nprotocol')
    assert any("listens on 127.0.0.1:2143 too" in line for line in told(GOOD + second, tmp_path))


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        ('use = "add_heder"', "add_header"),
        ('use = "add_header"', "options"),
        ('use = "add_header"\noptions = { name = "X", value = "{nonsense}" }', "nonsense"),
        ('use = "none.py"', "none.py"),
        ('use = "footer"\noptions = { text = "x" }\nlisteners = ["imapp"]', 'unknown listener "imapp"'),
    ],
)
def test_plugins_are_checked_too(tmp_path, plugin, message):
    problems = told(f'{GOOD}\n[[plugins]]\nname = "p"\n{plugin}\n', tmp_path)
    assert len(problems) >= 1 and message in problems[0] and "plugins[0]" in problems[0]


def test_keys_and_certificates(tmp_path):
    authority = make_authority(tmp_path)
    one, two = authority.issue("one"), authority.issue("two")
    old = authority.issue("old", not_after=datetime.now(UTC) - timedelta(days=1))

    def problems(certificate, key):
        pair = f'{{ certificate = "{certificate}", key = "{key}" }}'
        tls = f'tls = {{ mode = "implicit", certificates = [{pair}] }}'
        return told(GOOD + tls, tmp_path)

    assert problems(one.certificate, one.key) == []
    assert any("not the key of" in line for line in problems(one.certificate, two.key))
    expired = problems(old.certificate, old.key)
    assert len(expired) == 1 and expired[0].startswith("warning: ") and "expired on" in expired[0]
    (tmp_path / "junk.pem").write_text("junk")
    assert any("not a certificate in PEM form" in line for line in problems("junk.pem", one.key))
    assert any("not a private key" in line for line in problems(one.certificate, "junk.pem"))
    assert any("no such file" in line for line in problems("gone.pem", one.key))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a = 1\nb = = 2\n", "line 2: not TOML"),
        (b"a = 1\nb = \xff\n", "line 2: not UTF-8"),
        (b"", '"upstreams" is missing'),
    ],
)
def test_what_is_no_configuration_at_all(tmp_path, data, message):
    path = tmp_path / "x.toml"
    path.write_bytes(data)
    _, problems = examine(path)
    assert any(message in str(problem) for problem in problems)
    with pytest.raises(ConfigurationError):
        read(path)


def test_a_file_that_is_not_there(tmp_path):
    _, problems = examine(tmp_path / "gone.toml")
    assert "no such file" in str(problems[0]) and "mailgate init" in str(problems[0])


def test_lines_of_keys():
    lines = key_lines('a = 1\n[[t]]\nx = 1\n[t.u]\ny = 2\n[[t]]\n"x" = 3\n[v.w]\nz.q = 1\n')
    assert lines[("a",)] == 1
    assert lines[("t", 0, "x")] == 3
    assert lines[("t", 0, "u", "y")] == 5
    assert lines[("t", 1, "x")] == 7
    assert lines[("v", "w", "z", "q")] == 9


def test_the_example_names_every_option():
    """Every field of the model stands in the example, commented out or not."""
    text = (files("gateway.config") / "example.toml").read_text()
    words = set(re.findall(r"(?<![\w.])([a-z_]+) = ", text)) | set(re.findall(r"\[+([a-z_.]+)\]+", text))
    words |= {part for word in words for part in word.split(".")}

    def fields(model: type[BaseModel]):
        for name, field in model.model_fields.items():
            yield name
            inner = _table_of(field.annotation)
            if inner is not None:
                yield from fields(inner)

    missing = set(fields(Configuration)) - words
    assert not missing


def test_the_example_passes_as_it_is_and_uncommented_keys_are_known(tmp_path):
    text = (files("gateway.config") / "example.toml").read_text()
    assert told(text, tmp_path) == []
    # With the values uncommented every key must still be one that the model knows.
    bare = re.sub(r"(?m)^# ([a-z_]+ = )", r"\1", text)
    bare = re.sub(r"(?m)^# (\[\[?[a-z.]+\]\]?)$", r"\1", bare)
    tomllib.loads(bare)
    assert not [line for line in told(bare, tmp_path) if "unknown key" in line]
