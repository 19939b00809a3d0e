"""Reading a configuration: every error at once, each with its place."""

from __future__ import annotations

import re
import tomllib
from datetime import UTC, datetime, timedelta
from importlib.resources import files

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from gateway.cli.describing import field_texts
from gateway.config.errors import ConfigurationError
from gateway.config.model import Configuration, ListenerLimits, ListenerTimeouts, Log, Smtp
from gateway.config.model import GlobalLimits as Limits
from gateway.config.reading import examine, examine_text, read
from gateway.core.rules import DEFAULT_MECHANISMS
from gateway.demo.certificates import make_authority
from gateway.inspection.models import table_of

EXAMPLE = (files("gateway.config") / "example.toml").read_text()
#: The example with everything uncommented that is not prose.
BARE = re.sub(r"(?m)^# (\[\[?[a-z0-9.]+\]\]?)$", r"\1", re.sub(r"(?m)^# ([a-z0-9_]+ = )", r"\1", EXAMPLE))

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
        (('hostname = "gate.example"', 'user = "no-such-user"'), 'there is no user "no-such-user"'),
        (('hostname = "gate.example"', '[log]\noutput = "nowhere/x.log"'), "log.output: no such folder"),
        (('hostname = "gate.example"', '[log]\noutput = "."'), "log.output: is a folder"),
        (('hostname = "gate.example"', '[admin]\naddress = "0.0.0.0:2143"'), "listeners[0] listens on"),
        (('"127.0.0.1:143"', '"127.0.0.1:2143"'), "the gateway would talk to itself"),
        (
            ('hostname = "gate.example"', '[[transcripts]]\ndirectory = "t"\nlisteners = ["imaps"]'),
            'unknown listener "imaps" (did you mean "imap"?)',
        ),
    ],
)
def test_what_a_model_can_not_see(tmp_path, change, message):
    problems = told(GOOD.replace(*change), tmp_path)
    assert len(problems) == 1 and message in problems[0] and problems[0].startswith("line ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('"127.0.0.1:143"', '"127.0.0.1:0"'), "port 0 can't be connected to"),
        (('"127.0.0.1:143"', '"127.0.0.1:66000"'), "there is no port 66000: the highest is 65535"),
        (('"127.0.0.1:143"', '"::1:143"'), 'an IPv6 address needs brackets: "[::1]:143"'),
        (('"127.0.0.1:143"', '"[::1]"'), "no port; write it like"),
        (('"127.0.0.1:143"', '":143"'), "no host; write it like"),
        (('"127.0.0.1:143"', '"a..b:143"'), "not the name of a host: 'a..b'"),
        (('["127.0.0.1:143"]', '"127.0.0.1:143"'), "must be a list (write it in brackets: [ ])"),
        (("[[listeners]]", "[listeners]"), "listeners: must be a list (write [[listeners]])"),
        (('hostname = "gate.example"', "hostname = 5"), "hostname: must be a string"),
        (("gate.example", "g\u00e4te.example"), "may hold ASCII letters, digits, '-' and '.' only"),
        (("gate.example", "a b"), "not the name of a host: 'a b'"),
        (('upstream = "up"', 'upstream = "up"\ntls = "starttls"'), "listeners[0].tls: must be a table"),
        (('upstream = "up"', 'upstream = "up"\napop = "yes"'), "must be true or false"),
        (('upstream = "up"', 'upstream = "up"\nlimits.errors = 0'), "must be at least 1"),
        (('upstream = "up"', 'upstream = "up"\nlimits.errors = "5"'), "must be a whole number"),
        (('upstream = "up"', 'upstream = "up"\nlimits.connections = true'), "must be a whole number"),
        (('upstream = "up"', 'upstream = "up"\nlimits.message_size = 0'), "must be at least 1"),
        (('upstream = "up"', 'upstream = "up"\ntimeouts.reply = inf'), "can't be longer than 365d"),
        (('upstream = "up"', 'upstream = "up"\ntimeouts.reply = 0'), "must be more than 0s"),
        (('upstream = "up"', 'upstream = "up"\ntimeouts.reply = -1'), "can't be negative"),
        (('upstream = "up"', 'upstream = "up"\nsmtp.banner = "a\\r\\n220 b"'), "one line of at most 400"),
        (('upstream = "up"', 'upstream = "up"\nmechanisms = ["A B"]'), "not the name of a SASL mechanism"),
        (('upstream = "up"', 'upstream = "up"\nmessage_size = 5'), "it belongs in [listeners.limits]"),
        (('upstream = "up"', 'upstream = "up"\ndrain = "5s"'), "it belongs in [limits]"),
        (('upstream = "up"', 'upstream = "up"\nhostname = "x"'), "it belongs at the top of the file"),
        (
            ("[[upstreams]]", "[abuse]\nnetwork_failures = 5000\n[[upstreams]]"),
            "network_failures: must be at most 1000",
        ),
        (('name = "up"', 'name = "-"'), "upstreams[0].name: may hold letters, digits"),
    ],
)
def test_wrong_values_are_told_in_our_own_words(tmp_path, change, message):
    text = GOOD.replace(*change)
    assert text != GOOD
    problems = told(text, tmp_path)
    assert len(problems) == 1 and message in problems[0] and problems[0].startswith("line "), problems


