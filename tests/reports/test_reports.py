"""What reports say of records that are few enough to count by hand, from SQLite and from PostgreSQL."""

from __future__ import annotations

import csv
import io
import ipaddress
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selectolax.lexbor import LexborHTMLParser

from gateway.audit.postgres import PostgresStore
from gateway.audit.record import ProgramRecord
from gateway.audit.sql import SqlStore
from gateway.audit.sqlite import SqliteStore
from gateway.core.policy import Policy, Spared, Users
from gateway.reports.data import as_csv, as_json
from gateway.reports.logins import last_id, logins, newer
from gateway.reports.page import as_html
from gateway.reports.plaintext import plaintext
from gateway.reports.readiness import enforced, readiness
from gateway.reports.report import Report
from gateway.reports.selection import Selection
from gateway.reports.tls import tls
from gateway.reports.user import user
from tests.audit.samples import NOW, event, login

DAY = 86400 * 1_000_000
HOSTILE = "<script>alert(1)</script>"


def bare(number: int, **more: Any) -> Any:
    """Return a login that exposed its password."""
    fields = {
        "protection": "none",
        "exposed": True,
        "tls_version": "",
        "tls_cipher": "",
        "tls_group": "",
        "protocol": "pop3",
        "listener": "pop3",
        "mechanism": "USER",
        "client_program": "",
        **more,
    }
    return login(number, **fields)


def records() -> list[Any]:
    """Alice is well, Bob's scanner is not, Carol has stopped, Dave's program is old; a stranger guesses."""
    dave = {"user": "dave", "tls_version": "TLSv1.1", "tls_cipher": "ECDHE-RSA-AES128-SHA", "address": "::1"}
    stranger = {"user": "alice@example.org", "outcome": "failed", "address": "203.0.113.9", "network": ""}
    return [
        bare(0, user="carol", time=NOW - 20 * DAY),
        *(login(number) for number in range(1, 6)),
        *(bare(number, user="bob", address="192.0.2.66") for number in range(10, 14)),
        bare(20, user="bob", mechanism="LOGIN", protocol="smtp", listener="smtp", client_name="=scanner"),
        login(21, user="bob"),
        login(30, **dave, client_program=""),
        login(31, **dave, client_program="", outcome="policy", judgement="refused"),
        bare(40, **stranger),
        bare(41, user="mallory" + HOSTILE, outcome="failed"),
        login(50, user="carol"),
        bare(60, user="bob", mechanism="APOP", exposed=False),
        event(70),
        ProgramRecord("dave", "::1", "Old Mail 1.0", NOW),
    ]


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlStore]:
    made: SqlStore
    if request.param == "sqlite":
        made = SqliteStore(tmp_path / "audit.db")
    else:
        made = PostgresStore(request.getfixturevalue("postgres").url())
    made.open()
    made.write(records())
    yield made
    made.close()


def figures(report: Report) -> dict[str, float]:
    return {one.name: one.value for one in report.figures}


def table(report: Report, name: str) -> list[dict[str, Any]]:
    (found,) = (one for one in report.sections if one.name == name)
    return [dict(zip([c.name for c in found.columns], row, strict=True)) for row in found.rows]


WEEK = Selection(since=NOW - 7 * DAY)


def test_plaintext_names_who_still_exposes_a_password(store: SqlStore) -> None:
    report = plaintext(store, WEEK, NOW)
    (bob,) = table(report, "users")
    assert (bob["user"], bob["logins"], bob["since"], bob["last"]) == (
        "bob",
        5,
        NOW + 10_000_000,
        NOW + 20_000_000,
    )
    assert bob["protocols"] == "pop3 USER, smtp LOGIN"
    assert bob["addresses"] == "192.0.2.66, 192.0.2.7"
    assert [row["user"] for row in table(report, "stopped")] == ["carol"]
    assert [(row["program"], row["logins"]) for row in table(report, "devices")] == [("", 4), ("=scanner", 1)]
    told = figures(report)
    assert (told["users"], told["logins"], told["stopped"]) == (1, 5, 1)
    assert told["share"] == pytest.approx(5 / 14)
    users, by_protocol = report.charts
    assert users.series == [("users", "bad", [1])]
    assert [(name, counts) for name, _, counts in by_protocol.series if any(counts)] == [
        ("pop3", [4]),
        ("smtp", [1]),
    ]


def test_since_when_reaches_behind_the_period(store: SqlStore) -> None:
    (carol,) = table(plaintext(store, Selection(since=NOW - 30 * DAY, users=("carol",)), NOW), "users")
    assert carol["since"] == NOW - 20 * DAY
    late = plaintext(store, Selection(since=NOW + 11_500_000), NOW)
    (bob,) = table(late, "users")
    assert (bob["logins"], bob["since"]) == (3, NOW + 10_000_000)


