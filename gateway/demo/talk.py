"""The demonstration's conversation: real clients of the standard library, each answer checked."""

from __future__ import annotations

import imaplib
import poplib
import smtplib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

HOST = "127.0.0.1"  # not every machine has a name for it
SUBMITTED = (
    "From: Alice <alice@example.org>\r\n"
    "To: Bob <bob@example.org>\r\n"
    "Subject: Lunch?\r\n"
    "MIME-Version: 1.0\r\n"
    "Content-Type: text/plain; charset=utf-8\r\n"
    "Content-Transfer-Encoding: 7bit\r\n"
    "\r\n"
    "Hello Bob,\r\n"
    "\r\n"
    "shall we meet at noon?\r\n"
)


@dataclass
class Talk:
    """What was tried, and what went wrong."""

    ports: dict[str, int]
    users: dict[str, str]
    ca: Path
    tried: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def all(self) -> None:
        """Hold every conversation; a failing one does not end the others."""
        steps: list[tuple[str, Callable[[], None]]] = [
            ("alice submits a message: STARTTLS, login", self.submit_starttls),
            ("alice submits another: implicit TLS", self.submit_implicit),
            ("bob reads it by IMAP: STARTTLS", self.read_imap),
            ("bob keeps a draft by IMAP, and reads it: implicit TLS", self.append_imap),
            ("bob reads it by POP3: implicit TLS", self.read_pop3),
            ("bob lists his mail by POP3: STLS", self.read_pop3_stls),
            ("carol's old client reads by POP3: no TLS", self.old_client),
            ("a local program delivers by LMTP", self.deliver_lmtp),
            ("somebody guesses a password by IMAP", self.guess),
        ]
        for name, step in steps:
            self.tried.append(name)
            try:
                step()
            except Exception as error:  # noqa: BLE001 - whatever a client's library raises, told in one line
                self.problems.append(f"{name}: {type(error).__name__}: {error}")

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca))

    def fetch(self, client: imaplib.IMAP4, number: str) -> bytes:
        """Return a whole message by its number."""
        item = client.fetch(number, "(BODY.PEEK[])")[1][0]
        assert isinstance(item, tuple), "no message came"
        content: bytes = item[1]
        return content

    def check(self, content: bytes) -> None:
        """Raise AssertionError unless this is a message of ours that both plugins have seen."""
        assert b"shall we meet at noon?" in content, "the text is missing"
        assert b"X-Gateway:" in content, "the header that a plugin adds is missing"
        assert b"Sent through mailgate." in content, "the footer that a plugin adds is missing"

    def submit_starttls(self) -> None:
        with smtplib.SMTP(HOST, self.ports["submission"], timeout=15) as client:
            client.starttls(context=self.tls())
            client.login("alice", self.users["alice"])
            client.sendmail("alice@example.org", ["bob@example.org"], SUBMITTED.encode())

    def submit_implicit(self) -> None:
        with smtplib.SMTP_SSL(HOST, self.ports["smtps"], timeout=15, context=self.tls()) as client:
            client.login("alice", self.users["alice"])
            text = SUBMITTED.replace("Lunch?", "Lunch, again")
            client.sendmail("alice@example.org", ["bob@example.org"], text.encode())

    def read_imap(self) -> None:
        client = imaplib.IMAP4(HOST, self.ports["imap"], timeout=15)
        client.starttls(self.tls())
        client.login("bob", self.users["bob"])
        client.select("INBOX")
        found = client.search(None, "SUBJECT", "Lunch?")[1][0].split()
        assert found, "the message did not arrive"
        self.check(self.fetch(client, found[-1].decode()))
        client.logout()

    def append_imap(self) -> None:
        client = imaplib.IMAP4_SSL(HOST, self.ports["imaps"], ssl_context=self.tls(), timeout=15)
        client.login("bob", self.users["bob"])
        draft = SUBMITTED.replace("Lunch?", "A draft").encode()
        assert client.append("INBOX", r"(\Draft)", "", draft)[0] == "OK", "the draft was refused"
        count = client.select("INBOX", readonly=True)[1][0]
        assert count, "no count of messages"
        self.check(self.fetch(client, count.decode()))
        client.logout()

    def read_pop3(self) -> None:
        client = poplib.POP3_SSL(HOST, self.ports["pop3s"], context=self.tls(), timeout=15)
        client.user("bob")
        client.pass_(self.users["bob"])
        count = client.stat()[0]
        self.check(b"\r\n".join(client.retr(count)[1]))
        client.quit()

    def read_pop3_stls(self) -> None:
        client = poplib.POP3(HOST, self.ports["pop3"], timeout=15)
        client.stls(self.tls())
        client.user("bob")
        client.pass_(self.users["bob"])
        count = client.stat()[0]
        assert len(client.list()[1]) == len(client.uidl()[1]) == count, "the listings differ"
        client.quit()

    def old_client(self) -> None:
        client = poplib.POP3(HOST, self.ports["pop3"], timeout=15)
        client.user("carol")
        client.pass_(self.users["carol"])
        assert len(client.list()[1]) == client.stat()[0], "the listing is not whole"
        client.quit()

    def deliver_lmtp(self) -> None:
        client = smtplib.LMTP(HOST, self.ports["lmtp"], timeout=15)
        client.sendmail("root@example.org", ["bob@example.org"], b"Subject: cron\r\n\r\nAll well.\r\n")
        client.quit()

    def guess(self) -> None:
        client = imaplib.IMAP4_SSL(HOST, self.ports["imaps"], ssl_context=self.tls(), timeout=15)
        try:
            client.login("alice", "123456")
        except imaplib.IMAP4.error:
            return
        finally:
            client.shutdown()
        raise AssertionError("a wrong password was taken")