@pytest.mark.parametrize(
    ("mechanism", "message"),
    [
        ("PLAN", 'unknown SASL mechanism "PLAN" (did you mean "PLAIN"?)'),
        ("EXTERNAL", "can't pass a proxy"),
        ("SCRAM-SHA-256-PLUS", "can't pass a proxy"),
    ],
)
def test_doubtful_mechanisms_are_warnings(tmp_path, mechanism, message):
    problems = told(f'{GOOD}mechanisms = ["PLAIN", "{mechanism}"]\n', tmp_path)
    assert len(problems) == 1 and message in problems[0]
    assert problems[0].startswith("warning: line 13: listeners[0].mechanisms[1]: ")


def test_a_plugin_that_no_message_reaches(tmp_path):
    problems = told(
        GOOD + '[[plugins]]\nname = "p"\nuse = "footer"\nstages = ["data"]\noptions = { text = "x" }',
        tmp_path,
    )
    assert len(problems) == 1
    assert problems[0].startswith("warning: ") and "no message is ever held for it" in problems[0]


def test_a_host_that_can_not_be_resolved_is_a_warning(tmp_path):
    text = GOOD.replace('["127.0.0.1:143"]', '["host.invalid:143"]\ntls = "starttls"')
    problems = told(text, tmp_path)
    assert len(problems) == 1 and "can't resolve host.invalid: " in problems[0]
    assert problems[0].startswith("warning: line 6: upstreams[0].addresses[0]: ")


def test_faults_of_values_do_not_hide_faults_of_references(tmp_path):
    """One reading tells everything, and nothing that only comes of another fault."""
    text = """
hostnam = "x"
[[upstreams]]
name = "up"
addresses = ["127.0.0.1"]
ca = "none.pem"
tls = "startls"
[[upstreams]]
name = "up"
addresses = ["127.0.0.1:1"]
[[listeners]]
name = "imap"
protocol = "imapp"
address = "127.0.0.1:2143"
upstream = "upp"
tls = { mode = "implicit", certificates = [
    { certificate = "mail.pem", key = "mail.key" },
] }
[[listeners]]
name = "pop3"
protocol = "pop3"
address = "127.0.0.1:2143"
upstream = "up"
cleartext_login = "refuse"
tls.mode = "implicitly"
[[plugins]]
name = "p"
use = "footer"
listeners = ["imapp"]
time_limit = 0
"""
    problems = told(text, tmp_path)
    assert [line.partition(": ")[2].partition(" ")[0] for line in problems] == [
        "hostnam:",
        "upstreams[0].addresses[0]:",
        "upstreams[0].ca:",
        "upstreams[0].tls:",
        "upstreams[1].name:",
        "listeners[0].protocol:",
        "listeners[0].upstream:",
        "listeners[0].tls.certificates[0].certificate:",
        "listeners[0].tls.certificates[0].key:",
        "listeners[1].address:",
        "listeners[1].tls.mode:",
        "plugins[0].options.text:",
        "plugins[0].listeners[0]:",
        "plugins[0].time_limit:",
    ], problems
    assert sum("no such file" in line and line.startswith("line 17: ") for line in problems) == 2


VALUES = [
    "",
    "0",
    "-1",
    '""',
    '"x"',
    "[]",
    "{}",
    "[[]]",
    "[{}]",
    "true",
    "nan",
    "1979-05-27",
    '["\\u0000"]',
    "= =",
]


@given(line=st.integers(0, 60), value=st.sampled_from(VALUES), drop=st.integers(0, 60))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_in_a_file_makes_a_traceback(tmp_path, line, value, drop):
    """Any value in any place, any line missing: problems with lines, in words of ours."""
    lines = [text for text in BARE.splitlines() if text]
    place = line % len(lines)
    key, equals, _ = lines[place].partition(" = ")
    if equals:
        lines[place] = f"{key} = {value}"
    del lines[drop % len(lines)]
    configuration, problems = examine_text("\n".join(lines), tmp_path)
    assert configuration is not None or problems
    for problem in problems:
        assert "pydantic" not in problem.message and "input should" not in problem.message.lower()


