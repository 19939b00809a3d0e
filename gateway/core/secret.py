"""A secret is a type: it can be forwarded, and it does not print."""

from __future__ import annotations

#: What stands in every shown text in place of a secret.
MASK = "***"


class Secret:
    """Bytes that no fact, log line, exception text or transcript may hold.

    The parser decides what is secret, by protocol state, and wraps it at once.  ``str``,
    ``repr`` and ``format`` give a mask; only :meth:`reveal` gives the bytes, to be put on
    the wire.  A secret can't be pickled, so that it can't reach a store by accident.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """Return the bytes, for the wire only."""
        return self._value

    def __repr__(self) -> str:
        return MASK

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return MASK

    def __len__(self) -> int:
        return len(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a secret is not to be stored")
