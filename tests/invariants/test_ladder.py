"""A run that goes down the ladder takes the steps of one that had memory enough, and comes back on its rung."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from minimind.device.distributed import Parallel
from minimind.device.limit import MemoryLimit
from minimind.network.lora import LoraConfig, attach
from minimind.network.model import MiniMind
from minimind.training.batch import TokenBatch, worst_batch
from minimind.training.objectives import Loss, Models, next_token_loss
from minimind.training.optim import OptimConfig
from minimind.training.out_of_memory import DoesNotFitError
from minimind.training.recipe import LoopConfig
from minimind.training.train_state import TrainState
from tests.ranks import run_ranks
from tests.toys import TOY_CONFIG, RecordingHooks, RowBatches, ToyRun, assert_same, toy_model, toy_rows

ROWS, WIDTH = 8, 64


class WatchedRows(RowBatches):
    """Rows that remember which of them each step took."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.steps: list[list[int]] = []

    def take(self, count: int) -> list[TokenBatch]:
        taken = super().take(count)
        self.steps.append([row for batch in taken for row in batch.rows])
        return taken


def dropped_out(seed: int) -> MiniMind:
    model = toy_model()
    attach(model, LoraConfig(rank=4, dropout=0.25), torch.Generator().manual_seed(seed))
    return model


