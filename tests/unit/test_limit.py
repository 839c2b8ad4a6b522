from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from minimind.device.distributed import Parallel
from minimind.device.limit import MemoryLimit, active, count_tensors, is_limited, is_out_of_memory, limited_memory
from minimind.memory.trace import trace
from minimind.training.batch import worst_batch
from minimind.training.trial_steps import run_trial_steps
from tests.plans import REAL_CASES, Case

CPU = torch.device("cpu")


def counted_peak(case: Case) -> int:
    """The peak of two real steps, as the limit counts it."""
    step = case.step()
    limit = MemoryLimit()
    with limit:
        run_trial_steps(step, 2)
    return limit.peak_bytes


@pytest.mark.parametrize("case", REAL_CASES.values(), ids=REAL_CASES.keys())
def test_real_steps_have_the_peak_of_the_trace(case: Case) -> None:
    assert counted_peak(case) == pytest.approx(trace(case.step, "cpu").peak_bytes, rel=1e-3)


def test_what_is_alive_is_held_and_views_cost_nothing() -> None:
    with MemoryLimit() as limit:
        kept = torch.zeros(1000)
        view = kept[10:].view(99, 10)
        several = torch.split(torch.ones(60) + 1, 20)
        assert limit.held_bytes == 4000 + 240
        del kept
        assert limit.held_bytes == 4000 + 240
        del view, several
        assert limit.held_bytes == 0
    assert limit.peak_bytes == 4000 + 2 * 240


def test_past_the_limit_it_raises_and_says_how_much() -> None:
    with MemoryLimit(10_000) as limit:
        first = torch.zeros(2000)
        with pytest.raises(torch.OutOfMemoryError, match="4 KB more .* 8 KB in use: the limit is 10 KB"):
            torch.zeros(1000)
        second = torch.zeros(500)
    assert limit.held_bytes == limit.peak_bytes == first.nbytes + second.nbytes


def test_scratch_space_of_a_kernel_counts() -> None:
    x = torch.zeros(1000)
    with MemoryLimit(7999), pytest.raises(torch.OutOfMemoryError):
        x.add_(torch.zeros(1000, dtype=torch.float64))
    half = torch.zeros(1000, dtype=torch.float16)
    with MemoryLimit() as limit:
        x.mul_(half)
    assert (limit.held_bytes, limit.peak_bytes) == (0, 4000)


def test_backward_counts_as_well() -> None:
    x = torch.ones(1000, requires_grad=True)
    with MemoryLimit() as limit:
        torch.autograd.backward(x.exp().sum())
        assert x.grad is not None
        assert limit.held_bytes == x.grad.nbytes
    with MemoryLimit(8000), pytest.raises(torch.OutOfMemoryError):
        torch.autograd.backward((x.exp() * 2).sum())


def test_what_was_made_elsewhere_counts_once_it_is_adopted() -> None:
    batch = worst_batch(2, 8)
    size = 16 * (8 + 1 + 4) + 14 * 8
    with MemoryLimit() as limit:
        count_tensors([batch], {"again": batch})
        assert limit.held_bytes == size
    with MemoryLimit(size - 1) as limit, pytest.raises(torch.OutOfMemoryError):
        limit.count_tensors(batch)
    count_tensors(batch)  # nothing is active, nothing happens


def test_tensors_without_memory_on_the_cpu_do_not_count() -> None:
    with MemoryLimit(1):
        torch.empty(1000, device="meta")


def test_the_active_limit_is_the_innermost_and_says_the_peak() -> None:
    resident = Parallel().peak_memory_bytes()
    assert active() is None
    with MemoryLimit(), MemoryLimit() as inner:
        assert active() is inner
        torch.zeros(500)
        assert Parallel().peak_memory_bytes() == 2000
    assert active() is None
    assert Parallel().peak_memory_bytes() >= resident > 2000


def test_hold_limits_a_cpu_where_a_limit_is_given() -> None:
    with limited_memory(CPU, 1000):
        assert is_limited(CPU)
        with pytest.raises(torch.OutOfMemoryError):
            torch.zeros(1000)
    with limited_memory(CPU, None):
        assert not is_limited(CPU)
        torch.zeros(1000)
    with MemoryLimit():
        assert not is_limited(CPU)
    assert is_limited(torch.device("cuda", 0))


@pytest.mark.parametrize(("limit_bytes", "fraction"), [(3 << 30, 0.75), (8 << 30, 1.0), (0, 0.0), (-(200 << 20), 0.0)])
def test_hold_gives_a_gpu_the_share_that_is_left_of_it(
    monkeypatch: pytest.MonkeyPatch, limit_bytes: int, fraction: float
) -> None:
    shares: list[float] = []
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=4 << 30))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, device: shares.append(share))
    with limited_memory(torch.device("cuda", 0), limit_bytes):
        assert shares == [fraction]
    assert shares == [fraction, 1.0]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("NCCL error: unhandled cuda error\nLast error:\nCuda failure 2 'out of memory'"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 bytes. Error code 12"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4096 bytes."),
        MemoryError("Unable to allocate 8.00 GiB for an array"),
    ],
    ids=str,
)
def test_every_kind_of_running_out_of_memory_is_known(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
        ValueError("out of memory"),
        OSError(28, "No space left on device"),
    ],
    ids=str,
)
def test_other_errors_are_not_about_memory(error: Exception) -> None:
    assert not is_out_of_memory(error)
