"""The rules an engine is given: a listener's and its upstream's settings, as plain values.

Named quirks, one field for each tolerance, so that a reader of the configuration and a
reader of the code use the same word.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .steps import Stage

Remembered = TypeVar("Remembered")
CACHE_BOUND = 500

#: Mechanisms that a listener passes unless it says otherwise.  Everything else is struck:
#: SCRAM-*-PLUS and EXTERNAL can't pass a proxy that terminates TLS, GSSAPI and NTLM bind to
#: the host and may add a security layer, ANONYMOUS is no login.
DEFAULT_MECHANISMS = frozenset(
    {
        "PLAIN",
        "LOGIN",
        "CRAM-MD5",
        "SCRAM-SHA-1",
        "SCRAM-SHA-256",
        "SCRAM-SHA-512",
        "XOAUTH2",
        "OAUTHBEARER",
    }
)


@dataclass(frozen=True, slots=True)
class Rules:
    """What one engine may do.  Sizes are octets."""

    hostname: str = "mailgate.invalid"
    # -- TLS.  "implicit" is done by the listener and the connector, before the engine opens.
    client_tls: str = "none"  # "none", "starttls" (offered), "implicit"
    upstream_tls: str = "none"  # "none", "opportunistic", "starttls" (required), "implicit"
    cleartext_login: str = "allow"  # or "refuse": no login before TLS on the client's leg
    mechanisms: frozenset[str] = DEFAULT_MECHANISMS
    # -- bodies
    hold: frozenset[Stage] = frozenset()  # stages whose whole messages are held for a verdict
    max_message_size: int = 100 * 1024 * 1024
    size_headroom: int = 0  # by how much the plugins may lengthen a message
    quarantine_reply: str = "accept"  # SMTP: "accept" (250) or "reject" (550)
    # -- SMTP
    # "auto": "normalise" from clients that have logged in or are trusted, else "reject".
    bare_newlines: str = "auto"  # or "reject", "normalise", "pass"
    obsolete_commands: bool = False  # SEND, SOML, SAML
    vrfy: str = "deny"  # or "allow"
    expn: str = "deny"
    max_recipients: int = 1000
    banner: str = ""  # own greeting text; "" relays the upstream's
    max_unknown_commands: int = 10
    max_errors: int = 20
    max_junk_commands: int = 1000  # NOOP, RSET, VRFY... between two messages
    # -- POP3
    apop: bool = True
    judge_top: bool = True  # where RETR is held: TOP is answered from the whole message, judged
    exact_sizes: bool = False  # where RETR is held: LIST and STAT tell the sizes of messages as judged
    # -- IMAP
    max_literal: int = 65536  # of a literal that is no message: LOGIN, SEARCH, mailbox names
    max_command_literals: int = 100
    judge_listings: int = 100  # messages that a FETCH of sizes, a LIST or STAT has judged first
    # -- the client's address for the upstream
    forward_client: str = "none"  # "none", "xclient" (SMTP, POP3), "id" (IMAP)
    # -- capabilities
    pass_extensions: frozenset[str] = frozenset()  # passed besides the table
    strike_extensions: frozenset[str] = frozenset()  # struck although the table passes them
    #: What was worked out of these rules before, by what it was worked out from: an upstream
    #: says the same capabilities to every session.  Bounded by whoever fills it.
    cache: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    def remembered(self, key: Any, work: Callable[[], Remembered]) -> Remembered:
        """Return what ``work`` gives, worked out once for each key."""
        found: Remembered | None = self.cache.get(key)
        if found is None:
            if len(self.cache) >= CACHE_BOUND:
                self.cache.clear()  # an upstream that never says the same twice
            found = self.cache[key] = work()
        return found


@dataclass(slots=True)
class Peer:
    """The client as the upstream is to know it (XCLIENT, ID, PROXY)."""

    address: str
    port: int = 0
    server_address: str = ""
    server_port: int = 0
    secure: bool = False
    extra: dict[str, str] = field(default_factory=dict)