def test_two_listeners_on_one_address(tmp_path):
    second = GOOD[GOOD.index("[[listeners]]") :].replace('"imap"\nprotocol', '"two"\nprotocol')
    assert any(
        "listeners[0] listens on 127.0.0.1:2143 already" in line for line in told(GOOD + second, tmp_path)
    )


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


def test_a_byte_order_mark_is_no_fault(tmp_path):
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert examine(path)[1] == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = " + "[" * 3000 + "]" * 3000, "not TOML: nested too deeply"),
        ("a = " + "1" * 5000, "not TOML: a number that is too long"),
        ("a = b", "line 1: not TOML: Invalid value (text needs quotes)"),
        ("a = 1\na = 2", "line 2: not TOML: Cannot overwrite a value (this key is set already"),
        ("a = 1\nb = { c = 2027-13-01 }", "line 2: not TOML: there is no day 2027-13-01 (write it like"),
    ],
)
def test_what_is_no_toml(tmp_path, text, message):
    problems = told(text, tmp_path)
    assert len(problems) == 1 and message in problems[0]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            '[[policies]]\nname = "p"\nlogin = "tls"\nexceptions = [{ users = ["a"], until = 2020-01-01 }]\n',
            "policies[0].exceptions[0].until: has ended: it spares nobody",
        ),
        (
            '[[upstreams]]\nname = "u"\naddresses = ["127.0.0.1:993"]\ntls = "starttls"\n',
            'addresses[0]: port 993 is for TLS from the first octet: tls = "implicit"',
        ),
    ],
)
def test_what_is_hardly_meant_is_warned_of(tmp_path, more, message):
    assert any(message in problem for problem in told(GOOD + more, tmp_path))


def test_relative_paths_are_relative_to_the_file(tmp_path):
    configuration, _ = examine_text(GOOD + '[log]\noutput = "x.log"\n', tmp_path)
    assert configuration is not None and configuration.log.output == str(tmp_path / "x.log")


def test_a_file_that_is_not_there(tmp_path):
    _, problems = examine(tmp_path / "gone.toml")
    assert "no such file" in str(problems[0]) and "mailgate init" in str(problems[0])


def test_the_example_names_every_option():
    """Every field of the model stands in the example, commented out or not."""
    text = (files("gateway.config") / "example.toml").read_text()
    words = set(re.findall(r"(?<![\w.])([a-z0-9_]+) = ", text)) | set(
        re.findall(r"\[+([a-z0-9_.]+)\]+", text)
    )
    words |= {part for word in words for part in word.split(".")}

    def fields(model: type[BaseModel]):
        for name, field in model.model_fields.items():
            yield field.alias or name
            inner = table_of(field.annotation)
            if inner is not None:
                yield from fields(inner)

    missing = set(fields(Configuration)) - words
    assert not missing


def test_the_example_passes_as_it_is(tmp_path):
    assert told(EXAMPLE, tmp_path) == []


def test_what_the_example_leaves_out_is_right_too(tmp_path):
    """With everything uncommented only what it refers to is missing: files, the user."""
    tomllib.loads(BARE)
    about = (
        "no such file",
        "no such folder",
        "no user",
        "key_log",
        "a client certificate needs",
        "chain is off",
        "give either",
    )
    assert [line for line in told(BARE, tmp_path) if not any(word in line for word in about)] == []


def test_the_example_shows_the_defaults():
    """A commented value that names no file is the model's default."""
    shown = tomllib.loads(BARE)
    plain = Configuration.model_validate(tomllib.loads(EXAMPLE))
    assert Log.model_validate(shown["log"]) == plain.log
    assert Limits.model_validate(shown["limits"]) == plain.limits
    listener = shown["listeners"][0]
    assert ListenerLimits.model_validate(listener["limits"]) == ListenerLimits()
    times = {name: value for name, value in listener["timeouts"].items() if name != "command"}
    assert ListenerTimeouts.model_validate(times) == ListenerTimeouts()
    assert Smtp.model_validate(shown["listeners"][2]["smtp"]) == Smtp()
    assert set(listener["mechanisms"]) == DEFAULT_MECHANISMS


def test_every_field_is_described():
    def models(model: type[BaseModel]):
        yield model
        for field in model.model_fields.values():
            inner = table_of(field.annotation)
            if inner is not None:
                yield from models(inner)

    for model in models(Configuration):
        assert model.__doc__
        assert set(model.__annotations__) - {"model_config"} <= set(field_texts(model)), model.__name__
