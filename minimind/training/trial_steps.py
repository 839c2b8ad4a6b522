"""A few steps of the real loop on the worst batch, which nobody watches: to see what a step takes before a run."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

import torch

from minimind.device.distributed import Parallel
from minimind.training.batch import Batch
from minimind.training.loop import train
from minimind.training.precision import Precision
from minimind.training.recipe import Recipe
from minimind.training.train_state import TrainState


def run_trial_steps(recipe: Recipe, steps: int, device: torch.device | None = None) -> None:
    """Make n steps on `recipe.worst`. The first has one micro-batch, the others have at most three: a fourth changes
    nothing. Behind them is `recipe.beside`, where there is one. Before each, what the source computes at most is
    computed (`recipe.worst_take`).

    device: where the models are, by default the CPU. Raises as `minimind.training.loop.train`; where memory runs
    out it ends, for a step that adapts is another one.
    """
    device = device or torch.device("cpu")
    assert recipe.worst is not None, "a plan needs to know the worst batch"
    dtype = recipe.precision.dtype
    unwatched = {"eval_interval": None, "save_interval": None, "out_of_memory": "fail"}
    trial = replace(
        recipe,
        batches=Repeated(recipe.worst, recipe.worst_take, recipe.beside),
        precision=Precision(dtype, device, units_per_step=recipe.worst.slots),
        loop=recipe.loop.model_copy(update=unwatched),
        total_steps=steps,
        worst=None,
        beside=None,
    )
    # float16 finds its loss scale by skipping
    train(trial, TrainState(), NoHooks({"step_skipped"} if dtype == torch.float16 else ()), Parallel(device=device))


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

    def judge(self, state: TrainState) -> None:
        """Nothing."""

    def save(self, state: TrainState) -> None:
        """Nothing."""

    def should_stop(self, state: TrainState) -> bool:
        """Never."""
        return False


@dataclass
class Repeated:
    """A source that gives one batch again and again: once for the first step, at most three times for each other.

    before: called before each step, as a source that generates computes before it gives. beside: the last batch of each
    step, where there is one.
    """

    batch: Batch
    before: Callable[[], object] | None = None
    beside: Batch | None = None
    done: bool = False
    most: int = 1

    def take(self, count: int) -> list[Batch]:
        """The batch, as often as the step asks for and `most` allows."""
        if self.before is not None:
            self.before()
        taken, self.most = min(count, self.most), 3
        return [self.batch] * taken + ([self.beside] if self.beside is not None else [])

    def stop_reading_ahead(self) -> bool:
        """Nothing is read."""
        return False

    def state_dict(self) -> dict[str, Any]:
        """Nothing is remembered."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing is remembered."""
