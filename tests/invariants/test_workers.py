"""Two worker processes take the steps of one, and agree to the last bit with each other."""

from __future__ import annotations

from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from data.batches import in_order
from data.rows import PackedRows
from data.shards import TokenShards
from minimind.device.distributed import Parallel
from minimind.text.tokenizer import Tokenizer
from minimind.training.evaluate import validate
from minimind.training.objectives import next_token_loss
from minimind.training.optim import OptimConfig
from minimind.training.recipe import LoopConfig
from tests.ranks import run_ranks
from tests.toys import (
    STAGE_NAMES,
    PoisonedLoss,
    RecordingHooks,
    ToyRun,
    ToyStage,
    assert_same,
    text_model,
    toy_stages,
    weights,
)

GLOBAL_ROWS = 4


def new_run(stage: ToyStage, parallel: Parallel, name: str = "adamw", dtype: torch.dtype = torch.float32) -> ToyRun:
    """Four rows a step, whoever computes them."""
    return ToyRun(
        stage.batches(batch_size=2, rank=parallel.rank, world=parallel.world),
        # A worker that started from weights of its own would not end at those of the others.
        {"policy": stage.model(parallel.rank)},
        objective=PoisonedLoss({3}),
        optim=OptimConfig.model_validate({"name": name, "learning_rate": 0.003, "eps": 1e-4}),
        loop=LoopConfig(accumulation_steps=GLOBAL_ROWS // 2 // parallel.world, log_interval=1, save_interval=1),
        dtype=dtype,
        parallel=parallel,
    )


def result(run: ToyRun, hooks: RecordingHooks) -> dict[str, Any]:
    logged = ("train/loss", "train/grad_norm", "perf/utilisation")
    return {
        "weights": weights(run.model),
        "state": run.state.state_dict(),
        "calls": hooks.calls,
        "rows": [sorted(details["rows"]) for _, details in hooks.notes],
        "metrics": [{name: metrics[name] for name in logged} for metrics in hooks.metrics],
    }


def stages(folders: tuple[Path, Path]) -> dict[str, ToyStage]:
    fingerprint = Tokenizer.train(["ab"], vocab_size=292).fingerprint
    text, chats = (TokenShards.open(folder, fingerprint) for folder in folders)
    return toy_stages(text, chats)


def everything(parallel: Parallel, folders: tuple[Path, Path]) -> dict[str, Any]:
    """One worker's results: every stage in each optimizer, half precision, a stop that one rank asks for, a validation.

    folders: of the shards of text and of conversations.
    """
    results: dict[str, Any] = {}
    for stage_name, stage in stages(folders).items():
        for name in ("adamw", "muon"):
            run = new_run(stage, parallel, name)
            results[f"{stage_name} {name}"] = result(run, run.train())

    text = stages(folders)["pretrain"]
    assert text.batches(batch_size=2).total_rows % GLOBAL_ROWS == 2  # of the last step's rows rank 1 has none
    saved: list[dict[str, Any]] = []
    half = new_run(text, parallel, dtype=torch.float16)
    results["pretrain float16"] = result(
        half, half.train(RecordingHooks(on_save=lambda state: saved.append(half.state_dict())))
    )
    again = new_run(text, parallel, dtype=torch.float16)
    again.load_state_dict(saved[-2])  # one step is left, and rank 1 has no row in it to start its loss scale with
    again.train()
    assert_same(again.state_dict(), half.state_dict())

    run = new_run(text, parallel)
    last_rank = parallel.rank == parallel.world - 1
    run.train(RecordingHooks(stop_before=2 if last_rank else None))
    results["stopped"] = run.state.state_dict()

    batches = in_order(PackedRows(text.shards, text.packing), batch_size=2, rank=parallel.rank, world=parallel.world)
    model = text_model()
    validation = validate({"policy": model}, next_token_loss, batches, 1, run.precision, parallel)
    results["validation"] = (validation.nats, validation.tokens)
    return results


def test_two_workers_train_as_one(shards: TokenShards, chats: TokenShards, tmp_path: Path) -> None:
    folders = (shards.folder, chats.folder)
    alone = everything(Parallel(), folders)
    first, second = run_ranks(2, partial(everything, folders=folders), tmp_path)
    assert_same(first, second)
    assert first["stopped"]["step"] == alone["stopped"]["step"] == 2
    assert first["validation"] == pytest.approx(alone["validation"], rel=1e-6)
    names = [*product(STAGE_NAMES, [("adamw", 1e-4), ("muon", 1e-4)]), ("pretrain", ("float16", 2e-2))]
    for stage_name, (optimizer, tolerance) in names:
        ours, expected = first[f"{stage_name} {optimizer}"], alone[f"{stage_name} {optimizer}"]
        assert ours["state"] == expected["state"]
        assert ours["calls"] == expected["calls"]
        assert ours["rows"] == expected["rows"] != []
        for mine, theirs in zip(ours["metrics"], expected["metrics"], strict=True):
            assert mine == pytest.approx(theirs, rel=max(tolerance / 10, 1e-5))
        start = weights(stages(folders)[stage_name].model())
        moved = sum(float((expected["weights"][key] - start[key]).square().sum()) for key in start)
        apart = sum(float((expected["weights"][key] - ours["weights"][key]).square().sum()) for key in start)
        assert apart < tolerance**2 * moved
