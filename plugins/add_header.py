"""Put a header field into each message: the plugin ``header`` with one action.

    [[plugins]]
    name = "mark"
    use = "add_header"
    options = { name = "X-Gateway", value = "{hostname} ({session}, {user})", mode = "set" }

The names that may stand in the value are those of ``header``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel

from gateway.plugin import PluginOptions

from .header import Action, FieldName, Header, Template


class AddHeader(Header):
    """Adds or sets one header field."""

    class Options(PluginOptions):
        """name: of the field.  value: its text, with names in braces.

        mode: "add" whatever there is, "set" in place of what there is, or "if-missing".
        """

        name: FieldName
        value: Template
        mode: Literal["add", "set", "if-missing"] = "add"

    def __init__(self, options: BaseModel) -> None:
        super().__init__(options)
        assert isinstance(options, AddHeader.Options)
        self._actions = (
            Action(
                do="set" if options.mode == "set" else "add",
                name=options.name,
                value=options.value,
                if_missing=options.mode == "if-missing",
                repeat=options.mode == "add",
            ),
        )

    @property
    def actions(self) -> Sequence[Action]:
        """The one action."""
        return self._actions
