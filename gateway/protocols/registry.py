"""The protocols that there are: adding one touches its own folder and this table."""

from __future__ import annotations

from ..core.engine import Engine
from .imap import ImapEngine
from .pop3 import Pop3Engine
from .smtp import LmtpEngine, SmtpEngine

ENGINES: dict[str, type[Engine]] = {
    engine.protocol: engine for engine in (SmtpEngine, LmtpEngine, Pop3Engine, ImapEngine)
}
