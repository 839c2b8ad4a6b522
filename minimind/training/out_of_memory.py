"""What a run does when its memory runs out: the step is taken again with less of it in memory at once.

There is a ladder of ways to do with less, in this order: half the rows computed at once, down to one; activation
checkpointing; where the user allowed it, rows of half the length; no thread that prepares batches ahead. A step keeps
all its rows, and its loss is a sum, so all but the third leave the result as it is, up to the rounding of sums. A
source that runs out while it generates a batch generates less at once.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from minimind.device.limit import is_out_of_memory
from minimind.language import phrase, say
from minimind.training.batch import Batch
from minimind.training.objectives import Models
from minimind.training.recipe import BatchSource, GeneratingSource
from minimind.training.train_state import TrainState

SHORTEST_TOKENS = 8
"""Rows are not cut shorter than this."""


class DoesNotFitError(RuntimeError):
    """Memory has run out where no rung is left, or none would help."""


@dataclass(frozen=True)
class Shortage:
    """Memory ran out.

    rows: how many were computed then; 0 where a source was making a batch. width: their tokens; 0 for rows that make
    sense only whole. cause: what the allocator said.
    """

    rows: int
    width: int
    cause: str

    @classmethod
    def over(cls, shortages: Sequence[Shortage]) -> Shortage | None:
        """What all ranks make of theirs: the one with most rows, for it is the first that a rung can help."""
        return max(shortages, key=lambda shortage: (shortage.rows, shortage.width), default=None)


def shortage_in(part: Batch, error: BaseException) -> Shortage:
    """What is to be known of an error that came up while a part of a step was computed."""
    return Shortage(len(part.rows), part.width, str(error))


def shortage_of(call: Callable[[], object]) -> Shortage | None:
    """What a call of a source is short of; None where it has the memory it needs. Other errors are raised."""
    try:
        call()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return Shortage(0, 0, str(error))
    return None


def parts(batch: Batch, rows_at_once: int, cuts: int = 0) -> Sequence[Batch]:
    """A micro-batch as it is computed. rows_at_once: 0 for all. cuts: how often each row is halved."""
    for _ in range(cuts):
        if batch.width:
            batch = batch.halved()
    return batch.split(rows_at_once) if rows_at_once else (batch,)


def generate_less(source: GeneratingSource, shortage: Shortage) -> str:
    """Let a source that ran out of memory compute less at once; what was changed, in words.

    Raises DoesNotFitError where nothing is left to change.
    """
    change = source.generate_less()
    if not change:
        raise DoesNotFitError(
            say(
                "out of memory while a batch was made, with every means tried. {cause}. {advice}",
                cause=shortage.cause,
                advice=_advice(),
            )
        )
    return change


class Ladder:
    """The ways to do with less memory that a run has left.

    state: says how far down the ladder the run is, and is changed by every step down. source: where its batches come
    from. allow_shorter: whether rows may be cut.
    """

    def __init__(self, state: TrainState, models: Models, source: BatchSource, *, allow_shorter: bool) -> None:
        self.state = state
        self.models = models
        self.source = source
        self.allow_shorter = allow_shorter
        if state.checkpointing:
            self._checkpoint()

    def parts(self, batch: Batch) -> Sequence[Batch]:
        """A micro-batch as it is computed on this rung."""
        return parts(batch, self.state.rows_at_once, self.state.cuts)

    def descend(self, shortage: Shortage) -> str:
        """Take the next rung, the same on every rank that is told the same; what it is, in words.

        Raises DoesNotFitError where there is none.
        """
        state = self.state
        if shortage.rows > 1:
            state.rows_at_once = -(-shortage.rows // 2)
            if state.rows_at_once == 1:
                return say("at most 1 row at once from now on, with as many rows per step as before")
            return say(
                "at most {count} rows at once from now on, with as many rows per step as before",
                count=state.rows_at_once,
            )
        if self._checkpoint():
            state.checkpointing = True
            return say("activations are computed again in the backward pass from now on (activation checkpointing)")
        if self.allow_shorter and shortage.width >= 2 * SHORTEST_TOKENS:
            state.cuts += 1
            state.rows_at_once = 1
            return say(
                "rows are cut to {tokens} tokens from now on (allow_shorter): a document that crosses a cut is read in "
                "two pieces",
                tokens=shortage.width // 2 + 1,
            )
        if self.source.stop_reading_ahead():
            return say("batches are no longer prepared ahead")
        shorter = (
            say("rows of {width} tokens", width=shortage.width)
            if self.allow_shorter
            else say("not tried: shorter rows (--set loop.allow_shorter=true, in a new run)")
        )
        raise DoesNotFitError(
            say(
                "out of memory with every means tried: one row at once, activation checkpointing; {shorter}. {cause}. "
                "{advice}",
                shorter=shorter,
                cause=shortage.cause,
                advice=_advice(),
            )
        )

    def _checkpoint(self) -> bool:
        """Turn activation checkpointing on in every model that has it; whether it was off in any."""
        off = [model for model in self.models.values() if getattr(model, "activation_checkpointing", True) is False]
        for model in off:
            model.activation_checkpointing = True  # type: ignore[assignment]  # a module takes any attribute
        return bool(off)


def _advice() -> str:
    return say(
        "What helps: a smaller model (--model), an adapter in place of all weights (the stage lora), shorter rows "
        "(--max_seq_len), and closing other programs that use the same memory"
    )


@contextmanager
def beyond_rungs(where: str) -> Iterator[None]:
    """Running out of memory in here ends the run in words, as DoesNotFitError. where: completes "out of memory"."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, DoesNotFitError) or not is_out_of_memory(error):
            raise
        raise DoesNotFitError(
            say("out of memory {where}. {error}. {advice}", where=phrase(where), error=error, advice=_advice())
        ) from error


def release(device: torch.device) -> None:
    """Give back what an interrupted step has left: graphs in reference cycles, and blocks that the allocator keeps."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
