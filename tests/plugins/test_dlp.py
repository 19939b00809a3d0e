"""Sensitive data: found wherever a reader sees it, masked, and never told to anybody."""

from __future__ import annotations

import base64
import binascii
import logging
import sys
import traceback
from typing import Any

import pytest
from gateway.plugins.dlp import Dlp, Rule
from hypothesis import given, settings
from pydantic import ValidationError

from gateway.core.facts import PluginRan
from gateway.core.outcome import Action
from gateway.inspection import sensitive
from gateway.inspection.loader import PluginSpec, load_plugins
from gateway.inspection.parts import parse
from gateway.inspection.pipeline import Judgement, Pipeline
from gateway.inspection.sensitive import DETECTORS
from gateway.observe.command_log import CommandLog
from gateway.observe.hub import Hub
from tests.inspection.files import open_xml, zipped
from tests.inspection.samples import ALTERNATIVE, SIGNED, WELL_FORMED, crlf
from tests.inspection.support import RECORD, AsyncioRunner, judge, loaded, run, start
from tests.inspection.test_parts import soups
from tests.observe.sample import NOW, Kept
from tests.plugins.pages import PAGES, check_page

CARD = "4111 1111 1111 1111"
IBAN = "DE89370400440532013000"
SECRET = "hX93kd02mfP1zQ8s"
CARDS = {"name": "cards", "find": ["card"]}


def dlp(*rules: dict[str, Any], **options: Any) -> Dlp:
    return Dlp(Dlp.Options(rules=rules, **options))


def judged(message: bytes, *rules: dict[str, Any], **options: Any) -> Judgement:
    return judge(message, loaded(dlp(*rules, **options), isolation="thread"))


def masked(message: bytes, *rules: dict[str, Any], **options: Any) -> tuple[bytes, PluginRan]:
    result = judged(message, *({"action": "mask", **rule} for rule in rules), **options)
    assert result.runs[0].result in ("pass", "modify"), result
    return b"".join(result.chunks) if result.chunks is not None else message, result.runs[0]


def counts(message: bytes, *rules: dict[str, Any], **options: Any) -> dict[str, str]:
    return judged(message, *({"action": "log", **rule} for rule in rules), **options).runs[0].facts


def plain(text: str, subject: str = "x") -> bytes:
    return crlf(f"Subject: {subject}\nContent-Type: text/plain; charset=utf-8\n\n{text}\n")


# -- where it is found ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "where"),
    [
        (plain("hello", CARD), "subject"),
        (plain("hello", "=?utf-8?B?" + base64.b64encode(CARD.encode()).decode() + "?="), "subject"),
        (plain(f"pay {CARD}"), "text"),
        (crlf(f"Content-Transfer-Encoding: base64\n\n{base64.b64encode(CARD.encode()).decode()}\n"), "text"),
        (crlf("Content-Transfer-Encoding: quoted-printable\n\n4111 11=\n11 1111=201111\n"), "text"),
        (crlf("Content-Type: text/html\n\n<p>4111 11<b>11</b> &#49;111&nbsp;1111</p>\n"), "html"),
        (crlf(f"Content-Type: text/csv; name=a.csv\n\n1;{CARD}\n"), "attachments"),
        (crlf(f"Content-Type: application/octet-stream; name=a.txt\n\n1;{CARD}\n"), "attachments"),
        (crlf(f"Content-Type: message/rfc822\n\nSubject: x\n\n{CARD}\n"), "text"),
    ],
)
def test_where(message: bytes, where: str):
    assert counts(message, {**CARDS, "where": [where]}) == {"cards": "1"}
    others = sorted({"subject", "text", "html", "attachments"} - {where})
    assert counts(message, {**CARDS, "where": others}) == {}


def encoded(fields: str, content: bytes) -> bytes:
    body = base64.encodebytes(content).decode()
    return crlf(f"{fields}\nContent-Transfer-Encoding: base64\n\n{body}")


UUENCODED = b"begin 644 a.txt\n" + binascii.b2a_uu(CARD.encode()) + b"`\nend\n"


