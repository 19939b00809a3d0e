"""Cyrus: IMAP and POP3 in a directory of its own, on loopback.

Debian's packages can't be installed beside Dovecot's, so `packages.sh` unpacks them into a folder
that its account can reach.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from gateway.demo.certificates import Authority

from .dovecot import USERS
from .processes import Process, free_port

CACHE = Path("/var/lib/mailgate-tests/cyrus/usr")
PROGRAM = CACHE / "lib" / "cyrus" / "bin" / "master"
ACCOUNT = "cyrus"
#: Folders that it wants to be there.
_FOLDERS = ("conf", "spool", "run", "conf/socket", "conf/proc", "conf/db", "conf/log", "conf/msg")

_IMAPD = """
configdirectory: {home}/conf
partition-default: {home}/spool
admins: cyrusadmin
cyrus_user: {account}
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: {home}/sasldb2
sasl_mech_list: PLAIN LOGIN CRAM-MD5
servername: cyrus.rig.test
defaultdomain: rig.test
allowplaintext: yes
altnamespace: yes
unixhierarchysep: yes
autocreate_quota: 0
idlemethod: poll
idlesocket: {home}/run/idle
lmtpsocket: {home}/run/lmtp
tls_server_cert: {home}/certificate.pem
tls_server_key: {home}/key.pem
"""

_SERVICES = """
START {{
  recover cmd="{bin}/ctl_cyrusdb -C {home}/imapd.conf -r"
}}
SERVICES {{
  imap cmd="{bin}/imapd -C {home}/imapd.conf" listen="127.0.0.1:{imap}" prefork=0
  imaps cmd="{bin}/imapd -s -C {home}/imapd.conf" listen="127.0.0.1:{imaps}" prefork=0
  pop3 cmd="{bin}/pop3d -C {home}/imapd.conf" listen="127.0.0.1:{pop3}" prefork=0
  pop3s cmd="{bin}/pop3d -s -C {home}/imapd.conf" listen="127.0.0.1:{pop3s}" prefork=0
}}
EVENTS {{
}}
"""


class Cyrus:
    """A running Cyrus with the user alice."""

    def __init__(self, directory: Path, authority: Authority) -> None:
        home = self.home = directory / "cyrus"
        self.users = {"alice": USERS["alice"]}
        self.ports = {name: free_port() for name in ("imap", "imaps", "pop3", "pop3s")}
        for folder in _FOLDERS:
            (home / folder).mkdir(parents=True, exist_ok=True)
        pair = authority.issue("cyrus", ["localhost", "127.0.0.1"])
        shutil.copy(pair.certificate, home / "certificate.pem")
        shutil.copy(pair.key, home / "key.pem")
        (home / "imapd.conf").write_text(_IMAPD.format(home=home, account=ACCOUNT))
        services = _SERVICES.format(home=home, bin=PROGRAM.parent, **self.ports)
        (home / "cyrus.conf").write_text(services)
        libraries = next(CACHE.glob("lib/*/libcyrus_imap.so.0")).parent
        environment = {"LD_LIBRARY_PATH": str(libraries)}
        for user, password in self.users.items():
            subprocess.run(
                [
                    CACHE / "sbin" / "saslpasswd2",
                    "-p",
                    "-c",
                    "-f",
                    home / "sasldb2",
                    "-u",
                    "cyrus.rig.test",
                    user,
                ],
                input=password.encode(),
                check=True,
                capture_output=True,
            )
        for path in [home, *home.rglob("*")]:
            shutil.chown(path, ACCOUNT)
        self.process = Process(
            [str(PROGRAM), "-C", f"{home}/imapd.conf", "-M", f"{home}/cyrus.conf", "-p", f"{home}/pid", "-D"],
            home / "output",
            environment,
        )
        for port in self.ports.values():
            self.process.wait_for_port(port)

    def stop(self) -> None:
        self.process.stop()
