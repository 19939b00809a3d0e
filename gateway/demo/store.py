"""Users, mailboxes and messages, in memory."""

from __future__ import annotations

import hmac
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

DOMAIN = "example.org"
USERS = {"alice": "wonderland", "bob": "builder", "carol": "christmas"}
SPECIAL_USE = {"Drafts": "\\Drafts", "Sent": "\\Sent", "Junk": "\\Junk", "Trash": "\\Trash"}


@dataclass(eq=False)
class Message:
    """One message of a mailbox; its content never changes (RFC 3501 section 2.3.1.1)."""

    uid: int
    content: bytes
    flags: set[str] = field(default_factory=set)
    internal_date: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(eq=False)
class Mailbox:
    """An ordered list of messages under one UIDVALIDITY."""

    name: str
    uid_validity: int
    uid_next: int = 1
    messages: list[Message] = field(default_factory=list)
    watchers: set[Callable[[], None]] = field(default_factory=set)
    """Called after every change, by the connections that have this mailbox selected."""

    def add(self, content: bytes, flags: set[str] | None = None, date: datetime | None = None) -> Message:
        """Appends a message under the next unique identifier."""
        message = Message(self.uid_next, content, set(flags or ()), date or datetime.now(UTC))
        self.uid_next += 1
        self.messages.append(message)
        self.changed()
        return message

    def remove(self, gone: list[Message]) -> None:
        """Takes messages out; those that are out already do not matter."""
        if gone:
            self.messages = [message for message in self.messages if message not in gone]
            self.changed()

    def changed(self) -> None:
        """Tells everyone who watches."""
        for watcher in list(self.watchers):
            watcher()


@dataclass(eq=False)
class User:
    """One account: its password (in clear, in memory only), mailboxes and subscriptions."""

    name: str
    password: str
    mailboxes: dict[str, Mailbox] = field(default_factory=dict)
    subscribed: set[str] = field(default_factory=set)

    @property
    def inbox(self) -> Mailbox:
        """The mailbox that deliveries go to."""
        return self.mailboxes["INBOX"]

    def find(self, name: str) -> Mailbox | None:
        """The mailbox of that name; INBOX in any case (RFC 3501 section 5.1)."""
        return self.mailboxes.get(canonical(name))


@dataclass(frozen=True)
class Delivery:
    """A message that SMTP or LMTP accepted, with its envelope, as a test wants to see it."""

    protocol: str
    reverse_path: str
    recipients: tuple[str, ...]
    content: bytes
    parameters: tuple[str, ...] = ()
    """MAIL parameters as the client wrote them, such as ``SIZE=1000``."""
    login: str = ""


class Store:
    """All users of the embedded upstream, in one mail domain."""

    def __init__(self, users: Mapping[str, str] | None = None, *, domain: str = DOMAIN) -> None:
        self.domain = domain
        self.users: dict[str, User] = {}
        self.accepted: deque[Delivery] = deque(maxlen=1000)
        self._validity = 1000
        for name, password in (USERS if users is None else users).items():
            user = self.users[name] = User(name, password)
            for mailbox in ("INBOX", "Archive", *SPECIAL_USE):
                self.create(user, mailbox)
                user.subscribed.add(mailbox)

    def create(self, user: User, name: str) -> Mailbox:
        """A new mailbox with a UIDVALIDITY of its own; one of that name is replaced."""
        self._validity += 1
        mailbox = user.mailboxes[canonical(name)] = Mailbox(canonical(name), self._validity)
        return mailbox

    def login(self, name: str, password: str) -> User | None:
        """The user with this name (``alice`` or ``alice@example.org``) and password."""
        user = self.user(name)
        if user is None or not hmac.compare_digest(
            user.password.encode(), password.encode("utf-8", "replace")
        ):
            return None
        return user

    def user(self, name: str) -> User | None:
        """The user behind a login name or an address of our domain."""
        local, _, domain = name.partition("@")
        if domain and domain.lower() != self.domain:
            return None
        return self.users.get(local.lower())

    def is_local(self, address: str) -> bool:
        """Whether an address lies in our domain (a bare local part does)."""
        return "@" not in address or address.rpartition("@")[2].lower() == self.domain

    def deliver(self, delivery: Delivery) -> None:
        """Puts a message into the INBOX of each local recipient and remembers its envelope."""
        self.accepted.append(delivery)
        for recipient in delivery.recipients:
            if user := self.user(recipient):
                user.inbox.add(delivery.content)


def canonical(name: str) -> str:
    """A mailbox name with INBOX, which alone ignores case, in capitals."""
    return "INBOX" if name.upper() == "INBOX" else name
