"""IMAP of the embedded upstream, with imaplib, imapclient, curl, mbsync and bare sockets."""

from __future__ import annotations

import imaplib
import shutil
import socket
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from imapclient import IMAPClient

from gateway.demo.samples import sample_messages
from tests.demo.conftest import Upstream
from tests.demo.test_smtp_server import converse

SAMPLES = sample_messages()


def connect(upstream: Upstream, mode: str = "plain") -> IMAPClient:
    """An imapclient, logged in as alice."""
    if mode == "implicit":
        client = IMAPClient("localhost", upstream.ports["imaps"], ssl_context=upstream.tls(), timeout=20)
    else:
        client = IMAPClient("localhost", upstream.ports["imap"], ssl=False, timeout=20)
        if mode == "starttls":
            client.starttls(upstream.tls())
    client.login("alice", upstream.users["alice"])
    return client


@pytest.mark.parametrize("mode", ["plain", "starttls", "implicit"])
def test_imaplib_reads_every_sample_byte_for_byte(upstream: Upstream, mode: str) -> None:
    client: imaplib.IMAP4
    if mode == "implicit":
        client = imaplib.IMAP4_SSL(
            "localhost", upstream.ports["imaps"], ssl_context=upstream.tls(), timeout=20
        )
    else:
        client = imaplib.IMAP4("localhost", upstream.ports["imap"], timeout=20)
        if mode == "starttls":
            assert client.starttls(upstream.tls())[0] == "OK"
    assert client.login_cram_md5("alice", upstream.users["alice"])[0] == "OK"
    assert client.select("INBOX") == ("OK", [b"5"])
    for number, sample in enumerate(SAMPLES, 1):
        status, answer = client.fetch(str(number), "(BODY.PEEK[] RFC822.SIZE)")
        assert status == "OK" and isinstance(answer[0], tuple)
        assert answer[0][1] == sample and b"RFC822.SIZE %d" % len(sample) in answer[1]
    assert client.logout()[0] == "BYE"


@pytest.mark.parametrize("mode", ["plain", "starttls", "implicit"])
def test_imapclient_works_with_mailboxes(upstream: Upstream, mode: str) -> None:
    client = connect(upstream, mode)
    assert client.folder_exists("INBOX") and client.has_capability("MOVE")
    client.create_folder("Work/2024")
    client.rename_folder("Work/2024", "Work/2025")
    client.subscribe_folder("Work/2025")
    names = {name for _, _, name in client.list_folders()}
    assert {"INBOX", "Archive", "Sent", "Work", "Work/2025"} <= names
    assert {name for _, _, name in client.list_folders("", "%")} == names - {"Work/2025"}
    assert "Work/2025" in {name for _, _, name in client.list_sub_folders()}
    assert client.find_special_folder(b"\\Sent") == "Sent"
    assert client.folder_status("INBOX", ["MESSAGES", "UNSEEN"]) == {b"MESSAGES": 5, b"UNSEEN": 5}
    client.delete_folder("Work/2025")
    assert not client.folder_exists("Work/2025")
    assert client.namespace().personal == (("", "/"),)
    client.logout()


def test_imapclient_reads_structure_and_sections(upstream: Upstream) -> None:
    client = connect(upstream)
    client.select_folder("INBOX", readonly=True)
    answer: dict[int, dict[bytes, Any]] = client.fetch(
        [1, 2, 3, 4, 5], ["ENVELOPE", "BODYSTRUCTURE", "INTERNALDATE"]
    )
    envelope = answer[2][b"ENVELOPE"]
    assert envelope.subject == b"Friday's menu"
    assert (envelope.from_[0].name, envelope.from_[0].mailbox) == (b"Carol Singer", b"carol")
    assert answer[3][b"INTERNALDATE"] == datetime(2024, 3, 7, 9, 3, tzinfo=UTC).astimezone().replace(
        tzinfo=None
    )
    parts, subtype, *_ = answer[3][b"BODYSTRUCTURE"]
    assert subtype == b"MIXED" and parts[1][:3] == (
        b"APPLICATION",
        b"OCTET-STREAM",
        (b"NAME", b"figures.bin"),
    )
    assert parts[1][8] == (b"attachment", (b"FILENAME", b"figures.bin"))
    items = {
        b"BODY[2]": SAMPLES[2].split(b"base64\r\n\r\n")[1].split(b"\r\n--=_report--")[0],
        b"BODY[2.MIME]": SAMPLES[2].split(b"--=_report\r\n")[2].split(b"\r\n\r\n")[0] + b"\r\n\r\n",
        b"BODY[HEADER.FIELDS (SUBJECT DATE)]": b"Subject: figures, as promised\r\n"
        b"Date: Tue, 07 Mar 2024 09:03:00 +0000\r\n\r\n",
        b"BODY[TEXT]": SAMPLES[2].partition(b"\r\n\r\n")[2],
        b"BODY[HEADER]": SAMPLES[2].partition(b"\r\n\r\n")[0] + b"\r\n\r\n",
    }
    assert {key: client.fetch(3, [key])[3][key] for key in items} == items
    assert client.fetch(3, ["BODY[]<10.20>"])[3][b"BODY[]<10>"] == SAMPLES[2][10:30]
    assert client.fetch(3, ["BODY[]<999999.20>"])[3][b"BODY[]<999999>"] == b""
    nested = client.fetch(5, ["BODY[2.HEADER.FIELDS (SUBJECT)]", "BODY[2.2]", "BODY[7]"])[5]
    assert nested[b"BODY[2.HEADER.FIELDS (SUBJECT)]"] == b"Subject: the original\r\n\r\n"
    assert nested[b"BODY[2.2]"] == b"a,b\r\n1,2" and nested[b"BODY[7]"] is None
    assert client.get_flags([3]) == {3: ()}
    client.logout()


