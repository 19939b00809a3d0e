"""Fill an audit with records as a busy organisation makes them, and time every report on it.

The same seed makes the same records: a network of users, most of whose programs use TLS, some of whom have
an old device that does not, and strangers who guess passwords.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gateway.audit.opening import store_of
from gateway.audit.record import EventRecord, LoginRecord, ProgramRecord, StoredRecord
from gateway.audit.sql import SqlStore
from gateway.core.policy import Policy
from gateway.reports.logins import logins
from gateway.reports.plaintext import plaintext
from gateway.reports.readiness import readiness
from gateway.reports.selection import Selection
from gateway.reports.tls import tls
from gateway.reports.user import user

DAYS = 90
USERS = 5000
BATCH = 5000
#: Program, protocol, mechanism, and how likely it is to be without TLS.
PROGRAMS = (
    ("Thunderbird 128.5.0", "imap", "PLAIN", 0.01),
    ("Mac OS X Mail 16.0", "imap", "PLAIN", 0.01),
    ("iPhone Mail 22C152", "imap", "PLAIN", 0.0),
    ("Outlook 16.0", "imap", "LOGIN", 0.02),
    ("", "pop3", "USER", 0.5),
    ("", "pop3", "APOP", 0.9),
    ("[192.168.1.20]", "smtp", "PLAIN", 0.05),
    ("scanner-3", "smtp", "LOGIN", 0.9),
)
TLS = (
    ("TLSv1.3", "TLS_AES_256_GCM_SHA384", "X25519MLKEM768", 60),
    ("TLSv1.3", "TLS_AES_128_GCM_SHA256", "X25519", 25),
    ("TLSv1.2", "ECDHE-RSA-AES256-GCM-SHA384", "prime256v1", 13),
    ("TLSv1", "ECDHE-RSA-AES128-SHA", "prime256v1", 1),
    ("TLSv1.1", "ECDHE-RSA-AES128-SHA", "prime256v1", 1),
)


def _device(chance: random.Random, user: int) -> dict[str, object]:
    program, protocol, mechanism, plain = chance.choice(PROGRAMS)
    address = f"10.{user % 50}.{chance.randrange(256)}.{chance.randrange(1, 255)}"
    version, cipher, group = "", "", ""
    protection = "none" if chance.random() < plain else "tls"
    if protection == "tls":
        version, cipher, group = chance.choices([row[:3] for row in TLS], [row[3] for row in TLS])[0]
    smtp = protocol == "smtp"
    return {
        "protocol": protocol,
        "listener": {"imap": "imap", "pop3": "pop3", "smtp": "submission"}[protocol],
        "address": address,
        "network": address.rsplit(".", 1)[0] + ".0/24",
        "mechanism": mechanism,
        "protection": protection,
        "tls_version": version,
        "tls_cipher": cipher,
        "tls_group": group,
        "tls_sni": "mail.example.org" if protection == "tls" else "",
        "exposed": protection == "none" and mechanism != "APOP",
        "client_name": program if smtp else "",
        # Some say what they are only behind the login.
        "client_program": program if protocol == "imap" and chance.random() < 0.8 else "",
        "late_program": program if protocol == "imap" else "",
    }


def records(count: int, end: int, seed: int = 1) -> Iterator[StoredRecord]:
    """Give so many logins, and what goes with them, up to a time in microseconds since the epoch."""
    chance = random.Random(seed)
    users = [f"user{number}@example.org" for number in range(USERS)]
    weights = [1 / (1 + number / 200) for number in range(USERS)]
    devices = [[_device(chance, user) for _ in range(chance.randint(1, 3))] for user in range(USERS)]
    chosen = chance.choices(range(USERS), weights, k=count)
    begin, step = end - DAYS * 86400 * 1_000_000, DAYS * 86400 * 1_000_000 // count
    for number, who in enumerate(chosen):
        at = begin + number * step
        fields = dict(chance.choice(devices[who]))
        late, name, outcome, code = fields.pop("late_program"), users[who], "ok", "OK"
        draw = chance.random()
        if draw < 0.05:
            address = f"203.0.{chance.randrange(256)}.{chance.randrange(1, 255)}"
            fields.update(address=address, network=address.rsplit(".", 1)[0] + ".0/24", client_program="")
            outcome, code, late = "failed", "NO [AUTHENTICATIONFAILED]", ""
        elif draw < 0.08:
            outcome, code = "failed", "535 5.7.8"
        session = f"{number:012x}"
        yield LoginRecord(
            time=at,
            session=session,
            user_given=name,
            user=name,
            tls_client="",
            ja4="",
            outcome=outcome,
            code=code,
            upstream="dovecot",
            policy="tls-for-all" if number % 2 else "",
            judgement="would-refuse" if number % 2 and fields["protection"] == "none" else "",
            **fields,  # type: ignore[arg-type]
        )
        if late and not fields["client_program"] and outcome == "ok":
            yield ProgramRecord(name, str(fields["address"]), str(late), at + 1000)
        if number % 5000 == 0:
            yield EventRecord(
                at, "brute_force", "warning", "", "imap", "imap", "203.0.113.7", name, 30, "tried"
            )


def fill(store: SqlStore, count: int) -> float:
    """Write records to an open store; return the seconds that it took."""
    batch: list[StoredRecord] = []
    begun = time.perf_counter()
    for record in records(count, int(time.time() * 1e6)):
        batch.append(record)
        if len(batch) >= BATCH:
            store.write(batch)
            batch = []
    store.write(batch)
    return time.perf_counter() - begun


REPORTS = (
    "logins --since all",
    "logins --since all --user *7@example.org --network 10.7.0.0/16",
    "logins --since all --exposed --outcome ok --protocol smtp",
    "plaintext --since all",
    "readiness --since all --require tls --min-tls TLSv1.2",
    "tls --since all",
    "user user7@example.org --since all",
)


def timed(where: str, asked: str, rounds: int) -> float:
    """Return the seconds that a report takes as a command, its start included: the median."""
    command = [sys.executable, "-m", "gateway", *asked.split(), "--store", where]
    taken = []
    for _ in range(rounds):
        begun = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


class Explained:
    """A store that tells its plan of every query."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    @property
    def dialect(self) -> str:
        return self._store.dialect

    def ask(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return list(self.query(sql, parameters))

    def within(self, column: str) -> str:
        return self._store.within(column)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        explain = "EXPLAIN QUERY PLAN " if self._store.dialect == "sqlite" else "EXPLAIN "
        plan = [str(row[-1]) for row in self._store._run(explain + sql, parameters)]
        print("   ", " ".join(sql.split())[:100])
        print("        " + "\n        ".join(plan))
        return self._store.query(sql, parameters)


def explain(store: SqlStore) -> None:
    """Print the plans of what the reports ask."""
    shown: Any = Explained(store)
    now, whole = int(time.time() * 1e6), Selection()
    week = Selection(since=now - 7 * 86400 * 1_000_000)
    policy = Policy("tls", login="tls", mode="enforce")
    for title, make in (
        ("logins", lambda: logins(shown, whole, now, 50)),
        ("logins of a week", lambda: logins(shown, week, now, 50)),
        ("plaintext", lambda: plaintext(shown, whole, now, 50)),
        ("readiness", lambda: readiness(shown, whole, [policy], now, 50)),
        ("tls", lambda: tls(shown, whole, now, 50)),
        ("user", lambda: user(shown, "user7@example.org", whole, now, 50)),
    ):
        print(title)
        make()


def main() -> None:
    """Fill a store, unless it is filled, and print what each report takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", help="a path, or a URL of PostgreSQL; a file that is deleted if absent")
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plans", action="store_true", help="print the queries' plans, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        where = options.store or str(Path(folder, "audit.db"))
        store = store_of(where)
        store.open()
        ((there,),) = store.query("SELECT count(*) FROM logins")
        if not there:
            taken = fill(store, options.records)
            print(f"{options.records:,} logins made and written in {taken:.0f} s")
        if options.plans:
            explain(store)
        store.close()
        for asked in REPORTS:
            print(f"{timed(where, asked, options.rounds):6.2f} s  {asked}")


if __name__ == "__main__":
    main()
