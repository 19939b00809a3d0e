"""What several rounds of edits came to, as edits of the message as it came."""

from __future__ import annotations

from collections.abc import Iterable

from .edits import Edit

_Run = tuple[int, int] | bytes  # octets of the original from, to; or new ones


class Delta:
    """Follows a message through the edits of one plugin after another.

    Edits are laid in from first to last and never reorder, so what is left of the original
    stands in its order, and one list of edits of the original says the same.
    """

    def __init__(self, size: int) -> None:
        """size: octets of the message as it came."""
        self._size = size
        self._runs: list[_Run] = [(0, size)] if size else []

    def lay_in(self, edits: Iterable[Edit]) -> None:
        """Follow one round of edits, in order, of the message as the rounds before have left it."""
        old, fresh = iter(self._runs), list[_Run]()
        rest: _Run | None = next(old, None)
        position = 0  # in the message before this round

        def advance(until: int | None, keep: bool) -> None:
            nonlocal rest, position
            while rest is not None and (until is None or position < until):
                length = len(rest) if isinstance(rest, bytes) else rest[1] - rest[0]
                taken = length if until is None else min(length, until - position)
                if isinstance(rest, bytes):
                    part: _Run = rest[:taken]
                    left: _Run = rest[taken:]
                else:
                    part, left = (rest[0], rest[0] + taken), (rest[0] + taken, rest[1])
                if keep:
                    fresh.append(part)
                position += taken
                rest = left if taken < length else next(old, None)

        for edit in edits:
            advance(edit.start, keep=True)
            if edit.data:
                fresh.append(edit.data)
            advance(edit.end, keep=False)
        advance(None, keep=True)
        self._runs = fresh

    def edits(self) -> list[Edit]:
        """Return all rounds as one list of edits of the original, in order."""
        found: list[Edit] = []
        place, data = 0, b""
        for run in [*self._runs, (self._size, self._size)]:
            if isinstance(run, bytes):
                data += run
                continue
            start, end = run
            if start > place or data:
                found.append(Edit(place, start, data))
                data = b""
            place = end
        return found
