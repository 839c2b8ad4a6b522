"""A run's folder: who may write it, what state it is in, and the list of all of them.

The state is computed from two things that cannot disagree with the truth: the lock, which the operating system frees
when the training process dies however it dies, and the last state event. There is no status file. The format is in
docs/run-directory.md.
"""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import functools
import json
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs import paths
from minimind.events import Event, latest_values, read_events
from minimind.language import phrase, say

SCHEMA_VERSION = 1

KILLED = "the process ended without saying so (killed, power, or out of memory)"
CONTINUE = "continue with"

CREATED = "created"
"""Where spec.json keeps what create() adds to what it is given."""

_TAIL_BYTES = 1 << 18  # a failure's event holds a traceback

_FOLDERS = {"run": "runs", "sweep": "sweeps"}

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

_MOST_NAMED = 5
"""Of the runs that could have been meant so many are named."""


class RunStateError(RuntimeError):
    """What was asked for does not go with the state the run is in."""


class RunTakenError(RunStateError):
    """The run is another process's: it holds it, or has created it anew under this name."""


def is_name(name: str) -> bool:
    """Whether a run may be called so."""
    return _NAME.fullmatch(name) is not None


def require_name(name: str) -> str:
    """The name itself, if a run may have it. Raises ValueError that says what is allowed."""
    if not is_name(name):
        raise ValueError(
            say(
                "run name {name!r}: a name has 1 to 100 letters (a-z, A-Z), digits, '-', '_' and '.', "
                "and starts with a letter or digit",
                name=name,
            )
        )
    return name


