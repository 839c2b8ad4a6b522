"""Real processes that train together over gloo."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from minimind.device.distributed import Parallel


def run_ranks(world: int, function: Callable[[Parallel], Any], folder: Path) -> list[Any]:
    """What `function` gives on each of `world` new processes, in order of rank. It must be importable by name.

    The processes meet through a file in `folder` and talk over the loopback interface: no port is chosen here.
    """
    spawn(_rank, (world, function, str(folder)), nprocs=world)  # type: ignore[no-untyped-call]
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(world)]


def _rank(rank: int, world: int, function: Callable[[Parallel], Any], folder: str) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    try:
        torch.save(function(Parallel(rank, world)), Path(folder) / f"rank{rank}.pt")
        dist.barrier()
    finally:
        dist.destroy_process_group()
