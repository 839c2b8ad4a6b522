"""Whether a training step fits a card, said before it runs and without one.

Three levels, each dearer and closer to the truth than the one before:

- `minimind.memory.closed_form`: the peak in bytes from the shapes alone, in microseconds, within 3 % of the trace. It
  may only reject.
- `minimind.memory.trace`: the real step of the real loop on fake tensors, about a second.
- `minimind.memory.allocator`: the trace through a model of the caching allocator: what must be reserved, in
  milliseconds. It is the judge, for what lies between tensors adds 2 to 30 %.

On top of what is reserved come the CUDA context, the display and a margin. None of this has been measured on a GPU:
until a `Calibration` of the very card is given, a plan calls itself uncalibrated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from minimind.memory.allocator import MIB, replay, smallest_limit
from minimind.memory.closed_form import CLOSED_FORM_ERROR, Shape, closed_form
from minimind.memory.trace import Rules, trace
from minimind.training.recipe import Recipe


@dataclass(frozen=True)
class Platform:
    """Where a step runs, and what else takes memory there.

    context_bytes: what the CUDA driver keeps for one process, its kernels and its state. display_bytes: what the
    desktop and its windows take. expandable: whether the allocator's expandable segments can be used. rules: whose
    kernels and autocast (see `minimind.memory.trace`); the CPU's allocator has no pools.
    """

    context_bytes: int
    display_bytes: int
    expandable: bool
    rules: Rules = "cuda"


PLATFORMS = {
    "linux": Platform(context_bytes=300 * MIB, display_bytes=300 * MIB, expandable=True),
    "wsl2": Platform(context_bytes=300 * MIB, display_bytes=500 * MIB, expandable=False),
    "windows": Platform(context_bytes=300 * MIB, display_bytes=500 * MIB, expandable=False),
    "cpu": Platform(context_bytes=600 * MIB, display_bytes=0, expandable=False, rules="cpu"),
    "emulated": Platform(context_bytes=0, display_bytes=0, expandable=False, rules="cpu"),
}
"""For "emulated", a limit on the tensors of a CPU, nothing is beside them. The others are assumed, not measured.
Context: 300 to 400 MB are reported with lazily loaded kernels (pytorch#107667, #109888); a process that trains on a CPU
holds about 600 MB of Python, PyTorch and Ray. A display on the same card: 300 MB for a Linux desktop, 500 MB where
Windows draws the desktop, also under WSL 2. A card without a screen needs no display; pass a Platform of your own.
Expandable segments were for long not to be had on Windows, and whether WSL 2 has them is not known here, so they are
used on Linux alone.
"""

UNCALIBRATED_SAFETY = 1.05

EMULATED_SAFETY = 1.01
"""Where tensors alone count, the trace is within 0.1 % of what they take."""


@dataclass(frozen=True)
class Calibration:
    """How far predictions were off in three short runs on one card.

    allocated, reserved: measured over predicted, the largest of the runs. context_bytes: memory in use that the
    allocator did not reserve, the display's included. card, driver, torch, system: what it is valid for.
    """

    allocated: float
    reserved: float
    context_bytes: int
    card: str
    driver: str
    torch: str
    system: str

    @property
    def safety(self) -> float:
        """What to multiply a prediction by: the largest ratio seen, and one percent."""
        return max(1.0, self.reserved) + 0.01


Verdict = Literal["fits", "tight", "does not fit"]


@dataclass(frozen=True)
class MemoryPlan:
    """What a step needs, in bytes, and whether a card has it.

    verdict: "tight" is what fits without the margin for error and not with it. level: what decided, "closed form" or
    "replay". capacity_bytes: of the card. needed_bytes: with context, display and margin. peak_bytes: of tensors alive
    at once. breakdown: the parts of needed_bytes at the moment of the peak, largest first; "fragmentation" is what the
    allocator must reserve beyond the tensors. calibrated: whether ratios of this very card were used. phases: the peaks
    of what a step does one after the other, see `Trace.phases`.
    """

    verdict: Verdict
    level: Literal["closed form", "replay"]
    capacity_bytes: int
    needed_bytes: int
    peak_bytes: int
    breakdown: dict[str, int] = field(default_factory=dict)
    calibrated: bool = False
    phases: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Need:
    """What a step takes on a platform, in bytes. peak_bytes: of tensors alive at once. reserved_bytes: what the
    allocator must hold for them. unlimited_bytes: what it holds where nothing limits it and nothing is given back.
    breakdown: of the peak. phases: see `Trace.phases`.
    """

    peak_bytes: int
    reserved_bytes: int
    unlimited_bytes: int
    breakdown: dict[str, int]
    phases: dict[str, int] = field(default_factory=dict)


def need(make: Callable[[], Recipe], platform: Platform) -> Need:
    """What a step of the recipe that `make` builds (see `trace`) takes: about a second."""
    steps = trace(make, platform.rules)
    peak = steps.peak_bytes
    reserved = unlimited = peak
    if platform.rules == "cuda":
        reserved = smallest_limit(steps.events, platform.expandable)
        unlimited = replay(steps.events, expandable=platform.expandable).peak_reserved
    return Need(peak, reserved, unlimited, steps.breakdown(), steps.phases())


def rejected(
    shape: Shape, capacity_bytes: int, platform: Platform, calibration: Calibration | None = None
) -> MemoryPlan | None:
    """A plan for what cannot fit a card of `capacity_bytes`, by the closed form; None where only a trace can tell."""
    if platform.rules != "cuda":
        return None
    least = int(closed_form(shape) * (1 - CLOSED_FORM_ERROR))
    parts = {"tensors": least, **_outside(platform, calibration)}
    total = sum(parts.values())
    if total <= capacity_bytes:
        return None
    return MemoryPlan(
        "does not fit", "closed form", capacity_bytes, total, least, _by_size(parts), calibration is not None
    )


def judge(needs: Need, capacity_bytes: int, platform: Platform, calibration: Calibration | None = None) -> MemoryPlan:
    """Whether what a step needs fits a card of `capacity_bytes`."""
    outside = _outside(platform, calibration)
    if calibration:
        safety = calibration.safety
    else:
        safety = EMULATED_SAFETY if platform == PLATFORMS["emulated"] else UNCALIBRATED_SAFETY
    with_margin = math.ceil(needs.reserved_bytes * safety)
    needed = with_margin + sum(outside.values())
    verdict: Verdict = "does not fit"
    if needed <= capacity_bytes:
        verdict = "fits"
    elif needs.reserved_bytes + sum(outside.values()) <= capacity_bytes:
        verdict = "tight"
    parts = needs.breakdown | {
        "fragmentation": needs.reserved_bytes - needs.peak_bytes,
        "margin": with_margin - needs.reserved_bytes,
        **outside,
    }
    parts = {name: part for name, part in parts.items() if part}
    calibrated = calibration is not None
    peak, phases = needs.peak_bytes, needs.phases
    return MemoryPlan(verdict, "replay", capacity_bytes, needed, peak, _by_size(parts), calibrated, phases)


def _outside(platform: Platform, calibration: Calibration | None) -> dict[str, int]:
    """Bytes that the CUDA context and the display take. A calibration measures the two as one."""
    if calibration is not None:
        return {"context": calibration.context_bytes}
    return {"context": platform.context_bytes, "display": platform.display_bytes}


def largest_batch(judged: Callable[[int], MemoryPlan], most: int = 1024) -> int:
    """The most rows, up to `most`, with which a plan fits; 0 if not even one does.

    judged: rows -> plan. What is needed grows almost in a straight line, so the next number to try is where the line
    through the last two plans reaches the capacity: three to five plans instead of ten.
    """
    low, high = 0, most + 1
    known: list[tuple[int, MemoryPlan]] = []
    rows = 1
    while high - low > 1:
        plan = judged(rows)
        known.append((rows, plan))
        if plan.verdict == "fits":
            low = rows
        else:
            high = rows
        replayed = [(n, p.needed_bytes) for n, p in known if p.level == "replay"][-2:]
        if len(replayed) == 2 and replayed[0][1] != replayed[1][1]:
            (n0, bytes0), (n1, bytes1) = replayed
            rows = n0 + math.floor((plan.capacity_bytes - bytes0) * (n1 - n0) / (bytes1 - bytes0))
            rows += rows == low  # to see whether one more would do
        else:
            rows = 2 * rows if high > most else (low + high) // 2
        rows = min(max(rows, low + 1), high - 1)
    return low


def _by_size(parts: dict[str, int]) -> dict[str, int]:
    return dict(sorted(parts.items(), key=lambda item: -item[1]))
