"""Twisted's epoll reactor with a short way to our own links.

The stock reactor wraps each event of each descriptor in a logging context and several calls;
for links that costs more than reading the bytes.  Everything else goes the stock way.
"""

from __future__ import annotations

import errno
import sys
from select import EPOLLIN, EPOLLOUT
from typing import Any

from twisted.internet import epollreactor, main
from twisted.python import log as twisted_log

# Twisted's functions here are untyped.
log: Any = twisted_log
_install: Any = main.installReactor


class DirectEPollReactor(epollreactor.EPollReactor):
    """An epoll reactor that calls ``event(flags)`` of descriptors that have ``direct`` set."""

    def doPoll(self, timeout: float | None) -> None:
        """Wait for events, for at most ``timeout`` seconds, and dispatch them."""
        try:
            ready = self._poller.poll(-1 if timeout is None else timeout, max(len(self._selectables), 1))
        except OSError as error:
            if error.errno == errno.EINTR:
                return
            raise
        selectables = self._selectables
        for descriptor, flags in ready:
            selectable: Any = selectables.get(descriptor)
            if selectable is None:
                continue
            if getattr(selectable, "direct", False):
                try:
                    selectable.event(flags)
                except Exception:  # noqa: BLE001 - one connection must not end the others
                    log.err()
                    selectable.connectionLost(None)
            else:
                log.callWithLogger(selectable, self._doReadOrWrite, selectable, descriptor, flags)

    doIteration = doPoll


READABLE = EPOLLIN
WRITABLE = EPOLLOUT


def install() -> None:
    """Install the reactor, unless one is installed already (a test's, say)."""
    if "twisted.internet.reactor" not in sys.modules:
        reactor: Any = DirectEPollReactor
        _install(reactor())
