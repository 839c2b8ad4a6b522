"""How sure a score is, and whether one of two is better: intervals, paired tests, and how many rows it would take.

What is drawn at random, resamples and signs, has a seed of its own: the same rows give the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minimind.language import say

CONFIDENCE = 0.95
POWER = 0.8
"""How often a difference that is there is to be seen, where a number of rows is advised."""

LEAST = 1 + math.ceil(-math.log2(1 - CONFIDENCE))
"""Rows that all differ one way are as likely as 2 / 2**rows by chance: so many it takes for any exact test to tell."""

RESAMPLES = 4000

MANY = 2000
"""From so many rows on, a mean has the normal interval of its linearised rows, which is then the bootstrap's but for a
few per cent of its width, and a randomisation test the normal p; fewer rows are drawn."""

MOST_FLIPS = 100_000
"""Of the signs of a randomisation test: so p goes down to 1e-5, and some thousands of tests can hold together."""

_SEEN = 40
"""A randomisation test draws on until so many draws were as far from none: then p is known to about a sixth of it."""

_AT_ONCE = 2**20
"""Numbers that are drawn in one piece."""

Verdict = Literal["better", "worse", "cannot tell"]

Floats = NDArray[np.float64]

_POWER_Z = NormalDist().inv_cdf(POWER)
_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)

Range = tuple[float, float]
"""From where to where something lies."""

ANYWHERE: Range = (-math.inf, math.inf)
AMOUNTS: Range = (0.0, math.inf)
SHARES: Range = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Interval:
    """A score and the ends of its 95 % interval; NaN where they are not known, as of one row."""

    value: float
    low: float
    high: float

    def known(self) -> dict[str, float | None]:
        """For JSON and for people: None is what is not known."""
        return {name: None if math.isnan(number) else number for name, number in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two scores of the same rows. difference: of B over A, with its interval; better: as many rows as B did better in.

    p: how likely rows that differ by chance alone would differ by as much. needed_rows: how many rows would show a
    difference of this size, more than there are, for whoever cannot tell from these; None where the rows differ in
    nothing, or as much one way as the other.
    """

    verdict: Verdict
    difference: Interval
    p: float
    better: int
    worse: int
    rows: int
    needed_rows: int | None = None


@dataclass(frozen=True, slots=True)
class SignTest:
    """In how many rows B has more than A, whatever by how much. share: of the rows, those that are equal counted half,
    with its interval; p: how likely it is that as many or more go one way, were both as likely. Chance is one half.
    """

    share: Interval
    p: float
    more: int
    less: int
    rows: int


def share(passed: float, rows: int) -> Interval:
    """A share of rows, by Wilson's interval (1927), which is sound for few rows and for none and all of them too.

    passed: how many, of which some may count half.
    """
    if rows == 0:
        return Interval(math.nan, 0.0, 1.0)
    p, z2 = passed / rows, _Z**2
    middle = (p + z2 / (2 * rows)) / (1 + z2 / rows)
    half = _Z / (1 + z2 / rows) * math.sqrt(p * (1 - p) / rows + z2 / (4 * rows**2))
    return Interval(p, max(0.0, middle - half), min(1.0, middle + half))


