from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from minimind.device import distributed
from minimind.device.distributed import Parallel
from tests.ranks import run_ranks
from tests.toys import assert_same


def test_alone_there_is_nothing_to_exchange() -> None:
    parallel = Parallel()
    tensor = torch.ones(3)
    parallel.sum_([tensor])
    parallel.same_([tensor])
    parallel.synchronize()
    assert torch.equal(tensor, torch.ones(3))
    assert parallel.gather("x") == ["x"]
    assert parallel.gather(None) == [None]


def test_peak_memory_is_at_least_what_is_held_and_never_falls() -> None:
    parallel = Parallel()
    held = torch.ones(5_000_000)
    peak = parallel.peak_memory_bytes()
    assert peak > held.nbytes
    del held
    assert parallel.peak_memory_bytes() >= peak


def test_random_numbers_continue_where_their_state_was_kept() -> None:
    parallel = Parallel()
    torch.rand(3)
    state = parallel.rng_state()
    first = torch.rand(5)
    torch.rand(7)
    parallel.set_rng_state(state)
    assert torch.equal(torch.rand(5), first)


def tensors(rank: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(rank)
    shapes = [(), (3,), (4, 5), (7,), (2, 3, 2)]
    return [torch.randn(shape, generator=generator) for shape in shapes] + [torch.full((2,), rank, dtype=torch.float64)]


def exchange(parallel: Parallel) -> dict[str, Any]:
    """What one of two ranks sees of every collective."""
    distributed.BUCKET_ELEMENTS = 10  # several buckets
    summed = tensors(parallel.rank)
    kept = summed[2]
    parallel.sum_(summed)
    assert summed[2] is kept
    again = tensors(parallel.rank)
    parallel.sum_(iter(again))
    same = tensors(parallel.rank)
    parallel.same_(same)
    return {
        "sum": summed,
        "again": again,
        "same": same,
        "gather": parallel.gather({"rank": parallel.rank}),
        "nothing": parallel.gather(None),
    }


@pytest.mark.slow
def test_two_ranks_exchange_sums_copies_and_values(tmp_path: Path) -> None:
    first, second = run_ranks(2, exchange, tmp_path)
    expected = [a + b for a, b in zip(tensors(0), tensors(1), strict=True)]
    assert_same(first["sum"], expected)
    assert_same(first["again"], expected)
    assert_same(first["same"], tensors(0))
    assert first["gather"] == [{"rank": 0}, {"rank": 1}]
    assert first["nothing"] == [None, None]
    assert_same(first, second)


def test_parallel_cannot_change_its_place() -> None:
    with pytest.raises(AttributeError):
        Parallel().rank = 1  # type: ignore[misc]
