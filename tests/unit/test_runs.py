from __future__ import annotations

import fcntl
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobs import paths
from jobs.cluster import local as cluster
from jobs.runs import directory as runs
from jobs.runs.directory import (
    RunDirectory,
    RunRow,
    RunState,
    RunStateError,
    RunTakenError,
    list_runs,
    require_name,
)
from minimind.events import EventLog, read_events

SPEC: dict[str, Any] = {"name": "first", "seed": 42, "stage": {"kind": "pretrain"}}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    found = RunDirectory(tmp_path / "runs" / "first")
    found.create(SPEC)
    return found


def write(run: RunDirectory, *states: str, step: int = 0) -> None:
    with run.hold(), EventLog(run.events_path) as log:
        for word in states:
            log.state(word, **({"step": step, "total_steps": 10} if word == "RUNNING" else {}))


@pytest.mark.parametrize("name", ["a", "pretrain-2", "My.Run_3", "x" * 100])
def test_names_that_are_allowed(name: str) -> None:
    assert require_name(name) == name


@pytest.mark.parametrize("name", ["", ".hidden", "-flag", "a/b", "..", "a b", "预训练", "a\n", "x" * 101])
def test_names_that_are_refused_with_the_rule(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"run name .*letters.*digits, '-', '_' and '\.'"):
        require_name(name)
    with pytest.raises(ValueError, match="run name"):
        RunDirectory.find(tmp_path, name)


def test_create_writes_the_spec_once(run: RunDirectory) -> None:
    assert run.exists
    assert run.spec() == SPEC
    assert sorted(path.name for path in run.path.iterdir()) == [".lock", "spec.json"]
    with pytest.raises(RunStateError, match="exists already") as caught:
        run.create({**SPEC, "seed": 1})
    assert all(hint in str(caught.value) for hint in ("--from_resume 1", "--name", "--overwrite 1", str(run.path)))
    assert run.spec() == SPEC


def test_create_takes_a_folder_that_somebody_made_without_a_spec(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "first")
    run.path.mkdir()
    (run.path / "spec.json.partial").write_text("half")
    run.create(SPEC)
    assert run.spec() == SPEC


def test_overwrite_deletes_the_old_run(run: RunDirectory) -> None:
    (run.checkpoints / "step_00000001").mkdir(parents=True)
    (run.path.parent / ".first.deleted-1" / "rest").mkdir(parents=True)
    write(run, "RUNNING", "SUCCEEDED")
    run.create({**SPEC, "seed": 1}, overwrite=True)
    assert run.spec()["seed"] == 1
    assert run.state() == RunState("PENDING")
    assert sorted(path.name for path in run.path.iterdir()) == [".lock", "spec.json"]
    assert [path.name for path in run.path.parent.iterdir()] == ["first"]


def test_a_running_run_is_neither_overwritten_nor_started_again(run: RunDirectory) -> None:
    with run.hold():
        running = f"'first' is running already.*process {os.getpid()} on.*minimind stop first"
        for overwrite in (False, True):
            with pytest.raises(RunStateError, match=running):
                run.create(SPEC, overwrite=overwrite)
        with pytest.raises(RunStateError, match=running):
            run.require_idle()
        with pytest.raises(RunStateError, match="is running already"), run.hold(patience_s=0.0):
            pass
    run.require_idle()
    with run.hold(patience_s=0.0):
        pass


def test_require_free(run: RunDirectory, tmp_path: Path) -> None:
    RunDirectory(tmp_path / "new").require_free()
    run.require_free(overwrite=True)
    with pytest.raises(RunStateError, match="exists already"):
        run.require_free()