def test_strangers_guesses_expose_nobody_unless_asked_for(store: SqlStore) -> None:
    report = plaintext(store, Selection(outcomes=("failed",)), NOW)
    assert {row["user"] for row in table(report, "users")} == {"alice@example.org", "mallory" + HOSTILE}


def test_readiness_is_what_the_gateway_would_rule(store: SqlStore) -> None:
    policy = enforced(Policy("all-tls", login="tls", min_version="TLSv1.2"))
    report = readiness(store, WEEK, [policy], NOW)
    rows = {row["user"]: row for row in table(report, "users")}
    assert set(rows) == {"bob", "dave"}
    assert (rows["bob"]["refused"], rows["bob"]["share"], rows["bob"]["why"]) == (6, 6 / 7, "no TLS")
    assert (rows["dave"]["share"], rows["dave"]["why"]) == (1.0, "TLS too old (TLSv1.1)")
    assert rows["dave"]["programs"] == "Old Mail 1.0"
    told = figures(report)
    assert (told["users"], told["cut_off"], told["logins"], told["all_users"]) == (2, 1, 7, 4)
    assert [row["why"] for row in table(report, "reasons")] == ["no TLS", "TLS too old (TLSv1.1)"]
    assert {row["network"] for row in table(report, "networks")} == {"192.0.2.0/24", "::/64"}


@pytest.mark.parametrize(
    ("policy", "hit"),
    [
        (Policy("p", login="no-exposed-password"), {"bob"}),
        (Policy("p", login="tls", users=Users(["d*"])), set()),
        (Policy("p", login="tls", protocols=frozenset({"smtp"})), {"bob"}),
        (Policy("p", login="tls", networks=(ipaddress.ip_network("198.51.100.0/24"),)), set()),
        (Policy("p", login="tls-client-cert"), {"alice@example.org", "bob", "carol", "dave"}),
        (Policy("p", login="tls", exceptions=(Spared(Users(["bob"])),)), set()),
        (Policy("p", login="tls", exceptions=(Spared(Users(["bob"]), until=NOW / 1e6 - 1),)), {"bob"}),
        (Policy("p", mechanisms=frozenset({"PLAIN", "USER"})), {"bob"}),
        (Policy("p", session="tls"), {"bob"}),
        (Policy("p", min_version="TLSv1.3"), {"dave"}),
    ],
)
def test_readiness_knows_all_that_a_policy_asks(store: SqlStore, policy: Policy, hit: set[str]) -> None:
    report = readiness(store, WEEK, [enforced(policy)], NOW)
    assert {row["user"] for row in table(report, "users")} == hit


def test_readiness_of_who_is_not_named_is_the_strictest(store: SqlStore) -> None:
    store.write(
        [
            login(
                40,
                user="",
                user_given="",
                mechanism="GSSAPI",
                protection="none",
                tls_version="",
                time=NOW - 1,
            )
        ]
    )
    policy = enforced(Policy("p", users=Users(["somebody"]), login="tls"))
    assert {row["user"] for row in table(readiness(store, WEEK, [policy], NOW), "users")} == {""}


def test_readiness_for_a_share_hits_those_whom_the_share_chooses(store: SqlStore) -> None:
    policy = Policy("p", login="tls-client-cert")
    shares = [0.0, 0.25, 0.5, 0.75, 1.0]
    hits = [
        {row["user"] for row in table(readiness(store, WEEK, [enforced(policy, one)], NOW), "users")}
        for one in shares
    ]
    assert not hits[0] and len(hits[-1]) == 4
    assert all(less <= more for less, more in itertools.pairwise(hits))


def test_tls_names_who_holds_old_versions_back(store: SqlStore) -> None:
    report = tls(store, WEEK, NOW)
    (dave,) = table(report, "holding_back")
    assert (dave["user"], dave["version"], dave["program"], dave["logins"]) == (
        "dave",
        "TLSv1.1",
        "Old Mail 1.0",
        1,
    )
    versions = {row["tls_version"]: row["logins"] for row in table(report, "versions")}
    assert versions == {"TLSv1.3": 7, "TLSv1.1": 1}
    assert figures(report)["old_users"] == 1
    protections = {row["protection"]: row["logins"] for row in table(report, "protections")}
    assert protections == {"tls": 8, "none": 6}


def test_a_user_s_report_has_devices_failures_and_events(store: SqlStore) -> None:
    report = user(store, "alice@example.org", Selection(), NOW)
    told = figures(report)
    assert (told["logins"], told["failed"], told["devices"]) == (5, 1, 1)
    assert [row["address"] for row in table(report, "failures")] == ["203.0.113.9"]
    assert [row["kind"] for row in table(report, "events")] == ["brute_force"]
    assert len(table(report, "logins")) == 6


