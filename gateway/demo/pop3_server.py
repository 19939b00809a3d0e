"""POP3 (RFC 1939, with RFC 2449 CAPA, RFC 2595 STLS, RFC 5034 AUTH) for the embedded upstream."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import ClassVar

from gateway.demo.conversation import Conversation, Site
from gateway.demo.store import Message, User

_Show = Callable[[Message], str]
_ANY_STATE = {"CAPA", "QUIT"}
_AUTHORIZATION = {"USER", "PASS", "APOP", "AUTH", "STLS"}


class Pop3Server(Conversation):
    """One POP3 connection; the drop listing is fixed at login."""

    protocol: ClassVar[str] = "pop3"

    def __init__(self, site: Site, *, implicit_tls: bool = False) -> None:
        super().__init__(site, implicit_tls=implicit_tls)
        self._timestamp = b""
        self._name = ""
        self._listing: list[Message] = []
        self._deleted: set[int] = set()

    def greet(self) -> None:
        self._timestamp = self.unique_timestamp()
        self.send(b"+OK POP3 ready " + self._timestamp + b"\r\n")

    def line(self, line: bytes) -> None:
        verb, _, argument = line.decode("utf-8", "surrogateescape").partition(" ")
        verb = verb.strip().upper()
        if self.misbehaved(verb):
            return
        handler = getattr(self, f"do_{verb.lower()}", None) if verb.isalpha() and verb.isascii() else None
        if handler is None:
            self._err("unknown command")
        elif verb not in _ANY_STATE and (verb in _AUTHORIZATION) == (self.user is not None):
            self._err("not in this state")
        else:
            handler(argument)

    # AUTHORIZATION state.

    def do_capa(self, argument: str) -> None:
        """Lists the capabilities of the present state (RFC 2449 section 5)."""
        names = ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "EXPIRE NEVER"]
        if self.user is None:
            names += ["USER", "SASL PLAIN CRAM-MD5"] + (["STLS"] if self.offers_tls else [])
        names.append("IMPLEMENTATION mailgate-demo")
        self._ok("capability list follows")
        for name in self.site.quirks.capabilities(names):
            self.send(name.encode() + b"\r\n")
        self.send(b".\r\n")

    def do_stls(self, argument: str) -> None:
        """Starts TLS (RFC 2595 section 4)."""
        if not self.offers_tls:
            self._err("no TLS here")
            return
        self._name = ""
        self.start_tls(b"+OK begin TLS\r\n")

    def do_user(self, argument: str) -> None:
        """Takes the name; whether it exists is not told."""
        self._name = argument.strip()
        self._ok("send PASS")

    def do_pass(self, argument: str) -> None:
        """Logs in; blanks belong to the password (RFC 1939 section 7)."""
        name, self._name = self._name, ""
        self.sasl_done(self.login(name, argument) if name else None)

    def do_apop(self, argument: str) -> None:
        """Logs in by a digest of the greeting's timestamp and the password."""
        name, _, digest = argument.strip().partition(" ")
        user = self.site.store.user(name)
        if user is not None:
            wanted = hashlib.md5(self._timestamp + user.password.encode(), usedforsecurity=False).hexdigest()
            if not hmac.compare_digest(wanted.encode(), digest.strip().encode("utf-8", "replace")):
                user = None
        self.sasl_done(None if self.site.quirks.refuse_login else user)

    def do_auth(self, argument: str) -> None:
        """Logs in by SASL; without an argument lists the mechanisms, as old clients expect."""
        mechanism, _, initial = argument.strip().partition(" ")
        if not mechanism:
            self.send(b"+OK\r\nPLAIN\r\nCRAM-MD5\r\n.\r\n")
        elif mechanism.upper() == "LOGIN" or not self.begin_sasl(
            mechanism.upper(), initial.strip().encode() or None
        ):
            self._err("unknown mechanism")

    def sasl_challenge(self, text: bytes) -> None:
        self.send(b"+ " + text + b"\r\n")

    def sasl_done(self, user: User | None) -> None:
        self.user = user
        if user is None:
            self._err("[AUTH] wrong user or password")
            return
        self._listing = list(user.inbox.messages)
        self._ok(f"{len(self._listing)} messages")

    def sasl_broken(self) -> None:
        self._err("cancelled, or no base64")

    # TRANSACTION state.

    def do_stat(self, argument: str) -> None:
        """Counts what is not marked as deleted."""
        kept = self._kept()
        self._ok(f"{len(kept)} {sum(len(message.content) for _, message in kept)}")

    def do_list(self, argument: str) -> None:
        """Lists sizes in octets."""
        self._list(argument, lambda message: str(len(message.content)))

    def do_uidl(self, argument: str) -> None:
        """Lists unique-ids: UIDVALIDITY and UID of the INBOX."""
        validity = self.user.inbox.uid_validity if self.user else 0
        self._list(argument, lambda message: f"{validity}.{message.uid}")

    def do_retr(self, argument: str) -> None:
        """Sends a message."""
        if (message := self._find(argument)) is not None:
            self._ok(f"{len(message.content)} octets")
            self._body(message.content)

    def do_top(self, argument: str) -> None:
        """Sends the header and the first lines of a message."""
        number, _, lines = argument.strip().partition(" ")
        if not (lines.strip().isascii() and lines.strip().isdigit() and len(lines) < 10):
            self._err("syntax: TOP message lines")
        elif (message := self._find(number)) is not None:
            head, blank, body = message.content.partition(b"\r\n\r\n")
            first = body.removesuffix(b"\r\n").split(b"\r\n")[: int(lines)] if body else []
            self._ok("top of message follows")
            self._body(head + blank + b"".join(line + b"\r\n" for line in first))

    def do_dele(self, argument: str) -> None:
        """Marks a message as deleted."""
        if self._find(argument) is not None:
            self._deleted.add(int(argument))
            self._ok("marked")

    def do_rset(self, argument: str) -> None:
        """Takes all marks away."""
        self._deleted.clear()
        self._ok("no marks")

    def do_noop(self, argument: str) -> None:
        """Does nothing."""
        self._ok("")

    def do_quit(self, argument: str) -> None:
        """Removes what is marked, and closes."""
        if self.user is not None:
            self.user.inbox.remove([self._listing[number - 1] for number in self._deleted])
        self._ok("bye")
        self.close()

    # Helpers.

    def _kept(self) -> list[tuple[int, Message]]:
        return [each for each in enumerate(self._listing, 1) if each[0] not in self._deleted]

    def _find(self, argument: str) -> Message | None:
        text = argument.strip()
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
        if not 1 <= number <= len(self._listing) or number in self._deleted:
            self._err("no such message")
            return None
        return self._listing[number - 1]

    def _list(self, argument: str, show: _Show) -> None:
        if argument.strip():
            if (message := self._find(argument)) is not None:
                self._ok(f"{argument.strip()} {show(message)}")
            return
        self._ok("listing follows")
        for number, message in self._kept():
            self.send(f"{number} {show(message)}\r\n".encode())
        self.send(b".\r\n")

    def _body(self, content: bytes) -> None:
        if not content.endswith(b"\r\n"):
            content += b"\r\n"
        stuffed = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]
        self.send_body(stuffed)
        self.send(b".\r\n")

    def _ok(self, text: str) -> None:
        self.send(f"+OK {text}".rstrip().encode("utf-8", "surrogateescape") + b"\r\n")

    def _err(self, text: str) -> None:
        self.send(f"-ERR {text}\r\n".encode("utf-8", "surrogateescape"))
