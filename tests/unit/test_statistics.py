from __future__ import annotations

import math

import numpy as np
import pytest

from minimind.evaluation import statistics
from minimind.evaluation.statistics import (
    AMOUNTS,
    LEAST,
    MANY,
    SHARES,
    _rows_of_the_exact_test,
    average,
    compare,
    levels,
    mcnemar,
    mean,
    pass_at,
    rows_needed,
    share,
    sign_test,
)


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
    found = mean([2.0, 4.0], [3.0, 1.0], within=AMOUNTS)
    assert found.value == average([2.0, 4.0], [3.0, 1.0]) == 2.5
    assert found.low == 0.0  # two rows say little, and there is no score below
    assert found.high > 10


def test_one_row_has_no_interval() -> None:
    for found in (mean([0.5]), mean([2.0], [400.0]), compare([0.2], [0.4]).difference):
        assert math.isnan(found.low)
        assert math.isnan(found.high)
    assert mean([0.5]).known() == {"value": 0.5, "low": None, "high": None}
    assert mean([1]) == share(1, 1)  # Wilson's is sound for one row


# Student's distribution: any table has these.
@pytest.mark.parametrize(
    ("freedom", "value"),
    [(1, 12.7062), (2, 4.302653), (3, 3.182446), (4, 2.776445), (9, 2.262157), (30, 2.042272), (1000, 1.962339)],
)
def test_few_rows_have_students_distribution(freedom: int, value: float) -> None:
    assert statistics._student(freedom) == pytest.approx(value, rel=1e-6 if freedom < 3 else 2e-3)


@pytest.mark.parametrize(
    ("rows", "weighted"), [(2, False), (3, False), (5, False), (40, False), (3, True), (5, True), (40, True)]
)
def test_the_interval_holds_what_it_should_as_often_as_it_should(rows: int, weighted: bool) -> None:
    rng = np.random.default_rng(7)
    inside, times = 0, 500
    for _ in range(times):
        found = mean(rng.normal(3, 1, rows), rng.lognormal(0, 0.3, rows) if weighted else None)
        inside += found.low <= 3 <= found.high
    assert 0.915 <= inside / times <= 0.985  # a percentile interval alone has 54 % at two rows, 86 % at five


@pytest.mark.parametrize("rows", [2, 4, 10, 60])
def test_the_interval_of_a_difference_of_shares_does_too(rows: int) -> None:
    rng = np.random.default_rng(8)
    inside, times = 0, 1000
    for _ in range(times):
        kinds = rng.choice(4, rows, p=[0.35, 0.3, 0.15, 0.2])
        a, b = np.isin(kinds, (0, 1)), np.isin(kinds, (0, 2))
        found = compare(a.astype(float), b.astype(float)).difference
        inside += found.low <= -0.15 <= found.high
    assert 0.915 <= inside / times <= 1


def test_rows_that_all_differ_alike_are_not_sure_for_that() -> None:
    for rows in (1, 2, 3):
        found = compare([1] * rows, [0] * rows)
        assert found.difference.value == found.difference.low == -1.0
        assert found.difference.high > -0.5
    assert compare([1], [0]).difference.high > 0


def test_an_interval_lies_where_scores_do() -> None:
    few = [0.5, 1.0, 0.5]
    assert mean(few).high > 1
    assert mean(few, within=SHARES).high == 1
    found = compare([0.0, 0.5], [1.0, 1.0], within=SHARES).difference
    assert (found.low, found.high) == (-1.0, 1.0)


@pytest.mark.parametrize("weighted", [False, True])
def test_many_rows_have_the_bootstraps_interval_without_it(weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(9)
    scores = rng.gamma(4, 0.5, MANY)
    weights = rng.gamma(3, 100, MANY) if weighted else None
    found = mean(scores, weights)
    monkeypatch.setattr(statistics, "MANY", MANY + 1)
    drawn = mean(scores, weights)
    assert found != drawn
    assert found.value == drawn.value
    width = drawn.high - drawn.low
    assert (found.low, found.high) == pytest.approx((drawn.low, drawn.high), abs=0.04 * width)


def test_many_rows_take_no_time_and_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np.random, "default_rng", lambda seed: pytest.fail("drawn"))
    rows = np.linspace(0, 1, 100_000)
    assert mean(rows).value == pytest.approx(0.5)
    assert compare(rows, rows + 0.01 * np.sin(1000 * rows) + 0.001).verdict == "better"
    assert mcnemar(49_000, 51_000) == pytest.approx(2.589e-10, rel=1e-3)