def test_imapclient_changes_messages(upstream: Upstream) -> None:
    client = connect(upstream)
    client.select_folder("INBOX")
    flags = (b"$Later", b"\\Deleted")
    assert client.add_flags([1, 2], flags) == {1: flags, 2: flags}
    assert client.remove_flags([2], [b"\\Deleted"]) == {2: (b"$Later",)}
    assert client.fetch([2], ["BODY[TEXT]"])[2][b"FLAGS"] == (b"$Later", b"\\Seen")
    assert client.search(["SEEN"]) == [2]
    assert client.search(["OR", "SUBJECT", "hello", "NOT", "FROM", "bob"]) == [1, 2, 4]
    assert client.search(["UNDELETED", "UID", "1:3", "SENTSINCE", "7-Mar-2024"]) == [3]
    assert client.search(["TEXT", "Ξεσκεπάζω"], charset="UTF-8") == [4]
    client.copy([2, 3], "Archive")
    client.move([4], "Trash")
    client.expunge()
    assert client.search() == [2, 3, 5]
    client.select_folder("Archive")
    assert client.fetch([1, 2], ["FLAGS", "BODY.PEEK[]"])[1][b"FLAGS"] == (b"$Later", b"\\Seen")
    client.delete_messages([1, 2])
    client.uid_expunge([2])
    assert client.search() == [1]
    client.logout()


def test_append_keeps_bytes_flags_and_date(upstream: Upstream) -> None:
    client = connect(upstream)
    date = datetime(2023, 5, 1, 12, 30, tzinfo=UTC)
    answer = client.append("Drafts", SAMPLES[3], [b"\\Draft", b"\\Seen"], date)
    assert answer.startswith(b"[APPENDUID ")
    client.select_folder("Drafts")
    message = client.fetch(1, ["RFC822", "FLAGS", "INTERNALDATE"])[1]
    assert message[b"RFC822"] == SAMPLES[3] and message[b"FLAGS"] == (b"\\Draft", b"\\Seen")
    assert message[b"INTERNALDATE"] == date.astimezone().replace(tzinfo=None)
    with pytest.raises(client.Error, match="TRYCREATE"):
        client.append("Nowhere", SAMPLES[0])
    client.logout()


def test_idle_tells_of_a_delivery(upstream: Upstream) -> None:
    client = connect(upstream)
    client.select_folder("INBOX")
    client.idle()
    converse(
        upstream.ports["lmtp"],
        b"LHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\nBDAT 1 LAST\r\nxQUIT\r\n",
    )
    assert client.idle_check(timeout=20) == [(6, b"EXISTS")]
    client.idle_done()
    client.logout()


def test_a_second_client_hears_of_expunged_messages_only_where_it_may(upstream: Upstream) -> None:
    one, two = connect(upstream), connect(upstream)
    one.select_folder("INBOX")
    # Asked now, because imapclient would ask before its SEARCH, and any such command tells of EXPUNGE.
    one.capabilities()
    two.select_folder("INBOX")
    two.delete_messages([1])
    two.expunge()
    one.use_uid = False
    assert one.search(["ALL"]) == [1, 2, 3, 4, 5]
    assert (1, b"EXPUNGE") in one.noop()[1]
    assert one.search(["ALL"]) == [1, 2, 3, 4]
    one.logout()
    two.logout()


