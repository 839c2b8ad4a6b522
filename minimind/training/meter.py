"""What steps add up to, on one rank and over all of them, and how long they take."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from minimind.device.distributed import Parallel
from minimind.training.out_of_memory import Shortage
from minimind.training.precision import Precision
from minimind.training.train_state import TrainState


@dataclass
class Sums:
    """What steps add up to, on one rank or over all. pairs: (sum, weight) by metric name, the loss among them.
    shortages: where memory ran out; then the rest means nothing.
    """

    pairs: dict[str, tuple[float, float]] = field(default_factory=dict)
    tokens: int = 0
    slots: int = 0
    peak_bytes: int = 0
    stop: bool = False
    shortages: list[Shortage] = field(default_factory=list)

    def add(self, name: str, total: float, weight: float) -> None:
        """Count a sum over `weight` units towards the metric of this name."""
        known = self.pairs.get(name, (0.0, 0.0))
        self.pairs[name] = (known[0] + total, known[1] + weight)

    @classmethod
    def over(cls, parts: Iterable[Sums]) -> Sums:
        """The parts together."""
        whole = cls()
        for part in parts:
            for name, (total, weight) in part.pairs.items():
                whole.add(name, total, weight)
            whole.tokens += part.tokens
            whole.slots += part.slots
            whole.peak_bytes = max(whole.peak_bytes, part.peak_bytes)
            whole.stop |= part.stop
            whole.shortages += part.shortages
        return whole


RowsLoss = tuple[tuple[int, ...], float]
"""The rows of a micro-batch, and its loss."""


class Meter:
    """Time and sums since the last row of metrics."""

    def __init__(self, parallel: Parallel) -> None:
        self.parallel = parallel
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.sums = Sums()
        self.steps = 0
        self.wait_s = self.busy_s = self.norm = self.rate = 0.0

    def start(self) -> None:
        """A step begins."""
        self.started = time.perf_counter()

    def data_ready(self) -> None:
        """The step has its batches."""
        self.waited_s = time.perf_counter() - self.started

    def finish(self, sums: Sums, norm: float, rate: float) -> None:
        """The step has changed the weights. norm: of its gradient before clipping. rate: of learning."""
        self.parallel.synchronize()
        self.busy_s += time.perf_counter() - self.started
        self.wait_s += self.waited_s
        self.sums = Sums.over((self.sums, sums))
        self.steps += 1
        self.norm, self.rate = norm, rate

    def read(self, state: TrainState, precision: Precision) -> dict[str, float]:
        """The metrics since the last reading, but for those that nothing was measured of."""
        sums = self.sums
        metrics = {name: total / weight for name, (total, weight) in sums.pairs.items() if weight}
        metrics |= {
            "train/grad_norm": self.norm,
            "train/lr": self.rate,
            "train/skipped_steps": state.skipped_steps,
            "perf/tokens_per_s": sums.tokens / self.busy_s,
            "perf/step_s": self.busy_s / self.steps,
            "perf/data_wait_s": self.wait_s / self.steps,
            "perf/utilisation": sums.tokens / max(1, sums.slots),
            "perf/peak_memory_bytes": sums.peak_bytes,
        }
        if precision.scaler.is_enabled():
            metrics["train/loss_scale"] = precision.scaler.get_scale()
        self.reset()
        return metrics
