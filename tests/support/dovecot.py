"""Dovecot: IMAP, POP3, LMTP and submission in a directory of its own, on loopback."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from gateway.demo.certificates import Authority

from .leaks import remember
from .processes import Process, free_port

USERS = {
    "alice": "alice-secret",
    "bob": "bob-secret",
    "dave": 'dave "quoted" \\ s3cret',  # needs quoting in an IMAP LOGIN
}
#: The system account that owns the mail: every Debian has it.
ACCOUNT = "mail"

_CONFIGURATION = """
base_dir = {home}/run
state_dir = {home}/state
log_path = {home}/dovecot.log
instance_name = {home}
auth_verbose = yes
protocols = imap pop3 lmtp submission
listen = 127.0.0.1
hostname = mail.rig.test
postmaster_address = postmaster@rig.test
login_trusted_networks = {trusted}
haproxy_trusted_networks = 127.0.0.1
ssl = yes
ssl_cert = <{certificate}
ssl_key = <{key}
ssl_min_protocol = TLSv1.2
disable_plaintext_auth = no
auth_mechanisms = plain login cram-md5 scram-sha-256
auth_failure_delay = 0
auth_username_format = %n
mail_max_userip_connections = 2000
passdb {{
  driver = passwd-file
  args = {home}/users
}}
userdb {{
  driver = static
  args = uid={account} gid={account} home={mail}/%n
}}
first_valid_uid = 1
first_valid_gid = 1
mail_location = maildir:~/Maildir
mail_plugins = quota
namespace inbox {{
  inbox = yes
  separator = /
  mailbox Drafts {{
    special_use = \\Drafts
    auto = create
  }}
}}
plugin {{
  quota = maildir:User quota
}}
protocol imap {{
  mail_plugins = $mail_plugins imap_quota
}}
submission_relay_host = 127.0.0.1
submission_relay_port = {relay}
default_process_limit = 200
default_client_limit = 2000
service anvil {{
  client_limit = 4096
}}
service auth {{
  client_limit = 4096
  unix_listener auth-postfix {{
    mode = 0666
  }}
}}
service imap-login {{
  service_count = 0
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
  inet_listener imap_proxied {{
    port = {imap_proxied}
    haproxy = yes
  }}
}}
service pop3-login {{
  service_count = 0
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = {pop3s}
    ssl = yes
  }}
}}
service submission-login {{
  inet_listener submission {{
    port = {submission}
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    port = {lmtp}
  }}
}}
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
"""

PORTS = ("imap", "imaps", "imap_proxied", "pop3", "pop3s", "submission", "lmtp")


class Dovecot:
    """A running Dovecot.  ``ports`` has its ports by name."""

    def __init__(self, directory: Path, authority: Authority, *, relay: int = 9, trusted: str = "") -> None:
        """relay: the port that its submission service hands mail to.  trusted: may name other clients."""
        self.home = directory / "dovecot"
        self.mail = directory / "mail"
        self.authority = authority
        self.users = dict(USERS)
        remember(self.users.values())
        self.ports = {name: free_port() for name in PORTS}
        for folder in (self.home / "run", self.home / "state", self.mail):
            folder.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o755)  # its own accounts must get in
        shutil.chown(self.mail, ACCOUNT, ACCOUNT)
        pair = authority.issue("dovecot", ["localhost", "127.0.0.1", "mail.rig.test"])
        # CRAM-MD5 and SCRAM need the password itself.
        lines = [f"{user}:{{PLAIN}}{password}::::::\n" for user, password in self.users.items()]
        (self.home / "users").write_text("".join(lines))
        values: dict[str, Any] = dict(self.ports)
        (self.home / "dovecot.conf").write_text(
            _CONFIGURATION.format(
                home=self.home,
                mail=self.mail,
                certificate=pair.certificate,
                key=pair.key,
                account=ACCOUNT,
                trusted=trusted,
                relay=relay,
                **values,
            )
        )
        program = shutil.which("dovecot", path="/usr/sbin:/usr/local/sbin") or "dovecot"
        self.process = Process(
            [program, "-F", "-c", str(self.home / "dovecot.conf")], self.home / "dovecot.output"
        )
        for port in self.ports.values():
            self.process.wait_for_port(port)

    def empty(self, user: str) -> None:
        """Forget a user's mail."""
        shutil.rmtree(self.mail / user, ignore_errors=True)

    def stop(self) -> None:
        self.process.stop()