@pytest.mark.parametrize(
    ("selection", "count"),
    [
        (Selection(), 18),
        (WEEK, 17),
        (Selection(until=NOW), 1),
        (Selection(users=("BOB",)), 7),
        (Selection(users=("*@example.org",)), 6),
        (Selection(users=("c?rol", "dave")), 4),
        (Selection(users=("c%",)), 0),
        (Selection(networks=("192.0.2.64/26",)), 4),
        (Selection(networks=("192.0.0.0/16", "::/8")), 17),
        (Selection(networks=("203.0.113.9/32",)), 1),
        (Selection(protocols=("pop3", "smtp")), 9),
        (Selection(mechanisms=("apop",)), 1),
        (Selection(protections=("none",)), 9),
        (Selection(outcomes=("policy",)), 1),
        (Selection(exposed=True, outcomes=("ok",)), 6),
    ],
)
def test_a_selection_takes_what_it_says(store: SqlStore, selection: Selection, count: int) -> None:
    report = logins(store, selection, NOW)
    assert figures(report)["logins"] == count == len(report.sections[0].rows)
    if count:
        (chart,) = report.charts
        assert sum(sum(counts) for _, _, counts in chart.series) == count
    # The other way of choosing, by device, agrees.
    assert figures(tls(store, selection, NOW))["logins"] <= count


def test_the_latest_logins_come_last_and_new_ones_follow(store: SqlStore) -> None:
    rows = table(logins(store, Selection(), NOW, 3), "logins")
    assert [row["time"] for row in rows] == [NOW + 41_000_000, NOW + 50_000_000, NOW + 60_000_000]
    seen = last_id(store)
    store.write([login(80, user="eve"), login(81, user="bob")])
    assert [row[1] for _, row in newer(store, Selection(users=("eve",)), seen)] == ["eve"]


def test_an_empty_store_is_reported_on(tmp_path: Path) -> None:
    empty = SqliteStore(tmp_path / "audit.db")
    empty.open()
    policy = enforced(Policy("p", login="tls"))
    for report in (
        logins(empty, WEEK, NOW),
        plaintext(empty, WEEK, NOW),
        readiness(empty, WEEK, [policy], NOW),
        tls(empty, WEEK, NOW),
        user(empty, "x", WEEK, NOW),
    ):
        assert not report.charts and not any(one.rows for one in report.sections)
        assert as_html(report) and as_csv(report) and json.loads(as_json(report))
    empty.close()


def test_json_and_csv_say_the_same(store: SqlStore) -> None:
    report = plaintext(store, WEEK, NOW)
    told = json.loads(as_json(report))
    assert told["report"] == "plaintext" and told["figures"]["users"] == 1
    assert told["users"][0]["since"] == "2026-09-21T14:13:30Z"
    rows = list(csv.DictReader(io.StringIO(as_csv(report))))
    assert rows[0]["user"] == "bob" and rows[0]["since"] == told["users"][0]["since"]
    assert int(rows[0]["logins"]) == told["users"][0]["logins"]


def test_a_cell_of_a_csv_is_no_formula(store: SqlStore) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(plaintext(store, WEEK, NOW), "devices"))))
    assert [row["program"] for row in rows] == ["", "'=scanner"]


def test_the_page_needs_nothing_and_runs_nothing(store: SqlStore) -> None:
    page = as_html(plaintext(store, Selection(outcomes=("failed", "ok")), NOW))
    tree = LexborHTMLParser(page)
    assert tree.css_first("script, link, img, iframe, object") is None
    assert not [node for node in tree.css("*") if {"src", "href"} & set(node.attributes)]
    assert HOSTILE in tree.body.text() and HOSTILE not in page
    assert len(tree.css("svg")) == 2 and tree.css_first("svg rect.touch title").text()
    (policy,) = (node.attributes["content"] for node in tree.css("meta") if "http-equiv" in node.attributes)
    assert policy.startswith("default-src 'none'")


def test_a_limit_says_what_it_leaves_out(store: SqlStore) -> None:
    report = tls(store, WEEK, NOW, 1)
    versions = next(one for one in report.sections if one.name == "versions")
    assert (len(versions.rows), versions.total) == (1, 2)
    assert "... and 1 more" in as_html(report)


def test_no_question_sorts_all_logins_of_a_device(tmp_path: Path) -> None:
    """The index holds the columns in the order of the question: a million rows need no sorting."""
    from gateway.reports.tally import DEVICES

    made = SqliteStore(tmp_path / "audit.db")
    made.open()
    condition, parameters = Selection(outcomes=("ok",), protocols=("imap",)).condition(made, in_order=True)
    plan = [row[-1] for row in made.query("EXPLAIN QUERY PLAN " + DEVICES.format(condition), parameters)]
    assert plan == ["SCAN logins USING COVERING INDEX logins_devices"]
    made.close()