@pytest.mark.parametrize(
    ("message", "where"),
    [
        *(
            (crlf(f"Content-Type: text/html\n\n<p>{seen}</p>\n"), "html")
            for seen in (
                "4111 1111\n1111 1111",
                "4111  1111 \t1111\n    1111",
                "4111 <b> 1111</b> 1111 1111",
                "<!-->4111111111111111",
                "<!--->4111111111111111<!-- x -->",
                "<!-- --!>4111111111111111",
                "4111<nobr>1111</nobr>1111<st1:phone>1111</st1:phone>",
                '41111111<b title=">">11111111</b>',
                "<svg><style/></svg>4111111111111111</style>",
            )
        ),
        (crlf("Content-Type: text/plain; format=flowed\n\n> 4111 1111 \n> 1111 1111\n"), "text"),
        (crlf("Content-Type: text/plain; format=flowed; delsp=yes\n\n4111 \n111111111111\n"), "text"),
        *(
            (encoded(f"Content-Type: {kind}; name=a", f"a\t{CARD}".encode("utf-16")), "attachments")
            for kind in ("text/plain", "text/csv", "application/octet-stream", "text/plain; charset=utf-8")
        ),
        (encoded("Content-Type: text/plain; charset=utf-16", CARD.encode("utf-16")), "text"),
        (encoded("Content-Type: text/html", f"<p>{CARD}".encode("utf-16")), "html"),
        (plain("no.4111111111111111"), "text"),
        (plain("4111\u20091111\u20091111\u202f1111"), "text"),
        (crlf(f"Subject: x\nSubject: {CARD}\n\nx\n"), "subject"),
        (crlf("\nx\n") + UUENCODED, "attachments"),
        (encoded("Content-Type: text/plain", UUENCODED), "attachments"),
    ],
)
def test_what_a_reader_sees(message: bytes, where: str):
    assert counts(message, {**CARDS, "where": [where]}) == {"cards": "1"}
    assert counts(message, CARDS, documents=True) == {"cards": "1"}


def test_in_a_mail_that_is_attached_as_a_file():
    for inner in (
        encoded("Subject: x", CARD.encode()),
        encoded("Content-Type: text/plain; charset=utf-16", CARD.encode("utf-16")),
        encoded("Content-Type: text/csv; name=a.csv", CARD.encode()),
    ):
        message = encoded("Content-Type: application/octet-stream; name=a.EML", inner)
        assert counts(message, CARDS) == {}
        assert int(counts(message, CARDS, documents=True)["cards"]) >= 1
    message = encoded(
        "Content-Type: application/octet-stream; name=a.zip", zipped({"a": CARD.encode("utf-16")})
    )
    assert counts(message, CARDS, documents=True) == {"cards": "1"}


def test_mask_in_lines_that_are_shown_as_one():
    html = crlf("Content-Type: text/html\n\n<p>4111 1111\n  <nobr>1111</nobr>  1111\n")
    assert masked(html, CARDS)[0] == html.replace(b"4111 1111", b"**** ****").replace(b">1111", b">****")
    flowed = crlf("Content-Type: text/plain; format=flowed\n\n> 4111 1111 \n> 1111 1111\n")
    assert masked(flowed, CARDS)[0] == flowed.replace(b"4111 1111", b"**** ****").replace(
        b"> 1111", b"> ****"
    )


def test_what_a_reader_of_html_does_not_see():
    message = crlf(
        f"Content-Type: text/html\n\n<p title='{CARD}'>x<!-- {CARD} --><script>{CARD}</script></p>\n"
    )
    assert counts(message, CARDS) == {}


def test_in_documents_and_archives():
    cells = open_xml("word", word__a_bin=b"")
    document = zipped(
        {
            "[Content_Types].xml": b"",
            "word/document.xml": b"<?xml version='1.0'?><w:p><w:r><w:t>4111 1111</w:t></w:r>"
            b"<w:r><w:t> 1111 1111</w:t></w:r></w:p>",
        }
    )
    for content in (document, zipped({"a.zip": zipped({"a.csv": CARD.encode()})})):
        body = base64.encodebytes(content).decode()
        message = crlf(f"Content-Type: application/x; name=a\nContent-Transfer-Encoding: base64\n\n{body}")
        assert counts(message, CARDS) == {}
        assert counts(message, CARDS, documents=True) == {"cards": "1"}
    broken = base64.encodebytes(cells[:-30]).decode()
    message = crlf(f"Content-Type: application/x; name=a\nContent-Transfer-Encoding: base64\n\n{broken}")
    ran = judged(message, CARDS | {"action": "log"}, documents=True).runs[0]
    assert ran.result == "error" and "an attachment can't be looked into: unreadable" in ran.detail


