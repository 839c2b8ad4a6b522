from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from minimind.memory.cuda_kernels import CUBLAS_WORKSPACE_BYTES
from minimind.memory.trace import Trace, trace
from minimind.network.attention import document_mask, masked_attention, segment_positions
from minimind.network.model import MiniMind
from minimind.training.objectives import Loss, Models, next_token_loss
from minimind.training.recipe import Recipe
from tests.plans import BF16, MORE_REAL_CASES, REAL_CASES, WHOLE_GRID, Case, allocator_peaks

pytestmark = pytest.mark.slow

CASES = REAL_CASES | MORE_REAL_CASES if WHOLE_GRID else REAL_CASES


@pytest.fixture(scope="module")
def allocated() -> dict[str, int]:
    """What PyTorch's C++ allocator has handed out in the real steps, by case."""
    return allocator_peaks(CASES)


@pytest.mark.parametrize("name", CASES)
def test_the_peak_is_that_of_the_allocator_in_the_same_steps_for_real(name: str, allocated: dict[str, int]) -> None:
    assert trace(CASES[name].step, "cpu").peak_bytes == pytest.approx(allocated[name], rel=1e-3)


def bytes_of(steps: Trace, category: str) -> int:
    """All that was ever born in a category."""
    return sum(size for number, size in steps.events if steps.categories[number] == category)


def most(steps: Trace, category: str) -> int:
    """The largest tensor of a category."""
    return max((size for number, size in steps.events if steps.categories[number] == category), default=0)


def test_a_trace_is_the_same_every_time_and_costs_no_memory_of_its_size() -> None:
    case = Case(hidden=512, rows=512, width=64)
    first = trace(case.step)
    assert first == trace(case.step)
    assert first.peak_bytes > 2 << 30


def test_what_dies_was_born_and_dies_once() -> None:
    steps = trace(Case().step)
    alive: set[int] = set()
    for number, size in steps.events:
        assert (number in alive) == (size == 0)
        alive ^= {number}
    assert {steps.categories[number] for number in alive} == {"weights", "optimizer", "workspace"}


def test_the_breakdown_says_what_the_peak_is_made_of() -> None:
    case = Case(hidden=128, width=64, dtype=BF16, accumulation=2, vocab=6400)
    steps = trace(case.step)
    parts = steps.breakdown()
    model = case.step().models["policy"]
    weights = 4 * sum(parameter.numel() for parameter in model.parameters())
    matrices = sum(p.numel() for name, p in model.named_parameters() if ".layers." in name and p.ndim == 2)
    vectors = sum(p.ndim == 1 for p in model.parameters())
    assert sum(parts.values()) == steps.peak_bytes
    assert parts["weights"] == parts["gradients"] == weights
    assert parts["optimizer"] == 2 * weights - 4 * matrices + 4 * (vectors + 1)  # AdamW counts its steps per tensor
    assert parts["workspace"] == 2 * CUBLAS_WORKSPACE_BYTES
    assert list(parts.values()) == sorted(parts.values(), reverse=True)


def test_autocast_casts_every_weight_once_for_a_micro_batch() -> None:
    case = Case(dtype=BF16, optimizer="adamw")
    model = case.step().models["policy"]
    matrices = sum(p.numel() for p in model.parameters() if p.ndim == 2)
    for count in (1, 3):
        steps = trace(replace(case, accumulation=count).step)
        assert bytes_of(steps, "casts") == (1 + count) * 2 * matrices


def test_a_frozen_weight_is_cast_at_each_use_and_has_neither_gradient_nor_state() -> None:
    case = Case(rank=4, optimizer="adamw", dtype=BF16)
    steps = trace(case.step)
    adapter = sum(p.numel() for p in case.step().models["policy"].parameters() if p.requires_grad)
    assert bytes_of(steps, "adapters") == 4 * adapter
    assert steps.breakdown()["adapters"] == 4 * adapter
    assert bytes_of(steps, "gradients") == 2 * 4 * adapter
    assert 8 * adapter <= bytes_of(steps, "optimizer") < 8 * adapter + 4 * 100


