"""IMAP4rev1 (RFC 3501) for the embedded upstream."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import ClassVar

from gateway.demo.conversation import Conversation, Site
from gateway.demo.imap_grammar import (
    LITERAL,
    Group,
    ImapSyntaxError,
    parse_arguments,
    parse_date,
    parse_set,
    quote,
    show_date,
    show_set,
)
from gateway.demo.imap_items import Part, body_structure, envelope, parse_message, section
from gateway.demo.imap_search import compile_search
from gateway.demo.store import SPECIAL_USE, Mailbox, Message, User, canonical

MAX_LITERAL = 104857600
_ANY_STATE = {"CAPABILITY", "NOOP", "LOGOUT", "ID"}
_BEFORE_LOGIN = {"STARTTLS", "LOGIN", "AUTHENTICATE"}
_SELECTED = {
    *("CHECK", "CLOSE", "UNSELECT", "EXPUNGE", "SEARCH", "FETCH", "STORE", "COPY", "MOVE"),
    *("UID FETCH", "UID STORE", "UID SEARCH", "UID COPY", "UID MOVE", "UID EXPUNGE"),
}
_KEEPS_NUMBERS = {"FETCH", "STORE", "SEARCH"}
_SYSTEM_FLAGS = {flag.lower(): flag for flag in ("\\Answered", "\\Deleted", "\\Draft", "\\Flagged", "\\Seen")}
_FLAGS = "(\\Answered \\Flagged \\Deleted \\Seen \\Draft)"
_PERMANENT = "(\\Answered \\Flagged \\Deleted \\Seen \\Draft \\*)"
_MACROS = {
    "FAST": ["FLAGS", "INTERNALDATE", "RFC822.SIZE"],
    "ALL": ["FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"],
    "FULL": ["FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"],
}
_BODY_ITEM = re.compile(r"BODY(\.PEEK)?\[(.*)\](?:<(\d{1,10})\.(\d{1,10})>)?", re.IGNORECASE | re.DOTALL)
_RFC822 = {"RFC822": "", "RFC822.HEADER": "HEADER", "RFC822.TEXT": "TEXT"}


class ImapServer(Conversation):
    """One IMAP connection.

    ``_view`` is the selected mailbox as this client knows it: sequence numbers are positions in it, and
    ``_sync`` is the only place where it follows the mailbox (RFC 3501 section 7.4.1).
    """

    protocol: ClassVar[str] = "imap"

    def __init__(self, site: Site, *, implicit_tls: bool = False) -> None:
        super().__init__(site, implicit_tls=implicit_tls)
        self._command = bytearray()
        self._literal = 0
        self._tag = ""
        self._idle = False
        self._mailbox: Mailbox | None = None
        self._read_only = False
        self._view: list[Message] = []
        self._told: dict[int, frozenset[str]] = {}

    # Connection.

    def greet(self) -> None:
        if self.site.quirks.greeting_preauth:
            self.user = next(iter(self.site.store.users.values()))
            self._say(f"* PREAUTH [CAPABILITY {self._capabilities()}] ready")
        else:
            self._say(f"* OK [CAPABILITY {self._capabilities()}] {self.site.hostname} ready")

    def connectionLost(self, reason: object = None) -> None:
        self._unselect()
        super().connectionLost()

    def consume(self) -> bool:
        if self._literal:
            if len(self.buffer) < self._literal:
                return False
            self._command += self.take(self._literal)
            self._literal = 0
        if self._sasl is not None or self._idle:
            return super().consume()
        line = self.take_line()
        if line is None:
            return False
        self.record(line)
        first = not self._command
        self._command += line
        found = LITERAL.search(line)
        if first and self.misbehaved(*_verbs(line)):
            return False
        if found is None:
            command, self._command = bytes(self._command), bytearray()
            self.line(command)
        elif int(found[1]) > MAX_LITERAL:
            # The bytes of a non-synchronising literal are on their way already (RFC 7888 section 4).
            self._command.clear()
            if found[2]:
                self._say("* BYE literal too big")
                self.close()
            else:
                self._say(f"{line.partition(b' ')[0].decode('utf-8', 'replace')} NO [TOOBIG] literal too big")
        else:
            self._command += b"\r\n"
            self._literal = int(found[1])
            if not found[2]:
                self._say("+ go ahead")
        return True

    def line(self, line: bytes) -> None:
        if self._idle:
            self._idle = False
            self._finish("IDLE", "OK done" if line.upper() == b"DONE" else "BAD expected DONE")
            return
        tag, _, rest = line.partition(b" ")
        word, _, arguments = rest.partition(b" ")
        verb = word.decode("ascii", "replace").upper()
        if verb == "UID":
            word, _, arguments = arguments.partition(b" ")
            verb += " " + word.decode("ascii", "replace").upper()
        self._tag = tag.decode("utf-8", "surrogateescape")
        name = "do_" + verb.lower().replace("uid ", "").replace(" ", "_")
        handler: Callable[[Group], str | None] | None = getattr(self, name, None)
        if handler is None or not tag or (verb.startswith("UID") and verb not in _SELECTED):
            self._say(f"{self._tag or '*'} BAD unknown command")
            return
        if refusal := self._out_of_state(verb):
            self._say(f"{self._tag} BAD {refusal}")
            return
        self._uid = verb.startswith("UID ")
        try:
            answer = handler(parse_arguments(arguments))
        except ImapSyntaxError as error:
            answer = f"BAD {error}"
        except IndexError:
            answer = "BAD argument missing"
        if answer is not None:
            self._finish(verb, answer)

    def _out_of_state(self, verb: str) -> str:
        if verb in _ANY_STATE:
            return ""
        if self.user is None:
            return "" if verb in _BEFORE_LOGIN else "log in first"
        if verb in _BEFORE_LOGIN:
            return "already logged in"
        return "select a mailbox first" if verb in _SELECTED and self._mailbox is None else ""

    def _finish(self, verb: str, answer: str) -> None:
        if self._mailbox is not None:
            self._sync(expunge=verb not in _KEEPS_NUMBERS)
        self._say(f"{self._tag} {answer}")

    def _capabilities(self) -> str:
        names = ["LITERAL+", "ID", "ENABLE"]
        if self.user is None:
            names += ["SASL-IR"] + (["STARTTLS"] if self.offers_tls else []) + ["AUTH=PLAIN", "AUTH=CRAM-MD5"]
        else:
            names += ["IDLE", "NAMESPACE", "UIDPLUS", "MOVE", "UNSELECT", "CHILDREN", "SPECIAL-USE"]
        return " ".join(["IMAP4rev1", *self.site.quirks.capabilities(names)])

    def _say(self, text: str) -> None:
        self.send(text.encode("utf-8", "surrogateescape") + b"\r\n")

    # Any state, and login.

    def do_capability(self, arguments: Group) -> str:
        """RFC 3501 section 6.1.1."""
        self._say(f"* CAPABILITY {self._capabilities()}")
        return "OK done"

    def do_noop(self, arguments: Group) -> str:
        """RFC 3501 section 6.1.2."""
        return "OK done"

    def do_id(self, arguments: Group) -> str:
        """RFC 2971."""
        self._say('* ID ("name" "mailgate demo")')
        return "OK done"

    def do_logout(self, arguments: Group) -> None:
        """RFC 3501 section 6.1.3."""
        self._say("* BYE bye")
        self._say(f"{self._tag} OK done")
        self.close()

    def do_starttls(self, arguments: Group) -> str | None:
        """RFC 3501 section 6.2.1."""
        if not self.offers_tls:
            return "BAD no TLS here"
        self.start_tls(f"{self._tag} OK begin TLS\r\n".encode("utf-8", "surrogateescape"))
        return None

    def do_login(self, arguments: Group) -> None:
        """RFC 3501 section 6.2.3."""
        self.sasl_done(self.login(_text(arguments[0]), _text(arguments[1])))

    def do_authenticate(self, arguments: Group) -> str | None:
        """RFC 3501 section 6.2.2, with the initial response of RFC 4959."""
        initial = arguments[1] if len(arguments) > 1 else None
        mechanism = _text(arguments[0]).upper()
        if mechanism == "LOGIN" or not self.begin_sasl(
            mechanism, initial if isinstance(initial, bytes) else None
        ):
            return "NO unknown mechanism"
        return None

    def sasl_challenge(self, text: bytes) -> None:
        self.send(b"+ " + text + b"\r\n")

    def sasl_done(self, user: User | None) -> None:
        self.user = user
        if user is None:
            self._say(f"{self._tag} NO [AUTHENTICATIONFAILED] wrong user or password")
        else:
            self._say(f"{self._tag} OK [CAPABILITY {self._capabilities()}] logged in")

    def sasl_broken(self) -> None:
        self._say(f"{self._tag} BAD cancelled, or no base64")

    # Mailboxes.

    @property
    def _me(self) -> User:
        if self.user is None:
            raise ImapSyntaxError("log in first")
        return self.user

    @property
    def _selected(self) -> Mailbox:
        if self._mailbox is None:
            raise ImapSyntaxError("select a mailbox first")
        return self._mailbox

    def do_enable(self, arguments: Group) -> str:
        """RFC 5161; there is nothing to enable."""
        self._say("* ENABLED")
        return "OK done"

    def do_namespace(self, arguments: Group) -> str:
        """RFC 2342."""
        self._say('* NAMESPACE (("" "/")) NIL NIL')
        return "OK done"

    def do_select(self, arguments: Group) -> str:
        """RFC 3501 section 6.3.1."""
        return self._open(_text(arguments[0]), read_only=False)

    def do_examine(self, arguments: Group) -> str:
        """RFC 3501 section 6.3.2."""
        return self._open(_text(arguments[0]), read_only=True)

    def _open(self, name: str, *, read_only: bool) -> str:
        self._unselect()
        mailbox = self._me.find(name)
        if mailbox is None:
            return "NO [NONEXISTENT] no such mailbox"
        self._mailbox, self._read_only = mailbox, read_only
        self._view = list(mailbox.messages)
        self._told = {message.uid: frozenset(message.flags) for message in self._view}
        mailbox.watchers.add(self._mailbox_changed)
        self._say(f"* FLAGS {_FLAGS}")
        self._say(f"* OK [PERMANENTFLAGS {'()' if read_only else _PERMANENT}] limited")
        self._say(f"* {len(self._view)} EXISTS")
        self._say("* 0 RECENT")
        for number, message in enumerate(self._view, 1):
            if "\\Seen" not in message.flags:
                self._say(f"* OK [UNSEEN {number}] first unseen")
                break
        self._say(f"* OK [UIDVALIDITY {mailbox.uid_validity}] UIDs valid")
        self._say(f"* OK [UIDNEXT {mailbox.uid_next}] next UID")
        return f"OK [READ-{'ONLY' if read_only else 'WRITE'}] selected"

    def _unselect(self) -> None:
        if self._mailbox is not None:
            self._mailbox.watchers.discard(self._mailbox_changed)
        self._mailbox, self._view, self._told = None, [], {}

    def do_create(self, arguments: Group) -> str:
        """RFC 3501 section 6.3.3; superior names are created as well."""
        name = canonical(_text(arguments[0]).rstrip("/"))
        if not name or self._me.find(name) is not None:
            return "NO [ALREADYEXISTS] that name is taken"
        parts = name.split("/")
        for end in range(1, len(parts) + 1):
            if self._me.find("/".join(parts[:end])) is None:
                self.site.store.create(self._me, "/".join(parts[:end]))
        return "OK created"

    def do_delete(self, arguments: Group) -> str:
        """RFC 3501 section 6.3.4."""
        name = canonical(_text(arguments[0]))
        if name == "INBOX" or self._me.mailboxes.pop(name, None) is None:
            return "NO [NONEXISTENT] no such mailbox, or INBOX"
        return "OK deleted"

    def do_rename(self, arguments: Group) -> str:
        """RFC 3501 section 6.3.5; renaming INBOX, which moves its messages, is refused."""
        old, new = canonical(_text(arguments[0])), canonical(_text(arguments[1]))
        if old == "INBOX" or self._me.find(old) is None:
            return "NO [NONEXISTENT] no such mailbox, or INBOX"
        if self._me.find(new) is not None:
            return "NO [ALREADYEXISTS] that name is taken"
        for name in [each for each in self._me.mailboxes if each == old or each.startswith(old + "/")]:
            mailbox = self._me.mailboxes.pop(name)
            mailbox.name = new + name[len(old) :]
            self._me.mailboxes[mailbox.name] = mailbox
        return "OK renamed"

    def do_subscribe(self, arguments: Group) -> str:
        """RFC 3501 section 6.3.6."""
        self._me.subscribed.add(canonical(_text(arguments[0])))
        return "OK subscribed"

    def do_unsubscribe(self, arguments: Group) -> str:
        """RFC 3501 section 6.3.7."""
        self._me.subscribed.discard(canonical(_text(arguments[0])))
        return "OK unsubscribed"

    def do_list(self, arguments: Group) -> str:
        """RFC 3501 section 6.3.8."""
        return self._list("LIST", arguments, set(self._me.mailboxes))

    def do_lsub(self, arguments: Group) -> str:
        """RFC 3501 section 6.3.9."""
        return self._list("LSUB", arguments, self._me.subscribed)

    def _list(self, verb: str, arguments: Group, names: set[str]) -> str:
        reference, pattern = _text(arguments[0]), _text(arguments[1])
        if not pattern:
            self._say(f'* {verb} (\\Noselect) "/" ""')
            return "OK done"
        wanted = re.compile(
            "".join({"*": ".*", "%": "[^/]*"}.get(char, re.escape(char)) for char in reference + pattern),
            re.IGNORECASE if (reference + pattern).upper().startswith("INBOX") else 0,
        )
        for name in sorted(names):
            if wanted.fullmatch(name):
                children = any(each.startswith(name + "/") for each in names)
                attributes = "\\HasChildren" if children else "\\HasNoChildren"
                attributes += f" {SPECIAL_USE[name]}" if name in SPECIAL_USE else ""
                self._say(f'* {verb} ({attributes}) "/" {quote(name)}')
        return "OK done"

    def do_status(self, arguments: Group) -> str:
        """RFC 3501 section 6.3.10."""
        mailbox = self._me.find(_text(arguments[0]))
        if mailbox is None:
            return "NO [NONEXISTENT] no such mailbox"
        values = {
            "MESSAGES": len(mailbox.messages),
            "RECENT": 0,
            "UIDNEXT": mailbox.uid_next,
            "UIDVALIDITY": mailbox.uid_validity,
            "UNSEEN": sum("\\Seen" not in message.flags for message in mailbox.messages),
        }
        wanted = [_text(item).upper() for item in _group(arguments[1])]
        if not set(wanted) <= set(values):
            return "BAD unknown status item"
        self._say(f"* STATUS {quote(mailbox.name)} ({' '.join(f'{each} {values[each]}' for each in wanted)})")
        return "OK done"

    def do_append(self, arguments: Group) -> str | None:
        """RFC 3501 section 6.3.11, with APPENDUID of RFC 4315."""
        content = arguments[-1]
        if len(arguments) < 2 or not isinstance(content, bytes):
            return "BAD message missing"
        if self.misbehaved("data"):
            return None
        flags: set[str] = set()
        date: datetime | None = None
        for option in arguments[1:-1]:
            if isinstance(option, Group):
                flags = _flags(option)
            else:
                date = parse_date(option)
        mailbox = self._me.find(_text(arguments[0]))
        if mailbox is None:
            return "NO [TRYCREATE] no such mailbox"
        message = mailbox.add(content, flags, date)
        return f"OK [APPENDUID {mailbox.uid_validity} {message.uid}] appended"

    def do_idle(self, arguments: Group) -> None:
        """RFC 2177."""
        self._idle = True
        self._say("+ idling")
        self._mailbox_changed()

    # The selected mailbox.

    def _mailbox_changed(self) -> None:
        if self._idle and self._mailbox is not None:
            self._sync(expunge=True)

    def _sync(self, *, expunge: bool) -> None:
        mailbox = self._selected
        there = set(mailbox.messages)
        if expunge:
            for number in range(len(self._view), 0, -1):
                if self._view[number - 1] not in there:
                    gone = self._view.pop(number - 1)
                    self._told.pop(gone.uid, None)
                    self._say(f"* {number} EXPUNGE")
        known = set(self._view)
        new = [message for message in mailbox.messages if message not in known]
        if new:
            self._view += new
            self._told |= {message.uid: frozenset(message.flags) for message in new}
            self._say(f"* {len(self._view)} EXISTS")
        for number, message in enumerate(self._view, 1):
            if self._told[message.uid] != message.flags and message in there:
                self._tell_flags(number, message)

    def _tell_flags(self, number: int, message: Message) -> None:
        self._told[message.uid] = frozenset(message.flags)
        self._say(f"* {number} FETCH (UID {message.uid} FLAGS ({_show(message.flags)}))")

    def _chosen(self, numbers: bytes | Group) -> list[tuple[int, Message]]:
        text = _text(numbers).encode("utf-8", "replace")
        largest = (self._view[-1].uid if self._view else 0) if self._uid else len(self._view)
        ranges = parse_set(text, largest)
        return [
            (number, message)
            for number, message in enumerate(self._view, 1)
            if any((message.uid if self._uid else number) in each for each in ranges)
        ]

    def do_check(self, arguments: Group) -> str:
        """RFC 3501 section 6.4.1."""
        return "OK done"

    def do_unselect(self, arguments: Group) -> str:
        """RFC 3691."""
        self._unselect()
        return "OK done"

    def do_close(self, arguments: Group) -> str:
        """RFC 3501 section 6.4.2: expunges without telling."""
        mailbox, read_only = self._selected, self._read_only
        self._unselect()
        if not read_only:
            mailbox.remove([message for message in mailbox.messages if "\\Deleted" in message.flags])
        return "OK closed"

    def do_expunge(self, arguments: Group) -> str:
        """RFC 3501 section 6.4.3, and UID EXPUNGE of RFC 4315."""
        if self._read_only:
            return "NO mailbox is read-only"
        chosen = [message for _, message in self._chosen(arguments[0])] if self._uid else self._view
        self._selected.remove([message for message in chosen if "\\Deleted" in message.flags])
        return "OK done"

    def do_search(self, arguments: Group) -> str:
        """RFC 3501 section 6.4.4."""
        matches = compile_search(arguments, self._view)
        found = [
            message.uid if self._uid else number
            for number, message in enumerate(self._view, 1)
            if matches(number, message)
        ]
        self._say(" ".join(["* SEARCH", *map(str, found)]))
        return "OK done"

    def do_store(self, arguments: Group) -> str:
        """RFC 3501 section 6.4.6."""
        if self._read_only:
            return "NO mailbox is read-only"
        item = _text(arguments[1]).upper()
        rest = arguments[2] if isinstance(arguments[2], Group) else Group(arguments[2:])
        flags = _flags(rest)
        if item.removesuffix(".SILENT").lstrip("+-") != "FLAGS":
            return "BAD unknown item"
        for number, message in self._chosen(arguments[0]):
            if item.startswith("+"):
                message.flags |= flags
            elif item.startswith("-"):
                message.flags -= flags
            else:
                message.flags = set(flags)
            if item.endswith(".SILENT"):
                self._told[message.uid] = frozenset(message.flags)
            else:
                self._tell_flags(number, message)
        self._selected.changed()
        return "OK done"

    def do_copy(self, arguments: Group) -> str:
        """RFC 3501 section 6.4.7, with COPYUID of RFC 4315."""
        code = self._copy(arguments)
        return f"OK {code}copied" if code is not None else "NO [TRYCREATE] no such mailbox"

    def do_move(self, arguments: Group) -> str:
        """RFC 6851: COPYUID goes in an untagged response, before the EXPUNGEs."""
        if self._read_only:
            return "NO mailbox is read-only"
        chosen = [message for _, message in self._chosen(arguments[0])]
        code = self._copy(arguments)
        if code is None:
            return "NO [TRYCREATE] no such mailbox"
        if code:
            self._say(f"* OK {code}moved")
        self._selected.remove(chosen)
        return "OK moved"

    def _copy(self, arguments: Group) -> str | None:
        target = self._me.find(_text(arguments[1]))
        if target is None:
            return None
        chosen = [message for _, message in self._chosen(arguments[0])]
        copies = [target.add(message.content, message.flags, message.internal_date) for message in chosen]
        if not chosen:
            return ""
        olds, news = show_set([each.uid for each in chosen]), show_set([each.uid for each in copies])
        return f"[COPYUID {target.uid_validity} {olds} {news}] "

    # FETCH.

    def do_fetch(self, arguments: Group) -> str:
        """RFC 3501 section 6.4.5."""
        wanted = arguments[1]
        names = [_text(each) for each in wanted] if isinstance(wanted, Group) else [_text(wanted)]
        if len(names) == 1:
            names = _MACROS.get(names[0].upper(), names)
        if self._uid and "UID" not in [name.upper() for name in names]:
            names.insert(0, "UID")
        for number, message in self._chosen(arguments[0]):
            self._fetch(number, message, names)
            if self.deaf:
                return "NO cut off"
        return "OK done"

    def _fetch(self, number: int, message: Message, names: list[str]) -> None:
        reads = any(_marks_seen(name) for name in names) and not self._read_only
        if reads and "\\Seen" not in message.flags:
            message.flags.add("\\Seen")
            self._told[message.uid] = frozenset(message.flags)
            names = names if "FLAGS" in [name.upper() for name in names] else [*names, "FLAGS"]
        root = parse_message(message.content)
        # Rendered before anything is sent: a bad section is one BAD, not half a response.
        items = [self._item(name, message, root) for name in names]
        self.send(b"* %d FETCH (" % number)
        for index, (label, text, literal) in enumerate(items):
            self.send((b" " if index else b"") + label + b" " + text)
            if literal is not None:
                self.send(b"{%d}\r\n" % len(literal))
                self.send_body(literal)
        self.send(b")\r\n")

    def _item(self, name: str, message: Message, root: Part) -> tuple[bytes, bytes, bytes | None]:
        upper = name.upper()
        if upper in _RFC822:
            return upper.encode(), b"", section(root, _RFC822[upper])
        if found := _BODY_ITEM.fullmatch(name):
            content = section(root, found[2])
            label = f"BODY[{found[2].upper()}]"
            if found[3] is not None:
                label += f"<{int(found[3])}>"
                content = content[int(found[3]) :][: int(found[4])] if content is not None else None
            return label.encode("utf-8", "replace"), b"" if content is not None else b"NIL", content
        if upper in ("BODY", "BODYSTRUCTURE"):
            return upper.encode(), body_structure(root, extended=upper == "BODYSTRUCTURE"), None
        if upper == "ENVELOPE":
            return b"ENVELOPE", envelope(root), None
        plain = {
            "FLAGS": f"({_show(message.flags)})",
            "UID": str(message.uid),
            "INTERNALDATE": quote(show_date(message.internal_date.astimezone(UTC))),
            "RFC822.SIZE": str(len(message.content)),
        }
        if upper not in plain:
            raise ImapSyntaxError("unknown fetch item")
        return upper.encode(), plain[upper].encode(), None


def _verbs(line: bytes) -> list[str]:
    """The verb of a command line, for quirks: of ``a UID FETCH`` both ``UID FETCH`` and ``FETCH``."""
    words = line.decode("utf-8", "replace").upper().split()[1:3]
    return [" ".join(words), words[1]] if len(words) > 1 and words[0] == "UID" else words[:1]


def _marks_seen(name: str) -> bool:
    upper = name.upper()
    return upper in ("RFC822", "RFC822.TEXT") or upper.startswith("BODY[")


def _text(value: bytes | Group) -> str:
    if isinstance(value, Group):
        raise ImapSyntaxError("a string is wanted, not a list")
    return value.decode("utf-8", "surrogateescape")


def _group(value: bytes | Group) -> Group:
    if not isinstance(value, Group):
        raise ImapSyntaxError("a list is wanted")
    return value


def _flags(values: Group) -> set[str]:
    names = [_text(value) for value in values]
    return {_SYSTEM_FLAGS.get(name.lower(), name) for name in names}


def _show(flags: set[str]) -> str:
    return " ".join(sorted(flags))
