"""A scrape of the metrics of one believable configuration, after a fact of each kind."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from gateway.core.steps import ExtensionStruck, Stage
from gateway.observe.hub import Hub, Sink, Watch
from gateway.observe.metrics import Metrics
from tests.observe.sample import NOW, publish, record


class Silent(Sink):
    """A sink that watches nothing: it has its count of errors all the same."""

    def watches(self) -> dict[type, Watch]:
        return {}


def scrape() -> str:
    registry = CollectorRegistry()
    metrics = Metrics(
        registry,
        listeners={"submission": "smtp", "pop3": "pop3", "imaps": "imap"},
        upstreams=["postfix", "dovecot"],
        plugins={"footer": [Stage.DATA]},
        verbs={"smtp": {"MAIL"}, "pop3": {"RETR"}, "imap": {"FETCH"}},
        build={"version": "1", "python": "3", "twisted": "26", "openssl": "3"},
    )
    metrics.certificates({"imaps": NOW})
    hub = Hub([Silent()])
    metrics.watch_hub(hub)
    # What an upstream names is the one thing that is not known from the start.
    publish(Hub([metrics]), record(), ExtensionStruck("COMPRESS=DEFLATE", ""))
    return generate_latest(registry).decode()
