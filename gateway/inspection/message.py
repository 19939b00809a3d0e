"""What a plugin sees of a message."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from ..core.steps import BodyStart, Envelope, Stage
from ..core.text import shown
from .defects import Defect, DefectKind, Limits
from .edits import Edits
from .parts import Part, parse
from .readings import find_readings
from .scan import Buffer
from .signatures import Signed, find_signed

_MOST_NOTES = 20


class Content:
    """A buffer and what was found out about it, shared by the plugins that see it."""

    def __init__(self, buffer: Buffer, limits: Limits | None = None) -> None:
        self.buffer = buffer
        self._limits = limits

    @cached_property
    def root(self) -> Part:
        return parse(self.buffer, self._limits)

    @cached_property
    def signed(self) -> tuple[Signed, ...]:
        return find_signed(self.root)

    @cached_property
    def readings(self) -> tuple[Part, ...]:
        """What other programs may see in ambiguous parts: see :mod:`readings`."""
        return find_readings(self.root, self._limits)

    @cached_property
    def ambiguity(self) -> tuple[Defect, ...]:
        """The defects because of which another program may see what no plugin saw.

        Those that are ambiguous and those of a limit, each once, in the order of the parts.
        It reads the encoded bodies once, at the speed of C.
        """
        readings = self.readings  # a limit on them becomes a defect of the root
        trees = (self.root, *readings)
        found = [
            defect
            for tree in trees
            for part in tree.walk()
            for defect in (*part.defects, *part.content_defects)
            if defect.kind is not DefectKind.HARMLESS
        ]
        return tuple(dict.fromkeys(found))

    def edited(self, edits: Edits) -> Content:
        return Content(edits.apply(), self._limits)


class Message:
    """One message, or with ``partial`` or ``section`` a piece of one, on its way.

    It is made anew for each plugin.  Don't keep it, its buffer or its parts after
    ``inspect`` has returned: the buffer goes with the message.
    """

    def __init__(self, content: Content, start: BodyStart, edit_signed: bool = False) -> None:
        self._content = content
        self._start = start
        self._edit_signed = edit_signed
        #: What the plugin has noted about the message; see :meth:`note`.
        self.facts: dict[str, str] = {}

    @classmethod
    def of(cls, buffer: Buffer, stage: Stage = Stage.DATA, envelope: Envelope | None = None) -> Message:
        """Make a message of octets, as a plugin's own tests want it."""
        from ..core.steps import CLIENT

        return cls(Content(buffer), BodyStart(CLIENT, stage, held=True, envelope=envelope))

    # -- how it came -------------------------------------------------------

    @property
    def buffer(self) -> Buffer:
        """The octets: ``bytes``, or a read-only map of a file.  Slices of both are bytes."""
        return self._content.buffer

    @property
    def size(self) -> int:
        """Octets."""
        return len(self._content.buffer)

    @property
    def stage(self) -> Stage:
        """Where in its protocol the message passes."""
        return self._start.stage

    @property
    def envelope(self) -> Envelope | None:
        """The SMTP envelope; None for POP3 and IMAP."""
        return self._start.envelope

    @property
    def mailbox(self) -> str:
        """The IMAP mailbox, as the client wrote it; "" elsewhere."""
        return self._start.mailbox

    @property
    def special_use(self) -> frozenset[str]:
        """What the IMAP mailbox is for: "\\Drafts", "\\Sent", "\\Junk" (RFC 6154); empty elsewhere."""
        return self._start.special_use

    @property
    def section(self) -> str:
        """The IMAP section that was fetched; "" is the whole message."""
        return self._start.section

    @property
    def partial(self) -> bool:
        """Only a piece of what ``section`` names (POP3 TOP, a partial FETCH)."""
        return self._start.partial

    # -- what it holds -----------------------------------------------------

    @property
    def root(self) -> Part:
        """The message as a tree of parts; parsed when first asked for."""
        return self._content.root

    def header(self, name: str) -> str | None:
        """Return the first field of that name, unfolded and decoded, or None.

        The text is a stranger's: it may hold controls.
        """
        found = self.root.get(name)
        return found.value if found is not None else None

    @property
    def subject(self) -> str:
        """The decoded subject; "" if there is none."""
        return self.header("subject") or ""

    @property
    def message_id(self) -> str:
        """The message identifier with its angle brackets (RFC 5322 3.6.4); "" if there is none."""
        return (self.header("message-id") or "").strip()

    def walk(self) -> Iterator[Part]:
        """Give every part that some program may see, those of the message itself first.

        Behind them come those of other readings: of a message/rfc822 that is encoded, of a
        part with two content types and the like.  They have a buffer of their own and can't
        be edited; their ``origin`` is what may be.
        """
        yield from self.root.walk()
        for reading in self.readings:
            yield from reading.walk()

    @property
    def readings(self) -> tuple[Part, ...]:
        """The other readings that :meth:`walk` gives the parts of, each as the root of its tree."""
        return self._content.readings

    @property
    def defects(self) -> list[tuple[Part, Defect]]:
        """Everything that is wrong with the structure, part by part.

        What is wrong within the bodies is in ``part.content_defects``.
        """
        return [(part, defect) for part in self.root.walk() for defect in part.defects]

    @property
    def ambiguity(self) -> tuple[Defect, ...]:
        """The defects because of which another program may see what no plugin saw; () is good."""
        return self._content.ambiguity

    @property
    def signed(self) -> tuple[Signed, ...]:
        """The regions that a signature or an encryption covers."""
        return self._content.signed

    def may_edit(self, part: Part) -> bool:
        """Tell whether the body of a part may be edited.

        Not where a signature or an encryption covers it, unless the plugin's option
        ``edit_signed`` is on.  Edits made all the same are dropped by the pipeline.  Never a
        part of another reading.
        """
        if part.buffer is not self.buffer:
            return False
        return self._edit_signed or self.cover_of(part) is None

    def cover_of(self, part: Part) -> Signed | None:
        """Return what covers the body of a part, or None."""
        return next(iter(self.covers_of(part)), None)

    def covers_of(self, part: Part) -> list[Signed]:
        """Return everything that covers the body of a part, the outermost first."""
        part = part.origin
        return [one for one in self.signed if one.start <= part.body_start and part.end <= one.end]

    # -- what a plugin does with it ----------------------------------------

    def edits(self) -> Edits:
        """Return an empty set of edits of this message, to be filled and given to Modify."""
        return Edits(self.root)

    def edited(self, edits: Edits) -> Message:
        """Return the message as edits leave it, to be looked at once more."""
        return Message(self._content.edited(edits), self._start, self._edit_signed)

    def note(self, key: str, value: str) -> None:
        """Add a fact to the log line of this run.  Kept short; at most twenty of them."""
        if len(self.facts) < _MOST_NOTES or key in self.facts:
            self.facts[shown(key, 40)] = shown(value)
