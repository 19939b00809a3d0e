"""Models in models: which one describes a place of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel


def model_at(model: type[BaseModel], path: Sequence[str | int]) -> type[BaseModel]:
    """Return the model of the table at a path below a model's.  Raises LookupError where there is none."""
    for step in path:
        if isinstance(step, int):
            continue
        inner = table_of(model.model_fields[step].annotation)
        if inner is None:
            raise LookupError(step)
        model = inner
    return model


def table_of(annotation: Any) -> type[BaseModel] | None:
    """Find the model within ``tuple[Model, ...]``, ``Model | None`` and the like."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = table_of(argument)
        if found is not None:
            return found
    return None