@pytest.mark.parametrize(
    ("better", "worse", "p"),
    [(0, 0, 1.0), (1, 0, 1.0), (6, 0, 0.03125), (0, 6, 0.03125), (10, 2, 0.03857), (5, 5, 1.0)],
)
def test_mcnemar_is_the_exact_binomial_test(better: int, worse: int, p: float) -> None:
    assert mcnemar(better, worse) == pytest.approx(p, abs=1e-5)


def test_the_sign_test_leaves_out_what_is_equal_and_its_share_halves_it() -> None:
    found = sign_test([0.0, 0.0, 0.0, 1.0, -7.0], [1e-9, 100.0, 0.0, 0.5, -6.0])
    assert (found.more, found.less, found.rows) == (3, 1, 5)
    assert found.share == share(3.5, 5)
    assert found.p == pytest.approx(10 / 16)  # 0, 1, 3 or 4 of 4 coins
    same = sign_test([1.0] * 8, [1.0] * 8)
    assert (same.share.value, same.p) == (0.5, 1.0)
    with pytest.raises(ValueError, match="2 and 1 rows: a comparison is of the same ones"):
        sign_test([1.0, 2.0], [1.0])


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


def test_differences_that_cancel_are_none() -> None:
    found = compare([0, 0, 0], [0.1, 0.2, -0.3])  # whose sum is 3e-17
    assert (found.verdict, found.p, found.needed_rows) == ("cannot tell", 1.0, None)
    assert (found.better, found.worse) == (2, 1)
    assert rows_needed([0.101, 0.201, -0.299]) == pytest.approx(2.8**2 * 0.14 / 3 / 0.001**2, rel=0.01)


def test_how_many_rows_would_tell_is_known_of_all_that_differ() -> None:
    """What these rows alone would show, a family of tests may not be sure of."""
    alone = compare([0] * 50, [1] * 7 + [0] * 43)
    assert alone.verdict == "better"
    assert alone.p > 0.05 / 4
    assert alone.needed_rows is not None
    assert alone.needed_rows > 50
    assert compare([0, 0], [1, 1]).needed_rows == LEAST == 6
    assert compare([0] * LEAST, [1] * LEAST).verdict == "better"
    assert compare([0] * (LEAST - 1), [1] * (LEAST - 1)).verdict == "cannot tell"


def test_the_weights_of_rows_are_no_difference_between_them() -> None:
    """All rows differ alike: however unlike their weights are, few rows tell that."""
    weights = np.random.default_rng(10).lognormal(0, 2, 40)
    assert rows_needed(np.full(40, 0.1), weights) == 41
    spread = np.random.default_rng(11).normal(0.1, 1, 40)
    assert rows_needed(spread, np.full(40, 7.0)) == rows_needed(spread)


def test_p_is_as_small_as_many_tests_ask_for() -> None:
    """Of 500 groups that all differ Holm holds all, and it held none where p was at least 1 / 4001."""
    rng = np.random.default_rng(12)
    found = compare(np.zeros(60), rng.normal(1, 0.5, 60))
    assert found.p < 0.05 / 500
    assert levels([found.p] * 500) == [True] * 500


def test_p_of_few_rows_counts_all_signs() -> None:
    assert compare([0.0] * 5, [0.1, 0.2, 0.3, 0.4, 0.5]).p == 2 / 2**5
    assert compare([0.0] * 3, [0.1, 0.1, -0.1]).p == 1.0
    many = np.random.default_rng(13).normal(0.02, 1, MANY)
    drawn = compare(np.zeros(MANY - 1), many[1:]).p
    assert compare(np.zeros(MANY), many).p == pytest.approx(drawn, abs=0.03)


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
    assert needed == pytest.approx((2.8 * effect.std() / 0.2) ** 2 + 2, rel=0.01)
    seen = [compare(np.zeros(needed), rng.normal(0.2, effect.std(), needed)).verdict == "better" for _ in range(60)]
    assert 0.6 < sum(seen) / 60 < 0.97


@pytest.mark.parametrize(("better", "worse", "wanted"), [(15, 8, 396), (20, 10, 251), (40, 10, 46), (10, 0, 80)])
def test_the_rows_that_would_tell_by_the_exact_test(better: int, worse: int, wanted: int) -> None:
    # wanted: rows with a power of 0.8, found by simulating the exact test at these rates.
    rows = [1.0] * better + [-1.0] * worse + [0.0] * (100 - better - worse)
    found = _rows_of_the_exact_test((better - worse) / 100, (better + worse) / 100)
    assert wanted * 0.98 < found < wanted * 1.25
    needed = rows_needed(rows)
    assert needed is not None
    assert needed >= found


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
