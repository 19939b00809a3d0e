"""`mailgate demo`: an embedded mail server, the gateway before it, and what the gateway saw."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console as Screen
from rich.table import Table
from rich.text import Text

from ..audit.sqlite import SqliteStore
from ..core.record import SessionRecord
from ..core.steps import LoginSeen
from ..observe.console import Palette
from ..observe.hub import Sink, Watch
from ..observe.log_setup import session_log, set_up
from ..policies import policy_of
from ..reports.readiness import enforced, readiness
from ..reports.selection import Selection
from ..reports.text import show
from .certificates import make_authority
from .setting import LISTENERS, choose_ports, configuration
from .store import USERS
from .talk import SUBMITTED, Talk

#: The metrics that are shown; there are many more.
METRICS = (
    "mailgate_auth_protection_total",
    "mailgate_cleartext_credentials_total",
    "mailgate_messages_total",
    "mailgate_plugin_runs_total",
)
#: How wide tables are where nobody tells: in a pipe.
PIPE_WIDTH = 140


class Output:
    """Where everything goes: standard output, until whoever reads it goes away.

    Rich wants what a text file has; a reader that is gone (`| head`) must not end the reactor.
    """

    def __init__(self, stream: TextIO, on_gone: Callable[[], None]) -> None:
        self.encoding = stream.encoding
        self._stream = stream
        self._on_gone = on_gone
        self._gone = False

    def write(self, text: str) -> int:
        return self._try(lambda: self._stream.write(text))

    def flush(self) -> None:
        self._try(self._stream.flush)

    def isatty(self) -> bool:
        return self._stream.isatty()

    def _try(self, action: Callable[[], int | None]) -> int:
        if not self._gone:
            try:
                return action() or 0
            except OSError:
                self._gone = True
                # What is still in the stream's buffer would fail once more when Python ends.
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
                self._on_gone()
        return 0


class Pages:
    """Where the sessions' lines go: to the screen, from the reactor's thread."""

    def __init__(self, output: Output) -> None:
        self.shown = True
        self._output = output

    def write(self, line: str) -> None:
        if self.shown:
            self._output.write(line)
            self._output.flush()


class Logins(Sink):
    """Keeps the logins for the table."""

    def __init__(self) -> None:
        self.rows: list[tuple[SessionRecord, LoginSeen]] = []

    def watches(self) -> dict[type, Watch]:
        return {LoginSeen: self._login}

    def _login(self, record: SessionRecord, login: LoginSeen, now: float) -> None:
        self.rows.append((record, login))


class Show:
    """One run of the demonstration."""

    def __init__(self, once: bool, directory: Path, reactor: Any) -> None:
        self.once = once
        self.directory = directory
        self.reactor = reactor
        self.status = 1
        self.terminal = sys.stdout.isatty()
        output: Any = Output(sys.stdout, self._unwatched)
        self.screen = Screen(file=output, highlight=False, width=None if self.terminal else PIPE_WIDTH)
        self.lines = Pages(output)
        self.logins = Logins()
        self.stopping = False
        self.running = False

    # -- what is said ------------------------------------------------------

    def title(self, text: str) -> None:
        """Begin a chapter."""
        self.screen.print()
        if self.terminal:
            self.screen.rule(Text(text, style="bold"), align="left", style="dim")
        else:
            self.screen.print(f"== {text}")

    def table(self, *columns: str) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, header_style="dim")
        for column in columns:
            table.add_column(column, overflow="fold")
        return table

    # -- the run -----------------------------------------------------------

    def start(self) -> None:
        """Start the mail server and the gateway; then let the clients talk, in a thread."""
        from twisted.internet import threads

        from ..app import Gateway
        from .upstream import EmbeddedUpstream

        self.screen.print(Text("mailgate demo", style="bold"))
        self.screen.print(
            "An in-memory mail server, the gateway before it, and real clients. All on this machine."
        )
        authority = make_authority(self.directory)
        pair = authority.issue("mail")
        server = authority.issue("server")
        self.users = dict(USERS)
        self.upstream = EmbeddedUpstream(users=self.users, tls_context_factory=server.server_context())
        upstream_ports = self.upstream.start()
        self.setting = setting = choose_ports()
        self.ca = Path(authority.certificate)
        palette = Palette.of(sys.stdout)
        if not self.terminal:
            palette.symbols = False  # a log file likes ASCII
        set_up(self.lines, json=False, level="warning", palette=palette)
        sink = session_log(self.lines, json=False, palette=palette)
        config = configuration(setting, upstream_ports, self.ca, pair)
        self.gateway = Gateway(config, self.reactor, extra_sinks=[sink, self.logins])
        self.gateway.bind()
        self.gateway.start()
        self.running = True
        self._show_listeners()
        self.title("What the gateway sees, command by command")
        self.talk = Talk(setting.ports, self.users, self.ca)
        waiting = threads.deferToThread(self.talk.all)
        waiting.addCallback(lambda _: self._after())
        waiting.addErrback(self._failed)

    def _show_listeners(self) -> None:
        self.title("Started")
        table = self.table("listener", "protocol", "address", "client's TLS", "upstream's TLS")
        for name, (protocol, mode, _, upstream_mode, _) in LISTENERS.items():
            port = self.setting.ports[name]
            table.add_row(Text(name, style="cyan"), protocol, f"127.0.0.1:{port}", mode, upstream_mode)
        self.screen.print(table)
        if self.setting.moved:
            ports = {**self.setting.ports, "admin": self.setting.admin}
            for name, usual in self.setting.moved:
                text = f"Port {usual} is taken: {name} has {ports[name]} instead."
                self.screen.print(Text(text, style="yellow"))

    def _after(self) -> None:
        """The conversation is over: wait for the last session's end, then sum up."""
        if len(self.gateway.sessions) or self.gateway.audit.figures()[2]:
            self.reactor.callLater(0.02, self._after)
            return
        self._show_logins()
        self._show_readiness()
        self._show_message()
        self._show_metrics()
        problems = self.talk.problems
        self.title("Outcome")
        tried = len(self.talk.tried)
        self.screen.print(f"{tried - len(problems)} of {tried} conversations went as they should.")
        for problem in problems:
            self.screen.print(Text(problem, style="red"))
        self.status = 1 if problems else 0
        if self.once:
            self.stop()
        else:
            self._show_commands()

    def _show_logins(self) -> None:
        self.title("Logins: who, how, and whether the password crossed the wire unprotected")
        table = self.table("user", "listener", "mechanism", "protection", "outcome", "password")
        for record, login in self.logins.rows:
            exposed = login.reveals and login.sent and record.protection == "none"
            tls = record.client_tls
            protection = f"{record.protection} ({tls.version})" if tls is not None else record.protection
            table.add_row(
                login.user,
                Text(record.listener, style="cyan"),
                login.mechanism,
                protection,
                Text(login.outcome, style="green" if login.outcome == "ok" else "red"),
                Text("exposed", style="bold red") if exposed else Text("protected", style="green"),
            )
        self.screen.print(table)

    def _show_readiness(self) -> None:
        """Show whom the policy would lock out, by the audit."""
        self.title("The audit: whom would TLS for all lock out? (mailgate readiness)")
        store = SqliteStore(self.directory / "audit.db", read_only=True)
        store.open()
        policies = [enforced(policy_of(table)) for table in self.gateway.configuration.policies]
        report = readiness(store, Selection(), policies, int(time.time() * 1e6))
        store.close()
        show(self.screen, replace(report, charts=(), sections=report.sections[:1]))

    def _show_message(self) -> None:
        """Show what the plugins made of a message: what was added is marked."""
        accepted = [one for one in self.upstream.store.accepted if b"Subject: Lunch?" in one.content]
        if not accepted:
            return
        self.title("The first message: as alice sent it (blank), and what the plugins added (+)")
        before = SUBMITTED.split("\r\n")
        for line in accepted[0].content.decode("utf-8", "replace").rstrip("\r\n").split("\r\n"):
            added = line not in before
            mark = Text("+ " if added else "  ", style="green")
            self.screen.print(mark + Text(line, style="green" if added else ""))

    def _show_metrics(self) -> None:
        from prometheus_client import generate_latest

        self.title(f"Metrics that moved (all of them: http://127.0.0.1:{self.setting.admin}/metrics)")
        told = ""
        for line in generate_latest(self.gateway.registry).decode().splitlines():
            name, _, labels = line.partition("{")
            labels, _, value = labels.rpartition("} ")
            if name not in METRICS or float(value) == 0:
                continue
            if name != told:
                self.screen.print(Text(name, style="bold"))
                told = name
            self.screen.print(Text(f"{float(value):6.0f}  {labels}"), soft_wrap=True)

    def _show_commands(self) -> None:
        ports, users, ca = self.setting.ports, self.users, self.ca
        self.title("Try it yourself: what you do appears below; Ctrl-C ends it")
        store = self.directory / "audit.db"
        mailgate = sys.argv[0] if Path(sys.argv[0]).name == "mailgate" else "mailgate"
        alice, bob = f"alice:{users['alice']}", f"bob:{users['bob']}"
        for line in (
            f"curl --cacert {ca} -u {bob} imaps://localhost:{ports['imaps']}/INBOX",
            f"curl --cacert {ca} -u {bob} --ssl-reqd pop3://localhost:{ports['pop3']}/1",
            f"printf 'Subject: hi\\n\\nHello\\n' | curl --crlf --cacert {ca} -u {alice} --ssl-reqd"
            f" --mail-from alice@example.org --mail-rcpt bob@example.org"
            f" -T - smtp://localhost:{ports['submission']}",
            f"openssl s_client -quiet -crlf -starttls imap -CAfile {ca} -connect localhost:{ports['imap']}",
            f"swaks --server localhost:{ports['submission']} --tls --auth PLAIN --auth-user alice"
            f" --auth-password {users['alice']} --from alice@example.org --to bob@example.org",
            f"{mailgate} logins --follow --store {store}",
            f"{mailgate} plaintext --store {store} -o report.html",
            f"curl http://127.0.0.1:{self.setting.admin}/metrics",
            f"curl http://127.0.0.1:{self.setting.admin}/readyz",
        ):
            self.screen.print(Text("  " + line), soft_wrap=True)
        self.screen.print()

    # -- the end -----------------------------------------------------------

    def _failed(self, failure: Any) -> None:
        self.screen.print(Text(f"The demonstration failed: {failure.getErrorMessage()}", style="red"))
        self.status = 1
        self.stop()

    def stop(self) -> None:
        """End the gateway, then the mail server, then the reactor."""
        if self.stopping:
            return
        self.stopping = True
        self.lines.shown = False
        if not self.running:
            self.reactor.stop()
            return
        waiting = self.gateway.stop()
        waiting.addBoth(lambda _: self.upstream.stop())
        waiting.addBoth(lambda _: self.reactor.stop())

    def _unwatched(self) -> None:
        """Nobody reads any more: with --once the conversation goes on for the sake of the status."""
        if not self.once:
            self.reactor.callFromThread(self.stop)


def main(once: bool) -> int:
    """Run the demonstration; return the exit status: 0 if all went as it should, else 1."""
    from ..relay.reactor import install

    install()
    from twisted.internet import reactor as installed

    reactor: Any = installed
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mailgate-demo-") as directory:
        show = Show(once, Path(directory), reactor)

        def start() -> None:
            try:
                show.start()
            except Exception as error:  # noqa: BLE001 - the person is to read a sentence, not a traceback
                show.screen.print(Text(f"The demonstration can't start: {error}", style="red"))
                show.stop()

        def interrupted(_number: int, _frame: object) -> None:
            reactor.callFromThread(show.stop)

        reactor.callWhenRunning(start)
        signal.signal(signal.SIGINT, interrupted)
        signal.signal(signal.SIGTERM, interrupted)
        reactor.run(installSignalHandlers=False)
        if not once:
            show.screen.print(f"\nGoodbye, after {time.monotonic() - began:.0f} s.")
    return show.status
