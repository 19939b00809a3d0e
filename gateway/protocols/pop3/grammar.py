"""POP3's verbs, and which of their replies are multi-line: a table, not guesses."""

from __future__ import annotations

VERBS = frozenset(
    {
        "USER", "PASS", "APOP", "AUTH", "STLS", "CAPA", "QUIT", "STAT", "LIST", "UIDL", "RETR", "TOP",
        "DELE", "NOOP", "RSET", "LAST", "XTND", "UTF8", "LANG", "XCLIENT",
    }
)  # fmt: skip

#: Octets a command may have, its end included: RFC 2449 4 asks for 255, tokens for more.
COMMAND_LIMIT = 2048
#: Octets of one reply line: RFC 2449 4 says 512, greetings and UIDs in the wild are longer.
REPLY_LIMIT = 8192


def is_multiline(verb: str, argument: bytes) -> bool:
    """Tell whether a +OK to this command begins a dot-terminated reply.

    RFC 1939 5, 7; RFC 2449 5 (CAPA); RFC 5034 4 (AUTH alone lists the mechanisms, on servers
    that know that form); RFC 6856 3 (LANG alone).
    """
    if verb in ("LIST", "UIDL"):
        return not argument.strip()
    if verb in ("RETR", "TOP", "CAPA"):
        return True
    return verb in ("AUTH", "LANG") and not argument.strip()


#: Commands that may come before TLS where a session must have it; logins have rules of their own.
BEFORE_TLS = frozenset({b"CAPA", b"STLS", b"NOOP", b"QUIT", b"USER", b"PASS", b"APOP", b"AUTH"})


def number(argument: bytes) -> bytes:
    """Return a message-number in one form (RFC 1939 3)."""
    return (argument.split() or [b""])[0].lstrip(b"0")
