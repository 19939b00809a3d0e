"""Attachments by name, by type, and by what is in them."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import pytest
from gateway.plugins.attachment_policy import AttachmentPolicy, Rule
from hypothesis import given, settings
from pydantic import ValidationError

from gateway.core.facts import PluginRan
from gateway.core.outcome import Action
from gateway.inspection.archives import CONDITIONS
from gateway.inspection.filetypes import FAMILIES
from gateway.inspection.loader import PluginSpec, load_plugins
from gateway.inspection.parts import Part, parse
from gateway.inspection.pipeline import Judgement, Pipeline
from tests.inspection.files import OLE, PE, PNG, encrypted_zip, open_xml, tnef, utf16, zipped
from tests.inspection.samples import DKIM, SIGNED, WELL_FORMED, crlf
from tests.inspection.support import RECORD, AsyncioRunner, judge, loaded, run, start
from tests.inspection.test_parts import soups
from tests.plugins.pages import PAGES, check_page

PROGRAMS = {"name": "programs", "types": ["@program"]}


def attached(content: bytes, header: str = 'application/octet-stream; name="a.dat"', more: str = "") -> bytes:
    """Return a mail with one attachment."""
    body = base64.encodebytes(content).decode()
    return crlf(
        f"""\
From: alice@example.org
{more}MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/plain

Hello.
--b
Content-Type: {header}
Content-Transfer-Encoding: base64

