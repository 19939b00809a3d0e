"""Does a scrape have what a PromQL expression asks for?  For the tests, and for a live gateway."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import promql_parser
import yaml
from prometheus_client.parser import text_string_to_metric_families

FOLDER = Path(__file__).parents[2] / "grafana"
#: Labels that Prometheus adds itself.
ADDED = {"instance", "job", "le"}
#: What Grafana puts in the place of its variables.
VARIABLES = {
    "$__rate_interval": "5m",
    "$__range": "6h",
    "$instance": ".*",
    "$protocol": ".*",
    "$listener": ".*",
}


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "mailgate-overview.json").read_text())
    return found


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> dict[str, str]:
    """Return every expression of the dashboard and the rules, by where it stands."""
    found = {}
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            found[f"panel {panel['title']} ({panel['id']}{target['refId']})"] = target["expr"]
    for note in dashboard()["annotations"]["list"]:
        if "expr" in note:
            found[f"annotation {note['name']}"] = note["expr"]
    for variable in dashboard()["templating"]["list"]:
        asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable.get("definition", ""))
        if asked:
            found[f"variable {variable['name']}"] = f"count by ({asked[2]}) ({asked[1]})"
    for rule in rules():
        found[f"rule {rule['alert']}"] = rule["expr"]
    return found


def substituted(expression: str) -> str:
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


class Any_(set[str]):
    """Labels that are not known: every name is taken for one of them."""

    def __contains__(self, name: object) -> bool:
        return True

    def __and__(self, other: object) -> Any_:
        return self

    __rand__ = __and__


class Scrape:
    """The series of one scrape: metric's name -> label's name -> values."""

    def __init__(self, text: str) -> None:
        self.labels: dict[str, dict[str, set[str]]] = {}
        self.sampled: dict[str, bool] = {}
        for family in text_string_to_metric_families(text):
            suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(
                family.type, [""]
            )
            for suffix in suffixes:
                self.labels.setdefault(family.name + suffix, {})
            for sample in family.samples:
                self.sampled[sample.name] = True
                known = self.labels.setdefault(sample.name, {})
                for name, value in sample.labels.items():
                    known.setdefault(name, set()).add(value)

    def missing(self, expression: str) -> list[str]:
        """Return what the expression asks for and the scrape has not; raises ValueError."""
        found: list[str] = []
        self._walk(promql_parser.parse(substituted(expression)), found)
        return found

    def _walk(self, node: Any, found: list[str]) -> set[str]:
        """Return the labels that a part of an expression may have."""
        match node:
            case promql_parser.VectorSelector():
                return self._selector(node, found)
            case promql_parser.MatrixSelector():
                return self._selector(node.vector_selector, found)
            case promql_parser.AggregateExpr():
                labels = self._walk(node.expr, found)
                return self._has(labels, node.modifier.labels if node.modifier else [], found)
            case promql_parser.BinaryExpr():
                labels = self._walk(node.lhs, found)
                other = self._walk(node.rhs, found)
                matching = node.modifier.matching if node.modifier else None
                if matching is not None:
                    self._has(labels & other, matching.labels, found)
                return labels
            case promql_parser.Call():
                parts = [self._walk(part, found) for part in node.args]
                if any(isinstance(part, Any_) for part in parts):
                    return Any_()
                return set().union(*parts)
            case promql_parser.ParenExpr() | promql_parser.UnaryExpr() | promql_parser.SubqueryExpr():
                return self._walk(node.expr, found)
            case _:
                return set()

    def _has(self, labels: set[str], asked: list[str], found: list[str]) -> set[str]:
        found += [f"label {label}" for label in asked if label not in labels]
        return set(asked)

    def _selector(self, node: Any, found: list[str]) -> set[str]:
        name = node.name
        if name == "up":
            return {"instance", "job"}
        known = self.labels.get(name)
        if known is None:
            found.append(f"metric {name}")
            return Any_()
        if not known and not self.sampled.get(name):
            return Any_()  # a family without series, as of plugins where none is configured
        for matcher in node.matchers.matchers:
            if matcher.name in ADDED or matcher.value == ".*":
                continue
            if matcher.name not in known:
                found.append(f"label {matcher.name} of {name}")
                continue
            # Each alternative must be a value that there can be, or it would never match.
            for value in matcher.value.split("|"):
                if value not in known[matcher.name]:
                    found.append(f"value {value} of {matcher.name} of {name}")
        return {*known, *ADDED}
