"""The certificates of a running gateway: files that change, pairs that do not match, ends that come near."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from gateway.certifying import TICKET_KEYS_TIME, Certificates
from gateway.config.reading import read
from gateway.core.facts import SecurityEvent
from gateway.demo.certificates import Authority, KeyPair, make_authority
from gateway.observe.hub import Hub, Sink
from gateway.relay.validity import DAY, Stage, Validity

START = datetime.now(UTC).timestamp()


class Heard(Sink):
    def __init__(self) -> None:
        self.events: list[SecurityEvent] = []

    def watches(self):
        return {SecurityEvent: lambda _record, event, _now: self.events.append(event)}


class Scene:
    """Certificates of one listener, on a clock that the test turns."""

    def __init__(self, directory: Path, *, tls: str = "", listener: str = "", upstream: str = "") -> None:
        self.directory = directory
        self.clock = Clock()
        self.clock.rightNow = START
        self.heard = Heard()
        self.expiries: list[dict[str, float]] = []
        path = directory / "mailgate.toml"
        path.write_text(f"""
[tls]
{tls}
[[upstreams]]
name = "server"
addresses = ["127.0.0.1:1"]
{upstream}
[[listeners]]
name = "imaps"
protocol = "imap"
address = "127.0.0.1:2"
upstream = "server"
[listeners.tls]
mode = "implicit"
certificates = [{{ certificate = "gate.pem", key = "gate-key.pem" }}]
{listener}
""")
        self.certificates = Certificates(self.clock, self.clock.seconds)
        self.prepared = self.certificates.prepare(read(path))
        self.certificates.use(self.prepared)
        self.certificates.changed = self.expiries.append
        self.certificates.attach(Hub([self.heard]))

    @property
    def context(self) -> object:
        return self.prepared.servers["imaps"]._default

    def told(self) -> list[tuple[str, str]]:
        """Return what was told since the last time: severity and words."""
        events, self.heard.events = self.heard.events, []
        return [(event.severity, event.detail) for event in events]


def issue(authority: Authority, directory: Path, *, days: float = 90, into: Path | None = None) -> KeyPair:
    """Make a pair, and move it into place as a good deployer does."""
    made = authority.issue("new", not_after=datetime.fromtimestamp(START, UTC) + timedelta(days=days))
    target = into or directory
    for path, name in ((made.certificate, "gate.pem"), (made.key, "gate-key.pem")):
        os.replace(path, target / name)
    return KeyPair(target / "gate.pem", target / "gate-key.pem")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path)


@pytest.fixture
def scene(tmp_path: Path, authority: Authority) -> Iterator[Scene]:
    issue(authority, tmp_path)
    made = Scene(tmp_path)
    yield made
    made.certificates.stop()


def test_new_files_are_used(scene: Scene, authority: Authority, tmp_path: Path):
    before = scene.context
    scene.clock.advance(15)
    assert scene.context is before
    issue(authority, tmp_path, days=100)
    scene.clock.advance(15)
    assert scene.context is before, "they may not be whole yet"
    scene.clock.advance(1)
    assert scene.context is not before
    assert scene.expiries == [{"imaps/gate.pem": pytest.approx(START + 100 * DAY, abs=1)}]
    assert scene.told() == []


def test_files_that_do_not_rest_are_waited_for(scene: Scene, tmp_path: Path):
    before = scene.context
    for turn in range(5):
        (tmp_path / "gate.pem").write_text("-----BEGIN" + "." * turn)
        scene.clock.advance(15 if not turn else 1)
    assert scene.context is before and scene.told() == []


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda folder: (folder / "gate.pem").write_text("nonsense"), "not a certificate in PEM form"),
        (lambda folder: make_authority(folder / "x").issue("k"), ""),
        (lambda folder: (folder / "gate-key.pem").unlink(), "gate-key.pem"),
    ],
)
def test_a_broken_pair_is_told_once_and_the_old_one_stays(
    scene: Scene, authority: Authority, tmp_path: Path, spoil, why
):
    before = scene.context
    if why:
        spoil(tmp_path)
    else:  # a new certificate, and still the old key
        os.replace(authority.issue("other").certificate, tmp_path / "gate.pem")
        why = "not the key of"
    scene.clock.pump([15, 1, 15, 15])
    assert scene.context is before
    ((severity, detail),) = scene.told()
    assert (
        severity == "alert"
        and detail.startswith("listener imaps: the new files can't be used")
        and why in detail
    )
    scene.clock.pump([15] * 3)
    assert scene.told() == []
    scene.clock.pump([900] * 96)
    assert [text for _, text in scene.told()] == [detail], "once a day"
    issue(authority, tmp_path)
    scene.clock.pump([15, 900])
    scene.clock.pump([15, 1])
    assert scene.context is not before
    scene.clock.pump([900] * 200)
    assert scene.told() == []


def test_without_a_watch_nothing_is_looked_at(tmp_path: Path, authority: Authority):
    issue(authority, tmp_path)
    scene = Scene(tmp_path, tls='watch = "0s"')
    before = scene.context
    issue(authority, tmp_path)
    scene.clock.pump([3600] * 3)
    assert scene.context is before
    scene.certificates.stop()


def test_ticket_keys_are_renewed(scene: Scene):
    before = scene.context
    scene.clock.pump([15, TICKET_KEYS_TIME, 15])
    assert scene.context is not before and scene.expiries == []


def test_the_end_of_a_certificate_is_told_by_stages(scene: Scene):
    """30, 7 and 1 days before, and when it is over; daily at most."""
    seen: list[tuple[int, str, str]] = []
    for hour in range(92 * 24):
        scene.clock.advance(3600)
        seen += [(hour, severity, detail) for severity, detail in scene.told()]
    for one, later in pairwise(seen):
        assert (
            later[0] - one[0] >= 24
            or later[2].split(", in ")[0] != one[2].split(", in ")[0]
            or later[1] != one[1]
        )
    first = {severity: 90 - hour / 24 for hour, severity, _ in reversed(seen)}
    assert first["info"] == pytest.approx(30, abs=0.2) and first["warning"] == pytest.approx(7, abs=0.2)
    assert first["alert"] == pytest.approx(1, abs=0.2)
    assert "in 29 days" in seen[0][2] and "(listener imaps)" in seen[0][2]
    assert "expired on" in seen[-1][2]


def test_what_ends_soon_is_told_at_the_start(tmp_path: Path, authority: Authority):
    issue(authority, tmp_path, days=-1)
    scene = Scene(tmp_path)
    assert [severity for severity, _ in scene.told()] == ["alert"]
    scene.certificates.stop()


def test_lists_and_upstreams_certificates_are_watched(tmp_path: Path, authority: Authority):
    """An out-of-date list refuses everybody: it is as bad as an expired certificate."""
    issue(authority, tmp_path)
    authority.issue("client", client=True)
    authority.revoke()
    upstream = (
        'tls = "implicit"\nca = "ca.pem"\ncrl = "ca.crl"\ncertificate = "client.pem"\nkey = "client-key.pem"'
    )
    scene = Scene(tmp_path, upstream=upstream)
    assert set(scene.certificates.expiries()) == {
        "imaps/gate.pem", "upstream server/client.pem", "upstream server/ca.crl"
    }  # fmt: skip
    context = scene.prepared.clients["server"]._context
    scene.clock.pump([15])
    authority.revoke()
    scene.clock.pump([15, 1])
    assert scene.prepared.clients["server"]._context is not context
    scene.clock.pump([3600] * 24 * 31)
    assert any("revocation list" in text and "is out of date since" in text for _, text in scene.told())
    scene.certificates.stop()


def test_a_key_log_is_told_loudly_and_is_its_owners(tmp_path: Path, authority: Authority):
    issue(authority, tmp_path)
    log = tmp_path / "keys.log"
    log.write_text("")
    log.chmod(0o644)
    scene = Scene(tmp_path, listener='key_log = "keys.log"')
    ((severity, detail),) = scene.told()
    assert severity == "alert" and "can decrypt every connection" in detail
    assert log.stat().st_mode & 0o777 == 0o600
    scene.certificates.stop()


def test_no_link_is_followed_for_a_key_log(tmp_path: Path, authority: Authority):
    issue(authority, tmp_path)
    (tmp_path / "keys.log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Exception, match=r"keys\.log"):
        Scene(tmp_path, listener='key_log = "keys.log"')
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("life", "left", "stage"),
    [
        (90, 40, Stage.GOOD),
        (90, 20, Stage.NOTICE),
        (90, 6, Stage.SOON),
        (90, 0.5, Stage.LAST),
        (90, 0, Stage.OVER),
        (90, 91, Stage.EARLY),
        (6, 3, Stage.GOOD),
        (6, 1.5, Stage.NOTICE),
        (6, 0.9, Stage.SOON),
    ],
)
def test_stages(life, left, stage):
    """What lives for six days is not near its end from the first day on."""
    validity = Validity("x", "certificate", Path("x.pem"), 0, life * DAY)
    assert validity.stage((life - left) * DAY) is stage