def test_a_starter_waits_while_others_only_look(run: RunDirectory) -> None:
    """A looker holds the lock for a moment; the starter must not take it for a running process."""
    looking = os.open(run.path / ".lock", os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    timer = threading.Timer(0.05, os.close, [looking])
    timer.start()
    with run.hold(patience_s=30.0):
        timer.join()
        assert run.is_running


def test_a_lock_dies_with_its_process_however_it_dies(run: RunDirectory) -> None:
    program = (
        "import sys, pathlib; from jobs.runs.directory import RunDirectory\n"
        "from minimind.events import EventLog, read_events\n"
        "run = RunDirectory(pathlib.Path(sys.argv[1]))\n"
        "with run.hold(), EventLog(run.events_path) as log:\n"
        "    log.state('RUNNING', step=0, total_steps=10); log.metrics(3, {'train/loss': 2.0})\n"
        "    print('ready', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(run.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        assert run.state().word == "RUNNING"
        with pytest.raises(RunStateError, match=f"process {child.pid} on"):
            run.create(SPEC, overwrite=True)
        child.send_signal(signal.SIGKILL)
    assert not run.is_running
    state = run.state()
    assert state.word == "FAILED"
    assert "ended without saying so" in state.reason
    assert "--name first --from_resume 1" in state.reason
    write(run, "RUNNING", step=2)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ((), "PENDING"),
        (("PENDING",), "PENDING"),
        (("RUNNING",), "FAILED"),
        (("RUNNING", "SUCCEEDED"), "SUCCEEDED"),
        (("RUNNING", "STOPPED"), "STOPPED"),
        (("RUNNING", "FAILED"), "FAILED"),
        (("RUNNING", "FAILED", "PENDING"), "PENDING"),
        (("RUNNING", "FAILED", "RUNNING", "SUCCEEDED"), "SUCCEEDED"),
    ],
)
def test_the_state_without_a_process(run: RunDirectory, states: tuple[str, ...], expected: str) -> None:
    write(run, *states)
    assert run.state().word == expected
    with run.hold():
        assert run.state().word == "RUNNING"


def test_a_failure_keeps_its_reason(run: RunDirectory) -> None:
    with EventLog(run.events_path, lambda: 5.0) as log:
        log.state("FAILED", reason="the loss is not a number")
    assert run.state() == RunState("FAILED", "the loss is not a number", 5.0)


def test_stop_is_asked_for_seen_and_forgotten(run: RunDirectory) -> None:
    with pytest.raises(RunStateError, match="'first' is not running, it is PENDING: there is nothing to stop"):
        run.request_stop()
    with run.hold():
        assert not run.stop_requested()
        run.request_stop()
        assert run.stop_requested()
        assert (run.path / "STOP").exists()
        run.clear_stop()
        assert not run.stop_requested()
        run.clear_stop()


