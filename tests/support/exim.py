"""Exim: SMTP with STARTTLS and AUTH in a directory of its own; each message goes to a file.

Debian's package can't be installed beside Postfix's, so `packages.sh` unpacks it into a folder
that its account can reach.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from gateway.demo.certificates import Authority

from .dovecot import ACCOUNT, USERS
from .processes import Process, free_port

PROGRAM = Path("/var/lib/mailgate-tests/exim/usr/sbin/exim4")

_CONFIGURATION = """
exim_user = {account}
exim_group = {account}
never_users =
exim_path = {program}
primary_hostname = exim.rig.test
spool_directory = {home}/spool
log_file_path = {home}/log/%slog
pid_file_path = {home}/pid
daemon_smtp_ports = {smtp} : {smtps}
tls_on_connect_ports = {smtps}
local_interfaces = 127.0.0.1
host_lookup =
rfc1413_query_timeout = 0s
smtp_accept_max_per_host = 0
acl_smtp_rcpt = ${{if eq{{$local_part}}{{nobody}}{{refuse}}{{accept}}}}
acl_smtp_data = accept
tls_advertise_hosts = *
tls_certificate = {certificate}
tls_privatekey = {key}
chunking_advertise_hosts = *
keep_environment =
begin acl
accept:
  accept
refuse:
  deny message = unknown user
begin routers
all:
  driver = accept
  transport = file
begin transports
file:
  driver = appendfile
  directory = {home}/mail
  create_directory = true
  user = {account}
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{alice}}}}{{eq{{$auth3}}{{{password}}}}}}}}}
  server_set_id = $auth2
"""


class Exim:
    """A running Exim.  ``mail`` is the folder where each message becomes a file."""

    def __init__(self, directory: Path, authority: Authority) -> None:
        self.home = directory / "exim"
        self.users = {"alice": USERS["alice"]}
        self.ports = {"smtp": free_port(), "smtps": free_port()}
        self.mail = self.home / "mail"
        for folder in (self.home, self.home / "spool", self.home / "log", self.mail):
            folder.mkdir(parents=True)
            shutil.chown(folder, ACCOUNT, ACCOUNT)
        pair = authority.issue("exim", ["localhost", "127.0.0.1"])
        key = self.home / "key.pem"
        shutil.copy(pair.key, key)
        shutil.chown(key, ACCOUNT, ACCOUNT)
        configuration = self.home / "configuration"
        configuration.write_text(
            _CONFIGURATION.format(
                program=PROGRAM,
                account=ACCOUNT,
                home=self.home,
                certificate=pair.certificate,
                key=key,
                password=self.users["alice"],
                **self.ports,
            )
        )
        self.process = Process([str(PROGRAM), "-C", str(configuration), "-bdf"], self.home / "output")
        for port in self.ports.values():
            self.process.wait_for_port(port)

    def messages(self) -> list[bytes]:
        """Return what was delivered, oldest first."""
        return [
            path.read_bytes() for path in sorted(self.mail.iterdir(), key=lambda path: path.stat().st_mtime)
        ]

    def stop(self) -> None:
        self.process.stop()
