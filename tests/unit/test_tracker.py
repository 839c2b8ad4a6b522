"""What SPO remembers of each prompt, and which prompts it draws by that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from minimind.network.lora import LoraConfig, attach
from minimind.training.attempts import Tried
from minimind.training.credit import TrackedCredit
from minimind.training.rollout import PromptBatch, Writer, Writing
from minimind.training.tracker import CURIOSITY, DrawnPrompts, Remembered, Tracker, changes
from tests.toys import assert_same, toy_model

ANSWER = Remembered([1, 2, 3], 1, [-0.5, -1.0])


def at(tracker: Tracker, row: int) -> tuple[float, float]:
    return float(tracker.alpha_P[row]), float(tracker.beta_P[row])


@pytest.mark.parametrize(
    ("moved", "kept"),
    [(0.0, 0.96), (0.003, 0.96), (0.0051, 2 ** (-0.0051 / 0.06)), (0.01, 2 ** (-1 / 6)), (0.012, 0.875), (5, 0.875)],
)
def test_counts_fade_as_the_policy_moves(moved: float, kept: float) -> None:
    assert 0.875 <= kept <= 0.96
    tracker = Tracker(3)
    tracker.alpha_P[1], tracker.beta_P[1] = 3.0, 2.0
    tracker.update(1, 0.25, moved, ANSWER)
    assert at(tracker, 1) == pytest.approx((kept * 3 + 0.25, kept * 2 + 0.75))
    assert at(tracker, 0) == at(tracker, 2) == (0.5, 0.5)
    assert tracker.answers == {1: ANSWER}


def test_what_is_expected_is_the_share_of_success() -> None:
    tracker = Tracker(3)
    assert tracker.expected(np.array([0, 1, 1])).tolist() == [0.5, 0.5, 0.5]
    for reward in (1.0, 1.0, 0.0):
        tracker.update(1, reward, 0.0, ANSWER)
    alpha = ((0.5 * 0.96 + 1) * 0.96 + 1) * 0.96
    beta = (0.5 * 0.96 * 0.96) * 0.96 + 1
    assert tracker.expected(np.array([1, 2])).tolist() == pytest.approx([alpha / (alpha + beta), 0.5])


def test_as_many_attempts_count_as_are_remembered() -> None:
    # Where the policy moves fast, alpha + beta ends at 1 / (1 - 0.875) = 8; where it stands still, at 25.
    for moved, most in ((1.0, 8), (0.0, 25)):
        tracker = Tracker(1)
        for number in range(400):
            tracker.update(0, float(number % 2), moved, ANSWER)
        assert sum(at(tracker, 0)) == pytest.approx(most, rel=1e-4)


def test_other_rewards_are_remembered_as_a_moving_mean() -> None:
    tracker = Tracker(2, shares=False)
    assert tracker.expected(np.array([0, 1])).tolist() == [0.0, 0.0]
    mean, count = 0.0, 0.0
    for reward, moved in ((-3.0, 0.0), (5.0, 0.01), (40.0, 1.0), (-7.0, 0.0)):
        tracker.update(1, reward, moved, ANSWER)
        kept = min(max(2 ** (-moved / 0.06), 0.875), 0.96)
        mean += (reward - mean) / (kept * count + 1)
        count = kept * count + 1
        assert tracker.expected(np.array([0, 1])).tolist() == pytest.approx([0.0, mean])
    still = Tracker(1, shares=False)
    still.update(0, -3.0, 0.0, ANSWER)
    assert still.expected(np.array([0])).tolist() == [-3.0]  # the first is all there is


@pytest.mark.parametrize("reward", [-0.5, 1.2, float("nan")])
def test_counts_are_of_rewards_from_0_to_1(reward: float) -> None:
    tracker = Tracker(2)
    with pytest.raises(ValueError, match=r"a reward of (-0.5|1.2|nan): memory = counts .* 0 to 1. Set stage.memory=me"):
        tracker.update(1, reward, 0.0, ANSWER)
    assert at(tracker, 1) == (0.5, 0.5)
    Tracker(2).update(1, 0.1 + 0.2 + 0.7, 0.0, ANSWER)  # rounding is no harm


def test_prompts_are_drawn_by_weight_and_none_twice() -> None:
    """The first of a draw is each prompt with its share of the weights, and the second with its share of the others."""
    tracker = Tracker(4)
    tracker.alpha_P[:], tracker.beta_P[:] = [0.0, 1.0, 5.0, 9.0], [1.0, 9.0, 5.0, 0.0]
    expected = tracker.expected(np.arange(4))
    weight_P = np.sqrt(expected * (1 - expected)) + CURIOSITY
    assert weight_P == pytest.approx(np.array([0.05, 0.35, 0.55, 0.05]))
    draws, count = [tracker.draw(3, seed, position) for seed in range(100) for position in range(100)], 100 * 100
    assert all(len(set(drawn)) == 3 for drawn in draws)
    firsts, pairs = Counter(drawn[0] for drawn in draws), Counter((drawn[0], drawn[1]) for drawn in draws)
    share_P = weight_P / weight_P.sum()
    for one in range(4):
        assert firsts[one] / count == pytest.approx(share_P[one], abs=0.02)  # four standard deviations
        for other in set(range(4)) - {one}:
            both = share_P[one] * weight_P[other] / (weight_P.sum() - weight_P[one])
            assert pairs[one, other] / count == pytest.approx(both, abs=0.02)


def test_a_draw_depends_on_seed_and_position_alone() -> None:
    one, other = Tracker(50), Tracker(50)
    assert one.draw(9, 1, 64) == one.draw(9, 1, 64) == other.draw(9, 1, 64)
    assert one.draw(9, 1, 64) == one.draw(20, 1, 64)[:9]
    assert len({tuple(one.draw(9, seed, position)) for seed in range(3) for position in range(3)}) == 9
    assert sorted(one.draw(99, 1, 64)) == list(range(50))


def test_rewards_beyond_0_and_1_do_not_break_drawing() -> None:
    tracker = Tracker(5, shares=False)
    tracker.alpha_P[:] = [-4.0, 0.5, 7.0, 0.0, 1.0]
    firsts = Counter(tracker.draw(1, seed, 0)[0] for seed in range(2000))
    assert firsts[1] / 2000 == pytest.approx(0.55 / 0.75, abs=0.05)


def batch(rows: Sequence[int]) -> PromptBatch:
    return PromptBatch(tuple(rows), torch.ones(len(rows), 2, dtype=torch.int64), torch.full((len(rows),), 2))


def drawn(prompts: int, size: int, epochs: int = 2, rank: int = 0, world: int = 1) -> DrawnPrompts:
    return DrawnPrompts(
        Tracker(prompts), batch, identity={"data": "d"}, batch_size=size, seed=3, epochs=epochs, rank=rank, world=world
    )


def steps(source: DrawnPrompts, count: int) -> list[list[tuple[int, ...]]]:
    found = []
    while not source.done:
        found.append([part.rows for part in source.take(count)])
    return found


@pytest.mark.parametrize("size", [2, 3, 8])
def test_ranks_share_what_one_would_draw(size: int) -> None:
    alone = steps(drawn(23, 2 * size), 2)
    parts = [steps(drawn(23, size, rank=rank, world=2), 2) for rank in range(2)]
    assert len(alone) == len(parts[0]) == len(parts[1])
    for whole, *shares in zip(alone, *parts, strict=True):
        rows = [row for part in whole for row in part]
        assert len(set(rows)) == len(rows)
        assert sorted(rows) == sorted(row for share in shares for part in share for row in part)


@pytest.mark.parametrize(("size", "count"), [(4, 1), (4, 2), (8, 4), (5, 3)])
def test_an_epoch_is_as_many_prompts_as_there_are(size: int, count: int) -> None:
    source = drawn(20, size, epochs=3)
    assert source.total_steps(count) == -(-60 // min(size * count, 20))
    found = steps(source, count)
    assert len(found) == source.total_steps(count)
    assert sum(len(part) for step in found for part in step) == 60
    assert source.take(count) == []


def test_a_source_goes_on_where_it_stood() -> None:
    whole = steps(drawn(20, 3), 2)
    source = drawn(20, 3)
    began = [[part.rows for part in source.take(2)] for _ in range(3)]
    later = drawn(20, 3)
    later.load_state_dict(source.state_dict())
    assert began + steps(later, 2) == whole
    assert not later.stop_reading_ahead()


def test_what_is_remembered_is_not_taken_for_that_of_other_prompts() -> None:
    other = DrawnPrompts(Tracker(20), batch, identity={"data": "e"}, batch_size=3, seed=3, epochs=2)
    with pytest.raises(ValueError, match="can't continue here: data of the prompts was d and is e now"):
        other.load_state_dict(drawn(20, 3).state_dict())


def test_all_that_is_remembered_is_in_its_state() -> None:
    tracker = Tracker(6)
    for row, reward, moved in ((1, 1.0, 0.0), (4, 0.5, 0.02), (1, 0.0, 0.01)):
        tracker.update(row, reward, moved, Remembered([row, 7, 9], 1, [-0.25, -moved]))
    state = tracker.state_dict()
    again = Tracker(6)
    again.load_state_dict(state)
    assert_same(again.state_dict(), state)
    assert again.answers == tracker.answers
    for each in (tracker, again):
        each.update(4, 1.0, 0.0, ANSWER)
    assert_same(again.state_dict(), tracker.state_dict())
    assert again.draw(3, 0, 9) == tracker.draw(3, 0, 9)
    assert at(again, 4) != (state["alpha"][4], state["beta"][4])  # the state is no view of it


def test_how_far_a_policy_has_moved_is_a_mean_over_the_tokens_of_an_answer() -> None:
    then = [Remembered([1, 2, 3, 4], 1, [-1.0, -2.0, -0.5]), Remembered([1, 5], 1, [-3.0])]
    assert changes(then, [[-1.5, -1.0, -0.5], [-3.0]]) == pytest.approx([0.5, 0.0])


def credit() -> tuple[TrackedCredit, Writer]:
    how = Writing(seed=5, answers=1, max_tokens=6, context_tokens=16, stop_id=0)
    writer = Writer({"policy": toy_model()}, how)
    return TrackedCredit(Tracker(9), writer, 2), writer


def tried(
    rows: list[int], rewards: list[float], looked: list[Any], partly: Sequence[int] = (), unknown: Sequence[int] = ()
) -> Tried:
    """partly, unknown: of which attempts some terms could not tell, or all."""
    reward_A, at_A = np.array(rewards), np.arange(len(rows))
    known_A = ~np.isin(at_A, unknown)
    return Tried(np.array(rows), at_A, reward_A[None], reward_A, looked, known_A & ~np.isin(at_A, partly), known_A)


def test_attempts_are_judged_by_what_was_expected_before_them() -> None:
    given, writer = credit()
    given.tracker.alpha_P[:], given.tracker.beta_P[:] = 6.0, 2.0
    given.tracker.alpha_P[4] = 2.0
    written = [group[0] for group in writer.write(0, [(2, [5, 6]), (4, [7, 8, 9]), (7, [5])])]
    looked = given.look(written)
    found = given.give(tried([2, 4, 7], [1.0, 1.0, 0.0], [looked]), [len(one.own) for one in written])
    beyond = np.array([0.25, 0.5, -0.75])
    expected = (beyond - beyond.mean()) / (beyond.std(ddof=1) + 1e-4)
    for one, worth, text in zip(found, expected, written, strict=True):
        assert one is not None
        assert one.advantage_T.tolist() == pytest.approx([worth] * len(text.own))
    assert at(given.tracker, 2) == pytest.approx((6 * 0.96 + 1, 2 * 0.96))
    assert at(given.tracker, 7) == pytest.approx((6 * 0.96, 2 * 0.96 + 1))
    assert given.told() == {"expected_reward": (pytest.approx(0.75 + 0.5 + 0.75), 3.0), "moved": (0.0, 3.0)}
    assert given.tracker.answers[4].tokens == written[1].tokens


def test_of_a_reward_that_could_not_be_told_nothing_is_remembered_and_where_nothing_was_told_nothing_learnt() -> None:
    given, writer = credit()
    given.tracker.alpha_P[:], given.tracker.beta_P[:] = 6.0, 2.0
    written = [group[0] for group in writer.write(0, [(2, [5, 6]), (4, [7, 8, 9]), (7, [5]), (8, [6])])]
    lengths = [len(one.own) for one in written]
    # A reward that no memory of counts would take: nothing looks at it.
    asked = tried([2, 4, 7, 8], [1.0, 0.5, 99.0, 0.0], [given.look(written)], partly=[1], unknown=[2])
    found = given.give(asked, lengths)
    beyond = np.array([0.25, -0.25, -0.75])
    expected = (beyond - beyond.mean()) / (beyond.std(ddof=1) + 1e-4)
    assert found[2] is None
    told = [one.advantage_T.tolist() for one in found if one is not None]
    whole = [length for at, length in enumerate(lengths) if at != 2]
    for worths, worth, length in zip(told, expected, whole, strict=True):
        assert worths == pytest.approx([worth] * length)
    assert [at(given.tracker, row) for row in (4, 7)] == [(6.0, 2.0)] * 2
    assert given.tracker.answers.keys() == {2, 8}
    nothing = tried([2, 4, 7, 8], [0.0] * 4, [given.look(written)], unknown=range(4))
    assert given.give(nothing, lengths) == [None] * 4


def test_first_answers_that_could_not_be_judged_count_for_nothing() -> None:
    given, _ = credit()
    reward_AN = np.array([[1.0, 0.0], [0.5, 1.0], [0.5, 0.5]])
    given.begin(np.array([1, 2, 3]), reward_AN, np.array([[True, True], [False, True], [False, False]]))
    assert at(given.tracker, 1) == pytest.approx((8 * 1.5 / 3, 8 * 1.5 / 3))
    assert at(given.tracker, 2) == pytest.approx((8 * 1.5 / 2, 8 * 0.5 / 2))
    assert at(given.tracker, 3) == (0.5, 0.5)
    assert given.tracker.begun


def test_how_far_it_has_moved_is_looked_at_on_the_last_answer() -> None:
    given, writer = credit()
    (first,), (second,) = writer.write(0, [(2, [5, 6]), (4, [7, 8, 9])])
    given.give(tried([2, 4], [1.0, 0.0], [given.look([first, second])]), [len(first.own), len(second.own)])
    moved, _ = given.look([second, first])
    assert moved == pytest.approx([0.0, 0.0], abs=1e-5)  # the same weights
    with torch.no_grad():
        for weight in writer.policy.parameters():
            weight.mul_(1.1)
    moved, _ = given.look([first, second])
    for far, one in zip(moved, (first, second), strict=True):
        tokens_BT = torch.tensor([one.tokens])
        with torch.no_grad():
            logprob_TV = writer.policy.logits(writer.policy(tokens_BT))[0].log_softmax(-1)
        now = [float(logprob_TV[at - 1, one.tokens[at]]) for at in range(one.prompt, len(one.tokens))]
        assert far == pytest.approx(np.mean(np.abs(np.array(now) - one.logprobs)), abs=1e-4)
        assert far > 1e-3
    state = given.state_dict()
    given.look([first, second])
    assert_same(given.state_dict(), state)  # looking changes nothing


def test_an_adapters_dropout_is_not_taken_for_a_move() -> None:
    given, writer = credit()
    attach(writer.policy, LoraConfig(rank=2, dropout=0.5), torch.Generator().manual_seed(0))
    with torch.no_grad():
        for weight in writer.policy.parameters():
            weight.add_(0.1 * weight.requires_grad)
    writer.policy.train()
    (one,) = writer.write(0, [(2, [5, 6])])[0]
    given.give(tried([2], [1.0], [given.look([one])]), [len(one.own)])
    random = torch.get_rng_state()
    moved, _ = given.look([one])
    assert moved == pytest.approx([0.0], abs=1e-5)
    assert torch.equal(torch.get_rng_state(), random)
    assert writer.policy.training


def test_a_prompt_that_was_answered_before_begins_with_what_that_brought() -> None:
    tracker = Tracker(2)
    tracker.begin(1, np.array([1.0, 0.0, 1.0, 1.0]))
    assert at(tracker, 1) == pytest.approx((8 * 3.5 / 5, 8 * 1.5 / 5))
    assert at(tracker, 0) == (0.5, 0.5)
    mean = Tracker(1, shares=False)
    mean.begin(0, np.array([3.0, -1.0]))
    assert mean.expected(np.array([0])).tolist() == [1.0]
    mean.update(0, 9.0, 0.0, Remembered([1, 2], 1, [-1.0]))
    assert mean.expected(np.array([0])).tolist() == pytest.approx([1 + 8 / (0.96 * 8 + 1)])
    with pytest.raises(ValueError, match=r"a reward of 2: memory = counts"):
        tracker.begin(0, np.array([1.0, 2.0]))


def test_ranks_share_all_prompts() -> None:
    shares = [[row for part in drawn(11, 2, rank=rank, world=2).every() for row in part.rows] for rank in (0, 1)]
    assert sorted([*shares[0], *shares[1]]) == list(range(11))
