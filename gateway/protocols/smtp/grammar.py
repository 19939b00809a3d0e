"""SMTP's verbs and the shapes of its commands and replies (RFC 5321 4.1, 4.2)."""

from __future__ import annotations

#: Verbs known by name: their own label in metrics, their own form in the log.
VERBS = frozenset(
    {
        "HELO", "EHLO", "LHLO", "MAIL", "RCPT", "DATA", "RSET", "SEND", "SOML", "SAML", "VRFY",
        "EXPN", "HELP", "NOOP", "QUIT", "TURN", "AUTH", "STARTTLS", "BDAT", "ETRN", "ATRN", "BURL",
        "XCLIENT", "XFORWARD",
    }
)  # fmt: skip

#: Commands that may come before TLS where a session must have it (RFC 3207 4); AUTH has rules of its own.
BEFORE_TLS = frozenset({b"EHLO", b"HELO", b"LHLO", b"NOOP", b"RSET", b"STARTTLS", b"QUIT", b"HELP", b"AUTH"})

#: Octets a command line may have, its end included (RFC 5321 4.5.3.1.4 asks for 512, extensions
#: for more).
COMMAND_LIMIT = 2048
#: Octets one line of a reply may have, and a whole reply.
REPLY_LINE_LIMIT = 4096
REPLY_LIMIT = 65536

#: Which extension a parameter of MAIL or RCPT belongs to.
PARAMETER_EXTENSION = {
    "SIZE": "SIZE",
    "BODY": "8BITMIME",
    "SMTPUTF8": "SMTPUTF8",
    "RET": "DSN",
    "ENVID": "DSN",
    "NOTIFY": "DSN",
    "ORCPT": "DSN",
    "AUTH": "AUTH",
    "REQUIRETLS": "REQUIRETLS",
    "BY": "DELIVERBY",
    "HOLDFOR": "FUTURERELEASE",
    "HOLDUNTIL": "FUTURERELEASE",
    "MT-PRIORITY": "MT-PRIORITY",
    "SOLICIT": "NO-SOLICITING",
    "MTRK": "MTRK",
    "SUBMITTER": "SUBMITTER",
    "CONPERM": "CONPERM",
    "CONNEG": "CONNEG",
    "RRVS": "RRVS",
    "PRDR": "PRDR",
    "TRANSID": "CHECKPOINT",
}


def split_path(argument: bytes, keyword: bytes) -> tuple[bytes, list[bytes]] | None:
    """Split ``FROM:<path> PARAM...`` into the path and its parameters (RFC 5321 4.1.1.2).

    A blank behind the colon and a path without angle brackets are taken, as every server
    takes them; a quoted local part may hold ``>`` and blanks.  None if it can't be split.
    """
    if argument[: len(keyword)].upper() != keyword:
        return None
    rest = argument[len(keyword) :].lstrip(b" \t")
    if rest[:1] != b"<":
        path, _, tail = rest.partition(b" ")
        return (path, tail.split()) if path else None
    index, quoted = 1, False
    while index < len(rest):
        octet = rest[index]
        if quoted and octet == 0x5C:  # backslash
            index += 2
            continue
        if octet == 0x22:  # double quote
            quoted = not quoted
        elif octet == 0x3E and not quoted:  # >
            tail = rest[index + 1 :]
            if tail and tail[:1] not in b" \t":
                return None
            return rest[1:index], tail.split()
        index += 1
    return None


def text_of(path: bytes) -> str:
    """Return a mailbox as text; octets that are no UTF-8 are escaped."""
    return path.decode("utf-8", "backslashreplace")


def is_code(line: bytes) -> bool:
    """Tell whether a line begins as a reply may: ``[2-5][0-9][0-9]`` and `` ``, ``-`` or its end."""
    return (
        len(line) >= 3
        and line[:3].isdigit()
        and 0x32 <= line[0] <= 0x35
        and (len(line) == 3 or line[3:4] in (b" ", b"-", b"\r", b"\n"))
    )