def test_counts():
    message = plain(f"{CARD}, {CARD}\n{IBAN}", f"{CARD}")
    assert counts(message, CARDS, {"name": "accounts", "find": ["iban"]}) == {"cards": "3", "accounts": "1"}
    assert counts(message, {**CARDS, "min_count": 3}) == {"cards": "3"}
    assert counts(message, {**CARDS, "min_count": 4}) == {}


def test_own_patterns():
    pytest.importorskip("re2")
    own = {"name": "own", "pattern": r"\bCUST-\d{4}\b"}
    assert counts(plain("é CUST-1234, CUST-12345"), own) == {"own": "1"}
    checked = {"name": "own", "pattern": r"\d{11}", "check": "luhn"}
    assert counts(plain("79927398713 79927398710"), checked) == {"own": "1"}
    assert masked(plain("é CUST-1234."), own | {"keep": 2})[0].endswith("é ****-**34.\r\n".encode())


def test_own_patterns_without_re2(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "re2", None)
    with pytest.raises(ValidationError, match=r"install mailgate\[regex\]"):
        dlp({"name": "own", "pattern": "x", "action": "log"})


# -- what becomes of it --------------------------------------------------------------


def test_mask_in_text_keeps_the_last_four_and_all_else():
    message = plain(f"grüße, pay {CARD} to {IBAN}.")
    result, ran = masked(message, CARDS, {"name": "accounts", "find": ["iban"]})
    assert result == plain(f"grüße, pay **** **** **** 1111 to {'*' * 18}3000.")
    assert ran.facts == {"cards": "1", "accounts": "1"}
    assert masked(result, CARDS, {"name": "accounts", "find": ["iban"]})[0] == result


def test_mask_in_html_leaves_the_tags():
    message = crlf("Content-Type: text/html\n\n<p>4111 11<b>11</b> &#49;111&nbsp;1111</p>\n")
    assert masked(message, CARDS)[0] == crlf(
        "Content-Type: text/html\n\n<p>**** **<b>**</b> ****&nbsp;1111</p>\n"
    )


def test_mask_in_the_subject_and_in_an_attachment():
    message = crlf(f"Subject: grüße {CARD}\nContent-Type: text/csv; name=a.csv\n\n1;{CARD}\n")
    result, _ = masked(message, CARDS)
    assert parse(result).get("subject").value == "grüße **** **** **** 1111"  # type: ignore[union-attr]
    assert result.endswith(b"\r\n\r\n1;**** **** **** 1111\r\n")


@pytest.mark.parametrize("encoding", ["quoted-printable", "base64", "8bit"])
def test_mask_in_every_encoding(encoding: str):
    text = f"grüße {CARD}"
    body = base64.b64encode(text.encode()).decode() if encoding == "base64" else text.replace("ü", "=C3=BC")
    message = crlf(f"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: {encoding}\n\n")
    result, _ = masked(message + body.encode() + b"\r\n", CARDS)
    assert "**** **** **** 1111" in parse(result).text()


def test_a_private_key_is_blotted_out_but_for_nothing():
    key = "-----BEGIN " + "PRIVATE KEY-----\nMIIBOgIBAAJBAK\n-----END " + "PRIVATE KEY-----"
    result, _ = masked(plain(key), {"name": "keys", "find": ["private_key"], "keep": 0})
    assert b"MIIB" not in result and b"**************" in result


UNMASKABLE = [
    crlf(f"DKIM-Signature: v=1; d=example.org; h=From; b=x\nSubject: x\n\n{CARD}\n"),
    crlf(f"DKIM-Signature: v=1; d=example.org; h=From:Subject; b=x\nSubject: {CARD}\n\nx\n"),
    crlf(f"Content-Type: text/plain; charset=nosuch\n\n{CARD}\n"),
    crlf(f"Subject: x\nSubject: {CARD}\n\nx\n"),
    crlf("\nx\n") + UUENCODED,
    encoded("Content-Type: text/plain; name=a.txt", CARD.encode("utf-16")),
]


