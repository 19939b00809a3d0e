"""Measure the bundled plugins: MB/s of judging a message, the edits laid in, on 10 KB and 10 MB.

What scanners, DNS and milters on the network take is theirs, and left out.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from mime import HEAD, SHAPES, measure

from gateway.core.record import SessionRecord
from gateway.core.steps import CLIENT, BodyStart, Envelope, Stage
from gateway.inspection.edits import render
from gateway.inspection.loader import LoadedPlugin, PluginSpec, load_plugins
from gateway.inspection.message import Content, Message
from gateway.inspection.verdict import Modify

SENDER, RECIPIENT = "a@example.org", "b@example.net"
SESSION = SessionRecord("bench", "smtp", "mx", "192.0.2.7", 1024, client_name="mx.example.org")


def newsletter(size: int) -> bytes:
    """Return HTML as newsletters have it: tables, styles, a link and a picture in each."""
    item = (
        '<tr><td style="padding:8px;color:#333">\r\n'
        '<a href="https://news.example.com/read?id=31&amp;u=7">Read on</a>\r\n'
        '<img src="https://img.example.com/pic.png" width="600" alt="A picture"></td></tr>\r\n'
        '<tr><td style="padding:8px;color:#333">Text of an item that says something in a few words, '
        "and in a few words more, as such texts do; that they are read is another matter.</td></tr>\r\n"
    )
    head = HEAD + b"Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    body = item * (size // len(item))
    return head + f"<html><body><table>\r\n{body}</table></body></html>\r\n".encode()


MESSAGES = SHAPES | {"newsletter": newsletter}


def tables(home: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the plugins, by the row's name: the plugin's and its options.  home: for keys and copies."""
    key, rules, secret = home / "key.pem", home / "rules.yar", home / "secret"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    rules.write_text('rule eicar { strings: $a = "EICAR-STANDARD-ANTIVIRUS-TEST-FILE" condition: $a }\n')
    secret.write_text("0123456789abcdef0123456789abcdef")
    for private in (key, secret):
        private.chmod(0o600)
    many = {"max_links": 1_000_000}
    redirect = {"template": "https://go.example.org/?u={url}&s={signature}", "key_file": str(secret), **many}
    macros = [{"name": "macros", "action": "strip", "conditions": ["macros"]}]
    cards = [{"name": "cards", "action": "mask", "find": ["card", "iban"]}]
    names = ["private_key", "aws_key", "github_token", "slack_token", "jwt", "secret"]
    secrets = [{"name": "keys", "action": "reject", "find": names}]
    signing = {"domain": "example.org", "selector": "bench", "file": str(key)}
    return {
        "add_header": ("add_header", {"name": "X-Gateway", "value": "{hostname} ({session})"}),
        "footer": ("footer", {"text": "Sent by way of Example Org."}),
        "external_banner": (
            "external_banner",
            {"internal_domains": ["example.net"], "text": "From outside.", "subject_tag": "[EXT]"},
        ),
        "link_rewrite redirect": ("link_rewrite", redirect),
        "link_rewrite defang": ("link_rewrite", {"mode": "defang", **many}),
        "remote_content pixels": ("remote_content", {}),
        "remote_content images": ("remote_content", {"images": True}),
        "html_sanitise cut": ("html_sanitise", {}),
        "html_sanitise strict": ("html_sanitise", {"mode": "strict"}),
        "attachment_policy": ("attachment_policy", {"rules": macros}),
        "dlp": ("dlp", {"rules": cards + secrets}),
        "mail_auth sign": ("mail_auth", {"verify": False, "sign": "all", "keys": [signing]}),
        "archive": ("archive", {"path": str(home / "archive"), "fsync": False}),
        "yara": ("yara", {"rules": [str(rules)]}),
    }


def judge(plugin: LoadedPlugin, octets: bytes) -> int:
    """Have a plugin judge a message, and lay in what it edits; return the octets that come of it."""
    start = BodyStart(CLIENT, Stage.DATA, held=True, envelope=Envelope(SENDER, [RECIPIENT]))
    message = Message(Content(octets), start, plugin.edit_signed)
    verdict: Any = plugin.plugin.inspect(message, SESSION)
    if isinstance(verdict, Coroutine):
        verdict = finished(verdict)
    edits = verdict.edits.in_order() if isinstance(verdict, Modify) else []
    return sum(map(len, render(octets, edits)))


def finished(coroutine: Coroutine[Any, Any, Any]) -> object:
    """Return what a coroutine that waits for nothing comes to."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("it waits for something")


def main() -> None:
    """Print the table, or with ``--json`` the figures."""
    as_json = "--json" in sys.argv
    messages = {
        f"{shape} {size // 1000} KB": make(size)
        for shape, make in MESSAGES.items()
        for size in (10_000, 10_000_000)
    }
    if not as_json:
        print("| MB/s |", " | ".join(messages), "|\n|---|" + "---:|" * len(messages))
    table: dict[str, dict[str, dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as home:
        for row, (use, options) in tables(Path(home)).items():
            (plugin,) = load_plugins([PluginSpec(row, use, options=options)])
            table[row] = {
                name: {
                    "edited": judge(plugin, octets) != len(octets),
                    "rate": measure(functools.partial(judge, plugin), octets),
                }
                for name, octets in messages.items()
            }
            if not as_json:
                cells = [f"{each['rate']:,.0f}{' e' * each['edited']}" for each in table[row].values()]
                print(f"| {row} |", " | ".join(cells), "|", flush=True)
    if as_json:
        print(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
