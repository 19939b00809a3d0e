"""Judge attachments by name, by declared and true type, and by what is in them.

    [[plugins]]
    name = "attachments"
    use = "attachment_policy"
    time_limit = 10.0

    [[plugins.options.rules]]
    name = "own tools"
    names = ["setup-*.msi"]
    action = "allow"

    [[plugins.options.rules]]
    name = "programs"
    types = ["@program", "@script", "@shortcut"]
    action = "reject"

    [[plugins.options.rules]]
    name = "macros"
    conditions = ["macros"]
    action = "strip"

For each file (an attachment, a uuencoded or yEnc one in a text, and each file within an
archive, an Office document, an enclosed mail or a winmail.dat) the first rule counts whose
every criterion holds.  Types are told by content.  The strictest action of a message wins:
``reject``, ``quarantine``, then ``strip`` and ``tag``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gateway import plugin as api
from gateway.plugin import Defect, Edits, Message, Part, SessionRecord, Trouble, UnpackedFile, Verdict, shown

Action = Literal["allow", "tag", "strip", "quarantine", "reject"]
_SEVERITY = ("allow", "keep", "tag", "strip", "quarantine", "reject")
#: Where a mail program may find another content than the one that is judged.
_UNREAD = (Defect.UNKNOWN_ENCODING, Defect.PARTIAL_MESSAGE, Defect.MISSING_BOUNDARY)


class Rule(BaseModel):
    """Which files a rule is for, and what becomes of them.

    names: patterns with ``*`` and ``?``, any case, of any name that the file has.
    extensions: of any name; "@risky" is a list of those that a desktop runs.
    declared: patterns of the declared type, "application/*"; attachments themselves only.
    types: by content; "@program" is a family.  conditions: any of them.
    inside: true for files in archives only, false for attachments themselves only.
    larger_than: octets.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=60)
    action: Action
    names: tuple[str, ...] = ()
    extensions: tuple[str, ...] = ()
    declared: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    inside: bool | None = None
    larger_than: int | None = Field(default=None, ge=0)

    @field_validator("types")
    @classmethod
    def _check_types(cls, types: tuple[str, ...]) -> tuple[str, ...]:
        _check_known("type", types, [*("@" + family for family in api.FAMILIES), *sorted(api.TYPE_NAMES)])
        families = [member for name in types if name[0] == "@" for member in api.FAMILIES[name[1:]]]
        return (*types, *families)

    @field_validator("conditions")
    @classmethod
    def _check_conditions(cls, conditions: tuple[str, ...]) -> tuple[str, ...]:
        _check_known("condition", conditions, sorted(api.CONDITIONS))
        return conditions

    @field_validator("extensions")
    @classmethod
    def _check_extensions(cls, extensions: tuple[str, ...]) -> tuple[str, ...]:
        lower = tuple(one.casefold().removeprefix(".") for one in extensions)
        return lower if "@risky" not in lower else (*lower, *sorted(api.RISKY_EXTENSIONS))

    @model_validator(mode="after")
    def _check_any(self) -> Rule:
        if not self.model_fields_set - {"name", "action"}:
            raise ValueError("a rule needs a criterion, or it would be for every file")
        return self

    def holds(self, file: UnpackedFile, declared: str, conditions: frozenset[str]) -> bool:
        """Tell whether every criterion holds."""
        return (
            (self.inside is None or self.inside == (file.depth > 0))
            and (self.larger_than is None or len(file.content) > self.larger_than)
            and (not self.names or _match(file.saved, self.names))
            and (not self.extensions or any(api.extension_of(one) in self.extensions for one in file.saved))
            and (not self.declared or (not file.depth and _match((declared,), self.declared)))
            and (not self.types or any(name in self.types for name in file.types))
            and (not self.conditions or not conditions.isdisjoint(self.conditions))
        )


