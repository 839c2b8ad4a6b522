"""Training on a real cluster: the literal command line, and two workers."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import torch

from jobs import __main__ as cli
from jobs import paths
from jobs.cluster import access, submit
from jobs.cluster import local as cluster
from jobs.cluster.access import Cluster
from jobs.runs import evals
from jobs.runs.directory import RunDirectory
from minimind.checkpoints import folders as checkpoint_folders
from minimind.checkpoints.manifest import weights_sha256
from minimind.events import metric_series, read_events

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
        env={**access.environment(there), "PATH": "/usr/bin:/bin", "HOME": str(home), "MINIMIND_HOME": str(home)},
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
    end = checkpoint_folders.steps(run.checkpoints)[-1]
    folder = checkpoint_folders.folder_of(run.checkpoints, end)
    expected = weights_sha256(folder)
    (folder / "model.safetensors").write_bytes(b"damaged")
    events = run.events_path.read_text("utf-8").splitlines(keepends=True)
    run.events_path.write_text("".join(line for line in events if '"SUCCEEDED"' not in line), "utf-8")
    resumed = ray_job(ray_home, "train", "pretrain", "--name", "handbook", "--from_resume", "1")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert weights_sha256(folder) == expected

    asked = ray_job(ray_home, "eval", "--weight", "handbook", "--suite", "grammar", "--again", "1")
    assert asked.returncode == 0, asked.stdout + asked.stderr
    assert "by grammar: 4600 rows" in asked.stdout
    (log,) = [log for log in evals.logs(run) if log.suite == "grammar"]
    assert (log.summary["step"], log.summary["n"]) == (end, 4600)
    assert any(event["kind"] == "checkpoint_skipped" for event in read_events(run.events_path, {"note"}))


def test_two_workers_learn_what_one_learns(ray_home: Path, ray_cluster: Cluster) -> None:
    common = ["train", "pretrain", *SMALL, "--data_path", str(SAMPLES), "--max_steps", "8", "--save_interval", "4"]
    common += ["--dtype", "float32"]
    # One worker is this process: that Ray changes nothing, test_kills.py shows.
    assert cli.main([*common, "--name", "one", "--workers", "0", "--accumulation_steps", "2"]) == 0
    two = [*common, "--name", "two", "--workers", "2", "--accumulation_steps", "1"]
    assert submit.follow(submit.submit("two", two), lambda text: None) == "SUCCEEDED"
    (steps, losses), same = (
        metric_series(RunDirectory.find(paths.runs(), name).events_path, "train/loss") for name in ("one", "two")
    )
    assert steps == same[0] == list(range(1, 9))
    torch.testing.assert_close(losses, same[1], rtol=2e-5, atol=0)
