"""The dashboard and the rules ask for nothing that the gateway does not have."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from .check import FOLDER, Scrape, dashboard, expressions, rules, substituted
from .sample import scrape

HERE = Path(__file__).parent


def promtool(*arguments: str, stdin: str = "") -> str:
    """Run promtool; where it is not installed the test is skipped, or fails if none may be."""
    found = shutil.which("promtool")
    if found is None:
        reason = "promtool (package prometheus) is not installed"
        if os.environ.get("MAILGATE_NO_SKIPS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    done = subprocess.run([found, *arguments], input=stdin, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def sample() -> Scrape:
    return Scrape(scrape())


@pytest.mark.parametrize("place", expressions())
def test_what_an_expression_names_exists(sample: Scrape, place: str) -> None:
    """Metric, labels, and the values that a label is compared with."""
    assert sample.missing(expressions()[place]) == []


@pytest.mark.parametrize(
    ("expression", "missing"),
    [
        ("rate(mailgate_comands_total[5m])", ["metric mailgate_comands_total"]),
        ("sum by (verb) (mailgate_commands_total)", ["label verb"]),
        ('mailgate_commands_total{verb="x"}', ["label verb of mailgate_commands_total"]),
        ('mailgate_commands_total{result="OK"}', ["value OK of result of mailgate_commands_total"]),
        ('mailgate_commands_total{result=~"ok|bda"}', ["value bda of result of mailgate_commands_total"]),
        ("mailgate_upstream_up and on (listener) mailgate_build_info", ["label listener"]),
        ("mailgate_command_duration_seconds", ["metric mailgate_command_duration_seconds"]),
    ],
)
def test_the_check_itself_finds_what_is_missing(sample: Scrape, expression: str, missing: list[str]) -> None:
    assert sample.missing(expression) == missing


def test_an_expression_that_does_not_parse_is_found(sample: Scrape) -> None:
    with pytest.raises(ValueError, match="unclosed"):
        sample.missing("sum by (")


def test_no_variable_of_grafana_is_unknown_to_the_check() -> None:
    declared = {f"${variable['name']}" for variable in dashboard()["templating"]["list"]}
    for place, expression in expressions().items():
        assert "$" not in substituted(expression) or place.startswith("rule"), place
        used = set(re.findall(r"\$(?!__)\w+", expression))
        if not place.startswith("rule"):
            assert used <= declared, place


def test_the_dashboard_is_laid_out_whole() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{panel['title']} lies over another panel"
        taken |= cells
        if panel["type"] != "row":
            assert panel["targets"] and panel["datasource"]["uid"] == "${datasource}"
    rows = [panel["title"] for panel in panels if panel["type"] == "row"]
    assert rows == [
        "Traffic",
        "Logins and plaintext",
        "TLS",
        "Upstreams",
        "Messages and plugins",
        "Latency",
        "Health",
    ]


def test_every_family_of_ours_is_on_the_dashboard_or_in_a_rule(sample: Scrape) -> None:
    """A metric that nobody looks at is a cost without a use."""
    asked = " ".join(expressions().values())
    stems = {re.sub(r"_(?:total|bucket|sum|count)$", "", name) for name in sample.labels}
    unused = {stem for stem in stems if stem.startswith("mailgate_") and stem not in asked}
    assert unused == set()


def test_every_rule_says_what_and_how_bad() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    for rule in rules():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}


def test_promtool_takes_the_rules() -> None:
    assert f"{len(rules())} rules found" in promtool("check", "rules", str(FOLDER / "alerts.yml"))


def test_the_rules_fire_and_keep_silent_as_they_should() -> None:
    promtool("test", "rules", str(HERE / "alerts_test.yml"))


def test_each_rule_is_made_to_fire() -> None:
    text = (HERE / "alerts_test.yml").read_text()
    fired = set(re.findall(r"alertname: (\w+)\n\s+exp_alerts:\n", text))
    assert fired == {rule["alert"] for rule in rules()}


def test_promtool_finds_no_fault_with_the_metrics() -> None:
    assert promtool("check", "metrics", stdin=scrape()).strip() == ""