def _check_known(what: str, names: tuple[str, ...], known: list[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f'unknown {what} "{shown(name, 40)}"; known: {", ".join(known)}')


def _match(texts: tuple[str, ...], patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(text, pattern.casefold()) for text in texts for pattern in patterns)


@dataclass(frozen=True, slots=True)
class _Hit:
    """One file that a rule is for.  piece: where in a text part the file stands, if it is in one."""

    rule: Rule
    part: Part
    where: str
    what: str
    piece: tuple[int, int] | None


class AttachmentPolicy(api.Plugin):
    """Applies ordered rules to attachments.  What it opens is hostile, so it has a process of its own."""

    isolation: ClassVar = "process"

    class Options(api.SignedOptions):
        """rules: in order.  header: of the action "tag".  notice, reason: texts with {name} and {rule}.

        signed, dkim: "modify" strips where S/MIME or PGP, or where only DKIM covers the file.
        otherwise: what becomes of a file that is to be stripped and can't be.
        The others bound the work on one message: see the documentation.
        """

        rules: tuple[Rule, ...] = Field(min_length=1, max_length=200)
        header: api.FieldName = "X-Attachment-Policy"
        notice: str = Field(default='The attachment "{name}" was removed here: {rule}.', max_length=2000)
        reason: str = Field(default='Attachment "{name}" is not accepted here: {rule}', max_length=200)
        signed: Literal["skip", "modify"] = "skip"
        dkim: Literal["skip", "modify"] | None = None
        otherwise: Literal["keep", "tag", "quarantine", "reject"] = "reject"
        depth: int = Field(default=5, ge=0, le=20)
        members: int = Field(default=3000, ge=1, le=100_000)
        member_size: int = Field(default=64 << 20, ge=1024)
        total_size: int = Field(default=256 << 20, ge=1024)
        ratio: int = Field(default=200, ge=2)
        seconds: float = Field(default=4.0, gt=0)

    options: Options

    def inspect(self, message: Message, session: SessionRecord) -> Verdict:
        """Judge every file of the message."""
        parts = list(message.walk())
        for defect in {one for part in parts for one in part.defects} & api.LIMIT_DEFECTS:
            raise ValueError(f"the structure is beyond a limit: {defect}")
        of = self.options
        limits = (of.depth, of.members, of.member_size, of.total_size, of.ratio, of.seconds)
        unpacker = api.Unpacker(api.UnpackLimits(*limits))
        hits = [hit for part in parts if not part.children for hit in self._hits(message, part, unpacker)]
        if not hits:
            return api.Pass()
        for number, hit in enumerate(hits[:9]):
            message.note(f"hit{number + 1}", f"{hit.rule.name}: {hit.where} ({hit.what})")
        if len(hits) > 9:
            message.note("hits", str(len(hits)))
        return self._verdict(message, hits)

    def _hits(self, message: Message, part: Part, unpacker: api.Unpacker) -> Iterator[_Hit]:
        content = part.content()
        for piece in part.embedded():
            for file in unpacker.files((piece.name,), piece.content()):
                yield from self._judge(part, file, (piece.start, piece.end))
        if api.is_body(part, content):
            return
        for file in unpacker.files(api.file_names(part), content):
            if not file.depth and _is_unread(message, part):
                file.troubles.add(Trouble.UNREADABLE)
            yield from self._judge(part, file, None)

    def _judge(self, part: Part, file: UnpackedFile, piece: tuple[int, int] | None) -> Iterator[_Hit]:
        if file.is_body:
            return
        conditions = file.conditions()
        declared = part.content_type if piece is None else ""
        for rule in self.options.rules:
            if rule.holds(file, declared, conditions):
                if rule.action != "allow":
                    where = "/".join(shown(name, 60) or "unnamed" for name in file.path)
                    yield _Hit(rule, part, where, "+".join([*file.types, *sorted(conditions)]), piece)
                return

    # -- what becomes of it ------------------------------------------------

    def _verdict(self, message: Message, hits: list[_Hit]) -> Verdict:
        edits = message.edits()
        done: list[tuple[str, _Hit]] = []
        stripped: dict[Part, _Hit] = {}
        texts: dict[Part, dict[tuple[int, int], _Hit]] = {}
        for hit in hits:
            action: str = hit.rule.action
            part = hit.part.origin  # a part of another reading can't be edited: what is so read can
            if action == "strip" and self.options.on_signed(message, part) == "skip":
                action = self.options.otherwise
            elif action == "strip" and hit.piece is not None and part is hit.part:
                texts.setdefault(part, {}).setdefault(hit.piece, hit)
            elif action == "strip":
                stripped.setdefault(part, hit)
            done.append((action, hit))
        for part, hit in stripped.items():
            if not _is_within(part, stripped) and not self._strip(edits, part, hit):
                done.append((self.options.otherwise, hit))
        for part, pieces in texts.items():
            gone = part in stripped or _is_within(part, stripped)
            if not gone and not self._strip_pieces(edits, part, pieces):
                done.append((self.options.otherwise, next(iter(pieces.values()))))
        action, worst = max(done, key=lambda one: _SEVERITY.index(one[0]))
        if action == "reject":
            return api.Reject(self._text(self.options.reason, worst).encode("ascii", "replace").decode())
        if action == "quarantine":
            return api.Quarantine(f"{worst.rule.name}: {worst.where}")
        tags = [hit for action, hit in done if action == "tag"]
        if tags:
            edits.set_header(self.options.header, "; ".join(f"{h.rule.name}: {h.where}" for h in tags[:5]))
        return api.Modify(edits) if len(edits) else api.Pass()

    def _strip(self, edits: Edits, part: Part, hit: _Hit) -> bool:
        return edits.replace_by_notice(part, self._text(self.options.notice, hit) + "\n")

    def _strip_pieces(self, edits: Edits, part: Part, pieces: dict[tuple[int, int], _Hit]) -> bool:
        notices = [(*place, self._text(self.options.notice, hit) + "\n") for place, hit in pieces.items()]
        return edits.replace_spans(part, sorted(notices))

    def _text(self, template: str, hit: _Hit) -> str:
        return template.replace("{name}", shown(hit.where)).replace("{rule}", hit.rule.name)


def _is_unread(message: Message, part: Part) -> bool:
    """Tell whether a part holds what no reading of it shows."""
    if not part.defects:
        return False
    if any(defect in _UNREAD for defect in part.defects):
        return True
    # Of a piece of a message the parts may be cut off; and by another boundary there may be none.
    cut = message.partial or part.outer is not None or part.body_start == part.end
    return Defect.BOUNDARY_NOT_FOUND in part.defects and not cut


def _is_within(part: Part, others: Collection[Part]) -> bool:
    """Tell whether one of the others is around a part."""
    while part.parent is not None and part.parent not in others:
        part = part.parent
    return part.parent is not None
