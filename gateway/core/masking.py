"""What was secret once stays secret: in a reply that quotes it, in a line said again.

An engine masks the arguments of a login by its state.  But servers quote what they did not
like ("500 unrecognized: cGFzc3dvcmQ="), and clients go on with a login that was refused.  So
the words of a login are learnt while the session lives, as they were sent and decoded, and
masked wherever a text is shown.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator

from .secret import MASK
from .text import shown

#: Shorter words than this would be found in half of all texts.
SHORTEST = 4
#: How many words are learnt, and how long one may be: a session can't make it slow.
MOST, LONGEST = 200, 4096

#: Commands whose arguments are secret, or become so in what the client answers.
LOGIN_VERBS = frozenset({"AUTH", "AUTHENTICATE", "LOGIN", "PASS", "APOP"})

#: Words that are shown although no engine knows them: what scanners, browsers and old servers
#: say.  A closed set, and the private verbs that begin with X: any other word alone on a line
#: may be a password that a client went on to send.
_FOREIGN = frozenset(
    {
        "GET", "POST", "HEAD", "PUT", "OPTIONS", "CONNECT", "HOST", "HELLO", "HI", "DEBUG", "WIZ", "ONEX",
        "VERB", "QUEU", "SHOWQ", "TICK", "TEST",
    }
)  # fmt: skip
_PRIVATE = re.compile(r"X[A-Z0-9-]{1,14}\Z")
_STATUS = re.compile(r"\d{3}(?:[ -]\d\.\d{1,3}\.\d{1,3})?|\+OK|-ERR|OK|NO|BAD")


class Masking:
    """The secrets of one session.  Kept in memory only, and never shown."""

    __slots__ = ("_words",)

    def __init__(self) -> None:
        self._words: list[bytes] = []

    def __bool__(self) -> bool:
        return bool(self._words)

    def __repr__(self) -> str:
        return f"<Masking of {len(self._words)} words>"

    def learn(self, said: bytes, standing: Iterable[bytes] = ()) -> None:
        """Learn what a client said in a login: its words, one by one and as a phrase.

        standing: words that may be shown, in any case: the verb, the mechanism, the user.
        """
        may_stand = {word.upper() for word in standing}
        words = said.split()
        while words and words[0].upper() in may_stand:
            said = said.split(None, 1)[1] if len(words) > 1 else b""
            words.pop(0)
        for word in (said.strip(), *(word for word in words if word.upper() not in may_stand)):
            bare = word.strip(b'"')
            for form in (bare, *_decoded(bare)):
                if SHORTEST <= len(form) <= LONGEST and form not in self._words:
                    self._words.append(form)
        # A longer one first, or its head would be masked and its tail stand.
        self._words.sort(key=len, reverse=True)
        del self._words[MOST:]

    def forgive(self, user: str) -> None:
        """The name of a user was learnt with the rest, and is no secret."""
        name = user.encode("utf-8", "surrogateescape")
        keep = {name, base64.b64encode(name)}
        self._words = [word for word in self._words if word not in keep]

    def octets(self, data: bytes, mask: bytes = MASK.encode()) -> bytes:
        """Return octets with every secret in them masked."""
        for word in self._words:
            if word in data:
                data = data.replace(word, mask)
        return data

    def text(self, text: str) -> str:
        """Return a text with every secret in it masked."""
        if not self._words:
            return text
        text = self.octets(text.encode("utf-8", "backslashreplace")).decode("utf-8", "backslashreplace")
        head, cut, rest = text.rpartition("…(+")
        if cut:
            # What was cut off may have taken the end of a secret with it.
            for word in self._words:
                begin = word.decode("utf-8", "backslashreplace")
                for length in range(min(len(begin), len(head)), SHORTEST - 1, -1):
                    if head.endswith(begin[:length]):
                        return f"{head[:-length]}{MASK}{cut}{rest}"
        return text


def unknown(said: bytes | str) -> str:
    """Return what may be shown of a command nobody knows: it may be a password.

    The first word if it is one that strangers are known to say, and a mask for the rest.
    """
    text = shown(said)
    verb, blank, _ = text.partition(" ")
    if verb not in _FOREIGN and not _PRIVATE.match(verb):
        return MASK
    return f"{verb} {MASK}" if blank else verb


def status(reply: str) -> str:
    """Return of a reply to a command nobody knows what tells its result: it may quote it."""
    found = _STATUS.match(reply)
    begin = found.group() if found else ""
    return reply if len(reply) == len(begin) else f"{begin} {MASK}".lstrip()


def _decoded(word: bytes) -> Iterator[bytes]:
    """Give what a word says in base64 (RFC 4648 4), and the parts of it."""
    try:
        clear = base64.b64decode(word, validate=True)
    except (binascii.Error, ValueError):
        return
    yield clear
    for part in re.split(rb"[\0\x01]", clear):
        yield part
        yield from part.split()