def test_find_names_the_near_runs_and_the_place(run: RunDirectory, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    assert RunDirectory.find(runs, "first").path == run.path
    with pytest.raises(ValueError, match=rf"no run 'frist' at {runs}/frist; runs there: first"):
        RunDirectory.find(runs, "frist")
    with pytest.raises(ValueError, match="there is no run yet"):
        RunDirectory.find(tmp_path / "nowhere", "first")


def test_a_spec_that_cannot_be_read_is_named(run: RunDirectory) -> None:
    run.spec_path.write_text('{"schema_version": 7}')
    with pytest.raises(ValueError, match=r"spec\.json has schema_version 7; this program reads 1"):
        run.spec()
    run.spec_path.write_text("{")
    with pytest.raises(ValueError, match=r"spec\.json cannot be read"):
        run.spec()


def test_a_plan_is_kept_and_read(run: RunDirectory) -> None:
    write(run)
    assert run.plan() is None
    run.write_plan({"verdict": "fits"})
    run.write_plan({"verdict": "tight"})
    assert run.plan() == {"verdict": "tight"}
    run.plan_path.write_text("{")
    with pytest.raises(ValueError, match=r"plan\.json cannot be read"):
        run.plan()


def test_the_list_has_the_newest_values_and_the_latest_writer_first(run: RunDirectory, tmp_path: Path) -> None:
    other = RunDirectory(tmp_path / "runs" / "second")
    other.create({"name": "second", "stage": {"kind": "pretrain"}})
    content = json.loads(other.spec_path.read_text())
    content["created"]["time"] = 1.0
    other.spec_path.write_text(json.dumps(content))
    (tmp_path / "runs" / "not-a-run").mkdir()
    with run.hold(), EventLog(run.events_path) as log:
        log.state("RUNNING", step=0, total_steps=10)
        log.metrics(4, {"train/loss": 2.5, "perf/tokens_per_s": 100.0, "perf/peak_memory_bytes": 1e9})
        log.metrics(4, {"val/bits_per_byte": 1.5})
        rows = list_runs(tmp_path / "runs")
    assert [row.name for row in rows] == ["first", "second"]
    first = rows[0]
    assert first == RunRow("first", "pretrain", first.state, 4, 10, 2.5, 1.5, 100.0, 1e9, first.updated)
    assert first.state.word == "RUNNING"
    assert rows[1] == RunRow("second", "pretrain", RunState("PENDING"), None, None, None, None, None, None, 1.0)
    assert list_runs(tmp_path / "nowhere") == []


def test_one_unreadable_run_does_not_hide_the_others(run: RunDirectory, tmp_path: Path) -> None:
    broken = RunDirectory(tmp_path / "runs" / "broken")
    broken.create(SPEC)
    broken.spec_path.write_text("{")
    rows = {row.name: row for row in list_runs(tmp_path / "runs")}
    assert rows["first"].state.word == "PENDING"
    assert rows["broken"].state.word == "FAILED"
    assert "spec.json cannot be read" in rows["broken"].state.reason


def test_a_run_says_what_it_waits_for_as_long_as_its_process_lives(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "runs" / "second")
    run.create(SPEC)
    # Another process: on a network file system one's own lock is lost when it is asked for.
    program = (
        "import sys; from pathlib import Path; from jobs.runs.directory import RunDirectory\n"
        "with RunDirectory(Path(sys.argv[1])).waiting() as tell:\n"
        "    tell('a longer text'); tell('for first'); print('told', flush=True); sys.stdin.read()"
    )
    for how in ("ends", "is killed"):
        waiting = subprocess.Popen(
            [sys.executable, "-c", program, str(run.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "told\n"
        assert (run.state().word, run.state().reason) == ("PENDING", "for first")
        if how == "is killed":
            waiting.kill()
        waiting.communicate(timeout=60)
        assert (run.state().word, run.state().reason) == ("PENDING", "")


def test_who_no_longer_waits_leaves_the_words_of_who_still_does(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "runs" / "second")
    run.create(SPEC)
    program = (
        "import sys; from pathlib import Path; from jobs.runs.directory import RunDirectory\n"
        "with RunDirectory(Path(sys.argv[1])).waiting() as tell:\n"
        "    tell(sys.argv[2]); print('told', flush=True); sys.stdin.read()"
    )

    def wait(words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", program, str(run.path), words]
        waiting = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "told\n"
        return waiting

    first = wait("first")
    wait("second").communicate(timeout=60)
    assert run.waits_for == "first"
    run.create(SPEC, overwrite=True)
    anew = wait("anew")
    first.communicate(timeout=60)
    assert run.waits_for == "anew"
    anew.communicate(timeout=60)
    assert run.waits_for == ""


def test_a_run_waits_also_where_that_cannot_be_shown(tmp_path: Path) -> None:
    gone, full = RunDirectory(tmp_path / "gone"), RunDirectory(tmp_path / "full")
    full.path.mkdir()
    (full.path / ".waits").symlink_to("/dev/full")
    for run in (gone, full):
        with run.waiting() as tell:
            tell("for room")
        assert run.waits_for == ""


def test_the_error_pickles() -> None:
    error = pickle.loads(pickle.dumps(RunStateError("why")))
    assert isinstance(error, RunStateError)
    assert str(error) == "why"


def _create(path: Path, who: int, barrier: threading.Barrier, said: list[tuple[int, str]]) -> None:
    run = RunDirectory(path)
    barrier.wait()
    try:
        identity = run.create({**SPEC, "seed": who}, overwrite=True)
        said.append((who, identity))
    except RunStateError as error:
        said.append((who, str(error)))


@pytest.mark.parametrize("old", [True, False])
def test_of_those_that_create_a_run_together_one_does_and_the_others_are_told(tmp_path: Path, old: bool) -> None:
    for number in range(60):
        path = tmp_path / str(number)
        if old:
            RunDirectory(path).create({**SPEC, "seed": 99})
        barrier, said = threading.Barrier(3), list[tuple[int, str]]()
        threads = [threading.Thread(target=_create, args=(path, who, barrier, said)) for who in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        run = RunDirectory(path)
        made = [(who, text) for who, text in said if "'" not in text]
        # One that comes after another has ended overwrites it, as it was asked to: the last one counts.
        assert (run.spec()["seed"], run.identity) in made
        for who, text in said:
            assert (who, text) in made or "just now" in text or "running already" in text, text
    assert not list(tmp_path.glob(".*"))


class Late(RunDirectory):
    """One that another process is a moment ahead of, when it takes the lock."""

    ahead = False

    @contextmanager
    def hold(self, patience_s: float = 2.0) -> Iterator[None]:
        if not self.ahead:
            self.ahead = True
            RunDirectory(self.path).create({**SPEC, "seed": 2}, overwrite=True)
        with super().hold(patience_s):
            yield


def test_a_run_that_was_created_anew_meanwhile_is_not_overwritten(run: RunDirectory) -> None:
    for late in (Late(run.path), Late(run.path.with_name("other"))):
        with pytest.raises(RunTakenError, match="created anew by another process just now"):
            late.create({**SPEC, "seed": 1}, overwrite=True)
        assert late.spec()["seed"] == 2


def test_a_lock_whose_folder_is_gone_keeps_nobody_out_and_is_not_had(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is replaced between the opening of the lock file and the lock."""
    lock, replaced = runs._try_lock, list[Path]()

    def locked(descriptor: int, kind: int) -> bool:
        if not replaced:
            replaced.append(run.path.rename(run.path.with_name(".first.deleted-1")))
            run.path.mkdir()
        return lock(descriptor, kind)

    monkeypatch.setattr(runs, "_try_lock", locked)
    with run.hold():
        assert replaced
        with pytest.raises(RunTakenError, match="is running already"), RunDirectory(run.path).hold(0.0):
            pass
    with run.hold():
        run.path.rename(run.path.with_name(".first.deleted-2"))
        with pytest.raises(RunTakenError), RunDirectory(run.path).hold(0.0):
            pass


def test_every_run_has_an_identity_and_knows_its_files(run: RunDirectory) -> None:
    other = RunDirectory(run.path.with_name("second"))
    assert other.identity == ""
    identity = other.create(SPEC, sources={"data.path": "abc"})
    assert other.identity == identity != run.identity != ""
    assert (other.sources, run.sources) == ({"data.path": "abc"}, {})
    other.require_identity(identity)
    other.create(SPEC, overwrite=True)
    with pytest.raises(RunTakenError, match="created anew by another process"):
        other.require_identity(identity)
    content = json.loads(run.spec_path.read_text())
    del content["created"]
    run.spec_path.write_text(json.dumps(content))
    assert (run.identity, run.sources, run.spec()) == ("", {}, SPEC)  # from before there were identities
    run.create({**SPEC, "seed": 7}, overwrite=True)
    assert run.spec()["seed"] == 7


def test_a_run_and_a_sweep_have_different_names(tmp_path: Path) -> None:
    run, sweep = RunDirectory(tmp_path / "runs" / "one"), RunDirectory(tmp_path / "sweeps" / "one", "sweep")
    run.create(SPEC)
    with pytest.raises(
        RunStateError, match="there is a run of the name 'one'.*another one for the sweep with `--name`"
    ):
        sweep.create({}, overwrite=True)
    sweep.path.with_name("two").mkdir(parents=True)
    RunDirectory(tmp_path / "sweeps" / "two", "sweep").create({})
    with pytest.raises(RunStateError, match="there is a sweep of the name 'two'"):
        RunDirectory(tmp_path / "runs" / "two").create(SPEC)


def test_a_copy_of_a_run_is_as_old_as_the_run(run: RunDirectory) -> None:
    created = run.row().updated
    with run.hold(), EventLog(run.events_path, lambda: 1234.0) as log:
        log.state("RUNNING", step=0, total_steps=10)
    os.utime(run.events_path)
    assert run.row().updated == 1234.0
    run.events_path.unlink()
    os.utime(run.spec_path, (1, 1))
    assert run.row().updated == created
    assert created is not None
    assert created > 1e9


def test_who_holds_a_run_knows_it_without_asking_the_system(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """On NFS to ask for a lock that this process has is to change it."""
    with run.hold():
        monkeypatch.setattr(runs, "_try_lock", lambda *_: pytest.fail("asked"))
        assert run.is_running
        assert run.state().word == "RUNNING"


def test_a_list_reads_again_only_what_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        run = RunDirectory(tmp_path / name)
        run.create({**SPEC, "name": name})
        write(run, "RUNNING", "SUCCEEDED", step=3)
    before = list_runs(tmp_path)
    read: list[str] = []

    def noted(path: Path, types: Any = None) -> Any:
        read.append(path.parent.name)
        return read_events(path, types)

    monkeypatch.setattr("jobs.runs.directory.read_events", noted)
    assert list_runs(tmp_path) == before
    assert read == []
    write(RunDirectory(tmp_path / "b"), "FAILED")
    assert {row.name: row.state.word for row in list_runs(tmp_path)} == {"a": "SUCCEEDED", "b": "FAILED"}
    assert read == ["b"]


def test_a_run_that_goes_while_it_is_looked_at_is_no_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may create it anew between two looks: what the first has seen is not there for the second."""
    run = RunDirectory(paths.runs() / "x")
    run.create({"stage": {"kind": "sft"}})
    (run.path / ".lock").unlink()
    monkeypatch.setattr(RunDirectory, "is_running", True)
    assert cluster.running({os.getpid()}) == []
    real = RunDirectory.spec

    def last_look(self: RunDirectory) -> dict[str, Any]:
        content = real(self)
        self.spec_path.unlink()
        return content

    monkeypatch.setattr(RunDirectory, "spec", last_look)
    (row,) = list_runs(paths.runs())
    assert (row.name, row.updated) == ("x", None)
