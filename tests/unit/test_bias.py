"""Whether length gives the better answer away: both tests against what is known of them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest

from data.bias import LengthBias, bias_of_labels, bias_of_pairs


def test_pairs_are_judged_by_the_sign_test() -> None:
    bias = bias_of_pairs([3, 3, 3, 3, 1, 2], [1, 1, 1, 1, 3, 2])
    assert bias is not None
    assert bias.longer == pytest.approx((4 + 1 / 2) / 6)
    assert (bias.mean_better, bias.mean_worse) == (15 / 6, 9 / 6)
    assert bias.p == pytest.approx(2 * (1 + 5) / 2**5)  # of the five that differ one goes the other way
    assert not bias.clear


def test_answers_by_themselves_are_judged_by_ranks() -> None:
    """Beside every way in which eleven lengths, two of them the same, can be six good ones and five bad ones."""
    lengths = np.array([1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 30])
    pairs = 6 * 5

    def longer(good: tuple[int, ...]) -> float:
        bad = np.delete(lengths, good)
        gaps = lengths[list(good)][:, None] - bad
        return float(((gaps > 0) + (gaps == 0) / 2).sum()) / pairs

    ways = np.array([longer(good) for good in combinations(range(11), 6)])
    for good in ((5, 6, 7, 8, 9, 10), (0, 1, 2, 3, 4, 5), (0, 2, 4, 6, 8, 10), (1, 3, 4, 8, 9, 10)):
        bias = bias_of_labels(lengths[list(good)], np.delete(lengths, good))
        assert bias is not None
        assert bias.longer == pytest.approx(longer(good))
        exact = float((np.abs(ways - 0.5) >= abs(bias.longer - 0.5) - 1e-9).mean())
        assert bias.p == pytest.approx(exact, abs=0.06)


def test_chance_is_seldom_taken_for_a_rule() -> None:
    rng = np.random.default_rng(0)
    clear = 0
    for _ in range(400):
        one, other = rng.integers(1, 50, (2, 60))
        clear += sum(bool(bias and bias.clear) for bias in (bias_of_pairs(one, other), bias_of_labels(one, other)))
    assert clear <= 20  # of 800; 1 % would be 8


@pytest.mark.parametrize("bias_of", [bias_of_pairs, bias_of_labels])
def test_a_rule_must_be_sure(bias_of: Callable[[list[int], list[int]], LengthBias | None]) -> None:
    few, enough, equal = bias_of([2] * 3, [1] * 3), bias_of([1] * 9, [2] * 9), bias_of([5] * 9, [5] * 9)
    assert few and enough and equal  # noqa: PT018  # for the type checker
    assert (few.decided, few.clear) == (1, False)
    assert (enough.decided, enough.clear) == (1, True)
    assert equal.p == 1
    assert bias_of([], []) is None


def test_a_small_lean_of_many_is_no_rule() -> None:
    bias = bias_of_pairs([2] * 52_000 + [1] * 48_000, [1] * 52_000 + [2] * 48_000)
    assert bias is not None
    assert bias.p < 1e-9
    assert (bias.decided, bias.clear) == (0.52, False)
