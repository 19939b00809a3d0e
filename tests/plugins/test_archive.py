"""Copies of messages: whole or not there, with their facts, under names of their own."""

from __future__ import annotations

import hashlib
import json
import mailbox
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from gateway.plugins.archive import Archive
from pydantic import ValidationError

from gateway.core.facts import PluginRan
from gateway.core.record import SessionRecord
from gateway.core.steps import Envelope, Stage, TlsInfo
from gateway.plugin import Message, Services
from tests.inspection.samples import ALTERNATIVE, PLAIN
from tests.inspection.support import RECORD, judge, loaded
from tests.support.s3 import running_s3


def keep(message: bytes, stage: Stage = Stage.DATA, on_error: str = "defer", **options: Any) -> PluginRan:
    judgement = judge(message, loaded(Archive(Archive.Options(**options)), on_error=on_error), stage=stage)
    (ran,) = judgement.runs
    assert judgement.chunks is None
    return ran


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


@pytest.mark.parametrize("fsync", [True, False])
def test_a_maildir_that_others_can_read(tmp_path: Path, fsync: bool):
    root = tmp_path / "some" / "where"
    ran = keep(PLAIN, path=root, fsync=fsync)
    box = mailbox.Maildir(root, create=False)
    ((key, _),) = box.items()
    assert box.get_bytes(key) == PLAIN
    name = f"new/{key}"
    assert ran.result == "pass" and ran.facts["kept"] == name[:200]
    assert key.endswith(f".gate.example.org,S={len(PLAIN)}")
    facts, copy = files(root)
    assert facts == root / "facts" / f"{key.partition(',')[0]}.json" and copy == root / name
    for path in (facts, copy):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert sorted(path.name for path in root.iterdir()) == ["cur", "facts", "new", "tmp"]


def test_directories_by_date(tmp_path: Path):
    before = datetime.now(UTC)
    ran = keep(ALTERNATIVE, path=tmp_path, layout="dated")
    days = {f"{when:%Y/%m/%d}" for when in (before, datetime.now(UTC))}
    copy, facts = files(tmp_path)
    assert str(copy.parent.relative_to(tmp_path)) in days
    assert copy.read_bytes() == ALTERNATIVE and copy.suffix == ".eml" and facts == copy.with_suffix(".json")
    assert ran.facts["kept"] == str(copy.relative_to(tmp_path))


def test_the_facts(tmp_path: Path):
    session = SessionRecord(
        "abcdefghijkl",
        "smtp",
        "mx",
        "192.0.2.7",
        1024,
        started=1_800_000_000.5,
        user="al\nice\udcff\u20ac",
        client_tls=TlsInfo("TLSv1.3", "TLS_AES_128_GCM_SHA256"),
        tags={"tenant": "a"},
    )
    envelope = Envelope("a@example.org", ["b@example.org", "c@example.org"], {"SIZE": "7"})
    message = Message.of(b"Message-ID: <x@y>\r\n\r\nbody\r\n", Stage.DATA, envelope)
    plugin = Archive(Archive.Options(path=tmp_path, layout="dated"))
    plugin.start(Services("gate.example.org", "archive"))
    plugin.inspect(message, session)
    copy, beside = files(tmp_path)
    facts = json.loads(beside.read_text(encoding="ascii"))
    assert facts["sha256"] == hashlib.sha256(copy.read_bytes()).hexdigest()
    assert facts["kept"] == "message" and facts["octets"] == facts["size"] == message.size
    assert datetime.fromisoformat(facts["time"]).tzinfo is not None
    assert facts["message_id"] == "<x@y>" and facts["stage"] == "data"
    assert facts["envelope"] == {
        "reverse_path": "a@example.org",
        "recipients": ["b@example.org", "c@example.org"],
        "parameters": {"SIZE": "7"},
    }
    told = facts["session"]
    assert told["user"] == "al\nice\udcff\u20ac" and told["protection"] == "tls"
    assert told["tls"]["version"] == "TLSv1.3" and told["tags"] == {"tenant": "a"}
    assert told["started"] == "2027-01-15T08:00:00.500+00:00"


def test_headers_only_and_no_facts(tmp_path: Path):
    keep(PLAIN, path=tmp_path, content="header", facts=False, layout="dated")
    (copy,) = files(tmp_path)
    assert copy.read_bytes() == PLAIN.partition(b"Hello")[0]
    keep(b"no header", path=tmp_path / "b", content="header", layout="dated")
    assert [path.stat().st_size for path in files(tmp_path / "b") if path.suffix == ".eml"] == [0]


def test_an_imap_message_has_no_envelope(tmp_path: Path):
    keep(PLAIN, Stage.APPEND, path=tmp_path)
    facts, _ = files(tmp_path)
    assert json.loads(facts.read_text())["envelope"] is None


def test_names_are_unique_in_many_threads_and_plugins(tmp_path: Path):
    plugins = [Archive(Archive.Options(path=tmp_path, fsync=False)) for _ in range(2)]
    for plugin in plugins:
        plugin.start(Services("gate/example:org", "archive"))
    with ThreadPoolExecutor(8) as pool:
        runs = [
            pool.submit(plugins[turn % 2].inspect, Message.of(b"Subject: %d\r\n\r\n" % turn), RECORD)
            for turn in range(400)
        ]
        for one in runs:
            one.result()
    box = mailbox.Maildir(tmp_path, create=False)
    assert {box.get_bytes(key) for key in box.iterkeys()} == {
        b"Subject: %d\r\n\r\n" % turn for turn in range(400)
    }
    assert len(list((tmp_path / "facts").iterdir())) == 400 and not list((tmp_path / "tmp").iterdir())
    assert "gate\\057example\\072org" in next(box.iterkeys())


