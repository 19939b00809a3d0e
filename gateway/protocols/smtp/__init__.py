"""SMTP and submission (RFC 5321, 6409), and LMTP (RFC 2033) as the same engine with one verb changed."""

from .engine import LmtpEngine, SmtpEngine

__all__ = ["LmtpEngine", "SmtpEngine"]
