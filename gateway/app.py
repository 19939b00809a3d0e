"""Configuration to services: the one file that knows all parts."""

from __future__ import annotations

import contextlib
import os
import platform
import pwd
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import structlog
from cryptography import x509
from prometheus_client import CollectorRegistry
from twisted.internet import defer, threads
from twisted.internet.error import TimeoutError as TwistedTimeoutError

from . import __version__
from .config.errors import ConfigurationError, StartError
from .config.model import Configuration
from .config.model import Listener as ListenerTable
from .config.model import Upstream as UpstreamTable
from .config.reading import read
from .config.rules import rules_for
from .inspection.loader import LoadedPlugin, PluginSpec, load_plugins
from .inspection.pipeline import Pipeline
from .observe import log_setup
from .observe.console import Palette
from .observe.hub import Hub, Sink
from .observe.metrics import Metrics
from .observe.transcript import Chooser
from .observe.writer import Writer
from .protocols.registry import ENGINES
from .relay.limits import ConnectionLimits
from .relay.listener import Listener, Sessions
from .relay.settings import SessionSettings, Timeouts
from .relay.spool import SpoolSettings
from .relay.tls import ClientTls, KeyPair, ServerTls, TlsError
from .relay.upstream import Address, Upstream

Result = TypeVar("Result")

#: How often the reactor's lag is sampled, in seconds.
LAG_INTERVAL = 1.0
THREADS = 16
