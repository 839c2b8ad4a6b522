"""How a step's rows are cut into micro-batches changes nothing: the loss is a sum until the step's one division."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from data.batches import OrderedBatches
from data.pack import pack
from data.rows import PackedRows
from data.shards import TokenShards
from minimind.training.objectives import next_token_loss
from minimind.training.optim import OptimConfig
from minimind.training.recipe import LoopConfig
from tests.toys import ToyRun, ToyStage, text_model, weights

WIDTH = 22


def trained(stage: ToyStage, batch_size: int, accumulation_steps: int, **settings: Any) -> dict[str, Tensor]:
    """The weights after two epochs."""
    batches = stage.batches(batch_size=batch_size)
    assert batches.total_rows % 8  # the last step is short
    # AdamW divides by the gradient's own size; eps keeps it from blowing up the rounding of gradients near zero.
    optim = OptimConfig.model_validate({"learning_rate": 0.003, "eps": 1e-4} | settings)
    run = ToyRun(
        batches, {"policy": stage.model()}, optim=optim, loop=LoopConfig(accumulation_steps=accumulation_steps)
    )
    run.train()
    assert run.state.step == batches.total_steps(accumulation_steps) > 3
    return weights(run.model)


def distance(left: dict[str, Tensor], right: dict[str, Tensor]) -> float:
    return float(torch.cat([(left[name] - right[name]).flatten() for name in left]).norm())


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_eight_by_one_is_four_by_two_is_two_by_four(stage: ToyStage, name: str) -> None:
    start = weights(stage.model())
    whole = trained(stage, 8, 1, name=name)
    moved = distance(whole, start)
    for batch_size, accumulation_steps in ((4, 2), (2, 4), (1, 8)):
        assert distance(trained(stage, batch_size, accumulation_steps, name=name), whole) < 1e-3 * moved


def test_means_of_micro_batches_would_not_have_been_the_same(shards: TokenShards) -> None:
    """The rows are ragged enough for the invariant above to mean something."""
    packing = pack(shards.lengths, WIDTH)
    model = text_model()
    gradients: list[Tensor] = []
    for size in (8, 1):
        model.zero_grad()
        micro_batches = OrderedBatches(PackedRows(shards, packing), batch_size=size, seed=1).take(8 // size)
        for batch in micro_batches:
            loss = next_token_loss({"policy": model}, batch)
            (loss.total / loss.weight / len(micro_batches)).backward()  # type: ignore[no-untyped-call]
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert (gradients[0] - gradients[1]).norm() > 0.02 * gradients[0].norm()
