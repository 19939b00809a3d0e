"""Postfix: SMTP and submission in a directory of its own; delivers to Dovecot over LMTP.

It can't send mail to any other machine: every transport but the one to Dovecot is an error.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from .dovecot import Dovecot
from .processes import Process, free_port

_MAIN = """
compatibility_level = 3.6
queue_directory = {home}/queue
data_directory = {home}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file_prefixes = {home}
maillog_file = {home}/postfix.log
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks =
myhostname = mail.rig.test
mydomain = rig.test
mydestination =
alias_maps =
alias_database =
virtual_mailbox_domains = rig.test
virtual_mailbox_maps = texthash:{home}/etc/mailboxes
virtual_transport = lmtp:inet:127.0.0.1:{lmtp}
local_transport = error:5.1.1 no local users
relay_transport = error:5.1.2 no outside world
default_transport = error:5.1.2 no outside world
disable_dns_lookups = yes
smtpd_peername_lookup = no
smtpd_tls_security_level = may
smtpd_tls_cert_file = {certificate}
smtpd_tls_key_file = {key}
smtpd_tls_auth_only = no
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {dovecot}/run/auth-postfix
smtpd_sasl_security_options = noanonymous
smtpd_sasl_authenticated_header = yes
broken_sasl_auth_clients = yes
smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination
smtpd_recipient_restrictions =
smtpd_error_sleep_time = 0
smtpd_client_connection_count_limit = 0
smtpd_authorized_xclient_hosts = {trusted}
smtpd_authorized_xforward_hosts = {trusted}
message_size_limit = 20480000
mailbox_size_limit = 0
virtual_mailbox_limit = 0
in_flow_delay = 0
biff = no
"""

_MASTER = """
127.0.0.1:{smtp} inet n - n - - smtpd
127.0.0.1:{submission} inet n - n - - smtpd
  -o smtpd_tls_security_level=encrypt
  -o smtpd_client_restrictions=permit_sasl_authenticated,reject
127.0.0.1:{smtps} inet n - n - - smtpd
  -o smtpd_tls_wrappermode=yes
127.0.0.1:{smtp_proxied} inet n - n - - smtpd
  -o smtpd_upstream_proxy_protocol=haproxy
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""

PORTS = ("smtp", "submission", "smtps", "smtp_proxied")


class Postfix:
    """A running Postfix before a Dovecot, whose users it knows."""

    def __init__(self, directory: Path, dovecot: Dovecot, *, trusted: str = "") -> None:
        """trusted: addresses that may speak XCLIENT."""
        self.home = directory / "postfix"
        self.users = dovecot.users
        self.ports = {name: free_port() for name in PORTS}
        etc = self.home / "etc"
        for folder in (etc, self.home / "queue", self.home / "data"):
            folder.mkdir(parents=True, exist_ok=True)
        shutil.chown(self.home / "data", "postfix", "postfix")
        pair = dovecot.authority.issue("postfix", ["localhost", "127.0.0.1", "mail.rig.test"])
        (etc / "mailboxes").write_text("".join(f"{user}@rig.test {user}\n" for user in dovecot.users))
        (etc / "main.cf").write_text(
            _MAIN.format(
                home=self.home,
                lmtp=dovecot.ports["lmtp"],
                certificate=pair.certificate,
                key=pair.key,
                dovecot=dovecot.home,
                trusted=trusted,
            )
        )
        (etc / "master.cf").write_text(_MASTER.format(**self.ports))
        checked = subprocess.run(
            ["/usr/sbin/postfix", "-c", str(etc), "check"], capture_output=True, text=True
        )
        assert checked.returncode == 0, checked.stderr
        self.process = Process(
            ["/usr/lib/postfix/sbin/master", "-c", str(etc), "-d"], self.home / "postfix.output"
        )
        for port in self.ports.values():
            self.process.wait_for_port(port)

    def stop(self) -> None:
        self.process.stop()
