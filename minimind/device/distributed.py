"""Where a process stands among its peers: rank, world, device; and the few collectives that training needs.

Gradients are summed once per optimizer step, after accumulation, by `Parallel.sum_`. There is no module wrapper, so
there is no way to call a model "around" it and lose the averaging.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psutil
import torch
import torch.distributed as dist
from torch import Tensor

from minimind.device import limit

T = TypeVar("T")

BUCKET_ELEMENTS = 1 << 23
"""Elements per collective call: 32 MiB of fp32, which bounds the copy that flattening makes."""


@dataclass(frozen=True)
class Parallel:
    """A process among its peers. rank: 0..world-1. device: where its tensors live."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def sum_(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum over all ranks, in place; the order of addition is the same on every call."""
        if self.world == 1:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            dist.all_reduce(flat)
            pieces = torch.split(flat, [tensor.numel() for tensor in bucket])
            for tensor, piece in zip(bucket, pieces, strict=True):
                tensor.copy_(piece.view_as(tensor))

    def same_(self, tensors: Iterable[Tensor]) -> None:
        """Give every rank the tensors of rank 0, in place."""
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def gather(self, value: T) -> list[T]:
        """The value of every rank, in order of rank, on every rank."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def synchronize(self) -> None:
        """Wait for the device, so that a clock read now tells the truth."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def peak_memory_bytes(self) -> int:
        """The most memory held so far: allocated on the GPU; on a CPU counted by a limit that this thread has entered,
        else resident in this process.
        """
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        if (counted := limit.active()) is not None:
            return counted.peak_bytes
        if sys.platform == "win32":
            return int(psutil.Process().memory_info().peak_wset)
        import resource  # not on Windows

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024

    def rng_state(self) -> dict[str, Tensor]:
        """The state of every random generator that training may draw from on this rank."""
        state = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self.device)
        return state

    def set_rng_state(self, state: dict[str, Tensor]) -> None:
        """Continue the generators where `rng_state` left them."""
        torch.set_rng_state(state["cpu"])
        if self.device.type == "cuda" and "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"], self.device)


def _buckets(tensors: Iterable[Tensor]) -> Iterable[list[Tensor]]:
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and (size + tensor.numel() > BUCKET_ELEMENTS or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.numel()
    if bucket:
        yield bucket
