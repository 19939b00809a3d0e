"""The sample messages that the demonstration starts with: one of each shape a mail client must cope with."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

from gateway.demo.store import Store

_HEAD = """From: {who}
To: Alice Liddell <alice@example.org>
Subject: {subject}
Date: {date}
Message-ID: <{identifier}@example.org>
MIME-Version: 1.0
"""
_PLAIN = """Content-Type: text/plain; charset=us-ascii

Dear Alice,

this is a plain message. The next line consists of one dot:
.
..and this line begins with two.

Bob
"""
_ALTERNATIVE = """Content-Type: multipart/alternative; boundary="two-faces"

--two-faces
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

The menu for Friday costs 12=E2=82=AC.
See https://menu.example.net/friday

--two-faces
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: quoted-printable

<html><body><p>The <b>menu</b> for Friday costs 12=E2=82=AC.</p>
<p><a href=3D"https://menu.example.net/friday">See it</a></p></body></html>

--two-faces--
"""
_ATTACHMENT = """Content-Type: multipart/mixed; boundary="=_report"

This is a message with an attachment.
--=_report
Content-Type: text/plain; charset=us-ascii

The figures are in the attachment.

--=_report
Content-Type: application/octet-stream; name="figures.bin"
Content-Disposition: attachment; filename="figures.bin"
Content-Transfer-Encoding: base64

{figures}
--=_report--
"""
_EIGHT_BIT = """Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

Grüße aus Köln – und ein Satz auf Griechisch: Ξεσκεπάζω τὴν ψυχοφθόρα βδελυγμία.
"""
_FORWARDED = """Content-Type: multipart/mixed; boundary="fwd"

--fwd
Content-Type: text/plain

See below.
--fwd
Content-Type: message/rfc822

From: Dave <dave@example.net>
To: bob@example.org
Subject: the original
Date: Mon, 4 Mar 2024 08:00:00 +0000
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="inner"

--inner
Content-Type: text/plain

The innermost text.
--inner
Content-Type: text/csv

a,b
1,2
--inner--

--fwd--
"""
_BOB = "Bob Builder <bob@example.org>"
_CAROL = '"Carol Singer" <carol@example.org>'


def sample_messages() -> list[bytes]:
    """Plain text, alternatives, attachment, UTF-8 as 8bit, and a forwarded message, with CRLF line ends."""
    wrapped = base64.encodebytes(bytes(range(256)) * 8).decode("ascii").rstrip()
    shapes = [
        ("hello", _BOB, _PLAIN),
        ("Friday's menu", _CAROL, _ALTERNATIVE),
        ("figures, as promised", _BOB, _ATTACHMENT.format(figures=wrapped)),
        ("=?utf-8?q?Gr=C3=BC=C3=9Fe?=", _CAROL, _EIGHT_BIT),
        ("Fwd: the original", _BOB, _FORWARDED),
    ]
    messages = []
    for number, (subject, who, rest) in enumerate(shapes, 1):
        date = f"Tue, {number + 4:02} Mar 2024 09:{number:02}:00 +0000"
        head = _HEAD.format(who=who, subject=subject, date=date, identifier=f"sample-{number}")
        messages.append((head + rest).replace("\n", "\r\n").encode("utf-8"))
    return messages


def fill(store: Store) -> Store:
    """Puts every sample into alice's INBOX and the first one into everybody else's."""
    samples = sample_messages()
    for name, user in store.users.items():
        for number, content in enumerate(samples if name == "alice" else samples[:1], 1):
            user.inbox.add(content, set(), datetime(2024, 3, number + 4, 9, number, tzinfo=UTC))
    return store
