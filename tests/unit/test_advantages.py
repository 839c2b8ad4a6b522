"""Advantages against their definitions, written out as loops over groups, answers and tokens."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from minimind.network.score import ValueHead
from minimind.training.advantages import (
    SMALLEST_STD,
    Floats,
    Ints,
    Scale,
    generalised_advantages,
    group_advantages,
    has_spread,
    separate_advantages,
    whitened,
)
from minimind.training.attempts import Credited, Tried
from minimind.training.credit import CriticCredit, GroupCredit
from minimind.training.rollout import Writer, Writing
from tests.toys import toy_model

SCALES: tuple[Scale, ...] = ("group", "batch", "none")
GROUPS: Ints = np.repeat(np.arange(4), [3, 5, 2, 4])
"""Groups of several sizes; `rewards` gives all attempts of the third the same."""


def rewards(seed: int = 0) -> Floats:
    reward_A = np.random.default_rng(seed).normal(size=len(GROUPS))
    reward_A[GROUPS == 2] = 0.3
    return reward_A


def by_loops(reward_A: Floats, scale: Scale) -> list[float]:
    """The definition, one attempt at a time."""
    found = []
    for group, reward in zip(GROUPS.tolist(), reward_A.tolist(), strict=True):
        others = [other for at, other in zip(GROUPS.tolist(), reward_A.tolist(), strict=True) if at == group]
        distance = reward - sum(others) / len(others)
        if scale == "group":
            distance /= statistics.stdev(others) + SMALLEST_STD
        elif scale == "batch":
            distance /= statistics.stdev(reward_A.tolist()) + SMALLEST_STD
        found.append(distance)
    return found


@pytest.mark.parametrize("scale", SCALES)
def test_an_attempt_is_compared_with_its_group(scale: Scale) -> None:
    found_A = group_advantages(rewards(), GROUPS, scale)
    assert found_A.tolist() == pytest.approx(by_loops(rewards(), scale), abs=1e-12)
    assert np.bincount(GROUPS, found_A) == pytest.approx(np.zeros(4), abs=1e-12)


@pytest.mark.parametrize("scale", ["group", "none"])
def test_what_a_whole_group_gets_more_changes_nothing(scale: Scale) -> None:
    shifted_A = rewards() + np.array([5.0, -2.0, 0.5, 100.0])[GROUPS]
    assert group_advantages(shifted_A, GROUPS, scale) == pytest.approx(
        group_advantages(rewards(), GROUPS, scale), abs=1e-10
    )


def test_what_all_get_more_changes_nothing_however_it_is_scaled() -> None:
    for scale in SCALES:
        there, here = (group_advantages(rewards() + far, GROUPS, scale) for far in (7.0, 0.0))
        assert there == pytest.approx(here, abs=1e-10)
    assert whitened(rewards() + 7.0) == pytest.approx(whitened(rewards()), abs=1e-10)


def test_with_the_deviation_of_the_group_the_size_of_rewards_hardly_matters() -> None:
    # SMALLEST_STD is what is left of it.
    big_A, small_A = (group_advantages(by * rewards(), GROUPS, "group") for by in (10.0, 1.0))
    assert big_A == pytest.approx(small_A, abs=1e-2)
    assert group_advantages(10 * rewards(), GROUPS, "none") == pytest.approx(
        10 * group_advantages(rewards(), GROUPS, "none")
    )


def test_each_term_is_brought_to_one_scale_before_they_are_summed() -> None:
    value_KA, weight_K = np.stack([rewards(1), 1000 * rewards(2), -rewards(3)]), np.array([1.0, 0.5, 2.0])
    normed = [by_loops(value_A, "group") for value_A in value_KA]
    summed = [sum(w * of_term[at] for w, of_term in zip(weight_K, normed, strict=True)) for at in range(len(GROUPS))]
    mean, deviation = statistics.fmean(summed), statistics.stdev(summed)
    expected = [(one - mean) / (deviation + SMALLEST_STD) for one in summed]
    found_A = separate_advantages(value_KA, weight_K, GROUPS)
    assert found_A.tolist() == pytest.approx(expected, abs=1e-10)
    wider_KA = value_KA * np.array([[1.0], [100.0], [1.0]])
    assert separate_advantages(wider_KA, weight_K, GROUPS) == pytest.approx(found_A, abs=1e-3)


def test_whitened_values_have_mean_0_and_deviation_1() -> None:
    found_A = whitened(3 + 50 * rewards())
    assert found_A.mean() == pytest.approx(0, abs=1e-12)
    assert statistics.stdev(found_A.tolist()) == pytest.approx(1, abs=1e-4)
    assert whitened(np.zeros(0)).shape == (0,)
    assert whitened(np.array([4.0])).tolist() == [0.0]
    assert whitened(np.full(5, 4.0)).tolist() == [0.0] * 5


def test_a_group_of_equal_rewards_has_no_spread() -> None:
    assert has_spread(rewards(), GROUPS).tolist() == [True, True, False, True]
    assert has_spread(np.array([0.1 + 0.2, 0.3]), np.array([0, 0])).tolist() == [False]  # but for rounding
    assert has_spread(np.zeros(0), np.zeros(0, np.int64)).tolist() == []


def tried(value_KA: Floats, weight_K: Floats) -> Tried:
    all_A = np.ones(len(GROUPS), np.bool_)
    return Tried(GROUPS, GROUPS, value_KA, weight_K @ value_KA, [], all_A, all_A)


@pytest.mark.parametrize("scale", SCALES)
def test_groups_without_spread_give_no_credit_and_others_the_same_to_each_token(scale: Scale) -> None:
    reward_A, lengths = rewards(), list(range(1, len(GROUPS) + 1))
    found = GroupCredit(scale).give(tried(reward_A[None], np.ones(1)), lengths)
    for credit, group, advantage, length in zip(found, GROUPS, by_loops(reward_A, scale), lengths, strict=True):
        if group == 2:
            assert credit is None
        else:
            assert credit is not None
            assert credit.advantage_T.tolist() == pytest.approx([advantage] * length)


@pytest.mark.parametrize("separate", [False, True])
def test_an_attempt_of_which_nothing_could_be_told_is_left_out_of_its_group(separate: bool) -> None:
    weight_K = np.ones(1)
    credit = GroupCredit("group", weight_K if separate else None)
    all_A, known_A = np.array([1, 0, 2 / 3, 1]), np.array([True, True, False, True])

    def given(chosen_A: NDArray[np.bool_]) -> Sequence[Credited | None]:
        group_A, reward_A, told_A = np.zeros(chosen_A.sum(), np.int64), all_A[chosen_A], known_A[chosen_A]
        some = Tried(group_A, group_A, reward_A[None], reward_A, [None], told_A, told_A)
        return credit.give(some, [1] * len(group_A))

    first, second, unknown, last = given(np.ones(4, np.bool_))
    assert unknown is None
    for one, other in zip((first, second, last), given(known_A), strict=True):
        assert one is not None
        assert other is not None
        assert one.advantage_T.tolist() == other.advantage_T.tolist()


def test_of_separate_terms_one_that_differs_is_spread() -> None:
    # Their sum is the same for all attempts of the second group, but neither term is.
    value_KA = np.stack([rewards(1), rewards(2)])
    value_KA[1, GROUPS == 1] = 1 - value_KA[0, GROUPS == 1]
    weight_K = np.ones(2)
    together, apart = (
        GroupCredit("group", own).give(tried(value_KA, weight_K), [1] * len(GROUPS)) for own in (None, weight_K)
    )
    assert [credit is None for credit in together] == [group in (1, 2) for group in GROUPS]
    assert [credit is None for credit in apart] == [group == 2 for group in GROUPS]


@pytest.mark.parametrize(("discount", "trace"), [(1.0, 0.95), (0.9, 0.8), (1.0, 1.0), (0.97, 0.0)])
def test_gae_is_its_definition(discount: float, trace: float) -> None:
    draw = np.random.default_rng(4)
    reward_T, value_T = draw.normal(size=9), draw.normal(size=9)
    next_T = [*value_T[1:], 0.0]
    surprise = [reward_T[t] + discount * next_T[t] - value_T[t] for t in range(9)]
    expected = [sum((discount * trace) ** (k - t) * surprise[k] for k in range(t, 9)) for t in range(9)]
    advantage_T, return_T = generalised_advantages(reward_T, value_T, discount, trace)
    assert advantage_T.tolist() == pytest.approx(expected, abs=1e-12)
    assert return_T.tolist() == pytest.approx([a + v for a, v in zip(expected, value_T, strict=True)], abs=1e-12)


def test_gae_that_believes_the_critic_not_at_all_gives_what_came() -> None:
    reward_T, value_T = np.array([0.0, 0.0, 1.0]), np.array([0.2, 0.9, 0.4])
    _, return_T = generalised_advantages(reward_T, value_T, 0.5, 1.0)
    assert return_T.tolist() == pytest.approx([0.25, 0.5, 1.0])
    advantage_T, _ = generalised_advantages(reward_T, value_T, 1.0, 0.0)
    assert advantage_T.tolist() == pytest.approx([0.7, -0.5, 0.6])
    assert not math.isnan(sum(generalised_advantages(np.zeros(0), np.zeros(0))[0]))


def test_what_a_token_is_away_from_its_reference_costs_where_it_stands() -> None:
    how = Writing(seed=5, answers=1, max_tokens=6, context_tokens=16, stop_id=0)
    models = {"policy": toy_model(), "critic": ValueHead(toy_model().config.hidden_size)}
    written = [group[0] for group in Writer(models, how).write(0, [(2, [5, 6]), (4, [7, 8, 9])])]
    lengths = [len(one.own) for one in written]
    away = torch.arange(sum(lengths), dtype=torch.float32)
    credit = CriticCredit(models, Writer(models, how), 2, 0.9, 0.8, 0.5, lambda batch: away[: len(batch.member_M)])
    looked = credit.look(written)
    reward_A = np.array([1.0, 0.25])
    both = np.ones(2, np.bool_)
    given = credit.give(Tried(np.arange(2), np.arange(2), reward_A[None], reward_A, [looked], both, both), lengths)
    for one, reward, (value, cost) in zip(given, reward_A, looked, strict=True):
        assert one is not None
        assert max(cost) > 0
        reward_T = -0.5 * np.array(cost)
        reward_T[-1] += reward
        _, return_T = generalised_advantages(reward_T, np.array(value), 0.9, 0.8)
        assert one.return_T is not None
        assert one.return_T.tolist() == pytest.approx(return_T.tolist())
    assert credit.told()["kl"] == pytest.approx((float(away.sum()), sum(lengths)))


def test_a_critic_is_held_to_rewards_that_could_be_told_alone() -> None:
    how = Writing(seed=5, answers=1, max_tokens=6, context_tokens=16, stop_id=0)
    models = {"policy": toy_model(), "critic": ValueHead(toy_model().config.hidden_size)}
    written = [group[0] for group in Writer(models, how).write(0, [(2, [5, 6]), (4, [7, 8, 9]), (5, [3]), (6, [4])])]
    lengths = [len(one.own) for one in written]
    credit = CriticCredit(models, Writer(models, how), 2, 1.0, 0.95)
    looked = credit.look(written)
    reward_A, rows = np.array([1.0, 0.25, 0.5, 99.0]), np.arange(4)
    whole_A, known_A = np.array([True, False, True, False]), np.array([True, True, True, False])
    given = credit.give(Tried(rows, rows, reward_A[None], reward_A, [looked], whole_A, known_A), lengths)
    assert given[3] is None
    raw = [
        generalised_advantages(np.array([0.0] * (length - 1) + [reward]), np.array(value))
        for length, reward, (value, _) in zip(lengths[:3], reward_A, looked, strict=False)
    ]
    white_M = whitened(np.concatenate([advantage_T for advantage_T, _ in raw]))
    learnt = [one for one in given if one is not None]
    assert np.concatenate([one.advantage_T for one in learnt]).tolist() == pytest.approx(white_M.tolist())
    first, part, third = (one.return_T for one in learnt)
    assert first is not None
    assert third is not None
    assert part is not None
    assert first.tolist() == pytest.approx(raw[0][1].tolist())
    assert third.tolist() == pytest.approx(raw[2][1].tolist())
    assert part.tolist() == looked[1][0]  # to say what it said
