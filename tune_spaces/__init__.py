"""Search spaces as functions: what a stage does without a sweep -> dotted path -> what is tried."""

from __future__ import annotations

from collections.abc import Callable

from tune_spaces.around import Around
from tune_spaces.batch import batch
from tune_spaces.distribution import Space
from tune_spaces.rank import rank
from tune_spaces.rate import rate
from tune_spaces.size import size

SPACES: dict[str, Callable[[Around], Space]] = {"batch": batch, "rate": rate, "rank": rank, "size": size}
"""Name -> the space around what a run usually does."""
