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

HTML is read as offsets into ``part.text()`` (``tokens``, ``tags``), URLs of running text too
(``find_urls``), and changed by ``Edits.replace_spans``; ``editable_texts`` gives the parts.
'''

from __future__ import annotations

from .core.record import SessionRecord
from .core.steps import Envelope, Stage
from .core.text import shown
from .inspection.active import FORMS, FRAMES, OBJECTS, RUNNING_SCHEMES, Sanitiser
from .inspection.base import Plugin, PluginOptions, Services
from .inspection.css import EMPTY_URL, plain_css, url_spans
from .inspection.defects import Defect, DefectKind
from .inspection.edits import EditError, Edits
from .inspection.embedded import Embedded, EmbeddedKind
from .inspection.fields import Field
from .inspection.header_text import is_field_name
from .inspection.html import (
    Attribute,
    Kind,
    Span,
    Token,
    decode_references,
    decode_with_offsets,
    lay_in,
    quiet_tags,
    tags,
    tokens,
)
from .inspection.message import Message
from .inspection.parts import Part
from .inspection.signatures import Signed, SignedKind
from .inspection.texts import HTML_TYPES, PLAIN_TYPES, editable_texts
from .inspection.urls import (
    HostList,
    absolute,
    clean_url,
    defanged,
    domain_name,
    find_urls,
    is_web,
    scheme_of,
    shown_host,
    web_host,
)
from .inspection.verdict import Discard, Modify, Pass, Quarantine, Reject, Verdict

__all__ = [
    "EMPTY_URL",
    "FORMS",
    "FRAMES",
    "HTML_TYPES",
    "OBJECTS",
    "PLAIN_TYPES",
    "RUNNING_SCHEMES",
    "Attribute",
    "Defect",
    "DefectKind",
    "Discard",
    "EditError",
    "Edits",
    "Embedded",
    "EmbeddedKind",
    "Envelope",
    "Field",
    "HostList",
    "Kind",
    "Message",
    "Modify",
    "Part",
    "Pass",
    "Plugin",
    "PluginOptions",
    "Quarantine",
    "Reject",
    "Sanitiser",
    "Services",
    "SessionRecord",
    "Signed",
    "SignedKind",
    "Span",
    "Stage",
    "Token",
    "Verdict",
    "absolute",
    "clean_url",
    "decode_references",
    "decode_with_offsets",
    "defanged",
    "domain_name",
    "editable_texts",
    "find_urls",
    "is_field_name",
    "is_web",
    "lay_in",
    "plain_css",
    "quiet_tags",
    "scheme_of",
    "shown",
    "shown_host",
    "tags",
    "tokens",
    "url_spans",
    "web_host",
]
