"""Training on a real cluster: the literal command line, two workers, and kills at random moments."""

from __future__ import annotations

import gzip
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

import minimind.checkpoint as checkpoints
from jobs import cluster, paths, processes, submit
from jobs.cluster import Cluster
from jobs.runs import RunDirectory
from minimind.events import metric_series, read_events
from tests.conftest import at_home

SAMPLES = paths.checkout() / "data" / "samples" / "pretrain.jsonl"

SMALL = [
    *("--model", "tiny", "--hidden_size", "32", "--num_hidden_layers", "2", "--max_seq_len", "64", "--batch_size", "4"),
    *("--set", "model.vocab_size=600", "--set", "scaling.cpus_per_worker=1"),
    *("--set", "eval.sample_tokens=4", "--log_interval", "1"),
]
"""A model that trains a step in hundredths of a second."""


def ray_job(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`ray job submit --working-dir . -- python -m jobs ARGUMENTS`, typed as in the handbook."""
    there = cluster.find()
    assert there is not None
    ray = str(Path(sys.executable).with_name("ray"))
    command = [ray, "job", "submit", "--working-dir", ".", "--", "python", "-m", "jobs", *arguments]
    return subprocess.run(
        command,
        cwd=paths.checkout(),
        env={**cluster.environment(there), "PATH": "/usr/bin:/bin", "HOME": str(home), "MINIMIND_HOME": str(home)},
        capture_output=True,
        check=False,
        text=True,
        timeout=280,
    )


def test_the_handbooks_lines_train_and_resume(ray_home: Path, ray_cluster: Cluster) -> None:
    # A file as upstream MiniMind publishes it, where the handbook puts it.
    (ray_home / "data").mkdir(exist_ok=True)
    with gzip.open(ray_home / "data" / "pretrain_hq.jsonl.gz", "wt", encoding="utf-8") as file:
        for number in range(60):
            text = f"<|im_start|>第{number}天，今天天气很好，我们去公园散步。Day {number} was fine.<|im_end|>"
            file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    flags = [*SMALL, "--max_seq_len", "32", "--dtype", "float16", "--num_workers", "2", "--name", "handbook"]
    batch = ["--batch_size", "2", "--accumulation_steps", "2", "--data_path", "data/pretrain_hq.jsonl.gz"]

    first = ray_job(ray_home, "train", "pretrain", *flags, *batch, "--save_interval", "2")
    assert first.returncode == 0, first.stdout + first.stderr
    run = RunDirectory.find(paths.runs(), "handbook")
    assert run.state().word == "SUCCEEDED"
    assert (run.path / "tensorboard").is_dir()

    again = ray_job(ray_home, "train", "pretrain", "--name", "handbook")
    assert again.returncode != 0
    assert "exists already" in again.stdout
    assert "--from_resume 1" in again.stdout

    # Losing the end of a run is what resuming is for: take it away, and the same end comes back.
    end = checkpoints.steps(run.checkpoints)[-1]
    folder = checkpoints.folder_of(run.checkpoints, end)
    expected = checkpoints.weights_sha256(folder)
    (folder / "model.safetensors").write_bytes(b"damaged")
    events = run.events_path.read_text("utf-8").splitlines(keepends=True)
    run.events_path.write_text("".join(line for line in events if '"SUCCEEDED"' not in line), "utf-8")
    resumed = ray_job(ray_home, "train", "pretrain", "--name", "handbook", "--from_resume", "1")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert checkpoints.weights_sha256(folder) == expected
    assert any(event["kind"] == "checkpoint_skipped" for event in read_events(run.events_path, {"note"}))


def test_two_workers_learn_what_one_learns(ray_home: Path, ray_cluster: Cluster) -> None:
    common = ["train", "pretrain", *SMALL, "--data_path", str(SAMPLES), "--max_steps", "8", "--save_interval", "4"]
    losses = {}
    for name, workers, accumulation in (("one", "1", "2"), ("two", "2", "1")):
        argv = [*common, "--name", name, "--workers", workers, "--accumulation_steps", accumulation]
        assert submit.follow(submit.submit(name, argv), lambda text: None) == "SUCCEEDED"
        losses[name] = metric_series(RunDirectory.find(paths.runs(), name).events_path, "train/loss")
    assert losses["one"][0] == losses["two"][0] == list(range(1, 9))
    torch.testing.assert_close(losses["one"][1], losses["two"][1], rtol=2e-5, atol=0)


KILLS = ("worker", "driver", "worker", "everything", "worker", "worker", "driver", "everything", "worker", "worker")


@pytest.mark.timeout(600)
def test_killed_at_random_moments_it_ends_as_if_it_never_was(tmp_path: Path) -> None:
    home = tmp_path / "home"
    settings = [*SMALL, "--data_path", str(SAMPLES), "--epochs", "40", "--max_steps", "700", "--save_interval", "9"]
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
    steps = checkpoints.steps(run.checkpoints)
    assert steps[-1] == 700 == checkpoints.steps(reference / "checkpoints")[-1]
    ends = [checkpoints.folder_of(root, 700) for root in (run.checkpoints, reference / "checkpoints")]
    assert checkpoints.weights_sha256(ends[0]) == checkpoints.weights_sha256(ends[1])
    _assert_same(*(checkpoints.load(folder).train_state for folder in ends))
    assert metric_series(run.events_path, "train/loss") == metric_series(reference / "events.jsonl", "train/loss")


def _wait_for_steps(run: RunDirectory, attempt: int, count: int) -> None:
    """Until attempt number `attempt` has made `count` steps."""

    def there() -> bool:
        events = read_events(run.events_path)
        starts = [index for index, event in enumerate(events) if event.get("state") == "RUNNING"]
        return len(starts) == attempt and len(events) - starts[-1] > count

    _until(there, f"step {count} of attempt {attempt}")


def _until(true: Callable[[], bool], what: str, within_s: float = 90) -> None:
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, f"waited {within_s} s for {what}"
        time.sleep(0.02)


def _driver() -> psutil.Process:
    """The process that Ray Jobs started, of this cluster and no other."""
    for process in processes.marked(json.loads((paths.home() / "cluster.json").read_text())["mark"]):
        command = process.info["cmdline"] or []
        if command[:1] and "python" in command[0] and "jobs" in command and "killed" in command:
            return process
    raise AssertionError("no driver process found")


def _kill_cluster() -> None:
    """What `ray stop --force` does, for this cluster alone."""
    for process in processes.family(json.loads((paths.home() / "cluster.json").read_text())["mark"]):
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
