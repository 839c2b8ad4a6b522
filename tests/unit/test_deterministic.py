"""Training on a GPU with deterministic kernels, as far as that can be seen without one: its operations, its memory."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import jobs
from jobs.stages.recipe import trial_recipe
from jobs.stages.table import STAGES
from minimind.device.deterministic import deterministic
from minimind.device.distributed import Parallel
from minimind.memory.trace import Trace, trace
from minimind.training.batch import TokenBatch
from minimind.training.objectives import Loss, Models, next_token_loss
from minimind.training.optim import OptimConfig
from minimind.training.recipe import LoopConfig, Recipe
from minimind.training.train_state import TrainState
from minimind.training.trial_steps import run_trial_steps
from tests.plans import BF16, FP16, Case
from tests.small import small_spec
from tests.toys import OnCuda, RecordingHooks, RowBatches, ToyRun, toy_rows

CUDA = torch.device("cuda", 0)

REFUSED = {
    "_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward", "_ctc_loss_backward",
    "_embedding_bag_dense_backward", "adaptive_max_pool2d_backward", "avg_pool3d_backward", "bincount", "cumsum",
    "cumsum_", "fractional_max_pool2d_backward", "fractional_max_pool3d_backward", "grid_sampler_2d_backward",
    "grid_sampler_3d_backward", "histc", "kthvalue", "max_unpool2d", "max_unpool3d", "median", "nll_loss2d_forward",
    "nll_loss_forward", "put_", "reflection_pad1d_backward", "reflection_pad2d_backward", "reflection_pad3d_backward",
    "resize_", "scatter_reduce", "scatter_reduce_", "upsample_bicubic2d_backward", "upsample_bilinear2d_backward",
    "upsample_linear1d_backward", "upsample_trilinear3d_backward",
}  # fmt: skip
"""Operations that raise on CUDA in that mode, at least for some arguments: the list in the docstring of
`torch.use_deterministic_algorithms` of PyTorch 2.13, as ATen names them.
"""

CHANGED = {"scatter_add_", "_index_put_impl_", "index_put_", "index_put"}
"""Operations of training that take another kernel in that mode, or sort before they add."""


class Seen(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's __init_subclass__
    """The names of all operations below autograd."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_no_operation_of_a_step_is_refused() -> None:
    cases = [
        Case(width=24),
        Case(width=24, dtype=BF16, accumulation=2, tied=False),
        Case(width=24, dtype=FP16, optimizer="adamw"),
        Case(width=24, rank=2, dropout=0.1, optimizer="adamw"),
    ]
    torch.use_deterministic_algorithms(True)
    try:
        with Seen() as seen, OnCuda():
            for case in cases:
                run_trial_steps(case.step(), 2)
    finally:
        torch.use_deterministic_algorithms(False)
    assert seen.names >= {"embedding_dense_backward", "scatter_add_", "bernoulli_", "cummax", "_foreach_norm"}
    assert seen.names & CHANGED
    assert not seen.names & REFUSED


@pytest.mark.parametrize("name", [name for name in STAGES if not STAGES[name].closed_form])
@pytest.mark.parametrize("settings", [{}, {"adapter": '{"rank": 2}'}], ids=["whole", "adapter"])
def test_no_operation_of_a_stage_is_refused(name: str, settings: dict[str, str]) -> None:
    if name == "reward" and settings:
        pytest.skip("a reward model has no adapter")
    torch.use_deterministic_algorithms(True)
    try:
        with Seen() as seen:
            run_trial_steps(trial_recipe(small_spec(name, **settings), torch.float32), 2)
    finally:
        torch.use_deterministic_algorithms(False)
    assert len(seen.names) > 40
    assert not seen.names & REFUSED


def test_it_holds_inside_and_only_there() -> None:
    settings: Any = torch.utils.deterministic
    with deterministic(CUDA):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()  # then attention would not obey
        assert not settings.fill_uninitialized_memory
    assert not torch.are_deterministic_algorithms_enabled()
    assert settings.fill_uninitialized_memory
    for device, wanted in ((CUDA, False), (torch.device("cpu"), True)):
        with deterministic(device, wanted):
            assert not torch.are_deterministic_algorithms_enabled()


