"""The metric families, kept as plain numbers and handed to prometheus-client when scraped.

A child of prometheus-client takes a lock for each count; here a count is a dict lookup and an
addition, and the lock that matters, the interpreter's, is held anyway.  Every series that is
knowable is made at the start, so that ``rate()`` sees its first increment.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterable, Sequence

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

#: What a label says that is not of its closed set.
OTHER = "other"

Labels = tuple[str, ...]


class Counts:
    """A counter family: ``values[labels] += n`` is all that a count costs.

    name: without the ``mailgate_`` prefix and without ``_total``.
    """

    def __init__(self, name: str, help_text: str, labels: Sequence[str]) -> None:
        self.name = f"mailgate_{name}"
        self.help = help_text
        self.labels = tuple(labels)
        self.values: dict[Labels, float] = {}

    def start(self, *sets: Iterable[str]) -> None:
        """Make each combination of label values exist, at zero."""
        for labels in itertools.product(*sets):
            self.values.setdefault(labels, 0)

    def add(self, *labels: str, by: float = 1) -> None:
        self.values[labels] = self.values.get(labels, 0) + by

    def family(self) -> Metric:
        """Return the family as a scrape wants it; may be called from another thread."""
        family = CounterMetricFamily(self.name, self.help, labels=self.labels)
        for labels, count in self.values.copy().items():
            family.add_metric(labels, count)
        return family


class Levels(Counts):
    """A gauge family."""

    def set(self, *labels: str, to: float) -> None:
        self.values[labels] = to

    def family(self) -> Metric:
        family = GaugeMetricFamily(self.name, self.help, labels=self.labels)
        for labels, level in self.values.copy().items():
            family.add_metric(labels, level)
        return family


class Spread:
    """A histogram family.  A row is ``[count of each bucket..., count beyond them, sum]``."""

    def __init__(self, name: str, help_text: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        self.name = f"mailgate_{name}"
        self.help = help_text
        self.labels = tuple(labels)
        self.bounds = tuple(bounds)
        self.rows: dict[Labels, list[float]] = {}

    def start(self, *sets: Iterable[str]) -> None:
        """Make each combination of label values exist, at zero."""
        for labels in itertools.product(*sets):
            self.row(*labels)

    def row(self, *labels: str) -> list[float]:
        """Return the row of one series, to be kept by whoever counts often."""
        row = self.rows.get(labels)
        if row is None:
            row = self.rows[labels] = [0] * (len(self.bounds) + 1) + [0.0]
        return row

    def observe(self, amount: float, *labels: str) -> None:
        row = self.row(*labels)
        row[bisect_left(self.bounds, amount)] += 1
        row[-1] += amount

    def family(self) -> Metric:
        family = HistogramMetricFamily(self.name, self.help, labels=self.labels)
        names = [f"{bound:g}" for bound in self.bounds] + ["+Inf"]
        for labels, row in self.rows.copy().items():
            row = row.copy()
            counts = itertools.accumulate(row[:-1])
            family.add_metric(labels, list(zip(names, counts)), row[-1])
        return family


class Bounded:
    """Label values that peers choose: the first so many distinct ones, then ``other``."""

    def __init__(self, bound: int, known: Iterable[str] = ()) -> None:
        self._bound = bound
        self._known = dict.fromkeys(known)

    def __call__(self, name: str) -> str:
        if name in self._known:
            return name
        if len(self._known) >= self._bound or not name or len(name) > 40:
            return OTHER
        if not all(" " < letter < "\x7f" for letter in name):
            return OTHER
        self._known[name] = None
        return name
