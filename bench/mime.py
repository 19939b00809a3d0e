"""Measure the MIME layer: MB/s of parsing, rendering and each edit, on 10 KB and 10 MB."""

from __future__ import annotations

import base64
import json
import statistics
import sys
import time
from collections.abc import Callable

from gateway.inspection.edits import Edits, render
from gateway.inspection.message import Content, Message
from gateway.inspection.parts import Part, parse

ROUNDS = 5
SECONDS = 0.2


HEAD = b"From: a@example.org\r\nTo: b@example.org\r\nSubject: text\r\nMIME-Version: 1.0\r\n"


def plain(size: int) -> bytes:
    """Return a message of text lines."""
    head = HEAD + b"\r\n"
    line = b"The quick brown fox jumps over the lazy dog, and so on to the end of it.\r\n"
    return head + line * ((size - len(head)) // len(line))


def quoted(size: int) -> bytes:
    """Return a message of a text and an HTML part, both quoted-printable."""
    line = b'Gr=C3=BC=C3=9Fe und <a href=3D"https://example.org/">ein Verweis</a> im Text=\r\n und mehr.\r\n'
    head = HEAD + b"Content-Type: multipart/alternative; boundary=b\r\n\r\n"
    body = b""
    for kind in (b"plain", b"html"):
        body += b"--b\r\nContent-Type: text/%s; charset=utf-8\r\n" % kind
        body += b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
        body += line * (size // 2 // len(line)) + b"\r\n"
    return head + body + b"--b--\r\n"


def attached(size: int) -> bytes:
    """Return a message of a short text and a base64 attachment."""
    octets = bytes(range(256)) * (size // 350)
    return (
        HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nHello\r\n--b\r\n"
        b"Content-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + base64.encodebytes(octets).replace(b"\n", b"\r\n")
        + b"--b--\r\n"
    )


SHAPES: dict[str, Callable[[int], bytes]] = {"plain": plain, "quoted": quoted, "attached": attached}


def leaf(root: Part, text: bool) -> Part:
    """Return the first text or the last part."""
    parts = [part for part in root.walk() if not part.children]
    return next(part for part in parts if part.is_text) if text else parts[-1]


def leaves(message: bytes) -> list[Part]:
    """Return the parts that hold no others."""
    return [part for part in Message.of(message).walk() if not part.children]


def edit(message: bytes, change: Callable[[Edits, Part], object]) -> int:
    """Parse, edit and render; return the octets."""
    root = parse(message)
    edits = Edits(root)
    change(edits, root)
    return sum(map(len, render(message, edits.in_order())))


def _remove(edits: Edits, root: Part) -> None:
    edits.remove_part(leaf(root, text=False))


def _spans(edits: Edits, root: Part) -> None:
    part = leaf(root, text=True)
    size = len(part.text())
    edits.replace_spans(part, [(place, place + 3, "new") for place in range(0, size - 3, max(4, size // 20))])


WORK: dict[str, Callable[[bytes], object]] = {
    "parse": parse,
    "render": lambda message: sum(map(len, render(message, []))),
    "ambiguity": lambda message: Content(message).ambiguity,
    "decode all": lambda message: [
        part.content() for part in Message.of(message).walk() if not part.children
    ],
    "embedded": lambda message: [part.embedded() for part in parse(message).walk() if not part.children],
    "add_header": lambda message: edit(message, lambda edits, root: edits.add_header("X-A", "b")),
    "append_text": lambda message: edit(
        message, lambda edits, root: edits.append_text(leaf(root, text=True), "footer\n")
    ),
    "replace_spans": lambda message: edit(message, _spans),
    "replace_content": lambda message: edit(
        message, lambda edits, root: edits.replace_content(leaf(root, text=False), b"x" * 5000, "image/png")
    ),
    "replace_by_notice": lambda message: edit(
        message, lambda edits, root: edits.replace_by_notice(leaf(root, text=False), "taken away")
    ),
    "remove_part": lambda message: edit(message, _remove),
    "insert_part": lambda message: edit(
        message, lambda edits, root: edits.insert_part(b"notice", "text/plain")
    ),
    "wrap": lambda message: edit(message, lambda edits, root: edits.wrap("notice")),
}


def measure(work: Callable[[bytes], object], message: bytes) -> float:
    """Return the median MB/s of some rounds, in CPU time."""
    rates = []
    for _ in range(ROUNDS):
        times = 0
        begun = time.process_time()
        while (spent := time.process_time() - begun) < SECONDS:
            work(message)
            times += 1
        rates.append(len(message) * times / spent / 1e6)
    return statistics.median(rates)


def main() -> None:
    """Print the table, or with ``--json`` the figures."""
    table: dict[str, dict[str, float]] = {}
    for name, work in WORK.items():
        table[name] = {
            f"{shape} {size // 1000} KB": measure(work, make(size))
            for shape, make in SHAPES.items()
            for size in (10_000, 10_000_000)
        }
        if "--json" not in sys.argv:
            if len(table) == 1:
                print("| MB/s |", " | ".join(table[name]), "|\n|---|" + "---:|" * len(table[name]))
            print(f"| {name} |", " | ".join(f"{rate:,.0f}" for rate in table[name].values()), "|", flush=True)
    if "--json" in sys.argv:
        print(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