def test_login_takes_atoms_quoted_strings_and_both_literals(upstream: Upstream) -> None:
    password = upstream.users["alice"]
    forms = [
        f"alice {password}",
        f'"alice" "{password}"',
        f"{{5+}}\r\nalice {{{len(password)}+}}\r\n{password}",
        f"{{5}}\r\nalice {{{len(password)}}}\r\n{password}",
    ]
    for form in forms:
        answer = converse(upstream.ports["imap"], f"a LOGIN {form}\r\nb LOGOUT\r\n".encode())
        assert b"\r\na OK [CAPABILITY" in answer, form
        assert answer.count(b"+ go ahead") == (2 if "{5}" in form else 0)
        assert answer.endswith(b"* BYE bye\r\nb OK done\r\n")


def test_bad_input_gets_bad_and_never_ends_the_connection(upstream: Upstream) -> None:
    commands = [
        *("x", "x FROB", "x SELECT", "x SELECT INBOX", "x LOGIN (a) b", 'x LOGIN "a', "x LOGIN a) b"),
        *("x UID LOGIN a b", "", "x AUTHENTICATE", "x STATUS INBOX ()", "\x00\xff"),
    ]
    sent = "".join(command + "\r\n" for command in commands).encode("latin-1")
    answer = converse(upstream.ports["imap"], sent + b"y LOGIN alice wrong\r\nz LOGOUT\r\n")
    lines = answer.splitlines()[1:]
    assert [b" BAD " in line for line in lines[: len(commands)]] == [True] * len(commands), lines
    assert lines[len(commands)].startswith(b"y NO [AUTHENTICATIONFAILED]")


def test_selected_state_survives_bad_sets_and_items(upstream: Upstream) -> None:
    login = f"a LOGIN alice {upstream.users['alice']}\r\nb SELECT inbox\r\n".encode()
    bad = [
        b"FETCH 0 FLAGS",
        b"FETCH 1 FROB",
        b"FETCH 1 BODY[x]",
        b"FETCH 1",
        b"SEARCH FROB",
        b"STORE 1 X (a)",
    ]
    answer = converse(
        upstream.ports["imap"], login + b"".join(b"c %s\r\n" % each for each in bad) + b"d LOGOUT\r\n"
    )
    assert answer.count(b"\r\nc BAD ") == len(bad), answer


def test_a_command_cut_into_single_bytes_is_understood(upstream: Upstream) -> None:
    with socket.create_connection(("127.0.0.1", upstream.ports["imap"]), 20) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"a LOGIN {5+}\r\nalice " + upstream.users["alice"].encode() + b"\r\nb LOGOUT\r\n":
            client.sendall(bytes([byte]))
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert b"a OK [" in answer and answer.endswith(b"b OK done\r\n")


def test_curl_fetches_over_starttls(upstream: Upstream) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    done = subprocess.run(
        [
            *(curl, "--silent", "--show-error", "--cacert", upstream.ca, "--ssl-reqd"),
            *("--user", f"alice:{upstream.users['alice']}"),
            f"imap://localhost:{upstream.ports['imap']}/INBOX;UID=4",
        ],
        capture_output=True,
        timeout=60,
    )
    assert done.stderr == b""
    assert done.stdout == SAMPLES[3]


def test_mbsync_synchronises_both_ways(upstream: Upstream, tmp_path: Path) -> None:
    mbsync = shutil.which("mbsync")
    if mbsync is None:
        pytest.skip("mbsync is not installed")
    (tmp_path / "mail").mkdir()
    configuration = tmp_path / "mbsyncrc"
    configuration.write_text(
        f"IMAPAccount up\nHost localhost\nPort {upstream.ports['imap']}\nUser alice\n"
        f"Pass {upstream.users['alice']}\nSSLType STARTTLS\nSystemCertificates no\n"
        f"CertificateFile {upstream.ca}\n\nIMAPStore far\nAccount up\n\n"
        f"MaildirStore near\nPath {tmp_path}/mail/\nInbox {tmp_path}/mail/INBOX\n\n"
        "Channel all\nFar :far:\nNear :near:\nPatterns INBOX Archive\nCreate Near\nSync All\nExpunge Both\n"
        "SyncState *\n"
    )
    command = [mbsync, "--config", str(configuration), "all"]
    first = subprocess.run(command, capture_output=True, timeout=60)
    assert first.returncode == 0, first.stderr
    inbox = tmp_path / "mail" / "INBOX"
    assert len(list((inbox / "new").iterdir()) + list((inbox / "cur").iterdir())) == 5
    (inbox / "new" / "1.mine").write_bytes(b"Subject: from below\n\nlocal\n")
    second = subprocess.run(command, capture_output=True, timeout=60)
    assert second.returncode == 0, second.stderr
    client = connect(upstream)
    client.select_folder("INBOX", readonly=True)
    assert client.search(["SUBJECT", "from below"]) == [6]
    client.logout()
