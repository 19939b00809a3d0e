"""Plugins in processes of their own: every way to fail is one message's, and nothing is left behind."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.outcome import Action
from gateway.core.steps import Stage
from gateway.inspection import frames, processes
from gateway.inspection.edits import Edit, EditError
from gateway.inspection.loader import LoadedPlugin, PluginSpec, check_plugins, load_plugins
from gateway.inspection.message import Message
from gateway.inspection.pipeline import Judgement, Pipeline
from gateway.inspection.verdict import VERDICTS, Modify
from tests.support.processes import wait_until

from .samples import DKIM, MIXED, PLAIN, SIGNED
from .support import RECORD, AsyncioRunner, run, start

PLUGIN = '''
from __future__ import annotations
import ctypes, hashlib, os, socket, sys, time
from pathlib import Path
from gateway.plugin import *

class Doing(Plugin):
    """Does what the subject says."""
    isolation = "process"
    memory_limit = 256 * 1024 * 1024

    class Options(PluginOptions):
        folder: str
        start: str = ""

    def start(self, services: Services) -> None:
        with (Path(self.options.folder) / "started").open("a") as file:
            file.write(f"{os.getpid()} {services.name} {services.hostname}\\n")
        if self.options.start == "raise":
            raise OSError("no such database")
        if self.options.start == "slow" and not (Path(self.options.folder) / "quick").exists():
            time.sleep(60)

    def stop(self) -> None:
        time.sleep(0.2)
        (Path(self.options.folder) / f"stopped-{os.getpid()}").touch()

    def inspect(self, message: Message, session: SessionRecord) -> Verdict:
        what, _, argument = message.subject.partition(" ")
        message.note("pid", str(os.getpid()))
        message.note("octets", hashlib.sha256(message.buffer[:]).hexdigest()[:16])
        if what == "modify":
            edits = message.edits()
            edits.add_header("X-Seen", f"{session.user} {message.stage}")
            edits.splice(message.size, message.size, b"end\\r\\n")
            return Modify(edits)
        if what == "many":
            edits = message.edits()
            for place in range(100_000):
                edits.splice(place, place, b"ab")
            return Modify(edits)
        if what == "every":
            edits = message.edits()
            for number in range(3):
                edits.add_header(f"X-{number}", "x" * number)
            edits.set_header("Subject", "every \\u00fc")
            edits.remove_header("X-Old")
            for part in message.root.walk():
                if part.is_text:
                    edits.append_text(part, "added \\u2713\\n")
            edits.insert_part(b"content", "application/pdf", filename="a.pdf")
            return Modify(edits)
        if what == "wrap":
            edits = message.edits()
            edits.wrap("A notice")
            return Modify(edits)
        if what == "overlap":
            edits = message.edits()
            edits.splice(0, 5, b"")
            edits.splice(3, 6, b"")
            return Modify(edits)
        if what == "reject":
            return Reject("no\\r\\nway \\ud800")
        if what == "envelope":
            return Reject(f"{message.envelope.reverse_path} {session.client_address}")
        if what == "raise":
            raise RuntimeError("bad thing \\x1b[31m")
        if what == "none":
            return None
        if what == "class":
            return Pass
        if what == "timeout":
            raise TimeoutError("the scanner is slow")
        if what == "hang":
            time.sleep(600)
        if what == "spin":
            while True:
                pass
        if what == "memory":
            kept = [bytearray(1 << 20) for _ in range(2000)]
        if what == "crash":
            ctypes.string_at(0)
        if what == "exit":
            os._exit(3)
        if what == "abort":
            os.abort()
        if what == "print":
            print("hello", flush=True)
            os.write(1, b"hello")
        if what == "lie":
            os.write(int(sys.argv[1]), b"\\xff" * 100)
            time.sleep(600)
        if what == "json":
            data = argument.encode()
            os.write(int(sys.argv[1]), len(data).to_bytes(4, "big") + bytes(9) + data)
            time.sleep(600)
        return Pass()
'''


def wrong(edit: Edit) -> str:
    """Return a subject that has the worker answer with an edit, and with no octets."""
    return "json " + json.dumps({"verdict": "modify", "edits": frames.pack_edits([edit])[0]})


class Bench:
    """A pipeline with one plugin in processes."""

    def __init__(self, folder: Path, **spec: Any) -> None:
        self.folder = folder
        path = folder / "doing.py"
        path.write_text(PLUGIN)
        options = {"folder": str(folder), **spec.pop("options", {})}
        given = {"processes": 1, "time_limit": 20.0, **spec}
        (self.loaded,) = load_plugins([PluginSpec("doing", str(path), options=options, **given)])
        self.told: list[BaseException] = []
        self.pipeline = Pipeline(
            [self.loaded],
            AsyncioRunner(),
            hostname="gate",
            on_exception=lambda name, error: self.told.append(error),
        )
        self.pipeline.start()

    @property
    def workers(self) -> processes.Workers:
        return self.pipeline._workers["doing"]

    def judge(self, what: str, message: bytes = b"", stage: Stage = Stage.DATA) -> Judgement:
        octets = message or f"Subject: {what}\r\n\r\nHello.\r\n".encode()
        return run(self.pipeline.judge(octets, start(stage), RECORD))

    def passes(self) -> str:
        """A message passes; return the process that has judged it."""
        (ran,) = self.judge("pass").runs
        assert (ran.result, ran.detail) == ("pass", "")
        return ran.facts["pid"]

    def started(self) -> list[str]:
        file = self.folder / "started"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.pipeline.stop()


def lives(pid: int) -> bool:
    """Tell whether there is a process yet; a zombie is one, for which nobody has waited."""
    return Path(f"/proc/{pid}").exists()


def descriptors() -> set[str]:
    return {f"{one.name} {os.readlink(one)}" for one in Path("/proc/self/fd").iterdir() if one.exists()}


def test_it_is_started_when_it_is_needed_and_stays(bench: Bench):
    assert bench.started() == [] and bench.workers.pids == []
    one = bench.passes()
    assert bench.passes() == one and one != str(os.getpid())
    assert bench.started() == [f"{one} doing gate"]


def test_edits_come_back_as_splices(bench: Bench):
    judgement = bench.judge("modify")
    assert b"".join(judgement.chunks or ()) == (
        b"X-Seen: alice data\r\nSubject: modify\r\n\r\nHello.\r\nend\r\n"
    )
    assert (judgement.runs[0].result, judgement.outcome.action) == ("modify", Action.MODIFY)


@pytest.mark.parametrize("what", ["every", "wrap", "modify"])
def test_edits_come_to_the_same_as_in_a_thread(bench: Bench, tmp_path: Path, what: str):
    samples = [PLAIN, MIXED, SIGNED, DKIM, b"", b"X-Old: 1", b"X-Old: 1\r\n\r\n", b"text"]
    path, options = str(tmp_path / "doing.py"), {"folder": str(tmp_path)}
    (threaded,) = load_plugins([PluginSpec("doing", path, options=options, isolation="thread")])
    pipeline = Pipeline([threaded], AsyncioRunner())
    for sample in samples:
        message = f"Subject: {what}\r\n".encode() + sample
        one, other = bench.judge("", message), run(pipeline.judge(message, start(), RECORD))
        assert one.outcome == other.outcome
        assert (one.runs[0].result, one.runs[0].detail) == (other.runs[0].result, other.runs[0].detail)
        assert b"".join(one.chunks or ()) == b"".join(other.chunks or ())


def test_signed_parts_are_guarded_as_in_threads(bench: Bench):
    message = b"Subject: modify\r\n" + SIGNED
    judgement = bench.judge("", message)
    assert b"".join(judgement.chunks or ()).replace(b"X-Seen: alice data\r\n", b"") == message
    assert judgement.runs[0].facts["skipped_signed"] == "multipart/signed"


def test_what_it_is_told_of_the_session(bench: Bench):
    assert bench.judge("envelope").outcome.reason == "alice@example.org 192.0.2.7"


@pytest.mark.parametrize("size", [0, 1000, 64 * 1024, 64 * 1024 + 1, 5_000_000])
def test_it_sees_every_octet(bench: Bench, size: int):
    message = b"Subject: modify\r\n\r\n" + os.urandom(size)
    judgement = bench.judge("", message)
    assert judgement.runs[0].facts["octets"] == hashlib.sha256(message).hexdigest()[:16]
    assert b"".join(judgement.chunks or ()) == b"X-Seen: alice data\r\n" + message + b"end\r\n"


def test_a_map_of_a_file_is_handed_over_too(bench: Bench):
    message = b"Subject: pass\r\n\r\n" + os.urandom(3_000_000)
    with tempfile.TemporaryFile() as file:
        file.write(message)
        file.flush()
        with mmap.mmap(file.fileno(), len(message), access=mmap.ACCESS_READ) as view:
            (ran,) = run(bench.pipeline.judge(view, start(), RECORD)).runs
    assert ran.facts["octets"] == hashlib.sha256(message).hexdigest()[:16]


def test_many_edits(bench: Bench):
    message = b"Subject: many\r\n\r\n" + b"x" * 100_000
    judgement = bench.judge("", message)
    assert len(b"".join(judgement.chunks or ())) == len(message) + 200_000


@pytest.mark.parametrize(
    ("what", "result", "detail"),
    [
        ("raise", "error", "RuntimeError: bad thing \\x1b[31m"),
        ("none", "error", "answered None in place of a verdict"),
        ("class", "error", "answered the class Pass (write Pass(...)) in place of a verdict"),
        ("timeout", "timeout", "the scanner is slow"),
        ("overlap", "error", "EditError: edits overlap at offset 3"),
    ],
)
def test_failures_that_leave_the_process_as_it_is(bench: Bench, what: str, result: str, detail: str):
    pid = bench.passes()
    judgement = bench.judge(what)
    (ran,) = judgement.runs
    assert (ran.result, ran.applied, ran.detail) == (result, "defer", detail)
    assert judgement.outcome.action is Action.DEFER
    assert ran.facts["pid"] == pid == bench.passes()


def test_an_exception_s_traceback_is_for_the_log(bench: Bench):
    bench.judge("raise")
    (told,) = bench.told
    assert any("doing.py" in note and "RuntimeError" in note for note in told.__notes__)
    assert all("\x1b" not in note for note in told.__notes__)


@pytest.mark.parametrize(
    ("what", "detail"),
    [
        ("crash", "worker process died of SIGSEGV"),
        ("abort", "worker process died of SIGABRT"),
        ("exit", "worker process ended with status 3"),
        ("memory", "MemoryError: it took more memory than memory_limit allows"),
        ("lie", "worker process: it answered with"),
        ("json nonsense", "worker process gave an answer that is none"),
        ("json []", "worker process gave an answer that is none"),
        ("json {}", "worker process gave an answer that is none: 'verdict'"),
        ('json {"verdict": "pass", "facts": 3}', "worker process gave an answer that is none"),
        ('json {"verdict": "keep"}', "worker process gave an answer that is none: the verdict keep"),
        ('json {"verdict": "reject"}', "worker process gave an answer that is none: 'reason'"),
        ('json {"verdict": "reject", "reason": 3}', "worker process gave an answer that is none"),
        (wrong(Edit(0, 0, b"x" * 99)), "worker process gave an answer that is none: no octets of an edit"),
        (
            wrong(Edit(0, 9999, b"")),
            "worker process gave an answer that is none: edit at 0-9999 of a message",
        ),
        (wrong(Edit(True, 0, b"")), "worker process gave an answer that is none: no field of an edit"),
        ('json {"verdict": "modify", "edits": [[]]}', "worker process gave an answer that is none: no edit"),
        ('json {"verdict": "modify", "edits": 3}', "worker process gave an answer that is none"),
        ("json " + "[" * 5000, "worker process gave an answer that is none"),
    ],
)
def test_failures_that_take_the_process_with_them(bench: Bench, what: str, detail: str):
    pid = bench.passes()
    judgement = bench.judge("", f"Subject: {what}\r\n\r\n".encode())
    (ran,) = judgement.runs
    assert (ran.result, ran.applied) == ("error", "defer") and ran.detail.startswith(detail), ran.detail
    assert judgement.outcome.action is Action.DEFER
    assert bench.passes() != pid, "another process goes on at once"
    assert not lives(int(pid))


@pytest.mark.parametrize("what", ["hang", "spin"])
def test_one_that_takes_too_long_is_killed(tmp_path: Path, what: str):
    bench = Bench(tmp_path, time_limit=4.0)
    try:
        pid = bench.passes()
        (ran,) = bench.judge(what).runs
        assert (ran.result, ran.applied, ran.detail) == ("timeout", "defer", "no verdict within 4 s")
        assert not lives(int(pid))
        assert bench.passes() != pid
    finally:
        bench.pipeline.stop()


def test_what_a_plugin_prints_does_no_harm(bench: Bench):
    assert bench.judge("print").runs[0].result == "pass"
    bench.passes()


def test_one_that_dies_while_idle_costs_no_message(bench: Bench):
    pid = int(bench.passes())
    os.kill(pid, signal.SIGKILL)
    wait_until(
        lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z", 10, "its end"
    )
    assert bench.passes() != str(pid)


def test_one_that_can_not_start_is_tried_ever_more_slowly(tmp_path: Path):
    bench = Bench(tmp_path, options={"start": "raise"})
    try:
        details = [bench.judge("pass").runs[0].detail for _ in range(6)]
        assert details[:3] == ["did not start: OSError: no such database"] * 3
        assert all("not started again for" in detail for detail in details[3:]), details
        assert len(bench.started()) == 3
        assert bench.workers.pids == []
    finally:
        bench.pipeline.stop()


def test_one_that_starts_slowly_is_waited_for_by_the_next_message(tmp_path: Path):
    bench = Bench(tmp_path, options={"start": "slow"}, time_limit=2.0)
    try:
        (ran,) = bench.judge("pass").runs
        assert (ran.result, ran.detail) == ("timeout", "its worker process was not ready within 2 s")
        (pid,) = bench.workers.pids
        assert lives(pid), "it goes on starting"
    finally:
        bench.pipeline.stop()
        wait_until(lambda: not lives(pid), 10, "its end")


def test_messages_wait_for_a_free_process_within_their_time(tmp_path: Path):
    import asyncio

    bench = Bench(tmp_path, time_limit=4.0)
    try:
        bench.passes()

        async def two() -> list[Judgement]:
            octets = [f"Subject: {what}\r\n\r\n".encode() for what in ("hang", "pass", "pass")]
            jobs = [bench.pipeline.judge(one, start(), RECORD) for one in octets]
            return await asyncio.gather(*jobs)

        results = [one.runs[0] for one in run(two())]
        assert [one.result for one in results] == ["timeout"] * 3
        assert results[1].detail == "no worker process was free within 4 s"
        assert len(bench.started()) == 1
        bench.passes()
    finally:
        bench.pipeline.stop()


def test_several_judge_at_once(tmp_path: Path):
    import asyncio

    bench = Bench(tmp_path, processes=3)
    try:

        async def many() -> list[Judgement]:
            jobs = [bench.pipeline.judge(b"Subject: pass\r\n\r\nx", start(), RECORD) for _ in range(40)]
            return await asyncio.gather(*jobs)

        pids = {one.runs[0].facts["pid"] for one in run(many())}
        assert 1 <= len(pids) <= 3 and len(bench.workers.pids) <= 3
    finally:
        bench.pipeline.stop()


def test_stopping_leaves_nothing_behind(tmp_path: Path):
    """No process, no zombie, no descriptor; and the plugin's own stop has run."""
    Bench(tmp_path).pipeline.stop()
    before = descriptors()
    bench = Bench(tmp_path)
    pids = [bench.passes()]
    for what in ("crash", "exit", "memory", "lie", "raise"):
        bench.judge(what)
        pids.append(bench.passes())
    bench.pipeline.stop()
    bench.pipeline.stop()
    wait_until(lambda: (tmp_path / f"stopped-{pids[-1]}").exists(), 10, "the plugin's stop")
    wait_until(lambda: not lives(int(pids[-1])), 10, "its end")
    assert not any(lives(int(pid)) for pid in pids)
    wait_until(lambda: descriptors() <= before, 10, "the descriptors")
    assert bench.judge("pass").runs[0].result == "error"


