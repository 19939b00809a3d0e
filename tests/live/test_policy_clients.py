"""Policies as real programs meet them: what they are told, what they do then, and what the audit keeps.

Each protocol, mode and policy has a listener of its own, for most programs can't choose their address.
"""

from __future__ import annotations

import os
import pty
import sqlite3
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from imapclient import IMAPClient
from imapclient.exceptions import IMAPClientError

from gateway.demo.certificates import Authority
from tests.conftest import need
from tests.support.dovecot import Dovecot
from tests.support.gateway import RunningGateway
from tests.support.postfix import Postfix
from tests.support.processes import free_port, wait_until

pytestmark = pytest.mark.live

HELP = "Read https://help.example/tls"
LOGINS = ("tls", "no-exposed-password")
MODES = ("monitor", "warn", "enforce")
MESSAGE = b"From: alice@rig.test\nTo: bob@rig.test\nSubject: hello\n\nHello.\n"


@dataclass
class Site:
    """The gateway, and what its clients need to know."""

    gateway: RunningGateway
    directory: Path
    password: str
    ca: Path

    def rows(self) -> list[dict[str, Any]]:
        """Return the logins that the audit has, when every session is over and written."""
        for name in ("mailgate_connections_active", "mailgate_audit_queue"):
            wait_until(lambda name=name: not self.gateway.metric(name), 20, name)
        with sqlite3.connect(f"file:{self.directory / 'audit.db'}?mode=ro", uri=True) as store:
            store.row_factory = sqlite3.Row
            return [dict(row) for row in store.execute("SELECT * FROM logins ORDER BY id")]


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, dovecot: Dovecot, postfix: Postfix, authority: Authority
) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("clients")
    pair = authority.issue("clients", ["localhost", "127.0.0.1"])
    ports = {"smtp": postfix.ports["submission"], **{name: dovecot.ports[name] for name in ("pop3", "imap")}}
    toml = f'hostname = "gate.rig.test"\n[admin]\naddress = "127.0.0.1:{free_port()}"\n'
    toml += '[audit]\nstore = "audit.db"\n'
    for protocol, port in ports.items():
        toml += f"""
[[upstreams]]
name = "{protocol}"
addresses = ["localhost:{port}"]
tls = "{"starttls" if protocol == "smtp" else "none"}"
{f'ca = "{authority.certificate}"' if protocol == "smtp" else ""}
"""
        for login in LOGINS:
            for mode in MODES:
                name = f"{protocol}-{login}-{mode}"
                toml += f"""
[[listeners]]
name = "{name}"
protocol = "{protocol}"
address = "127.0.0.1:{free_port()}"
upstream = "{protocol}"
[listeners.tls]
mode = "starttls"
certificates = [{{ certificate = "{pair.certificate}", key = "{pair.key}" }}]
[[policies]]
name = "{name}"
listeners = ["{name}"]
login = "{login}"
mode = "{mode}"
text = "{HELP}"
"""
    running = RunningGateway(toml, directory)
    yield Site(running, directory, dovecot.users["alice"], authority.certificate)
    assert running.stop() == 0


@dataclass
class Try:
    """One login by one program."""

    site: Site
    folder: Path
    protocol: str
    port: int
    tls: bool
    hashed: bool

    @property
    def mechanism(self) -> str:
        return "CRAM-MD5" if self.hashed else "PLAIN"


def run(*command: str, stdin: bytes = b"", **environment: str) -> tuple[bool, str]:
    """Run a program; return whether it ended well, and all that it said."""
    ended = subprocess.run(
        command,
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )
    return ended.returncode == 0, ended.stdout.decode(errors="replace")


def curl(one: Try) -> tuple[bool, str]:
    need("curl")
    trust = ("--ssl-reqd", "--cacert", str(one.site.ca)) if one.tls else ()
    send: tuple[str, ...] = ()
    if one.protocol == "smtp":
        send = ("--mail-from", "alice@rig.test", "--mail-rcpt", "bob@rig.test", "-T", "-")
    return run(
        "curl", "-sv4", *trust, "--login-options", f"AUTH={one.mechanism}", *send,
        "-u", f"alice:{one.site.password}", f"{one.protocol}://localhost:{one.port}/", stdin=MESSAGE,
    )  # fmt: skip


