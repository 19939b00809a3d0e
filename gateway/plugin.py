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
        verdict = plugin.inspect(message, session)
        assert isinstance(verdict, Modify)
        assert b"Subject: [external] hello" in verdict.edits.apply()

``mailgate plugin new NAME`` writes both, to begin with; ``mailgate inspect FILE -c FILE`` shows
what a configuration's plugins make of a message.

Everything about a message (its octets, its header, its parts, its envelope) is in
:class:`Message`, what is known of the session in :class:`SessionRecord`.  A plugin sees no
transport and no password.  The verdicts are ``Pass()``, ``Modify(edits)``, ``Reject(reason)``,
``Quarantine(reason)`` and ``Discard()``; any other answer counts as a failure of the plugin.

``async def inspect`` runs on the reactor and must not block; a plain ``inspect`` runs in a
thread, or with ``isolation = "process"`` in a process of its own, with a limit of memory.  A
plugin that fails, in whatever way, fails one message, and its table's ``on_error`` settles that.

``docs/plugins.md`` tells all of it, ``docs/tutorial.md`` how to begin.
HTML is read as offsets into ``part.text()`` (``tokens``, ``tags``), URLs of running text too
(``find_urls``), and changed by ``Edits.replace_spans``; ``editable_texts`` gives the parts,
``unreachable_texts`` those that other programs may see and no edit reaches.
'''

from __future__ import annotations

from .core.record import SessionRecord
from .core.steps import Envelope, Stage
from .core.text import shown
from .inspection.active import FORMS, FRAMES, OBJECTS, RUNNING_SCHEMES, Sanitiser
from .inspection.addresses import domains_of, plain_domain
from .inspection.answers import Allow, Answer, Command, Login, Refuse, Tag
from .inspection.archives import CONDITIONS, Trouble, UnpackedFile, Unpacker, UnpackLimits
from .inspection.base import OnSigned, Plugin, PluginOptions, Services, SignedOptions
from .inspection.bodies import bodies, for_part, squeezed
from .inspection.bucket import Bucket, bucket_problem
from .inspection.charsets import decode as decode_text
from .inspection.css import EMPTY_URL, plain_css, url_spans
from .inspection.defects import LIMIT_DEFECTS, Defect, DefectKind
from .inspection.edits import EditError, Edits
from .inspection.embedded import Embedded, EmbeddedKind
from .inspection.expressions import compile_expression
from .inspection.fields import Field
from .inspection.filenames import RISKY_EXTENSIONS, extension_of, file_names, is_body
from .inspection.filetypes import FAMILIES, FAMILY_OF, TYPE_NAMES, file_types
from .inspection.header_text import FieldName, is_field_name
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
from .inspection.html_body import body_begins, body_ends
from .inspection.mailauth.authentication import (
    Authentication,
    Sender,
    authenticate,
    is_within,
    sender_before,
)
from .inspection.mailauth.dmarc import is_aligned
from .inspection.mailauth.keyring import OVERSIGNED_FIELDS, SIGNED_FIELDS, DkimKey, Keyring
from .inspection.mailauth.lookups import Resolver, TemporaryError, read_server
from .inspection.mailauth.results import claiming_results, put_results, says_pass, write_results
from .inspection.message import Message
from .inspection.milter_changes import lay_in_milter_changes
from .inspection.milter_protocol import MilterActions, MilterError, MilterWord
from .inspection.milter_talk import MilterAnswer, MilterLimits, MilterMail, MilterRecipient, ask_milter
from .inspection.parts import Part
from .inspection.sensitive import DETECTORS, blotted, joined, mask, passes_luhn, passes_mod97
from .inspection.services import (
    Service,
    ServiceAddress,
    ServiceAddresses,
    ServiceDown,
    ServiceError,
    ServiceSeconds,
    Talk,
    pieces,
    plain_text,
)
from .inspection.shares import in_share
from .inspection.signatures import Signed, SignedKind
from .inspection.texts import HTML_TYPES, PLAIN_TYPES, editable_texts, unreachable_texts
from .inspection.urls import (
    HostList,
    absolute,
    clean_url,
    defanged,
    domain_name,
    every_absolute,
    find_urls,
    is_web,
    scheme_of,
    shown_host,
    web_host,
    worst_bases,
)
from .inspection.verdict import Discard, Modify, Pass, Quarantine, Reject, Verdict
from .inspection.visible import VisibleText, flowed_text, visible_text

__all__ = [
    "CONDITIONS",
    "DETECTORS",
    "EMPTY_URL",
    "FAMILIES",
    "FAMILY_OF",
    "FORMS",
    "FRAMES",
    "HTML_TYPES",
    "LIMIT_DEFECTS",
    "OBJECTS",
    "OVERSIGNED_FIELDS",
    "PLAIN_TYPES",
    "RISKY_EXTENSIONS",
    "RUNNING_SCHEMES",
    "SIGNED_FIELDS",
    "TYPE_NAMES",
    "Allow",
    "Answer",
    "Attribute",
    "Authentication",
    "Bucket",
    "Command",
    "Defect",
    "DefectKind",
    "Discard",
    "DkimKey",
    "EditError",
    "Edits",
    "Embedded",
    "EmbeddedKind",
    "Envelope",
    "Field",
    "FieldName",
    "HostList",
    "Keyring",
    "Kind",
    "Login",
    "Message",
    "MilterActions",
    "MilterAnswer",
    "MilterError",
    "MilterLimits",
    "MilterMail",
    "MilterRecipient",
    "MilterWord",
    "Modify",
    "OnSigned",
    "Part",
    "Pass",
    "Plugin",
    "PluginOptions",
    "Quarantine",
    "Refuse",
    "Reject",
    "Resolver",
    "Sanitiser",
    "Sender",
    "Service",
    "ServiceAddress",
    "ServiceAddresses",
    "ServiceDown",
    "ServiceError",
    "ServiceSeconds",
    "Services",
    "SessionRecord",
    "Signed",
    "SignedKind",
    "SignedOptions",
    "Span",
    "Stage",
    "Tag",
    "Talk",
    "TemporaryError",
    "Token",
    "Trouble",
    "UnpackLimits",
    "UnpackedFile",
    "Unpacker",
    "Verdict",
    "VisibleText",
    "absolute",
    "ask_milter",
    "authenticate",
    "blotted",
    "bodies",
    "body_begins",
    "body_ends",
    "bucket_problem",
    "claiming_results",
    "clean_url",
    "compile_expression",
    "decode_references",
    "decode_text",
    "decode_with_offsets",
    "defanged",
    "domain_name",
    "domains_of",
    "editable_texts",
    "every_absolute",
    "extension_of",
    "file_names",
    "file_types",
    "find_urls",
    "flowed_text",
    "for_part",
    "in_share",
    "is_aligned",
    "is_body",
    "is_field_name",
    "is_web",
    "is_within",
    "joined",
    "lay_in",
    "lay_in_milter_changes",
    "mask",
    "passes_luhn",
    "passes_mod97",
    "pieces",
    "plain_css",
    "plain_domain",
    "plain_text",
    "put_results",
    "quiet_tags",
    "read_server",
    "says_pass",
    "scheme_of",
    "sender_before",
    "shown",
    "shown_host",
    "squeezed",
    "tags",
    "tokens",
    "unreachable_texts",
    "url_spans",
    "visible_text",
    "web_host",
    "worst_bases",
    "write_results",
]