def test_a_busy_one_is_killed_at_a_stop(tmp_path: Path):
    import asyncio

    bench = Bench(tmp_path)
    pid = int(bench.passes())

    async def stopped_meanwhile() -> Judgement:
        judging = asyncio.ensure_future(bench.pipeline.judge(b"Subject: hang\r\n\r\n", start(), RECORD))
        await asyncio.sleep(0.2)
        bench.pipeline.stop()
        return await judging

    assert run(stopped_meanwhile()).outcome.action is Action.DEFER
    assert not lives(pid)


DYING = """
import asyncio, os, signal, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.inspection.test_processes import Bench
bench = Bench(Path({folder!r}))
print(bench.passes(), flush=True)
bench.judge({what!r})
"""


def test_it_dies_with_the_gateway_even_in_the_middle_of_a_message(tmp_path: Path):
    root = str(Path(__file__).resolve().parent.parent.parent)
    for what in ("spin", "hang"):
        code = DYING.format(root=root, folder=str(tmp_path), what=what)
        gateway = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert gateway.stdout is not None
        pid = int(gateway.stdout.readline())
        gateway.kill()
        gateway.wait()
        gateway.stdout.close()
        wait_until(lambda pid=pid: not lives_at_all(pid), 10, "its end")


STOPPING = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.inspection.test_processes import Bench
bench = Bench(Path({folder!r}))
print(bench.passes(), flush=True)
bench.pipeline.stop()
"""


def test_its_own_stop_runs_while_the_gateway_ends(tmp_path: Path):
    root = str(Path(__file__).resolve().parent.parent.parent)
    code = STOPPING.format(root=root, folder=str(tmp_path))
    for _ in range(5):
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert (tmp_path / f"stopped-{ended.stdout.strip()}").exists()


def lives_at_all(pid: int) -> bool:
    """An orphan's zombie is for init to wait for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_wrong_tables(tmp_path: Path):
    path = tmp_path / "on.py"
    path.write_text(PLUGIN.replace("    def inspect", "    async def inspect"))
    wrong = PluginSpec("x", str(path), options={"folder": "x"})
    assert str(check_plugins([wrong])[0]).endswith("in a process of its own: async inspect")
    path.write_text(PLUGIN + "\n    def on_login(self, login, session):\n        return None\n")
    assert str(check_plugins([wrong])[0]).endswith("in a process of its own: on_login")
    path.write_text(PLUGIN)
    more: dict[str, Any]
    for more, place in (
        ({"isolation": "cell"}, "isolation"),
        ({"processes": 0}, "processes"),
        ({"memory_limit": 1000}, "memory_limit"),
    ):
        (problem,) = check_plugins([PluginSpec("x", str(path), options={"folder": "x"}, **more)])
        assert problem.path == (0, place)


