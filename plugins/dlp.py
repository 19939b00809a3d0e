"""Find card numbers, IBANs, keys, tokens and patterns of one's own, and mask, tag or refuse.

    [[plugins]]
    name = "dlp"
    use = "dlp"

    [[plugins.options.rules]]
    name = "cards"
    find = ["card", "iban"]
    action = "mask"

    [[plugins.options.rules]]
    name = "keys"
    find = ["private_key", "aws_key", "github_token", "secret"]
    action = "reject"

    [[plugins.options.rules]]
    name = "customers"
    pattern = "\\\\bCUST-[0-9]{8}\\\\b"
    min_count = 5
    action = "tag"

What is looked at: the subject, the text, what is seen of HTML, attachments that are text (in
uuencode too), and with ``documents = true`` the text in Office documents, archives and mail.
What is found is validated (Luhn, MOD 97, lengths of countries).  The log has the rule and a
count, never what was found.
Patterns are RE2's (the extra ``regex``), so that none takes more than linear time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from gateway import plugin as api
from gateway.plugin import Message, Part, SessionRecord, Verdict, VisibleText

_CHECKS: dict[str, Callable[[str], bool]] = {"luhn": api.passes_luhn, "mod97": api.passes_mod97}
_SEVERITY = ("log", "tag", "mask", "quarantine", "reject")
#: What is a markup by its content, and whether as HTML or XML.
_MARKUP = {"html": "html", "mhtml": "html", "xml": "xml", "svg": "xml", "word-xml": "xml"}
#: Byte order marks of UTF-16, by which programs go whatever charset is declared.
_MARKS = (b"\xff\xfe", b"\xfe\xff")
_MAIL_NAMES = (".eml", ".mht", ".mhtml")
_TEXT_FAMILIES = ("plain", "web", "code", "script")


class Rule(BaseModel):
    """What is looked for, and what becomes of the message.

    find: names of detectors.  pattern: one of RE2 instead; check: "luhn" or "mod97" of what it
    matches.  min_count: matches in the message that make a hit.  where: "subject", "text",
    "html", "attachments".  keep: letters and digits that a mask leaves at the end.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=40)
    action: Literal["log", "tag", "mask", "quarantine", "reject"]
    find: tuple[str, ...] = ()
    pattern: str = Field(default="", max_length=2000)
    check: Literal["", "luhn", "mod97"] = ""
    min_count: int = Field(default=1, ge=1)
    where: frozenset[Literal["subject", "text", "html", "attachments"]] = frozenset(
        ("subject", "text", "html", "attachments")
    )
    keep: int = Field(default=4, ge=0, le=20)
    _compiled: Any = PrivateAttr(default=None)

    @field_validator("find")
    @classmethod
    def _check_find(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in api.DETECTORS:
                raise ValueError(f'unknown detector "{name}"; known: {", ".join(api.DETECTORS)}')
        return names

    @model_validator(mode="after")
    def _compile(self) -> Rule:
        if bool(self.find) == bool(self.pattern):
            raise ValueError('a rule needs either "find" or "pattern"')
        if self.pattern:
            self._compiled = api.compile_expression(self.pattern)
        return self

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Give what the rule finds in a text."""
        for name in self.find:
            yield from api.DETECTORS[name](text)
        if self._compiled is not None:
            check = _CHECKS.get(self.check)
            for match in self._compiled.finditer(text):
                start, end = match.span()
                if end > start and (check is None or check(text[start:end])):
                    yield start, end


@dataclass(slots=True)
class _Piece:
    """One text that is looked at.  part: to be edited, or None.  seen: where it is not the part's own."""

    where: str
    text: str
    part: Part | None = None
    seen: VisibleText | None = None
    spans: list[tuple[Rule, int, int]] = field(default_factory=list)


class CouldNotInspect(ValueError):
    """Why a message can't be judged, in words that hold nothing of it."""


class Dlp(api.Plugin):
    """Looks for what should not leave.  A search can't be interrupted, but its process can."""

    isolation: ClassVar = "process"

    class Options(api.SignedOptions):
        """rules: all of them are tried.  otherwise: for what can't be masked.  header: of "tag".

        signed, dkim: "modify" masks where S/MIME or PGP, or where only DKIM covers the text.
        documents: look into Office documents and archives too.  largest: octets of one text.
        """

        rules: tuple[Rule, ...] = Field(min_length=1, max_length=200)
        signed: Literal["skip", "modify"] = "skip"
        dkim: Literal["skip", "modify"] | None = None
        otherwise: Literal["log", "tag", "quarantine", "reject"] = "reject"
        header: api.FieldName = "X-Sensitive-Data"
        reason: str = Field(default="Message holds data that may not be sent: {rule}", max_length=200)
        documents: bool = False
        largest: int = Field(default=32 << 20, ge=1024)

        @field_validator("rules")
        @classmethod
        def _check_names(cls, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
            if len({rule.name for rule in rules}) < len(rules):
                raise ValueError("every rule needs a name of its own")
            return rules

    options: Options

    def inspect(self, message: Message, session: SessionRecord) -> Verdict:
        """Judge one message.  No exception that leaves here quotes it."""
        try:
            return self._inspect(message)
        except CouldNotInspect:
            raise
        except Exception as error:  # noqa: BLE001 - its text may hold what was found
            failure = type(error).__name__
        raise CouldNotInspect(f"could not inspect: {failure}")

    def _inspect(self, message: Message) -> Verdict:
        for defect in {one for part in list(message.walk()) for one in part.defects} & api.LIMIT_DEFECTS:
            raise CouldNotInspect(f"the structure is beyond a limit: {defect}")
        counts: dict[str, int] = {}
        touched: list[_Piece] = []
        for piece in self._pieces(message):
            for rule in self.options.rules:
                if piece.where in rule.where:
                    piece.spans += [(rule, start, end) for start, end in rule.spans(piece.text)]
            if piece.spans:
                touched.append(piece)
                for rule, _, _ in piece.spans:
                    counts[rule.name] = counts.get(rule.name, 0) + 1
        hits = [rule for rule in self.options.rules if counts.get(rule.name, 0) >= rule.min_count]
        for rule in hits:
            message.note(rule.name, str(counts[rule.name]))
        return self._verdict(message, hits, counts, touched) if hits else api.Pass()

    # -- what is looked at -------------------------------------------------

    def _pieces(self, message: Message) -> Iterator[_Piece]:
        for number, subject in enumerate(message.root.get_all("subject")):
            # Only the first is masked: the others would go with it.
            yield _Piece("subject", _sound(subject.value), None if number else message.root)
        unpacker = api.Unpacker()
        for part in message.walk():
            if part.children:
                continue
            body = part.content_type in ("text/plain", "text/html") and not part.is_attachment
            content = part.content()
            kind = api.file_types(content)[0]
            marked = content.startswith(_MARKS)
            if part.is_text or marked or api.FAMILY_OF[kind] in _TEXT_FAMILIES:
                self._check_size(len(content))
                markup = "html" if part.content_type == "text/html" else "" if body else _MARKUP.get(kind, "")
                where = ("html" if markup else "text") if body else "attachments"
                text = part.text()
                yield _piece(where, text, part, markup or _flow(part))
                if marked and (wide := api.decode_text(content, "utf-16")) != text:
                    yield _piece(where, wide, None, markup)
            enclosed = part.embedded() if part.is_text and b"begin" in content else []
            for one in enclosed:
                yield from self._files(unpacker, (one.name,), one.content())
            if self.options.documents and not (enclosed and kind == "uuencode"):
                names = api.file_names(part)
                if _holds_others(kind, names):
                    yield from self._files(unpacker, names, content, within=True)

    def _files(
        self, unpacker: api.Unpacker, names: tuple[str, ...], content: bytes, *, within: bool = False
    ) -> Iterator[_Piece]:
        """Give the texts of a file and of those in it.  within: of those in it only."""
        if not self.options.documents:
            yield from self._text_of(content, api.file_types(content)[0])
            return
        for file in unpacker.files(names, content):
            if file.troubles:
                raise CouldNotInspect(f"an attachment can't be looked into: {min(file.troubles)}")
            if file.depth or not within:
                yield from self._text_of(file.content, file.types[0])

    def _text_of(self, content: bytes, kind: str) -> Iterator[_Piece]:
        marked = content.startswith(_MARKS)
        if marked or api.FAMILY_OF[kind] in _TEXT_FAMILIES:
            self._check_size(len(content))
            text = api.decode_text(content, "utf-16" if marked else "")
            yield _piece("attachments", text, None, _MARKUP.get(kind, ""))

    def _check_size(self, size: int) -> None:
        if size > self.options.largest:
            raise CouldNotInspect(f"a text of {size} octets, more than {self.options.largest}")

    # -- what becomes of it ------------------------------------------------

    def _verdict(
        self, message: Message, hits: list[Rule], counts: dict[str, int], pieces: list[_Piece]
    ) -> Verdict:
        edits = message.edits()
        masked = {rule.name for rule in hits if rule.action == "mask"}
        worst = max(hits, key=lambda rule: _SEVERITY.index(rule.action))
        action: str = worst.action
        if masked and action == "mask":
            failed = [piece for piece in pieces if not self._mask(message, edits, piece, masked)]
            if failed:
                message.note("not_masked", ", ".join(sorted({piece.where for piece in failed})))
                action = self.options.otherwise
        if action == "reject":
            return api.Reject(self.options.reason.replace("{rule}", worst.name))
        if action == "quarantine":
            return api.Quarantine(worst.name)
        tags = [rule for rule in hits if rule.action == "tag" or (action == "tag" and rule.name in masked)]
        if tags:
            edits.set_header(self.options.header, "; ".join(f"{r.name}={counts[r.name]}" for r in tags[:20]))
        return api.Modify(edits) if len(edits) else api.Pass()

    def _mask(self, message: Message, edits: api.Edits, piece: _Piece, rules: set[str]) -> bool:
        """Blot out what the rules have found in a piece; False if it stays."""
        places: set[tuple[int, int]] = set()
        for rule, start, end in piece.spans:
            if rule.name in rules:
                places.update(api.mask(piece.text, start, end, rule.keep))
        if not places:
            return True
        spans = api.joined(places)
        if piece.where == "subject":
            if piece.part is None:
                return False
            edits.set_header("Subject", api.blotted(piece.text, spans))
            covered = any("subject" in one.names for one in message.signed)
            return not covered or (self.options.dkim or self.options.signed) == "modify"
        if piece.part is None or piece.part is not piece.part.origin:
            return False
        if self.options.on_signed(message, piece.part) == "skip":
            return False
        blots = [(start, end, "*" * (end - start)) for start, end in spans]
        if piece.seen is not None:
            sources = (one for start, end in spans for one in piece.seen.in_source(start, end))
            blots = [(start, end, "*" * count) for start, end, count in sources]
        return edits.replace_spans(piece.part, blots)


def _piece(where: str, text: str, part: Part | None, markup: str) -> _Piece:
    """Make a piece.  markup: "html", "xml", "flowed", "delsp" or ""."""
    text = _sound(text)
    if not markup:
        return _Piece(where, text, part)
    if markup in ("flowed", "delsp"):
        seen = api.flowed_text(text, without_blank=markup == "delsp")
    else:
        seen = api.visible_text(text, html=markup == "html")
    return _Piece(where, seen.text, part, seen)


def _flow(part: Part) -> str:
    """Return how the lines of a plain text are joined (RFC 3676); "" if they are not."""
    if part.parameters.get("format", "").lower() != "flowed":
        return ""
    return "delsp" if part.parameters.get("delsp", "").lower() == "yes" else "flowed"


def _holds_others(kind: str, names: tuple[str, ...]) -> bool:
    """Tell whether a file may hold others, by its type; a mail by its name."""
    return api.FAMILY_OF[kind] not in _TEXT_FAMILIES or any(
        name.lower().endswith(_MAIL_NAMES) for name in names
    )


def _sound(text: str) -> str:
    """Return text without lone surrogates, which RE2 can't take, of the same length."""
    return text.encode("utf-8", "replace").decode() if not text.isascii() else text
