"""POP3 (RFC 1939, 2449, 2595, 5034, 6856)."""

from .engine import Pop3Engine

__all__ = ["Pop3Engine"]
