"""The keys of IMAP SEARCH (RFC 3501 section 6.4.4) of the embedded upstream; nothing is ever RECENT."""

from __future__ import annotations

import email.utils
from collections.abc import Callable, Sequence
from datetime import date

from gateway.demo.imap_grammar import Group, ImapSyntaxError, parse_date, parse_set
from gateway.demo.imap_items import parse_message
from gateway.demo.store import Message

Matcher = Callable[[int, Message], bool]
_FLAGS = {name: "\\" + name.title() for name in ("ANSWERED", "DELETED", "DRAFT", "FLAGGED", "SEEN")}
_ADDRESSES = {"FROM", "TO", "CC", "BCC", "SUBJECT"}
_COMPARE: dict[str, Callable[[date, date], bool]] = {
    "BEFORE": lambda there, given: there < given,
    "ON": lambda there, given: there == given,
    "SINCE": lambda there, given: there >= given,
}


def compile_search(arguments: Group, view: Sequence[Message]) -> Matcher:
    """A function that tells of (sequence number, message) whether it matches all keys.

    Raises ImapSyntaxError for a key it doesn't know.
    """
    keys = list(arguments)
    if keys and isinstance(keys[0], bytes) and keys[0].upper() == b"CHARSET":
        keys = keys[2:]
    if not keys:
        raise ImapSyntaxError("no search key")
    keys.reverse()
    matchers = []
    while keys:
        matchers.append(_key(keys, view))
    return lambda number, message: all(matcher(number, message) for matcher in matchers)


def _key(keys: list[bytes | Group], view: Sequence[Message]) -> Matcher:
    """Takes one key with its arguments off the end of ``keys``."""
    if not keys:
        raise ImapSyntaxError("search key missing")
    first = keys.pop()
    if isinstance(first, Group):
        return compile_search(first, view)
    name = first.decode("ascii", "replace").upper()
    if name in ("ALL", "OLD"):
        return lambda number, message: True
    if name in ("RECENT", "NEW"):
        return lambda number, message: False
    if name.removeprefix("UN") in _FLAGS:
        return _flag(_FLAGS[name.removeprefix("UN")], not name.startswith("UN"))
    if name in ("KEYWORD", "UNKEYWORD"):
        return _flag(_text(keys).decode("utf-8", "replace"), name == "KEYWORD")
    if name == "NOT":
        inner = _key(keys, view)
        return lambda number, message: not inner(number, message)
    if name == "OR":
        left, right = _key(keys, view), _key(keys, view)
        return lambda number, message: left(number, message) or right(number, message)
    if name in _ADDRESSES:
        return _header(name.lower(), _text(keys))
    if name == "HEADER":
        return _header(_text(keys).decode("latin-1").lower(), _text(keys))
    if name in ("BODY", "TEXT"):
        wanted = _text(keys).lower()
        whole = name == "TEXT"
        return lambda _, message: (
            wanted in (message.content if whole else parse_message(message.content).body).lower()
        )
    if name in ("LARGER", "SMALLER"):
        size = _number(keys)
        larger = name == "LARGER"
        return lambda _, message: len(message.content) > size if larger else len(message.content) < size
    if name.removeprefix("SENT") in _COMPARE:
        return _dated(name, parse_date(_text(keys)).date())
    if name == "UID":
        ranges = parse_set(_text(keys), view[-1].uid if view else 0)
        return lambda _, message: any(message.uid in each for each in ranges)
    numbers = parse_set(first, len(view))
    return lambda number, _: any(number in each for each in numbers)


def _text(keys: list[bytes | Group]) -> bytes:
    value = keys.pop() if keys else None
    if not isinstance(value, bytes):
        raise ImapSyntaxError("search key without its text")
    return value


def _number(keys: list[bytes | Group]) -> int:
    value = _text(keys)
    if not value.isdigit() or len(value) > 18:
        raise ImapSyntaxError("not a number")
    return int(value)


def _flag(flag: str, wanted: bool) -> Matcher:
    return lambda _, message: (flag.lower() in {each.lower() for each in message.flags}) == wanted


def _header(name: str, wanted: bytes) -> Matcher:
    def matches(_: int, message: Message) -> bool:
        fields = parse_message(message.content).fields
        return any(key == name and wanted.lower() in value.lower() for key, value, _raw in fields)

    return matches


def _dated(name: str, given: date) -> Matcher:
    compare = _COMPARE[name.removeprefix("SENT")]
    if not name.startswith("SENT"):
        return lambda _, message: compare(message.internal_date.date(), given)

    def matches(_: int, message: Message) -> bool:
        value = parse_message(message.content).value("date")
        try:
            sent = email.utils.parsedate_to_datetime((value or b"").decode("latin-1"))
        except (ValueError, TypeError):
            return False
        return compare(sent.date(), given)

    return matches
