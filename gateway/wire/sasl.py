"""Reading SASL exchanges for what an audit wants: mechanism, identity, and no password.

The payloads are relayed unchanged; this only looks on.  What it keeps is the identity.
"""

from __future__ import annotations

import base64
import binascii
import re

#: Mechanisms in which the client sends its password, or a token as good as one; POP3's USER too.
REVEALING = frozenset({"PLAIN", "LOGIN", "USER", "XOAUTH2", "OAUTHBEARER"})

#: Mechanisms that are known by name; others count as "other" in metrics.
KNOWN = frozenset(
    {
        "PLAIN",
        "LOGIN",
        "CRAM-MD5",
        "DIGEST-MD5",
        "SCRAM-SHA-1",
        "SCRAM-SHA-256",
        "SCRAM-SHA-512",
        "XOAUTH2",
        "OAUTHBEARER",
        "GSSAPI",
        "NTLM",
        "EXTERNAL",
        "ANONYMOUS",
    }
)

#: Mechanisms that name the user in what the client sends first, in a form that is read here.
_NAMING = frozenset(
    {"PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", "XOAUTH2", "OAUTHBEARER"}
    | {f"SCRAM-SHA-{size}" for size in ("1", "256", "512")}
)

#: Mechanisms in which the server speaks first.
_SERVER_FIRST = frozenset({"LOGIN", "CRAM-MD5", "DIGEST-MD5"})

_GS2 = re.compile(rb"(?:[ny]|p=[^,]*+),(?:a=([^,]*+))?+,\Z")
#: RFC 5802 7: client-first-message.
_SCRAM = re.compile(rb"(?:[ny]|p=[^,]*+),(?:a=[^,]*+)?+,(?:m=[^,]*+,)?+n=([^,]*+),r=[^,]++")
#: RFC 2831 2.1.2.
_DIGEST_NAME = re.compile(rb'(?:\A|,)[ \t]*+username="((?:[^"\\]|\\.)*+)"', re.IGNORECASE)

_NAME = re.compile(rb"[A-Za-z0-9_-]{1,20}\Z")


def mechanism_name(word: bytes) -> str | None:
    """Return the mechanism's name in upper case; None if it is none (RFC 4422 3.1)."""
    return word.decode("ascii").upper() if _NAME.match(word) else None


def says_nothing(name: str, initial: bytes) -> bool:
    """Tell whether an initial response, in base64, is as good as none (RFC 4422 3.3).

    Programs send an empty one where the server speaks first, and servers differ in what they make
    of it: it is to be left out.
    """
    return name in _SERVER_FIRST and initial in (b"", b"=")


def shown_name(name: str | None) -> str:
    """Return a mechanism's name if it is one that is known, else "": it may be a credential."""
    return name if name is not None and name in KNOWN else ""


def decode(payload: bytes) -> bytes | None:
    """Decode one base64 payload; ``=`` is an empty one; None if it is not base64."""
    if payload == b"=":
        return b""
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        return None


#: Logins that are no SASL mechanism, by the names that the engines give them.
OWN_LOGINS = frozenset({"USER", "APOP"})


class SaslReader:
    """Looks on at one authentication exchange.

    user: the authentication identity, as far as it was seen; "" until then.
    sent: whether a password or token has crossed the wire.
    malformed: what was sent is not base64, is no message of the mechanism, names two users, or came
        with the command where it may not: servers differ in what they make of it.
    """

    __slots__ = ("_count", "malformed", "mechanism", "sent", "user")

    def __init__(self, mechanism: str) -> None:
        self.mechanism = shown_name(mechanism) or (mechanism if mechanism in OWN_LOGINS else "other")
        self.user = ""
        self.sent = False
        self.malformed = False
        self._count = 0

    @property
    def reveals(self) -> bool:
        """Whether the mechanism sends the password or token itself."""
        return self.mechanism in REVEALING

    @property
    def hides(self) -> bool:
        """Whether the user would have been named by now, and was not; always of what can't be read."""
        if self.mechanism in OWN_LOGINS or self.mechanism == "ANONYMOUS":
            return False
        return not self.user and (self._count > 0 or self.mechanism not in _NAMING)

    def client(self, payload: bytes, *, initial: bool = False) -> None:
        """Look at one payload of the client, still in base64, without its line end.

        initial: it came with the command.
        """
        data = decode(payload)
        index = self._count
        self._count += 1
        if data is None:
            # Not base64: whatever it is, somebody may have typed a password.
            self.malformed = True
            self.sent = self.sent or (self.reveals and bool(payload))
            return
        mechanism = self.mechanism
        if initial and (mechanism in ("CRAM-MD5", "DIGEST-MD5") or (not data and mechanism in _NAMING)):
            self.malformed = True
            return
        if mechanism == "PLAIN":
            parts = data.split(b"\0")  # RFC 4616 2: [authzid] NUL authcid NUL passwd
            if len(parts) == 3:
                self._name(parts[1])
            self.sent = self.sent or bool(data)
        elif mechanism == "LOGIN":
            if index == 0:
                self._name(data)
            else:
                self.sent = True
        elif mechanism == "CRAM-MD5":
            self._name(data.rpartition(b" ")[0])  # RFC 2195 2
        elif mechanism in ("XOAUTH2", "OAUTHBEARER"):
            if index == 0:
                head, *fields = data.split(b"\1")
                if mechanism == "OAUTHBEARER":  # RFC 7628 3.1
                    self._header(_GS2.match(head))
                else:
                    names = [field[5:] for field in (head, *fields) if field.startswith(b"user=")]
                    self.malformed |= len(names) != 1
                    self._name(b"".join(names[:1]))
                self.sent = self.sent or bool(data)
        elif mechanism.startswith("SCRAM-"):
            if index == 0:
                self._header(_SCRAM.match(data))
        elif mechanism == "DIGEST-MD5":
            names = _DIGEST_NAME.findall(data)
            self.malformed |= len(names) != 1 and index == 0
            self._name(b"".join(names[:1]))
        elif mechanism == "ANONYMOUS":
            self.user = "anonymous"

    def _header(self, found: re.Match[bytes] | None) -> None:
        """Take the name of a message that begins with GS2's header (RFC 5801 4)."""
        if found is None:
            self.malformed = True
        elif found.group(1) is not None:
            self._name(found.group(1).replace(b"=2C", b",").replace(b"=3D", b"="))

    def _name(self, name: bytes) -> None:
        if not self.user and name:
            self.user = name[:512].decode("utf-8", "backslashreplace")
