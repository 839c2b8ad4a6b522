"""How sure a score is, and whether one of two is better: intervals, paired tests, and how many rows it would take.

Nothing here is drawn at random but for the bootstrap, which has a seed of its own: the same rows give the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minimind.language import say

CONFIDENCE = 0.95
POWER = 0.8
"""How often a difference that is there is to be seen, where a number of rows is advised."""

RESAMPLES = 4000

Verdict = Literal["better", "worse", "cannot tell"]

Floats = NDArray[np.float64]

_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


@dataclass(frozen=True, slots=True)
class Interval:
    """A score and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two scores of the same rows. difference: of B over A, with its interval; better: as many rows as B did better in.

    p: how likely rows that differ by chance alone would differ by as much. needed_rows: how many rows would show a
    difference of this size, where these cannot tell; None where there is no difference at all.
    """

    verdict: Verdict
    difference: Interval
    p: float
    better: int
    worse: int
    rows: int
    needed_rows: int | None = None


def share(passed: int, rows: int) -> Interval:
    """A share of rows, by Wilson's interval (1927), which is sound for few rows and for none and all of them too."""
    if rows == 0:
        return Interval(math.nan, 0.0, 1.0)
    p, z2 = passed / rows, _Z**2
    middle = (p + z2 / (2 * rows)) / (1 + z2 / rows)
    half = _Z / (1 + z2 / rows) * math.sqrt(p * (1 - p) / rows + z2 / (4 * rows**2))
    return Interval(p, max(0.0, middle - half), min(1.0, middle + half))


def mean(scores: ArrayLike, weights: ArrayLike | None = None) -> Interval:
    """The mean of rows, weighted if so: a sum over a sum, such as bits over bytes; scores are then per unit of weight.

    Shares of 0 and 1 get Wilson's interval, others a bootstrap over rows (percentiles of RESAMPLES).
    """
    values, weight = _rows(scores, weights)
    if not len(values):
        return Interval(math.nan, math.nan, math.nan)
    if weights is None and set(np.unique(values)) <= {0.0, 1.0}:
        return share(int(values.sum()), len(values))
    sums = _resampled(np.stack([values * weight, weight]))
    low, high = _ends(sums[0] / sums[1])
    return Interval(float((values * weight).sum() / weight.sum()), low, high)


def compare(
    a: ArrayLike, b: ArrayLike, weights: ArrayLike | None = None, *, lower_is_better: bool = False, level: float = 0.05
) -> Comparison:
    """Whether B is better than A at the same rows.

    Where rows are right or wrong by McNemar's exact test, otherwise by flipping the signs of their differences at
    random (Fisher's randomisation test), which is sound for few rows too; the interval is a bootstrap's. level: of p,
    below which they differ; a family of tests hands each its own (see `levels`).
    """
    first, weight = _rows(a, weights)
    second, _ = _rows(b, weights)
    if len(first) != len(second):
        raise ValueError(
            say("{first} and {second} rows: a comparison is of the same ones", first=len(first), second=len(second))
        )
    difference = second - first
    gains = -difference if lower_is_better else difference
    better, worse = int((gains > 0).sum()), int((gains < 0).sum())
    if not better and not worse:
        return Comparison("cannot tell", Interval(0.0, 0.0, 0.0), 1.0, 0, 0, len(first))
    sums = _resampled(np.stack([difference * weight, weight]))
    low, high = _ends(sums[0] / sums[1])
    value = float((difference * weight).sum() / weight.sum())
    binary = weights is None and set(np.unique(np.concatenate([first, second]))) <= {0.0, 1.0}
    p = mcnemar(better, worse) if binary else _sign_flips(difference * weight)
    needed = None
    if p < level:
        verdict: Verdict = "better" if (value < 0) == lower_is_better else "worse"
    else:
        verdict, needed = "cannot tell", rows_needed(difference * weight / weight.mean())
    return Comparison(verdict, Interval(value, low, high), p, better, worse, len(first), needed)


def mcnemar(better: int, worse: int) -> float:
    """How likely it is that of so many rows that changed so many or more changed one way, were both ways as likely:
    the exact two-sided test (McNemar 1947, by the binomial distribution).
    """
    changed = better + worse
    if changed == 0:
        return 1.0
    tail = sum(math.comb(changed, k) for k in range(min(better, worse) + 1))
    return float(min(1.0, 2 * tail / 2**changed))


def rows_needed(differences: ArrayLike) -> int | None:
    """How many rows would show a mean difference of this size in POWER of all cases; None where there is none."""
    values = np.asarray(differences, np.float64)
    effect, spread = float(values.mean()), float(values.std())
    if effect == 0 or not len(values):
        return None
    wanted = _Z + NormalDist().inv_cdf(POWER)
    return max(len(values) + 1, math.ceil((wanted * spread / effect) ** 2))


def levels(ps: Sequence[float], level: float = 0.05) -> list[bool]:
    """Which of many tests hold together at this level (Holm 1979): the smallest p has to be below level / n, ..."""
    held = [False] * len(ps)
    for rank, place in enumerate(sorted(range(len(ps)), key=lambda place: ps[place])):
        if ps[place] >= level / (len(ps) - rank):
            break
        held[place] = True
    return held


def pass_at(samples: int, right: int, k: int) -> float:
    """How likely at least one of k answers is right, from `samples` answers of which so many were: without bias
    (Chen et al. 2021, arXiv:2107.03374). Raises ValueError unless 1 <= k <= samples.
    """
    if not 1 <= k <= samples:
        raise ValueError(say("k = {k}: allowed is 1 to the {samples} answers that there are", k=k, samples=samples))
    return 1.0 - math.comb(samples - right, k) / math.comb(samples, k)


def _rows(scores: ArrayLike, weights: ArrayLike | None) -> tuple[Floats, Floats]:
    values = np.asarray(scores, np.float64)
    return values, np.ones(len(values)) if weights is None else np.asarray(weights, np.float64)


def _resampled(rows_KN: Floats) -> Floats:
    """Sums [K, RESAMPLES] over rows drawn with replacement; the draws are the same for the same number of rows."""
    count = rows_KN.shape[1]
    rng = np.random.default_rng(count)
    sums = np.empty((len(rows_KN), RESAMPLES))
    for start in range(0, RESAMPLES, 500):
        drawn = rng.integers(0, count, (min(500, RESAMPLES - start), count))
        sums[:, start : start + 500] = rows_KN[:, drawn].sum(2)
    return sums


def _ends(means: Floats) -> tuple[float, float]:
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _sign_flips(differences: Floats) -> float:
    """How likely a sum as far from none is where each difference may as well have the other sign."""
    changed = differences[differences != 0]
    rng = np.random.default_rng(len(changed))
    seen, beyond = abs(changed.sum()) * (1 - 1e-12), 0
    for start in range(0, RESAMPLES, 500):
        signs = rng.choice([-1.0, 1.0], (min(500, RESAMPLES - start), len(changed)))
        beyond += int((abs(signs @ changed) >= seen).sum())
    return (beyond + 1) / (RESAMPLES + 1)
