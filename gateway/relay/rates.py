"""Token buckets: how much clients and users may do in a time.

Whoever is over a rate waits: nothing is refused and nothing lost, the gateway only reads on later.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

#: What has a rate.
KINDS = ("commands", "messages", "recipients", "bytes")


@dataclass(frozen=True, slots=True)
class Rate:
    """So much in so many seconds; so much at once, too."""

    amount: float
    seconds: float


class Rates:
    """What is left to whom.  Bounded: who was quiet longest has a full bucket again."""

    def __init__(
        self, by_client: Mapping[str, Rate], by_user: Mapping[str, Rate], most: int = 50_000
    ) -> None:
        """by_client, by_user: rates by kind; what has none is not bounded."""
        self._rates = {"client": dict(by_client), "user": dict(by_user)}
        self._most = most
        self._left: OrderedDict[tuple[str, str, str], tuple[float, float]] = OrderedDict()

    def __bool__(self) -> bool:
        return any(self._rates.values())

    def spend(self, kind: str, client: str, user: str, amount: float, now: float) -> float:
        """Count an amount; return how many seconds to wait before more of it, 0 if none.

        user: "" while not logged in.  now: seconds, of any clock that does not go back.
        """
        wait = 0.0
        for of, who in (("client", client), ("user", user)):
            rate = self._rates[of].get(kind)
            if rate is None or not who:
                continue
            key = (of, kind, who)
            left, since = self._left.pop(key, (rate.amount, now))
            pace = rate.amount / rate.seconds
            left = min(rate.amount, left + max(0.0, now - since) * pace) - amount
            # A debt is bounded by the time of the rate: one huge message stops nobody for a day.
            left = max(left, -rate.amount)
            self._left[key] = (left, now)
            if len(self._left) > self._most:
                self._left.popitem(last=False)
            if left < 0:
                wait = max(wait, -left / pace)
        return wait