def test_the_table_overrules_the_class(tmp_path: Path):
    path = tmp_path / "doing.py"
    path.write_text(PLUGIN)

    def load(**more: Any) -> LoadedPlugin:
        return load_plugins([PluginSpec("x", str(path), options={"folder": "x"}, **more)])[0]

    assert (load().in_process, load().memory_limit) == (True, 256 << 20)
    other = load(isolation="thread", memory_limit=1 << 30)
    assert (other.in_process, other.memory_limit) == (False, 1 << 30)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
PACKED = st.builds(
    lambda edits: json.loads(json.dumps(frames.pack_edits(edits)[0])),
    st.lists(st.builds(Edit, st.integers(-2, 40), st.integers(-2, 40), st.binary(max_size=12)), max_size=4),
)
KEYS = ("verdict", "reason", "edits", "facts", "error", "wrong", "timeout", "memory", "traceback")
NAMES = st.sampled_from(["pass", "modify", "reject", "quarantine", "discard"])


@given(
    st.dictionaries(st.sampled_from(KEYS), JSON)
    | st.fixed_dictionaries({"verdict": NAMES, "edits": PACKED | JSON, "reason": st.text() | JSON}),
    st.binary(max_size=60),
)
def test_no_answer_of_a_worker_does_harm(answer: dict[str, Any], octets: bytes):
    """A verdict that can be laid in, or an error that is told of: whatever a worker answers."""
    message = Message.of(b"Subject: hello\r\n\r\nHello.\r\n")
    try:
        verdict = processes._verdict(json.loads(json.dumps(answer)), octets, message)
    except (TypeError, ValueError, KeyError, TimeoutError, processes.WorkerFailure):
        return
    assert isinstance(verdict, VERDICTS)
    if isinstance(verdict, Modify):
        try:
            assert len(verdict.edits.apply()) == verdict.edits.new_size()
        except EditError:
            pass  # over each other: the pipeline tells of that
    assert all(isinstance(key, str) and isinstance(value, str) for key, value in message.facts.items())
