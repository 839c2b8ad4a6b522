"""The real loop for a few steps on the worst batch, with nobody watching: to measure a step before a run."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch

from minimind.batch import Batch
from minimind.distributed import Parallel
from minimind.loop import LoopConfig, Precision, TrainState, train
from minimind.objectives import Models, Objective
from minimind.optim import Optimizer


@dataclass(frozen=True)
class Step:
    """What the loop needs to make a step. dtype: of autocast."""

    models: Models
    objective: Objective
    optimizer: Optimizer
    batch: Batch
    loop: LoopConfig
    dtype: torch.dtype


def rehearse(step: Step, steps: int, device: torch.device | None = None) -> None:
    """Make so many steps. The first has one micro-batch, the others have at most three: a fourth changes nothing.

    device: where the models are, by default the CPU. Raises as `minimind.loop.train`; where memory runs
    out it ends, for a step that adapts is another one.
    """
    device = device or torch.device("cpu")
    scaled = step.dtype == torch.float16
    train(
        step.models,
        step.objective,
        _Endless(step.batch),
        step.optimizer,
        lambda _: 1e-3,
        step.loop.model_copy(update={"eval_interval": None, "save_interval": None, "out_of_memory": "fail"}),
        TrainState(),
        NoHooks({"step_skipped"} if scaled else ()),  # float16 finds its loss scale by skipping
        precision=Precision(step.dtype, device, units_per_step=step.batch.slots),
        parallel=Parallel(device=device),
        total_steps=steps,
        grad_clip=1.0,
    )


class NoHooks:
    """Logs, validates and saves nothing; a note is an error, unless it is of one of these kinds."""

    def __init__(self, expected: Collection[str] = ()) -> None:
        self.expected = expected

    def log(self, state: TrainState, metrics: dict[str, float]) -> None:
        """Nothing."""

    def note(self, kind: str, text: str, **details: Any) -> None:
        """What is noted makes the step another one than was to be measured."""
        if kind not in self.expected:
            raise AssertionError(text)

    def evaluate(self, state: TrainState) -> None:
        """Nothing."""

    def save(self, state: TrainState) -> None:
        """Nothing."""

    def should_stop(self, state: TrainState) -> bool:
        """Never."""
        return False


@dataclass
class _Endless:
    """A source that always gives the same batch. most: how often at the next step."""

    batch: Batch
    done: bool = False
    most: int = 1

    def take(self, count: int) -> list[Batch]:
        taken, self.most = min(count, self.most), 3
        return [self.batch] * taken

    def stop_reading_ahead(self) -> bool:
        return False

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        return None
