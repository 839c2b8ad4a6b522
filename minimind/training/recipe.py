"""All that a run of the one loop is made of: a stage says what stands in it, `training.loop.train` follows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import Field

from minimind.config import Config
from minimind.training.batch import Batch
from minimind.training.objectives import Models, Objective
from minimind.training.optim import Optimizer
from minimind.training.precision import Precision


class LoopConfig(Config):
    """How a run walks through its data."""

    batch_size: int = Field(default=8, ge=1, le=1 << 16, description="rows per forward pass on one worker")
    accumulation_steps: int = Field(default=1, ge=1, description="forward passes per optimizer step")
    epochs: int = Field(default=1, ge=1, description="passes over the data")
    max_steps: int | None = Field(default=None, ge=1, description="stop after this many optimizer steps, if sooner")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="autocast: auto takes bfloat16 where the GPU has it, else float16 on a GPU; on a CPU float32, or "
        "bfloat16 where that is measured to be clearly faster. Decided once, for all workers and the whole run",
    )
    deterministic: bool = Field(
        default=True,
        description="on a GPU, kernels that give the same bits every time, so that a resumed run ends as one that "
        "never stopped; false: faster ones. A CPU's always do",
    )
    activation_checkpointing: bool = Field(
        default=False, description="compute activations again in backward: less memory"
    )
    out_of_memory: Literal["adapt", "fail"] = Field(
        default="adapt", description="what a step does that runs out of memory: compute less at once, or end the run"
    )
    allow_shorter: bool = Field(
        default=False,
        description="where not even one row fits into memory: cut rows in half, documents are read in more pieces",
    )
    compile: bool = Field(
        default=False, description="torch.compile each block: a slow start, then a few percent faster"
    )
    log_interval: int = Field(default=10, ge=1, description="steps between two rows of training metrics")
    eval_interval: int | None = Field(
        default=None, ge=1, description="steps between two validations; default: a tenth of the run"
    )
    save_interval: int | None = Field(
        default=None, ge=1, description="steps between two checkpoints; default: a tenth of the run"
    )
    keep_last: int = Field(default=2, ge=1, description="how many of the newest checkpoints stay on disk")
    keep_best: int = Field(default=1, ge=0, description="how many of the best checkpoints, by validation, stay as well")
    max_bad_steps: int = Field(
        default=20, ge=1, description="steps in a row with a non-finite gradient before the run fails"
    )


class BatchSource(Protocol):
    """Where micro-batches come from: files, or rollouts made while the loop pulls."""

    @property
    def done(self) -> bool:
        """True when nothing is left; the same on every rank."""
        ...

    def take(self, count: int) -> Sequence[Batch]:
        """The micro-batches of this rank for the next step: `count`, or fewer (or none) where the data ends."""
        ...

    def stop_reading_ahead(self) -> bool:
        """Prepare nothing before it is taken, to spare memory; False where that was so already."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """The cursor, and whatever has been made and not yet taken: plain values and tensors. The same on every rank,
        but of a GeneratingSource, for what each rank has made is its own.
        """
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where `state_dict` stood, so that the next `take` gives what it would have given there."""
        ...


@runtime_checkable
class GeneratingSource(BatchSource, Protocol):
    """A source that computes with the models while a batch is taken from it, so that memory may run out there.

    Then all ranks put their sources back to where `state_dict` stood before, and take again with less at once.
    """

    def generate_less(self) -> str:
        """Compute less at once from now on. Gives what was changed, for people; "" where nothing is left to change."""
        ...

    def worst_take(self) -> None:
        """Compute the most that a `take` may compute at once, with as much at once as now, and keep nothing of it."""
        ...


@runtime_checkable
class ReturningSource(GeneratingSource, Protocol):
    """A source that remembers what models of earlier steps made, and can forget what came of the last of them."""

    def go_back(self, state: dict[str, Any]) -> None:
        """Remember what `state_dict` had remembered then, give nothing that was made since, and stay where it is in the
        data.
        """
        ...


@runtime_checkable
class RemarkingSource(Protocol):
    """A source that has something to say of how its batches came to be."""

    def remarks(self) -> list[str]:
        """What is to be noted, and has not been given before; called on every rank, of which the first notes it."""
        ...

    def problems(self) -> Mapping[str, str]:
        """What last went wrong with the parts that it is made by, by their names; the same on every rank."""
        ...


@dataclass(frozen=True)
class Recipe:
    """What a run trains, on what, and how.

    models: by role; exactly the parameters that ask for a gradient are trained, and `optimizer` holds them.
    objective: gives a `Loss` per micro-batch. learning_rate: the rate of step 0, 1, ...; a group of the optimizer with
    an `lr_scale` gets that times as much. loop: how the data is walked through. total_steps: where the run ends, if
    its data does not end sooner. grad_clip: largest norm of a gradient that is used as it is.
    worst: a micro-batch that costs as much memory as one can; None where that is not known. beside: of those of another
    kind that a step has too, the one that costs most; None where there are none. worst_take: the most that
    a GeneratingSource computes at once to begin with, as a call that keeps nothing. Plans trace both. Where memory is
    limited the worst batch, and what the source itself says of its takes, are tried before the first step.
    """

    models: Models
    objective: Objective
    batches: BatchSource
    optimizer: Optimizer
    learning_rate: Callable[[int], float]
    precision: Precision
    loop: LoopConfig
    total_steps: int
    grad_clip: float = 1.0
    worst: Batch | None = None
    beside: Batch | None = None
    worst_take: Callable[[], object] | None = None
