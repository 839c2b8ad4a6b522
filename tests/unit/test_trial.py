from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.runs.directory import RunDirectory
from jobs.sweeps.trial import outcome_of, results_of, run_trial, wait_for_memory
from jobs.training.run import resolve, start
from minimind.config import override
from minimind.events import EventLog
from minimind.memory.plan import MemoryPlan
from tests.small import CHATS, SAMPLES, Screen, small_spec

pytestmark = pytest.mark.slow

BASE = override(small_spec(), {"scaling.workers": None, "loop.max_steps": None, "eval.max_documents": 4})


def test_a_trial_is_a_run_that_goes_to_the_end_of_its_schedule(home: Path) -> None:
    folder, told = home / "trials" / "trial-001", list[dict[str, Any]]()
    folder.parent.mkdir()
    result = run_trial(BASE, {"loop.batch_size": 2, "loop.accumulation_steps": 1}, folder, 1, told.append)
    assert result["outcome"] == "measured", result
    run = RunDirectory(folder)
    assert run.state().word == "SUCCEEDED"
    spec = run.spec()
    assert spec["loop"]["max_steps"] == result["steps"] >= 4
    assert (spec["loop"]["batch_size"], spec["scaling"]["workers"]) == (2, 0)
    assert run.plan() is not None
    assert len(told) in (2, 3)  # after each quarter but the last; rounded up, there may be three parts
    assert result["bits_per_byte"] < told[0]["bits_per_byte"]
    assert result["tokens_per_s"] > 0
    assert result["peak_bytes"] > 0
    assert not run.checkpoints.exists()
    json.dumps(result)


def test_where_one_step_takes_all_the_time_there_is_one_step(home: Path) -> None:
    told = list[dict[str, Any]]()
    result = run_trial(BASE, {}, home / "trial", 1e-6, told.append)
    assert (result["outcome"], result["steps"], told) == ("measured", 1, [])
    assert result["bits_per_byte"] > 0
    assert result["tokens_per_s"] > 0


def test_a_trial_replays_what_a_run_of_its_settings_would(home: Path) -> None:
    start(small_spec(loop__max_steps=1), Screen())
    start(small_spec("sft", name="taught", init_from="small", loop__max_steps=1), Screen())
    questions = str(CHATS.with_name("rl.jsonl"))
    base = small_spec("grpo", name="sweep", init_from="taught", data__path=questions, stage__max_new_tokens=4)
    base, _ = resolve(override(base, {"scaling.workers": None, "loop.max_steps": None}), None, Screen())
    assert base.data.chats_path is None
    run_trial(base, {"data.mix": 0.5}, home / "trial", 1e-6, lambda values: None)
    data = RunDirectory(home / "trial").spec()["data"]
    assert (data["mix"], data["mix_path"], data["chats_path"]) == (0.5, str(SAMPLES), str(CHATS))


def test_what_was_no_number_is_not_ranked(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "trial")
    run.create({})
    with EventLog(run.events_path) as log:
        log.metrics(1, {"perf/tokens_per_s": 9.0, "perf/peak_memory_bytes": 1.0, "perf/step_s": 0.5})
        log.metrics(1, {"val/bits_per_byte": float("nan")})
    assert results_of(run)["bits_per_byte"] is None
    assert results_of(run)["tokens_per_s"] == 9.0


def test_what_the_plan_refuses_is_not_started(home: Path) -> None:
    tight = override(BASE, {"memory.vram": "1MB"})
    result = run_trial(tight, {"loop.batch_size": 64}, home / "trial", 1, lambda values: None)
    assert result["outcome"] == "refused"
    assert not (home / "trial").exists()


def test_a_trial_that_cannot_run_says_why(home: Path) -> None:
    gone = override(BASE, {"data.path": str(home / "gone.jsonl")})
    result = run_trial(gone, {}, home / "trial", 1, lambda values: None)
    assert result["outcome"] == "failed"
    assert "gone.jsonl" in result["reason"]


def test_a_trial_that_is_told_to_end_says_so_in_its_run(home: Path) -> None:
    def enough(values: dict[str, Any]) -> None:
        raise SystemExit(0)

    run_trial(BASE, {}, home / "trial", 1, enough)
    state = RunDirectory(home / "trial").state()
    assert state.word == "FAILED"
    assert "ended early: at this point other trials" in state.reason


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (torch.OutOfMemoryError("no more"), "infeasible"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "infeasible"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"), "infeasible"),
        (MemoryError(), "infeasible"),
        (OSError(28, "No space left on device"), "disk full"),
        (ValueError("a bug"), "failed"),
    ],
)
def test_what_a_trial_dies_of(error: Exception, outcome: str) -> None:
    try:
        raise error
    except type(error):
        assert outcome_of(traceback.format_exc()) == outcome


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to wait for")
def test_a_cpu_has_nothing_to_wait_for() -> None:
    wait_for_memory(MemoryPlan("fits", "replay", 1, 2**60, 1), patience_s=0)
