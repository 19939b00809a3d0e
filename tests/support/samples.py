"""Messages that real servers store and clients fetch: each shape once."""

from __future__ import annotations

from tests.inspection.samples import ALTERNATIVE, DKIM, ENCRYPTED, MIXED, PLAIN, SIGNED, crlf

ADDRESSES = crlf(
    """\
Date: Mon, 23 Nov 2026 10:00:00 +0000
From: "Alice \\"A\\" Example" <alice@example.org>
Sender: secretary@example.org (The Secretary)
Reply-To: list: a@example.org, "B, C" <b@example.org>;, d@example.org, R <@x.example,@y.example:e@example.org>
To: undisclosed-recipients:;
Cc: =?utf-8?Q?J=C3=BCrgen?= <j@example.org>,
 Plain Name <p@example.org>, <bare@example.org>
Bcc: hidden@example.org
In-Reply-To: <one@example.org>
Message-ID: <two@example.org>
Subject: =?utf-8?B?R3LDvMOfZQ==?= and "quotes" \\ backslash

text
"""
)
KEPT = crlf("From: alice@example.org\nSubject: keep me\n\nUnchanged.\n")
ENCLOSED = crlf(
    """\
From: alice@example.org
Subject: enclosed twice
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="m"

--m
Content-Type: text/plain; charset="us-ascii"; format=flowed
Content-Description: the text
Content-Language: en, de

First.
--m
Content-Type: message/rfc822
Content-Disposition: inline

From: bob@example.org
To: alice@example.org
Subject: inner
Content-Type: multipart/alternative; boundary=i

--i
Content-Type: text/plain

inner text
--i
Content-Type: text/html

<p>inner</p>
--i--
--m
Content-Type: application/octet-stream; name=data.bin
Content-Transfer-Encoding: base64
Content-Disposition: attachment; filename="data.bin"; size=6
Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==
Content-Location: data.bin

AAECAwQF
--m--
"""
)
BASE64_TEXT = crlf(
    """\
From: alice@example.org
Subject: text in base64
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: base64

R3L832UgYXVzIGRlbSBOb3JkZW4u
"""
)
NO_FINAL_LINE = b"From: alice@example.org\r\nSubject: no line end\r\n\r\nends here"
NO_SUBJECT = b"From: alice@example.org\r\n\r\nnothing more\r\n"
HEADER_ONLY = b"From: alice@example.org\r\nSubject: header only\r\n\r\n"
NO_BLANK_LINE = b"From: alice@example.org\r\nReceived: from here\r\nSubject: no blank line\r\n"
COMMENTED = (
    b"From: alice@example.org\r\nSubject: comments\r\nMIME-Version: 1.0 (a comment)\r\n"
    b"Content-Type: text/plain; charset=utf-8 (what else); format=flowed\r\n\r\ntext\r\n"
)
LARGE = (
    b"From: alice@example.org\r\nSubject: large\r\n\r\n"
    + b"All work and no play makes a long line.\r\n" * 5000
)
TOP_MESSAGE = crlf(
    "Subject: an enclosed message alone\nContent-Type: message/rfc822\n\nSubject: within\n\nwithin.\n"
)

MESSAGES = [
    PLAIN,
    ALTERNATIVE,
    MIXED,
    SIGNED,
    DKIM,
    ENCRYPTED,
    ADDRESSES,
    KEPT,
    ENCLOSED,
    BASE64_TEXT,
    NO_FINAL_LINE,
    NO_SUBJECT,
    HEADER_ONLY,
    NO_BLANK_LINE,
    COMMENTED,
    LARGE,
    TOP_MESSAGE,
]
