"""What `mailgate plugin new` writes: a plugin that works, and its test."""

from __future__ import annotations

PLUGIN = '''"""@CLASS@: one line that says what this plugin does.

    [[plugins]]
    name = "@NAME@"
    use = "@NAME@.py"
    stages = ["data"]
    options = { tag = "[@WORDS@]" }

It puts a tag before the subject of each message that has none yet.
"""

from __future__ import annotations

from pydantic import Field

from gateway.plugin import Message, Modify, Pass, Plugin, PluginOptions, SessionRecord, Verdict


class @CLASS@(Plugin):
    """Puts a tag before the subject."""

    class Options(PluginOptions):
        """The table `options`.  What is wrong in it is told when the configuration is read."""

        tag: str = Field(default="[@WORDS@]", min_length=1, max_length=60)
        """what is put before the subject"""

    options: Options

    def inspect(self, message: Message, session: SessionRecord) -> Verdict:
        """Judge one message.  It runs in a thread, for several messages at once."""
        tag = self.options.tag
        if message.subject.startswith(tag):
            message.note("tag", "already there")
            return Pass()
        edits = message.edits()
        edits.set_header("Subject", f"{tag} {message.subject}")
        return Modify(edits)
'''

TEST = '''"""The plugin @NAME@."""

from __future__ import annotations

import pytest

from gateway.plugin import Message, Modify, Pass, SessionRecord
from @NAME@ import @CLASS@

SESSION = SessionRecord("id", "smtp", "mx", "192.0.2.1", 1024, user="alice")


def tagged(octets: bytes, **options: str) -> bytes:
    """Return the message as the plugin leaves it."""
    plugin = @CLASS@(@CLASS@.Options(**options))
    message = Message.of(octets)
    verdict = plugin.inspect(message, SESSION)
    if isinstance(verdict, Pass):
        return octets
    assert isinstance(verdict, Modify)
    return verdict.edits.apply()


def test_the_subject_gets_a_tag_and_nothing_else_changes():
    octets = b"From: a@example.org\\r\\nSubject: hello\\r\\n\\r\\nHello.\\r\\n"
    assert tagged(octets, tag="[x]") == octets.replace(b"Subject: hello", b"Subject: [x] hello")


def test_a_message_that_has_the_tag_is_left_alone():
    octets = b"Subject: [x] hello\\r\\n\\r\\nHello.\\r\\n"
    assert tagged(octets, tag="[x]") == octets


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match="tag"):
        @CLASS@.Options(tag="")
'''