def new_run(
    model: MiniMind | None = None,
    *,
    parallel: Parallel | None = None,
    worst: TokenBatch | None = None,
    allow_shorter: bool = False,
    standing: TrainState | None = None,
) -> ToyRun:
    parallel = parallel or Parallel()
    torch.manual_seed(5)
    run = ToyRun(
        WatchedRows(toy_rows(2 * ROWS, WIDTH), ROWS // parallel.world, epochs=2, parallel=parallel),
        {"policy": model or toy_model()},
        optim=OptimConfig.model_validate({"name": "adamw", "learning_rate": 0.003, "eps": 1e-4}),
        loop=LoopConfig(log_interval=1, save_interval=1, allow_shorter=allow_shorter),
        parallel=parallel,
        worst=worst,
    )
    run.state = replace(standing) if standing else run.state
    return run


def peak(standing: TrainState) -> int:
    """Bytes that a run needs where it stands; its second step is like all that follow."""
    run = new_run(standing=standing)
    run.total_steps = 2
    limit = MemoryLimit()
    with limit:
        run.train()
    peak_bytes: int = limit.peak_bytes
    return peak_bytes


def losses(hooks: RecordingHooks) -> list[float]:
    return [metrics["train/loss"] for metrics in hooks.metrics]


def rungs(hooks: RecordingHooks) -> list[tuple[int, bool, int]]:
    return [(d["rows_at_once"], d["checkpointing"], d["cuts"]) for _, d in hooks.notes if d["kind"] == "out_of_memory"]


def test_under_a_limit_the_same_steps_are_taken_on_lower_rungs() -> None:
    free = new_run()
    expected = free.train()
    assert isinstance(free.batches, WatchedRows)
    limit_bytes = peak(TrainState(rows_at_once=2))
    run = new_run()
    with MemoryLimit(limit_bytes) as limit:
        hooks = run.train()
    assert isinstance(run.batches, WatchedRows)
    assert rungs(hooks) == [(4, False, 0), (2, False, 0)]
    assert run.batches.steps == free.batches.steps
    assert run.state.tokens == free.state.tokens
    assert losses(hooks) == pytest.approx(losses(expected), rel=1e-5)
    assert 0 < limit.peak_bytes <= limit_bytes
    assert "at most 4 rows at once" in hooks.notes[0][0]
    assert "at most 4 rows at once from now on" in hooks.notes[0][0]
    assert "the limit is" in hooks.notes[0][1]["cause"]


def test_checkpointing_follows_when_one_row_is_too_much() -> None:
    run = new_run()
    with MemoryLimit(peak(TrainState(rows_at_once=1, checkpointing=True))):
        hooks = run.train()
    assert rungs(hooks) == [(4, False, 0), (2, False, 0), (1, False, 0), (1, True, 0)]
    assert losses(hooks) == pytest.approx(losses(new_run().train()), rel=1e-5)


def test_rows_are_cut_only_where_the_user_allowed_it() -> None:
    limit_bytes = peak(TrainState(rows_at_once=1, checkpointing=True, cuts=1))
    run = new_run(allow_shorter=True)
    with MemoryLimit(limit_bytes):
        hooks = run.train()
    assert rungs(hooks)[-1] == (1, True, 1)
    assert run.state.tokens == 2 * toy_rows(2 * ROWS, WIDTH).real_tokens
    refused = new_run()
    with MemoryLimit(limit_bytes), pytest.raises(DoesNotFitError, match="allow_shorter"):
        refused.train()
    assert refused.state.cuts == 0


@pytest.mark.parametrize("dropout", [False, True])
def test_resumed_after_a_rung_it_is_the_run_that_never_stopped(dropout: bool) -> None:
    def begin() -> ToyRun:
        return new_run(dropped_out(1) if dropout else None, worst=worst_batch(ROWS, WIDTH))

    with MemoryLimit() as counted:
        standing = begin()
        standing.state.rows_at_once = 3
        standing.train()
    saved: list[dict[str, Any]] = []
    with MemoryLimit(counted.peak_bytes):
        whole = begin()
        hooks = whole.train(RecordingHooks(on_save=lambda state: saved.append(whole.state_dict())))
    assert rungs(hooks) == [(4, False, 0), (2, False, 0)]
    final = whole.state_dict()
    for middle in saved[:-1]:
        with MemoryLimit(counted.peak_bytes):
            resumed = begin()
            resumed.load_state_dict(middle)
            hooks = resumed.train()
        assert rungs(hooks) == []
        assert_same(resumed.state_dict(), final, f"from step {middle['state']['step']}")


class Watched:
    """Next-token loss that remembers how many tokens each batch predicts."""

    def __init__(self) -> None:
        self.predicted: list[int] = []

    def __call__(self, models: Models, batch: TokenBatch) -> Loss:
        self.predicted.append(len(batch.predicted_N))
        return next_token_loss(models, batch)


def test_a_probe_leaves_no_trace() -> None:
    results, watched = [], Watched()
    for worst in (None, worst_batch(ROWS, WIDTH)):
        run = new_run(dropped_out(1), worst=worst)
        run.objective = watched
        with MemoryLimit(1 << 40):
            hooks = run.train()
        results.append((losses(hooks), run.state_dict(), rungs(hooks)))
    assert_same(results[0], results[1])
    most = ROWS * (WIDTH - 1)
    assert [count == most for count in watched.predicted] == [False] * 4 + [True, False, True, False, False, False]


def test_memory_runs_out_in_the_probe_and_not_at_the_longest_row() -> None:
    def wide() -> MiniMind:
        return toy_model(config=TOY_CONFIG.model_copy(update={"vocab_size": 2048}))

    with MemoryLimit() as counted:
        new_run(wide()).train()
    run = new_run(wide(), worst=worst_batch(ROWS, WIDTH))
    with MemoryLimit(counted.peak_bytes):
        hooks = run.train()
    assert rungs(hooks) == [(4, False, 0)]
    assert "out of memory after step 0:" in hooks.notes[0][0]


def test_without_a_limit_nothing_is_probed() -> None:
    run = new_run(worst=worst_batch(ROWS, WIDTH))
    run.objective = watched = Watched()
    run.train()
    assert len(watched.predicted) == run.state.step


def test_the_optimizers_step_cannot_be_taken_again() -> None:
    run = new_run()

    class Hungry:
        def __getattr__(self, name: str) -> Any:
            return getattr(run_optimizer, name)

        def step(self) -> None:
            if run.state.step:
                torch.zeros(1 << 20)
            run_optimizer.step()

    run_optimizer, run.optimizer = run.optimizer, Hungry()
    with MemoryLimit(3 << 20), pytest.raises(DoesNotFitError, match="the last checkpoint is good.*4 MB more"):
        run.train()
    assert run.state.step == 1


def test_a_run_may_ask_to_end_where_another_would_adapt() -> None:
    run = new_run()
    run.loop = run.loop.model_copy(update={"out_of_memory": "fail"})
    said = "after step 0, and loop.out_of_memory = fail.*asked for"
    with MemoryLimit(peak(TrainState(rows_at_once=2))), pytest.raises(DoesNotFitError, match=said):
        run.train()
    assert run.state.step == 0


def uneven(parallel: Parallel) -> dict[str, Any]:
    """Rank 1 alone has little memory: enough for two rows at once, not for four."""
    run = new_run(parallel=parallel)
    with MemoryLimit(peak(TrainState(rows_at_once=2)) if parallel.rank == 1 else None):
        hooks = run.train()
    return {"rungs": rungs(hooks), "losses": losses(hooks), "weights": run.model.state_dict()}


def test_where_one_of_two_ranks_runs_out_both_go_down(tmp_path: Path) -> None:
    first, second = run_ranks(2, uneven, tmp_path)
    assert first["rungs"] == [(2, False, 0)]
    assert_same(first, second)
    assert first["losses"] == pytest.approx(losses(new_run().train()), rel=1e-5)