{body}
--b--
"""
    )


def policy(*rules: dict[str, Any], **options: Any) -> AttachmentPolicy:
    return AttachmentPolicy(AttachmentPolicy.Options(rules=rules, **options))


def judged(message: bytes, *rules: dict[str, Any], **options: Any) -> Judgement:
    return judge(message, loaded(policy(*rules, **options), isolation="thread"))


def hits(message: bytes, *rules: dict[str, Any], **options: Any) -> list[str]:
    """Return which rules hit, and on what."""
    ran = judged(message, *({"action": "tag", **rule} for rule in rules), **options).runs[0]
    assert ran.result in ("pass", "modify"), ran
    return [text for key, text in ran.facts.items() if key.startswith("hit")]


def stripped(message: bytes, *rules: dict[str, Any], **options: Any) -> tuple[bytes, PluginRan]:
    result = judged(message, *({"action": "strip", **rule} for rule in rules), **options)
    assert result.outcome.action in (Action.MODIFY, Action.PASS), result
    return b"".join(result.chunks) if result.chunks is not None else message, result.runs[0]


def leaves(message: bytes) -> list[Part]:
    return [part for part in parse(message).walk() if not part.children]


# -- what a rule is for --------------------------------------------------------------


def test_the_true_type_counts_whatever_it_is_called():
    message = attached(PE, 'image/png; name="holiday.png"')
    assert hits(message, PROGRAMS) == ["programs: holiday.png (pe+mismatch)"]
    assert hits(attached(PNG), PROGRAMS) == []


@pytest.mark.parametrize(
    "header",
    [
        "application/x; name=x.exe",
        "application/x; name=X.EXE",
        'application/x; name="x.exe. "',
        'application/x; name="x.exe"\nContent-Disposition: attachment; filename="x.txt"',
        "application/x\nContent-Disposition: attachment; filename*0*=utf-8''x%2E; filename*1=exe",
        'application/x\nContent-Disposition: attachment; filename="=?utf-8?Q?x=2Eexe?="',
        'application/x\nContent-Disposition: attachment; filename="a.txt"; filename="x.exe"',
    ],
)
def test_names_in_every_reading(header: str):
    message = attached(b"?", header)
    assert len(hits(message, {"name": "r", "extensions": [".EXE"]})) == 1
    assert len(hits(message, {"name": "r", "names": ["X.ex?"]})) == 1
    assert len(hits(message, {"name": "r", "extensions": ["@risky"]})) == 1


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"declared": ["application/*"]}, 1),
        ({"declared": ["image/*"]}, 0),
        ({"types": ["pe"]}, 1),
        ({"types": ["zip"]}, 1),
        ({"types": ["zip"], "inside": True}, 0),
        ({"types": ["pe"], "inside": False}, 0),
        ({"names": ["*.exe"], "types": ["png"]}, 0),
        ({"larger_than": 100, "inside": True}, 1),
        ({"larger_than": 10_000}, 0),
    ],
)
def test_criteria_hold_together(rule: dict[str, Any], expected: int):
    assert len(hits(attached(zipped({"x.exe": PE})), {"name": "r", **rule})) == expected


def test_the_first_rule_counts():
    allow = {"name": "ours", "names": ["setup-*.exe"], "action": "allow"}
    message = attached(zipped({"setup-1.exe": PE, "other.exe": PE}))
    assert hits(message, allow, PROGRAMS) == ["programs: a.dat/other.exe (pe)"]


@pytest.mark.parametrize(
    ("content", "name", "condition"),
    [
        (encrypted_zip(), "a.zip", "encrypted"),
        (b"Rar!\x1a\x07\x01\0" + bytes(30), "a.rar", "unreadable"),
        (zipped({"a": bytes(60 << 20)}), "a.zip", "bomb"),
        (zipped({"a": bytes(60 << 20)}), "a.zip", "limit"),
        (zipped({"../a": b""}), "a.zip", "path"),
        (zipped({"a": PE}) + zipped({"b": b""}), "a.zip", "hidden"),
        (open_xml("word", word__vbaProject_bin=OLE), "a.docx", "macros"),
        (OLE + utf16("WordDocument") + utf16("_VBA_PROJECT"), "a.doc", "macros"),
        (PNG + zipped({"a": b""}), "a.png", "polyglot"),
        (PE, "a.pdf", "mismatch"),
        (b"text", "a.pdf.js", "double_extension"),
        (b"text", "a=E2=80=AEfdp.js", "bidi"),
    ],
)
def test_conditions(content: bytes, name: str, condition: str):
    message = attached(content, f'application/x; name="=?utf-8?Q?{name}?="')
    (hit,) = hits(message, {"name": "r", "conditions": [condition]})
    assert condition in hit
    assert hits(attached(PNG, 'image/png; name="a.png"'), {"name": "r", "conditions": [condition]}) == []


def test_a_transfer_encoding_that_is_not_known_is_unreadable():
    message = attached(PE).replace(b"base64", b"x-own")
    assert "unreadable" in hits(message, {"name": "r", "conditions": ["unreadable"]})[0]


def test_a_multipart_without_its_boundary_is_unreadable():
    rule = {"name": "r", "conditions": ["unreadable"]}
    message = attached(PE).replace(b"=b\r\n", b"=x\r\n")
    assert "unreadable" in hits(message, rule)[0]
    assert hits(message[: message.index(b"\r\n\r\n") + 4], rule) == []
    assert hits(attached(PNG).replace(b"=b\r\n", b"=b=x\r\n").replace(b"--b", b"--b=x"), rule) == []


def test_in_winmail_dat_in_mail_and_in_uuencode():
    assert hits(attached(tnef("x.exe", PE)), PROGRAMS) == ["programs: a.dat/x.exe (pe)"]
    enclosed = attached(PE)
    assert len(hits(crlf("Content-Type: message/rfc822\n\n") + enclosed, PROGRAMS)) == 1
    assert (
        len(hits(attached(enclosed, "message/rfc822"), PROGRAMS)) == 1
    )  # RFC 2046 5.2.1 forbids base64 here
    assert hits(uuencoded(), PROGRAMS) == ["programs: x.exe (pe)"]
    unnamed = attached(PE).replace(b'; name="a.dat"', b"")
    assert hits(attached(unnamed, "a/b; name=a.eml"), PROGRAMS) == ["programs: a.eml/unnamed (pe)"]
    text = crlf("Content-Transfer-Encoding: base64\n\neCA9IDE7\n")
    assert hits(attached(text, "a/b; name=a.eml"), {"name": "r", "inside": True}) == []


def uuencoded() -> bytes:
    lines = b"".join(binascii.b2a_uu(PE[place : place + 45]) for place in range(0, len(PE), 45))
    text = b"Subject: x\n\nBefore.\nbegin 644 x.exe\n" + lines + b"`\nend\nAfter.\n"
    return text.replace(b"\n", b"\r\n")


@pytest.mark.parametrize(
    "message",
    [
        attached(PE).replace(b"application/octet-stream", b"text/plain\r\nContent-Type: application/zip"),
        attached(attached(PE), "message/rfc822"),
        attached(attached(PE), "multipart/mixed; boundary=b"),
        attached(PE).replace(b"base64", b"7bit\r\nContent-Transfer-Encoding: base64"),
        attached(PE).replace(b"=b\r\n", b"=x; boundary=b\r\n"),
        attached(PE).replace(b"=b\r\n", b"=b x\r\n"),
        attached(PE).replace(b"=b\r\n", b'="b"x\r\n'),
    ],
)
def test_in_every_reading_of_an_ambiguous_message(message: bytes):
    assert len(hits(message, PROGRAMS)) >= 1
    result, _ = stripped(message, PROGRAMS)
    assert b"was removed here" in result and hits(result, PROGRAMS) == []


def test_the_text_itself_is_no_attachment():
    rule = {"name": "web", "types": ["@web", "@plain", "@code"]}
    page = crlf("Content-Type: text/html\n\n<html><script>x</script></html>\n")
    assert hits(page, rule) == []
    assert len(hits(page.replace(b"text/html", b"text/html; name=a.html"), rule)) == 1
    disguised = b"Content-Type: text/plain\r\n\r\n" + PE
    assert len(hits(disguised, PROGRAMS)) == 1


@pytest.mark.parametrize(
    "fields",
    [
        "Content-Disposition: inline\nContent-Disposition: attachment; filename=x.js",
        "Content-Disposition: attachment; filename=x.js\nContent-Disposition: inline",
        "Content-Disposition: filename=x.js",
        'Content-Disposition: inline; filename="x.js"y.txt',
        "Content-Type: text/plain; filename=x.js",
        "Content-Type: text/plain\nContent-Type: text/plain; name=x.js",
    ],
)
def test_a_text_is_an_attachment_if_any_field_says_so(fields: str):
    message = crlf(f"{fields}\n\nx = 1\n")
    assert len(hits(message, {"name": "r", "extensions": ["@risky"]})) >= 1


def test_a_text_may_be_an_attachment_without_a_name():
    message = crlf("Content-Disposition: inline\nContent-Disposition: Attachment\n\nx = 1\n")
    assert len(hits(message, {"name": "r", "types": ["text"]})) == 1


# -- what becomes of it --------------------------------------------------------------


def test_strip_puts_a_notice_in_place_and_changes_nothing_else():
    message = attached(PE, 'application/x; name="x.exe"')
    result, ran = stripped(message, PROGRAMS)
    _, notice = leaves(result)
    assert notice.content_type == "text/plain"
    assert notice.text().strip() == 'The attachment "x.exe" was removed here: programs.'
    before = parse(message)
    assert result.startswith(message[: before.children[0].end]) and result.endswith(
        message[before.children[1].end :]
    )
    assert b"TVoAAA" not in result and ran.facts["hit1"] == "programs: x.exe (pe)"
    assert stripped(result, PROGRAMS)[0] == result


def test_strip_takes_the_whole_archive_with_the_file():
    result, _ = stripped(attached(zipped({"x.exe": PE, "a.txt": b"a"})), PROGRAMS)
    assert 'attachment "a.dat/x.exe" was' in leaves(result)[1].text()


def test_strip_of_a_mail_that_is_nothing_else():
    message = crlf(
        "Subject: x\nContent-Type: application/x; name=x.exe\nContent-Transfer-Encoding: base64\n\n"
    )
    result, _ = stripped(message + base64.encodebytes(PE).replace(b"\n", b"\r\n"), PROGRAMS)
    assert "was removed here" in parse(result).text() and b"Subject: x" in result


def test_strip_in_a_text():
    result, _ = stripped(uuencoded(), PROGRAMS)
    body = parse(result).text().replace("\r\n", "\n")
    assert body == 'Before.\nThe attachment "x.exe" was removed here: programs.\nAfter.\n'


def test_reject_quarantine_and_tag():
    message = attached(PE, 'application/x; name="b\u00f6se\u202e.exe"')
    outcome = judged(message, {**PROGRAMS, "action": "reject"}).outcome
    assert outcome.action is Action.REJECT
    assert outcome.reason == 'Attachment "b?se\\u202e.exe" is not accepted here: programs'
    assert judged(message, {**PROGRAMS, "action": "quarantine"}).runs[0].result == "quarantine"
    tagged = judged(message, {**PROGRAMS, "action": "tag"}, header="X-Files")
    assert tagged.chunks is not None
    assert parse(b"".join(tagged.chunks)).get("x-files").value == "programs: böse\\u202e.exe"  # type: ignore[union-attr]


def test_the_strictest_action_of_a_message_counts():
    message = attached(zipped({"x.exe": PE, "a.png": PNG}))
    tag = {"name": "images", "types": ["@image"], "action": "tag"}
    for action, expected in (("strip", "modify"), ("quarantine", "quarantine"), ("reject", "reject")):
        ran = judged(message, tag, {**PROGRAMS, "action": action}).runs[0]
        assert ran.result == expected and len(ran.facts) == 2


# -- signatures ----------------------------------------------------------------------

SIGNED_FILE = attached(PE).replace(
    b"multipart/mixed; boundary=b", b'multipart/signed; boundary=b; protocol="application/pgp-signature"'
)


@pytest.mark.parametrize(
    ("choice", "result"),
    [(None, "reject"), ("keep", "pass"), ("tag", "modify"), ("quarantine", "quarantine")],
)
def test_what_is_signed_is_not_stripped(choice: str | None, result: str):
    options = {} if choice is None else {"otherwise": choice}
    for message in (SIGNED_FILE, attached(PE, more="DKIM-Signature: v=1; d=example.org; h=From; b=x\n")):
        judgement = judged(message, {**PROGRAMS, "action": "strip"}, **options)
        assert judgement.runs[0].result == result, judgement.runs
        assert judgement.runs[0].facts["skipped_signed"] in ("multipart/signed", "dkim")


def test_unless_the_admin_says_so():
    for options in ({"edit_signed": True}, {"signed": "modify"}):
        result, _ = stripped(SIGNED_FILE, PROGRAMS, **options)
        assert "was removed here" in leaves(result)[1].text()


def test_or_only_for_dkim():
    dkim = attached(PE, more="DKIM-Signature: v=1; d=example.org; h=From; b=x\n")
    result, ran = stripped(dkim, PROGRAMS, dkim="modify")
    assert "was removed here" in leaves(result)[1].text() and ran.facts["modified_signed"] == "dkim"
    assert judged(SIGNED_FILE, {**PROGRAMS, "action": "strip"}, dkim="modify").runs[0].result == "reject"


# -- any message ---------------------------------------------------------------------

ALL = {"name": "all", "larger_than": 0}


@pytest.mark.parametrize("name", WELL_FORMED)
def test_well_formed_messages_pass(name: str):
    assert (
        stripped(WELL_FORMED[name], PROGRAMS, {"name": "odd", "conditions": ["limit"]})[0]
        == WELL_FORMED[name]
    )


@given(soups)
@settings(max_examples=150, deadline=None)
def test_any_octets(message: bytes):
    plugin = policy({**ALL, "action": "strip"}, edit_signed=True)
    ran = judge(message, loaded(plugin, isolation="thread")).runs[0]
    beyond = ran.result == "error" and "too_many_readings" in ran.detail
    assert beyond or ran.result in ("pass", "modify", "reject"), ran


def test_a_structure_beyond_a_limit_is_no_pass():
    message = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\n" * 10_100
    ran = judged(message, {**PROGRAMS, "action": "tag"}).runs[0]
    assert ran.result == "error" and "too_many_parts" in ran.detail


def test_many_small_attachments_take_no_time():
    part = b"--b\r\nContent-Type: a/b; name=x.txt\r\n\r\nhello\r\n"
    message = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + part * 5000
    hits(message, PROGRAMS, {"name": "r", "names": ["*a*b*c*d*e*"]}, seconds=30)


@pytest.mark.parametrize(
    ("rule", "error"),
    [
        ({"name": "r", "action": "strip"}, "needs a criterion"),
        ({"name": "r", "action": "burn", "types": ["pe"]}, "action"),
        ({"name": "r", "action": "tag", "types": ["exe"]}, 'unknown type "exe"; known: @program'),
        ({"name": "r", "action": "tag", "conditions": ["evil"]}, 'unknown condition "evil"; known: '),
        ({"name": "", "action": "tag", "types": ["pe"]}, "name"),
        ({"name": "r", "action": "tag", "typs": ["pe"]}, "typs"),
    ],
)
def test_options_that_are_refused(rule: dict[str, Any], error: str):
    with pytest.raises(ValidationError, match=error):
        policy(rule)
    with pytest.raises(ValidationError):
        AttachmentPolicy.Options(rules=[])  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        policy(PROGRAMS | {"action": "tag"}, header="X Y")


def test_samples_of_signed_mail_pass():
    for message in (SIGNED, DKIM):
        assert judged(message, {**PROGRAMS, "action": "strip"}).outcome.action is Action.PASS


# -- in a process of its own ---------------------------------------------------------


def test_in_a_process_as_it_is_configured():
    rules = [{**PROGRAMS, "action": "strip"}]
    options = {"rules": rules, "total_size": 400 << 20}
    spec = PluginSpec("attachments", "attachment_policy", time_limit=20.0, options=options)
    pipeline = Pipeline(load_plugins([spec]), AsyncioRunner(), hostname="gate.example.org")
    pipeline.start()
    try:
        for content, expected in (
            (zipped({"x.exe": PE}), Action.MODIFY),
            (zipped({"a": bytes(60 << 20)}), Action.PASS),
            (zipped({"x.png": PNG}), Action.PASS),
        ):
            judgement = run(pipeline.judge(attached(content), start(), RECORD))
            assert judgement.outcome.action is expected, judgement
            if judgement.chunks is not None:
                assert "was removed here" in leaves(b"".join(judgement.chunks))[1].text()
    finally:
        pipeline.stop()


def test_the_page():
    check_page("attachment_policy", AttachmentPolicy.Options, Rule)
    page = (PAGES / "attachment_policy.md").read_text()
    for word in (*CONDITIONS, *FAMILIES):
        assert f"`{word}`" in page, word
