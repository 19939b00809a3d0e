"""Making what was said fit to be kept: no password in any form, no content of mail.

Nothing is searched for secrets; what may stand is told, and the rest is masked:

* A client's line stands if it says just what the engine has shown of it, and no more.  A
  command with a mask is written as shown.  All else that a client sends (answers to
  challenges, commands nobody knows, literals) becomes ``xxxx``.
* A line sent upstream stands if the client's stood, or if its verb is one that the gateway
  says itself.
* A line from the upstream stands unless a login is going on and it is a challenge, or it is of
  a message.
* Of messages, letters and digits become ``x``, unless content is wanted.

And whatever was masked is remembered while the session lives, as it was sent and decoded, and
masked wherever it comes up again: in a reply that quotes it, in a later line.
"""

from __future__ import annotations

import re
from collections import deque

from ..core.masking import LOGIN_VERBS, Masking
from ..core.secret import MASK
from ..core.steps import CommandSeen, ReplySeen
from ..core.text import shown

#: What stands for a secret in a play: an atom in every protocol, and valid base64.
HIDDEN = b"xxxx"

#: Verbs that the gateway says itself, or may change on the way: none takes a secret.
OWN_VERBS = frozenset(
    b"EHLO HELO LHLO STARTTLS STLS RSET NOOP QUIT LOGOUT DATA BDAT CAPA CAPABILITY XCLIENT ID MAIL RCPT"
    b" APPEND".split()
)
#: IMAP commands that may hold literals which are no secret: their verb stands.
LITERAL_VERBS = frozenset(
    b"APPEND REPLACE SEARCH SORT THREAD UID CREATE DELETE RENAME SELECT EXAMINE STATUS LIST LSUB"
    b" SUBSCRIBE UNSUBSCRIBE COPY MOVE STORE FETCH ID GETQUOTAROOT SETMETADATA GETMETADATA".split()
)

_LITERAL = re.compile(rb"\{(\d{1,19})\+?\}\r?\n\Z")
_TAG = re.compile(rb"[!#-'\,-\[\]-z|}~]{1,64}\Z")  # RFC 3501 9: any ASTRING-CHAR but "+"
_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"')
_REPLIES = {
    "smtp": re.compile(rb"\d{3}[ -]"),
    "lmtp": re.compile(rb"\d{3}[ -]"),
    "pop3": re.compile(rb"\+OK|-ERR|\+ |\.\r\n"),
    "imap": re.compile(rb"\* |\+|[A-Za-z0-9.]{1,64} (?:OK|NO|BAD) |\)\r\n"),
}
_CHALLENGES = {"smtp": b"334 ", "lmtp": b"334 ", "pop3": b"+ ", "imap": b"+ "}

_CONTENT = bytes(
    ord("x") if chr(code).isalnum() or code >= 0x80 else code for code in range(256)
)  # letters, digits and whatever is no ASCII


def lines_of(data: bytes) -> list[bytes]:
    """Cut octets behind each LF; the last piece may have none."""
    pieces = data.split(b"\n")
    last = pieces.pop()
    lines = [piece + b"\n" for piece in pieces]
    return [*lines, last] if last else lines


def line_end(line: bytes) -> bytes:
    """Return how a line ends: CRLF, LF, or not at all."""
    return b"\r\n" if line[-2:] == b"\r\n" else b"\n" if line[-1:] == b"\n" else b""


