"""A run's folder: who may write it, what state it is in, and the list of all of them.

The state is computed from two things that cannot disagree with the truth: the lock, which the operating system frees
when the training process dies however it dies, and the last state event. There is no status file. The format is in
docs/run-directory.md.
"""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minimind.events import Event, latest_values, read_events

SCHEMA_VERSION = 1

KILLED = "the process ended without saying so (killed, power, or out of memory)"
CONTINUE = "continue with"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class RunStateError(RuntimeError):
    """What was asked for does not go with the state the run is in."""


def require_name(name: str) -> str:
    """The name itself, if a run may have it. Raises ValueError that says what is allowed."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"run name {name!r}: a name has 1 to 100 letters (a-z, A-Z), digits, '-', '_' and '.', and starts with a "
            f"letter or digit"
        )
    return name


@dataclass(frozen=True)
class RunState:
    """word: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED. reason: of a failure, else "". since: unix seconds."""

    word: str
    reason: str = ""
    since: float | None = None


@dataclass(frozen=True)
class RunRow:
    """One run as `minimind runs` lists it. A number is None as long as the run has not written it.

    updated: unix seconds of the last event.
    """

    name: str
    stage: str
    state: RunState
    step: int | None
    total_steps: int | None
    loss: float | None
    bits_per_byte: float | None
    tokens_per_s: float | None
    peak_memory_bytes: float | None
    updated: float | None


class RunDirectory:
    """`runs/<run_id>/`: the folder of one run, which may not exist yet. kind: what it is called, "run" or "sweep"."""

    def __init__(self, path: Path, kind: str = "run") -> None:
        self.path = path.absolute()
        self.kind = kind
        self.name = path.name
        self.spec_path = self.path / "spec.json"
        self.events_path = self.path / "events.jsonl"
        self.samples_path = self.path / "samples.jsonl"
        self.plan_path = self.path / "plan.json"
        self.checkpoints = self.path / "checkpoints"
        self._stop_path = self.path / "STOP"
        self._lock_path = self.path / ".lock"

    @classmethod
    def find(cls, runs: Path, name: str) -> RunDirectory:
        """The existing run of this name below `runs`. Raises ValueError with the near names if there is none."""
        run = cls(runs / require_name(name))
        if not run.exists:
            names = [other.name for other in _directories(runs)]
            near = difflib.get_close_matches(name, names, n=3) or names[:5]
            hint = f"runs there: {', '.join(near)}" if near else "there is no run yet"
            raise ValueError(f"no run {name!r} at {run.path}; {hint}")
        return run

    @property
    def exists(self) -> bool:
        """Whether the run has been created, that is, has its spec.json."""
        return self.spec_path.is_file()

    def create(self, spec: Mapping[str, Any], *, overwrite: bool = False) -> None:
        """Makes the folder and writes spec.json, once and for all.

        spec: the resolved RunSpec as JSON values. Raises RunStateError over a run that exists, unless `overwrite`
        (then the old run is deleted), and always over one that is running.
        """
        require_name(self.name)
        self.require_free(overwrite=overwrite)
        if self.exists:
            with self.hold():
                self.path.rename(self.path.with_name(f".{self.name}.deleted-{os.getpid()}"))
            for rubbish in self.path.parent.glob(f".{self.name}.deleted-*"):
                shutil.rmtree(rubbish)
        self.path.mkdir(parents=True, exist_ok=True)
        with self.hold():
            if self.exists:  # someone else was quicker
                raise RunStateError(
                    f"the {self.kind} {self.name!r} was created by another process just now ({self.path})"
                )
            content = json.dumps({"schema_version": SCHEMA_VERSION, **spec}, indent=2, ensure_ascii=False) + "\n"
            _write_atomically(self.spec_path, content)

    def write_plan(self, plan: Mapping[str, Any]) -> None:
        """Keeps the memory plan of the attempt that begins now."""
        _write_atomically(self.plan_path, json.dumps(plan, indent=2, ensure_ascii=False) + "\n")

    def plan(self) -> dict[str, Any] | None:
        """The memory plan of the last attempt; None for a run that has none. Raises ValueError if it cannot be read."""
        if not self.plan_path.exists():
            return None
        try:
            content: dict[str, Any] = json.loads(self.plan_path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.plan_path} cannot be read: {error}") from error
        return content

    def require_free(self, *, overwrite: bool = False) -> None:
        """Raises RunStateError if the run exists, unless `overwrite`; over one that is running always."""
        if not self.exists:
            return
        self.require_idle()
        if not overwrite:
            raise RunStateError(
                f"the {self.kind} {self.name!r} exists already ({self.state().word}, {self.path}). Continue it with "
                f"`--from_resume 1`, take another name with `--name`, or delete it and start afresh with "
                f"`--overwrite 1`"
            )

    def require_idle(self) -> None:
        """Raises RunStateError if a process is training this run."""
        if self.is_running:
            raise RunStateError(self._running_text())

    def spec(self) -> dict[str, Any]:
        """The resolved RunSpec that create() wrote. Raises ValueError if it is not there or not readable."""
        try:
            content: dict[str, Any] = json.loads(self.spec_path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.spec_path} cannot be read: {error}") from error
        version = content.pop("schema_version", None)
        if version != SCHEMA_VERSION:
            raise ValueError(
                f"{self.spec_path} has schema_version {version!r}; this program reads {SCHEMA_VERSION}: use the "
                f"version that wrote it, or start a new run"
            )
        return content

    @contextlib.contextmanager
    def hold(self, patience_s: float = 2.0) -> Iterator[None]:
        """The right to write the run, for one process at a time. The system takes it back when the process dies.

        patience_s: how long to wait for it. Asking is_running takes it for a moment, and a killed process may need
        one to die. Raises RunStateError if another process still has it then.
        """
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            deadline = time.monotonic() + patience_s
            while not _try_lock(descriptor, fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    raise RunStateError(self._running_text())
                time.sleep(0.01)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    @property
    def is_running(self) -> bool:
        """Whether a live process holds the run."""
        try:
            descriptor = os.open(self._lock_path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            return not _try_lock(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)

    def state(self) -> RunState:
        """The state the run is in, from its lock and its last state event."""
        return self._state(self.is_running, read_events(self.events_path, {"state"}))

    def request_stop(self) -> None:
        """Asks for a clean stop at the next step. Raises RunStateError unless the run is running."""
        state = self.state()
        if state.word != "RUNNING":
            raise RunStateError(f"the run {self.name!r} is not running, it is {state.word}: there is nothing to stop")
        self._stop_path.touch()

    def stop_requested(self) -> bool:
        """Whether a clean stop has been asked for."""
        return self._stop_path.exists()

    def clear_stop(self) -> None:
        """Forgets an older request to stop: for whoever starts or continues the run."""
        self._stop_path.unlink(missing_ok=True)

    def row(self) -> RunRow:
        """What `minimind runs` shows of this run."""
        running = self.is_running
        states = read_events(self.events_path, {"state"})
        step, last = latest_values(
            self.events_path, ("train/loss", "val/bits_per_byte", "perf/tokens_per_s", "perf/peak_memory_bytes")
        )
        start: Event = next((event for event in reversed(states) if event["state"] == "RUNNING"), {})
        return RunRow(
            name=self.name,
            stage=str(self.spec().get("stage", {}).get("kind", "?")),
            state=self._state(running, states),
            step=step,
            total_steps=start.get("total_steps"),
            loss=last.get("train/loss"),
            bits_per_byte=last.get("val/bits_per_byte"),
            tokens_per_s=last.get("perf/tokens_per_s"),
            peak_memory_bytes=last.get("perf/peak_memory_bytes"),
            updated=self.events_path.stat().st_mtime if self.events_path.exists() else self.spec_path.stat().st_mtime,
        )

    def _state(self, running: bool, states: list[Event]) -> RunState:
        last = states[-1] if states else None
        if running:
            return RunState("RUNNING", since=last["time"] if last and last["state"] == "RUNNING" else None)
        if last is None:
            return RunState("PENDING")
        if last["state"] == "RUNNING":
            return RunState(
                "FAILED",
                f"{KILLED}; {CONTINUE} `--name {self.name} --from_resume 1`",
                last["time"],
            )
        return RunState(last["state"], last.get("reason", ""), last["time"])

    def _running_text(self) -> str:
        holder = self._lock_path.read_text("utf-8", "replace") or "another process"
        return (
            f"the {self.kind} {self.name!r} is running already ({holder}). Watch it with `minimind "
            f"{'show' if self.kind == 'run' else 'attach'} {self.name}`, stop it with `minimind stop {self.name}`, or "
            f"start under another name with `--name`"
        )


def list_runs(runs: Path) -> list[RunRow]:
    """All runs below `runs`, the one that wrote last first. One that cannot be read is FAILED, with the reason."""
    rows = []
    for run in _directories(runs):
        try:
            rows.append(run.row())
        except ValueError as error:
            rows.append(RunRow(run.name, "?", RunState("FAILED", str(error)), *[None] * 7))
    return sorted(rows, key=lambda row: row.updated or 0.0, reverse=True)


def program() -> dict[str, str]:
    """Which program this is, for a RUNNING event: the commit, and a hash of the sources for where there is none."""
    return {"commit": _commit(), "source": _source_sha256()[:12]}


def _directories(runs: Path) -> list[RunDirectory]:
    if not runs.is_dir():
        return []
    found = (RunDirectory(path) for path in sorted(runs.iterdir()) if not path.name.startswith("."))
    return [run for run in found if run.exists]


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_atomically(path: Path, content: str) -> None:
    temporary = path.with_name(f"{path.name}.partial")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def _source_sha256() -> str:
    """Of the program's own files: says whether two runs ran the same program, also where there is no .git."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for package in ("data", "jobs", "minimind", "tune_spaces"):
        for file in sorted((root / package).rglob("*.py")):
            content = file.read_bytes()
            digest.update(f"{file.relative_to(root).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _commit() -> str:
    """The checkout's commit, "+changes" if files differ from it; "unknown" where there is no .git, as in Ray's copy."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+changes", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
