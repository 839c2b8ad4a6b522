"""A run stopped at any step and continued from its state is, to the last bit, the run that was never stopped."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from minimind.training.optim import OptimConfig
from minimind.training.recipe import LoopConfig
from tests.toys import PoisonedLoss, RecordingHooks, ToyRun, ToyStage, assert_same


def new_run(stage: ToyStage, name: str, dtype: torch.dtype, model_seed: int) -> ToyRun:
    """A run of two epochs with a short last step; a row that is not a number is in both."""
    torch.manual_seed(model_seed)
    return ToyRun(
        stage.batches(batch_size=2, num_workers=1),
        {"policy": stage.model(model_seed)},
        objective=PoisonedLoss({3}),
        optim=OptimConfig.model_validate({"name": name, "learning_rate": 0.01}),
        loop=LoopConfig(accumulation_steps=3, save_interval=1),
        dtype=dtype,
        units_per_step=4,  # so high a float16 scale that the first steps are refused
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_stopped_at_any_step_and_continued(random_stage: ToyStage, name: str, dtype: torch.dtype) -> None:
    saved: list[dict[str, Any]] = []
    whole = new_run(random_stage, name, dtype, model_seed=0)
    whole.train(RecordingHooks(on_save=lambda state: saved.append(whole.state_dict())))
    final = whole.state_dict()
    assert whole.state.skipped_steps > 1
    assert len(saved) == whole.state.step >= 3
    for middle in saved:
        resumed = new_run(random_stage, name, dtype, model_seed=1)
        resumed.load_state_dict(middle)
        resumed.train()
        assert_same(resumed.state_dict(), final, f"from step {middle['state']['step']}")


def test_stopping_and_starting_again_at_every_step(random_stage: ToyStage) -> None:
    whole = new_run(random_stage, "muon", torch.float32, model_seed=0)
    whole.train()
    final = whole.state_dict()
    run = new_run(random_stage, "muon", torch.float32, model_seed=0)
    attempts = 0
    while not run.batches.done:
        run.train(RecordingHooks(stop_before=1))
        state = run.state_dict()
        run = new_run(random_stage, "muon", torch.float32, model_seed=attempts + 2)
        run.load_state_dict(state)
        attempts += 1
    assert attempts == whole.state.step + whole.state.skipped_steps
    assert_same(run.state_dict(), final)
