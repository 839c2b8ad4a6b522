"""Search spaces as functions: what a stage does without a sweep -> dotted path -> what is tried."""

from __future__ import annotations

from collections.abc import Callable

from minimind.training.optim import OptimConfig
from minimind.training.recipe import LoopConfig
from tune_spaces.batch import batch
from tune_spaces.distribution import Space
from tune_spaces.rank import rank
from tune_spaces.rate import rate

SPACES: dict[str, Callable[[LoopConfig, OptimConfig, int], Space]] = {"batch": batch, "rate": rate, "rank": rank}
"""Name -> the space around a run's loop, optimizer and max_seq_len."""
