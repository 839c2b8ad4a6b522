"""Killed at random moments, a run ends as if it never was."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch

import minimind.checkpoints.checkpoint as checkpoints
from jobs import paths
from jobs.cluster import local as cluster
from jobs.cluster import processes, submit
from jobs.runs.directory import RunDirectory
from minimind.checkpoints import folders as checkpoint_folders
from minimind.checkpoints.manifest import weights_sha256
from minimind.events import metric_series, read_events
from tests.conftest import at_home
from tests.small import small_flags

KILLS = ("worker", "driver", "worker", "everything", "worker", "worker", "driver", "everything", "worker", "worker")


@pytest.mark.timeout(600)
def test_killed_at_random_moments_it_ends_as_if_it_never_was(tmp_path: Path) -> None:
    home = tmp_path / "home"
    settings = small_flags(
        name=None,
        loop__epochs=40,
        loop__max_steps=700,
        loop__save_interval=9,
        loop__eval_interval=None,
        scaling__workers=None,
        scaling__cpus_per_worker=1,
    )
    reference = home / "runs" / "reference"
    with at_home(home):
        subprocess.run(
            [sys.executable, "-m", "jobs", "train", "pretrain", *settings, "--name", "reference", "--workers", "0"],
            cwd=paths.checkout(),
            check=True,
            capture_output=True,
            timeout=280,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        chance = random.Random(20261124)
        run = RunDirectory(home / "runs" / "killed")
        argv = ["train", "pretrain", *settings, "--name", "killed", "--workers", "1"]
        again = ["train", "pretrain", "--name", "killed", "--from_resume", "1", "--set", "scaling.max_failures=20"]
        try:
            cluster.ensure()
            submission = submit.submit("killed", [*argv, "--set", "scaling.max_failures=20"])
            for attempt, kind in enumerate(KILLS, start=1):
                _wait_for_steps(run, attempt, chance.randint(1, 25))
                holder = int((run.path / ".lock").read_text().split()[1])
                if kind == "worker":
                    psutil.Process(holder).kill()
                    continue
                if kind == "driver":
                    _driver().kill()
                else:
                    _kill_cluster()
                    cluster.ensure()
                _until(lambda: not run.is_running, "the run to be free")
                submission = submit.submit("killed", again)
            log: list[str] = []
            assert submit.follow(submission, log.append) == "SUCCEEDED", "".join(log)
        finally:
            cluster.stop()
    steps = checkpoint_folders.steps(run.checkpoints)
    assert steps[-1] == 700 == checkpoint_folders.steps(reference / "checkpoints")[-1]
    ends = [checkpoint_folders.folder_of(root, 700) for root in (run.checkpoints, reference / "checkpoints")]
    assert weights_sha256(ends[0]) == weights_sha256(ends[1])
    _assert_same(*(checkpoints.load(folder).train_state for folder in ends))
    assert metric_series(run.events_path, "train/loss") == metric_series(reference / "events.jsonl", "train/loss")


def _wait_for_steps(run: RunDirectory, attempt: int, count: int) -> None:
    """Until attempt number `attempt` has made `count` steps."""

    def there() -> bool:
        events = read_events(run.events_path)
        starts = [index for index, event in enumerate(events) if event.get("state") == "RUNNING"]
        return len(starts) == attempt and len(events) - starts[-1] > count

    _until(there, f"step {count} of attempt {attempt}")


def _until(true: Callable[[], bool], what: str, within_s: float = 180) -> None:
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, f"waited {within_s} s for {what}"
        time.sleep(0.02)


def _driver() -> psutil.Process:
    """The process that Ray Jobs started, of this cluster and no other."""
    for process in processes.marked(json.loads(cluster.state_path().read_text())["mark"]):
        command = process.info["cmdline"] or []
        if command[:1] and "python" in command[0] and "jobs" in command and "killed" in command:
            return process
    raise AssertionError("no driver process found")


def _kill_cluster() -> None:
    """What `ray stop --force` does, for this cluster alone."""
    for process in processes.family(json.loads(cluster.state_path().read_text())["mark"]):
        with suppress(psutil.NoSuchProcess):  # some end with the first
            process.kill()


def _assert_same(left: object, right: object) -> None:
    if isinstance(left, dict) and isinstance(right, dict):
        assert left.keys() == right.keys()
        for key in left:
            _assert_same(left[key], right[key])
    elif isinstance(left, list | tuple) and isinstance(right, list | tuple):
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            _assert_same(one, other)
    elif isinstance(left, torch.Tensor):
        assert isinstance(right, torch.Tensor)
        assert torch.equal(left, right)
    else:
        assert left == right
