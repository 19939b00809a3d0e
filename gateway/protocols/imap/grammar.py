"""IMAP's verbs and the shapes of its lines (RFC 9051 9)."""

from __future__ import annotations

import re

VERBS = frozenset(
    {
        "LOGIN", "AUTHENTICATE", "STARTTLS", "LOGOUT", "CAPABILITY", "NOOP", "ID", "ENABLE",
        "SELECT", "EXAMINE", "CREATE", "DELETE", "RENAME", "SUBSCRIBE", "UNSUBSCRIBE", "LIST", "LSUB",
        "XLIST", "STATUS", "APPEND", "REPLACE", "NAMESPACE", "CLOSE", "EXPUNGE", "UNSELECT", "SEARCH",
        "ESEARCH", "SORT", "THREAD", "FETCH", "STORE", "COPY", "MOVE", "IDLE", "DONE", "CHECK",
        "GETQUOTA", "GETQUOTAROOT", "SETQUOTA", "GETACL", "SETACL", "DELETEACL", "LISTRIGHTS", "MYRIGHTS",
        "GETMETADATA", "SETMETADATA", "NOTIFY", "COMPRESS", "UNAUTHENTICATE", "GENURLAUTH", "RESETKEY",
        "URLFETCH", "CONVERT", "LANGUAGE", "COMPARATOR", "CANCELUPDATE",
    }
)  # fmt: skip

#: Commands of extensions that are struck: never relayed.
STRUCK_VERBS = frozenset({"COMPRESS", "UNAUTHENTICATE", "GENURLAUTH", "RESETKEY", "URLFETCH", "CONVERT"})

#: Commands that may come before TLS where a session must have it; logins have rules of their own.
BEFORE_TLS = frozenset({"CAPABILITY", "STARTTLS", "NOOP", "LOGOUT", "ID", "LOGIN", "AUTHENTICATE"})

#: Octets of one line of a command (RFC 7162 4 asks for 8,192), and of one of a response.
COMMAND_LIMIT = 65536
RESPONSE_LIMIT = 1024 * 1024
#: The tags that the gateway uses itself begin so, while no tag of the client does.
OWN_TAG = b"mailgate."

TAG = re.compile(rb"[!#$&',\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]{1,256}\Z")
#: What a literal of a FETCH response is: item, section, partial (RFC 9051 7.5.2).
BODY_ITEM = re.compile(
    rb"[( ](?:(?:BODY|BINARY)\[([^\]]{0,4096})\](<\d+>)?|RFC822(\.TEXT|\.HEADER)?) \Z", re.IGNORECASE
)
FETCH = re.compile(rb"\* (\d+) (?:UID)?FETCH ", re.IGNORECASE)
UID_ITEM = re.compile(rb"[( ]UID (\d+)", re.IGNORECASE)
CAPABILITY_CODE = re.compile(rb"\[CAPABILITY ([^\]]*)\]", re.IGNORECASE)
UIDVALIDITY_CODE = re.compile(rb"\[UIDVALIDITY (\d{1,18})\]", re.IGNORECASE)
REFERRAL_CODE = re.compile(rb"\[REFERRAL [^\]]*\] ?", re.IGNORECASE)
#: Pairs of an ID command (RFC 2971 3.1).
_ID_PAIR = rb'"((?:[^"\\]|\\["\\]){0,60}+)" ++("(?:[^"\\]|\\["\\]){0,1100}+"|NIL)'
ID_PAIR = re.compile(_ID_PAIR, re.IGNORECASE)
ID_LIST = re.compile(rb"\( *+(?:" + _ID_PAIR + rb"(?: ++|(?=\))))*+\) *+\Z", re.IGNORECASE)


def first_string(text: bytes) -> bytes | None:
    """Return the first astring of arguments, unquoted; None if it begins a literal or is broken."""
    text = text.lstrip(b" ")
    if text[:1] == b'"':
        out, index = bytearray(), 1
        while index < len(text):
            octet = text[index]
            if octet == 0x22:
                return bytes(out)
            if octet == 0x5C:
                index += 1
                if index >= len(text):
                    return None
            out.append(text[index])
            index += 1
        return None
    word = text.split(b" ", 1)[0]
    return None if word[:1] in (b"{", b"") or word[:2] == b"~{" else word