class Redactor:
    """Follows one session, and tells what may stand of each line.

    protocol: of the session.  content: whether messages stand as they are.
    """

    def __init__(self, protocol: str, content: bool = False) -> None:
        self.imap = protocol == "imap"
        self._content = content
        self._reply = _REPLIES.get(protocol, _REPLIES["smtp"])
        self._challenge = _CHALLENGES.get(protocol, b"334 ")
        self._login: CommandSeen | None = None  # a login is going on, begun by this command
        self._login_line = b""  # and written so
        self._masking = Masking()
        self._stood: deque[bytes] = deque(maxlen=500)
        self._literal = 0  # octets of a client's literal still to come
        self._literal_secret = False  # the command it is in is a login
        self._gathered = b""  # of a secret literal, what has come of it

    # -- the client --------------------------------------------------------

    def matches(self, line: bytes, command: CommandSeen) -> bool:
        """Tell whether the engine made this command of this line."""
        words = line.split(None, 2)[:2]
        verb = command.verb.encode()
        if command.verb == "other":
            return self._says(line, command)
        place = words[1:2] if self.imap else words[:1]
        if self.imap and place and place[0].upper() == b"UID":
            return self._says(line, command)
        return bool(place) and place[0].upper() == verb

    def _says(self, line: bytes, command: CommandSeen) -> bool:
        """Tell whether a line says what was shown of the command, and no more."""
        text = line.partition(b" ")[2] if self.imap else line
        said = _fold(command.shown)
        return said in (_fold(shown(text)), _fold(shown(line)))

    def began(self, command: CommandSeen) -> None:
        """A command was seen: it may begin a login."""
        self._literal = 0
        if self._is_secret(command):
            self._login = command

    def _is_secret(self, command: CommandSeen) -> bool:
        return MASK in command.shown or command.verb in LOGIN_VERBS

    def command(self, line: bytes, command: CommandSeen) -> bytes:
        """Return what may stand of the line of a command."""
        if self._is_secret(command):
            kept = self._as_shown(line, command)
            self._remember(line, kept)
            self._login_line = kept
            return self._begin_literal(line, kept, secret=True)
        if command.verb != "other" and self._says(line, command):
            self._stood.append(line)
            return self._begin_literal(line, line, secret=False)
        return self.stray(line)

    def _as_shown(self, line: bytes, command: CommandSeen) -> bytes:
        text = command.shown.replace(MASK, HIDDEN.decode()).encode("ascii", "backslashreplace")
        if self.imap:
            tag = line.split(None, 1)[0] if line.strip() else b""
            if _TAG.match(tag) and not text.startswith(tag + b" "):
                text = tag + b" " + text
        return text + line_end(line)

    def stray(self, line: bytes) -> bytes:
        """Return what may stand of a client's line that no command was shown of."""
        if self._literal:
            return self._literal_octets(line)
        end = line_end(line)
        text = line[: len(line) - len(end)]
        if text in (b"", b"*", b"=", b".") or (self.imap and text.upper() == b"DONE"):
            return line
        words = text.split(None, 2)
        if self.imap and len(words) > 1 and _TAG.match(words[0]):
            verb = words[1].upper()
            if verb in (b"LOGIN", b"AUTHENTICATE"):
                arguments = _LITERAL.sub(b"", words[2] + b"\r\n").strip() if len(words) > 2 else b""
                kept = words[0] + b" " + verb + (b" " + HIDDEN if arguments else b"") + end
                self._remember(line, kept)
                return self._begin_literal(line, kept, secret=True)
            if verb in LITERAL_VERBS and self._login is None:
                kept = b" ".join([words[0], words[1], *(word.translate(_CONTENT) for word in words[2:])])
                found = _LITERAL.search(line)
                if found:
                    kept = kept[: kept.rfind(b"{")] + line[found.start() : len(line) - len(end)]
                return self._begin_literal(line, kept + end, secret=False)
        self._remember(line, b"")
        return self._begin_literal(line, HIDDEN + end, secret=True)

    def _begin_literal(self, line: bytes, kept: bytes, secret: bool) -> bytes:
        """Expect the literal that a line announces; of a secret one not even the size stands."""
        found = _LITERAL.search(line) if self.imap else None
        if found is None:
            return kept
        self._literal = int(found.group(1))
        self._literal_secret = secret
        if not secret:
            return kept
        end = line_end(line)
        kept = kept[: len(kept) - len(line_end(kept))]
        mark = b"{%d}" % len(HIDDEN) if b"+}" not in found.group() else b"{%d+}" % len(HIDDEN)
        if not kept.rstrip().endswith(b"}"):
            kept += b" " + mark
        else:
            kept = kept[: kept.rfind(b"{")] + mark
        return kept + end

    def _literal_octets(self, data: bytes) -> bytes:
        """Return what may stand of a piece that begins inside a literal."""
        inside, rest = data[: self._literal], data[self._literal :]
        self._literal -= len(inside)
        if not self._literal_secret:
            kept = inside.translate(_CONTENT)
            if not rest:
                return kept
            found = _LITERAL.search(rest)
            kept += (
                rest[: found.start()].translate(_CONTENT) + found.group()
                if found
                else rest.translate(_CONTENT)
            )
            return self._begin_literal(rest, kept, secret=False)
        self._gathered = (self._gathered + inside)[:4096]
        kept = b""
        if not self._literal:  # the whole literal stands as one mask
            kept = HIDDEN
            self._remember(self._gathered, b"")
            self._gathered = b""
        if not rest:
            return kept
        end = line_end(rest)
        if rest != end:
            self._remember(rest, b"")
            if not _LITERAL.search(rest):
                kept += b" " + HIDDEN
        return self._begin_literal(rest, kept + end, secret=True)

    def client_content(self, data: bytes) -> bytes:
        """Return what may stand of a piece of a message that the client sends."""
        self._literal = max(self._literal - len(data), 0)
        return self.content(data)

    def content(self, data: bytes) -> bytes:
        """Return what may stand of a piece of a message."""
        return data if self._content else data.translate(_CONTENT)

    # -- the upstream ------------------------------------------------------

    def to_upstream(self, line: bytes) -> bytes:
        """Return what may stand of a line that is sent upstream, outside of messages."""
        end = line_end(line)
        text = line[: len(line) - len(end)]
        words = text.split(None, 2)
        if self._login is None:
            if line in self._stood or not words or text == b".":
                return line
            verb = words[1:2] if self.imap else words[:1]
            if verb and verb[0].upper() in OWN_VERBS:
                return line
            if self.imap and text.upper() == b"DONE":
                return line
        elif text in (b"", b"*", b"="):
            return line
        elif words and self._login_line.split(None, 1)[:1] == words[:1]:
            kept = self._login_line
            return kept[: len(kept) - len(line_end(kept))] + end
        return HIDDEN + end

    def reply(self, line: bytes, body: frozenset[bytes] | None) -> bytes:
        """Return what may stand of a line from the upstream, or of one to the client.

        body: the lines of messages that came with it; None if there were none.
        """
        if body is not None and (line in body or not self._reply.match(line)):
            return self.content(line)
        if line.startswith(self._challenge) and self._login is not None:
            rest = line[len(self._challenge) :].rstrip(b"\r\n")
            return self._challenge + (HIDDEN if rest else b"") + line_end(line)
        if self.imap and not self._content and b" FETCH " in line[:40].upper():
            return _QUOTED.sub(lambda found: found.group().translate(_CONTENT), line)
        return line

    # -- what was masked ---------------------------------------------------

    def saw_reply(self, reply: ReplySeen) -> None:
        """A command was answered: the login that it began is over."""
        if self._login is not None and reply.command.serial == self._login.serial:
            self._login = None

    @property
    def in_literal(self) -> bool:
        """Whether the client is expected to go on with a literal."""
        return self._literal > 0

    def _remember(self, line: bytes, kept: bytes) -> None:
        """Remember what of a line does not stand."""
        self._masking.learn(line, kept.split())

    def forgive(self, user: str) -> None:
        """A login names its user: that is no secret."""
        self._masking.forgive(user)

    def scrub(self, data: bytes) -> bytes:
        """Mask whatever was masked before."""
        return self._masking.octets(data, HIDDEN)


def _fold(text: str) -> str:
    """Return a command with its verb in upper case: there its letters' case says nothing."""
    verb, blank, rest = text.partition(" ")
    return verb.upper() + blank + rest
