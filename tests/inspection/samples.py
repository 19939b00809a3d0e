"""Small messages, well formed and broken, that the tests of inspection share."""

from __future__ import annotations


def crlf(text: str) -> bytes:
    """Return a message written with plain line ends as it stands on the wire."""
    return text.encode().replace(b"\n", b"\r\n")


PLAIN = crlf(
    """\
Received: from a.example.org
Received: from b.example.org
From: alice@example.org
Subject: hello

Hello, Bob.
"""
)
ALTERNATIVE = crlf(
    """\
From: alice@example.org
MIME-Version: 1.0
Content-Type: multipart/alternative; boundary="alt"

preamble
--alt
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

Gr=C3=BC=C3=9Fe
--alt
Content-Type: text/html; charset=iso-8859-1
Content-Transfer-Encoding: 7bit

<html><BODY><p>Hello</p></BODY></html>
--alt--
epilogue
"""
)
MIXED = crlf(
    """\
From: alice@example.org
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=outer

--outer
Content-Type: multipart/related; boundary=outer.inner

--outer.inner
Content-Type: multipart/alternative; boundary=alt

--alt
Content-Type: text/plain

text
--alt
Content-Type: text/html

<p>text</p>
--alt--
--outer.inner
Content-Type: image/png; name="=?utf-8?Q?p=C3=A4.png?="
Content-Transfer-Encoding: base64
Content-ID: <a@b>

iVBORw0KGgo=
--outer.inner--

--outer
Content-Type: text/plain
Content-Disposition: attachment; filename*0*=utf-8''%C3%A4; filename*1=".txt"

attached
--outer
Content-Type: message/rfc822

Subject: enclosed
Content-Type: multipart/mixed; boundary=deep

--deep

deep text
--deep--
--outer--
"""
)
SIGNED = crlf(
    """\
From: alice@example.org
Content-Type: multipart/signed; boundary=s; protocol="application/pgp-signature"

--s
Content-Type: text/plain

signed text
--s
Content-Type: application/pgp-signature

-----BEGIN PGP SIGNATURE-----
-----END PGP SIGNATURE-----
--s--
"""
)
DKIM = crlf(
    """\
DKIM-Signature: v=1; a=rsa-sha256; d=example.org; s=x; h=From:To:
 Subject; bh=abc=; b=def=
From: alice@example.org
Subject: hello

Hello.
"""
)
ENCRYPTED = crlf(
    """\
Content-Type: multipart/encrypted; boundary=e; protocol="application/pgp-encrypted"

--e
Content-Type: application/pgp-encrypted

Version: 1
--e
Content-Type: application/octet-stream

-----BEGIN PGP MESSAGE-----
--e--
"""
)
PKCS7 = crlf(
    """\
Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m
Content-Transfer-Encoding: base64

MIAGCSqGSIb3DQEHA6CA
"""
)
INLINE_PGP = crlf(
    """\
Content-Type: text/plain

-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA256

text
-----BEGIN PGP SIGNATURE-----
-----END PGP SIGNATURE-----
"""
)
WELL_FORMED = {
    "plain": PLAIN,
    "alternative": ALTERNATIVE,
    "mixed": MIXED,
    "signed": SIGNED,
    "dkim": DKIM,
    "encrypted": ENCRYPTED,
    "pkcs7": PKCS7,
    "inline_pgp": INLINE_PGP,
    "header_only": b"Subject: nothing\r\n\r\n",
    "empty_part": crlf("Content-Type: multipart/mixed; boundary=b\n\n--b\n\n--b\n\nx\n--b--\n"),
    "digest": crlf(
        "Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: one\n\nfirst\n"
        "--b\n\nSubject: two\n\nsecond\n--b--\n"
    ),
    "folded_type": crlf(
        'Content-Type: multipart/mixed (a (nested) comment);\n\tboundary="b c";\n x=y\n\n'
        "--b c\n\none\n--b c  \n\ntwo\n--b c--  \n"
    ),
}
