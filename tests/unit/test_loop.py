from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from minimind.device.distributed import Parallel
from minimind.device.limit import MemoryLimit
from minimind.training.batch import TokenBatch
from minimind.training.loop import NonFiniteLossError
from minimind.training.objectives import Loss, Models, next_token_loss
from minimind.training.optim import OptimConfig
from minimind.training.out_of_memory import DoesNotFitError
from minimind.training.precision import DTYPES, Precision, common_dtype, resolve_dtype
from minimind.training.recipe import LoopConfig
from minimind.training.train_state import TrainState
from tests.ranks import run_ranks
from tests.toys import PoisonedLoss, RecordingHooks, RowBatches, ToyRun, assert_same, toy_model, toy_rows, weights

CPU = torch.device("cpu")


def loss_of(run: ToyRun, rows: TokenBatch) -> float:
    with torch.no_grad():
        loss = next_token_loss(run.models, rows)
    return float(loss.total / loss.weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_the_loss_falls_in_every_precision(dtype: torch.dtype, name: str) -> None:
    rows = toy_rows(4)
    run = ToyRun(RowBatches(rows, 2, epochs=20), dtype=dtype, optim=OptimConfig.model_validate({"name": name}))
    before = loss_of(run, rows)
    hooks = run.train()
    assert loss_of(run, rows) < 0.8 * before
    assert all(tensor.dtype == torch.float32 for tensor in run.model.state_dict().values())
    assert run.state.step + run.state.skipped_steps == 40
    assert ("train/loss_scale" in hooks.metrics[-1]) == (dtype == torch.float16)


def test_one_step_is_that_of_the_mean_over_all_tokens_of_all_micro_batches() -> None:
    rows = toy_rows(6)
    run = ToyRun(RowBatches(rows, 2), loop=LoopConfig(accumulation_steps=3), optim=OptimConfig(name="adamw"))
    hooks = run.train()
    plain = toy_model()
    loss = next_token_loss({"policy": plain}, rows)
    (loss.total / loss.weight).backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
    reference = ToyRun(RowBatches(rows, 1), {"policy": plain}, optim=OptimConfig(name="adamw"))
    for group in reference.optimizer.param_groups:
        group["lr"] = run.optim.learning_rate
    reference.optimizer.step()
    assert norm > 1  # so that clipping is seen
    assert hooks.metrics[0]["train/grad_norm"] == pytest.approx(float(norm), rel=1e-5)
    assert hooks.metrics[0]["train/loss"] == pytest.approx(float(loss.total.detach() / loss.weight), rel=1e-6)
    for name, tensor in weights(run.model).items():
        torch.testing.assert_close(tensor, plain.state_dict()[name], rtol=1e-4, atol=1e-6, msg=name)


def test_a_gradient_below_the_limit_is_used_as_it_is() -> None:
    taken = []
    for limit in (1e6, 1e9):
        run = ToyRun(RowBatches(toy_rows(2), 2), optim=OptimConfig(grad_clip=limit))
        run.train()
        taken.append(weights(run.model))
    assert_same(taken[0], taken[1])


def test_hooks_are_called_at_their_steps() -> None:
    loop = LoopConfig(log_interval=2, eval_interval=3, save_interval=4)
    hooks = ToyRun(RowBatches(toy_rows(9), 1), loop=loop).train()
    assert hooks.steps("log") == [2, 4, 6, 8, 9]
    assert hooks.steps("evaluate") == [0, 3, 6, 9]
    assert hooks.steps("save") == [4, 8, 9]


def test_the_last_step_is_saved_and_evaluated_once() -> None:
    hooks = ToyRun(RowBatches(toy_rows(4), 1), loop=LoopConfig(eval_interval=4, save_interval=2)).train()
    assert hooks.steps("save") == [2, 4]
    assert hooks.steps("evaluate") == [0, 4]


def test_a_save_comes_after_the_step_is_complete() -> None:
    seen: list[tuple[int, int]] = []
    run = ToyRun(batches := RowBatches(toy_rows(6), 2), loop=LoopConfig(save_interval=1))
    run.train(RecordingHooks(on_save=lambda state: seen.append((state.step, batches.position))))
    assert seen == [(1, 2), (2, 4), (3, 6)]


def test_logged_metrics_cover_the_steps_since_the_last_row() -> None:
    rows = toy_rows(6)
    run = ToyRun(RowBatches(rows, 1), loop=LoopConfig(log_interval=4))
    hooks = run.train()
    first, second = hooks.metrics
    assert first.keys() == {
        "train/loss",
        "train/grad_norm",
        "train/lr",
        "train/skipped_steps",
        "perf/tokens_per_s",
        "perf/step_s",
        "perf/data_wait_s",
        "perf/utilisation",
        "perf/peak_memory_bytes",
    }
    assert second["train/lr"] == run.optim.learning_rate / 6
    assert first["perf/utilisation"] == pytest.approx(float((rows.segment_BT[:4] > 0).float().mean()))
    assert second["perf/utilisation"] == pytest.approx(float((rows.segment_BT[4:] > 0).float().mean()))
    assert 0 < first["perf/data_wait_s"] < first["perf/step_s"]
    assert first["perf/tokens_per_s"] == pytest.approx(
        float((rows.segment_BT[:4] > 0).sum()) / (4 * first["perf/step_s"])
    )
    assert first["perf/peak_memory_bytes"] > 1e7
    assert run.state.tokens == rows.real_tokens


def test_metrics_of_an_objective_are_averaged_by_their_own_weights() -> None:
    def objective(models: Models, batch: TokenBatch) -> Loss:
        loss = next_token_loss(models, batch)
        row = torch.tensor(float(batch.rows[0]))
        return Loss(loss.total, loss.weight, {"entropy": (row * (row + 1), row + 1)})

    hooks = ToyRun(RowBatches(toy_rows(4), 1), objective=objective, loop=LoopConfig(accumulation_steps=2)).train()
    assert hooks.metrics[0]["train/entropy"] == pytest.approx((0 * 1 + 1 * 2 + 2 * 3 + 3 * 4) / (1 + 2 + 3 + 4))


def test_what_nothing_was_measured_of_is_not_logged() -> None:
    def unmeasured(models: Models, batch: TokenBatch) -> Loss:
        loss = next_token_loss(models, batch)
        return Loss(loss.total, loss.weight, {"accuracy": (torch.zeros(()), torch.zeros(()))})

    hooks = ToyRun(RowBatches(toy_rows(2), 2), objective=unmeasured).train()
    assert "train/loss" in hooks.metrics[0]
    assert "train/accuracy" not in hooks.metrics[0]


@pytest.mark.parametrize("part", ["value", "gradient", "both"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_step_that_is_not_finite_is_refused_and_noted_with_its_rows(
    part: Literal["value", "gradient", "both"], dtype: torch.dtype
) -> None:
    rows = toy_rows(4)
    run = ToyRun(
        RowBatches(rows, 1),
        objective=PoisonedLoss({1}, part),
        loop=LoopConfig(accumulation_steps=2, save_interval=1),
        dtype=dtype,
    )
    before = run.state_dict()
    hooks = RecordingHooks(stop_before=1)
    run.train(hooks)
    after = run.state_dict()
    assert_same(after["weights"], before["weights"])
    assert_same(after["optimizer"]["optimizers"][0]["state"], before["optimizer"]["optimizers"][0]["state"])
    assert (run.state.step, run.state.bad_steps, run.state.skipped_steps, run.state.tokens) == (0, 1, 1, 0)
    assert run.batches.state_dict() == {"position": 2}
    assert hooks.steps("log") == []
    ((text, details),) = hooks.notes
    assert text.startswith(f"after step 0: {'its gradient' if part == 'gradient' else 'the loss'} is not a number")
    assert details["rows"] == ([0, 1] if part == "gradient" else [1])
    assert math.isfinite(details["grad_norm"]) == (part == "value")
    assert ("loss_scale" in details) == (dtype == torch.float16)
    assert ("halved" in text) == (dtype == torch.float16 and part == "gradient")

    run.train()
    assert (run.state.step, run.state.bad_steps, run.state.skipped_steps) == (1, 0, 1)
    assert all(tensor.isfinite().all() for tensor in weights(run.model).values())


def test_a_run_fails_after_max_bad_steps_in_a_row() -> None:
    run = ToyRun(RowBatches(toy_rows(9), 1), objective=PoisonedLoss({1, 3, 4, 5, 6}), loop=LoopConfig(max_bad_steps=3))
    hooks = RecordingHooks()
    with pytest.raises(NonFiniteLossError, match=r"step 2: .* in 3 steps in a row \(max_bad_steps = 3\)"):
        run.train(hooks)
    assert run.state == TrainState(step=2, tokens=run.state.tokens, bad_steps=3, skipped_steps=4)
    assert [details["rows"] for _, details in hooks.notes] == [[1], [3], [4], [5]]
    assert hooks.steps("save") == []


def test_bad_steps_in_a_row_are_counted_across_a_resume() -> None:
    run = ToyRun(RowBatches(toy_rows(9), 1), objective=PoisonedLoss({0, 1, 2}), loop=LoopConfig(max_bad_steps=3))
    for _ in range(2):
        run.train(RecordingHooks(stop_before=1))
    with pytest.raises(NonFiniteLossError):
        run.train(RecordingHooks(stop_before=1))


def test_the_float16_scale_starts_by_the_units_of_a_step_and_finds_its_way() -> None:
    assert Precision(torch.float16, CPU, units_per_step=1).scaler.get_scale() == 2.0**16
    assert Precision(torch.float16, CPU, units_per_step=1000).scaler.get_scale() == 2.0**6
    run = ToyRun(RowBatches(toy_rows(40), 1), dtype=torch.float16, loop=LoopConfig(max_bad_steps=40))
    run.precision.scaler.update(2.0**40)
    hooks = run.train()
    halvings = run.state.skipped_steps
    assert halvings > 5
    assert run.state.step == 40 - halvings
    assert run.precision.scaler.get_scale() == 2.0 ** (40 - halvings)
    assert "the float16 loss scale 1.09951e+12 halved (normal in the first steps)" in hooks.notes[0][0]
    assert 0 < run.precision.scaler.state_dict()["_growth_tracker"] <= run.state.step


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_only_float16_scales(dtype: torch.dtype) -> None:
    assert not Precision(dtype, CPU).scaler.is_enabled()


def test_precision_computes_in_its_dtype() -> None:
    product = {}
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        with Precision(dtype, CPU).autocast():
            product[dtype] = torch.nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2)).dtype
    assert product == {dtype: dtype for dtype in product}


def test_resolve_dtype_takes_what_the_device_has(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    assert resolve_dtype("auto", CPU) == torch.float32
    for has_bfloat16, dtype in ((True, torch.bfloat16), (False, torch.float16)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, has=has_bfloat16: has)
        assert resolve_dtype("auto", cuda) == dtype
    assert [resolve_dtype(name, cuda) for name in ("float32", "bfloat16", "float16")] == [
        torch.float32,
        torch.bfloat16,
        torch.float16,
    ]


def newer_and_older(parallel: Parallel) -> dict[str, Any]:
    """What two ranks make of auto where the GPU of the first has bfloat16, the second's not, and a step of both."""

    def has_bfloat16(including_emulation: bool = True) -> bool:
        return parallel.rank == 0

    torch.cuda.is_bf16_supported = has_bfloat16
    gpu = Parallel(parallel.rank, parallel.world, torch.device("cuda"))
    dtype = common_dtype("auto", gpu)
    run = ToyRun(RowBatches(toy_rows(8), 2, parallel=parallel), dtype=dtype, parallel=parallel)
    norms = [metrics["train/grad_norm"] for metrics in run.train().metrics]
    named = [common_dtype(name, gpu) for name in DTYPES]
    own = resolve_dtype("auto", gpu.device)
    return {"own": own, "dtype": dtype, "norms": norms, "named": named, "weights": weights(run.model)}


@pytest.mark.slow
def test_ranks_on_different_cards_compute_in_what_all_of_them_have(tmp_path: Path) -> None:
    newer, older = run_ranks(2, newer_and_older, tmp_path)
    assert [newer["own"], older["own"]] == [torch.bfloat16, torch.float16]
    assert newer["dtype"] == older["dtype"] == torch.float16
    assert newer["named"] == older["named"] == list(DTYPES.values())
    assert newer["norms"] == older["norms"]
    assert_same(newer["weights"], older["weights"])


@pytest.mark.parametrize("now", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("begun", DTYPES)
def test_a_run_goes_on_in_the_dtype_it_began_in(begun: str, now: torch.dtype) -> None:
    before, after = Precision(DTYPES[begun], CPU, 64), Precision(now, CPU, 64)
    before.scaler.update(2.0**5)
    after.load_state_dict(before.state_dict())
    assert (after.name, after.dtype) == (begun, DTYPES[begun])
    assert after.scaler.is_enabled() == (begun == "float16")
    assert after.scaler.get_scale() == before.scaler.get_scale()
    with after.autocast():
        assert torch.nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2)).dtype == DTYPES[begun]


def test_a_state_from_before_dtypes_were_kept_leaves_the_dtype_as_it_is() -> None:
    precision = Precision(torch.bfloat16, CPU)
    precision.load_state_dict({"scaler": precision.scaler.state_dict()})
    assert precision.dtype == torch.bfloat16


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_any_kind_of_running_out_of_memory_takes_a_rung(error: Exception) -> None:
    def objective(models: Models, batch: TokenBatch) -> Loss:
        if len(batch.rows) > 1:
            raise error
        return next_token_loss(models, batch)

    run = ToyRun(RowBatches(toy_rows(4), 4), objective=objective)
    hooks = run.train()
    assert (run.state.step, run.state.rows_at_once) == (1, 1)
    assert [details["kind"] for _, details in hooks.notes] == ["out_of_memory"] * 2


def test_another_error_does_not() -> None:
    def objective(models: Models, batch: TokenBatch) -> Loss:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        ToyRun(RowBatches(toy_rows(4), 4), objective=objective).train()


def test_a_batch_that_does_not_fit_under_a_limit_goes_down_the_ladder() -> None:
    class Ahead(RowBatches):
        """A thread has made the batch before it is taken, and nobody has counted it."""

        reads_ahead = True

        def __init__(self) -> None:
            super().__init__(toy_rows(64), 64)
            self.ready = super().take(1)
            self.position = 0

        def take(self, count: int) -> list[TokenBatch]:
            self.position = self.total
            return self.ready

        def stop_reading_ahead(self) -> bool:
            before, self.reads_ahead = self.reads_ahead, False
            return before

    run = ToyRun(Ahead())
    held = 4 * sum(parameter.numel() for parameter in run.model.parameters())
    with MemoryLimit(held + 100), pytest.raises(DoesNotFitError, match="with every means tried"):
        run.train()
    assert isinstance(run.batches, Ahead)
    assert not run.batches.reads_ahead


def test_what_is_said_of_checkpoints_is_true() -> None:
    with pytest.raises(NonFiniteLossError, match=r"\(max_bad_steps = 3\), and there is no checkpoint yet\. Lower"):
        ToyRun(RowBatches(toy_rows(9), 1), objective=PoisonedLoss(range(9)), loop=LoopConfig(max_bad_steps=3)).train()
    loop = LoopConfig(max_bad_steps=3, save_interval=2)
    with pytest.raises(NonFiniteLossError, match=r"\(max_bad_steps = 3\); the last checkpoint is good\. Lower"):
        ToyRun(RowBatches(toy_rows(9), 1), objective=PoisonedLoss(range(3, 9)), loop=loop).train()


def test_a_stop_ends_after_the_step_under_way_with_a_checkpoint() -> None:
    run = ToyRun(RowBatches(toy_rows(9), 1))
    hooks = run.train(RecordingHooks(stop_before=4))
    assert run.state.step == 4
    assert hooks.steps("save") == [4]
    assert hooks.steps("log") == [4]
    assert hooks.steps("evaluate") == [0]


def test_a_stop_in_the_last_step_is_an_end_like_any_other() -> None:
    hooks = ToyRun(RowBatches(toy_rows(3), 1)).train(RecordingHooks(stop_before=3))
    assert hooks.steps("evaluate") == [0, 3]
    assert hooks.steps("save") == [3]


def test_total_steps_end_a_run_before_its_data() -> None:
    run = ToyRun(RowBatches(toy_rows(9), 1), total_steps=5)
    hooks = run.train()
    assert (run.state.step, run.batches.done) == (5, False)
    assert hooks.steps("save") == [5]
    assert hooks.steps("evaluate") == [0, 5]


def test_a_finished_run_does_nothing_more() -> None:
    run = ToyRun(RowBatches(toy_rows(3), 1), total_steps=2)
    run.train()
    before = run.state_dict()
    hooks = run.train()
    assert_same(run.state_dict(), before)
    assert (hooks.steps("save"), hooks.steps("log")) == ([], [])


def test_a_short_last_step_weighs_its_tokens_like_any_other() -> None:
    rows = toy_rows(5)
    run = ToyRun(RowBatches(rows, 2), loop=LoopConfig(accumulation_steps=2, log_interval=1))
    hooks = run.train()
    assert run.state.step == 2
    assert run.state.tokens == rows.real_tokens
    assert hooks.metrics[1]["perf/utilisation"] == pytest.approx(float((rows.segment_BT[4:] > 0).float().mean()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_step_without_units_changes_nothing_and_does_not_count(dtype: torch.dtype) -> None:
    rows = toy_rows(4)
    rows.loss_mask_BT[1] = False  # before a batch is made of it
    run = ToyRun(RowBatches(rows, 1), loop=LoopConfig(save_interval=1), dtype=dtype)
    saved: list[dict[str, Any]] = []
    hooks = run.train(RecordingHooks(on_save=lambda state: saved.append(run.state_dict())))
    assert run.state.step == 3
    assert hooks.steps("save") == [1, 2, 3]
    assert not ToyRun(RowBatches(rows, 1), dtype=dtype, total_steps=3).train().notes
    short = ToyRun(RowBatches(rows, 1), dtype=dtype, total_steps=4)
    assert [text.split(":")[0] for text, _ in short.train().notes] == ["the data ends after step 3, and not after 4"]

    class Nothing(RowBatches):
        def take(self, count: int) -> list[TokenBatch]:
            super().take(count)
            return []

    empty = ToyRun(Nothing(rows, 1), dtype=dtype)
    before = empty.state_dict()
    hooks = empty.train()
    after = empty.state_dict()
    assert_same(
        (after["weights"], after["optimizer"], after["scaler"]),
        (before["weights"], before["optimizer"], before["scaler"]),
    )
    assert hooks.steps("save") == [0]


def test_a_parameter_that_nothing_uses_has_a_zero_gradient() -> None:
    run = ToyRun(RowBatches(toy_rows(1), 1), optim=OptimConfig(name="adamw", weight_decay=0))
    extra = torch.nn.Parameter(torch.ones(3, 3))
    run.model.register_parameter("unused", extra)
    run.optimizer = ToyRun(RowBatches(toy_rows(1), 1), run.models, optim=run.optim).optimizer
    run.train()
    assert torch.equal(extra, torch.ones(3, 3))
    assert run.state_dict()["optimizer"]["optimizers"][0]["state"].keys() == set(
        range(len(list(run.model.parameters())))
    )


def test_frozen_roles_get_no_gradient_and_do_not_change() -> None:
    def objective(models: Models, batch: TokenBatch) -> Loss:
        loss, anchor = (next_token_loss({"policy": models[role]}, batch) for role in ("policy", "reference"))
        return Loss(loss.total + anchor.total.detach(), loss.weight)

    models = {"policy": toy_model(), "reference": toy_model(seed=1).requires_grad_(False)}
    before = {role: weights(model) for role, model in models.items()}
    ToyRun(RowBatches(toy_rows(3), 1), models, objective=objective).train()
    assert_same(weights(models["reference"]), before["reference"])
    assert all(parameter.grad is None for parameter in models["reference"].parameters())
    assert not torch.equal(weights(models["policy"])["model.norm.weight"], before["policy"]["model.norm.weight"])


def test_what_asks_for_a_gradient_must_be_optimised() -> None:
    models = {"policy": toy_model(), "reference": toy_model(seed=1)}
    with pytest.raises(AssertionError, match="the optimizer must hold exactly"):
        ToyRun(RowBatches(toy_rows(3), 1), models).train()


def test_gradients_do_not_outlive_their_step() -> None:
    run = ToyRun(RowBatches(toy_rows(3), 1), objective=PoisonedLoss({2}))
    run.train()
    assert all(parameter.grad is None for parameter in run.model.parameters())


def test_activation_checkpointing_takes_the_same_steps() -> None:
    taken = []
    for checkpointing in (False, True):
        run = ToyRun(RowBatches(toy_rows(6), 2))
        run.model.activation_checkpointing = checkpointing
        run.train()
        taken.append(weights(run.model))
    assert_same(taken[0], taken[1])


def test_train_state_is_plain_numbers_and_comes_back() -> None:
    state = TrainState(3, tokens=70, bad_steps=1, skipped_steps=2, rows_at_once=4, checkpointing=True, cuts=1)
    assert TrainState(**state.state_dict()) == state
    assert {type(value) for value in state.state_dict().values()} == {int, float, bool}


def test_a_state_saved_before_there_was_a_ladder_stands_above_it() -> None:
    state = TrainState(step=3, tokens=70, bad_steps=1, skipped_steps=2)
    assert (state.rows_at_once, state.checkpointing, state.cuts) == (0, False, 0)