class StaysWhereItIs(TokenBatch):
    """A batch that says it has gone to a GPU."""

    def to(self, device: torch.device) -> Self:
        return self


class StayingRows(RowBatches):
    def take(self, count: int) -> list[TokenBatch]:
        return [StaysWhereItIs(b.tokens_BT, b.loss_mask_BT, b.segment_BT, b.rows) for b in super().take(count)]


class SaysItIsOnAGpu(Parallel):
    """A process whose device is a GPU, but for all that would ask one."""

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def peak_memory_bytes(self) -> int:
        return 0

    def rng_state(self) -> dict[str, Tensor]:
        return Parallel().rng_state()

    def set_rng_state(self, state: dict[str, Tensor]) -> None:
        Parallel().set_rng_state(state)


class Watching(RecordingHooks):
    """Notes whether kernels are deterministic where the loop calls others."""

    def __init__(self, seen: dict[str, set[bool]]) -> None:
        super().__init__()
        self.seen = seen

    def evaluate(self, state: TrainState) -> None:
        note(self.seen, "evaluate")

    def save(self, state: TrainState) -> None:
        note(self.seen, "save")


def note(seen: dict[str, set[bool]], where: str) -> None:
    seen.setdefault(where, set()).add(torch.are_deterministic_algorithms_enabled())


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_the_loop_asks_for_them_around_forward_backward_and_update_and_nowhere_else(
    name: str, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, set[bool]] = {}

    def objective(models: Models, batch: TokenBatch) -> Loss:
        note(seen, "forward")
        loss = next_token_loss(models, batch)
        loss.total.register_hook(lambda _: note(seen, "backward"))  # type: ignore[no-untyped-call]
        return loss

    run = ToyRun(
        StayingRows(toy_rows(8), 2),
        objective=objective,
        optim=OptimConfig.model_validate({"name": name}),
        loop=LoopConfig(accumulation_steps=2, deterministic=wanted, eval_interval=1),
        worst=StayingRows(toy_rows(2), 2).take(1)[0],
    )
    run.parallel = SaysItIsOnAGpu(device=CUDA)
    update = run.optimizer.step

    def watched() -> None:
        note(seen, "update")
        update()

    monkeypatch.setattr(run.optimizer, "step", watched)
    run.train(Watching(seen))
    assert run.state.step == 2
    inside, outside = {wanted}, {False}
    assert seen == {
        "forward": inside,
        "backward": inside,
        "update": inside,
        "evaluate": outside,
        "save": outside,
    }


def test_what_cannot_be_repeated_is_refused_in_words() -> None:
    words = r"(?s)loop.deterministic = true.*cumsum.*--set loop.deterministic=false"
    with pytest.raises(ValueError, match=words), deterministic(CUDA):
        raise RuntimeError("cumsum_cuda_kernel does not have a deterministic implementation, but you set ...")
    assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(RuntimeError, match="of another kind"), deterministic(CUDA):
        raise RuntimeError("of another kind")


def test_cublas_is_told_before_torch_is_loaded() -> None:
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] in (":4096:8", ":16:8")
    assert "CUBLAS_WORKSPACE_CONFIG" in jobs.WORKER_ENVIRONMENT


def workspaces(steps: Trace) -> list[int]:
    return [size for number, size in steps.events if size and steps.categories[number] == "workspace"]


def test_the_plan_knows_which_kernels_are_taken() -> None:
    wide = Case(hidden=256, heads=2, kv_heads=1, width=512, dtype=BF16)  # heads of 128 numbers keep sums of keys

    def quick() -> Recipe:
        return replace(wide.step(), loop=wide.loop.model_copy(update={"deterministic": False}))

    fixed, free = (max(size for size in workspaces(trace(make)) if size < 1 << 24) for make in (wide.step, quick))
    queries = 8 * 2 * (4 + 64 * 64)
    one_block = 2 * 64 * 128
    assert fixed == 4 * wide.rows * wide.heads * (queries + one_block)
    assert free == 4 * wide.rows * wide.heads * (queries + 8 * one_block)
