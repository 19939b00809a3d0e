"""Add, set and remove header fields.

    [[plugins]]
    name = "fields"
    use = "header"
    [[plugins.options.actions]]
    do = "remove"
    name = "X-Internal-*"
    [[plugins.options.actions]]
    do = "set"
    name = "X-Gateway"
    value = "{hostname} ({session}, {user})"
    stages = ["data"]

The actions are done in order, each on what those before it have left.  In a value stand
``{hostname}`` (the gateway's), ``{client_address}``, ``{client_name}`` (of EHLO), ``{user}``,
``{protocol}``, ``{listener}``, ``{protection}``, ``{session}``, ``{stage}`` and ``{mailfrom}``
(the reverse-path; SMTP and LMTP only).  What a client chose can't break out of the field: line
breaks and other controls become blanks, what is not ASCII becomes encoded words (RFC 2047).  A
message that has passed once is not changed by passing again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from string import Formatter
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from gateway.plugin import (
    Edits,
    Message,
    Modify,
    Part,
    Pass,
    Plugin,
    PluginOptions,
    Services,
    SessionRecord,
    Stage,
    Verdict,
    is_field_name,
)
from gateway.plugin import Field as HeaderField

_FIELDS: dict[str, Callable[[Message, SessionRecord], str]] = {
    "client_address": lambda message, session: session.client_address,
    "client_name": lambda message, session: session.client_name,
    "user": lambda message, session: session.user,
    "protocol": lambda message, session: session.protocol,
    "listener": lambda message, session: session.listener,
    "protection": lambda message, session: session.protection,
    "session": lambda message, session: session.id,
    "stage": lambda message, session: str(message.stage),
    "mailfrom": lambda message, session: message.envelope.reverse_path if message.envelope else "",
}
#: Without these a message reads as something else: nothing here removes or replaces them.
_STRUCTURE = ("content-type", "content-transfer-encoding", "mime-version")


def _checked_name(name: str) -> str:
    if not is_field_name(name):
        raise ValueError("must be a header field name: printable ASCII without blank and colon")
    return name


def _checked_template(value: str) -> str:
    for _, field, spec, conversion in Formatter().parse(value):
        if field is not None and (spec or conversion or field not in (*_FIELDS, "hostname")):
            known = ", ".join(["hostname", *_FIELDS])
            raise ValueError(f'unknown "{{{field}}}"; known: {known}; a brace itself is written twice')
    return value


FieldName = Annotated[str, AfterValidator(_checked_name)]
Template = Annotated[str, AfterValidator(_checked_template)]


class Action(BaseModel):
    """One thing to be done to the header.

    do: "add" a field, "set" it in place of all of that name, or "remove" all of that name.
    name: of the field; to remove, also the beginning of names: "X-Internal-*".
    value: the field's text, with the names above in braces; not to remove.
    if_missing: only where there is no field of that name.
    repeat: "add" also where a field of that name has that value already.
    top: put a new field before all others, rather than behind the trace fields.
    stages: where it is done; none is everywhere.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    do: Literal["add", "set", "remove"]
    name: FieldName
    value: Template | None = None
    if_missing: bool = False
    repeat: bool = False
    top: bool = False
    stages: frozenset[Stage] = frozenset()

    @model_validator(mode="after")
    def _agree(self) -> Action:
        removes = self.do == "remove"
        if removes and (self.value is not None or self.if_missing or self.top):
            raise ValueError("to remove takes no value, if_missing or top")
        if not removes and self.value is None:
            raise ValueError(f"to {self.do} needs a value")
        if self.repeat and self.do != "add":
            raise ValueError("repeat is for add only")
        if "*" in self.name.removesuffix("*") or ("*" in self.name and not removes) or self.name == "*":
            raise ValueError('"*" stands at the end of the name of a field to be removed, behind something')
        if self.do != "add" and any(self.matches(name) for name in _STRUCTURE):
            raise ValueError(f"would take the message apart: {', '.join(_STRUCTURE)} stay")
        return self

    def matches(self, name: str) -> bool:
        """Tell whether a field of that name, lower-case, is meant."""
        own = self.name.lower()
        return name.startswith(own[:-1]) if own.endswith("*") else name == own


class Header(Plugin):
    """Adds, sets and removes header fields."""

    class Options(PluginOptions):
        """actions: what is done, in order."""

        actions: tuple[Action, ...] = Field(min_length=1, max_length=200)

    def __init__(self, options: BaseModel) -> None:
        super().__init__(options)
        self._hostname = ""

    def start(self, services: Services) -> None:
        """Learn the gateway's name."""
        self._hostname = services.hostname

    @property
    def actions(self) -> Sequence[Action]:
        """What is done, in order."""
        assert isinstance(self.options, Header.Options)
        return self.options.actions

    async def inspect(self, message: Message, session: SessionRecord) -> Verdict:
        """Modify messages whose header is not as the actions leave it."""
        plan = _Plan(message.root)
        for action in self.actions:
            if not action.stages or message.stage in action.stages:
                plan.take(action, self._value(action, message, session))
        edits = message.edits()
        plan.write(edits)
        return Modify(edits) if len(edits) else Pass()

    def _value(self, action: Action, message: Message, session: SessionRecord) -> str:
        pieces: list[str] = []
        for literal, field, _, _ in Formatter().parse(action.value or ""):
            pieces.append(literal)
            if field == "hostname":
                pieces.append(self._hostname)
            elif field is not None:
                pieces.append(_FIELDS[field](message, session))
        return "".join(pieces)


class _Plan:
    """What the header is to become.

    values: what stands under a name, or is to stand there in place of it; of the names that an
    action was about.  added: new fields.  changed: the names under which something changes.
    """

    def __init__(self, root: Part) -> None:
        self._fields: dict[str, list[HeaderField]] = {}
        for field in root.fields:
            self._fields.setdefault(field.name, []).append(field)
        self.values: dict[str, list[str]] = {}
        self.added: list[tuple[str, str, bool]] = []
        self.changed: dict[str, str] = {}

    def _standing(self, name: str) -> list[str]:
        if name not in self.values:
            self.values[name] = [field.value for field in self._fields.get(name, ())]
        return self.values[name]

    def take(self, action: Action, value: str) -> None:
        """Do one action."""
        name = action.name.lower()
        if action.do == "remove":
            for one in [one for one in self._fields if action.matches(one)]:
                self.values[one] = []
                self.changed[one] = one
            self.added = [new for new in self.added if not action.matches(new[0].lower())]
            return
        standing = self._standing(name)
        new = [one for one in self.added if one[0].lower() == name]
        if action.if_missing and (standing or new):
            return
        if action.do == "add":
            there = [_plain(one) for one in (*standing, *(one[1] for one in new))]
            if action.repeat or _plain(value) not in there:
                self.added.append((action.name, value, action.top))
            return
        if not new and [_plain(one) for one in standing] == [_plain(value)]:
            return
        self.added = [one for one in self.added if one[0].lower() != name]
        if standing:
            self.values[name] = [value]
            self.changed[name] = action.name
        else:
            self.added.append((action.name, value, action.top))

    def write(self, edits: Edits) -> None:
        """Make the edits."""
        for name, written in self.changed.items():
            if self.values[name]:
                edits.set_header(written, self.values[name][0])
            else:
                edits.remove_header(name)
        for name, value, top in self.added:
            edits.add_header(name, value, top)


def _plain(value: str) -> str:
    """Return a value as it is read: controls and runs of blanks as one blank."""
    return " ".join("".join(one if one.isprintable() else " " for one in value).split())
