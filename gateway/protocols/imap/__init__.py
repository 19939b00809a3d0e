"""IMAP4rev1 and rev2 (RFC 3501, RFC 9051) with the extensions of the table in capabilities."""

from .engine import ImapEngine

__all__ = ["ImapEngine"]
