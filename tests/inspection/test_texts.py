"""The texts that plugins change: what some program shows is one of them."""

from __future__ import annotations

import pytest

from gateway.inspection.message import Message
from gateway.inspection.texts import HTML_TYPES, editable_texts

from .samples import crlf


@pytest.mark.parametrize(
    ("dispositions", "shown"),
    [
        (["attachment"], False),
        (["attachment; filename=a", "Attachment; filename=b"], False),
        (["attachment", "inline"], True),
        (["attachment", "x"], True),
        (["inline", "attachment"], True),
        (["attachment", "attachment"], False),
    ],
)
def test_an_attachment_is_one_for_every_program(dispositions: list[str], shown: bool):
    fields = "".join(f"Content-Disposition: {one}\n" for one in dispositions)
    part = f"--b\nContent-Type: text/html\n{fields}\n<p>\n--b--\n"
    message = Message.of(crlf(f"Content-Type: multipart/mixed; boundary=b\n\n{part}"))
    assert len(list(editable_texts(message, HTML_TYPES))) == shown
    assert len(list(editable_texts(message, HTML_TYPES, attachments=True))) == 1
