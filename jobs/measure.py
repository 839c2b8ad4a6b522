"""A few real steps of a run on this machine's device, on made-up rows: what they take in memory and time."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace

import torch
from rich.console import Console

from jobs.card import Card, calibration_path, identity, this_card
from jobs.plan import Planner, shape_of, step_of
from jobs.presets import pretrain
from jobs.spec import RunSpec
from minimind.limit import MemoryLimit
from minimind.memory import Calibration
from minimind.rehearsal import rehearse
from minimind.units import memory

CALIBRATION_ROWS = (1, 4, 16)
"""Three sizes of the same step: ratios of small and large ones differ, and the largest counts."""


@dataclass(frozen=True)
class Measured:
    """peak_bytes: of tensors. reserved_bytes: what the allocator held for them. outside_bytes: in use beside it,
    by CUDA, the desktop and other programs; 0 on a CPU. tokens_per_s: with one micro-batch to a step.
    """

    peak_bytes: int
    reserved_bytes: int
    outside_bytes: int
    tokens_per_s: float


def measure(spec: RunSpec, steps: int = 3) -> Measured:
    """Make so many steps of the run on the device that is here, and two more to see what they take."""
    card = this_card()
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    shape = shape_of(spec, card.dtype)
    with device:
        step = step_of(spec, shape)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        rehearse(step, 2, device)
        peak, reserved = torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)
        free, total = torch.cuda.mem_get_info(device)
        outside = total - free - torch.cuda.memory_reserved(device)
    else:
        with MemoryLimit() as limit:
            rehearse(step, 2)
        peak = reserved = limit.peak_bytes
        outside = 0
    single = replace(step, loop=step.loop.model_copy(update={"accumulation_steps": 1}))
    began = time.perf_counter()
    rehearse(single, steps, device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    tokens_per_s = steps * shape.rows * shape.width / (time.perf_counter() - began)
    return Measured(peak, reserved, outside, tokens_per_s)


def calibrate(console: Console) -> Calibration:
    """Three short runs at three sizes on this machine's GPU; what they show is kept for every plan to come.

    Raises ValueError where there is no GPU.
    """
    if not torch.cuda.is_available():
        raise ValueError("minimind plan --calibrate measures a GPU, and PyTorch sees none here")
    card = replace(this_card(), calibration=None)
    specs = [_with_rows(pretrain("30m"), rows) for rows in CALIBRATION_ROWS]
    seen = _ratios(card, specs, [measure(spec) for spec in specs])
    path = calibration_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(seen), indent=2) + "\n", "utf-8")
    console.print(
        f"{card.name}: tensors take {seen.allocated:.3f} and the allocator holds {seen.reserved:.3f} times what is "
        f"planned; {memory(seen.context_bytes)} are in use beside it. Plans count on that from now on ({path})."
    )
    return seen


def _ratios(card: Card, specs: list[RunSpec], found: list[Measured]) -> Calibration:
    planner = Planner(card)
    needs = [planner.need(spec) for spec in specs]
    return Calibration(
        allocated=max(one.peak_bytes / need.peak_bytes for one, need in zip(found, needs, strict=True)),
        reserved=max(one.reserved_bytes / need.reserved_bytes for one, need in zip(found, needs, strict=True)),
        context_bytes=max(one.outside_bytes for one in found),
        **identity(),
    )


def _with_rows(spec: RunSpec, rows: int) -> RunSpec:
    return spec.model_copy(update={"loop": spec.loop.model_copy(update={"batch_size": rows})})
