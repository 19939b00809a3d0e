"""From the tables [[policies]] to policies."""

from __future__ import annotations

from .config.model import PolicyTable
from .core.policy import Policy, Spared, Users


def policy_of(table: PolicyTable) -> Policy:
    """Return the policy of a table."""
    ciphers: frozenset[str] = frozenset()
    lowest: str = table.min_tls or ""
    if table.profile is not None:
        from .relay.tls import PROFILES, version_name  # commands that need no profile need no OpenSSL

        version, allowed = PROFILES[table.profile]
        lowest = max(lowest, version_name(version))
        if table.profile == "intermediate":
            ciphers = frozenset(allowed.decode().split(":"))
    return Policy(
        table.name,
        listeners=frozenset(table.listeners),
        protocols=frozenset(table.protocols),
        networks=table.networks,
        users=Users(table.users),
        login=table.login,
        session=table.session,
        min_version=lowest,
        ciphers=ciphers,
        mechanisms=frozenset(name.upper() for name in table.mechanisms),
        mode=table.mode,
        enforce_from=table.enforce.begin if table.enforce is not None else None,
        share=table.enforce.share if table.enforce is not None else 1.0,
        share_by=table.enforce.share_by if table.enforce is not None else "user",
        exceptions=tuple(Spared(Users(one.users), one.networks, one.until) for one in table.exceptions),
        text=table.text,
    )
