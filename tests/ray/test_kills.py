"""Killed at random moments, a run ends as if it never was."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

import minimind.checkpoints.checkpoint as checkpoints
from jobs import paths
from jobs.cluster import local as cluster
from jobs.cluster import submit
from jobs.runs.directory import RunDirectory
from minimind.checkpoints import folders as checkpoint_folders
from minimind.checkpoints.manifest import weights_sha256
from minimind.events import metric_series
from tests.conftest import at_home
from tests.ray.killing import driver, kill_cluster, until, until_steps
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
                until_steps(run, attempt, chance.randint(1, 25))
                holder = int((run.path / ".lock").read_text().split()[1])
                if kind == "worker":
                    psutil.Process(holder).kill()
                    continue
                if kind == "driver":
                    driver("killed").kill()
                else:
                    kill_cluster()
                    cluster.ensure()
                until(lambda: not run.is_running, "the run to be free")
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
