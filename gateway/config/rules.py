"""From a listener and its upstream to the rules of an engine."""

from __future__ import annotations

from ..core.rules import Rules
from ..core.steps import Stage
from .model import Configuration, Listener, Upstream


def rules_for(
    configuration: Configuration, listener: Listener, upstream: Upstream, hold: frozenset[Stage]
) -> Rules:
    """Return what the engines of a listener's sessions may do.  ``hold``: the stages held."""
    smtp, limits = listener.smtp, listener.limits
    return Rules(
        hostname=configuration.hostname,
        client_tls=listener.tls.mode,
        upstream_tls=upstream.tls or "none",
        cleartext_login=listener.cleartext_login,
        mechanisms=frozenset(name.upper() for name in listener.mechanisms),
        hold=hold,
        max_message_size=limits.message_size,
        quarantine_reply=smtp.quarantine_reply,
        bare_newlines=smtp.bare_newlines,
        obsolete_commands=smtp.obsolete_commands,
        vrfy=smtp.vrfy,
        expn=smtp.expn,
        max_recipients=limits.recipients,
        banner=smtp.banner,
        max_unknown_commands=limits.unknown_commands,
        max_errors=limits.errors,
        judge_top=listener.pop3.judge_top,
        judge_listings=(
            listener.pop3.judge_listings if listener.protocol == "pop3" else listener.imap.judge_listings
        ),
        exact_sizes=listener.pop3.exact_sizes,
        apop=listener.apop,
        forward_client=upstream.forward_client,
        pass_extensions=frozenset(name.upper() for name in listener.pass_extensions),
        strike_extensions=frozenset(name.upper() for name in listener.strike_extensions),
    )


#: How long a client may be silent between commands, by protocol, in seconds: RFC 5321 4.5.3.2.7,
#: RFC 1939 3, RFC 9051 5.4 with a minute's grace.
COMMAND_TIME = {"smtp": 300.0, "lmtp": 300.0, "pop3": 600.0, "imap": 1860.0}
