"""Stages with more than one model, as jobs on a real cluster with two workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs import __main__ as cli
from jobs import paths
from jobs.cluster import submit
from jobs.cluster.access import Cluster
from jobs.runs.directory import RunDirectory
from minimind.events import metric_series
from tests.ray.test_training import SAMPLES, SMALL

PAIRS = SAMPLES.with_name("dpo.jsonl")
CHATS = SAMPLES.with_name("sft.jsonl")
QUESTIONS = SAMPLES.with_name("rl.jsonl")
SHORT = '[{"is": "length", "most": 4, "slack": 8}]'
"""A reward that answers of weights that know nothing get, some more and some less."""

COMMON = ["--max_seq_len", "96", "--batch_size", "2", "--dtype", "float32", "--max_steps", "4", "--save_interval", "2"]

STAGES = {
    "dpo": ["--reference", "cached", "--data_path", str(PAIRS)],
    "reward": ["--data_path", str(PAIRS)],
    "sft": ["--data_path", str(CHATS), "--set", "data.mix=0.3", "--set", "stage.replay=teacher"],
    "spo": ["--data_path", str(QUESTIONS), "--max_new_tokens", "8", "--set", f"stage.rewards={SHORT}"],
    "distill": [
        "--teacher",
        "base-distill",
        "--on_policy",
        "1",
        "--set",
        "stage.max_new_tokens=8",
        "--data_path",
        str(CHATS),
    ],
}


@pytest.mark.parametrize("stage", STAGES)
def test_two_workers_learn_what_one_learns(ray_home: Path, ray_cluster: Cluster, stage: str) -> None:
    base = ["train", "pretrain", *SMALL, "--data_path", str(SAMPLES), "--max_steps", "4", "--dtype", "float32"]
    assert cli.main([*base, "--name", f"base-{stage}", "--workers", "0", "--set", "eval.suites=[]"]) == 0
    common = ["train", stage, "--from_weight", f"base-{stage}", *COMMON, *STAGES[stage], "--log_interval", "1"]
    common += ["--set", "scaling.cpus_per_worker=1", "--set", "eval.suites=[]"]
    assert cli.main([*common, "--name", f"one-{stage}", "--workers", "0", "--accumulation_steps", "2"]) == 0
    two = [*common, "--name", f"two-{stage}", "--workers", "2", "--accumulation_steps", "1"]
    assert submit.follow(submit.submit(f"two-{stage}", two), lambda text: None) == "SUCCEEDED"
    (steps, losses), same = (
        metric_series(RunDirectory.find(paths.runs(), name).events_path, "train/loss")
        for name in (f"one-{stage}", f"two-{stage}")
    )
    assert steps == same[0] == [1, 2, 3, 4]
    assert losses == pytest.approx(same[1], rel=1e-4)