def test_a_model_that_is_not_trained_is_a_part_of_its_own() -> None:
    def against_reference(models: Models, batch: Any) -> Loss:
        with torch.no_grad():
            frozen = next_token_loss({"policy": models["reference"]}, batch)
        loss = next_token_loss(models, batch)
        return replace(loss, total=loss.total - frozen.total)

    def with_reference() -> Recipe:
        step = Case().step()
        reference = MiniMind(Case().model_config).requires_grad_(False)
        return replace(step, models={**step.models, "reference": reference}, objective=against_reference)

    steps = trace(with_reference)
    weights = bytes_of(steps, "weights")
    assert bytes_of(steps, "reference") == weights
    assert trace(Case().step).peak_bytes + weights <= steps.peak_bytes < trace(Case().step).peak_bytes + 1.1 * weights


def scores(case: Case, size: int) -> int:
    """Bytes of the attention scores of one block."""
    return case.rows * case.heads * case.width * case.width * size


def test_on_cuda_a_mask_goes_with_the_kernel_that_holds_no_scores() -> None:
    case = Case(heads=8, kv_heads=2, width=512, dtype=BF16)
    assert most(trace(case.step), "activations") < scores(case, 2)
    narrow = replace(case, hidden=96, heads=8)  # heads of 12 numbers: the kernel wants a multiple of 8
    assert most(trace(narrow.step), "activations") >= scores(case, 4)


def test_on_cuda_without_a_mask_flash_attention_needs_a_gradient_of_queries_in_fp32() -> None:
    def one_document(models: Models, batch: Any) -> Loss:
        hidden_BTD = models["policy"](batch.tokens_BT)
        return Loss(hidden_BTD.float().sum(), torch.ones(()))

    case = Case(hidden=256, heads=4, kv_heads=2, width=500, dtype=BF16)
    steps = trace(lambda: replace(case.step(), objective=one_document))
    width = case.hidden // case.heads
    sizes = {size for number, size in steps.events if steps.categories[number] == "workspace"}
    assert 4 * case.rows * 512 * case.heads * width in sizes  # rows are rounded up to 128
    assert most(steps, "activations") < scores(case, 2)


def test_on_cuda_scratch_of_the_backward_pass_is_counted() -> None:
    case = Case(rows=8, width=512)
    steps = trace(case.step)
    workspaces = [size for number, size in steps.events if steps.categories[number] == "workspace"]
    gradient_of_queries = 4 * case.rows * case.heads * 8 * (4 + 64 * 64)
    partial_sums = 4 * (case.rows * case.width // 10 + case.vocab) * case.hidden
    assert workspaces.count(gradient_of_queries) == 2 * case.layers
    assert workspaces.count(partial_sums) == 2


def test_muon_works_in_bf16_on_cuda_and_in_fp32_on_a_cpu() -> None:
    case = Case(hidden=96, heads=4, rows=1, width=8)
    gram = 96 * 96
    for rules, kept in (("cuda", 2), ("cpu", 4)):
        steps = trace(case.step, rules)  # type: ignore[arg-type]
        sizes = [size for _, size in steps.events]
        assert sizes.count(kept * gram) > sizes.count((6 - kept) * gram)


def test_dropout_on_cuda_keeps_a_mask_of_bytes() -> None:
    case = Case(rank=4, dropout=0.5, optimizer="adamw", targets=("down_proj",), hidden=96, rows=4, width=100)
    wide = case.rows * case.width * case.model_config.intermediate_size
    sizes = [size for _, size in trace(case.step).events]
    assert wide in sizes
    assert wide not in [size for _, size in trace(case.step, "cpu").events]


def test_a_batch_comes_to_a_gpu_with_its_micro_batch_and_is_in_memory_on_a_cpu() -> None:
    case = Case(rows=4, width=32, accumulation=3)
    tokens = case.rows * case.width
    size = tokens * (8 + 1 + 4) + 8 * case.rows * (case.width - 1)
    assert bytes_of(trace(case.step, "cpu"), "batch") == size
    assert bytes_of(trace(case.step, "cuda"), "batch") == (1 + 3) * size


class NotOnCpu(TorchFunctionMode):
    """Tensors say that they are on no CPU."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return False if func == Tensor.is_cpu.__get__ else func(*args, **(kwargs or {}))  # type: ignore[attr-defined]


def test_attention_that_repeats_key_heads_is_the_same_attention() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 40, heads, 8, generator=generator) for heads in (6, 2, 2))
    segment_BT = torch.ones(2, 40, dtype=torch.int32)
    segment_BT[:, 15:] = 2
    mask = document_mask(segment_positions(segment_BT), torch.float32)
    expected = masked_attention(q, k, v, mask)
    with NotOnCpu():
        repeated = masked_attention(q, k, v, mask)
    torch.testing.assert_close(repeated, expected)