@pytest.mark.parametrize("message", UNMASKABLE)
@pytest.mark.parametrize(
    ("otherwise", "result"),
    [(None, "reject"), ("log", "pass"), ("tag", "modify"), ("quarantine", "quarantine")],
)
def test_what_can_not_be_masked(message: bytes, otherwise: str | None, result: str):
    options = {} if otherwise is None else {"otherwise": otherwise}
    ran = judged(message, {**CARDS, "action": "mask"}, **options).runs[0]
    assert ran.result == result and ran.facts["not_masked"] in ("text", "subject", "attachments")


def test_signed_mail_is_masked_if_the_admin_says_so():
    for options in ({"edit_signed": True}, {"dkim": "modify"}):
        assert masked(UNMASKABLE[0], CARDS, **options)[0].endswith(b"**** **** **** 1111\r\n")
        assert b"Subject: **** **** **** 1111" in masked(UNMASKABLE[1], CARDS, **options)[0]
    signed = SIGNED.replace(b"signed text", CARD.encode())
    assert judged(signed, {**CARDS, "action": "mask"}, dkim="modify").runs[0].result == "reject"
    assert b"**** 1111" in masked(signed, CARDS, signed="modify")[0]


def test_reject_quarantine_and_tag():
    message = plain(f"{CARD} {IBAN}")
    accounts = {"name": "accounts", "find": ["iban"], "action": "tag"}
    outcome = judged(message, {**CARDS, "action": "reject"}, accounts).outcome
    assert (outcome.action, outcome.reason) == (
        Action.REJECT,
        "Message holds data that may not be sent: cards",
    )
    assert judged(message, {**CARDS, "action": "quarantine"}, accounts).runs[0].result == "quarantine"
    tagged = judged(message, {**CARDS, "action": "tag"}, accounts, header="X-Data").chunks
    assert tagged is not None
    assert parse(b"".join(tagged)).get("x-data").value == "cards=1; accounts=1"  # type: ignore[union-attr]


# -- what nobody is told -------------------------------------------------------------

FOUND = (CARD, CARD.replace(" ", ""), "4111", IBAN, "37040044", SECRET, SECRET[:8])
EVERYTHING = plain(f"{CARD} {IBAN}\npassword={SECRET}", f"{CARD}") + crlf(f"\n{'x' * 5000}")


class Breaking:
    """A detector that fails as a library would: quoting what it was given."""

    def __call__(self, text: str) -> Any:
        raise ValueError(f"can't read {text!r}")


