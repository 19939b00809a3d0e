"""SMTP (RFC 5321) and LMTP (RFC 2033) for the embedded upstream."""

from __future__ import annotations

import re
from typing import ClassVar

from gateway.demo.conversation import Conversation, Site
from gateway.demo.store import Delivery, User

MAX_SIZE = 104857600
_PATH = re.compile(
    r"(?P<word>FROM|TO):\s*(?:<(?P<angle>[^<>]*)>|(?P<bare>[^\s<>]+))(?P<rest>(?:\s.*)?)", re.IGNORECASE
)
_MECHANISMS = "AUTH PLAIN LOGIN CRAM-MD5"


class SmtpServer(Conversation):
    """One SMTP connection: mail for our domain is delivered, mail for others needs a login."""

    protocol: ClassVar[str] = "smtp"
    greetings: ClassVar[tuple[str, ...]] = ("EHLO", "HELO")

    def __init__(self, site: Site, *, implicit_tls: bool = False) -> None:
        super().__init__(site, implicit_tls=implicit_tls)
        self._greeted = False
        self._in_data = False
        self._searched = 0
        self._chunk: int | None = None
        self._last_chunk = False
        self._from: str | None = None
        self._parameters: tuple[str, ...] = ()
        self._recipients: list[str] = []
        self._content = bytearray()
        self._too_big = False

    def greet(self) -> None:
        self._say(220, f"{self.site.hostname} {self.protocol.upper()} ready")

    def consume(self) -> bool:
        if self._in_data:
            return self._consume_data()
        if self._chunk is not None:
            return self._consume_chunk()
        return super().consume()

    def line(self, line: bytes) -> None:
        verb, _, argument = line.decode("utf-8", "surrogateescape").strip().partition(" ")
        verb = verb.upper()
        if self.misbehaved(verb):
            return
        handler = getattr(self, f"do_{verb.lower()}", None) if verb.isalpha() and verb.isascii() else None
        if handler is None or (verb in ("EHLO", "HELO", "LHLO") and verb not in self.greetings):
            self._say(500, "5.5.1 command not recognised")
        else:
            handler(argument.strip())

    # Commands.

    def do_ehlo(self, name: str) -> None:
        """Lists the extensions (RFC 5321 section 4.1.1.1)."""
        self._reset()
        self._greeted = True
        names = [
            "PIPELINING",
            f"SIZE {MAX_SIZE}",
            "8BITMIME",
            "SMTPUTF8",
            "DSN",
            "ENHANCEDSTATUSCODES",
            "CHUNKING",
        ]
        if self.offers_tls:
            names.append("STARTTLS")
        names.append(_MECHANISMS)
        lines = [self.site.hostname, *self.site.quirks.capabilities(names)]
        for each in lines[:-1]:
            self.send(b"250-" + each.encode() + b"\r\n")
        self._say(250, lines[-1])

    do_lhlo = do_ehlo

    def do_helo(self, name: str) -> None:
        """Greets without extensions."""
        self._reset()
        self._greeted = True
        self._say(250, self.site.hostname)

    def do_mail(self, argument: str) -> None:
        """Begins a transaction; SIZE is checked here and on the message (RFC 1870 section 6)."""
        found = _PATH.fullmatch(argument)
        if not self._greeted:
            self._say(503, "5.5.1 say who you are first")
        elif self._from is not None:
            self._say(503, "5.5.1 a transaction is open")
        elif found is None or found["word"].upper() != "FROM":
            self._say(501, "5.5.4 syntax: MAIL FROM:<address>")
        elif any(_declared(each) > MAX_SIZE for each in found["rest"].split()):
            self._say(552, "5.3.4 message too big")
        else:
            self._from = found["angle"] if found["angle"] is not None else found["bare"]
            self._parameters = tuple(found["rest"].split())
            self._say(250, "2.1.0 sender ok")

    def do_rcpt(self, argument: str) -> None:
        """Accepts a recipient of ours, or any after a login."""
        found = _PATH.fullmatch(argument)
        if self._from is None:
            self._say(503, "5.5.1 MAIL first")
            return
        if found is None or found["word"].upper() != "TO":
            self._say(501, "5.5.4 syntax: RCPT TO:<address>")
            return
        address = found["angle"] if found["angle"] is not None else found["bare"]
        # RFC 5321 4.1.1.3: source routes are accepted and ignored.
        address = address.rpartition(":")[2] if address.startswith("@") else address
        store = self.site.store
        if store.is_local(address) and (store.user(address) is None):
            self._say(550, f"5.1.1 <{address}> no such user")
        elif not store.is_local(address) and self.user is None:
            self._say(550, "5.7.1 relaying denied")
        else:
            self._recipients.append(address)
            self._say(250, "2.1.5 recipient ok")

    def do_data(self, argument: str) -> None:
        """Takes the message up to the final dot."""
        if not self._recipients:
            self._say(503, "5.5.1 no valid recipients")
            return
        self._say(354, "end with <CRLF>.<CRLF>")
        self._in_data = True
        # The end of the DATA line counts as the line end before a dot that follows at once.
        self.buffer[:0] = b"\r\n"
        self._searched = 0

    def do_bdat(self, argument: str) -> None:
        """Takes one chunk (RFC 3030 section 2); its bytes follow even when it is refused."""
        words = argument.upper().split()
        if not words or not words[0].isascii() or not words[0].isdigit() or words[1:] not in ([], ["LAST"]):
            self._say(501, "5.5.4 syntax: BDAT size [LAST]")
            return
        self._chunk = int(words[0])
        self._last_chunk = bool(words[1:])

    def do_rset(self, argument: str) -> None:
        """Forgets the transaction."""
        self._reset()
        self._say(250, "2.0.0 ok")

    def do_noop(self, argument: str) -> None:
        """Does nothing."""
        self._say(250, "2.0.0 ok")

    def do_vrfy(self, argument: str) -> None:
        """Tells nothing (RFC 5321 section 7.3)."""
        self._say(252, "2.5.0 send some mail and see")

    def do_help(self, argument: str) -> None:
        """Points to the standard."""
        self._say(214, "2.0.0 see RFC 5321")

    def do_quit(self, argument: str) -> None:
        """Closes."""
        self._say(221, "2.0.0 bye")
        self.close()

    def do_starttls(self, argument: str) -> None:
        """Starts TLS and forgets everything (RFC 3207 section 4.2)."""
        if not self.offers_tls:
            self._say(502, "5.5.1 no TLS here")
            return
        self._greeted = False
        self.user = None
        self._reset()
        self.start_tls(b"220 2.0.0 go ahead\r\n")

    def do_auth(self, argument: str) -> None:
        """Logs in (RFC 4954)."""
        mechanism, _, initial = argument.partition(" ")
        if self.user is not None or not self._greeted or self._from is not None:
            self._say(503, "5.5.1 not now")
        elif not self.begin_sasl(mechanism.upper(), initial.strip().encode() or None):
            self._say(504, "5.5.4 unknown mechanism")

    def sasl_challenge(self, text: bytes) -> None:
        self.send(b"334 " + text + b"\r\n")

    def sasl_done(self, user: User | None) -> None:
        self.user = user
        if user is None:
            self._say(535, "5.7.8 wrong user or password")
        else:
            self._say(235, "2.7.0 logged in")

    def sasl_broken(self) -> None:
        self._say(501, "5.5.2 cancelled, or no base64")

    # Messages.

    def _consume_data(self) -> bool:
        end = self.buffer.find(b"\r\n.\r\n", self._searched)
        if end < 0:
            if len(self.buffer) > MAX_SIZE:
                self._too_big = True
                del self.buffer[:-4]
            self._searched = max(0, len(self.buffer) - 4)
            return False
        content = self.take(end + 5)[2:-3]
        self._in_data = False
        if content.startswith(b"."):
            content = content[1:]
        self._finish(content.replace(b"\r\n.", b"\r\n"))
        return True

    def _consume_chunk(self) -> bool:
        size = self._chunk or 0
        if len(self._content) + min(size, len(self.buffer)) > MAX_SIZE:
            self._too_big = True
        if not self._recipients or self._too_big:
            # Swallowed as it comes, so that what follows is read as a command again.
            self._chunk = size - len(self.take(size))
            if self._chunk:
                return False
        elif len(self.buffer) < size:
            return False
        else:
            self._content += self.take(size)
        self._chunk = None
        if not self._recipients:
            self._say(503, "5.5.1 no valid recipients")
        elif self._last_chunk:
            self._finish(bytes(self._content))
        else:
            self._say(250, f"2.0.0 {size} octets received")
        return True

    def _finish(self, content: bytes) -> None:
        if self.misbehaved("data"):
            return
        quirk = self.site.quirks.final_dot_reply
        delivery = Delivery(
            self.protocol,
            self._from or "",
            tuple(self._recipients),
            content,
            self._parameters,
            self.user.name if self.user else "",
        )
        refused = self._too_big or len(content) > MAX_SIZE
        self._reset()
        if quirk is None and refused:
            self.reply_to_message(delivery, b"552 5.3.4 message too big\r\n")
            return
        if quirk is None or quirk.startswith(b"2"):
            self.site.store.deliver(delivery)
        self.reply_to_message(delivery, quirk or b"250 2.0.0 delivered\r\n")

    def reply_to_message(self, delivery: Delivery, reply: bytes) -> None:
        """Answers a whole message once."""
        self.send(reply)

    def _reset(self) -> None:
        self._from = None
        self._parameters = ()
        self._recipients = []
        self._content = bytearray()
        self._too_big = False

    def _say(self, code: int, text: str) -> None:
        self.send(f"{code} {text}\r\n".encode("utf-8", "surrogateescape"))


class LmtpServer(SmtpServer):
    """One LMTP connection: LHLO, and one reply per recipient (RFC 2033 section 4.2)."""

    protocol: ClassVar[str] = "lmtp"
    greetings: ClassVar[tuple[str, ...]] = ("LHLO",)

    def reply_to_message(self, delivery: Delivery, reply: bytes) -> None:
        for _ in delivery.recipients:
            self.send(reply)


def _declared(parameter: str) -> int:
    name, _, value = parameter.partition("=")
    return (
        int(value)
        if name.upper() == "SIZE" and value.isascii() and value.isdigit() and len(value) < 20
        else 0
    )
