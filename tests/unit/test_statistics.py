from __future__ import annotations

import math

import numpy as np
import pytest

from minimind.evaluation.statistics import compare, levels, mcnemar, mean, pass_at, rows_needed, share


@pytest.mark.parametrize(
    ("passed", "rows", "low", "high"),
    # Newcombe 1998, table I, method 3: Wilson's interval without correction.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_of_a_share_is_wilsons(passed: int, rows: int, low: float, high: float) -> None:
    found = share(passed, rows)
    assert (found.value, found.low, found.high) == pytest.approx((passed / rows, low, high), abs=6e-5)
    assert share(rows - passed, rows).low == pytest.approx(1 - found.high)


def test_nothing_is_known_of_no_rows() -> None:
    assert math.isnan(mean([]).value)
    assert (share(0, 0).low, share(0, 0).high) == (0.0, 1.0)


def test_rows_that_are_right_or_wrong_are_a_share() -> None:
    assert mean([1, 0, 1, 1]) == share(3, 4)


def test_a_mean_lies_in_its_interval_which_narrows_with_the_rows() -> None:
    rng = np.random.default_rng(0)
    few, many = mean(rng.normal(3, 1, 50)), mean(rng.normal(3, 1, 5000))
    for found in (few, many):
        assert found.low < found.value < found.high
    assert many.high - many.low < 0.2 * (few.high - few.low)
    assert few.high - few.low == pytest.approx(2 * 1.96 / math.sqrt(50), rel=0.3)


def test_a_weighted_mean_is_a_sum_over_a_sum() -> None:
    found = mean([2.0, 4.0], [3.0, 1.0])
    assert found.value == 2.5
    assert (found.low, found.high) == (2.0, 4.0)


@pytest.mark.parametrize(
    ("better", "worse", "p"),
    [(0, 0, 1.0), (1, 0, 1.0), (6, 0, 0.03125), (0, 6, 0.03125), (10, 2, 0.03857), (5, 5, 1.0)],
)
def test_mcnemar_is_the_exact_binomial_test(better: int, worse: int, p: float) -> None:
    assert mcnemar(better, worse) == pytest.approx(p, abs=1e-5)


def test_a_model_is_not_better_than_itself() -> None:
    rng = np.random.default_rng(1)
    for scores in (rng.integers(0, 2, 300), rng.normal(size=300)):
        found = compare(scores, scores)
        assert (found.verdict, found.p, found.better, found.worse, found.needed_rows) == (
            "cannot tell",
            1.0,
            0,
            0,
            None,
        )


@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_few_rows_tell_nothing_however_they_agree(rows: int) -> None:
    for found in (compare([0] * rows, [1] * rows), compare([0.0] * rows, [0.1 * (n + 1) for n in range(rows)])):
        assert found.verdict == "cannot tell"


def test_right_and_wrong_rows_are_compared_row_by_row() -> None:
    a = [1] * 40 + [0] * 60
    better = [1] * 40 + [1] * 10 + [0] * 50
    found = compare(a, better)
    assert (found.verdict, found.better, found.worse) == ("better", 10, 0)
    assert found.difference.value == pytest.approx(0.1)
    assert found.difference.low < 0.1 < found.difference.high
    assert compare(better, a).verdict == "worse"
    # As many rows, but those that got worse nearly make up for it.
    mixed = [0] * 8 + [1] * 32 + [1] * 10 + [0] * 50
    found = compare(a, mixed)
    assert found.verdict == "cannot tell"
    assert found.needed_rows is not None
    assert found.needed_rows > 1000


def test_less_may_be_better() -> None:
    rng = np.random.default_rng(2)
    a = rng.normal(2, 0.3, 80)
    found = compare(a, a - 0.05 + rng.normal(0, 0.05, 80), np.full(80, 400.0), lower_is_better=True)
    assert found.verdict == "better"
    assert found.difference.value < 0
    assert found.better > found.worse


def test_rows_of_chance_differ_as_rarely_as_they_should() -> None:
    rng = np.random.default_rng(3)
    found = [compare(rng.normal(size=40), rng.normal(size=40)).p < 0.05 for _ in range(200)]
    assert 2 <= sum(found) <= 20


def test_two_lists_of_other_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="3 and 2 rows"):
        compare([1, 0, 1], [1, 0])


def test_the_rows_that_would_tell_do_tell() -> None:
    rng = np.random.default_rng(4)
    assert rows_needed([0.0, 0.0]) is None
    effect = rng.normal(0.2, 1, 50)
    effect += 0.2 - effect.mean()
    needed = rows_needed(effect)
    assert needed == pytest.approx((2.8 * effect.std() / 0.2) ** 2, rel=0.01)
    seen = [compare(np.zeros(needed), rng.normal(0.2, effect.std(), needed)).verdict == "better" for _ in range(60)]
    assert 0.6 < sum(seen) / 60 < 0.97


def test_many_tests_are_held_to_more() -> None:
    assert levels([0.04]) == [True]
    assert levels([0.04, 0.9]) == [False, False]
    assert levels([0.03, 0.001, 0.02]) == [True, True, True]
    assert levels([0.03, 0.026, 0.02]) == [False, False, False]
    assert levels([]) == []


def test_pass_at_k() -> None:
    assert pass_at(10, 3, 1) == pytest.approx(0.3)
    assert pass_at(4, 0, 4) == 0.0
    assert pass_at(4, 1, 4) == 1.0
    assert pass_at(5, 2, 2) == pytest.approx(1 - 3 / 10)
    with pytest.raises(ValueError, match="k = 3"):
        pass_at(2, 1, 3)


def test_the_same_rows_give_the_same_numbers() -> None:
    scores = np.random.default_rng(5).normal(size=100)
    assert mean(scores) == mean(scores)
    assert compare(scores, scores**2) == compare(scores, scores**2)