@pytest.mark.parametrize("action", ["log", "tag", "mask", "quarantine", "reject"])
@pytest.mark.parametrize("failing", ["", "detector", "size", "signed", "documents"])
def test_nothing_that_was_found_is_told(
    action: str, failing: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """Grep everything that leaves the plugin: facts, reasons, details, exceptions, log lines."""

    caplog.set_level(logging.DEBUG)
    message, options = EVERYTHING, {}
    if failing == "detector":
        monkeypatch.setitem(sensitive.DETECTORS, "secret", Breaking())
    elif failing == "size":
        options = {"largest": 1024}
    elif failing == "signed":
        message = b"DKIM-Signature: h=From:Subject:To\r\n" + message
    elif failing == "documents":
        options = {"documents": True}
        message = b"Content-Type: a/b; name=a.zip\r\n\r\nPK\x03\x04" + EVERYTHING
    told: list[str] = []
    plugin = dlp({"name": "all", "find": ["card", "iban", "secret"], "action": action}, **options)
    pipeline = Pipeline(
        [loaded(plugin, isolation="thread")],
        AsyncioRunner(),
        on_exception=lambda name, error: told.extend([name, *traceback.format_exception(error)]),
    )
    pipeline.start()
    judgement = run(pipeline.judge(message, start(), RECORD))
    (ran,) = judgement.runs
    assert (ran.result == "error") == (failing in ("detector", "size", "documents"))
    lines = Kept()
    Hub([CommandLog(lines, level="debug")]).publish(RECORD, ran, NOW)
    assert len(lines) == 1
    told += [repr(ran), repr(judgement.outcome), *lines, caplog.text]
    if judgement.chunks is not None and action == "tag":
        told.append(str(parse(b"".join(judgement.chunks)).get("x-sensitive-data").value))  # type: ignore[union-attr]
    for text in told:
        for secret in FOUND:
            assert secret not in text, text


@pytest.mark.parametrize("action", ["tag", "mask", "reject"])
@pytest.mark.parametrize("largest", [1024, 1 << 20])
def test_nor_by_a_process_as_it_is_configured(action: str, largest: int):
    rules = [{"name": "all", "find": ["card", "iban", "secret"], "action": action}]
    spec = PluginSpec("dlp", "dlp", time_limit=20.0, options={"rules": rules, "largest": largest})
    told: list[str] = []
    pipeline = Pipeline(
        load_plugins([spec]),
        AsyncioRunner(),
        on_exception=lambda name, error: told.extend([name, *traceback.format_exception(error)]),
    )
    pipeline.start()
    try:
        judgement = run(pipeline.judge(EVERYTHING, start(), RECORD))
    finally:
        pipeline.stop()
    expected = "error" if largest == 1024 else "reject" if action == "reject" else "modify"
    assert judgement.runs[0].result == expected, judgement.runs
    told += [repr(judgement.runs), repr(judgement.outcome)]
    assert not any(secret in text for text in told for secret in FOUND)
    if action == "mask" and judgement.chunks is not None:
        assert all(secret.encode() not in b"".join(judgement.chunks) for secret in FOUND[:2])


# -- any message ---------------------------------------------------------------------

ALL = {"name": "all", "find": ["card", "iban", "private_key", "jwt", "secret"]}


@pytest.mark.parametrize("name", WELL_FORMED)
def test_well_formed_messages_pass(name: str):
    assert masked(WELL_FORMED[name], ALL)[0] == WELL_FORMED[name]


@given(soups)
@settings(max_examples=100, deadline=None)
def test_any_octets(message: bytes):
    body = message + b"\r\n\r\n" + CARD.encode()
    ran = judged(body, {**ALL, "action": "mask"}, edit_signed=True).runs[0]
    assert ran.result in ("pass", "modify", "reject"), ran


def test_only_the_part_that_has_it_changes():
    message = ALTERNATIVE.replace(b"<p>Hello</p>", b"<p>4111111111111111</p>")
    result, _ = masked(message, CARDS)
    assert result == message.replace(b"4111111111111111", b"************1111")


def test_a_large_mail_takes_no_time():
    message = plain("The quick brown fox jumps over 13 lazy dogs, see password below.\n" * 15_000)
    assert counts(message, ALL) == {}


@pytest.mark.parametrize(
    ("rule", "error"),
    [
        ({"name": "r", "action": "mask"}, 'either "find" or "pattern"'),
        ({"name": "r", "action": "mask", "find": ["card"], "pattern": "x"}, 'either "find" or "pattern"'),
        ({"name": "r", "action": "mask", "find": ["cards"]}, 'unknown detector "cards"; known: card, iban'),
        ({"name": "r", "action": "burn", "find": ["card"]}, "action"),
        ({"name": "r", "action": "log", "find": ["card"], "where": ["body"]}, "where"),
        ({"name": "r", "action": "log", "find": ["card"], "min_count": 0}, "min_count"),
        ({"name": "r", "action": "log", "pattern": "("}, r"RE2 takes: missing \)"),
        ({"name": "r", "action": "log", "pattern": r"(a)\1"}, "RE2 takes: invalid escape"),
    ],
)
def test_options_that_are_refused(rule: dict[str, Any], error: str):
    with pytest.raises(ValidationError, match=error):
        dlp(rule)
    with pytest.raises(ValidationError, match="header field name"):
        dlp(CARDS | {"action": "log"}, header="X Y")
    with pytest.raises(ValidationError, match="a name of its own"):
        dlp(CARDS | {"action": "log"}, CARDS | {"action": "tag"})


def test_the_page():
    check_page("dlp", Dlp.Options, Rule)
    page = (PAGES / "dlp.md").read_text()
    assert all(f"`{name}`" in page for name in DETECTORS)
