'''What a plugin's author may import.

A plugin is a class with a method ``inspect`` that answers with a verdict::

    from gateway.plugin import Message, Modify, Pass, Plugin, PluginOptions, SessionRecord, Verdict

    class Tag(Plugin):
        """Put a tag before the subject."""

        class Options(PluginOptions):
            tag: str = "[external]"

        options: Options

        def inspect(self, message: Message, session: SessionRecord) -> Verdict:
            if message.subject.startswith(self.options.tag):
                return Pass()
            edits = message.edits()
            edits.set_header("Subject", f"{self.options.tag} {message.subject}")
            return Modify(edits)

and a table of the configuration that names its file, or its entry point in the group
``mailgate.plugins``::

    [[plugins]]
    name = "external"
    use = "tag.py"
    stages = ["data"]
    options = { tag = "[outside]" }

To try it in a test::

    def test_tag():
        plugin = Tag(Tag.Options())
        message = Message.of(b"Subject: hello\\r\\n\\r\\nHello.\\r\\n")
        session = SessionRecord("id", "smtp", "mx", "192.0.2.1", 1024)
        assert isinstance(plugin.inspect(message, session), Modify)

Everything about a message (its octets, its header, its parts, its envelope) is in
:class:`Message`, what is known of the session in :class:`SessionRecord`.  A plugin sees no
transport and no password.  The verdicts are ``Pass()``, ``Modify(edits)``, ``Reject(reason)``,
``Quarantine(reason)`` and ``Discard()``; any other answer counts as a failure of the plugin.
'''

from __future__ import annotations

from .core.record import SessionRecord
from .core.steps import Envelope, Stage
from .core.text import shown
from .inspection.answers import Allow, Answer, Command, Login, Refuse, Tag
from .inspection.archives import CONDITIONS, Trouble, UnpackedFile, Unpacker, UnpackLimits
from .inspection.base import Plugin, PluginOptions, Services
from .inspection.charsets import decode as decode_text
from .inspection.defects import LIMIT_DEFECTS, Defect
from .inspection.edits import EditError, Edits
from .inspection.embedded import Embedded, EmbeddedKind
from .inspection.expressions import compile_expression
from .inspection.fields import Field
from .inspection.filenames import RISKY_EXTENSIONS, extension_of, file_names
from .inspection.filetypes import FAMILIES, FAMILY_OF, TYPE_NAMES, file_types
from .inspection.header_text import FieldName, is_field_name
from .inspection.message import Message
from .inspection.parts import Part
from .inspection.sensitive import DETECTORS, blotted, joined, mask, passes_luhn, passes_mod97
from .inspection.shares import in_share
from .inspection.signatures import Signed, SignedKind
from .inspection.verdict import Discard, Modify, Pass, Quarantine, Reject, Verdict
from .inspection.visible import VisibleText, visible_text

__all__ = [
    "CONDITIONS",
    "DETECTORS",
    "FAMILIES",
    "FAMILY_OF",
    "LIMIT_DEFECTS",
    "RISKY_EXTENSIONS",
    "TYPE_NAMES",
    "Allow",
    "Answer",
    "Command",
    "Defect",
    "Discard",
    "EditError",
    "Edits",
    "Embedded",
    "EmbeddedKind",
    "Envelope",
    "Field",
    "FieldName",
    "Login",
    "Message",
    "Modify",
    "Part",
    "Pass",
    "Plugin",
    "PluginOptions",
    "Quarantine",
    "Refuse",
    "Reject",
    "Services",
    "SessionRecord",
    "Signed",
    "SignedKind",
    "Stage",
    "Tag",
    "Trouble",
    "UnpackLimits",
    "UnpackedFile",
    "Unpacker",
    "Verdict",
    "VisibleText",
    "blotted",
    "compile_expression",
    "decode_text",
    "extension_of",
    "file_names",
    "file_types",
    "in_share",
    "is_field_name",
    "joined",
    "mask",
    "passes_luhn",
    "passes_mod97",
    "shown",
    "visible_text",
]
