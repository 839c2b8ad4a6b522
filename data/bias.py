"""What can be told of answers without reading them: whether the longer ones are the better ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from minimind.evaluation.statistics import mcnemar

CLEARLY = 0.55
"""Share of the pairs that a rule decides rightly, from which on a model gains by learning it; half is chance."""

LEVEL = 0.01
"""Of p, below which it is not by chance that a rule does so well."""


@dataclass(frozen=True)
class LengthBias:
    """How the lengths of better answers differ from those of worse ones, in characters.

    longer: how often the better one of two is the longer one, those of one length counted half: two answers to one
    prompt, or any good and any bad one where answers stand alone. p: how likely that is, or worse, where length says
    nothing.
    """

    longer: float
    mean_better: float
    mean_worse: float
    p: float

    @property
    def decided(self) -> float:
        """The share that is decided rightly by always taking the longer one, or always the shorter one."""
        return max(self.longer, 1 - self.longer)

    @property
    def clear(self) -> bool:
        """Whether a model could learn to look at the length instead."""
        return self.decided >= CLEARLY and self.p < LEVEL


def bias_of_pairs(better: ArrayLike, worse: ArrayLike) -> LengthBias | None:
    """Lengths of two answers to each prompt, by the sign test; None where there are none."""
    chosen, rejected = np.asarray(better, np.int64), np.asarray(worse, np.int64)
    if not len(chosen):
        return None
    longer, shorter = int((chosen > rejected).sum()), int((chosen < rejected).sum())
    share = 0.5 + (longer - shorter) / (2 * len(chosen))
    return LengthBias(share, float(chosen.mean()), float(rejected.mean()), mcnemar(longer, shorter))


def bias_of_labels(better: ArrayLike, worse: ArrayLike) -> LengthBias | None:
    """Lengths of good answers and of bad ones, by the rank-sum test (Mann and Whitney 1947) with its normal
    approximation and the correction for equal lengths; None where there are none of either.
    """
    good, bad = np.asarray(better, np.int64), np.asarray(worse, np.int64)
    if not len(good) or not len(bad):
        return None
    ordered = np.sort(bad)
    below, up_to = np.searchsorted(ordered, good, "left"), np.searchsorted(ordered, good, "right")
    total, pairs = len(good) + len(bad), len(good) * len(bad)
    longer = float((below + up_to).sum()) / (2 * pairs)
    _, ties = np.unique(np.concatenate([good, bad]), return_counts=True)
    tied = float((ties.astype(np.float64) ** 3 - ties).sum()) / (total * (total - 1))
    spread = math.sqrt(pairs / 12 * (total + 1 - tied))
    p = 2 * NormalDist().cdf(-abs(longer - 0.5) * pairs / spread) if spread else 1.0
    return LengthBias(longer, float(good.mean()), float(bad.mean()), p)