def swaks(one: Try) -> tuple[bool, str]:
    need("swaks")
    return run(
        "swaks", "--server", f"127.0.0.1:{one.port}", *(("--tls",) if one.tls else ()),
        "--auth", one.mechanism, "--auth-user", "alice", "--auth-password", one.site.password,
        "--from", "alice@rig.test", "--to", "bob@rig.test",
    )  # fmt: skip


def msmtp(one: Try) -> tuple[bool, str]:
    need("msmtp")
    tls = ("--tls=on", f"--tls-trust-file={one.site.ca}") if one.tls else ("--tls=off",)
    return run(
        "msmtp", "--debug", "--host=localhost", f"--port={one.port}", *tls, f"--auth={one.mechanism.lower()}",
        "--user=alice", f"--passwordeval=echo {one.site.password}", "--from=alice@rig.test", "bob@rig.test",
        stdin=MESSAGE,
    )  # fmt: skip


def mpop(one: Try) -> tuple[bool, str]:
    need("mpop")
    tls = ("--tls=on", "--tls-starttls=on", f"--tls-trust-file={one.site.ca}") if one.tls else ("--tls=off",)
    (one.folder / "mail").mkdir()
    for name in ("new", "cur", "tmp"):
        (one.folder / "mail" / name).mkdir()
    return run(
        "mpop", "--debug", "--host=localhost", f"--port={one.port}", *tls,
        f"--auth={'cram-md5' if one.hashed else 'user'}", "--user=alice", "--keep=on",
        f"--passwordeval=echo {one.site.password}", f"--delivery=maildir,{one.folder}/mail",
        f"--uidls-file={one.folder}/uidls",
    )  # fmt: skip


def mbsync(one: Try) -> tuple[bool, str]:
    need("mbsync")
    (one.folder / "local").mkdir()
    rc = one.folder / "rc"
    rc.write_text(
        f"IMAPAccount a\nHost localhost\nPort {one.port}\nUser alice\nPass {one.site.password}\n"
        f"SSLType {'STARTTLS' if one.tls else 'None'}\nCertificateFile {one.site.ca}\n"
        f"AuthMechs {'CRAM-MD5' if one.hashed else 'LOGIN'}\n\nIMAPStore far\nAccount a\n\n"
        f"MaildirStore near\nPath {one.folder}/local/\nInbox {one.folder}/local/INBOX\n\n"
        "Channel c\nFar :far:\nNear :near:\nPatterns INBOX\nCreate Near\nSyncState *\n"
    )
    return run("mbsync", "-Dn", "-c", str(rc), "c")


def mutt(one: Try) -> tuple[bool, str]:
    """mutt reads by IMAP at a terminal of its own, and sends by SMTP without one."""
    need("mutt")
    rc = one.folder / "muttrc"
    scheme = {"smtp": "smtp", "imap": "imap"}[one.protocol]
    method = one.mechanism.lower() if one.hashed or one.protocol == "smtp" else "login"
    rc.write_text(
        f'set {scheme}_pass="{one.site.password}"\nset {scheme}_authenticators="{method}"\n'
        f"set ssl_starttls={'yes' if one.tls else 'no'}\nset ssl_force_tls={'yes' if one.tls else 'no'}\n"
        f'set certificate_file="{one.site.ca}"\nset ssl_ca_certificates_file="{one.site.ca}"\n'
        f"set from=alice@rig.test\nset copy=no\nset folder={one.folder}\nset spoolfile={one.folder}/spool\n"
        f'set smtp_url="smtp://alice@localhost:{one.port}/"\nset quit=yes\nset sleep_time=0\n'
    )
    home = {"HOME": str(one.folder), "TERM": "xterm", "LANG": "C"}
    if one.protocol == "smtp":
        return run("mutt", "-n", "-F", str(rc), "-s", "hello", "bob@rig.test", stdin=MESSAGE, **home)
    listing = one.folder / "listing"
    command = ["mutt", "-n", "-F", str(rc), "-f", f"imap://alice@localhost:{one.port}/INBOX"]
    command += ["-e", f"push '<shell-escape>touch {listing}<enter><quit>'"]
    return at_a_terminal(command, home, listing)