def test_it_runs_in_a_thread(tmp_path: Path):
    assert not loaded(Archive(Archive.Options(path=tmp_path))).is_async


# -- what goes wrong -----------------------------------------------------------------

FULL = """
import resource, sys
from pathlib import Path
from gateway.plugins.archive import Archive
from gateway.plugin import Message, Services
from tests.inspection.support import RECORD
# As on a full disk, a write fails in the midst of the message.
resource.setrlimit(resource.RLIMIT_FSIZE, (2_500_000, 2_500_000))
plugin = Archive(Archive.Options(path=Path(sys.argv[1]), layout=sys.argv[2]))
plugin.start(Services("gate.example.org", "archive"))
try:
    plugin.inspect(Message.of(b"Subject: x\\r\\n\\r\\n" + b"y" * 5_000_000), RECORD)
except OSError as error:
    print(error)
"""


@pytest.mark.parametrize("layout", ["maildir", "dated"])
def test_a_copy_that_does_not_fit_leaves_nothing_behind(tmp_path: Path, layout: str):
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path), layout],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=60,
    )
    assert done.stdout.startswith("no copy was kept in ") and "File too large" in done.stdout
    assert files(tmp_path) == []


@pytest.mark.parametrize("on_error", ["defer", "pass", "reject"])
def test_a_directory_that_can_not_be_made_is_settled_by_on_error(tmp_path: Path, on_error: str):
    (tmp_path / "file").write_text("")
    ran = keep(PLAIN, on_error=on_error, path=tmp_path / "file" / "archive")
    assert (ran.result, ran.applied) == ("error", on_error)
    assert "did not start" in ran.detail and "file" in ran.detail


def test_a_directory_that_is_taken_away_is_made_again_or_named(tmp_path: Path):
    plugin = Archive(Archive.Options(path=tmp_path / "a", layout="dated"))
    plugin.start(Services("gate.example.org", "archive"))
    (tmp_path / "a" / "tmp").rmdir()
    plugin.inspect(Message.of(PLAIN), RECORD)
    assert len(files(tmp_path)) == 2
    for path in files(tmp_path):
        path.unlink()
    (tmp_path / "a" / "tmp").rmdir()
    (tmp_path / "a" / "tmp").write_text("in the way")
    with pytest.raises(OSError, match=r"no copy was kept in .*tmp"):
        plugin.inspect(Message.of(PLAIN), RECORD)
    assert files(tmp_path) == [tmp_path / "a" / "tmp"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"path": "relative"},
        {"path": "/a", "url": "s3://bucket"},
        {"url": "https://bucket"},
        {"url": "s3://"},
        {"url": "s3://key:secret@bucket"},
        {"path": "/a", "endpoint": "https://localhost"},
        {"url": "s3://bucket", "endpoint": "localhost:9000"},
        {"path": "/a", "layout": "mbox"},
        {"path": "/a", "content": "body"},
        {"path": "/a", "timeout": 0},
        {"path": "/a", "secret": "x"},
    ],
)
def test_options_that_are_refused(options: dict[str, Any]):
    with pytest.raises(ValidationError):
        Archive.Options(**options)


# -- a bucket ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with running_s3() as address:
        yield address


def objects(address: str, prefix: str) -> dict[str, bytes]:
    import boto3

    client = boto3.client("s3", endpoint_url=address, region_name="us-east-1")
    found = client.list_objects_v2(Bucket="mail", Prefix=prefix).get("Contents", [])
    return {one["Key"]: client.get_object(Bucket="mail", Key=one["Key"])["Body"].read() for one in found}


def test_a_bucket(s3: str):
    ran = keep(PLAIN, url="s3://mail/some/prefix", endpoint=s3)
    assert ran.result == "pass", ran
    (key, copy), (beside, facts) = objects(s3, "some/prefix/").items()
    assert copy == PLAIN and key == f"some/prefix/{ran.facts['kept']}" and key.endswith(".eml")
    assert beside == key.removesuffix(".eml") + ".json"
    assert json.loads(facts)["sha256"] == hashlib.sha256(PLAIN).hexdigest()


def test_a_large_message_goes_in_pieces(s3: str):
    large = PLAIN + b"x" * 17_000_000
    ran = keep(large, url="s3://mail/large", endpoint=s3, timeout=60)
    assert ran.result == "pass", ran
    (copy,) = [octets for key, octets in objects(s3, "large/").items() if key.endswith(".eml")]
    assert copy == large


def test_a_bucket_that_is_not_there(s3: str):
    ran = keep(PLAIN, url="s3://nowhere", endpoint=s3)
    assert (ran.result, ran.applied) == ("error", "defer")
    assert ran.detail.startswith("OSError: no copy was kept in s3://nowhere: ")


def test_a_store_that_is_silent(s3: str):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        ran = keep(PLAIN, url="s3://mail", endpoint=address, timeout=0.2)
    assert (ran.result, ran.applied) == ("error", "defer") and ran.seconds < 4
    assert "no copy was kept in s3://mail" in ran.detail


def test_a_store_that_is_not_there(s3: str):
    ran = keep(PLAIN, url="s3://mail", endpoint="http://127.0.0.1:9")
    assert (ran.result, ran.applied) == ("error", "defer")
    assert "no copy was kept in s3://mail" in ran.detail