def average(scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The mean of rows, weighted if so: a sum over a sum, such as bits over bytes; scores are then per unit of weight.
    NaN of no rows.
    """
    values, weight = _rows(scores, weights)
    return float((values * weight).sum() / weight.sum()) if len(values) else math.nan


def mean(scores: ArrayLike, weights: ArrayLike | None = None, *, within: Range = ANYWHERE) -> Interval:
    """The `average` of rows with its interval. within: where scores lie, and so the interval does.

    Scores of 0 and 1 alone get Wilson's interval, others a bootstrap's (see `_interval`). Of one other row no interval
    is known, of no rows nothing.
    """
    values, weight = _rows(scores, weights)
    if weights is None and len(values) and _binary(values):
        return share(int(values.sum()), len(values))
    return _interval(values, weight, within)


def compare(
    a: ArrayLike,
    b: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    lower_is_better: bool = False,
    within: Range = ANYWHERE,
    level: float = 0.05,
) -> Comparison:
    """Whether B is better than A at the same rows.

    Where rows are right or wrong by McNemar's exact test, else by flipping the signs of their differences (Fisher's
    randomisation test), which is sound for few rows too; the interval is Newcombe's or a bootstrap's. within:
    where scores lie. level: of p, below which they differ; a family of tests hands each its own (see `levels`).
    """
    first, second = _same_rows(a, b)
    _, weight = _rows(a, weights)
    difference = second - first
    gains = -difference if lower_is_better else difference
    better, worse = int((gains > 0).sum()), int((gains < 0).sum())
    if weights is None and len(first) and _binary(np.concatenate([first, second])):
        found, p = _paired_shares(first, second), mcnemar(better, worse)
    else:
        least, most = within
        found = _interval(difference, weight, (least - most, most - least))
        p = _sign_flips(difference * weight)
    verdict: Verdict = "cannot tell"
    if p < level:
        verdict = "better" if (found.value < 0) == lower_is_better else "worse"
    return Comparison(verdict, found, p, better, worse, len(first), rows_needed(difference, weights))


def sign_test(a: ArrayLike, b: ArrayLike) -> SignTest:
    """In how many of the same rows B has more than A, where how much more says little, as of log-probs: the sign test,
    which leaves out those that are equal, and Wilson's interval. Raises ValueError for other numbers of rows.
    """
    first, second = _same_rows(a, b)
    more, less, rows = int((second > first).sum()), int((second < first).sum()), len(first)
    return SignTest(share((rows + more - less) / 2, rows), mcnemar(more, less), more, less, rows)


def mcnemar(better: int, worse: int) -> float:
    """How likely it is that of so many rows that changed so many or more changed one way, were both ways as likely:
    the exact two-sided test (McNemar 1947, by the binomial distribution), which is the sign test too.
    """
    changed = better + worse
    if changed == 0:
        return 1.0
    ways = (math.lgamma(k + 1) + math.lgamma(changed - k + 1) for k in range(min(better, worse) + 1))
    all_ways = math.lgamma(changed + 1) - changed * math.log(2)
    return min(1.0, 2 * math.fsum(math.exp(all_ways - way) for way in ways))


def rows_needed(differences: ArrayLike, weights: ArrayLike | None = None) -> int | None:
    """How many rows would show a mean difference of this size in POWER of all cases, more than there are; None where
    there is none: where it is nothing against what the rows differ by, sums of floats having cancelled.

    Where rows have weights these are rows of weights like theirs. Fewer than LEAST show nothing by an exact test.
    """
    values, weight = _rows(differences, weights)
    if not len(values):
        return None
    effect, spread = average(values, weight), float(np.sqrt((_residuals(values, weight) ** 2).mean()))
    if abs(effect) <= 1e-9 * float(np.abs(values).max()):
        return None
    if weights is None and set(np.unique(np.abs(values))) <= {0.0, 1.0}:
        count = _rows_of_the_exact_test(abs(effect), float(np.abs(values).mean()))
    else:  # and what Student's distribution asks for beyond the normal one
        count = ((_Z + _POWER_Z) * spread / effect) ** 2 + _Z**2 / 2
    return max(len(values) + 1, LEAST, math.ceil(count))


def _rows_of_the_exact_test(effect: float, changed: float) -> float:
    """By Connor (1987, Biometrics 43) for McNemar's test, with a correction for continuity, as the exact one needs.

    effect: by how many rows more changed one way, changed: how many changed at all, as shares.
    """
    plain = ((_Z * math.sqrt(changed) + _POWER_Z * math.sqrt(changed - effect**2)) / effect) ** 2
    return plain / 4 * (1 + math.sqrt(1 + 4 / (plain * effect))) ** 2


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


def _same_rows(a: ArrayLike, b: ArrayLike) -> tuple[Floats, Floats]:
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if len(first) != len(second):
        raise ValueError(
            say("{first} and {second} rows: a comparison is of the same ones", first=len(first), second=len(second))
        )
    return first, second


def _binary(values: Floats) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def _residuals(values: Floats, weight: Floats) -> Floats:
    """How far each row pulls a weighted mean: the ratio of sums, linearised. Their mean is none."""
    residuals: Floats = (values - average(values, weight)) * weight / weight.mean()
    return residuals


def _interval(values: Floats, weight: Floats, within: Range) -> Interval:
    """A mean of rows with its interval: the bootstrap's percentiles, from MANY rows on the delta method's.

    The percentiles are about those of a normal distribution with the variance of these very rows, which is too narrow
    for few: they are drawn out about the mean, to Student's distribution and by sqrt(n / (n - 1)) (the two corrections
    of Hesterberg 2015, "What Teachers Should Know About the Bootstrap", arXiv:1411.5279).
    """
    count, value = len(values), average(values, weight)
    if count < 2:
        return Interval(value, math.nan, math.nan)
    wide = _student(count - 1)
    if count >= MANY:
        half = wide * math.sqrt(float((_residuals(values, weight) ** 2).sum()) / (count * (count - 1)))
        low, high = value - half, value + half
    else:
        sums = _resampled(np.stack([values * weight, weight]))
        ends = np.quantile(sums[0] / sums[1], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        low, high = (value + (float(end) - value) * wide / _Z * math.sqrt(count / (count - 1)) for end in ends)
    least, most = within
    return Interval(value, max(least, low), min(most, high))


def _student(freedom: int) -> float:
    """Where Student's distribution of so many degrees of freedom has left CONFIDENCE in its middle: exact for 1 and 2,
    else Cornish and Fisher's expansion (Abramowitz and Stegun 26.7.5), 0.12 % short for 3 and less for more.
    """
    p, z, n = (1 + CONFIDENCE) / 2, _Z, freedom
    if n == 1:
        return math.tan(math.pi * (p - 0.5))
    if n == 2:
        return (2 * p - 1) / math.sqrt(2 * p * (1 - p))
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * n**4)
    )


def _paired_shares(first: Floats, second: Floats) -> Interval:
    """The difference of two shares of the same rows, by Newcombe's method 10 (1998, Statistics in Medicine 17:2635):
    Wilson's intervals of both, and how far the rows go together. It is sound for few rows, and where all differ alike.
    """
    rows = len(first)
    a, b = share(int(first.sum()), rows), share(int(second.sum()), rows)
    both, neither = int((first * second).sum()), int(((1 - first) * (1 - second)).sum())
    only_a, only_b = int(first.sum()) - both, int(second.sum()) - both
    together = both * neither - only_a * only_b
    corrected = max(0.0, together - rows / 2) if together > 0 else float(together)
    scale = math.sqrt((both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither))
    phi = corrected / scale if scale else 0.0

    def reach(of_b: float, of_a: float) -> float:
        return math.sqrt(max(0.0, of_b**2 - 2 * phi * of_b * of_a + of_a**2))

    value = b.value - a.value
    low = value - reach(b.value - b.low, a.high - a.value)
    return Interval(value, max(-1.0, low), min(1.0, value + reach(b.high - b.value, a.value - a.low)))


def _resampled(rows_KN: Floats) -> Floats:
    """Sums [K, RESAMPLES] over rows drawn with replacement; the draws are the same for the same number of rows."""
    count = rows_KN.shape[1]
    rng = np.random.default_rng(count)
    sums = np.empty((len(rows_KN), RESAMPLES))
    for start in range(0, RESAMPLES, 500):
        drawn = rng.integers(0, count, (min(500, RESAMPLES - start), count))
        sums[:, start : start + 500] = rows_KN[:, drawn].sum(2)
    return sums


def _sign_flips(differences: Floats) -> float:
    """How likely a sum as far from none is where each difference may as well have the other sign.

    Of few differences all ways are counted, MANY have the normal distribution. Else signs are drawn until enough sums
    were as far (Besag and Clifford 1991, "Sequential Monte Carlo p-values"), or MOST_FLIPS times.
    """
    changed = differences[differences != 0]
    count = len(changed)
    seen = abs(changed.sum()) - 1e-9 * np.abs(changed).sum()  # sums that are as far but for rounding are as far
    if not count:
        return 1.0
    if count >= MANY:
        return math.erfc(float(max(0.0, seen)) / math.sqrt(2 * float((changed**2).sum())))
    if 2**count <= RESAMPLES:
        ways = np.arange(2**count)[:, None] >> np.arange(count) & 1
        return float((_flipped(changed, ways) >= seen).mean())
    rng = np.random.default_rng(count)
    drawn = beyond = 0
    while drawn < RESAMPLES or (beyond < _SEEN and drawn < MOST_FLIPS):
        ways = rng.integers(0, 2, (min(RESAMPLES, max(1, _AT_ONCE // count)), count), dtype=np.uint8)
        beyond += int((_flipped(changed, ways) >= seen).sum())
        drawn += len(ways)
    return (beyond + 1) / (drawn + 1)


def _flipped(changed: Floats, ways: NDArray[Any]) -> Floats:
    """How far from none the sums are where those differences keep their sign that a row of `ways` has as 1."""
    sums: Floats = np.abs(2 * (ways @ changed) - changed.sum())
    return sums
