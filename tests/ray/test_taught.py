"""Stages with more than one model, as jobs on a real cluster with two workers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from jobs import __main__ as cli
from jobs import paths
from jobs.cluster import submit
from jobs.cluster.access import Cluster
from jobs.runs.directory import RunDirectory
from minimind.events import metric_series
from tests.browser.scripted import listening
from tests.endpoints import said
from tests.ray.test_training import SAMPLES, SMALL

PAIRS = SAMPLES.with_name("dpo.jsonl")
CHATS = SAMPLES.with_name("sft.jsonl")
QUESTIONS = SAMPLES.with_name("rl.jsonl")
SHORT = '[{"is": "length", "most": 4, "slack": 8}]'
"""A reward that answers of weights that know nothing get, some more and some less."""

TRIES = ["--data_path", str(QUESTIONS), "--max_new_tokens", "8", "--set", f"stage.rewards={SHORT}"]

COMMON = ["--max_seq_len", "96", "--batch_size", "2", "--dtype", "float32", "--max_steps", "4", "--save_interval", "2"]

STAGES = {
    "dpo": ["--reference", "cached", "--data_path", str(PAIRS)],
    "reward": ["--data_path", str(PAIRS)],
    "sft": ["--data_path", str(CHATS), "--set", "data.mix=0.3", "--set", "stage.replay=teacher"],
    **dict.fromkeys(("grpo", "spo", "ppo"), TRIES),
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


KEY = "sk-of-a-judge-4711"


def test_a_job_rewards_by_a_reward_model_a_judge_and_a_function_of_its_users(
    ray_home: Path, ray_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = [*COMMON, "--workers", "0", "--set", "eval.suites=[]"]
    base = ["train", "pretrain", *SMALL, "--data_path", str(SAMPLES), "--max_steps", "4", "--dtype", "float32"]
    assert cli.main([*base, "--name", "base-rewards", "--workers", "0", "--set", "eval.suites=[]"]) == 0
    judge = ["train", "reward", "--name", "judge-rewards", "--from_weight", "base-rewards", "--data_path", str(PAIRS)]
    assert cli.main([*judge, *common]) == 0
    (tmp_path / "own.py").write_text("def score(attempts):\n    return [1 + len(one['answer']) for one in attempts]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINIMIND_API_KEY", KEY)
    app, keys = FastAPI(openapi_url=None), []

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> JSONResponse:
        keys.append(request.headers.get("Authorization"))
        return said(str(len((await request.json())["messages"][0]["content"]) % 11))

    with listening(app) as there:
        terms = json.dumps(
            [
                {"is": "python", "function": "own:score"},
                {"is": "reward_model", "weight": 0.5},
                {"is": "judge", "url": there.address, "model": "m"},
            ]
        )
        words = ["train", "grpo", "--name", "rewarded", "--from_weight", "base-rewards", "--data_path", str(QUESTIONS)]
        words += ["--reward_model", "judge-rewards", "--max_new_tokens", "8", "--set", f"stage.rewards={terms}"]
        words += [*COMMON, "--workers", "1", "--log_interval", "1", "--set", "eval.suites=[]"]
        assert cli.minimind([*words, "--set", "scaling.cpus_per_worker=1"]) == 0
    run = RunDirectory.find(paths.runs(), "rewarded")
    assert run.state().word == "SUCCEEDED"
    for name in ("python", "reward_model", "judge"):
        for kind in ("train", "val"):
            assert any(metric_series(run.events_path, f"{kind}/reward_{name}")[1]), (kind, name)
    assert set(metric_series(run.events_path, "train/not_judged")[1]) == {0.0}
    assert run.spec()["stage"]["code_path"] == str(tmp_path)
    assert set(keys) == {f"Bearer {KEY}"}
    assert not [path for path in run.path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
