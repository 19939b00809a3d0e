"""What can be wrong with a configuration, each with its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    path: "listeners[2].tls.certificates[0].key"; "" for the file as a whole.
    line: of the file, from 1; None where no line can be named.
    suggestion: what to do about it, or "".
    """

    path: str
    message: str
    line: int | None = None
    suggestion: str = ""
    warning: bool = False

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line else ""
        where = f"{self.path}: " if self.path else ""
        hint = f" ({self.suggestion})" if self.suggestion else ""
        return f"{place}{where}{self.message}{hint}"


class ConfigurationError(Exception):
    """Everything that is wrong with a configuration, at once."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = list(problems)


class StartError(Exception):
    """The gateway can't start; the text is made for the admin."""
