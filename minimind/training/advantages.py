"""How much better each attempt was than was to be expected: the advantages that a policy learns from.

Rewards are of all attempts of a step, those of every worker, for a mean over a part of them would be another one. All
arrays are float64. A attempts in G groups: the attempts at one prompt are a group.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

Scale = Literal["group", "batch", "none"]
"""What centred rewards are divided by."""

SMALLEST_STD = 1e-4
"""Added to a standard deviation that is divided by, as others do (TRL's GRPOTrainer), so that results compare."""


def group_advantages(reward_A: Floats, group_A: Ints, scale: Scale) -> Floats:
    """[A], each reward less the mean of its group (GRPO: Shao et al. 2024, arXiv:2402.03300).

    scale: group: divided by the standard deviation in its group, as in the paper; batch: by that of all rewards; none:
    as it is (Dr. GRPO: Liu et al. 2025, arXiv:2503.20783, which finds that division by the group's own makes prompts
    that are nearly always or never answered count the most). Deviations are those of a sample.
    """
    centred_A = reward_A - _means(reward_A, group_A)[group_A]
    if scale == "none":
        return centred_A
    if scale == "batch":
        return centred_A / (_deviation(reward_A) + SMALLEST_STD)
    return centred_A / (_deviations(reward_A, group_A)[group_A] + SMALLEST_STD)


def separate_advantages(value_KA: Floats, weight_K: Floats, group_A: Ints) -> Floats:
    """[A], each of K terms of the reward brought to one scale within its group, then summed by weight, and the sums to
    one scale over all attempts (GDPO: Liu et al. 2026, arXiv:2601.05242). Where terms are summed first, a term that
    spreads widely hides the others.
    """
    normed_KA = np.stack([group_advantages(value_A, group_A, "group") for value_A in value_KA])
    return whitened(weight_K @ normed_KA)


def without_failures(value_A: Floats, failed_A: NDArray[np.bool_], group_A: Ints) -> Floats:
    """The values, with a neutral one in place of each that failed: the mean of the others of its group, where all of
    these failed that of all others, else 0.
    """
    filled_A = np.where(failed_A, 0.0, value_A)
    for place in np.flatnonzero(failed_A):
        beside_A = ~failed_A & (group_A == group_A[place])
        others = value_A[beside_A if beside_A.any() else ~failed_A]
        filled_A[place] = others.mean() if len(others) else 0.0
    return filled_A


def has_spread(reward_A: Floats, group_A: Ints) -> NDArray[np.bool_]:
    """[G], whether the rewards of a group differ: where all are the same, nothing can be learnt from comparing them."""
    groups = int(group_A.max(initial=-1)) + 1
    low_G, high_G = np.full(groups, np.inf), np.full(groups, -np.inf)
    np.minimum.at(low_G, group_A, reward_A)
    np.maximum.at(high_G, group_A, reward_A)
    spread_G: NDArray[np.bool_] = high_G - low_G > 1e-9
    return spread_G


def whitened(value_A: Floats) -> Floats:
    """The values with mean 0 and, but for SMALLEST_STD, deviation 1 over all of them."""
    return (value_A - value_A.mean()) / (_deviation(value_A) + SMALLEST_STD) if len(value_A) else value_A


def generalised_advantages(
    reward_T: Floats, value_T: Floats, discount: float = 1.0, trace: float = 0.95
) -> tuple[Floats, Floats]:
    """GAE (Schulman et al. 2016, arXiv:1506.02438) of one attempt: advantages [T] and returns [T], what the critic is
    to say.

    reward_T: for each token that was written. value_T: what the critic expected before it. Behind the last token there
    is nothing to expect. discount: gamma. trace: lambda.
    """
    advantage_T = np.zeros_like(reward_T)
    ahead, expected = 0.0, 0.0
    for at in range(len(reward_T) - 1, -1, -1):
        surprise = reward_T[at] + discount * expected - value_T[at]
        ahead = surprise + discount * trace * ahead
        advantage_T[at], expected = ahead, value_T[at]
    return advantage_T, advantage_T + value_T


def _means(value_A: Floats, group_A: Ints) -> Floats:
    sums_G, counts_G = np.bincount(group_A, value_A), np.bincount(group_A)
    return sums_G / np.maximum(counts_G, 1)


def _deviations(value_A: Floats, group_A: Ints) -> Floats:
    squares_A = (value_A - _means(value_A, group_A)[group_A]) ** 2
    return np.sqrt(np.bincount(group_A, squares_A) / np.maximum(np.bincount(group_A) - 1, 1))


def _deviation(value_A: Floats) -> float:
    return float(value_A.std(ddof=1)) if len(value_A) > 1 else 0.0
