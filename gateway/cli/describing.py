"""The strings below the fields of a model, which describe them.

pydantic can read them too (``use_attribute_docstrings``), but does so whenever a class is made:
each start would parse every file that has a model.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from itertools import pairwise


def field_texts(model: type) -> dict[str, str]:
    """Return what describes each field of a class and of those it derives from, by name.

    A class whose source is not to be had describes nothing.
    """
    texts: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        try:
            source = inspect.getsource(kind)
        except (OSError, TypeError):
            continue
        (definition,) = ast.parse(textwrap.dedent(source)).body
        assert isinstance(definition, ast.ClassDef)
        for field, text in pairwise(definition.body):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            ):
                texts[field.target.id] = inspect.cleandoc(str(text.value.value))
    return texts