def at_a_terminal(command: list[str], environment: dict[str, str], made: Path) -> tuple[bool, str]:
    """Run a program at a terminal; it has done well if it has made a file."""
    heard = bytearray()
    child, terminal = pty.fork()
    if not child:
        os.execvpe(command[0], command, {**os.environ, **environment})
    try:
        while piece := os.read(terminal, 4096):
            heard += piece
            if b"ress any key" in piece or b"ailed" in piece:  # it waits for somebody who reads that
                os.write(terminal, b"\nq\ny")
    except OSError:  # how a terminal ends
        pass
    os.close(terminal)
    os.waitpid(child, 0)
    return made.exists(), heard.decode(errors="replace")


def imapclient(one: Try) -> tuple[bool, str]:
    """imapclient keeps what an OK says; CRAM-MD5 it does not know."""
    with IMAPClient("localhost", one.port, ssl=False, timeout=20) as client:
        if one.tls:
            client.starttls(ssl.create_default_context(cafile=str(one.site.ca)))
        try:
            told = client.login("alice", one.site.password)
        except IMAPClientError as error:
            return False, str(error)
        alerts = client._imap.untagged_responses.get("ALERT", [])
        return True, f"{told!r} {alerts!r}"


#: Program -> what it speaks; whether it knows CRAM-MD5; whether what it says holds a warning's text.
PROGRAMS: dict[str, tuple[Callable[[Try], tuple[bool, str]], tuple[str, ...], bool, bool]] = {
    "curl": (curl, ("smtp", "pop3", "imap"), True, True),
    "swaks": (swaks, ("smtp",), True, True),
    "msmtp": (msmtp, ("smtp",), True, True),
    "mpop": (mpop, ("pop3",), True, True),
    "mbsync": (mbsync, ("imap",), True, True),
    "mutt": (mutt, ("smtp", "imap"), True, False),
    "imapclient": (imapclient, ("imap",), False, False),
}
#: Who sends a password though nobody asks for one: mpop sends USER and PASS at once, imapclient LOGIN in
#: spite of LOGINDISABLED.  The others don't even try.
CARELESS = ("mpop", "imapclient")
CELLS = [
    pytest.param(name, protocol, login, mode, tls, hashed, id="-".join(
        (name, protocol, login, mode, "tls" if tls else "clear", "hashed" if hashed else "password")
    ))
    for name, (_, protocols, hashes, _) in PROGRAMS.items()
    for protocol in protocols
    for login in LOGINS
    for mode in MODES
    for tls in (False, True)
    for hashed in ((False, True) if hashes else (False,))
    if not (tls and (hashed or mode == "monitor"))  # nothing is lacking there: one such cell will do
]  # fmt: skip


@pytest.mark.parametrize(("program", "protocol", "login", "mode", "tls", "hashed"), CELLS)
def test_each_cell(
    site: Site,
    tmp_path: Path,
    program: str,
    protocol: str,
    login: str,
    mode: str,
    tls: bool,
    hashed: bool,
) -> None:
    name = f"{protocol}-{login}-{mode}"
    log_in, _, _, shows = PROGRAMS[program]
    lacking = not tls and not (hashed and login == "no-exposed-password")
    careless = program in CARELESS and not hashed and not tls
    before = len(site.rows())
    done, told = log_in(Try(site, tmp_path, protocol, site.gateway.ports[name], tls, hashed))
    assert done is not (lacking and mode == "enforce"), told
    if shows and lacking and mode == "warn":
        assert HELP in told
    if mode != "warn" or not lacking:
        assert done is False or HELP not in told
    rows = site.rows()[before:]
    for row in rows:
        assert row["listener"] == row["policy"] == name and row["user"] == "alice"
        judgement = {"monitor": "would-refuse", "warn": "warned", "enforce": "refused"}[mode]
        assert row["judgement"] == (judgement if lacking else "")
        assert row["outcome"] == ("ok" if done else "policy")
        assert row["protection"] == ("tls" if tls else "none")
    assert any(row["exposed"] for row in rows) is ((done or careless) and not tls and not hashed)
    assert bool(rows) is (done or careless)