@dataclass(frozen=True)
class RunState:
    """word: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED. since: unix seconds.

    reason: of a failure, or what a run that is to begin waits for; else "".
    """

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
    """`runs/<name>/`: the folder of one run, which may not exist yet. kind: "run", or "sweep" for `sweeps/<name>/`."""

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
        self._waits_path = self.path / ".waits"
        self._held = False

    @classmethod
    def find(cls, runs: Path, name: str, others: Iterable[str] = ()) -> RunDirectory:
        """The existing run of this name below `runs`. Raises ValueError with the near names if there is none; others:
        of what else could have been meant.
        """
        run = cls(runs / require_name(name))
        if not run.exists:
            names = [*(other.name for other in directories(runs)), *others]
            near = difflib.get_close_matches(name, names, n=3) or [one for one in names if name in one] or names
            shown = ", ".join(near[:_MOST_NAMED]) + (", …" if len(near) > _MOST_NAMED else "")
            hint = say("runs there: {names}", names=shown) if near else say("there is no run yet")
            raise ValueError(say("no run {name!r} at {path}; {hint}", name=name, path=run.path, hint=hint))
        return run

    @property
    def exists(self) -> bool:
        """Whether the run has been created, that is, has its spec.json."""
        return self.spec_path.is_file()

    def create(
        self,
        spec: Mapping[str, Any],
        *,
        overwrite: bool = False,
        sources: Mapping[str, str] | None = None,
        began_with: Mapping[str, Any] | None = None,
    ) -> str:
        """Makes the folder and writes spec.json, once and for all. Gives the run's identity, which no other run has.

        spec: the resolved RunSpec as JSON values. sources: the sha256 of the files that the spec names, by setting.
        began_with: what else there was to begin with, see docs/run-directory.md.
        Raises RunStateError over a run that exists, unless `overwrite` (then the old run is deleted), always over one
        that is running, and RunTakenError where another process creates it at the same time: one of them succeeds.
        """
        require_name(self.name)
        self.require_free(overwrite=overwrite)
        seen = self._created() if self.exists else None
        if seen is not None:
            with self.hold():
                # What is there now may be younger than what was to be overwritten.
                if self._created() != seen:
                    raise RunTakenError(self._taken_text())
                # A number of its own: an older process of the same id may have left its rubbish.
                self.path.rename(self.path.with_name(f".{self.name}.deleted-{os.getpid()}-{secrets.token_hex(4)}"))
        paths.make(self.path)
        with self.hold():
            if self.exists:
                raise RunTakenError(self._taken_text())
            created = {"id": secrets.token_hex(8), "time": time.time(), "sources": dict(sources or {})}
            created |= began_with or {}
            content = {"schema_version": SCHEMA_VERSION, CREATED: created, **spec}
            _write_atomically(self.spec_path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        for rubbish in self.path.parent.glob(f".{self.name}.deleted-*"):
            shutil.rmtree(rubbish, ignore_errors=True)  # another process may be at it too
        return str(created["id"])

    @property
    def identity(self) -> str:
        """What create() gave. "" for a run from before there were identities, and where there is no run."""
        return str(self._created().get("id", ""))

    @property
    def sources(self) -> dict[str, str]:
        """The sha256 of the files that the run was created with, by setting; empty where it was not kept."""
        return dict(self._created().get("sources", {}))

    @property
    def began_with(self) -> dict[str, Any]:
        """What create() was told that there was to begin with; empty of a run from before that was kept."""
        return {name: value for name, value in self._created().items() if name not in ("id", "time", "sources")}

    @property
    def created_s(self) -> float | None:
        """When it was created, in unix seconds; None where that was not kept."""
        time_s = self._created().get("time")
        return float(time_s) if isinstance(time_s, int | float) else None

    def require_identity(self, identity: str) -> None:
        """Raises RunTakenError if the run of this name is not the one that create() gave this identity."""
        if self.identity != identity:
            raise RunTakenError(self._taken_text())

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
            raise ValueError(
                say("{plan_path} cannot be read: {error}", plan_path=self.plan_path, error=error)
            ) from error
        return content

    def require_free(self, *, overwrite: bool = False) -> None:
        """Raises RunStateError if the run exists, unless `overwrite`; over one that is running always; and where a
        sweep has the run's name or the other way round, for what is asked for by name must be one thing.
        """
        other = next(kind for kind in _FOLDERS if kind != self.kind)
        namesake = self.path.parent.parent / _FOLDERS[other] / self.name
        if self.path.parent.name == _FOLDERS[self.kind] and (namesake / "spec.json").is_file():
            raise RunStateError(
                say(
                    "there is a {other} of the name {name!r} ({namesake}): take another one for the {kind} "
                    "with `--name`",
                    other=phrase(other),
                    name=self.name,
                    namesake=namesake,
                    kind=phrase(self.kind),
                )
            )
        if not self.exists:
            return
        self.require_idle()
        if not overwrite:
            raise RunStateError(
                say(
                    "the {kind} {name!r} exists already ({word}, {path}). Continue it with `--from_resume "
                    "1`, take another name with `--name`, or delete it and start afresh with `--overwrite 1`",
                    kind=phrase(self.kind),
                    name=self.name,
                    word=phrase(self.state().word),
                    path=self.path,
                )
            )

    def require_there(self) -> None:
        """Raises ValueError if there is nothing to go on with, RunStateError if a process is at it."""
        if not self.exists:
            raise ValueError(
                say(
                    "no {kind} {name!r} at {path}: to start it, leave --from_resume out",
                    kind=phrase(self.kind),
                    name=self.name,
                    path=self.path,
                )
            )
        self.require_idle()

    def require_idle(self) -> None:
        """Raises RunStateError if a process is training this run."""
        if self.is_running:
            raise RunStateError(self._running_text())

    def spec(self) -> dict[str, Any]:
        """The resolved RunSpec that create() wrote. Raises ValueError if it is not there or not readable."""
        content = self._content()
        content.pop(CREATED, None)
        version = content.pop("schema_version", None)
        if version != SCHEMA_VERSION:
            raise ValueError(
                say(
                    "{spec_path} has schema_version {version!r}; this program reads {schema_version}: use "
                    "the version that wrote it, or start a new run",
                    spec_path=self.spec_path,
                    version=version,
                    schema_version=SCHEMA_VERSION,
                )
            )
        return content

    @contextlib.contextmanager
    def hold(self, patience_s: float = 2.0) -> Iterator[None]:
        """The right to write the run, for one process at a time. The system takes it back when the process dies.

        patience_s: how long to wait for it. Asking is_running takes it for a moment, and a killed process may need
        one to die. Raises RunStateError if another process still has it then.
        """
        deadline = time.monotonic() + patience_s
        while (descriptor := self._locked()) is None:
            if time.monotonic() > deadline:
                raise RunTakenError(self._running_text())
            time.sleep(0.01)
        try:
            self._held = True
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
            yield
        finally:
            self._held = False
            os.close(descriptor)

    def _locked(self) -> int | None:
        """The lock file, open and locked; None where another process has it, or is replacing the folder."""
        try:
            descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            return None
        try:
            # The folder may have been renamed since the file was opened: then its lock keeps nobody out.
            if _try_lock(descriptor, fcntl.LOCK_EX) and _is_at(descriptor, self._lock_path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    @property
    def is_running(self) -> bool:
        """Whether a live process holds the run."""
        if self._held:  # on a network file system to ask for one's own lock is to lose it
            return True
        try:
            descriptor = os.open(self._lock_path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            return not _try_lock(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)

    @property
    def holder(self) -> str:
        """Who holds the run, or was the last to, as "process PID on HOST"; "" where that is not known."""
        try:
            return self._lock_path.read_text("utf-8", "replace")
        except FileNotFoundError:  # nobody was, or its folder is being replaced
            return ""

    @contextlib.contextmanager
    def waiting(self) -> Iterator[Callable[[str], None]]:
        """A block in which the run waits to begin. It is given what takes the words for what it waits for; they go with
        the process. Where another process waits for the same run, its words stand. It only shows something: where it
        cannot, because the folder is gone or the disk is full, the wait goes on.
        """
        try:
            descriptor = os.open(self._waits_path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError:
            yield lambda text: None
            return

        def tell(text: str) -> None:
            deadline = time.monotonic() + 0.2  # who reads it has its lock for a moment
            with contextlib.suppress(OSError):
                while not _try_lock(descriptor, fcntl.LOCK_EX):
                    if time.monotonic() > deadline:
                        return
                    time.sleep(0.01)
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, text.encode(), 0)

        tell("")  # the words of one that was killed
        try:
            yield tell
        finally:
            tell("")
            os.close(descriptor)

    @property
    def waits_for(self) -> str:
        """What a live process that is to train this run waits for; "" where there is none, or it has said nothing."""
        try:
            with self._waits_path.open(encoding="utf-8") as file:
                return "" if _try_lock(file.fileno(), fcntl.LOCK_SH) else file.read()
        except FileNotFoundError:
            return ""

    def state(self) -> RunState:
        """The state the run is in, from its lock and its last state event."""
        return self._state(self.is_running, read_events(self.events_path, {"state"}))

    def request_stop(self) -> None:
        """Asks for a clean stop at the next step. Raises RunStateError unless the run is running."""
        state = self.state()
        if state.word != "RUNNING":
            raise RunStateError(
                say(
                    "the {kind} {name!r} is not running, it is {word}: there is nothing to stop",
                    kind=phrase(self.kind),
                    name=self.name,
                    word=phrase(state.word),
                )
            )
        self.leave_stop()

    def leave_stop(self) -> None:
        """Asks whoever trains the run, or is about to, for a clean stop at the next step."""
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
        states, step, last = _told(self.events_path)
        start: Event = next((event for event in reversed(states) if event["state"] == "RUNNING"), {})
        return RunRow(
            name=self.name,
            stage=self.stage,
            state=self._state(running, states),
            step=step,
            total_steps=start.get("total_steps"),
            loss=last.get("train/loss"),
            bits_per_byte=last.get("val/bits_per_byte"),
            tokens_per_s=last.get("perf/tokens_per_s"),
            peak_memory_bytes=last.get("perf/peak_memory_bytes"),
            updated=self._updated(),
        )

    @property
    def stage(self) -> str:
        """The stage of the run, or of a sweep's trials; "?" where spec.json names none. Raises ValueError."""
        spec = self.spec()
        trained = spec.get("run", {}) if self.kind == "sweep" else spec
        return str(trained.get("stage", {}).get("kind", "?"))

    def began_s(self) -> float | None:
        """When the last attempt to train began, in unix seconds; None if there was none."""
        states = read_events(self.events_path, {"state"})
        return next((float(event["time"]) for event in reversed(states) if event["state"] == "RUNNING"), None)

    def _updated(self) -> float | None:
        """By what the files say; when they were written here says nothing of a copy. None where they have just gone."""
        if (last := _last_time(self.events_path)) is not None:
            return last
        if created := self._created().get("time"):
            return float(created)
        try:
            return self.spec_path.stat().st_mtime
        except FileNotFoundError:
            return None

    def _content(self) -> dict[str, Any]:
        try:
            content = json.loads(self.spec_path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(
                say("{spec_path} cannot be read: {error}", spec_path=self.spec_path, error=error)
            ) from error
        if not isinstance(content, dict):
            raise ValueError(say("{spec_path} cannot be read: it holds no object", spec_path=self.spec_path))
        return content

    def _created(self) -> dict[str, Any]:
        """What create() wrote of itself; empty where there is nothing to read."""
        try:
            created = self._content().get(CREATED, {})
        except ValueError:
            return {}
        return created if isinstance(created, dict) else {}

    def _state(self, running: bool, states: list[Event]) -> RunState:
        last = states[-1] if states else None
        if running:
            return RunState("RUNNING", since=last["time"] if last and last["state"] == "RUNNING" else None)
        if waits := self.waits_for:
            return RunState("PENDING", waits)
        if last is None:
            return RunState("PENDING")
        if last["state"] == "RUNNING":
            return RunState(
                "FAILED",
                f"{KILLED}; {CONTINUE} `--name {self.name} --from_resume 1`",
                last["time"],
            )
        return RunState(last["state"], last.get("reason", ""), last["time"])

    def _taken_text(self) -> str:
        return say(
            "the {kind} {name!r} was created anew by another process just now ({path}): what it trains is not this. "
            "Take another name with `--name`",
            kind=phrase(self.kind),
            name=self.name,
            path=self.path,
        )

    def _running_text(self) -> str:
        holder = self.holder
        if found := re.fullmatch(r"process (\d+) on (.+)", holder):
            holder = say("process {pid} on {host}", pid=found[1], host=found[2])
        return say(
            "the {kind} {name!r} is running already ({holder}). Watch it with `minimind {verb} {name}`, stop it with "
            "`minimind stop {name}`, or start under another name with `--name`",
            kind=phrase(self.kind),
            name=self.name,
            holder=holder or say("another process"),
            verb="show" if self.kind == "run" else "attach",
        )


def list_runs(runs: Path) -> list[RunRow]:
    """All runs below `runs`, the one that wrote last first. One that cannot be read is FAILED, with the reason."""
    rows = []
    for run in directories(runs):
        try:
            rows.append(run.row())
        except ValueError as error:
            rows.append(RunRow(run.name, "?", RunState("FAILED", str(error)), *[None] * 7))
    return sorted(rows, key=lambda row: row.updated or 0.0, reverse=True)


def directories(runs: Path, kind: str = "run") -> list[RunDirectory]:
    """Those below `runs` that have been created, by name."""
    if not runs.is_dir():
        return []
    found = (RunDirectory(path, kind) for path in sorted(runs.iterdir()) if not path.name.startswith("."))
    return [run for run in found if run.exists]


def _last_time(events: Path) -> float | None:
    """The time of the last whole event of a file."""
    try:
        with events.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = file.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return None
    for line in reversed(lines):
        try:
            return float(json.loads(line)["time"])
        except (ValueError, TypeError, KeyError):
            continue
    return None


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is the one that lies at `path` now."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    mine = os.fstat(descriptor)
    return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)


def _told(path: Path) -> tuple[list[Event], int | None, dict[str, float]]:
    """The state events of a run, its step and its newest numbers. A server lists runs again and again: a file that has
    not changed is not read again.
    """
    try:
        now = path.stat()
    except FileNotFoundError:
        return [], None, {}
    return _read_told(path, now.st_ino, now.st_size, now.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _read_told(path: Path, *_as_of: int) -> tuple[list[Event], int | None, dict[str, float]]:
    shown = ("train/loss", "val/bits_per_byte", "perf/tokens_per_s", "perf/peak_memory_bytes")
    return read_events(path, {"state"}), *latest_values(path, shown)


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
