"""The gate of one session: the policies that concern it, and what it may not do now."""

from __future__ import annotations

from collections.abc import Callable

from ..core.facts import EventKind, SecurityEvent
from ..core.gate import ALLOWED, Barrier, Ruling
from ..core.policy import Policy, PolicyBook, parsed, rule
from ..core.record import SessionRecord


class SessionGate:
    """Policies bound to one session.

    barrier: asked with address and user before the policies; None where there is nothing to ask.
    publish: takes the events that a policy for whole sessions gives rise to.
    """

    active = True

    def __init__(
        self,
        book: PolicyBook,
        record: SessionRecord,
        now: float,
        publish: Callable[[SecurityEvent], None],
        barrier: Barrier | None = None,
    ) -> None:
        self._policies = book.concerning(record)
        self._record = record
        self._now = now
        self._publish = publish
        self._barrier = barrier
        self._session = next((one for one in self._policies if not one.users), None)
        self.guards_commands = self._session is not None and self._session.session == "tls"

    def hides(self, mechanism: str) -> bool:
        """Tell whether a mechanism would be refused now, whoever the user is."""
        return rule(self._policies, self._record, "", mechanism, self._now).refused

    def attempt(self, user: str, mechanism: str, hidden: bool) -> Ruling:
        """Rule on a login."""
        if self._barrier is not None:
            need = self._barrier(self._record.client_address, user)
            if need is not None:
                return Ruling("", "refused", need)
        if not self._policies:
            return ALLOWED
        return rule(self._policies, self._record, user, mechanism, self._now, hidden)

    def demands_tls(self) -> bool:
        """Tell whether a command is refused because it comes before TLS."""
        policy = self._session
        assert policy is not None
        mode = policy.mode_for("", parsed(self._record.client_address), self._now)
        if mode in ("monitor", "warn"):
            self.guards_commands = False  # told once a session
            self._publish(would_refuse(policy, self._record, "commands before TLS"))
        return mode == "enforce"


def would_refuse(policy: Policy, record: SessionRecord, what: str) -> SecurityEvent:
    """Return the event of something that a policy only monitors."""
    return SecurityEvent(
        EventKind.POLICY_WOULD_REFUSE,
        "info",
        f"policy {policy.name} would refuse {what} from {record.client_address}",
        address=record.client_address,
        data={"policy": policy.name},
    )
