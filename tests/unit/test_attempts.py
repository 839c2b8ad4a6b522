"""What becomes of attempts between a judge and a step, with a toy policy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from minimind.device.distributed import Parallel
from minimind.training import attempts
from minimind.training.advantages import Floats
from minimind.training.attempts import Attempts, Trying, Verdict, told_in, tried_of, values_of
from minimind.training.credit import GroupCredit
from minimind.training.rollout import Writer, Writing, Written
from tests.toys import toy_model
from tests.unit.test_rollout import CONTEXT, Prompts

ANSWERS = 4
HOW = Writing(seed=5, answers=ANSWERS, max_tokens=8, context_tokens=CONTEXT, stop_id=0)


class Judge:
    """Two terms of each answer to a prompt, the same for all prompts. value_KN: of the answers to one."""

    names: tuple[str, ...] = ("one", "other")

    def __init__(self, value_KN: Sequence[Sequence[float]], weights: tuple[float, float] = (1.0, 1.0)) -> None:
        self.value_KN, self.weight_K = np.array(value_KN), np.array(weights)

    def judge(self, written: Sequence[Written]) -> Verdict:
        value_KA = np.tile(self.value_KN, len(written) // ANSWERS)
        return Verdict(value_KA, np.zeros(value_KA.shape, np.bool_))

    def worst(self) -> None:
        """It takes nothing."""


EQUAL = Judge([[0.25] * ANSWERS] * 2)
CANCELLING = Judge([[0.0, 1.0, 0.5, 1.0], [1.0, 0.5, 0.75, 0.5]], (1.0, 2.0))
"""The terms differ, and their sum by weight does not."""


def source(judge: Judge, how: Trying, weight_K: Floats | None = None) -> Attempts:
    writer = Writer({"policy": toy_model()}, HOW)
    return Attempts(Prompts(), writer, judge, GroupCredit("group", weight_K), how, Parallel())


def test_a_state_from_before_a_take_stays_what_it_was() -> None:
    given = source(EQUAL, Trying())
    before = given.state_dict()
    assert given.take(1) == []
    assert before["without_signal"] == []
    assert given.state_dict()["without_signal"] == ["all_wrong"] * 8
    given.load_state_dict(before)  # as where memory runs out
    assert given.take(1) == []
    assert len(given.state_dict()["without_signal"]) == 8


def test_there_is_no_further_pass_over_nothing() -> None:
    given = source(EQUAL, Trying(passes=3, stop_kl=1.0))
    for _ in range(3):
        assert given.take(1) == []
    with pytest.raises(ValueError, match="No prompt of 32 has signal"):  # all have been tried once
        given.take(1)
    assert given.done
    assert "stopped" not in {name for name, *_ in given.state_dict()["untold"]}


def test_whether_groups_have_signal_says_who_credits_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "PROMPTS_WITHOUT_SIGNAL", 8)
    apart = source(CANCELLING, Trying(draws=4), CANCELLING.weight_K)
    (batch,) = apart.attempt(1)
    assert apart.prompts.position == 8  # one draw is enough
    assert {name: total for name, total, _ in batch.told}["no_signal"] == 0
    with pytest.raises(ValueError, match="No prompt of"):
        source(CANCELLING, Trying(draws=4)).take(1)


def test_a_separate_term_that_weighs_nothing_is_no_signal() -> None:
    judge = Judge([[0.0, 1.0, 0.5, 1.0], [0.25] * ANSWERS], (0.0, 1.0))
    assert source(judge, Trying(), judge.weight_K).take(1) == []


def test_what_was_not_judged_is_neutral_among_all_attempts_wherever_they_were_judged() -> None:
    value_KA, failed_KA = (
        np.array([[0.0, 9.0, 1.0, 9.0, 0.5, 0.0]]),
        np.array([[False, True, False, True, False, False]]),
    )

    def found(*ends: int) -> list[tuple[list[Written], Verdict, None]]:
        """The attempts as several workers found them: each filled in what was neutral among its own."""
        written = [Written(row, [1, 2], 1, [0.0], True, 9) for row in range(6)]
        begins = (0, *ends[:-1])
        return [
            (written[begin:end], Verdict(value_KA[:, begin:end], failed_KA[:, begin:end]), None)
            for begin, end in zip(begins, ends, strict=True)
        ]

    for ends in ((6,), (2, 6), (3, 4, 6)):
        assert tried_of(found(*ends), np.ones(1), 1).reward_A.tolist() == [0.0, 0.375, 1.0, 0.375, 0.5, 0.0]
        assert tried_of(found(*ends), np.ones(1), 2).reward_A.tolist() == [0.0, 0.0, 1.0, 1.0, 0.5, 0.0]
    whole_A, known_A = told_in([verdict for _, verdict, _ in found(2, 6)], np.ones(1))
    assert whole_A.tolist() == known_A.tolist() == (~failed_KA[0]).tolist()
    nothing = Verdict(np.full((1, 2), 3.0), np.ones((1, 2), np.bool_))
    assert values_of([nothing], np.arange(2)).tolist() == [[0.0, 0.0]]


def test_a_reward_is_whole_where_all_terms_that_weigh_something_could_tell_and_known_where_one_could() -> None:
    failed_KA = np.array([[0, 0, 1, 1], [0, 1, 0, 1], [1, 0, 0, 0]], np.bool_)
    verdict = Verdict(np.zeros((3, 4)), failed_KA)
    whole_A, known_A = told_in([verdict], np.array([1.0, -0.5, 0.0]))
    assert (whole_A.tolist(), known_A.tolist()) == ([True, False, False, False], [True, True, True, False])
    tried = tried_of([([Written(0, [1], 1, [], True, 1)] * 4, verdict, None)], np.array([1.0, -0.5, 0.0]), 1)
    assert (tried.whole_A.tolist(), tried.known_A.tolist()) == (whole_A.tolist(), known_A.tolist())
